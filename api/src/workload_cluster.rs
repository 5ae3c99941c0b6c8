//! `WorkloadCluster`: a workload execution cluster (WEC) as the control cluster knows it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names;

/// Type of the condition that says whether the cluster can be reached and takes deliveries.
pub const READY: &str = "Ready";
/// Reason of [`READY`] while nobody has an answer from it, which may well pass by itself.
pub const UNREACHABLE: &str = "Unreachable";
/// Type of the condition that says whether the cluster can run Argo Workflows.
pub const ARGO_READY: &str = "ArgoReady";
/// Type of the condition that says whether nodes and pods there can be counted.
pub const CAPACITY_KNOWN: &str = "CapacityKnown";
/// Type of the condition that is there, and false, while the cluster has copies that another control cluster made.
pub const ADOPTED: &str = "Adopted";

/// What follows a cluster's name in the name of the Secret with its kubeconfig, where we choose that.
pub const SECRET_SUFFIX: &str = "-kubeconfig";
/// Key of the kubeconfig in such a Secret.
pub const SECRET_KEY: &str = "kubeconfig";

const NOT_LOCAL: &str = "'local' means the control cluster itself, so no WorkloadCluster may have that name";
const NOT_LONG: &str = "the name becomes a label value (kubestellar.io/cluster), so it may have at most 63 characters";
const LONGEST: usize = 63;
const NO_WAY: &str =
    "with syncMode Push (the default) spec.kubeconfigSecret says how the cluster is reached; with Pull there is none";

/// Why no WorkloadCluster may have a name that other objects may.
pub fn unfit(name: &str) -> Option<&'static str> {
    match name {
        names::LOCAL => Some(NOT_LOCAL),
        _ if name.len() > LONGEST => Some(NOT_LONG),
        _ => None,
    }
}

/// A cluster that runs workflows for the control cluster. Its labels are what `argosy.dev/clusters` selects by.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "argosy.dev",
    version = "v1alpha1",
    kind = "WorkloadCluster",
    shortname = "wec",
    category = "argosy",
    status = "WorkloadClusterStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Argo","type":"string","jsonPath":".status.conditions[?(@.type=='ArgoReady')].status"}"#,
    printcolumn = r#"{"name":"Cordoned","type":"boolean","jsonPath":".spec.cordoned"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.kubernetesVersion"}"#,
    printcolumn = r#"{"name":"Held for","type":"string","jsonPath":".status.heldFor","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("self.metadata.name != 'local'")
        .message(NOT_LOCAL),
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message(NOT_LONG),
    validation = Rule::new("(self.spec.syncMode == 'Push') == has(self.spec.kubeconfigSecret)")
        .message(NO_WAY)
)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadClusterSpec {
    /// Which syncer serves the cluster.
    #[serde(default)]
    pub sync_mode: SyncMode,
    /// The Secret, in the syncer's own namespace, that holds the kubeconfig for the cluster; with `syncMode: Pull` there is
    /// none. It may hold a token or a client certificate inline; exec, auth providers, file paths and proxies are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret: Option<SecretKey>,
    /// A cordoned cluster gets no new workflows; those it has run on.
    #[serde(default)]
    pub cordoned: bool,
    /// The control cluster's namespaces whose workflows may run here, by name, or `*` for every one. Empty: none.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Create a workflow's namespace in the cluster where it is missing.
    #[serde(default)]
    pub create_namespaces: bool,
    /// Which of the objects that a workflow refers to may be copied to the cluster.
    #[serde(default)]
    pub copy: Copy,
    /// Where argo-server is in the cluster. Needed where Argo there keeps the nodes of large workflows in a database
    /// (`nodeStatusOffLoad`), from which nobody else can read them.
    #[serde(default)]
    pub argo_server: ArgoServer,
}

/// Which syncer serves a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SyncMode {
    /// One in the control cluster, which reaches the cluster by a kubeconfig.
    #[default]
    Push,
    /// One inside of the cluster, which reaches the control cluster as the account `argosy-agent-NAME`: nobody needs a way
    /// into the cluster.
    Pull,
}

/// A Service of argo-server, which the cluster's API server leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ArgoServer {
    /// The Service's namespace.
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
    /// Protocol, name and port of the Service, as a rule on `services/proxy` names it: `https:argo-server:2746`.
    #[schemars(regex(pattern = "^(https?:)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(:[-a-z0-9]+)?$"))]
    pub service: String,
}

impl Default for ArgoServer {
    fn default() -> Self {
        Self { namespace: "argo".to_owned(), service: "https:argo-server:2746".to_owned() }
    }
}

/// Which kinds of objects may be copied to the cluster when a workflow refers to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Copy {
    /// WorkflowTemplates and ClusterWorkflowTemplates.
    pub templates: bool,
    /// ConfigMaps.
    pub config_maps: bool,
    /// Secrets.
    pub secrets: bool,
}

impl Default for Copy {
    fn default() -> Self {
        Self { templates: true, config_maps: true, secrets: false }
    }
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key in its data.
    #[serde(default = "default_key")]
    pub key: String,
}

fn default_key() -> String {
    SECRET_KEY.to_owned()
}

/// What the syncer found out about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadClusterStatus {
    /// `Ready`, `ArgoReady` and `CapacityKnown`; `Adopted` where it is false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// UID of the cluster's kube-system namespace, pinned when it was first reached: a kubeconfig that later leads
    /// to another cluster makes this one not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    /// What the cluster's API server says of its version, for example `v1.34.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// What the cluster has and what is taken of it, as of `time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// The workflow (`namespace/name`) that has waited for long and that the cluster's room is kept for: nothing else is
    /// placed there until it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_for: Option<String>,
    /// How many workflows of this control cluster are under way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_workflows: Option<u32>,
}

/// What a cluster has, and what the pods in it have asked for; quantities by resource name (`cpu`, `memory`, `pods`, …).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// When it was counted.
    pub time: Time,
    /// What the nodes that take pods have for these.
    pub allocatable: BTreeMap<String, Quantity>,
    /// What pods that are not done have asked for, those without a node included.
    pub requested: BTreeMap<String, Quantity>,
    /// What workflows that were placed here ask for whose pods are not among `requested` yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<String, Quantity>,
    /// Up to which resourceVersion of the control cluster `pending` knows workflows; what was placed later counts beside it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seen: String,
    /// The nodes that take pods; such as are alike to the scheduler are one group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeGroup>,
    /// Node labels that `nodes` leaves out, because every other node has another value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted_labels: Vec<String>,
}

/// Nodes with the same labels and taints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroup {
    /// How many nodes there are.
    pub count: u32,
    /// Labels that they share.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// What is free on the emptiest of them. A node that has less of everything than another is left out.
    pub free: Vec<BTreeMap<String, Quantity>>,
    /// What would be free on the emptiest of them if no pod of a workflow ran there; left out where that is `free`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<BTreeMap<String, Quantity>>,
}

impl WorkloadClusterStatus {
    /// The condition of this type, if the syncer has set it.
    pub fn condition(&self, r#type: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == r#type)
    }
}
