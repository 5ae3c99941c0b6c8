//! Writes to originals. Each carries the resourceVersion that it was decided from, so that a decision from an old view
//! changes nothing.

use argosy_api::names;
use argosy_api::workflow::SyncView;
use argosy_runtime::client::{RequestError, within};
use argosy_runtime::patch::add;
use json_patch::{Patch as JsonPatch, PatchOperation};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::desk::{Key, Original};
use crate::work::{StepError, Work};

impl Work {
    /// Patches an original and takes in the answer.
    pub(crate) async fn write_original(
        &self,
        key: &Key,
        original: &Original,
        operations: Vec<PatchOperation>,
    ) -> Result<(), StepError> {
        self.write_version(key, original, operations).await.map(drop)
    }

    /// The same; answers the resourceVersion that it has then.
    pub(crate) async fn write_version(
        &self,
        key: &Key,
        original: &Original,
        operations: Vec<PatchOperation>,
    ) -> Result<Option<String>, StepError> {
        self.check_lease()?;
        let written = patched(&self.shared.control, key, &original.resource_version, operations).await;
        self.metrics.original_writes.inc();
        let written = written.map_err(|source| match source.status() {
            // Somebody wrote in between: the watch brings what is new.
            Some(409) => StepError::Outdated,
            Some(404) => {
                self.originals.forget(key, &original.resource_version);
                StepError::Outdated
            }
            _ => StepError::WriteOriginal { source },
        })?;
        let version = written.metadata.resource_version.clone();
        self.originals.written(written);
        Ok(version)
    }

    /// Tells the user what a workflow that was not delivered yet is waiting for, in `status.message`.
    pub(crate) async fn say(&self, key: &Key, original: &Original, message: &str) -> Result<(), StepError> {
        if original.says(message) {
            return Ok(());
        }
        self.write_original(key, original, pending(original.status.is_some(), message)).await
    }

    /// Says something about a workflow that was delivered, beside the state that it was last known to have.
    pub(crate) async fn tell(&self, key: &Key, original: &Original, message: &str) -> Result<(), StepError> {
        tracing::warn!(workflow = %key, message, "the state of its copy is not known");
        if original.status.is_none() {
            return self.say(key, original, message).await;
        }
        self.write_original(key, original, vec![add(&["status", "message"], json!(message))]).await
    }

    /// Ends an original with an error.
    pub(crate) async fn fail(&self, key: &Key, original: &Original, message: &str) -> Result<(), StepError> {
        tracing::warn!(workflow = %key, message, "workflow ends with an error");
        self.end(key, original, "Error", message).await
    }

    /// Ends an original in this phase.
    pub(crate) async fn end(
        &self,
        key: &Key,
        original: &Original,
        phase: &str,
        message: &str,
    ) -> Result<(), StepError> {
        self.write_original(key, original, ending(phase, message, original.started(), Timestamp::now())).await
    }

    /// Reads an original from the API server itself, whatever the watch says.
    pub(crate) async fn read_original(&self, key: &Key) -> Result<Option<SyncView>, RequestError> {
        within(Api::<SyncView>::namespaced(self.shared.control.clone(), &key.namespace).get_opt(&key.name)).await
    }
}

/// Patches an original if it is still at this resourceVersion. managedFields are dropped with every write: on large
/// workflows they outgrow the object and double the time that a write takes.
pub(crate) async fn patched(
    control: &Client,
    key: &Key,
    resource_version: &str,
    operations: Vec<PatchOperation>,
) -> Result<SyncView, RequestError> {
    let mut patch = vec![
        add(&["metadata", "resourceVersion"], json!(resource_version)),
        add(&["metadata", "managedFields"], json!([{}])),
    ];
    patch.extend(operations);
    let api: Api<SyncView> = Api::namespaced(control.clone(), &key.namespace);
    let patch: Patch<()> = Patch::Json(JsonPatch(patch));
    within(api.patch(&key.name, &PatchParams::default(), &patch)).await
}

/// Says what a workflow that does not run yet is waiting for.
pub(crate) fn pending(has_status: bool, message: &str) -> Vec<PatchOperation> {
    if !has_status {
        return vec![add(&["status"], json!({"phase": "Pending", "message": message}))];
    }
    vec![add(&["status", "phase"], json!("Pending")), add(&["status", "message"], json!(message))]
}

/// What is there of an original's status, as far as its end depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// There is no status at all.
    NoStatus,
    /// There is one without `startedAt`.
    No,
    Yes,
}

/// Ends a workflow as Argo's controller does: phase, message, times and labels in one write. A missing finishedAt would
/// have Argo's TTL delete it at once.
pub(crate) fn ending(phase: &str, message: &str, started: Started, now: Timestamp) -> Vec<PatchOperation> {
    let now = json!(format!("{now:.0}"));
    let mut operations = match started {
        Started::NoStatus => vec![add(&["status"], json!({"startedAt": now}))],
        Started::No => vec![add(&["status", "startedAt"], now.clone())],
        Started::Yes => Vec::new(),
    };
    let fields = [("phase", json!(phase)), ("message", json!(message)), ("finishedAt", now)];
    operations.extend(fields.into_iter().map(|(field, value)| add(&["status", field], value)));
    operations.push(add(&["metadata", "labels", names::ARGO_PHASE], json!(phase)));
    operations.push(add(&["metadata", "labels", names::ARGO_COMPLETED], json!("true")));
    operations
}

impl Original {
    /// Whether its status has this message.
    pub(crate) fn says(&self, message: &str) -> bool {
        self.status.as_ref().is_some_and(|status| status.shows("message", &json!(message)))
    }

    pub(crate) fn started(&self) -> Started {
        match &self.status {
            None => Started::NoStatus,
            Some(status) if status.shows("startedAt", &Value::Null) => Started::No,
            Some(_) => Started::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Digest;
    use rstest::rstest;

    #[rstest]
    #[case::without_status(None, json!({"startedAt": "2026-01-02T03:04:05Z"}))]
    #[case::waiting(Some(json!({"phase": "Pending", "message": "waits"})), json!({"startedAt": "2026-01-02T03:04:05Z"}))]
    #[case::running(Some(json!({"phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "nodes": {"a": {}}})), json!({"startedAt": "2026-01-01T00:00:00Z", "nodes": {"a": {}}}))]
    fn an_ending_is_whole(#[case] status: Option<Value>, #[case] rest: Value) {
        let digest = status.as_ref().map(|s| Digest::of(&serde_json::value::to_raw_value(s).unwrap()).unwrap());
        let original = Original { status: digest, ..Original::default() };
        let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let operations = ending("Error", "why", original.started(), now);
        let mut object = json!({"metadata": {"labels": {}}});
        if let Some(status) = status {
            object["status"] = status;
        }
        json_patch::patch(&mut object, &operations).unwrap();
        let mut expected = rest;
        expected["phase"] = json!("Error");
        expected["message"] = json!("why");
        expected["finishedAt"] = json!("2026-01-02T03:04:05Z");
        assert_eq!(object["status"], expected);
        assert_eq!(
            object["metadata"]["labels"],
            json!({"workflows.argoproj.io/phase": "Error", "workflows.argoproj.io/completed": "true"})
        );
    }
}
