//! Large statuses: CEL has a cost budget, and what exceeds it is refused.

use serde_json::{Value, json};

use super::original::node;
use super::retry::{ended, retried};
use super::{Author, Change, Expect, FenceCase, Write};

/// About what fits into the 1 MiB that Argo allows a Workflow before it compresses its nodes.
const NODES: usize = 3_000;

pub(super) fn cases() -> Vec<FenceCase> {
    let case = |name, given: fn() -> Value, by, change, expect| FenceCase {
        name,
        write: Write::Change { given: given(), by, change: Change::Json(change) },
        expect,
    };
    let intent = json!({"op": "add", "path": "/metadata/annotations/argosy.dev~1intents", "value": "[2]"});
    let approve = json!({"op": "add", "path": "/status/nodes/n7/phase", "value": "Succeeded"});
    let fail_step = json!({"op": "add", "path": "/status/nodes/n8/phase", "value": "Error"});
    let shutdown = json!([{"op": "add", "path": "/spec/shutdown", "value": "Stop"}]);
    vec![
        case("large status, shutdown", large, Author::User, shutdown.clone(), Expect::Allowed),
        case("large status, approval", large, Author::User, json!([intent, approve]), Expect::Allowed),
        case(
            "large status, a step's phase with an approval",
            large,
            Author::User,
            json!([intent, approve, fail_step]),
            Expect::Denied("written by Argosy's syncer"),
        ),
        case(
            "large status, a step's phase",
            large,
            Author::Controller,
            json!([fail_step]),
            Expect::Denied("written by Argosy's syncer"),
        ),
        case("large status, retry", || finished(large()), Author::User, json!(retried()), Expect::Allowed),
        case(
            "large status, retry with a step's phase",
            || finished(large()),
            Author::User,
            json!([retried(), vec![fail_step.clone()]].concat()),
            Expect::Denied("written by Argosy's syncer"),
        ),
        case("compressed status, retry", || finished(compressed()), Author::User, json!(retried()), Expect::Allowed),
        case("compressed status, shutdown", compressed, Author::User, shutdown, Expect::Allowed),
        case(
            "compressed status, other nodes with an intent",
            compressed,
            Author::User,
            json!([intent, {"op": "add", "path": "/status/compressedNodes", "value": "H4sI"}]),
            Expect::Denied("compressedNodes"),
        ),
        case(
            "compressed status, unpacked with an intent",
            compressed,
            Author::User,
            json!([
                intent,
                {"op": "remove", "path": "/status/compressedNodes"},
                {"op": "add", "path": "/status/nodes", "value": {"gate": node("gate", "Suspend", "Succeeded")}},
            ]),
            Expect::Denied("compressedNodes"),
        ),
    ]
}

fn large() -> Value {
    let nodes: serde_json::Map<String, Value> = (0..NODES)
        .map(|n| {
            let id = format!("n{n}");
            let r#type = if n % 10 == 7 { "Suspend" } else { "Pod" };
            let mut node = node(&id, r#type, "Running");
            node["message"] = json!("x".repeat(60));
            node["resourcesDuration"] = json!({"cpu": n, "memory": 2 * n});
            node["children"] = json!([format!("n{}", n + 1)]);
            (id, node)
        })
        .collect();
    json!([forget_managers(), {"op": "add", "path": "/status/nodes", "value": nodes}])
}

fn compressed() -> Value {
    json!([
        forget_managers(),
        {"op": "remove", "path": "/status/nodes"},
        {"op": "add", "path": "/status/compressedNodes", "value": "H4sIAAAA".repeat(100_000)},
    ])
}

fn finished(given: Value) -> Value {
    let given = given.as_array().cloned().unwrap_or_default();
    json!([given, ended()].concat())
}

/// As the syncer does: without it the API server spends most of its time on who owns which field.
fn forget_managers() -> Value {
    json!({"op": "add", "path": "/metadata/managedFields", "value": [{}]})
}
