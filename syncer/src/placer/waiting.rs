//! The workflows that wait for a cluster.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use argosy_api::names;
use argosy_api::workflow::Workflow;
use argosy_placement::demand::Spec;
use argosy_placement::own_cluster;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::desk::{Key, is_completed, stamp_of};
use crate::end;

/// A waiting workflow as it is watched.
pub(super) type WaitingView = Workflow<Box<RawValue>, Box<RawValue>>;

/// What is looked at of its status. As of its spec, the CRDs may let anything through, and one odd workflow must not stop
/// the watch.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusView {
    message: Value,
}

/// What the order among those who wait, and their end, take from the spec.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    priority: Value,
    shutdown: Value,
    active_deadline_seconds: Value,
}

/// A workflow that waits.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The cluster that its user chose.
    pub(super) own: Option<String>,
    /// Whether its user wants it suspended wherever it runs.
    pub(super) suspend: bool,
    /// `spec.priority`: among those who wait, higher ones go first.
    priority: i64,
    /// Its user has stopped or terminated it.
    shutdown: Option<String>,
    /// `spec.activeDeadlineSeconds`.
    deadline: Value,
    /// Seconds since 1970.
    pub(super) created: i64,
    /// Whether it has a status at all, and what its message says.
    pub(super) message: Option<Option<String>>,
    spec: Box<RawValue>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    items: HashMap<Key, Item>,
    listed: HashSet<Key>,
    synced: bool,
    /// When each was last told what it waits for.
    told: HashMap<Key, Instant>,
}

/// What is missing changes with every pod that comes or goes; so often a workflow's message follows.
const PAUSE: Duration = Duration::from_secs(10);

impl Item {
    pub(super) fn new(object: WaitingView) -> Self {
        let stamp = stamp_of(&object);
        let label = object.labels().get(names::CLUSTER).map(String::as_str);
        let own = own_cluster(label, stamp.as_ref());
        let spec = object.spec.unwrap_or_else(|| RawValue::NULL.to_owned());
        let Asked { priority, shutdown, active_deadline_seconds } =
            serde_json::from_str(spec.get()).unwrap_or_default();
        let metadata = object.metadata;
        let annotations = metadata.annotations.unwrap_or_default();
        Self {
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            own,
            suspend: annotations.get(names::SUSPEND).is_some_and(|suspend| suspend == "true"),
            priority: priority.as_i64().unwrap_or_default(),
            shutdown: shutdown.as_str().filter(|shutdown| !shutdown.is_empty()).map(str::to_owned),
            deadline: active_deadline_seconds,
            created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
            message: object.status.map(|status| {
                let StatusView { message } = serde_json::from_str(status.get()).unwrap_or_default();
                message.as_str().map(str::to_owned)
            }),
            spec,
        }
    }

    /// Why it waits no longer and is not placed, either, if that is so: what its message says in the end.
    pub(super) fn end(&self, now: Timestamp) -> Option<String> {
        let overdue = || end::overdue(&self.deadline, self.created, now).map(str::to_owned);
        self.shutdown.as_deref().map(end::stopped).or_else(overdue)
    }

    /// What a placement has to know of its spec.
    pub(super) fn spec(&self) -> Spec {
        serde_json::from_str(self.spec.get()).unwrap_or_default()
    }
}

impl Waiting {
    /// Takes in an event of the watch.
    pub(super) fn apply(&mut self, event: Event<WaitingView>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                self.listed.insert(Key::of(&object));
                self.put(object);
            }
            Event::InitDone => {
                self.synced = true;
                let listed = std::mem::take(&mut self.listed);
                self.items.retain(|key, _| listed.contains(key));
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => drop(self.items.remove(&Key::of(&object))),
        }
    }

    /// One that is done or being deleted waits no longer.
    fn put(&mut self, object: WaitingView) {
        let key = Key::of(&object);
        if is_completed(&object) || object.metadata.deletion_timestamp.is_some() {
            self.items.remove(&key);
        } else {
            self.items.insert(key, Item::new(object));
        }
    }

    /// Whether all of them are known: before that, nobody's turn is.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    /// It waits no longer.
    pub(super) fn remove(&mut self, key: &Key) {
        self.items.remove(key);
        self.told.remove(key);
    }

    /// Whether its message was written only just now.
    pub(super) fn was_just_told(&self, key: &Key) -> bool {
        self.told.get(key).is_some_and(|then| then.elapsed() < PAUSE)
    }

    /// Its message has been written.
    pub(super) fn told(&mut self, key: &Key) {
        self.told.insert(key.clone(), Instant::now());
        let items = &self.items;
        self.told.retain(|key, _| items.contains_key(key));
    }

    /// Everyone who waits, in turn: by priority, then the oldest first.
    pub(super) fn in_turn(&self) -> Vec<(Key, Item)> {
        let mut items: Vec<_> = self.items.iter().map(|(key, item)| (key.clone(), item.clone())).collect();
        items.sort_by_cached_key(|(key, item)| (Reverse(item.priority), item.created, key.clone()));
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, priority: &str, created: &str) -> WaitingView {
        let text = format!(
            r#"{{"metadata":{{"namespace":"n","name":"{name}","resourceVersion":"1","creationTimestamp":"{created}"}},
                "spec":{{"priority":{priority},"templates":[]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_oldest_goes_first_within_its_priority() {
        let mut waiting = Waiting::default();
        for (name, priority, created) in [
            ("young", "null", "2026-01-01T00:00:02Z"),
            ("old", "0", "2026-01-01T00:00:01Z"),
            ("urgent", "5", "2026-01-01T00:00:03Z"),
            ("odd", "\"x\"", "2026-01-01T00:00:00Z"),
            ("last", "-1", "2026-01-01T00:00:00Z"),
        ] {
            waiting.apply(Event::Apply(object(name, priority, created)));
        }
        let names: Vec<String> = waiting.in_turn().into_iter().map(|(key, _)| key.name).collect();
        assert_eq!(names, ["urgent", "odd", "old", "young", "last"]);
        waiting.apply(Event::Init);
        waiting.apply(Event::InitApply(object("old", "0", "2026-01-01T00:00:01Z")));
        waiting.apply(Event::InitDone);
        assert_eq!(waiting.in_turn().len(), 1);
    }
}
