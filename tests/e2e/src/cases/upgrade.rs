//! Argosy's own upgrades, with Helm.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::argosy;

use super::{Case, case};
use crate::creations::Creations;
use crate::world::{World, output, sleeping, uid, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![case!("helm upgrade and rollback under load refuse nobody and lose nothing", upgrade)]
}

const NAMESPACE: &str = "upgrade";

async fn upgrade(world: World) -> Result<()> {
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
    let name = world.create(NAMESPACE, &sleeping("through", 30)).await?;
    world.phase(NAMESPACE, &name, "Running").await?;
    let copies = workflows(&world.wecs[0], NAMESPACE);
    let before = uid(&copies.get(&name).await?);
    let creations = Creations::default();
    creations.during(&world, NAMESPACE, there_and_back(&world, &creations)).await?;
    argosy::wait_until_ready(&world.testbed).await?;
    world.phase(NAMESPACE, &name, "Succeeded").await?;
    ensure!(uid(&copies.get(&name).await?) == before, "it was delivered twice");
    ensure!(world.pods(&world.wecs[0], NAMESPACE, &name).await?.len() == 1, "it ran twice");
    Ok(())
}

/// Other pods of both programs, and the ones before again.
async fn there_and_back(world: &World, creations: &Creations) -> Result<()> {
    creations.more(20).await?;
    let chart = world.testbed.layout.workspace().join("charts/argosy").display().to_string();
    let other = ["upgrade", argosy::NAMESPACE, &chart, "--reuse-values", "--set", "logs.format=json,syncer.replicas=2"];
    for words in [&other[..], &["rollback", argosy::NAMESPACE]] {
        let mut helm = world.program("helm");
        helm.args(words).args(["--namespace", argosy::NAMESPACE, "--wait", "--timeout", "80s"]);
        helm.arg("--kubeconfig").arg(&world.testbed.control().kubeconfig);
        output(helm, "").await?;
        creations.more(20).await?;
    }
    Ok(())
}
