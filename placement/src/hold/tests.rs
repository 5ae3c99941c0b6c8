use argosy_api::PlacementPolicySpec;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::capacity::{Capacity, Group};
use crate::demand::{Demand, PodDemand};
use crate::resources::Resources;
use crate::rule::Rule;

fn cpu(amount: i64) -> Resources {
    [("cpu", amount)].into_iter().collect()
}

/// One node of so many CPUs, of which `others` are taken for good, and `workflows` by workflows.
fn cluster(name: &str, cpus: i64, others: i64, workflows: i64) -> Cluster {
    let group =
        Group { free: vec![cpu(cpus - others - workflows)], idle: vec![cpu(cpus - others)], ..Group::default() };
    let capacity = Capacity {
        allocatable: cpu(cpus),
        requested: cpu(others + workflows),
        groups: vec![group],
        ..Capacity::default()
    };
    Cluster {
        name: name.to_owned(),
        labels: [("name".to_owned(), name.to_owned())].into(),
        namespaces: vec!["*".to_owned()],
        capacity: Some(capacity),
        ..Cluster::default()
    }
}

fn held_for(workflow: &str, cluster: Cluster) -> Cluster {
    Cluster { held_for: Some(workflow.to_owned()), ..cluster }
}

fn asking(amount: i64) -> Demand {
    let pod = PodDemand { requests: cpu(amount), ..PodDemand::default() };
    Demand { pods: vec![pod], peak: cpu(amount), ..Demand::default() }
}

fn rule(clusters: &str) -> Rule {
    let spec: PlacementPolicySpec = serde_json::from_value(json!({"namespaces": "*", "clusters": clusters})).unwrap();
    Rule::from_policy("p", &spec).unwrap()
}

/// Asks for one; answers the cluster that it goes to.
fn ask(
    holds: &mut Holds,
    name: &str,
    since: i64,
    amount: i64,
    rule: &Rule,
    clusters: &[Arc<Cluster>],
    now: i64,
) -> Option<String> {
    let fleet = Fleet { clusters, placed: &Placed::default(), now };
    let request = Request { namespace: "n", own_cluster: None, chosen: None, demand: &asking(amount) };
    match holds.decide(Waiter { name, since }, &request, &Found::Rule(rule), &fleet) {
        Decision::Place { cluster, .. } => Some(cluster),
        _ => None,
    }
}

/// Asks for those that wait, in turn: (name, since when, CPUs, clusters). Answers where each goes, and what is held then.
fn round(clusters: Vec<Cluster>, waiting: &[(&str, i64, i64, &str)]) -> (Vec<String>, Vec<String>) {
    let clusters: Vec<Arc<Cluster>> = clusters.into_iter().map(Arc::new).collect();
    let mut holds = Holds::new(&clusters);
    let placed = waiting.iter().map(|(name, since, amount, of)| {
        let cluster = ask(&mut holds, name, *since, *amount, &rule(of), &clusters, 1000);
        format!("{name} {}", cluster.as_deref().unwrap_or("waits"))
    });
    let placed = placed.collect();
    let held =
        clusters.iter().filter_map(|cluster| Some(format!("{} {}", cluster.name, holds.held.get(&cluster.name)?)));
    (placed, held.collect())
}

#[rstest]
#[case::not_yet(vec![cluster("c1", 8, 0, 6)], &[("l", 701, 8, "*"), ("s", 900, 1, "*")], &["l waits", "s c1"], &[])]
#[case::long_enough(
    vec![cluster("c1", 8, 0, 6)], &[("l", 700, 8, "*"), ("s", 900, 1, "*")], &["l waits", "s waits"], &["c1 l"]
)]
#[case::the_others_go_on(
    vec![cluster("c1", 8, 0, 6), cluster("c2", 4, 0, 0)],
    &[("l", 0, 8, "*"), ("s", 900, 1, "*")], &["l waits", "s c2"], &["c1 l"]
)]
#[case::those_before_it_in_turn_are_not_kept_out(
    vec![cluster("c1", 8, 0, 6)], &[("urgent", 999, 1, "*"), ("l", 0, 8, "*")], &["urgent c1", "l waits"], &["c1 l"]
)]
#[case::larger_than_any_node(vec![cluster("c1", 8, 0, 6)], &[("l", 0, 9, "*"), ("s", 900, 1, "*")], &["l waits", "s c1"], &[])]
#[case::larger_than_what_others_leave(
    vec![cluster("c1", 8, 1, 6)], &[("l", 0, 8, "*"), ("s", 900, 1, "*")], &["l waits", "s c1"], &[]
)]
#[case::the_largest(
    vec![cluster("c1", 8, 0, 8), cluster("c2", 16, 0, 16), cluster("c3", 4, 0, 4)], &[("l", 0, 3, "*")],
    &["l waits"], &["c2 l"]
)]
#[case::within_its_rule(
    vec![cluster("c1", 8, 0, 8), cluster("c2", 16, 0, 16)], &[("l", 0, 3, "name=c1")], &["l waits"], &["c1 l"]
)]
#[case::the_same_as_before(
    vec![held_for("l", cluster("c1", 8, 0, 8)), cluster("c2", 16, 0, 16)], &[("l", 0, 3, "*")], &["l waits"], &["c1 l"]
)]
#[case::no_longer_the_same(
    vec![held_for("l", Cluster { cordoned: true, ..cluster("c1", 8, 0, 8) }), cluster("c2", 16, 0, 16)],
    &[("l", 0, 3, "*")], &["l waits"], &["c2 l"]
)]
#[case::no_more_than_half_of_a_few(
    vec![cluster("c1", 8, 0, 8), cluster("c2", 8, 0, 8)],
    &[("l", 0, 3, "*"), ("m", 1, 3, "*")], &["l waits", "m waits"], &["c1 l"]
)]
#[case::no_more_than_three_of_many(
    ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"].map(|name| cluster(name, 8, 0, 8)).into(),
    &[("k", 0, 3, "*"), ("l", 1, 3, "*"), ("m", 2, 3, "*"), ("n", 3, 3, "*")],
    &["k waits", "l waits", "m waits", "n waits"], &["c1 k", "c2 l", "c3 m"]
)]
#[case::it_fits_at_last(
    vec![held_for("l", cluster("c1", 8, 0, 0))], &[("l", 0, 8, "*"), ("s", 900, 1, "*")], &["l c1", "s c1"], &[]
)]
#[case::it_waits_no_longer(vec![held_for("gone", cluster("c1", 8, 0, 0))], &[("s", 900, 1, "*")], &["s c1"], &[])]
fn whom_clusters_are_held_for(
    #[case] clusters: Vec<Cluster>,
    #[case] waiting: &[(&str, i64, i64, &str)],
    #[case] placed: &[&str],
    #[case] held: &[&str],
) {
    let (told, kept) = round(clusters, waiting);
    assert_eq!(told, placed);
    assert_eq!(kept, held);
}

#[test]
fn whoever_is_asked_about_later_hears_for_whom_it_is_held_and_news_is_written() {
    let clusters = [Arc::new(cluster("c1", 8, 0, 8)), Arc::new(held_for("n/gone", cluster("c2", 8, 0, 0)))];
    let (demand, rule) = (asking(8), rule("name=c1"));
    let fleet = Fleet { clusters: &clusters, placed: &Placed::default(), now: 1000 };
    let request = Request { namespace: "n", own_cluster: None, chosen: None, demand: &demand };
    let mut holds = Holds::new(&clusters);
    let waiter = Waiter { name: "n/l", since: 0 };
    let Decision::Wait(why) = holds.decide(waiter, &request, &Found::Rule(&rule), &fleet) else { panic!("it fits") };
    assert!(why.reason.ends_with("; c1 is kept for it"), "{}", why.reason);
    assert_eq!(holds.news(&clusters).collect::<Vec<_>>(), [("c1", Some("n/l")), ("c2", None)]);

    let clusters = [Arc::new(held_for("n/l", cluster("c1", 8, 0, 0)))];
    let told = |clusters: &[Arc<Cluster>]| {
        let Decision::Wait(why) = decide(&request, &Found::Rule(&rule), &Fleet { clusters, ..fleet }) else {
            return "placed".to_owned();
        };
        why.reason
    };
    assert!(told(&clusters).ends_with("c1: its room is kept for workflow n/l, which has waited for long"));
    assert!(told(&open_to("n/other", &clusters)).ends_with("which has waited for long"));
    assert_eq!(told(&open_to("n/l", &clusters)), "placed");
}

/// Clusters of one node each, in which workflows start as they are placed.
struct World {
    cpus: Vec<i64>,
    /// By cluster: what each that runs asks for, and until when it runs.
    running: Vec<Vec<(i64, i64)>>,
    held: BTreeMap<String, String>,
}

impl World {
    fn clusters(&self) -> Vec<Arc<Cluster>> {
        let clusters = self.cpus.iter().zip(&self.running).enumerate().map(|(index, (cpus, running))| {
            let name = format!("c{index}");
            let held_for = self.held.get(&name).cloned();
            Arc::new(Cluster { held_for, ..cluster(&name, *cpus, 0, running.iter().map(|(cpu, _)| cpu).sum()) })
        });
        clusters.collect()
    }

    fn start(&mut self, cluster: &str, amount: i64, until: i64) {
        let index = self.clusters().iter().position(|one| one.name == cluster).unwrap();
        self.running[index].push((amount, until));
    }
}

/// A minute: how often the placer looks here, and the least that a workflow runs.
const MINUTE: i64 = 60;
/// The most, in minutes.
const LONGEST: i64 = 6;

/// How many small ones come each minute: more than go.
const SMALLS: usize = 8;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However many small ones come, at the webhook or in line, each large one is placed in bounded time.
    #[test]
    fn a_large_workflow_is_placed_in_the_end(
        cpus in prop::collection::vec(4..9i64, 1..4),
        larges in prop::collection::vec(1..100i64, 1..4),
        smalls in prop::collection::vec((1..3i64, 1..=LONGEST), 30..60),
    ) {
        let largest = *cpus.iter().max().unwrap();
        // Each asks for more than what small ones leave, and for no more than the largest cluster has.
        let mut waiting: Vec<(String, i64, i64)> = larges
            .iter()
            .enumerate()
            .map(|(index, size)| (format!("large{index}"), 0, largest - size % 3))
            .collect();
        let running = cpus.iter().map(|cpus| vec![(*cpus, LONGEST * MINUTE)]).collect();
        let mut world = World { cpus, running, held: BTreeMap::new() };
        let rule = rule("*");
        let mut smalls = smalls.into_iter().cycle();
        // The first waits until a cluster is held, and for what runs there; so does each after it, and for those before it.
        let bound = PATIENCE / MINUTE + 1 + (2 * LONGEST + 2) * i64::try_from(larges.len()).unwrap();
        for minute in 0..=bound {
            let now = minute * MINUTE;
            world.running.iter_mut().for_each(|running| running.retain(|(_, until)| *until > now));
            for count in 0..SMALLS {
                let (amount, minutes) = smalls.next().unwrap();
                let clusters = world.clusters();
                let request = Request { namespace: "n", own_cluster: None, chosen: None, demand: &asking(amount) };
                let fleet = Fleet { clusters: &clusters, placed: &Placed::default(), now };
                match decide(&request, &Found::Rule(&rule), &fleet) {
                    Decision::Place { cluster, .. } => world.start(&cluster, amount, now + minutes * MINUTE),
                    _ if waiting.len() < 2 * SMALLS => waiting.push((format!("small{minute}-{count}"), now, amount)),
                    // It has given up.
                    _ => {}
                }
            }
            let mut holds = Holds::new(&world.clusters());
            waiting.retain(|(name, since, amount)| {
                match ask(&mut holds, name, *since, *amount, &rule, &world.clusters(), now) {
                    Some(cluster) => {
                        world.start(&cluster, *amount, now + LONGEST * MINUTE);
                        false
                    }
                    None => true,
                }
            });
            world.held = holds.held;
            prop_assert!(world.held.len() <= world.cpus.len().div_ceil(2));
        }
        let left: Vec<_> = waiting.iter().filter(|(name, ..)| name.starts_with("large")).collect();
        prop_assert!(left.is_empty(), "still waiting after {} minutes: {:?}", bound, left);
    }
}
