//! Argosy's own upgrades, with Helm.

use anyhow::{Result, bail, ensure};
use argosy_api::names;
use argosy_api::workflow::api_resource;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use testbed::argosy;

use super::{Case, case};
use crate::creations::Creations;
use crate::world::{World, output, sleeping, uid, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("helm upgrade and rollback under load refuse nobody and lose nothing", upgrade),
        case!(
            "helm uninstall refuses while routed workflows are not completed, and what it leaves is taken over",
            uninstall
        ),
    ]
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

/// Runs Helm in the control cluster.
async fn helm(world: &World, args: &[&str]) -> Result<String> {
    let mut helm = world.program("helm");
    helm.args(args)
        .args(["--namespace", argosy::NAMESPACE])
        .arg("--kubeconfig")
        .arg(&world.testbed.control().kubeconfig);
    output(helm, "").await
}

async fn uninstall(world: World) -> Result<()> {
    const NAMESPACE: &str = "uninstall";
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
    let name = world.create(NAMESPACE, &sleeping("holds", 300)).await?;
    world.phase(NAMESPACE, &name, "Running").await?;
    match helm(&world, &["uninstall", argosy::NAMESPACE, "--wait", "--timeout", "80s"]).await {
        Ok(said) => bail!("it was uninstalled: {said}"),
        Err(error) => ensure!(format!("{error:#}").contains("pre-delete"), "it failed otherwise: {error:#}"),
    }
    let said = world.run("kubectl", &["logs", "-n", argosy::NAMESPACE, "job/argosy-uninstall"], "").await?;
    ensure!(said.contains(&format!("{NAMESPACE}/{name}")), "it does not say what is not completed: {said}");
    // Refused, it is as it was.
    world.run("argo", &["stop", "-n", NAMESPACE, &name], "").await?;
    world.phase(NAMESPACE, &name, "Failed").await?;

    let values = world.testbed.layout.cluster_dir("control").join("again.values.yaml");
    std::fs::write(&values, helm(&world, &["get", "values", argosy::NAMESPACE, "-o", "yaml"]).await?)?;
    let routed = ListParams::default().labels(&format!(
        "{0},{0}!={1},{2}!=true",
        names::CLUSTER,
        names::LOCAL,
        names::ARGO_COMPLETED
    ));
    let everywhere: Api<DynamicObject> = Api::all_with(world.control.clone(), &api_resource());
    for left in everywhere.list_metadata(&routed).await?.items {
        workflows(&world.control, &left.namespace().unwrap_or_default())
            .delete(&left.name_any(), &Default::default())
            .await?;
    }
    helm(&world, &["uninstall", argosy::NAMESPACE, "--wait", "--timeout", "80s"]).await?;
    let policy = ["get", "validatingadmissionpolicybinding", "argosy-fence", "argosy-agents"];
    world.run("kubectl", &policy, "").await?;
    let refused =
        world.run("kubectl", &["label", "wf", "-n", NAMESPACE, &name, &format!("{}-", names::CLUSTER)], "").await;
    ensure!(refused.is_err(), "the fence went with Argosy");

    let chart = world.testbed.layout.workspace().join("charts/argosy").display().to_string();
    let values = values.display().to_string();
    let again = ["install", argosy::NAMESPACE, &chart, "--values", &values, "--wait", "--timeout", "80s"];
    helm(&world, &again).await?;
    argosy::wait_until_ready(&world.testbed).await?;
    let name = world.create(NAMESPACE, &sleeping("again", 1)).await?;
    world.phase(NAMESPACE, &name, "Succeeded").await.map(drop)
}
