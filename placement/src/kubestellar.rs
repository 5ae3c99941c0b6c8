//! KubeStellar's policies read as rules, for those who come from there: a BindingPolicy says which objects go to which
//! clusters, a CustomTransform what is taken out of them on the way.
//!
//! Field names and meanings: api/control/v1alpha1/types.go of kubestellar/kubestellar. An empty list of tests matches
//! everything there, an empty list of clusterSelectors no cluster.

use argosy_api::{LostCluster, NoCluster, RuleSource, Strategy, workflow};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use crate::rule::{LOST_AFTER, Rule, RuleError, json_path};
use crate::rules::Policy;
use crate::selector::Selector;

/// API group of both kinds.
pub const GROUP: &str = "control.kubestellar.io";
/// Version of both kinds.
pub const VERSION: &str = "v1alpha1";

/// Label of every Namespace with its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
const ANY: &str = "*";

/// `spec` of a BindingPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BindingPolicySpec {
    cluster_selectors: Vec<LabelSelector>,
    downsync: Vec<Downsync>,
    /// Where older versions have it.
    want_singleton_reported_state: bool,
}

/// Which objects go there: an object that passes all tests of one of these.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Downsync {
    api_group: Option<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    namespace_selectors: Vec<LabelSelector>,
    object_selectors: Vec<LabelSelector>,
    object_names: Vec<String>,
    create_only: bool,
    want_singleton_reported_state: bool,
    #[serde(rename = "wantMultiWECReportedState")]
    want_multi_wec_reported_state: bool,
    status_collectors: Vec<String>,
}

/// `spec` of a CustomTransform.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTransformSpec {
    api_group: String,
    resource: String,
    remove: Vec<String>,
}

/// What a BindingPolicy means here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// A rule for each part that selects Workflows.
    pub policies: Vec<Policy>,
    /// Each part that has no meaning here, in a sentence.
    pub notes: Vec<String>,
}

/// Reads a BindingPolicy with what all CustomTransforms, by name, take out of Workflows.
pub fn read(name: &str, spec: &BindingPolicySpec, transforms: &[(&str, &CustomTransformSpec)]) -> Reading {
    let mut reading = Reading::default();
    for (i, part) in spec.downsync.iter().enumerate().filter(|(_, part)| part.selects_workflows()) {
        reading.policies.push(Policy {
            name: name.to_owned(),
            // Argosy's own policies go first.
            priority: i64::MIN,
            namespaces: part.namespaces(name, i),
            rule: rule(name, spec, part, i, transforms),
        });
        reading.notes.extend(part.notes(i, spec));
    }
    reading
}

fn rule(
    name: &str,
    spec: &BindingPolicySpec,
    part: &Downsync,
    i: usize,
    transforms: &[(&str, &CustomTransformSpec)],
) -> Result<Rule, RuleError> {
    let mut remove = Vec::new();
    for (transform, spec) in transforms.iter().filter(|(_, spec)| spec.is_about_workflows()) {
        for (i, path) in spec.remove.iter().enumerate() {
            remove.push(json_path(format!("spec.remove[{i}] of CustomTransform {transform:?}"), path)?);
        }
    }
    Ok(Rule {
        source: RuleSource::BindingPolicy(name.to_owned()),
        clusters: any(&spec.cluster_selectors, name, "spec.clusterSelectors")?,
        workflows: any_or_all(&part.object_selectors, name, &format!("spec.downsync[{i}].objectSelectors"))?,
        strategy: Strategy::default(),
        no_cluster: NoCluster::default(),
        lost_cluster: LostCluster::default(),
        lost_after: LOST_AFTER,
        archive_logs: None,
        remove,
    })
}

impl CustomTransformSpec {
    fn is_about_workflows(&self) -> bool {
        self.api_group == workflow::GROUP && self.resource == workflow::PLURAL
    }
}

impl Downsync {
    fn selects_workflows(&self) -> bool {
        self.api_group.as_ref().is_none_or(|group| group == workflow::GROUP)
            && passes(&self.resources, workflow::PLURAL)
    }

    fn namespaces(&self, name: &str, i: usize) -> Result<Selector, RuleError> {
        let place = format!("spec.downsync[{i}].namespaceSelectors");
        let selected = any_or_all(&self.namespace_selectors, name, &place)?;
        if self.namespaces.is_empty() || self.namespaces.iter().any(|name| name == ANY) {
            return Ok(selected);
        }
        Ok(Selector::one_of(NAMESPACE_NAME, self.namespaces.clone()).and(&selected))
    }

    fn notes(&self, i: usize, spec: &BindingPolicySpec) -> Vec<String> {
        let at = |field: &str, what: &str| format!("spec.downsync[{i}].{field}: {what}");
        let mut notes = Vec::new();
        if !self.object_names.is_empty() && !self.object_names.iter().any(|name| name == ANY) {
            notes.push(at("objectNames", "not looked at, for a workflow's name is not known when it is routed"));
        }
        if !self.want_singleton_reported_state && !spec.want_singleton_reported_state {
            notes.push(at("wantSingletonReportedState", "false here, but a workflow's status is always returned"));
        }
        if self.want_multi_wec_reported_state {
            notes.push(at("wantMultiWECReportedState", "a workflow runs in one cluster, and has that one's status"));
        }
        if !self.status_collectors.is_empty() {
            notes.push(at("statusCollectors", "not looked at: the whole status is returned"));
        }
        if self.create_only {
            notes.push(at("createOnly", "needless: a copy is never written again after its creation"));
        }
        notes
    }
}

/// Whether one of the tests is passed; of none, all are.
fn passes(tests: &[String], value: &str) -> bool {
    tests.is_empty() || tests.iter().any(|test| test == ANY || test == value)
}

fn any_or_all(selectors: &[LabelSelector], name: &str, field: &str) -> Result<Selector, RuleError> {
    if selectors.is_empty() { Ok(Selector::everything()) } else { any(selectors, name, field) }
}

fn any(selectors: &[LabelSelector], name: &str, field: &str) -> Result<Selector, RuleError> {
    let parsed = selectors.iter().enumerate().map(|(i, selector)| {
        Selector::from_object(selector).map_err(|problem| RuleError {
            place: format!("{field}[{i}] of BindingPolicy {name:?}"),
            column: 1,
            problem,
            value: serde_json::to_string(selector).unwrap_or_default(),
        })
    });
    Ok(Selector::any_of(parsed.collect::<Result<Vec<_>, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn reading(spec: Value) -> Reading {
        let transform: CustomTransformSpec = serde_json::from_value(json!({
            "apiGroup": "argoproj.io", "resource": "workflows",
            "remove": ["$.spec.suspend", "$.metadata.labels[\"workflows.argoproj.io/completed\"]"],
        }))
        .unwrap();
        let other: CustomTransformSpec =
            serde_json::from_value(json!({"apiGroup": "apps", "resource": "deployments", "remove": ["$.["]})).unwrap();
        read("b", &serde_json::from_value(spec).unwrap(), &[("t", &transform), ("o", &other)])
    }

    /// One line for each rule.
    fn told(spec: Value) -> Vec<String> {
        let rules = reading(spec).policies.into_iter().map(|policy| {
            let rule = policy.rule.unwrap();
            format!("in {}: {} -> {}", policy.namespaces.unwrap(), rule.workflows, rule.clusters)
        });
        rules.collect()
    }

    #[test]
    fn the_articles_policy_routes_the_articles_workflows() {
        let spec = json!({
            "wantSingletonReportedState": true,
            "clusterSelectors": [{"matchLabels": {"name": "cluster1"}}],
            "downsync": [{"objectSelectors": [{"matchLabels": {"kubestellar.io/cluster": "cluster1"}}]}],
        });
        assert_eq!(told(spec.clone()), ["in *: kubestellar.io/cluster=cluster1 -> name=cluster1"]);
        let Reading { policies, notes } = reading(spec);
        assert!(notes.is_empty(), "{notes:?}");
        let rule = policies[0].rule.as_ref().unwrap();
        assert_eq!(rule.source.to_string(), "bindingPolicy/b");
        assert_eq!(rule.remove.len(), 2);
    }

    #[rstest]
    #[case::other_kinds(json!({"resources": ["deployments"]}), &[])]
    #[case::other_group(json!({"apiGroup": "apps"}), &[])]
    #[case::core_group(json!({"apiGroup": ""}), &[])]
    #[case::everything(json!({}), &["in *: * -> a=1 or b"])]
    #[case::all_resources(json!({"resources": ["*"]}), &["in *: * -> a=1 or b"])]
    #[case::by_name(json!({"apiGroup": "argoproj.io", "resources": ["workflows"], "namespaces": ["x", "y"]}), &["in kubernetes.io/metadata.name in (x,y): * -> a=1 or b"])]
    #[case::any_name(json!({"namespaces": ["*"]}), &["in *: * -> a=1 or b"])]
    #[case::by_label(json!({"namespaces": ["x"], "namespaceSelectors": [{"matchLabels": {"team": "t"}}]}), &["in kubernetes.io/metadata.name=x,team=t: * -> a=1 or b"])]
    fn each_part_that_selects_workflows_is_a_rule(#[case] part: Value, #[case] expected: &[&str]) {
        let clusters = json!([
            {"matchLabels": {"a": "1"}}, {"matchExpressions": [{"key": "b", "operator": "Exists"}]},
        ]);
        assert_eq!(told(json!({"clusterSelectors": clusters, "downsync": [part]})), expected);
    }

    #[test]
    fn without_cluster_selectors_no_cluster_is_selected() {
        assert_eq!(told(json!({"downsync": [{}]})), ["in *: * -> nothing"]);
    }

    #[test]
    fn what_has_no_meaning_here_is_told() {
        let spec = json!({"downsync": [
            {"resources": ["pods"], "createOnly": true},
            {"objectNames": ["x"], "createOnly": true, "statusCollectors": ["s"], "wantMultiWECReportedState": true},
        ]});
        let notes = reading(spec).notes;
        let fields: Vec<&str> = notes.iter().map(|note| note.split(": ").next().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "spec.downsync[1].objectNames",
                "spec.downsync[1].wantSingletonReportedState",
                "spec.downsync[1].wantMultiWECReportedState",
                "spec.downsync[1].statusCollectors",
                "spec.downsync[1].createOnly",
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_refuses() {
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]});
        let spec = json!({"clusterSelectors": [selector], "downsync": [{}]});
        let error = reading(spec).policies.remove(0).rule.unwrap_err();
        assert!(
            error.to_string().starts_with("spec.clusterSelectors[0] of BindingPolicy \"b\" cannot be read"),
            "{error}"
        );
    }
}
