//! Letting workflows wait, and go on.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use serde_json::json;

use super::shapes::{asks, gated, pair, two_gates};
use super::side::{Side, phase_of};
use super::{Verb, verb};
use crate::world::wait_for;

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!(Argo, "argo resume", resume),
        verb!(Argo, "argo resume --node-field-selector", resume_a_node),
        verb!(Argo, "argo node set, then argo resume", set_and_resume),
        verb!(Argo, "argo suspend (routed: kubectl argosy suspend), then argo resume", suspend),
        verb!(Other, "argo suspend, resume (routed: kubectl argosy suspend, resume)", suspend_by_plugin),
        verb!(Other, "argo suspend, resume (routed: kubectl annotate argosy.dev/suspend)", suspend_by_annotation),
        verb!(
            Other,
            "argo suspend (routed: kubectl argosy suspend), then kubectl patch, spec.suspend to false",
            unsuspend
        ),
    ]
}

async fn resume(side: Side) -> Result<String> {
    let name = side.running(&gated(), "gate").await?;
    side.argo(&["resume", &name], "").await?;
    side.ended(&name).await
}

async fn resume_a_node(side: Side) -> Result<String> {
    let name = side.running(&two_gates(), "right").await?;
    let mut steps = Vec::new();
    for gate in ["left", "right"] {
        let select = format!("displayName={gate}");
        side.argo(&["resume", &name, "--node-field-selector", &select], "").await?;
        steps.push(side.seen(&name, |object| phase_of(object, gate) == "Succeeded").await?);
    }
    steps.truncate(1);
    steps.push(side.ended(&name).await?);
    Ok(steps.join(", then "))
}

async fn set_and_resume(side: Side) -> Result<String> {
    let name = side.running(&asks(), "gate").await?;
    let select = ["--node-field-selector", "displayName=gate"];
    side.argo(&["node", "set", &name, "--output-parameter", "answer=42", select[0], select[1]], "").await?;
    side.argo(&["resume", &name, select[0], select[1]], "").await?;
    side.ended(&name).await
}

/// By what a workflow is suspended, or let go on; of a local one that is always argo's own command.
#[derive(Clone, Copy)]
enum By {
    Argo,
    Plugin,
    Annotation,
    Patch,
}

/// Suspends a workflow whose first step runs, and lets it go on when that has ended.
async fn held(side: &Side, suspend: By, resume: By) -> Result<String> {
    let name = side.running(&pair("300s"), "first").await?;
    set(side, suspend, "suspend", &name).await?;
    // Until Argo's controller there knows, it may begin the next step as the first one ends.
    wait_for("it to be suspended where it runs", || async {
        let is_known = side.is_logged(&format!("workflow={name}"), "workflow suspended")?;
        Ok(if is_known { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await?;
    // What runs goes on to its end. In the same round Argo would begin the second step.
    side.finish(&name).await?;
    let held = side.seen(&name, |object| phase_of(object, "first") == "Succeeded").await?;
    ensure!(side.pods(&name).await?.len() == 1, "a pod began while it was suspended");
    set(side, resume, "resume", &name).await?;
    let ended = side.ended(&name).await?;
    let left = side.get(&name).await?;
    ensure!(left.annotations().get("argosy.dev/suspend").is_none(), "the wish is still there");
    Ok(format!("{held}, then {ended}"))
}

async fn set(side: &Side, by: By, verb: &str, name: &str) -> Result<()> {
    let done = match by {
        By::Patch => {
            let patch = json!({"spec": {"suspend": verb == "suspend"}}).to_string();
            side.kubectl(&["patch", "wf", name, "--type=merge", "-p", &patch]).await
        }
        By::Plugin if side.is_routed => side.world.run("kubectl-argosy", &[verb, name, "-n", side.namespace], "").await,
        By::Annotation if side.is_routed => {
            let change = if verb == "suspend" { "argosy.dev/suspend=true" } else { "argosy.dev/suspend-" };
            side.kubectl(&["annotate", "wf", name, change]).await
        }
        By::Argo | By::Plugin | By::Annotation => side.argo(&[verb, name], "").await,
    };
    done.map(drop)
}

async fn suspend(side: Side) -> Result<String> {
    held(&side, By::Plugin, By::Argo).await
}

async fn suspend_by_plugin(side: Side) -> Result<String> {
    held(&side, By::Plugin, By::Plugin).await
}

async fn suspend_by_annotation(side: Side) -> Result<String> {
    held(&side, By::Annotation, By::Annotation).await
}

async fn unsuspend(side: Side) -> Result<String> {
    held(&side, By::Plugin, By::Patch).await
}
