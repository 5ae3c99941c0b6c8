//! The decision at a workflow's creation, and the same question asked again before it is delivered.

use std::collections::BTreeMap;
use std::sync::Arc;

use argosy_api::{Candidate, NoCluster, RuleSource, Strategy, names as keys};

use crate::cluster::Cluster;
use crate::demand::Demand;
use crate::fit::fits;
use crate::resources::Resources;
use crate::rule::Rule;
use crate::rules::Found;
use crate::score::{Placed, estimate, score};

/// How many candidates a decision names.
const SHOWN: usize = 5;

/// What a decision is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The workflow's namespace in the control cluster.
    pub namespace: &'a str,
    /// What the user put into `kubestellar.io/cluster`; not what was inherited from another workflow's routing.
    pub own_cluster: Option<&'a str>,
    /// What was chosen for this very workflow a moment ago; it stays, if it is still right.
    pub chosen: Option<&'a str>,
    /// What its pods ask for.
    pub demand: &'a Demand,
}

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    /// In the order of their names.
    pub clusters: &'a [Arc<Cluster>],
    pub placed: &'a Placed,
    /// Seconds since 1970.
    pub now: i64,
}

/// Where a workflow runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing here is about this workflow.
    NoRule,
    /// In the control cluster, by a rule or by the user's choice.
    Local(Why),
    /// In this WorkloadCluster.
    Place { cluster: String, why: Why },
    /// Nowhere yet: it waits until a cluster can take it.
    Wait(Why),
    /// Nowhere.
    Refuse { reason: String },
}

/// Why: for the person who asks, and for the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    pub source: RuleSource,
    /// One sentence.
    pub reason: String,
    /// The best of the clusters that could take it, best first.
    pub candidates: Vec<Candidate>,
    /// How many clusters could not, by reason.
    pub rejected: BTreeMap<String, u32>,
    /// Age in seconds of the chosen cluster's figures.
    pub figures_age: Option<i64>,
    /// What the workflow asks for, by resource name.
    pub asks: Resources,
}

impl Why {
    /// A reason that needs no figures.
    pub fn new(source: RuleSource, reason: impl Into<String>) -> Self {
        Self {
            source,
            reason: reason.into(),
            candidates: Vec::new(),
            rejected: BTreeMap::new(),
            figures_age: None,
            asks: Resources::default(),
        }
    }
}

/// Why a cluster does not take a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For counting.
    pub kind: &'static str,
    /// For the person who asks.
    pub why: String,
}

/// What a rule makes of one cluster: its score, the higher the better, or why it cannot take the workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Surveyed<'a> {
    pub cluster: &'a Cluster,
    pub verdict: Result<f64, Rejection>,
}

/// What a rule makes of each cluster that it selects; in the order of their names.
pub fn survey<'a>(request: &Request, rule: &Rule, fleet: &Fleet<'a>) -> Vec<Surveyed<'a>> {
    let asks = estimate(&request.demand.peak);
    let selected = fleet.clusters.iter().filter(|cluster| rule.clusters.matches(&cluster.labels));
    let surveyed = selected.enumerate().map(|(index, cluster)| Surveyed {
        cluster,
        verdict: consented(request.namespace, cluster)
            .and_then(|()| available(request, cluster, fleet))
            .map(|()| score(rule.strategy, cluster, index, &asks, fleet.placed, fleet.now)),
    });
    surveyed.collect()
}

/// Decides by the workflow's own label, then by the rule that was found for it; with neither, the workflow is none of
/// ours. A user's own label chooses within the rule. A rule that cannot be read refuses.
pub fn decide(request: &Request, found: &Found, fleet: &Fleet) -> Decision {
    match (request.own_cluster, found) {
        (_, Found::Broken(error)) => Decision::Refuse { reason: error.to_string() },
        (Some(keys::LOCAL), Found::Rule(rule)) => local_within(rule),
        (Some(keys::LOCAL), _) => Decision::Local(Why::new(RuleSource::Label, "its own label asks for it")),
        (Some(name), Found::Rule(rule)) => chosen_by_user(request, name, Some(rule), fleet),
        (Some(name), _) => chosen_by_user(request, name, None, fleet),
        (None, Found::Rule(rule)) => chosen_by_rule(request, rule, fleet),
        (None, Found::NotSelected(rule)) => Decision::Local(not_selected(*rule)),
        (None, Found::Unruled) => Decision::NoRule,
    }
}

/// Whether a workflow that was placed on `cluster` may be delivered there: stamps can be forged and rules change.
/// Readiness is not asked for; whoever delivers waits for it. Answers the rule, if there is one for it.
///
/// # Errors
/// Why not, in words.
pub fn permitted<'a>(
    namespace: &str,
    found: &Found<'a>,
    cluster: Option<&Cluster>,
) -> Result<Option<&'a Rule>, String> {
    if let Found::Broken(error) = found {
        return Err(error.to_string());
    }
    let rule = found.rule();
    let cluster = cluster.ok_or("there is no such WorkloadCluster")?;
    allowed(namespace, rule, cluster).map(|()| rule)
}

fn not_selected(rule: Option<&Rule>) -> Why {
    match rule {
        Some(rule) => Why::new(
            rule.source.clone(),
            format!("the rule is about workflows with {:?} only", rule.workflows.to_string()),
        ),
        None => Why::new(RuleSource::Namespace, "no rule is about it any more"),
    }
}

fn local_within(rule: &Rule) -> Decision {
    if rule.no_cluster == NoCluster::Local {
        return Decision::Local(Why::new(RuleSource::Label, "its own label asks for it, and the rule lets it"));
    }
    Decision::Refuse {
        reason: format!(
            "label {}={} asks for the control cluster, but {} allows only clusters with {:?}",
            keys::CLUSTER,
            keys::LOCAL,
            named(rule),
            rule.clusters.to_string()
        ),
    }
}

fn chosen_by_user(request: &Request, name: &str, rule: Option<&Rule>, fleet: &Fleet) -> Decision {
    let refuse = |why: String| Decision::Refuse { reason: format!("label {}={name}: {why}", keys::CLUSTER) };
    let Some(cluster) = fleet.clusters.iter().find(|cluster| cluster.name == name) else {
        return refuse(format!("there is no such WorkloadCluster; there is {}", listed(&names(fleet))));
    };
    if let Err(why) = allowed(request.namespace, rule, cluster) {
        return refuse(why);
    }
    let mut why = Why::new(RuleSource::Label, "its own label asks for it");
    why.asks = estimate(&request.demand.peak);
    match available(request, cluster, fleet) {
        Ok(()) => {
            why.figures_age = age(cluster, fleet);
            Decision::Place { cluster: name.to_owned(), why }
        }
        Err(rejection) => {
            let reason = format!("label {}={name}: {}", keys::CLUSTER, rejection.why);
            why.rejected.insert(rejection.kind.to_owned(), 1);
            without_cluster(rule.map_or(NoCluster::default(), |rule| rule.no_cluster), reason, why)
        }
    }
}

fn chosen_by_rule(request: &Request, rule: &Rule, fleet: &Fleet) -> Decision {
    let mut able = Vec::new();
    let mut unable = Vec::new();
    let mut why = Why::new(rule.source.clone(), "");
    for Surveyed { cluster, verdict } in survey(request, rule, fleet) {
        match verdict {
            Ok(score) => able.push((cluster, score)),
            Err(rejection) => {
                *why.rejected.entry(rejection.kind.to_owned()).or_default() += 1;
                unable.push(format!("{}: {}", cluster.name, rejection.why));
            }
        }
    }
    // The sort is stable, and clusters come in the order of their names: among equals the first by name is best.
    able.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    why.asks = estimate(&request.demand.peak);
    let best = able.iter().find(|(cluster, _)| Some(cluster.name.as_str()) == request.chosen).or(able.first());
    let Some((cluster, score)) = best else {
        let reason = format!("no cluster with {:?} can take it: {}", rule.clusters.to_string(), no_one(&unable, fleet));
        return without_cluster(rule.no_cluster, reason, why);
    };
    why.reason = praise(rule, *score, able.len());
    if let Some(unknown) = request.demand.unknown.first() {
        why.reason.push_str("; not known: ");
        why.reason.push_str(unknown);
    }
    why.figures_age = age(cluster, fleet);
    why.candidates = able
        .iter()
        .take(SHOWN)
        .map(|(cluster, score)| Candidate { cluster: cluster.name.clone(), score: *score })
        .collect();
    Decision::Place { cluster: cluster.name.clone(), why }
}

fn without_cluster(no_cluster: NoCluster, reason: String, why: Why) -> Decision {
    match no_cluster {
        NoCluster::Wait => Decision::Wait(Why { reason, ..why }),
        NoCluster::Local => Decision::Local(Why { reason: format!("{reason}; then the rule has it run here"), ..why }),
        NoCluster::Reject => Decision::Refuse { reason },
    }
}

/// What speaks for the chosen one.
fn praise(rule: &Rule, score: f64, able: usize) -> String {
    let clusters =
        format!("of {able} cluster{} with {:?}", if able == 1 { "" } else { "s" }, rule.clusters.to_string());
    match rule.strategy {
        Strategy::Ordered => format!("first {clusters}"),
        Strategy::Spread => format!("fewest workflows of its rule ({:.0}) {clusters}", score.abs()),
        Strategy::LeastLoaded if score <= -1.0 => format!("most room {clusters}, whose figures are not known"),
        Strategy::LeastLoaded => format!("most room {clusters}: {:.0} % free with it", score * 100.0),
    }
}

fn no_one(unable: &[String], fleet: &Fleet) -> String {
    if unable.is_empty() {
        return format!("none has such labels; there is {}", listed(&names(fleet)));
    }
    listed(unable)
}

/// Policy: may it run there at all?
fn allowed(namespace: &str, rule: Option<&Rule>, cluster: &Cluster) -> Result<(), String> {
    if let Some(rule) = rule.filter(|rule| !rule.clusters.matches(&cluster.labels)) {
        return Err(format!("{} allows only clusters with {:?}", named(rule), rule.clusters.to_string()));
    }
    consented(namespace, cluster).map_err(|rejection| rejection.why)
}

/// Consent: does the cluster take this namespace's workflows?
fn consented(namespace: &str, cluster: &Cluster) -> Result<(), Rejection> {
    if cluster.consents_to(namespace) {
        return Ok(());
    }
    Err(Rejection {
        kind: "does not take the namespace",
        why: format!("the cluster does not take workflows of namespace {namespace:?} (its spec.namespaces)"),
    })
}

/// State: does it take new work now, and has it room for this?
fn available(request: &Request, cluster: &Cluster, fleet: &Fleet) -> Result<(), Rejection> {
    if cluster.cordoned {
        return Err(Rejection { kind: "cordoned", why: "the cluster is cordoned".to_owned() });
    }
    if let Some(why) = &cluster.not_ready {
        return Err(Rejection { kind: "not ready", why: format!("the cluster is not ready ({why})") });
    }
    if let Some(workflow) = &cluster.held_for {
        let why = format!("its room is kept for workflow {workflow}, which has waited for long");
        return Err(Rejection { kind: "held", why });
    }
    let Some(capacity) = &cluster.capacity else { return Ok(()) };
    let no_room = |why| Rejection { kind: "no room", why };
    fits(request.demand, capacity).map_err(no_room)?;
    // What was placed a moment ago takes its room from what the figures show as free.
    let Some(pending) = fleet.placed.pending.get(&cluster.name) else { return Ok(()) };
    let mut free = capacity.allocatable.clone();
    free.sub(&capacity.requested);
    free.sub(pending);
    match request.demand.pods.iter().find_map(|pod| pod.requests.beyond(&free).next()) {
        Some(name) => {
            Err(no_room(format!("its free {name} is taken by workflows that were placed there a moment ago")))
        }
        None => Ok(()),
    }
}

fn age(cluster: &Cluster, fleet: &Fleet) -> Option<i64> {
    cluster.capacity.as_ref().map(|capacity| (fleet.now - capacity.time).max(0))
}

/// A rule in the middle of a sentence.
fn named(rule: &Rule) -> String {
    match &rule.source {
        RuleSource::Label | RuleSource::Namespace => "the namespace's rule".to_owned(),
        RuleSource::Policy(name) => format!("PlacementPolicy {name:?}"),
        RuleSource::BindingPolicy(name) => format!("BindingPolicy {name:?}"),
    }
}

fn names(fleet: &Fleet) -> Vec<String> {
    fleet.clusters.iter().map(|cluster| cluster.name.clone()).collect()
}

/// The first five, and how many more: a message that a person can read, also with a hundred clusters.
fn listed(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        _ if items.len() <= SHOWN => items.join("; "),
        _ => format!("{}; and {} more", items[..SHOWN].join("; "), items.len() - SHOWN),
    }
}

#[cfg(test)]
mod tests;
