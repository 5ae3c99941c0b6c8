//! `spec.archiveLogs` of a routed workflow: what the rule says, where its user says nothing.
//!
//! An annotation tells the rule's word from the user's, for both come along with a resubmit: one that runs in the control
//! cluster must not archive what a rule for others wanted, for a step whose logs cannot be stored fails.
//! Set on the workflow, it goes before what a WorkflowTemplate says in its spec, and after what a template says for itself
//! (argo-workflows v3.7.4, workflow/util/merge.go and `IsFlag` in workflow/controller/workflowpod.go).

use argosy_api::names;
use argosy_api::workflow::ARCHIVE_LOGS;
use argosy_runtime::patch::{add, remove, replace};
use json_patch::PatchOperation;
use serde_json::Value;

use crate::edits::Edits;
use crate::view::{Flag, View, annotation, spec};

/// Gives the workflow what the rule wants; `None` leaves it as its user has it.
pub(super) fn archive(
    view: &View,
    wanted: Option<bool>,
    annotations: &mut Edits,
    operations: &mut Vec<PatchOperation>,
) {
    let noted = annotation(view, names::ARCHIVE_LOGS);
    let present = spec(view).map_or(Flag::Absent, |spec| spec.archive_logs);
    let is_users = match present {
        Flag::Absent | Flag::Null => false,
        Flag::Is(value) => noted != Some(if value { "true" } else { "false" }),
        Flag::Other => true,
    };
    let wanted = wanted.filter(|_| !is_users);
    annotations.want(names::ARCHIVE_LOGS, wanted.map(|value| value.to_string()), noted);
    let path = ["spec", ARCHIVE_LOGS];
    match (wanted, present) {
        (Some(value), Flag::Absent) => operations.push(add(&path, Value::Bool(value))),
        (Some(value), Flag::Is(same)) if value == same => {}
        (Some(value), _) => operations.push(replace(&path, Value::Bool(value))),
        (None, Flag::Is(_)) if !is_users => operations.push(remove(&path)),
        (None, _) => {}
    }
}
