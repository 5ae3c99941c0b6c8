//! What is to be done once for the whole control cluster, by whichever replica holds the placer's Lease: workflows that
//! wait are placed, those of lost clusters wait again, it is noted where policies rule and which clusters' own syncers are
//! silent, and WorkloadClusters follow ClusterProfiles.

mod agents;
mod lost;
mod notes;
mod profiles;
mod round;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use argosy_api::names;
use argosy_runtime::events;
use argosy_runtime::known::Known;
use futures::StreamExt;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::announce::Announcer;
use crate::cluster::Shared;
use crate::lease::Lease;
use round::place_all;
use waiting::{Waiting, WaitingView};

/// How long changes are gathered before what they mean is worked out: a burst costs one round.
const GATHER: Duration = Duration::from_millis(200);
/// How often everything is looked at, whether or not anything has changed: decisions that came to nothing give room
/// back without a change.
const SWEEP: Duration = Duration::from_secs(5);

/// What the placer's parts need.
pub(crate) struct Placer {
    control: Client,
    /// Where the Secrets with kubeconfigs are.
    namespace: String,
    known: Arc<Known>,
    lease: Arc<Lease>,
    announcer: Announcer,
}

/// Runs until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let Shared { control, namespace, identity, known, announcer, .. } = shared;
    let lease = Arc::new(Lease::new(control.clone(), &namespace, "argosy-placer".to_owned(), identity));
    let placer = Placer { control, namespace, known, lease: Arc::clone(&lease), announcer };
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = lease.acquire(|| true) => {}
            () = shutdown.cancelled() => break,
        }
        tracing::info!("holding the placer's Lease");
        tokio::select! {
            () = lease.keep() => {}
            () = placer.place() => {}
            () = placer.note() => {}
            () = agents::follow(&placer) => {}
            () = lost::follow(&placer) => {}
            () = profiles::follow(&placer) => {}
            () = shutdown.cancelled() => {}
        }
        lease.release().await;
    }
}

impl Placer {
    /// Places what waits, for ever.
    async fn place(&self) {
        let waits = format!("{}=", names::CLUSTER);
        let api: Api<WaitingView> = Api::all(self.control.clone());
        let mut events = events::watch("waiting workflows", api, watcher::Config::default().labels(&waits));
        let mut changes = self.known.changes();
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Waiting::default();
        self.known.all_synced().await;
        loop {
            tokio::select! {
                Some(event) = events.next() => waiting.apply(event),
                _ = changes.changed() => {}
                _ = ticks.tick() => {}
            }
            sleep(GATHER).await;
            while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
                waiting.apply(event);
            }
            if !waiting.is_synced() {
                continue;
            }
            changes.mark_unchanged();
            place_all(self, &mut waiting).await;
        }
    }

    /// Notes where policies rule, for ever.
    async fn note(&self) {
        let mut changes = self.known.changes();
        let mut notes = notes::Notes::default();
        loop {
            self.known.synced().await;
            let fine = notes.write(self).await;
            // What did not work is tried again; what did waits for a change.
            tokio::select! {
                _ = changes.changed() => sleep(GATHER).await,
                () = sleep(SWEEP), if !fine => {}
            }
        }
    }
}
