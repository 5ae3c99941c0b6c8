//! Creating workflows, and looking at them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::outcome::unlike;
use super::shapes::{cron, failing, one, template};
use super::side::Side;
use super::{Verb, verb};
use crate::world::{put, wait_for};

pub(super) fn verbs() -> Vec<Verb> {
    vec![
        verb!(Argo, "argo submit", submit),
        verb!(Argo, "argo submit --wait", submit_and_wait),
        verb!(Argo, "argo submit --watch", submit_and_watch),
        verb!(Argo, "argo submit --from workflowtemplate/…", from_template),
        verb!(Argo, "argo submit --from cronwf/…", from_cron),
        verb!(Argo, "argo list, get, wait, watch", look),
        verb!(Other, "kubectl create, wait, get", by_kubectl),
    ]
}

async fn submit(side: Side) -> Result<String> {
    let name = side.created(&one("100ms")).await?;
    side.ended(&name).await
}

async fn submit_and_wait(side: Side) -> Result<String> {
    let said = side.argo(&["submit", "--wait", "/dev/stdin"], &one("1s").to_string()).await?;
    let last = said.lines().last().unwrap_or_default();
    // "NAME Succeeded at TIME"
    Ok(last.split(' ').nth(1).unwrap_or(last).to_owned())
}

async fn submit_and_watch(side: Side) -> Result<String> {
    let said = side.argo(&["submit", "--watch", "/dev/stdin"], &one("1s").to_string()).await?;
    let status = said.lines().rev().find_map(|line| line.strip_prefix("Status:")).context("it shows no status")?;
    Ok(status.trim().to_owned())
}

async fn from_template(side: Side) -> Result<String> {
    put(&side.world.control, side.namespace, template("one")).await?;
    from(side, "workflowtemplate/one").await
}

async fn from_cron(side: Side) -> Result<String> {
    let mut never = cron("never", "0 0 1 1 *", &one("100ms"));
    never["spec"]["suspend"] = Value::Bool(true);
    put(&side.world.control, side.namespace, never).await?;
    from(side, "cronwf/never").await
}

/// Submits what was made a moment ago: argo-server looks at what its watch has brought.
async fn from(side: Side, what: &str) -> Result<String> {
    let name = wait_for(&format!("argo to know {what}"), || async {
        let submitted = side.argo(&["submit", "--from", what, "-o", "name"], "").await;
        Ok(submitted.map_err(|error| error.to_string()))
    })
    .await?;
    side.ended(&name).await
}

async fn look(side: Side) -> Result<String> {
    let name = side.created(&one("2s")).await?;
    let listed = side.argo(&["list", "-o", "name"], "").await?;
    ensure!(listed.lines().any(|line| line == name), "it is not listed: {listed}");
    let waited = side.argo(&["wait", &name], "").await?;
    ensure!(waited.contains("Succeeded"), "argo wait says {waited:?}");
    let watched = side.argo(&["watch", &name], "").await?;
    ensure!(watched.contains("Succeeded"), "argo watch says {watched:?}");
    let got = side.argo(&["get", &name, "-o", "json"], "").await?;
    let got: Value = serde_json::from_str(&got)?;
    Ok(got["status"]["phase"].as_str().unwrap_or_default().to_owned())
}

async fn by_kubectl(side: Side) -> Result<String> {
    let name = side.world.create(side.namespace, &failing()).await?;
    side.kubectl(&["wait", "--for=condition=Completed", "--timeout=80s", "wf", &name]).await?;
    let shown = side.kubectl(&["get", "wf", &name]).await?;
    let [head, row] = shown.lines().collect::<Vec<_>>()[..] else { anyhow::bail!("kubectl get shows {shown:?}") };
    let head: Vec<&str> = head.split_whitespace().collect();
    ensure!(head == ["NAME", "STATUS", "AGE", "MESSAGE"], "its columns are {head:?}");
    let columns: Vec<&str> = row.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    let [_, status, _, message] = columns[..] else { anyhow::bail!("its row is {row:?}") };
    Ok(format!("STATUS {status}, MESSAGE {}", unlike(message, &name, side.namespace)))
}
