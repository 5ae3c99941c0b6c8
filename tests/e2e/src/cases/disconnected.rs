//! What users do while a workload cluster does not answer.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use testbed::{argosy, process};

use super::{Case, case};
use crate::verbs::shapes::gated;
use crate::world::{World, sleeping, wait_for, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![case!("what argo does while the cluster hangs is done at once here, and there when it is back", hangs)]
}

const NAMESPACE: &str = "disconnected";
const CLUSTER: &str = "cluster1";
const API_SERVER: &str = "kube-apiserver";

async fn hangs(world: World) -> Result<()> {
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
    let mut names = Vec::new();
    for workflow in [sleeping("deleted", 300), sleeping("stopped", 300), gated()] {
        names.push(world.create(NAMESPACE, &workflow).await?);
    }
    for name in &names {
        world.phase(NAMESPACE, name, "Running").await?;
    }
    let [deleted, stopped, resumed] = &names[..] else { anyhow::bail!("three workflows") };
    wait_for("the gate", || async {
        let status = world.originals(NAMESPACE).get(resumed).await?.data["status"].take();
        let mut nodes = status["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values());
        Ok(if nodes.any(|node| node["type"] == "Suspend") { Ok(()) } else { Err(status.to_string()) })
    })
    .await?;
    let layout = &world.testbed.layout;
    ensure!(process::freeze(layout, CLUSTER, API_SERVER), "it has no API server");
    let tried = meanwhile(&world, deleted, stopped, resumed).await;
    process::thaw(layout, CLUSTER, API_SERVER);
    tried?;
    world.presence(&workflows(&world.wecs[0], NAMESPACE), deleted, false).await?;
    world.pods_gone(&world.wecs[0], NAMESPACE, deleted).await?;
    world.phase(NAMESPACE, stopped, "Failed").await?;
    world.phase(NAMESPACE, resumed, "Succeeded").await?;
    let here = world.originals(NAMESPACE).list_metadata(&ListParams::default()).await?;
    ensure!(here.items.iter().all(|left| left.name_any() != *deleted), "the original came back");
    Ok(())
}

async fn meanwhile(world: &World, deleted: &str, stopped: &str, resumed: &str) -> Result<()> {
    let before = failures(world).await?;
    for (verb, name) in [("delete", deleted), ("stop", stopped), ("resume", resumed)] {
        world.run("argo", &[verb, "-n", NAMESPACE, name], "").await.with_context(|| verb)?;
    }
    let originals = world.originals(NAMESPACE);
    ensure!(originals.get_opt(deleted).await?.is_none(), "the original is still there");
    // The syncer has tried, and was not answered.
    wait_for("a step that failed", || async {
        let now = failures(world).await?;
        Ok(if now > before { Ok(()) } else { Err(format!("as many as before: {now}")) })
    })
    .await?;
    for (name, note) in [(stopped, false), (resumed, true)] {
        let original = originals.get(name).await?;
        ensure!(original.data["status"]["phase"] == "Running", "{name} shows what nobody knows yet");
        ensure!(original.annotations().contains_key("argosy.dev/intents") == note, "what is pending on {name}");
    }
    Ok(())
}

/// How often a write to the cluster was not answered.
async fn failures(world: &World) -> Result<u64> {
    let metrics = world.ask(argosy::SYNCER, "/metrics").await?;
    let of_it = |line: &&str| {
        line.starts_with("argosy_syncer_step_failures") && line.contains(CLUSTER) && line.contains("write_copy")
    };
    let counts = metrics.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}
