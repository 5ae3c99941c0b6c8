//! The routed workflow that the cases begin with.

use serde_json::{Value, json};

/// JSON Patch that turns a Workflow into a routed one in the middle of its run: it waits at a gate while a step runs.
pub(super) fn routed() -> Value {
    json!([
        {"op": "add", "path": "/metadata/labels", "value": {
            "kubestellar.io/cluster": "elsewhere",
            "workflows.argoproj.io/phase": "Running",
            "workflows.argoproj.io/completed": "false",
            "team": "a",
        }},
        {"op": "add", "path": "/metadata/annotations", "value": {
            "argosy.dev/placement": "{}",
            "argosy.dev/delivery": "{}",
            "argosy.dev/intents": "[1]",
            "note": "mine",
        }},
        {"op": "add", "path": "/spec", "value": {
            "entrypoint": "main",
            "suspend": true,
            "templates": [{"name": "main", "suspend": {}}],
        }},
        {"op": "add", "path": "/status", "value": {
            "phase": "Running",
            "startedAt": "2026-01-02T03:04:05Z",
            "progress": "1/3",
            "nodes": {
                "gate": node("gate", "Suspend", "Running"),
                "next-gate": node("next-gate", "Suspend", "Pending"),
                "old-gate": node("old-gate", "Suspend", "Succeeded"),
                "step": node("step", "Pod", "Running"),
                "tree": node("tree", "Steps", "Running"),
            },
            "outputs": {"parameters": [{"name": "a", "value": "1"}]},
        }},
    ])
}

/// A node of a Workflow's status.
pub(super) fn node(id: &str, r#type: &str, phase: &str) -> Value {
    json!({
        "id": id,
        "name": format!("wf.{id}"),
        "displayName": id,
        "type": r#type,
        "templateName": "main",
        "boundaryID": "tree",
        "phase": phase,
        "startedAt": "2026-01-02T03:04:05Z",
    })
}
