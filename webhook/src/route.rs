//! From a decision to the patch that carries it out, or to a refusal. Pure: no I/O, and the time is an argument.
//!
//! The patch is the difference between what came in and what is wanted, so that it is empty where nothing is to be
//! done, and asking again about its own result changes nothing.

use std::time::Duration;

use argosy_api::{Placement, RuleSource, names};
use argosy_placement::{Decision, Why, encode, placement};
use argosy_runtime::patch::{add, remove, replace};
use jiff::Timestamp;
use json_patch::Patch;
use kube::api::ObjectMeta;
use serde_json::Value;

use crate::edits::Edits;
use crate::metrics::Outcome;
use crate::view::{self, Flag, Label, View, annotation, is_completed, label};

mod logs;
mod quiet;

/// A stamp of our own that is no older than this stays: the API server asks again within one creation (reinvocation).
/// Far below what the fail-closed policy allows (60 s).
const FRESH: Duration = Duration::from_secs(5);

/// The answer about one workflow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Created with this patch, which may be empty; it carries this stamp then.
    Allow { patch: Patch, outcome: Outcome, stamp: Option<String> },
    /// Not created. `status` is the HTTP status for the user: 403 (policy) or 422 (what the user wrote).
    Refuse { status: u16, message: String },
}

/// What is wanted of the object, where it differs or not.
struct Wanted<'a> {
    /// `kubestellar.io/cluster`; `None`: no such label.
    cluster: Option<&'a str>,
    stamp: Option<Placement>,
    suspend: Wish,
    /// Write down that the user wants the copy suspended.
    note_suspend: bool,
}

/// What is to become of `spec.suspend`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Keep,
    Set,
    /// Take out the `true` that routing put in.
    Undo,
}

/// Whether a decision is needed at all. A workflow that was created as completed is never routed.
pub(crate) fn needs_decision(view: &View) -> bool {
    !is_completed(view)
}

/// What was decided about a workflow, and what of it the rules say besides.
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    /// Whether the namespace has a rule, whatever it says about this workflow: such namespaces take only what is stamped.
    pub(crate) ruled: bool,
    /// Whether logs are archived where the user does not say, if the rule about this workflow does.
    pub(crate) archive_logs: Option<bool>,
}

/// The answer, given the decision.
pub(crate) fn answer(namespace: &str, view: &View, decided: &Decided, now: Timestamp) -> Answer {
    let (wanted, outcome) = match want(namespace, view, &decided.decision, decided.ruled, now) {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal,
    };
    let stamp = stamp_of(view, &wanted, now);
    Answer::Allow { patch: difference(view, wanted, stamp.as_deref(), decided.archive_logs), outcome, stamp }
}

/// What was chosen for this very workflow a moment ago: the API server asks again within one creation.
pub(crate) fn chosen(view: &View, now: Timestamp) -> Option<String> {
    let stamp = view::stamp(view)?;
    let time = stamp.time.parse().ok()?;
    (is_fresh(time, now) && label(view, names::CLUSTER) == Some(&stamp.cluster)).then_some(stamp.cluster)
}

/// The name of a workflow for messages; one that is yet to be generated ends in `*`.
pub(crate) fn display_name(namespace: &str, metadata: &ObjectMeta) -> String {
    match (metadata.name.as_deref(), metadata.generate_name.as_deref()) {
        (Some(name), _) if !name.is_empty() => format!("{namespace}/{name}"),
        (_, prefix) => format!("{namespace}/{}*", prefix.unwrap_or_default()),
    }
}

fn want<'a>(
    namespace: &str,
    view: &'a View,
    decision: &'a Decision,
    ruled: bool,
    now: Timestamp,
) -> Result<(Wanted<'a>, Outcome), Answer> {
    let refuse = |status, why: &str| {
        Err(Answer::Refuse { status, message: format!("Workflow {}: {why}", display_name(namespace, &view.metadata)) })
    };
    let stamp = |cluster: &str, why: &Why| Some(placement(cluster, why, now));
    if is_completed(view) {
        // What is only a record needs no suspend taken out, either.
        let wanted = Wanted {
            cluster: label(view, names::CLUSTER).filter(|cluster| *cluster == names::LOCAL),
            stamp: ruled
                .then(|| stamp(names::LOCAL, &Why::new(RuleSource::Namespace, "it was created as completed")))
                .flatten(),
            suspend: Wish::Keep,
            note_suspend: false,
        };
        return Ok((wanted, if ruled { Outcome::Local } else { Outcome::Unruled }));
    }
    let label = Label::of(view);
    let here = |stamp| Wanted {
        cluster: self::label(view, names::CLUSTER).filter(|cluster| *cluster == names::LOCAL),
        stamp,
        suspend: undo(view, &label),
        note_suspend: false,
    };
    let routed = |cluster: &'a str, stamp| {
        let Some(spec) = view::spec(view) else {
            return refuse(422, "field spec: expected an object");
        };
        // With a label, suspend is but the old contract's "run it there", or our own doing.
        let note_suspend = label == Label::Absent && spec.suspend == Flag::Is(true);
        let outcome = if cluster.is_empty() { Outcome::Waiting } else { Outcome::Placed };
        Ok((Wanted { cluster: Some(cluster), stamp, suspend: Wish::Set, note_suspend }, outcome))
    };
    match decision {
        Decision::Refuse { reason } => refuse(403, reason),
        Decision::NoRule | Decision::Local(_) if label == Label::Empty => refuse(
            422,
            &format!(
                "label {} is empty, which leaves the choice to a rule, but namespace {namespace:?} has none for this \
                 workflow: expected the name of a WorkloadCluster, or {:?}",
                names::CLUSTER,
                names::LOCAL
            ),
        ),
        Decision::NoRule => Ok((here(None), Outcome::Unruled)),
        Decision::Local(why) => {
            let stamp = if ruled { stamp(names::LOCAL, why) } else { None };
            Ok((here(stamp), Outcome::Local))
        }
        Decision::Place { cluster, why } => routed(cluster, stamp(cluster, why)),
        Decision::Wait(why) => {
            let own = label.own().map(ToOwned::to_owned);
            routed("", Some(Placement { own, ..placement("", why, now) }))
        }
    }
}

/// A workflow that inherited its routing and is not routed again loses the suspend that came with it, unless its user
/// wanted one.
fn undo(view: &View, label: &Label) -> Wish {
    let wished = annotation(view, names::SUSPEND) == Some("true");
    if *label == Label::Inherited && !wished { Wish::Undo } else { Wish::Keep }
}

/// Whether the stamp that came in says the same, in the same form, and just now. What it says of scores and of the age
/// of figures is another thing a moment later, and stays.
fn is_current(present: &str, wanted: &Placement, now: Timestamp) -> bool {
    let Ok(stamp) = serde_json::from_str::<Placement>(present) else { return false };
    let Ok(time) = stamp.time.parse::<Timestamp>() else { return false };
    let decision =
        |stamp: &Placement| (stamp.cluster.clone(), stamp.rule.clone(), stamp.own.clone(), stamp.asks.clone());
    is_fresh(time, now) && encode(&stamp) == present && decision(&stamp) == decision(wanted)
}

fn is_fresh(time: Timestamp, now: Timestamp) -> bool {
    // Another replica's clock, which stamped a moment ago, may be ahead.
    now.duration_since(time).unsigned_abs() <= FRESH
}

/// The stamp that the workflow is to carry: the one that came with it, if that says the same.
fn stamp_of(view: &View, wanted: &Wanted, now: Timestamp) -> Option<String> {
    let stamp = wanted.stamp.as_ref()?;
    let present = annotation(view, names::PLACEMENT).filter(|present| is_current(present, stamp, now));
    Some(present.map_or_else(|| encode(stamp), ToOwned::to_owned))
}

fn difference(view: &View, wanted: Wanted, stamp: Option<&str>, archive_logs: Option<bool>) -> Patch {
    let mut labels = Edits::default();
    labels.want(names::CLUSTER, wanted.cluster.map(ToOwned::to_owned), label(view, names::CLUSTER));

    let mut annotations = Edits::default();
    let foreign = view.metadata.annotations.iter().flatten().filter(|(key, _)| {
        key.starts_with(names::PREFIX)
            && ![names::PLACEMENT, names::SYNCHRONIZATION, names::ARCHIVE_LOGS].contains(&key.as_str())
            && !names::USERS.contains(&key.as_str())
    });
    foreign.for_each(|(key, value)| annotations.want(key, None, Some(value)));
    annotations.want(names::PLACEMENT, stamp.map(ToOwned::to_owned), annotation(view, names::PLACEMENT));
    if wanted.note_suspend {
        annotations.want(names::SUSPEND, Some("true".to_owned()), annotation(view, names::SUSPEND));
    }

    let mut more = Vec::new();
    match wanted.suspend {
        Wish::Set => {
            let waits = wanted.stamp.as_ref().filter(|stamp| stamp.cluster.is_empty());
            logs::archive(view, archive_logs, &mut annotations, &mut more);
            quiet::hush(view, waits.map(|stamp| stamp.reason.as_str()), &mut annotations, &mut more);
        }
        Wish::Keep | Wish::Undo => {
            quiet::restore(view, &mut annotations, &mut more);
            logs::archive(view, None, &mut annotations, &mut more);
        }
    }

    let mut operations = Vec::new();
    labels.append("labels", view.metadata.labels.is_some(), &mut operations);
    annotations.append("annotations", view.metadata.annotations.is_some(), &mut operations);
    let path = ["spec", "suspend"];
    match (wanted.suspend, view::spec(view).map(|spec| spec.suspend)) {
        (Wish::Set, Some(Flag::Absent)) => operations.push(add(&path, Value::Bool(true))),
        (Wish::Set, Some(Flag::Null | Flag::Is(false) | Flag::Other)) => {
            operations.push(replace(&path, Value::Bool(true)))
        }
        (Wish::Undo, Some(Flag::Is(true))) => operations.push(remove(&path)),
        _ => {}
    }
    operations.extend(more);
    Patch(operations)
}

#[cfg(test)]
mod tests;
