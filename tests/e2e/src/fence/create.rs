//! Failing closed: what may be created while the webhook is silent.

use serde_json::{Value, json};

use super::{Creation, Expect, FenceCase, Place, Stamp, Write};
use Expect::{Allowed, AllowedIfPossible, Denied, DeniedIfPossible};
use Place::{NoLongerRuled, Plain, Ruled, RuledByPolicy, RuledInPart, RuledOrHere};

const SILENT: &str = "and Argosy's webhook did not answer: try again when it runs";
const FORM: &str = "is not what Argosy's webhook writes";
const STALE: &str = ", not for this creation at ";
const OTHER: &str = "name different clusters";
const SUSPEND: &str = "needs spec.suspend: true";
const ELSEWHERE: &str = "lets no workflow run in this cluster";
const RECORD: &str = "only who may restore workflows.argosy.dev there creates records";
const COLLECTED: &str = "this cluster's own Argo would make pods";
const FORGED: &str = "may carry only argosy.dev/suspend and argosy.dev/rerunnable";

/// A new workflow with this label; `None`: without labels.
fn labelled(cluster: Option<&str>, suspend: impl Into<Value>) -> Value {
    let mut object = json!({"metadata": {}, "spec": {"entrypoint": "main", "suspend": suspend.into()}});
    if let Some(cluster) = cluster {
        object["metadata"]["labels"] = json!({"kubestellar.io/cluster": cluster});
    }
    object
}

/// A workflow that has ended elsewhere, or long ago.
fn record() -> Value {
    json!({"metadata": {"labels": {"workflows.argoproj.io/completed": "true"}}, "spec": {"entrypoint": "main"}})
}

fn case(name: &'static str, namespace: Place, object: Value, stamp: Stamp, expect: Expect) -> FenceCase {
    FenceCase { name, write: Write::Create { namespace, object, stamp, how: Creation::Post }, expect }
}

pub(super) fn cases() -> Vec<FenceCase> {
    let mut cases = unstamped();
    cases.extend(stamped());
    cases.extend(forged());
    cases
}

pub(super) fn unstamped() -> Vec<FenceCase> {
    let new = |name, namespace, object, expect| case(name, namespace, object, Stamp::Absent, expect);
    let plain = || json!({"metadata": {}, "spec": {"entrypoint": "main"}});
    let how = |name, how, namespace, expect| FenceCase {
        name,
        write: Write::Create { namespace, object: plain(), stamp: Stamp::Absent, how },
        expect,
    };
    vec![
        new("plain", Plain, plain(), Allowed),
        how("plain, applied", Creation::Apply, Plain, Allowed),
        new("plain, suspended", Plain, labelled(None, true), Allowed),
        new(
            "plain, with labels and annotations of its own",
            Plain,
            json!({
                "metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}}, "spec": {},
            }),
            Allowed,
        ),
        new(
            "plain, with nulls",
            Plain,
            json!({
                "metadata": {"labels": null, "annotations": null}, "spec": {"suspend": null}, "status": null,
            }),
            AllowedIfPossible,
        ),
        new(
            "plain, of an odd shape",
            Plain,
            json!({"metadata": {}, "spec": {"suspend": "x"}, "status": {"nodes": 5}}),
            AllowedIfPossible,
        ),
        new("plain, labelled local", Plain, labelled(Some("local"), Value::Null), Allowed),
        new("plain where the policy's mark is off", NoLongerRuled, plain(), Allowed),
        new("labelled, unstamped", Plain, labelled(Some("elsewhere"), true), Denied(SILENT)),
        new("labelled, unstamped, not suspended", Plain, labelled(Some("elsewhere"), false), Denied(SILENT)),
        new("labelled empty, unstamped", Plain, labelled(Some(""), true), Denied(SILENT)),
        new(
            "labelled, unstamped, where the policy's mark is off",
            NoLongerRuled,
            labelled(Some("elsewhere"), true),
            Denied(SILENT),
        ),
        new(
            "labelled and completed",
            Plain,
            json!({
                "metadata": {"labels": {"kubestellar.io/cluster": "elsewhere", "workflows.argoproj.io/completed": "true"}}, "spec": {},
            }),
            Denied(SILENT),
        ),
        new(
            "ruled, unstamped",
            Ruled,
            plain(),
            Denied(
                "namespace fence-ruled has its workflows routed (annotation argosy.dev/clusters), and Argosy's webhook did not answer",
            ),
        ),
        new(
            "ruled, with a generated name",
            Ruled,
            json!({"metadata": {"generateName": "a-"}, "spec": {}}),
            Denied(SILENT),
        ),
        how("ruled, as a dry run", Creation::DryRun, Ruled, Denied(SILENT)),
        how("ruled, applied", Creation::Apply, Ruled, Denied(SILENT)),
        new(
            "ruled, from a cron workflow",
            Ruled,
            json!({
                "metadata": {
                    "labels": {"workflows.argoproj.io/cron-workflow": "a"},
                    "annotations": {"workflows.argoproj.io/scheduled-time": "2026-01-02T03:04:05Z"},
                    "ownerReferences": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "name": "a", "uid": "b", "controller": true}],
                },
                "spec": {},
            }),
            Denied(SILENT),
        ),
        new("ruled, labelled local, unstamped", Ruled, labelled(Some("local"), Value::Null), Denied(SILENT)),
        new("ruled, labelled, unstamped", Ruled, labelled(Some("elsewhere"), true), Denied(SILENT)),
        new("ruled by a policy, unstamped", RuledByPolicy, plain(), Denied("(annotation argosy.dev/ruled)")),
        new("ruled by a policy, labelled, unstamped", RuledByPolicy, labelled(Some("elsewhere"), true), Denied(SILENT)),
    ]
}

fn stamped() -> Vec<FenceCase> {
    use Stamp::At;
    vec![
        case("stamped and labelled", Plain, labelled(Some("elsewhere"), true), At(0, "elsewhere"), Allowed),
        case("stamped and labelled, ruled", Ruled, labelled(Some("elsewhere"), true), At(0, "elsewhere"), Allowed),
        case(
            "stamped and labelled, ruled by a policy",
            RuledByPolicy,
            labelled(Some("elsewhere"), true),
            At(0, "elsewhere"),
            Allowed,
        ),
        case("stamped, waiting for a cluster", Ruled, labelled(Some(""), true), At(0, ""), Allowed),
        case("stamped local, ruled in part", RuledInPart, labelled(None, Value::Null), At(0, "local"), Allowed),
        case(
            "stamped local, ruled in part, suspended by its user",
            RuledInPart,
            labelled(None, true),
            At(0, "local"),
            Allowed,
        ),
        case(
            "stamped and labelled local, where the rule may fall back",
            RuledOrHere,
            labelled(Some("local"), false),
            At(0, "local"),
            Allowed,
        ),
        case("a record, ruled, by who may bring it back", Ruled, record(), At(0, "local"), Allowed),
        case("stamped local, ruled by a policy", RuledByPolicy, labelled(None, Value::Null), At(0, "local"), Allowed),
        case("stamped in a plain namespace", Plain, labelled(None, Value::Null), At(-9_999, "elsewhere"), Allowed),
        case("stamped a while ago", Ruled, labelled(Some("elsewhere"), true), At(-45, "elsewhere"), Allowed),
        case("stamped by a clock ahead", Ruled, labelled(Some("elsewhere"), true), At(45, "elsewhere"), Allowed),
        case(
            "stamped, with the user's wish to suspend",
            Plain,
            json!({
                "metadata": {"labels": {"kubestellar.io/cluster": "elsewhere"}, "annotations": {"argosy.dev/suspend": "true", "a": "b"}},
                "spec": {"suspend": true},
            }),
            At(0, "elsewhere"),
            Allowed,
        ),
        case(
            "stamped, with the rule's word on logs",
            Plain,
            json!({
                "metadata": {"labels": {"kubestellar.io/cluster": "elsewhere"}, "annotations": {"argosy.dev/archive-logs": "true"}},
                "spec": {"suspend": true, "archiveLogs": true},
            }),
            At(0, "elsewhere"),
            Allowed,
        ),
    ]
}

fn forged() -> Vec<FenceCase> {
    use Stamp::{At, Text};
    let routed = || labelled(Some("elsewhere"), true);
    let text = |name, text, expect| case(name, Plain, routed(), Text(text), expect);
    let suspend = |name, suspend: Value, expect| {
        case(name, Plain, labelled(Some("elsewhere"), suspend), At(0, "elsewhere"), expect)
    };
    let by_controller = |name, namespace, object| FenceCase {
        name,
        write: Write::Create { namespace, object, stamp: At(0, "local"), how: Creation::ByController },
        expect: Denied(RECORD),
    };
    let mut collected = routed();
    collected["metadata"]["finalizers"] = json!(["workflows.argoproj.io/artifact-gc"]);
    vec![
        by_controller("a record, ruled, by a CronWorkflow", Ruled, record()),
        by_controller("a record, ruled in part, by a CronWorkflow", RuledInPart, record()),
        case("stamped local, ruled", Ruled, labelled(None, Value::Null), At(0, "local"), Denied(ELSEWHERE)),
        case(
            "stamped and labelled local, ruled",
            Ruled,
            labelled(Some("local"), false),
            At(0, "local"),
            Denied(ELSEWHERE),
        ),
        case("stamped, with Argo's finalizer for artifacts", Plain, collected, At(0, "elsewhere"), Denied(COLLECTED)),
        suspend("stamped, but suspend is absent", Value::Null, Denied(SUSPEND)),
        suspend("stamped, but suspend is false", json!(false), Denied(SUSPEND)),
        suspend("stamped, but suspend is a word", json!("true"), DeniedIfPossible),
        suspend("stamped, but suspend is a number", json!(1), DeniedIfPossible),
        case("stamped, waiting, but not suspended", Ruled, labelled(Some(""), false), At(0, ""), Denied(SUSPEND)),
        case(
            "stamped, ruled, but not suspended",
            Ruled,
            labelled(Some("elsewhere"), false),
            At(0, "elsewhere"),
            Denied(SUSPEND),
        ),
        case("an old stamp", Plain, routed(), At(-70, "elsewhere"), Denied(STALE)),
        case("a stamp from the future", Plain, routed(), At(70, "elsewhere"), Denied(STALE)),
        case("an old stamp, ruled", RuledInPart, labelled(None, Value::Null), At(-3_600, "local"), Denied(STALE)),
        text("a stamp of nothing", "", Denied(SILENT)),
        text("a stamp without time", "{}", Denied(FORM)),
        text("a stamp that is no JSON", "cluster1", Denied(FORM)),
        text("a stamp of the year one", r#"{"time":"0001-01-01T00:00:00Z","cluster":"elsewhere","#, Denied(FORM)),
        text("a stamp of the year zero", r#"{"time":"0000-01-01T00:00:00Z","cluster":"elsewhere","#, Denied(FORM)),
        text(
            "a stamp of the 30th of February",
            r#"{"time":"2026-02-30T00:00:00Z","cluster":"elsewhere","#,
            DeniedIfPossible,
        ),
        text("a stamp of a leap day", r#"{"time":"2024-02-29T00:00:00Z","cluster":"elsewhere","#, Denied(STALE)),
        text("a stamp of no leap day", r#"{"time":"2026-02-29T00:00:00Z","cluster":"elsewhere","#, DeniedIfPossible),
        text("a stamp of a leap second", r#"{"time":"2026-01-01T23:59:60Z","cluster":"elsewhere","#, Denied(FORM)),
        text("a stamp in another zone", r#"{"time":"2026-01-02T03:04:05+01:00","cluster":"elsewhere","#, Denied(FORM)),
        text(
            "a stamp with fractions of a second",
            r#"{"time":"2026-01-02T03:04:05.5Z","cluster":"elsewhere","#,
            Denied(FORM),
        ),
        text("a stamp with space before it", r#" {"time":"2026-01-02T03:04:05Z","cluster":"elsewhere","#, Denied(FORM)),
        text(
            "a stamp with letters outside of ASCII",
            r#"{"tïme":"2026-01-02T03:04:05Z","cluster":"elsewhere","#,
            Denied(FORM),
        ),
        case("a stamp for another cluster", Plain, routed(), At(0, "cluster2"), Denied(OTHER)),
        case("a stamp for a cluster whose name begins the same", Plain, routed(), At(0, "elsewhere2"), Denied(OTHER)),
        case("a stamp for a cluster whose name is shorter", Plain, routed(), At(0, "else"), Denied(OTHER)),
        case(
            "a stamp that hides the label's cluster behind another",
            Plain,
            routed(),
            At(0, r#"x","cluster":"elsewhere"#),
            Denied(OTHER),
        ),
        case("a stamp for local, labelled otherwise", Ruled, routed(), At(0, "local"), Denied(OTHER)),
        case(
            "a stamp for a cluster, label absent",
            Ruled,
            labelled(None, Value::Null),
            At(0, "elsewhere"),
            Denied(OTHER),
        ),
        case(
            "a stamp for a cluster, labelled local",
            Ruled,
            labelled(Some("local"), Value::Null),
            At(0, "elsewhere"),
            Denied(OTHER),
        ),
        case("a stamp for a cluster, label empty", Ruled, labelled(Some(""), true), At(0, "elsewhere"), Denied(OTHER)),
        case(
            "stamped, with a delivery",
            Plain,
            json!({
                "metadata": {"labels": {"kubestellar.io/cluster": "elsewhere"}, "annotations": {"argosy.dev/delivery": "{}"}},
                "spec": {"suspend": true},
            }),
            At(0, "elsewhere"),
            Denied(FORGED),
        ),
    ]
}
