//! The part of a Workflow's spec that says which pods it will have: narrow views of Argo's types (pkg/apis/workflow/
//! v1alpha1/workflow_types.go); all else is skipped.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;

/// `spec` of a Workflow or of a template of Workflows. What cannot be read as Argo would read it is kept as the reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    pub(super) fields: Fields,
    pub(super) unreadable: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Fields {
    pub(super) entrypoint: Option<String>,
    #[serde(deserialize_with = "list")]
    pub(super) templates: Vec<Template>,
    pub(super) template_defaults: Option<Template>,
    pub(super) arguments: Option<Arguments>,
    pub(super) workflow_template_ref: Option<TemplateRef>,
    pub(super) on_exit: Option<String>,
    pub(super) hooks: Option<BTreeMap<String, Hook>>,
    pub(super) parallelism: Option<i64>,
    pub(super) pod_spec_patch: Option<String>,
    pub(super) node_selector: Option<BTreeMap<String, String>>,
    pub(super) tolerations: Option<Vec<Toleration>>,
    pub(super) affinity: Option<Affinity>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<Anything>,
}

impl Affinity {
    pub(super) fn demands_nodes(&self) -> bool {
        let required = |affinity: &NodeAffinity| affinity.required_during_scheduling_ignored_during_execution.is_some();
        self.node_affinity.as_ref().is_some_and(required)
    }
}

/// Something that is there; what it is does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Template {
    pub(super) name: Option<String>,
    pub(super) inputs: Option<Arguments>,
    pub(super) container: Option<Container>,
    pub(super) script: Option<Container>,
    pub(super) container_set: Option<ContainerSet>,
    pub(super) steps: Option<Vec<Vec<Call>>>,
    pub(super) dag: Option<Dag>,
    pub(super) resource: Option<Anything>,
    pub(super) data: Option<Anything>,
    pub(super) http: Option<Anything>,
    pub(super) plugin: Option<Anything>,
    #[serde(deserialize_with = "list")]
    pub(super) init_containers: Vec<Container>,
    #[serde(deserialize_with = "list")]
    pub(super) sidecars: Vec<Container>,
    pub(super) parallelism: Option<i64>,
    pub(super) pod_spec_patch: Option<String>,
    pub(super) node_selector: Option<BTreeMap<String, String>>,
    pub(super) tolerations: Option<Vec<Toleration>>,
    pub(super) affinity: Option<Affinity>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerSet {
    #[serde(deserialize_with = "list")]
    pub(super) containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) name: Option<String>,
    pub(super) resources: Option<ContainerResources>,
    pub(super) restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerResources {
    pub(super) requests: Option<BTreeMap<String, Text>>,
    pub(super) limits: Option<BTreeMap<String, Text>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Dag {
    #[serde(deserialize_with = "list")]
    pub(super) tasks: Vec<Call>,
}

/// A step, or a task of a DAG.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Call {
    pub(super) name: Option<String>,
    pub(super) template: Option<String>,
    pub(super) template_ref: Option<TemplateRef>,
    pub(super) inline: Option<Box<Template>>,
    pub(super) arguments: Option<Arguments>,
    pub(super) with_items: Option<Vec<Anything>>,
    pub(super) with_param: Option<Text>,
    pub(super) with_sequence: Option<Sequence>,
    pub(super) hooks: Option<BTreeMap<String, Hook>>,
    pub(super) on_exit: Option<String>,
    #[serde(deserialize_with = "list")]
    pub(super) dependencies: Vec<String>,
    pub(super) depends: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Hook {
    pub(super) template: Option<String>,
    pub(super) template_ref: Option<TemplateRef>,
    pub(super) arguments: Option<Arguments>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TemplateRef {
    pub(super) name: Option<String>,
    pub(super) template: Option<String>,
    pub(super) cluster_scope: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Sequence {
    pub(super) count: Option<Text>,
    pub(super) start: Option<Text>,
    pub(super) end: Option<Text>,
}

/// Arguments of a call, or inputs of a template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Arguments {
    #[serde(deserialize_with = "list")]
    pub(super) parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: Option<Text>,
    pub(super) default: Option<Text>,
}

/// Text that may be written as a number or a truth value, too (Argo's AnyString, Kubernetes' Quantity).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Text(String),
            Bool(bool),
            Number(serde_json::Number),
            Other(IgnoredAny),
        }
        Ok(Self(match Any::deserialize(deserializer)? {
            Any::Text(text) => text,
            Any::Bool(value) => value.to_string(),
            Any::Number(number) => number.to_string(),
            Any::Other(_) => String::new(),
        }))
    }
}

/// As Go reads a list: `null` is an empty one.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Option::<Vec<T>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl<'de> Deserialize<'de> for Spec {
    /// Never fails on what is JSON: one odd object must not stop a whole watch.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(match serde_json::from_str(raw.get()) {
            Ok(fields) => Self { fields, unreadable: None },
            Err(error) => Self { fields: Fields::default(), unreadable: Some(error.to_string()) },
        })
    }
}
