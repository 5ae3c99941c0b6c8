use std::collections::HashMap;

use argosy_api::PlacementPolicySpec;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::capacity::Capacity;
use crate::demand::{NoTemplates, demand};
use crate::rule::RuleError;

fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.into(),
        labels: [("name".to_owned(), name.to_owned())].into(),
        namespaces: vec!["team".into()],
        ..Cluster::default()
    }
}

/// One node with 8 CPUs and 16 Gi, of which so many millicores are taken; counted at second 1000.
fn with_cpu(cluster: Cluster, taken: i64) -> Cluster {
    let free = 8000 - taken;
    let capacity = json!({
        "time": "1970-01-01T00:16:40Z",
        "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"},
        "requested": {"cpu": format!("{taken}m"), "memory": "0", "pods": "0"},
        "nodes": [{"count": 1, "free": [{"cpu": format!("{free}m"), "memory": "16Gi", "pods": "110"}]}],
    });
    let capacity: argosy_api::Capacity = serde_json::from_value(capacity).unwrap();
    Cluster { capacity: Some(Capacity::from(&capacity)), ..cluster }
}

/// c1 cordoned, c2 ready, c3 not ready, c4 consents to nobody, c5 and c6 have 2 and 6 of 8 CPUs free.
fn clusters() -> Vec<Arc<Cluster>> {
    let clusters = [
        Cluster { cordoned: true, ..cluster("c1") },
        cluster("c2"),
        Cluster { not_ready: Some("Ready is False: no answer".into()), ..cluster("c3") },
        Cluster { namespaces: vec![], ..cluster("c4") },
        with_cpu(cluster("c5"), 6000),
        with_cpu(cluster("c6"), 2000),
    ];
    clusters.map(Arc::new).into()
}

fn rule(spec: serde_json::Value) -> Result<Rule, RuleError> {
    let mut whole = json!({"namespaces": "*", "workflows": "*", "strategy": "Ordered", "noCluster": "Wait"});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let spec: PlacementPolicySpec = serde_json::from_value(whole).unwrap();
    Rule::from_policy("p", &spec)
}

fn asking(cpu: &str) -> Demand {
    let container = json!({"image": "i", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}});
    let spec = json!({"entrypoint": "main", "templates": [{"name": "main", "container": container}]});
    demand("team", &serde_json::from_str(&spec.to_string()).unwrap(), &NoTemplates)
}

struct Case<'a> {
    own: Option<&'a str>,
    chosen: Option<&'a str>,
    cpu: &'a str,
    placed: Placed,
    now: i64,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self { own: None, chosen: None, cpu: "1", placed: Placed::default(), now: 1000 }
    }
}

fn ask(case: &Case, found: &Found) -> Decision {
    let request = Request { namespace: "team", own_cluster: case.own, chosen: case.chosen, demand: &asking(case.cpu) };
    decide(&request, found, &Fleet { clusters: &clusters(), placed: &case.placed, now: case.now })
}

fn told(case: &Case, found: &Found) -> String {
    match ask(case, found) {
        Decision::NoRule => "no rule".to_owned(),
        Decision::Local(why) => format!("local by {}: {}", why.source, why.reason),
        Decision::Place { cluster, why } => format!("{cluster} by {}: {}", why.source, why.reason),
        Decision::Wait(why) => format!("waits: {}", why.reason),
        Decision::Refuse { reason } => format!("refused: {reason}"),
    }
}

#[rstest]
#[case(None, "no rule")]
#[case(Some("local"), "local by label: its own label asks for it")]
#[case(Some("c2"), "c2 by label: its own label asks for it")]
#[case(Some("c1"), "waits: label kubestellar.io/cluster=c1: the cluster is cordoned")]
#[case(Some("c3"), "waits: label kubestellar.io/cluster=c3: the cluster is not ready (Ready is False: no answer)")]
#[case(
    Some("c4"),
    "refused: label kubestellar.io/cluster=c4: the cluster does not take workflows of namespace \"team\" (its spec.namespaces)"
)]
#[case(
    Some("c9"),
    "refused: label kubestellar.io/cluster=c9: there is no such WorkloadCluster; there is c1; c2; c3; c4; c5; and 1 more"
)]
fn without_a_rule_the_label_decides(#[case] own: Option<&str>, #[case] expected: &str) {
    assert_eq!(told(&Case { own, ..Case::default() }, &Found::Unruled), expected);
}

#[rstest]
#[case::within("name in (c2,c6)", "Wait", Some("c6"), "c6 by label: its own label asks for it")]
#[case::beyond(
    "name=c2",
    "Wait",
    Some("c6"),
    "refused: label kubestellar.io/cluster=c6: PlacementPolicy \"p\" allows only clusters with \"name=c2\""
)]
#[case::local_where_the_rule_has_it(
    "name=c2",
    "Local",
    Some("local"),
    "local by label: its own label asks for it, and the rule lets it"
)]
#[case::local_otherwise(
    "name=c2",
    "Wait",
    Some("local"),
    "refused: label kubestellar.io/cluster=local asks for the control cluster, but PlacementPolicy \"p\" allows only clusters with \"name=c2\""
)]
#[case::not_ready_here(
    "*",
    "Local",
    Some("c3"),
    "local by label: label kubestellar.io/cluster=c3: the cluster is not ready (Ready is False: no answer); then the rule has it run here"
)]
#[case::not_ready_refused(
    "*",
    "Reject",
    Some("c3"),
    "refused: label kubestellar.io/cluster=c3: the cluster is not ready (Ready is False: no answer)"
)]
fn a_users_label_chooses_within_the_rule(
    #[case] clusters: &str,
    #[case] no_cluster: &str,
    #[case] own: Option<&str>,
    #[case] expected: &str,
) {
    let rule = rule(json!({"clusters": clusters, "noCluster": no_cluster})).unwrap();
    assert_eq!(told(&Case { own, ..Case::default() }, &Found::Rule(&rule)), expected);
}

#[rstest]
#[case::ordered(
    "Ordered",
    "name in (c1,c5,c6)",
    "1",
    "c5 by policy/p: first of 2 clusters with \"name in (c1,c5,c6)\""
)]
#[case::most_room(
    "LeastLoaded",
    "name in (c5,c6)",
    "1",
    "c6 by policy/p: most room of 2 clusters with \"name in (c5,c6)\": 62 % free with it"
)]
#[case::only_one_has_room(
    "Ordered",
    "name in (c5,c6)",
    "4",
    "c6 by policy/p: first of 1 cluster with \"name in (c5,c6)\""
)]
#[case::unknown_figures_come_last(
    "LeastLoaded",
    "name in (c2,c5)",
    "1",
    "c5 by policy/p: most room of 2 clusters with \"name in (c2,c5)\": 12 % free with it"
)]
#[case::unknown_figures_alone(
    "LeastLoaded",
    "name=c2",
    "1",
    "c2 by policy/p: most room of 1 cluster with \"name=c2\", whose figures are not known"
)]
fn a_rule_chooses_by_its_strategy(
    #[case] strategy: &str,
    #[case] clusters: &str,
    #[case] cpu: &str,
    #[case] expected: &str,
) {
    let rule = rule(json!({"clusters": clusters, "strategy": strategy})).unwrap();
    assert_eq!(told(&Case { cpu, ..Case::default() }, &Found::Rule(&rule)), expected);
}

#[rstest]
#[case(
    "name=none",
    "1",
    "no cluster with \"name=none\" can take it: none has such labels; there is c1; c2; c3; c4; c5; and 1 more"
)]
#[case(
    "name in (c1,c3)",
    "1",
    "no cluster with \"name in (c1,c3)\" can take it: c1: the cluster is cordoned; c3: the cluster is not ready (Ready is False: no answer)"
)]
fn what_no_cluster_can_take_follows_the_rule(#[case] clusters: &str, #[case] cpu: &str, #[case] why: &str) {
    for (no_cluster, expected) in [
        ("Wait", format!("waits: {why}")),
        ("Local", format!("local by policy/p: {why}; then the rule has it run here")),
        ("Reject", format!("refused: {why}")),
    ] {
        let rule = rule(json!({"clusters": clusters, "noCluster": no_cluster})).unwrap();
        assert_eq!(told(&Case { cpu, ..Case::default() }, &Found::Rule(&rule)), expected);
    }
}

#[test]
fn what_fits_nowhere_waits_and_says_what_is_missing() {
    let rule = rule(json!({"clusters": "name in (c5,c6)"})).unwrap();
    let told = told(&Case { cpu: "7", ..Case::default() }, &Found::Rule(&rule));
    assert!(told.starts_with("waits: no cluster with \"name in (c5,c6)\" can take it: c5: "), "{told}");
    assert!(told.contains("cpu") && told.contains("main"), "{told}");
}

#[test]
fn a_rule_that_cannot_be_read_refuses_whatever_the_label_says() {
    let error = rule(json!({"clusters": "="})).unwrap_err();
    for own in [None, Some("c2"), Some("local")] {
        assert!(
            told(&Case { own, ..Case::default() }, &Found::Broken(&error)).starts_with("refused: spec.clusters of")
        );
    }
}

#[test]
fn what_was_just_placed_takes_room() {
    let rule = rule(json!({"clusters": "name in (c5,c6)", "strategy": "LeastLoaded"})).unwrap();
    let mut pending = Resources::default();
    pending.set("cpu", 5000);
    let placed = Placed { pending: [("c6".to_owned(), pending)].into(), ..Placed::default() };
    let Decision::Place { cluster, .. } = ask(&Case { placed: placed.clone(), ..Case::default() }, &Found::Rule(&rule))
    else {
        panic!("not placed")
    };
    assert_eq!(cluster, "c5");
    let told = told(&Case { placed, cpu: "3", ..Case::default() }, &Found::Rule(&rule));
    assert!(told.ends_with("c6: its free cpu is taken by workflows that were placed there a moment ago"), "{told}");
}

#[test]
fn spread_counts_the_rules_own_workflows() {
    let rule = rule(json!({"clusters": "name in (c2,c5,c6)", "strategy": "Spread"})).unwrap();
    let by_rule = HashMap::from([("c2".to_owned(), 3), ("c5".to_owned(), 1), ("c6".to_owned(), 2)]);
    let placed = Placed { by_rule, ..Placed::default() };
    assert_eq!(
        told(&Case { placed, ..Case::default() }, &Found::Rule(&rule)),
        "c5 by policy/p: fewest workflows of its rule (1) of 3 clusters with \"name in (c2,c5,c6)\""
    );
}

#[test]
fn stale_figures_count_against_a_cluster_and_their_age_is_told() {
    let rule = rule(json!({"clusters": "name=c6", "strategy": "LeastLoaded"})).unwrap();
    let scores = [1000, 1030, 1090, 9999].map(|now| {
        let Decision::Place { why, .. } = ask(&Case { now, ..Case::default() }, &Found::Rule(&rule)) else {
            panic!("not placed")
        };
        (why.figures_age, why.candidates[0].score)
    });
    assert_eq!(scores, [(Some(0), 0.625), (Some(30), 0.625), (Some(90), 0.425), (Some(8999), -0.375)]);
}

#[test]
fn what_was_chosen_a_moment_ago_stays_while_it_can() {
    let rule = rule(json!({"clusters": "name in (c5,c6)", "strategy": "LeastLoaded"})).unwrap();
    for (chosen, expected) in [("c5", "c5"), ("c6", "c6"), ("c1", "c6"), ("c9", "c6")] {
        let decision = ask(&Case { chosen: Some(chosen), ..Case::default() }, &Found::Rule(&rule));
        assert!(matches!(&decision, Decision::Place { cluster, .. } if cluster == expected), "{decision:?}");
    }
}

#[test]
fn delivery_asks_for_rule_and_consent_but_not_for_readiness() {
    let fleet = clusters();
    let one = rule(json!({"clusters": "name=c2"})).unwrap();
    assert_eq!(permitted("team", &Found::Unruled, Some(&fleet[2])), Ok(None));
    assert_eq!(permitted("team", &Found::Rule(&one), Some(&fleet[1])), Ok(Some(&one)));
    assert!(permitted("team", &Found::Unruled, Some(&fleet[3])).is_err());
    assert!(permitted("team", &Found::Unruled, None).is_err());
    assert!(permitted("team", &Found::Rule(&one), Some(&fleet[2])).is_err());
    let broken = rule(json!({"clusters": "="})).unwrap_err();
    assert!(permitted("team", &Found::Broken(&broken), Some(&fleet[1])).is_err());
}

proptest! {
    /// The same question has the same answer, in whatever order things are found out.
    #[test]
    fn a_decision_is_a_function_of_its_inputs(
        taken in prop::collection::vec(0..8000i64, 1..6),
        strategy in prop::sample::select(vec!["LeastLoaded", "Spread", "Ordered"]),
        counts in prop::collection::hash_map("c[0-5]", 0..5u32, 0..6),
        cpu in 1..9000i64,
    ) {
        let rule = rule(json!({"clusters": "*", "strategy": strategy})).unwrap();
        let mut fleet: Vec<Arc<Cluster>> =
            taken.iter().enumerate().map(|(i, taken)| Arc::new(with_cpu(cluster(&format!("c{i}")), *taken))).collect();
        let demand = asking(&format!("{cpu}m"));
        let request = Request { namespace: "team", own_cluster: None, chosen: None, demand: &demand };
        let placed = Placed { by_rule: counts, ..Placed::default() };
        let decide = |clusters: &[Arc<Cluster>]| {
            decide(&request, &Found::Rule(&rule), &Fleet { clusters, placed: &placed, now: 1000 })
        };
        let decision = decide(&fleet);
        prop_assert_eq!(&decide(&fleet), &decision);
        match decision {
            Decision::Place { cluster, why } => {
                let chosen = fleet.iter().position(|one| one.name == cluster).unwrap();
                prop_assert!(taken[chosen] + cpu <= 8000, "it does not fit");
                prop_assert_eq!(&why.candidates[0].cluster, &cluster);
                prop_assert!(why.candidates.windows(2).all(|pair| pair[0].score >= pair[1].score));
            }
            Decision::Wait(_) => prop_assert!(taken.iter().all(|taken| taken + cpu > 8000), "it would fit"),
            other => prop_assert!(false, "{:?}", other),
        }
        fleet.clear();
        prop_assert!(matches!(decide(&fleet), Decision::Wait(_)));
    }
}
