//! What Helm does with Argosy's charts where its programs are pods: upgrades, the end, and a syncer inside of a cluster.

use anyhow::{Context, Result, bail, ensure};
use argosy_api::names;
use argosy_api::workflow::api_resource;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testbed::argosy;

use super::{Case, case};
use crate::creations::Creations;
use crate::world::{World, labelled, sleeping, uid, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("helm upgrade and rollback under load refuse nobody and lose nothing", upgrade),
        case!(
            "helm uninstall refuses while routed workflows are not completed, and what it leaves is taken over",
            uninstall
        ),
        case!("the member chart's syncer inside of a cluster serves it", inside),
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
        helm(world, &[words, &["--wait", "--timeout", "80s"]].concat()).await?;
        creations.more(20).await?;
    }
    Ok(())
}

/// Runs Helm in the control cluster.
async fn helm(world: &World, args: &[&str]) -> Result<String> {
    world.run("helm", &[args, &["--namespace", argosy::NAMESPACE]].concat(), "").await
}

async fn uninstall(world: World) -> Result<()> {
    const NAMESPACE: &str = "uninstall";
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
    let name = world.create(NAMESPACE, &sleeping("holds", 300)).await?;
    world.phase(NAMESPACE, &name, "Running").await?;
    match helm(&world, &["uninstall", argosy::NAMESPACE, "--wait", "--timeout", "80s"]).await {
        Ok(said) => bail!("it was uninstalled: {said}"),
        Err(error) => ensure!(format!("{error:#}").contains("argosy-uninstall"), "it failed otherwise: {error:#}"),
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

async fn inside(world: World) -> Result<()> {
    const NAME: &str = "inside";
    const ACCOUNT: &str = "argosy-inside";
    let wec = &world.testbed.wecs()[1];
    let values: Value =
        serde_json::from_str(&helm(&world, &["get", "values", argosy::NAMESPACE, "-o", "json"]).await?)?;
    let tag = values["image"]["tag"].as_str().context("the release has no tag")?;
    let chart = world.testbed.layout.workspace().join("charts/argosy-member").display().to_string();
    let set = format!("agent.cluster={NAME},agent.image.tag={tag},createNamespaces=true");
    world.namespace(NAME, json!({})).await?;
    let served = async {
        let install = ["install", ACCOUNT, &chart, "-n", ACCOUNT, "--create-namespace", "--set", &set];
        world.run_in(wec, "helm", &install, "").await?;
        let control = world.testbed.control();
        let account = format!("--member-namespace {ACCOUNT}");
        let how = format!("{account} --namespaces {NAME} --create-namespaces --no-wait");
        world.plugin(control, wec, &format!("join {NAME} --pull {how}")).await?;
        world.ready(NAME, None).await?;
        let name = world.create(NAME, &labelled(sleeping("pulled", 1), json!({names::CLUSTER: NAME}))).await?;
        world.phase(NAME, &name, "Succeeded").await?;
        ensure!(world.pods(&world.wecs[1], NAME, &name).await?.len() == 1, "its pod is not there");
        world.plugin(control, wec, &format!("leave {NAME} {account}")).await
    }
    .await;
    let uninstalled = world.run_in(wec, "helm", &["uninstall", ACCOUNT, "-n", ACCOUNT, "--wait"], "").await;
    served?;
    uninstalled.map(drop)
}
