//! The tables say what a spec asks for as `RESOURCE AMOUNT, …, pods N`: at one time at most.

mod calls;
mod odd;
mod peak;
mod pods;

use serde_json::{Value, json};

use super::*;

fn spec(value: &Value) -> Spec {
    serde_json::from_str(&value.to_string()).unwrap()
}

/// One WorkflowTemplate `lib` in namespace `team`, one ClusterWorkflowTemplate `shared`.
struct Library;

impl Templates for Library {
    fn workflow_template(&self, namespace: &str, name: &str) -> Option<Arc<Spec>> {
        (namespace == "team" && name == "lib").then(|| {
            Arc::new(spec(&json!({
                "entrypoint": "train", "nodeSelector": {"pool": "lib", "disk": "ssd"}, "parallelism": 2,
                "arguments": {"parameters": [{"name": "cpu", "value": "3"}, {"name": "other"}]},
                "templateDefaults": {"container": cpu("20m")},
                "templates": [
                    {"name": "train", "container": cpu("{{workflow.parameters.cpu}}")},
                    {"name": "twice", "steps": [[{"name": "a", "template": "train"}], [{"name": "b", "template": "train"}]]},
                    {"name": "one", "container": cpu("100m")},
                    {"name": "has-one", "steps": [[{"name": "a", "template": "one"}]]},
                    {"name": "bare", "container": {"image": "i"}},
                ],
            })))
        })
    }

    fn cluster_workflow_template(&self, name: &str) -> Option<Arc<Spec>> {
        let template = json!({"templates": [{"name": "small", "script": {"resources": {"requests": {"cpu": "1m"}}}}]});
        (name == "shared").then(|| Arc::new(spec(&template)))
    }
}

fn ask(value: &Value) -> Demand {
    demand("team", &spec(value), &Library)
}

/// What is asked for at one time, and what is not known.
fn asked(value: &Value) -> (String, Vec<String>) {
    let demand = ask(value);
    (demand.peak.to_string(), demand.unknown)
}

/// A container that asks for so much CPU.
fn cpu(cpu: &str) -> Value {
    json!({"name": "main", "resources": {"requests": {"cpu": cpu}}})
}

/// A call of a template.
fn call(name: &str, template: &str) -> Value {
    json!({"name": name, "template": template})
}

/// All fields of both.
fn with(mut object: Value, more: &Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// A workflow of these templates: `main` is called with the workflow's arguments; `one` asks for 1 CPU, `two` for 2,
/// `sized` for as many as its input says.
fn workflow(main: &Value) -> Value {
    json!({"entrypoint": "main", "templates": [
        with(json!({"name": "main"}), main),
        {"name": "one", "container": cpu("1")},
        {"name": "two", "container": cpu("2")},
        {
            "name": "sized", "container": cpu("{{inputs.parameters.cpu}}"),
            "inputs": {"parameters": [{"name": "cpu", "default": "4"}, {"name": "other"}]},
        },
    ]})
}
