//! What routed workflows ask for does no harm in the control cluster.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{World, labelled, put, sleeping, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("argo submit --log of a routed workflow ends with it", log),
        case!("the locks of a routed workflow keep nobody waiting in the control cluster", locks),
    ]
}

/// Its pods' logs are not here; the command must not wait for them.
async fn log(world: World) -> Result<()> {
    let workflow = labelled(sleeping("logged", 2), json!({"kubestellar.io/cluster": "cluster1"}));
    let said = world.run("argo", &["submit", "--log", "-n", "default", "/dev/stdin"], &workflow.to_string()).await?;
    let name = said.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default().trim();
    let done = world.originals("default").get(name).await?;
    ensure!(
        done.data["status"]["phase"] == "Succeeded",
        "it came back before the end: {}",
        done.data["status"]["phase"]
    );
    Ok(())
}

/// A mutex of the workflow's own, and one that its template brings along.
async fn locks(world: World) -> Result<()> {
    let namespace = "harmless";
    world.namespace(namespace, json!({})).await?;
    let turn = |name: &str| json!({"mutexes": [{"name": name}]});
    let asking = |name: &str, seconds| {
        let mut workflow = sleeping(name, seconds);
        workflow["spec"]["synchronization"] = turn(name);
        workflow
    };
    let spec = asking("by-template", 300)["spec"].take();
    let template = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": "by-template"}, "spec": spec,
    });
    put(&world.control, namespace, template).await?;
    let mut by_template = sleeping("by-template", 300);
    by_template["spec"] = json!({"workflowTemplateRef": {"name": "by-template"}});

    for (lock, workflow) in [("own", asking("own", 300)), ("by-template", by_template)] {
        let routed = labelled(workflow, json!({"kubestellar.io/cluster": "cluster1"}));
        let routed = world.create(namespace, &routed).await?;
        world.phase(namespace, &routed, "Running").await?;
        let here = world.create(namespace, &asking(lock, 0)).await?;
        world.phase(namespace, &here, "Succeeded").await?;

        let copy = workflows(&world.wecs[0], namespace).get(&routed).await?;
        let held = &copy.data["status"]["synchronization"]["mutex"]["holding"][0];
        let is_held = held["mutex"].as_str().is_some_and(|mutex| mutex.ends_with(&format!("/{lock}")));
        ensure!(is_held, "{routed} does not hold its lock where it runs: {}", copy.data["status"]["synchronization"]);
        let phase = world.originals(namespace).get(&routed).await?.data["status"]["phase"].take();
        ensure!(phase == "Running", "{routed} did not run beside it: {phase}");

        let again = resubmitted(&world, namespace, &routed).await?;
        // A template brings its own along.
        let own = if lock == "own" { turn(lock) } else { Value::Null };
        ensure!(again == own, "a resubmitted {routed} asks for {again}");
    }
    world.run("argo", &["delete", "-n", namespace, "--all"], "").await?;
    Ok(())
}

/// What a workflow's resubmitted copy asks for.
async fn resubmitted(world: &World, namespace: &str, name: &str) -> Result<Value> {
    let again = world.run("argo", &["resubmit", "-n", namespace, name, "-o", "name"], "").await?;
    let again = again.trim();
    let copies = workflows(&world.wecs[0], namespace);
    world.presence(&copies, again, true).await?;
    Ok(copies.get(again).await?.data["spec"]["synchronization"].take())
}
