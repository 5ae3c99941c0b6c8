//! Live logs, the control cluster's side: a *shadow* for each pod of a routed workflow, on the virtual node of its cluster,
//! so that whoever asks the control cluster's API server for a log is led to the syncer (`crate::kubelet`).
//!
//! `view` reduces pods to what is kept, `plan` decides what comes next for one, `node` keeps the virtual node. This file
//! does the I/O.

pub mod node;
mod plan;
mod view;

use std::sync::Arc;
use std::time::{Duration, Instant};

use argosy_api::{WorkloadCluster, names};
use argosy_runtime::client::{RequestError, within};
use argosy_runtime::events;
use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde_json::Value;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::desk::{Key, Side};
use crate::kubelet::{Kubelet, Link};
use crate::queue::Queue;
use crate::work::Work;

use self::node::{RENEW, VirtualNode};
use self::plan::{Recorded, Step, plan};
use self::view::{Pod, PodView, Shadow};

/// How many shadows of a cluster are written at a time. Workflows' statuses go out beside them.
const WORKERS: usize = 8;
/// How long one watch request lasts; a silently dead connection is noticed that late.
const WATCH_SECONDS: u32 = 60;
/// How often every pod is looked at, whether or not an event asked for it.
const SWEEP: Duration = Duration::from_secs(60);
/// A pod may be seen before the copy that it belongs to: so often it is looked at again, and so much later each time.
const CLAIMS: u32 = 5;
const CLAIM: Duration = Duration::from_secs(1);
/// How long to wait after a write that failed.
const BACKOFF: Duration = Duration::from_secs(5);

/// Why a step was not carried out; each is tried again.
#[derive(Debug, Error)]
enum ShadowError {
    #[error("a pod of this name is there that is none of ours")]
    Taken,
    #[error("another cluster's shadow had its name, and is gone now")]
    Moved,
    #[error("the control cluster refuses it: {why}")]
    Refused { why: String },
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// What a session's shadows need beside its work.
pub struct Way {
    pub kubelet: Arc<Kubelet>,
    /// To the WEC, without a limit to how long nothing may come.
    pub wec: Client,
    pub link: Link,
    /// The virtual node's owner.
    pub cluster: Arc<WorkloadCluster>,
}

/// One session's shadows.
pub struct Shadows {
    work: Arc<Work>,
    node: VirtualNode,
    pods: Side<Pod, PodView>,
    shadows: Side<Shadow, PodView>,
    queue: Queue<Key>,
}

impl Shadows {
    pub fn new(work: Arc<Work>) -> Self {
        let node = VirtualNode::new(work.shared.control.clone(), &work.here.cluster);
        Self { work, node, pods: Side::new(Pod::new), shadows: Side::new(Shadow::new), queue: Queue::default() }
    }

    /// Whether there is a shadow of this name, and it is of a pod that belongs to the copy which its original is recorded
    /// to have. Of others, no log is anybody's here.
    pub fn has(&self, key: &Key) -> bool {
        let (pod, shadow) = (self.pods.get(key), self.shadows.get(key));
        let step = self.plan(key, pod.as_ref(), shadow.as_ref());
        shadow.is_some() && matches!(step, Step::Rest | Step::Show { .. })
    }

    /// Makes the node, keeps the shadows and serves their logs until cancelled.
    pub async fn run(self: Arc<Self>, way: Way) {
        let Way { kubelet, wec, link, cluster } = way;
        while let Err(error) = self.node.put(&cluster, &kubelet.address).await {
            tracing::warn!(cluster = self.work.here.cluster, %error, "no live logs; trying again");
            sleep(BACKOFF).await;
        }
        let _serving = kubelet.serve(&self.work.here.cluster, Arc::clone(&self), wec, link);
        let (wec, control) = (self.work.wec.clone(), self.work.shared.control.clone());
        let node = names::virtual_node(&self.work.here.cluster);
        let pods = watcher::Config::default().labels(names::ARGO_WORKFLOW);
        // All that is on the node, as a kubelet sees it.
        let shadows = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        tokio::select! {
            () = follow("pods of workflows", wec, pods, |event| self.take_in(&self.pods, event)) => {}
            () = follow("shadows", control, shadows, |event| self.take_in(&self.shadows, event)) => {}
            () = Arc::clone(&self).work() => {}
            () = self.sweep() => {}
            () = self.heartbeat() => {}
        }
    }

    /// Nothing is decided before both sides have been listed: absence would mean nothing.
    fn take_in<T: Clone>(&self, side: &Side<T, PodView>, event: Event<PodView>) {
        let was_synced = self.is_synced();
        let keys = side.apply(event);
        if was_synced {
            keys.into_iter().for_each(|key| self.queue.push(key));
        } else if self.is_synced() {
            self.ask_for_all();
        }
    }

    fn is_synced(&self) -> bool {
        self.pods.is_synced() && self.shadows.is_synced()
    }

    fn ask_for_all(&self) {
        self.pods.keys().into_iter().chain(self.shadows.keys()).for_each(|key| self.queue.push(key));
    }

    async fn sweep(&self) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.is_synced() {
                self.ask_for_all();
            }
        }
    }

    /// The node is as alive as the session.
    async fn heartbeat(&self) {
        let mut ticks = interval(RENEW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.work.check_lease().is_ok()
                && let Err(error) = self.node.renew().await
            {
                let cluster = &self.work.here.cluster;
                tracing::warn!(cluster, error = error.message(), "cannot renew the virtual node's Lease");
            }
        }
    }

    async fn work(self: Arc<Self>) {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let shadows = Arc::clone(&self);
            workers.spawn(async move {
                let mut retries = JoinSet::new();
                loop {
                    let key = tokio::select! {
                        key = shadows.queue.pop() => key,
                        Some(_) = retries.join_next() => continue,
                    };
                    let again = shadows.step(&key).await;
                    shadows.queue.done(&key);
                    if let Some(delay) = again {
                        let shadows = Arc::clone(&shadows);
                        retries.spawn(async move {
                            sleep(delay).await;
                            shadows.queue.push(key);
                        });
                    }
                }
            });
        }
        // Workers never end by themselves.
        workers.join_next().await;
    }

    fn plan(&self, key: &Key, pod: Option<&Pod>, shadow: Option<&Shadow>) -> Step {
        let recorded = pod.and_then(|pod| self.recorded(&key.namespace, &pod.workflow));
        plan(Instant::now(), &self.work.here.cluster, &key.name, pod, shadow, recorded.as_ref())
    }

    /// The original and the copy of this name, where one is recorded to be the other's.
    fn recorded(&self, namespace: &str, workflow: &str) -> Option<Recorded> {
        let key = Key { namespace: namespace.to_owned(), name: workflow.to_owned() };
        let (original, copy) = (self.work.originals.get(&key)?, self.work.copies.get(&key)?);
        Recorded::new(original, copy, &self.work.here)
    }

    /// Takes the next step; says when to look again.
    async fn step(&self, key: &Key) -> Option<Duration> {
        let (pod, shadow) = (self.pods.get(key), self.shadows.get(key));
        let step = self.plan(key, pod.as_ref(), shadow.as_ref());
        if step == Step::Rest || self.work.check_lease().is_err() {
            return None;
        }
        match step {
            Step::Unclaimed => return self.claims(key),
            Step::Later(delay) => return Some(delay),
            _ => {}
        }
        match self.carry_out(key, step).await {
            Ok(()) => self.queue.push(key.clone()),
            Err(ShadowError::Moved) => return Some(Duration::ZERO),
            Err(error @ (ShadowError::Taken | ShadowError::Refused { .. })) => {
                // The workflow runs all the same; the next sweep tries again.
                if let Some(pod) = pod {
                    self.tell(key, &pod, &error);
                }
            }
            Err(ShadowError::Request(error)) => {
                tracing::warn!(pod = %key, error = error.message(), "a shadow could not be written");
                return Some(BACKOFF);
            }
        }
        None
    }

    /// When to look again whether a pod's copy is known by now.
    fn claims(&self, key: &Key) -> Option<Duration> {
        let mut delay = None;
        self.pods.change(key, |pod| {
            if pod.claims < CLAIMS {
                pod.claims += 1;
                delay = Some(CLAIM * pod.claims);
            }
        });
        delay
    }

    async fn carry_out(&self, key: &Key, step: Step) -> Result<(), ShadowError> {
        let api: Api<PodView> = Api::namespaced(self.work.shared.control.clone(), &key.namespace);
        match step {
            Step::Rest | Step::Unclaimed | Step::Later(_) => {}
            Step::Create(shadow) => {
                self.create(key, &shadow).await?;
                self.pods.change(key, |pod| pod.shown = None);
            }
            Step::Show { status, print } => {
                match within(api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&status))).await {
                    Ok(written) => {
                        self.shadows.written(written);
                        self.pods.change(key, |pod| pod.shown = Some(print));
                    }
                    // Deleted meanwhile; the watch is about to say so.
                    Err(error) if error.status() == Some(404) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Step::Delete(uid) => self.delete(key, uid).await?,
        }
        Ok(())
    }

    async fn create(&self, key: &Key, shadow: &Value) -> Result<(), ShadowError> {
        let control = &self.work.shared.control;
        let body = serde_json::to_vec(shadow).map_err(|error| ShadowError::Refused { why: error.to_string() })?;
        let request = Request::new(PodView::url_path(&(), Some(&key.namespace)))
            .create(&PostParams::default(), body)
            .map_err(|error| ShadowError::Refused { why: error.to_string() })?;
        match within(control.request::<PodView>(request)).await {
            Ok(created) => self.shadows.written(created),
            Err(error) if error.status() == Some(409) => return Err(self.make_way(key).await?),
            Err(error) if matches!(error.status(), Some(403 | 422)) => {
                return Err(ShadowError::Refused { why: error.message() });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A workflow that was taken from a lost cluster has pods of the same names in the next.
    async fn make_way(&self, key: &Key) -> Result<ShadowError, RequestError> {
        let api: Api<PodView> = Api::namespaced(self.work.shared.control.clone(), &key.namespace);
        let Some(present) = within(api.get_opt(&key.name)).await?.map(Shadow::new) else {
            return Ok(ShadowError::Moved);
        };
        if present.cluster.is_none() {
            return Ok(ShadowError::Taken);
        }
        self.delete(key, present.uid).await?;
        Ok(ShadowError::Moved)
    }

    async fn delete(&self, key: &Key, uid: String) -> Result<(), RequestError> {
        let api: Api<PodView> = Api::namespaced(self.work.shared.control.clone(), &key.namespace);
        let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let params =
            DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default().preconditions(preconditions) };
        match within(api.delete(&key.name, &params)).await {
            Err(error) if !matches!(error.status(), Some(404 | 409)) => return Err(error),
            // Gone, or another one is there by now.
            _ => self.shadows.remove_if(key, |shadow| shadow.uid == uid),
        }
        Ok(())
    }

    /// Says on the workflow that it has no live logs.
    fn tell(&self, key: &Key, pod: &Pod, error: &ShadowError) {
        let workflow = Key { namespace: key.namespace.clone(), name: pod.workflow.clone() };
        let note = format!("no live logs of pod {} here: {error}", key.name);
        tracing::info!(pod = %key, %error, "no shadow");
        if let Some(original) = self.work.originals.get(&workflow) {
            self.work.shared.announcer.warn_workflow(&workflow, &original.uid, "NoLiveLogs", &note);
        }
    }
}

/// A watch on pods, for ever.
async fn follow(what: &'static str, client: Client, config: watcher::Config, take_in: impl Fn(Event<PodView>)) {
    let mut events = events::watch(what, Api::all(client), config.timeout(WATCH_SECONDS));
    while let Some(event) = events.next().await {
        take_in(event);
    }
}
