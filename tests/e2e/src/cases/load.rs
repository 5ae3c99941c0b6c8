//! Placement by load: over three clusters of different sizes, by two webhooks at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use argosy_api::WorkloadCluster;
use futures::future::try_join_all;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testbed::{argosy, process};

use super::{Case, case};
use crate::world::{World, wait_for};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "60 workflows at once through two webhooks load three clusters evenly, and none where it cannot fit",
            evenly
        ),
        case!("workflows that only one cluster has room for go there, and the rest waits and says so", sized),
        case!("nothing more goes to a cluster that is cordoned", cordoned),
        case!("a cluster that comes takes 20 that wait within 5 s", added),
    ]
}

/// CPUs of the one node that each cluster has.
const CPUS: [(&str, i64); 3] = [("cluster1", 8), ("cluster2", 16), ("cluster3", 24)];

/// A workflow whose pod asks for so much CPU and runs until it is deleted; `replica` says which webhook is asked, while
/// there are two.
fn asking(namespace: &str, millicores: i64, replica: usize) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {
            "generateName": "load-", "namespace": namespace, "labels": {"e2e-replica": replica.to_string()},
            "annotations": {"asks": millicores.to_string()},
        },
        "spec": {
            "entrypoint": "main",
            "templates": [{
                "name": "main",
                "metadata": {"annotations": {"player.argosy.dev/duration": "600s"}},
                "container": {
                    "image": "busybox", "command": ["sleep"], "args": ["600"],
                    "resources": {"requests": {"cpu": format!("{millicores}m")}},
                },
            }],
        },
    })
}

async fn create_all(world: &World, namespace: &str, sizes: &[i64]) -> Result<()> {
    let api = world.originals(namespace);
    let created = sizes.iter().enumerate().map(|(i, size)| {
        let (api, workflow) = (api.clone(), asking(namespace, *size, 1 + i % 2));
        async move { api.create(&PostParams::default(), &serde_json::from_value(workflow)?).await.context("creating") }
    });
    try_join_all(created).await.map(drop)
}

/// What the workflows of a namespace ask for in millicores, by cluster, and each one's share.
async fn placed(world: &World, namespace: &str) -> Result<BTreeMap<String, Vec<i64>>> {
    let mut placed: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for workflow in world.originals(namespace).list(&ListParams::default()).await? {
        let cluster = workflow.labels().get("kubestellar.io/cluster").cloned().unwrap_or_default();
        let asks =
            workflow.annotations().get("asks").and_then(|asks| asks.parse().ok()).context("it asks for nothing")?;
        placed.entry(cluster).or_default().push(asks);
    }
    Ok(placed)
}

async fn evenly(world: World) -> Result<()> {
    for ((name, cpus), wec) in CPUS.iter().zip(&world.wecs) {
        let nodes: Api<Node> = Api::all(wec.clone());
        let cpus = json!({"cpu": cpus.to_string()});
        let patch = Patch::Merge(json!({"status": {"capacity": cpus, "allocatable": cpus}}));
        nodes.patch_status(&format!("{name}-node"), &PatchParams::default(), &patch).await?;
    }
    figures(&world).await?;
    let second = second();
    argosy::start(&world.testbed, &second).await?;
    let result = through_both(&world).await;
    process::stop(&world.testbed.layout, "control", &second);
    clear(&world, "even").await?;
    result
}

/// The daemon of the second replica.
fn second() -> String {
    argosy::replicas(argosy::WEBHOOK).swap_remove(1)
}

/// An API server keeps to one connection, and so to one replica; several API servers do not. Here a label says which of
/// the two is asked.
async fn through_both(world: &World) -> Result<()> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(world.control.clone());
    let mut second = configurations.get("argosy").await?;
    second.metadata = kube::api::ObjectMeta { name: Some("argosy-2".to_owned()), ..Default::default() };
    let select =
        |operator: &str| json!({"matchExpressions": [{"key": "e2e-replica", "operator": operator, "values": ["2"]}]});
    second.webhooks.iter_mut().flatten().for_each(|webhook| webhook.name.insert_str(0, "second-"));
    second.webhooks.iter_mut().flatten().try_for_each(|webhook| -> Result<()> {
        let path = webhook.client_config.url.as_deref().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
        webhook.client_config.url = Some(format!("{}/{path}", argosy::webhook_url(&world.testbed, &self::second())?));
        webhook.object_selector = Some(serde_json::from_value(select("In"))?);
        Ok(())
    })?;
    configurations.create(&PostParams::default(), &second).await?;
    let others = |selector: Value| -> Result<Patch<()>> {
        let operations = json!([{"op": "add", "path": "/webhooks/0/objectSelector", "value": selector}]);
        Ok(Patch::Json(serde_json::from_value(operations)?))
    };
    configurations.patch("argosy", &PatchParams::default(), &others(select("NotIn"))?).await?;
    let result = spread_60(world).await;
    configurations.patch("argosy", &PatchParams::default(), &others(json!({}))?).await?;
    configurations.delete("argosy-2", &DeleteParams::default()).await?;
    result
}

async fn spread_60(world: &World) -> Result<()> {
    world.namespace("even", json!({"argosy.dev/clusters": "env=testbed"})).await?;
    // Both webhooks answer: each routes in a dry run.
    for replica in [1, 2] {
        wait_for("the webhook", || async {
            let dry_run = PostParams { dry_run: true, ..PostParams::default() };
            let probe = serde_json::from_value(asking("even", 1, replica))?;
            Ok(world.originals("even").create(&dry_run, &probe).await.map(drop).map_err(|error| error.to_string()))
        })
        .await?;
    }
    // 33.2 of 48 CPUs: 69 %. One fits only into the two larger clusters. The large ones are sent first: behind the
    // others no order of choices could make up for them.
    let sizes: Vec<i64> = [9_000, 4_000, 4_000].into_iter().chain([285; 57]).collect();
    create_all(world, "even", &sizes).await?;
    let placed = placed(world, "even").await?;
    let shares: Vec<(String, f64)> = CPUS
        .iter()
        .map(|(name, cpus)| {
            let asked: i64 = placed.get(*name).into_iter().flatten().sum();
            #[allow(clippy::cast_precision_loss, reason = "shares of a few thousand")]
            let share = asked as f64 / (cpus * 1000) as f64;
            ((*name).to_owned(), share)
        })
        .collect();
    let total: usize = placed.values().map(Vec::len).sum();
    ensure!(total == 60 && !placed.contains_key(""), "not all were placed: {placed:?}");
    ensure!(!placed.get("cluster1").into_iter().flatten().any(|size| *size > 8_000), "9 CPUs do not fit there");
    let most = shares.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    let least = shares.iter().map(|(_, share)| *share).fold(1.0, f64::min);
    ensure!(most - least <= 0.15, "the load differs by {:.0} %: {shares:?}", (most - least) * 100.0);
    Ok(())
}

async fn sized(world: World) -> Result<()> {
    figures(&world).await?;
    world.namespace("load", json!({"argosy.dev/clusters": "env=testbed"})).await?;
    // One after the other: the smaller one, placed first, would leave no room for the larger one.
    for size in [20_000, 9_000, 30_000] {
        create_all(&world, "load", &[size]).await?;
    }
    let placed = placed(&world, "load").await?;
    ensure!(placed.get("cluster3") == Some(&vec![20_000]), "20 CPUs fit only into cluster3: {placed:?}");
    ensure!(placed.get("cluster2") == Some(&vec![9_000]), "9 CPUs fit only into cluster2 beside these: {placed:?}");
    ensure!(placed.get("") == Some(&vec![30_000]), "30 CPUs fit nowhere: {placed:?}");
    let waiting = ListParams::default().labels("kubestellar.io/cluster=");
    wait_for("what is missing", || async {
        let waiting = world.originals("load").list(&waiting).await?;
        let message = waiting.iter().find_map(|one| one.data["status"]["message"].as_str()).unwrap_or_default();
        let is_told = message.contains("no node has 30 cpu free for template \"main\"");
        Ok(if is_told { Ok(()) } else { Err(message.to_owned()) })
    })
    .await
}

/// Waits until the figures of all clusters show these CPUs, all free, twice: the webhooks have them a moment after they are
/// written.
async fn figures(world: &World) -> Result<()> {
    counted(world).await?;
    counted(world).await
}

/// Figures from before are as good as none: they may not know yet what was just deleted.
async fn counted(world: &World) -> Result<()> {
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let start = jiff::Timestamp::now();
    wait_for("the figures", || async {
        for (name, cpus) in CPUS {
            let capacity = clusters.get(name).await?.status.and_then(|status| status.capacity);
            let Some(capacity) = capacity.filter(|capacity| capacity.time.0 > start) else {
                return Ok(Err(format!("{name} shows none since {start}")));
            };
            let of = [&capacity.allocatable, &capacity.requested, &capacity.pending];
            let shown = of.map(|of| argosy_placement::Resources::from(of).get("cpu"));
            if shown != [cpus * 1000, 0, 0] {
                return Ok(Err(format!("{name} shows {shown:?}")));
            }
        }
        Ok(Ok(()))
    })
    .await
}

/// Deletes a namespace's workflows, and waits until nothing of them is in any cluster.
async fn clear(world: &World, namespace: &str) -> Result<()> {
    let api = world.originals(namespace);
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    wait_for("their copies to go", || async {
        let mut left = 0;
        for wec in &world.wecs {
            left += crate::world::workflows(wec, namespace).list(&ListParams::default()).await?.items.len();
        }
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} are there")) })
    })
    .await
}

async fn cordoned(world: World) -> Result<()> {
    clear(&world, "load").await?;
    figures(&world).await?;
    world.namespace("cordon", json!({"argosy.dev/clusters": "env=testbed"})).await?;
    create_all(&world, "cordon", &[100; 15]).await?;
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let cordon = |cordoned: bool| Patch::Merge(json!({"spec": {"cordoned": cordoned}}));
    clusters.patch("cluster3", &PatchParams::default(), &cordon(true)).await?;
    let result = without_cluster3(&world).await;
    clusters.patch("cluster3", &PatchParams::default(), &cordon(false)).await?;
    clear(&world, "cordon").await?;
    result
}

async fn without_cluster3(world: &World) -> Result<()> {
    let strict = json!({"argosy.dev/clusters": "name=cluster3", "argosy.dev/no-cluster": "Reject"});
    world.namespace("cordon-probe", strict).await?;
    wait_for("the cordon to be in force", || async {
        let said = world.refusal("cordon-probe", &asking("cordon-probe", 1, 1)).await?;
        Ok(if said.contains("is cordoned") { Ok(()) } else { Err(said) })
    })
    .await?;
    clear(world, "cordon-probe").await?;
    let before = placed(world, "cordon").await?.get("cluster3").map_or(0, Vec::len);
    ensure!(before > 0, "nothing went to cluster3 before it was cordoned");
    create_all(world, "cordon", &[100; 15]).await?;
    let after = placed(world, "cordon").await?;
    ensure!(after.get("cluster3").map_or(0, Vec::len) == before, "cluster3 got more: {after:?}");
    ensure!(
        after.values().map(Vec::len).sum::<usize>() == 30 && !after.contains_key(""),
        "not all were placed: {after:?}"
    );
    Ok(())
}

async fn added(world: World) -> Result<()> {
    world.namespace("late", json!({"argosy.dev/clusters": "late"})).await?;
    create_all(&world, "late", &[100; 20]).await?;
    wait_for("all to wait", || async {
        let waiting = world.originals("late").list(&ListParams::default()).await?;
        let told = waiting.iter().filter(|one| one.data["status"]["message"].as_str().is_some()).count();
        Ok(if told == 20 { Ok(()) } else { Err(format!("{told} of 20 say what they wait for")) })
    })
    .await?;
    let cluster = json!({
        "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster",
        "metadata": {"name": "late", "labels": {"late": "yes"}},
        "spec": {"kubeconfigSecret": {"name": "cluster2-kubeconfig"}, "namespaces": ["late"], "createNamespaces": true},
    });
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let start = Instant::now();
    clusters.create(&PostParams::default(), &serde_json::from_value(cluster)?).await?;
    let all = wait_for("all to be placed", || async {
        let placed = placed(&world, "late").await?;
        Ok(if placed.get("late").map_or(0, Vec::len) == 20 { Ok(start.elapsed()) } else { Err(format!("{placed:?}")) })
    })
    .await;
    clear(&world, "late").await?;
    clusters.delete("late", &DeleteParams::default()).await?;
    let took = all?;
    ensure!(took <= Duration::from_secs(5), "it took {} s", took.as_secs_f64());
    Ok(())
}
