//! Intents: what users did to an original that must happen to its copy, and that no field of the original can hold.
//!
//! The guard (the webhook on UPDATE) writes them down in the annotation [`crate::names::INTENTS`] of the original, in the
//! same write by which the user expressed them. They are numbered without gaps. Carrying one out and noting its number in
//! [`crate::names::INTENTS_DONE`] on the copy is one write, so that each happens once; the syncer brings that number back
//! onto the original with the status, and the guard drops what is done when it adds to the list.
//!
//! Whoever may update the original can forge them (while the guard is down, the fence cannot tell), so they are taken for no
//! more than that user's word: they reach the recorded copy of this very original, and nothing else.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The annotation's value.
pub type Intents = Vec<Intent>;

/// Reads the annotation's value, in the order of the numbers. What cannot be read of it is nobody's wish; the rest is.
pub fn read(text: &str) -> Intents {
    let each: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let mut intents: Intents = each.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect();
    intents.sort_by_key(|intent| intent.id);
    intents
}

/// Those behind number `done`: what is yet to happen.
pub fn pending(intents: &[Intent], done: u64) -> &[Intent] {
    let next = intents.iter().position(|intent| intent.id > done).unwrap_or(intents.len());
    &intents[next..]
}

/// One thing that is to happen to the copy, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Counts from 1 for each original, without gaps.
    pub id: u64,
    #[serde(flatten)]
    pub wish: Wish,
}

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Wish {
    /// Active Suspend nodes were approved, failed or given values (`argo resume`, `stop --node-field-selector`,
    /// `node set`): one command, one intent.
    Nodes {
        nodes: Map<String, Value>,
        /// Of `status.outputs.parameters` those that were set: where a node's output has a global name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        outputs: Vec<Value>,
    },
    /// `argo retry`.
    Retry(Retry),
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nodes { nodes, .. } => {
                let nodes = nodes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                write!(f, "what was given to node {nodes}")
            }
            Self::Retry(_) => f.write_str("its retry"),
        }
    }
}

impl Wish {
    /// For logs and metrics: the record's own word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nodes { .. } => "nodes",
            Self::Retry(_) => "retry",
        }
    }
}

/// What `argo retry` made of a finished workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Nodes that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// By node: its fields that changed; null where one is gone, here and in the fields below.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub reset: Map<String, Value>,
    /// Fields of the status that changed, but for the nodes. Of `storedWorkflowTemplateSpec`: its fields that changed.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub status: Map<String, Value>,
    /// Fields of the spec that changed (`arguments`, `activeDeadlineSeconds`), but for `suspend` and `shutdown`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub spec: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_read_takes_no_other_along() {
        let text =
            r#"[{"id":3,"kind":"retry"},{"id":2,"kind":"of a later version"},7,{"id":1,"kind":"nodes","nodes":{}}]"#;
        assert_eq!(read(text).iter().map(|intent| intent.id).collect::<Vec<_>>(), [1, 3]);
        assert!(read("no list").is_empty() && read("{}").is_empty());
    }
}
