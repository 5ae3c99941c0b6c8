//! What Argo's own command line does to originals: each command succeeds, its wish is noted, and nothing of it runs in the
//! control cluster. The syncer is down meanwhile, so that what the commands leave can be looked at; when it is back, the
//! copies get it.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{Program, World, labelled, wait_for};

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "what argo does to a workflow while the syncer is down is noted on it, and happens when it is back",
        noted
    )]
}

const NAMESPACE: &str = "default";

async fn noted(world: World) -> Result<()> {
    let [resumed, set, stopped] = [
        gate(&world, "resumed", false).await?,
        gate(&world, "set", true).await?,
        gate(&world, "stopped", false).await?,
    ];
    let failed = world.create(NAMESPACE, &labelled(failing(), json!({"kubestellar.io/cluster": "cluster1"}))).await?;
    world.phase(NAMESPACE, &failed, "Failed").await?;
    world.down(Program::Syncer).await?;
    let what_is = async {
        resume(&world, &resumed).await.context("argo resume")?;
        node_set(&world, &set).await.context("argo node set")?;
        stop_gate(&world, &stopped).await.context("argo stop --node-field-selector")?;
        retry(&world, &failed).await.context("argo retry")
    }
    .await;
    world.up(Program::Syncer).await?;
    what_is?;
    for (name, phase, done) in
        [(&resumed, "Succeeded", "1"), (&set, "Succeeded", "2"), (&stopped, "Failed", "1"), (&failed, "Failed", "1")]
    {
        wait_for(&format!("{name} to go on in its cluster"), || async {
            let original = world.originals(NAMESPACE).get(name).await?;
            let shown =
                (original.data["status"]["phase"].as_str(), original.annotations().get("argosy.dev/intents-done"));
            let is_so = shown == (Some(phase), Some(&done.to_owned()));
            Ok(if is_so { Ok(()) } else { Err(format!("it shows {shown:?}")) })
        })
        .await?;
        unharmed(&world, name).await?;
    }
    Ok(())
}

async fn resume(world: &World, name: &str) -> Result<()> {
    // A dry run is answered the same, and leaves nothing.
    let patch = json!({"spec": {"suspend": null}}).to_string();
    let tried = ["patch", "wf", name, "-n", NAMESPACE, "--type=merge", "-p", &patch, "--dry-run=server", "-o", "json"];
    let tried: Value = serde_json::from_str(&world.run("kubectl", &tried, "").await?)?;
    ensure!(tried["spec"]["suspend"] == true, "a dry run has suspend {}", tried["spec"]["suspend"]);

    argo(world, &["resume", name]).await?;
    let original = unharmed(world, name).await?;
    let node = only_gate(&original)?;
    ensure!(node["phase"] == "Succeeded", "the gate shows {node}");
    let intents = intents(&original)?;
    ensure!(intents.len() == 1 && intents[0]["kind"] == "nodes", "noted is {intents:?}");
    Ok(())
}

async fn node_set(world: &World, name: &str) -> Result<()> {
    let of_gate = ["--node-field-selector", "displayName=gate"];
    argo(world, &[&["node", "set", name, "--output-parameter", "ok=yes"], &of_gate[..]].concat()).await?;
    // Reads from the original what the first command set.
    argo(world, &["resume", name]).await?;
    let original = unharmed(world, name).await?;
    let outputs = &only_gate(&original)?["outputs"]["parameters"][0];
    ensure!(outputs["value"] == "yes", "the gate's output is {outputs}");
    let intents = intents(&original)?;
    let ids: Vec<&Value> = intents.iter().map(|intent| &intent["id"]).collect();
    ensure!(ids == [&json!(1), &json!(2)], "noted is {intents:?}");
    Ok(())
}

async fn stop_gate(world: &World, name: &str) -> Result<()> {
    argo(world, &["stop", name, "--node-field-selector", "displayName=gate", "--message", "no"]).await?;
    let original = unharmed(world, name).await?;
    let node = only_gate(&original)?;
    ensure!(node["phase"] == "Failed" && node["message"] == "no", "the gate shows {node}");
    ensure!(original.data["spec"].get("shutdown").is_none(), "the whole workflow was stopped");
    ensure!(intents(&original)?.len() == 1, "noted is {:?}", intents(&original)?);
    Ok(())
}

async fn retry(world: &World, name: &str) -> Result<()> {
    let before = world.originals(NAMESPACE).get(name).await?;
    argo(world, &["retry", name]).await?;
    let original = unharmed(world, name).await?;
    ensure!(original.data["status"]["nodes"] == before.data["status"]["nodes"], "its nodes changed");
    let intents = intents(&original)?;
    ensure!(intents.len() == 1 && intents[0]["kind"] == "retry", "noted is {intents:?}");
    ensure!(intents[0]["removed"].as_array().is_some_and(|gone| !gone.is_empty()), "noted is {intents:?}");
    // As of any workflow that runs again.
    let shown: Value = serde_json::from_str(&argo(world, &["get", name, "-o", "json"]).await?)?;
    let completed = original.labels().get("workflows.argoproj.io/completed").map(String::as_str);
    ensure!(shown["status"]["phase"] == "Running" && completed == Some("false"), "argo get shows {}", shown["status"]);
    ensure!(shown["status"]["finishedAt"].is_null(), "argo get shows an end: {}", shown["status"]);
    Ok(())
}

async fn argo(world: &World, args: &[&str]) -> Result<String> {
    world.run("argo", &[args, &["-n", NAMESPACE]].concat(), "").await
}

/// The original, if it is suspended still and has no pods here.
async fn unharmed(world: &World, name: &str) -> Result<DynamicObject> {
    let original = world.originals(NAMESPACE).get(name).await?;
    ensure!(original.data["spec"]["suspend"] == true, "its suspend is {}", original.data["spec"]["suspend"]);
    ensure!(world.pods(&world.control, NAMESPACE, name).await?.is_empty(), "it has pods in the control cluster");
    Ok(original)
}

fn intents(original: &DynamicObject) -> Result<Vec<Value>> {
    let list = original.annotations().get("argosy.dev/intents").context("nothing is noted")?;
    Ok(serde_json::from_str(list)?)
}

fn only_gate(original: &DynamicObject) -> Result<&Value> {
    let mut nodes = original.data["status"]["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values());
    nodes.find(|node| node["type"] == "Suspend").context("it has no gate")
}

/// Creates a workflow that waits at a gate, which may ask for a value, and waits until the original shows that.
async fn gate(world: &World, name: &str, asks: bool) -> Result<String> {
    let outputs = json!({"parameters": [{"name": "ok", "globalName": "ok", "valueFrom": {"supplied": {}}}]});
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {"generateName": format!("{name}-"), "labels": {"kubestellar.io/cluster": "cluster1"}},
        "spec": {
            "entrypoint": "main",
            "templates": [
                {"name": "main", "steps": [[{"name": "gate", "template": "gate"}]]},
                {"name": "gate", "suspend": {}, "outputs": if asks { outputs } else { json!({}) }},
            ],
        },
    });
    let name = world.create(NAMESPACE, &workflow).await?;
    wait_for(&format!("{name} to wait at its gate"), || async {
        let original = world.originals(NAMESPACE).get(&name).await?;
        let shown = only_gate(&original)?["phase"].clone();
        Ok(if shown == "Running" { Ok(()) } else { Err(shown.to_string()) })
    })
    .await?;
    Ok(name)
}

fn failing() -> Value {
    let mut workflow = crate::world::sleeping("retried", 1);
    workflow["spec"]["templates"][0]["metadata"]["annotations"]["player.argosy.dev/exit-code"] = json!("3");
    workflow["spec"]["templates"][0]["container"]["command"] = json!(["sh", "-c"]);
    workflow["spec"]["templates"][0]["container"]["args"] = json!(["exit 3"]);
    workflow
}
