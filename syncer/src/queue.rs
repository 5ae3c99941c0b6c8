//! A work queue by key: what is queued twice is done once, and no key is worked on by two workers.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A queue of distinct keys; as long as the number of objects at most.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    waiting: Notify,
}

#[derive(Debug)]
struct State<K> {
    /// In order of arrival; no key twice.
    ready: VecDeque<K>,
    queued: HashSet<K>,
    /// Handed out and not yet [`Queue::done`].
    running: HashSet<K>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let state = State { ready: VecDeque::new(), queued: HashSet::new(), running: HashSet::new() };
        Self { state: Mutex::new(state), waiting: Notify::new() }
    }
}

/// What is done about the keys of a queue.
pub trait Worker: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Send;

    fn queue(&self) -> &Queue<Self::Key>;

    /// Takes the next step of one; says when to ask for it again.
    fn step(&self, key: &Self::Key) -> impl Future<Output = Option<Duration>> + Send;

    /// That time has come.
    fn again(&self, key: Self::Key) {
        self.queue().push(key);
    }
}

/// Works until cancelled, on so many keys at a time.
pub async fn work<W: Worker>(worker: Arc<W>, at_a_time: usize) {
    let mut workers = JoinSet::new();
    for _ in 0..at_a_time {
        workers.spawn(steps(Arc::clone(&worker)));
    }
    // They never end by themselves; one that panicked takes the cluster's task along, to be started anew.
    if let Some(Err(error)) = workers.join_next().await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

async fn steps<W: Worker>(worker: Arc<W>) {
    let mut retries = JoinSet::new();
    loop {
        let key = tokio::select! {
            key = worker.queue().pop() => key,
            Some(_) = retries.join_next() => continue,
        };
        let again = worker.step(&key).await;
        worker.queue().done(&key);
        if let Some(delay) = again {
            let worker = Arc::clone(&worker);
            retries.spawn(async move {
                tokio::time::sleep(delay).await;
                worker.again(key);
            });
        }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Asks for work on a key; again, if it is being worked on now.
    pub fn push(&self, key: K) {
        let mut state = self.state();
        if state.queued.insert(key.clone()) && !state.running.contains(&key) {
            state.ready.push_back(key);
            self.waiting.notify_one();
        }
    }

    /// The next key, as soon as there is one. It is not handed out again before [`Queue::done`].
    pub async fn pop(&self) -> K {
        loop {
            let waiting = self.waiting.notified();
            if let Some(key) = self.take() {
                return key;
            }
            waiting.await;
        }
    }

    fn take(&self) -> Option<K> {
        let mut state = self.state();
        let key = state.ready.pop_front()?;
        state.queued.remove(&key);
        state.running.insert(key.clone());
        if !state.ready.is_empty() {
            self.waiting.notify_one();
        }
        Some(key)
    }

    /// Work on a key has ended; it is handed out again if it was asked for in the meantime.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        state.running.remove(key);
        if state.queued.contains(key) {
            state.ready.push_back(key.clone());
            self.waiting.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn next(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.pop().now_or_never()
    }

    #[test]
    fn what_is_queued_twice_is_done_once_in_order_of_arrival() {
        let queue = Queue::default();
        for key in ["a", "b", "a"] {
            queue.push(key);
        }
        assert_eq!([next(&queue), next(&queue), next(&queue)], [Some("a"), Some("b"), None]);
    }

    #[test]
    fn a_key_asked_for_during_its_work_comes_again_only_after_it() {
        let queue = Queue::default();
        queue.push("a");
        assert_eq!(next(&queue), Some("a"));
        queue.push("a");
        assert_eq!(next(&queue), None);
        queue.done(&"a");
        assert_eq!(next(&queue), Some("a"));
        queue.done(&"a");
        assert_eq!(next(&queue), None);
    }

    #[tokio::test]
    async fn every_waiting_worker_wakes() {
        let queue = std::sync::Arc::new(Queue::default());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = std::sync::Arc::clone(&queue);
                tokio::spawn(async move { queue.pop().await })
            })
            .collect();
        tokio::task::yield_now().await;
        for key in 0..4 {
            queue.push(key);
        }
        let mut got: Vec<i32> = futures::future::join_all(workers).await.into_iter().map(Result::unwrap).collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3]);
    }
}
