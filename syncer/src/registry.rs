//! Which clusters there are: one supervised task for each WorkloadCluster.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use argosy_api::WorkloadCluster;
use argosy_runtime::events;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{ClusterTask, Current, Shared};
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
}

/// Keeps one task per WorkloadCluster until `shutdown`, then waits for them to let go of their Leases.
pub async fn run(shared: Shared, metrics: Metrics, shutdown: CancellationToken) {
    let clusters: Api<WorkloadCluster> = Api::all(shared.control.clone());
    let mut clusters = events::watch("workloadclusters", clusters, watcher::Config::default());
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(shared.control.clone(), &shared.namespace);
    let mut secrets = events::watch("secrets", secrets, watcher::Config::default());
    let mut registry = Registry { shared, metrics, running: HashMap::new(), listed: Vec::new() };
    loop {
        tokio::select! {
            Some(event) = clusters.next() => registry.cluster_event(event),
            Some(event) = secrets.next() => {
                if let Event::Apply(secret) | Event::InitApply(secret) | Event::Delete(secret) = event {
                    registry.secret_changed(&secret.name_any());
                }
            }
            () = shutdown.cancelled() => break,
        }
    }
    let names: Vec<String> = registry.running.keys().cloned().collect();
    let ended = names.iter().filter_map(|name| registry.stop(name));
    futures::future::join_all(ended).await;
}

impl Registry {
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
                gone.iter().for_each(|name| drop(self.stop(name)));
            }
            Event::Apply(cluster) => self.put(cluster),
            Event::Delete(cluster) => drop(self.stop(&cluster.name_any())),
        }
    }

    fn put(&mut self, cluster: WorkloadCluster) {
        let name = cluster.name_any();
        let cluster = Arc::new(cluster);
        match self.running.get(&name) {
            Some(running) => running.current.send_modify(|current| current.cluster = cluster),
            None => drop(self.running.insert(name.clone(), self.start(name, cluster))),
        }
    }

    /// Tells the tasks that use this Secret.
    fn secret_changed(&self, secret: &str) {
        for running in self.running.values() {
            running.current.send_if_modified(|current| {
                let uses_it = current.cluster.spec.kubeconfig_secret.name == secret;
                current.secret_changes += u64::from(uses_it);
                uses_it
            });
        }
    }

    fn start(&self, name: String, cluster: Arc<WorkloadCluster>) -> Running {
        tracing::info!(cluster = name, "starting the cluster's task");
        let (current, receiver) = watch::channel(Current { cluster, secret_changes: 0 });
        let shutdown = CancellationToken::new();
        let new = {
            let (shared, metrics) = (self.shared.clone(), self.metrics.of(&name));
            move || ClusterTask {
                shared: shared.clone(),
                name: name.clone(),
                current: receiver.clone(),
                metrics: metrics.clone(),
            }
        };
        Running { current, task: tokio::spawn(supervise(new, shutdown.clone())), shutdown }
    }

    fn stop(&mut self, name: &str) -> Option<JoinHandle<()>> {
        let running = self.running.remove(name)?;
        tracing::info!(cluster = name, "ending the cluster's task");
        running.shutdown.cancel();
        Some(running.task)
    }
}

/// Runs a cluster's task, and runs it again should it panic: one cluster's bug is not the others' outage.
async fn supervise(new: impl Fn() -> ClusterTask, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = tokio::spawn(new().run(shutdown.clone())).await {
            tracing::error!(%error, "a cluster's task died; starting it anew");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
