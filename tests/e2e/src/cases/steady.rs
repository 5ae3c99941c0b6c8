//! The step that is longer than Argo's patience: what the original shows while it runs, and what that costs.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{Stream, StreamExt};
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{World, labelled, sleeping, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![case!("a step of 30 s never shows an error, and costs one write per change", long_step)]
}

async fn long_step(world: World) -> Result<()> {
    let workflow = labelled(sleeping("long-step", 30), json!({"kubestellar.io/cluster": "cluster1"}));
    let name = world.create("default", &workflow).await?;
    let originals = tokio::spawn(versions(world.originals("default"), name.clone()));
    let copies = tokio::spawn(versions(workflows(&world.wecs[0], "default"), name.clone()));
    let mut phases = BTreeSet::new();
    let mut samples = tokio::time::interval(Duration::from_millis(200));
    loop {
        samples.tick().await;
        let object = world.originals("default").get(&name).await?;
        let nodes = object.data["status"]["nodes"].as_object();
        phases.extend(nodes.into_iter().flat_map(|n| n.values()).map(|n| n["phase"].as_str().unwrap_or("").to_owned()));
        if object.labels().get("workflows.argoproj.io/completed").is_some_and(|done| done == "true") {
            break;
        }
    }
    let allowed = ["Pending", "Running", "Succeeded"].map(String::from);
    ensure!(phases.iter().all(|phase| allowed.contains(phase)), "its nodes showed {phases:?}");
    ensure!(phases.contains("Running"), "its node was never seen running: {phases:?}");

    let (originals, copies) = (originals.await??, copies.await??);
    let writes = originals.len() - 1;
    let mut statuses: Vec<&Value> =
        copies.iter().map(|object| &object.data["status"]).filter(|s| !s.is_null()).collect();
    statuses.dedup();
    let changes = statuses.len();
    ensure!(writes <= changes + 1, "{writes} writes to the original for {changes} changes of the copy's status");
    Ok(())
}

/// Every version of a workflow until it is completed.
pub(super) async fn versions(api: Api<DynamicObject>, name: String) -> Result<Vec<DynamicObject>> {
    versions_until(api, name, |workflow| {
        workflow.labels().get("workflows.argoproj.io/completed").is_some_and(|done| done == "true")
    })
    .await
}

/// Every version of an object until one is the last.
pub(super) async fn versions_until(
    api: Api<DynamicObject>,
    name: String,
    is_last: impl Fn(&DynamicObject) -> bool,
) -> Result<Vec<DynamicObject>> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    let mut seen: Vec<DynamicObject> = Vec::new();
    while let Some(object) = next(&mut events).await? {
        if seen.last().is_none_or(|last| last.resource_version() != object.resource_version()) {
            seen.push(object);
        }
        if seen.last().is_some_and(&is_last) {
            break;
        }
    }
    Ok(seen)
}

async fn next(
    events: &mut (impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + Unpin),
) -> Result<Option<DynamicObject>> {
    while let Some(event) = events.next().await {
        if let Event::Apply(object) | Event::InitApply(object) = event? {
            return Ok(Some(object));
        }
    }
    Ok(None)
}
