//! From the original to its copy.

use std::time::Duration;

use argosy_api::workflow::SyncView;
use argosy_api::{Delivery, names, workflow};
use argosy_placement::{JsonPath, own_cluster};
use argosy_runtime::client::{DEADLINE, RequestError, within};
use argosy_runtime::known::Asked;
use argosy_runtime::patch::add;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::copy::{WholeWorkflow, copy_of, has_started};
use crate::desk::{Key, Original, is_inherited, stamp_of};
use crate::end;
use crate::intents::carry_out_before_delivery;
use crate::plan::to_text;
use crate::readable::{OFFLOADED, is_offloaded};
use crate::size::NOT_SHOWN;
use crate::work::{StepError, Work};

impl Work {
    /// Writes down that a copy is about to be created. Whoever finds the record after a crash looks for that copy
    /// instead of starting over.
    pub(crate) async fn record(&self, key: &Key, original: &Original, delivery: &Delivery) -> Result<(), StepError> {
        let annotation = add(&["metadata", "annotations", names::DELIVERY], json!(to_text(delivery)));
        match self.write_original(key, original, vec![annotation]).await {
            // Annotations have a limit, and the user's own have used it up.
            Err(StepError::WriteOriginal { source }) if source.status() == Some(422) => {
                self.fail(key, original, &format!("its delivery cannot be recorded: {}", source.message())).await
            }
            recorded => recorded,
        }
    }

    /// Creates the copy, if rule and consent still allow it.
    pub(crate) async fn deliver(&self, key: &Key, original: &Original, delivery: &Delivery) -> Result<(), StepError> {
        let whole = self.whole_original(key, original).await?;
        let deadline = whole.spec.as_ref().and_then(|spec| spec.get("activeDeadlineSeconds"));
        let created = whole.creation_timestamp().map(|created| created.0.as_second());
        let has_begun = whole.status.as_ref().is_some_and(has_started);
        let is_first = delivery.attempt == 1 || (delivery.moved.is_some() && !has_begun);
        if let (true, Some(deadline), Some(created)) = (is_first, deadline, created)
            && let Some(message) = end::overdue(deadline, created, Timestamp::now())
        {
            return self.end(key, original, "Failed", message).await;
        }
        if lacks_nodes(&whole) {
            let why = "its copy is gone, and not all of its nodes were shown here: what had been done would run again; \
                       `argo resubmit` it instead";
            return self.fail(key, original, why).await;
        }
        if let Some(why) = not_routed(&whole) {
            return self.wait(key, original, format!("not delivered to {}: {why}", self.here.cluster)).await;
        }
        let removed = match self.permitted(key, &whole).await? {
            Ok(removed) => removed,
            Err(why) => {
                return self.wait(key, original, format!("not delivered to {}: {why}", self.here.cluster)).await;
            }
        };
        let mut copy = copy_of(&whole, &removed, (&self.shared.control_id, &self.shared.control_uid), delivery);
        if let Err(why) = self.preflight(&mut copy).await? {
            return self.wait(key, original, format!("waits for cluster {}: {why}", self.here.cluster)).await;
        }
        let troubles = carry_out_before_delivery(&mut copy, original.pending(0));
        self.check_lease()?;
        match self.create(key, &copy).await {
            Ok((created, dropped)) => {
                tracing::info!(workflow = %key, attempt = delivery.attempt, "delivered");
                self.announce(key, &whole);
                troubles.iter().for_each(|trouble| self.not_carried_out(key, original, trouble));
                self.announce_dropped(key, original, &dropped);
                self.metrics.delivered.inc();
                self.copies.written(created);
                Ok(())
            }
            Err(error) => self.not_created(key, original, error).await,
        }
    }

    pub(crate) async fn whole_original(&self, key: &Key, original: &Original) -> Result<WholeWorkflow, StepError> {
        let api: Api<WholeWorkflow> = Api::namespaced(self.shared.control.clone(), &key.namespace);
        let whole = within(api.get_opt(&key.name)).await.map_err(|source| StepError::ReadOriginal { source })?;
        whole.filter(|whole| whole.uid().as_ref() == Some(&original.uid)).ok_or(StepError::Outdated)
    }

    /// Says where it went, and why.
    fn announce(&self, key: &Key, whole: &WholeWorkflow) {
        let reason = stamp_of(whole).map(|stamp| stamp.reason).unwrap_or_default();
        let note = format!("runs in cluster {}: {reason}", self.here.cluster);
        self.shared.announcer.workflow(key, &whole.uid().unwrap_or_default(), "Placed", &note);
    }

    /// Asks rule and consent again: a stamp can be forged, and rules change. Answers what the rule takes out of copies.
    pub(crate) async fn permitted(
        &self,
        key: &Key,
        whole: &WholeWorkflow,
    ) -> Result<Result<Vec<JsonPath>, String>, StepError> {
        let namespace = match self.shared.known.namespace(&key.namespace) {
            Some(namespace) => namespace,
            // Newer than the watch.
            None => {
                let api: Api<Namespace> = Api::all(self.shared.control.clone());
                let object = within(api.get(&key.namespace)).await;
                let object = object.map_err(|source| StepError::ReadOriginal { source })?;
                argosy_placement::Namespace::new(&key.namespace, object.labels(), object.annotations()).into()
            }
        };
        let label = whole.labels().get(names::CLUSTER).map(String::as_str);
        let own_cluster = own_cluster(label, stamp_of(whole).as_ref());
        let asked = Asked {
            namespace: &key.namespace,
            labels: whole.labels(),
            own_cluster: own_cluster.as_deref(),
            chosen: None,
        };
        Ok(self.shared.known.permitted(asked, &namespace, &self.here.cluster))
    }

    /// Says what of the spec the WEC's API server took out, for its CRDs do not know it.
    fn announce_dropped(&self, key: &Key, original: &Original, dropped: &[String]) {
        if let Some(first) = dropped.first() {
            let more =
                if dropped.len() > 1 { format!(" and {} more fields", dropped.len() - 1) } else { String::new() };
            let note = format!(
                "cluster {} does not know {first}{more}, and runs it without: its Argo Workflows is of another version",
                self.here.cluster
            );
            self.shared.announcer.workflow(key, &original.uid, "FieldsDropped", &note);
        }
    }

    /// Creates it; answers with what the API server dropped of its spec, too.
    async fn create(&self, key: &Key, copy: &DynamicObject) -> Result<(SyncView, Vec<String>), RequestError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.wec.clone(), &key.namespace, &workflow::api_resource());
        let post = async || {
            self.metrics.copy_writes.inc();
            within(api.create(&PostParams::default(), copy)).await
        };
        let mut created = post().await;
        if let Err(error) = &created
            && self.has_made_namespace(&key.namespace, error).await?
        {
            created = post().await;
        }
        let created = created?;
        let mut dropped = Vec::new();
        differences(&copy.data["spec"], &created.data["spec"], "spec", &mut dropped);
        // What the watch would say of it, without waiting for the watch.
        let status = created.data.get("status").filter(|status| !status.is_null());
        let created = SyncView {
            spec: serde_json::from_value(created.data["spec"].clone()).ok(),
            status: status.and_then(|status| to_raw_value(status).ok()),
            metadata: created.metadata,
        };
        Ok((created, dropped))
    }

    /// Makes the namespace, if it was its absence that a creation was refused for, and if it may be made.
    pub(crate) async fn has_made_namespace(&self, name: &str, refusal: &RequestError) -> Result<bool, RequestError> {
        let makes = self.create_namespaces && is_missing_namespace(refusal);
        if makes {
            self.create_namespace(name).await?;
        }
        Ok(makes)
    }

    async fn create_namespace(&self, name: &str) -> Result<(), RequestError> {
        let labels = [("app.kubernetes.io/managed-by".to_owned(), names::MANAGER.to_owned())].into();
        let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let api: Api<Namespace> = Api::all(self.wec.clone());
        match within(api.create(&PostParams::default(), &namespace)).await {
            Err(error) if error.status() != Some(409) => return Err(error),
            _ => {}
        }
        // Argo fails a workflow whose pods' account is not there yet; it follows the namespace within moments.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.wec.clone(), name);
        let appears = async {
            while within(accounts.get_opt("default")).await?.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        // Without it in time the copy is created all the same: it may name an account of its own.
        tokio::time::timeout(DEADLINE, appears).await.unwrap_or(Ok(()))
    }

    /// What a refused creation means for the original.
    async fn not_created(&self, key: &Key, original: &Original, error: RequestError) -> Result<(), StepError> {
        let cluster = &self.here.cluster;
        match error.status() {
            Some(409) => self.name_is_taken(key, original).await,
            Some(400 | 422) => {
                self.fail(key, original, &format!("cluster {cluster} refused it: {}", error.message())).await
            }
            Some(404) if is_missing_namespace(&error) => {
                self.wait(key, original, format!("cluster {cluster} {}", no_namespace(&key.namespace))).await
            }
            Some(403 | 404) => {
                self.wait(key, original, format!("cluster {cluster} does not take it: {}", error.message())).await
            }
            Some(_) => self.wait(key, original, format!("cluster {cluster} answers: {}", error.message())).await,
            None => Err(StepError::WriteCopy { source: error }),
        }
    }

    /// The name is taken in the WEC: by our own copy, which the watch will show, by an older one of ours, which makes
    /// way, or by a stranger, who is left alone.
    async fn name_is_taken(&self, key: &Key, original: &Original) -> Result<(), StepError> {
        let api: Api<SyncView> = Api::namespaced(self.wec.clone(), &key.namespace);
        let present = within(api.get_opt(&key.name)).await.map_err(|source| StepError::ReadCopy { source })?;
        let Some(present) = present else {
            return Err(StepError::Outdated);
        };
        // One that was made from a copy of ours has its labels, and is somebody else's all the same.
        if present.labels().get(names::CONTROL) == Some(&self.shared.control_id) && !is_inherited(&present) {
            if present.labels().get(names::ORIGIN) == Some(&original.uid) {
                self.mark(key, &present).await?;
            } else {
                self.copies.written(present);
            }
            return Err(StepError::Outdated);
        }
        let message = format!(
            "cluster {} already has a workflow {key} that is not from here; it was left alone. Delete it there, or use another name",
            self.here.cluster
        );
        self.fail(key, original, &message).await
    }

    /// Says what a workflow waits for, and asks for another try.
    async fn wait(&self, key: &Key, original: &Original, why: String) -> Result<(), StepError> {
        self.say(key, original, &why).await?;
        Err(StepError::Waits { why })
    }
}

/// The paths of `sent` that are not in `kept`; nulls do not count.
fn differences(sent: &Value, kept: &Value, at: &str, dropped: &mut Vec<String>) {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => {
            for (name, value) in sent.iter().filter(|(_, value)| !value.is_null()) {
                let at = format!("{at}.{name}");
                match kept.get(name) {
                    Some(kept) => differences(value, kept, &at, dropped),
                    None => dropped.push(at),
                }
            }
        }
        (Value::Array(sent), Value::Array(kept)) => {
            for (i, (sent, kept)) in sent.iter().zip(kept).enumerate() {
                differences(sent, kept, &format!("{at}[{i}]"), dropped);
            }
        }
        _ => {}
    }
}

/// Whether a workflow that is to run again does not show all that it has done.
fn lacks_nodes(whole: &WholeWorkflow) -> bool {
    let conditions = whole.status.as_ref().and_then(|status| status.get("conditions")?.as_array());
    conditions.into_iter().flatten().any(|condition| condition["type"] == NOT_SHOWN && condition["status"] == "True")
}

/// What keeps a workflow with the label from being one that Argosy has routed.
fn not_routed(whole: &WholeWorkflow) -> Option<&'static str> {
    let suspended = whole.spec.as_ref().and_then(|spec| spec.get("suspend")).is_some_and(|suspend| suspend == true);
    if !suspended {
        return Some("it is not suspended here, so it would run twice; was it created before Argosy was installed?");
    }
    if is_offloaded(whole.status.as_ref().and_then(|status| status.get(OFFLOADED))) {
        return Some(
            "the nodes that it was created with are in this cluster's database, so it would run from its beginning; \
             `argo resubmit` it instead",
        );
    }
    stamp_of(whole).is_none().then_some(
        "it has no readable annotation argosy.dev/placement, so Argosy's webhook has not routed it; create it anew",
    )
}

/// What a cluster lacks, and what to do about it.
pub(crate) fn no_namespace(name: &str) -> String {
    format!("has no namespace {name:?}: create it there, or set createNamespaces on the WorkloadCluster")
}

pub(crate) fn is_missing_namespace(error: &RequestError) -> bool {
    error.status() == Some(404) && error.message().starts_with("namespaces ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_that_does_not_show_all_its_nodes_lacks_some() {
        let lacks = |status: Value| {
            let whole = serde_json::from_value(json!({"metadata": {"name": "w"}, "status": status})).unwrap();
            lacks_nodes(&whole)
        };
        assert!(lacks(json!({"conditions": [{"type": "Completed"}, {"type": NOT_SHOWN, "status": "True"}]})));
        assert!(!lacks(json!({"conditions": [{"type": "Completed", "status": "True"}], "nodes": {}})));
        assert!(!lacks(json!(null)));
    }

    #[test]
    fn what_was_dropped_is_named_by_its_path() {
        let sent = json!({"entrypoint": "e", "new": null, "later": 1, "templates": [{"name": "e"}, {"name": "f", "plugin2": {"a": {}}}]});
        let kept = json!({"entrypoint": "e", "added": 1, "templates": [{"name": "e"}, {"name": "f"}]});
        let mut dropped = Vec::new();
        differences(&sent, &kept, "spec", &mut dropped);
        assert_eq!(dropped, ["spec.later", "spec.templates[1].plugin2"]);
    }
}
