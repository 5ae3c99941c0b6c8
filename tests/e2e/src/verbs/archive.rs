//! The commands on workflows in the archive, which need argo-server and a database.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

use super::outcome::outcome;
use super::shapes::failing;
use super::side::{Side, node_of};
use super::{Verb, verb};
use crate::world::{uid, wait_for};

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!(Served, "argo archive list, get", look),
        verb!(Served, "argo archive retry", retry),
        verb!(Served, "argo archive retry --restart-successful", restart_successful),
        verb!(Served, "argo archive resubmit", resubmit),
        verb!(Served, "argo archive resubmit --memoized", resubmit_memoized),
        verb!(Served, "argo archive delete", delete),
    ]
}

const STATE: &str = "workflows.argoproj.io/workflow-archiving-status";

/// `argo archive VERB …`; what it printed.
async fn archive(side: &Side, args: &[&str]) -> Result<String> {
    side.argo(&[&["archive"], args].concat(), "").await
}

/// A workflow in the archive.
async fn archived(side: &Side, uid: &str) -> Result<DynamicObject> {
    let shown = archive(side, &["get", uid, "-o", "json"]).await?;
    serde_json::from_str(&shown).with_context(|| shown)
}

/// Lets a workflow fail, and waits until it is in the archive; answers its name and UID.
async fn failed(side: &Side) -> Result<(String, String)> {
    let name = side.created(&failing()).await?;
    side.ended(&name).await?;
    let uid = wait_for(&format!("{name} to be archived"), || async {
        let object = side.get(&name).await?;
        let state = object.labels().get(STATE).map_or("without the label", String::as_str).to_owned();
        Ok(if state == "Archived" { Ok(uid(&object)) } else { Err(format!("it is {state}")) })
    })
    .await?;
    Ok((name, uid))
}

async fn look(side: Side) -> Result<String> {
    let (name, uid) = failed(&side).await?;
    let listed: Value = serde_json::from_str(&archive(&side, &["list", "-o", "json"]).await?)?;
    let listed = listed.as_array().into_iter().flatten().filter(|one| one["metadata"]["name"] == name.as_str());
    let listed: Vec<&str> = listed.map(|one| one["status"]["phase"].as_str().unwrap_or_default()).collect();
    Ok(format!("listed: {}; got: {}", listed.join(", "), outcome(&archived(&side, &uid).await?)))
}

/// Retries a workflow that is in the archive only; tells what came of it and which pods ran again.
async fn retried(side: &Side, args: &[&str]) -> Result<String> {
    let (name, uid) = failed(side).await?;
    side.argo(&["delete", &name], "").await?;
    side.gone(&name).await?;
    let before = archived(side, &uid).await?;
    // Times count in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    archive(side, &[&["retry", &uid], args].concat()).await?;
    let mut seen = side.ended(&name).await?;
    let after = side.get(&name).await?;
    ensure!(self::uid(&after) != uid, "it has the UID of the one in the archive");
    for node in ["first", "second"] {
        let began = |object| node_of(object, node).map(|node| node["startedAt"].clone());
        seen.push_str(if began(&before) == began(&after) { "; kept: " } else { "; ran again: " });
        seen.push_str(node);
    }
    // What of it ran is what has pods: none of what was kept.
    Ok(format!("{seen}; pods: {}", side.pods(&name).await?.len()))
}

async fn retry(side: Side) -> Result<String> {
    retried(&side, &[]).await
}

async fn restart_successful(side: Side) -> Result<String> {
    let select = ["--restart-successful", "--node-field-selector", "displayName=first", "-p", "code=0"];
    retried(&side, &select).await
}

/// Resubmits a workflow that is in the archive.
async fn again(side: &Side, args: &[&str]) -> Result<String> {
    let (name, uid) = failed(side).await?;
    let shown = archive(side, &[&["resubmit", &uid, "-o", "json"], args].concat()).await?;
    let again: DynamicObject = serde_json::from_str(&shown).with_context(|| shown.clone())?;
    ensure!(again.name_any() != name, "it has the same name");
    side.ended(&again.name_any()).await
}

async fn resubmit(side: Side) -> Result<String> {
    again(&side, &["-p", "code=0"]).await
}

async fn resubmit_memoized(side: Side) -> Result<String> {
    again(&side, &["--memoized"]).await
}

async fn delete(side: Side) -> Result<String> {
    let (name, uid) = failed(&side).await?;
    archive(&side, &["delete", &uid]).await?;
    let left = archived(&side, &uid).await;
    let originals = side.world.originals(side.namespace);
    let kept = if originals.get_opt(&name).await?.is_some() { "the workflow stays" } else { "the workflow went, too" };
    Ok(format!("{}; {kept}", if left.is_err() { "out of the archive" } else { "still in the archive" }))
}
