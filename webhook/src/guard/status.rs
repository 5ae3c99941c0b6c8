//! What a write did to the status.

use argosy_api::workflow::STORED_SPEC;
use argosy_runtime::patch::{add, remove};
use json_patch::PatchOperation;
use serde_json::{Map, Value};

use super::equal::{Care, field, is_empty, names};
use super::fields::{Fields, differences, parse};
use super::nodes::{self, NODES, Nodes, OUTPUTS, PACKED, is_same};

/// What a retry leaves on the original: it shows a running workflow from then on, as `argo wait` and `argo get` expect.
/// The fence names the same.
const STANDING: [&str; 5] = ["phase", MESSAGE, "startedAt", FINISHED, "conditions"];
const MESSAGE: &str = "message";
const FINISHED: &str = "finishedAt";

/// The spec of a workflow that is made from a template.
/// The global outputs that users may set.
const PARAMETERS: &str = "parameters";
/// Where the nodes are when they are in a database; what that key means only the cluster knows that wrote it.
const OFFLOADED: &str = "offloadNodeStatusVersion";

/// What became of the status.
#[derive(Default)]
pub(super) struct Status {
    pub(super) nodes: Nodes,
    /// The global outputs that were set with what was approved.
    pub(super) outputs: Vec<Value>,
    /// What changed of it in a retry, but for the nodes.
    pub(super) retried: Map<String, Value>,
    /// Gives everything its old value back that is not to stand.
    pub(super) restore: Vec<PatchOperation>,
}

/// The phase; empty where there is none.
pub(super) fn phase(status: &Fields) -> Option<Value> {
    parse(status.get("phase").copied())
}

/// Reads the difference; `None` as a status is one that is not there. `None`: it is not what Argo's commands do.
pub(super) fn read(old: Option<&Fields>, new: Option<&Fields>, is_retry: bool) -> Option<Status> {
    match (old, new) {
        (Some(old), Some(new)) => between(old, new, is_retry),
        (None, None) => Some(Status::default()),
        // The CLI gives every workflow a status with nothing in it.
        (None, Some(new)) if is_nothing(new) => {
            Some(Status { restore: vec![remove(&["status"])], ..Status::default() })
        }
        (Some(old), None) if is_nothing(old) => Some(Status::default()),
        _ => None,
    }
}

fn is_nothing(status: &Fields) -> bool {
    status.values().all(|value| parse(Some(value)).is_some_and(|value| is_empty(&value)))
}

fn between(old: &Fields, new: &Fields, is_retry: bool) -> Option<Status> {
    let nodes = nodes::read(old, new, is_retry)?;
    let mut status = Status { nodes, ..Status::default() };
    for change in differences(old, new).filter(|change| ![NODES, PACKED].contains(&change.name)) {
        let (name, before, after) = (change.name, change.before()?, change.after()?);
        let is_changed = !is_same(&before, &after, if name == OUTPUTS { Care::Exact } else { Care::Loose });
        let is_kept = match name {
            OFFLOADED if is_changed => return None,
            _ if is_retry => {
                if is_changed {
                    status.retried.extend(noted(name, &before, after).map(|value| (name.to_owned(), value)));
                }
                STANDING.contains(&name)
            }
            OUTPUTS if is_changed => {
                if status.nodes.approved.is_empty() {
                    return None;
                }
                status.outputs = set(&before, &after)?;
                status.nodes.stands
            }
            _ if is_changed => return None,
            _ => false,
        };
        if !is_kept {
            status.restore.push(change.restore(&["status"])?);
        }
    }
    if is_retry {
        status.restore.extend(running(new)?);
    }
    status.restore.append(&mut status.nodes.restore);
    Some(status)
}

/// The parameters of the global outputs that are new or have another value. `None`: more than that has changed.
fn set(before: &Value, after: &Value) -> Option<Vec<Value>> {
    let nothing = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&nothing), after.as_object()?);
    let is_as_it_was = |name: &str| is_same(field(before, name), field(after, name), Care::Loose);
    if !names(before, after).all(|name| name == PARAMETERS || is_as_it_was(name)) {
        return None;
    }
    let parameters = |outputs| field(outputs, PARAMETERS).as_array().map(Vec::as_slice).unwrap_or_default();
    let (before, after) = (parameters(before), parameters(after));
    let is_kept = |old: &Value| after.iter().any(|new| new["name"] == old["name"]);
    let new = after.iter().filter(|new| !before.contains(new)).cloned().collect();
    before.iter().all(is_kept).then_some(new)
}

/// A field as it is noted for the copy. Of a template's spec, which may be large, that is what changed of it; suspend and
/// shutdown are the copy's own there.
fn noted(name: &str, before: &Value, after: Value) -> Option<Value> {
    match (name, before, &after) {
        (STORED_SPEC, Value::Object(before), Value::Object(after)) => {
            let changed = names(before, after).filter(|name| !["suspend", "shutdown"].contains(name));
            let changed = changed.filter(|name| !is_same(field(before, name), field(after, name), Care::Exact));
            let changed: Map<_, _> = changed.map(|name| (name.to_owned(), field(after, name).clone())).collect();
            (!changed.is_empty()).then_some(Value::Object(changed))
        }
        _ => Some(after),
    }
}

/// Makes a status that Argo reset look like a running workflow's. Argo 4 leaves the phase to its controller, which the
/// fence keeps from writing it.
fn running(status: &Fields) -> Option<Vec<PatchOperation>> {
    let mut operations = Vec::new();
    if phase(status)? != "Running" {
        operations.push(add(&["status", "phase"], Value::from("Running")));
    }
    for name in [MESSAGE, FINISHED] {
        if !is_empty(&parse(status.get(name).copied())?) {
            operations.push(remove(&["status", name]));
        }
    }
    Some(operations)
}
