//! From the entrypoint through steps and tasks to the pods.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::graph::levels;
use super::load::{Group, Load};
use super::loops::Loop;
use super::pod::clipped;
use super::spec::{Arguments, Call, Checked, Dag, Fields, Hook, Item, Spec, Template, TemplateRef};
use super::workflow::{Args, Context, Frame, Scope, Workflow};
use super::{Demand, PodDemand, Templates, Unknown, pod};
use crate::resources::Resources;

/// Argo follows no more calls within each other.
const DEPTH: usize = 100;
/// What it takes to look at one call (see `Workflow::spend`).
const CALL: usize = 16;
/// The hook that comes after what it belongs to; others run beside it.
const EXIT: &str = "exit";

/// What is called: the same fields of steps, tasks and hooks.
#[derive(Clone, Copy)]
struct Target<'t> {
    name: &'t str,
    template: &'t str,
    reference: Option<&'t TemplateRef>,
    inline: Option<&'t Checked<Template>>,
    args: Args<'t>,
}

impl<'t> Target<'t> {
    fn named(template: &'t str, args: Args<'t>) -> Self {
        Self { name: template, template, reference: None, inline: None, args }
    }

    fn of_call(call: &'t Call) -> Self {
        let Call { name, template, template_ref, inline, arguments, .. } = call;
        let args = Args::Own(&arguments.parameters);
        Self { name, template, reference: template_ref.as_ref(), inline: inline.as_deref(), args }
    }

    /// An exit hook without arguments gets the workflow's.
    fn of_hook(name: &'t str, hook: &'t Hook) -> Self {
        let Hook { template, template_ref, arguments: Arguments { parameters } } = hook;
        let args = if name == EXIT && parameters.is_empty() { Args::OfWorkflow } else { Args::Own(parameters) };
        Self { name, template, reference: template_ref.as_ref(), inline: None, args }
    }
}

/// What tells calls apart, but for their inputs: the template, where it looks up others, and what its caller has to
/// say about its pod. Addresses stand for templates; all of them stay where they are during a walk.
type Called = (*const Checked<Template>, *const Fields, *const Checked<Template>);

/// A call that is known: with these inputs it asks for this.
struct Known {
    inputs: Vec<(String, Option<String>)>,
    load: Load,
}

pub(super) struct Walk<'w> {
    namespace: &'w str,
    templates: &'w dyn Templates,
    workflow: &'w Workflow<'w>,
    /// What templateRefs led to; kept, so that it stays where it is.
    loaded: HashMap<(bool, String), Option<Arc<Spec>>>,
    known: HashMap<Called, Vec<Known>>,
    demand: Demand,
    unknown: Unknown,
    /// Whether something is carried out by the agent.
    agent: bool,
    /// How deep the outermost call is that a recursion has led to: what is within it is not known for good.
    recursion: usize,
}

/// What a workflow with this spec asks for.
pub(super) fn walk(namespace: &str, spec: &Spec, templates: &dyn Templates) -> Demand {
    let reference = spec.0.workflow_template_ref.as_ref();
    let base = reference.and_then(|reference| find(namespace, reference, templates));
    let base_fields: Option<&Fields> = base.as_deref().map(|base| &*base.0);
    let workflow = Workflow::new([Some(&spec.0), base_fields]);
    let mut walk = Walk {
        namespace,
        templates,
        workflow: &workflow,
        loaded: HashMap::new(),
        known: HashMap::new(),
        demand: Demand::default(),
        unknown: Unknown::default(),
        agent: false,
        recursion: usize::MAX,
    };
    match reference {
        Some(reference) if base.is_none() => walk.unknown.add(|| missing(reference)),
        _ => walk.whole(),
    }
    for spec in [Some(spec), base.as_deref()].into_iter().flatten() {
        let defaults = spec.0.template_defaults.as_ref();
        walk.unknown.wrong("the spec", &spec.0.wrong);
        walk.unknown.wrong("templateDefaults", defaults.map_or(&[], |defaults| &defaults.wrong));
    }
    Demand { unknown: walk.unknown.0, ..walk.demand }
}

fn find(namespace: &str, reference: &TemplateRef, templates: &dyn Templates) -> Option<Arc<Spec>> {
    if reference.cluster_scope {
        templates.cluster_workflow_template(&reference.name)
    } else {
        templates.workflow_template(namespace, &reference.name)
    }
}

fn kind(reference: &TemplateRef) -> &'static str {
    if reference.cluster_scope { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" }
}

fn missing(reference: &TemplateRef) -> String {
    format!("there is no {} {:?}", kind(reference), clipped(&reference.name))
}

impl<'w> Walk<'w> {
    fn whole(&mut self) {
        let (workflow, scope) = (self.workflow, self.workflow.scope());
        let Some(entrypoint) = workflow.text(|spec| &spec.entrypoint) else {
            return self.unknown.add(|| "the spec names no entrypoint".to_owned());
        };
        let (mut load, _) = self.call(Target::named(entrypoint, Args::OfWorkflow), scope, None, None);
        let hooks: BTreeMap<&str, &Hook> =
            workflow.specs().rev().flat_map(|spec| &spec.hooks).map(|(name, hook)| (name.as_str(), hook)).collect();
        for (name, hook) in hooks.iter().filter(|(name, _)| **name != EXIT) {
            load.beside(&self.call(Target::of_hook(name, hook), scope, None, None).0);
        }
        let exit = match workflow.text(|spec| &spec.on_exit) {
            Some(template) => Some(Target::named(template, Args::OfWorkflow)),
            None => hooks.get(EXIT).map(|hook| Target::of_hook(EXIT, hook)),
        };
        if let Some(exit) = exit {
            let exit = self.call(exit, scope, None, None).0;
            load.then(&exit);
        }
        let pods = u64::try_from(load.total.get("pods")).unwrap_or_default();
        let largest = load.pod.clone();
        load.cap(workflow.specs().find_map(|spec| spec.parallelism), pods, &largest);
        if self.agent {
            // The agent is there all the time, and no parallelism counts it.
            let agent = pod::of_agent(workflow);
            load.total.add(&agent.requests);
            self.keep(agent);
        }
        self.demand.peak = load.total;
    }

    /// What a call asks for, and whether that depends on the item of the loop that it is in.
    fn call(&mut self, target: Target, scope: Scope, caller: Option<&Frame>, item: Option<&Item>) -> (Load, bool) {
        let loaded;
        let (scope, found) = match (target.inline, target.reference) {
            (Some(inline), _) => (scope, Some(inline)),
            (None, None) => (scope, scope.template(target.template)),
            (None, Some(reference)) => {
                let Some(spec) = self.load(reference) else { return Default::default() };
                loaded = spec;
                let scope = Scope { specs: [Some(&*loaded.0), None], owner: Some(&reference.name) };
                (scope, scope.template(&reference.template))
            }
        };
        let Some(template) = found else {
            self.unknown.add(|| match target.reference {
                Some(reference) => format!(
                    "{} {:?} has no template {:?}",
                    kind(reference),
                    clipped(&reference.name),
                    clipped(&reference.template)
                ),
                None => format!("there is no template {:?}", clipped(target.template)),
            });
            return Default::default();
        };
        let frame = Frame {
            caller,
            scope,
            template,
            name: if target.inline.is_some() { target.name } else { &template.name },
            args: target.args,
            item,
            depth: caller.map_or(0, |caller| caller.depth + 1),
            consulted: RefCell::default(),
            item_used: Cell::new(false),
        };
        let load = self.visit(&frame);
        (load, frame.item_used.get())
    }

    fn load(&mut self, reference: &TemplateRef) -> Option<Arc<Spec>> {
        let key = (reference.cluster_scope, reference.name.clone());
        let find = || find(self.namespace, reference, self.templates);
        let spec = self.loaded.entry(key).or_insert_with(find).clone();
        if spec.is_none() {
            self.unknown.add(|| missing(reference));
        }
        spec
    }

    fn visit(&mut self, frame: &Frame) -> Load {
        if !self.workflow.spend(1 + frame.depth / 4) {
            self.too_much();
            return Load::default();
        }
        if let Some(outer) = outer(frame) {
            // What a recursion asks for comes after what it was called from, and is the same.
            self.recursion = self.recursion.min(outer.depth);
            return Load::default();
        }
        if frame.depth >= DEPTH {
            self.unknown.add(|| format!("beyond {DEPTH} calls within each other nothing is looked at"));
            return Load::default();
        }
        let called = called(frame);
        if let Some(known) = self.known(&called, frame) {
            return known;
        }
        self.workflow.spend(CALL);
        self.unknown.wrong(&format!("template {:?}", frame.label()), &frame.template.wrong);
        let load = self.template(frame);
        self.workflow.spend(load.total.len());
        if self.recursion >= frame.depth {
            self.recursion = usize::MAX;
            let inputs = frame.consulted.borrow().clone();
            self.known.entry(called).or_default().push(Known { inputs, load: load.clone() });
        }
        load
    }

    fn known(&self, called: &Called, frame: &Frame) -> Option<Load> {
        let known = self.known.get(called)?;
        let is_same = |known: &&Known| {
            self.workflow.spend(1)
                && known.inputs.iter().all(|(name, value)| self.workflow.input(frame, name) == *value)
        };
        let load = known.iter().find(is_same)?.load.clone();
        // Many calls of what asks for many resources take their time.
        self.workflow.spend(CALL / 4 + load.total.len());
        Some(load)
    }

    /// In the order in which Argo asks of what kind a template is.
    fn template(&mut self, frame: &Frame) -> Load {
        let template = frame.template;
        if template.container.is_some() || template.container_set.is_some() {
            self.pod(frame)
        } else if let Some(groups) = &template.steps {
            self.one_by_one(frame, groups.iter().map(|group| group.iter()))
        } else if let Some(dag) = &template.dag {
            let target = self.target(frame, dag);
            self.one_by_one(frame, levels(dag, &target).into_iter().map(Vec::into_iter))
        } else if template.script.is_some() || template.resource.is_some() || template.data.is_some() {
            self.pod(frame)
        } else if template.suspend.is_some() {
            Load::default()
        } else if template.http.is_some() || template.plugin.is_some() {
            self.agent = true;
            Load::default()
        } else {
            self.unknown.add(|| format!("template {:?} is of no known kind", frame.label()));
            Load::default()
        }
    }

    fn pod(&mut self, frame: &Frame) -> Load {
        let pod = pod::of_template(self.workflow, frame, &mut self.unknown);
        let mut load = Load::of_pod(pod.requests.clone());
        self.keep(pod);
        let daemon = self.workflow.layers(frame.template).find_map(|layer| layer.daemon);
        if daemon == Some(true) {
            load.lasting = load.total.clone();
        }
        load
    }

    fn too_much(&mut self) {
        self.unknown.add(|| "there are too many calls to look at all of them".to_owned());
    }

    fn keep(&mut self, pod: PodDemand) {
        if !self.demand.keep(pod) {
            self.unknown.add(|| "there are too many different pods to look at all of them".to_owned());
        }
    }

    fn one_by_one<'c>(&mut self, frame: &Frame, groups: impl Iterator<Item = impl Iterator<Item = &'c Call>>) -> Load {
        let parallelism = self.workflow.layers(frame.template).find_map(|layer| layer.parallelism);
        let mut load = Load::default();
        for calls in groups {
            if !self.workflow.spend(1 + load.lasting.len()) {
                self.too_much();
                break;
            }
            let mut group = Group::default();
            calls.for_each(|call| self.loops(frame, call, &mut group));
            load.then(&group.capped(parallelism));
        }
        // Daemons end with the template that calls them.
        load.lasting = Resources::default();
        load
    }

    fn target(&mut self, frame: &Frame, dag: &Dag) -> String {
        let target = self.workflow.resolve(&dag.target, Context::within(frame));
        if target.is_none() {
            self.unknown.add(|| format!("the target of template {:?} is known only at run time", frame.label()));
        }
        target.unwrap_or_default().into_owned()
    }

    /// A call as often as it is made at one time.
    fn loops(&mut self, frame: &Frame, call: &Call, group: &mut Group) {
        let Loop { items, times } = Loop::of(self.workflow, frame, call).unwrap_or_else(|| {
            let (template, call) = (frame.label(), clipped(&call.name));
            self.unknown.add(|| format!("how often template {template:?} repeats {call:?} is known only at run time"));
            Loop::once()
        });
        if times == 0 {
            return;
        }
        let (load, item_matters) = self.with_hooks(frame, call, items.first());
        if !item_matters {
            return group.add(load, times);
        }
        group.add(load, 1);
        for item in &items[1..] {
            group.add(self.with_hooks(frame, call, Some(item)).0, 1);
        }
    }

    fn with_hooks(&mut self, frame: &Frame, call: &Call, item: Option<&Item>) -> (Load, bool) {
        let (mut load, mut item_matters) = self.call(Target::of_call(call), frame.scope, Some(frame), item);
        let mut hook = |target| {
            let (load, matters) = self.call(target, frame.scope, Some(frame), item);
            item_matters |= matters;
            load
        };
        for (name, beside) in call.hooks.iter().filter(|(name, _)| *name != EXIT) {
            load.beside(&hook(Target::of_hook(name, beside)));
        }
        if !call.on_exit.is_empty() {
            load.then(&hook(Target::named(&call.on_exit, Args::OfWorkflow)));
        } else if let Some(exit) = call.hooks.get(EXIT) {
            load.then(&hook(Target::of_hook(EXIT, exit)));
        }
        (load, item_matters)
    }
}

/// The call of the same template that the frame is within.
fn outer<'f>(frame: &Frame<'f>) -> Option<&'f Frame<'f>> {
    std::iter::successors(frame.caller, |outer| outer.caller).find(|outer| std::ptr::eq(outer.template, frame.template))
}

fn called(frame: &Frame) -> Called {
    let home = frame.scope.specs[0].map_or(std::ptr::null(), std::ptr::from_ref);
    let boundary = frame.caller.map(|caller| caller.template).filter(|template| {
        !template.node_selector.is_empty() || !template.tolerations.is_empty() || template.affinity.is_some()
    });
    (frame.template, home, boundary.map_or(std::ptr::null(), std::ptr::from_ref))
}
