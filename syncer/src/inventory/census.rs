//! What the books say about the cluster as a whole: the status that placement decides by.
//!
//! Pods on nodes that take none (cordoned, not ready) are left out as their nodes are, so that what is allocatable
//! less what is requested is what is free.

use std::collections::{BTreeMap, BTreeSet};

use argosy_api::{Capacity, NodeGroup};
use argosy_placement::print_quantity;
use argosy_runtime::known::Awaited;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::groups::{self, Group, Room};
use super::ledger::{Ledger, Taint};
use super::sum::Sum;

/// What comes first where nodes are compared.
const FIRST: [&str; 2] = ["cpu", "memory"];

/// Counts: a pure function of the books, and of what does not show in them yet.
pub fn capacity(ledger: &Ledger, awaited: &Awaited, time: Timestamp) -> Capacity {
    let taking: Vec<_> = ledger.nodes().filter(|(node, _)| node.takes_pods).collect();
    let (mut allocatable, mut requested) = (Sum::default(), ledger.pending().clone());
    let mut names = BTreeSet::new();
    for (node, used) in &taking {
        allocatable.add(&node.allocatable);
        used.iter().for_each(|used| requested.merge(&used.all));
        names.extend(node.allocatable.iter().map(|(name, _)| name));
    }
    let others = names.iter().copied().filter(|name| !FIRST.contains(name));
    let names: Vec<&str> = FIRST.into_iter().filter(|name| names.contains(name)).chain(others).collect();
    let rooms = taking.iter().map(|(node, used)| {
        let beside = |used: Option<&Sum>| {
            let free = |name: &&str| {
                let used = used.map_or(0, |used| used.get(name));
                // Static pods may ask for more than the node has.
                node.allocatable.get(name).saturating_sub(used).max(0)
            };
            names.iter().map(free).collect()
        };
        Room {
            labels: &node.labels,
            taints: &node.taints,
            free: beside(used.map(|used| &used.all)),
            idle: beside(used.map(|used| &used.others)),
        }
    });
    let (groups, omitted) = groups::group(rooms.collect());
    Capacity {
        time: Time(time),
        allocatable: quantities(allocatable.iter()),
        requested: quantities(requested.iter()),
        pending: quantities(awaited.pending.iter()),
        seen: if awaited.seen > 0 { awaited.seen.to_string() } else { String::new() },
        nodes: groups.into_iter().map(|group| told(group, &names)).collect(),
        omitted_labels: omitted.into_iter().map(str::to_owned).collect(),
    }
}

/// Whether two counts differ in anything but their time, and in up to where workflows have been seen: one that was placed
/// here since shows in what is pending or requested, too.
pub fn differ(one: &Capacity, other: &Capacity) -> bool {
    let what =
        |capacity: &Capacity| Capacity { time: Time(Timestamp::UNIX_EPOCH), seen: String::new(), ..capacity.clone() };
    what(one) != what(other)
}

fn told(group: Group, names: &[&str]) -> NodeGroup {
    let idle = if group.idle == group.free { Vec::new() } else { group.idle };
    let each = |nodes: Vec<Vec<i64>>| {
        nodes.into_iter().map(|amounts| quantities(names.iter().copied().zip(amounts))).collect()
    };
    NodeGroup {
        count: u32::try_from(group.count).unwrap_or(u32::MAX),
        labels: group.labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        taints: group.taints.iter().map(taint).collect(),
        free: each(group.free),
        idle: each(idle),
    }
}

/// What is not there is not told of: nodes name every size of huge pages, which few have.
fn quantities<'a>(amounts: impl Iterator<Item = (&'a str, i64)>) -> BTreeMap<String, Quantity> {
    let some = amounts.filter(|(_, amount)| *amount != 0);
    some.map(|(name, amount)| (name.to_owned(), Quantity(print_quantity(name, amount)))).collect()
}

fn taint(taint: &Taint) -> core::Taint {
    let Taint { key, value, effect } = taint.clone();
    core::Taint { key, value, effect, time_added: None }
}
