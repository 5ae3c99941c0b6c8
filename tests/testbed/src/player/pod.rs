//! The little of a Pod that the player needs: what the watch parses of it, and what is kept of that.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::script::{Script, ScriptError};

/// Argo's annotation with the ID of the workflow node that a pod runs; also the name of its WorkflowTaskResult.
const NODE_ID: &str = "workflows.argoproj.io/node-id";
/// Argo's label with the name of the Workflow.
const WORKFLOW: &str = "workflows.argoproj.io/workflow";
/// Argo's container that does a step's own work.
pub(crate) const MAIN: &str = "main";
/// Argo's container that saves a step's outputs.
pub(crate) const WAIT: &str = "wait";

/// A Pod as the watch reads it: everything but the declared fields is skipped while parsing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodView {
    metadata: ObjectMeta,
    spec: SpecView,
    status: StatusView,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpecView {
    node_name: Option<String>,
    restart_policy: Option<String>,
    active_deadline_seconds: Option<i64>,
    scheduling_gates: Vec<IgnoredAny>,
    containers: Vec<ContainerView>,
    init_containers: Vec<ContainerView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerView {
    name: String,
    image: String,
    env: Vec<EnvView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct EnvView {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusView {
    phase: String,
    start_time: Option<Time>,
    container_statuses: Vec<core::ContainerStatus>,
}

impl Resource for PodView {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        core::Pod::kind(&())
    }
    fn group(_: &()) -> Cow<'_, str> {
        core::Pod::group(&())
    }
    fn version(_: &()) -> Cow<'_, str> {
        core::Pod::version(&())
    }
    fn plural(_: &()) -> Cow<'_, str> {
        core::Pod::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What tells one pod from all others of a cluster, at one time: namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for PodKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// `status.phase`, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    /// Succeeded or Failed: nothing more happens to the pod.
    Finished,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
}

/// What makes a pod a step of a Workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArgoStep {
    /// The Workflow's name.
    pub(crate) workflow: String,
    /// The Workflow's UID.
    pub(crate) workflow_uid: String,
    /// The ID of the step's node in it.
    pub(crate) node_id: String,
    /// The output parameters that the step's template declares, each with its `valueFrom.default`.
    pub(crate) parameters: Vec<(String, Option<String>)>,
    /// Whether a later step reads what this one prints (`outputs.result`).
    pub(crate) wants_result: bool,
}

/// What the player keeps of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) key: PodKey,
    pub(crate) uid: String,
    /// Its resourceVersion; grows with every write to it.
    pub(crate) version: u64,
    /// `spec.nodeName`.
    pub(crate) node: Option<String>,
    pub(crate) phase: Phase,
    /// Whether scheduling gates keep it from a node for now.
    pub(crate) gated: bool,
    /// Whether its containers are there to stay (restartPolicy Always).
    pub(crate) stays: bool,
    /// `spec.activeDeadlineSeconds`.
    pub(crate) active_deadline: Option<i64>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) containers: Vec<Container>,
    /// When its containers started.
    pub(crate) started: Option<Timestamp>,
    /// The signal that its containers got from the controller; known only to the player that took it.
    pub(crate) signal: Option<u8>,
    /// The grace period in seconds, once it is being deleted.
    pub(crate) deleting: Option<i64>,
    pub(crate) argo: Option<ArgoStep>,
    /// What its annotations ask of it.
    pub(crate) script: Result<Script, ScriptError>,
}

impl From<PodView> for Pod {
    fn from(view: PodView) -> Self {
        let PodView { metadata, spec, status } = view;
        let annotations = metadata.annotations.unwrap_or_default();
        let has_wait = spec.containers.iter().any(|container| container.name == WAIT);
        let workflow = metadata.labels.unwrap_or_default().remove(WORKFLOW);
        let argo = match (workflow, annotations.get(NODE_ID)) {
            (Some(workflow), Some(node_id)) if has_wait => {
                Some(argo_step(workflow, node_id.clone(), &spec.init_containers, &spec.containers))
            }
            _ => None,
        };
        let started = status
            .container_statuses
            .iter()
            .filter_map(|container| container.state.as_ref()?.running.as_ref()?.started_at.as_ref())
            .chain(status.start_time.as_ref())
            .map(|time| time.0)
            .next();
        Pod {
            key: PodKey { namespace: metadata.namespace.unwrap_or_default(), name: metadata.name.unwrap_or_default() },
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default(),
            node: spec.node_name.filter(|node| !node.is_empty()),
            phase: match status.phase.as_str() {
                "Succeeded" | "Failed" => Phase::Finished,
                "Running" => Phase::Running,
                _ => Phase::Pending,
            },
            gated: !spec.scheduling_gates.is_empty(),
            stays: spec.restart_policy.as_deref().unwrap_or("Always") == "Always",
            active_deadline: spec.active_deadline_seconds,
            init_containers: spec.init_containers.into_iter().map(Container::from).collect(),
            containers: spec.containers.into_iter().map(Container::from).collect(),
            started,
            signal: None,
            deleting: metadata.deletion_timestamp.map(|_| metadata.deletion_grace_period_seconds.unwrap_or_default()),
            argo,
            script: Script::read(&annotations),
        }
    }
}

impl Pod {
    /// The container that does the pod's own work.
    pub(crate) fn main(&self) -> Option<&Container> {
        let own = || self.containers.iter().filter(|container| container.name != WAIT);
        own().find(|container| container.name == MAIN).or_else(|| own().next())
    }
}

impl From<ContainerView> for Container {
    fn from(view: ContainerView) -> Self {
        Container { name: view.name, image: view.image }
    }
}

/// Reads what Argo tells its executor through the environment of the containers: most of it all of them, the template
/// only the first one.
fn argo_step(workflow: String, node_id: String, init: &[ContainerView], containers: &[ContainerView]) -> ArgoStep {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Template {
        outputs: Outputs,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Outputs {
        parameters: Vec<Parameter>,
    }
    #[derive(Deserialize)]
    struct Parameter {
        name: String,
        #[serde(rename = "valueFrom", default)]
        value_from: ValueFrom,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct ValueFrom {
        default: Option<String>,
    }
    let env = |name: &str| {
        let all = init.iter().chain(containers).flat_map(|container| &container.env);
        all.filter(|env| env.name == name).map(|env| env.value.as_str()).find(|value| !value.is_empty())
    };
    // A template too large for the environment is in a ConfigMap instead; then it counts as declaring nothing.
    let template: Template =
        env("ARGO_TEMPLATE").and_then(|template| serde_json::from_str(template).ok()).unwrap_or_default();
    ArgoStep {
        workflow,
        workflow_uid: env("ARGO_WORKFLOW_UID").unwrap_or_default().to_owned(),
        node_id,
        parameters: template.outputs.parameters.into_iter().map(|p| (p.name, p.value_from.default)).collect(),
        wants_result: env("ARGO_INCLUDE_SCRIPT_OUTPUT") == Some("true"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value::<PodView>(value).unwrap().into()
    }

    #[test]
    fn a_step_of_a_workflow_is_read() {
        let template = r#"{"name":"t","outputs":{"parameters":[{"name":"a","valueFrom":{"path":"/a"}},{"name":"b","valueFrom":{"path":"/b","default":"x"}}]}}"#;
        let pod = pod(json!({
            "metadata": {
                "name": "w-t-1", "namespace": "n", "uid": "u", "resourceVersion": "12", "managedFields": [{"manager": "m"}],
                "labels": {"workflows.argoproj.io/workflow": "w"}, "annotations": {"workflows.argoproj.io/node-id": "w-1"}
            },
            "spec": {
                "restartPolicy": "Never", "nodeName": "", "initContainers": [
                    {"name": "init", "image": "i", "env": [{"name": "ARGO_TEMPLATE", "value": template}]}
                ],
                "containers": [
                    {"name": "wait", "image": "e", "env": [
                        {"name": "ARGO_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "ARGO_WORKFLOW_UID", "value": "wu"},
                        {"name": "ARGO_INCLUDE_SCRIPT_OUTPUT", "value": "true"}
                    ]},
                    {"name": "main", "image": "b"}
                ]
            },
            "status": {"phase": "Pending"}
        }));
        assert_eq!((pod.key.to_string().as_str(), pod.version, pod.phase), ("n/w-t-1", 12, Phase::Pending));
        assert!(!pod.stays && !pod.gated && pod.node.is_none() && pod.deleting.is_none());
        assert_eq!(
            pod.argo,
            Some(ArgoStep {
                workflow: "w".into(),
                workflow_uid: "wu".into(),
                node_id: "w-1".into(),
                parameters: vec![("a".into(), None), ("b".into(), Some("x".into()))],
                wants_result: true,
            })
        );
    }

    #[test]
    fn a_running_pod_is_read_with_its_start_and_its_end() {
        let pod = pod(json!({
            "metadata": {
                "name": "p", "namespace": "n", "deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 30
            },
            "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i"}]},
            "status": {
                "phase": "Running", "startTime": "2026-01-01T00:00:00Z",
                "containerStatuses": [{
                    "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}}
                }]
            }
        }));
        assert_eq!((pod.phase, pod.stays, pod.deleting), (Phase::Running, true, Some(30)));
        assert_eq!(pod.started, Some("2026-01-01T00:00:05Z".parse().unwrap()));
        assert_eq!(pod.argo, None);
    }
}
