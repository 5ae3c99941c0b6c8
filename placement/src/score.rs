//! Comparing clusters that could all take a workflow.

use std::collections::HashMap;

use argosy_api::Strategy;

use crate::capacity::Capacity;
use crate::cluster::Cluster;
use crate::resources::Resources;

/// Figures of this age, in seconds, count as fresh.
const FRESH: i64 = 30;
/// After so many seconds more, a cluster counts as full.
const WORTHLESS: f64 = 300.0;
/// A cluster without figures comes after all others.
const UNKNOWN: f64 = -2.0;
/// What a pod that asks for nothing is taken to use, as Kubernetes' scheduler does: 100m CPU and 200Mi memory.
const UNASKED: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 << 20)];

/// What was placed, and may not show in the clusters' figures yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placed {
    /// By cluster: what workflows ask for whose pods its figures cannot show yet.
    pub pending: HashMap<String, Resources>,
    /// By cluster: active workflows that the rule in question has there.
    pub by_rule: HashMap<String, u32>,
}

/// What a workflow is taken to use: what it asks for, and something for pods that ask for nothing.
pub(crate) fn estimate(peak: &Resources) -> Resources {
    let pods = peak.get("pods");
    let mut estimate = peak.clone();
    for (name, each) in UNASKED {
        if estimate.get(name) == 0 {
            estimate.set(name, each.saturating_mul(pods));
        }
    }
    estimate
}

/// The higher, the better. `asks` is an [`estimate`], `index` the place of the cluster in the order of names.
pub(crate) fn score(
    strategy: Strategy,
    cluster: &Cluster,
    index: usize,
    asks: &Resources,
    placed: &Placed,
    now: i64,
) -> f64 {
    match strategy {
        #[allow(clippy::cast_precision_loss, reason = "a place among clusters")]
        Strategy::Ordered => -(index as f64),
        Strategy::Spread => -f64::from(placed.by_rule.get(&cluster.name).copied().unwrap_or_default()),
        Strategy::LeastLoaded => cluster.capacity.as_ref().map_or(UNKNOWN, |capacity| {
            let pending = placed.pending.get(&cluster.name);
            let score = share_free(capacity, pending, asks) - staleness(now - capacity.time);
            (score * 1000.0).round() / 1000.0
        }),
    }
}

/// The share that is free with the workflow there, of the resource that is scarcest then.
fn share_free(capacity: &Capacity, pending: Option<&Resources>, asks: &Resources) -> f64 {
    let shares = capacity.allocatable.iter().filter(|(name, has)| *has > 0 && asks.get(name) > 0).map(|(name, has)| {
        let taken = capacity.requested.get(name) + pending.map_or(0, |pending| pending.get(name)) + asks.get(name);
        #[allow(clippy::cast_precision_loss, reason = "shares need no more than 52 bits")]
        let share = (has - taken) as f64 / has as f64;
        share
    });
    shares.fold(1.0, f64::min)
}

/// From 0 for fresh figures to 1 for figures that say nothing any more.
fn staleness(age: i64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "seconds")]
    let beyond = (age - FRESH).max(0) as f64;
    (beyond / WORTHLESS).min(1.0)
}
