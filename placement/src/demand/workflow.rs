//! What holds for all of a workflow, and the values that its parameters have before a run.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};

use super::lenient::Text;
use super::spec::{Affinity, Checked, Fields, Item, Parameter, Requirements, Template, Tolerated};

/// How much is looked at, in units of about half a microsecond: a spec can be made to unfold into more than
/// anybody can wait for.
const FUEL: usize = 1 << 18;
/// Parameters of a workflow may refer to others; not in circles.
const REFERENCES: usize = 8;

/// The specs that say what holds for the workflow: its own, and the one that its workflowTemplateRef leads to. What
/// both say, the first decides.
pub(super) struct Workflow<'w> {
    specs: [Option<&'w Fields>; 2],
    parameters: HashMap<&'w str, &'w Parameter>,
    fuel: Cell<usize>,
}

/// Where templates are looked up by name: in the workflow, or in what a templateRef led to.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s> {
    pub(super) specs: [Option<&'s Fields>; 2],
    /// The name of what a templateRef led to.
    pub(super) owner: Option<&'s str>,
}

impl<'s> Scope<'s> {
    pub(super) fn template(&self, name: &str) -> Option<&'s Checked<Template>> {
        self.specs.into_iter().flatten().find_map(|spec| spec.templates.get(name))
    }
}

/// Arguments of a call.
#[derive(Clone, Copy)]
pub(super) enum Args<'f> {
    Own(&'f [Parameter]),
    /// The workflow's, for the entrypoint and for exit handlers.
    OfWorkflow,
}

/// A call of a template.
pub(super) struct Frame<'f> {
    /// The call that made this one, of a template with steps or tasks.
    pub(super) caller: Option<&'f Frame<'f>>,
    pub(super) scope: Scope<'f>,
    pub(super) template: &'f Checked<Template>,
    /// The template's name, or the call's, if the template is inline.
    pub(super) name: &'f str,
    pub(super) args: Args<'f>,
    /// What the loop in the caller has reached.
    pub(super) item: Option<&'f Item>,
    pub(super) depth: usize,
    /// The inputs that mattered, and their values: a call with the same of these asks for the same.
    pub(super) consulted: RefCell<Vec<(String, Option<String>)>>,
    /// Whether the item mattered.
    pub(super) item_used: Cell<bool>,
}

impl Frame<'_> {
    /// How the template is named to people.
    pub(super) fn label(&self) -> String {
        self.scope.owner.map_or_else(|| self.name.to_owned(), |owner| format!("{owner}/{}", self.name))
    }
}

/// What the variables in a text refer to.
#[derive(Clone, Copy, Default)]
pub(super) struct Context<'c> {
    /// The call in which the text stands: `inputs`.
    pub(super) frame: Option<&'c Frame<'c>>,
    /// `item`, and the place to note that it was asked for.
    pub(super) item: Option<(&'c Item, &'c Cell<bool>)>,
    references: usize,
}

impl<'c> Context<'c> {
    /// Of a text in the frame's template.
    pub(super) fn within(frame: &'c Frame<'c>) -> Self {
        Self { frame: Some(frame), ..Self::default() }
    }

    /// Of a text in the arguments of the frame's call.
    fn of_call(frame: &'c Frame<'c>) -> Self {
        Self { frame: frame.caller, item: frame.item.map(|item| (item, &frame.item_used)), references: 0 }
    }
}

impl<'w> Workflow<'w> {
    pub(super) fn new(specs: [Option<&'w Fields>; 2]) -> Self {
        let mut parameters = HashMap::new();
        for parameter in specs.into_iter().flatten().flat_map(|spec| &spec.arguments.parameters) {
            let slot = parameters.entry(parameter.name.as_str()).or_insert(parameter);
            if slot.value.is_none() && slot.value_from.is_none() {
                *slot = parameter;
            }
        }
        Self { specs, parameters, fuel: Cell::new(FUEL) }
    }

    pub(super) fn scope(&self) -> Scope<'w> {
        Scope { specs: self.specs, owner: None }
    }

    pub(super) fn specs(&self) -> impl DoubleEndedIterator<Item = &'w Fields> + use<'w> {
        self.specs.into_iter().flatten()
    }

    /// The first text that is not empty.
    pub(super) fn text(&self, of: fn(&Fields) -> &String) -> Option<&'w str> {
        self.specs().map(|spec| of(spec).as_str()).find(|text| !text.is_empty())
    }

    /// The template, and the defaults for what it leaves open.
    pub(super) fn layers<'t>(&self, template: &'t Template) -> impl Iterator<Item = &'t Template> + Clone + use<'w, 't>
    where
        'w: 't,
    {
        let defaults = self.specs.into_iter().flatten().filter_map(|spec| spec.template_defaults.as_deref());
        std::iter::once(template).chain(defaults)
    }

    pub(super) fn node_selector(&self) -> BTreeMap<&'w str, &'w str> {
        merged(self.specs().map(|spec| &spec.node_selector))
    }

    pub(super) fn tolerations(&self) -> Vec<&'w Tolerated> {
        tolerations(self.specs().map(|spec| &spec.tolerations))
    }

    pub(super) fn affinity(&self) -> Option<&'w Affinity> {
        self.specs().find_map(|spec| spec.affinity.as_ref())
    }

    pub(super) fn pod_resources(&self) -> Option<&'w Requirements> {
        self.specs().find_map(|spec| spec.pod_resources.as_ref())
    }

    /// Notes so much work, and says whether there is enough left for it.
    pub(super) fn spend(&self, units: usize) -> bool {
        let left = self.fuel.get().checked_sub(units);
        self.fuel.set(left.unwrap_or_default());
        left.is_some()
    }

    /// The text with values in the place of `{{…}}`. `None` if one of them is not known.
    pub(super) fn resolve<'t>(&self, text: &'t str, context: Context) -> Option<Cow<'t, str>> {
        let Some((before, mut rest)) = text.split_once("{{") else { return Some(Cow::Borrowed(text)) };
        let mut resolved = before.to_owned();
        loop {
            let (name, after) = rest.split_once("}}")?;
            resolved.push_str(&self.value(name.trim(), context)?);
            if !self.spend(resolved.len() / 16 + 2) {
                return None;
            }
            let (plain, next) = after.split_once("{{").unwrap_or((after, ""));
            resolved.push_str(plain);
            if plain.len() == after.len() {
                return Some(Cow::Owned(resolved));
            }
            rest = next;
        }
    }

    fn value(&self, name: &str, context: Context) -> Option<String> {
        if let Some(name) = name.strip_prefix("inputs.parameters.") {
            return self.input(context.frame?, name);
        }
        if let Some(name) = name.strip_prefix("workflow.parameters.") {
            return self.parameter(name, context.references);
        }
        let key = name.strip_prefix("item")?;
        let (item, used) = context.item?;
        used.set(true);
        let text = match item {
            Item::Text(text) if key.is_empty() => text,
            Item::Map(map) => &map.get(key.strip_prefix('.')?)?.0,
            _ => return None,
        };
        self.resolve(text, Context { item: None, ..context }).map(Cow::into_owned)
    }

    /// A parameter of the workflow.
    fn parameter(&self, name: &str, references: usize) -> Option<String> {
        let Text(text) = self.parameters.get(name)?.value.as_ref()?;
        let context = Context { references: references + 1, ..Context::default() };
        if context.references > REFERENCES {
            return None;
        }
        self.resolve(text, context).map(Cow::into_owned)
    }

    /// An input of a call. Argo lets in only what the template declares.
    pub(super) fn input(&self, frame: &Frame, name: &str) -> Option<String> {
        if let Some((_, value)) = frame.consulted.borrow().iter().find(|(known, _)| known == name) {
            return value.clone();
        }
        if !self.spend(frame.consulted.borrow().len()) {
            return None;
        }
        let declared = self.layers(frame.template).find_map(|layer| self.find(&layer.inputs.parameters, name));
        let value = declared.and_then(|declared| {
            let given = match frame.args {
                Args::Own(parameters) => self.find(parameters, name),
                Args::OfWorkflow => self.parameters.get(name).copied(),
            };
            let source = given.filter(|given| given.value.is_some() || given.value_from.is_some());
            let (source, context) = match (source, frame.args) {
                (Some(given), Args::Own(_)) => (given, Context::of_call(frame)),
                (Some(given), Args::OfWorkflow) => (given, Context::default()),
                (None, _) => (declared, Context::default()),
            };
            let default = source.default.as_ref().filter(|_| source.value_from.is_none());
            let Text(text) = source.value.as_ref().or(default)?;
            self.resolve(text, context).map(Cow::into_owned)
        });
        frame.consulted.borrow_mut().push((name.to_owned(), value.clone()));
        value
    }

    fn find<'p>(&self, parameters: &'p [Parameter], name: &str) -> Option<&'p Parameter> {
        if !self.spend(parameters.len() / 16) {
            return None;
        }
        parameters.iter().find(|parameter| parameter.name == name)
    }
}

/// By key, the first that has it.
pub(super) fn merged<'m>(maps: impl Iterator<Item = &'m BTreeMap<String, String>>) -> BTreeMap<&'m str, &'m str> {
    let mut merged = BTreeMap::new();
    for (key, value) in maps.flatten() {
        merged.entry(key.as_str()).or_insert(value.as_str());
    }
    merged
}

/// By key, those of the first list that has it.
pub(super) fn tolerations<'m>(lists: impl Iterator<Item = &'m Vec<Tolerated>>) -> Vec<&'m Tolerated> {
    let mut all: Vec<&Tolerated> = Vec::new();
    let mut keys = HashSet::new();
    for list in lists {
        let above = all.len();
        all.extend(list.iter().filter(|toleration| !keys.contains(&toleration.key)));
        keys.extend(all[above..].iter().map(|toleration| &toleration.key));
    }
    all
}
