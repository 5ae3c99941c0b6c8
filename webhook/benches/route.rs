//! The webhook's own time for one review, from its bytes to the answer's, at a large site: 1,000 namespaces, 200 policies,
//! 100 clusters of 4 kinds of nodes. `cargo bench -p argosy-webhook`; figures are in docs/performance.md.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::convert::Infallible;
use std::sync::Arc;

use argosy_runtime::known::Known;
use argosy_webhook::{Metrics, Peers, Server, router};
use axum::Router;
use axum::body::{Body, to_bytes};
use divan::Bencher;
use http::{Request, Response};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const NAMESPACES: usize = 1_000;
const POLICIES: usize = 200;
const CLUSTERS: usize = 100;

fn main() {
    divan::main();
}

fn namespaces() -> Vec<Value> {
    let namespace = |i: usize| {
        let annotations = if i.is_multiple_of(4) { json!({"argosy.dev/clusters": "env=prod"}) } else { json!({}) };
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "name": format!("ns-{i}"), "resourceVersion": "1", "annotations": annotations,
                "labels": {"team": format!("t{}", i % 250), "plain": if i % 10 == 3 { "yes" } else { "no" }},
            },
        })
    };
    (0..NAMESPACES).map(namespace).collect()
}

fn policies() -> Vec<Value> {
    let policy = |i: usize| {
        json!({
            "apiVersion": "argosy.dev/v1alpha1", "kind": "PlacementPolicy",
            "metadata": {"name": format!("p-{i}"), "resourceVersion": "1"},
            "spec": {
                "namespaces": format!("team=t{i},plain!=yes"), "clusters": "env=prod,region in (r1,r2,r3)",
                "workflows": "tier notin (local)", "priority": i % 7,
            },
        })
    };
    (0..POLICIES).map(policy).collect()
}

fn clusters() -> Vec<Value> {
    let group = |i: usize| {
        json!({
            "count": 8, "labels": {"pool": format!("p{i}"), "kubernetes.io/arch": "amd64"},
            "free": (0..8).map(|n| json!({"cpu": format!("{}", n + i), "memory": format!("{}Gi", 64 - n), "pods": "90"})).collect::<Vec<_>>(),
        })
    };
    let condition = |r#type: &str| json!({"type": r#type, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let cluster = |i: usize| {
        json!({
            "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster",
            "metadata": {
                "name": format!("c-{i:03}"), "resourceVersion": "1",
                "labels": {"env": if i.is_multiple_of(5) { "dev" } else { "prod" }, "region": format!("r{}", i % 5)},
            },
            "spec": {"kubeconfigSecret": {"name": "k"}, "namespaces": ["*"]},
            "status": {
                "conditions": [condition("Ready"), condition("ArgoReady")],
                "capacity": {
                    "time": k8s_openapi::jiff::Timestamp::now().to_string(),
                    "allocatable": {"cpu": "256", "memory": "2048Gi", "pods": "3520"},
                    "requested": {"cpu": format!("{}", 50 + i), "memory": "700Gi", "pods": "600"},
                    "nodes": (0..4).map(group).collect::<Vec<_>>(),
                },
            },
        })
    };
    (0..CLUSTERS).map(cluster).collect()
}

fn client() -> kube::Client {
    let service = tower::service_fn(|request: Request<kube::client::Body>| {
        let uri = request.into_parts().0.uri;
        async move {
            if uri.query().is_some_and(|query| query.contains("watch=true")) {
                let silent = futures::stream::pending::<Result<axum::body::Bytes, Infallible>>();
                return Ok::<_, Infallible>(Response::new(Body::from_stream(silent)));
            }
            let items = match uri.path() {
                "/api/v1/namespaces" => namespaces(),
                "/apis/argosy.dev/v1alpha1/placementpolicies" => policies(),
                "/apis/argosy.dev/v1alpha1/workloadclusters" => clusters(),
                path if path.starts_with("/apis/apiextensions.k8s.io/") => {
                    let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404});
                    return Ok(Response::builder().status(404).body(Body::from(status.to_string())).unwrap());
                }
                _ => Vec::new(),
            };
            let list =
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
            Ok(Response::new(Body::from(list.to_string())))
        }
    });
    kube::Client::new(service, "default")
}

fn webhook(runtime: &Runtime) -> Router {
    runtime.block_on(async {
        let client = client();
        let (known, watches) = Known::watch(client.clone(), CancellationToken::new());
        tokio::spawn(watches);
        known.all_synced().await;
        router(Arc::new(Server::new(
            known,
            client,
            Metrics::register(&mut Registry::default()),
            Peers::new(watch::channel(None).1),
        )))
    })
}

/// A DAG of four pods that ask for something, with parameters; with `padding`, one of its scripts is that long.
fn review(namespace: &str, padding: usize) -> String {
    let call = |name: &str, depends: &[&str]| {
        json!({"name": name, "template": "work", "dependencies": depends,
               "arguments": {"parameters": [{"name": "cpu", "value": "500m"}]}})
    };
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": "diamond-"},
        "spec": {
            "entrypoint": "main",
            "templates": [
                {"name": "main", "dag": {"tasks": [call("a", &[]), call("b", &["a"]), call("c", &["a"]), call("d", &["b", "c"])]}},
                {
                    "name": "work", "inputs": {"parameters": [{"name": "cpu"}]}, "nodeSelector": {"pool": "p2"},
                    "script": {
                        "image": "i", "command": ["sh"], "source": "x".repeat(padding),
                        "resources": {"requests": {"cpu": "{{inputs.parameters.cpu}}", "memory": "1Gi"}},
                    },
                },
            ],
        },
    });
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "CREATE", "namespace": namespace, "object": workflow, "dryRun": true,
            "resource": {"group": "argoproj.io", "version": "v1alpha1", "resource": "workflows"},
        },
    })
    .to_string()
}

/// `argo resume` of a workflow of 3,000 nodes, about 1 MB, of which one is a gate that waits.
fn resume() -> String {
    let workflow = |suspend: Option<bool>, phase: &str| {
        let node = |i: usize| {
            let name = format!("wf-{i}");
            let node = json!({
                "id": name, "name": format!("wf.steps[{i}]"), "displayName": format!("step-{i}"), "templateName": "work",
                "type": if i == 7 { "Suspend" } else { "Pod" }, "phase": if i == 7 { phase } else { "Succeeded" },
                "startedAt": "2026-01-02T03:04:05Z", "finishedAt": null, "resourcesDuration": {"cpu": i, "memory": i},
                "children": [format!("wf-{}", i + 1)], "message": "x".repeat(40),
            });
            (name, node)
        };
        json!({
            "metadata": {"name": "wf", "labels": {"kubestellar.io/cluster": "c-001"}},
            "spec": {"suspend": suspend, "entrypoint": "main"},
            "status": {"phase": "Running", "nodes": (0..3_000).map(node).collect::<serde_json::Map<_, _>>()},
        })
    };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "UPDATE", "namespace": "ns-1",
            "oldObject": workflow(Some(true), "Running"), "object": workflow(None, "Succeeded"),
            "resource": {"group": "argoproj.io", "version": "v1alpha1", "resource": "workflows"},
        },
    })
    .to_string()
}

fn answer(bencher: Bencher, namespace: &str, padding: usize, patched: bool) {
    answer_to(bencher, "/route", &review(namespace, padding), patched);
}

fn answer_to(bencher: Bencher, path: &str, body: &str, patched: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let router = webhook(&runtime);
    bencher.bench_local(|| {
        let request = Request::post(path).body(Body::from(body.to_owned())).unwrap();
        let answer = runtime.block_on(async {
            let response = router.clone().oneshot(request).await.unwrap();
            to_bytes(response.into_body(), usize::MAX).await.unwrap()
        });
        assert_eq!(contains(&answer, b"JSONPatch"), patched);
        answer
    });
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A namespace that no rule is about.
#[divan::bench]
fn no_rule(bencher: Bencher) {
    answer(bencher, "ns-3", 0, false);
}

/// By the namespace's own annotation, among 80 clusters.
#[divan::bench]
fn by_namespace(bencher: Bencher) {
    answer(bencher, "ns-500", 0, true);
}

/// By one of 200 policies.
#[divan::bench]
fn by_policy(bencher: Bencher) {
    answer(bencher, "ns-101", 0, true);
}

/// The same with a script of 1 MB.
#[divan::bench]
fn by_policy_1_mb(bencher: Bencher) {
    answer(bencher, "ns-101", 1 << 20, true);
}

/// A command on a routed workflow with a large status.
#[divan::bench]
fn guard_1_mb(bencher: Bencher) {
    answer_to(bencher, "/guard", &resume(), true);
}
