//! The commands on workflows in the archive, which need argo-server and a database.

use anyhow::{Context, Result, ensure};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::outcome::outcome;
use super::scripts::{argo, began, created, ended, gone_everywhere};
use super::shapes::failing;
use super::{Verb, verb};
use crate::world::{World, uid, wait_for};

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!("argo archive list, get", look),
        verb!("argo archive retry", retry),
        verb!("argo archive retry --restart-successful", restart_successful),
        verb!("argo archive resubmit", resubmit),
        verb!("argo archive resubmit --memoized", resubmit_memoized),
        verb!("argo archive delete", delete),
    ]
}

const STATE: &str = "workflows.argoproj.io/workflow-archiving-status";

/// `argo archive VERB -n NAMESPACE …` by way of argo-server; what it printed.
async fn archive(world: &World, namespace: &str, args: &[&str]) -> Result<String> {
    let url = world.testbed.argo_server()?.context("the testbed has no argo-server")?;
    let server = url.trim_start_matches("http://");
    let account = ["create", "token", "argo-server", "-n", "argo"];
    let token = format!("Bearer {}", world.run("kubectl", &account, "").await?);
    let by = ["-n", namespace, "--argo-server", server, "--secure=false", "--token", &token];
    world.run("argo", &[&["archive"], args, &by].concat(), "").await
}

/// A workflow in the archive.
async fn archived(world: &World, namespace: &str, uid: &str) -> Result<DynamicObject> {
    let shown = archive(world, namespace, &["get", uid, "-o", "json"]).await?;
    serde_json::from_str(&shown).with_context(|| shown)
}

/// Lets a workflow fail, and waits until it is in the archive; answers its name and UID.
async fn failed(world: &World, namespace: &str) -> Result<(String, String)> {
    let name = created(world, namespace, &failing()).await?;
    ended(world, namespace, &name).await?;
    let uid = wait_for(&format!("{namespace}/{name} to be archived"), || async {
        let object = world.originals(namespace).get(&name).await?;
        let state = object.labels().get(STATE).map_or("without the label", String::as_str).to_owned();
        Ok(if state == "Archived" { Ok(uid(&object)) } else { Err(format!("it is {state}")) })
    })
    .await?;
    Ok((name, uid))
}

async fn look(world: World, namespace: String) -> Result<String> {
    let (name, uid) = failed(&world, &namespace).await?;
    let listed: Value = serde_json::from_str(&archive(&world, &namespace, &["list", "-o", "json"]).await?)?;
    let listed = listed.as_array().into_iter().flatten().filter(|one| one["metadata"]["name"] == name.as_str());
    let listed: Vec<&str> = listed.map(|one| one["status"]["phase"].as_str().unwrap_or_default()).collect();
    Ok(format!("listed: {}; got: {}", listed.join(", "), outcome(&archived(&world, &namespace, &uid).await?)))
}

/// Retries a workflow that is in the archive only; tells what came of it and which pods ran again.
async fn retried(world: &World, namespace: &str, args: &[&str]) -> Result<String> {
    let (name, uid) = failed(world, namespace).await?;
    argo(world, namespace, &["delete", &name], "").await?;
    gone_everywhere(world, namespace, &name).await?;
    let before = archived(world, namespace, &uid).await?;
    // Times count in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    archive(world, namespace, &[&["retry", &uid], args].concat()).await?;
    let mut seen = ended(world, namespace, &name).await?;
    let after = world.originals(namespace).get(&name).await?;
    ensure!(self::uid(&after) != uid, "it has the UID of the one in the archive");
    for node in ["first", "second"] {
        seen.push_str(if began(&before, node) == began(&after, node) { "; kept: " } else { "; ran again: " });
        seen.push_str(node);
    }
    // What of it ran is what has pods: none of what was kept.
    let mut pods = Vec::new();
    for client in std::iter::once(&world.control).chain(&world.wecs) {
        pods.extend(world.pods(client, namespace, &name).await?);
    }
    Ok(format!("{seen}; pods: {}", pods.len()))
}

async fn retry(world: World, namespace: String) -> Result<String> {
    retried(&world, &namespace, &[]).await
}

async fn restart_successful(world: World, namespace: String) -> Result<String> {
    let select = ["--restart-successful", "--node-field-selector", "displayName=first", "-p", "code=0"];
    retried(&world, &namespace, &select).await
}

/// Resubmits a workflow that is in the archive.
async fn again(world: &World, namespace: &str, args: &[&str]) -> Result<String> {
    let (name, uid) = failed(world, namespace).await?;
    let shown = archive(world, namespace, &[&["resubmit", &uid, "-o", "json"], args].concat()).await?;
    let again: DynamicObject = serde_json::from_str(&shown).with_context(|| shown.clone())?;
    ensure!(again.name_any() != name, "it has the same name");
    ended(world, namespace, &again.name_any()).await
}

async fn resubmit(world: World, namespace: String) -> Result<String> {
    again(&world, &namespace, &["-p", "code=0"]).await
}

async fn resubmit_memoized(world: World, namespace: String) -> Result<String> {
    again(&world, &namespace, &["--memoized"]).await
}

async fn delete(world: World, namespace: String) -> Result<String> {
    let (name, uid) = failed(&world, &namespace).await?;
    archive(&world, &namespace, &["delete", &uid]).await?;
    let left = archived(&world, &namespace, &uid).await;
    let original: Api<DynamicObject> = world.originals(&namespace);
    let kept = if original.get_opt(&name).await?.is_some() { "the workflow stays" } else { "the workflow went, too" };
    Ok(format!("{}; {kept}", if left.is_err() { "out of the archive" } else { "still in the archive" }))
}
