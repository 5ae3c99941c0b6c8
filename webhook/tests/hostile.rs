//! Reviews as nobody should send them, for a few seconds: each is answered with a review, and whatever is changed is what
//! Argosy may change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod api_server;
mod served;

use std::time::{Duration, Instant};

use axum::Router;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use served::{patch, send, webhook};

/// How long each path is tried.
const LONG: Duration = Duration::from_secs(4);

/// One thing done to a review.
#[derive(Clone, Debug)]
enum Harm {
    /// A value somewhere in it becomes another.
    Replace(Index, Value),
    /// A value somewhere in it becomes a copy of another.
    Copy(Index, Index),
    Remove(Index),
    /// The text ends early.
    Truncate(Index),
    /// A byte of the text becomes another.
    Byte(Index, u8),
    /// A part of the text comes twice.
    Repeat(Index, Index),
}

fn odd() -> impl Strategy<Value = Value> {
    let nested = (0..200).fold(json!(1), |inner, _| json!([inner]));
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(1e308)),
        any::<String>().prop_map(Value::from),
        Just(json!("x".repeat(100_000))),
        Just(json!([])),
        Just(json!({})),
        Just(json!({"": {"~1/": "\u{0}"}})),
        Just(nested),
        Just(json!("{\"time\":\"2026-01-02T03:04:05Z\",\"cluster\":\"c1\",\"rule\":\"label\",\"reason\":\"\"}")),
        Just(json!("[{\"id\":18446744073709551615,\"kind\":\"retry\"}]")),
        Just(json!("H4sIAAAAAAAA/6tWykxRslIyMjAxNQEAAAD//w==")),
    ]
}

fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<Index>;
    prop_oneof![
        8 => (index(), odd()).prop_map(|(at, value)| Harm::Replace(at, value)),
        2 => (index(), index()).prop_map(|(to, from)| Harm::Copy(to, from)),
        2 => index().prop_map(Harm::Remove),
        1 => index().prop_map(Harm::Truncate),
        1 => (index(), any::<u8>()).prop_map(|(at, byte)| Harm::Byte(at, byte)),
        1 => (index(), index()).prop_map(|(from, to)| Harm::Repeat(from, to)),
    ]
}

/// The places of all values in it.
fn places(value: &Value, at: String, all: &mut Vec<String>) {
    all.push(at.clone());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                places(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                places(value, format!("{at}/{i}"), all);
            }
        }
        _ => {}
    }
}

fn harmed(review: &Value, harms: &[Harm]) -> Vec<u8> {
    let mut review = review.clone();
    let mut text = Vec::new();
    for harm in harms {
        let mut all = Vec::new();
        places(&review, String::new(), &mut all);
        let place = |index: &Index| all[index.index(all.len())].clone();
        match harm {
            Harm::Replace(at, value) => *review.pointer_mut(&place(at)).unwrap() = value.clone(),
            Harm::Copy(to, from) => {
                let value = review.pointer(&place(from)).unwrap().clone();
                *review.pointer_mut(&place(to)).unwrap() = value;
            }
            Harm::Remove(at) => {
                let at = place(at);
                let Some((parent, key)) = at.rsplit_once('/') else { continue };
                if let Some(map) = review.pointer_mut(parent).and_then(Value::as_object_mut) {
                    map.remove(key);
                }
            }
            Harm::Truncate(_) | Harm::Byte(..) | Harm::Repeat(..) => {
                if text.is_empty() {
                    text = review.to_string().into_bytes();
                }
            }
        }
        let length = text.len().max(1);
        match harm {
            Harm::Truncate(at) => text.truncate(at.index(length)),
            Harm::Byte(at, byte) => {
                if let Some(old) = text.get_mut(at.index(length)) {
                    *old = *byte;
                }
            }
            Harm::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = text.get(from.min(to)..from.max(to)).unwrap_or_default().to_vec();
                text.splice(from.min(to).min(text.len())..from.min(to).min(text.len()), part);
            }
            _ => {}
        }
        if text.len() > 4 << 20 {
            break;
        }
    }
    if text.is_empty() { review.to_string().into_bytes() } else { text }
}

/// Whether Argosy may change this of a workflow.
fn is_ours(path: &str) -> bool {
    let ours = ["/metadata/labels", "/metadata/annotations", "/metadata/finalizers", "/spec", "/status"];
    ours.iter().any(|part| path == *part || path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/')))
}

async fn try_out(router: &Router, path: &str, body: Vec<u8>) {
    let shown = String::from_utf8_lossy(&body[..body.len().min(4000)]).into_owned();
    let asked: Option<Value> = serde_json::from_slice(&body).ok();
    let response = send(router, path, body).await;
    assert!(response["allowed"].is_boolean(), "{shown}");
    if response["allowed"] == false {
        let status = &response["status"];
        assert!(status["code"].as_u64().is_some_and(|code| (400..500).contains(&code)), "{status} to {shown}");
        assert!(status["message"].as_str().is_some_and(|said| said.starts_with("argosy: ")), "{status} to {shown}");
    }
    if response["patch"].is_null() {
        return;
    }
    // What is skipped over need not be text; and no API server sends an object without metadata.
    let Some(mut object) = asked.map(|mut asked| asked["request"]["object"].take()) else { return };
    if !object["metadata"].is_object() {
        return;
    }
    let patch = patch(&response);
    for operation in patch.iter() {
        assert!(is_ours(operation.path().as_str()), "{operation:?} for {shown}");
    }
    if let Err(error) = json_patch::patch(&mut object, &patch) {
        panic!("{error}: {patch:?} for {shown}");
    }
}

async fn for_a_while(path: &str, reviews: &[Value]) {
    let (router, _) = webhook().await;
    let mut runner = TestRunner::default();
    let harms = prop::collection::vec(harm(), 1..6);
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < LONG {
        let review = &reviews[usize::try_from(count).unwrap() % reviews.len()];
        let body = harmed(review, &harms.new_tree(&mut runner).unwrap().current());
        try_out(&router, path, body).await;
        count += 1;
    }
    assert!(count > 100, "only {count} were tried");
}

fn workflow() -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {
            "generateName": "w-", "namespace": "team", "uid": "u",
            "labels": {"kubestellar.io/cluster": "c1", "app": "x"},
            "annotations": {
                "argosy.dev/placement":
                    r#"{"time":"2026-01-02T03:04:05Z","cluster":"c1","rule":"namespace","reason":"then"}"#,
                "argosy.dev/synchronization": r#"{"mutex":{"name":"m"}}"#,
                "argosy.dev/intents": r#"[{"id":1,"kind":"nodes","nodes":{"w":{"phase":"Succeeded"}}}]"#,
                "argosy.dev/intents-done": "0",
            },
        },
        "spec": {
            "suspend": true, "entrypoint": "e", "arguments": {"parameters": [{"name": "p", "value": "v"}]},
            "workflowTemplateRef": {"name": "t"}, "synchronization": {"mutexes": [{"name": "m"}]},
            "templates": [{"name": "e", "container": {"image": "i", "resources": {"requests": {"cpu": "100m"}}}}],
        },
        "status": {
            "phase": "Running", "startedAt": "2026-01-02T03:04:05Z",
            "nodes": {
                "w": {"id": "w", "type": "Steps", "phase": "Running", "children": ["g"]},
                "g": {"id": "g", "type": "Suspend", "phase": "Running", "displayName": "gate",
                      "outputs": {"parameters": [{"name": "a", "valueFrom": {"supplied": {}}}]}},
            },
        },
    })
}

#[tokio::test]
async fn creations() {
    let plain = json!({"metadata": {"name": "w"}, "spec": {"entrypoint": "e"}});
    let reviews = [workflow(), plain].map(|object| served::review("CREATE", "team", &object, &Value::Null));
    for_a_while("/route", &reviews).await;
}

#[tokio::test]
async fn updates() {
    let old = workflow();
    let mut resumed = old.clone();
    resumed["spec"].as_object_mut().unwrap().remove("suspend");
    resumed["status"]["nodes"]["g"]["phase"] = json!("Succeeded");
    let mut ended = old.clone();
    ended["metadata"]["labels"]["workflows.argoproj.io/completed"] = json!("true");
    ended["status"]["phase"] = json!("Failed");
    let mut retried = old.clone();
    retried["metadata"]["labels"]["workflows.argoproj.io/completed"] = json!("false");
    retried["status"]["nodes"].as_object_mut().unwrap().remove("g");
    let reviews = [(&resumed, &old), (&retried, &ended)].map(|(new, old)| served::review("UPDATE", "team", new, old));
    for_a_while("/guard", &reviews).await;
}
