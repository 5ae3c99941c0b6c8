//! A routed workflow's life, apart from the demonstration's: deletion, stop, names that are taken, copies that vanish.

use anyhow::{Result, ensure};
use argosy_api::WorkloadCluster;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Case, case};
use crate::world::{World, labelled, sleeping, uid, wait_for, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("kubectl delete takes the copy and its pods along", delete),
        case!("argo stop and argo terminate reach the copy", stop),
        case!("a stranger of the same name is left alone, and the original says so", stranger),
        case!("two WorkloadClusters that lead to one cluster leave each other's copies alone", second_way),
        case!("a copy deleted in its cluster ends the original with an error", copy_deleted),
        case!("the copy is released when it is done, and carries its origin", released),
        case!("a workflow that the rule does not select runs here, stamped", not_selected),
        case!("a namespace is ruled as soon as it says so", at_once),
    ]
}

const CLUSTER1: &str = "kubestellar.io/cluster";

async fn running(world: &World, name: &str, seconds: u32) -> Result<String> {
    let workflow = labelled(sleeping(name, seconds), json!({CLUSTER1: "cluster1"}));
    let name = world.create("default", &workflow).await?;
    world.phase("default", &name, "Running").await?;
    Ok(name)
}

async fn delete(world: World) -> Result<()> {
    let name = running(&world, "delete", 300).await?;
    let copies = workflows(&world.wecs[0], "default");
    world.presence(&copies, &name, true).await?;
    world.run("kubectl", &["delete", "wf", "-n", "default", &name], "").await?;
    world.presence(&copies, &name, false).await?;
    wait_for("its pods to be gone", || async {
        let pods = world.pods(&world.wecs[0], "default", &name).await?;
        Ok(if pods.is_empty() { Ok(()) } else { Err(format!("{} left", pods.len())) })
    })
    .await
}

async fn stop(world: World) -> Result<()> {
    for verb in ["stop", "terminate"] {
        let name = running(&world, verb, 300).await?;
        world.run("argo", &[verb, "-n", "default", &name], "").await?;
        let ended = world.phase("default", &name, "Failed").await?;
        let message = ended.data["status"]["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.to_lowercase().contains(verb), "{verb}: its message is {message:?}");
    }
    Ok(())
}

async fn stranger(world: World) -> Result<()> {
    let mut stranger = sleeping("stranger", 1);
    stranger["metadata"] = json!({"name": "stranger"});
    stranger["spec"]["suspend"] = json!(true);
    let before = world.put_beside(&world.wecs[0], "default", stranger.clone()).await?;
    let mut ours = sleeping("stranger", 1);
    ours["metadata"] = json!({"name": "stranger", "labels": {CLUSTER1: "cluster1"}});
    world.create("default", &ours).await?;
    let ended = world.phase("default", "stranger", "Error").await?;
    let message = ended.data["status"]["message"].as_str().unwrap_or_default().to_owned();
    ensure!(message.contains("not from here") && message.contains("cluster1"), "its message is {message:?}");
    world.run("kubectl", &["delete", "wf", "-n", "default", "stranger"], "").await?;
    let after = workflows(&world.wecs[0], "default").get("stranger").await?;
    ensure!(uid(&after) == uid(&before) && after.metadata.deletion_timestamp.is_none(), "the stranger was deleted");
    let marks = after.labels().keys().chain(after.annotations().keys()).chain(after.finalizers());
    let marks: Vec<&String> = marks.filter(|mark| mark.starts_with("argosy.dev/")).collect();
    ensure!(marks.is_empty(), "the stranger was given {marks:?}");
    Ok(())
}

async fn second_way(world: World) -> Result<()> {
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let name = running(&world, "second-way", 20).await?;
    let cluster = json!({
        "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster", "metadata": {"name": "second-way"},
        "spec": {"kubeconfigSecret": {"name": "cluster1-kubeconfig"}, "namespaces": ["*"]},
    });
    clusters.patch("second-way", &PatchParams::apply("e2e").force(), &Patch::Apply(&cluster)).await?;
    let ran = async {
        let through = labelled(sleeping("through", 1), json!({CLUSTER1: "second-way"}));
        let through = wait_for("the second way to be ready", || async {
            Ok(world.create("default", &through).await.map_err(|error| error.to_string()))
        })
        .await?;
        world.phase("default", &through, "Succeeded").await?;
        world.phase("default", &name, "Succeeded").await
    }
    .await;
    clusters.delete("second-way", &DeleteParams::default()).await?;
    ran.map(drop)
}

async fn copy_deleted(world: World) -> Result<()> {
    let name = running(&world, "copy-deleted", 300).await?;
    workflows(&world.wecs[0], "default").delete(&name, &DeleteParams::background()).await?;
    let ended = world.phase("default", &name, "Error").await?;
    let message = ended.data["status"]["message"].as_str().unwrap_or_default().to_owned();
    ensure!(message.contains("deleted in cluster cluster1"), "its message is {message:?}");
    ensure!(ended.labels()["workflows.argoproj.io/completed"] == "true", "it is not labelled completed");
    Ok(())
}

async fn released(world: World) -> Result<()> {
    let workflow = labelled(sleeping("released", 1), json!({CLUSTER1: "cluster1"}));
    let name = world.create("default", &workflow).await?;
    let original = world.phase("default", &name, "Succeeded").await?;
    let copies = workflows(&world.wecs[0], "default");
    let copy = wait_for("the finalizer to be gone", || async {
        let copy = copies.get(&name).await?;
        Ok(if copy.finalizers().is_empty() { Ok(copy) } else { Err("not yet".to_owned()) })
    })
    .await?;
    ensure!(copy.labels()["argosy.dev/origin"] == uid(&original), "the copy does not name its origin");
    ensure!(copy.data["spec"].get("suspend").is_none(), "the copy's spec has suspend");
    ensure!(original.data["spec"]["suspend"] == true, "the original is not suspended");
    Ok(())
}

async fn not_selected(world: World) -> Result<()> {
    let rule = json!({"argosy.dev/clusters": "name=cluster1", "argosy.dev/workflows": "tier=gold"});
    world.namespace("selective", rule).await?;
    let here = world.create("selective", &sleeping("here", 1)).await?;
    let there = world.create("selective", &labelled(sleeping("there", 1), json!({"tier": "gold"}))).await?;
    let here = world.phase("selective", &here, "Succeeded").await?;
    ensure!(!here.labels().contains_key(CLUSTER1), "it was labelled");
    ensure!(here.annotations()["argosy.dev/placement"].contains("tier=gold"), "it does not say why it runs here");
    let there = world.phase("selective", &there, "Succeeded").await?;
    ensure!(there.labels()[CLUSTER1] == "cluster1", "it was not routed");
    Ok(())
}

async fn at_once(world: World) -> Result<()> {
    // As `kubectl apply -f` of one file would.
    world.namespace("at-once", json!({"argosy.dev/clusters": "name=cluster2"})).await?;
    let name = world.create("at-once", &sleeping("at-once", 1)).await?;
    let original = world.phase("at-once", &name, "Succeeded").await?;
    ensure!(original.labels()[CLUSTER1] == "cluster2", "it was not routed by the rule");
    Ok(())
}
