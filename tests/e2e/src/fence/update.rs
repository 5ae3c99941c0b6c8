//! The fence: what may change of a routed workflow, and by whom.

use serde_json::{Value, json};

use super::original::node;
use super::{Author, Change, Expect, FenceCase, Write};
use Author::{Controller, Namesake, Syncer, User};
use Change::{Apply, Delete, Json, Merge, Put};

pub(super) const STATUS: &str = "status of a routed workflow comes from the cluster";
pub(super) const SPEC: &str = "spec of a routed workflow does not change";
pub(super) const SHUTDOWN: &str = "spec.shutdown of a routed workflow may become Stop or Terminate";
const CLUSTER: &str = "where a workflow runs is decided at its creation";
pub(super) const LABELS: &str = "come from the cluster that it runs in";
const ANNOTATIONS: &str = "of the annotations argosy.dev/* of a routed workflow";

pub(super) const INTENTS: &str = "/metadata/annotations/argosy.dev~1intents";
pub(super) const LABEL: &str = "/metadata/labels/kubestellar.io~1cluster";
pub(super) const PHASE: &str = "/metadata/labels/workflows.argoproj.io~1phase";
pub(super) const COMPLETED: &str = "/metadata/labels/workflows.argoproj.io~1completed";
pub(super) const ARCHIVING: &str = "/metadata/labels/workflows.argoproj.io~1workflow-archiving-status";
pub(super) const PLACEMENT: &str = "/metadata/annotations/argosy.dev~1placement";
pub(super) const DELIVERY: &str = "/metadata/annotations/argosy.dev~1delivery";
const SUSPEND: &str = "/metadata/annotations/argosy.dev~1suspend";
pub(super) const DONE: &str = "/metadata/annotations/argosy.dev~1intents-done";

pub(super) fn set(path: &str, value: impl Into<Value>) -> Value {
    json!({"op": "add", "path": path, "value": value.into()})
}

pub(super) fn remove(path: &str) -> Value {
    json!({"op": "remove", "path": path})
}

/// A JSON Patch of these operations.
pub(super) fn all<const N: usize>(operations: [Value; N]) -> Change {
    Json(Value::Array(operations.to_vec()))
}

/// What a user approves with.
fn approve() -> Value {
    set("/status/nodes/gate/phase", "Succeeded")
}

/// What the guard writes beside a user's approval.
pub(super) fn intent() -> Value {
    set(INTENTS, "[2]")
}

pub(super) fn case(name: &'static str, given: Vec<Value>, by: Author, change: Change, expect: Expect) -> FenceCase {
    FenceCase { name, write: Write::Change { given: Value::Array(given), by, change }, expect }
}

pub(super) fn refused() -> Vec<FenceCase> {
    let mut cases = refused_status();
    cases.extend(refused_spec());
    cases.extend(refused_metadata());
    cases
}

fn refused_status() -> Vec<FenceCase> {
    let no = |name, by, change| case(name, vec![], by, change, Expect::Denied(STATUS));
    vec![
        no("the controller ends the original", Controller, all([set("/status/phase", "Failed")])),
        no("the controller adds a message", Controller, all([set("/status/message", "x")])),
        no("the controller misses a pod", Controller, all([set("/status/nodes/step/phase", "Error")])),
        no("the controller writes the whole object", Controller, Put(|wf| wf["status"]["phase"] = json!("Error"))),
        case(
            "the controller marks a new original running",
            vec![remove("/status"), remove(PHASE), remove(COMPLETED)],
            Controller,
            all([set("/status", json!({"phase": "Running"}))]),
            Expect::Denied(STATUS),
        ),
        no("a namesake of the syncer writes status", Namesake, all([set("/status/phase", "Failed")])),
        no("a user applies a status", User, Apply(json!({"metadata": {}, "status": {"phase": "Succeeded"}}))),
        no("a key of status goes", User, all([remove("/status/progress")])),
        no("status goes", User, all([remove("/status")])),
        no("status becomes null", User, Merge(json!({"status": null}))),
        no("status becomes empty", User, all([set("/status", json!({}))])),
        no("all nodes go", User, all([remove("/status/nodes")])),
        no("outputs change", User, all([set("/status/outputs/parameters/0/value", "2")])),
        no("outputs change with an intent", User, all([intent(), set("/status/outputs", json!({}))])),
        no("a gate is approved without an intent", User, all([set("/status/nodes/gate/phase", "Succeeded")])),
        no(
            "a gate is approved with the intents that were there",
            User,
            all([set(INTENTS, "[1]"), set("/status/nodes/gate/phase", "Succeeded")]),
        ),
        no(
            "a gate is approved and the intents go",
            User,
            all([remove(INTENTS), set("/status/nodes/gate/phase", "Succeeded")]),
        ),
        no("a step changes with an intent", User, all([intent(), set("/status/nodes/step/phase", "Error")])),
        no(
            "a step changes beside an approval",
            User,
            all([intent(), set("/status/nodes/gate/phase", "Succeeded"), set("/status/nodes/step/phase", "Error")]),
        ),
        no(
            "a gate that is done changes with an intent",
            User,
            all([intent(), set("/status/nodes/old-gate/phase", "Failed")]),
        ),
        no("a gate that is done opens again", User, all([intent(), set("/status/nodes/old-gate/phase", "Running")])),
        no("a gate becomes a pod", User, all([intent(), set("/status/nodes/gate/type", "Pod")])),
        no("a step becomes a gate", User, all([intent(), set("/status/nodes/step/type", "Suspend")])),
        no("a gate takes another ID", User, all([intent(), set("/status/nodes/gate/id", "step")])),
        no("a gate takes another name", User, all([intent(), set("/status/nodes/gate/name", "step")])),
        no("a gate takes another template", User, all([intent(), set("/status/nodes/gate/templateName", "x")])),
        no(
            "a node comes with an intent",
            User,
            all([intent(), set("/status/nodes/new", node("new", "Pod", "Failed"))]),
        ),
        no(
            "a gate comes with an intent",
            User,
            all([intent(), set("/status/nodes/n", node("n", "Suspend", "Running"))]),
        ),
        no("a gate goes with an intent", User, all([intent(), remove("/status/nodes/gate")])),
        no(
            "a gate goes and another comes",
            User,
            all([intent(), remove("/status/nodes/gate"), set("/status/nodes/n", node("n", "Suspend", "Running"))]),
        ),
        no(
            "the phase changes beside an approval",
            User,
            all([intent(), set("/status/nodes/gate/phase", "Succeeded"), set("/status/phase", "Succeeded")]),
        ),
        no(
            "a key of status goes beside an approval",
            User,
            all([intent(), set("/status/nodes/gate/phase", "Succeeded"), remove("/status/progress")]),
        ),
        no(
            "nodes are exchanged for packed ones",
            User,
            all([intent(), remove("/status/nodes"), set("/status/compressedNodes", "H4sI")]),
        ),
        case(
            "a finished original changes",
            vec![set("/status/phase", "Succeeded"), set(PHASE, "Succeeded"), set(COMPLETED, "true")],
            User,
            all([set("/status/phase", "Running")]),
            Expect::Denied(STATUS),
        ),
        case(
            "a waiting original gets a status",
            vec![set(LABEL, ""), set("/status", json!({"phase": "Pending"}))],
            Controller,
            all([set("/status/phase", "Running")]),
            Expect::Denied(STATUS),
        ),
    ]
}

fn refused_spec() -> Vec<FenceCase> {
    let no = |name, by, change| case(name, vec![], by, change, Expect::Denied(SPEC));
    let stopped =
        |name, change| case(name, vec![set("/spec/shutdown", "Stop")], User, change, Expect::Denied(SHUTDOWN));
    vec![
        no("suspend goes", User, all([remove("/spec/suspend")])),
        no("suspend becomes false", User, all([set("/spec/suspend", false)])),
        no("suspend becomes null", User, Merge(json!({"spec": {"suspend": null}}))),
        no("the controller writes defaults", Controller, all([set("/spec/ttlStrategy", json!({}))])),
        no("an argument comes", User, all([set("/spec/arguments", json!({"parameters": [{"name": "a"}]}))])),
        no("a template changes", User, all([set("/spec/templates/0/suspend", json!({"duration": "1s"}))])),
        no("the entrypoint goes", User, all([remove("/spec/entrypoint")])),
        no("spec becomes empty", User, all([set("/spec", json!({}))])),
        no("spec becomes shutdown alone", User, all([set("/spec", json!({"shutdown": "Stop"}))])),
        no("suspend goes beside shutdown", User, all([set("/spec/shutdown", "Stop"), remove("/spec/suspend")])),
        no(
            "resume, as the CLI writes it",
            User,
            Put(|wf| {
                wf["spec"]["suspend"] = json!(false);
                wf["status"]["nodes"]["gate"]["phase"] = json!("Succeeded");
            }),
        ),
        stopped("shutdown is taken back", all([remove("/spec/shutdown")])),
        stopped("shutdown becomes empty", all([set("/spec/shutdown", "")])),
        case(
            "shutdown becomes a word of its own",
            vec![],
            User,
            all([set("/spec/shutdown", "Now")]),
            Expect::Denied(SHUTDOWN),
        ),
    ]
}

fn refused_metadata() -> Vec<FenceCase> {
    let label = |name, by, change| case(name, vec![], by, change, Expect::Denied(CLUSTER));
    let argo = |name, by, change| case(name, vec![], by, change, Expect::Denied(LABELS));
    let ours = |name, by, change| case(name, vec![], by, change, Expect::Denied(ANNOTATIONS));
    vec![
        case(
            "the intents go",
            vec![],
            User,
            all([remove(INTENTS)]),
            Expect::Denied("annotation argosy.dev/intents of a routed workflow is not taken off"),
        ),
        label("the label goes", User, all([remove(LABEL)])),
        label("all labels go", User, all([remove("/metadata/labels")])),
        label("labels become null", User, Merge(json!({"metadata": {"labels": null}}))),
        label("the label becomes empty", User, all([set(LABEL, "")])),
        label("the label becomes local", User, all([set(LABEL, "local")])),
        label("the label names another cluster", User, all([set(LABEL, "cluster2")])),
        label("the controller takes the label off", Controller, all([remove(LABEL)])),
        label("the label goes and a status comes", User, all([remove(LABEL), set("/status/phase", "Error")])),
        case(
            "an unrouted workflow gets the label",
            vec![remove(LABEL)],
            User,
            all([set(LABEL, "elsewhere")]),
            Expect::Denied(CLUSTER),
        ),
        case(
            "an unrouted workflow gets an empty label",
            vec![remove(LABEL)],
            User,
            all([set(LABEL, "")]),
            Expect::Denied(CLUSTER),
        ),
        case(
            "a workflow without any label gets this one",
            vec![remove("/metadata/labels"), remove("/metadata/annotations"), remove("/status")],
            User,
            all([set("/metadata/labels", json!({"kubestellar.io/cluster": "elsewhere"}))]),
            Expect::Denied(CLUSTER),
        ),
        case(
            "a local workflow is sent away",
            vec![set(LABEL, "local")],
            User,
            all([set(LABEL, "elsewhere")]),
            Expect::Denied(CLUSTER),
        ),
        case(
            "a waiting workflow is placed by hand",
            vec![set(LABEL, "")],
            User,
            all([set(LABEL, "elsewhere")]),
            Expect::Denied(CLUSTER),
        ),
        case(
            "Argo's finalizer for artifacts comes",
            vec![],
            Controller,
            Merge(json!({"metadata": {"finalizers": ["workflows.argoproj.io/artifact-gc"]}})),
            Expect::Denied("this cluster's own Argo would make pods"),
        ),
        argo("completed is set", User, all([set(COMPLETED, "true")])),
        argo("completed goes", User, all([remove(COMPLETED)])),
        argo("the phase label changes", Controller, all([set(PHASE, "Failed")])),
        argo("the phase label goes", User, all([remove(PHASE)])),
        case(
            "a phase label comes",
            vec![remove(PHASE)],
            Controller,
            all([set(PHASE, "Running")]),
            Expect::Denied(LABELS),
        ),
        ours("the stamp changes", User, all([set(PLACEMENT, "{\"a\":1}")])),
        ours("the stamp goes", User, all([remove(PLACEMENT)])),
        ours("the delivery changes", User, all([set(DELIVERY, "{\"attempt\":9}")])),
        ours("the delivery goes", User, all([remove(DELIVERY)])),
        ours(
            "an annotation of ours that nobody knows comes",
            User,
            all([set("/metadata/annotations/argosy.dev~1x", "1")]),
        ),
        ours("an intent is declared done", User, all([set(DONE, "1")])),
        ours("an intent is declared done beside an approval", User, all([intent(), set(DONE, "1"), approve()])),
        case(
            "an intent is declared undone",
            vec![set(DONE, "1")],
            User,
            all([remove(DONE)]),
            Expect::Denied(ANNOTATIONS),
        ),
        ours("all annotations go", User, all([remove("/metadata/annotations")])),
        ours("annotations become null", User, Merge(json!({"metadata": {"annotations": null}}))),
        ours("a namesake of the syncer writes a delivery", Namesake, all([set(DELIVERY, "{}x")])),
    ]
}

pub(super) fn allowed() -> Vec<FenceCase> {
    let yes = |name, by, change| case(name, vec![], by, change, Expect::Allowed);
    let unrouted = |name, by, change| case(name, vec![remove(LABEL)], by, change, Expect::Allowed);
    let local = |name, by, change| case(name, vec![set(LABEL, "local")], by, change, Expect::Allowed);
    let doomed = || vec![set("/metadata/finalizers", json!(["example.com/wait"]))];
    vec![
        yes("stop", User, all([set("/spec/shutdown", "Stop")])),
        yes("terminate, as the CLI writes it", User, Merge(json!({"spec": {"shutdown": "Terminate"}}))),
        case(
            "stop becomes terminate",
            vec![set("/spec/shutdown", "Stop")],
            User,
            all([set("/spec/shutdown", "Terminate")]),
            Expect::Allowed,
        ),
        case(
            "stop again",
            vec![set("/spec/shutdown", "Stop")],
            User,
            all([set("/spec/shutdown", "Stop")]),
            Expect::Allowed,
        ),
        case(
            "a shutdown that was odd from the start stays",
            vec![set("/spec/shutdown", "Later")],
            User,
            all([set("/metadata/labels/team", "b")]),
            Expect::Allowed,
        ),
        yes("the wish to suspend", User, all([set(SUSPEND, "true")])),
        case("the wish to suspend goes", vec![set(SUSPEND, "true")], User, all([remove(SUSPEND)]), Expect::Allowed),
        yes("an intent", User, all([intent()])),
        yes(
            "another annotation",
            User,
            all([set("/metadata/annotations/note", "x"), remove("/metadata/annotations/note")]),
        ),
        yes("another label", User, all([set("/metadata/labels/team", "b")])),
        yes("the controller archives", Controller, all([set(ARCHIVING, "Archived")])),
        yes("nothing changes", User, Put(|_| ())),
        yes("the same status again", Controller, all([set("/status/phase", "Running")])),
        yes(
            "an owner comes",
            User,
            all([set(
                "/metadata/ownerReferences",
                json!([
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}
                ]),
            )]),
        ),
        case(
            "delete --force frees finalizers",
            doomed(),
            User,
            Merge(json!({"metadata": {"finalizers": null}})),
            Expect::Allowed,
        ),
        case("delete", vec![], User, Delete, Expect::Allowed),
        case("delete with a finalizer", doomed(), User, Delete, Expect::Allowed),
        yes(
            "a gate is approved",
            User,
            all([
                intent(),
                set("/status/nodes/gate/phase", "Succeeded"),
                set("/status/nodes/gate/finishedAt", "2026-01-02T03:05:05Z"),
                set("/status/nodes/gate/message", "approved"),
            ]),
        ),
        yes("a gate is refused", User, all([intent(), set("/status/nodes/gate/phase", "Failed")])),
        yes(
            "a gate's output is set",
            User,
            all([
                intent(),
                set("/status/nodes/gate/outputs", json!({"parameters": [{"name": "a", "value": "2"}]})),
                set("/status/outputs/parameters/0/value", "2"),
            ]),
        ),
        yes(
            "a gate's first intent",
            User,
            Put(|wf| {
                wf["metadata"]["annotations"]["argosy.dev/intents"] = json!("[3]");
                wf["status"]["nodes"]["gate"]["phase"] = json!("Succeeded");
            }),
        ),
        yes("a pending gate is approved", User, all([intent(), set("/status/nodes/next-gate/phase", "Succeeded")])),
        case(
            "a gate is approved on an original without intents",
            vec![remove(INTENTS)],
            User,
            all([intent(), set("/status/nodes/gate/phase", "Succeeded")]),
            Expect::Allowed,
        ),
        yes(
            "the syncer writes status",
            Syncer,
            all([set("/status/nodes/step/phase", "Succeeded"), remove("/status/progress")]),
        ),
        yes("the syncer writes Argo's labels", Syncer, all([set(PHASE, "Succeeded"), set(COMPLETED, "true")])),
        yes("the syncer writes its record", Syncer, all([set(DELIVERY, "{\"attempt\":1}")])),
        case(
            "the syncer places what waits",
            vec![set(LABEL, "")],
            Syncer,
            all([set(LABEL, "elsewhere")]),
            Expect::Allowed,
        ),
        unrouted(
            "a status in an unrouted workflow",
            Controller,
            all([set("/status/phase", "Failed"), remove("/status/nodes")]),
        ),
        unrouted(
            "a spec in an unrouted workflow",
            User,
            all([set("/spec/suspend", false), remove("/spec/entrypoint")]),
        ),
        unrouted("an unrouted workflow becomes local", User, all([set(LABEL, "local")])),
        local(
            "a status in a local workflow",
            Controller,
            all([set("/status/phase", "Failed"), set(COMPLETED, "true")]),
        ),
        local("a spec in a local workflow", User, all([remove("/spec/suspend")])),
        local("a local workflow loses its label", User, all([remove(LABEL)])),
    ]
}

/// Shapes that Argo would not write. The minimal CRDs let them in.
pub(super) fn odd() -> Vec<FenceCase> {
    let no = |name, given: Vec<Value>, change| case(name, given, User, change, Expect::DeniedIfPossible);
    let yes = |name, given: Vec<Value>, change| case(name, given, User, change, Expect::AllowedIfPossible);
    let approve = || all([intent(), set("/status/nodes/gate/phase", "Succeeded")]);
    let label = || all([set("/metadata/labels/team", "b")]);
    vec![
        no("nodes become a string", vec![], all([intent(), set("/status/nodes", "none")])),
        no("a gate loses its name", vec![], all([intent(), remove("/status/nodes/gate/name")])),
        no("a gate becomes empty", vec![], all([intent(), set("/status/nodes/gate", json!({}))])),
        no("a gate becomes a word", vec![], all([intent(), set("/status/nodes/gate", "Succeeded")])),
        no(
            "nodes were a list",
            vec![set("/status/nodes", json!([1]))],
            all([intent(), set("/status/nodes", json!({}))]),
        ),
        no(
            "nodes were null",
            vec![set("/status/nodes", Value::Null)],
            all([intent(), set("/status/nodes", json!({"a": {}}))]),
        ),
        no("a node was a number", vec![set("/status/nodes/step", 5)], all([intent(), set("/status/nodes/step", 6)])),
        yes("a node is a number beside an approval", vec![set("/status/nodes/step", 5)], approve()),
        no("a gate's phase was a list", vec![set("/status/nodes/gate/phase", json!([]))], approve()),
        no("a gate's type was a number", vec![set("/status/nodes/gate/type", 5)], approve()),
        no("suspend becomes a word", vec![], all([set("/spec/suspend", "true")])),
        no("shutdown becomes a number", vec![], all([set("/spec/shutdown", 1)])),
        no("status becomes a word", vec![], all([set("/status", "Running")])),
        no("status was null", vec![set("/status", Value::Null)], all([set("/status", json!({"phase": "Running"}))])),
        yes("a label where status is null", vec![set("/status", Value::Null)], label()),
        yes("a label where nodes are a word", vec![set("/status/nodes", "x")], label()),
        yes("a label where suspend is a word", vec![set("/spec/suspend", "x")], label()),
        yes("a label where spec is empty", vec![set("/spec", json!({})), remove("/status")], label()),
        yes(
            "an unrouted workflow of any shape",
            vec![remove(LABEL), set("/status/nodes", "x")],
            all([set("/status/nodes", 5), set("/spec/suspend", "x")]),
        ),
    ]
}
