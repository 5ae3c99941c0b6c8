//! Which objects a workflow refers to, read from its spec and nothing else.
//!
//! Only templates that can be reached count: a WorkflowTemplate is often a library of which a workflow uses one entry, and
//! what the others need must not hold it up.

mod merge;
mod pod;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use self::merge::merged;
use super::kind::{Kind, Reference};

/// What a spec refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Each object, and whether the workflow runs without it, too.
    pub objects: BTreeMap<Reference, bool>,
    /// Templates of WorkflowTemplates that it calls.
    pub calls: BTreeSet<Call>,
}

/// A call of another object's template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The WorkflowTemplate or ClusterWorkflowTemplate.
    pub of: Reference,
    /// Which of its templates; empty if only the run will tell.
    pub template: String,
}

/// Where the run enters a spec.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A Workflow's own spec.
    Workflow,
    /// One template of a WorkflowTemplate's; the rest of that spec does not count.
    Template(&'a str),
}

/// What a spec refers to, entered there.
pub fn references(spec: &Value, entry: Entry<'_>) -> References {
    let mut walk = Walk { spec, found: References::default(), todo: Vec::new(), reached: BTreeSet::new() };
    match entry {
        Entry::Workflow => walk.workflow(),
        Entry::Template(name) => walk.reach(name),
    }
    while let Some(template) = walk.todo.pop() {
        walk.template(template);
    }
    walk.found
}

/// The WorkflowTemplate that a Workflow is made from.
pub fn made_from(spec: &Value) -> Option<Reference> {
    template_of(&spec["workflowTemplateRef"])
}

/// A WorkflowTemplate or ClusterWorkflowTemplate, by `name` and `clusterScope`.
fn template_of(reference: &Value) -> Option<Reference> {
    let kind = if reference["clusterScope"] == true { Kind::ClusterWorkflowTemplate } else { Kind::WorkflowTemplate };
    let name = reference["name"].as_str().filter(|name| is_name(name))?;
    Some(Reference { kind, name: name.to_owned() })
}

struct Walk<'a> {
    spec: &'a Value,
    found: References,
    /// Templates that are reached and not walked yet.
    todo: Vec<&'a Value>,
    /// Names of those that were reached.
    reached: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn workflow(&mut self) {
        let spec = self.spec;
        self.found.pod(spec);
        self.found.values(&spec["arguments"]);
        for secret in items(&spec["imagePullSecrets"]) {
            self.found.selector(Kind::Secret, secret);
        }
        for claim in items(&spec["volumeClaimTemplates"]) {
            self.found.need(Kind::StorageClass, &claim["spec"]["storageClassName"], false);
        }
        self.found.need(Kind::ServiceAccount, &spec["artifactGC"]["serviceAccountName"], false);
        self.found.need(Kind::PriorityClass, &spec["podPriorityClassName"], false);
        self.repository(&spec["artifactRepositoryRef"]);
        self.template(&spec["templateDefaults"]);
        self.hooks(&spec["hooks"]);
        if let Some(handler) = spec["onExit"].as_str() {
            self.reach(handler);
        }
        self.reach(spec["entrypoint"].as_str().unwrap_or_default());
    }

    /// Its ConfigMap may as well be in the controller's namespace, so it is never missed; without a name it is Argo's
    /// default.
    fn repository(&mut self, repository: &Value) {
        if repository.is_object() {
            let default = Value::String("artifact-repositories".to_owned());
            let name = Some(&repository["configMap"]).filter(|name| name.is_string()).unwrap_or(&default);
            self.found.need(Kind::ConfigMap, name, true);
        }
    }

    /// Reaches templates of this spec by name; a name that only the run will tell may be any of them.
    fn reach(&mut self, name: &str) {
        let any = name.is_empty() || name.contains("{{");
        for template in items(&self.spec["templates"]) {
            let own = template["name"].as_str().unwrap_or_default();
            if (any || own == name) && self.reached.insert(own.to_owned()) {
                self.todo.push(template);
            }
        }
    }

    fn template(&mut self, template: &'a Value) {
        self.found.pod(template);
        self.found.task(template);
        for step in items(&template["steps"]).flat_map(items) {
            self.step(step);
        }
        for task in items(&template["dag"]["tasks"]) {
            self.step(task);
        }
    }

    /// A step or a DAG's task.
    fn step(&mut self, step: &'a Value) {
        self.call(step);
        self.hooks(&step["hooks"]);
        if let Some(handler) = step["onExit"].as_str() {
            self.reach(handler);
        }
        if step["inline"].is_object() {
            self.todo.push(&step["inline"]);
        }
    }

    fn hooks(&mut self, hooks: &'a Value) {
        hooks.as_object().into_iter().flat_map(|hooks| hooks.values()).for_each(|hook| self.call(hook));
    }

    /// Whatever has `arguments` and names a template, its own or another object's.
    fn call(&mut self, call: &'a Value) {
        self.found.values(&call["arguments"]);
        if let Some(of) = template_of(&call["templateRef"]) {
            self.found.objects.insert(of.clone(), false);
            let template = call["templateRef"]["template"].as_str().unwrap_or_default().to_owned();
            self.found.calls.insert(Call { of, template });
        } else if let Some(name) = call["template"].as_str().filter(|name| !name.is_empty()) {
            self.reach(name);
        }
    }
}

impl References {
    /// Notes an object by its name, unless only the run will tell that.
    fn need(&mut self, kind: Kind, name: &Value, optional: bool) {
        let Some(name) = name.as_str().filter(|name| is_name(name)) else { return };
        let known = self.objects.entry(Reference { kind, name: name.to_owned() }).or_insert(true);
        *known &= optional;
    }

    /// Notes what a selector (`name`, `optional`) selects.
    fn selector(&mut self, kind: Kind, selector: &Value) {
        self.need(kind, &selector["name"], selector["optional"] == true);
    }

    /// Takes in what others refer to.
    pub fn extend(&mut self, objects: BTreeMap<Reference, bool>) {
        for (reference, optional) in objects {
            *self.objects.entry(reference).or_insert(true) &= optional;
        }
    }
}

/// The elements of a list; of anything else, none.
fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whether an object can have this name. A name with `{{` is not known before the run, and any other that is no name is
/// for Argo to refuse; it must not become part of a request's path.
fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && bytes.iter().all(|b| fits(*b) || matches!(b, b'-' | b'.'))
        && bytes.first().is_some_and(|b| fits(*b))
        && bytes.last().is_some_and(|b| fits(*b))
}
