//! The books: which nodes there are, and what the pods on each ask for, kept from event to event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use argosy_placement::Resources;
use kube::runtime::watcher::Event;

use super::sum::Sum;
use super::view::Reduce;

/// What is kept of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub takes_pods: bool,
    pub labels: BTreeMap<String, String>,
    /// Those that keep pods away, in order.
    pub taints: Vec<Taint>,
    pub allocatable: Resources,
}

/// A taint, without the time when it was added.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Taint {
    pub key: String,
    pub value: Option<String>,
    pub effect: String,
}

/// What a pod means for the books.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// It is done and asks for nothing any more.
    pub finished: bool,
    /// `None` until it is scheduled.
    pub node: Option<String>,
    pub asks: Resources,
    /// The workflow that it belongs to, as `namespace/name`.
    pub workflow: Option<String>,
}

/// What is kept of a pod: pods come by the ten thousand, so what many have in common is there once.
#[derive(Clone, Debug, PartialEq)]
struct Booked {
    node: Option<Arc<str>>,
    asks: Arc<Resources>,
    workflow: Option<Arc<str>>,
}

/// What the pods on a node ask for.
#[derive(Debug, Default)]
pub struct Used {
    pub all: Sum,
    /// Those that are no workflow's, and stay.
    pub others: Sum,
}

/// Nodes, pods, and sums that follow each event.
#[derive(Debug, Default)]
pub struct Ledger {
    nodes: Listed<Node>,
    pods: Listed<Booked>,
    /// What the pods on each node ask for; nodes without pods are not in it.
    used: HashMap<Arc<str>, Used>,
    /// What pods without a node ask for.
    pending: Sum,
    /// What any pod asks for.
    shapes: HashSet<Arc<Resources>>,
    /// How many pods each workflow has.
    workflows: HashMap<Arc<str>, u32>,
    /// Grows with every change of what is kept.
    version: u64,
}

/// Objects of a watch. Each knows in which list it was seen last, so that a new list tells what is gone.
#[derive(Debug)]
struct Listed<T> {
    items: HashMap<String, (u64, T)>,
    round: u64,
    synced: bool,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { items: HashMap::new(), round: 0, synced: false }
    }
}

impl<T> Listed<T> {
    /// Returns what was there under this name.
    fn put(&mut self, id: String, item: T) -> Option<T> {
        self.items.insert(id, (self.round, item)).map(|(_, before)| before)
    }

    fn get(&self, id: &str) -> Option<&T> {
        self.items.get(id).map(|(_, item)| item)
    }

    /// Returns what the list that has just ended no longer has.
    fn end_of_list(&mut self) -> Vec<T> {
        self.synced = true;
        let round = self.round;
        self.items.extract_if(|_, (seen, _)| *seen != round).map(|(_, (_, item))| item).collect()
    }
}

impl Ledger {
    /// Whether both watches have delivered their first list: before that the sums mean nothing.
    pub fn is_synced(&self) -> bool {
        self.nodes.synced && self.pods.synced
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn node_event(&mut self, event: Event<impl Reduce<Kept = Node>>) {
        match event {
            Event::Init => self.nodes.round += 1,
            Event::InitApply(node) | Event::Apply(node) => {
                let (name, node) = node.reduce();
                let is_news = self.nodes.get(&name) != Some(&node);
                self.nodes.put(name, node);
                self.version += u64::from(is_news);
            }
            // The first list is news even where it is empty.
            Event::InitDone => self.version += u64::from(!self.nodes.synced) + self.nodes.end_of_list().len() as u64,
            Event::Delete(node) => {
                let gone = self.nodes.items.remove(&node.reduce().0);
                self.version += u64::from(gone.is_some());
            }
        }
    }

    pub fn pod_event(&mut self, event: Event<impl Reduce<Kept = Pod>>) {
        match event {
            Event::Init => self.pods.round += 1,
            Event::InitApply(pod) | Event::Apply(pod) => {
                let (id, pod) = pod.reduce();
                if pod.finished { self.remove_pod(&id) } else { self.put_pod(id, pod) }
            }
            Event::InitDone => {
                self.version += u64::from(!self.pods.synced);
                let gone = self.pods.end_of_list();
                gone.into_iter().for_each(|pod| self.unbook(pod));
            }
            Event::Delete(pod) => self.remove_pod(&pod.reduce().0),
        }
    }

    /// Whether a workflow has pods that are not done.
    pub fn has_pods(&self, namespace: &str, workflow: &str) -> bool {
        self.workflows.contains_key(format!("{namespace}/{workflow}").as_str())
    }

    /// The nodes, each with what the pods on it ask for.
    pub fn nodes(&self) -> impl Iterator<Item = (&Node, Option<&Used>)> {
        self.nodes.items.iter().map(|(name, (_, node))| (node, self.used.get(name.as_str())))
    }

    /// What pods without a node ask for.
    pub fn pending(&self) -> &Sum {
        &self.pending
    }

    fn put_pod(&mut self, id: String, pod: Pod) {
        // Most events of a pod change nothing here.
        if let Some((seen, known)) = self.pods.items.get_mut(&id)
            && known.node.as_deref() == pod.node.as_deref()
            && *known.asks == pod.asks
        {
            *seen = self.pods.round;
            return;
        }
        let booked = self.book(pod);
        if let Some(before) = self.pods.put(id, booked) {
            self.unbook(before);
        }
    }

    fn remove_pod(&mut self, id: &str) {
        if let Some((_, pod)) = self.pods.items.remove(id) {
            self.unbook(pod);
        }
    }

    fn book(&mut self, pod: Pod) -> Booked {
        self.version += 1;
        let known = self.shapes.get(&pod.asks).cloned();
        let asks = known.unwrap_or_else(|| Arc::new(pod.asks));
        self.shapes.insert(Arc::clone(&asks));
        let workflow = pod.workflow.map(|name| self.workflow(&name));
        let Some(name) = pod.node else {
            self.pending.add(&asks);
            return Booked { node: None, asks, workflow };
        };
        let known = self.used.get_key_value(name.as_str());
        let name = known.map_or_else(|| Arc::from(name.as_str()), |(known, _)| Arc::clone(known));
        let used = self.used.entry(Arc::clone(&name)).or_default();
        used.all.add(&asks);
        if workflow.is_none() {
            used.others.add(&asks);
        }
        Booked { node: Some(name), asks, workflow }
    }

    /// Counts one more pod of a workflow.
    fn workflow(&mut self, name: &str) -> Arc<str> {
        let known = self.workflows.get_key_value(name);
        let name = known.map_or_else(|| Arc::from(name), |(known, _)| Arc::clone(known));
        *self.workflows.entry(Arc::clone(&name)).or_default() += 1;
        name
    }

    fn unbook(&mut self, pod: Booked) {
        self.version += 1;
        match &pod.node {
            None => self.pending.subtract(&pod.asks),
            Some(name) => {
                if let Some(used) = self.used.get_mut(name) {
                    used.all.subtract(&pod.asks);
                    if pod.workflow.is_none() {
                        used.others.subtract(&pod.asks);
                    }
                    if used.all.is_empty() {
                        self.used.remove(name);
                    }
                }
            }
        }
        if let Some(name) = &pod.workflow
            && let Some(count) = self.workflows.get_mut(name)
        {
            *count -= 1;
            if *count == 0 {
                self.workflows.remove(name);
            }
        }
        // Nobody has it but `shapes` and this pod.
        if Arc::strong_count(&pod.asks) == 2 {
            self.shapes.remove(&pod.asks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted(&'static str, Option<&'static str>, i64);

    impl Reduce for Counted {
        type Kept = Pod;

        fn reduce(self) -> (String, Pod) {
            let asks = [("cpu", self.2)].into_iter().collect();
            let workflow = Some("n/w".to_owned());
            (self.0.to_owned(), Pod { finished: false, node: self.1.map(str::to_owned), asks, workflow })
        }
    }

    #[test]
    fn what_pods_have_in_common_is_there_once_and_goes_with_the_last() {
        let mut ledger = Ledger::default();
        ledger.pod_event(Event::Apply(Counted("a", Some("n"), 1)));
        ledger.pod_event(Event::Apply(Counted("b", Some("n"), 1)));
        ledger.pod_event(Event::Apply(Counted("c", None, 2)));
        assert_eq!((ledger.shapes.len(), ledger.used.len(), ledger.pending.get("cpu")), (2, 1, 2));
        // The scheduler has chosen.
        ledger.pod_event(Event::Apply(Counted("c", Some("m"), 2)));
        ledger.pod_event(Event::Delete(Counted("a", Some("n"), 1)));
        assert_eq!((ledger.shapes.len(), ledger.used.len(), ledger.pending.is_empty()), (2, 2, true));
        assert!(ledger.has_pods("n", "w") && !ledger.has_pods("n", "v"));
        ledger.pod_event(Event::Delete(Counted("b", Some("n"), 1)));
        ledger.pod_event(Event::Delete(Counted("c", Some("m"), 2)));
        assert!(ledger.shapes.is_empty() && ledger.used.is_empty() && ledger.pending.is_empty());
        assert!(!ledger.has_pods("n", "w"));
    }

    #[test]
    fn an_event_that_says_nothing_new_is_no_new_version() {
        let mut ledger = Ledger::default();
        let mut versions = Vec::new();
        for pods in [1, 1, 2] {
            ledger.pod_event(Event::Apply(Counted("a", None, pods)));
            versions.push(ledger.version());
        }
        assert!(versions[0] == versions[1] && versions[1] < versions[2], "{versions:?}");
    }
}
