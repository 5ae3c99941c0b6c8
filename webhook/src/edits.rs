//! Changes to the maps of an object's metadata, as operations of a JSON Patch.

use std::collections::BTreeMap;

use argosy_runtime::patch::{add, remove, replace};
use json_patch::PatchOperation;
use serde_json::Value;

/// Changes to a map of strings: `None` removes.
#[derive(Default)]
pub(crate) struct Edits(Vec<(String, Change)>);

enum Change {
    Add(String),
    Replace(String),
    Remove,
}

impl Edits {
    pub(crate) fn want(&mut self, key: &str, wanted: Option<String>, present: Option<&str>) {
        let change = match (wanted, present) {
            (Some(wanted), Some(present)) if wanted == present => return,
            (Some(wanted), Some(_)) => Change::Replace(wanted),
            (Some(wanted), None) => Change::Add(wanted),
            (None, Some(_)) => Change::Remove,
            (None, None) => return,
        };
        self.0.push((key.to_owned(), change));
    }

    /// A map that is not there, or null, is added whole.
    pub(crate) fn append(self, map: &str, exists: bool, operations: &mut Vec<PatchOperation>) {
        if exists {
            operations.extend(self.0.into_iter().map(|(key, change)| {
                let path = ["metadata", map, &key];
                match change {
                    Change::Add(value) => add(&path, Value::String(value)),
                    Change::Replace(value) => replace(&path, Value::String(value)),
                    Change::Remove => remove(&path),
                }
            }));
            return;
        }
        let added: BTreeMap<String, String> = self
            .0
            .into_iter()
            .filter_map(|(key, change)| match change {
                Change::Add(value) | Change::Replace(value) => Some((key, value)),
                Change::Remove => None,
            })
            .collect();
        if !added.is_empty() {
            let added = added.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
            operations.push(add(&["metadata", map], Value::Object(added)));
        }
    }
}
