//! What was placed, and may not show in the clusters' figures yet.
//!
//! Figures are some seconds old, and a workflow's pods come some time after its decision. Who counts a cluster's pods (the
//! syncer) publishes beside them what workflows ask for whose pods do not show yet, and up to which resourceVersion of the
//! control cluster it had seen workflows. What was placed later counts beside these figures wherever one decides, so
//! that every workflow counts once: as a decision of this process or of a peer, as a workflow that the figures cannot know,
//! or in the figures.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argosy_api::{Placement, RuleSource, names};
use argosy_placement::{Cluster, Placed, Resources, parse_quantity, read_stamp};
use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// How long a decision counts if no workflow with its stamp is ever seen, in seconds: it was a dry run, or something else
/// refused the workflow.
const UNSEEN: i64 = 10;
/// A workflow that has been seen running for so many seconds and has no pod asks for none now.
const PODLESS: i64 = 5;
/// So many workflows are remembered that were seen before their decision was heard of.
const REMEMBERED: usize = 4096;

/// Which rule placed a workflow: a namespace's own rule is another in each namespace.
type RuleKey = (String, RuleSource);

/// The decisions that count beside the figures.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Decisions of this process and of its peers whose workflows have not been seen yet.
    decided: Vec<Decided>,
    /// Workflows that were seen before their decision was heard of, by a hash of their stamp: since when.
    early: HashMap<u64, i64>,
    hash: RandomState,
    /// Routed workflows that are not done, by UID.
    active: HashMap<String, Active>,
    /// UIDs seen in the list that is under way.
    listed: HashSet<String>,
    /// By cluster: the active workflows that its figures may not know, each with the version at which it was seen there.
    recent: HashMap<String, BTreeSet<(u64, String)>>,
    /// How many active workflows a rule has in each cluster.
    by_rule: HashMap<RuleKey, HashMap<String, u32>>,
    /// Up to which resourceVersion all workflows have been seen.
    seen: u64,
    /// The same of the list that is under way, which counts when it has ended: lists come by name, not by version.
    listing: u64,
}

#[derive(Debug)]
struct Decided {
    stamp: String,
    placed: Active,
    at: i64,
}

#[derive(Clone, Debug, PartialEq)]
struct Active {
    name: String,
    cluster: String,
    rule: RuleKey,
    asks: Resources,
    /// The resourceVersion at which it was first seen in its cluster.
    version: u64,
    /// Since when it has been seen running, in seconds since 1970.
    running: Option<i64>,
    /// Whether pods of it have shown in the cluster, or none will for now.
    shows: bool,
}

impl Active {
    fn new(namespace: String, name: String, placement: Placement) -> Self {
        let mut asks = Resources::default();
        for (name, quantity) in &placement.asks {
            asks.set(name, parse_quantity(name, quantity).unwrap_or_default());
        }
        let Placement { cluster, rule, .. } = placement;
        Self { name, cluster, rule: (namespace, rule), asks, version: 0, running: None, shows: false }
    }
}

/// What one cluster's figures cannot show, by who counts its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Awaited {
    /// What workflows that were placed there ask for whose pods do not show yet.
    pub pending: Resources,
    /// Up to which resourceVersion workflows have been seen; 0 before the first.
    pub seen: u64,
}

impl Ledger {
    /// Takes in an event of the watch of routed workflows that are not done.
    pub fn apply<K: ResourceExt>(&self, event: Event<K>, now: i64) {
        let mut state = self.state();
        match event {
            Event::Init => state.listed.clear(),
            Event::InitApply(object) => {
                state.listed.extend(object.uid());
                state.listing = state.listing.max(version(&object));
                state.put(&object, now);
            }
            Event::InitDone => {
                state.seen = state.seen.max(std::mem::take(&mut state.listing));
                let listed = std::mem::take(&mut state.listed);
                let gone: Vec<String> = state.active.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| state.remove(uid));
            }
            Event::Apply(object) => {
                state.seen = state.seen.max(version(&object));
                state.put(&object, now);
            }
            Event::Delete(object) => {
                state.seen = state.seen.max(version(&object));
                object.uid().iter().for_each(|uid| state.remove(uid));
            }
        }
    }

    /// Counts a decision from now on, until its workflow is seen. `stamp` is what it was stamped with.
    pub fn reserve(&self, namespace: &str, stamp: &str, now: i64) {
        let Some(placement) = read_stamp(stamp) else { return };
        if placement.cluster.is_empty() || placement.cluster == names::LOCAL {
            return;
        }
        let mut state = self.state();
        // Also where nobody asks this replica to decide.
        state.forget(now);
        let hash = state.hash.hash_one((namespace, stamp));
        // A peer's word may come later than what it is about.
        if state.early.remove(&hash).is_some() {
            return;
        }
        let placed = Active::new(namespace.to_owned(), String::new(), placement);
        state.decided.push(Decided { stamp: stamp.to_owned(), placed, at: now });
    }

    /// Takes in that a cluster's figures know workflows up to this version.
    pub fn figures(&self, cluster: &str, seen: u64) {
        if let Some(recent) = self.state().recent.get_mut(cluster) {
            *recent = recent.split_off(&(seen.saturating_add(1), String::new()));
        }
    }

    /// What counts beside the figures of these clusters, for a workflow of this namespace and rule.
    pub fn placed(&self, namespace: &str, rule: &RuleSource, clusters: &[Arc<Cluster>], now: i64) -> Placed {
        let mut state = self.state();
        state.forget(now);
        let key = (namespace.to_owned(), rule.clone());
        let mut placed =
            Placed { pending: HashMap::new(), by_rule: state.by_rule.get(&key).cloned().unwrap_or_default() };
        for cluster in clusters {
            let pending = state.beside(cluster);
            if !pending.is_empty() {
                placed.pending.insert(cluster.name.clone(), pending);
            }
        }
        for Decided { placed: Active { cluster, rule, asks, .. }, .. } in &state.decided {
            placed.pending.entry(cluster.clone()).or_default().add(asks);
            if *rule == key {
                *placed.by_rule.entry(cluster.clone()).or_default() += 1;
            }
        }
        placed
    }

    /// What does not show yet in a cluster's pods; `has_pods` says of a namespace and a workflow's name whether it has some
    /// there.
    pub fn awaited(&self, cluster: &str, has_pods: impl Fn(&str, &str) -> bool, now: i64) -> Awaited {
        let mut state = self.state();
        let mut pending = Resources::default();
        for active in state.active.values_mut().filter(|active| active.cluster == cluster && !active.shows) {
            active.shows = active.running.is_some_and(|since| now >= since.saturating_add(PODLESS))
                || has_pods(&active.rule.0, &active.name);
            if !active.shows {
                pending.add(&active.asks);
            }
        }
        Awaited { pending, seen: state.seen }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, object: &impl ResourceExt, now: i64) {
        let Some(uid) = object.uid() else { return };
        let version = version(object);
        let cluster = object.labels().get(names::CLUSTER).map(String::as_str).unwrap_or_default();
        let is_running =
            object.labels().get(names::ARGO_PHASE).is_some_and(|phase| !matches!(phase.as_str(), "" | "Pending"));
        let running = is_running.then_some(now);
        if let Some(known) = self.active.get_mut(&uid).filter(|known| known.cluster == cluster) {
            known.running = known.running.or(running);
            return;
        }
        self.remove(&uid);
        if cluster.is_empty() {
            return;
        }
        let namespace = object.namespace().unwrap_or_default();
        let stamp = object.annotations().get(names::PLACEMENT).map(String::as_str).unwrap_or_default();
        self.is_seen(&namespace, stamp, now);
        let placement = Placement { cluster: cluster.to_owned(), ..read_stamp(stamp).unwrap_or_default() };
        let active = Active { version, running, ..Active::new(namespace, object.name_any(), placement) };
        self.recent.entry(active.cluster.clone()).or_default().insert((version, uid.clone()));
        *self.by_rule.entry(active.rule.clone()).or_default().entry(active.cluster.clone()).or_default() += 1;
        self.active.insert(uid, active);
    }

    /// The workflow of a decision is there: from here on it counts by itself.
    fn is_seen(&mut self, namespace: &str, stamp: &str, now: i64) {
        let of_it = |decided: &Decided| decided.stamp == stamp && decided.placed.rule.0 == namespace;
        if let Some(index) = self.decided.iter().position(of_it) {
            self.decided.swap_remove(index);
            return;
        }
        // After a restart all are new, and of none of them will a decision be heard.
        if self.early.len() < REMEMBERED {
            self.early.insert(self.hash.hash_one((namespace, stamp)), now);
        }
    }

    /// Lets go of what came to nothing, and of what is heard of no more.
    fn forget(&mut self, now: i64) {
        self.decided.retain(|decided| now - decided.at <= UNSEEN);
        self.early.retain(|_, at| now - *at <= UNSEEN);
    }

    fn remove(&mut self, uid: &str) {
        let Some(Active { cluster, rule, version, .. }) = self.active.remove(uid) else { return };
        if let Some(recent) = self.recent.get_mut(&cluster) {
            recent.remove(&(version, uid.to_owned()));
        }
        if let Some(clusters) = self.by_rule.get_mut(&rule) {
            if let Some(count) = clusters.get_mut(&cluster) {
                *count -= 1;
            }
            clusters.retain(|_, count| *count > 0);
            if clusters.is_empty() {
                self.by_rule.remove(&rule);
            }
        }
    }

    /// What counts beside one cluster's figures.
    fn beside(&self, cluster: &Cluster) -> Resources {
        let Some(capacity) = &cluster.capacity else { return Resources::default() };
        let mut pending = capacity.pending.clone();
        let unknown = (capacity.seen.saturating_add(1), String::new());
        let recent = self.recent.get(&cluster.name).into_iter().flat_map(|recent| recent.range(unknown.clone()..));
        for active in recent.filter_map(|(_, uid)| self.active.get(uid)) {
            pending.add(&active.asks);
        }
        pending
    }
}

/// Versions of one API server compare as numbers; what cannot be read is as old as can be.
fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
