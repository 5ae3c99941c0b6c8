//! One cluster's work: workers take keys from the queue, decide the next step and carry it out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argosy_api::workflow::SyncView;
use argosy_runtime::client::RequestError;
use kube::Client;
use kube::runtime::watcher::Event;
use thiserror::Error;
use tokio::task::JoinSet;

use crate::cluster::Shared;
use crate::desk::{Copy, Key, Original, Side};
use crate::lease::Lease;
use crate::metrics::ClusterMetrics;
use crate::plan::{Here, Step, plan};
use crate::queue::Queue;

/// How many workflows of a cluster are written at a time.
const WORKERS: usize = 32;

/// Everything that one cluster's steps need.
pub struct Work {
    pub(crate) shared: Shared,
    pub(crate) here: Here,
    pub(crate) wec: Client,
    pub(crate) create_namespaces: bool,
    pub(crate) lease: Arc<Lease>,
    pub(crate) metrics: ClusterMetrics,
    pub(crate) originals: Side<Original>,
    pub(crate) copies: Side<Copy>,
    queue: Queue<Key>,
    /// How often in a row a key's step has not worked.
    failures: Mutex<HashMap<Key, u32>>,
}

/// Why a step was not carried out; each is tried again.
#[derive(Debug, Error)]
pub enum StepError {
    #[error("what it was decided from is no longer so")]
    Outdated,
    #[error("waits: {why}")]
    Waits { why: String },
    #[error("the Lease is no longer held")]
    LeaseLost,
    #[error("cannot read the original")]
    ReadOriginal { source: RequestError },
    #[error("cannot write to the original")]
    WriteOriginal { source: RequestError },
    #[error("cannot read the copy")]
    ReadCopy { source: RequestError },
    #[error("cannot write to the copy")]
    WriteCopy { source: RequestError },
    #[error("the copy's status cannot be read: {why}")]
    Unreadable { why: String },
}

impl StepError {
    fn label(&self) -> &'static str {
        match self {
            Self::Outdated => "outdated",
            Self::Waits { .. } => "waits",
            Self::LeaseLost => "lease_lost",
            Self::ReadOriginal { .. } => "read_original",
            Self::WriteOriginal { .. } => "write_original",
            Self::ReadCopy { .. } => "read_copy",
            Self::WriteCopy { .. } => "write_copy",
            Self::Unreadable { .. } => "unreadable_status",
        }
    }

    /// How long to wait before the step is tried again, after so many tries in a row.
    fn backoff(&self, failures: u32) -> Duration {
        match self {
            // The watch is about to bring what is new.
            Self::Outdated => Duration::from_millis(50 << failures.min(6)),
            Self::Waits { .. } => Duration::from_secs((1 << failures.min(5)).min(20)),
            _ => Duration::from_millis((250 << failures.min(7)).min(20_000)),
        }
    }
}

impl Work {
    pub fn new(
        shared: Shared,
        here: Here,
        wec: Client,
        create_namespaces: bool,
        lease: Arc<Lease>,
        metrics: ClusterMetrics,
    ) -> Self {
        Self {
            shared,
            here,
            wec,
            create_namespaces,
            lease,
            metrics,
            originals: Side::new(Original::new),
            copies: Side::new(Copy::new),
            queue: Queue::default(),
            failures: Mutex::default(),
        }
    }

    /// Takes in an event of the control cluster's watch.
    pub fn original_event(&self, event: Event<SyncView>) {
        let was_synced = self.is_synced();
        let keys = self.originals.apply(event);
        self.ask_for(keys, was_synced);
    }

    /// Takes in an event of the WEC's watch.
    pub fn copy_event(&self, event: Event<SyncView>) {
        let was_synced = self.is_synced();
        let keys = self.copies.apply(event);
        self.ask_for(keys, was_synced);
    }

    /// Nothing is decided before both sides have been listed: absence would mean nothing.
    fn ask_for(&self, keys: Vec<Key>, was_synced: bool) {
        if was_synced {
            keys.into_iter().for_each(|key| self.queue.push(key));
        } else if self.is_synced() {
            self.sweep();
        }
    }

    fn is_synced(&self) -> bool {
        self.originals.is_synced() && self.copies.is_synced()
    }

    /// Looks at every workflow again, so that whatever was missed is found.
    pub fn sweep(&self) {
        if self.is_synced() {
            self.originals.keys().into_iter().chain(self.copies.keys()).for_each(|key| self.queue.push(key));
        }
    }

    /// How many copies are under way in the WEC; `None` until they have been listed.
    pub fn active(&self) -> Option<u32> {
        let count = || self.copies.count(|copy| !copy.completed);
        self.copies.is_synced().then(|| u32::try_from(count()).unwrap_or(u32::MAX))
    }

    /// Works until cancelled.
    pub async fn run(self: Arc<Self>) {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(Arc::clone(&self).work());
        }
        // Workers never end by themselves; one that panicked takes the cluster's task along, to be started anew.
        if let Some(Err(error)) = workers.join_next().await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    async fn work(self: Arc<Self>) {
        let mut retries = JoinSet::new();
        loop {
            let key = tokio::select! {
                key = self.queue.pop() => key,
                Some(_) = retries.join_next() => continue,
            };
            let result = self.step(&key).await;
            self.queue.done(&key);
            if let Some(delay) = self.judge(&key, result) {
                let work = Arc::clone(&self);
                retries.spawn(async move {
                    tokio::time::sleep(delay).await;
                    work.queue.push(key);
                });
            }
        }
    }

    async fn step(&self, key: &Key) -> Result<(), StepError> {
        let (original, copy) = (self.originals.get(key), self.copies.get(key));
        let step = plan(original.as_ref(), copy.as_ref(), &self.here);
        tracing::debug!(workflow = %key, step = step.label(), "next step");
        match (step, original, copy) {
            (Step::Record(delivery), Some(original), _) => self.record(key, &original, &delivery).await?,
            (Step::Deliver(delivery), Some(original), _) => self.deliver(key, &original, &delivery).await?,
            (Step::Return(operations), Some(original), _) => self.write_original(key, &original, operations).await?,
            (Step::Lost(delivery), Some(original), _) => self.lost(key, &original, &delivery).await?,
            (Step::Fail(message), Some(original), _) => self.fail(key, &original, &message).await?,
            (Step::Shutdown(shutdown), _, Some(copy)) => self.shut_down(key, &copy, &shutdown).await?,
            (Step::Release, _, Some(copy)) => return self.release(key, &copy).await,
            (Step::Remove, _, Some(copy)) => self.remove(key, &copy).await?,
            (Step::Unreadable(why), ..) => return Err(StepError::Unreadable { why }),
            _ => return Ok(()),
        }
        // One step leads to the next without waiting for the watch: the desk has the answer already.
        self.queue.push(key.clone());
        Ok(())
    }

    /// Keeps count of failures; says when to try again.
    fn judge(&self, key: &Key, result: Result<(), StepError>) -> Option<Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = result else {
            failures.remove(key);
            return None;
        };
        let count = failures.entry(key.clone()).or_default();
        let delay = error.backoff(*count);
        *count += 1;
        self.metrics.step_failed(error.label());
        match &error {
            StepError::Outdated | StepError::LeaseLost => tracing::debug!(workflow = %key, %error, "step not taken"),
            StepError::Waits { .. } => tracing::info!(workflow = %key, %error, "not delivered yet"),
            _ => tracing::warn!(workflow = %key, error = &error as &dyn std::error::Error, "step failed"),
        }
        Some(delay)
    }

    pub(crate) fn check_lease(&self) -> Result<(), StepError> {
        if self.lease.is_held() { Ok(()) } else { Err(StepError::LeaseLost) }
    }
}
