//! Many workflows of all shapes, through their whole life.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use argosy_api::names;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, iter};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::shapes::{Deed, Shape, referred, shape};
use crate::same::difference;
use crate::world::{PATIENCE, World, metadata, put, wait_for, workflows};

const NAMESPACE: &str = "crowd";
/// How many are under way at a time: Argo's controllers look at each once a second, and all share this machine.
const AT_A_TIME: usize = 120;
/// How many are created at a time.
const CREATORS: usize = 8;

/// How many workflows: `ARGOSY_E2E_WORKFLOWS`, or 1,000.
fn size() -> Result<usize> {
    match std::env::var("ARGOSY_E2E_WORKFLOWS") {
        Ok(text) => text.parse().with_context(|| format!("ARGOSY_E2E_WORKFLOWS={text:?}: expected a number")),
        Err(_) => Ok(1000),
    }
}

struct Crowd {
    world: World,
    size: usize,
    start: Instant,
    /// Names of those that have ended.
    ended: Mutex<BTreeSet<String>>,
    /// Room for more.
    room: Semaphore,
    /// Whether what is refused is tried again: something is made to fail meanwhile.
    is_troubled: bool,
}

/// How it was with a crowd.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    pub size: usize,
    /// Seconds until all had ended.
    pub ended: u64,
    /// Seconds until all were gone after their deletion.
    pub gone: u64,
}

pub(super) async fn come_and_go(world: World) -> Result<()> {
    live(world, None).await.map(drop)
}

/// Lets a crowd come, end and go, while `trouble`, if there is any, lasts: until all have ended.
///
/// # Errors
/// One did not end, or not as it had to; an original does not show what its copy shows; something ran twice, ran here, or
/// was left over.
pub async fn live(world: World, trouble: Option<BoxFuture<'static, Result<()>>>) -> Result<Story> {
    let rule = json!({"argosy.dev/clusters": "env=testbed", "argosy.dev/strategy": "Spread"});
    world.namespace(NAMESPACE, rule).await?;
    for object in referred() {
        put(&world.control, NAMESPACE, object).await?;
    }
    let crowd = Crowd {
        world,
        size: size()?,
        start: Instant::now(),
        ended: Mutex::default(),
        room: Semaphore::new(AT_A_TIME),
        is_troubled: trouble.is_some(),
    };
    let (deeds, to_do) = mpsc::unbounded_channel();
    let lived = async { tokio::try_join!(crowd.come(deeds), crowd.act(to_do), crowd.end()).map(drop) };
    let lived = match trouble {
        Some(trouble) => tokio::select! {
            lived = lived => lived,
            ended = trouble => ended.and_then(|()| bail!("the trouble ended")),
        },
        None => lived.await,
    };
    let ended = crowd.start.elapsed().as_secs();
    let compared = match lived {
        Ok(()) => crowd.compare().await,
        other => other,
    };
    crowd.say("all have ended and were compared");
    let start = Instant::now();
    let gone = crowd.go().await;
    crowd.say("all are gone");
    compared.and(gone)?;
    Ok(Story { size: crowd.size, ended, gone: start.elapsed().as_secs() })
}

fn name(n: usize) -> String {
    format!("crowd-{n:05}")
}

impl Crowd {
    fn say(&self, what: &str) {
        eprintln!("e2e: {} workflows: {what} ({} s)", self.size, self.start.elapsed().as_secs());
    }

    /// Creates them, no more at a time than there is room for.
    async fn come(&self, deeds: mpsc::UnboundedSender<(String, Deed)>) -> Result<()> {
        let api = self.world.originals(NAMESPACE);
        let mut creations = iter(0..self.size)
            .map(|n| {
                let (api, deeds) = (api.clone(), deeds.clone());
                async move {
                    self.room.acquire().await?.forget();
                    let Shape { spec, deed, .. } = shape(n);
                    let workflow = json!({
                        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
                        "metadata": {"name": name(n)}, "spec": spec,
                    });
                    let workflow = serde_json::from_value(workflow)?;
                    self.insist(&format!("creating {}", name(n)), || async {
                        api.create(&PostParams::default(), &workflow).await.map(drop).map_err(Into::into)
                    })
                    .await?;
                    if deed != Deed::Nothing {
                        deeds.send((name(n), deed))?;
                    }
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(CREATORS);
        while let Some(created) = creations.next().await {
            created?;
        }
        Ok(())
    }

    /// Does something that is refused at most while something fails.
    async fn insist<T, F: Future<Output = Result<T>>>(&self, what: &str, mut act: impl FnMut() -> F) -> Result<T> {
        if !self.is_troubled {
            return act().await.with_context(|| what.to_owned());
        }
        wait_for(what, || {
            let acted = act();
            async { Ok(acted.await.map_err(|error| format!("{error:#}"))) }
        })
        .await
    }

    /// Does to each what is to be done to it.
    async fn act(&self, mut to_do: mpsc::UnboundedReceiver<(String, Deed)>) -> Result<()> {
        let mut doing = FuturesUnordered::new();
        let mut more = true;
        while more || !doing.is_empty() {
            tokio::select! {
                deed = to_do.recv(), if more => match deed {
                    Some((name, deed)) => doing.push(self.perform(name, deed)),
                    None => more = false,
                },
                Some(done) = doing.next() => done?,
            }
        }
        Ok(())
    }

    async fn perform(&self, name: String, deed: Deed) -> Result<()> {
        let api = self.world.originals(NAMESPACE);
        wait_for(&format!("{name} to wait at its gate"), || async {
            let nodes = api.get(&name).await?.data["status"]["nodes"].as_object().cloned().unwrap_or_default();
            let is_waiting = nodes.values().any(|node| node["displayName"] == "gate" && node["phase"] == "Running");
            Ok(if is_waiting { Ok(()) } else { Err("it does not yet".to_owned()) })
        })
        .await?;
        let argo = |args: Vec<&'static str>| {
            let (world, name) = (&self.world, name.as_str());
            async move {
                let (command, flags) = args.split_at(if args[0] == "node" { 2 } else { 1 });
                let args = [command, &[name, "-n", NAMESPACE], flags].concat();
                self.insist(&format!("argo {}", args.join(" ")), || world.run("argo", &args, "")).await
            }
        };
        match deed {
            Deed::Nothing => {}
            Deed::Resume => drop(argo(vec!["resume"]).await?),
            Deed::Answer => {
                let gate = ["--node-field-selector", "displayName=gate"];
                argo([&["node", "set", "--output-parameter", "answer=42"], &gate[..]].concat()).await?;
                argo([&["resume"], &gate[..]].concat()).await?;
            }
            Deed::Stop => drop(argo(vec!["stop"]).await?),
            Deed::Terminate => drop(argo(vec!["terminate"]).await?),
        }
        Ok(())
    }

    /// Waits until all have ended.
    async fn end(&self) -> Result<()> {
        let config = watcher::Config::default().labels("workflows.argoproj.io/completed=true");
        let mut events =
            std::pin::pin!(watcher::watcher(metadata(&self.world.control, NAMESPACE), config).default_backoff());
        loop {
            let count = {
                let ended = self.ended.lock().map_err(|_| anyhow::anyhow!("a panic"))?;
                ended.len()
            };
            if count == self.size {
                return Ok(());
            }
            let Ok(event) = timeout(PATIENCE, events.next()).await else { bail!(self.stuck(count)) };
            let (Event::Apply(object) | Event::InitApply(object)) = event.context("the watch ended")?? else {
                continue;
            };
            let mut ended = self.ended.lock().map_err(|_| anyhow::anyhow!("a panic"))?;
            if ended.insert(object.name_any()) {
                self.room.add_permits(1);
                if ended.len() % 100 == 0 {
                    self.say(&format!("{} have ended", ended.len()));
                }
            }
        }
    }

    fn stuck(&self, count: usize) -> String {
        let ended = self.ended.lock().map(|ended| ended.clone()).unwrap_or_default();
        let left: Vec<String> = (0..self.size).map(name).filter(|name| !ended.contains(name)).take(10).collect();
        format!("{count} of {} have ended, and none in {} s; among the others: {left:?}", self.size, PATIENCE.as_secs())
    }

    /// Each original shows what its copy shows, and how it had to end.
    async fn compare(&self) -> Result<()> {
        wait_for("all originals to show what their copies show", || async {
            let mut copies = HashMap::new();
            let mut clusters: BTreeMap<&str, usize> = BTreeMap::new();
            for (wec, cluster) in self.world.wecs.iter().zip(self.world.testbed.wecs()) {
                let there = workflows(wec, NAMESPACE).list(&ListParams::default()).await?;
                clusters.insert(&cluster.name, there.items.len());
                copies.extend(there.into_iter().map(|copy| (copy.name_any(), (cluster.name.as_str(), copy))));
            }
            if clusters.values().any(|count| *count < self.size / 10) {
                return Ok(Err(format!("copies by cluster: {clusters:?}")));
            }
            let originals = self.world.originals(NAMESPACE).list(&ListParams::default()).await?;
            ensure!(originals.items.len() == self.size, "there are {} originals", originals.items.len());
            for original in originals {
                let name = original.name_any();
                let Some((cluster, copy)) = copies.get(&name) else {
                    if self.is_troubled && is_overdue(&original) {
                        continue;
                    }
                    return Ok(Err(format!("no copy of {name}")));
                };
                if original.labels().get(names::CLUSTER).map(String::as_str) != Some(*cluster) {
                    return Ok(Err(format!("{name} is in {cluster}, where it does not belong")));
                }
                if let Some(difference) = difference(&original, copy)? {
                    return Ok(Err(format!("{name} in {cluster}: {difference}")));
                }
                let n = name.rsplit('-').next().and_then(|n| n.parse().ok()).context("a strange name")?;
                let (phase, message) = (&original.data["status"]["phase"], &original.data["status"]["message"]);
                if phase != shape(n).end {
                    return Ok(Err(format!("{name} ended {phase} ({message}), not {}", shape(n).end)));
                }
            }
            Ok(Ok(()))
        })
        .await?;
        let here = count(&self.world.control, "v1", "Pod", &format!("!{}", names::SHADOW)).await?;
        ensure!(here == 0, "{here} pods are in the control cluster");
        self.once().await
    }

    /// Each pod is its copy's, by UID, and the only one of its node.
    async fn once(&self) -> Result<()> {
        let mut nodes = BTreeSet::new();
        for wec in &self.world.wecs {
            let copies = metadata(wec, NAMESPACE).list(&ListParams::default()).await?.items;
            let copies: HashMap<String, String> =
                copies.into_iter().map(|copy| (copy.name_any(), copy.uid().unwrap_or_default())).collect();
            let pods: Api<Pod> = Api::namespaced(wec.clone(), NAMESPACE);
            for pod in pods.list_metadata(&ListParams::default()).await?.items {
                let owner = pod.owner_references().first().context("a pod without an owner")?;
                ensure!(copies.get(&owner.name) == Some(&owner.uid), "{} is another run's", pod.name_any());
                let node = pod.annotations().get(names::ARGO_NODE_ID).cloned().unwrap_or_default();
                ensure!(nodes.insert((owner.name.clone(), node)), "{} ran twice", pod.name_any());
            }
        }
        Ok(())
    }

    /// Deletes all of them, and waits until nothing of them is left in any cluster.
    async fn go(&self) -> Result<()> {
        let originals = self.world.originals(NAMESPACE);
        originals.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            let left = self.left().await?;
            let count: usize = left.values().sum();
            if count == 0 {
                return Ok(());
            }
            if count < least {
                (least, since) = (count, Instant::now());
            }
            ensure!(since.elapsed() < PATIENCE, "of deleted workflows is left: {left:?}");
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }

    /// What is there of them, by cluster and kind.
    async fn left(&self) -> Result<BTreeMap<String, usize>> {
        const ARGO: &str = "argoproj.io/v1alpha1";
        const OURS: &str = "app.kubernetes.io/managed-by=argosy";
        let of_workflows = [
            (ARGO, "Workflow", ""),
            ("v1", "Pod", ""),
            (ARGO, "WorkflowTaskResult", ""),
            (ARGO, "WorkflowTaskSet", ""),
        ];
        let copied = [(ARGO, "WorkflowTemplate", OURS), ("v1", "ConfigMap", OURS)];
        let mut left = BTreeMap::new();
        let control = ("control", &self.world.control);
        let wecs = self.world.testbed.wecs().iter().map(|wec| wec.name.as_str()).zip(&self.world.wecs);
        for (cluster, client) in std::iter::once(control).chain(wecs) {
            for (version, kind, labels) in of_workflows.iter().chain(&copied) {
                let count = count(client, version, kind, labels).await?;
                if count > 0 {
                    left.insert(format!("{kind} in {cluster}"), count);
                }
            }
        }
        Ok(left)
    }
}

/// Whether its time was over before it could be delivered.
fn is_overdue(original: &DynamicObject) -> bool {
    let status = &original.data["status"];
    status["phase"] == "Failed" && status["message"] == "Step exceeded its deadline" && status["nodes"].is_null()
}

/// How many objects of a kind with these labels are in the namespace.
async fn count(client: &Client, version: &str, kind: &str, labels: &str) -> Result<usize> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
    Ok(api.list_metadata(&ListParams::default().labels(labels)).await?.items.len())
}
