//! The forms that a status has beside the plain one, and how it becomes one that an original can hold and that the control
//! cluster's Argo reads. Pure.

use std::collections::BTreeMap;

use argosy_api::packed::{is_packed, pack, unpack};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::size::not_shown;

/// The key of a status' nodes in a database of its cluster.
pub const OFFLOADED: &str = "offloadNodeStatusVersion";

/// Where a copy's nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// In its status, as the control cluster's Argo reads it.
    Plain,
    /// Packed in a way that not every Argo reads.
    Packed,
    /// In a database of its cluster.
    Offloaded,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    compressed_nodes: Option<String>,
    offload_node_status_version: Option<String>,
}

type Fields = BTreeMap<String, Box<RawValue>>;

impl Nodes {
    pub fn of(status: &RawValue) -> Self {
        let text = status.get();
        // Nearly all have neither, and are not parsed for it.
        if !text.contains("\"offloadNodeStatusVersion\"") && !text.contains("\"compressedNodes\"") {
            return Self::Plain;
        }
        let head: Head = serde_json::from_str(text).unwrap_or_default();
        if head.offload_node_status_version.is_some_and(|version| !version.is_empty()) {
            return Self::Offloaded;
        }
        match head.compressed_nodes {
            Some(packed) if !packed.is_empty() && !is_packed(&packed) => Self::Packed,
            _ => Self::Plain,
        }
    }
}

/// Whether a status has its nodes in a database, by that key.
pub fn is_offloaded(version: Option<&Value>) -> bool {
    version.and_then(Value::as_str).is_some_and(|version| !version.is_empty())
}

/// A status whose nodes are packed in another way (by Argo 4, with zstd or brotli), packed as every Argo reads it.
pub fn repacked(status: &RawValue) -> Result<Box<RawValue>, serde_json::Error> {
    let mut fields: Fields = serde_json::from_str(status.get())?;
    let packed: Option<String> =
        fields.remove("compressedNodes").and_then(|text| serde_json::from_str(text.get()).ok());
    match packed.and_then(|packed| unpack(&packed)).map(|nodes| pack(&nodes)) {
        Some(packed) => drop(fields.insert("compressedNodes".to_owned(), to_raw_value(&packed)?)),
        None => say(&mut fields, "they are packed in a way that is not known here")?,
    }
    to_raw_value(&fields)
}

/// An offloaded status, without its nodes and with the reason.
pub fn without_nodes(status: &RawValue, why: &str) -> Result<Box<RawValue>, serde_json::Error> {
    let mut fields: Fields = serde_json::from_str(status.get())?;
    say(&mut fields, why)?;
    to_raw_value(&fields)
}

/// Says in a condition that nodes are not shown.
fn say(fields: &mut Fields, why: &str) -> Result<(), serde_json::Error> {
    let mut conditions: Vec<Value> =
        fields.get("conditions").and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default();
    conditions.push(not_shown(&format!("not all of its nodes are shown: {why}")));
    fields.insert("conditions".to_owned(), to_raw_value(&conditions)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::NOT_SHOWN;
    use rstest::rstest;
    use serde_json::json;

    fn raw(value: &Value) -> Box<RawValue> {
        to_raw_value(value).unwrap()
    }

    fn value(raw: &RawValue) -> Value {
        serde_json::from_str(raw.get()).unwrap()
    }

    /// By Argo 4's libraries (klauspost/compress and andybalholm/brotli).
    const ZSTD: &str = "KLUv/QQA2QAAeyJhIjp7InBoYXNlIjoiU3VjY2VlZGVkIn19K+JSog==";
    const BROTLI: &str = "GxoAAARyceQvONGAujXAqKtmUSg4j0bHfYhaO5kM/w==";
    const NODES: &str = r#"{"a":{"phase":"Succeeded"}}"#;

    #[rstest]
    #[case::nothing(json!({"phase": "Running"}), Nodes::Plain)]
    #[case::nodes(json!({"nodes": {"a": {"phase": "Running"}}}), Nodes::Plain)]
    #[case::packed_by_every_argo(json!({"compressedNodes": pack("{}")}), Nodes::Plain)]
    #[case::packed_by_argo_4(json!({"compressedNodes": ZSTD}), Nodes::Packed)]
    #[case::offloaded(json!({"offloadNodeStatusVersion": "fnv:1"}), Nodes::Offloaded)]
    #[case::empty(json!({"offloadNodeStatusVersion": "", "compressedNodes": ""}), Nodes::Plain)]
    #[case::only_spoken_of(json!({"nodes": {"a": {"message": "\"offloadNodeStatusVersion\""}}}), Nodes::Plain)]
    #[case::hostile(json!(["\"compressedNodes\""]), Nodes::Plain)]
    fn forms(#[case] status: Value, #[case] form: Nodes) {
        assert_eq!(Nodes::of(&raw(&status)), form);
    }

    #[rstest]
    #[case::zstd(ZSTD)]
    #[case::brotli(BROTLI)]
    fn what_argo_4_packs_is_packed_as_every_argo_reads_it(#[case] packed: &str) {
        let status = value(&repacked(&raw(&json!({"phase": "Failed", "compressedNodes": packed}))).unwrap());
        assert_eq!(status, json!({"phase": "Failed", "compressedNodes": pack(NODES)}));
    }

    #[test]
    fn what_cannot_be_unpacked_is_said_and_leaves_the_rest() {
        let status = json!({"phase": "Failed", "compressedNodes": "AAAA", "conditions": [{"type": "Completed"}]});
        let status = value(&repacked(&raw(&status)).unwrap());
        assert_eq!((&status["phase"], &status["compressedNodes"]), (&json!("Failed"), &json!(null)));
        assert_eq!(status["conditions"][0]["type"], "Completed");
        assert_eq!(status["conditions"][1]["type"], NOT_SHOWN);
    }
}
