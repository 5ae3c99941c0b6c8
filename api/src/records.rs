//! What Argosy writes down on a Workflow: why it is where it is, and what became of its delivery.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A decision, as JSON in the annotation `argosy.dev/placement` (the *stamp*). The webhook writes it at creation; the
/// syncer writes it anew when it places a workflow that waited.
///
/// `time` and `cluster` come first, `time` at a fixed offset: the fail-closed admission policy reads them with CEL,
/// which cannot parse JSON, and refuses a stamp that is not fresh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// When it was decided: RFC 3339 in UTC, whole seconds, always 20 characters.
    pub time: String,
    /// The chosen `WorkloadCluster`; `local`; or empty while the workflow waits for one.
    pub cluster: String,
    /// What the decision follows from.
    pub rule: RuleSource,
    /// One sentence for the person who asks why.
    pub reason: String,
    /// The cluster that the user asked for, of a workflow that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
    /// What its pods may ask for at one time, as quantities by resource name; an estimate.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asks: BTreeMap<String, String>,
    /// The best five of the clusters that could take it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// How many of the other clusters could not, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, u32>,
    /// Age in seconds of the chosen cluster's figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures_age: Option<i64>,
}

/// A cluster that could take a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub cluster: String,
    /// By which it was compared with the others, the higher the better; its unit is the strategy's own.
    pub score: f64,
}

/// Where the rule of a decision was read from. As text: `label`, `namespace`, `policy/NAME`,
/// `bindingPolicy/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum RuleSource {
    /// The workflow's own label, set by its user.
    #[default]
    Label,
    /// The annotations of the workflow's namespace.
    Namespace,
    /// A PlacementPolicy.
    Policy(String),
    /// A BindingPolicy of KubeStellar.
    BindingPolicy(String),
}

impl fmt::Display for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label => f.write_str("label"),
            Self::Namespace => f.write_str("namespace"),
            Self::Policy(name) => write!(f, "policy/{name}"),
            Self::BindingPolicy(name) => write!(f, "bindingPolicy/{name}"),
        }
    }
}

impl From<RuleSource> for String {
    fn from(source: RuleSource) -> Self {
        source.to_string()
    }
}

impl TryFrom<String> for RuleSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            None if text == "label" => Ok(Self::Label),
            None if text == "namespace" => Ok(Self::Namespace),
            Some(("policy", name)) => Ok(Self::Policy(name.to_owned())),
            Some(("bindingPolicy", name)) => Ok(Self::BindingPolicy(name.to_owned())),
            _ => Err(format!("expected label, namespace, policy/NAME or bindingPolicy/NAME, found {text:?}")),
        }
    }
}

/// The syncer's record of a delivery, as JSON in the annotation `argosy.dev/delivery`.
///
/// The attempt is written, with the original's resourceVersion as precondition, before the copy is created; the
/// copy's UID with the first status after it. Once `copy` is there, a missing copy is never created again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Counts from 1; also on the copy.
    pub attempt: u32,
    /// The `WorkloadCluster` that the copy goes to.
    pub cluster: String,
    /// UID of that cluster's kube-system namespace: a cluster of the same name is not the same cluster.
    pub cluster_uid: String,
    /// UID of the copy, as soon as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<String>,
    /// Why it was taken from the cluster of the attempt before. `cluster` and `cluster_uid` are empty until the next one
    /// begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_stamp_stands_where_the_admission_policy_reads_it() {
        let stamp = serde_json::to_string(&Placement {
            time: "2026-01-02T03:04:05Z".into(),
            cluster: "cluster1".into(),
            rule: RuleSource::Namespace,
            reason: "because".into(),
            ..Placement::default()
        })
        .unwrap();
        assert_eq!(&stamp[9..29], "2026-01-02T03:04:05Z");
        assert!(stamp.starts_with(r#"{"time":""#));
    }
}
