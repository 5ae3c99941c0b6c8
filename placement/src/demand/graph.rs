//! The order of a DAG's tasks.

use std::collections::{BTreeMap, HashMap};

use super::spec::{Call, Dag};

/// Tasks by how many others come before them: those of one level may run at the same time. Tasks in a circle, which
/// Argo refuses, come together at the end.
///
/// `target` is known: only tasks that it names, and those that come before them, are run.
pub(super) fn levels<'d>(dag: &'d Dag, target: &str) -> Vec<Vec<&'d Call>> {
    let tasks = &dag.tasks;
    let by_name: HashMap<&str, usize> = tasks.iter().enumerate().map(|(i, task)| (task.name.as_str(), i)).collect();
    let before: Vec<Vec<usize>> =
        tasks.iter().map(|task| named(task).filter_map(|name| by_name.get(name).copied()).collect()).collect();
    let runs = targeted(target.split_whitespace().filter_map(|name| by_name.get(name).copied()), &before);

    let mut after: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
    for (task, before) in before.iter().enumerate() {
        before.iter().for_each(|earlier| after[*earlier].push(task));
    }
    let mut waits_for: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut level = vec![0; tasks.len()];
    let is_run = |task: &usize| runs.as_ref().is_none_or(|runs| runs[*task]);
    let mut ready: Vec<usize> = (0..tasks.len()).filter(|task| waits_for[*task] == 0).collect();
    let mut levels: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    while let Some(task) = ready.pop() {
        if is_run(&task) {
            levels.entry(level[task]).or_default().push(task);
        }
        for &later in &after[task] {
            level[later] = level[later].max(level[task] + 1);
            waits_for[later] -= 1;
            if waits_for[later] == 0 {
                ready.push(later);
            }
        }
    }
    let in_order = |mut level: Vec<usize>| {
        level.sort_unstable();
        level.into_iter().map(|task| &tasks[task]).collect()
    };
    let circles = (0..tasks.len()).filter(|task| waits_for[*task] > 0 && is_run(task)).collect();
    levels.into_values().chain([circles]).map(in_order).collect()
}

/// Which tasks lead to the targets; `None`: there are no targets, all are run.
fn targeted(targets: impl Iterator<Item = usize>, before: &[Vec<usize>]) -> Option<Vec<bool>> {
    let mut next: Vec<usize> = targets.collect();
    if next.is_empty() {
        return None;
    }
    let mut runs = vec![false; before.len()];
    while let Some(task) = next.pop() {
        if !std::mem::replace(&mut runs[task], true) {
            next.extend(&before[task]);
        }
    }
    Some(runs)
}

/// The tasks that a task names as coming before it: in a list, or in an expression as `a && (b.Failed || !c)`.
fn named(task: &Call) -> impl Iterator<Item = &str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let words = task.depends.split(move |c| !is_of_name(c));
    let in_expression = words.map(|word| word.split_once('.').map_or(word, |(name, _)| name));
    task.dependencies.iter().map(String::as_str).chain(in_expression)
}
