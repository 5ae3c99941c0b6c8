//! What holds for every workflow; cases one by one are in `tests/route.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use argosy_placement::demand::Demand;
use argosy_placement::{Cluster, Fleet, Namespace, Placed, Request, decide, find, is_ruled};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

fn clusters() -> Vec<Arc<Cluster>> {
    ["c1", "c2", "c3"]
        .map(|name| {
            Arc::new(Cluster {
                name: name.to_owned(),
                labels: [("name".to_owned(), name.to_owned())].into(),
                namespaces: vec!["*".to_owned()],
                not_ready: (name == "c3").then(|| "Ready is False".to_owned()),
                ..Cluster::default()
            })
        })
        .into()
}

fn rule(clusters: Option<&str>, workflows: &str) -> Namespace {
    let annotations = clusters.map(|clusters| [(names::CLUSTERS, clusters), (names::WORKFLOWS, workflows)]);
    let annotations = annotations.into_iter().flatten().map(|(key, value)| (key.to_owned(), value.to_owned()));
    Namespace::new("team", &BTreeMap::new(), &annotations.collect())
}

fn ask(workflow: &Value, namespace: &Namespace, now: Timestamp) -> Answer {
    let view: View = serde_json::from_value(workflow.clone()).unwrap();
    let none = BTreeMap::new();
    let labels = view.metadata.labels.as_ref().unwrap_or(&none);
    let (label, chosen, demand) = (Label::of(&view), chosen(&view, now), Demand::default());
    let request = Request { namespace: "team", own_cluster: label.own(), chosen: chosen.as_deref(), demand: &demand };
    let fleet = Fleet { clusters: &clusters(), placed: &Placed::default(), now: now.as_second() };
    let decision =
        if needs_decision(&view) { decide(&request, &find(namespace, &[], labels), &fleet) } else { Decision::NoRule };
    let archive_logs = rules_word(namespace, workflow);
    answer("team", &view, &Decided { decision, ruled: is_ruled(namespace, &[]), archive_logs }, now)
}

/// What the rule about a workflow says of its logs.
fn rules_word(namespace: &Namespace, workflow: &Value) -> Option<bool> {
    let labels = strings(workflow, "labels").into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    find(namespace, &[], &labels.collect()).rule()?.archive_logs
}

fn stamp(cluster: &str, rule: RuleSource, time: &str) -> String {
    encode(&Placement {
        time: time.to_owned(),
        cluster: cluster.to_owned(),
        rule,
        reason: "because".to_owned(),
        ..Placement::default()
    })
}

fn object_or_nothing(map: BTreeMap<&'static str, String>) -> impl Strategy<Value = Option<Value>> {
    let object: Map<String, Value> = map.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    if object.is_empty() {
        prop_oneof![Just(None), Just(Some(Value::Null)), Just(Some(json!({})))].boxed()
    } else {
        Just(Some(Value::Object(object))).boxed()
    }
}

fn value_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn labels() -> impl Strategy<Value = Option<Value>> {
    let cluster = prop::option::of(value_of(&["", "c1", "c2", "c3", "c9", "local"]));
    let tier = prop::option::of(value_of(&["gold", "silver"]));
    let completed = prop::option::weighted(0.2, value_of(&["true", "false"]));
    (cluster, tier, completed).prop_flat_map(|(cluster, tier, completed)| {
        let labels = [(names::CLUSTER, cluster), ("tier", tier), (names::ARGO_COMPLETED, completed)];
        object_or_nothing(labels.into_iter().filter_map(|(key, value)| Some((key, value?.to_owned()))).collect())
    })
}

fn annotations() -> impl Strategy<Value = Option<Value>> {
    let stamps = ["", "c1", "c2", "local"].into_iter().flat_map(|cluster| {
        [RuleSource::Label, RuleSource::Namespace].into_iter().flat_map(move |rule| {
            ["2026-01-02T03:04:05Z", "2020-01-01T00:00:00Z", "soon"].map(|time| stamp(cluster, rule.clone(), time))
        })
    });
    let stamps: Vec<String> = stamps.chain(["".to_owned(), "{}".to_owned(), "junk".to_owned()]).collect();
    let placement = prop::option::of(prop::sample::select(stamps));
    let suspend = prop::option::of(value_of(&["true", "false", ""]));
    let delivery = prop::option::of(value_of(&["{}"]));
    let locks = prop::option::of(value_of(&[r#"{"mutexes":[{"name":"turn"}]}"#, "{}", "junk", "1"]));
    let other = prop::option::of(value_of(&["x/y~z"]));
    let logs = prop::option::of(value_of(&["true", "false", "odd"]));
    let all = (placement, suspend, delivery, locks, other, logs);
    all.prop_flat_map(|(placement, suspend, delivery, locks, other, logs)| {
        let rest = [
            (names::ARCHIVE_LOGS, logs),
            (names::SUSPEND, suspend),
            (names::DELIVERY, delivery),
            (names::SYNCHRONIZATION, locks),
            (names::RERUNNABLE, other),
            ("a/b~c", other),
        ];
        let mut annotations: BTreeMap<&str, String> =
            rest.into_iter().filter_map(|(key, value)| Some((key, value?.to_owned()))).collect();
        annotations.extend(placement.map(|placement| (names::PLACEMENT, placement)));
        object_or_nothing(annotations)
    })
}

prop_compose! {
    fn workflow()(
        labels in labels(),
        annotations in annotations(),
        spec in value_of(&[
            json!({"entrypoint": "e"}), json!({"suspend": true}), json!({"suspend": false}), json!({"suspend": null}),
            json!({"archiveLogs": true}), json!({"archiveLogs": false}), json!({"archiveLogs": null}),
            json!({"archiveLogs": "yes", "suspend": true}), json!({"suspend": "yes"}), json!({}), json!(null), json!("odd"), json!([true]),
            json!({"synchronization": {"mutex": {"name": "own"}}}), json!({"synchronization": null}),
            json!({"workflowTemplateRef": {"name": "t"}, "arguments": {"parameters": []}}),
        ]),
        status in prop::option::of(value_of(&[
            json!(null), json!({}), json!("odd"), json!({"nodes": {"a": 1}}), json!({"phase": "", "nodes": {"a": 1}}),
            json!({"phase": "Failed", "storedWorkflowTemplateSpec": {"entrypoint": "e"}}),
        ])),
    ) -> Value {
        let mut metadata = json!({"generateName": "hello-"});
        for (key, value) in [("labels", labels), ("annotations", annotations)] {
            if let Some(value) = value {
                metadata[key] = value;
            }
        }
        let mut workflow = json!({"metadata": metadata, "spec": spec});
        if let Some(status) = status {
            workflow["status"] = status;
        }
        workflow
    }
}

fn rules() -> impl Strategy<Value = Namespace> {
    let clusters = value_of(&[None, None, Some("*"), Some("name=c2"), Some("name=c3"), Some("bad bad")]);
    let logs = value_of(&[None, Some(true), Some(false)]);
    (clusters, value_of(&["*", "tier=gold"]), logs).prop_map(|(clusters, workflows, logs)| {
        let mut namespace = rule(clusters, workflows);
        if let Some(Ok(rule)) = &mut namespace.rule {
            rule.archive_logs = logs;
        }
        namespace
    })
}

fn strings<'a>(object: &'a Value, map: &str) -> BTreeMap<&'a str, &'a str> {
    let map = object["metadata"][map].as_object();
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap())).collect()
}

/// The object without what is Argosy's to change.
fn rest(object: &Value) -> Value {
    let mut rest = object.clone();
    for map in ["labels", "annotations"] {
        let kept: Map<String, Value> = strings(object, map)
            .into_iter()
            .filter(|(key, _)| *key != names::CLUSTER && !key.starts_with(names::PREFIX))
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        rest["metadata"][map] = Value::Object(kept);
    }
    if let Some(spec) = rest["spec"].as_object_mut() {
        spec.remove("suspend");
        spec.remove("synchronization");
        spec.remove("archiveLogs");
    }
    if let Value::Object(status) = &mut rest["status"] {
        status.retain(|key, value| match key.as_str() {
            "phase" => *value != "" && *value != "Pending",
            "message" => false,
            "storedWorkflowTemplateSpec" => value["suspend"] != true,
            _ => true,
        });
        if status.is_empty() {
            rest["status"] = Value::Null;
        }
    }
    rest
}

/// The locks that a workflow asks for: in its spec, or else as they were kept for it.
fn locks(object: &Value) -> Option<Value> {
    let own = Some(&object["spec"]["synchronization"]).filter(|locks| locks.is_object()).cloned();
    let kept = || serde_json::from_str(strings(object, "annotations").get(names::SYNCHRONIZATION)?).ok();
    own.or_else(kept).filter(Value::is_object)
}

/// What the workflow's user says of its logs.
fn users_word(object: &Value) -> Option<Value> {
    let noted = strings(object, "annotations").get(names::ARCHIVE_LOGS).and_then(|noted| noted.parse::<bool>().ok());
    let logs = Some(&object["spec"]["archiveLogs"]).filter(|logs| !logs.is_null())?;
    (logs.as_bool().is_none() || logs.as_bool() != noted).then(|| logs.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_comes_out_satisfies_the_policies_and_stays(workflow in workflow(), rule in rules(), later in 0..4_000i64) {
        let Answer::Allow { patch, outcome, stamp: carried } = ask(&workflow, &rule, now()) else { return Ok(()) };
        let mut routed = workflow.clone();
        json_patch::patch(&mut routed, &patch).unwrap();

        // Only what is ours has changed.
        prop_assert_eq!(rest(&routed), rest(&workflow));

        // Its locks, which only the cluster takes that it runs in.
        if workflow["spec"].is_object() {
            prop_assert_eq!(locks(&routed), locks(&workflow));
        }

        // Its user's word on logs, if there is one; else the rule's, where it is routed.
        let is_routed = strings(&routed, "labels").get(names::CLUSTER).is_some_and(|cluster| *cluster != names::LOCAL);
        let said = rules_word(&rule, &workflow).filter(|_| is_routed);
        if workflow["spec"].is_object() {
            let own = users_word(&workflow);
            prop_assert_eq!(users_word(&routed), own.clone());
            let expected = own.or(said.map(Value::Bool));
            prop_assert_eq!(Some(&routed["spec"]["archiveLogs"]).filter(|logs| !logs.is_null()), expected.as_ref());
        }

        // What the policy argosy-fail-closed demands.
        let (labels, annotations) = (strings(&routed, "labels"), strings(&routed, "annotations"));
        let cluster = labels.get(names::CLUSTER).copied();
        let is_routed = cluster.is_some_and(|cluster| cluster != names::LOCAL);
        let stamp = annotations.get(names::PLACEMENT).map(|stamp| serde_json::from_str::<Placement>(stamp).unwrap());
        prop_assert_eq!(carried.as_deref(), annotations.get(names::PLACEMENT).copied());
        if is_ruled(&rule, &[]) || is_routed {
            let stamp = stamp.as_ref().unwrap();
            prop_assert_eq!(&stamp.time, "2026-01-02T03:04:05Z");
            prop_assert_eq!(stamp.cluster.as_str(), cluster.unwrap_or(names::LOCAL));
            let starts_with_time = annotations[names::PLACEMENT].starts_with(r#"{"time":""#);
            prop_assert!(starts_with_time);
        } else {
            prop_assert_eq!(stamp, None);
        }
        if is_routed {
            prop_assert_eq!(&routed["spec"]["suspend"], &json!(true));
            prop_assert_eq!(routed["spec"]["synchronization"].as_object(), None);
            if !routed["status"].is_string() {
                let phase = routed["status"]["phase"].as_str();
                prop_assert!(phase.is_some_and(|phase| !phase.is_empty()));
                let stored = routed["status"]["storedWorkflowTemplateSpec"].is_object();
                prop_assert!(stored || routed["spec"]["workflowTemplateRef"].is_null());
            }
        } else {
            prop_assert!(!annotations.contains_key(names::SYNCHRONIZATION));
        }
        prop_assert_eq!([Outcome::Placed, Outcome::Waiting].contains(&outcome), is_routed);
        prop_assert_eq!(outcome == Outcome::Waiting, cluster == Some(""));
        let mut ours = annotations.keys().filter(|key| key.starts_with(names::PREFIX));
        let all_known = ours.all(|key| [names::PLACEMENT, names::SYNCHRONIZATION, names::ARCHIVE_LOGS].contains(key) || names::USERS.contains(key));
        prop_assert!(all_known);
        if labels.get(names::ARGO_COMPLETED) == Some(&"true") {
            prop_assert!(!is_routed);
        }

        // Asked again about its own result, it changes nothing.
        let soon = now().checked_add(jiff::SignedDuration::from_millis(later)).unwrap();
        let again = ask(&routed, &rule, soon);
        prop_assert_eq!(again, Answer::Allow { patch: Patch(vec![]), outcome, stamp: carried });
    }

    #[test]
    fn plain_workflows_in_plain_namespaces_are_not_touched(workflow in workflow()) {
        let ours = |map| strings(&workflow, map).keys().any(|key| {
            *key == names::CLUSTER || (key.starts_with(names::PREFIX) && !names::USERS.contains(key))
        });
        if !ours("labels") && !ours("annotations") {
            let untouched = Answer::Allow { patch: Patch(vec![]), outcome: Outcome::Unruled, stamp: None };
            prop_assert_eq!(ask(&workflow, &rule(None, ""), now()), untouched);
        }
    }

    #[test]
    fn an_old_stamp_is_written_anew(workflow in workflow(), seconds in 7..100_000i64) {
        let rule = rule(Some("name=c1"), "*");
        let Answer::Allow { patch, .. } = ask(&workflow, &rule, now()) else { return Ok(()) };
        let mut routed = workflow;
        json_patch::patch(&mut routed, &patch).unwrap();
        for later in [seconds, -seconds] {
            let then = now().checked_add(jiff::SignedDuration::from_secs(later)).unwrap();
            let Answer::Allow { patch, .. } = ask(&routed, &rule, then) else { panic!("refused") };
            let paths: Vec<_> = patch.iter().map(|operation| operation.path().to_string()).collect();
            prop_assert_eq!(paths, ["/metadata/annotations/argosy.dev~1placement"]);
        }
    }
}
