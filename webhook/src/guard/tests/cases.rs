use rstest::rstest;
use serde_json::{Value, json};

use super::cli::{NOW, asking, finished, node, remove, resume, retry, running, set, set_output, stop_gate, typed};
use super::*;

const SUSPEND: &str = "/metadata/annotations/argosy.dev~1suspend";
const DONE: &str = "/metadata/annotations/argosy.dev~1intents-done";
const INTENTS: &str = "/metadata/annotations/argosy.dev~1intents";
const COMPLETED: &str = "/metadata/labels/workflows.argoproj.io~1completed";

fn passed() -> Value {
    json!({"phase": "Succeeded", "finishedAt": NOW})
}

fn approval(id: u64) -> Value {
    json!({"id": id, "kind": "nodes", "nodes": {"gate": passed()}})
}

/// What stands on the original after its gate was passed.
const PASSED: [&str; 2] =
    [r#"/status/nodes/gate/finishedAt: "2026-01-02T04:00:00Z""#, r#"/status/nodes/gate/phase: "Succeeded""#];

/// What stands on the original after a retry.
const RUNS: [&str; 9] = [
    r#"/metadata/labels/workflows.argoproj.io/completed: "false""#,
    r#"/metadata/labels/workflows.argoproj.io/phase: "Running""#,
    "/metadata/labels/workflows.argoproj.io/workflow-archiving-status is gone",
    "/spec/shutdown is gone",
    r#"/status/conditions: [{"status":"False","type":"PodRunning"},{"status":"False","type":"Completed"}]"#,
    "/status/finishedAt is gone",
    "/status/message is gone",
    r#"/status/phase: "Running""#,
    r#"/status/startedAt: "2026-01-02T04:00:00Z""#,
];

fn retried(phase: Option<&str>) -> Value {
    json!({
        "id": 1, "kind": "retry",
        "removed": ["step"],
        "reset": {"wf": {"phase": "Running", "message": null, "startedAt": NOW, "finishedAt": null, "children": ["gate"]}},
        "status": {
            "phase": phase, "message": null, "startedAt": NOW, "finishedAt": null,
            "conditions": [{"type": "PodRunning", "status": "False"}, {"type": "Completed", "status": "False"}],
        },
    })
}

fn with(workflow: Value, more: Value) -> Value {
    edit(workflow, &json!([more]))
}

fn lines(left: &[&str], more: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = left.iter().chain(more).map(|line| (*line).to_owned()).collect();
    lines.sort();
    lines
}

/// What a command leaves on the original, beside the list of intents, and that list.
#[rstest]
#[case::resume(running(), resume(running()), &PASSED, vec![approval(1)])]
#[case::resume_where_nothing_waits(
    with(running(), remove("/status/nodes/gate")), resume(with(running(), remove("/status/nodes/gate"))), &[], vec![]
)]
#[case::resume_of_what_is_to_be_suspended_there(
    with(with(running(), remove("/status")), set(SUSPEND, "true")),
    resume(with(with(running(), remove("/status")), set(SUSPEND, "true"))),
    &["/metadata/annotations/argosy.dev/suspend is gone"], vec![]
)]
#[case::resume_by_hand(running(), with(running(), set("/spec/suspend", false)), &[], vec![])]
#[case::resume_by_hand_with_null(running(), with(running(), set("/spec/suspend", Value::Null)), &[], vec![])]
#[case::resume_of_a_pending_gate(
    with(running(), set("/status/nodes/gate/phase", "Pending")),
    with(running(), set("/status/nodes/gate/phase", "Succeeded")),
    &PASSED[1..], vec![json!({"id": 1, "kind": "nodes", "nodes": {"gate": {"phase": "Succeeded"}}})]
)]
#[case::stop_of_a_gate(
    running(), stop_gate(running(), "no"),
    &[PASSED[0], r#"/status/nodes/gate/message: "no""#, r#"/status/nodes/gate/phase: "Failed""#],
    vec![json!({"id": 1, "kind": "nodes", "nodes": {"gate": {"phase": "Failed", "finishedAt": NOW, "message": "no"}}})]
)]
#[case::node_set(
    asking(), set_output(asking(), "yes"),
    &[
        r#"/status/nodes/gate/outputs/parameters: [{"globalName":"ok","name":"ok","value":"yes"}]"#,
        r#"/status/outputs: {"parameters":[{"name":"ok","value":"yes"}]}"#,
    ],
    vec![json!({
        "id": 1, "kind": "nodes",
        "nodes": {"gate": {"outputs": {"parameters": [{"name": "ok", "globalName": "ok", "value": "yes"}]}}},
        "outputs": [{"name": "ok", "value": "yes"}],
    })]
)]
#[case::node_set_beside_other_outputs(
    with(asking(), set("/status/outputs", json!({"parameters": [{"name": "a", "value": "b"}]}))),
    with(
        set_output(asking(), "yes"),
        set("/status/outputs", json!({"parameters": [{"name": "a", "value": "b"}, {"name": "ok", "value": "yes"}]})),
    ),
    &[
        r#"/status/nodes/gate/outputs/parameters: [{"globalName":"ok","name":"ok","value":"yes"}]"#,
        r#"/status/outputs/parameters: [{"name":"a","value":"b"},{"name":"ok","value":"yes"}]"#,
    ],
    vec![json!({
        "id": 1, "kind": "nodes",
        "nodes": {"gate": {"outputs": {"parameters": [{"name": "ok", "globalName": "ok", "value": "yes"}]}}},
        "outputs": [{"name": "ok", "value": "yes"}],
    })]
)]
#[case::node_set_to_nothing(
    asking(), with(asking(), set("/status/nodes/gate/outputs/parameters", json!([{"name": "ok", "value": ""}]))),
    &[r#"/status/nodes/gate/outputs/parameters: [{"name":"ok","value":""}]"#],
    vec![json!({"id": 1, "kind": "nodes", "nodes": {"gate": {"outputs": {"parameters": [{"name": "ok", "value": ""}]}}}})]
)]
#[case::stop_with_the_round_trip_of_another_command(
    running(), with(typed(running()), set("/spec/shutdown", "Stop")), &[r#"/spec/shutdown: "Stop""#], vec![]
)]
#[case::a_round_trip_alone(running(), typed(running()), &[], vec![])]
#[case::a_round_trip_without_a_status(
    with(running(), remove("/status")), typed(with(running(), remove("/status"))), &[], vec![]
)]
#[case::a_label_beside_a_round_trip(
    running(), with(typed(running()), set("/metadata/labels/team", "b")), &[r#"/metadata/labels/team: "b""#], vec![]
)]
#[case::retry_of_argo_3(finished(), retry(finished(), 3), &RUNS, vec![retried(Some("Running"))])]
#[case::retry_of_argo_4(finished(), retry(finished(), 4), &RUNS, vec![retried(None)])]
#[case::retry_of_what_never_had_nodes(
    with(finished(), remove("/status/nodes")), retry(with(finished(), remove("/status/nodes")), 3), &RUNS,
    vec![json!({"id": 1, "kind": "retry", "status": retried(Some("Running"))["status"]})]
)]
#[case::retry_with_another_parameter(
    with(finished(), set("/spec/arguments", json!({"parameters": [{"name": "a", "value": 1}, {"name": "b"}]}))),
    with(retry(finished(), 3), set("/spec/arguments", json!({"parameters": [{"name": "b", "value": ""}, {"name": "a", "value": "1"}]}))),
    &RUNS,
    vec![{
        let mut retried = retried(Some("Running"));
        retried["spec"] = json!({"arguments": {"parameters": [{"name": "b", "value": ""}, {"name": "a", "value": "1"}]}});
        retried
    }]
)]
#[case::retry_of_what_a_deadline_ended(
    with(finished(), set("/spec/activeDeadlineSeconds", 0)), retry(finished(), 3), &RUNS,
    vec![{
        let mut retried = retried(Some("Running"));
        retried["spec"] = json!({"activeDeadlineSeconds": null});
        retried
    }]
)]
#[case::retry_of_a_template(
    with(finished(), set("/status/storedWorkflowTemplateSpec", json!({"suspend": true, "shutdown": "Stop", "entrypoint": "e"}))),
    with(retry(finished(), 3), set("/status/storedWorkflowTemplateSpec", json!({"suspend": true, "entrypoint": "e"}))),
    &RUNS, vec![retried(Some("Running"))]
)]
#[case::retry_of_a_template_with_another_parameter(
    with(finished(), set("/status/storedWorkflowTemplateSpec", json!({"suspend": true, "shutdown": "Stop", "entrypoint": "e"}))),
    with(retry(finished(), 3), set("/status/storedWorkflowTemplateSpec", json!({
        "suspend": true, "entrypoint": "e", "arguments": {"parameters": [{"name": "a", "value": "1"}]},
    }))),
    &RUNS,
    vec![{
        let mut retried = retried(Some("Running"));
        retried["status"]["storedWorkflowTemplateSpec"] = json!({"arguments": {"parameters": [{"name": "a", "value": "1"}]}});
        retried
    }]
)]
#[case::retry_that_opens_a_gate_again(
    finished(),
    with(retry(finished(), 3), set("/status/nodes/gate", node("gate", "Suspend", "Running", &json!({"startedAt": NOW})))),
    &RUNS,
    vec![{
        let mut retried = retried(Some("Running"));
        retried["reset"]["gate"] = json!({"phase": "Running", "startedAt": NOW, "finishedAt": null});
        retried
    }]
)]
// Packed nodes: what is wished can be seen; what stands is the old nodes, which the fence cannot look into.
#[case::resume_of_packed_nodes(packed(running()), packed(resume(running())), &[], vec![approval(1)])]
#[case::node_set_of_packed_nodes(
    packed(asking()), packed(set_output(asking(), "yes")), &[],
    vec![json!({
        "id": 1, "kind": "nodes",
        "nodes": {"gate": {"outputs": {"parameters": [{"name": "ok", "globalName": "ok", "value": "yes"}]}}},
        "outputs": [{"name": "ok", "value": "yes"}],
    })]
)]
#[case::resume_that_unpacks(packed(running()), resume(running()), &[], vec![approval(1)])]
#[case::resume_that_packs(running(), packed(resume(running())), &PASSED, vec![approval(1)])]
#[case::a_round_trip_that_packs(running(), packed(typed(running())), &[], vec![])]
#[case::retry_of_packed_nodes(packed(finished()), packed(retry(finished(), 3)), &RUNS, vec![retried(Some("Running"))])]
#[case::retry_that_unpacks(packed(finished()), retry(finished(), 4), &RUNS, vec![retried(None)])]
// The list goes on.
#[case::behind_what_is_pending(
    with(running(), set(INTENTS, json!([approval(1)]).to_string())),
    with(resume(running()), set(INTENTS, json!([approval(1)]).to_string())), &PASSED, vec![approval(1), approval(2)]
)]
#[case::without_what_is_done(
    edit(running(), &json!([set(INTENTS, json!([approval(1), approval(2)]).to_string()), set(DONE, "1")])),
    edit(resume(running()), &json!([set(INTENTS, json!([approval(1), approval(2)]).to_string()), set(DONE, "1")])),
    &PASSED, vec![approval(2), approval(3)]
)]
#[case::without_any_annotation(
    with(running(), remove("/metadata/annotations")), with(resume(running()), remove("/metadata/annotations")), &PASSED,
    vec![approval(1)]
)]
fn commands(#[case] old: Value, #[case] new: Value, #[case] stands: &[&str], #[case] noted: Vec<Value>) {
    let (result, intent) = guarded(&old, &new);
    let list = json!(intents(&result));
    assert_eq!(list, json!(noted));
    assert_eq!(intent.is_some(), list != json!(intents(&old)));
    let is_list =
        |line: &String| line.starts_with("/metadata/annotations: ") || line.starts_with(&INTENTS.replace("~1", "/"));
    let mut left = difference(&old, &result);
    left.retain(|line| !is_list(line));
    left.sort();
    assert_eq!(left, lines(stands, &[]));
}

/// What is none of Argo's commands stays as it was written, for the fence.
#[rstest]
#[case::nothing_changes(running(), running())]
#[case::stop(running(), with(running(), set("/spec/shutdown", "Stop")))]
#[case::a_label(running(), with(running(), set("/metadata/labels/team", "b")))]
#[case::not_routed(
    with(running(), remove("/metadata/labels/kubestellar.io~1cluster")),
    resume(with(running(), remove("/metadata/labels/kubestellar.io~1cluster")))
)]
#[case::local(
    with(running(), set("/metadata/labels/kubestellar.io~1cluster", "local")),
    resume(with(running(), set("/metadata/labels/kubestellar.io~1cluster", "local")))
)]
#[case::to_another_cluster(running(), resume(with(running(), set("/metadata/labels/kubestellar.io~1cluster", "c2"))))]
#[case::not_suspended_before(
    with(running(), remove("/spec/suspend")),
    stop_gate(with(running(), remove("/spec/suspend")), "no")
)]
#[case::suspend_becomes_a_word(running(), with(running(), set("/spec/suspend", "no")))]
#[case::another_spec(running(), with(resume(running()), set("/spec/entrypoint", "gate")))]
#[case::a_template_goes(running(), with(resume(running()), remove("/spec/templates/2")))]
#[case::other_resources(
    running(),
    with(resume(running()), set("/spec/templates/2/container/resources/requests/cpu", "600m"))
)]
#[case::an_argument(running(), with(running(), set("/spec/arguments", json!({"parameters": [{"name": "a"}]}))))]
#[case::the_phase(running(), with(resume(running()), set("/status/phase", "Succeeded")))]
#[case::a_message(running(), with(running(), set("/status/message", "x")))]
#[case::a_missed_pod(running(), with(running(), set("/status/nodes/step/phase", "Error")))]
#[case::a_missed_pod_beside_an_approval(running(), with(resume(running()), set("/status/nodes/step/phase", "Error")))]
#[case::a_gate_that_was_passed(running(), with(running(), set("/status/nodes/old-gate/phase", "Failed")))]
#[case::a_gate_becomes_a_pod(running(), with(resume(running()), set("/status/nodes/gate/type", "Pod")))]
#[case::a_gate_takes_another_name(running(), with(resume(running()), set("/status/nodes/gate/name", "x")))]
#[case::a_gate_becomes_null(running(), with(resume(running()), set("/status/nodes/gate", Value::Null)))]
#[case::a_gate_goes(running(), with(resume(running()), remove("/status/nodes/gate")))]
#[case::a_node_comes(running(), with(resume(running()), set("/status/nodes/new", node("new", "Suspend", "Running", &json!({})))))]
#[case::outputs_alone(running(), with(running(), set("/status/outputs", json!({"parameters": [{"name": "a", "value": "b"}]}))))]
#[case::outputs_go(
    with(asking(), set("/status/outputs", json!({"parameters": [{"name": "a", "value": "b"}]}))), resume(asking())
)]
#[case::an_output_goes(
    with(asking(), set("/status/outputs", json!({"parameters": [{"name": "a", "value": "b"}]}))), set_output(asking(), "yes")
)]
#[case::an_exit_code_comes(running(), with(resume(running()), set("/status/outputs", json!({"exitCode": "0"}))))]
#[case::a_status_goes(running(), with(resume(running()), remove("/status")))]
#[case::nodes_become_a_word(running(), with(resume(running()), set("/status/nodes", "x")))]
#[case::a_status_becomes_a_word(running(), with(running(), set("/status", "x")))]
#[case::a_spec_becomes_a_word(running(), with(running(), set("/spec", "x")))]
#[case::offloaded(running(), edit(resume(running()), &json!([remove("/status/nodes"), set("/status/offloadNodeStatusVersion", "v")])))]
#[case::packed_and_plain(running(), with(resume(running()), set("/status/compressedNodes", packed(running())["status"]["compressedNodes"].clone())))]
#[case::packed_by_zstd(
    with(packed(running()), set("/status/compressedNodes", "KLUv/QQAOQAAeyJhIjoxfZ3ZW1A=")),
    resume(running())
)]
#[case::a_node_longer_than_any(packed(running()), packed(with(resume(running()), set("/status/nodes/gate/message", "x".repeat(1 << 20)))))]
#[case::only_completed_goes(finished(), with(finished(), remove(COMPLETED)))]
#[case::only_the_phase_runs(finished(), with(finished(), set("/status/phase", "Running")))]
#[case::a_running_one_is_retried(running(), retry(with(running(), set("/status/conditions/1", json!({}))), 3))]
#[case::a_retry_adds_a_node(finished(), with(retry(finished(), 3), set("/status/nodes/new", node("new", "Pod", "Running", &json!({})))))]
#[case::a_retry_with_another_template(finished(), with(retry(finished(), 3), set("/spec/entrypoint", "gate")))]
#[case::a_retry_that_is_stopped(finished(), with(retry(finished(), 3), set("/spec/shutdown", "Stop")))]
fn left_to_the_fence(#[case] old: Value, #[case] new: Value) {
    assert_eq!(ask(&old, &new), Answer::Leave);
}

/// `argo node set` and `argo resume` are two writes, and the second reads the first's value from the original.
#[test]
fn the_next_command_finds_what_the_last_one_set() {
    let (between, _) = guarded(&asking(), &set_output(asking(), "yes"));
    let (after, _) = guarded(&between, &resume(between.clone()));
    assert_eq!(after["status"]["nodes"]["gate"]["outputs"]["parameters"][0]["value"], "yes");
    let kinds: Vec<Value> = intents(&after).iter().map(|intent| json!(intent)["nodes"]["gate"].clone()).collect();
    assert_eq!(kinds[1], passed());
    assert_eq!(kinds.len(), 2);
}

#[test]
fn a_wish_without_room_is_refused() {
    let old = with(running(), set("/metadata/annotations/other", "x".repeat(239 << 10)));
    let new = with(resume(running()), set("/metadata/annotations/other", "x".repeat(239 << 10)));
    let long = stop_gate(new, &"y".repeat(2000));
    let long = with(long, set("/status/nodes/gate/message", "y".repeat(2000)));
    let Answer::Refuse { status, message } = ask(&old, &long) else { panic!("taken") };
    assert_eq!(status, 413);
    assert!(message.starts_with("Workflow team/wf: annotation argosy.dev/intents has no room"), "{message}");
}

/// A user's own list is taken as it is, and another write of it beside a command does not hide the command.
#[test]
fn a_list_by_another_hand_does_not_hide_a_command() {
    let forged = json!([{"id": 7, "kind": "retry"}]).to_string();
    let (result, _) = guarded(&running(), &with(resume(running()), set(INTENTS, forged)));
    assert_eq!(json!(intents(&result)), json!([{"id": 7, "kind": "retry"}, approval(8)]));
    let (result, _) = guarded(&running(), &with(resume(running()), set(INTENTS, "none")));
    assert_eq!(json!(intents(&result)), json!([approval(1)]));
}
