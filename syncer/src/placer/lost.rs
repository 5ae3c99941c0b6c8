//! Clusters that nobody hears of: what may run twice is taken from them and waits for another cluster.
//!
//! Nothing proves that a silent cluster has not started a workflow, so only what its users call rerunnable is moved, and
//! only where the rule says so. Once the cluster is back, its copy is another attempt's: it is deleted, and its status
//! never counts.

use std::collections::HashMap;
use std::time::Duration;

use argosy_api::workflow::{STORED_SPEC, SyncView, Workflow};
use argosy_api::{Delivery, LostCluster, Placement, intents, names};
use argosy_placement::{Rule, encode, own_cluster};
use argosy_runtime::client::{RequestError, within};
use argosy_runtime::known::Asked;
use argosy_runtime::patch::{add, remove};
use json_patch::PatchOperation;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Placer;
use crate::desk::{Key, is_completed, shutdown, stamp_of};
use crate::originals::patched;
use crate::plan::to_text;

/// How often lost clusters are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at lost clusters, for ever.
///
/// How long one has not answered is what was seen here: a condition says little of the time when nobody looked.
pub(super) async fn follow(placer: &Placer) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    placer.known.all_synced().await;
    let mut silent: HashMap<String, Instant> = HashMap::new();
    loop {
        ticks.tick().await;
        silent.retain(|cluster, _| is_silent(placer, cluster));
        for cluster in placer.known.clusters().iter().filter(|cluster| cluster.is_silent) {
            let since = *silent.entry(cluster.name.clone()).or_insert_with(Instant::now);
            if !placer.known.any_rule(|rule| is_due(rule, &cluster.name, since.elapsed()).is_some()) {
                continue;
            }
            if let Err(error) = move_off(placer, &cluster.name, since).await {
                let error = error.message();
                tracing::warn!(cluster = cluster.name, error, "cannot move workflows off a lost cluster");
            }
        }
    }
}

fn is_silent(placer: &Placer, cluster: &str) -> bool {
    placer.known.cluster(cluster).is_some_and(|cluster| cluster.is_silent)
}

async fn move_off(placer: &Placer, cluster: &str, since: Instant) -> Result<(), RequestError> {
    let api: Api<Workflow<(), ()>> = Api::all(placer.control.clone());
    let unfinished = format!("{}={cluster},{}!=true", names::CLUSTER, names::ARGO_COMPLETED);
    for workflow in within(api.list_metadata(&ListParams::default().labels(&unfinished))).await?.items {
        let key = Key::of(&workflow);
        if movable(placer, cluster, &key, &workflow, since.elapsed()).is_none() {
            continue;
        }
        let api: Api<SyncView> = Api::namespaced(placer.control.clone(), &key.namespace);
        let Some(original) = within(api.get_opt(&key.name)).await? else { continue };
        // It may have ended since the list, and the cluster may be back.
        let Some(why) = movable(placer, cluster, &key, &original, since.elapsed()) else { continue };
        if !placer.lease.is_held() || !is_silent(placer, cluster) {
            return Ok(());
        }
        let version = original.resource_version().unwrap_or_default();
        let Some(operations) = moved(&original, cluster, &why, Timestamp::now()) else { continue };
        match patched(&placer.control, &key, &version, operations).await {
            Ok(_) => {
                tracing::warn!(workflow = %key, cluster, why, "moved off a lost cluster");
                placer.announcer.workflow(&key, &original.uid().unwrap_or_default(), "Moved", &why);
            }
            // Somebody wrote in between, or it is gone: the next round sees what is new.
            Err(error) if matches!(error.status(), Some(404 | 409)) => {}
            Err(error) if error.status().is_some() => {
                tracing::warn!(workflow = %key, cluster, error = error.message(), "cannot be moved off a lost cluster");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Why a workflow may be moved, in a sentence; `None` if it may not. `silent`: how long its cluster has not answered.
fn movable(placer: &Placer, cluster: &str, key: &Key, workflow: &impl ResourceExt, silent: Duration) -> Option<String> {
    let namespace = placer.known.namespace(&key.namespace)?;
    let (labels, annotations) = (workflow.labels(), workflow.annotations());
    let own = own_cluster(labels.get(names::CLUSTER).map(String::as_str), stamp_of(workflow).as_ref());
    let asked = Asked { namespace: &key.namespace, labels, own_cluster: own.as_deref(), chosen: None };
    // What nobody has begun to deliver runs nowhere.
    let is_rerunnable = annotations.get(names::RERUNNABLE).is_some_and(|word| word == "true")
        || !annotations.contains_key(names::DELIVERY);
    // Where it is to run is its user's word.
    if !is_rerunnable || is_completed(workflow) || own.is_some() || workflow.meta().deletion_timestamp.is_some() {
        return None;
    }
    is_due(&placer.known.rule(asked, &namespace)?, cluster, silent)
}

fn is_due(rule: &Rule, cluster: &str, silent: Duration) -> Option<String> {
    let silent = SignedDuration::from_secs(i64::try_from(silent.as_secs()).ok()?);
    let is_due = rule.lost_cluster == LostCluster::Reschedule && silent >= rule.lost_after;
    is_due.then(|| format!("cluster {cluster} has not answered for {silent:#}"))
}

/// What makes it wait for another cluster, with nothing of the run that is lost. `None`: its user stops it, or nobody
/// knows what became of it.
fn moved(original: &SyncView, cluster: &str, why: &str, now: Timestamp) -> Option<Vec<PatchOperation>> {
    let is_there = original.labels().get(names::CLUSTER).is_some_and(|label| label == cluster);
    if shutdown(original).is_some() || !is_there {
        return None;
    }
    let annotations = original.annotations();
    let stamp = stamp_of(original)?;
    let stamp = Placement { cluster: String::new(), time: format!("{now:.0}"), reason: why.to_owned(), ..stamp };
    let mut operations = vec![
        add(&["metadata", "labels", names::CLUSTER], json!("")),
        add(&["metadata", "annotations", names::PLACEMENT], json!(encode(&stamp))),
        add(&["status"], Value::Object(begun_anew(original, why))),
    ];
    if let Some(text) = annotations.get(names::DELIVERY) {
        let before: Delivery = serde_json::from_str(text).ok()?;
        let nowhere = Delivery {
            attempt: before.attempt,
            cluster: String::new(),
            cluster_uid: String::new(),
            copy: None,
            moved: Some(why.to_owned()),
        };
        operations.push(add(&["metadata", "annotations", names::DELIVERY], json!(to_text(&nowhere))));
    }
    // What was wished of the run that is lost is not wished of the next one.
    if let Some(last) = annotations.get(names::INTENTS).and_then(|text| intents::read(text).last().map(|i| i.id)) {
        operations.push(add(&["metadata", "annotations", names::INTENTS_DONE], json!(last.to_string())));
    }
    // The next cluster's locks are what that one makes of the template.
    if annotations.contains_key(names::STORED_SYNCHRONIZATION) {
        operations.push(remove(&["metadata", "annotations", names::STORED_SYNCHRONIZATION]));
    }
    for label in [names::ARGO_PHASE, names::ARGO_COMPLETED] {
        if original.labels().contains_key(label) {
            operations.push(remove(&["metadata", "labels", label]));
        }
    }
    Some(operations)
}

/// The stored template stays, or the control cluster's controller would look for it.
fn begun_anew(original: &SyncView, why: &str) -> Map<String, Value> {
    let before: Option<Map<String, Value>> = original.status.as_ref().and_then(|s| serde_json::from_str(s.get()).ok());
    let mut status = Map::from_iter([
        ("phase".to_owned(), json!("Pending")),
        ("message".to_owned(), json!(format!("waits for another cluster: {why}"))),
    ]);
    status.extend(
        before.and_then(|mut before| before.remove(STORED_SPEC)).map(|stored| (STORED_SPEC.to_owned(), stored)),
    );
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Value {
        json!({
            "metadata": {
                "name": "w", "namespace": "n", "uid": "u",
                "labels": {names::CLUSTER: "c1", names::ARGO_PHASE: "Running", names::ARGO_COMPLETED: "false"},
                "annotations": {
                    names::PLACEMENT: r#"{"time":"t","cluster":"c1","rule":"namespace","reason":"then"}"#,
                    names::DELIVERY: r#"{"attempt":1,"cluster":"c1","clusterUid":"k","copy":"c"}"#,
                    names::INTENTS: r#"[{"id":3,"kind":"nodes","nodes":{}}]"#,
                },
            },
            "spec": {"suspend": true},
            "status": {"phase": "Running", "nodes": {"w": {}}, "storedWorkflowTemplateSpec": {"entrypoint": "e"}},
        })
    }

    fn operations(original: &Value) -> Option<Vec<PatchOperation>> {
        let view: SyncView = serde_json::from_str(&original.to_string()).unwrap();
        moved(&view, "c1", "lost", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn it_waits_as_if_it_had_never_run_but_goes_on_counting() {
        let mut object = original();
        let operations = operations(&object).unwrap();
        json_patch::patch(&mut object, &operations).unwrap();
        assert_eq!(
            object["status"],
            json!({
                "phase": "Pending", "message": "waits for another cluster: lost",
                "storedWorkflowTemplateSpec": {"entrypoint": "e"}
            })
        );
        assert_eq!(object["metadata"]["labels"], json!({names::CLUSTER: ""}));
        let annotation = |name: &str| object["metadata"]["annotations"][name].as_str().unwrap().to_owned();
        assert_eq!(annotation(names::DELIVERY), r#"{"attempt":1,"cluster":"","clusterUid":"","moved":"lost"}"#);
        assert_eq!(annotation(names::INTENTS_DONE), "3");
        assert!(annotation(names::PLACEMENT).starts_with(r#"{"time":"1970-01-01T00:00:00Z","cluster":"""#));
    }

    #[test]
    fn what_is_being_stopped_or_was_moved_already_stays() {
        let mut stopped = original();
        stopped["spec"]["shutdown"] = json!("Stop");
        assert_eq!(operations(&stopped), None);
        let mut elsewhere = original();
        elsewhere["metadata"]["labels"][names::CLUSTER] = json!("c2");
        assert_eq!(operations(&elsewhere), None);
    }

    #[test]
    fn a_cluster_is_lost_once_the_rules_time_is_over() {
        let annotations = [(names::CLUSTERS, "*"), (names::LOST_CLUSTER, "Reschedule"), (names::LOST_AFTER, "1m")];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let mut rule = Rule::from_namespace("n", &annotations).unwrap().unwrap();
        let due = |rule: &Rule, seconds| is_due(rule, "c1", Duration::from_secs(seconds));
        assert_eq!(due(&rule, 59), None);
        assert_eq!(due(&rule, 61).as_deref(), Some("cluster c1 has not answered for 1m 1s"));
        rule.lost_cluster = LostCluster::Wait;
        assert_eq!(due(&rule, 61), None);
    }
}
