//! Narrow views of Argo's Workflow: only the declared fields are parsed and kept.
//!
//! A whole Workflow as a dynamic object costs more than ten times its JSON in memory; Argosy watches thousands. So
//! each reader names the fields of `spec` and `status` that it needs, and takes the rest as raw JSON or not at all.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::{ApiResource, ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

pub const GROUP: &str = "argoproj.io";
pub const VERSION: &str = "v1alpha1";
pub const KIND: &str = "Workflow";
pub const PLURAL: &str = "workflows";

/// Field of a spec: the locks that it asks for.
pub const SYNCHRONIZATION: &str = "synchronization";
/// Field of a spec: whether logs are stored as artifacts.
pub const ARCHIVE_LOGS: &str = "archiveLogs";
/// Field of a status: the spec of the template that the workflow is made from, merged with its own.
pub const STORED_SPEC: &str = "storedWorkflowTemplateSpec";

/// A Workflow of which `spec` is read as `S` and `status` as `T`; `metadata` comes without managedFields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Workflow<S, T> {
    #[serde(default, deserialize_with = "lean_metadata")]
    pub metadata: ObjectMeta,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub spec: Option<S>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub status: Option<T>,
}

/// `Option`'s own default asks nothing of `S`; the derived one would demand `S: Default`.
fn none<S>() -> Option<S> {
    None
}

/// The fields of a Workflow's spec that route and syncer look at. A value of a wrong type reads as absent: the
/// Workflow CRD lets anything through, and one odd object must not stop a whole watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecView {
    #[serde(default, deserialize_with = "lenient_bool")]
    pub suspend: Option<bool>,
    #[serde(default, deserialize_with = "lenient_string")]
    pub shutdown: Option<String>,
}

/// A Workflow whose status travels unparsed.
pub type SyncView = Workflow<SpecView, Box<RawValue>>;

/// A WorkflowTemplate of which `spec` is read as `S`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkflowTemplate<S> {
    #[serde(default, deserialize_with = "lean_metadata")]
    pub metadata: ObjectMeta,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub spec: Option<S>,
}

/// A ClusterWorkflowTemplate of which `spec` is read as `S`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClusterWorkflowTemplate<S> {
    #[serde(default, deserialize_with = "lean_metadata")]
    pub metadata: ObjectMeta,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub spec: Option<S>,
}

/// Makes a view a resource of Argo's API group.
macro_rules! resource {
    ($view:ident<$($part:ident),+>, $kind:expr, $plural:expr, $scope:ty) => {
        impl<$($part),+> Resource for $view<$($part),+> {
            type DynamicType = ();
            type Scope = $scope;

            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group(_: &()) -> Cow<'_, str> {
                GROUP.into()
            }
            fn version(_: &()) -> Cow<'_, str> {
                VERSION.into()
            }
            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Workflow<S, T>, KIND, PLURAL, NamespaceResourceScope);
resource!(WorkflowTemplate<S>, "WorkflowTemplate", "workflowtemplates", NamespaceResourceScope);
resource!(ClusterWorkflowTemplate<S>, "ClusterWorkflowTemplate", "clusterworkflowtemplates", ClusterResourceScope);

/// Argo's Workflow resource, for dynamic clients.
pub fn api_resource() -> ApiResource {
    ApiResource::erase::<Workflow<(), ()>>(&())
}

/// ObjectMeta without managedFields, which outgrow the object itself on large workflows.
///
/// # Errors
/// Those of the deserializer.
pub fn lean_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Lean {
        name: Option<String>,
        generate_name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        finalizers: Option<Vec<String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let lean = Option::<Lean>::deserialize(deserializer)?.unwrap_or_default();
    Ok(ObjectMeta {
        name: lean.name,
        generate_name: lean.generate_name,
        namespace: lean.namespace,
        uid: lean.uid,
        resource_version: lean.resource_version,
        generation: lean.generation,
        creation_timestamp: lean.creation_timestamp,
        deletion_timestamp: lean.deletion_timestamp,
        labels: lean.labels,
        annotations: lean.annotations,
        finalizers: lean.finalizers,
        owner_references: lean.owner_references,
        ..ObjectMeta::default()
    })
}

/// Any JSON scalar, so that a wrong type can be told from a broken document.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient {
    Bool(bool),
    String(String),
    Other(serde::de::IgnoredAny),
}

fn lenient_bool<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    Ok(match Option::<Lenient>::deserialize(deserializer)? {
        Some(Lenient::Bool(value)) => Some(value),
        _ => None,
    })
}

fn lenient_string<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<Lenient>::deserialize(deserializer)? {
        Some(Lenient::String(value)) => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::WatchEvent;
    use kube::core::ObjectList;

    const WORKFLOW: &str = r#"{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{"name":"a","managedFields":[{"manager":"x"}],"labels":{"k":"v"}},"spec":{"suspend":"yes","shutdown":"Stop","entrypoint":"e"},"status":{"nodes":{"b":1,"a":2}}}"#;

    #[test]
    fn status_stays_raw_through_lists_and_watches() {
        let list: ObjectList<SyncView> = serde_json::from_str(&format!(
            r#"{{"apiVersion":"argoproj.io/v1alpha1","kind":"WorkflowList","metadata":{{}},"items":[{WORKFLOW}]}}"#
        ))
        .unwrap();
        let event: WatchEvent<SyncView> =
            serde_json::from_str(&format!(r#"{{"type":"ADDED","object":{WORKFLOW}}}"#)).unwrap();
        let WatchEvent::Added(watched) = event else { panic!("not an ADDED event") };
        for view in [&list.items[0], &watched] {
            assert_eq!(view.status.as_ref().unwrap().get(), r#"{"nodes":{"b":1,"a":2}}"#);
            assert_eq!(view.metadata.managed_fields, None);
            assert_eq!(view.metadata.labels.as_ref().unwrap()["k"], "v");
        }
    }

    #[test]
    fn a_field_of_a_wrong_type_reads_as_absent() {
        let view: SyncView = serde_json::from_str(WORKFLOW).unwrap();
        assert_eq!(view.spec, Some(SpecView { suspend: None, shutdown: Some("Stop".into()) }));
    }

    #[test]
    fn null_metadata_and_missing_parts_are_empty() {
        let view: SyncView = serde_json::from_str(r#"{"metadata":null}"#).unwrap();
        assert_eq!(view.metadata, ObjectMeta::default());
        assert!(view.spec.is_none() && view.status.is_none());
    }
}
