//! The end of a copy: released when its final status is back, removed when its original is gone, or found missing.

use argosy_api::workflow::SyncView;
use argosy_api::{Delivery, names};
use argosy_runtime::client::within;
use argosy_runtime::patch::{add, remove};
use json_patch::{Patch as JsonPatch, PatchOperation, TestOperation};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::desk::{Copy, Key, Original};
use crate::end;
use crate::work::{StepError, Work};

impl Work {
    /// Hands `spec.shutdown` on to the copy.
    pub(crate) async fn shut_down(&self, key: &Key, copy: &Copy, shutdown: &str) -> Result<(), StepError> {
        tracing::info!(workflow = %key, shutdown, "handing the user's shutdown on");
        self.write_copy(key, copy, vec![add(&["spec", "shutdown"], json!(shutdown))]).await
    }

    /// Suspends the copy, or lets it go on. Without `spec.suspend` at all where it goes on, as Argo's own resume has it.
    pub(crate) async fn suspend(&self, key: &Key, copy: &Copy, suspend: bool) -> Result<(), StepError> {
        tracing::info!(workflow = %key, suspend, "handing the user's suspend on");
        let path = ["spec", "suspend"];
        let operation = if suspend { add(&path, json!(true)) } else { remove(&path) };
        self.write_copy(key, copy, vec![operation]).await
    }

    /// Ends an original that was stopped before it was delivered, if the WEC confirms that it has no copy of it.
    pub(crate) async fn stop(&self, key: &Key, original: &Original, shutdown: &str) -> Result<(), StepError> {
        self.confirm_absent(key, |live| live.labels().get(names::ORIGIN) == Some(&original.uid)).await?;
        tracing::info!(workflow = %key, shutdown, "stopped before it was delivered");
        self.end(key, original, "Failed", &end::stopped(shutdown)).await
    }

    /// Writes down on a copy which control cluster made it.
    pub(crate) async fn claim(&self, key: &Key, copy: &Copy) -> Result<(), StepError> {
        let annotation = ["metadata", "annotations", names::CONTROL_CLUSTER];
        self.write_copy(key, copy, vec![add(&annotation, json!(self.here.control_uid))]).await
    }

    /// Takes our finalizer off the copy.
    pub(crate) async fn release(&self, key: &Key, copy: &Copy) -> Result<(), StepError> {
        let api = self.copies_in(&key.namespace);
        let live = within(api.get_opt(&key.name)).await.map_err(|source| StepError::ReadCopy { source })?;
        let Some(live) = live.filter(|live| live.uid().as_ref() == Some(&copy.uid)) else {
            self.copies.forget(key, &copy.resource_version);
            return Ok(());
        };
        let kept: Vec<&String> = live.finalizers().iter().filter(|name| *name != names::STATUS_RETURN).collect();
        let operations = vec![add(&["metadata", "finalizers"], json!(kept))];
        let copy = Copy { resource_version: live.resource_version().unwrap_or_default(), ..copy.clone() };
        self.write_copy(key, &copy, operations).await
    }

    /// Deletes a copy whose original is gone. Absence in a watch is no proof (a label that leaves the selector looks
    /// the same, and a fresh view may be old), so the API server itself is asked, after the copy was seen.
    pub(crate) async fn remove(&self, key: &Key, copy: &Copy) -> Result<(), StepError> {
        let original = self.read_original(key).await.map_err(|source| StepError::ReadOriginal { source })?;
        if original.is_some_and(|original| self.is_original_of(&original, copy)) {
            return Err(StepError::Outdated);
        }
        if !copy.deleting {
            self.check_lease()?;
            let preconditions =
                Preconditions { uid: Some(copy.uid.clone()), resource_version: Some(copy.resource_version.clone()) };
            let params = DeleteParams {
                preconditions: Some(preconditions),
                propagation_policy: Some(PropagationPolicy::Background),
                ..DeleteParams::default()
            };
            let deleted = within(self.copies_in(&key.namespace).delete(&key.name, &params)).await;
            self.metrics.copy_writes.inc();
            deleted.map_err(|source| match source.status() {
                Some(404) => {
                    self.copies.forget(key, &copy.resource_version);
                    StepError::Outdated
                }
                Some(409) => StepError::Outdated,
                _ => StepError::WriteCopy { source },
            })?;
            tracing::info!(workflow = %key, "deleted the copy of an original that is gone");
            self.metrics.removed.inc();
        }
        self.release(key, copy).await
    }

    fn is_original_of(&self, original: &SyncView, copy: &Copy) -> bool {
        let delivery = original.annotations().get(names::DELIVERY);
        let delivery = delivery.and_then(|text| serde_json::from_str::<Delivery>(text).ok());
        original.uid().as_ref() == Some(&copy.origin)
            && original.metadata.deletion_timestamp.is_none()
            && original.labels().get(names::CLUSTER) == Some(&self.here.cluster)
            && delivery.is_none_or(|delivery| delivery.attempt == copy.attempt)
    }

    /// The copy is missing from the watch: if the WEC says so too, the original ends.
    pub(crate) async fn lost(&self, key: &Key, original: &Original, delivery: &Delivery) -> Result<(), StepError> {
        self.confirm_absent(key, |live| live.uid() == delivery.copy).await?;
        let message = format!("the workflow was deleted in cluster {} before it ended", self.here.cluster);
        self.fail(key, original, &message).await
    }

    /// The copy of a retried workflow is missing from the watch: if the WEC says so too, another attempt begins with what
    /// stands on the original.
    pub(crate) async fn again(&self, key: &Key, original: &Original, delivery: &Delivery) -> Result<(), StepError> {
        self.confirm_absent(key, |live| live.uid() == delivery.copy).await?;
        let next = Delivery { attempt: delivery.attempt + 1, copy: None, ..delivery.clone() };
        self.record(key, original, &next).await
    }

    /// Asks the WEC itself whether it has a copy. One that it has may have lost the labels by which it is watched.
    async fn confirm_absent(&self, key: &Key, is_it: impl Fn(&SyncView) -> bool) -> Result<(), StepError> {
        let live = within(self.copies_in(&key.namespace).get_opt(&key.name)).await;
        let live = live.map_err(|source| StepError::ReadCopy { source })?;
        let Some(live) = live.filter(|live| is_it(live)) else { return Ok(()) };
        self.mark(key, &live).await?;
        Err(StepError::Outdated)
    }

    /// Gives a copy the labels back by which it is watched, where somebody took or changed them.
    pub(crate) async fn mark(&self, key: &Key, live: &SyncView) -> Result<(), StepError> {
        let labels = [(names::CLUSTER, &self.here.cluster), (names::CONTROL, &self.shared.control_id)];
        let wrong = labels.into_iter().filter(|(label, value)| live.labels().get(*label) != Some(value));
        let operations: Vec<_> =
            wrong.map(|(label, value)| add(&["metadata", "labels", label], json!(value))).collect();
        if operations.is_empty() {
            self.copies.written(live.clone());
            return Ok(());
        }
        tracing::warn!(workflow = %key, "the copy had lost the labels by which it is watched");
        self.write_copy(key, &Copy::new(live.clone()), operations).await
    }

    /// Writes to a copy, if it is still this one at this resourceVersion, and takes in the answer.
    pub(crate) async fn write_copy(
        &self,
        key: &Key,
        copy: &Copy,
        operations: Vec<PatchOperation>,
    ) -> Result<(), StepError> {
        self.check_lease()?;
        let uid = TestOperation {
            path: json_patch::jsonptr::PointerBuf::from_tokens(["metadata", "uid"]),
            value: json!(copy.uid),
        };
        let mut patch =
            vec![PatchOperation::Test(uid), add(&["metadata", "resourceVersion"], json!(copy.resource_version))];
        patch.extend(operations);
        let patch: Patch<()> = Patch::Json(JsonPatch(patch));
        let written = within(self.copies_in(&key.namespace).patch(&key.name, &PatchParams::default(), &patch)).await;
        self.metrics.copy_writes.inc();
        let written = written.map_err(|source| match source.status() {
            // Validation says this of an object; a test in a patch that fails is a 422, too.
            Some(422) if source.message().contains(" is invalid: ") => StepError::Refused { why: source.message() },
            Some(400 | 403) => StepError::Refused { why: source.message() },
            _ if source.is_too_large() => StepError::Refused { why: source.message() },
            Some(404 | 409 | 422) => StepError::Outdated,
            _ => StepError::WriteCopy { source },
        })?;
        // The answer to the removal of a deleted object's last finalizer is that object as it was.
        if written.metadata.deletion_timestamp.is_some() && written.finalizers().is_empty() {
            self.copies.forget(key, &copy.resource_version);
        } else {
            self.copies.written(written);
        }
        Ok(())
    }

    fn copies_in(&self, namespace: &str) -> Api<SyncView> {
        Api::namespaced(self.wec.clone(), namespace)
    }
}
