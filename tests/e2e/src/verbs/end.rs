//! Ending workflows that run, and deleting them.

use anyhow::Result;

use super::shapes::{gated, one};
use super::side::{ITSELF, Side};
use super::{Verb, verb};

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!(Argo, "argo stop", stop),
        verb!(Argo, "argo terminate", terminate),
        verb!(Argo, "argo stop --node-field-selector", stop_a_node),
        verb!(Other, "kubectl patch, spec.shutdown to Stop", stop_by_kubectl),
        verb!(Other, "kubectl patch, spec.shutdown to Terminate", terminate_by_kubectl),
        verb!(Argo, "argo delete", delete),
        verb!(Argo, "argo delete --force", delete_by_force),
        verb!(Other, "kubectl delete", delete_by_kubectl),
    ]
}

/// A workflow that runs until it is ended.
async fn endless(side: &Side) -> Result<String> {
    side.running(&one("300s"), ITSELF).await
}

/// How a workflow ended that was shut down. How its pod's end was noticed is a race within Argo itself.
async fn shut_down(side: &Side, name: &str) -> Result<String> {
    let seen = side.ended(name).await?;
    Ok(seen.split(';').next().unwrap_or_default().to_owned())
}

async fn stop(side: Side) -> Result<String> {
    let name = endless(&side).await?;
    side.argo(&["stop", &name], "").await?;
    shut_down(&side, &name).await
}

async fn terminate(side: Side) -> Result<String> {
    let name = endless(&side).await?;
    side.argo(&["terminate", &name], "").await?;
    shut_down(&side, &name).await
}

async fn stop_a_node(side: Side) -> Result<String> {
    let name = side.running(&gated(), "gate").await?;
    side.argo(&["stop", &name, "--node-field-selector", "displayName=gate", "--message", "not today"], "").await?;
    side.ended(&name).await
}

async fn patched(side: Side, shutdown: &str) -> Result<String> {
    let name = endless(&side).await?;
    let patch = format!(r#"{{"spec":{{"shutdown":"{shutdown}"}}}}"#);
    side.kubectl(&["patch", "wf", &name, "--type=merge", "-p", &patch]).await?;
    shut_down(&side, &name).await
}

async fn stop_by_kubectl(side: Side) -> Result<String> {
    patched(side, "Stop").await
}

async fn terminate_by_kubectl(side: Side) -> Result<String> {
    patched(side, "Terminate").await
}

async fn gone(side: &Side, name: &str) -> Result<String> {
    side.gone(name).await?;
    Ok("gone, and its pods".to_owned())
}

async fn delete(side: Side) -> Result<String> {
    let name = endless(&side).await?;
    side.argo(&["delete", &name], "").await?;
    gone(&side, &name).await
}

async fn delete_by_force(side: Side) -> Result<String> {
    let name = endless(&side).await?;
    side.argo(&["delete", &name, "--force"], "").await?;
    gone(&side, &name).await
}

async fn delete_by_kubectl(side: Side) -> Result<String> {
    let name = endless(&side).await?;
    side.kubectl(&["delete", "wf", &name]).await?;
    gone(&side, &name).await
}
