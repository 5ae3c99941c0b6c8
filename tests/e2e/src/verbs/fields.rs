//! What workflows ask for themselves. A routed one gets it in its cluster, and none of it in the control cluster.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::shapes::{failing, gated, one};
use super::side::{ITSELF, Side, phase_of};
use super::{Verb, verb};
use crate::world::{put, wait_for};

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!(Field, "ttlStrategy", ttl),
        verb!(Field, "podGC: OnPodCompletion", pods_at_once),
        verb!(Field, "podGC: OnWorkflowSuccess", pods_after_success),
        verb!(Field, "synchronization.mutexes", mutex),
        verb!(Field, "synchronization.semaphores", semaphore),
        verb!(Field, "podDisruptionBudget", disruption_budget),
        verb!(Field, "metrics, and artifactGC until argo delete", metrics_and_artifacts),
    ]
}

/// The workflow with more in its spec.
fn with(mut workflow: Value, more: Value) -> Value {
    let (spec, more) = (workflow["spec"].as_object_mut(), more.as_object());
    if let (Some(spec), Some(more)) = (spec, more) {
        spec.extend(more.clone());
    }
    workflow
}

async fn ttl(side: Side) -> Result<String> {
    let strategy = json!({"ttlStrategy": {"secondsAfterSuccess": 4, "secondsAfterFailure": 600}});
    let failed = side.created(&with(failing(), strategy.clone())).await?;
    side.ended(&failed).await?;
    let name = side.created(&with(one("100ms"), strategy)).await?;
    let seen = side.ended(&name).await?;
    side.gone(&name).await?;
    side.get(&failed).await.context("the one that failed")?;
    side.pod_count(&failed, 2).await.context("the one that failed")?;
    Ok(format!("{seen}; after its time gone, and its pods"))
}

async fn pods_at_once(side: Side) -> Result<String> {
    let strategy = json!({"podGC": {"strategy": "OnPodCompletion", "deleteDelayDuration": "0s"}});
    let name = side.running(&with(gated(), strategy), "gate").await?;
    side.pod_count(&name, 0).await?;
    side.argo(&["resume", &name], "").await?;
    let seen = side.ended(&name).await?;
    side.pod_count(&name, 0).await?;
    Ok(format!("each pod goes as it ends; {seen}"))
}

async fn pods_after_success(side: Side) -> Result<String> {
    let strategy = json!({"podGC": {"strategy": "OnWorkflowSuccess", "deleteDelayDuration": "0s"}});
    let failed = side.created(&with(failing(), strategy.clone())).await?;
    side.ended(&failed).await?;
    let name = side.running(&with(gated(), strategy), "gate").await?;
    side.pod_count(&name, 1).await?;
    side.argo(&["resume", &name], "").await?;
    let seen = side.ended(&name).await?;
    side.pod_count(&name, 0).await?;
    side.pod_count(&failed, 2).await.context("the one that failed")?;
    Ok(format!("pods go when all has succeeded, and stay when it has failed; {seen}"))
}

/// Two workflows that take the same lock, both in one cluster: locks are a controller's own.
async fn in_turn(side: &Side, lock: Value) -> Result<String> {
    let mut asks = with(one("300s"), json!({"synchronization": lock}));
    if side.is_routed {
        asks["metadata"]["labels"] = json!({"kubestellar.io/cluster": "cluster1"});
    }
    let first = side.running(&asks, ITSELF).await?;
    let second = side.created(&asks).await?;
    let is_waiting = |object: &DynamicObject| {
        let message = object.data["status"]["message"].as_str().unwrap_or_default();
        object.data["status"]["phase"] == "Pending" && message.starts_with("Waiting for ")
    };
    let waits = side.seen(&second, is_waiting).await?;
    ensure!(side.pods(&second).await?.is_empty(), "both ran at once");
    side.finish(&first).await?;
    let seen = side.ended(&first).await?;
    side.seen(&second, |object| phase_of(object, ITSELF) == "Running").await?;
    side.finish(&second).await?;
    ensure!(side.ended(&second).await? == seen, "the second ended otherwise than the first");
    Ok(format!("the second is {waits}, then runs: {seen}"))
}

async fn mutex(side: Side) -> Result<String> {
    in_turn(&side, json!({"mutexes": [{"name": "turn"}]})).await
}

async fn semaphore(side: Side) -> Result<String> {
    let one_at_a_time =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "turns"}, "data": {"limit": "1"}});
    put(&side.world.control, side.namespace, one_at_a_time).await?;
    in_turn(&side, json!({"semaphores": [{"configMapKeyRef": {"name": "turns", "key": "limit"}}]})).await
}

async fn disruption_budget(side: Side) -> Result<String> {
    let name = side.running(&with(one("300s"), json!({"podDisruptionBudget": {"minAvailable": 1}})), ITSELF).await?;
    let budgets: Vec<Api<PodDisruptionBudget>> =
        side.clusters().iter().map(|client| Api::namespaced(client.clone(), side.namespace)).collect();
    for wanted in [1, 0] {
        if wanted == 0 {
            if side.is_routed {
                let control: Api<PodDisruptionBudget> = Api::namespaced(side.world.control.clone(), side.namespace);
                ensure!(control.get_opt(&name).await?.is_none(), "there is one in the control cluster, too");
            }
            side.finish(&name).await?;
            side.ended(&name).await?;
        }
        wait_for(&format!("{wanted} PodDisruptionBudgets"), || async {
            let mut found = 0;
            for budgets in &budgets {
                found += usize::from(budgets.get_opt(&name).await?.is_some());
            }
            Ok(if found == wanted { Ok(()) } else { Err(format!("there are {found}")) })
        })
        .await?;
    }
    Ok("a PodDisruptionBudget where it runs, as long as it does".to_owned())
}

async fn metrics_and_artifacts(side: Side) -> Result<String> {
    let counter = json!({"name": "e2e_ends", "help": "Ends of workflows", "counter": {"value": "1"}});
    let mut workflow = with(
        one("100ms"),
        json!({
            "metrics": {"prometheus": [counter.clone()]},
            "artifactGC": {"strategy": "OnWorkflowDeletion"},
        }),
    );
    let template = &mut workflow["spec"]["templates"][0];
    template["metrics"] = json!({"prometheus": [counter]});
    template["metadata"]["annotations"]["player.argosy.dev/outputs"] = json!(json!({"exitCode": "0"}).to_string());
    // The pod leaves none; Argo keeps the workflow from going all the same, until it has looked.
    let bucket = json!({"endpoint": "nowhere.invalid", "bucket": "b", "key": "k",
        "accessKeySecret": {"name": "keys", "key": "a"}, "secretKeySecret": {"name": "keys", "key": "s"}});
    template["outputs"] = json!({"artifacts": [{"name": "a", "path": "/a", "optional": true, "s3": bucket}]});
    let keys =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"a": "a", "s": "s"}});
    for client in side.clusters() {
        if side.is_routed {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": side.namespace}});
            put(client, "", namespace).await?;
        }
        put(client, side.namespace, keys.clone()).await?;
    }
    let name = side.created(&workflow).await?;
    let seen = side.ended(&name).await?;
    if side.is_routed {
        ensure!(side.get(&name).await?.finalizers().is_empty(), "the original has a finalizer");
    }
    side.argo(&["delete", &name], "").await?;
    side.gone(&name).await?;
    Ok(format!("{seen}; after argo delete gone, and its pods"))
}
