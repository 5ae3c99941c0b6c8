//! A copy's status on its way back: what of it is returned, and the difference against what the original has.
//!
//! Of what an original has only hashes are kept, one for each field and node, so that a workflow with thousands of
//! nodes costs little memory between two changes.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use argosy_api::workflow::{STORED_SPEC, SYNCHRONIZATION};
use argosy_runtime::patch::{add, remove};
use json_patch::PatchOperation;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::size::{self, Form};

/// Fields of a status that mean nothing outside the cluster that wrote them: the key of an offloaded status has the
/// copy's UID in it, locks are per cluster, and artifacts are collected where the copy is.
const NOT_RETURNED: [&str; 3] = ["offloadNodeStatusVersion", "synchronization", "artifactGCStatus"];

/// The API server takes at most 10,000 operations in a JSON Patch.
const MOST_OPERATIONS: usize = 9_000;

/// Hashes of a status, a field and a node at a time. Nulls do not count: the full CRDs drop them, the minimal ones
/// keep them, so what comes back from the API server may have lost the nulls that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    fields: HashMap<String, u64>,
    nodes: Option<HashMap<String, u64>>,
}

/// A status that is not what a status can be.
#[derive(Debug, Error)]
#[error("the status is not a JSON object")]
pub struct StatusError(#[from] serde_json::Error);

/// A copy's status as it is to appear on the original.
#[derive(Clone, Debug, PartialEq)]
pub struct Returned {
    fields: Map<String, Value>,
    digest: Digest,
    /// The `synchronization` of its stored spec, as JSON.
    pub locks: Option<String>,
}

impl Digest {
    /// The digest of an object's status as it came from the API server.
    pub fn of(status: &RawValue) -> Result<Self, StatusError> {
        let mut fields: BTreeMap<String, Value> = serde_json::from_str(status.get())?;
        let nodes = match fields.remove("nodes") {
            Some(Value::Object(nodes)) => Some(nodes),
            _ => None,
        };
        Ok(Self::over(fields.iter(), nodes.as_ref()))
    }

    fn over<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, nodes: Option<&Map<String, Value>>) -> Self {
        let hashes = |(name, value): (&String, &Value)| Some((name.clone(), hash(value)?));
        Self {
            fields: fields.filter(|(name, _)| *name != "nodes").filter_map(hashes).collect(),
            nodes: nodes.map(|nodes| nodes.iter().filter_map(hashes).collect()),
        }
    }

    /// One hash for all of it.
    pub fn sum(&self) -> u64 {
        // In whatever order they come.
        let sum = |hashes: &HashMap<String, u64>| hashes.iter().map(|entry| one(&entry)).fold(0, u64::wrapping_add);
        one(&(sum(&self.fields), self.nodes.as_ref().map(sum)))
    }

    /// Whether a field of the status (not `nodes`) has this value.
    pub fn shows(&self, field: &str, value: &Value) -> bool {
        self.fields.get(field) == hash(value).as_ref()
    }
}

impl Returned {
    /// Takes what is returned out of a copy's status, in this form.
    pub fn from_copy(status: &RawValue, form: Form) -> Result<Self, StatusError> {
        let mut fields: Map<String, Value> = serde_json::from_str(status.get())?;
        for field in NOT_RETURNED {
            fields.remove(field);
        }
        // Argo writes the stored spec again whenever its suspend differs from the object's own (it compares
        // pointers), and an original is suspended for as long as it is routed.
        // It takes the locks in there, too, as soon as it sees the original again.
        let mut locks = None;
        if let Some(Value::Object(stored)) = fields.get_mut(STORED_SPEC) {
            stored.insert("suspend".to_owned(), Value::Bool(true));
            locks = stored.remove(SYNCHRONIZATION).filter(Value::is_object).map(|locks| locks.to_string());
        }
        size::bring(&mut fields, status.get().len(), form);
        let digest = Digest::over(fields.iter(), fields.get("nodes").and_then(Value::as_object));
        Ok(Self { fields, digest, locks })
    }

    /// Whether its nodes are packed, so that each change of them is all of them.
    pub fn is_packed(&self) -> bool {
        size::is_packed(&self.fields)
    }

    /// Whether Argo has said anything yet.
    pub fn is_empty(&self) -> bool {
        self.digest == Digest::default()
    }

    /// The operations that make an original with the status `original` show this one; none where it does.
    pub fn difference(&self, original: Option<&Digest>) -> Vec<PatchOperation> {
        let whole = || vec![add(&["status"], Value::Object(self.fields.clone()))];
        let Some(original) = original else {
            return if self.is_empty() { Vec::new() } else { whole() };
        };
        let mut operations = Vec::new();
        changes(&["status"], &original.fields, &self.digest.fields, &self.fields, &mut operations);
        match (&original.nodes, &self.digest.nodes, self.fields.get("nodes")) {
            (Some(old), Some(new), Some(Value::Object(nodes))) => {
                changes(&["status", "nodes"], old, new, nodes, &mut operations);
            }
            (None, Some(_), Some(nodes)) => operations.push(add(&["status", "nodes"], nodes.clone())),
            (Some(_), None, _) => operations.push(remove(&["status", "nodes"])),
            _ => {}
        }
        if operations.len() > MOST_OPERATIONS { whole() } else { operations }
    }
}

/// Adds what differs between two levels of hashes.
fn changes(
    at: &[&str],
    old: &HashMap<String, u64>,
    new: &HashMap<String, u64>,
    values: &Map<String, Value>,
    operations: &mut Vec<PatchOperation>,
) {
    for (name, value) in values {
        if new.get(name).is_some_and(|hash| old.get(name) != Some(hash)) {
            operations.push(add(&[at, &[name.as_str()]].concat(), value.clone()));
        }
    }
    // Until its cluster has stored a spec, the webhook's stays, for which the control cluster's controller would read the
    // template. Once it has, it goes no more.
    let stays = |name: &str| at == ["status"] && name == STORED_SPEC;
    let mut gone: Vec<&String> = old.keys().filter(|name| !new.contains_key(*name) && !stays(name)).collect();
    gone.sort();
    operations.extend(gone.into_iter().map(|name| remove(&[at, &[name.as_str()]].concat())));
}

/// The hash of a value without its nulls; `None` of null itself.
fn hash(value: &Value) -> Option<u64> {
    if value.is_null() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    hash_into(value, &mut hasher);
    Some(hasher.finish())
}

fn one(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn hash_into(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(value) => (1_u8, value).hash(hasher),
        Value::Number(value) => (2_u8, value).hash(hasher),
        Value::String(value) => (3_u8, value).hash(hasher),
        Value::Array(values) => {
            (4_u8, values.len()).hash(hasher);
            values.iter().for_each(|value| hash_into(value, hasher));
        }
        Value::Object(fields) => {
            5_u8.hash(hasher);
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                name.hash(hasher);
                hash_into(value, hasher);
            }
            6_u8.hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    /// What the operations make of an original, and how many they are.
    fn returned(original: Option<Value>, copy: &Value) -> (usize, Value) {
        let digest = original.as_ref().map(|status| Digest::of(&raw(status)).unwrap());
        let operations = Returned::from_copy(&raw(copy), Form::Whole).unwrap().difference(digest.as_ref());
        let mut object = original.map_or(json!({}), |status| json!({ "status": status }));
        json_patch::patch(&mut object, &operations).unwrap();
        (operations.len(), object["status"].take())
    }

    #[rstest]
    #[case::first(None, json!({"phase": "Running"}), 1, json!({"phase": "Running"}))]
    #[case::nothing_yet(None, json!({}), 0, json!(null))]
    #[case::same(Some(json!({"phase": "Running", "nodes": {"a": {"x": 1}}})), json!({"phase": "Running", "nodes": {"a": {"x": 1}}}), 0, json!({"phase": "Running", "nodes": {"a": {"x": 1}}}))]
    #[case::one_node(Some(json!({"nodes": {"a": 1, "b": 2}})), json!({"nodes": {"a": 1, "b": 3}}), 1, json!({"nodes": {"a": 1, "b": 3}}))]
    #[case::first_node(Some(json!({"phase": "Pending", "message": "waits"})), json!({"phase": "Running", "nodes": {"a": 1}}), 3, json!({"phase": "Running", "nodes": {"a": 1}}))]
    #[case::node_gone(Some(json!({"nodes": {"a": 1, "b/c~d": 2}})), json!({"nodes": {"a": 1}}), 1, json!({"nodes": {"a": 1}}))]
    #[case::nodes_gone(Some(json!({"nodes": {"a": 1}})), json!({"compressedNodes": "H4s"}), 2, json!({"compressedNodes": "H4s"}))]
    #[case::nulls_dropped_on_the_way(Some(json!({"nodes": {"a": {}}})), json!({"nodes": {"a": {"finishedAt": null}}}), 0, json!({"nodes": {"a": {}}}))]
    #[case::not_ours(None, json!({"phase": "Running", "synchronization": {}, "offloadNodeStatusVersion": "v", "artifactGCStatus": {}}), 1, json!({"phase": "Running"}))]
    #[case::stored_spec_of_the_webhook(Some(json!({"phase": "Pending", "storedWorkflowTemplateSpec": {"suspend": true}})), json!({"phase": "Running"}), 1, json!({"phase": "Running", "storedWorkflowTemplateSpec": {"suspend": true}}))]
    #[case::stored_spec(None, json!({"storedWorkflowTemplateSpec": {"entrypoint": "e"}}), 1, json!({"storedWorkflowTemplateSpec": {"entrypoint": "e", "suspend": true}}))]
    fn differences(
        #[case] original: Option<Value>,
        #[case] copy: Value,
        #[case] operations: usize,
        #[case] expected: Value,
    ) {
        assert_eq!(returned(original, &copy), (operations, expected));
    }

    #[test]
    fn more_operations_than_the_api_server_takes_become_one() {
        let nodes: Map<String, Value> = (0..10_001).map(|i| (i.to_string(), json!(i))).collect();
        let copy = json!({ "nodes": nodes });
        assert_eq!(returned(Some(json!({"nodes": {"0": 5}})), &copy), (1, copy));
    }

    #[test]
    fn a_status_of_another_type_is_an_error() {
        assert!(Returned::from_copy(&raw(&json!("x")), Form::Whole).is_err());
        assert!(Digest::of(&raw(&json!([]))).is_err());
    }

    #[test]
    fn a_sum_tells_statuses_apart() {
        let sum = |status: Value| Digest::of(&raw(&status)).unwrap().sum();
        let statuses = [
            json!({}),
            json!({"phase": "Running"}),
            json!({"phase": "Failed"}),
            json!({"nodes": {}}),
            json!({"phase": "Running", "nodes": {"a": 1, "b": 2}}),
            json!({"phase": "Running", "nodes": {"a": 2, "b": 1}}),
            json!({"a": 1, "b": 2, "phase": "Running"}),
        ];
        let sums: std::collections::BTreeSet<u64> = statuses.iter().cloned().map(sum).collect();
        assert_eq!(sums.len(), statuses.len());
        assert_eq!(sum(json!({"b": 1, "a": {"x": null}})), sum(json!({"a": {}, "b": 1, "c": null})));
    }

    fn status() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(1)), Just(json!("x")), Just(json!(null)), Just(json!({"a": null, "b": [1]}))];
        let map = || prop::collection::btree_map("[a-c~/]{1,2}", leaf.clone(), 0..4);
        (map(), prop::option::of(map())).prop_map(|(fields, nodes)| {
            let mut status: Map<String, Value> = fields.into_iter().collect();
            if let Some(nodes) = nodes {
                status.insert("nodes".into(), Value::Object(nodes.into_iter().collect()));
            }
            Value::Object(status)
        })
    }

    proptest! {
        #[test]
        fn what_was_returned_needs_nothing_more(original in prop::option::of(status()), copy in status()) {
            let (_, after) = returned(original, &copy);
            let digest = Some(&after).filter(|after| !after.is_null()).map(|after| Digest::of(&raw(after)).unwrap());
            prop_assert!(Returned::from_copy(&raw(&copy), Form::Whole).unwrap().difference(digest.as_ref()).is_empty());
        }
    }
}
