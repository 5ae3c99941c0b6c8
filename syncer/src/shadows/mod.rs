//! Live logs, the control cluster's side: a *shadow* for each pod of a routed workflow, on the virtual node of its cluster,
//! so that whoever asks the control cluster's API server for a log is led to the syncer (`crate::kubelet`).
//!
//! `view` reduces pods to what is kept, `plan` decides what comes next for one, `node` keeps the virtual node. This file
//! does the I/O.

pub mod node;
mod plan;
mod view;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use argosy_api::{WorkloadCluster, names};
use argosy_runtime::client::{RequestError, within};
use argosy_runtime::events::follow;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde_json::Value;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::desk::{Key, Side};
use crate::kubelet::{Kubelet, Link};
use crate::queue::{self, Queue, Worker};
use crate::work::{Work, locked};

use self::node::VirtualNode;
use self::plan::{Recorded, Step, is_shown, plan};
use self::view::{Pod, PodView, Shadow};

/// How many shadows of a cluster are written at a time. Workflows' statuses go out beside them.
const WORKERS: usize = 8;
/// Shadows of one cluster: all clusters' come to what Kubernetes keeps of pods that have ended (12,500), or near it.
const MOST: usize = 5_000;
/// The largest shadow, in bytes: a cluster that is not to be trusted must not fill this one's etcd.
const LARGEST: usize = 16 << 10;
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
    #[error("another pod of this name is there")]
    Taken,
    #[error("the control cluster refuses it: {why}")]
    Refused { why: String },
    #[error("{}", .0.message())]
    Request(RequestError),
}

impl From<RequestError> for ShadowError {
    /// What the API server will say again is no reason to ask it at once.
    fn from(error: RequestError) -> Self {
        match error.status() {
            Some(404 | 408 | 409 | 429) | None => Self::Request(error),
            Some(400..500) => Self::Refused { why: error.message() },
            Some(_) => Self::Request(error),
        }
    }
}

/// A body that is not too large.
fn small(body: &Value) -> Result<&Value, ShadowError> {
    match body.to_string().len() {
        length if length > LARGEST => {
            Err(ShadowError::Refused { why: format!("it would have {length} bytes, and {LARGEST} is the most") })
        }
        _ => Ok(body),
    }
}

/// One session's shadows.
pub struct Shadows {
    work: Arc<Work>,
    node: VirtualNode,
    pods: Side<Pod, PodView>,
    shadows: Side<Shadow, PodView>,
    queue: Queue<Key>,
    /// Those that are asked for again by a timer: one each is enough.
    timed: Mutex<HashSet<Key>>,
}

/// What follows a step.
enum Next {
    Step,
    Watch,
    Wait(Duration),
}

impl Worker for Shadows {
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn step(&self, key: &Key) -> Option<Duration> {
        let again = self.next_step(key).await?;
        locked(&self.timed).insert(key.clone()).then_some(again)
    }

    fn again(&self, key: Key) {
        locked(&self.timed).remove(&key);
        self.queue.push(key);
    }
}

impl Shadows {
    pub fn new(work: Arc<Work>, node: VirtualNode) -> Self {
        Self {
            work,
            node,
            pods: Side::new(Pod::new),
            shadows: Side::new(Shadow::new),
            queue: Queue::default(),
            timed: Mutex::default(),
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &str {
        &self.work.here.cluster
    }

    /// The way to the logs, which may be silent for long.
    pub fn patient(&self) -> &Client {
        &self.work.patient
    }

    /// Whether there is a shadow of this name whose log is somebody's here.
    pub fn has(&self, key: &Key) -> bool {
        let both = self.pods.get(key).zip(self.shadows.get(key));
        both.is_some_and(|(pod, shadow)| {
            let recorded = self.recorded(&key.namespace, &pod.workflow);
            is_shown(self.cluster(), &pod, &shadow, recorded.as_ref())
        })
    }

    /// Makes the node, keeps the shadows and serves their logs until cancelled.
    pub async fn run(self: Arc<Self>, kubelet: &Arc<Kubelet>, link: Link, owner: &WorkloadCluster) {
        while let Err(error) = self.node.show(owner, None).await {
            tracing::warn!(cluster = self.cluster(), %error, "no live logs; trying again");
            sleep(BACKOFF).await;
        }
        let _serving = kubelet.serve(Arc::clone(&self), link);
        let (wec, control) = (Api::all(self.work.wec.clone()), Api::all(self.work.shared.control.clone()));
        let pods = watcher::Config::default().labels(names::ARGO_WORKFLOW);
        // All that is on the node, as a kubelet sees it.
        let shadows = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node.name));
        tokio::select! {
            () = follow("pods of workflows", wec, pods, |event| self.take_in(&self.pods, event)) => {}
            () = follow("shadows", control, shadows, |event| self.take_in(&self.shadows, event)) => {}
            () = queue::work(Arc::clone(&self), WORKERS) => {}
            () = self.sweep(owner) => {}
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

    async fn sweep(&self, owner: &WorkloadCluster) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.is_synced() {
                self.ask_for_all();
            }
            // Whoever changed it or took it away.
            if self.work.check_lease().is_ok()
                && let Err(error) = self.node.show(owner, None).await
            {
                tracing::warn!(cluster = self.cluster(), %error, "the virtual node may not be as it should");
            }
        }
    }

    fn plan(&self, key: &Key, pod: Option<&Pod>, shadow: Option<&Shadow>) -> Step {
        let recorded = pod.and_then(|pod| self.recorded(&key.namespace, &pod.workflow));
        plan(Instant::now(), self.cluster(), &key.name, pod, shadow, recorded.as_ref())
    }

    /// The original and the copy of this name, where one is recorded to be the other's.
    fn recorded(&self, namespace: &str, workflow: &str) -> Option<Recorded> {
        let key = Key { namespace: namespace.to_owned(), name: workflow.to_owned() };
        let with = |original: &_| self.work.copies.read(&key, |copy| Recorded::new(original, copy, &self.work.here));
        self.work.originals.read(&key, with)??
    }

    /// Takes the next step; says when to look again, if somebody has to ask for that.
    async fn next_step(&self, key: &Key) -> Option<Duration> {
        // Whose a pod is cannot be said before all workflows are known.
        if !self.work.is_synced() {
            return Some(CLAIM);
        }
        let (pod, shadow) = (self.pods.get(key), self.shadows.get(key));
        let step = self.plan(key, pod.as_ref(), shadow.as_ref());
        if step == Step::Rest || self.work.check_lease().is_err() {
            return None;
        }
        let carried_out = match (step, &pod, &shadow) {
            (Step::Unclaimed, Some(pod), _) => return self.claims(key, pod),
            (Step::Later(delay), ..) => return Some(delay),
            (Step::Create { shadow, original }, Some(pod), _) => {
                self.pods.amend(key, &pod.resource_version, |pod| pod.shown = None);
                self.create(key, &shadow, &original).await
            }
            (Step::Show { status, print }, Some(pod), Some(shadow)) => {
                let shown = self.show(key, shadow, &status).await;
                self.pods.amend(key, &pod.resource_version, |pod| pod.shown = Some(print).filter(|_| shown.is_ok()));
                shown
            }
            (Step::Delete, _, Some(shadow)) => self.delete(key, shadow).await,
            _ => return None,
        };
        match carried_out {
            Ok(Next::Step) => self.queue.push(key.clone()),
            Ok(Next::Watch) => {}
            Ok(Next::Wait(delay)) => return Some(delay),
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
    fn claims(&self, key: &Key, pod: &Pod) -> Option<Duration> {
        let claims = pod.claims + 1;
        self.pods.amend(key, &pod.resource_version, |pod| pod.claims = claims);
        (claims <= CLAIMS).then(|| CLAIM * claims)
    }

    /// Where a shadow is.
    fn api(&self, key: &Key) -> Api<PodView> {
        Api::namespaced(self.work.shared.control.clone(), &key.namespace)
    }

    async fn show(&self, key: &Key, shadow: &Shadow, status: &Value) -> Result<Next, ShadowError> {
        let body = small(status)?;
        match within(self.api(key).patch_status(&key.name, &PatchParams::default(), &Patch::Merge(body))).await {
            Ok(written) => self.shadows.written(written),
            // Deleted meanwhile.
            Err(error) if error.status() == Some(404) => self.shadows.forget(key, &shadow.resource_version),
            Err(error) => return Err(error.into()),
        }
        Ok(Next::Step)
    }

    async fn create(&self, key: &Key, shadow: &Value, original: &str) -> Result<Next, ShadowError> {
        if self.shadows.len() >= MOST {
            return Err(ShadowError::Refused { why: format!("the cluster has {MOST} shadows, which is the most") });
        }
        let control = &self.work.shared.control;
        let request = Request::new(PodView::url_path(&(), Some(&key.namespace)))
            .create(&PostParams::default(), small(shadow)?.to_string().into_bytes())
            .map_err(|error| ShadowError::Refused { why: error.to_string() })?;
        match within(control.request::<PodView>(request)).await {
            Ok(created) => self.shadows.written(created),
            Err(error) if error.status() == Some(409) => return self.make_way(key, original).await,
            Err(error) => return Err(error.into()),
        }
        Ok(Next::Step)
    }

    /// A workflow that was taken from a lost cluster has pods of the same names in the next. Of another workflow's, nothing
    /// is taken away: its shadow would be made anew, and so on.
    async fn make_way(&self, key: &Key, original: &str) -> Result<Next, ShadowError> {
        match within(self.api(key).get_opt(&key.name)).await?.map(Shadow::new) {
            Some(present) if present.cluster.is_none() || present.original.as_deref() != Some(original) => {
                return Err(ShadowError::Taken);
            }
            Some(present) if !present.deleting => {
                self.delete(key, &present).await?;
            }
            _ => {}
        }
        // The other node's watch sees it go.
        Ok(Next::Wait(CLAIM))
    }

    async fn delete(&self, key: &Key, shadow: &Shadow) -> Result<Next, ShadowError> {
        let preconditions = Preconditions { uid: Some(shadow.uid.clone()), resource_version: None };
        let params =
            DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default().preconditions(preconditions) };
        match within(self.api(key).delete(&key.name, &params)).await {
            Err(error) if !matches!(error.status(), Some(404 | 409)) => Err(error.into()),
            // It may take its time, for a finalizer of somebody's; or another one is there by now.
            _ => Ok(Next::Watch),
        }
    }

    /// Says on the workflow that it has no live logs.
    fn tell(&self, key: &Key, pod: &Pod, error: &ShadowError) {
        let workflow = Key { namespace: key.namespace.clone(), name: pod.workflow.clone() };
        let note = format!("no live logs of pod {} here: {error}", key.name);
        tracing::info!(pod = %key, %error, "no shadow");
        if let Some(uid) = self.work.originals.read(&workflow, |original| original.uid.clone()) {
            self.work.shared.announcer.warn_workflow(&workflow, &uid, "NoLiveLogs", &note);
        }
    }
}
