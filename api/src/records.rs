//! What Argosy writes down on a Workflow: why it is where it is, and what became of its delivery.

use serde::{Deserialize, Serialize};

/// The webhook's decision, as JSON in the annotation `argosy.dev/placement` (the *stamp*).
///
/// `time` comes first, at a fixed offset: the fail-closed admission policy reads it with CEL, which cannot parse
/// JSON, and refuses a stamp that is not fresh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// When it was decided: RFC 3339 in UTC, whole seconds, always 20 characters.
    pub time: String,
    /// The chosen `WorkloadCluster`, or `local`.
    pub cluster: String,
    /// What the decision follows from.
    pub rule: RuleSource,
    /// One sentence for the person who asks why.
    pub reason: String,
}

/// Where the rule of a decision was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleSource {
    /// The workflow's own label, set by its user.
    Label,
    /// The annotations of the workflow's namespace.
    Namespace,
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
        })
        .unwrap();
        assert_eq!(&stamp[9..29], "2026-01-02T03:04:05Z");
        assert!(stamp.starts_with(r#"{"time":""#));
    }
}
