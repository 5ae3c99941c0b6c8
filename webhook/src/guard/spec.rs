//! What a write did to the spec.

use argosy_api::workflow::SYNCHRONIZATION;
use argosy_runtime::patch::remove;
use json_patch::PatchOperation;
use serde_json::{Map, Value};

use super::equal::{Care, equal, is_empty};
use super::fields::{self, Fields, differences};
use super::nodes::is_same;

const SUSPEND: &str = "suspend";
const SHUTDOWN: &str = "shutdown";
const ARGUMENTS: &str = "arguments";
const DEADLINE: &str = "activeDeadlineSeconds";

/// What became of the spec.
#[derive(Default)]
pub(super) struct Spec {
    /// `suspend` was taken off.
    pub(super) resumed: bool,
    /// What changed of it in a retry.
    pub(super) retried: Map<String, Value>,
    /// Gives every field its old value back, but for `shutdown`.
    pub(super) restore: Vec<PatchOperation>,
}

/// Whether this is the spec of an original in order.
pub(super) fn is_suspended(spec: &Fields) -> bool {
    spec.get(SUSPEND).is_some_and(|suspend| suspend.get() == "true")
}

/// Reads the difference; `locks` is what was kept of `synchronization`. `None`: it is not what Argo's commands do.
pub(super) fn read(old: &Fields, new: &Fields, is_retry: bool, locks: Option<&str>) -> Option<Spec> {
    let mut spec = Spec::default();
    for change in differences(old, new) {
        let (before, after) = (change.before()?, change.after()?);
        let is_kept = match change.name {
            SUSPEND if after.is_null() || after == Value::Bool(false) => {
                spec.resumed = true;
                false
            }
            SUSPEND => return None,
            // Whoever applies the same workflow again brings along what it was created with.
            SYNCHRONIZATION if before.is_null() && is_text_of(locks, &after) => false,
            // Below.
            SHUTDOWN if is_retry => true,
            // Whether it may become that, the fence says.
            SHUTDOWN => !equal(&before, &after, Care::Loose),
            ARGUMENTS | DEADLINE if is_retry => {
                let is_same = if change.name == ARGUMENTS { is_same } else { equal };
                // A deadline of 0 is how Argo once terminated, and a retry takes it off.
                if !is_same(&before, &after, Care::Exact) {
                    spec.retried.insert(change.name.to_owned(), after);
                }
                false
            }
            _ if equal(&before, &after, Care::Loose) => false,
            _ => return None,
        };
        if !is_kept {
            spec.restore.push(change.restore(&["spec"])?);
        }
    }
    if is_retry && let Some(shutdown) = new.get(SHUTDOWN) {
        // What runs again must not be stopped by what stopped it before; Argo clears it.
        if !is_empty(&fields::parse(Some(shutdown))?) {
            return None;
        }
        spec.restore.push(remove(&["spec", SHUTDOWN]));
    }
    Some(spec)
}

fn is_text_of(text: Option<&str>, value: &Value) -> bool {
    text.and_then(|text| serde_json::from_str::<Value>(text).ok()).is_some_and(|kept| equal(&kept, value, Care::Loose))
}
