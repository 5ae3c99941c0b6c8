//! The part of a Workflow's spec that says which pods it will have: narrow views of Argo's types
//! (pkg/apis/workflow/v1alpha1/workflow_types.go); all else is skipped.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Deref;

use k8s_openapi::api::core::v1::Toleration;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess};

use super::lenient::{Lenient, OneOf, Present, Read, Text, views};

/// `spec` of a Workflow, a WorkflowTemplate or a ClusterWorkflowTemplate, as far as it says which pods there will be.
///
/// It is read from any JSON: the Workflow CRD lets anything through. What has a wrong type counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec(pub(super) Checked<Fields>);

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Read::<Checked<Fields>>::deserialize(deserializer)?;
        Ok(Self(read.value.unwrap_or_else(|| Checked { it: Fields::default(), wrong: read.wrong })))
    }
}

views! {
    struct Fields {
        entrypoint: String = "entrypoint",
        arguments: Arguments = "arguments",
        templates: ByName = "templates",
        template_defaults: Option<Checked<Template>> = "templateDefaults",
        workflow_template_ref: Option<TemplateRef> = "workflowTemplateRef",
        on_exit: String = "onExit",
        hooks: BTreeMap<String, Hook> = "hooks",
        parallelism: Option<u64> = "parallelism",
        pod_spec_patch: String = "podSpecPatch",
        pod_resources: Option<Requirements> = "podResources",
        resource_claims: Vec<Present> = "resourceClaims",
        node_selector: BTreeMap<String, String> = "nodeSelector",
        tolerations: Vec<Tolerated> = "tolerations",
        affinity: Option<Affinity> = "affinity",
    }

    struct Template {
        name: String = "name",
        inputs: Arguments = "inputs",
        container: Option<Container> = "container",
        container_set: Option<ContainerSet> = "containerSet",
        steps: Option<Vec<Vec<Call>>> = "steps",
        dag: Option<Dag> = "dag",
        script: Option<Container> = "script",
        resource: Option<Present> = "resource",
        data: Option<Present> = "data",
        suspend: Option<Present> = "suspend",
        http: Option<Present> = "http",
        plugin: Option<Present> = "plugin",
        init_containers: Vec<Container> = "initContainers",
        sidecars: Vec<Container> = "sidecars",
        daemon: Option<bool> = "daemon",
        parallelism: Option<u64> = "parallelism",
        pod_spec_patch: String = "podSpecPatch",
        pod_resources: Option<Requirements> = "podResources",
        resource_claims: Vec<Present> = "resourceClaims",
        node_selector: BTreeMap<String, String> = "nodeSelector",
        tolerations: Vec<Tolerated> = "tolerations",
        affinity: Option<Affinity> = "affinity",
    }

    struct Container {
        name: String = "name",
        resources: Requirements = "resources",
        restart_policy: String = "restartPolicy",
    }

    struct ContainerSet {
        containers: Vec<Container> = "containers",
    }

    struct Requirements {
        requests: BTreeMap<String, Text> = "requests",
        limits: BTreeMap<String, Text> = "limits",
    }

    struct Dag {
        tasks: Vec<Call> = "tasks",
        target: String = "target",
    }

    /// A step, or a task of a DAG.
    struct Call {
        name: String = "name",
        template: String = "template",
        template_ref: Option<TemplateRef> = "templateRef",
        inline: Option<Inline> = "inline",
        arguments: Arguments = "arguments",
        with_items: Vec<Item> = "withItems",
        with_param: Option<Text> = "withParam",
        with_sequence: Option<Sequence> = "withSequence",
        hooks: BTreeMap<String, Hook> = "hooks",
        on_exit: String = "onExit",
        dependencies: Vec<String> = "dependencies",
        depends: String = "depends",
    }

    struct Hook {
        template: String = "template",
        template_ref: Option<TemplateRef> = "templateRef",
        arguments: Arguments = "arguments",
    }

    struct TemplateRef {
        name: String = "name",
        template: String = "template",
        cluster_scope: bool = "clusterScope",
    }

    struct Sequence {
        count: Option<Text> = "count",
        start: Option<Text> = "start",
        end: Option<Text> = "end",
    }

    /// Arguments of a call, or inputs of a template.
    struct Arguments {
        parameters: Vec<Parameter> = "parameters",
    }

    struct Parameter {
        name: String = "name",
        value: Option<Text> = "value",
        default: Option<Text> = "default",
        value_from: Option<Present> = "valueFrom",
    }

    /// Kubernetes' Toleration.
    struct Tolerated {
        key: Option<String> = "key",
        operator: Option<String> = "operator",
        value: Option<String> = "value",
        effect: Option<String> = "effect",
    }

    struct Affinity {
        node_affinity: NodeAffinity = "nodeAffinity",
    }

    struct NodeAffinity {
        required: Option<Present> = "requiredDuringSchedulingIgnoredDuringExecution",
    }
}

impl From<&Tolerated> for Toleration {
    fn from(Tolerated { key, operator, value, effect }: &Tolerated) -> Self {
        let (key, operator, value, effect) = (key.clone(), operator.clone(), value.clone(), effect.clone());
        Self { key, operator, value, effect, toleration_seconds: None }
    }
}

impl Affinity {
    pub(super) fn demands_nodes(&self) -> bool {
        self.node_affinity.required.is_some()
    }
}

/// Something that knows which parts of it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked<T> {
    it: T,
    pub(super) wrong: Vec<String>,
}

impl<T> Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.it
    }
}

impl<T: Lenient> Lenient for Checked<T> {
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Read<Self>, A::Error> {
        let read = T::from_map(map)?;
        Ok(match read.value {
            Some(it) => Read { value: Some(Self { it, wrong: read.wrong }), wrong: Vec::new() },
            None => Read { value: None, wrong: read.wrong },
        })
    }
}

/// Templates in the order of their names, for a spec may have thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ByName(Vec<Checked<Template>>);

impl ByName {
    pub(super) fn get(&self, name: &str) -> Option<&Checked<Template>> {
        let first = self.0.partition_point(|template| template.name.as_str() < name);
        self.0.get(first).filter(|template| template.name == name)
    }
}

impl Lenient for ByName {
    fn from_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Read<Self>, A::Error> {
        let mut read = Vec::<Checked<Template>>::from_list(list)?;
        if let Some(templates) = &mut read.value {
            templates.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(read.map(Self))
    }
}

/// A template within a call, which may have calls with templates within them in turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inline(Box<Checked<Template>>);

impl Deref for Inline {
    type Target = Checked<Template>;

    fn deref(&self) -> &Checked<Template> {
        &self.0
    }
}

/// Deeper ones count as wrong. `serde_json` would refuse the whole document at 128 lists and objects, and one of
/// these makes four.
const INLINED: usize = 16;

thread_local! {
    /// How many inline templates are being read at the moment, one within the other: what serde calls to read the
    /// inner ones has no other way to know.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl Lenient for Inline {
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Read<Self>, A::Error> {
        if DEPTH.get() >= INLINED {
            return bool::from_map(map).map(|read| read.map(|_| Self::default()));
        }
        DEPTH.set(DEPTH.get() + 1);
        let read = Checked::<Template>::from_map(map);
        DEPTH.set(DEPTH.get() - 1);
        read.map(|read| read.map(|template| Self(Box::new(template))))
    }
}

/// What a loop runs over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Item {
    /// `{{item}}`
    Text(String),
    /// `{{item.key}}`
    Map(BTreeMap<String, Text>),
    /// Something that no text has been made of.
    #[default]
    Other,
}

impl Lenient for Item {
    fn from_text(text: &str) -> Read<Self> {
        Text::from_text(text).map(|Text(text)| Self::Text(text))
    }

    fn from_bool(value: bool) -> Read<Self> {
        Text::from_bool(value).map(|Text(text)| Self::Text(text))
    }

    fn from_number(number: serde_json::Number) -> Read<Self> {
        Text::from_number(number).map(|Text(text)| Self::Text(text))
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Read<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Read { value: Some(Self::Other), wrong: Vec::new() })
    }

    /// Values that are no text are as good as absent.
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Read<Self>, A::Error> {
        let read = BTreeMap::from_map(map)?;
        Ok(Read { value: read.value.map(Self::Map), wrong: Vec::new() })
    }
}
