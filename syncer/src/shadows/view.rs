//! Pods as the API servers tell of them: only what is kept is parsed, and each is reduced at once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use argosy_api::names;
use argosy_api::workflow::lean_metadata;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

/// What is kept of a message, in bytes: the executor's own can be of 4 KB.
const LONGEST_MESSAGE: usize = 512;
/// Argo's annotations that its commands and people look for, and kubectl's on which container is meant.
const ANNOTATIONS: [&str; 3] =
    [names::ARGO_NODE_ID, "workflows.argoproj.io/node-name", "kubectl.kubernetes.io/default-container"];
/// Only these labels of a pod are its shadow's, too: Services and budgets of the control cluster may select by others.
const LABELS: &str = "workflows.argoproj.io/";

/// A pod, of either cluster.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "core::Pod")]
#[serde(default)]
pub struct PodView {
    #[serde(deserialize_with = "lean_metadata")]
    metadata: ObjectMeta,
    spec: SpecView,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpecView {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    restart_policy: Option<String>,
}

/// A container of a pod, as its shadow has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Container {
    pub name: String,
    pub image: String,
    #[serde(rename = "restartPolicy")]
    pub restart_policy: Option<String>,
}

/// What a shadow shows of the status of its pod. An absent part is written as null, which takes out what was there.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub phase: Option<String>,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub start_time: Option<String>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: String,
    pub image: String,
    /// Always empty; the API server wants it to be there.
    #[serde(rename = "imageID", skip_deserializing)]
    image_id: String,
    pub ready: bool,
    pub restart_count: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<bool>,
    pub state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminated: Option<Details>,
}

/// The fields of all three states; each has those that are its own.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
}

/// What is kept of a pod in the WEC.
#[derive(Clone, Debug)]
pub struct Pod {
    /// When this state of it arrived.
    pub seen: Instant,
    pub uid: String,
    pub resource_version: String,
    /// The name of its workflow, and the UID of the copy that it belongs to.
    pub workflow: String,
    pub copy: String,
    pub labels: Vec<(String, String)>,
    pub annotations: Vec<(String, String)>,
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
    pub restart_policy: Option<String>,
    pub status: Status,
    /// [`Status::print`] of what was written to its shadow last; the API server may make something else of it.
    pub shown: Option<u64>,
    /// How often its copy was looked for in vain.
    pub claims: u32,
}

/// What is kept of a pod on a virtual node of the control cluster.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// When this state of it arrived.
    pub seen: Instant,
    pub uid: String,
    pub resource_version: String,
    pub deleting: bool,
    /// The cluster whose shadow its label says it is; only a syncer may write that.
    pub cluster: Option<String>,
    /// UID of the pod that it is the shadow of, and of the original that it belongs to.
    pub source: Option<String>,
    pub original: Option<String>,
    /// [`Status::print`] of what it shows.
    pub shows: u64,
}

impl Status {
    /// Equal for equal statuses.
    pub fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Whether there may be a log: a container has begun, or none will.
    pub fn has_begun(&self) -> bool {
        let mut containers = self.init_container_statuses.iter().chain(&self.container_statuses).flatten();
        let is_pending = self.phase.as_deref().is_none_or(|phase| phase == "Pending");
        !is_pending || containers.any(|status| status.state.running.is_some() || status.state.terminated.is_some())
    }

    /// Whether nothing more will come of it.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// The same with messages of a reasonable length.
    fn shortened(mut self) -> Self {
        let statuses = self.container_statuses.iter_mut().chain(&mut self.init_container_statuses).flatten();
        let states = statuses.flat_map(|status| {
            let State { waiting, running, terminated } = &mut status.state;
            [waiting, running, terminated].into_iter().flatten().map(|details| &mut details.message)
        });
        states.chain([&mut self.message]).flatten().for_each(shorten);
        // Absent and empty are one.
        for statuses in [&mut self.container_statuses, &mut self.init_container_statuses] {
            *statuses = statuses.take().filter(|statuses| !statuses.is_empty());
        }
        self
    }
}

fn shorten(message: &mut String) {
    if message.len() > LONGEST_MESSAGE {
        let end = (0..=LONGEST_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
        message.truncate(end);
    }
}

impl Pod {
    pub fn new(view: PodView) -> Self {
        let PodView { metadata, spec, status } = view;
        let owner = |owner: &OwnerReference| owner.kind == "Workflow" && owner.controller == Some(true);
        let copy = metadata.owner_references.into_iter().flatten().find(owner).map(|owner| owner.uid);
        let (labels, annotations) = (metadata.labels.unwrap_or_default(), metadata.annotations.unwrap_or_default());
        Self {
            seen: Instant::now(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            workflow: labels.get(names::ARGO_WORKFLOW).cloned().unwrap_or_default(),
            copy: copy.unwrap_or_default(),
            labels: labels.into_iter().filter(|(name, _)| name.starts_with(LABELS)).collect(),
            annotations: annotations.into_iter().filter(|(name, _)| ANNOTATIONS.contains(&name.as_str())).collect(),
            containers: spec.containers,
            init_containers: spec.init_containers,
            restart_policy: spec.restart_policy,
            status: status.shortened(),
            shown: None,
            claims: 0,
        }
    }
}

impl Shadow {
    pub fn new(view: PodView) -> Self {
        let PodView { metadata, status, .. } = view;
        let owner = metadata.owner_references.into_iter().flatten().next();
        Self {
            seen: Instant::now(),
            deleting: metadata.deletion_timestamp.is_some(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            cluster: metadata.labels.unwrap_or_default().remove(names::SHADOW),
            source: metadata.annotations.unwrap_or_default().remove(names::SHADOW_OF),
            original: owner.map(|owner| owner.uid),
            shows: status.shortened().print(),
        }
    }
}
