//! The webhook's router beside a scripted API server, and reviews to and from it.

use std::sync::Arc;
use std::time::Duration;

use argosy_runtime::known::Known;
use argosy_webhook::{Metrics, Peers, Server, router};
use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::api_server;

/// The router, once it knows namespaces and clusters.
pub async fn webhook() -> (Router, Registry) {
    let client = api_server::client();
    let (known, watches) = Known::watch(client.clone(), CancellationToken::new());
    tokio::spawn(watches);
    for _ in 0..500 {
        if known.is_synced() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(known.is_synced());
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    (router(Arc::new(Server::new(known, client, metrics, Peers::new(watch::channel(None).1)))), registry)
}

/// A review about a Workflow, as the API server sends it.
pub fn review(operation: &str, namespace: &str, object: &Value, old: &Value) -> Value {
    let options = if operation == "CREATE" { "CreateOptions" } else { "UpdateOptions" };
    let workflow = json!({"group": "argoproj.io", "version": "v1alpha1", "kind": "Workflow"});
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "7f0b2c3d",
            "kind": workflow,
            "resource": {"group": "argoproj.io", "version": "v1alpha1", "resource": "workflows"},
            "requestKind": workflow,
            "name": object["metadata"]["name"],
            "namespace": namespace,
            "operation": operation,
            "userInfo": {"username": "ann", "groups": ["system:authenticated"]},
            "object": object,
            "oldObject": old,
            "dryRun": true,
            "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// The response in the review that a path answers with.
pub async fn send(router: &Router, path: &str, body: impl Into<Body>) -> Value {
    let request = Request::post(path).header("content-type", "application/json").body(body.into()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let review: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(review["kind"], "AdmissionReview");
    review["response"].clone()
}

/// The patch in an answer that has one.
pub fn patch(response: &Value) -> json_patch::Patch {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    serde_json::from_slice(&patch.0).unwrap()
}
