//! Workflows whose nodes Argo keeps in a database, where only argo-server reads them. In the workload cluster of this
//! testbed these are all workflows.

use anyhow::{Result, ensure};
use argosy_api::{WorkloadCluster, names};
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{World, nodes, sleeping, wait_for, workflows};

/// They may run beside each other.
pub(super) fn peaceful() -> Vec<Case> {
    vec![
        case!("nodes that are in a database of their cluster come back, and the copy is let go of", whole),
        case!("a workflow of thousands of nodes comes back from there packed, and can be approved", large),
        case!("each cluster archives its own: the copy there, the original here", archives),
    ]
}

/// They change the way to argo-server.
pub(super) fn disruptive() -> Vec<Case> {
    vec![case!(
        "without a way to argo-server the phase comes back, with a word on what to do; with one the nodes",
        no_way
    )]
}

/// A namespace whose workflows are routed.
async fn routed(world: &World, name: &str) -> Result<String> {
    world.namespace(name, json!({"argosy.dev/clusters": "env=testbed"})).await?;
    Ok(name.to_owned())
}

/// A copy, of which it is seen that its nodes are elsewhere.
async fn copy(world: &World, namespace: &str, name: &str) -> Result<DynamicObject> {
    let copy = workflows(&world.wecs[0], namespace).get(name).await?;
    ensure!(copy.data["status"]["offloadNodeStatusVersion"].is_string(), "its nodes are not in the database");
    ensure!(nodes(&copy)?.is_empty(), "the copy has nodes");
    Ok(copy)
}

/// What argo-server says of a copy.
async fn copy_with_nodes(world: &World, namespace: &str, name: &str) -> Result<DynamicObject> {
    let path =
        format!("/api/v1/namespaces/argo/services/https:argo-server:2746/proxy/api/v1/workflows/{namespace}/{name}");
    let token =
        world.run_in(&world.testbed.wecs()[0], "kubectl", &["create", "token", "argo-server", "-n", "argo"], "");
    let cookie = format!("authorization=Bearer {}", token.await?);
    let request = http::Request::get(path).header("Cookie", cookie).body(Vec::new())?;
    Ok(world.wecs[0].request(request).await?)
}

async fn whole(world: World) -> Result<()> {
    let namespace = routed(&world, "offloaded").await?;
    let name = world.create(&namespace, &sleeping("offloaded", 2)).await?;
    let original = world.phase(&namespace, &name, "Succeeded").await?;
    copy(&world, &namespace, &name).await?;
    let there = copy_with_nodes(&world, &namespace, &name).await?;
    ensure!(!nodes(&there)?.is_empty() && nodes(&original)? == nodes(&there)?, "{}", original.data["status"]);
    ensure!(original.data["status"]["offloadNodeStatusVersion"].is_null(), "the original has the copy's version");
    wait_for("the copy to be let go of", || async {
        let copy = copy(&world, &namespace, &name).await?;
        Ok(if copy.finalizers().is_empty() { Ok(()) } else { Err(format!("{:?}", copy.finalizers())) })
    })
    .await
}

/// Thousands of nodes without a pod, which are skipped, then a gate.
fn thousands() -> Value {
    let skip = json!({
        "name": "one-of-a-great-many-calls", "template": "work", "when": "{{item}} < 0",
        "withSequence": {"start": "0", "end": "2999"},
    });
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": "thousands-"},
        "spec": {
            "entrypoint": "main",
            "templates": [
                {"name": "main", "steps": [[skip], [{"name": "gate", "template": "gate"}]]},
                {"name": "gate", "suspend": {}},
                {"name": "work", "container": {"image": "busybox", "command": ["work"]}},
            ],
        },
    })
}

async fn large(world: World) -> Result<()> {
    let namespace = routed(&world, "offloaded-large").await?;
    let name = world.create(&namespace, &thousands()).await?;
    let is_open = |node: &Value| node["type"] == "Suspend" && node["phase"] == "Running";
    let waiting = wait_for("the gate", || async {
        let original = world.originals(&namespace).get(&name).await?;
        let nodes = nodes(&original)?;
        let is_there = nodes.values().any(is_open);
        Ok(if is_there { Ok(original) } else { Err(format!("{} nodes, and no gate", nodes.len())) })
    })
    .await?;
    ensure!(waiting.data["status"]["compressedNodes"].is_string(), "the nodes of the original are not packed");
    ensure!(nodes(&waiting)?.len() > 3000, "{} nodes", nodes(&waiting)?.len());
    copy(&world, &namespace, &name).await?;
    world.run("argo", &["resume", "-n", &namespace, &name], "").await?;
    let ended = world.phase(&namespace, &name, "Succeeded").await?;
    let there = copy_with_nodes(&world, &namespace, &name).await?;
    ensure!(nodes(&ended)? == nodes(&there)?, "the nodes differ from those in the workload cluster");
    let got = world.run("argo", &["get", "-n", &namespace, &name, "-o", "json"], "").await?;
    let got: DynamicObject = serde_json::from_str(&got)?;
    ensure!(nodes(&got)?.len() == nodes(&there)?.len(), "argo get shows {} nodes", nodes(&got)?.len());
    Ok(())
}

async fn archives(world: World) -> Result<()> {
    let namespace = routed(&world, "archived").await?;
    let name = world.create(&namespace, &sleeping("archived", 1)).await?;
    world.phase(&namespace, &name, "Succeeded").await?;
    for client in [&world.control, &world.wecs[0]] {
        wait_for("the archive", || async {
            let object = workflows(client, &namespace).get(&name).await?;
            let state = object.labels().get(names::ARGO_ARCHIVING).cloned().unwrap_or_default();
            Ok(if state == "Archived" { Ok(()) } else { Err(format!("it is {state:?}")) })
        })
        .await?;
    }
    Ok(())
}

async fn no_way(world: World) -> Result<()> {
    let namespace = routed(&world, "offloaded-no-way").await?;
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let lead_to = async |service: Option<&str>| {
        let patch = Patch::Merge(json!({"spec": {"argoServer": {"service": service}}}));
        clusters.patch("cluster1", &PatchParams::default(), &patch).await
    };
    lead_to(Some("https:nowhere:2746")).await?;
    let name = world.create(&namespace, &sleeping("no-way", 1)).await?;
    let ended = world.phase(&namespace, &name, "Succeeded").await;
    lead_to(None).await?;
    let ended = ended?;
    ensure!(nodes(&ended)?.is_empty(), "it has nodes: did it not go by spec.argoServer?");
    ensure!(ended.labels().get(names::ARGO_COMPLETED).is_some_and(|it| it == "true"), "it has not ended");
    let conditions = ended.data["status"]["conditions"].to_string();
    ensure!(conditions.contains("spec.argoServer") && conditions.contains("nowhere"), "it says {conditions}");
    wait_for("the nodes, now that there is a way", || async {
        let original = world.originals(&namespace).get(&name).await?;
        let is_whole = nodes(&original)?.len() == 1 && !original.data["status"].to_string().contains("NodesNotShown");
        Ok(if is_whole { Ok(()) } else { Err(original.data["status"].to_string()) })
    })
    .await
}
