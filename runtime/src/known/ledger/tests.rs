//! Every workflow counts once, whoever hears of it when.

use super::*;
use argosy_placement::Capacity;
use k8s_openapi::api::core::v1::ConfigMap;
use proptest::prelude::*;
use serde_json::json;

fn stamp(cluster: &str, cpu: &str, time: &str) -> String {
    let asks = [("cpu".to_owned(), cpu.to_owned())].into();
    let (cluster, time) = (cluster.into(), time.into());
    let placement = Placement { cluster, time, rule: RuleSource::Namespace, asks, ..Placement::default() };
    serde_json::to_string(&placement).unwrap()
}

/// Any kind will do: only metadata is looked at.
fn routed(uid: &str, version: u64, cluster: &str, phase: &str, stamp: &str) -> ConfigMap {
    let object = json!({"metadata": {
        "uid": uid, "name": uid, "namespace": "team", "resourceVersion": version.to_string(),
        "labels": {"kubestellar.io/cluster": cluster, "workflows.argoproj.io/phase": phase},
        "annotations": {"argosy.dev/placement": stamp},
    }});
    serde_json::from_value(object).unwrap()
}

/// A cluster whose figures have this pending, as of this version.
fn figures(name: &str, pending: i64, seen: u64) -> Arc<Cluster> {
    let pending = [("cpu", pending)].into_iter().filter(|(_, cpu)| *cpu > 0).collect();
    let capacity = Some(Capacity { pending, seen, ..Capacity::default() });
    Arc::new(Cluster { name: name.to_owned(), capacity, ..Cluster::default() })
}

fn pending(ledger: &Ledger, cluster: &Arc<Cluster>, now: i64) -> i64 {
    let placed = ledger.placed("team", &RuleSource::Namespace, std::slice::from_ref(cluster), now);
    placed.pending.get(&cluster.name).map_or(0, |pending| pending.get("cpu"))
}

fn count(ledger: &Ledger, namespace: &str, cluster: &str) -> u32 {
    ledger.placed(namespace, &RuleSource::Namespace, &[], 0).by_rule.get(cluster).copied().unwrap_or_default()
}

/// What who counts the cluster's pods publishes; `has_pods` for all of its workflows.
fn awaited(ledger: &Ledger, has_pods: bool, now: i64) -> (i64, u64) {
    let Awaited { pending, seen } = ledger.awaited("c1", |_, _| has_pods, now);
    (pending.get("cpu"), seen)
}

#[test]
fn a_decision_counts_once_from_its_making_until_its_pods_show() {
    let (webhook, syncer) = (Ledger::default(), Ledger::default());
    let stamp = stamp("c1", "500m", "t");
    webhook.reserve("team", &stamp, 100);
    assert_eq!((pending(&webhook, &figures("c1", 0, 7), 100), count(&webhook, "team", "c1")), (500, 1));
    let seen = || Event::Apply(routed("u", 8, "c1", "Pending", &stamp));
    webhook.apply(seen(), 101);
    assert_eq!((pending(&webhook, &figures("c1", 0, 7), 101), count(&webhook, "team", "c1")), (500, 1));
    // The syncer counts it from when it sees it; figures that know of it replace what was counted beside them.
    syncer.apply(seen(), 101);
    assert_eq!(awaited(&syncer, false, 101), (500, 8));
    webhook.figures("c1", 8);
    assert_eq!(pending(&webhook, &figures("c1", 500, 8), 101), 500);
    // Its pods have come: the figures show these instead, also when one of them has ended since.
    assert_eq!((awaited(&syncer, true, 102), awaited(&syncer, false, 103)), ((0, 8), (0, 8)));
    assert_eq!((pending(&webhook, &figures("c1", 0, 8), 103), count(&webhook, "team", "c1")), (0, 1));
    webhook.apply(Event::Delete(routed("u", 12, "c1", "Succeeded", &stamp)), 110);
    assert_eq!((pending(&webhook, &figures("c1", 0, 7), 110), count(&webhook, "team", "c1")), (0, 0));
}

#[test]
fn a_decision_that_came_to_nothing_is_forgotten() {
    let ledger = Ledger::default();
    ledger.reserve("team", &stamp("c1", "1", "t"), 100);
    let figures = figures("c1", 0, 0);
    assert_eq!((pending(&ledger, &figures, 110), pending(&ledger, &figures, 111)), (1000, 0));
}

#[test]
fn a_workflow_that_runs_without_pods_is_not_waited_for() {
    let ledger = Ledger::default();
    ledger.apply(Event::Apply(routed("u", 8, "c1", "", &stamp("c1", "1", "t"))), 100);
    assert_eq!(awaited(&ledger, false, 200), (1000, 8));
    ledger.apply(Event::Apply(routed("u", 9, "c1", "Running", &stamp("c1", "1", "t"))), 200);
    assert_eq!((awaited(&ledger, false, 204), awaited(&ledger, false, 205)), ((1000, 9), (0, 9)));
}

#[test]
fn a_workflow_that_was_placed_after_waiting_counts_from_then_on() {
    let ledger = Ledger::default();
    ledger.apply(Event::Apply(routed("u", 8, "", "Pending", &stamp("", "1", "t"))), 100);
    assert_eq!(awaited(&ledger, false, 100), (0, 8));
    ledger.apply(Event::Apply(routed("u", 9, "c1", "", &stamp("c1", "1", "t"))), 101);
    assert_eq!(pending(&ledger, &figures("c1", 0, 8), 101), 1000);
}

#[test]
fn what_a_new_list_does_not_have_counts_no_more() {
    let ledger = Ledger::default();
    let object = |uid: &str, version, cluster: &str| routed(uid, version, cluster, "", &stamp(cluster, "1", uid));
    ledger.apply(Event::Apply(object("u", 1, "c1")), 100);
    ledger.apply(Event::Apply(object("v", 2, "c2")), 100);
    assert_eq!((count(&ledger, "team", "c1"), count(&ledger, "other", "c1")), (1, 0));
    ledger.apply(Event::<ConfigMap>::Init, 101);
    ledger.apply(Event::InitApply(object("v", 2, "c2")), 101);
    ledger.apply(Event::<ConfigMap>::InitDone, 101);
    assert_eq!((count(&ledger, "team", "c1"), pending(&ledger, &figures("c1", 0, 0), 101)), (0, 0));
    assert_eq!(pending(&ledger, &figures("c2", 0, 0), 101), 1000);
}

proptest! {
    /// The decision, a peer's word of it and the watch come in any order, and more than once; figures know it or not.
    #[test]
    fn whatever_comes_first_it_counts_once(word_first in any::<bool>(), known in any::<bool>(), again in 0..3usize) {
        let ledger = Ledger::default();
        let stamp = stamp("c1", "1", "t");
        let object = || Event::Apply(routed("u", 8, "c1", "Running", &stamp));
        if word_first {
            ledger.reserve("team", &stamp, 100);
            ledger.apply(object(), 100);
        } else {
            ledger.apply(object(), 100);
            ledger.reserve("team", &stamp, 100);
        }
        (0..again).for_each(|_| ledger.apply(object(), 101));
        let cluster = if known { figures("c1", 1000, 8) } else { figures("c1", 0, 7) };
        prop_assert_eq!((pending(&ledger, &cluster, 101), count(&ledger, "team", "c1")), (1000, 1));
    }
}
