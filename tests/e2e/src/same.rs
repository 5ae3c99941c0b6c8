//! Whether an original shows what its copy shows.

use anyhow::Result;
use argosy_api::names;
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

use crate::world::nodes;

/// What of a copy's status stays where it is.
const NOT_RETURNED: [&str; 3] = ["offloadNodeStatusVersion", "synchronization", "artifactGCStatus"];

/// The first difference between two statuses (all fields of all nodes included) or their labels, in words.
pub fn difference(original: &DynamicObject, copy: &DynamicObject) -> Result<Option<String>> {
    for label in [names::ARGO_PHASE, names::ARGO_COMPLETED] {
        let (here, there) = (original.labels().get(label), copy.labels().get(label));
        if here != there {
            return Ok(Some(format!("label {label} is {here:?} here and {there:?} there")));
        }
    }
    let mut there = status(copy)?;
    for field in NOT_RETURNED {
        there.as_object_mut().and_then(|status| status.remove(field));
    }
    if there["storedWorkflowTemplateSpec"].is_object() {
        // As every original is.
        there["storedWorkflowTemplateSpec"]["suspend"] = true.into();
        there["storedWorkflowTemplateSpec"].as_object_mut().and_then(|stored| stored.remove("synchronization"));
    }
    let mut here = status(original)?;
    if there["storedWorkflowTemplateSpec"].is_null() {
        // Until the cluster has stored one, the original has the webhook's.
        here.as_object_mut().and_then(|status| status.remove("storedWorkflowTemplateSpec"));
    }
    Ok(unlike("status", &here, &there))
}

fn status(workflow: &DynamicObject) -> Result<Value> {
    let mut status = workflow.data["status"].as_object().cloned().unwrap_or_default();
    status.remove("compressedNodes");
    status.insert("nodes".to_owned(), Value::Object(nodes(workflow)?));
    Ok(Value::Object(status))
}

/// Where two values differ first; null is as good as nothing.
fn unlike(at: &str, here: &Value, there: &Value) -> Option<String> {
    match (here, there) {
        (Value::Object(one), Value::Object(other)) => {
            let added = other.keys().filter(|key| !one.contains_key(*key));
            one.keys().chain(added).find_map(|key| unlike(&format!("{at}.{key}"), &here[key], &there[key]))
        }
        _ => (here != there).then(|| format!("{at} is {} here and {} there", shortened(here), shortened(there))),
    }
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}
