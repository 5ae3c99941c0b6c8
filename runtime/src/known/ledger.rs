//! What was placed, and may not show in the clusters' figures yet.
//!
//! Figures are some seconds old, and a workflow's pods come some time after its decision. Until they show, what the
//! workflow asks for is counted beside the figures. Decisions of other replicas, and of the syncer, come in with the
//! watch of routed workflows; those of this process count at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use argosy_api::{Placement, RuleSource, names};
use argosy_placement::{Placed, Resources, parse_quantity, read_stamp};
use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// How long a decision of this process counts if no workflow with its stamp is ever seen: it was a dry run, or something
/// else refused the workflow.
const UNSEEN: i64 = 10;
/// Pods of a running workflow show in figures that were counted so many seconds after it was first seen running.
const SHOWS_AFTER: i64 = 2;

/// Which rule placed a workflow: a namespace's own rule is another in each namespace.
type RuleKey = (String, RuleSource);

/// The decisions that count beside the figures.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Decisions of this process whose workflows have not been seen yet.
    own: Vec<Own>,
    /// Routed workflows that are not done, by UID.
    active: HashMap<String, Active>,
    /// UIDs seen in the list that is under way.
    listed: Vec<String>,
    /// Sum of what does not show yet, by cluster.
    pending: HashMap<String, Resources>,
    /// When each cluster's figures were counted.
    figures: HashMap<String, i64>,
}

#[derive(Debug)]
struct Own {
    stamp: String,
    placed: Active,
    at: i64,
}

#[derive(Clone, Debug, PartialEq)]
struct Active {
    cluster: String,
    rule: RuleKey,
    asks: Resources,
    /// Since when it has been seen running, in seconds since 1970.
    running: Option<i64>,
    /// Whether the figures show it.
    shows: bool,
}

impl Active {
    fn new(namespace: String, placement: Placement) -> Self {
        let mut asks = Resources::default();
        for (name, quantity) in &placement.asks {
            asks.set(name, parse_quantity(name, quantity).unwrap_or_default());
        }
        Self { cluster: placement.cluster, rule: (namespace, placement.rule), asks, running: None, shows: false }
    }
}

impl Ledger {
    /// Takes in an event of the watch of routed workflows that are not done.
    pub fn apply<K: ResourceExt>(&self, event: Event<K>, now: i64) {
        let mut state = self.state();
        match event {
            Event::Init => state.listed.clear(),
            Event::InitApply(object) => {
                state.listed.extend(object.uid());
                state.put(&object, now);
            }
            Event::InitDone => {
                let listed: std::collections::HashSet<String> = std::mem::take(&mut state.listed).into_iter().collect();
                let gone: Vec<String> = state.active.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| state.remove(uid));
            }
            Event::Apply(object) => state.put(&object, now),
            Event::Delete(object) => object.uid().iter().for_each(|uid| state.remove(uid)),
        }
    }

    /// Counts a decision of this process from now on, until its workflow is seen. `stamp` is what it was stamped with.
    pub fn reserve(&self, namespace: &str, stamp: &str, now: i64) {
        let Some(placement) = read_stamp(stamp) else { return };
        if placement.cluster.is_empty() || placement.cluster == names::LOCAL {
            return;
        }
        let placed = Active::new(namespace.to_owned(), placement);
        self.state().own.push(Own { stamp: stamp.to_owned(), placed, at: now });
    }

    /// Takes in when a cluster's figures were counted.
    pub fn figures(&self, cluster: &str, time: i64) {
        self.state().figures(cluster, time);
    }

    /// What counts beside the figures, for a workflow of this namespace and rule.
    pub fn placed(&self, namespace: &str, rule: &RuleSource, now: i64) -> Placed {
        let mut state = self.state();
        state.own.retain(|own| now - own.at <= UNSEEN);
        let mut placed = Placed { pending: state.pending.clone(), by_rule: HashMap::new() };
        for own in &state.own {
            placed.pending.entry(own.placed.cluster.clone()).or_default().add(&own.placed.asks);
        }
        let of_rule = |placed: &&Active| placed.rule.1 == *rule && placed.rule.0 == namespace;
        for active in state.own.iter().map(|own| &own.placed).chain(state.active.values()).filter(of_rule) {
            *placed.by_rule.entry(active.cluster.clone()).or_default() += 1;
        }
        placed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, object: &impl ResourceExt, now: i64) {
        let Some(uid) = object.uid() else { return };
        let namespace = object.namespace().unwrap_or_default();
        let stamp = object.annotations().get(names::PLACEMENT).map(String::as_str).unwrap_or_default();
        let known = self.active.get(&uid);
        // Its decision is known from here on.
        if known.is_none()
            && let Some(own) = self.own.iter().position(|own| own.stamp == stamp && own.placed.rule.0 == namespace)
        {
            self.own.swap_remove(own);
        }
        let is_running = object.labels().get(names::ARGO_PHASE).is_some_and(|phase| phase != "Pending");
        let running = known.and_then(|known| known.running).or(is_running.then_some(now));
        let cluster = object.labels().get(names::CLUSTER).cloned().unwrap_or_default();
        let shows = self.shows(&cluster, running);
        let placement = Placement { cluster, ..read_stamp(stamp).unwrap_or_default() };
        let active = Active { running, shows, ..Active::new(namespace, placement) };
        if self.active.get(&uid) != Some(&active) {
            self.remove(&uid);
            self.count(&active, Resources::add);
            if !active.cluster.is_empty() {
                self.active.insert(uid, active);
            }
        }
    }

    fn remove(&mut self, uid: &str) {
        if let Some(active) = self.active.remove(uid) {
            self.count(&active, Resources::sub);
        }
    }

    fn figures(&mut self, cluster: &str, time: i64) {
        self.figures.insert(cluster.to_owned(), time);
        let shows = |active: &Active| active.running.is_some_and(|since| time >= since + SHOWS_AFTER);
        let now_shows: Vec<Active> = self
            .active
            .values_mut()
            .filter(|active| active.cluster == cluster && !active.shows && shows(active))
            .map(|active| {
                let before = active.clone();
                active.shows = true;
                before
            })
            .collect();
        now_shows.iter().for_each(|active| self.count(active, Resources::sub));
    }

    fn shows(&self, cluster: &str, running: Option<i64>) -> bool {
        let time = self.figures.get(cluster).copied().unwrap_or(i64::MIN);
        running.is_some_and(|since| time >= since.saturating_add(SHOWS_AFTER))
    }

    /// Adds what does not show to its cluster's sum, or takes it off.
    fn count(&mut self, active: &Active, operation: fn(&mut Resources, &Resources)) {
        if !active.shows && !active.cluster.is_empty() {
            operation(self.pending.entry(active.cluster.clone()).or_default(), &active.asks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn stamp(cluster: &str, cpu: &str) -> String {
        let asks = [("cpu".to_owned(), cpu.to_owned())].into();
        let placement =
            Placement { cluster: cluster.into(), rule: RuleSource::Namespace, asks, ..Placement::default() };
        serde_json::to_string(&placement).unwrap()
    }

    /// Any kind will do: only metadata is looked at.
    fn routed(uid: &str, cluster: &str, phase: &str, stamp: &str) -> ConfigMap {
        let object = json!({"metadata": {
            "uid": uid, "name": uid, "namespace": "team",
            "labels": {"kubestellar.io/cluster": cluster, "workflows.argoproj.io/phase": phase},
            "annotations": {"argosy.dev/placement": stamp},
        }});
        serde_json::from_value(object).unwrap()
    }

    fn pending(ledger: &Ledger, cluster: &str, now: i64) -> i64 {
        let placed = ledger.placed("team", &RuleSource::Namespace, now);
        placed.pending.get(cluster).map_or(0, |pending| pending.get("cpu"))
    }

    fn count(ledger: &Ledger, namespace: &str, cluster: &str) -> u32 {
        ledger.placed(namespace, &RuleSource::Namespace, 0).by_rule.get(cluster).copied().unwrap_or_default()
    }

    #[test]
    fn a_decision_counts_once_from_its_making_until_its_pods_show_in_the_figures() {
        let ledger = Ledger::default();
        let stamp = stamp("c1", "500m");
        ledger.figures("c1", 90);
        ledger.reserve("team", &stamp, 100);
        assert_eq!((pending(&ledger, "c1", 100), count(&ledger, "team", "c1")), (500, 1));
        ledger.apply(Event::Apply(routed("u", "c1", "Pending", &stamp)), 101);
        assert_eq!((pending(&ledger, "c1", 101), count(&ledger, "team", "c1")), (500, 1));
        ledger.apply(Event::Apply(routed("u", "c1", "Running", &stamp)), 103);
        ledger.figures("c1", 104);
        assert_eq!(pending(&ledger, "c1", 104), 500);
        ledger.figures("c1", 105);
        assert_eq!((pending(&ledger, "c1", 105), count(&ledger, "team", "c1")), (0, 1));
        ledger.apply(Event::Delete(routed("u", "c1", "Succeeded", &stamp)), 110);
        assert_eq!((pending(&ledger, "c1", 110), count(&ledger, "team", "c1")), (0, 0));
    }

    #[test]
    fn a_decision_that_came_to_nothing_is_forgotten() {
        let ledger = Ledger::default();
        ledger.reserve("team", &stamp("c1", "1"), 100);
        assert_eq!(pending(&ledger, "c1", 110), 1000);
        assert_eq!(pending(&ledger, "c1", 111), 0);
    }

    #[test]
    fn what_ended_before_it_showed_is_taken_off_and_other_replicas_decisions_count() {
        let ledger = Ledger::default();
        ledger.apply(Event::Apply(routed("u", "c1", "", &stamp("c1", "2"))), 100);
        ledger.apply(Event::Apply(routed("v", "c2", "", &stamp("c2", "1"))), 100);
        assert_eq!((pending(&ledger, "c1", 100), pending(&ledger, "c2", 100)), (2000, 1000));
        assert_eq!((count(&ledger, "team", "c1"), count(&ledger, "other", "c1")), (1, 0));
        ledger.apply(Event::<ConfigMap>::Init, 101);
        ledger.apply(Event::InitApply(routed("v", "c2", "", &stamp("c2", "1"))), 101);
        ledger.apply(Event::<ConfigMap>::InitDone, 101);
        assert_eq!((pending(&ledger, "c1", 101), pending(&ledger, "c2", 101)), (0, 1000));
    }
}
