//! Watches that do not end.

use std::fmt::Debug;
use std::future::ready;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How long a watch that failed waits at most before it tries again: users wait for what was missed.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// kube's own backoff, which goes up to 30 s, only shorter.
#[derive(Default)]
struct Short(DefaultBackoff);

impl Iterator for Short {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next()?.min(LONGEST_WAIT))
    }
}

impl Backoff for Short {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Events of a watch, for ever.
pub type Events<K> = Pin<Box<dyn Stream<Item = Event<K>> + Send>>;

/// How long one watch request lasts; a silently dead connection is noticed that late.
const WATCH_SECONDS: u32 = 60;

/// Hands on the events of [`watch`], for ever.
pub async fn follow<K>(what: &'static str, api: Api<K>, config: watcher::Config, take_in: impl Fn(Event<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = watch(what, api, config.timeout(WATCH_SECONDS));
    while let Some(event) = events.next().await {
        take_in(event);
    }
}

/// Watches for ever: errors are logged, under the name `what`, and tried again with backoff.
pub fn watch<K>(what: &'static str, api: Api<K>, config: watcher::Config) -> Events<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let log = move |error: watcher::Error| {
        tracing::warn!(what, error = &error as &dyn std::error::Error, "watch failed; trying again");
    };
    Box::pin(watcher(api, config).backoff(Short::default()).filter_map(move |event| ready(event.map_err(log).ok())))
}
