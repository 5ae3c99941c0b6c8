//! The pods being played: what is known of each, its timer, and the steps under way.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::time::{DelayQueue, delay_queue};

use super::actions::{self, ActionError, Outcome};
use super::kubelet::Kill;
use super::pod::{Phase, Pod, PodKey};
use super::script::{self, Next};

/// How long to wait after the first failure of a step; doubled with each further one up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// All pods of a cluster that have not ended.
pub(super) struct Stage {
    client: Client,
    node: Arc<str>,
    pods: HashMap<PodKey, Entry>,
    timers: DelayQueue<PodKey>,
    /// Steps under way, or waiting for a permit; one per pod at most.
    steps: JoinSet<(Pod, bool, Result<Outcome, ActionError>)>,
    permits: Arc<Semaphore>,
    /// Counts the lists of pods, so that what a list lacks can be told.
    list: u64,
}

struct Entry {
    pod: Arc<Pod>,
    /// When this player started it: the API server only keeps whole seconds.
    started: Option<Timestamp>,
    /// The signal that its containers got.
    signal: Option<u8>,
    timer: Option<delay_queue::Key>,
    /// A step is under way.
    busy: bool,
    /// Steps that failed in a row.
    failures: u32,
    /// The last list that it was seen in or after.
    list: u64,
}

impl Stage {
    /// An empty stage.
    pub(super) fn new(client: Client, node: String, concurrency: usize) -> Self {
        Stage {
            client,
            node: node.into(),
            pods: HashMap::new(),
            timers: DelayQueue::new(),
            steps: JoinSet::new(),
            permits: Arc::new(Semaphore::new(concurrency)),
            list: 0,
        }
    }

    /// A list of all pods begins.
    pub(super) fn begin_list(&mut self) {
        self.list += 1;
    }

    /// The list is complete: what it lacked is gone.
    pub(super) fn end_list(&mut self) {
        let list = self.list;
        let gone: Vec<PodKey> =
            self.pods.iter().filter(|(_, entry)| entry.list != list).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.forget(&key);
        }
    }

    /// A pod is new or has changed.
    pub(super) fn apply(&mut self, pod: Pod) {
        // Another node's: Argosy's virtual ones have pods that nobody runs.
        if pod.node.as_deref().is_some_and(|node| node != &*self.node) {
            return;
        }
        let list = self.list;
        match self.pods.get_mut(&pod.key) {
            Some(entry) if entry.pod.uid == pod.uid => {
                entry.list = list;
                // The watch lags behind the answers to our own writes.
                if pod.version < entry.pod.version {
                    return;
                }
                entry.update(pod.clone());
            }
            _ => {
                self.forget(&pod.key);
                let entry = Entry {
                    pod: Arc::new(pod.clone()),
                    started: None,
                    signal: None,
                    timer: None,
                    busy: false,
                    failures: 0,
                    list,
                };
                self.pods.insert(pod.key.clone(), entry);
            }
        }
        self.consider(&pod.key);
    }

    /// A pod is gone, or has ended.
    pub(super) fn remove(&mut self, pod: &Pod) {
        if self.pods.get(&pod.key).is_some_and(|entry| entry.pod.uid == pod.uid) {
            self.forget(&pod.key);
        }
    }

    /// A signal reaches the containers of a pod.
    pub(super) fn kill(&mut self, kill: &Kill) {
        let Some(entry) = self.pods.get_mut(&kill.pod) else { return };
        entry.signal = Some(kill.signal);
        entry.update(entry.pod.as_ref().clone());
        self.consider(&kill.pod);
    }

    /// Waits until a timer runs out or a step is done, and goes on from there. Loses nothing when dropped.
    pub(super) async fn proceed(&mut self) {
        let Stage { timers, steps, .. } = self;
        tokio::select! {
            Some(expired) = timers.next(), if !timers.is_empty() => {
                let key = expired.into_inner();
                if let Some(entry) = self.pods.get_mut(&key) {
                    entry.timer = None;
                }
                self.consider(&key);
            }
            Some(done) = steps.join_next(), if !steps.is_empty() => match done {
                Ok((pod, started, outcome)) => self.done(&pod, started, outcome),
                Err(error) => tracing::error!(%error, "a step broke off"),
            },
            else => pending().await,
        }
    }

    fn done(&mut self, pod: &Pod, started: bool, outcome: Result<Outcome, ActionError>) {
        let Some(entry) = self.pods.get_mut(&pod.key).filter(|entry| entry.pod.uid == pod.uid) else { return };
        entry.busy = false;
        match outcome {
            Ok(outcome) => {
                entry.failures = 0;
                if let Outcome::Done(now) = outcome {
                    if started && now.phase == Phase::Running {
                        entry.started = Some(Timestamp::now());
                    }
                    if now.version >= entry.pod.version {
                        entry.update(*now);
                    }
                    self.consider(&pod.key);
                }
                // Gone: the entry stays until the watch says so too, or a late event would bring the pod back to life.
            }
            Err(error) => {
                entry.failures += 1;
                let pause = PAUSE.saturating_mul(1 << entry.failures.min(10)).min(LONGEST_PAUSE);
                tracing::warn!(pod = %pod.key, %error, "trying again");
                self.set_timer(&pod.key, pause);
            }
        }
    }

    /// Decides what comes next for a pod, and begins it.
    fn consider(&mut self, key: &PodKey) {
        let Some(entry) = self.pods.get_mut(key).filter(|entry| !entry.busy) else { return };
        let now = Timestamp::now();
        let next = script::next(&entry.pod, &self.node, now);
        let started = match &next {
            Next::Rest => return,
            Next::Wait(until) => {
                let pause = Duration::try_from(until.duration_since(now)).unwrap_or_default();
                return self.set_timer(key, pause);
            }
            Next::Start { .. } => true,
            Next::Finish { .. } | Next::Remove { .. } => false,
        };
        entry.busy = true;
        let (client, node, pod) = (self.client.clone(), self.node.clone(), entry.pod.clone());
        let permits = self.permits.clone();
        self.steps.spawn(async move {
            let _permit = permits.acquire().await;
            let outcome = actions::carry_out(&client, &node, &pod, next).await;
            (pod.as_ref().clone(), started, outcome)
        });
    }

    fn set_timer(&mut self, key: &PodKey, pause: Duration) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        match &entry.timer {
            Some(timer) => self.timers.reset(timer, pause),
            None => entry.timer = Some(self.timers.insert(key.clone(), pause)),
        }
    }

    fn forget(&mut self, key: &PodKey) {
        if let Some(Entry { timer: Some(timer), .. }) = self.pods.remove(key) {
            self.timers.try_remove(&timer);
        }
    }
}

impl Entry {
    fn update(&mut self, mut pod: Pod) {
        if self.started.is_some() && pod.phase == Phase::Running {
            pod.started = self.started;
        }
        pod.signal = self.signal;
        self.pod = Arc::new(pod);
    }
}
