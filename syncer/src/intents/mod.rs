//! Intents: what users did to an original is carried out on its copy.

mod operations;

use std::collections::HashSet;

use argosy_api::{Intent, Retry, Wish, names, workflow};
use argosy_runtime::client::within;
use argosy_runtime::patch::add;
use json_patch::PatchOperation;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::Value;
use thiserror::Error;

use self::operations::{done, operations};
use crate::desk::{Copy, Key, Original};
use crate::work::{StepError, Work};

/// Carries out on a workflow that is yet to be delivered what its users did to it before: it is retried, and its earlier
/// copy is gone from the WEC. Answers with what could not be carried out, in words.
pub fn carry_out_before_delivery(copy: &mut DynamicObject, intents: &[Intent]) -> Vec<String> {
    let mut troubles = Vec::new();
    for intent in intents {
        // The copy that is gone had ended.
        copy.labels_mut().insert(names::ARGO_COMPLETED.to_owned(), "true".to_owned());
        let (operations, trouble) = operations(&serde_json::json!(copy), intent);
        match patched(copy, &operations) {
            Ok(carried_out) => *copy = carried_out,
            Err(error) => troubles.push(error.to_string()),
        }
        troubles.extend(trouble);
    }
    // Whatever came of them: a copy that is completed from the start would never run.
    if copy.labels().get(names::ARGO_COMPLETED).is_some_and(|completed| completed == "true") {
        copy.labels_mut().remove(names::ARGO_COMPLETED);
    }
    troubles
}

/// Operations that do not fit an object.
#[derive(Debug, Error)]
#[error("it cannot be carried out on the workflow as it is")]
enum PatchedError {
    Patch(#[from] json_patch::PatchError),
    Object(#[from] serde_json::Error),
}

/// An object as these operations make it.
fn patched(object: &DynamicObject, operations: &[PatchOperation]) -> Result<DynamicObject, PatchedError> {
    let mut whole = serde_json::to_value(object)?;
    json_patch::patch(&mut whole, operations)?;
    Ok(serde_json::from_value(whole)?)
}

impl Work {
    /// Carries one intent out, once: its number is written with it.
    pub(crate) async fn carry_out(
        &self,
        key: &Key,
        original: &Original,
        copy: &Copy,
        intent: &Intent,
    ) -> Result<(), StepError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.wec.clone(), &key.namespace, &workflow::api_resource());
        let live = within(api.get_opt(&key.name)).await.map_err(|source| StepError::ReadCopy { source })?;
        let is_it =
            |live: &DynamicObject| live.uid().as_ref() == Some(&copy.uid) && live.metadata.deletion_timestamp.is_none();
        let Some(live) = live.filter(is_it) else {
            return Err(StepError::Outdated);
        };
        // The answer to a write may be lost, and the watch late.
        let known = live.annotations().get(names::INTENTS_DONE).and_then(|done| done.parse::<u64>().ok());
        if known.is_some_and(|done| done >= intent.id) {
            return Err(StepError::Outdated);
        }
        let copy = Copy { resource_version: live.resource_version().unwrap_or_default(), ..copy.clone() };
        let mut whole = serde_json::json!(live);
        self.add_nodes(key, &mut whole).await?;
        let (mut operations, mut trouble) = operations(&whole, intent);
        if let (Wish::Retry(retry), None) = (&intent.wish, &trouble) {
            match self.prepare_retry(key, original, &live, &operations).await {
                // Its user has stopped it again meanwhile.
                Err(StepError::Waits { why }) if original.shutdown.is_some() => {
                    (operations, trouble) = (vec![done(intent)], Some(why));
                }
                ready => {
                    operations.extend(ready?);
                    self.delete_pods(key, retry).await?;
                }
            }
        }
        tracing::info!(workflow = %key, intent = intent.id, trouble, "carrying out what a user did");
        if let Err(refused) = self.write_intent(key, &copy, operations).await? {
            trouble = Some(refused);
            self.write_copy(key, &copy, vec![done(intent)]).await?;
        }
        if let Some(trouble) = trouble {
            self.not_carried_out(key, original, &trouble);
        }
        Ok(())
    }

    /// Tells whoever did it.
    pub(crate) fn not_carried_out(&self, key: &Key, original: &Original, trouble: &str) {
        let note = format!("not carried out in cluster {}: {trouble}", self.here.cluster);
        self.shared.announcer.workflow(key, &original.uid, "NotCarriedOut", &note);
    }

    /// What a workflow needs may have gone since it ended, or may no longer be given: it is asked for again before it runs
    /// again. Answers with the note of what it uses.
    async fn prepare_retry(
        &self,
        key: &Key,
        original: &Original,
        live: &DynamicObject,
        operations: &[PatchOperation],
    ) -> Result<Option<PatchOperation>, StepError> {
        let whole = self.whole_original(key, original).await?;
        let mut retried =
            patched(live, operations).map_err(|error| StepError::Unreadable { why: error.to_string() })?;
        let ready = match self.permitted(key, &whole).await? {
            Ok(_) => self.preflight(&mut retried).await?,
            Err(why) => Err(why),
        };
        if let Err(why) = ready {
            let message = format!("its retry waits for cluster {}: {why}", self.here.cluster);
            if !original.says(&message) {
                self.tell(key, original, &message).await?;
            }
            return Err(StepError::Waits { why: message });
        }
        let uses = retried.annotations().get(names::USES);
        let is_new = uses != live.annotations().get(names::USES);
        let note = |uses: &String| add(&["metadata", "annotations", names::USES], Value::from(uses.as_str()));
        Ok(uses.filter(|_| is_new).map(note))
    }

    /// The inner error: the WEC's API server will never take it.
    async fn write_intent(
        &self,
        key: &Key,
        copy: &Copy,
        operations: Vec<PatchOperation>,
    ) -> Result<Result<(), String>, StepError> {
        match self.write_copy(key, copy, operations).await {
            Err(StepError::Refused { why }) => Ok(Err(why)),
            written => written.map(Ok),
        }
    }

    /// Deletes the pods of nodes that begin again: pods are named after their nodes, and Argo would find the old ones.
    async fn delete_pods(&self, key: &Key, retry: &Retry) -> Result<(), StepError> {
        let again: HashSet<&str> = retry.removed.iter().chain(retry.reset.keys()).map(String::as_str).collect();
        let api: Api<Pod> = Api::namespaced(self.wec.clone(), &key.namespace);
        let of_it = ListParams::default().labels(&format!("{}={}", names::ARGO_WORKFLOW, key.name));
        let pods = within(api.list_metadata(&of_it)).await.map_err(|source| StepError::ReadCopy { source })?;
        let is_of = |pod: &&PartialObjectMeta<Pod>| {
            pod.annotations().get(names::ARGO_NODE_ID).is_some_and(|node| again.contains(node.as_str()))
        };
        for pod in pods.items.iter().filter(is_of) {
            self.check_lease()?;
            match within(api.delete(&pod.name_any(), &DeleteParams::default())).await {
                Err(error) if error.status() != Some(404) => return Err(StepError::WriteCopy { source: error }),
                _ => {}
            }
        }
        Ok(())
    }
}
