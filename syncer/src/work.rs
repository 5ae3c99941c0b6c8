//! One cluster's work: workers take keys from the queue, decide the next step and carry it out.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argosy_api::workflow::SyncView;
use argosy_runtime::client::{RequestError, within};
use json_patch::PatchOperation;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use thiserror::Error;

use crate::argo_server::ArgoServer;
use crate::cluster::Shared;
use crate::desk::{Copy, CopyStatus, Key, Original, Side};
use crate::lease::Lease;
use crate::metrics::ClusterMetrics;
use crate::pace::{Difference, Past, Turn};
use crate::plan::{Here, Return, Returning, Step, plan};
use crate::preflight::Preflight;
use crate::queue::{Queue, Worker};

/// How many workflows of a cluster are written at a time.
pub(crate) const WORKERS: usize = 32;

/// The ways to a WEC.
pub struct Wec {
    /// To its API server.
    pub client: Client,
    pub argo_server: ArgoServer,
    /// To its API server, without a limit to how long nothing may come.
    pub patient: Client,
}

/// Everything that one cluster's steps need.
pub struct Work {
    pub(crate) shared: Shared,
    pub(crate) here: Here,
    pub(crate) wec: Client,
    /// As `wec`, without a limit to how long nothing may come.
    pub(crate) patient: Client,
    pub(crate) argo_server: ArgoServer,
    pub(crate) create_namespaces: bool,
    pub(crate) preflight: Preflight,
    pub(crate) lease: Arc<Lease>,
    pub(crate) metrics: ClusterMetrics,
    pub(crate) originals: Side<Original>,
    pub(crate) copies: Side<Copy>,
    queue: Queue<Key>,
    failures: Mutex<HashMap<Key, Failing>>,
    /// What was returned of each copy, and when.
    returned: Mutex<HashMap<Key, Past>>,
}

/// A key whose step has not worked.
#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    /// How often in a row.
    count: u32,
    /// Whether another try is on its way.
    retry: bool,
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
    #[error("the WEC refuses what was to be written to the copy: {why}")]
    Refused { why: String },
    #[error("the copy's status cannot be read: {why}")]
    Unreadable { why: String },
    #[error("the copy's nodes cannot be read: {why}")]
    Unread { why: String },
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
            Self::Refused { .. } => "refused",
            Self::Unreadable { .. } => "unreadable_status",
            Self::Unread { .. } => "unread_nodes",
        }
    }

    /// How long to wait before the step is tried again, after so many tries in a row.
    fn backoff(&self, failures: u32) -> Duration {
        match self {
            // The watch is about to bring what is new.
            Self::Outdated => Duration::from_millis(50 << failures.min(6)),
            Self::Waits { .. } => Duration::from_secs((1 << failures.min(5)).min(20)),
            // No load on who does not answer, and users wait for the mend.
            other if other.is_unanswered() => Duration::from_millis((250 << failures.min(7)).min(3_000)),
            _ => Duration::from_millis((250 << failures.min(7)).min(20_000)),
        }
    }

    /// Whether an API server said nothing at all.
    fn is_unanswered(&self) -> bool {
        match self {
            Self::ReadOriginal { source }
            | Self::WriteOriginal { source }
            | Self::ReadCopy { source }
            | Self::WriteCopy { source } => source.status().is_none(),
            _ => false,
        }
    }
}

impl Worker for Work {
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn step(&self, key: &Key) -> Option<Duration> {
        let result = self.try_step(key).await;
        self.judge(key, result)
    }

    fn again(&self, key: Key) {
        if let Some(failing) = locked(&self.failures).get_mut(&key) {
            failing.retry = false;
        }
        if let Some(past) = locked(&self.returned).get_mut(&key) {
            past.waited();
        }
        self.queue.push(key);
    }
}

impl Work {
    pub fn new(
        shared: Shared,
        here: Here,
        wec: Wec,
        create_namespaces: bool,
        preflight: Preflight,
        lease: Arc<Lease>,
        metrics: ClusterMetrics,
    ) -> Self {
        Self {
            shared,
            here,
            wec: wec.client,
            patient: wec.patient,
            argo_server: wec.argo_server,
            create_namespaces,
            preflight,
            lease,
            metrics,
            originals: Side::new(Original::new),
            copies: Side::new(Copy::new),
            queue: Queue::default(),
            failures: Mutex::default(),
            returned: Mutex::default(),
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

    pub(crate) fn is_synced(&self) -> bool {
        self.originals.is_synced() && self.copies.is_synced()
    }

    /// Looks at every workflow again, so that whatever was missed is found.
    pub fn sweep(&self) {
        if self.is_synced() {
            locked(&self.returned).retain(|key, _| self.copies.get(key).is_some());
            self.originals.keys().into_iter().chain(self.copies.keys()).for_each(|key| self.queue.push(key));
        }
    }

    /// How many copies are under way in the WEC; `None` until they have been listed.
    pub fn active(&self) -> Option<u32> {
        let count = || self.copies.count(|copy| !copy.completed);
        self.copies.is_synced().then(|| u32::try_from(count()).unwrap_or(u32::MAX))
    }

    /// How many copies there are that a control cluster of before made; `None` until they have been listed.
    pub fn of_before(&self) -> Option<usize> {
        let count = || self.copies.count(|copy| copy.is_of_another(&self.here.control_uid));
        self.copies.is_synced().then(count)
    }

    /// Takes the next step. Answers when to look at the workflow again, if somebody has to ask for that.
    async fn try_step(&self, key: &Key) -> Result<Option<Duration>, StepError> {
        let (original, mut copy) = (self.originals.get(key), self.copies.get(key));
        let unread = match &mut copy {
            Some(copy) if original.is_some() => self.make_readable(key, copy).await?,
            _ => None,
        };
        let (mut step, again) = self.plan(key, original.as_ref(), copy.as_ref());
        if let Some(unread) = &unread {
            step = unread.instead(step, || plan(original.as_ref(), copy.as_ref(), &self.here, Returning::Later))?;
        }
        tracing::debug!(workflow = %key, step = step.label(), "next step");
        match (step, original, copy) {
            (Step::Record(delivery), Some(original), _) => self.record(key, &original, &delivery).await?,
            (Step::Deliver(delivery), Some(original), _) => self.deliver(key, &original, &delivery).await?,
            (Step::Return(new), Some(original), Some(copy)) => {
                self.return_status(key, &original, &copy, new).await?;
                // At once, it would be asked for its nodes again and again.
                if let Some(unread) = unread {
                    return Err(unread.again());
                }
            }
            (Step::Settle, Some(original), Some(copy)) => {
                let shown = CopyStatus::Returned(original.sum());
                self.copies.amend(key, &copy.resource_version, |copy| copy.status = shown);
            }
            (Step::Reread, _, Some(copy)) => self.reread(key, &copy).await?,
            (Step::Tell(message), Some(original), _) => self.tell(key, &original, &message).await?,
            (Step::Lost(delivery), Some(original), _) => self.lost(key, &original, &delivery).await?,
            (Step::Again(delivery), Some(original), _) => self.again(key, &original, &delivery).await?,
            (Step::Fail(message), Some(original), _) => self.fail(key, &original, &message).await?,
            (Step::Stop(shutdown), Some(original), _) => self.stop(key, &original, &shutdown).await?,
            (Step::CarryOut(intent), Some(original), Some(copy)) => {
                self.carry_out(key, &original, &copy, &intent).await?;
            }
            (Step::Suspend(suspend), _, Some(copy)) => self.suspend(key, &copy, suspend).await?,
            (Step::Shutdown(shutdown), _, Some(copy)) => self.shut_down(key, &copy, &shutdown).await?,
            (Step::Claim, _, Some(copy)) => self.claim(key, &copy).await?,
            (Step::Release, _, Some(copy)) => return self.release(key, &copy).await.map(|()| None),
            (Step::Remove, _, Some(copy)) => self.remove(key, &copy).await?,
            (Step::Unreadable(why), Some(original), _) => {
                let note = format!("its status in cluster {} cannot be returned: {why}", self.here.cluster);
                self.shared.announcer.workflow(key, &original.uid, "StatusUnreadable", &note);
                return Err(StepError::Unreadable { why });
            }
            _ => return Ok(again),
        }
        // One step leads to the next without waiting for the watch: the desk has the answer already.
        self.queue.push(key.clone());
        Ok(again)
    }

    /// The next step, and when to look again where the return of a status is put off.
    fn plan(&self, key: &Key, original: Option<&Original>, copy: Option<&Copy>) -> (Step, Option<Duration>) {
        let past = locked(&self.returned).get(key).cloned().unwrap_or_default();
        let form = past.form(copy.map_or(0, Copy::length));
        let step = plan(original, copy, &self.here, Returning::As(form));
        let (Step::Return(new), Some(original)) = (&step, original) else { return (step, None) };
        let difference = Difference {
            print: fingerprint(&new.operations),
            can_wait: new.can_wait,
            version: &original.resource_version,
        };
        match past.turn(difference, Instant::now()) {
            Turn::Now => (step, None),
            Turn::Never => {
                tracing::debug!(workflow = %key, "its status cannot be shown exactly as it is");
                (plan(Some(original), copy, &self.here, Returning::Shown(form)), None)
            }
            Turn::After(delay) => {
                let again = locked(&self.returned).get_mut(key).is_some_and(Past::wait).then_some(delay);
                (plan(Some(original), copy, &self.here, Returning::Later), again)
            }
        }
    }

    /// Writes what is new on a copy to its original; in a smaller form the next time, if it is too large.
    async fn return_status(&self, key: &Key, original: &Original, copy: &Copy, new: Return) -> Result<(), StepError> {
        let print = fingerprint(&new.operations);
        let written = self.write_version(key, original, new.operations).await;
        let mut returned = locked(&self.returned);
        let past = returned.entry(key.clone()).or_default();
        match written {
            Err(StepError::WriteOriginal { source }) if source.is_too_large() && past.refused(copy.length()) => {
                tracing::info!(workflow = %key, length = copy.length(), "its status is too large for the control cluster");
                Ok(())
            }
            written => written.map(|version| past.returned(print, version, Instant::now())),
        }
    }

    /// Reads a copy again of whose status no more is kept than that it was returned.
    async fn reread(&self, key: &Key, copy: &Copy) -> Result<(), StepError> {
        let api: Api<SyncView> = Api::namespaced(self.wec.clone(), &key.namespace);
        let live = within(api.get_opt(&key.name)).await.map_err(|source| StepError::ReadCopy { source })?;
        match live.filter(|live| live.uid().as_ref() == Some(&copy.uid)) {
            Some(live) => self.copies.written(live),
            None => self.copies.forget(key, &copy.resource_version),
        }
        Ok(())
    }

    /// Keeps count of failures; says when to try again, unless another try is on its way already.
    fn judge(&self, key: &Key, result: Result<Option<Duration>, StepError>) -> Option<Duration> {
        let mut failures = locked(&self.failures);
        let error = match result {
            Ok(again) => {
                failures.remove(key);
                return again;
            }
            Err(error) => error,
        };
        let failing = failures.entry(key.clone()).or_default();
        let delay = error.backoff(failing.count);
        failing.count += 1;
        let is_first = !std::mem::replace(&mut failing.retry, true);
        self.metrics.step_failed(error.label());
        match &error {
            StepError::Outdated | StepError::LeaseLost => tracing::debug!(workflow = %key, %error, "step not taken"),
            StepError::Waits { .. } => tracing::info!(workflow = %key, %error, "not delivered yet"),
            _ => tracing::warn!(workflow = %key, error = &error as &dyn std::error::Error, "step failed"),
        }
        is_first.then_some(delay)
    }

    pub(crate) fn check_lease(&self) -> Result<(), StepError> {
        if self.lease.is_held() { Ok(()) } else { Err(StepError::LeaseLost) }
    }
}

/// A hash of what a patch would write.
fn fingerprint(operations: &[PatchOperation]) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(operations).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// No code that can panic runs under the lock.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
