//! One cluster's task: hold its Lease, connect, watch both sides, work; start anew when the way there has changed.

use std::sync::Arc;
use std::time::Duration;

use argosy_api::workflow::SyncView;
use argosy_api::{WorkloadCluster, names};
use argosy_runtime::client::within;
use argosy_runtime::events::follow;
use argosy_runtime::known::Known;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::announce::Announcer;
use crate::argo_server::ArgoServer;
use crate::credentials::{self, Credentials, Held};
use crate::health::{self, Seen, Trouble};
use crate::inside::Inside;
use crate::inventory::Inventory;
use crate::kubeconfig;
use crate::kubelet::{Kubelet, Link};
use crate::lease::Lease;
use crate::members::Members;
use crate::metrics::ClusterMetrics;
use crate::plan::Here;
use crate::preflight::{self, Preflight};
use crate::queue;
use crate::readiness::{Readiness, Verdict};
use crate::shadows::Shadows;
use crate::shadows::node::VirtualNode;
use crate::work::{WORKERS, Wec, Work};

/// How often a cluster that answers is asked whether it still does.
const PROBE: Duration = Duration::from_secs(5);
/// How often one that does not is tried, and one that answers again is looked at before it counts.
const RETRY: Duration = Duration::from_secs(1);
/// How often every workflow is looked at, whether or not an event asked for it.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a cluster has been meant for another syncer when it is let go; members come and go with every upgrade.
const SETTLED: Duration = Duration::from_secs(15);

/// What all clusters' tasks share.
#[derive(Clone)]
pub struct Shared {
    pub control: Client,
    /// Where the kubeconfig Secrets and Leases are.
    pub namespace: String,
    /// Who this process is, among the holders of Leases.
    pub identity: String,
    /// Who this control cluster is on its copies.
    pub control_id: String,
    /// UID of its kube-system namespace.
    pub control_uid: String,
    /// How long copies of what workflows refer to stay where none uses them.
    pub keep_unused: Duration,
    pub known: Arc<Known>,
    pub announcer: Announcer,
    pub members: Members,
    /// Serves live logs, if that is asked for.
    pub kubelet: Option<Arc<Kubelet>>,
    /// Where this syncer is, if it is not in the control cluster.
    pub inside: Option<Arc<Inside>>,
}

impl Shared {
    /// A cluster's virtual node, where there are such.
    fn node(&self, cluster: &str) -> Option<VirtualNode> {
        let kubelet = self.kubelet.as_ref()?;
        Some(VirtualNode::new(self.control.clone(), cluster, kubelet.address.clone()))
    }
}

/// A WorkloadCluster, and the resourceVersion of its Secret, if that is there.
#[derive(Clone)]
pub struct Current {
    pub cluster: Arc<WorkloadCluster>,
    pub secret: Option<String>,
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
    pub current: watch::Receiver<Current>,
    pub metrics: ClusterMetrics,
    /// Of the logs that are on their way from it.
    pub link: Link,
}

impl Drop for ClusterTask {
    /// Also if it panicked.
    fn drop(&mut self) {
        self.link.cut();
    }
}

impl ClusterTask {
    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let Shared { control, namespace, identity, .. } = self.shared.clone();
        let lease = Arc::new(Lease::new(control, &namespace, names::lease(&self.name), identity));
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = lease.acquire(|| is_mine(&self.shared, &self.name)) => {}
                () = shutdown.cancelled() => break,
            }
            if let Err(error) = self.check_control().await {
                tracing::warn!(cluster = self.name, %error, "cannot tell which control cluster this is");
                lease.release().await;
                sleep(RETRY).await;
                continue;
            }
            tracing::info!(cluster = self.name, "holding the cluster's Lease");
            self.metrics.held.set(1);
            let moved = moved(self.shared.clone(), self.name.clone());
            // Whether or not the cluster answers, somebody looks after its node.
            let (node, owner) = (self.shared.node(&self.name), self.current.borrow().cluster.clone());
            let node = if_any(node.as_ref().map(|node| node.keep_lease(&owner)));
            tokio::select! {
                () = lease.keep() => {}
                () = node => {}
                () = moved => tracing::info!(cluster = self.name, "the cluster is another syncer's"),
                () = self.sessions(&lease) => {}
                () = shutdown.cancelled() => {}
            }
            // Nobody watches over the logs that are on their way any more; they say so, instead of just ending.
            self.link.cut();
            self.metrics.held.set(0);
            self.metrics.ready.set(0);
            lease.release().await;
        }
    }

    /// Ends the process if the control cluster is another one than it began with: rebuilt meanwhile, under the same address.
    /// It is known here by a wrong identity then, and whoever takes this one's place knows it by the right one.
    async fn check_control(&self) -> anyhow::Result<()> {
        let (uid, before) = (crate::control_uid(&self.shared.control).await?, &self.shared.control_uid);
        if uid != *before {
            tracing::error!(uid, before, "the control cluster is another one; beginning anew");
            std::process::exit(1);
        }
        Ok(())
    }

    /// One session after the other, for ever.
    async fn sessions(&mut self, lease: &Arc<Lease>) {
        let mut readiness = Readiness::from_status(self.current.borrow().cluster.status.as_ref());
        loop {
            let current = self.current.borrow_and_update().clone();
            match self.session(&current, lease, &mut readiness).await {
                End::Changed => readiness.reset(),
                End::Back => {}
                End::Trouble(trouble) => {
                    self.metrics.ready.set(0);
                    self.link.cut();
                    if let Some(node) = self.shared.node(&self.name)
                        && let Err(error) = node.show(&current.cluster, Some(&trouble)).await
                    {
                        tracing::debug!(cluster = self.name, %error, "the virtual node stays as it is");
                    }
                    self.report(&current.cluster, Err(trouble)).await;
                    tokio::select! {
                        () = sleep(RETRY) => {}
                        () = changed(self.current.clone(), &current) => readiness.reset(),
                    }
                }
            }
        }
    }

    async fn session(&self, current: &Current, lease: &Arc<Lease>, readiness: &mut Readiness) -> End {
        let cluster = current.cluster.as_ref();
        let (ways, seen) = match self.connect(cluster, readiness).await {
            Ok(connected) => connected,
            Err(trouble) => return End::Trouble(trouble),
        };
        let wec = ways.client.clone();
        let Shared { control_uid, .. } = &self.shared;
        let here = Here { control_uid: control_uid.clone(), cluster: self.name.clone(), cluster_uid: seen.cluster_uid };
        let Shared { control, control_id, .. } = &self.shared;
        let routed = format!("{}={}", names::CLUSTER, self.name);
        // Two WorkloadClusters may lead to the same WEC: each looks after its own copies there.
        let delivered = format!("{}={control_id},{routed}", names::CONTROL);
        let create_namespaces = cluster.spec.create_namespaces;
        let Shared { namespace, keep_unused, .. } = &self.shared;
        let preflight = Preflight::new(cluster.spec.copy.clone(), namespace.clone(), *keep_unused);
        let (shared, lease, metrics) = (self.shared.clone(), Arc::clone(lease), self.metrics.clone());
        let work = Arc::new(Work::new(shared, here, ways, create_namespaces, preflight, lease, metrics));
        let inventory = Inventory::new(Arc::clone(&work));
        let credentials = self.credentials(cluster, &wec, &work.lease);
        let shadows = self.shadows(&work, cluster);
        tokio::select! {
            () = workflows("originals", control.clone(), &routed, |event| work.original_event(event)) => End::Back,
            () = workflows("copies", wec.clone(), &delivered, |event| work.copy_event(event)) => End::Back,
            () = queue::work(Arc::clone(&work), WORKERS) => End::Back,
            () = sweep(&work) => End::Back,
            () = preflight::upkeep(&work) => End::Back,
            () = inventory.run() => End::Back,
            () = if_any(credentials.as_ref().map(Credentials::keep)) => End::Back,
            () = shadows => End::Back,
            end = self.probe(cluster, &wec, (&work, &inventory), readiness) => end,
            () = changed(self.current.clone(), current) => End::Changed,
        }
    }

    /// Live logs, for as long as a session lasts.
    async fn shadows(&self, work: &Arc<Work>, cluster: &WorkloadCluster) {
        let live = self.shared.kubelet.as_ref().zip(self.shared.node(&self.name));
        let live = live.map(|(kubelet, node)| {
            let shadows = Arc::new(Shadows::new(Arc::clone(work), node));
            shadows.run(kubelet, self.link.clone(), cluster)
        });
        if_any(live).await;
    }

    /// What is renewed while a session lasts: the token for whichever cluster is the other one.
    fn credentials<'a>(
        &'a self,
        cluster: &'a WorkloadCluster,
        wec: &'a Client,
        lease: &'a Lease,
    ) -> Option<Credentials<'a>> {
        let control = &self.shared.control;
        Some(match self.shared.inside.as_deref() {
            None => Credentials {
                store: control,
                namespace: &self.shared.namespace,
                secret: Held::Kubeconfig(cluster.spec.kubeconfig_secret.as_ref()?),
                issuer: wec,
                lease,
            },
            Some(inside) => {
                let (namespace, name) = inside.token_secret.as_ref()?;
                Credentials { store: wec, namespace, secret: Held::Token(name), issuer: control, lease }
            }
        })
    }

    /// Makes the client and has a first look, which is reported.
    async fn connect(&self, cluster: &WorkloadCluster, readiness: &mut Readiness) -> Result<(Wec, Seen), Trouble> {
        if let Some(inside) = &self.shared.inside {
            let (seen, _) = self.look(cluster, &inside.client, None, readiness).await?;
            let argo_server = ArgoServer::new(&inside.client, cluster, inside.token().as_deref());
            let (client, patient) = (inside.client.clone(), inside.client.clone());
            return Ok((Wec { client, argo_server, patient }, seen));
        }
        // The API server lets there be no WorkloadCluster without.
        let Some(reference) = &cluster.spec.kubeconfig_secret else {
            let message = "spec.kubeconfigSecret is missing".to_owned();
            return Err(Trouble { reason: "KubeconfigMissing", message });
        };
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
        let (wec, patient) = kubeconfig::clients(&secret, reference)
            .await
            .map_err(|error| Trouble { reason: "KubeconfigInvalid", message: format!("{named}: {error}") })?;
        let looked = self.look(cluster, &wec, None, readiness).await;
        let (seen, _) = looked.map_err(|trouble| credentials::explain(trouble, &self.name, &secret, &reference.key))?;
        let token = kubeconfig::token(&secret, reference);
        let argo_server = ArgoServer::new(&wec, cluster, token.as_deref());
        Ok((Wec { client: wec, argo_server, patient }, seen))
    }

    /// Looks at the WEC until it is clear whether it is ready, and reports it if it is. Tells whether that took only
    /// one look. In a session it must be the cluster that the session is with.
    async fn look(
        &self,
        cluster: &WorkloadCluster,
        wec: &Client,
        session: Option<(&Work, &Inventory)>,
        readiness: &mut Readiness,
    ) -> Result<(Seen, bool), Trouble> {
        let pinned = session.map(|(work, _)| work.here.cluster_uid.as_str()).or(health::pinned(cluster));
        let mut is_first = true;
        loop {
            let look = health::look(wec).await.and_then(|seen| health::check_pin(pinned, seen));
            match readiness.judge(look) {
                Verdict::Ready(mut seen) => {
                    self.metrics.ready.set(1);
                    seen.capacity = session.and_then(|(_, inventory)| inventory.state());
                    seen.of_before = session.and_then(|(work, _)| work.of_before());
                    self.report(cluster, Ok(seen.clone())).await;
                    return Ok((seen, is_first));
                }
                Verdict::NotReady(trouble) => return Err(trouble),
                Verdict::Undecided(Some(trouble)) => {
                    tracing::info!(cluster = self.name, trouble.message, "no answer to a probe");
                }
                Verdict::Undecided(None) => tracing::info!(cluster = self.name, "answers again; looking once more"),
            }
            is_first = false;
            sleep(RETRY).await;
        }
    }

    async fn report(&self, cluster: &WorkloadCluster, look: Result<Seen, Trouble>) {
        if let Err(error) = health::report(&self.shared.control, &cluster.name_any(), &look).await {
            tracing::warn!(cluster = self.name, error = error.message(), "cannot report the condition");
        }
    }

    /// Keeps asking. Ends when the cluster stops being usable, or is back after it did not answer.
    async fn probe(
        &self,
        cluster: &WorkloadCluster,
        wec: &Client,
        session: (&Work, &Inventory),
        readiness: &mut Readiness,
    ) -> End {
        loop {
            sleep(PROBE).await;
            match self.look(cluster, wec, Some(session), readiness).await {
                Ok((_, true)) => {}
                Ok((_, false)) => return End::Back,
                Err(trouble) => return End::Trouble(trouble),
            }
        }
    }
}

/// Work that goes on for ever; where there is none, nothing does.
async fn if_any(work: Option<impl Future<Output = ()>>) {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Whether a cluster is meant for this syncer, of those that share all clusters.
fn is_mine(shared: &Shared, cluster: &str) -> bool {
    if shared.inside.is_some() {
        return true;
    }
    let clusters = shared.known.clusters();
    let shared_out = clusters.iter().filter(|cluster| !cluster.is_pull);
    let clusters: Vec<&str> = shared_out.map(|cluster| cluster.name.as_str()).collect();
    shared.members.is_mine(cluster, &clusters)
}

/// Waits until a cluster has been meant for another syncer for a while.
async fn moved(shared: Shared, cluster: String) {
    let mut since = Instant::now();
    while since.elapsed() < SETTLED {
        sleep(RETRY).await;
        if is_mine(&shared, &cluster) {
            since = Instant::now();
        }
    }
}

/// Watches Workflows with these labels, for ever.
async fn workflows(what: &'static str, client: Client, selector: &str, take_in: impl Fn(Event<SyncView>)) {
    follow(what, Api::all(client), watcher::Config::default().labels(selector), take_in).await;
}

async fn sweep(work: &Work) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work.sweep();
    }
}

/// Waits for a change that a running session does not take up by itself: of the way to the cluster, not of the status
/// that we keep writing.
async fn changed(mut now: watch::Receiver<Current>, before: &Current) {
    let way = |current: &Current| {
        let spec = &current.cluster.spec;
        let argo = (spec.copy.clone(), spec.argo_server.clone());
        (spec.kubeconfig_secret.clone(), spec.create_namespaces, argo, current.secret.clone())
    };
    let before = way(before);
    if now.wait_for(|now| way(now) != before).await.is_err() {
        // The registry has let go of this cluster and is about to cancel its task.
        std::future::pending::<()>().await;
    }
}
