//! A large workflow is not passed by smaller ones for ever: when it has waited for [`PATIENCE`], a cluster is held for it.
//!
//! Nothing else is placed in a held cluster. What runs there ends, so that in the end the workflow fits: nobody but the
//! cluster's own scheduler says on which node a pod goes, so less than the whole cluster cannot be kept free. What cannot
//! be had by waiting is no reason to hold one: the workflow has to fit if no workflow ran there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::decide::{Decision, Fleet, Request, decide};
use crate::rules::Found;
use crate::score::Placed;

/// After so many seconds of waiting a cluster is held for a workflow.
pub const PATIENCE: i64 = 300;
/// So many clusters are held at one time at most, and of a few that take anything no more than half: the others go on.
const MOST: usize = 3;

/// A workflow that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiter<'a> {
    /// `namespace/name`
    pub name: &'a str,
    /// In seconds since 1970.
    pub since: i64,
}

/// Which clusters are held for whom: worked out anew each time that everyone who waits is decided about.
#[derive(Debug)]
pub struct Holds {
    /// By cluster: the workflow.
    held: BTreeMap<String, String>,
    /// By workflow: the cluster that has been held for it so far.
    before: HashMap<String, String>,
    /// The clusters that may be held yet, as if no workflow ran there.
    idle: Vec<Arc<Cluster>>,
    /// How many more may be.
    left: usize,
}

impl Holds {
    /// Nothing is held yet, but what has been is held again for the same one.
    pub fn new(clusters: &[Arc<Cluster>]) -> Self {
        let before = clusters.iter().filter_map(|cluster| Some((cluster.held_for.clone()?, cluster.name.clone())));
        let open = clusters.iter().filter(|cluster| cluster.not_ready.is_none() && !cluster.cordoned).count();
        Self {
            held: BTreeMap::new(),
            before: before.collect(),
            idle: clusters.iter().map(|cluster| Arc::new(idle(cluster))).collect(),
            left: MOST.min(open.div_ceil(2)),
        }
    }

    /// Decides about the next one in turn. It is kept out of the clusters that are held for those before it; if it waits and
    /// has for long, the cluster is held that its rule would choose if no workflow ran in any.
    pub fn decide(&mut self, waiter: Waiter, request: &Request, found: &Found, fleet: &Fleet) -> Decision {
        let clusters = held(fleet.clusters, |cluster| self.held.get(&cluster.name));
        let mut decision = decide(request, found, &Fleet { clusters: &clusters, ..*fleet });
        if let Decision::Wait(why) = &mut decision
            && self.left > 0
            && fleet.now.saturating_sub(waiter.since) >= PATIENCE
            && let Some(cluster) = self.choose(waiter.name, request, found, fleet.now)
        {
            why.reason = format!("{}; {cluster} is kept for it", why.reason);
            self.idle.retain(|idle| idle.name != cluster);
            self.left -= 1;
            self.held.insert(cluster, waiter.name.to_owned());
        }
        decision
    }

    /// What is to be written: of which clusters it is news for whom they are held.
    pub fn news<'a>(&'a self, clusters: &'a [Arc<Cluster>]) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let held = clusters.iter().map(|cluster| (cluster, self.held.get(&cluster.name)));
        let news = held.filter(|(cluster, holder)| cluster.held_for.as_ref() != *holder);
        news.map(|(cluster, holder)| (cluster.name.as_str(), holder.map(String::as_str)))
    }

    fn choose(&self, workflow: &str, request: &Request, found: &Found, now: i64) -> Option<String> {
        let request = Request { chosen: self.before.get(workflow).map(String::as_str), ..*request };
        let fleet = Fleet { clusters: &self.idle, placed: &Placed::default(), now };
        match decide(&request, found, &fleet) {
            Decision::Place { cluster, .. } => Some(cluster),
            _ => None,
        }
    }
}

/// The clusters as a workflow finds them that waits already: one that is held for it is open to it.
pub fn open_to(workflow: &str, clusters: &[Arc<Cluster>]) -> Vec<Arc<Cluster>> {
    held(clusters, |cluster| cluster.held_for.as_ref().filter(|holder| *holder != workflow))
}

fn held<'a>(clusters: &'a [Arc<Cluster>], by: impl Fn(&'a Cluster) -> Option<&'a String>) -> Vec<Arc<Cluster>> {
    let held = clusters.iter().map(|cluster| match by(cluster) {
        holder if cluster.held_for.as_ref() == holder => Arc::clone(cluster),
        holder => Arc::new(Cluster { held_for: holder.cloned(), ..Cluster::clone(cluster) }),
    });
    held.collect()
}

fn idle(cluster: &Cluster) -> Cluster {
    let capacity = cluster.capacity.as_ref().map(|capacity| capacity.idle());
    Cluster { capacity, held_for: None, ..cluster.clone() }
}

#[cfg(test)]
mod tests;
