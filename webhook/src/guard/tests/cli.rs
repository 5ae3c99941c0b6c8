//! Originals, and what Argo's commands make of them: as `workflow/util/util.go` of Argo 3.7.4 does it, and as its Go
//! types then print it.

use serde_json::{Map, Value, json};

use super::edit;

pub(super) const NOW: &str = "2026-01-02T04:00:00Z";

/// An original in the middle of its run: it waits at a gate while a step runs.
pub(super) fn running() -> Value {
    json!({
        "metadata": {
            "name": "wf",
            "labels": {
                "kubestellar.io/cluster": "c1",
                "workflows.argoproj.io/completed": "false",
                "workflows.argoproj.io/phase": "Running",
            },
            "annotations": {"argosy.dev/placement": "{}", "argosy.dev/delivery": "{}"},
        },
        "spec": {
            "entrypoint": "main",
            "suspend": true,
            "templates": [
                {"name": "main", "steps": [[{"name": "gate", "template": "gate"}, {"name": "step", "template": "step"}]]},
                {"name": "gate", "suspend": {}},
                {"name": "step", "container": {
                    "image": "i", "command": ["sleep"], "args": ["1000m"], "resources": {"requests": {"cpu": 0.5}},
                    "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": false}],
                }},
            ],
        },
        "status": {
            "phase": "Running", "startedAt": "2026-01-02T03:00:00Z", "finishedAt": null, "progress": "0/2",
            "nodes": {
                "wf": node("wf", "Steps", "Running", &json!({"children": ["gate", "step"]})),
                "gate": node("gate", "Suspend", "Running", &json!({})),
                "old-gate": node("old-gate", "Suspend", "Succeeded", &json!({"finishedAt": "2026-01-02T03:00:09Z"})),
                "step": node("step", "Pod", "Running", &json!({})),
            },
            "conditions": [{"type": "PodRunning", "status": "True"}],
        },
    })
}

/// The same where the gate asks for a value, which has a global name.
pub(super) fn asking() -> Value {
    let outputs = json!({"parameters": [{"name": "ok", "globalName": "ok", "valueFrom": {"supplied": {}}}]});
    edit(running(), &json!([set("/status/nodes/gate/outputs", outputs)]))
}

/// The same when it is done: the gate was passed, the step failed, and its user had stopped it.
pub(super) fn finished() -> Value {
    let done = json!({"finishedAt": "2026-01-02T03:30:00Z"});
    edit(
        running(),
        &json!([
            set("/metadata/labels/workflows.argoproj.io~1completed", "true"),
            set("/metadata/labels/workflows.argoproj.io~1phase", "Failed"),
            set("/metadata/labels/workflows.argoproj.io~1workflow-archiving-status", "Archived"),
            set("/spec/shutdown", "Stop"),
            set("/status/phase", "Failed"),
            set("/status/message", "child 'step' failed"),
            set("/status/finishedAt", "2026-01-02T03:30:00Z"),
            set(
                "/status/conditions",
                json!([{"type": "PodRunning", "status": "False"}, {"type": "Completed", "status": "True"}])
            ),
            set(
                "/status/nodes",
                json!({
                    "wf": merged(node("wf", "Steps", "Failed", &done), &json!({"children": ["gate", "step"], "message": "child 'step' failed"})),
                    "gate": node("gate", "Suspend", "Succeeded", &done),
                    "step": merged(node("step", "Pod", "Failed", &done), &json!({"message": "exit code 1"})),
                })
            ),
        ]),
    )
}

pub(super) fn node(id: &str, kind: &str, phase: &str, more: &Value) -> Value {
    let node = json!({
        "id": id, "name": format!("wf.{id}"), "displayName": id, "type": kind, "templateName": id, "phase": phase,
        "startedAt": "2026-01-02T03:00:00Z", "finishedAt": null,
    });
    merged(node, more)
}

/// `argo resume`: suspend goes, and every gate that waits is passed.
pub(super) fn resume(workflow: Value) -> Value {
    let mut workflow = typed(workflow);
    fields(&mut workflow["spec"]).remove("suspend");
    pass(&mut workflow, "Succeeded", None);
    workflow
}

/// `argo stop --node-field-selector … --message …`.
pub(super) fn stop_gate(workflow: Value, message: &str) -> Value {
    let mut workflow = typed(workflow);
    pass(&mut workflow, "Failed", Some(message));
    workflow
}

/// `argo node set --output-parameter ok=…`: the output has a global name.
pub(super) fn set_output(workflow: Value, value: &str) -> Value {
    let mut workflow = typed(workflow);
    workflow["status"]["nodes"]["gate"]["outputs"] =
        json!({"parameters": [{"name": "ok", "globalName": "ok", "value": value}]});
    workflow["status"]["outputs"] = json!({"parameters": [{"name": "ok", "value": value}]});
    workflow
}

/// `argo retry`: the failed step goes, what led to it is reset. Argo 4 leaves the phase to its controller.
pub(super) fn retry(workflow: Value, version: u32) -> Value {
    let mut workflow = typed(workflow);
    let labels = fields(&mut workflow["metadata"]["labels"]);
    labels.remove("workflows.argoproj.io/completed");
    labels.remove("workflows.argoproj.io/workflow-archiving-status");
    if version == 3 {
        labels.insert("workflows.argoproj.io/phase".to_owned(), json!("Running"));
    }
    fields(&mut workflow["spec"]).remove("shutdown");
    let status = fields(&mut workflow["status"]);
    status.remove("message");
    status.insert("startedAt".to_owned(), json!(NOW));
    status.insert("finishedAt".to_owned(), Value::Null);
    status["conditions"][1]["status"] = json!("False");
    match version {
        3 => status.insert("phase".to_owned(), json!("Running")),
        _ => status.remove("phase"),
    };
    if let Some(Value::Object(nodes)) = status.get_mut("nodes") {
        nodes.remove("step");
        nodes.insert("wf".to_owned(), node("wf", "Steps", "Running", &json!({"startedAt": NOW, "children": ["gate"]})));
    }
    workflow
}

/// What Argo's Go types make of an object that is read and written back.
pub(super) fn typed(mut workflow: Value) -> Value {
    fields(&mut workflow["metadata"]).insert("creationTimestamp".to_owned(), Value::Null);
    fields(&mut workflow["spec"]).entry("arguments").or_insert(json!({}));
    for template in workflow["spec"]["templates"].as_array_mut().into_iter().flatten() {
        for field in ["inputs", "outputs", "metadata"] {
            fields(template).entry(field).or_insert(json!({}));
        }
        for step in
            template["steps"].as_array_mut().into_iter().flatten().flat_map(|steps| steps.as_array_mut().unwrap())
        {
            step["arguments"] = json!({});
        }
        if let Some(container) = template.get_mut("container") {
            container["name"] = json!("");
            container["resources"] = json!({"requests": {"cpu": "500m"}});
            fields(&mut container["volumeMounts"][0]).remove("readOnly");
        }
        fields(template).retain(|_, value| !value.is_null());
    }
    for time in ["startedAt", "finishedAt"] {
        fields(&mut workflow["status"]).entry(time).or_insert(Value::Null);
    }
    workflow
}

fn pass(workflow: &mut Value, phase: &str, message: Option<&str>) {
    let nodes = fields(&mut workflow["status"]["nodes"]).values_mut();
    for node in nodes.filter(|node| node["type"] == "Suspend" && node["phase"] == "Running") {
        node["phase"] = json!(phase);
        node["finishedAt"] = json!(NOW);
        if let Some(message) = message {
            node["message"] = json!(message);
        }
    }
}

pub(super) fn set(path: &str, value: impl Into<Value>) -> Value {
    json!({"op": "add", "path": path, "value": value.into()})
}

pub(super) fn remove(path: &str) -> Value {
    json!({"op": "remove", "path": path})
}

fn merged(mut object: Value, more: &Value) -> Value {
    fields(&mut object).extend(more.as_object().unwrap().clone());
    object
}

/// An object's fields; of what is null, none yet.
pub(super) fn fields(value: &mut Value) -> &mut Map<String, Value> {
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().unwrap()
}
