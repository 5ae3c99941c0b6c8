//! What pods ask for together.

use crate::resources::Resources;

/// What the pods that come of a call ask for at one time at most; an estimate.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Load {
    pub(super) total: Resources,
    /// The largest pod among them, each resource for itself.
    pub(super) pod: Resources,
    /// What of it stays when the call is done: daemons, until what called them is done, too.
    pub(super) lasting: Resources,
}

impl Load {
    pub(super) fn of_pod(requests: Resources) -> Self {
        Self { total: requests.clone(), pod: requests, lasting: Resources::default() }
    }

    /// Both at the same time.
    pub(super) fn beside(&mut self, other: &Self) {
        self.total.add(&other.total);
        self.pod.max(&other.pod);
        self.lasting.add(&other.lasting);
    }

    /// One after the other; what lasts is there beside what comes after it.
    pub(super) fn then(&mut self, next: &Self) {
        let mut with_next = self.lasting.clone();
        with_next.add(&next.total);
        self.total.max(&with_next);
        self.pod.max(&next.pod);
        self.lasting.add(&next.lasting);
    }

    /// So many of them at the same time.
    pub(super) fn times(&mut self, count: u64) {
        if count != 1 {
            self.total.times(count);
            self.lasting.times(count);
        }
        if count == 0 {
            self.pod = Resources::default();
        }
    }

    /// Of `all` that are alike to those who count them, only `most` at one time; at least the `largest` of them.
    pub(super) fn cap(&mut self, most: Option<u64>, all: u64, largest: &Resources) {
        if let Some(most) = most.filter(|most| *most > 0 && *most < all) {
            self.total.share(most, all);
            self.total.max(largest);
        }
    }
}

/// Calls that run at the same time.
#[derive(Debug, Default)]
pub(super) struct Group {
    load: Load,
    calls: u64,
    largest: Resources,
}

impl Group {
    pub(super) fn add(&mut self, mut load: Load, times: u64) {
        if load.total.get("pods") > 0 {
            self.calls = self.calls.saturating_add(times);
        }
        if times > 0 {
            self.largest.max(&load.total);
        }
        load.times(times);
        self.load.beside(&load);
    }

    /// A template's `parallelism` counts its own calls, whatever these have inside.
    pub(super) fn capped(mut self, parallelism: Option<u64>) -> Load {
        self.load.cap(parallelism, self.calls, &self.largest);
        self.load
    }
}
