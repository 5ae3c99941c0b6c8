//! What keeps the control cluster's controller quiet about a workflow that runs elsewhere, until its status comes back.
//!
//! `spec.suspend` keeps it from running anything, but it looks at that late: before, it takes the locks of
//! `spec.synchronization`, and of a workflow without a phase it makes a PodDisruptionBudget and reads the template. For one
//! with the finalizer that has artifacts collected it makes pods.
//! (argo-workflows v3.7.4, workflow/controller/operator.go, `operate` and `setStoredWfSpec`.)

use argosy_api::names;
use argosy_api::workflow::{STORED_SPEC, SYNCHRONIZATION};
use argosy_runtime::patch::{add, remove, replace};
use json_patch::PatchOperation;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::edits::Edits;
use crate::view::{Part, Spec, Status, View, annotation, spec};

/// Keeps the locks of a routed workflow in an annotation, and gives it the beginning of a status; `waits`: why it waits for
/// a cluster, if it does.
pub(super) fn hush(view: &View, waits: Option<&str>, annotations: &mut Edits, operations: &mut Vec<PatchOperation>) {
    let Some(spec) = spec(view) else { return };
    let finalizers = view.metadata.finalizers.as_deref().unwrap_or_default();
    if finalizers.iter().any(|finalizer| finalizer == names::ARGO_ARTIFACT_GC) {
        // Artifacts are collected where they come from.
        let others: Vec<&String> = finalizers.iter().filter(|other| *other != names::ARGO_ARTIFACT_GC).collect();
        operations.push(replace(&["metadata", "finalizers"], json!(others)));
    }
    let own = spec.synchronization.as_deref().and_then(object);
    if own.is_some() {
        operations.push(remove(&["spec", SYNCHRONIZATION]));
    }
    let locks = own.or_else(|| inherited(view)).map(|locks| locks.to_string());
    annotations.want(names::SYNCHRONIZATION, locks, annotation(view, names::SYNCHRONIZATION));

    let blank = Status::default();
    let (is_there, status) = match &view.status {
        Some(Part::Object(status)) => (true, status),
        Some(Part::Odd) => return,
        None => (false, &blank),
    };
    let mut fields = Vec::new();
    if status.phase.as_deref().is_none_or(|phase| phase.get() == "\"\"") {
        fields.push(("phase", json!("Pending")));
        fields.extend(waits.map(|why| ("message", json!(format!("waits for a cluster: {why}")))));
    }
    if spec.workflow_template_ref.is_some() && status.stored_workflow_template_spec.is_none() {
        fields.push((STORED_SPEC, stored(spec)));
    }
    if is_there {
        operations.extend(fields.into_iter().map(|(field, value)| add(&["status", field], value)));
    } else {
        let status: Map<String, Value> = fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
        operations.push(add(&["status"], Value::Object(status)));
    }
}

/// Gives a workflow that is not routed the locks back that it inherited from one that was.
pub(super) fn restore(view: &View, annotations: &mut Edits, operations: &mut Vec<PatchOperation>) {
    annotations.want(names::SYNCHRONIZATION, None, annotation(view, names::SYNCHRONIZATION));
    if let Some(locks) = inherited(view)
        && spec(view).is_some_and(|spec| spec.synchronization.is_none())
    {
        operations.push(add(&["spec", SYNCHRONIZATION], locks));
    }
}

/// What a routed workflow's template is taken for here: nothing but what its user gave, which commands print.
fn stored(spec: &Spec) -> Value {
    let arguments = spec.arguments.as_deref().and_then(object);
    arguments.map_or_else(|| json!({"suspend": true}), |arguments| json!({"suspend": true, "arguments": arguments}))
}

fn inherited(view: &View) -> Option<Value> {
    annotation(view, names::SYNCHRONIZATION).and_then(|text| serde_json::from_str(text).ok()).filter(Value::is_object)
}

fn object(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok().filter(Value::is_object)
}
