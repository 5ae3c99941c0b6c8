//! Running workflows again, whole or in part.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::Value;

use super::shapes::failing;
use super::side::{Side, node_of};
use super::{Verb, verb};

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!(Argo, "argo retry", retry),
        verb!(Argo, "argo retry --wait -p, of what fails no more", retry_with_parameter),
        verb!(Argo, "argo retry --restart-successful", restart_successful),
        verb!(Argo, "argo retry -p, of one whose pods (routed: whose copy) are gone", retry_without_copy),
        verb!(Argo, "argo resubmit", resubmit),
        verb!(Argo, "argo resubmit --memoized", resubmit_memoized),
    ]
}

/// When a node began, to tell whether it was run again.
async fn started(side: &Side, name: &str, node: &str) -> Result<Value> {
    let object = side.get(name).await?;
    Ok(node_of(&object, node).map(|node| node["startedAt"].clone()).unwrap_or_default())
}

/// Lets a workflow fail; answers its name.
async fn failed(side: &Side) -> Result<String> {
    let name = side.created(&failing()).await?;
    side.ended(&name).await?;
    Ok(name)
}

/// Retries a workflow that has failed; tells what came of it and which pods ran again.
async fn retried(side: &Side, name: &str, args: &[&str]) -> Result<String> {
    let mut before = Vec::new();
    for node in ["first", "second"] {
        before.push(started(side, name, node).await?);
    }
    // Times count in seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    side.argo(&[&["retry", name], args].concat(), "").await?;
    let mut seen = side.ended(name).await?;
    for (node, before) in ["first", "second"].iter().zip(before) {
        let ran = started(side, name, node).await? != before;
        seen.push_str(if ran { "; ran again: " } else { "; kept: " });
        seen.push_str(node);
    }
    Ok(seen)
}

async fn retry(side: Side) -> Result<String> {
    let name = failed(&side).await?;
    retried(&side, &name, &[]).await
}

async fn retry_with_parameter(side: Side) -> Result<String> {
    let name = failed(&side).await?;
    retried(&side, &name, &["--wait", "-p", "code=0"]).await
}

async fn restart_successful(side: Side) -> Result<String> {
    let name = failed(&side).await?;
    let select = ["--restart-successful", "--node-field-selector", "displayName=first", "-p", "code=0"];
    retried(&side, &name, &select).await
}

async fn retry_without_copy(side: Side) -> Result<String> {
    let name = failed(&side).await?;
    if side.is_routed {
        for copies in side.runs() {
            if copies.get_opt(&name).await?.is_some() {
                copies.delete(&name, &DeleteParams::background()).await?;
            }
            side.world.presence(&copies, &name, false).await?;
        }
    } else {
        side.kubectl(&["delete", "pods", "-l", &format!("workflows.argoproj.io/workflow={name}")]).await?;
    }
    side.pod_count(&name, 0).await?;
    let seen = retried(&side, &name, &["-p", "code=0"]).await?;
    let pods = side.pods(&name).await?;
    let of_second = |name: Option<&String>| name.is_some_and(|name| name.ends_with(".second"));
    let only_second = pods.iter().all(|(_, pod)| of_second(pod.annotations().get("workflows.argoproj.io/node-name")));
    ensure!(pods.len() == 1 && only_second, "other pods than that of the second step ran");
    Ok(seen)
}

async fn again(side: &Side, args: &[&str]) -> Result<String> {
    let name = failed(side).await?;
    let again = side.argo(&[&["resubmit", &name, "-o", "name"], args].concat(), "").await?;
    ensure!(again != name, "it has the same name");
    side.ended(&again).await
}

async fn resubmit(side: Side) -> Result<String> {
    again(&side, &["-p", "code=0"]).await
}

async fn resubmit_memoized(side: Side) -> Result<String> {
    again(&side, &["--memoized"]).await
}
