//! What is done with each command.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

use super::outcome::outcome;
use super::shapes::{asks, failing, gated, one, two_gates};
use super::{Verb, verb};
use crate::world::{World, wait_for};

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!("argo submit", submit),
        verb!("argo submit --wait", submit_and_wait),
        verb!("argo list, get, wait, watch", look),
        verb!("argo stop", stop),
        verb!("argo terminate", terminate),
        verb!("argo stop --node-field-selector", stop_a_node),
        verb!("argo resume", resume),
        verb!("argo resume --node-field-selector", resume_a_node),
        verb!("argo node set, then argo resume", set_and_resume),
        verb!("argo retry", retry),
        verb!("argo retry --wait -p, of what fails no more", retry_with_parameter),
        verb!("argo retry --restart-successful", restart_successful),
        verb!("argo resubmit", resubmit),
        verb!("argo resubmit --memoized", resubmit_memoized),
        verb!("argo delete", delete),
        verb!("argo delete --force", delete_by_force),
    ]
}

/// `argo VERB -n NAMESPACE …`; what it printed.
pub(super) async fn argo(world: &World, namespace: &str, args: &[&str], input: &str) -> Result<String> {
    let (verb, rest) = args.split_first().context("a command")?;
    world.run("argo", &[&[*verb, "-n", namespace], rest].concat(), input).await
}

pub(super) async fn created(world: &World, namespace: &str, workflow: &Value) -> Result<String> {
    argo(world, namespace, &["submit", "-o", "name", "/dev/stdin"], &workflow.to_string()).await
}

/// Waits until a workflow has ended, and says how.
pub(super) async fn ended(world: &World, namespace: &str, name: &str) -> Result<String> {
    seen(world, namespace, name, |object| {
        let status = &object.data["status"];
        let is_done = object.labels().get("workflows.argoproj.io/completed").is_some_and(|done| done == "true");
        is_done && status["finishedAt"].is_string()
    })
    .await
}

/// Waits until a workflow is seen so, and says how it is.
async fn seen(world: &World, namespace: &str, name: &str, so: impl Fn(&DynamicObject) -> bool) -> Result<String> {
    wait_for(&format!("{namespace}/{name}"), || async {
        let object = world.originals(namespace).get(name).await?;
        Ok(if so(&object) { Ok(outcome(&object)) } else { Err(outcome(&object)) })
    })
    .await
}

fn phase_of(object: &DynamicObject, node: &str) -> String {
    let nodes = object.data["status"]["nodes"].as_object();
    let found = nodes.into_iter().flat_map(|nodes| nodes.values()).find(|one| one["displayName"] == node);
    found.and_then(|node| node["phase"].as_str()).unwrap_or_default().to_owned()
}

async fn at_gate(world: &World, namespace: &str, workflow: &Value, gate: &str) -> Result<String> {
    let name = created(world, namespace, workflow).await?;
    seen(world, namespace, &name, |object| phase_of(object, gate) == "Running").await?;
    Ok(name)
}

async fn submit(world: World, namespace: String) -> Result<String> {
    let name = created(&world, &namespace, &one("100ms")).await?;
    ended(&world, &namespace, &name).await
}

async fn submit_and_wait(world: World, namespace: String) -> Result<String> {
    let said = argo(&world, &namespace, &["submit", "--wait", "/dev/stdin"], &one("1s").to_string()).await?;
    let last = said.lines().last().unwrap_or_default();
    // "NAME Succeeded at TIME"
    Ok(last.split(' ').nth(1).unwrap_or(last).to_owned())
}

async fn look(world: World, namespace: String) -> Result<String> {
    let name = created(&world, &namespace, &one("2s")).await?;
    let listed = argo(&world, &namespace, &["list", "-o", "name"], "").await?;
    ensure!(listed.lines().any(|line| line == name), "it is not listed: {listed}");
    let waited = argo(&world, &namespace, &["wait", &name], "").await?;
    ensure!(waited.contains("Succeeded"), "argo wait says {waited:?}");
    let watched = argo(&world, &namespace, &["watch", &name], "").await?;
    ensure!(watched.contains("Succeeded"), "argo watch says {watched:?}");
    let got = argo(&world, &namespace, &["get", &name, "-o", "json"], "").await?;
    let got: Value = serde_json::from_str(&got)?;
    Ok(got["status"]["phase"].as_str().unwrap_or_default().to_owned())
}

async fn shut_down(world: World, namespace: String, verb: &str) -> Result<String> {
    let name = created(&world, &namespace, &one("300s")).await?;
    seen(&world, &namespace, &name, |object| phase_of(object, &name) == "Running").await?;
    argo(&world, &namespace, &[verb, &name], "").await?;
    let seen = ended(&world, &namespace, &name).await?;
    // How the pod's end was noticed is a race within Argo itself.
    Ok(seen.split(';').next().unwrap_or_default().to_owned())
}

async fn stop(world: World, namespace: String) -> Result<String> {
    shut_down(world, namespace, "stop").await
}

async fn terminate(world: World, namespace: String) -> Result<String> {
    shut_down(world, namespace, "terminate").await
}

async fn stop_a_node(world: World, namespace: String) -> Result<String> {
    let name = at_gate(&world, &namespace, &gated(), "gate").await?;
    let select = ["stop", &name, "--node-field-selector", "displayName=gate", "--message", "not today"];
    argo(&world, &namespace, &select, "").await?;
    ended(&world, &namespace, &name).await
}

async fn resume(world: World, namespace: String) -> Result<String> {
    let name = at_gate(&world, &namespace, &gated(), "gate").await?;
    argo(&world, &namespace, &["resume", &name], "").await?;
    ended(&world, &namespace, &name).await
}

async fn resume_a_node(world: World, namespace: String) -> Result<String> {
    let name = at_gate(&world, &namespace, &two_gates(), "right").await?;
    let mut steps = Vec::new();
    for gate in ["left", "right"] {
        let select = format!("displayName={gate}");
        argo(&world, &namespace, &["resume", &name, "--node-field-selector", &select], "").await?;
        steps.push(seen(&world, &namespace, &name, |object| phase_of(object, gate) == "Succeeded").await?);
    }
    steps.truncate(1);
    steps.push(ended(&world, &namespace, &name).await?);
    Ok(steps.join(", then "))
}

async fn set_and_resume(world: World, namespace: String) -> Result<String> {
    let name = at_gate(&world, &namespace, &asks(), "gate").await?;
    let select = ["--node-field-selector", "displayName=gate"];
    let set = ["node", "set", &name, "--output-parameter", "answer=42"];
    // The namespace goes behind both words of the command.
    world.run("argo", &[&set[..], &select, &["-n", &namespace]].concat(), "").await?;
    argo(&world, &namespace, &["resume", &name, select[0], select[1]], "").await?;
    ended(&world, &namespace, &name).await
}

/// When a node began, to tell whether it was run again.
async fn started(world: &World, namespace: &str, name: &str, node: &str) -> Result<Value> {
    Ok(began(&world.originals(namespace).get(name).await?, node))
}

/// The same of a workflow that is at hand.
pub(super) fn began(object: &DynamicObject, node: &str) -> Value {
    let nodes = object.data["status"]["nodes"].as_object();
    let found = nodes.into_iter().flat_map(|nodes| nodes.values()).find(|one| one["displayName"] == node);
    found.map(|node| node["startedAt"].clone()).unwrap_or_default()
}

/// Lets a workflow fail and retries it; tells what came of it and which pods ran again.
async fn retried(world: &World, namespace: &str, args: &[&str]) -> Result<String> {
    let name = created(world, namespace, &failing()).await?;
    ended(world, namespace, &name).await?;
    let mut before = Vec::new();
    for node in ["first", "second"] {
        before.push(started(world, namespace, &name, node).await?);
    }
    // Times count in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    argo(world, namespace, &[&["retry", &name], args].concat(), "").await?;
    let mut seen = ended(world, namespace, &name).await?;
    for (node, before) in ["first", "second"].iter().zip(before) {
        let ran = started(world, namespace, &name, node).await? != before;
        seen.push_str(if ran { "; ran again: " } else { "; kept: " });
        seen.push_str(node);
    }
    Ok(seen)
}

async fn retry(world: World, namespace: String) -> Result<String> {
    retried(&world, &namespace, &[]).await
}

async fn retry_with_parameter(world: World, namespace: String) -> Result<String> {
    retried(&world, &namespace, &["--wait", "-p", "code=0"]).await
}

async fn restart_successful(world: World, namespace: String) -> Result<String> {
    let select = ["--restart-successful", "--node-field-selector", "displayName=first", "-p", "code=0"];
    retried(&world, &namespace, &select).await
}

async fn again(world: &World, namespace: &str, args: &[&str]) -> Result<String> {
    let name = created(world, namespace, &failing()).await?;
    ended(world, namespace, &name).await?;
    let args = [&["resubmit", &name, "-o", "name"], args].concat();
    let again = argo(world, namespace, &args, "").await?;
    ensure!(again != name, "it has the same name");
    ended(world, namespace, &again).await
}

async fn resubmit(world: World, namespace: String) -> Result<String> {
    again(&world, &namespace, &["-p", "code=0"]).await
}

async fn resubmit_memoized(world: World, namespace: String) -> Result<String> {
    again(&world, &namespace, &["--memoized"]).await
}

async fn gone(world: &World, namespace: &str, args: &[&str]) -> Result<String> {
    let name = created(world, namespace, &one("300s")).await?;
    seen(world, namespace, &name, |object| phase_of(object, &name) == "Running").await?;
    argo(world, namespace, &[&["delete", &name], args].concat(), "").await?;
    gone_everywhere(world, namespace, &name).await?;
    Ok("gone, and its pods".to_owned())
}

/// Waits until a workflow and its pods are in no cluster.
pub(super) async fn gone_everywhere(world: &World, namespace: &str, name: &str) -> Result<()> {
    for client in std::iter::once(&world.control).chain(&world.wecs) {
        world.presence(&crate::world::workflows(client, namespace), name, false).await?;
        wait_for("its pods to go", || async {
            let pods = world.pods(client, namespace, name).await?;
            Ok(if pods.is_empty() { Ok(()) } else { Err(format!("{} are there", pods.len())) })
        })
        .await?;
    }
    Ok(())
}

async fn delete(world: World, namespace: String) -> Result<String> {
    gone(&world, &namespace, &[]).await
}

async fn delete_by_force(world: World, namespace: String) -> Result<String> {
    gone(&world, &namespace, &["--force"]).await
}
