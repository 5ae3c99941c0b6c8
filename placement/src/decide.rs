//! The decision at a workflow's creation, and the same question asked again before it is delivered.

use std::collections::BTreeMap;

use argosy_api::{RuleSource, names as keys};

use crate::cluster::Cluster;
use crate::rule::{Rule, RuleError};

/// What a decision is asked about.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The workflow's namespace in the control cluster.
    pub namespace: &'a str,
    /// The workflow's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What the user put into `kubestellar.io/cluster`; not what was inherited from another workflow's routing.
    pub own_cluster: Option<&'a str>,
}

/// Where a workflow runs, and why: one sentence for the person who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing here is about this workflow.
    NoRule,
    /// In the control cluster, by a rule or by the user's choice.
    Local { source: RuleSource, reason: String },
    /// In this WorkloadCluster.
    Place { cluster: String, source: RuleSource, reason: String },
    /// Nowhere.
    Refuse { reason: String },
}

/// Decides by the workflow's own label, then by the namespace's rule; with neither, the workflow is none of ours.
/// A rule that cannot be read refuses.
pub fn decide(request: &Request, rule: Option<&Result<Rule, RuleError>>, clusters: &[Cluster]) -> Decision {
    let rule = match rule {
        Some(Err(error)) => return Decision::Refuse { reason: error.to_string() },
        Some(Ok(rule)) if rule.workflows.matches(request.labels) => Ok(rule),
        Some(Ok(rule)) => Err(Some(rule)),
        None => Err(None),
    };
    match (request.own_cluster, rule) {
        (Some(keys::LOCAL), rule) => local_by_user(rule.ok()),
        (Some(name), rule) => chosen_by_user(request, name, rule.ok(), clusters),
        (None, Ok(rule)) => first_that_fits(request, rule, clusters),
        (None, Err(Some(rule))) => Decision::Local {
            source: RuleSource::Namespace,
            reason: format!("the rule is about workflows with {:?} only", rule.workflows.to_string()),
        },
        (None, Err(None)) => Decision::NoRule,
    }
}

/// Whether a workflow that was placed on `cluster` may still be delivered there: stamps can be forged and rules
/// change. Readiness is not asked for; whoever delivers waits for it.
pub fn permitted(
    request: &Request,
    rule: Option<&Result<Rule, RuleError>>,
    cluster: Option<&Cluster>,
) -> Result<(), String> {
    let rule = rule.map(Result::as_ref).transpose().map_err(ToString::to_string)?;
    let rule = rule.filter(|rule| rule.workflows.matches(request.labels));
    let cluster = cluster.ok_or("there is no such WorkloadCluster")?;
    allowed(request.namespace, rule, cluster)
}

fn local_by_user(rule: Option<&Rule>) -> Decision {
    match rule {
        None => Decision::Local { source: RuleSource::Label, reason: "its own label asks for it".to_owned() },
        Some(rule) => Decision::Refuse {
            reason: format!(
                "label {}=local asks for the control cluster, but the namespace's rule allows only clusters with {:?}",
                keys::CLUSTER,
                rule.clusters.to_string()
            ),
        },
    }
}

fn chosen_by_user(request: &Request, name: &str, rule: Option<&Rule>, clusters: &[Cluster]) -> Decision {
    let refuse = |why: String| Decision::Refuse { reason: format!("label {}={name}: {why}", keys::CLUSTER) };
    let Some(cluster) = clusters.iter().find(|cluster| cluster.name == name) else {
        return refuse(format!("there is no such WorkloadCluster; there is {}", listed(&names(clusters))));
    };
    if let Err(why) = allowed(request.namespace, rule, cluster).and_then(|()| available(cluster)) {
        return refuse(why);
    }
    Decision::Place {
        cluster: name.to_owned(),
        source: RuleSource::Label,
        reason: "its own label asks for it".to_owned(),
    }
}

/// Strategy `Ordered`: the first by name of those that the rule selects.
fn first_that_fits(request: &Request, rule: &Rule, clusters: &[Cluster]) -> Decision {
    let selector = rule.clusters.to_string();
    let mut selected: Vec<&Cluster> =
        clusters.iter().filter(|cluster| rule.clusters.matches(&cluster.labels)).collect();
    selected.sort_by(|a, b| a.name.cmp(&b.name));
    let mut passed_over = Vec::new();
    for cluster in selected {
        match consented(request.namespace, cluster).and_then(|()| available(cluster)) {
            Ok(()) => {
                let after = if passed_over.is_empty() { String::new() } else { format!(" ({})", listed(&passed_over)) };
                return Decision::Place {
                    cluster: cluster.name.clone(),
                    source: RuleSource::Namespace,
                    reason: format!("first of the clusters with {selector:?}{after}"),
                };
            }
            Err(why) => passed_over.push(format!("{}: {why}", cluster.name)),
        }
    }
    let why = if passed_over.is_empty() {
        format!("no WorkloadCluster has such labels; there is {}", listed(&names(clusters)))
    } else {
        listed(&passed_over)
    };
    Decision::Refuse {
        reason: format!("no cluster with {selector:?} takes workflows of namespace {:?}: {why}", request.namespace),
    }
}

/// Policy: may it run there at all?
fn allowed(namespace: &str, rule: Option<&Rule>, cluster: &Cluster) -> Result<(), String> {
    if let Some(rule) = rule.filter(|rule| !rule.clusters.matches(&cluster.labels)) {
        return Err(format!("the namespace's rule allows only clusters with {:?}", rule.clusters.to_string()));
    }
    consented(namespace, cluster)
}

/// Consent: does the cluster take this namespace's workflows?
fn consented(namespace: &str, cluster: &Cluster) -> Result<(), String> {
    if cluster.consents_to(namespace) {
        return Ok(());
    }
    Err(format!("the cluster does not take workflows of namespace {namespace:?} (its spec.namespaces)"))
}

/// State: does it take new work now?
fn available(cluster: &Cluster) -> Result<(), String> {
    match &cluster.not_ready {
        _ if cluster.cordoned => Err("the cluster is cordoned".to_owned()),
        Some(why) => Err(format!("the cluster is not ready ({why})")),
        None => Ok(()),
    }
}

fn names(clusters: &[Cluster]) -> Vec<String> {
    clusters.iter().map(|cluster| cluster.name.clone()).collect()
}

/// The first five, and how many more: a message that a person can read, also with a hundred clusters.
fn listed(items: &[String]) -> String {
    const SHOWN: usize = 5;
    match items {
        [] => "none".to_owned(),
        _ if items.len() <= SHOWN => items.join("; "),
        _ => format!("{}; and {} more", items[..SHOWN].join("; "), items.len() - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn cluster(name: &str) -> Cluster {
        Cluster {
            name: name.into(),
            labels: [("name".to_owned(), name.to_owned())].into(),
            namespaces: vec!["team".into()],
            ..Cluster::default()
        }
    }

    /// c1 cordoned, c2 ready, c3 not ready, c4 consents to nobody.
    fn fleet() -> Vec<Cluster> {
        vec![
            Cluster { cordoned: true, ..cluster("c1") },
            cluster("c2"),
            Cluster { not_ready: Some("Ready is False: no answer".into()), ..cluster("c3") },
            Cluster { namespaces: vec![], ..cluster("c4") },
        ]
    }

    fn rule(clusters: &str, workflows: &str) -> Result<Rule, RuleError> {
        let annotations = [(keys::CLUSTERS, clusters), (keys::WORKFLOWS, workflows)];
        let annotations = annotations.iter().map(|(k, v)| (String::from(*k), String::from(*v))).collect();
        Rule::from_namespace("team", &annotations).unwrap()
    }

    fn outcome(own: Option<&str>, rule: Option<&Result<Rule, RuleError>>) -> String {
        let labels = [("tier".to_owned(), "gold".to_owned())].into();
        match decide(&Request { namespace: "team", labels: &labels, own_cluster: own }, rule, &fleet()) {
            Decision::NoRule => "no rule".to_owned(),
            Decision::Local { source, reason } => format!("local by {source:?}: {reason}"),
            Decision::Place { cluster, source, reason } => format!("{cluster} by {source:?}: {reason}"),
            Decision::Refuse { reason } => format!("refused: {reason}"),
        }
    }

    #[rstest]
    #[case(None, None, "no rule")]
    #[case(Some("local"), None, "local by Label: its own label asks for it")]
    #[case(Some("c2"), None, "c2 by Label: its own label asks for it")]
    #[case(Some("c1"), None, "refused: label kubestellar.io/cluster=c1: the cluster is cordoned")]
    #[case(
        Some("c3"),
        None,
        "refused: label kubestellar.io/cluster=c3: the cluster is not ready (Ready is False: no answer)"
    )]
    #[case(
        Some("c4"),
        None,
        "refused: label kubestellar.io/cluster=c4: the cluster does not take workflows of namespace \"team\" (its spec.namespaces)"
    )]
    #[case(
        Some("c9"),
        None,
        "refused: label kubestellar.io/cluster=c9: there is no such WorkloadCluster; there is c1; c2; c3; c4"
    )]
    #[case(None, Some(("*", "*")), "c2 by Namespace: first of the clusters with \"*\" (c1: the cluster is cordoned)")]
    #[case(None, Some(("name in (c2,c3)", "*")), "c2 by Namespace: first of the clusters with \"name in (c2,c3)\"")]
    #[case(None, Some(("*", "tier=silver")), "local by Namespace: the rule is about workflows with \"tier=silver\" only")]
    #[case(Some("c2"), Some(("*", "tier=silver")), "c2 by Label: its own label asks for it")]
    #[case(Some("c2"), Some(("name=c3", "*")), "refused: label kubestellar.io/cluster=c2: the namespace's rule allows only clusters with \"name=c3\"")]
    #[case(Some("local"), Some(("name=c3", "*")), "refused: label kubestellar.io/cluster=local asks for the control cluster, but the namespace's rule allows only clusters with \"name=c3\"")]
    #[case(Some("c2"), Some(("name=", "bad bad")), "refused: annotation argosy.dev/workflows of namespace \"team\" cannot be read: column 5: expected `=`, `!=`, `in`, `notin`, `,` or the end, found `bad` in \"bad bad\"")]
    fn decides(#[case] own: Option<&str>, #[case] of: Option<(&str, &str)>, #[case] expected: &str) {
        let rule = of.map(|(clusters, workflows)| rule(clusters, workflows));
        assert_eq!(outcome(own, rule.as_ref()), expected);
    }

    #[rstest]
    #[case(
        "name in (c1,c4)",
        "c1: the cluster is cordoned; c4: the cluster does not take workflows of namespace \"team\" (its spec.namespaces)"
    )]
    #[case("gpu", "no WorkloadCluster has such labels; there is c1; c2; c3; c4")]
    fn a_refusal_says_why_of_each_selected_cluster(#[case] clusters: &str, #[case] why: &str) {
        assert_eq!(
            outcome(None, Some(&rule(clusters, "*"))),
            format!("refused: no cluster with {clusters:?} takes workflows of namespace \"team\": {why}")
        );
    }

    #[test]
    fn delivery_asks_for_rule_and_consent_but_not_for_readiness() {
        let labels = BTreeMap::new();
        let request = Request { namespace: "team", labels: &labels, own_cluster: None };
        let fleet = fleet();
        assert_eq!(permitted(&request, None, Some(&fleet[2])), Ok(()));
        assert!(permitted(&request, None, Some(&fleet[3])).is_err());
        assert!(permitted(&request, None, None).is_err());
        assert!(permitted(&request, Some(&rule("name=c2", "*")), Some(&fleet[2])).is_err());
        assert!(permitted(&request, Some(&rule("=", "*")), Some(&fleet[1])).is_err());
    }
}
