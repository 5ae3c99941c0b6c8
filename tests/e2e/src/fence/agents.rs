//! Syncers inside of their clusters: what they may write, whatever their rights say. The original is in `elsewhere`.

use serde_json::{Value, json};

use super::update::{ARCHIVING, COMPLETED, DELIVERY, DONE, INTENTS, LABEL, PHASE, PLACEMENT, all, case, remove, set};
use super::{Author, Change, Expect, FenceCase};

const OWN: Author = Author::Agent("elsewhere");
const METADATA: &str = "changes of labels and annotations those alone that come from there; changed: ";

pub(super) fn cases() -> Vec<FenceCase> {
    let yes = |name, change| case(name, vec![], OWN, change, Expect::Allowed);
    let no = |name, change, why| case(name, vec![], OWN, change, Expect::Denied(why));
    let theirs = "changes those workflows alone that are there";
    let spec = "does not change a workflow's spec";
    vec![
        yes(
            "an agent returns a status",
            all([set("/status/phase", "Succeeded"), set(PHASE, "Succeeded"), set(COMPLETED, "true")]),
        ),
        yes("an agent notes its delivery", all([set(DELIVERY, "{}2"), set(DONE, "1"), set(ARCHIVING, "Pending")])),
        yes(
            "an agent writes a status that is not there yet",
            all([remove("/status"), set("/status", json!({"phase": "Pending"}))]),
        ),
        case(
            "the agent of another cluster returns a status",
            vec![],
            Author::Agent("other"),
            all([set("/status/phase", "Succeeded")]),
            Expect::Denied(theirs),
        ),
        case(
            "an agent without a cluster returns a status",
            vec![set(LABEL, "")],
            Author::Agent(""),
            all([set("/status/phase", "Succeeded")]),
            Expect::Denied("syncer"),
        ),
        case(
            "an agent changes a workflow that is not routed",
            vec![remove(LABEL)],
            OWN,
            all([set("/status/phase", "Succeeded")]),
            Expect::Denied(theirs),
        ),
        case(
            "an agent takes a workflow that is not routed",
            vec![remove(LABEL)],
            OWN,
            all([set(LABEL, "elsewhere")]),
            Expect::Denied(theirs),
        ),
        case(
            "an agent changes a workflow that runs here",
            vec![set(LABEL, "local")],
            OWN,
            all([set("/status/phase", "Succeeded")]),
            Expect::Denied(theirs),
        ),
        no("an agent sends a workflow elsewhere", all([set(LABEL, "other")]), theirs),
        no("an agent lets a workflow go", all([remove(LABEL)]), theirs),
        no("an agent lets a workflow run here", all([remove("/spec/suspend")]), spec),
        no("an agent stops a workflow", all([set("/spec/shutdown", "Stop")]), spec),
        no("an agent changes a template", all([set("/spec/templates/0/name", "x")]), spec),
        case("spec goes by an agent", vec![], OWN, all([remove("/spec")]), Expect::DeniedIfPossible),
        no("an agent changes a user's label", all([set("/metadata/labels/team", "b")]), METADATA),
        no("an agent changes a user's annotation", all([set("/metadata/annotations/note", "x")]), METADATA),
        no("an agent forges an intent", all([set(INTENTS, "[1,2]")]), METADATA),
        no("an agent forges a stamp", all([set(PLACEMENT, "{}2")]), METADATA),
        no(
            "an agent holds an original",
            all([set("/metadata/finalizers", json!(["argosy.dev/x"]))]),
            "finalizers and owners",
        ),
        no(
            "an agent gives an original an owner",
            all([set("/metadata/ownerReferences", owner())]),
            "finalizers and owners",
        ),
        no("an agent brings a lock", all([set("/status/synchronization", json!({"mutex": {}}))]), "brings no locks"),
        no(
            "an agent brings a lock in a stored spec",
            all([set("/status/storedWorkflowTemplateSpec", json!({"entrypoint": "main", "synchronization": {}}))]),
            "brings no locks",
        ),
        yes(
            "an agent brings a stored spec",
            all([set("/status/storedWorkflowTemplateSpec", json!({"entrypoint": "main", "suspend": true}))]),
        ),
        no("an agent deletes an original", Change::Delete, "creates and deletes nothing"),
    ]
}

fn owner() -> Value {
    json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}])
}
