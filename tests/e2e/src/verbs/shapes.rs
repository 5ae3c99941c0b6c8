//! The workflows that the commands are tried on.

use serde_json::{Value, json};

fn workflow(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": format!("{name}-")},
        "spec": spec,
    })
}

/// A template of one pod that a player runs so long and ends with this exit code.
fn pod(name: &str, duration: &str, exit_code: &str) -> Value {
    json!({
        "name": name,
        "metadata": {"annotations": {
            "player.argosy.dev/duration": duration, "player.argosy.dev/exit-code": exit_code,
        }},
        "container": {"image": "busybox", "command": ["work"]},
    })
}

fn steps(name: &str, calls: &[(&str, &str)]) -> Value {
    let calls: Vec<Value> =
        calls.iter().map(|(name, template)| json!([{"name": name, "template": template}])).collect();
    json!({"name": name, "steps": calls})
}

/// One pod.
pub fn one(duration: &str) -> Value {
    workflow("one", json!({"entrypoint": "work", "templates": [pod("work", duration, "0")]}))
}

/// A pod, a gate that waits for somebody, and a pod.
pub fn gated() -> Value {
    let templates = json!([
        steps("main", &[("before", "work"), ("gate", "gate"), ("after", "work")]),
        {"name": "gate", "suspend": {}},
        pod("work", "100ms", "0"),
    ]);
    workflow("gated", json!({"entrypoint": "main", "templates": templates}))
}

/// Two pods, one after the other.
pub fn pair(first: &str) -> Value {
    let templates = json!([
        steps("main", &[("first", "first"), ("second", "second")]),
        pod("first", first, "0"),
        pod("second", "100ms", "0"),
    ]);
    workflow("pair", json!({"entrypoint": "main", "templates": templates}))
}

/// Two gates beside each other.
pub fn two_gates() -> Value {
    let templates = json!([
        {"name": "main", "steps": [[{"name": "left", "template": "gate"}, {"name": "right", "template": "gate"}]]},
        {"name": "gate", "suspend": {}},
    ]);
    workflow("gates", json!({"entrypoint": "main", "templates": templates}))
}

/// A gate that takes a value, which the pod after it is told.
pub fn asks() -> Value {
    let templates = json!([
        {"name": "main", "steps": [
            [{"name": "gate", "template": "gate"}],
            [{"name": "after", "template": "work",
              "arguments": {"parameters": [{"name": "answer", "value": "{{steps.gate.outputs.parameters.answer}}"}]}}],
        ]},
        {"name": "gate", "suspend": {}, "outputs": {"parameters": [{"name": "answer", "valueFrom": {"supplied": {}}}]}},
        {"name": "work", "inputs": {"parameters": [{"name": "answer"}]},
         "metadata": {"annotations": {"player.argosy.dev/duration": "100ms"}},
         "container": {"image": "busybox", "command": ["work"], "args": ["{{inputs.parameters.answer}}"]}},
    ]);
    workflow("asks", json!({"entrypoint": "main", "templates": templates}))
}

/// A pod that succeeds, and one that ends with the exit code that the workflow's parameter says.
pub fn failing() -> Value {
    let mut second = pod("second", "100ms", "{{workflow.parameters.code}}");
    second["inputs"] = json!({});
    let templates =
        json!([steps("main", &[("first", "first"), ("second", "second")]), pod("first", "100ms", "0"), second]);
    workflow(
        "failing",
        json!({
            "entrypoint": "main", "templates": templates,
            "arguments": {"parameters": [{"name": "code", "value": "1"}]},
        }),
    )
}

/// A WorkflowTemplate of one pod.
pub fn template(name: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": name},
        "spec": one("100ms")["spec"],
    })
}

/// A CronWorkflow of such workflows.
pub fn cron(name: &str, schedule: &str, workflow: &Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "metadata": {"name": name},
        "spec": {"schedules": [schedule], "workflowSpec": workflow["spec"]},
    })
}
