//! One round: everyone who waits is decided about, in turn.

use argosy_api::workflow::{ARCHIVE_LOGS, SYNCHRONIZATION};
use argosy_api::{WorkloadCluster, names};
use argosy_placement::{Decision, Holds, Waiter, Why, encode, placement};
use argosy_runtime::client::{RequestError, within};
use argosy_runtime::known::Asked;
use argosy_runtime::patch::{add, remove};
use json_patch::PatchOperation;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Placer;
use super::waiting::{Item, Waiting};
use crate::copy::{WholeWorkflow, as_created};
use crate::desk::Key;
use crate::originals::{Started, ending, patched, pending};

/// What becomes of one that waits.
#[derive(Debug, PartialEq)]
enum Next {
    /// Goes to this cluster, or stays here (`local`).
    Go { cluster: String, why: Why },
    /// Waits on; what its message says then.
    Wait(String),
    /// Was stopped, or its time is over; what its message says then.
    End(String),
}

/// Decides about everyone. Each decision counts for the next one; those that do not come to be written are made again in
/// the next round.
pub(super) async fn place_all(placer: &Placer, waiting: &mut Waiting) {
    let mut holds = Holds::new(&placer.known.clusters());
    for (key, item) in waiting.in_turn() {
        if !placer.lease.is_held() {
            return;
        }
        let now = Timestamp::now();
        let Some(next) = next(placer, &mut holds, &key, &item, now) else { continue };
        let operations = match &next {
            Next::Go { cluster, why } if cluster == names::LOCAL => match whole(placer, &key).await {
                Ok(Some(whole)) => stay(&item, &whole, why, now),
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(workflow = %key, error = error.message(), "cannot read a waiting workflow");
                    continue;
                }
            },
            Next::Go { cluster, why } => go(&item, cluster, why, now),
            Next::Wait(message) if item.message == Some(Some(message.clone())) || waiting.was_just_told(&key) => {
                continue;
            }
            Next::Wait(message) => pending(item.message.is_some(), message),
            Next::End(message) => ending("Failed", message, item.started(), now),
        };
        match patched(&placer.control, &key, &item.resource_version, operations).await {
            Ok(_) => match next {
                Next::Go { cluster, why } => {
                    tracing::info!(workflow = %key, cluster, reason = why.reason, "placed after waiting");
                    placer.known.reserve(&key.namespace, &encode(&placement(&cluster, &why, now)), now);
                    waiting.remove(&key);
                }
                Next::Wait(message) => {
                    waiting.told(&key);
                    placer.announcer.workflow(&key, &item.uid, "Waiting", &message);
                }
                Next::End(message) => {
                    tracing::info!(workflow = %key, message, "ended while it waited");
                    waiting.remove(&key);
                }
            },
            // Somebody wrote in between, or it is gone: the watch brings what is new.
            Err(error) if matches!(error.status(), Some(404 | 409)) => {}
            Err(error) => {
                tracing::warn!(workflow = %key, error = error.message(), "cannot write to a waiting workflow")
            }
        }
    }
    keep(placer, &holds).await;
}

/// Writes down which clusters are held for whom, where the webhook sees it, too.
async fn keep(placer: &Placer, holds: &Holds) {
    let api: Api<WorkloadCluster> = Api::all(placer.control.clone());
    for (cluster, workflow) in holds.news(&placer.known.clusters()) {
        if !placer.lease.is_held() {
            return;
        }
        let patch = Patch::Merge(json!({"status": {"heldFor": workflow}}));
        match within(api.patch_status(cluster, &PatchParams::default(), &patch)).await {
            Ok(_) => tracing::info!(cluster, workflow, "for whom the cluster is held"),
            Err(error) if error.status() == Some(404) => {}
            Err(error) => tracing::warn!(cluster, error = error.message(), "cannot write for whom the cluster is held"),
        }
    }
}

/// `None` while its namespace is not known.
fn next(placer: &Placer, holds: &mut Holds, key: &Key, item: &Item, now: Timestamp) -> Option<Next> {
    if let Some(message) = item.end(now) {
        return Some(Next::End(message));
    }
    let namespace = placer.known.namespace(&key.namespace)?;
    let asked =
        Asked { namespace: &key.namespace, labels: &item.labels, own_cluster: item.own.as_deref(), chosen: None };
    let name = key.to_string();
    let waiter = Waiter { name: &name, since: item.created };
    let decision = placer.known.explain(
        asked,
        &namespace,
        || item.spec(),
        now,
        |request, found, fleet| holds.decide(waiter, request, found, fleet),
    );
    Some(match decision {
        Decision::Place { cluster, why } => Next::Go { cluster, why },
        Decision::Local(why) => Next::Go { cluster: names::LOCAL.to_owned(), why },
        Decision::Wait(why) => Next::Wait(format!("waits for a cluster: {}", why.reason)),
        Decision::Refuse { reason } => Next::Wait(format!("waits for a rule that lets it run: {reason}")),
        Decision::NoRule => Next::Wait(
            "waits for a rule: its namespace has none any more; give it one, or delete the workflow".to_owned(),
        ),
    })
}

impl Item {
    /// It has a status only to say what it waits for.
    fn started(&self) -> Started {
        if self.message.is_some() { Started::No } else { Started::NoStatus }
    }
}

/// Sends it to a cluster.
fn go(item: &Item, cluster: &str, why: &Why, now: Timestamp) -> Vec<PatchOperation> {
    let mut operations = placed(cluster, why, now);
    if matches!(item.message, Some(Some(_))) {
        // What it waited for is no news any more.
        operations.push(remove(&["status", "message"]));
    }
    operations
}

/// Lets it run here, where it begins as any other: as its user created it.
fn stay(item: &Item, whole: &WholeWorkflow, why: &Why, now: Timestamp) -> Vec<PatchOperation> {
    let mut operations = placed(names::LOCAL, why, now);
    let created = as_created(whole);
    match (&whole.status, created.status.filter(|status| !status.is_empty())) {
        (Some(_), None) => operations.push(remove(&["status"])),
        (Some(_), Some(status)) => operations.push(add(&["status"], Value::Object(status))),
        (None, _) => {}
    }
    if whole.annotations().contains_key(names::SYNCHRONIZATION) {
        operations.push(remove(&["metadata", "annotations", names::SYNCHRONIZATION]));
        if let Some(locks) = created.spec.as_ref().and_then(|spec| spec.get(SYNCHRONIZATION)) {
            operations.push(add(&["spec", SYNCHRONIZATION], locks.clone()));
        }
    }
    if whole.annotations().contains_key(names::ARCHIVE_LOGS) {
        // A rule's word, for those that are sent to a cluster.
        operations.push(remove(&["metadata", "annotations", names::ARCHIVE_LOGS]));
        if created.spec.as_ref().is_some_and(|spec| spec.contains_key(ARCHIVE_LOGS)) {
            operations.push(remove(&["spec", ARCHIVE_LOGS]));
        }
    }
    if !item.suspend {
        operations.push(remove(&["spec", "suspend"]));
    }
    operations
}

fn placed(cluster: &str, why: &Why, now: Timestamp) -> Vec<PatchOperation> {
    let stamp = encode(&placement(cluster, why, now));
    vec![
        add(&["metadata", "labels", names::CLUSTER], json!(cluster)),
        add(&["metadata", "annotations", names::PLACEMENT], json!(stamp)),
    ]
}

async fn whole(placer: &Placer, key: &Key) -> Result<Option<WholeWorkflow>, RequestError> {
    within(Api::namespaced(placer.control.clone(), &key.namespace).get_opt(&key.name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_to_run_here_is_as_its_user_created_it() {
        let object = json!({
            "metadata": {
                "name": "w", "namespace": "n", "labels": {names::CLUSTER: ""},
                "annotations": {
                    names::SYNCHRONIZATION: r#"{"mutex":{"name":"m"}}"#, names::ARCHIVE_LOGS: "true", names::PLACEMENT: "{}",
                },
            },
            "spec": {"suspend": true, "archiveLogs": true, "workflowTemplateRef": {"name": "t"}},
            "status": {"phase": "Pending", "message": "waits", "storedWorkflowTemplateSpec": {"suspend": true}},
        });
        let whole: WholeWorkflow = serde_json::from_value(object.clone()).unwrap();
        let item = Item::new(serde_json::from_value(object.clone()).unwrap());
        let why = Why::new(argosy_api::RuleSource::Namespace, "because");
        let mut after = object;
        json_patch::patch(&mut after, &stay(&item, &whole, &why, Timestamp::UNIX_EPOCH)).unwrap();
        assert_eq!(
            after["spec"],
            json!({"workflowTemplateRef": {"name": "t"}, "synchronization": {"mutex": {"name": "m"}}})
        );
        assert_eq!((after.get("status"), &after["metadata"]["labels"][names::CLUSTER]), (None, &json!("local")));
    }
}
