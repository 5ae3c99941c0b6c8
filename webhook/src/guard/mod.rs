//! The guard: the webhook's second half, asked when a routed workflow is changed.
//!
//! Argo's commands write what they wish into the workflow itself: `argo resume` takes `spec.suspend` off, which here
//! would start a second run; `argo retry` prunes a status that is another cluster's. The guard recognises what they
//! write, puts it down as an intent for the copy, and gives the original its old values back. What it does not recognise
//! it leaves as it is, all of it: the fence refuses that, and tells the user why. So of a whole write either nothing is
//! the guard's, or everything that would offend the fence is.
//!
//! Two things stay where the user wrote them, because the commands read them again: changes to Suspend nodes that were
//! waiting, and that a retried workflow runs.

mod equal;
mod fields;
mod ledger;
mod nodes;
mod spec;
mod status;

use argosy_api::{Intent, Retry, Wish, Workflow, names};
use json_patch::Patch;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::edits::Edits;
use crate::view::value;
use spec::Spec;
use status::Status;

/// A Workflow before or after a write.
pub(crate) type Object<'a> = Workflow<&'a RawValue, &'a RawValue>;

/// The answer about one write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// As the user wrote it.
    Leave,
    /// With this patch, which notes this intent.
    Change { patch: Patch, intent: Option<Intent> },
    /// Not at all. `status` is the HTTP status for the user.
    Refuse { status: u16, message: String },
}

/// What a write is made of.
struct Write {
    is_retry: bool,
    spec: Spec,
    status: Status,
}

/// The answer, from the object as it was and as the user wants it.
pub(crate) fn answer(workflow: &str, old: &Object, new: &Object) -> Answer {
    let Some(write) = recognise(old, new) else { return Answer::Leave };
    let Write { is_retry, mut spec, mut status } = write;
    let mut operations = Vec::new();

    let (labels, mut annotations) = (new.metadata.labels.as_ref(), Edits::default());
    if is_retry {
        let mut edits = Edits::default();
        for (key, wanted) in [(names::ARGO_COMPLETED, "false"), (names::ARGO_PHASE, "Running")] {
            edits.want(key, Some(wanted.to_owned()), value(labels, key));
        }
        edits.append("labels", labels.is_some(), &mut operations);
    }
    let present = new.metadata.annotations.as_ref();
    if spec.resumed && value(present, names::SUSPEND) == Some("true") {
        // The wish that the copy be suspended is a state, and so is its end.
        annotations.want(names::SUSPEND, None, value(present, names::SUSPEND));
    }
    let restore = [std::mem::take(&mut spec.restore), std::mem::take(&mut status.restore)].concat();
    let noted = wish(is_retry, spec, status).map(|wish| ledger::note(wish, old.metadata.annotations.as_ref(), present));
    let intent = match noted.transpose() {
        Ok(noted) => noted.flatten().map(|(list, intent)| {
            annotations.want(names::INTENTS, Some(list), value(present, names::INTENTS));
            intent
        }),
        Err(error) => {
            return Answer::Refuse { status: error.status(), message: format!("Workflow {workflow}: {error}") };
        }
    };
    annotations.append("annotations", present.is_some(), &mut operations);
    operations.extend(restore);
    if operations.is_empty() { Answer::Leave } else { Answer::Change { patch: Patch(operations), intent } }
}

/// `None`: something about it is nothing that the guard knows.
fn recognise(old: &Object, new: &Object) -> Option<Write> {
    let cluster = |object| label(object, names::CLUSTER).filter(|cluster| *cluster != names::LOCAL);
    let is_same = |old: Option<&RawValue>, new: Option<&RawValue>| old.map(RawValue::get) == new.map(RawValue::get);
    let is_untouched = is_same(old.spec, new.spec) && is_same(old.status, new.status);
    if cluster(old)? != cluster(new)? || is_untouched {
        return None;
    }
    let spec = (fields::read(old.spec)?, fields::read(new.spec)?);
    if !spec::is_suspended(&spec.0) {
        return None;
    }
    let status = (optional(old.status)?, optional(new.status)?);
    let is_retry = status.1.as_ref().is_some_and(|status| is_retry(old, new, status));
    Some(Write {
        is_retry,
        spec: spec::read(&spec.0, &spec.1, is_retry, value(old.metadata.annotations.as_ref(), names::SYNCHRONIZATION))?,
        status: status::read(status.0.as_ref(), status.1.as_ref(), is_retry)?,
    })
}

/// Whether a finished workflow is to run again. Argo 3 makes its phase Running, Argo 4 empties it.
fn is_retry(old: &Object, new: &Object, status: &fields::Fields) -> bool {
    let is_completed = |object| label(object, names::ARGO_COMPLETED) == Some("true");
    let runs = |phase: Value| equal::is_empty(&phase) || phase == "Running";
    is_completed(old) && !is_completed(new) && status::phase(status).is_some_and(runs)
}

fn wish(is_retry: bool, spec: Spec, status: Status) -> Option<Wish> {
    let Status { nodes, outputs, retried, .. } = status;
    if is_retry {
        let retry = Retry { removed: nodes.removed, reset: nodes.reset, status: retried, spec: spec.retried };
        return Some(Wish::Retry(retry));
    }
    (!nodes.approved.is_empty()).then_some(Wish::Nodes { nodes: nodes.approved, outputs })
}

/// The fields of what may be absent. `None`: it is there, and is no object.
fn optional(object: Option<&RawValue>) -> Option<Option<fields::Fields<'_>>> {
    object.map_or(Some(None), |object| fields::read(Some(object)).map(Some))
}

fn label<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    value(object.metadata.labels.as_ref(), key)
}

#[cfg(test)]
mod tests;
