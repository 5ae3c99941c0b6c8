//! Watches that do not end.

use std::fmt::Debug;
use std::future::ready;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// Events of a watch, for ever.
pub type Events<K> = Pin<Box<dyn Stream<Item = Event<K>> + Send>>;

/// Watches for ever: errors are logged, under the name `what`, and tried again with backoff.
pub fn watch<K>(what: &'static str, api: Api<K>, config: watcher::Config) -> Events<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let log = move |error: watcher::Error| {
        tracing::warn!(what, error = &error as &dyn std::error::Error, "watch failed; trying again");
    };
    Box::pin(watcher(api, config).default_backoff().filter_map(move |event| ready(event.map_err(log).ok())))
}
