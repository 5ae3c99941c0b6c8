//! Parameters that are known before a run.

use std::collections::BTreeMap;

use super::spec::{Arguments, Text};

/// What parameters stand for; `None` for one that only a run can tell.
pub(super) type Values = BTreeMap<String, Option<String>>;

/// The parameters that a text may refer to.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// `workflow.parameters.*`.
    pub(super) workflow: &'a Values,
    /// `inputs.parameters.*`.
    pub(super) inputs: &'a Values,
}

impl Scope<'_> {
    /// Puts values in the place of `{{…}}`. `None` if one of them is not known.
    pub(super) fn resolve(&self, text: &str) -> Option<String> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}")?;
            resolved.push_str(before);
            resolved.push_str(self.value(name.trim())?);
            rest = after;
        }
        resolved.push_str(rest);
        Some(resolved)
    }

    fn value(&self, name: &str) -> Option<&str> {
        let value = match name.strip_prefix("workflow.parameters.") {
            Some(name) => self.workflow.get(name),
            None => self.inputs.get(name.strip_prefix("inputs.parameters.")?),
        };
        value?.as_deref()
    }
}

/// A workflow's own parameters: its arguments go before those of the template that it is made from.
pub(super) fn of_workflow(arguments: [Option<&Arguments>; 2]) -> Values {
    let mut values = Values::new();
    for parameter in arguments.into_iter().flatten().flat_map(|arguments| &arguments.parameters) {
        let value = parameter.value.as_ref().or(parameter.default.as_ref());
        values.entry(parameter.name.clone()).or_insert_with(|| value.map(|Text(text)| text.clone()));
    }
    values
}

/// The inputs of a template that is called with these arguments.
pub(super) fn of_call(inputs: Option<&Arguments>, arguments: Option<&Arguments>, caller: Scope) -> Values {
    let given = |name: &str| {
        let argument = arguments?.parameters.iter().find(|argument| argument.name == name)?;
        // An argument without a value comes from somewhere that only a run can tell.
        Some(argument.value.as_ref().and_then(|Text(text)| caller.resolve(text)))
    };
    let inputs = inputs.into_iter().flat_map(|inputs| &inputs.parameters);
    let value = |text: &Option<Text>| text.as_ref().and_then(|Text(text)| caller.resolve(text));
    inputs
        .map(|input| {
            let own = || value(&input.value).or_else(|| value(&input.default));
            (input.name.clone(), given(&input.name).unwrap_or_else(own))
        })
        .collect()
}
