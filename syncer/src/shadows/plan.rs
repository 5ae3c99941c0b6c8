//! What a shadow is, and what comes next for one. Pure.

use std::time::{Duration, Instant};

use argosy_api::{names, workflow};
use serde_json::{Value, json};

use super::view::{Container, Pod, Shadow};
use crate::desk::{Copy, Original};
use crate::plan::Here;

/// A pod whose containers have not begun has no log. Most begin soon, and its shadow is made then, which saves writes; so
/// long it waits for that since its last change, for what does not begin should be seen, too.
const BEGINNING: Duration = Duration::from_secs(3);
/// Pods that somebody else puts on the node are deleted after this time: a controller that makes them anew would keep us
/// busy.
const FOREIGN: Duration = Duration::from_secs(10);

/// The original that a copy belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub original_uid: String,
    pub copy_uid: String,
}

impl Recorded {
    /// `None`: the copy is not the one that this original was delivered as.
    pub fn new(original: &Original, copy: &Copy, here: &Here) -> Option<Self> {
        let delivery = original.delivery.as_ref()?.as_ref().ok()?;
        let is_it = !copy.inherited
            && !copy.is_of_another(&here.control_uid)
            && copy.origin == original.uid
            && delivery.cluster_uid == here.cluster_uid
            && delivery.attempt == copy.attempt
            // Known with the first status that comes back.
            && delivery.copy.as_ref().is_none_or(|delivered| *delivered == copy.uid);
        is_it.then(|| Self { original_uid: original.uid.clone(), copy_uid: copy.uid.clone() })
    }
}

/// What to do about a pod and its shadow.
#[derive(Debug, PartialEq)]
pub enum Step {
    Rest,
    /// The pod's copy is not, or not yet, one that an original is known to have.
    Unclaimed,
    /// Look again after this time.
    Later(Duration),
    /// Make this shadow, which belongs to this original.
    Create {
        shadow: Value,
        original: String,
    },
    /// Write this status to it.
    Show {
        status: Value,
        print: u64,
    },
    /// Delete the shadow.
    Delete,
}

/// The next step at `now`. `recorded` is what is known of the pod's workflow.
pub fn plan(
    now: Instant,
    cluster: &str,
    name: &str,
    pod: Option<&Pod>,
    shadow: Option<&Shadow>,
    recorded: Option<&Recorded>,
) -> Step {
    let (Some(pod), Some(owner)) = (pod, pod.and_then(|pod| owner(pod, recorded))) else {
        // Whatever else is on the node nobody will ever run.
        return match shadow {
            Some(shadow) if shadow.deleting => Step::Rest,
            Some(shadow) if shadow.cluster.is_none() && now < shadow.seen + FOREIGN => {
                Step::Later(shadow.seen + FOREIGN - now)
            }
            Some(_) => Step::Delete,
            None if pod.is_some() => Step::Unclaimed,
            None => Step::Rest,
        };
    };
    match shadow {
        // The watch tells when it is gone.
        Some(shadow) if shadow.deleting => Step::Rest,
        // It was shown to its end, and somebody deleted it: as Kubernetes does where there are too many such pods.
        None if pod.status.has_ended() && pod.shown.is_some() => Step::Rest,
        None if !pod.status.has_begun() && now < pod.seen + BEGINNING => Step::Later(pod.seen + BEGINNING - now),
        None => {
            let shadow = shadow_of(cluster, name, pod, owner);
            Step::Create { shadow, original: owner.original_uid.clone() }
        }
        Some(shadow) if !is_shadow_of(shadow, cluster, pod, owner) => Step::Delete,
        Some(shadow) => {
            let print = pod.status.print();
            let is_shown = shadow.shows == print || pod.shown == Some(print);
            if is_shown { Step::Rest } else { Step::Show { status: json!({"status": pod.status}), print } }
        }
    }
}

/// Whether this shadow stands for this pod, which belongs to the copy that its original is recorded to have: of no other is
/// a log anybody's here.
pub fn is_shown(cluster: &str, pod: &Pod, shadow: &Shadow, recorded: Option<&Recorded>) -> bool {
    owner(pod, recorded).is_some_and(|owner| is_shadow_of(shadow, cluster, pod, owner))
}

fn owner<'a>(pod: &Pod, recorded: Option<&'a Recorded>) -> Option<&'a Recorded> {
    recorded.filter(|recorded| recorded.copy_uid == pod.copy)
}

fn is_shadow_of(shadow: &Shadow, cluster: &str, pod: &Pod, owner: &Recorded) -> bool {
    shadow.cluster.as_deref() == Some(cluster)
        && shadow.source.as_ref() == Some(&pod.uid)
        && shadow.original.as_ref() == Some(&owner.original_uid)
}

/// The pod that stands in the control cluster for one in a WEC. It is never run: its node is none.
fn shadow_of(cluster: &str, name: &str, pod: &Pod, owner: &Recorded) -> Value {
    let mut labels = serde_json::Map::new();
    labels.extend(pod.labels.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))));
    // So that the control cluster's own Argo never looks at it.
    labels.insert(names::ARGO_COMPLETED.to_owned(), "true".into());
    labels.insert(names::SHADOW.to_owned(), cluster.into());
    let mut annotations = serde_json::Map::new();
    annotations.extend(pod.annotations.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))));
    annotations.insert(names::SHADOW_OF.to_owned(), pod.uid.clone().into());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": annotations,
            // It goes with its workflow, whoever is there to see to that.
            "ownerReferences": [{
                "apiVersion": format!("{}/{}", workflow::GROUP, workflow::VERSION), "kind": workflow::KIND,
                "name": pod.workflow, "uid": owner.original_uid, "controller": true, "blockOwnerDeletion": false,
            }],
        },
        "spec": {
            "nodeName": names::virtual_node(cluster),
            "containers": containers(&pod.containers),
            "initContainers": containers(&pod.init_containers),
            "restartPolicy": pod.restart_policy.as_deref().unwrap_or("Never"),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            // Nobody is there to end it, so whoever deletes it is done at once.
            "terminationGracePeriodSeconds": 0,
            // A cluster that is lost evicts nothing.
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    })
}

/// Restricted as Kubernetes' strictest standard has it, and asking for nothing, so that quotas which want every pod to ask
/// for something are content.
fn containers(containers: &[Container]) -> Vec<Value> {
    let none = json!({"cpu": "0", "memory": "0"});
    let shadow = |container: &Container| {
        let mut shadow = json!({
            "name": container.name,
            "image": container.image,
            "resources": {"requests": none, "limits": none},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        });
        if let Some(policy) = &container.restart_policy {
            shadow["restartPolicy"] = policy.clone().into();
        }
        shadow
    };
    containers.iter().map(shadow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shadows::view::{PodView, Status};
    use argosy_api::Delivery;
    use rstest::rstest;

    const RUNNING: &str = r#"{
        "metadata": {
            "name": "hello-1", "namespace": "n", "uid": "pod", "resourceVersion": "7",
            "labels": {"workflows.argoproj.io/workflow": "hello", "workflows.argoproj.io/completed": "false", "app": "web"},
            "annotations": {"workflows.argoproj.io/node-id": "hello-1", "somebody.else/note": "long"},
            "ownerReferences": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "hello", "uid": "copy", "controller": true}]
        },
        "spec": {"nodeName": "real", "serviceAccountName": "rich", "containers": [{"name": "main", "image": "busybox", "env": [{"name": "A"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
            {"name": "main", "image": "busybox", "imageID": "sha256:0", "ready": true, "restartCount": 0,
             "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}
    }"#;

    fn view(text: &str) -> PodView {
        serde_json::from_str(text).unwrap()
    }

    fn recorded() -> Recorded {
        Recorded { original_uid: "original".into(), copy_uid: "copy".into() }
    }

    /// The shadow that is made of a pod, as it is read again.
    fn made(pod: &Pod) -> Shadow {
        let Step::Create { mut shadow, .. } = plan(Instant::now(), "c1", "hello-1", Some(pod), None, Some(&recorded()))
        else {
            panic!("nothing is made")
        };
        shadow["metadata"]["uid"] = "shadow".into();
        Shadow::new(serde_json::from_value(shadow).unwrap())
    }

    #[test]
    fn a_shadow_has_argos_names_and_nothing_that_runs_or_is_selected() {
        let pod = Pod::new(view(RUNNING));
        let Step::Create { shadow, .. } = plan(Instant::now(), "c1", "hello-1", Some(&pod), None, Some(&recorded()))
        else {
            panic!("nothing is made")
        };
        let metadata = json!({
            "name": "hello-1",
            "labels": {
                "workflows.argoproj.io/workflow": "hello",
                "workflows.argoproj.io/completed": "true",
                "argosy.dev/shadow": "c1"
            },
            "annotations": {"workflows.argoproj.io/node-id": "hello-1", "argosy.dev/shadow-of": "pod"},
            "ownerReferences": [{
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "hello", "uid": "original",
                "controller": true, "blockOwnerDeletion": false
            }]
        });
        assert_eq!(shadow["metadata"], metadata);
        assert_eq!(shadow["spec"]["nodeName"], "argosy-c1");
        assert_eq!(shadow["spec"].get("serviceAccountName"), None);
        assert_eq!(shadow["spec"]["containers"][0].get("env"), None);
    }

    #[test]
    fn a_status_that_was_shown_is_not_shown_again() {
        let pod = Pod::new(view(RUNNING));
        let shadow = made(&pod);
        let Step::Show { status: shown, print } =
            plan(Instant::now(), "c1", "hello-1", Some(&pod), Some(&shadow), Some(&recorded()))
        else {
            panic!("nothing is shown")
        };
        // As the API server gives it back: what is null is gone, and defaults are there.
        let status: Status = serde_json::from_value(shown["status"].clone()).unwrap();
        let mut read = shown["status"].clone();
        read.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        read["qosClass"] = "Guaranteed".into();
        read["containerStatuses"][0]["lastState"] = json!({});
        let read: Status = serde_json::from_value(read).unwrap();
        assert_eq!(read.print(), status.print());
        // Whatever else the API server made of it, it is not written again.
        let written = Pod { shown: Some(print), ..pod.clone() };
        assert_eq!(plan(Instant::now(), "c1", "hello-1", Some(&written), Some(&shadow), Some(&recorded())), Step::Rest);
        let shadow = Shadow { shows: read.print(), ..shadow };
        assert_eq!(plan(Instant::now(), "c1", "hello-1", Some(&pod), Some(&shadow), Some(&recorded())), Step::Rest);
    }

    #[rstest]
    #[case::is_pulled(json!({"phase": "Pending", "containerStatuses": [{"name": "main", "state": {"waiting": {}}}]}), true)]
    #[case::is_scheduled(json!({"phase": "Pending"}), true)]
    #[case::an_init_container_runs(
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "init", "state": {"running": {}}}]}), false
    )]
    #[case::runs(json!({"phase": "Running"}), false)]
    #[case::never_began(json!({"phase": "Failed", "reason": "Evicted"}), false)]
    fn what_has_not_begun_is_shown_later(#[case] status: Value, #[case] waits: bool) {
        let mut view: Value = serde_json::from_str(RUNNING).unwrap();
        view["status"] = status;
        let pod = Pod::new(serde_json::from_value(view).unwrap());
        let step = |now| plan(now, "c1", "hello-1", Some(&pod), None, Some(&recorded()));
        assert_eq!(step(pod.seen) == Step::Later(BEGINNING), waits);
        assert!(matches!(step(pod.seen + BEGINNING), Step::Create { .. }));
    }

    #[test]
    fn what_is_deleted_already_is_waited_for_and_the_end_is_shown_once() {
        let mut view: Value = serde_json::from_str(RUNNING).unwrap();
        view["status"]["phase"] = "Succeeded".into();
        let ended = Pod::new(serde_json::from_value(view).unwrap());
        let step = |pod: Option<&Pod>, shadow: Option<&Shadow>| {
            plan(Instant::now(), "c1", "hello-1", pod, shadow, Some(&recorded()))
        };
        let deleting = Shadow { deleting: true, ..made(&ended) };
        assert_eq!(step(Some(&ended), Some(&deleting)), Step::Rest);
        assert_eq!(step(None, Some(&deleting)), Step::Rest);
        assert!(matches!(step(Some(&ended), None), Step::Create { .. }));
        let shown = Pod { shown: Some(ended.status.print()), ..ended };
        assert_eq!(step(Some(&shown), None), Step::Rest);
    }

    #[test]
    fn pods_of_others_on_the_node_are_deleted_without_haste() {
        let foreign = Shadow { cluster: None, ..made(&Pod::new(view(RUNNING))) };
        let step = |now| plan(now, "c1", "hello-1", None, Some(&foreign), None);
        assert_eq!(step(foreign.seen), Step::Later(FOREIGN));
        assert_eq!(step(foreign.seen + FOREIGN), Step::Delete);
    }

    #[rstest]
    #[case::the_pod_is_gone(None, Some("c1"), Some(recorded()), true)]
    #[case::not_our_label(Some("pod"), None, Some(recorded()), true)]
    #[case::another_clusters(Some("pod"), Some("c2"), Some(recorded()), true)]
    #[case::another_pod_of_the_name(Some("other"), Some("c1"), Some(recorded()), true)]
    #[case::a_strangers_pod(Some("pod"), Some("c1"), None, true)]
    #[case::another_copy(Some("pod"), Some("c1"), Some(Recorded { copy_uid: "x".into(), ..recorded() }), true)]
    #[case::another_original(Some("pod"), Some("c1"), Some(Recorded { original_uid: "x".into(), ..recorded() }), true)]
    #[case::as_it_should_be(Some("pod"), Some("c1"), Some(recorded()), false)]
    fn what_must_not_stay(
        #[case] pod_uid: Option<&str>,
        #[case] label: Option<&str>,
        #[case] recorded: Option<Recorded>,
        #[case] goes: bool,
    ) {
        let pod = Pod::new(view(RUNNING));
        let shadow = Shadow { cluster: label.map(Into::into), ..made(&pod) };
        let pod = pod_uid.map(|uid| Pod { uid: uid.into(), ..pod });
        let later = shadow.seen + FOREIGN;
        let step = plan(later, "c1", "hello-1", pod.as_ref(), Some(&shadow), recorded.as_ref());
        assert_eq!(step == Step::Delete, goes);
        // Nor is its log served.
        assert_eq!(pod.is_some_and(|pod| is_shown("c1", &pod, &shadow, recorded.as_ref())), !goes);
    }

    #[rstest]
    #[case::delivered(|_: &mut Original, _: &mut Copy| (), true)]
    #[case::before_its_first_status(|original: &mut Original, _: &mut Copy| delivery(original).copy = None, true)]
    #[case::not_delivered(|original: &mut Original, _: &mut Copy| original.delivery = None, false)]
    #[case::unreadable(|original: &mut Original, _: &mut Copy| original.delivery = Some(Err("odd".into())), false)]
    #[case::to_another_cluster(|original: &mut Original, _: &mut Copy| delivery(original).cluster_uid = "x".into(), false)]
    #[case::another_attempt(|original: &mut Original, _: &mut Copy| delivery(original).attempt = 2, false)]
    #[case::another_copy(|original: &mut Original, _: &mut Copy| delivery(original).copy = Some("x".into()), false)]
    #[case::of_another_original(|_: &mut Original, copy: &mut Copy| copy.origin = "x".into(), false)]
    #[case::inherited(|_: &mut Original, copy: &mut Copy| copy.inherited = true, false)]
    #[case::of_another_control_cluster(
        |_: &mut Original, copy: &mut Copy| copy.control_cluster = Some("x".into()), false
    )]
    fn whose_pods_are_shown(#[case] change: fn(&mut Original, &mut Copy), #[case] shown: bool) {
        let here = Here { control_uid: "control".into(), cluster: "c1".into(), cluster_uid: "wec".into() };
        let delivered = Delivery {
            attempt: 1,
            cluster: "c1".into(),
            cluster_uid: "wec".into(),
            copy: Some("copy".into()),
            moved: None,
        };
        let mut original = Original { uid: "original".into(), delivery: Some(Ok(delivered)), ..Original::default() };
        let mut copy = Copy {
            uid: "copy".into(),
            origin: "original".into(),
            attempt: 1,
            control_cluster: Some("control".into()),
            ..Copy::default()
        };
        change(&mut original, &mut copy);
        assert_eq!(Recorded::new(&original, &copy, &here), shown.then(recorded));
    }

    fn delivery(original: &mut Original) -> &mut Delivery {
        original.delivery.as_mut().unwrap().as_mut().unwrap()
    }

    #[test]
    fn a_strangers_pod_has_no_shadow() {
        let pod = Pod { copy: "forged".into(), ..Pod::new(view(RUNNING)) };
        assert_eq!(plan(Instant::now(), "c1", "hello-1", Some(&pod), None, Some(&recorded())), Step::Unclaimed);
        assert_eq!(plan(Instant::now(), "c1", "hello-1", Some(&pod), None, None), Step::Unclaimed);
    }
}
