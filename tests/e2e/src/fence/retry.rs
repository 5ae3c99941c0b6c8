//! What the guard leaves of `argo retry`: the one way in which a finished original may run again.

use serde_json::{Value, json};

use super::update::{ARCHIVING, COMPLETED, INTENTS, LABELS, PHASE, SHUTDOWN, SPEC, STATUS, case, intent, remove, set};
use super::{Author, Change, Expect, FenceCase};

const CONDITIONS: &str = "/status/conditions";

/// The end of the original: its user stopped it.
pub(super) fn ended() -> Vec<Value> {
    vec![
        set(COMPLETED, "true"),
        set(PHASE, "Failed"),
        set(ARCHIVING, "Archived"),
        set("/spec/shutdown", "Stop"),
        set("/status/phase", "Failed"),
        set("/status/message", "Stopped with strategy 'Stop'"),
        set("/status/finishedAt", "2026-01-02T03:05:05Z"),
        set(CONDITIONS, json!([{"type": "Completed", "status": "True"}])),
    ]
}

/// What becomes of it.
pub(super) fn retried() -> Vec<Value> {
    vec![
        intent(),
        set(COMPLETED, "false"),
        set(PHASE, "Running"),
        remove(ARCHIVING),
        remove("/spec/shutdown"),
        set("/status/phase", "Running"),
        remove("/status/message"),
        set("/status/startedAt", "2026-01-02T03:06:05Z"),
        remove("/status/finishedAt"),
        set(CONDITIONS, json!([{"type": "Completed", "status": "False"}])),
    ]
}

/// A retry without what it writes there, or with this instead.
fn but(path: &str, instead: Option<Value>) -> Change {
    let kept = retried().into_iter().filter(|operation| operation["path"] != path);
    Change::Json(kept.chain(instead).collect())
}

fn and(more: Value) -> Change {
    Change::Json(retried().into_iter().chain([more]).collect())
}

pub(super) fn cases() -> Vec<FenceCase> {
    let yes = |name, change| case(name, ended(), Author::User, change, Expect::Allowed);
    let no = |name, change, message| case(name, ended(), Author::User, change, Expect::Denied(message));
    vec![
        yes("a retry", Change::Json(json!(retried()))),
        yes("a retry leaves the archive's label", but(ARCHIVING, None)),
        yes("a retry leaves the conditions", but(CONDITIONS, None)),
        yes("a retry empties the message", but("/status/message", Some(set("/status/message", "")))),
        yes(
            "a retry, as the CLI writes the end",
            but("/status/finishedAt", Some(set("/status/finishedAt", Value::Null))),
        ),
        case(
            "a retry of what was not stopped",
            [ended(), vec![remove("/spec/shutdown")]].concat(),
            Author::User,
            but("/spec/shutdown", None),
            Expect::Allowed,
        ),
        no("a retry without an intent", but(INTENTS, None), LABELS),
        no("a retry with the intents that were there", but(INTENTS, Some(set(INTENTS, "[1]"))), LABELS),
        no("a retry that takes the intents away", but(INTENTS, Some(remove(INTENTS))), LABELS),
        no("a retry as Argo leaves it", but(COMPLETED, Some(remove(COMPLETED))), LABELS),
        no("a retry that stays completed", but(COMPLETED, None), LABELS),
        no("a retry that keeps the phase's label", but(PHASE, None), LABELS),
        no("a retry that keeps the phase", but("/status/phase", None), LABELS),
        no("a retry that succeeds at once", but("/status/phase", Some(set("/status/phase", "Succeeded"))), LABELS),
        no("a retry that keeps its end", but("/status/finishedAt", None), LABELS),
        no("a retry that keeps its message", but("/status/message", None), LABELS),
        no("a retry that changes a node", and(set("/status/nodes/step/phase", "Failed")), LABELS),
        no("a retry that opens a gate", and(set("/status/nodes/gate/phase", "Pending")), LABELS),
        no("a retry that removes a node", and(remove("/status/nodes/step")), LABELS),
        no("a retry that changes outputs", and(set("/status/outputs", json!({}))), LABELS),
        no("a retry that changes arguments", and(set("/spec/arguments", json!({"parameters": [{"name": "a"}]}))), SPEC),
        no("a retry that takes suspend off", and(remove("/spec/suspend")), SPEC),
        no("a retry that empties shutdown", but("/spec/shutdown", Some(set("/spec/shutdown", ""))), SHUTDOWN),
        no(
            "a shutdown is taken back without a retry",
            Change::Json(json!([intent(), remove("/spec/shutdown")])),
            SHUTDOWN,
        ),
        case(
            "a running original starts anew with an intent",
            vec![],
            Author::User,
            Change::Json(json!([intent(), set("/status/startedAt", "2026-01-02T03:06:05Z")])),
            Expect::Denied(STATUS),
        ),
    ]
}
