//! `PlacementPolicy`: a rule for many namespaces, and the words that rules are made of.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Type of the condition that says whether a policy can be read; what cannot be read refuses workflows.
pub const ACCEPTED: &str = "Accepted";

/// Says for the workflows of many namespaces where they run. Its fields are those of the annotations on a Namespace,
/// which go before it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "argosy.dev",
    version = "v1alpha1",
    kind = "PlacementPolicy",
    plural = "placementpolicies",
    shortname = "pp",
    category = "argosy",
    status = "PlacementPolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Priority","type":"integer","jsonPath":".spec.priority"}"#,
    printcolumn = r#"{"name":"Namespaces","type":"string","jsonPath":".spec.namespaces"}"#,
    printcolumn = r#"{"name":"Clusters","type":"string","jsonPath":".spec.clusters"}"#,
    printcolumn = r#"{"name":"Strategy","type":"string","jsonPath":".spec.strategy"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type=='Accepted')].message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PlacementPolicySpec {
    /// Which namespaces it is about: a label selector as `kubectl -l` takes it, or `*` for all.
    /// `kubernetes.io/metadata.name in (a,b)` selects by name.
    #[schemars(schema_with = "selector_schema")]
    pub namespaces: String,
    /// Which clusters are allowed: a label selector over WorkloadClusters, or `*` for any.
    #[schemars(schema_with = "selector_schema")]
    pub clusters: String,
    /// Which workflows of those namespaces it is about: a label selector. Without it: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub workflows: Option<String>,
    /// Of several policies for a workflow the one with the highest priority counts; among equals, the first by name.
    #[serde(default)]
    pub priority: i32,
    /// How one is chosen among the clusters that are allowed and have room.
    #[serde(default)]
    pub strategy: Strategy,
    /// What becomes of a workflow that no cluster has room for.
    #[serde(default)]
    pub no_cluster: NoCluster,
    /// What becomes of a workflow whose cluster is lost.
    #[serde(default)]
    pub lost_cluster: LostCluster,
    /// How long a cluster has not answered when it counts as lost, such as `10m`, which it is without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_after: Option<String>,
    /// What `spec.archiveLogs` of routed workflows becomes where they leave it unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_logs: Option<bool>,
    /// JSONPaths (RFC 9535) of what is taken out of the copy that runs in the cluster, for example
    /// `$.metadata.labels['team.example.com/owner']`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "paths_schema")]
    pub remove: Vec<String>,
}

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementPolicyStatus {
    /// `Accepted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The syntax of label selectors, as far as the API server can check it. The parser in `placement` knows the rest
/// (lengths) and says in which column something is wrong.
pub fn selector_pattern() -> String {
    const NAME: &str = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?";
    const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    let key = format!(r"({LABEL}(\.{LABEL})*/)?{NAME}");
    let value = format!("({NAME})?");
    let values = format!(r"\(\s*{value}(\s*,\s*{value})*\s*\)");
    let requirement = format!(r"(!\s*{key}|{key}(\s*(==?|!=)\s*{value}|\s+(in|notin)\s*{values})?)");
    format!(r"^\s*(\*|{requirement}(\s*,\s*{requirement})*)\s*$")
}

fn selector_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let rule = format!("self.matches({:?})", selector_pattern());
    schemars::json_schema!({
        "type": "string",
        "maxLength": 2048,
        "x-kubernetes-validations": [{
            "rule": rule,
            "message": "expected a label selector such as `env=prod,region in (eu,us),!spot`, or `*` for everything",
        }],
    })
}

fn paths_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "string",
            "maxLength": 1024,
            "x-kubernetes-validations": [{
                "rule": "self.startsWith('$')",
                "message": "expected a JSONPath, which begins with `$`, such as $.spec.priority",
            }],
        },
    })
}

/// How one is chosen among the clusters that are allowed and have room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// The one that has the largest share free afterwards.
    #[default]
    LeastLoaded,
    /// The one that runs the fewest workflows of those that the rule has placed.
    Spread,
    /// The first by name.
    Ordered,
}

/// What becomes of a workflow that no cluster has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoCluster {
    /// It waits until one has.
    #[default]
    Wait,
    /// It runs in the control cluster.
    Local,
    /// It is refused.
    Reject,
}

/// What becomes of a workflow whose cluster is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LostCluster {
    /// It waits until the cluster is back.
    #[default]
    Wait,
    /// It is run elsewhere, where that cannot make it run twice or it is said to be rerunnable.
    Reschedule,
}

/// A word that is none of those that a setting takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// Those that it takes.
    pub expected: &'static str,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

/// Both ways between a setting's words and its values, as annotations have them.
macro_rules! words {
    ($type:ident, $expected:literal, $($word:ident),+) => {
        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $(stringify!($word) => Ok(Self::$word),)+
                    _ => Err(UnknownWord { expected: $expected }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$word => stringify!($word),)+
                })
            }
        }
    };
}

words!(Strategy, "LeastLoaded, Spread or Ordered", LeastLoaded, Spread, Ordered);
words!(NoCluster, "Wait, Local or Reject", Wait, Local, Reject);
words!(LostCluster, "Wait or Reschedule", Wait, Reschedule);
