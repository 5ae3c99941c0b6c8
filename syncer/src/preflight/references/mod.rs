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

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

pub use self::merge::merged;
use super::kind::{Kind, Reference};

/// The key of a ConfigMap with artifact repositories that counts where the workflow names none.
const DEFAULT_REPOSITORY: &str = "workflows.argoproj.io/default-artifact-repository";

/// What a spec refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Each object, and whether the workflow runs without it, too.
    pub objects: BTreeMap<Reference, bool>,
    /// Templates of WorkflowTemplates that it calls.
    pub calls: BTreeSet<Call>,
    /// Whether there are artifacts, or logs to be archived, in the workflow's artifact repository.
    pub stores: bool,
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

/// The credentials in a workflow's artifact repository, of which `config_map` has several (`artifactRepositoryRef`).
/// `stores`: whether the workflow puts anything there of its own accord; its repository may make it store its logs.
pub fn of_repository(spec: &Value, config_map: &DynamicObject, stores: bool) -> BTreeMap<Reference, bool> {
    let default = config_map.annotations().get(DEFAULT_REPOSITORY).map(String::as_str);
    let key = spec["artifactRepositoryRef"]["key"].as_str().or(default).unwrap_or_default();
    let text = config_map.data["data"][key].as_str().unwrap_or_default();
    // What is none, Argo says better than we can.
    let repository: Value = serde_saphyr::from_str(text).unwrap_or_default();
    let mut found = References::default();
    if stores || repository["archiveLogs"] == true {
        found.location(&repository);
    }
    found.objects
}

/// The ConfigMap of a workflow's artifact repository, in its own namespace: Argo looks there first.
pub fn repository(spec: &Value) -> Option<Reference> {
    let name = spec["artifactRepositoryRef"]["configMap"].as_str().unwrap_or("artifact-repositories");
    is_name(name).then(|| Reference { kind: Kind::ConfigMap, name: name.to_owned() })
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
        // It may as well be in the controller's namespace, or in its configuration, so it is never missed.
        if let Some(repository) = repository(spec) {
            self.found.objects.entry(repository).or_insert(true);
        }
        self.found.stores |= spec["archiveLogs"] == true;
        self.template(&spec["templateDefaults"]);
        self.hooks(&spec["hooks"]);
        if let Some(handler) = spec["onExit"].as_str() {
            self.reach(handler);
        }
        self.reach(spec["entrypoint"].as_str().unwrap_or_default());
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

    /// Takes in what a called template refers to, but for its own calls; answers with these.
    pub fn extend(&mut self, more: Self) -> BTreeSet<Call> {
        for (reference, optional) in more.objects {
            *self.objects.entry(reference).or_insert(true) &= optional;
        }
        self.stores |= more.stores;
        more.calls
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
