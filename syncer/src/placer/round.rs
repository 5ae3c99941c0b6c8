//! One round: everyone who waits is decided about, in turn.

use argosy_api::names;
use argosy_placement::{Decision, Why, encode, placement};
use argosy_runtime::known::Asked;
use json_patch::PatchOperation;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::Placer;
use super::waiting::{Item, Waiting};
use crate::desk::Key;
use crate::originals::patched;
use crate::status::{add, remove};

/// What becomes of one that waits.
#[derive(Debug, PartialEq)]
enum Next {
    /// Goes to this cluster, or stays here (`local`).
    Go { cluster: String, why: Why },
    /// Waits on; what its message says then.
    Wait(String),
}

/// Decides about everyone. Each decision counts for the next one; those that do not come to be written are made again in
/// the next round.
pub(super) async fn place_all(placer: &Placer, waiting: &mut Waiting) {
    for (key, item) in waiting.in_turn() {
        if !placer.lease.is_held() {
            return;
        }
        let now = Timestamp::now();
        let Some(next) = next(placer, &key, &item, now) else { continue };
        let operations = match &next {
            Next::Go { cluster, why } => go(&item, cluster, why, now),
            Next::Wait(message) if item.message == Some(Some(message.clone())) || waiting.was_just_told(&key) => {
                continue;
            }
            Next::Wait(message) => say(&item, message),
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
            },
            // Somebody wrote in between, or it is gone: the watch brings what is new.
            Err(error) if matches!(error.status(), Some(404 | 409)) => {}
            Err(error) => {
                tracing::warn!(workflow = %key, error = error.message(), "cannot write to a waiting workflow")
            }
        }
    }
}

/// `None` while its namespace is not known.
fn next(placer: &Placer, key: &Key, item: &Item, now: Timestamp) -> Option<Next> {
    let namespace = placer.known.namespace(&key.namespace)?;
    let asked =
        Asked { namespace: &key.namespace, labels: &item.labels, own_cluster: item.own.as_deref(), chosen: None };
    Some(match placer.known.decide(asked, &namespace, || item.spec(), now) {
        Decision::Place { cluster, why } => Next::Go { cluster, why },
        Decision::Local(why) => Next::Go { cluster: names::LOCAL.to_owned(), why },
        Decision::Wait(why) => Next::Wait(format!("waits for a cluster: {}", why.reason)),
        Decision::Refuse { reason } => Next::Wait(format!("waits for a rule that lets it run: {reason}")),
        Decision::NoRule => Next::Wait(
            "waits for a rule: its namespace has none any more; give it one, or delete the workflow".to_owned(),
        ),
    })
}

fn go(item: &Item, cluster: &str, why: &Why, now: Timestamp) -> Vec<PatchOperation> {
    let stamp = encode(&placement(cluster, why, now));
    let mut operations = vec![
        add(&["metadata", "labels", names::CLUSTER], json!(cluster)),
        add(&["metadata", "annotations", names::PLACEMENT], json!(stamp)),
    ];
    if item.message.is_some() {
        // What it waited for is no news any more; a workflow that runs here begins as any other.
        operations.push(remove(&["status"]));
    }
    if cluster == names::LOCAL && !item.suspend {
        operations.push(remove(&["spec", "suspend"]));
    }
    operations
}

fn say(item: &Item, message: &str) -> Vec<PatchOperation> {
    if item.message.is_none() {
        return vec![add(&["status"], json!({"phase": "Pending", "message": message}))];
    }
    vec![add(&["status", "phase"], json!("Pending")), add(&["status", "message"], json!(message))]
}
