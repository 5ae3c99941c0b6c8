//! What comes next for a workflow: decided from what is known of the original and its copy, and nothing else.

use argosy_api::{Delivery, Intent, Wish, names};
use argosy_runtime::patch::add;
use json_patch::PatchOperation;
use serde_json::Value;

use crate::desk::{Copy, CopyStatus, Original};
use crate::size::Form;
use crate::status::{Returned, StatusError};

/// The cluster whose workflows are decided about, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// UID of the control cluster's kube-system namespace.
    pub control_uid: String,
    /// Name of the WorkloadCluster.
    pub cluster: String,
    /// UID of the WEC's kube-system namespace.
    pub cluster_uid: String,
}

/// The next step in a workflow's life; each is one write, or a question whose answer is a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing to do until something changes.
    Rest,
    /// Write down that a copy is about to be created.
    Record(Delivery),
    /// Create the copy.
    Deliver(Delivery),
    /// Patch the copy's status, and what else is new, onto the original.
    Return(Return),
    /// The copy's status stands on the original: keep no more than that it does.
    Settle,
    /// The original does not show any more what was returned to it: read the copy again.
    Reread,
    /// Carry out on the copy what a user did to the original.
    CarryOut(Intent),
    /// Hand the user's `spec.shutdown` on to the copy.
    Shutdown(String),
    /// Suspend the copy, or let it go on, as its user wishes.
    Suspend(bool),
    /// It was stopped before there was a copy: end the original as Argo would, once the WEC has confirmed that.
    Stop(String),
    /// Write down on the copy which control cluster made it: an earlier version did not.
    Claim,
    /// The final status is back: let go of the copy, which is then its own TTL's.
    Release,
    /// A copy of ours without its original, or of an older one: stop and delete it, once the API server has
    /// confirmed that.
    Remove,
    /// The copy was delivered and is not there: end the original with an error, once the WEC has confirmed that.
    Lost(Delivery),
    /// It had ended, its copy is gone, and it is retried: write down that another is about to be created, once the WEC
    /// has confirmed that.
    Again(Delivery),
    /// The original cannot be run: end it with this message.
    Fail(String),
    /// It cannot be told how the copy is: say so on the original, whose state stays as it was last known.
    Tell(String),
    /// The copy's status cannot be read.
    Unreadable(String),
}

impl Step {
    pub fn label(&self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Record(_) => "record",
            Self::Deliver(_) => "deliver",
            Self::Return(_) => "return",
            Self::Settle => "settle",
            Self::Reread => "reread",
            Self::CarryOut(_) => "carry_out",
            Self::Shutdown(_) => "shutdown",
            Self::Suspend(_) => "suspend",
            Self::Stop(_) => "stop",
            Self::Claim => "claim",
            Self::Release => "release",
            Self::Remove => "remove",
            Self::Lost(_) => "lost",
            Self::Again(_) => "again",
            Self::Fail(_) => "fail",
            Self::Tell(_) => "tell",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// What is new on a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Return {
    pub operations: Vec<PatchOperation>,
    /// Whether it is the whole of a large status, and more will come that can be returned with it.
    pub can_wait: bool,
}

/// How a copy's status is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returning {
    /// In this form, if it is not there yet.
    As(Form),
    /// In this form, it was written to the original already: what differs all the same is what the control cluster's API
    /// server makes of it.
    Shown(Form),
    /// Not now; whatever else comes next has not to wait for it.
    Later,
}

/// Decides the next step. Both sides have been listed before this is asked: what is `None` is not there as far as
/// the watches know.
pub fn plan(original: Option<&Original>, copy: Option<&Copy>, here: &Here, how: Returning) -> Step {
    let copy = copy.filter(|copy| !copy.inherited);
    let original = original.filter(|original| !original.deleting);
    if let Some(copy) = copy.filter(|copy| copy.is_of_another(&here.control_uid)) {
        return beside(original, copy, here);
    }
    match (original, copy) {
        (None, None) => Step::Rest,
        (None, Some(copy)) => remove(copy),
        // A namesake of ours whose original has made way for this one.
        (Some(original), Some(copy)) if copy.origin != original.uid => remove(copy),
        (Some(original), copy) => next(original, copy, here, how),
    }
}

impl Copy {
    /// Whether another control cluster made it, which this one has taken the place of.
    pub fn is_of_another(&self, control_uid: &str) -> bool {
        !self.inherited && self.control_cluster.as_ref().is_some_and(|made_by| made_by != control_uid)
    }
}

/// The copy is another control cluster's: that its original is not here means nothing.
fn beside(original: Option<&Original>, copy: &Copy, here: &Here) -> Step {
    let message = format!(
        "cluster {0} has a workflow of this name that was delivered by a control cluster of before (kube-system UID {1}): \
         `kubectl argosy adopt {0}` binds it to this one",
        here.cluster,
        copy.control_cluster.as_deref().unwrap_or_default()
    );
    match original {
        Some(original) if !original.completed && !original.says(&message) => Step::Tell(message),
        _ => Step::Rest,
    }
}

/// One that is deleted and released goes when others let go of it, too.
fn remove(copy: &Copy) -> Step {
    if copy.deleting && !copy.held { Step::Rest } else { Step::Remove }
}

fn next(original: &Original, copy: Option<&Copy>, here: &Here, how: Returning) -> Step {
    let delivery = match &original.delivery {
        None if original.completed => return Step::Rest,
        None => match &original.shutdown {
            Some(shutdown) => return Step::Stop(shutdown.clone()),
            None => return Step::Record(first_attempt(here)),
        },
        Some(Err(error)) if original.completed => {
            tracing::debug!(error, "unreadable delivery of a completed workflow");
            return Step::Rest;
        }
        Some(Err(error)) => {
            return Step::Fail(format!("annotation {} cannot be read: {error}", names::DELIVERY));
        }
        // Taken from a cluster that was lost.
        Some(Ok(before)) if before.cluster.is_empty() && !original.completed => match &original.shutdown {
            Some(shutdown) if copy.is_none() => return Step::Stop(shutdown.clone()),
            // Back in the cluster that was lost, the next attempt takes the place of the one that may still run there.
            _ => return Step::Record(attempt(before.attempt + 1, before.moved.clone(), here)),
        },
        Some(Ok(delivery)) => delivery,
    };
    if delivery.cluster_uid != here.cluster_uid && !original.completed {
        let message = format!(
            "it was delivered to another cluster that was called {:?} then (kube-system UID {}, now {}); its state is not \
             known until the WorkloadCluster leads there again",
            delivery.cluster, delivery.cluster_uid, here.cluster_uid
        );
        return if original.says(&message) { Step::Rest } else { Step::Tell(message) };
    }
    match copy {
        None if original.completed => Step::Rest,
        None if delivery.copy.is_some() && is_retried(original, 0) => Step::Again(delivery.clone()),
        None if delivery.copy.is_some() => Step::Lost(delivery.clone()),
        None => match &original.shutdown {
            Some(shutdown) => Step::Stop(shutdown.clone()),
            None => Step::Deliver(delivery.clone()),
        },
        Some(copy) if copy.attempt != delivery.attempt => remove(copy),
        Some(copy) if delivery.copy.as_ref().is_some_and(|uid| *uid != copy.uid) => {
            if original.completed {
                Step::Rest
            } else {
                Step::Lost(delivery.clone())
            }
        }
        Some(copy) => follow(original, copy, delivery, how),
    }
}

/// Whether it is to run again, and a copy on which everything up to `done` has happened does not know.
fn is_retried(original: &Original, done: u64) -> bool {
    original.pending(done).iter().any(|intent| matches!(intent.wish, Wish::Retry(_)))
}

fn first_attempt(here: &Here) -> Delivery {
    attempt(1, None, here)
}

fn attempt(attempt: u32, moved: Option<String>, here: &Here) -> Delivery {
    Delivery { attempt, cluster: here.cluster.clone(), cluster_uid: here.cluster_uid.clone(), copy: None, moved }
}

/// The copy is the one that was delivered.
fn follow(original: &Original, copy: &Copy, delivery: &Delivery, how: Returning) -> Step {
    // A copy that goes will not run again: let it go, so that another can begin with what stands on the original.
    if copy.deleting && is_retried(original, copy.intents_done) {
        return if copy.held { Step::Release } else { Step::Rest };
    }
    // First, so that what comes back shows it, and no status from before is written over what the user sees already.
    if let Some(intent) = original.pending(copy.intents_done).first().filter(|_| !copy.deleting) {
        return Step::CarryOut(intent.clone());
    }
    if matches!(copy.status, CopyStatus::Returned(sum) if sum != original.sum()) {
        return Step::Reread;
    }
    if let Returning::As(form) | Returning::Shown(form) = how {
        let (new, is_status_kept) = match returning(original, copy, delivery, form) {
            Ok(new) => new,
            Err(error) => return Step::Unreadable(error.to_string()),
        };
        // The returned final status counts as returned only once it stands on the original.
        if !new.operations.is_empty() && how == Returning::As(form) {
            return Step::Return(new);
        }
        if is_status_kept {
            return Step::Settle;
        }
    }
    match &original.shutdown {
        Some(shutdown) if !copy.completed && copy.shutdown.as_ref() != Some(shutdown) => {
            Step::Shutdown(shutdown.clone())
        }
        _ if !copy.completed && !copy.deleting && copy.suspended != original.suspend => Step::Suspend(original.suspend),
        _ if copy.held && (copy.completed || copy.deleting) => Step::Release,
        _ if copy.held && copy.control_cluster.is_none() => Step::Claim,
        _ => Step::Rest,
    }
}

/// Everything that differs on the original, as one patch: status, Argo's labels, and the copy's UID. And whether all of the
/// copy's status was looked at for it, which is not needed again once it stands there.
fn returning(original: &Original, copy: &Copy, delivery: &Delivery, form: Form) -> Result<(Return, bool), StatusError> {
    let mut operations = Vec::new();
    // Somebody waits for what they asked for, nothing comes after the end, and the first is not of a crowd yet.
    let mut can_wait = !copy.completed && !copy.deleting && delivery.copy.is_some();
    if copy.intents_done > original.intents_done {
        can_wait = false;
        let done = Value::String(copy.intents_done.to_string());
        operations.push(add(&["metadata", "annotations", names::INTENTS_DONE], done));
    }
    let mut is_kept = false;
    match &copy.status {
        CopyStatus::None => return Ok((Return { operations, can_wait }, false)),
        CopyStatus::Returned(_) => {}
        CopyStatus::Whole(status) => {
            let returned = Returned::from_copy(status, form)?;
            if returned.is_empty() {
                return Ok((Return { operations, can_wait }, false));
            }
            operations.extend(returned.difference(original.status.as_ref()));
            if let Some(locks) = returned.locks.as_ref().filter(|locks| original.locks.as_ref() != Some(locks)) {
                operations.push(add(
                    &["metadata", "annotations", names::STORED_SYNCHRONIZATION],
                    Value::String(locks.clone()),
                ));
            }
            can_wait &= returned.is_packed();
            is_kept = true;
        }
    }
    for (i, label) in [names::ARGO_PHASE, names::ARGO_COMPLETED].into_iter().enumerate() {
        if let Some(value) =
            copy.argo_labels[i].as_ref().filter(|value| original.argo_labels[i].as_ref() != Some(value))
        {
            operations.push(add(&["metadata", "labels", label], Value::String(value.clone())));
        }
    }
    // Each cluster archives its own: the control cluster's controller does once it is asked to, as Argo asks itself.
    if copy.completed && copy.archiving && !original.archiving {
        operations.push(add(&["metadata", "labels", names::ARGO_ARCHIVING], Value::String("Pending".to_owned())));
    }
    if delivery.copy.is_none() {
        let delivery = Delivery { copy: Some(copy.uid.clone()), ..delivery.clone() };
        operations.push(add(&["metadata", "annotations", names::DELIVERY], Value::String(to_text(&delivery))));
    }
    Ok((Return { operations, can_wait }, is_kept))
}

/// The annotation's text.
pub fn to_text(delivery: &Delivery) -> String {
    serde_json::json!(delivery).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Digest;
    use rstest::rstest;
    use serde_json::json;

    const AT_ONCE: Returning = Returning::As(Form::Whole);
    const SHOWN: Returning = Returning::Shown(Form::Whole);

    fn here() -> Here {
        Here { control_uid: "k0".into(), cluster: "c1".into(), cluster_uid: "k1".into() }
    }

    fn original() -> Original {
        Original { uid: "o1".into(), ..Original::default() }
    }

    fn delivered(copy: Option<&str>) -> Original {
        let delivery = Delivery { copy: copy.map(Into::into), ..first_attempt(&here()) };
        Original { delivery: Some(Ok(delivery)), ..original() }
    }

    fn moved(original: Original) -> Original {
        let nowhere = Here { cluster: String::new(), cluster_uid: String::new(), ..here() };
        Original { delivery: Some(Ok(attempt(1, Some("lost".into()), &nowhere))), ..original }
    }

    #[test]
    fn one_that_was_moved_goes_on_counting() {
        let step = plan(Some(&moved(original())), None, &here(), AT_ONCE);
        assert_eq!(step, Step::Record(attempt(2, Some("lost".into()), &here())));
    }

    fn wished(original: Original) -> Original {
        Original { intents: vec![Intent { id: 1, wish: Wish::Retry(Default::default()) }].into(), ..original }
    }

    fn shown(status: serde_json::Value, original: Original) -> Original {
        let digest = Digest::of(&serde_json::value::to_raw_value(&status).unwrap()).unwrap();
        Original { status: Some(digest), ..original }
    }

    fn copy() -> Copy {
        let control_cluster = Some("k0".into());
        Copy { uid: "c".into(), origin: "o1".into(), attempt: 1, held: true, control_cluster, ..Copy::default() }
    }

    fn with_status(status: serde_json::Value, copy: Copy) -> Copy {
        Copy { status: CopyStatus::Whole(serde_json::value::to_raw_value(&status).unwrap().into()), ..copy }
    }

    /// A copy whose status was returned to an original that shows this one since.
    fn settled(status: serde_json::Value, copy: Copy) -> Copy {
        Copy { status: CopyStatus::Returned(shown(status, original()).sum()), ..copy }
    }

    fn done(original: Original) -> Original {
        Original { completed: true, argo_labels: [Some("Succeeded".into()), Some("true".into())], ..original }
    }

    fn done_copy() -> Copy {
        let copy = Copy { completed: true, argo_labels: [Some("Succeeded".into()), Some("true".into())], ..copy() };
        with_status(json!({"phase": "Succeeded"}), copy)
    }

    fn name(step: &Step) -> String {
        match step {
            Step::Return(new) => {
                format!(
                    "Return {}",
                    new.operations.iter().map(|op| op.path().to_string()).collect::<Vec<_>>().join(" ")
                )
            }
            Step::Fail(why) => format!("Fail: {why}"),
            other => format!("{other:?}").split([' ', '(']).next().unwrap().to_owned(),
        }
    }

    #[rstest]
    #[case::nothing(None, None, "Rest")]
    #[case::new(Some(original()), None, "Record")]
    #[case::moved_here(Some(moved(original())), None, "Record")]
    #[case::moved_back_and_stopped(Some(Original { shutdown: Some("Stop".into()), ..moved(original()) }), Some(copy()), "Record")]
    #[case::moved_here_and_stopped(Some(Original { shutdown: Some("Stop".into()), ..moved(original()) }), None, "Stop")]
    #[case::recorded(Some(delivered(None)), None, "Deliver")]
    #[case::created(Some(delivered(None)), Some(copy()), "Rest")]
    #[case::first_status(Some(delivered(None)), Some(with_status(json!({"phase": "Running"}), copy())), "Return /status /metadata/annotations/argosy.dev~1delivery")]
    #[case::up_to_date(Some(shown(json!({"phase": "Running"}), delivered(Some("c")))), Some(with_status(json!({"phase": "Running"}), copy())), "Settle")]
    #[case::settled(Some(shown(json!({"phase": "Running"}), delivered(Some("c")))), Some(settled(json!({"phase": "Running"}), copy())), "Rest")]
    #[case::changed_by_somebody(Some(shown(json!({"phase": "Failed"}), delivered(Some("c")))), Some(settled(json!({"phase": "Running"}), copy())), "Reread")]
    #[case::final_status(Some(shown(json!({"phase": "Running"}), delivered(Some("c")))), Some(done_copy()), "Return /status/phase /metadata/labels/workflows.argoproj.io~1phase /metadata/labels/workflows.argoproj.io~1completed")]
    #[case::returned(Some(done(shown(json!({"phase": "Succeeded"}), delivered(Some("c"))))), Some(done_copy()), "Settle")]
    #[case::returned_and_settled(Some(done(shown(json!({"phase": "Succeeded"}), delivered(Some("c"))))), Some(settled(json!({"phase": "Succeeded"}), done_copy())), "Release")]
    #[case::released(Some(done(shown(json!({"phase": "Succeeded"}), delivered(Some("c"))))), Some(settled(json!({"phase": "Succeeded"}), Copy { held: false, ..done_copy() })), "Rest")]
    #[case::copy_gone_by_its_ttl(Some(done(delivered(Some("c")))), None, "Rest")]
    #[case::copy_gone_before_its_end(Some(delivered(Some("c"))), None, "Lost")]
    #[case::copy_replaced_by_hand(Some(delivered(Some("c"))), Some(Copy { uid: "d".into(), ..copy() }), "Lost")]
    #[case::deleted_in_the_wec(Some(delivered(None)), Some(Copy { deleting: true, ..copy() }), "Release")]
    #[case::original_deleted(None, Some(copy()), "Remove")]
    #[case::original_being_deleted(Some(Original { deleting: true, ..delivered(Some("c")) }), Some(copy()), "Remove")]
    #[case::older_namesake(Some(original()), Some(Copy { origin: "o0".into(), ..copy() }), "Remove")]
    #[case::older_attempt(Some(delivered(None)), Some(Copy { attempt: 0, ..copy() }), "Remove")]
    #[case::stopped(Some(Original { shutdown: Some("Stop".into()), ..delivered(Some("c")) }), Some(copy()), "Shutdown")]
    #[case::stop_has_arrived(Some(Original { shutdown: Some("Stop".into()), ..delivered(Some("c")) }), Some(Copy { shutdown: Some("Stop".into()), ..copy() }), "Rest")]
    #[case::stopped_while_it_waited(Some(Original { shutdown: Some("Stop".into()), ..original() }), None, "Stop")]
    #[case::stopped_before_there_was_a_copy(Some(Original { shutdown: Some("Stop".into()), ..delivered(None) }), None, "Stop")]
    #[case::to_be_suspended(Some(Original { suspend: true, ..delivered(Some("c")) }), Some(copy()), "Suspend")]
    #[case::is_suspended(Some(Original { suspend: true, ..delivered(Some("c")) }), Some(Copy { suspended: true, ..copy() }), "Rest")]
    #[case::to_go_on(Some(delivered(Some("c"))), Some(Copy { suspended: true, ..copy() }), "Suspend")]
    #[case::approved(Some(wished(delivered(Some("c")))), Some(copy()), "CarryOut")]
    #[case::approved_and_carried_out(Some(wished(delivered(Some("c")))), Some(Copy { intents_done: 1, ..copy() }), "Return /metadata/annotations/argosy.dev~1intents-done")]
    #[case::approved_and_known(Some(Original { intents_done: 1, ..wished(delivered(Some("c"))) }), Some(copy()), "Rest")]
    #[case::retried(Some(wished(shown(json!({"phase": "Running"}), delivered(Some("c"))))), Some(done_copy()), "CarryOut")]
    #[case::retried_after_its_ttl(Some(wished(delivered(Some("c")))), None, "Again")]
    #[case::retried_as_its_ttl_takes_it(Some(wished(shown(json!({"phase": "Running"}), delivered(Some("c"))))), Some(Copy { deleting: true, ..done_copy() }), "Release")]
    #[case::retried_while_others_hold_it(Some(wished(shown(json!({"phase": "Running"}), delivered(Some("c"))))), Some(Copy { deleting: true, held: false, ..done_copy() }), "Rest")]
    #[case::retried_and_gone_again(Some(Original { intents_done: 1, ..wished(delivered(Some("c"))) }), None, "Lost")]
    #[case::to_be_archived(Some(done(shown(json!({"phase": "Succeeded"}), delivered(Some("c"))))), Some(Copy { archiving: true, ..done_copy() }), "Return /metadata/labels/workflows.argoproj.io~1workflow-archiving-status")]
    #[case::completed_from_the_start(Some(done(original())), None, "Rest")]
    #[case::failed_before_delivery(Some(done(delivered(None))), None, "Rest")]
    #[case::forged_record(Some(Original { delivery: Some(Err("expected value".into())), ..original() }), None, "Fail: annotation argosy.dev/delivery cannot be read: expected value")]
    #[case::deleted_and_held_by_others(None, Some(Copy { deleting: true, held: false, ..copy() }), "Rest")]
    #[case::made_from_a_copy_in_the_wec(None, Some(Copy { inherited: true, ..copy() }), "Rest")]
    #[case::of_an_earlier_version(Some(delivered(Some("c"))), Some(Copy { control_cluster: None, ..copy() }), "Claim")]
    #[case::of_another_control_cluster(None, Some(Copy { control_cluster: Some("k9".into()), ..copy() }), "Rest")]
    #[case::of_this_control_cluster(None, Some(Copy { control_cluster: Some("k0".into()), ..copy() }), "Remove")]
    #[case::in_the_way_of_an_original(Some(delivered(None)), Some(Copy { control_cluster: Some("k9".into()), origin: "o0".into(), ..copy() }), "Tell")]
    #[case::beside_one_that_has_ended(Some(done(delivered(Some("c")))), Some(Copy { control_cluster: Some("k9".into()), origin: "o0".into(), ..copy() }), "Rest")]
    #[case::hostile_status(Some(delivered(Some("c"))), Some(with_status(json!([1]), copy())), "Unreadable")]
    fn steps(#[case] original: Option<Original>, #[case] copy: Option<Copy>, #[case] expected: &str) {
        assert_eq!(name(&plan(original.as_ref(), copy.as_ref(), &here(), AT_ONCE)), expected);
    }

    #[test]
    fn another_cluster_of_the_same_name_is_not_delivered_to_again_and_the_original_says_so_once() {
        let elsewhere = Here { cluster_uid: "k2".into(), ..here() };
        for copy_uid in [None, Some("c")] {
            let Step::Tell(message) = plan(Some(&delivered(copy_uid)), None, &elsewhere, AT_ONCE) else {
                panic!("not told")
            };
            let told = shown(json!({"phase": "Running", "message": message}), delivered(copy_uid));
            assert_eq!(plan(Some(&told), None, &elsewhere, AT_ONCE), Step::Rest);
        }
    }

    /// The API server of the control cluster may take fields out of a status, or put defaults in.
    #[test]
    fn a_status_that_cannot_be_written_as_it_is_holds_nothing_up() {
        let other = |original| shown(json!({"phase": "Succeeded", "default": 1}), original);
        let (running, ended) = (other(delivered(Some("c"))), other(done(delivered(Some("c")))));
        let stopped = Original { shutdown: Some("Stop".into()), ..running };
        let copy = with_status(json!({"phase": "Succeeded", "unknown": 1}), copy());
        assert!(matches!(plan(Some(&stopped), Some(&copy), &here(), AT_ONCE), Step::Return(_)));
        assert_eq!(plan(Some(&stopped), Some(&copy), &here(), SHOWN), Step::Settle);
        let copy = Copy { status: CopyStatus::Returned(stopped.sum()), ..copy };
        assert!(matches!(plan(Some(&stopped), Some(&copy), &here(), AT_ONCE), Step::Shutdown(_)));
        let copy = Copy { completed: true, ..copy };
        assert_eq!(plan(Some(&ended), Some(&copy), &here(), AT_ONCE), Step::Release);
    }

    #[test]
    fn what_is_put_off_holds_nothing_up() {
        let stopped =
            Original { shutdown: Some("Stop".into()), ..shown(json!({"phase": "Running"}), delivered(Some("c"))) };
        let copy = with_status(json!({"phase": "Running", "compressedNodes": "H4sI"}), copy());
        assert!(matches!(plan(Some(&stopped), Some(&copy), &here(), Returning::Later), Step::Shutdown(_)));
        let stopped = Original { shutdown: None, ..stopped };
        assert_eq!(plan(Some(&stopped), Some(&copy), &here(), Returning::Later), Step::Rest);
    }

    #[rstest]
    #[case::packed(delivered(Some("c")), copy(), json!({"compressedNodes": "H4sI"}), true)]
    #[case::plain(delivered(Some("c")), copy(), json!({"nodes": {"a": {}}}), false)]
    #[case::first(delivered(None), copy(), json!({"compressedNodes": "H4sI"}), false)]
    #[case::last(delivered(Some("c")), Copy { completed: true, ..copy() }, json!({"compressedNodes": "H4sI"}), false)]
    #[case::deleted_in_the_wec(delivered(Some("c")), Copy { deleting: true, ..copy() }, json!({"compressedNodes": "H4sI"}), false)]
    #[case::approved(wished(delivered(Some("c"))), Copy { intents_done: 1, ..copy() }, json!({"compressedNodes": "H4sI"}), false)]
    fn what_can_wait(
        #[case] original: Original,
        #[case] copy: Copy,
        #[case] status: serde_json::Value,
        #[case] expected: bool,
    ) {
        let Step::Return(new) = plan(Some(&original), Some(&with_status(status, copy)), &here(), AT_ONCE) else {
            panic!("it is not returned")
        };
        assert_eq!(new.can_wait, expected);
    }
}
