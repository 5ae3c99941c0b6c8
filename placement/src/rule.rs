//! Rules: what says where workflows run, read from a Namespace's annotations or a PlacementPolicy.

use std::collections::BTreeMap;
use std::str::FromStr;

use argosy_api::placement_policy::UnknownWord;
use argosy_api::{LostCluster, NoCluster, PlacementPolicySpec, RuleSource, Strategy, names};
use k8s_openapi::jiff::SignedDuration;
use serde_json_path::JsonPath;
use thiserror::Error;

use crate::selector::Selector;

/// How long a cluster has not answered when it counts as lost, where no rule says otherwise.
pub(crate) const LOST_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// What a rule says, wherever it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub source: RuleSource,
    /// Which clusters are allowed.
    pub clusters: Selector,
    /// Which of the namespace's workflows the rule is about.
    pub workflows: Selector,
    /// How one of them is chosen.
    pub strategy: Strategy,
    /// What becomes of a workflow that none of them can take.
    pub no_cluster: NoCluster,
    /// What becomes of a workflow whose cluster is lost.
    pub lost_cluster: LostCluster,
    /// How long a cluster has not answered when it counts as lost.
    pub lost_after: SignedDuration,
    /// What `spec.archiveLogs` of a routed workflow becomes where its user left it unset.
    pub archive_logs: Option<bool>,
    /// What is taken out of copies.
    pub remove: Vec<JsonPath>,
}

/// A rule that cannot be read. It refuses workflows; it never means "run locally".
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place} cannot be read: column {column}: {problem} in {value:?}")]
pub struct RuleError {
    /// The field and the object that it is in, for people.
    pub place: String,
    /// Counts characters from 1.
    pub column: usize,
    /// What was expected there, and what was found.
    pub problem: String,
    /// The whole text.
    pub value: String,
}

impl Rule {
    /// The rule in a namespace's annotations; `None` where `argosy.dev/clusters` is absent.
    pub fn from_namespace(namespace: &str, annotations: &BTreeMap<String, String>) -> Option<Result<Self, RuleError>> {
        let clusters = annotations.get(names::CLUSTERS)?;
        let field = |annotation: &'static str| Field {
            place: format!("annotation {annotation} of namespace {namespace:?}"),
            text: annotations.get(annotation).map(String::as_str),
        };
        let read = || {
            Ok(Self {
                source: RuleSource::Namespace,
                clusters: field(names::CLUSTERS).with(clusters).selector()?,
                workflows: field(names::WORKFLOWS).selector()?,
                strategy: field(names::STRATEGY).word()?,
                no_cluster: field(names::NO_CLUSTER).word()?,
                lost_cluster: field(names::LOST_CLUSTER).word()?,
                lost_after: field(names::LOST_AFTER).duration(LOST_AFTER)?,
                archive_logs: field(names::ARCHIVE_LOGS).boolean()?,
                remove: Vec::new(),
            })
        };
        Some(read())
    }

    /// The rule in a PlacementPolicy.
    pub fn from_policy(name: &str, spec: &PlacementPolicySpec) -> Result<Self, RuleError> {
        let field = |field: &str, text| Field { place: format!("spec.{field} of PlacementPolicy {name:?}"), text };
        let remove = spec.remove.iter().enumerate();
        Ok(Self {
            source: RuleSource::Policy(name.to_owned()),
            clusters: field("clusters", Some(&spec.clusters)).selector()?,
            workflows: field("workflows", spec.workflows.as_deref()).selector()?,
            strategy: spec.strategy,
            no_cluster: spec.no_cluster,
            lost_cluster: spec.lost_cluster,
            lost_after: field("lostAfter", spec.lost_after.as_deref()).duration(LOST_AFTER)?,
            archive_logs: spec.archive_logs,
            remove: remove
                .map(|(i, path)| {
                    Field { place: format!("spec.remove[{i}] of PlacementPolicy {name:?}"), text: None }.path(path)
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Which namespaces a PlacementPolicy is about.
pub(crate) fn namespaces_of_policy(name: &str, spec: &PlacementPolicySpec) -> Result<Selector, RuleError> {
    Field { place: format!("spec.namespaces of PlacementPolicy {name:?}"), text: Some(&spec.namespaces) }.selector()
}

/// A JSONPath (RFC 9535); `place` says whose, for the error.
pub(crate) fn json_path(place: String, path: &str) -> Result<JsonPath, RuleError> {
    Field { place, text: None }.path(path)
}

/// The text of one setting, absent or not, and where it stands.
struct Field<'a> {
    place: String,
    text: Option<&'a str>,
}

impl<'a> Field<'a> {
    fn with(self, text: &'a str) -> Self {
        Self { text: Some(text), ..self }
    }

    fn error(self, value: &str, column: usize, problem: String) -> RuleError {
        RuleError { place: self.place, column, problem, value: value.to_owned() }
    }

    /// Everything, where absent.
    fn selector(self) -> Result<Selector, RuleError> {
        let Some(text) = self.text else { return Ok(Selector::everything()) };
        Selector::parse(text).map_err(|error| {
            self.error(text, error.column, format!("expected {}, found {}", error.expected, error.found))
        })
    }

    /// The default, where absent.
    fn word<T: FromStr<Err = UnknownWord> + Default>(self) -> Result<T, RuleError> {
        let Some(text) = self.text else { return Ok(T::default()) };
        text.trim().parse().map_err(|error: UnknownWord| self.error(text, 1, format!("{error}, found {text:?}")))
    }

    fn duration(self, default: SignedDuration) -> Result<SignedDuration, RuleError> {
        let Some(text) = self.text else { return Ok(default) };
        let duration = text.trim().parse::<SignedDuration>().ok().filter(SignedDuration::is_positive);
        duration.ok_or_else(|| self.error(text, 1, format!("expected a duration such as 10m, found {text:?}")))
    }

    fn boolean(self) -> Result<Option<bool>, RuleError> {
        let Some(text) = self.text else { return Ok(None) };
        match text.trim() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(self.error(text, 1, format!("expected true or false, found {text:?}"))),
        }
    }

    fn path(self, path: &str) -> Result<JsonPath, RuleError> {
        JsonPath::parse(path).map_err(|error| {
            self.error(
                path,
                error.position() + 1,
                format!("expected a JSONPath as RFC 9535 has it: {}", error.message()),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(annotations: &[(&str, &str)]) -> Option<Result<Rule, RuleError>> {
        let annotations = annotations.iter().map(|(k, v)| (String::from(*k), String::from(*v))).collect();
        Rule::from_namespace("team", &annotations)
    }

    #[test]
    fn the_clusters_annotation_makes_the_rule() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("argosy.dev/workflows", "a=b"), ("argosy.dev/strategy", "Spread")]), None);
        let rule = read(&[("argosy.dev/clusters", "env=prod")]).unwrap().unwrap();
        assert_eq!((rule.clusters.to_string(), rule.workflows.to_string()), ("env=prod".into(), "*".into()));
        assert_eq!(
            (rule.strategy, rule.no_cluster, rule.lost_cluster, rule.archive_logs),
            (Strategy::LeastLoaded, NoCluster::Wait, LostCluster::Wait, None)
        );
    }

    #[test]
    fn every_annotation_counts() {
        let rule = read(&[
            ("argosy.dev/clusters", "*"),
            ("argosy.dev/workflows", "tier in (gold)"),
            ("argosy.dev/strategy", "Ordered"),
            ("argosy.dev/no-cluster", "Reject"),
            ("argosy.dev/lost-cluster", "Reschedule"),
            ("argosy.dev/lost-after", "1h 30m"),
            ("argosy.dev/archive-logs", "true"),
        ]);
        let rule = rule.unwrap().unwrap();
        assert_eq!(rule.workflows.to_string(), "tier=gold");
        assert_eq!(rule.lost_after, SignedDuration::from_mins(90));
        assert_eq!(
            (rule.strategy, rule.no_cluster, rule.lost_cluster, rule.archive_logs),
            (Strategy::Ordered, NoCluster::Reject, LostCluster::Reschedule, Some(true))
        );
    }

    #[rstest]
    #[case("argosy.dev/clusters", "a=b c", "column 5: expected `,` or the end, found `c`")]
    #[case("argosy.dev/workflows", "a=b c", "column 5: expected `,` or the end, found `c`")]
    #[case("argosy.dev/strategy", "Random", "column 1: expected LeastLoaded, Spread or Ordered, found \"Random\"")]
    #[case("argosy.dev/no-cluster", "wait", "column 1: expected Wait, Local or Reject, found \"wait\"")]
    #[case("argosy.dev/lost-cluster", "", "column 1: expected Wait or Reschedule, found \"\"")]
    #[case("argosy.dev/lost-after", "soon", "column 1: expected a duration such as 10m, found \"soon\"")]
    #[case("argosy.dev/lost-after", "-5m", "column 1: expected a duration such as 10m, found \"-5m\"")]
    #[case("argosy.dev/archive-logs", "yes", "column 1: expected true or false, found \"yes\"")]
    fn an_error_names_namespace_annotation_column_and_what_was_expected(
        #[case] annotation: &str,
        #[case] value: &str,
        #[case] problem: &str,
    ) {
        let error = read(&[("argosy.dev/clusters", "*"), (annotation, value)]).unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("annotation {annotation} of namespace \"team\" cannot be read: {problem} in {value:?}")
        );
    }

    #[rstest]
    #[case(serde_json::json!({"namespaces": "*", "clusters": "=", }), "spec.clusters of PlacementPolicy \"p\" cannot be read: column 1: ")]
    #[case(serde_json::json!({"namespaces": "*", "clusters": "*", "remove": ["$.spec", "$.spec..["]}), "spec.remove[1] of PlacementPolicy \"p\" cannot be read: column ")]
    fn an_error_in_a_policy_names_its_field(#[case] spec: serde_json::Value, #[case] start: &str) {
        let error = Rule::from_policy("p", &serde_json::from_value(spec).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with(start), "{error}");
    }
}
