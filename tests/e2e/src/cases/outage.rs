//! What holds while Argosy's own programs are down, and what comes of it when they are back.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use testbed::argosy;

use super::{Case, case};
use crate::world::{Program, World, labelled, phase_in, sleeping, uid, wait_for, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("with both programs down, nothing runs where it must not", all_down),
        case!("a syncer killed mid-run comes back, and the pods run once", syncer_killed),
        case!("what was deleted while the syncer was down is swept", swept),
        case!("a lost certificate is issued anew without a restart", certificate_lost),
    ]
}

const LABEL: &str = "kubestellar.io/cluster";
/// What holds the webhook's certificate.
pub(crate) const TLS_SECRET: &str = "argosy-webhook-tls";

async fn all_down(world: World) -> Result<()> {
    world.namespace("outage", json!({"argosy.dev/clusters": "*"})).await?;
    let name = world.create("outage", &sleeping("outage", 25)).await?;
    world.phase("outage", &name, "Running").await?;
    world.down(Program::Webhook).await?;
    world.down(Program::Syncer).await?;
    let held = while_down(&world, &name).await;
    world.up(Program::Webhook).await?;
    world.up(Program::Syncer).await?;
    held?;
    let ended = world.phase("outage", &name, "Succeeded").await?;
    let nodes = ended.data["status"]["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values());
    ensure!(nodes.clone().all(|node| node["phase"] == "Succeeded"), "a node is not Succeeded");
    ensure!(nodes.clone().all(|node| node.get("message").is_none()), "a node kept a message");
    Ok(())
}

async fn while_down(world: &World, running: &str) -> Result<()> {
    let said = world.refusal("outage", &sleeping("refused", 1)).await?;
    ensure!(said.contains("argosy.dev/clusters") && said.contains("webhook"), "a ruled namespace says {said:?}");

    let here = world.create("default", &sleeping("plain", 1)).await?;
    let here = world.phase("default", &here, "Succeeded").await?;
    ensure!(here.annotations().keys().chain(here.labels().keys()).all(|key| !key.starts_with("argosy.dev/")), "marked");

    let mut forged = labelled(sleeping("forged", 1), json!({LABEL: "cluster1"}));
    let stamp = json!({"cluster": "cluster1", "rule": "label", "reason": "forged"}).to_string();
    let now = k8s_openapi::jiff::Timestamp::now();
    let stamp = format!(r#"{{"time":"{now:.0}",{}"#, stamp.trim_start_matches('{'));
    forged["metadata"]["annotations"] = json!({"argosy.dev/placement": stamp});
    let said = world.refusal("default", &forged).await?;
    ensure!(said.contains("suspend"), "a forged stamp without suspend is refused with {said:?}");

    // Nothing takes the fence off a workflow that runs elsewhere.
    let api = world.originals("outage");
    let before = api.get(running).await?;
    let attempts = [
        json!({"spec": {"suspend": null}}),
        json!({"metadata": {"labels": {LABEL: null}}}),
        json!({"metadata": {"labels": {LABEL: "local"}}}),
        json!({"status": {"phase": "Failed"}}),
        json!({"metadata": {"labels": {"workflows.argoproj.io/completed": "true"}}}),
        json!({"metadata": {"annotations": {"argosy.dev/delivery": "{}"}}}),
    ];
    for attempt in attempts {
        let answer = api.patch(running, &PatchParams::default(), &Patch::Merge(&attempt)).await;
        ensure!(answer.is_err(), "{attempt} was let through");
    }
    let resumed = world.run("argo", &["resume", "-n", "outage", running], "").await;
    ensure!(resumed.is_err(), "argo resume was let through");
    let after = api.get(running).await?;
    ensure!(after.data["status"] == before.data["status"], "its status changed: {}", after.data["status"]);
    ensure!(world.pods(&world.control, "outage", running).await?.is_empty(), "it has pods in the control cluster");
    Ok(())
}

async fn syncer_killed(world: World) -> Result<()> {
    let workflow = labelled(sleeping("killed", 15), json!({LABEL: "cluster1"}));
    let name = world.create("default", &workflow).await?;
    world.phase("default", &name, "Running").await?;
    let copies = workflows(&world.wecs[0], "default");
    let before = copies.get(&name).await?;
    world.down(Program::Syncer).await?;
    phase_in(&copies, &name, "Succeeded").await?;
    world.up(Program::Syncer).await?;
    world.phase("default", &name, "Succeeded").await?;
    ensure!(uid(&copies.get(&name).await?) == uid(&before), "it was delivered twice");
    let pods = world.pods(&world.wecs[0], "default", &name).await?;
    ensure!(pods.len() == 1, "{} pods ran", pods.len());
    Ok(())
}

async fn swept(world: World) -> Result<()> {
    let workflow = labelled(sleeping("swept", 300), json!({LABEL: "cluster1"}));
    let name = world.create("default", &workflow).await?;
    world.phase("default", &name, "Running").await?;
    world.down(Program::Syncer).await?;
    let deleted = world.originals("default").delete(&name, &DeleteParams::background()).await;
    world.up(Program::Syncer).await?;
    deleted?;
    world.presence(&workflows(&world.wecs[0], "default"), &name, false).await
}

/// Takes the webhook's certificate away, with its CA, and waits until both were issued anew.
pub(crate) async fn issue_anew(world: &World) -> Result<()> {
    const PARTS: [&str; 2] = ["tls.crt", "ca.crt"];
    let secrets: Api<Secret> = Api::namespaced(world.control.clone(), argosy::NAMESPACE);
    let before = secrets.get(TLS_SECRET).await?.data.unwrap_or_default();
    secrets.delete(TLS_SECRET, &DeleteParams::default()).await?;
    wait_for("a new certificate", || async {
        let now = secrets.get_opt(TLS_SECRET).await?.and_then(|secret| secret.data).unwrap_or_default();
        let is_new = PARTS.iter().all(|part| now.contains_key(*part) && now.get(*part) != before.get(*part));
        Ok(if is_new { Ok(()) } else { Err("none yet".to_owned()) })
    })
    .await
}

async fn certificate_lost(world: World) -> Result<()> {
    issue_anew(&world).await?;
    let workflow = labelled(sleeping("after", 1), json!({LABEL: "cluster1"}));
    let name = wait_for("routing with it", || async {
        Ok(world.create("default", &workflow).await.map_err(|error| format!("{error:#}")))
    })
    .await?;
    world.phase("default", &name, "Succeeded").await.map(drop)
}
