//! Ending workflows that have not come to run: a local one because its pod is held back, a routed one because no cluster
//! fits, or because something is missing that it refers to.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::shapes::one;
use super::side::Side;
use super::{Verb, verb};
use crate::world::wait_for;

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!(Argo, "argo stop, before it has come to run", stop),
        verb!(Argo, "argo terminate, before it has come to run", terminate),
        verb!(Field, "activeDeadlineSeconds, over before it has come to run", deadline),
    ]
}

/// What keeps a workflow from coming to run.
fn obstacles(side: &Side) -> Vec<(Side, Value)> {
    let workflow = one("100ms");
    if !side.is_routed {
        let mut held = workflow;
        let gate = json!({"schedulingGates": [{"name": "e2e.argosy.dev/held"}]});
        held["spec"]["podSpecPatch"] = json!(gate.to_string());
        return vec![(side.clone(), held)];
    }
    let mut incomplete = workflow.clone();
    let nowhere = json!([{"name": "nowhere", "configMap": {"name": "nowhere"}}]);
    incomplete["spec"]["volumes"] = nowhere;
    vec![(side.clone(), incomplete), (side.waiting(), workflow)]
}

/// Lets one wait for each obstacle, and ends it; how it ended, which is the same for all.
async fn ended(side: Side, change: fn(&mut Value), end: Option<&str>) -> Result<String> {
    let each = obstacles(&side).into_iter().map(|(side, mut workflow)| async move {
        change(&mut workflow);
        let name = side.world.create(side.namespace, &workflow).await?;
        if let Some(verb) = end {
            side.seen(&name, |object| is_waiting(&side, &object.data["status"])).await?;
            side.argo(&[verb, &name], "").await?;
        }
        if end.is_none() && !side.is_routed {
            nudge(&side, &name).await?;
        }
        how(&side, &name).await.with_context(|| side.namespace)
    });
    let mut all = try_join_all(each).await?;
    all.dedup();
    Ok(all.join(", or "))
}

fn is_waiting(side: &Side, status: &Value) -> bool {
    let says = |what: &str| status["message"].as_str().is_some_and(|message| message.starts_with(what));
    match side.is_routed {
        true => status["phase"] == "Pending" && says("waits for "),
        false => {
            let nodes = status["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values());
            nodes.clone().count() > 0 && nodes.clone().all(|node| node["phase"] == "Pending")
        }
    }
}

/// Argo does not look by itself at a workflow whose only pod waits when its time is over; it does when something changes.
async fn nudge(side: &Side, name: &str) -> Result<()> {
    let mut count = 0;
    wait_for(&format!("{name} to be over its time"), || {
        count += 1;
        let patch = json!({"metadata": {"annotations": {"nudge": count.to_string()}}});
        async move {
            let api = side.world.originals(side.namespace);
            let object = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            let phase = object.data["status"]["phase"].to_string();
            Ok(if object.data["status"]["finishedAt"].is_string() { Ok(()) } else { Err(phase) })
        }
    })
    .await
}

/// Phase and message at the end; labels and times must be those of a workflow that has ended.
async fn how(side: &Side, name: &str) -> Result<String> {
    let seen = side.ended(name).await?;
    let object = side.get(name).await?;
    let status = &object.data["status"];
    ensure!(
        object.labels().get("workflows.argoproj.io/phase").map(String::as_str) == status["phase"].as_str(),
        "its label"
    );
    let (started, finished) = (status["startedAt"].as_str(), status["finishedAt"].as_str());
    // RFC 3339 in UTC sorts as text.
    ensure!(started.is_some() && started <= finished, "it began at {started:?} and ended at {finished:?}");
    let pods = side.pods(name).await?;
    let is_over = |phase: Option<&str>| matches!(phase, Some("Succeeded" | "Failed"));
    let left = pods.iter().filter(|(_, pod)| !is_over(pod.status.as_ref().and_then(|status| status.phase.as_deref())));
    let left = left.filter(|(_, pod)| pod.metadata.deletion_timestamp.is_none()).count();
    ensure!(!side.is_routed || left == 0, "{left} pods of it are left");
    Ok(seen.split(';').next().unwrap_or_default().to_owned())
}

async fn stop(side: Side) -> Result<String> {
    ended(side, |_| (), Some("stop")).await
}

async fn terminate(side: Side) -> Result<String> {
    ended(side, |_| (), Some("terminate")).await
}

async fn deadline(side: Side) -> Result<String> {
    ended(side, |workflow| workflow["spec"]["activeDeadlineSeconds"] = json!(3), None).await
}
