//! Large workflows: how they come back, and what that costs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use argosy_api::PlacementPolicy;
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout};

use super::shapes::{annotated, gate, pod, steps};
use super::writes::{self, Written};
use crate::cases::steady::versions;
use crate::same;
use crate::world::{PATIENCE, World, labelled, metadata, nodes, sleeping, wait_for, workflows};

const NAMESPACE: &str = "large";
/// How long a large workflow may take: Argo's controller looks at all of its nodes each time.
const LONG: Duration = Duration::from_secs(300);

fn workflow(name: &str, templates: &[Value]) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {"generateName": format!("{name}-"), "labels": {"kubestellar.io/cluster": "cluster1"}},
        "spec": {"entrypoint": "main", "templates": templates},
    })
}

/// So many stages, one after the other: each makes so many nodes, and something is waited for. Nothing comes after the many
/// nodes: Argo's controller adds up the progress of all that comes after a node, for each node.
fn stages(count: usize, nodes: usize) -> Vec<Value> {
    let stage = |n: usize| {
        let before = n.checked_sub(1).map(|before| format!("b{before}"));
        let many = json!({"name": format!("s{n}"), "template": "n", "withSequence": {"count": nodes.to_string()}});
        [after(many, before.as_deref()), after(pause(n), before.as_deref())]
    };
    (0..count).flat_map(stage).collect()
}

/// A task that takes a moment: every fourth with a pod.
fn pause(n: usize) -> Value {
    json!({"name": format!("b{n}"), "template": if n % 4 == 3 { "work" } else { "wait" }})
}

fn after(mut task: Value, before: Option<&str>) -> Value {
    if let Some(before) = before {
        task["depends"] = before.into();
    }
    task
}

/// What these call. Names are short, so that nodes are small.
fn templates(tasks: Vec<Value>) -> Vec<Value> {
    vec![
        json!({"name": "main", "dag": {"tasks": tasks}}),
        gate("n", Some("0s")),
        gate("wait", Some("500ms")),
        gate("approval", None),
        pod("work", "200ms", "0"),
    ]
}

/// Waits until a workflow has ended well, and its original shows what its copy shows. Answers the original.
async fn ended(world: &World, name: &str) -> Result<DynamicObject> {
    let start = Instant::now();
    loop {
        let original = world.originals(NAMESPACE).get(name).await?;
        if original.labels().get("workflows.argoproj.io/completed").is_some_and(|done| done == "true") {
            let copy = workflows(&world.wecs[0], NAMESPACE).get(name).await?;
            let difference = same::difference(&original, &copy)?;
            ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
            let status = &original.data["status"];
            ensure!(status["phase"] == "Succeeded", "it ended {} ({})", status["phase"], status["message"]);
            return Ok(original);
        }
        let progress = &original.data["status"]["progress"];
        ensure!(start.elapsed() < LONG, "{name} has not ended in {} s; progress: {progress}", LONG.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn delete(world: &World, name: &str) -> Result<()> {
    world.originals(NAMESPACE).delete(name, &DeleteParams::default()).await?;
    world.presence(&workflows(&world.wecs[0], NAMESPACE), name, false).await
}

pub(super) async fn differences(world: World) -> Result<()> {
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "env=testbed"})).await?;
    // What Argo's controller leaves unpacked, managedFields included: they are about half of it with the full CRDs.
    let mut large = workflow("w", &templates(stages(8, 249)));
    // Named, so that its first version is seen, too.
    large["metadata"] = json!({"name": "w", "labels": large["metadata"]["labels"]});
    let seen = tokio::spawn(versions(world.originals(NAMESPACE), "w".to_owned()));
    let name = world.create(NAMESPACE, &large).await?;
    let original = ended(&world, &name).await?;
    let nodes = original.data["status"]["nodes"].as_object().map_or(0, Map::len);
    ensure!(nodes >= 2_000, "it has {nodes} nodes");
    let seen = timeout(PATIENCE, seen).await.context("its last version was not seen")???;
    let written = writes::to(&world, NAMESPACE, &name)?;
    ensure!(written.len() >= 8, "it was written {} times", written.len());
    let (mut worst, mut compared) = (0.0_f64, 0);
    for write in &written[1..] {
        let before = seen.iter().position(|version| version.resource_version().as_ref() == Some(&write.version));
        // The watch may have begun a moment late.
        let Some(before) = before else { continue };
        let (before, after) = (&seen[before], seen.get(before + 1).context("what a write made was not seen")?);
        compared += 1;
        let (change, length) = (change(before, after), write.length());
        #[allow(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = length as f64 / change.max(1) as f64;
        worst = worst.max(ratio);
        let paths = write.operations.iter().filter_map(|operation| operation["path"].as_str()).take(20);
        ensure!(ratio <= 2.0, "a write of {length} bytes for {change} that changed: {:?}", paths.collect::<Vec<_>>());
    }
    ensure!(compared + 3 >= written.len(), "only {compared} of {} writes were seen", written.len());
    let total: usize = written.iter().map(Written::length).sum();
    eprintln!("e2e: {nodes} nodes: {} writes, {total} bytes, at most {worst:.2} times the change", written.len());
    delete(&world, &name).await
}

/// How many bytes two versions of a workflow differ in: whole nodes, other fields of the status, labels, annotations.
fn change(before: &DynamicObject, after: &DynamicObject) -> usize {
    let of = |object: &DynamicObject| {
        let mut status = object.data["status"].as_object().cloned().unwrap_or_default();
        let nodes = status.remove("nodes").and_then(|nodes| nodes.as_object().cloned()).unwrap_or_default();
        let texts = |of: &std::collections::BTreeMap<String, String>| -> Map<String, Value> {
            of.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()
        };
        [nodes, status, texts(object.labels()), texts(object.annotations())]
    };
    let differ = |one: &Map<String, Value>, other: &Map<String, Value>| -> usize {
        let is_new = |(key, value): &(&String, &Value)| other.get(*key) != Some(*value);
        one.iter().filter(is_new).map(|(key, value)| key.len() + value.to_string().len() + 4).sum()
    };
    let gone = |one: &Map<String, Value>, other: &Map<String, Value>| -> usize {
        one.keys().filter(|key| !other.contains_key(*key)).map(|key| key.len() + 4).sum()
    };
    of(before).iter().zip(&of(after)).map(|(before, after)| differ(after, before) + gone(before, after)).sum()
}

pub(super) async fn packed(world: World) -> Result<()> {
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "env=testbed"})).await?;
    let mut all = stages(5, 1_000);
    all.push(json!({"name": "approval", "template": "approval", "depends": "b4"}));
    // Many small changes of a large workflow.
    let pauses = 10..20;
    all.extend(
        pauses.map(|n| after(pause(n), Some(&if n == 10 { "approval".to_owned() } else { format!("b{}", n - 1) }))),
    );
    let name = world.create(NAMESPACE, &workflow("w5k", &templates(all))).await?;
    let copies = tokio::spawn(changes(world.wecs[0].clone(), name.clone()));
    let start = Instant::now();
    loop {
        let original = world.originals(NAMESPACE).get(&name).await?;
        let nodes = nodes(&original)?;
        if nodes.values().any(|node| node["displayName"] == "approval" && node["phase"] == "Running") {
            ensure!(nodes.len() >= 5_000, "it has {} nodes", nodes.len());
            ensure!(original.data["status"].get("nodes").is_none(), "its nodes are not packed");
            break;
        }
        ensure!(
            start.elapsed() < LONG,
            "its gate was not reached in {} s; it has {} nodes",
            LONG.as_secs(),
            nodes.len()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let approve = ["resume", &name, "-n", NAMESPACE, "--node-field-selector", "displayName=approval"];
    world.run("argo", &approve, "").await?;
    wait_for("the original to show the approval", || async {
        let original = world.originals(NAMESPACE).get(&name).await?;
        let nodes = nodes(&original)?;
        let gate = nodes.into_iter().find(|(_, node)| node["displayName"] == "approval").context("no gate")?.1;
        Ok(if gate["phase"] == "Succeeded" { Ok(()) } else { Err(format!("the gate is {}", gate["phase"])) })
    })
    .await?;
    let original = ended(&world, &name).await?;
    ensure!(nodes(&original)?.len() >= 5_000 && original.data["status"].get("nodes").is_none(), "it is not packed");
    let copies = timeout(PATIENCE, copies).await.context("the copy's end was not seen")???;
    let written = writes::to(&world, NAMESPACE, &name)?;
    let is_packed = |write: &&Written| write.is_about("/status/compressedNodes");
    let first = written.iter().find(is_packed).context("no packed nodes were written")?.at;
    let written: Vec<&Written> = written.iter().filter(|write| write.at >= first).collect();
    for pair in written.windows(2) {
        let gap = pair[1].at.duration_since(pair[0].at).as_millis();
        let done = pair[1].value("/metadata/labels/workflows.argoproj.io~1completed");
        let is_urgent = done.is_some_and(|done| done == "true")
            || pair[1].is_about("/metadata/annotations/argosy.dev~1intents-done");
        ensure!(gap >= 5_000 || is_urgent, "it was written {gap} ms after the write before");
    }
    let changes = copies.iter().filter(|at| **at >= first).count();
    ensure!(changes > written.len(), "the copy changed {changes} times only, for {} writes", written.len());
    eprintln!("e2e: 5,000 nodes: {} packed writes for {changes} changes of the copy", written.len());
    delete(&world, &name).await
}

/// When each version of a copy was seen, until it is completed.
async fn changes(wec: Client, name: String) -> Result<Vec<Timestamp>> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher::watcher(metadata(&wec, NAMESPACE), config).default_backoff());
    let (mut seen, mut last) = (Vec::new(), None);
    while let Some(event) = events.next().await {
        let (Event::Apply(object) | Event::InitApply(object)) = event? else { continue };
        let version = object.resource_version();
        if version != last {
            seen.push(Timestamp::now());
            last = version;
        }
        if object.labels().get("workflows.argoproj.io/completed").is_some_and(|done| done == "true") {
            break;
        }
    }
    Ok(seen)
}

pub(super) async fn too_large(world: World) -> Result<()> {
    const TOO_LARGE: &str = "too-large";
    world.namespace(TOO_LARGE, json!({})).await?;
    // The original has something that the copy has not: both together are more than etcd takes.
    let policy = json!({
        "apiVersion": "argosy.dev/v1alpha1", "kind": "PlacementPolicy", "metadata": {"name": TOO_LARGE},
        "spec": {
            "namespaces": format!("kubernetes.io/metadata.name={TOO_LARGE}"), "clusters": "name=cluster1",
            "remove": ["$.spec.arguments.parameters[?@.name == 'ballast']"],
        },
    });
    let policies: Api<PlacementPolicy> = Api::all(world.control.clone());
    policies.patch(TOO_LARGE, &PatchParams::apply("e2e").force(), &Patch::Apply(&policy)).await?;
    let what_is = does_not_fit(&world, TOO_LARGE).await;
    policies.delete(TOO_LARGE, &DeleteParams::default()).await?;
    what_is
}

async fn does_not_fit(world: &World, namespace: &str) -> Result<()> {
    let result = json!({"result": noise(100_000)}).to_string();
    let each: Vec<Value> = (0..8).map(|n| json!({"name": format!("t{n}"), "template": "tell"})).collect();
    let calls = json!([each, [{"name": "gate", "template": "gate"}], [{"name": "bad", "template": "bad"}]]);
    let mut tell = json!({"name": "tell", "script": {"image": "busybox", "command": ["sh"], "source": "tell"}});
    tell = annotated(annotated(tell, "duration", "100ms"), "outputs", &result);
    let mut large = workflow("too-large", &[steps("main", calls), tell, gate("gate", None), pod("bad", "100ms", "1")]);
    large["metadata"]["labels"] = json!({});
    large["spec"]["arguments"] = json!({"parameters": [{"name": "ballast", "value": noise(700_000)}]});
    let name = wait_for("the policy to be in force", || async {
        let name = world.create(namespace, &large).await?;
        let original = world.originals(namespace).get(&name).await?;
        if original.labels().contains_key("kubestellar.io/cluster") {
            return Ok(Ok(name));
        }
        world.originals(namespace).delete(&name, &DeleteParams::default()).await?;
        Ok(Err("it was not routed".to_owned()))
    })
    .await?;
    let omitted = |original: &DynamicObject| {
        let conditions = original.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "NodesNotShown" && condition["status"] == "True")
    };
    wait_for("what waits to be shown", || async {
        let original = world.originals(namespace).get(&name).await?;
        let nodes = nodes(&original)?;
        let is_shown = nodes.values().any(|node| node["displayName"] == "gate" && node["phase"] == "Running");
        let is_so = is_shown && omitted(&original) && nodes.values().all(|node| node["phase"] != "Succeeded");
        Ok(if is_so { Ok(()) } else { Err(original.data["status"]["conditions"].to_string()) })
    })
    .await?;
    world.run("argo", &["resume", &name, "-n", namespace], "").await?;
    let original = world.phase(namespace, &name, "Failed").await?;
    let copy = workflows(&world.wecs[0], namespace).get(&name).await?;
    let (shown, all) = (nodes(&original)?, nodes(&copy)?);
    let failed: Vec<(&String, &Value)> = all.iter().filter(|(_, node)| node["phase"] == "Failed").collect();
    ensure!(all.len() >= 12 && !failed.is_empty(), "its copy has {} nodes, {} failed", all.len(), failed.len());
    ensure!(shown.iter().collect::<Vec<_>>() == failed, "shown are {:?}", shown.keys());
    ensure!(omitted(&original), "it does not say so: {}", original.data["status"]["conditions"]);
    for field in ["phase", "message", "finishedAt", "progress"] {
        let (here, there) = (&original.data["status"][field], &copy.data["status"][field]);
        ensure!(here == there, "{field} is {here} here and {there} there");
    }
    world.originals(namespace).delete(&name, &DeleteParams::default()).await?;
    world.presence(&workflows(&world.wecs[0], namespace), &name, false).await
}

/// Text that cannot be packed.
fn noise(length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(letters[usize::try_from(state >> 58).unwrap_or_default()])
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Nobody but the syncer may write a status; here somebody has its account.
pub(super) async fn changed_by_somebody(world: World) -> Result<()> {
    let kubeconfig =
        Kubeconfig::read_from(world.testbed.layout.cluster_dir("control").join("argosy-syncer.kubeconfig"))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let syncer = workflows(&Client::try_from(config)?, "default");
    let workflow = labelled(sleeping("changed", 600), json!({"kubestellar.io/cluster": "cluster1"}));
    let name = world.create("default", &workflow).await?;
    world.phase("default", &name, "Running").await?;
    for _ in 0..2 {
        let other = Patch::Merge(json!({"status": {"message": "by somebody", "phase": "Failed"}}));
        syncer.patch(&name, &PatchParams::default(), &other).await?;
        wait_for("its status to be given back", || async {
            let status = world.originals("default").get(&name).await?.data["status"].take();
            let is_back = status["phase"] == "Running" && status["message"].as_str().unwrap_or_default().is_empty();
            Ok(if is_back { Ok(()) } else { Err(format!("{} {}", status["phase"], status["message"])) })
        })
        .await?;
    }
    world.originals("default").delete(&name, &DeleteParams::default()).await.map(drop).map_err(Into::into)
}
