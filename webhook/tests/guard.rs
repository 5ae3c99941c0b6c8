//! Reviews of changes in, answers out, through the router. What the guard recognises is in `src/guard/tests`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod api_server;
mod served;

use argosy_api::{Intents, names};
use rstest::rstest;
use serde_json::{Value, json};
use served::{patch, send, webhook};

/// A routed workflow that waits at a gate.
fn waiting() -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {
            "name": "wf", "namespace": "team", "uid": "u", "resourceVersion": "7",
            "labels": {"kubestellar.io/cluster": "c1"},
            "annotations": {"argosy.dev/placement": "{}"},
            "managedFields": [{"manager": "argo", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {"suspend": true, "entrypoint": "gate", "templates": [{"name": "gate", "suspend": {}}]},
        "status": {"phase": "Running", "nodes": {"wf": {"id": "wf", "name": "wf", "type": "Suspend", "phase": "Running"}}},
    })
}

/// The same after `argo resume`.
fn resumed() -> Value {
    let mut workflow = waiting();
    workflow["spec"].as_object_mut().unwrap().remove("suspend");
    workflow["spec"]["arguments"] = json!({});
    workflow["status"]["nodes"]["wf"]["phase"] = json!("Succeeded");
    workflow
}

fn review(old: &Value, new: &Value) -> Value {
    served::review("UPDATE", "team", new, old)
}

#[tokio::test]
async fn argo_resume_is_noted_and_given_back_once() {
    let (router, registry) = webhook().await;
    let response = send(&router, "/guard", review(&waiting(), &resumed()).to_string()).await;
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("7f0b2c3d"), &json!(true)));
    let mut result = resumed();
    json_patch::patch(&mut result, &patch(&response)).unwrap();
    assert_eq!(result["spec"], waiting()["spec"]);
    assert_eq!(result["status"]["nodes"]["wf"]["phase"], "Succeeded");
    let noted = result["metadata"]["annotations"][names::INTENTS].as_str().unwrap();
    let noted: Intents = serde_json::from_str(noted).unwrap();
    assert_eq!(json!(noted), json!([{"id": 1, "kind": "nodes", "nodes": {"wf": {"phase": "Succeeded"}}}]));

    // As the API server asks again when another webhook has changed the object since.
    result["metadata"]["labels"]["team"] = json!("a");
    let again = send(&router, "/guard", review(&waiting(), &result).to_string()).await;
    assert_eq!((&again["allowed"], again.get("patch")), (&json!(true), None));

    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for outcome in ["noted", "left"] {
        let line = format!("argosy_webhook_reviews_total{{outcome=\"{outcome}\"}} 1\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

/// The fence's message is the one that the user is to see.
#[tokio::test]
async fn what_is_none_of_argos_commands_is_left_without_a_word() {
    let (router, _) = webhook().await;
    let mut new = resumed();
    new["spec"]["entrypoint"] = json!("other");
    let response = send(&router, "/guard", review(&waiting(), &new).to_string()).await;
    assert_eq!(response, json!({"uid": "7f0b2c3d", "allowed": true}));
}

#[tokio::test]
async fn a_wish_without_room_is_refused() {
    let (router, _) = webhook().await;
    let (mut old, mut new) = (waiting(), resumed());
    for object in [&mut old, &mut new] {
        object["metadata"]["annotations"]["full"] = json!("x".repeat(240 << 10));
    }
    let response = send(&router, "/guard", review(&old, &new).to_string()).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(413)));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("argosy: Workflow team/wf: annotation argosy.dev/intents has no room"), "{message}");
}

#[tokio::test]
async fn two_objects_of_the_greatest_size_are_read() {
    let (router, _) = webhook().await;
    let (mut old, mut new) = (waiting(), resumed());
    for object in [&mut old, &mut new] {
        object["status"]["nodes"]["large"] = json!({"id": "large", "message": "x".repeat(3 << 20)});
    }
    let response = send(&router, "/guard", review(&old, &new).to_string()).await;
    // Of the large part nothing comes back.
    assert!(response["patch"].as_str().unwrap().len() < 1000);
}

#[rstest]
#[case("operation", json!("CREATE"))]
#[case("resource", json!({"group": "argoproj.io", "version": "v1alpha1", "resource": "cronworkflows"}))]
#[case("subResource", json!("status"))]
#[tokio::test]
async fn whatever_else_is_sent_passes_with_a_warning(#[case] field: &str, #[case] value: Value) {
    let (router, _) = webhook().await;
    let mut review = review(&waiting(), &resumed());
    review["request"][field] = value;
    let response = send(&router, "/guard", review.to_string()).await;
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("argosy: /guard is for changes to Workflows only, and was asked about "), "{warning}");
}

#[rstest]
#[case::no_old_object(json!(null), waiting(), 400, "argosy: the AdmissionReview's request has no oldObject")]
#[case::no_object(waiting(), json!(null), 400, "argosy: the AdmissionReview's request has no object")]
#[case::odd_labels(json!({"metadata": {"labels": ["a"]}}), waiting(), 422, "argosy: the Workflow cannot be read: ")]
#[tokio::test]
async fn a_malformed_review_is_answered_with_a_review(
    #[case] old: Value,
    #[case] new: Value,
    #[case] code: u16,
    #[case] message: &str,
) {
    let (router, _) = webhook().await;
    let response = send(&router, "/guard", review(&old, &new).to_string()).await;
    assert_eq!(response["status"]["code"], code);
    let told = response["status"]["message"].as_str().unwrap();
    assert!(told.starts_with(message), "{told}");
}
