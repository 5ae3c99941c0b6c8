//! Workflows of all shapes, and how each ends.

use serde_json::{Value, json};

/// What somebody does to a workflow on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Nothing,
    /// `argo resume`.
    Resume,
    /// `argo node set` with a value, then `argo resume` of that node.
    Answer,
    /// `argo stop`.
    Stop,
    /// `argo terminate`.
    Terminate,
}

/// A workflow, what is done to it once its node `gate` waits, and its phase in the end.
pub(super) struct Shape {
    pub(super) spec: Value,
    pub(super) deed: Deed,
    pub(super) end: &'static str,
}

/// Objects of the control cluster that they refer to.
pub(super) fn referred() -> Vec<Value> {
    let step = json!({"name": "go", "template": "leaf"});
    vec![
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": "leaves"},
            "spec": {"templates": [pod("leaf", "100ms", "0")]},
        }),
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": "whole"},
            "spec": {"entrypoint": "main", "templates": [steps("main", json!([[step], [skipped(3)]])), nothing(), pod("leaf", "100ms", "0")]},
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "words", "labels": {"workflows.argoproj.io/configmap-type": "Parameter"}},
            "data": {"word": "hello"},
        }),
    ]
}

/// The n-th: all shapes in turn.
pub(super) fn shape(n: usize) -> Shape {
    let work = || pod("work", "100ms", "0");
    let call = |name: &str, template: &str| json!({"name": name, "template": template});
    let (deed, end, spec) = match n % 20 {
        0 => fine(vec![steps("main", json!([[call("a", "work")], [call("b", "work")]])), work()]),
        1 => fine(vec![
            dag(json!([
                call("a", "work"),
                {"name": "b", "template": "nothing", "depends": "a"},
                {"name": "c", "template": "nothing", "depends": "a", "when": "{{tasks.a.status}} == Failed"},
                {"name": "d", "template": "nothing", "depends": "b && (c.Succeeded || c.Skipped)"},
            ])),
            work(),
            nothing(),
        ]),
        2 => fine(vec![
            steps("main", json!([[{"name": "each", "template": "work", "withItems": ["x", {"a": 1}, 3]}]])),
            work(),
        ]),
        3 => fine(vec![
            steps(
                "main",
                json!([
                    [call("list", "list")],
                    [{"name": "each", "template": "say", "withParam": "{{steps.list.outputs.result}}",
                      "arguments": {"parameters": [{"name": "word", "value": "{{item}}"}]}}],
                ]),
            ),
            annotated(script("list"), "outputs", r#"{"result": "[\"one\", \"two\"]"}"#),
            saying(),
        ]),
        4 => fine(vec![
            steps(
                "main",
                json!([[
                    {"name": "each", "template": "work", "withSequence": {"start": "1", "end": "6"}, "when": "{{item}} == 2"},
                ]]),
            ),
            work(),
        ]),
        5 => failing(vec![retried(pod("main", "100ms", "1"))]),
        // The first try fails.
        6 => fine(vec![retried(pod("main", "100ms", "{{=asInt(retries) == 0 ? 1 : 0}}"))]),
        7 => with(fine(vec![gate("main", Some("1s")), work()]), "onExit", json!("work")),
        8 => fine(vec![
            steps(
                "main",
                json!([[
                    {"name": "a", "template": "brief", "hooks": {"exit": {"template": "nothing"},
                     "running": {"template": "nothing", "expression": "steps.a.status == \"Running\""}}},
                ]]),
            ),
            gate("brief", Some("1s")),
            nothing(),
        ]),
        9 => fine(vec![
            steps("main", json!([[call("wait", "brief")], [call("work", "work")]])),
            gate("brief", Some("1s")),
            work(),
        ]),
        10 if n % 40 == 10 => {
            let spec = fine(vec![
                steps("main", json!([[call("gate", "gate")], [call("after", "nothing")]])),
                gate("gate", None),
                nothing(),
            ]);
            (Deed::Resume, spec.1, spec.2)
        }
        10 => {
            let mut gate = gate("gate", None);
            gate["outputs"] = json!({"parameters": [{"name": "answer", "valueFrom": {"supplied": {}}}]});
            let say = json!({"name": "say", "template": "say", "arguments": {"parameters": [
                {"name": "word", "value": "{{steps.gate.outputs.parameters.answer}}"}]}});
            let spec = fine(vec![steps("main", json!([[call("gate", "gate")], [say]])), gate, saying()]);
            (Deed::Answer, spec.1, spec.2)
        }
        11 => {
            fine(vec![steps("main", json!([[{"name": "a", "templateRef": {"name": "leaves", "template": "leaf"}}]]))])
        }
        12 => (Deed::Nothing, "Succeeded", json!({"workflowTemplateRef": {"name": "whole"}})),
        13 => failing(vec![
            steps("main", json!([[call("a", "bad")], [call("b", "nothing")]])),
            pod("bad", "100ms", "3"),
            nothing(),
        ]),
        14 => fine(vec![
            steps(
                "main",
                json!([[{"name": "a", "template": "bad", "continueOn": {"failed": true}}], [call("b", "nothing")]]),
            ),
            pod("bad", "100ms", "3"),
            nothing(),
        ]),
        15 if n % 40 == 15 => {
            (Deed::Stop, "Failed", fine(vec![steps("main", json!([[call("gate", "gate")]])), gate("gate", None)]).2)
        }
        15 => (
            Deed::Terminate,
            "Failed",
            fine(vec![
                steps("main", json!([[call("gate", "gate"), call("work", "long")]])),
                gate("gate", None),
                pod("long", "600s", "0"),
            ])
            .2,
        ),
        // A leaf that is omitted for a failure is a failure.
        16 => failing(vec![
            dag(json!([
                call("a", "bad"),
                {"name": "b", "template": "work", "depends": "a.Failed"},
                {"name": "c", "template": "nothing", "depends": "a.Succeeded"},
            ])),
            pod("bad", "100ms", "1"),
            work(),
            nothing(),
        ]),
        17 => {
            let word = json!({"parameters": [{"name": "word", "value": "{{workflow.parameters.word}} {{steps.a.outputs.parameters.x}}"}]});
            let mut first =
                annotated(pod("first", "100ms", "0"), "outputs", r#"{"parameters": [{"name": "x", "value": "1"}]}"#);
            first["outputs"] = json!({"parameters": [{"name": "x", "globalName": "x", "valueFrom": {"path": "/x"}}]});
            let spec = fine(vec![
                steps("main", json!([[call("a", "first")], [{"name": "b", "template": "say", "arguments": word}]])),
                first,
                saying(),
            ]);
            let from = json!({"configMapKeyRef": {"name": "words", "key": "word"}});
            with(spec, "arguments", json!({"parameters": [{"name": "word", "valueFrom": from}]}))
        }
        18 => fine(vec![
            steps("main", json!([[call("a", "graph"), skipped(5)]])),
            json!({"name": "graph", "dag": {"tasks": [call("a", "inner"), {"name": "b", "template": "inner", "depends": "a"}]}}),
            steps("inner", json!([[call("a", "nothing")], [skipped(5)]])),
            nothing(),
        ]),
        // Long enough that it is delivered before, on any machine: one that is not has no copy.
        _ => with(
            (Deed::Nothing, "Failed", fine(vec![steps("main", json!([[call("gate", "gate")]])), gate("gate", None)]).2),
            "activeDeadlineSeconds",
            json!(15),
        ),
    };
    Shape { spec, deed, end }
}

type Parts = (Deed, &'static str, Value);

fn fine(templates: Vec<Value>) -> Parts {
    (Deed::Nothing, "Succeeded", json!({"entrypoint": "main", "templates": templates}))
}

fn failing(templates: Vec<Value>) -> Parts {
    (Deed::Nothing, "Failed", fine(templates).2)
}

fn with((deed, end, mut spec): Parts, field: &str, value: Value) -> Parts {
    spec[field] = value;
    (deed, end, spec)
}

/// A template of one pod that a player runs so long and ends with this exit code.
pub(super) fn pod(name: &str, duration: &str, exit_code: &str) -> Value {
    let pod = json!({"name": name, "container": {"image": "busybox", "command": ["work"]}});
    annotated(annotated(pod, "duration", duration), "exit-code", exit_code)
}

/// With an annotation for the player.
pub(super) fn annotated(mut template: Value, name: &str, value: &str) -> Value {
    template["metadata"]["annotations"][format!("player.argosy.dev/{name}")] = value.into();
    template
}

fn script(name: &str) -> Value {
    let script = json!({"name": name, "script": {"image": "busybox", "command": ["sh"], "source": "list"}});
    annotated(script, "duration", "100ms")
}

/// A pod that is given a word.
fn saying() -> Value {
    let mut say = pod("say", "100ms", "0");
    say["inputs"] = json!({"parameters": [{"name": "word"}]});
    say["container"]["args"] = json!(["{{inputs.parameters.word}}"]);
    say
}

fn retried(mut template: Value) -> Value {
    template["retryStrategy"] = json!({"limit": "1"});
    template
}

/// A template that makes a node and no pod.
fn nothing() -> Value {
    gate("nothing", Some("0s"))
}

/// A node that waits for so long, or for somebody.
pub(super) fn gate(name: &str, duration: Option<&str>) -> Value {
    json!({"name": name, "suspend": duration.map_or(json!({}), |duration| json!({"duration": duration}))})
}

/// A step of so many nodes that are skipped.
fn skipped(count: usize) -> Value {
    json!({"name": "skip", "template": "nothing", "withSequence": {"count": count.to_string()}, "when": "1 == 2"})
}

pub(super) fn steps(name: &str, groups: Value) -> Value {
    json!({"name": name, "steps": groups})
}

fn dag(tasks: Value) -> Value {
    json!({"name": "main", "dag": {"tasks": tasks}})
}
