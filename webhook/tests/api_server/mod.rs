//! A scripted API server: namespaces, policies and WorkloadClusters that never change.

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response, StatusCode, Uri};
use serde_json::{Value, json};

/// Seen by the watch.
const NAMESPACES: [(&str, &[(&str, &str)]); 11] = [
    ("plain", &[]),
    ("team", &[("argosy.dev/clusters", "env=prod")]),
    ("gold", &[("argosy.dev/clusters", "*"), ("argosy.dev/workflows", "tier=gold")]),
    ("nobody", &[("argosy.dev/clusters", "gpu")]),
    ("strict", &[("argosy.dev/clusters", "gpu"), ("argosy.dev/no-cluster", "Reject")]),
    ("by-policy", &[]),
    ("logs", &[("argosy.dev/clusters", "env=prod"), ("argosy.dev/archive-logs", "true")]),
    ("no-logs", &[("argosy.dev/clusters", "env=prod"), ("argosy.dev/archive-logs", "false")]),
    ("later", &[("argosy.dev/clusters", "gpu"), ("argosy.dev/archive-logs", "true")]),
    ("logs-by-policy", &[]),
    ("broken", &[("argosy.dev/clusters", "env=prod region")]),
];

/// There, but not seen by the watch.
const NEW: [(&str, &[(&str, &str)]); 2] = [("new-plain", &[]), ("new-team", &[("argosy.dev/clusters", "env=prod")])];

/// A client of this API server.
pub fn client() -> kube::Client {
    let service = tower::service_fn(|request: Request<kube::client::Body>| {
        let uri = request.into_parts().0.uri;
        async move { Ok::<_, Infallible>(answer(&uri).await) }
    });
    kube::Client::new(service, "default")
}

async fn answer(uri: &Uri) -> Response<Body> {
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        let nothing = futures::stream::pending::<Result<axum::body::Bytes, Infallible>>();
        return Response::new(Body::from_stream(nothing));
    }
    match uri.path() {
        "/api/v1/namespaces" => {
            let items = NAMESPACES.map(|(name, annotations)| namespace(name, annotations));
            list("meta.k8s.io/v1", "PartialObjectMetadataList", &items)
        }
        "/apis/argosy.dev/v1alpha1/workloadclusters" => {
            let items = [
                cluster("c1", "prod", "True", json!(["*"])),
                cluster("c2", "dev", "True", json!(["team", "plain", "by-policy", "logs-by-policy"])),
                cluster("c3", "prod", "False", json!(["*"])),
                cluster("closed", "none", "True", json!([])),
            ];
            list("argosy.dev/v1alpha1", "WorkloadClusterList", &items)
        }
        "/apis/argosy.dev/v1alpha1/placementpolicies" => list(
            "argosy.dev/v1alpha1",
            "PlacementPolicyList",
            &[
                policy("team-b", "kubernetes.io/metadata.name=by-policy", None),
                policy("team-l", "kubernetes.io/metadata.name=logs-by-policy", Some(true)),
            ],
        ),
        // As far as the server knows, KubeStellar is not installed, and there are no templates and no routed workflows.
        path if path.starts_with("/apis/apiextensions.k8s.io/") => not_found(path),
        path if path.starts_with("/apis/argoproj.io/") => list("argoproj.io/v1alpha1", "List", &[]),
        "/api/v1/namespaces/silent" => std::future::pending().await,
        path => {
            let name = path.trim_start_matches("/api/v1/namespaces/");
            match NEW.into_iter().find(|(new, _)| *new == name) {
                Some((name, annotations)) => respond(StatusCode::OK, &namespace(name, annotations)),
                None => not_found(name),
            }
        }
    }
}

fn namespace(name: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": {"name": name, "uid": name, "resourceVersion": "1", "annotations": annotations},
    })
}

fn cluster(name: &str, env: &str, ready: &str, namespaces: Value) -> Value {
    let condition = |r#type: &str| {
        json!({"type": r#type, "status": ready, "reason": "Test", "message": "as the test has it",
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!({
        "apiVersion": "argosy.dev/v1alpha1",
        "kind": "WorkloadCluster",
        "metadata": {"name": name, "uid": name, "resourceVersion": "1", "labels": {"env": env}},
        "spec": {"kubeconfigSecret": {"name": name}, "namespaces": namespaces},
        "status": {"conditions": [condition("Ready"), condition("ArgoReady")]},
    })
}

fn policy(name: &str, namespaces: &str, archive_logs: Option<bool>) -> Value {
    json!({
        "apiVersion": "argosy.dev/v1alpha1",
        "kind": "PlacementPolicy",
        "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
        "spec": {"namespaces": namespaces, "clusters": "env=dev", "strategy": "Ordered", "archiveLogs": archive_logs},
    })
}

fn list(api_version: &str, kind: &str, items: &[Value]) -> Response<Body> {
    let list = json!({"apiVersion": api_version, "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items});
    respond(StatusCode::OK, &list)
}

fn not_found(name: &str) -> Response<Body> {
    let message = format!("namespaces {name:?} not found");
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message,
                        "reason": "NotFound", "code": 404});
    respond(StatusCode::NOT_FOUND, &status)
}

fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
}
