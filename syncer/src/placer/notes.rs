//! Notes for others: on namespaces, that a policy rules them, so that the API server fails closed there; and on
//! policies, whether they can be read.

use std::collections::{BTreeMap, HashMap};

use argosy_api::placement_policy::ACCEPTED;
use argosy_api::{PlacementPolicy, names};
use argosy_placement::{Policy, kubestellar};
use argosy_runtime::client::{RequestError, within};
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::Placer;
use crate::condition;

/// What has been noted.
#[derive(Default)]
pub(super) struct Notes {
    /// By policy: its error, if it has one, as it was last written.
    policies: HashMap<String, Option<String>>,
    /// By BindingPolicy of KubeStellar: what of it has no meaning here.
    bindings: BTreeMap<String, Vec<String>>,
}

impl Notes {
    /// Writes what is not noted yet. Answers whether all of it worked.
    pub(super) async fn write(&mut self, placer: &Placer) -> bool {
        let mut fine = true;
        let policies = placer.known.policies();
        for (name, namespace) in placer.known.namespaces() {
            let ruled = policies.iter().any(|policy| policy.rules(&namespace));
            if ruled == namespace.noted_as_ruled || !placer.lease.is_held() {
                continue;
            }
            let api: Api<PartialObjectMeta<Namespace>> = Api::all(placer.control.clone());
            let note = json!({"metadata": {"annotations": {names::RULED: ruled.then_some("true")}}});
            let written = within(api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&note))).await;
            fine &= check(written.map(drop), "namespace", &name);
        }
        self.policies.retain(|name, _| policies.iter().any(|policy| policy.name == *name));
        for policy in policies.iter() {
            let error = policy.error().map(ToString::to_string);
            if self.policies.get(&policy.name) == Some(&error) || !placer.lease.is_held() {
                continue;
            }
            if check(accept(placer, policy).await, "PlacementPolicy", &policy.name) {
                self.policies.insert(policy.name.clone(), error);
            } else {
                fine = false;
            }
        }
        self.tell_bindings(placer);
        fine
    }

    /// Events, not conditions: a BindingPolicy's status is KubeStellar's.
    fn tell_bindings(&mut self, placer: &Placer) {
        let notes = placer.known.notes();
        for (name, notes) in notes.iter().filter(|(name, notes)| self.bindings.get(*name) != Some(notes)) {
            let object = ObjectReference {
                api_version: Some(format!("{}/{}", kubestellar::GROUP, kubestellar::VERSION)),
                kind: Some("BindingPolicy".to_owned()),
                name: Some(name.clone()),
                ..ObjectReference::default()
            };
            notes.iter().for_each(|note| placer.announcer.warn(object.clone(), "NotSupported", note));
        }
        self.bindings.clone_from(&notes);
    }
}

/// What is gone needs no note.
fn check(written: Result<(), RequestError>, kind: &str, name: &str) -> bool {
    match written {
        Err(error) if error.status() != Some(404) => {
            tracing::warn!(kind, name, error = error.message(), "cannot write a note");
            false
        }
        _ => true,
    }
}

async fn accept(placer: &Placer, policy: &Policy) -> Result<(), RequestError> {
    let api: Api<PlacementPolicy> = Api::all(placer.control.clone());
    let known = within(api.get(&policy.name)).await?;
    let (status, reason, message) = match policy.error() {
        None => ("True", "Parsed", "the policy is in force".to_owned()),
        Some(error) => ("False", "Unreadable", format!("workflows that it is about are refused: {error}")),
    };
    let before = known.status.clone().unwrap_or_default().conditions;
    let mut conditions = before.clone();
    condition::set(&mut conditions, ACCEPTED, (status, reason, &message), known.metadata.generation, Timestamp::now());
    let is_same = |one: &Condition, other: &Condition| (&one.status, &one.message) == (&other.status, &other.message);
    if before.len() == conditions.len() && before.iter().zip(&conditions).all(|(one, other)| is_same(one, other)) {
        return Ok(());
    }
    let patch =
        json!({"metadata": {"resourceVersion": known.resource_version()}, "status": {"conditions": conditions}});
    within(api.patch_status(&policy.name, &PatchParams::default(), &Patch::Merge(&patch))).await.map(drop)
}
