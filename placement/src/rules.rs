//! All rules together: which of them is about a workflow.

use std::collections::BTreeMap;
use std::sync::Arc;

use argosy_api::{PlacementPolicySpec, names};

use crate::rule::{Rule, RuleError, namespaces_of_policy};
use crate::selector::Selector;

/// A Namespace of the control cluster, as far as rules go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    pub labels: BTreeMap<String, String>,
    /// The rule in its annotations.
    pub rule: Option<Result<Rule, RuleError>>,
    /// Whether the syncer has noted that a policy selects it: then the API server takes only what is stamped.
    pub noted_as_ruled: bool,
}

/// A rule for many namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: String,
    pub priority: i64,
    /// Which namespaces it is about. One that cannot be read is about all.
    pub namespaces: Result<Selector, RuleError>,
    pub rule: Result<Rule, RuleError>,
}

/// What is found for a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// No rule is about its namespace.
    Unruled,
    /// Rules are about its namespace, none about this workflow; the last of them, if it is known.
    NotSelected(Option<&'a Rule>),
    /// This one counts.
    Rule(&'a Rule),
    /// This one would have to be asked, and cannot be read.
    Broken(&'a RuleError),
}

impl<'a> Found<'a> {
    /// The one that counts, if one does.
    pub fn rule(&self) -> Option<&'a Rule> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Unruled | Self::NotSelected(_) | Self::Broken(_) => None,
        }
    }
}

impl Namespace {
    /// Reads a Namespace's labels and annotations.
    pub fn new(name: &str, labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Self {
        let mut labels = labels.clone();
        // The API server sets it; objects in files lack it.
        labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| name.to_owned());
        Self {
            labels,
            rule: Rule::from_namespace(name, annotations),
            noted_as_ruled: annotations.get(names::RULED).is_some_and(|ruled| ruled == "true"),
        }
    }
}

impl Policy {
    /// Reads a PlacementPolicy.
    pub fn new(name: &str, spec: &PlacementPolicySpec) -> Self {
        Self {
            name: name.to_owned(),
            priority: spec.priority.into(),
            namespaces: namespaces_of_policy(name, spec),
            rule: Rule::from_policy(name, spec),
        }
    }

    /// What keeps it from being read.
    pub fn error(&self) -> Option<&RuleError> {
        self.namespaces.as_ref().err().or(self.rule.as_ref().err())
    }

    /// Whether workflows of this namespace need a stamp for its sake. Where it is about labelled workflows only, as
    /// KubeStellar's users have it, these need one by their label, and others need none.
    pub fn rules(&self, namespace: &Namespace) -> bool {
        let is_about_others = self.rule.as_ref().map_or(true, |rule| !rule.workflows.requires(names::CLUSTER));
        is_about_others && self.selects(namespace)
    }

    /// Whether it is about workflows of this namespace.
    pub fn selects(&self, namespace: &Namespace) -> bool {
        self.namespaces.as_ref().map_or(true, |selector| selector.matches(&namespace.labels))
    }
}

/// The order in which policies are asked: by priority, the highest first, then by name.
pub fn in_order(policies: impl IntoIterator<Item = Policy>) -> Vec<Arc<Policy>> {
    let mut policies: Vec<_> = policies.into_iter().map(Arc::new).collect();
    policies.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    policies
}

/// Finds the rule for a workflow with these labels: the namespace's own goes first, then policies, which must be
/// [`in_order`].
pub fn find<'a>(
    namespace: &'a Namespace,
    policies: &'a [Arc<Policy>],
    workflow: &BTreeMap<String, String>,
) -> Found<'a> {
    let selected = policies.iter().filter(|policy| policy.selects(namespace));
    let rules = selected.map(|policy| policy.error().map_or(policy.rule.as_ref(), Err));
    let mut last = namespace.noted_as_ruled.then_some(None);
    for rule in namespace.rule.as_ref().map(Result::as_ref).into_iter().chain(rules) {
        match rule {
            Ok(rule) if rule.workflows.matches(workflow) => return Found::Rule(rule),
            Ok(rule) => last = Some(Some(rule)),
            Err(error) => return Found::Broken(error),
        }
    }
    last.map_or(Found::Unruled, Found::NotSelected)
}

/// Whether workflows of this namespace need a stamp, whatever the rules say of them.
pub fn is_ruled(namespace: &Namespace, policies: &[Arc<Policy>]) -> bool {
    namespace.noted_as_ruled || namespace.rule.is_some() || policies.iter().any(|policy| policy.rules(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    fn policy(name: &str, priority: i32, namespaces: &str, workflows: &str) -> Policy {
        let spec = json!({"namespaces": namespaces, "clusters": format!("by={name}"), "workflows": workflows, "priority": priority});
        Policy::new(name, &serde_json::from_value(spec).unwrap())
    }

    fn policies() -> Vec<Arc<Policy>> {
        in_order([
            policy("everyone", -1, "*", "*"),
            policy("b-gold", 5, "team=a", "tier=gold"),
            policy("a-gold", 5, "team=a", "tier=gold,spot"),
            policy("broken", 9, "team=b", "=gold"),
            policy("named", 0, "kubernetes.io/metadata.name=science", "*"),
        ])
    }

    fn found(namespace: &Namespace, policies: &[Arc<Policy>], workflow: &str) -> String {
        match find(namespace, policies, &labels(workflow)) {
            Found::Unruled => "unruled".to_owned(),
            Found::NotSelected(rule) => format!("not selected, last {:?}", rule.map(|rule| rule.clusters.to_string())),
            Found::Rule(rule) => rule.clusters.to_string(),
            Found::Broken(error) => error.place.clone(),
        }
    }

    #[rstest]
    #[case::policy_for_all("other", "", "", "", "by=everyone")]
    #[case::higher_priority("x", "team=a", "", "tier=gold", "by=b-gold")]
    #[case::equal_priority_by_name("x", "team=a", "", "tier=gold,spot=1", "by=a-gold")]
    #[case::namespaces_by_name("science", "", "", "", "by=named")]
    #[case::own_annotation_first("x", "team=a", "own=1", "tier=gold", "own=1")]
    #[case::broken_refuses("x", "team=b", "", "tier=gold", "spec.workflows of PlacementPolicy \"broken\"")]
    #[case::own_annotation_before_a_broken_policy("x", "team=b", "own=1", "", "own=1")]
    fn the_first_that_selects_the_workflow_counts(
        #[case] name: &str,
        #[case] of: &str,
        #[case] own: &str,
        #[case] workflow: &str,
        #[case] expected: &str,
    ) {
        let annotations =
            if own.is_empty() { BTreeMap::new() } else { [(names::CLUSTERS.to_owned(), own.to_owned())].into() };
        assert_eq!(found(&Namespace::new(name, &labels(of), &annotations), &policies(), workflow), expected);
    }

    #[test]
    fn a_rule_about_other_workflows_leaves_the_word_to_the_next() {
        let annotations = [(names::CLUSTERS, "own=1"), (names::WORKFLOWS, "tier=gold")];
        let annotations = annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let namespace = Namespace::new("x", &BTreeMap::new(), &annotations);
        assert_eq!(found(&namespace, &policies(), ""), "by=everyone");
        assert_eq!(found(&namespace, &[], ""), "not selected, last Some(\"own=1\")");
    }

    #[test]
    fn a_policy_whose_namespaces_cannot_be_read_is_about_all() {
        let broken = [Arc::new(policy("p", 0, "=", "*"))];
        assert_eq!(found(&Namespace::default(), &broken, ""), "spec.namespaces of PlacementPolicy \"p\"");
    }

    #[test]
    fn a_policy_about_labelled_workflows_needs_no_stamp_on_others() {
        let policies = [Arc::new(policy("p", 0, "*", "kubestellar.io/cluster in (c1,c2)"))];
        assert!(!is_ruled(&Namespace::default(), &policies));
        assert_eq!(found(&Namespace::default(), &policies, "kubestellar.io/cluster=c1"), "by=p");
        assert!(is_ruled(&Namespace::default(), &[Arc::new(policy("p", 0, "*", "!kubestellar.io/cluster"))]));
    }

    #[test]
    fn what_the_syncer_noted_needs_a_stamp_until_it_notes_otherwise() {
        let annotations = [(names::RULED.to_owned(), "true".to_owned())].into();
        let namespace = Namespace::new("x", &BTreeMap::new(), &annotations);
        assert!(is_ruled(&namespace, &[]) && !is_ruled(&Namespace::default(), &[]));
        assert_eq!(found(&namespace, &[], ""), "not selected, last None");
    }
}
