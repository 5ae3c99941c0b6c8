//! Which clusters there are: one supervised task for each WorkloadCluster.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use argosy_api::{SyncMode, WorkloadCluster};
use argosy_runtime::events::{self, Events};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{ClusterTask, Current, Shared};
use crate::kubelet::Link;
use crate::metrics::Metrics;

/// A task that is running.
struct Running {
    current: watch::Sender<Current>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

struct Registry {
    shared: Shared,
    metrics: Metrics,
    running: HashMap<String, Running>,
    /// Clusters seen in the list that is under way.
    listed: Vec<String>,
    /// Secrets by name, with their resourceVersions; a list says again what is known.
    secrets: HashMap<String, String>,
    listed_secrets: HashMap<String, String>,
    /// Tasks that have been told to end. A cluster that comes back waits for its old one, which still holds the Lease.
    ending: HashMap<String, JoinHandle<()>>,
}

/// Keeps one task per WorkloadCluster until `shutdown`, then waits for them to let go of their Leases.
pub async fn run(shared: Shared, metrics: Metrics, shutdown: CancellationToken) {
    let clusters: Api<WorkloadCluster> = Api::all(shared.control.clone());
    let config = match &shared.inside {
        Some(inside) => watcher::Config::default().fields(&format!("metadata.name={}", inside.cluster)),
        None => watcher::Config::default(),
    };
    let mut clusters = events::watch("workloadclusters", clusters, config);
    let mut secrets = secrets(&shared);
    let mut registry = Registry::new(shared, metrics);
    loop {
        tokio::select! {
            Some(event) = clusters.next() => registry.cluster_event(event),
            Some(event) = secrets.next() => registry.secret_event(event),
            () = shutdown.cancelled() => break,
        }
    }
    let names: Vec<String> = registry.running.keys().cloned().collect();
    names.iter().for_each(|name| registry.stop(name));
    futures::future::join_all(registry.ending.into_values()).await;
}

/// The Secrets with the ways to clusters, where there are any for this syncer to know.
fn secrets(shared: &Shared) -> Events<PartialObjectMeta<Secret>> {
    if shared.inside.is_some() {
        return Box::pin(futures::stream::pending());
    }
    let secrets = Api::namespaced(shared.control.clone(), &shared.namespace);
    events::watch("secrets", secrets, watcher::Config::default())
}

impl Registry {
    fn new(shared: Shared, metrics: Metrics) -> Self {
        Self {
            shared,
            metrics,
            running: HashMap::new(),
            listed: Vec::new(),
            secrets: HashMap::new(),
            listed_secrets: HashMap::new(),
            ending: HashMap::new(),
        }
    }

    fn cluster_event(&mut self, event: Event<WorkloadCluster>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(cluster) => {
                self.listed.push(cluster.name_any());
                self.put(cluster);
            }
            Event::InitDone => {
                let gone: Vec<String> =
                    self.running.keys().filter(|name| !self.listed.contains(name)).cloned().collect();
                gone.iter().for_each(|name| self.stop(name));
            }
            Event::Apply(cluster) => self.put(cluster),
            Event::Delete(cluster) => self.stop(&cluster.name_any()),
        }
    }

    fn put(&mut self, cluster: WorkloadCluster) {
        let name = cluster.name_any();
        let mode = if self.shared.inside.is_some() { SyncMode::Pull } else { SyncMode::Push };
        if cluster.spec.sync_mode != mode {
            // For the syncer inside of it, or for those in the control cluster.
            return self.stop(&name);
        }
        let cluster = Arc::new(cluster);
        match self.running.get(&name) {
            Some(running) => running.current.send_modify(|current| {
                current.secret = secret_of(&self.secrets, &cluster);
                current.cluster = cluster;
            }),
            None => {
                let running = self.start(name.clone(), cluster);
                self.running.insert(name, running);
            }
        }
    }

    fn secret_event(&mut self, event: Event<PartialObjectMeta<Secret>>) {
        let version = |secret: &PartialObjectMeta<Secret>| secret.resource_version().unwrap_or_default();
        match event {
            Event::Init => self.listed_secrets.clear(),
            Event::InitApply(secret) => drop(self.listed_secrets.insert(secret.name_any(), version(&secret))),
            Event::InitDone => self.secrets = std::mem::take(&mut self.listed_secrets),
            Event::Apply(secret) => drop(self.secrets.insert(secret.name_any(), version(&secret))),
            Event::Delete(secret) => drop(self.secrets.remove(&secret.name_any())),
        }
        // Tells those tasks whose Secret is another now.
        for running in self.running.values() {
            running.current.send_if_modified(|current| {
                let secret = secret_of(&self.secrets, &current.cluster);
                std::mem::replace(&mut current.secret, secret.clone()) != secret
            });
        }
    }

    fn start(&mut self, name: String, cluster: Arc<WorkloadCluster>) -> Running {
        tracing::info!(cluster = name, "starting the cluster's task");
        let (current, receiver) = {
            let secret = secret_of(&self.secrets, &cluster);
            watch::channel(Current { cluster, secret })
        };
        let shutdown = CancellationToken::new();
        let before = self.ending.remove(&name);
        let new = {
            let (shared, metrics) = (self.shared.clone(), self.metrics.of(&name));
            move || ClusterTask {
                shared: shared.clone(),
                name: name.clone(),
                current: receiver.clone(),
                metrics: metrics.clone(),
                link: Link::default(),
            }
        };
        Running { current, task: tokio::spawn(supervise(before, new, shutdown.clone())), shutdown }
    }

    fn stop(&mut self, name: &str) {
        let Some(running) = self.running.remove(name) else { return };
        tracing::info!(cluster = name, "ending the cluster's task");
        running.shutdown.cancel();
        self.ending.insert(name.to_owned(), running.task);
    }
}

/// The resourceVersion of a cluster's Secret, if both are there.
fn secret_of(secrets: &HashMap<String, String>, cluster: &WorkloadCluster) -> Option<String> {
    secrets.get(&cluster.spec.kubeconfig_secret.as_ref()?.name).cloned()
}

/// Runs a cluster's task, and runs it again should it panic: one cluster's bug is not the others' outage.
async fn supervise(before: Option<JoinHandle<()>>, new: impl Fn() -> ClusterTask, shutdown: CancellationToken) {
    if let Some(before) = before {
        // However it ended, it has ended.
        let _ = before.await;
    }
    while !shutdown.is_cancelled() {
        if let Err(error) = tokio::spawn(new().run(shutdown.clone())).await {
            tracing::error!(%error, "a cluster's task died; starting it anew");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
