//! What a WEC has and what is taken of it, kept fresh in its WorkloadCluster for placement to decide by.
//!
//! `view` reduces nodes and pods to what counts, `ledger` books them event by event, `census` (with `groups`) turns
//! the books into a status, and `figures` that into a patch. This file does the I/O: it watches, looks whether
//! watching is permitted, and publishes.

mod census;
mod figures;
mod groups;
mod ledger;
mod sum;
mod view;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argosy_api::WorkloadCluster;
use argosy_runtime::client::{RequestError, within};
use argosy_runtime::events::follow;
use argosy_runtime::known::Awaited;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::health::Trouble;
use crate::plan::Here;
use crate::work::Work;

use self::figures::{Count, Figures};
use self::ledger::Ledger;
use self::view::{NodeView, PodView};

/// The figures are written no more often than this.
const PUBLISH: Duration = Duration::from_secs(1);
/// They are written at least this often (their time tells readers that they are alive), each time after a look
/// whether the WEC still answers: within the 8 s that are promised, with some time for the requests.
const REFRESH: Duration = Duration::from_secs(7);
/// Pods that are done ask for nothing; the API server need not send them.
const NOT_DONE: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Whether nodes and pods of the WEC can be read.
#[derive(Clone, Debug, PartialEq)]
enum Access {
    /// Not asked yet.
    Unknown,
    Granted,
    /// Not at present. The figures stay and grow old.
    Failing(Trouble),
    /// The WEC's RBAC does not permit it: there are no figures.
    Denied(Trouble),
}

/// One session's inventory.
pub struct Inventory {
    work: Arc<Work>,
    ledger: Mutex<Ledger>,
    access: watch::Sender<Access>,
}

impl Inventory {
    pub fn new(work: Arc<Work>) -> Self {
        Self { work, ledger: Mutex::default(), access: watch::Sender::new(Access::Unknown) }
    }

    /// Counts and publishes until cancelled.
    pub async fn run(&self) {
        tokio::join!(self.count(), self.publish());
    }

    /// Whether the capacity is known, or why not; `None` while that is not clear yet.
    pub fn state(&self) -> Option<Result<(), Trouble>> {
        match &*self.access.borrow() {
            Access::Failing(trouble) | Access::Denied(trouble) => Some(Err(trouble.clone())),
            Access::Granted if self.ledger().is_synced() => Some(Ok(())),
            Access::Granted | Access::Unknown => None,
        }
    }

    /// Watches for as long as that is permitted.
    async fn count(&self) {
        let mut access = self.access.subscribe();
        loop {
            // The sender is a field of ours, so waiting never fails.
            let _ = access.wait_for(|access| *access == Access::Granted).await;
            let (nodes, pods): (Api<NodeView>, Api<PodView>) =
                (Api::all(self.work.wec.clone()), Api::all(self.work.wec.clone()));
            let (all, not_done) = (watcher::Config::default(), watcher::Config::default().fields(NOT_DONE));
            tokio::select! {
                () = follow("nodes", nodes, all, |event| self.ledger().node_event(event)) => {}
                () = follow("pods", pods, not_done, |event| self.ledger().pod_event(event)) => {}
                _ = access.wait_for(|access| matches!(access, Access::Denied(_))) => {}
            }
            *self.ledger() = Ledger::default();
        }
    }

    async fn publish(&self) {
        let mut ticks = interval(PUBLISH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checked: Option<Instant> = None;
        let mut written: Option<Figures> = None;
        let mut seen = None;
        loop {
            ticks.tick().await;
            let is_due = self.is_failing() || checked.is_none_or(|at| at.elapsed() >= REFRESH);
            if is_due {
                checked = Some(Instant::now());
                self.access.send_replace(check(&self.work.wec).await);
            }
            // Figures that nobody vouches for must not look fresh; and only the Lease's holder writes.
            if self.is_failing() || self.work.check_lease().is_err() {
                continue;
            }
            let active = self.work.active();
            let (now, figures) = {
                let ledger = self.ledger();
                let awaited = self.awaited(&ledger);
                // Up to where workflows have been seen moves with every write to any of them, and alone is no news.
                let now = (ledger.version(), active, awaited.pending.clone());
                if !is_due && seen.as_ref() == Some(&now) {
                    continue;
                }
                (now, self.figures(&ledger, &awaited, active))
            };
            if is_due || written.as_ref().is_none_or(|written| figures.is_news_after(written)) {
                match self.write(&figures).await {
                    Ok(()) => written = Some(figures),
                    Err(error) => {
                        let cluster = &self.work.here.cluster;
                        tracing::warn!(cluster, error = error.message(), "cannot write the cluster's capacity");
                        continue;
                    }
                }
            }
            seen = Some(now);
        }
    }

    /// What was placed here and does not show in the books yet.
    fn awaited(&self, ledger: &Ledger) -> Awaited {
        let Here { cluster, .. } = &self.work.here;
        let has_pods = |namespace: &str, workflow: &str| ledger.has_pods(namespace, workflow);
        self.work.shared.known.awaited(cluster, has_pods, Timestamp::now())
    }

    fn figures(&self, ledger: &Ledger, awaited: &Awaited, active_workflows: Option<u32>) -> Figures {
        let is_denied = matches!(&*self.access.borrow(), Access::Denied(_));
        let capacity = match is_denied {
            true => Count::Impossible,
            false if ledger.is_synced() => Count::Done(census::capacity(ledger, awaited, Timestamp::now())),
            false => Count::UnderWay,
        };
        Figures { capacity, active_workflows }
    }

    async fn write(&self, figures: &Figures) -> Result<(), RequestError> {
        let api: Api<WorkloadCluster> = Api::all(self.work.shared.control.clone());
        if let Some(patch) = figures.patch() {
            within(api.patch_status(&self.work.here.cluster, &PatchParams::default(), &patch)).await?;
        }
        Ok(())
    }

    fn is_failing(&self) -> bool {
        matches!(&*self.access.borrow(), Access::Failing(_))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for one node and one pod: a watch that is refused, or whose connection is dead, says nothing of it.
async fn check(wec: &Client) -> Access {
    let one = ListParams::default().limit(1);
    let (nodes, pods): (Api<core::Node>, Api<core::Pod>) = (Api::all(wec.clone()), Api::all(wec.clone()));
    let (nodes, pods) = tokio::join!(within(nodes.list_metadata(&one)), within(pods.list_metadata(&one)));
    match nodes.map(drop).and(pods.map(drop)) {
        Ok(()) => Access::Granted,
        Err(error) => refused(error.status(), &error.message()),
    }
}

/// What a failed look means.
fn refused(status: Option<u16>, message: &str) -> Access {
    if status == Some(403) {
        let message = format!("{message}: `helm upgrade` argosy-member there, so that nodes and pods may be counted");
        Access::Denied(Trouble { reason: "Forbidden", message })
    } else {
        let message = format!("cannot list nodes and pods: {message}");
        Access::Failing(Trouble { reason: "Unreadable", message })
    }
}
