//! One cluster's task: hold its Lease, connect, watch both sides, work; start anew when the way there has changed.

use std::sync::Arc;
use std::time::Duration;

use argosy_api::workflow::SyncView;
use argosy_api::{WorkloadCluster, names};
use argosy_runtime::client::within;
use argosy_runtime::events::{self, Events};
use argosy_runtime::policy::Policy;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::health::{self, Seen, Trouble};
use crate::kubeconfig;
use crate::lease::Lease;
use crate::metrics::ClusterMetrics;
use crate::plan::Here;
use crate::work::Work;

/// How often a cluster that answers is asked whether it still does.
const PROBE: Duration = Duration::from_secs(5);
/// How often one that does not is tried.
const RETRY: Duration = Duration::from_secs(2);
/// So many unanswered probes in a row make a cluster not ready.
const PROBES: u32 = 3;
/// How often every workflow is looked at, whether or not an event asked for it.
const SWEEP: Duration = Duration::from_secs(60);
/// How long one watch request lasts; a silently dead connection is noticed that late.
const WATCH_SECONDS: u32 = 60;

/// What all clusters' tasks share.
#[derive(Clone)]
pub struct Shared {
    pub control: Client,
    /// Where the kubeconfig Secrets and Leases are.
    pub namespace: String,
    /// Who this process is, among the holders of Leases.
    pub identity: String,
    pub control_id: String,
    pub policy: Arc<Policy>,
}

/// Why a cluster's session ended.
enum End {
    /// The WorkloadCluster or its Secret changed.
    Changed,
    /// The cluster answers again after it did not: what was missed is found by listing anew.
    Back,
    Trouble(Trouble),
}

/// The task of one cluster. `current` brings the WorkloadCluster whenever it or its Secret changed.
pub struct ClusterTask {
    pub shared: Shared,
    pub name: String,
    pub current: watch::Receiver<Arc<WorkloadCluster>>,
    pub metrics: ClusterMetrics,
}

impl ClusterTask {
    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let Shared { control, namespace, identity, .. } = self.shared.clone();
        let lease = Arc::new(Lease::new(control, &namespace, format!("argosy-cluster-{}", self.name), identity));
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = lease.acquire() => {}
                () = shutdown.cancelled() => break,
            }
            tracing::info!(cluster = self.name, "holding the cluster's Lease");
            self.metrics.held.set(1);
            tokio::select! {
                () = lease.keep() => {}
                () = self.sessions(&lease) => {}
                () = shutdown.cancelled() => {}
            }
            self.metrics.held.set(0);
            lease.release().await;
        }
    }

    /// One session after the other, for ever.
    async fn sessions(&mut self, lease: &Arc<Lease>) {
        loop {
            let cluster = Arc::clone(&self.current.borrow_and_update());
            match self.session(&cluster, lease).await {
                End::Changed | End::Back => {}
                End::Trouble(trouble) => {
                    self.metrics.ready.set(0);
                    if let Err(error) = health::report(&self.shared.control, &cluster, &Err(trouble)).await {
                        tracing::warn!(cluster = self.name, error = error.message(), "cannot report the condition");
                    }
                    tokio::select! {
                        () = sleep(RETRY) => {}
                        _ = self.current.changed() => {}
                    }
                }
            }
        }
    }

    async fn session(&mut self, cluster: &WorkloadCluster, lease: &Arc<Lease>) -> End {
        let (wec, seen) = match self.connect(cluster).await {
            Ok(connected) => connected,
            Err(trouble) => return End::Trouble(trouble),
        };
        let here = Here { cluster: self.name.clone(), cluster_uid: seen.cluster_uid };
        let Shared { control, control_id, policy, .. } = self.shared.clone();
        let routed = format!("{}={}", names::CLUSTER, self.name);
        // Two WorkloadClusters may lead to the same WEC: each looks after its own copies there.
        let delivered = format!("{}={control_id},{routed}", names::CONTROL);
        let originals = workflows("originals", control.clone(), routed);
        let copies = workflows("copies", wec.clone(), delivered);
        let create_namespaces = cluster.spec.create_namespaces;
        let (lease, metrics) = (Arc::clone(lease), self.metrics.clone());
        let work =
            Arc::new(Work::new(here, control_id, create_namespaces, control, wec.clone(), policy, lease, metrics));
        tokio::select! {
            () = follow(originals, |event| work.original_event(event)) => End::Back,
            () = follow(copies, |event| work.copy_event(event)) => End::Back,
            () = Arc::clone(&work).run() => End::Back,
            () = sweep(&work) => End::Back,
            end = self.probe(cluster, &wec) => end,
            () = changed(self.current.clone(), cluster) => End::Changed,
        }
    }

    /// Makes the client and has a first look, which is reported.
    async fn connect(&self, cluster: &WorkloadCluster) -> Result<(Client, Seen), Trouble> {
        let reference = &cluster.spec.kubeconfig_secret;
        let named = format!("Secret {}/{}", self.shared.namespace, reference.name);
        let secrets: Api<Secret> = Api::namespaced(self.shared.control.clone(), &self.shared.namespace);
        let secret = match within(secrets.get_opt(&reference.name)).await {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                let message = format!("{named} (spec.kubeconfigSecret.name) does not exist");
                return Err(Trouble { reason: "KubeconfigMissing", message });
            }
            Err(error) => {
                let message = format!("cannot read {named}: {}", error.message());
                return Err(Trouble { reason: "KubeconfigUnreadable", message });
            }
        };
        let wec = kubeconfig::client(&secret, reference)
            .await
            .map_err(|error| Trouble { reason: "KubeconfigInvalid", message: format!("{named}: {error}") })?;
        let seen = self.look(cluster, &wec).await?;
        Ok((wec, seen))
    }

    /// Looks at the WEC and reports what is found.
    async fn look(&self, cluster: &WorkloadCluster, wec: &Client) -> Result<Seen, Trouble> {
        let seen = health::check_pin(cluster, health::look(wec).await?)?;
        self.metrics.ready.set(1);
        if let Err(error) = health::report(&self.shared.control, cluster, &Ok(seen.clone())).await {
            tracing::warn!(cluster = self.name, error = error.message(), "cannot report the condition");
        }
        Ok(seen)
    }

    /// Keeps asking. Ends when the cluster stops being usable, or is back after it did not answer.
    async fn probe(&self, cluster: &WorkloadCluster, wec: &Client) -> End {
        let mut missed = 0;
        loop {
            sleep(if missed == 0 { PROBE } else { RETRY }).await;
            match self.look(cluster, wec).await {
                Ok(_) if missed > 0 => return End::Back,
                Ok(_) => {}
                Err(trouble) => {
                    missed += 1;
                    tracing::info!(cluster = self.name, missed, trouble.message, "no answer to a probe");
                    if missed >= PROBES || trouble.reason != "Unreachable" {
                        return End::Trouble(trouble);
                    }
                }
            }
        }
    }
}

/// A watch on Workflows with this label, for ever.
fn workflows(what: &'static str, client: Client, selector: String) -> Events<SyncView> {
    let config = watcher::Config::default().labels(&selector).timeout(WATCH_SECONDS);
    events::watch(what, Api::all(client), config)
}

async fn follow(mut events: Events<SyncView>, take_in: impl Fn(Event<SyncView>)) {
    while let Some(event) = events.next().await {
        take_in(event);
    }
}

async fn sweep(work: &Work) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work.sweep();
    }
}

/// Waits for a change that a running session does not take up by itself.
async fn changed(mut current: watch::Receiver<Arc<WorkloadCluster>>, before: &WorkloadCluster) {
    while current.changed().await.is_ok() {
        let now = current.borrow_and_update();
        let is_same = now.spec.kubeconfig_secret == before.spec.kubeconfig_secret
            && now.spec.create_namespaces == before.spec.create_namespaces
            && now.resource_version() != before.resource_version();
        if !is_same {
            return;
        }
    }
    // The registry has let go of this cluster and is about to cancel its task.
    std::future::pending::<()>().await;
}
