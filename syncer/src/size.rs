//! Statuses that are too large: which form an original carries them in.
//!
//! Argo packs the nodes of a workflow that would be larger than 1 MiB; an original does so for its status alone, as far as
//! the WEC has not. What the control cluster's API server does not take even so (etcd takes about 1.5 MiB, and the
//! original's spec counts) loses nodes, and says so.

use argosy_api::packed::{pack, unpack};
use argosy_api::workflow::STORED_SPEC;
use serde_json::{Map, Value, json};

/// Argo's own limit, in bytes of JSON.
const LARGE: usize = 1 << 20;

const NODES: &str = "nodes";
const PACKED: &str = "compressedNodes";
/// Type of the condition of a status that does not show all of its nodes.
pub const NOT_SHOWN: &str = "NodesNotShown";

/// Forms of a status, each smaller than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the WEC has it, but with its nodes packed where it is large.
    Whole,
    /// With its nodes packed.
    Packed,
    /// With those of its nodes that are not done yet or have failed.
    Unfinished,
    /// Without nodes, and without what they were made from.
    Bare,
}

impl Form {
    pub fn smaller(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::Packed),
            Self::Packed => Some(Self::Unfinished),
            Self::Unfinished => Some(Self::Bare),
            Self::Bare => None,
        }
    }
}

/// Brings a status into a form; `length` is that of its JSON.
pub fn bring(status: &mut Map<String, Value>, length: usize, form: Form) {
    match form {
        Form::Whole if length <= LARGE => {}
        Form::Whole | Form::Packed => pack_nodes(status),
        Form::Unfinished => keep(status, is_unfinished_or_failed),
        Form::Bare => {
            for field in ["outputs", "storedTemplates", "taskResultsCompletionStatus"] {
                status.remove(field);
            }
            // Without any, the control cluster's controller would read the template.
            if let Some(stored) = status.get_mut(STORED_SPEC) {
                *stored = json!({"suspend": true});
            }
            keep(status, |_| false);
        }
    }
}

/// The condition that says so.
pub fn not_shown(message: &str) -> Value {
    json!({"type": NOT_SHOWN, "status": "True", "message": message})
}

/// Whether a status shows its nodes packed.
pub fn is_packed(status: &Map<String, Value>) -> bool {
    status.get(PACKED).is_some_and(|packed| packed.as_str().is_some_and(|packed| !packed.is_empty()))
}

fn pack_nodes(status: &mut Map<String, Value>) {
    if let Some(Value::Object(nodes)) = status.remove(NODES)
        && !nodes.is_empty()
    {
        status.insert(PACKED.to_owned(), Value::String(pack(&Value::Object(nodes).to_string())));
    }
}

/// Leaves out all nodes but these.
fn keep(status: &mut Map<String, Value>, is_kept: fn(&Value) -> bool) {
    let packed = status.remove(PACKED);
    let mut nodes = match status.remove(NODES) {
        Some(Value::Object(nodes)) if !nodes.is_empty() => nodes,
        // What cannot be unpacked has no node that can be shown.
        _ => packed.and_then(|packed| serde_json::from_str(&unpack(packed.as_str()?)?).ok()).unwrap_or_default(),
    };
    let all = nodes.len();
    nodes.retain(|_, node| is_kept(node));
    tell(status, nodes.len(), all);
    if nodes.is_empty() {
        return;
    }
    let nodes = Value::Object(nodes);
    let text = nodes.to_string();
    if text.len() > LARGE {
        status.insert(PACKED.to_owned(), Value::String(pack(&text)));
    } else {
        status.insert(NODES.to_owned(), nodes);
    }
}

fn is_unfinished_or_failed(node: &Value) -> bool {
    !["Succeeded", "Skipped", "Omitted"].iter().any(|done| node["phase"] == *done)
}

fn tell(status: &mut Map<String, Value>, shown: usize, all: usize) {
    let message = format!(
        "{shown} of {all} nodes are shown here: with the others the workflow would be larger than an API server takes; the \
         cluster that it runs in has them all"
    );
    let condition = not_shown(&message);
    match status.get_mut("conditions") {
        Some(Value::Array(conditions)) => conditions.push(condition),
        _ => drop(status.insert("conditions".to_owned(), json!([condition]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn nodes() -> Value {
        json!({
            "a": {"phase": "Succeeded"}, "b": {"phase": "Running", "type": "Suspend"}, "c": {"phase": "Failed"},
            "d": {"phase": "Skipped"}, "e": {"phase": "Pending"}, "f": {"phase": "Omitted"}, "g": {"phase": "Error"}, "h": {},
        })
    }

    /// A status in a form, with its nodes laid open; and whether they were packed.
    fn brought(mut status: Value, length: usize, form: Form) -> (Value, bool) {
        let fields = status.as_object_mut().unwrap();
        bring(fields, length, form);
        let is_packed = is_packed(fields);
        if let Some(Value::String(packed)) = fields.remove(PACKED) {
            assert!(!fields.contains_key(NODES), "one form of nodes at a time");
            fields.insert(NODES.to_owned(), serde_json::from_str(&unpack(&packed).unwrap()).unwrap());
        }
        (status, is_packed)
    }

    #[rstest]
    #[case::small(LARGE, Form::Whole, false)]
    #[case::large(LARGE + 1, Form::Whole, true)]
    #[case::refused(9, Form::Packed, true)]
    fn large_statuses_show_all_their_nodes_packed(#[case] length: usize, #[case] form: Form, #[case] is_packed: bool) {
        let status = json!({"phase": "Running", "nodes": nodes()});
        assert_eq!(brought(status.clone(), length, form), (status, is_packed));
        let packed = json!({"phase": "Running", "compressedNodes": pack(&nodes().to_string())});
        assert_eq!(brought(packed, length, form), (json!({"phase": "Running", "nodes": nodes()}), true));
    }

    #[rstest]
    #[case::plain(json!({"nodes": nodes()}))]
    #[case::packed(json!({"compressedNodes": pack(&nodes().to_string())}))]
    fn what_does_not_fit_keeps_what_somebody_has_to_look_at(#[case] mut status: Value) {
        status["phase"] = json!("Failed");
        status["conditions"] = json!([{"type": "PodRunning", "status": "False"}]);
        let (shown, is_packed) = brought(status, 9, Form::Unfinished);
        let kept: Vec<String> = shown["nodes"].as_object().unwrap().keys().cloned().collect();
        assert_eq!((kept.join(" ").as_str(), is_packed), ("b c e g h", false));
        assert_eq!((&shown["phase"], &shown["conditions"][0]["type"]), (&json!("Failed"), &json!("PodRunning")));
        assert!(shown["conditions"][1]["message"].as_str().unwrap().starts_with("5 of 8 nodes are shown here: "));
    }

    #[rstest]
    #[case::nodes(json!({"phase": "Succeeded", "finishedAt": "t", "nodes": nodes(), "storedTemplates": {}, "outputs": {}}))]
    #[case::unreadable(json!({"phase": "Succeeded", "finishedAt": "t", "compressedNodes": "KLUv/QQA"}))]
    fn at_last_the_end_alone_is_shown(#[case] status: Value) {
        let (mut shown, _) = brought(status, 9, Form::Bare);
        assert_eq!(shown["conditions"][0]["type"].take(), NOT_SHOWN);
        shown.as_object_mut().unwrap().remove("conditions");
        assert_eq!(shown, json!({"phase": "Succeeded", "finishedAt": "t"}));
    }

    #[test]
    fn many_unfinished_nodes_are_packed() {
        let node = json!({"phase": "Running", "message": "x".repeat(LARGE)});
        assert!(brought(json!({"nodes": {"a": node}}), 9, Form::Unfinished).1);
    }
}
