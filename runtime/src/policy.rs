//! The rules and clusters in force, kept fresh from watches and read without locks.
//!
//! Rules are parsed here, when a namespace changes, not when a workflow asks.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;
use argosy_api::WorkloadCluster;
use argosy_placement::{Cluster, Rule, RuleError};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

use crate::events::{self, Events};

/// A namespace's rule, if it has one.
pub type NamespaceRule = Option<Result<Rule, RuleError>>;

/// The rules and clusters as last seen.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Snapshot<NamespaceRule>,
    clusters: Snapshot<Cluster>,
}

/// Objects of one kind by name, as last seen. A change replaces the map, so that readers never wait.
#[derive(Debug)]
struct Snapshot<V> {
    items: ArcSwap<HashMap<String, Arc<V>>>,
    /// Set with the first complete list.
    synced: SetOnce<()>,
}

impl<V> Default for Snapshot<V> {
    fn default() -> Self {
        Self { items: ArcSwap::default(), synced: SetOnce::new() }
    }
}

impl Policy {
    /// Starts to watch: the policy, and the future that keeps it fresh until `shutdown`.
    pub fn watch(client: Client, shutdown: CancellationToken) -> (Arc<Self>, impl Future<Output = ()>) {
        let policy = Arc::new(Self::default());
        let kept = Arc::clone(&policy);
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        let namespaces = events::watch("namespaces", namespaces, watcher::Config::default());
        let clusters: Api<WorkloadCluster> = Api::all(client);
        let clusters = events::watch("workloadclusters", clusters, watcher::Config::default());
        let keep = async move {
            tokio::select! {
                () = kept.rules.follow(namespaces, |namespace| {
                    rule_of(&namespace.name_any(), namespace.annotations())
                }) => {}
                () = kept.clusters.follow(clusters, |cluster| Cluster::from(cluster)) => {}
                () = shutdown.cancelled() => {}
            }
        };
        (policy, keep)
    }

    /// Whether both watches have delivered their first list.
    pub fn is_synced(&self) -> bool {
        self.rules.synced.initialized() && self.clusters.synced.initialized()
    }

    /// Waits until then.
    pub async fn synced(&self) {
        self.rules.synced.wait().await;
        self.clusters.synced.wait().await;
    }

    /// The rule of a namespace; `None` where the namespace has not been seen (it may be newer than the watch).
    pub fn rule(&self, namespace: &str) -> Option<Arc<NamespaceRule>> {
        self.rules.items.load().get(namespace).cloned()
    }

    /// Every cluster.
    pub fn clusters(&self) -> Vec<Cluster> {
        self.clusters.items.load().values().map(|cluster| Cluster::clone(cluster)).collect()
    }

    /// One cluster.
    pub fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.clusters.items.load().get(name).cloned()
    }
}

/// Reads a namespace's annotations; also for a namespace that the watch has not seen yet.
pub fn rule_of(namespace: &str, annotations: &BTreeMap<String, String>) -> NamespaceRule {
    Rule::from_namespace(namespace, annotations)
}

impl<V> Snapshot<V> {
    /// Applies a watch's events for ever.
    async fn follow<K: ResourceExt>(&self, mut events: Events<K>, view: impl Fn(&K) -> V) {
        let mut listed = HashMap::new();
        while let Some(event) = events.next().await {
            self.apply(event, &mut listed, &view);
        }
    }

    fn apply<K: ResourceExt>(&self, event: Event<K>, listed: &mut HashMap<String, Arc<V>>, view: impl Fn(&K) -> V) {
        let entry = |object: K| (object.name_any(), Arc::new(view(&object)));
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.extend([entry(object)]),
            Event::InitDone => {
                self.items.store(Arc::new(std::mem::take(listed)));
                // Set already, but for the first list.
                let _ = self.synced.set(());
            }
            Event::Apply(object) => self.change(|items| items.extend([entry(object)])),
            Event::Delete(object) => self.change(|items| drop(items.remove(&object.name_any()))),
        }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, Arc<V>>)) {
        let mut items = HashMap::clone(&self.items.load());
        change(&mut items);
        self.items.store(Arc::new(items));
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
        let snapshot = Snapshot::<String>::default();
        let mut listed = HashMap::new();
        let mut apply = |event| {
            snapshot.apply(event, &mut listed, |object: &ConfigMap| object.data.as_ref().unwrap()["v"].clone());
            let mut items: Vec<String> =
                snapshot.items.load().iter().map(|(name, value)| format!("{name}={value}")).collect();
            items.sort();
            (snapshot.synced.initialized(), items.join(","))
        };
        assert_eq!(apply(Event::Init), (false, String::new()));
        assert_eq!(apply(Event::InitApply(object("a", "1"))), (false, String::new()));
        assert_eq!(apply(Event::InitDone), (true, "a=1".into()));
        assert_eq!(apply(Event::Apply(object("b", "2"))), (true, "a=1,b=2".into()));
        assert_eq!(apply(Event::Apply(object("b", "3"))), (true, "a=1,b=3".into()));
        assert_eq!(apply(Event::Init), (true, "a=1,b=3".into()));
        assert_eq!(apply(Event::InitApply(object("b", "3"))), (true, "a=1,b=3".into()));
        assert_eq!(apply(Event::InitDone), (true, "b=3".into()));
        assert_eq!(apply(Event::Delete(object("b", "3"))), (true, String::new()));
    }
}
