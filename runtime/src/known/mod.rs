//! What is known of the control cluster: rules, clusters, templates, and what was placed, kept fresh from watches and
//! read without waiting. Whoever decides asks here: webhook, syncer and `kubectl argosy explain`.
//!
//! Rules are parsed when their object changes, not when a workflow asks.

mod foreign;
mod ledger;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;
use argosy_api::workflow::{ClusterWorkflowTemplate, Workflow, WorkflowTemplate};
use argosy_api::{PlacementPolicy, RuleSource, WorkloadCluster, names};
use argosy_placement::demand::{Demand, Spec, Templates, demand};
use argosy_placement::kubestellar::{self, BindingPolicySpec, CustomTransformSpec};
use argosy_placement::{
    Cluster, Fleet, Found, JsonPath, Namespace, Policy, Request, Rule, find, in_order, is_ruled, permitted,
};
use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::Timestamp;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events;
use crate::snapshot::Snapshot;
pub use ledger::Awaited;
use ledger::Ledger;

/// Rules, clusters, templates and placements as last seen.
#[derive(Debug)]
pub struct Known {
    namespaces: Snapshot<Namespace>,
    policies: Snapshot<Policy>,
    bindings: Snapshot<BindingPolicySpec>,
    transforms: Snapshot<CustomTransformSpec>,
    /// All policies, in the order in which they are asked; those of KubeStellar included.
    in_order: ArcSwap<Vec<Arc<Policy>>>,
    /// By BindingPolicy: what of it has no meaning here.
    notes: ArcSwap<BTreeMap<String, Vec<String>>>,
    clusters: Snapshot<Cluster, Vec<Arc<Cluster>>>,
    templates: Snapshot<Spec>,
    cluster_templates: Snapshot<Spec>,
    ledger: Ledger,
    changes: watch::Sender<()>,
}

/// A workflow that is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub namespace: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    /// What its user put into `kubestellar.io/cluster`.
    pub own_cluster: Option<&'a str>,
    /// What was chosen for this very workflow a moment ago.
    pub chosen: Option<&'a str>,
}

impl Asked<'_> {
    /// The labels as the user gave them: without a cluster that Argosy has chosen.
    fn own_labels(&self) -> Cow<'_, BTreeMap<String, String>> {
        if self.labels.get(names::CLUSTER).map(String::as_str) == self.own_cluster {
            return Cow::Borrowed(self.labels);
        }
        let mut labels = self.labels.clone();
        labels.remove(names::CLUSTER);
        labels.extend(self.own_cluster.map(|own| (names::CLUSTER.to_owned(), own.to_owned())));
        Cow::Owned(labels)
    }
}

impl Default for Known {
    fn default() -> Self {
        Self {
            namespaces: Snapshot::default(),
            policies: Snapshot::default(),
            bindings: Snapshot::default(),
            transforms: Snapshot::default(),
            in_order: ArcSwap::default(),
            notes: ArcSwap::default(),
            clusters: Snapshot::deriving(by_name),
            templates: Snapshot::default(),
            cluster_templates: Snapshot::default(),
            ledger: Ledger::default(),
            changes: watch::Sender::default(),
        }
    }
}

/// In the order of their names, so that what is derived from them is the same each time.
fn sorted<V>(snapshot: &Snapshot<V>) -> Vec<(String, Arc<V>)> {
    let mut items = snapshot.all();
    items.sort_by(|(a, _), (b, _)| a.cmp(b));
    items
}

fn by_name(clusters: &HashMap<String, Arc<Cluster>>) -> Vec<Arc<Cluster>> {
    let mut clusters: Vec<_> = clusters.values().cloned().collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    clusters
}

impl Known {
    /// Starts to watch: what is known, and the future that keeps it fresh until `shutdown`.
    pub fn watch(client: Client, shutdown: CancellationToken) -> (Arc<Self>, impl Future<Output = ()>) {
        let known = Arc::new(Self::default());
        let kept = Arc::clone(&known);
        (known, async move {
            tokio::select! {
                () = kept.follow(client) => {}
                () = shutdown.cancelled() => {}
            }
        })
    }

    async fn follow(&self, client: Client) {
        let all = watcher::Config::default;
        let namespaces: Api<PartialObjectMeta<v1::Namespace>> = Api::all(client.clone());
        let policies: Api<PlacementPolicy> = Api::all(client.clone());
        let clusters: Api<WorkloadCluster> = Api::all(client.clone());
        let templates: Api<WorkflowTemplate<Spec>> = Api::all(client.clone());
        let cluster_templates: Api<ClusterWorkflowTemplate<Spec>> = Api::all(client.clone());
        let routed: Api<PartialObjectMeta<Workflow<(), ()>>> = Api::all(client.clone());
        let under_way = format!(
            "{cluster},{cluster}!={},{cluster}!=,{}!=true",
            names::LOCAL,
            names::ARGO_COMPLETED,
            cluster = names::CLUSTER
        );
        let changed = || self.changes.send_replace(());
        let policies_changed = || {
            self.put_in_order();
            changed();
        };
        tokio::select! {
            () = self.namespaces.follow(events::watch("namespaces", namespaces, all()), |object| {
                Namespace::new(&object.name_any(), object.labels(), object.annotations())
            }, changed) => {}
            () = self.policies.follow(events::watch("placementpolicies", policies, all()), |object| {
                Policy::new(&object.name_any(), &object.spec)
            }, policies_changed) => {}
            () = foreign::follow(
                client.clone(), "BindingPolicy", "bindingpolicies", &self.bindings, policies_changed
            ) => {}
            () = foreign::follow(
                client, "CustomTransform", "customtransforms", &self.transforms, policies_changed
            ) => {}
            () = self.clusters.follow(events::watch("workloadclusters", clusters, all()), |object| {
                Cluster::from(object)
            }, || {
                self.take_figures();
                changed();
            }) => {}
            () = self.templates.follow(events::watch("workflowtemplates", templates, all()), |object| {
                object.spec.clone().unwrap_or_default()
            }, changed) => {}
            () = self.cluster_templates.follow(
                events::watch("clusterworkflowtemplates", cluster_templates, all()),
                |object| object.spec.clone().unwrap_or_default(),
                changed,
            ) => {}
            () = self.follow_routed(events::watch("routed workflows", routed, all().labels(&under_way))) => {}
        }
    }

    async fn follow_routed(&self, mut events: events::Events<PartialObjectMeta<Workflow<(), ()>>>) {
        use futures::StreamExt;
        while let Some(event) = events.next().await {
            self.ledger.apply(event, now());
        }
    }

    /// Works out anew which policies there are.
    fn put_in_order(&self) {
        let transforms = sorted(&self.transforms);
        let transforms: Vec<(&str, &CustomTransformSpec)> =
            transforms.iter().map(|(name, spec)| (name.as_str(), spec.as_ref())).collect();
        let own = self.policies.all().into_iter().map(|(_, policy)| Policy::clone(&policy));
        let mut all: Vec<Policy> = own.collect();
        let mut notes = BTreeMap::new();
        for (name, spec) in sorted(&self.bindings) {
            let reading = kubestellar::read(&name, &spec, &transforms);
            all.extend(reading.policies);
            if !reading.notes.is_empty() {
                notes.insert(name, reading.notes);
            }
        }
        self.in_order.store(Arc::new(in_order(all)));
        self.notes.store(Arc::new(notes));
    }

    fn take_figures(&self) {
        for cluster in self.clusters.derived().iter() {
            if let Some(capacity) = &cluster.capacity {
                self.ledger.figures(&cluster.name, capacity.seen);
            }
        }
    }

    /// Whether rules and clusters have been listed. Templates and placements make decisions better, and are not waited
    /// for.
    pub fn is_synced(&self) -> bool {
        let policies = self.policies.is_synced() && self.bindings.is_synced() && self.transforms.is_synced();
        policies && self.namespaces.is_synced() && self.clusters.is_synced()
    }

    /// Waits until then.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.policies.synced().await;
        self.bindings.synced().await;
        self.transforms.synced().await;
        self.clusters.synced().await;
    }

    /// Waits until templates have been listed, too.
    pub async fn all_synced(&self) {
        self.synced().await;
        self.templates.synced().await;
        self.cluster_templates.synced().await;
    }

    /// Tells of every change of rules, clusters and templates.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// A namespace; `None` where it has not been seen (it may be newer than the watch).
    pub fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.get(name)
    }

    /// All policies, in the order in which they are asked.
    pub fn policies(&self) -> Arc<Vec<Arc<Policy>>> {
        self.in_order.load_full()
    }

    /// By BindingPolicy: each part of it that has no meaning here, in a sentence.
    pub fn notes(&self) -> Arc<BTreeMap<String, Vec<String>>> {
        self.notes.load_full()
    }

    /// All clusters, in the order of their names.
    pub fn clusters(&self) -> Arc<Vec<Arc<Cluster>>> {
        self.clusters.derived()
    }

    /// One cluster.
    pub fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// Whether workflows of this namespace need a stamp, whatever the rules say of them.
    pub fn is_ruled(&self, namespace: &Namespace) -> bool {
        is_ruled(namespace, &self.policies())
    }

    /// Every namespace by name.
    pub fn namespaces(&self) -> Vec<(String, Arc<Namespace>)> {
        self.namespaces.all()
    }

    /// Whether a workflow that was placed on `cluster` may be delivered there, and what is taken out of its copy then.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn permitted(&self, asked: Asked, namespace: &Namespace, cluster: &str) -> Result<Vec<JsonPath>, String> {
        let policies = self.policies();
        let labels = asked.own_labels();
        let found = find(namespace, &policies, &labels);
        let rule = permitted(asked.namespace, &found, self.cluster(cluster).as_deref())?;
        Ok(rule.map(|rule| rule.remove.clone()).unwrap_or_default())
    }

    /// Whether any rule is so.
    pub fn any_rule(&self, so: impl Fn(&Rule) -> bool) -> bool {
        let of_namespaces = self.namespaces.all();
        let own = of_namespaces.iter().filter_map(|(_, namespace)| namespace.rule.as_ref()?.as_ref().ok());
        let policies = self.policies();
        own.chain(policies.iter().filter_map(|policy| policy.rule.as_ref().ok())).any(so)
    }

    /// The rule about a workflow, if there is one that can be read.
    pub fn rule(&self, asked: Asked, namespace: &Namespace) -> Option<Rule> {
        find(namespace, &self.policies(), &asked.own_labels()).rule().cloned()
    }

    /// Hands everything that a decision is made from to `look`. `spec` is read only if that takes more than the rules.
    pub fn explain<T>(
        &self,
        asked: Asked,
        namespace: &Namespace,
        spec: impl FnOnce() -> Spec,
        now: Timestamp,
        look: impl FnOnce(&Request, &Found, &Fleet) -> T,
    ) -> T {
        let (policies, clusters) = (self.policies(), self.clusters());
        let labels = asked.own_labels();
        let found = find(namespace, &policies, &labels);
        let source = found.rule().map(|rule| &rule.source);
        let is_placed = source.is_some() || asked.own_cluster.is_some();
        let demand = if is_placed { demand(asked.namespace, &spec(), self) } else { Demand::default() };
        let now = now.as_second();
        let placed = self.ledger.placed(asked.namespace, source.unwrap_or(&RuleSource::Label), &clusters, now);
        let Asked { namespace, own_cluster, chosen, .. } = asked;
        let fleet = Fleet { clusters: &clusters, placed: &placed, now };
        look(&Request { namespace, own_cluster, chosen, demand: &demand }, &found, &fleet)
    }

    /// What was placed in a cluster and does not show in its pods yet; `has_pods` says of a namespace and a workflow's name
    /// whether it has some there.
    pub fn awaited(&self, cluster: &str, has_pods: impl Fn(&str, &str) -> bool, now: Timestamp) -> Awaited {
        self.ledger.awaited(cluster, has_pods, now.as_second())
    }

    /// Counts a decision from now on; `stamp` is what the workflow was stamped with.
    pub fn reserve(&self, namespace: &str, stamp: &str, now: Timestamp) {
        self.ledger.reserve(namespace, stamp, now.as_second());
    }
}

impl Templates for Known {
    fn workflow_template(&self, namespace: &str, name: &str) -> Option<Arc<Spec>> {
        self.templates.get(&format!("{namespace}/{name}"))
    }

    fn cluster_workflow_template(&self, name: &str) -> Option<Arc<Spec>> {
        self.cluster_templates.get(name)
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}
