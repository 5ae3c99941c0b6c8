//! Intents: what users did to an original is carried out on its copy.

mod operations;

use std::collections::HashSet;

use argosy_api::{Intent, Intents, Retry, Wish, names, workflow};
use argosy_runtime::client::within;
use json_patch::PatchOperation;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::Value;

use self::operations::{done, operations};
use crate::desk::{Copy, Key, Original};
use crate::work::{StepError, Work};

/// The intents on an original; what cannot be read is nobody's wish.
pub fn read(text: &str) -> Intents {
    let mut intents: Intents = serde_json::from_str(text).unwrap_or_default();
    intents.sort_by_key(|intent| intent.id);
    intents
}

/// Carries out on a workflow that is yet to be delivered what its users did to it before: it is retried, and its earlier
/// copy is gone from the WEC.
pub fn carry_out_before_delivery(copy: &mut DynamicObject, intents: &[Intent]) {
    let Ok(mut whole) = serde_json::to_value(&*copy) else { return };
    for intent in intents {
        // The copy that is gone had ended.
        whole["metadata"]["labels"][names::ARGO_COMPLETED] = Value::from("true");
        let (operations, _) = operations(&whole, intent);
        if json_patch::patch(&mut whole, &operations).is_err() {
            return;
        }
    }
    if let Ok(carried_out) = serde_json::from_value(whole) {
        *copy = carried_out;
    }
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
        let whole = serde_json::to_value(&live).unwrap_or_default();
        let (operations, mut trouble) = operations(&whole, intent);
        if let (Wish::Retry(retry), None) = (&intent.wish, &trouble) {
            self.delete_pods(key, retry).await?;
        }
        tracing::info!(workflow = %key, intent = intent.id, trouble, "carrying out what a user did");
        if let Err(refused) = self.write_intent(key, &copy, operations).await? {
            trouble = Some(refused);
            self.write_copy(key, &copy, vec![done(intent)]).await?;
        }
        if let Some(trouble) = trouble {
            let note = format!("not carried out in cluster {}: {trouble}", self.here.cluster);
            self.shared.announcer.workflow(key, &original.uid, "NotCarriedOut", &note);
        }
        Ok(())
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
