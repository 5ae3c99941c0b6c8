//! Carries out what [`super::script`] decides: the player's writes to the API server.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, Status};
use kube::{Api, Client};
use serde_json::{Value, json};
use thiserror::Error;

use super::pod::{Pod, PodView};
use super::script::{self, Next, TaskResult};

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often the removal of a deleted pod is tried.
const REMOVALS: u64 = 5;
/// Who the writes are by, in `managedFields`.
const MANAGER: &str = "testbed-player";

/// What a step came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done; the pod as the API server answered with it.
    Done(Box<Pod>),
    /// There is no such pod any more.
    Gone,
}

/// Why a step has to be tried again.
#[derive(Debug, Error)]
pub(crate) enum ActionError {
    #[error("{request}: {source}")]
    Request { request: &'static str, source: kube::Error },
    #[error("{request}: no answer within {} s", DEADLINE.as_secs())]
    Deadline { request: &'static str },
}

impl ActionError {
    fn status(&self) -> Option<&Status> {
        match self {
            ActionError::Request { source: kube::Error::Api(status), .. } => Some(status),
            _ => None,
        }
    }

    /// Whether the pod is gone, or its name taken by another.
    fn is_gone(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404 || (status.code == 409 && status.reason == "Conflict"))
    }
}

/// Carries out one step for `pod` on the node called `node`.
///
/// # Errors
/// The API server did not do it; what was done of the step may be done again.
pub(crate) async fn carry_out(client: &Client, node: &str, pod: &Pod, next: Next) -> Result<Outcome, ActionError> {
    let done = match next {
        Next::Rest | Next::Wait(_) => Ok(Outcome::Done(Box::new(pod.clone()))),
        Next::Start { bind, status } => start(client, node, pod, bind, &status).await,
        Next::Finish { result, status } => finish(client, pod, result, &status).await,
        Next::Remove { status } => remove(client, pod, status).await,
    };
    match done {
        Err(error) if error.is_gone() => Ok(Outcome::Gone),
        done => done,
    }
}

async fn start(client: &Client, node: &str, pod: &Pod, bind: bool, status: &PodStatus) -> Result<Outcome, ActionError> {
    let pods = pods(client, pod);
    if bind {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}
        });
        let params = PostParams::default();
        let bound = pods.create_subresource::<_, Value>("binding", &pod.key.name, &params, &binding);
        match request("binding the pod to the node", bound).await {
            Ok(_) => {}
            // A step that is tried again, or a pod that named its node: the watch shows it.
            Err(error) if error.status().is_some_and(|status| status.code == 409) => {
                let pod = request("reading the pod", pods.get(&pod.key.name)).await?;
                return Ok(Outcome::Done(Box::new(pod.into())));
            }
            Err(error) => return Err(error),
        }
    }
    write_status(&pods, pod, status).await
}

async fn finish(
    client: &Client,
    pod: &Pod,
    result: Option<TaskResult>,
    status: &PodStatus,
) -> Result<Outcome, ActionError> {
    // First the outputs: the controller reads them when it sees the pod's end.
    if let Some(result) = result
        && let Err(error) = report(client, pod, &result).await
    {
        let refusal = error.status().filter(|status| matches!(status.code, 400 | 413 | 422));
        let Some(refusal) = refusal else { return Err(error) };
        let why = format!("WorkflowTaskResult {}: {}", result.step.node_id, refusal.message);
        if let Next::Finish { status, .. } = script::without_outputs(pod, why, Timestamp::now()) {
            return write_status(&pods(client, pod), pod, &status).await;
        }
    }
    write_status(&pods(client, pod), pod, status).await
}

/// Writes the WorkflowTaskResult as Argo's executor does.
async fn report(client: &Client, pod: &Pod, result: &TaskResult) -> Result<(), ActionError> {
    let TaskResult { step, outputs } = result;
    let resource = ApiResource {
        group: "argoproj.io".into(),
        version: "v1alpha1".into(),
        api_version: "argoproj.io/v1alpha1".into(),
        kind: "WorkflowTaskResult".into(),
        plural: "workflowtaskresults".into(),
    };
    let results: Api<DynamicObject> = Api::namespaced_with(client.clone(), &pod.key.namespace, &resource);
    let object = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {
            "name": step.node_id,
            "labels": {
                "workflows.argoproj.io/workflow": step.workflow,
                "workflows.argoproj.io/report-outputs-completed": "true"
            },
            "ownerReferences": [{
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": step.workflow, "uid": step.workflow_uid
            }]
        },
        "outputs": outputs
    });
    let object: DynamicObject = serde_json::from_value(object).map_err(|source| ActionError::Request {
        request: "reporting the outputs",
        source: kube::Error::SerdeError(source),
    })?;
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    match request("reporting the outputs", results.create(&params, &object)).await {
        // A step that is tried again.
        Err(error) if error.status().is_some_and(|status| status.reason == "AlreadyExists") => {
            let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
            let patch = Patch::Merge(&object);
            request("reporting the outputs again", results.patch(&step.node_id, &params, &patch)).await.map(drop)
        }
        created => created.map(drop),
    }
}

async fn remove(client: &Client, pod: &Pod, status: Option<Box<PodStatus>>) -> Result<Outcome, ActionError> {
    let pods = pods(client, pod);
    if let Some(status) = status
        && let Outcome::Gone = write_status(&pods, pod, &status).await?
    {
        return Ok(Outcome::Gone);
    }
    let params = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions { uid: Some(pod.uid.clone()), resource_version: None });
    // Tried again right here: a pod that has ended is not watched any more, so nothing would bring it back to mind.
    let mut attempt = 1;
    loop {
        match request("removing the deleted pod", pods.delete(&pod.key.name, &params)).await {
            Ok(_) => return Ok(Outcome::Gone),
            Err(error) if error.is_gone() || attempt == REMOVALS => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_secs(attempt)).await,
        }
        attempt += 1;
    }
}

async fn write_status(pods: &Api<PodView>, pod: &Pod, status: &PodStatus) -> Result<Outcome, ActionError> {
    // The UID lets the write fail where a new pod has taken the name.
    let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid}, "status": status}));
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let written = pods.patch_status(&pod.key.name, &params, &patch);
    let pod = request("writing the pod's status", written).await?;
    Ok(Outcome::Done(Box::new(pod.into())))
}

fn pods(client: &Client, pod: &Pod) -> Api<PodView> {
    Api::namespaced(client.clone(), &pod.key.namespace)
}

async fn request<T>(
    request: &'static str,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ActionError> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(answer) => answer.map_err(|source| ActionError::Request { request, source }),
        Err(_) => Err(ActionError::Deadline { request }),
    }
}
