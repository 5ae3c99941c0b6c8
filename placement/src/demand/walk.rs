//! From the entrypoint through steps and tasks to the pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::pod::{Around, pod};
use super::spec::{Arguments, Call, Fields, Hook, Sequence, Spec, Template, TemplateRef, Text};
use super::values::{Scope, Values, of_call, of_workflow};
use super::{Demand, Templates};
use crate::resources::Resources;

/// Calls beyond these are not looked at: a spec can be made to have more than anybody can wait for.
const CALLS: usize = 5_000;

/// Where a template is looked up by its name: the workflow, or the WorkflowTemplate that a templateRef led to.
#[derive(Clone, Copy)]
struct Home<'a> {
    fields: &'a Fields,
    /// Tells homes apart.
    id: usize,
}

/// What has been called, with which inputs.
type Visited = (usize, String, Values);

struct Walk<'a, 'd> {
    namespace: &'a str,
    templates: &'a dyn Templates,
    workflow: [Option<&'a Fields>; 2],
    parameters: Values,
    demand: &'d mut Demand,
    /// Peaks of what has been walked.
    known: HashMap<Visited, Resources>,
    /// Templates that are being walked: a call of one of these is a recursion.
    open: Vec<(usize, String)>,
    calls: usize,
}

pub(super) fn walk(namespace: &str, spec: &Spec, templates: &dyn Templates, demand: &mut Demand) {
    let reference = spec.fields.workflow_template_ref.as_ref();
    let base = reference.and_then(|reference| find(namespace, reference, templates));
    for unreadable in [Some(spec), base.as_deref()].into_iter().flatten().filter_map(|spec| spec.unreadable.as_ref()) {
        demand.unknown(format!("spec cannot be read: {unreadable}"));
    }
    if let (Some(reference), None) = (reference, &base) {
        demand.unknown(missing(reference));
    }
    let own = &spec.fields;
    let base = base.as_deref().map(|spec| &spec.fields);
    let both = [Some(own), base];
    let mut walk = Walk {
        namespace,
        templates,
        workflow: both,
        parameters: of_workflow(both.map(|fields| fields.and_then(|fields| fields.arguments.as_ref()))),
        demand,
        known: HashMap::new(),
        open: Vec::new(),
        calls: 0,
    };
    // A workflow that is made from a template has no templates of its own.
    let home = Home { fields: base.unwrap_or(own), id: 0 };
    let first = |field: fn(&Fields) -> Option<&String>| both.into_iter().flatten().find_map(field);
    let mut peak = Resources::default();
    for name in
        [first(|fields| fields.entrypoint.as_ref()), first(|fields| fields.on_exit.as_ref())].into_iter().flatten()
    {
        let call = Call { template: Some(name.clone()), ..Call::default() };
        let none = Values::new();
        peak.max(&walk.call(&call, home, None, &none));
    }
    for hooks in both.into_iter().flatten().filter_map(|fields| fields.hooks.as_ref()) {
        let hooks = walk.hooks(hooks, home, None, &Values::new());
        peak.max(&hooks);
    }
    let parallelism = both.into_iter().flatten().find_map(|fields| fields.parallelism);
    walk.demand.peak = capped(peak, parallelism);
}

fn find(namespace: &str, reference: &TemplateRef, templates: &dyn Templates) -> Option<Arc<Spec>> {
    let name = reference.name.as_deref()?;
    if reference.cluster_scope {
        templates.cluster_workflow_template(name)
    } else {
        templates.workflow_template(namespace, name)
    }
}

fn missing(reference: &TemplateRef) -> String {
    let kind = if reference.cluster_scope { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
    format!("there is no {kind} {:?}", reference.name.as_deref().unwrap_or_default())
}

impl Walk<'_, '_> {
    /// What all pods that come of one call ask for at one time at most.
    fn call(&mut self, call: &Call, home: Home, caller: Option<&Template>, inputs: &Values) -> Resources {
        let name = call.name.as_deref().unwrap_or_default();
        self.calls += 1;
        if self.calls > CALLS {
            self.demand.unknown(format!("it has more than {CALLS} calls; the others were not looked at"));
            return Resources::default();
        }
        let times = self.times(call, inputs);
        let mut peak = match (&call.inline, &call.template_ref) {
            (Some(inline), _) => self.template(inline, name, call.arguments.as_ref(), home, caller, inputs),
            (None, Some(reference)) => self.referenced(reference, call.arguments.as_ref(), caller, inputs),
            (None, None) => self.named(call.template.as_deref(), call.arguments.as_ref(), home, caller, inputs),
        };
        peak.times(times);
        if let Some(exit) = &call.on_exit {
            peak.max(&self.named(Some(exit), None, home, caller, inputs));
        }
        if let Some(hooks) = &call.hooks {
            peak.add(&self.hooks(hooks, home, caller, inputs));
        }
        peak
    }

    fn hooks(
        &mut self,
        hooks: &BTreeMap<String, Hook>,
        home: Home,
        caller: Option<&Template>,
        inputs: &Values,
    ) -> Resources {
        let mut peak = Resources::default();
        for hook in hooks.values() {
            let arguments = hook.arguments.as_ref();
            peak.max(&match &hook.template_ref {
                Some(reference) => self.referenced(reference, arguments, caller, inputs),
                None => self.named(hook.template.as_deref(), arguments, home, caller, inputs),
            });
        }
        peak
    }

    fn referenced(
        &mut self,
        reference: &TemplateRef,
        arguments: Option<&Arguments>,
        caller: Option<&Template>,
        inputs: &Values,
    ) -> Resources {
        let Some(found) = find(self.namespace, reference, self.templates) else {
            self.demand.unknown(missing(reference));
            return Resources::default();
        };
        // The same object has the same address for as long as it is known.
        let home = Home { fields: &found.fields, id: Arc::as_ptr(&found) as usize };
        self.named(reference.template.as_deref(), arguments, home, caller, inputs)
    }

    fn named(
        &mut self,
        name: Option<&str>,
        arguments: Option<&Arguments>,
        home: Home,
        caller: Option<&Template>,
        inputs: &Values,
    ) -> Resources {
        let name = name.unwrap_or_default();
        let Some(template) = home.fields.templates.iter().find(|template| template.name.as_deref() == Some(name))
        else {
            self.demand.unknown(format!("there is no template {name:?}"));
            return Resources::default();
        };
        self.template(template, name, arguments, home, caller, inputs)
    }

    fn template(
        &mut self,
        template: &Template,
        name: &str,
        arguments: Option<&Arguments>,
        home: Home,
        caller: Option<&Template>,
        inputs: &Values,
    ) -> Resources {
        let parameters = std::mem::take(&mut self.parameters);
        let own = of_call(template.inputs.as_ref(), arguments, Scope { workflow: &parameters, inputs });
        self.parameters = parameters;
        let frame = (home.id, name.to_owned());
        // What a recursion asks for comes after what it was called from, and is the same.
        if self.open.contains(&frame) {
            return Resources::default();
        }
        let visited = (home.id, name.to_owned(), own);
        if let Some(peak) = self.known.get(&visited) {
            return peak.clone();
        }
        self.open.push(frame);
        let own = &visited.2;
        let peak = if let Some(groups) = &template.steps {
            let groups: Vec<Resources> =
                groups.iter().map(|group| self.together(group.iter(), home, template, own)).collect();
            largest(groups)
        } else if let Some(dag) = &template.dag {
            let levels: Vec<Resources> = levels(&dag.tasks)
                .into_iter()
                .map(|level| self.together(level.into_iter(), home, template, own))
                .collect();
            largest(levels)
        } else {
            self.leaf(template, name, home, caller, own)
        };
        self.open.pop();
        let peak = capped(peak, template.parallelism);
        self.known.insert(visited, peak.clone());
        peak
    }

    fn together<'c>(
        &mut self,
        calls: impl Iterator<Item = &'c Call>,
        home: Home,
        caller: &Template,
        inputs: &Values,
    ) -> Resources {
        let mut sum = Resources::default();
        for call in calls {
            sum.add(&self.call(call, home, Some(caller), inputs));
        }
        sum
    }

    /// A template that is not made of calls.
    fn leaf(
        &mut self,
        template: &Template,
        name: &str,
        home: Home,
        caller: Option<&Template>,
        inputs: &Values,
    ) -> Resources {
        let has_containers =
            template.container.is_some() || template.script.is_some() || template.container_set.is_some();
        let has_pod = has_containers
            || template.resource.is_some()
            || template.data.is_some()
            || template.http.is_some()
            || template.plugin.is_some();
        if !has_pod {
            return Resources::default();
        }
        let around = Around { caller, workflow: self.workflow, defaults: home_defaults(self.workflow, home) };
        let pod = pod(template, name, around, Scope { workflow: &self.parameters, inputs }, self.demand);
        let requests = pod.requests.clone();
        self.demand.pod(pod);
        requests
    }

    /// How many pods a loop makes of one call.
    fn times(&mut self, call: &Call, inputs: &Values) -> u64 {
        let scope = Scope { workflow: &self.parameters, inputs };
        let times = match call {
            Call { with_items: Some(items), .. } => Some(items.len()),
            Call { with_param: Some(Text(text)), .. } => scope
                .resolve(text)
                .and_then(|list| serde_json::from_str::<Vec<serde::de::IgnoredAny>>(&list).ok())
                .map(|list| list.len()),
            Call { with_sequence: Some(sequence), .. } => length(sequence, scope),
            _ => return 1,
        };
        let Some(times) = times else {
            let name = call.name.as_deref().unwrap_or_default();
            self.demand.unknown(format!("how often {name:?} is repeated is known only at run time"));
            return 1;
        };
        u64::try_from(times).unwrap_or(u64::MAX)
    }
}

fn home_defaults<'a>(workflow: [Option<&'a Fields>; 2], home: Home<'a>) -> Option<&'a Template> {
    workflow.into_iter().flatten().chain([home.fields]).find_map(|fields| fields.template_defaults.as_ref())
}

fn length(sequence: &Sequence, scope: Scope) -> Option<usize> {
    let number =
        |text: &Option<Text>| text.as_ref().and_then(|Text(text)| scope.resolve(text)?.trim().parse::<i64>().ok());
    if sequence.count.is_some() {
        return usize::try_from(number(&sequence.count)?).ok();
    }
    let start = if sequence.start.is_some() { number(&sequence.start)? } else { 0 };
    usize::try_from(number(&sequence.end)?.abs_diff(start).saturating_add(1)).ok()
}

fn largest(parts: Vec<Resources>) -> Resources {
    let mut largest = Resources::default();
    parts.iter().for_each(|part| largest.max(part));
    largest
}

/// Of so many pods, those that may run at one time.
fn capped(mut peak: Resources, parallelism: Option<i64>) -> Resources {
    let pods = u64::try_from(peak.get("pods")).unwrap_or_default();
    match parallelism.and_then(|most| u64::try_from(most).ok()) {
        Some(most) if most > 0 && pods > most => peak.share(most, pods),
        _ => {}
    }
    peak
}

/// Tasks by how many others come before them: those of one level may run at the same time.
fn levels(tasks: &[Call]) -> Vec<Vec<&Call>> {
    let by_name: HashMap<&str, usize> =
        tasks.iter().enumerate().filter_map(|(i, task)| Some((task.name.as_deref()?, i))).collect();
    let before: Vec<Vec<usize>> =
        tasks.iter().map(|task| names(task).filter_map(|name| by_name.get(name).copied()).collect()).collect();
    let mut level = vec![0; tasks.len()];
    // Each round settles one level more; a cycle, which Argo refuses, ends with the rounds.
    for _ in 0..tasks.len() {
        let next: Vec<usize> =
            before.iter().map(|before| before.iter().map(|i| level[*i] + 1).max().unwrap_or_default()).collect();
        let is_settled = next == level;
        level = next;
        if is_settled {
            break;
        }
    }
    let mut levels: BTreeMap<usize, Vec<&Call>> = BTreeMap::new();
    for (task, level) in tasks.iter().zip(level) {
        levels.entry(level).or_default().push(task);
    }
    levels.into_values().collect()
}

/// The tasks that a task names as coming before it: in a list, or in an expression such as `a && (b.Failed || !c)`.
fn names(task: &Call) -> impl Iterator<Item = &str> {
    let words =
        task.depends.as_deref().unwrap_or_default().split(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)));
    let named = words.map(|word| word.split('.').next().unwrap_or_default()).filter(|word| !word.is_empty());
    task.dependencies.iter().map(String::as_str).chain(named)
}
