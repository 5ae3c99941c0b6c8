//! Objects of one kind as last seen, read without locks.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::SetOnce;

use crate::events::Events;

/// What readers find: the objects by key, and what is derived from all of them together.
#[derive(Debug)]
struct Seen<V, D> {
    items: HashMap<String, Arc<V>>,
    derived: Arc<D>,
}

/// Objects of one kind by key (`namespace/name`, or the name alone), as last seen. A change replaces the map, so that
/// readers never wait. `D` is derived anew with each change.
#[derive(Debug)]
pub struct Snapshot<V, D = ()> {
    seen: ArcSwap<Seen<V, D>>,
    derive: fn(&HashMap<String, Arc<V>>) -> D,
    /// Set with the first complete list.
    synced: SetOnce<()>,
}

impl<V> Default for Snapshot<V> {
    fn default() -> Self {
        Self::deriving(|_| ())
    }
}

impl<V, D> Snapshot<V, D> {
    /// Of nothing yet.
    pub fn deriving(derive: fn(&HashMap<String, Arc<V>>) -> D) -> Self {
        let items = HashMap::new();
        let derived = Arc::new(derive(&items));
        Self { seen: ArcSwap::from_pointee(Seen { items, derived }), derive, synced: SetOnce::new() }
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<V>> {
        self.seen.load().items.get(key).cloned()
    }

    /// All of them, by key.
    pub fn all(&self) -> Vec<(String, Arc<V>)> {
        self.seen.load().items.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
    }

    /// What is derived from them.
    pub fn derived(&self) -> Arc<D> {
        Arc::clone(&self.seen.load().derived)
    }

    /// Whether they have been listed.
    pub fn is_synced(&self) -> bool {
        self.synced.initialized()
    }

    /// Waits until then.
    pub async fn synced(&self) {
        self.synced.wait().await;
    }

    /// Applies a watch's events for ever; calls `changed` after each that changed something.
    pub async fn follow<K: ResourceExt>(&self, mut events: Events<K>, view: impl Fn(&K) -> V, changed: impl Fn()) {
        let mut listed = HashMap::new();
        while let Some(event) = events.next().await {
            if self.apply(event, &mut listed, &view) {
                changed();
                // Only after what follows from the first list was worked out: who waits for it may go on. Set already,
                // but for that one.
                let _ = self.synced.set(());
            }
        }
    }

    /// Answers whether readers find something new; events in the middle of a list are no news.
    fn apply<K: ResourceExt>(
        &self,
        event: Event<K>,
        listed: &mut HashMap<String, Arc<V>>,
        view: impl Fn(&K) -> V,
    ) -> bool {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => drop(listed.insert(key(&object), Arc::new(view(&object)))),
            Event::InitDone => {
                self.store(std::mem::take(listed));
                return true;
            }
            Event::Apply(object) => {
                let mut items = self.seen.load().items.clone();
                items.insert(key(&object), Arc::new(view(&object)));
                self.store(items);
                return true;
            }
            Event::Delete(object) => {
                let mut items = self.seen.load().items.clone();
                items.remove(&key(&object));
                self.store(items);
                return true;
            }
        }
        false
    }

    fn store(&self, items: HashMap<String, Arc<V>>) {
        let derived = Arc::new((self.derive)(&items));
        self.seen.store(Arc::new(Seen { items, derived }));
    }
}

fn key(object: &impl ResourceExt) -> String {
    match object.meta().namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, value: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.data = Some([("v".to_owned(), value.to_owned())].into());
        object
    }

    #[test]
    fn a_relist_replaces_what_was_deleted_while_the_watch_was_down() {
        let snapshot = Snapshot::<String, String>::deriving(|items| {
            let mut items: Vec<String> = items.iter().map(|(name, value)| format!("{name}={value}")).collect();
            items.sort();
            items.join(",")
        });
        let mut listed = HashMap::new();
        let mut apply = |event| {
            let news =
                snapshot.apply(event, &mut listed, |object: &ConfigMap| object.data.as_ref().unwrap()["v"].clone());
            (news, snapshot.derived().to_string())
        };
        assert_eq!(apply(Event::Init), (false, String::new()));
        assert_eq!(apply(Event::InitApply(object("a", "1"))), (false, String::new()));
        assert_eq!(apply(Event::InitDone), (true, "a=1".into()));
        assert_eq!(apply(Event::Apply(object("b", "2"))), (true, "a=1,b=2".into()));
        assert_eq!(apply(Event::Apply(object("b", "3"))), (true, "a=1,b=3".into()));
        assert_eq!(apply(Event::Init), (false, "a=1,b=3".into()));
        assert_eq!(apply(Event::InitApply(object("b", "3"))), (false, "a=1,b=3".into()));
        assert_eq!(apply(Event::InitDone), (true, "b=3".into()));
        assert_eq!(apply(Event::Delete(object("b", "3"))), (true, String::new()));
        assert_eq!(snapshot.get("b"), None);
    }
}
