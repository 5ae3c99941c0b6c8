//! Reviews in, answers out, through the router; namespaces and clusters come from a scripted API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod api_server;
mod served;

use std::time::Duration;

use argosy_api::Placement;
use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use served::{patch, send, webhook};

fn review(namespace: &str, object: &Value) -> Value {
    served::review("CREATE", namespace, object, &Value::Null)
}

/// The answer in a form that fits a line: `add PATH VALUE; …`, or `CODE REASON MESSAGE`. Stamps are printed as
/// `<CLUSTER by RULE: REASON>`, with their time checked. What the workflows without a status get as one is checked here.
fn render(response: &Value) -> String {
    assert_eq!(response["uid"], "7f0b2c3d");
    if response["allowed"] == false {
        let status = &response["status"];
        let text = |field: &str| status[field].as_str().unwrap().to_owned();
        return format!("{} {} {}", status["code"], text("reason"), text("message"));
    }
    if response["patch"].is_null() {
        let warning = response["warnings"][0].as_str();
        return warning.map_or("untouched".to_owned(), |warning| format!("untouched, with: {warning}"));
    }
    let operations = json!(patch(response));
    let mut operations = operations.as_array().unwrap().as_slice();
    if let Some((last, others)) = operations.split_last().filter(|(last, _)| last["path"] == "/status") {
        assert_eq!((&last["op"], &last["value"]["phase"]), (&json!("add"), &json!("Pending")));
        let is_waiting = operations.iter().any(|one| one.to_string().contains(r#"\"cluster\":\"\""#));
        let message = last["value"]["message"].as_str();
        assert_eq!(message.is_some_and(|message| message.starts_with("waits for a cluster: ")), is_waiting);
        assert_eq!(last["value"].as_object().unwrap().len(), 1 + usize::from(is_waiting));
        operations = others;
    }
    let operations = operations.iter().map(|operation| {
        let (op, path) = (operation["op"].as_str().unwrap(), operation["path"].as_str().unwrap());
        let value = operation.get("value").map(|value| format!(" {}", compact(value)));
        format!("{op} {path}{}", value.unwrap_or_default())
    });
    operations.collect::<Vec<_>>().join("; ")
}

fn compact(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", compact(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::String(text) => match serde_json::from_str::<Placement>(text) {
            Ok(stamp) => {
                assert_eq!(stamp.time.len(), 20);
                let time: Timestamp = stamp.time.parse().unwrap();
                assert!(Timestamp::now().duration_since(time).unsigned_abs() < Duration::from_secs(10));
                let rule = serde_json::to_value(&stamp.rule).unwrap();
                // Most of the cases' workflows have nothing to run.
                let reason = stamp.reason.trim_end_matches("; not known: the spec names no entrypoint");
                format!("<{} by {}: {reason}>", stamp.cluster, rule.as_str().unwrap())
            }
            Err(_) => text.clone(),
        },
        other => other.to_string(),
    }
}

/// A workflow that a rule of this kind stamped long ago.
fn stamped(cluster: &str, rule: &str, more: &Value) -> Value {
    let stamp = format!(r#"{{"time":"2020-01-01T00:00:00Z","cluster":"{cluster}","rule":"{rule}","reason":"then"}}"#);
    let mut annotations = json!({"argosy.dev/placement": stamp, "argosy.dev/delivery": "{}"});
    annotations.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "metadata": {"generateName": "re-", "labels": {"kubestellar.io/cluster": cluster}, "annotations": annotations},
        "spec": {"suspend": true},
    })
}

fn named(metadata: &Value, spec: &Value) -> Value {
    let mut object = json!({"metadata": {"name": "hello"}, "spec": spec});
    object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    object
}

fn labelled(cluster: &str, spec: &Value) -> Value {
    named(&json!({"labels": {"kubestellar.io/cluster": cluster}}), spec)
}

const CLUSTER: &str = "/metadata/labels/kubestellar.io~1cluster";
const PLACEMENT: &str = "/metadata/annotations/argosy.dev~1placement";
const BY_RULE: &str = r#"<c1 by namespace: most room of 1 cluster with "env=prod", whose figures are not known>"#;

const LOGS: &str = "/metadata/annotations/argosy.dev~1archive-logs";

/// What a workflow without a word of its user's on logs gets.
fn logs(value: &str, how: &str) -> String {
    format!(
        "add {CLUSTER} c1; add /metadata/annotations {{argosy.dev/archive-logs: {value}, argosy.dev/placement: {BY_RULE}}}; \
         add /spec/suspend true; {how} /spec/archiveLogs {value}"
    )
}

/// A resubmit of one whose logs are archived by its rule; what its spec says.
fn with_logs(cluster: &str, says: bool) -> Value {
    let mut workflow = stamped(cluster, "namespace", &json!({"argosy.dev/archive-logs": "true"}));
    workflow["spec"]["archiveLogs"] = says.into();
    workflow
}

#[rstest]
// A namespace without a rule.
#[case::plain("plain", named(&json!({}), &json!({"entrypoint": "main"})), "untouched")]
#[case::plain_with_the_users_suspend("plain", named(&json!({}), &json!({"suspend": true})), "untouched")]
#[case::local_by_its_label("plain", labelled("local", &json!({})), "untouched")]
#[case::the_article(
    "plain", labelled("c1", &json!({"suspend": true})),
    "add /metadata/annotations {argosy.dev/placement: <c1 by label: its own label asks for it>}"
)]
#[case::labelled_only(
    "plain", labelled("c1", &json!({})),
    "add /metadata/annotations {argosy.dev/placement: <c1 by label: its own label asks for it>}; add /spec/suspend true"
)]
#[case::unknown_cluster(
    "plain", labelled("c9", &json!({})),
    "403 Forbidden argosy: Workflow plain/hello: label kubestellar.io/cluster=c9: there is no such WorkloadCluster; *"
)]
#[case::no_consent(
    "plain", labelled("closed", &json!({})),
    "403 Forbidden argosy: Workflow plain/hello: label kubestellar.io/cluster=closed: the cluster does not take workflows \
     of namespace \"plain\" (its spec.namespaces)"
)]
#[case::empty_label(
    "plain", labelled("", &json!({})),
    "422 Invalid argosy: Workflow plain/hello: label kubestellar.io/cluster is empty, which leaves the choice to a rule, \
     but namespace \"plain\" has none for this workflow: expected the name of a WorkloadCluster, or \"local\""
)]
#[case::locks_of_a_routed_one_that_comes_to_run_here(
    "plain", named(&json!({"annotations": {"argosy.dev/synchronization": "{\"mutex\":{}}"}}), &json!({})),
    "remove /metadata/annotations/argosy.dev~1synchronization; add /spec/synchronization {mutex: {}}"
)]
// A namespace with a rule.
#[case::locks(
    "team", named(&json!({"annotations": {"c": "d"}}), &json!({"synchronization": {"mutex": {"name": "turn"}}})),
    format!("add /metadata/labels {{kubestellar.io/cluster: c1}}; add {PLACEMENT} {BY_RULE}; \
             add /metadata/annotations/argosy.dev~1synchronization {{\"mutex\":{{\"name\":\"turn\"}}}}; \
             add /spec/suspend true; remove /spec/synchronization")
)]
#[case::finalizers(
    "team", json!({"metadata": {"labels": {}, "finalizers": ["a/b", "workflows.argoproj.io/artifact-gc"]}, "spec": {}}),
    format!("add {CLUSTER} c1; add /metadata/annotations {{argosy.dev/placement: {BY_RULE}}}; \
             add /spec/suspend true; replace /metadata/finalizers [\"a/b\"]")
)]
#[case::status_given_at_creation(
    "team", json!({
        "metadata": {"generateName": "hello-"}, "spec": {"workflowTemplateRef": {"name": "t"}, "arguments": {"a": 1}},
        "status": {"phase": "", "nodes": {}}
    }),
    format!("add /metadata/labels {{kubestellar.io/cluster: c1}}; \
             add /metadata/annotations {{argosy.dev/placement: {}; not known: there is no WorkflowTemplate \"t\">}}; \
             add /spec/suspend true; add /status/phase Pending; \
             add /status/storedWorkflowTemplateSpec {{arguments: {{a: 1}}, suspend: true}}",
            BY_RULE.trim_end_matches('>'))
)]
#[case::ruled(
    "team", json!({"metadata": {"generateName": "hello-"}, "spec": {}}),
    format!("add /metadata/labels {{kubestellar.io/cluster: c1}}; \
             add /metadata/annotations {{argosy.dev/placement: {BY_RULE}}}; add /spec/suspend true")
)]
#[case::null_maps(
    "team", json!({"metadata": {"labels": null, "annotations": null, "creationTimestamp": null}, "spec": {}}),
    format!("add /metadata/labels {{kubestellar.io/cluster: c1}}; \
             add /metadata/annotations {{argosy.dev/placement: {BY_RULE}}}; add /spec/suspend true")
)]
#[case::other_labels_and_annotations(
    "team", named(&json!({"labels": {"a": "b"}, "annotations": {"c": "d"}}), &json!({"suspend": null})),
    format!("add {CLUSTER} c1; add {PLACEMENT} {BY_RULE}; replace /spec/suspend true")
)]
#[case::users_suspend(
    "team", named(&json!({"annotations": {"c": "d"}}), &json!({"suspend": true})),
    format!("add /metadata/labels {{kubestellar.io/cluster: c1}}; add {PLACEMENT} {BY_RULE}; \
             add /metadata/annotations/argosy.dev~1suspend true")
)]
#[case::choice_within_the_rule(
    "team", labelled("c1", &json!({"suspend": true})),
    "add /metadata/annotations {argosy.dev/placement: <c1 by label: its own label asks for it>}"
)]
#[case::choice_beyond_the_rule(
    "team", labelled("c2", &json!({})),
    "403 Forbidden argosy: Workflow team/hello: label kubestellar.io/cluster=c2: the namespace's rule allows only clusters \
     with \"env=prod\""
)]
#[case::local_beyond_the_rule("team", labelled("local", &json!({})), "403 Forbidden argosy: Workflow team/hello: label *")]
#[case::empty_label_under_a_rule(
    "team", labelled("", &json!({"suspend": true})),
    format!("replace {CLUSTER} c1; add /metadata/annotations {{argosy.dev/placement: {BY_RULE}}}")
)]
#[case::no_cluster_fits(
    "nobody", json!({"metadata": {"generateName": "hello-"}, "spec": {}}),
    "add /metadata/labels {kubestellar.io/cluster: }; add /metadata/annotations {argosy.dev/placement: < by namespace: no \
     cluster with \"gpu\" can take it: none has such labels; there is c1; c2; c3; closed>}; add /spec/suspend true"
)]
#[case::no_cluster_fits_and_the_rule_rejects(
    "strict", json!({"metadata": {"generateName": "hello-"}, "spec": {}}),
    "403 Forbidden argosy: Workflow strict/hello-*: no cluster with \"gpu\" can take it: *"
)]
#[case::the_users_choice_is_not_ready(
    "plain", labelled("c3", &json!({})),
    "replace /metadata/labels/kubestellar.io~1cluster ; add /metadata/annotations {argosy.dev/placement: < by label: label \
     kubestellar.io/cluster=c3: the cluster is not ready (Ready is False: as the test has it)>}; add /spec/suspend true"
)]
// A namespace that a policy selects.
#[case::by_policy(
    "by-policy", named(&json!({}), &json!({})),
    "add /metadata/labels {kubestellar.io/cluster: c2}; add /metadata/annotations {argosy.dev/placement: <c2 by \
     policy/team-b: first of 1 cluster with \"env=dev\">}; add /spec/suspend true"
)]
#[case::unreadable_rule(
    "broken", named(&json!({}), &json!({})),
    "403 Forbidden argosy: Workflow broken/hello: annotation argosy.dev/clusters of namespace \"broken\" cannot be read: *"
)]
#[case::odd_spec("team", named(&json!({}), &json!("main")), "422 Invalid argosy: Workflow team/hello: field spec: expected an object")]
#[case::no_spec("team", named(&json!({}), &json!(null)), "422 Invalid argosy: Workflow team/hello: field spec: expected an object")]
// A namespace whose rule is about some workflows.
#[case::selected(
    "gold", named(&json!({"labels": {"tier": "gold"}}), &json!({})),
    format!("add {CLUSTER} c1; add /metadata/annotations \
             {{argosy.dev/placement: <c1 by namespace: most room of 1 cluster with \"*\", whose figures are not known>}}; add /spec/suspend true")
)]
#[case::not_selected(
    "gold", named(&json!({}), &json!({"suspend": true})),
    "add /metadata/annotations {argosy.dev/placement: <local by namespace: the rule is about workflows with \
     \"tier=gold\" only>}"
)]
#[case::not_selected_and_local_by_label(
    "gold", labelled("local", &json!({})),
    "add /metadata/annotations {argosy.dev/placement: <local by label: its own label asks for it>}"
)]
// What comes from another workflow, or from ourselves a moment ago.
#[case::resubmitted(
    "team", stamped("c1", "namespace", &json!({})),
    format!("remove /metadata/annotations/argosy.dev~1delivery; replace {PLACEMENT} {BY_RULE}")
)]
#[case::resubmitted_from_another_cluster(
    "team", stamped("c2", "namespace", &json!({"argosy.dev/suspend": "true"})),
    format!("replace {CLUSTER} c1; remove /metadata/annotations/argosy.dev~1delivery; replace {PLACEMENT} {BY_RULE}")
)]
#[case::resubmitted_with_the_users_label(
    "team", stamped("c2", "label", &json!({})), "403 Forbidden argosy: Workflow team/re-*: label kubestellar.io/cluster=c2: *"
)]
#[case::resubmitted_without_a_rule(
    "plain", stamped("c1", "namespace", &json!({})),
    format!("remove {CLUSTER}; remove /metadata/annotations/argosy.dev~1delivery; remove {PLACEMENT}; \
             remove /spec/suspend")
)]
#[case::resubmitted_without_a_rule_but_suspended_by_its_user(
    "plain", stamped("c1", "namespace", &json!({"argosy.dev/suspend": "true"})),
    format!("remove {CLUSTER}; remove /metadata/annotations/argosy.dev~1delivery; remove {PLACEMENT}")
)]
#[case::resubmitted_and_no_longer_selected(
    "gold", stamped("c1", "namespace", &json!({})),
    format!("remove {CLUSTER}; remove /metadata/annotations/argosy.dev~1delivery; replace {PLACEMENT} <local by \
             namespace: the rule is about workflows with \"tier=gold\" only>; remove /spec/suspend")
)]
#[case::forged_stamp_without_a_label(
    "plain", named(&json!({"annotations": {"argosy.dev/placement": "{}"}}), &json!({})), format!("remove {PLACEMENT}")
)]
#[case::completed(
    "plain", named(&json!({"labels": {"workflows.argoproj.io/completed": "true"}}), &json!({})), "untouched"
)]
#[case::completed_under_a_rule(
    "team", named(&json!({"labels": {
        "workflows.argoproj.io/completed": "true", "kubestellar.io/cluster": "c1"}}), &json!({"suspend": true})),
    format!("remove {CLUSTER}; add /metadata/annotations {{argosy.dev/placement: <local by namespace: it was created as \
             completed>}}")
)]
// Logs.
#[case::logs_left_to_the_rule(
    "logs", json!({"metadata": {"labels": {}}, "spec": {}}), logs("true", "add")
)]
#[case::logs_null(
    "logs", json!({"metadata": {"labels": {}}, "spec": {"archiveLogs": null}}), logs("true", "replace")
)]
#[case::logs_of_a_rule_that_wants_none(
    "no-logs", json!({"metadata": {"labels": {}}, "spec": {}}), logs("false", "add")
)]
#[case::logs_as_the_user_says(
    "logs", json!({"metadata": {"labels": {}}, "spec": {"archiveLogs": false}}),
    format!("add {CLUSTER} c1; add /metadata/annotations {{argosy.dev/placement: {BY_RULE}}}; add /spec/suspend true")
)]
#[case::logs_of_one_that_waits(
    "later", json!({"metadata": {"labels": {}}, "spec": {"suspend": true}}),
    format!("add {CLUSTER} ; add /metadata/annotations {{argosy.dev/archive-logs: true, argosy.dev/placement: < by \
             namespace: no cluster with \"gpu\" can take it: none has such labels; there is c1; c2; c3; closed>, \
             argosy.dev/suspend: true}}; add /spec/archiveLogs true")
)]
#[case::logs_by_policy(
    "logs-by-policy", json!({"metadata": {"labels": {}}, "spec": {}}),
    format!("add {CLUSTER} c2; add /metadata/annotations {{argosy.dev/archive-logs: true, argosy.dev/placement: <c2 by \
             policy/team-l: first of 1 cluster with \"env=dev\">}}; add /spec/suspend true; add /spec/archiveLogs true")
)]
#[case::logs_of_one_without_a_rule_that_is_sent_by_label(
    "plain", labelled("c1", &json!({"suspend": true})),
    "add /metadata/annotations {argosy.dev/placement: <c1 by label: its own label asks for it>}"
)]
#[case::logs_of_a_resubmit(
    "logs", with_logs("c1", true), format!("remove /metadata/annotations/argosy.dev~1delivery; replace {PLACEMENT} {BY_RULE}")
)]
#[case::logs_of_a_resubmit_where_the_rule_says_otherwise_now(
    "no-logs", with_logs("c1", true),
    format!("remove /metadata/annotations/argosy.dev~1delivery; replace {PLACEMENT} {BY_RULE}; \
             replace {LOGS} false; replace /spec/archiveLogs false")
)]
#[case::logs_of_a_resubmit_where_the_rule_says_nothing_now(
    "team", with_logs("c1", true),
    format!("remove /metadata/annotations/argosy.dev~1delivery; replace {PLACEMENT} {BY_RULE}; remove {LOGS}; \
             remove /spec/archiveLogs")
)]
#[case::logs_of_a_resubmit_that_runs_here(
    "plain", with_logs("c1", true),
    format!("remove {CLUSTER}; remove /metadata/annotations/argosy.dev~1delivery; remove {PLACEMENT}; remove {LOGS}; \
             remove /spec/suspend; remove /spec/archiveLogs")
)]
#[case::logs_of_a_resubmit_whose_user_has_changed_them(
    "logs", with_logs("c1", false),
    format!("remove /metadata/annotations/argosy.dev~1delivery; replace {PLACEMENT} {BY_RULE}; remove {LOGS}")
)]
// Namespaces that are newer than the watch.
#[case::new_and_plain("new-plain", named(&json!({}), &json!({})), "untouched")]
#[case::new_and_ruled(
    "new-team", json!({"metadata": {}, "spec": {}}),
    format!("add /metadata/labels {{kubestellar.io/cluster: c1}}; \
             add /metadata/annotations {{argosy.dev/placement: {BY_RULE}}}; add /spec/suspend true")
)]
#[case::unknown_namespace(
    "ghost", named(&json!({}), &json!({})),
    "untouched, with: argosy: Workflow ghost/hello: whether namespace \"ghost\" has a rule could not be found out \
     (namespaces \"ghost\" not found); it was not routed"
)]
#[case::silent_api_server(
    "silent", named(&json!({}), &json!({})),
    "untouched, with: argosy: Workflow silent/hello: whether namespace \"silent\" has a rule could not be found out \
     (the API server did not answer in time); it was not routed"
)]
// What cannot be read.
#[case::odd_labels(
    "plain", named(&json!({"labels": ["a"]}), &json!({})),
    "422 Invalid argosy: the Workflow cannot be read: *"
)]
#[case::no_object("plain", json!(null), "400 BadRequest argosy: the AdmissionReview's request has no object")]
#[case::no_namespace("", json!({}), "400 BadRequest argosy: the AdmissionReview's request has no namespace")]
#[tokio::test]
async fn answers(#[case] namespace: &str, #[case] object: Value, #[case] expected: impl Into<String>) {
    let (router, _) = webhook().await;
    let answer = render(&send(&router, "/route", review(namespace, &object).to_string()).await);
    let expected = expected.into();
    match expected.strip_suffix('*') {
        Some(start) => assert!(answer.starts_with(start), "{answer}\ndoes not start with\n{start}"),
        None => assert_eq!(answer, expected),
    }
}

#[rstest]
#[case("", 400, "argosy: the request's body is not an AdmissionReview: EOF")]
#[case("{", 400, "argosy: the request's body is not an AdmissionReview: EOF")]
#[case("[]", 400, "argosy: the request's body is not an AdmissionReview: ")]
#[case("{}", 400, "argosy: the AdmissionReview has no request")]
#[case(
    r#"{"apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u"}}"#,
    400,
    r#"argosy: the AdmissionReview has apiVersion "admission.k8s.io/v1beta1": expected "admission.k8s.io/v1""#
)]
#[tokio::test]
async fn a_malformed_review_is_answered_with_a_review(
    #[case] body: &'static str,
    #[case] code: u16,
    #[case] message: &str,
) {
    let (router, _) = webhook().await;
    let response = send(&router, "/route", body).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], code);
    let told = response["status"]["message"].as_str().unwrap();
    assert!(told.starts_with(message), "{told}");
}

#[tokio::test]
async fn size_has_a_limit_far_above_what_an_api_server_sends() {
    let (router, _) = webhook().await;
    let large = named(&json!({}), &json!({"templates": vec!["x".repeat(1000); 3000], "suspend": true}));
    assert!(
        render(&send(&router, "/route", review("team", &large).to_string()).await).starts_with("add /metadata/labels")
    );
    let response = send(&router, "/route", "x".repeat((8 << 20) + 1)).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(413)));
}

#[rstest]
#[case("operation", json!("UPDATE"))]
#[case("resource", json!({"group": "argoproj.io", "version": "v1alpha1", "resource": "cronworkflows"}))]
#[case("subResource", json!("status"))]
#[tokio::test]
async fn whatever_else_is_sent_passes_with_a_warning(#[case] field: &str, #[case] value: Value) {
    let (router, _) = webhook().await;
    let mut review = review("team", &named(&json!({}), &json!({})));
    review["request"][field] = value;
    let response = send(&router, "/route", review.to_string()).await;
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
    assert!(
        response["warnings"][0].as_str().unwrap().starts_with("argosy: /route is for the creation of Workflows only")
    );
}

#[tokio::test]
async fn a_patch_applied_and_asked_about_again_is_empty() {
    let (router, registry) = webhook().await;
    let mut object = named(&json!({}), &json!({"suspend": true}));
    let response = send(&router, "/route", review("team", &object).to_string()).await;
    json_patch::patch(&mut object, &patch(&response)).unwrap();
    assert_eq!(object["metadata"]["annotations"]["argosy.dev/suspend"], "true");
    assert_eq!(render(&send(&router, "/route", review("team", &object).to_string()).await), "untouched");

    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("argosy_webhook_reviews_total{outcome=\"placed\"} 2\n"), "{text}");
}
