//! Rules: what says which clusters a namespace's workflows may run on.

use std::collections::BTreeMap;

use argosy_api::names;
use thiserror::Error;

use crate::selector::{ParseError, Selector};

/// What a namespace's annotations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which clusters are allowed.
    pub clusters: Selector,
    /// Which of the namespace's workflows the rule is about; the others run locally.
    pub workflows: Selector,
}

/// A rule that cannot be read. It refuses workflows; it never means "run locally".
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("annotation {annotation} of namespace {namespace:?} cannot be read: {source} in {value:?}")]
pub struct RuleError {
    pub namespace: String,
    pub annotation: &'static str,
    pub value: String,
    pub source: ParseError,
}

impl Rule {
    /// The rule in a namespace's annotations; `None` where `argosy.dev/clusters` is absent.
    pub fn from_namespace(namespace: &str, annotations: &BTreeMap<String, String>) -> Option<Result<Self, RuleError>> {
        let parse = |annotation, value: &str| {
            Selector::parse(value).map_err(|source| RuleError {
                namespace: namespace.to_owned(),
                annotation,
                value: value.to_owned(),
                source,
            })
        };
        let clusters = parse(names::CLUSTERS, annotations.get(names::CLUSTERS)?);
        let workflows =
            annotations.get(names::WORKFLOWS).map_or(Ok(Selector::everything()), |v| parse(names::WORKFLOWS, v));
        Some(clusters.and_then(|clusters| Ok(Self { clusters, workflows: workflows? })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Option<Result<Rule, RuleError>> {
        let annotations = annotations.iter().map(|(k, v)| (String::from(*k), String::from(*v))).collect();
        Rule::from_namespace("team", &annotations)
    }

    #[test]
    fn the_clusters_annotation_makes_the_rule() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("argosy.dev/workflows", "a=b")]), None);
        let rule = read(&[("argosy.dev/clusters", "env=prod")]).unwrap().unwrap();
        assert_eq!((rule.clusters.to_string(), rule.workflows.to_string()), ("env=prod".into(), "*".into()));
    }

    #[test]
    fn an_error_names_namespace_annotation_column_and_what_was_expected() {
        let error = read(&[("argosy.dev/clusters", "*"), ("argosy.dev/workflows", "a=b c")]).unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "annotation argosy.dev/workflows of namespace \"team\" cannot be read: \
             column 5: expected `,` or the end, found `c` in \"a=b c\""
        );
    }
}
