//! Many nodes in few lines: those alike to the scheduler are one group, of which only the emptiest matter.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::ledger::Taint;

/// This many groups are told of.
pub const GROUPS: usize = 64;
/// This many of a group's nodes are told of.
pub const FREE: usize = 16;

/// Its value is another one on each node.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// A node that takes pods: what it is like, and what is free on it, in the order of the inventory's resources; also if
/// no workflow had pods there.
#[derive(Clone, Debug)]
pub struct Room<'a> {
    pub labels: &'a BTreeMap<String, String>,
    pub taints: &'a [Taint],
    pub free: Vec<i64>,
    pub idle: Vec<i64>,
}

/// Nodes with the same labels, but for those left out, and the same taints.
#[derive(Debug, PartialEq)]
pub struct Group<'a> {
    pub labels: Vec<(&'a str, &'a str)>,
    pub taints: &'a [Taint],
    pub count: usize,
    pub free: Vec<Vec<i64>>,
    pub idle: Vec<Vec<i64>>,
}

/// Puts nodes into at most [`GROUPS`] groups. While there are more, the label with the most values is left out; if
/// taints alone make more, those of the fewest nodes are. Returns with them the labels left out.
pub fn group<'a>(rooms: Vec<Room<'a>>) -> (Vec<Group<'a>>, Vec<&'a str>) {
    let mut omitted = vec![HOSTNAME];
    if has_too_many(&rooms, &omitted) {
        for label in labels_by_values(&rooms) {
            omitted.push(label);
            if !has_too_many(&rooms, &omitted) {
                break;
            }
        }
    }
    let mut members: BTreeMap<_, Vec<(Vec<i64>, Vec<i64>)>> = BTreeMap::new();
    for room in rooms {
        members.entry((labels_of(&room, &omitted), room.taints)).or_default().push((room.free, room.idle));
    }
    let groups = members.into_iter().map(|((labels, taints), nodes)| {
        let count = nodes.len();
        let (free, idle) = nodes.into_iter().unzip();
        Group { labels, taints, count, free: best(free), idle: best(idle) }
    });
    let mut groups: Vec<Group> = groups.collect();
    if groups.len() > GROUPS {
        groups.sort_by_key(|group| Reverse(group.count));
        groups.truncate(GROUPS);
    }
    omitted.sort_unstable();
    (groups, omitted)
}

/// The labels that do not have the same value on all nodes, those with the most values first.
fn labels_by_values<'a>(rooms: &[Room<'a>]) -> Vec<&'a str> {
    let mut values: HashMap<&str, (HashSet<&str>, usize)> = HashMap::new();
    for (key, value) in rooms.iter().flat_map(|room| room.labels) {
        let (seen, count) = values.entry(key).or_default();
        seen.insert(value);
        *count += 1;
    }
    values.remove(HOSTNAME);
    // Not to have a label is a value, too.
    let distinct =
        |(key, (seen, count)): (_, (HashSet<&str>, usize))| (seen.len() + usize::from(count < rooms.len()), key);
    let mut labels: Vec<(usize, &str)> =
        values.into_iter().map(distinct).filter(|(distinct, _)| *distinct > 1).collect();
    labels.sort_unstable_by_key(|(distinct, key)| (Reverse(*distinct), *key));
    labels.into_iter().map(|(_, key)| key).collect()
}

fn has_too_many(rooms: &[Room], omitted: &[&str]) -> bool {
    let mut seen = HashSet::new();
    // Lazy: with a label that differs on every node, the first few tell.
    rooms.iter().any(|room| seen.insert((labels_of(room, omitted), room.taints)) && seen.len() > GROUPS)
}

fn labels_of<'a>(room: &Room<'a>, omitted: &[&str]) -> Vec<(&'a str, &'a str)> {
    let labels = room.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    labels.filter(|(key, _)| !omitted.contains(key)).collect()
}

/// At most [`FREE`] of the Pareto front: of the vectors that no other has as much of everything as. First the one
/// with most of each resource, so that a pod that is big in one way is not overlooked; then by the order of the
/// resources, that is those with most CPU, then most memory.
fn best(mut free: Vec<Vec<i64>>) -> Vec<Vec<i64>> {
    // In this order, nothing is outdone by what comes after it.
    free.sort_unstable_by(|a, b| b.cmp(a));
    free.dedup();
    let columns = free.first().map_or(0, Vec::len);
    let mut kept: Vec<usize> = Vec::with_capacity(FREE);
    for column in 0..columns {
        let most = (0..free.len()).max_by_key(|&row| (free[row][column], Reverse(row)));
        if let Some(row) = most.filter(|row| kept.len() < FREE && !kept.contains(row)) {
            kept.push(row);
        }
    }
    for row in 0..free.len() {
        if kept.len() == FREE {
            break;
        }
        if !kept.iter().any(|&other| outdoes(&free[other], &free[row])) {
            kept.push(row);
        }
    }
    kept.sort_unstable();
    kept.into_iter().map(|row| std::mem::take(&mut free[row])).collect()
}

/// Whether `a` has at least as much of everything as `b`.
fn outdoes(a: &[i64], b: &[i64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a >= b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    type Labels = BTreeMap<String, String>;

    /// Nodes with what is free on each.
    fn nodes(count: usize, label: impl Fn(usize) -> Vec<(&'static str, usize)>) -> Vec<(Labels, Vec<Taint>, Vec<i64>)> {
        let labels = |n| label(n).into_iter().map(|(key, value)| (key.to_owned(), value.to_string())).collect();
        (0..count).map(|n| (labels(n), Vec::new(), vec![1, 1])).collect()
    }

    fn grouped(nodes: &[(Labels, Vec<Taint>, Vec<i64>)]) -> (Vec<Group<'_>>, Vec<&str>) {
        group(
            nodes
                .iter()
                .map(|(labels, taints, free)| Room { labels, taints, free: free.clone(), idle: free.clone() })
                .collect(),
        )
    }

    #[rstest]
    #[case::alike(nodes(1000, |_| vec![("zone", 1)]), 1, &[])]
    #[case::names_never_matter(nodes(10, |n| vec![("kubernetes.io/hostname", n)]), 1, &[])]
    #[case::few_may_all_differ(nodes(64, |n| vec![("id", n)]), 64, &[])]
    #[case::the_most_diverse_label_goes(nodes(65, |n| vec![("id", n), ("zone", n % 3)]), 3, &["id"])]
    #[case::until_it_is_enough(nodes(400, |n| vec![("id", n), ("rack", n / 2), ("zone", n % 3)]), 3, &["id", "rack"])]
    #[case::not_to_have_a_label_differs(nodes(8, |n| (0..n % 2).map(|_| ("ssd", 1)).collect()), 2, &[])]
    fn groups_by_label(
        #[case] nodes: Vec<(Labels, Vec<Taint>, Vec<i64>)>,
        #[case] groups: usize,
        #[case] left_out: &[&str],
    ) {
        let (told, omitted) = grouped(&nodes);
        let mut expected = [&[HOSTNAME], left_out].concat();
        expected.sort_unstable();
        assert_eq!((told.len(), omitted), (groups, expected));
        assert_eq!(told.iter().map(|group| group.count).sum::<usize>(), nodes.len());
    }

    #[test]
    fn taints_tell_nodes_apart_and_those_of_the_fewest_nodes_are_left_out() {
        let mut nodes = nodes(130, |_| vec![]);
        for (n, (_, taints, _)) in nodes.iter_mut().enumerate() {
            // 65 taints; the first is on 2 nodes, the last on 1.
            let key = (n % 66).min(64).to_string();
            taints.push(Taint { key, value: None, effect: "NoSchedule".into() });
        }
        let (told, _) = grouped(&nodes);
        assert_eq!(told.len(), GROUPS);
        assert!(told.iter().all(|group| group.count >= 2));
    }

    #[rstest]
    #[case::none(vec![], vec![])]
    #[case::one(vec![vec![2, 2]], vec![vec![2, 2]])]
    #[case::the_same(vec![vec![2, 2], vec![2, 2]], vec![vec![2, 2]])]
    #[case::one_outdoes_the_other(vec![vec![1, 2], vec![2, 2], vec![2, 1]], vec![vec![2, 2]])]
    #[case::each_has_more_of_something(vec![vec![1, 2], vec![2, 1], vec![1, 1]], vec![vec![2, 1], vec![1, 2]])]
    fn the_emptiest(#[case] free: Vec<Vec<i64>>, #[case] expected: Vec<Vec<i64>>) {
        assert_eq!(best(free), expected);
    }

    #[test]
    fn of_many_the_biggest_are_told_and_the_one_with_most_of_each() {
        let told = best((0..100).map(|n| vec![n, 100 - n, i64::from(n == 40)]).collect());
        let cpu: Vec<i64> = told.iter().map(|free| free[0]).collect();
        assert_eq!(cpu, (86..100).rev().chain([40, 0]).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn what_fits_on_a_node_fits_on_one_that_is_told_of(
            free in proptest::collection::vec(proptest::collection::vec(0..4i64, 3), 0..40),
        ) {
            let told = best(free.clone());
            prop_assert!(told.len() <= FREE && told.iter().all(|one| free.contains(one)));
            for (n, one) in told.iter().enumerate() {
                prop_assert!(!told.iter().enumerate().any(|(m, other)| n != m && outdoes(other, one)));
            }
            // Fewer values than 17 in each resource make a front of 3 resources that may be longer than what is told.
            if told.len() < FREE {
                prop_assert!(free.iter().all(|one| told.iter().any(|other| outdoes(other, one))));
            }
        }
    }
}
