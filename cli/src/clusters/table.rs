//! The list as a table for people: no lines, as kubectl's.

use std::collections::BTreeMap;

use argosy_placement::parse_quantity;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::row::{Amounts, Row};
use crate::workflows::Count;

const COLUMNS: [&str; 9] = ["NAME", "READY", "ARGO", "CORDONED", "CPU", "MEMORY", "AGE", "RUNNING", "WAITING"];
const WIDE: [&str; 4] = ["VERSION", "NAMESPACES", "LABELS", "MESSAGE"];
/// What is not known.
const NONE: &str = "-";

/// The table, a line for each cluster.
pub fn render(rows: &[Row], wide: bool) -> String {
    if rows.is_empty() {
        return "no cluster has joined yet (kubectl argosy join --help)\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(COLUMNS.into_iter().chain(WIDE.into_iter().filter(|_| wide)));
    for row in rows {
        table.add_row(cells(row).into_iter().chain(more(row).into_iter().filter(|_| wide)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn cells(row: &Row) -> [String; 9] {
    let figures = row.capacity.as_ref();
    let known = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
    let count = |count: Option<u64>| known(count.map(|count| count.to_string()));
    [
        row.name.clone(),
        row.ready.clone(),
        row.argo_ready.clone(),
        if row.cordoned { "yes" } else { "no" }.to_owned(),
        known(figures.map(|figures| share("cpu", &figures.cpu, cores))),
        known(figures.map(|figures| share("memory", &figures.memory, bytes))),
        known(figures.map(|figures| age(figures.age_seconds))),
        count(row.running),
        count(row.waiting),
    ]
}

fn more(row: &Row) -> [String; 4] {
    let listed = |list: String| if list.is_empty() { NONE.to_owned() } else { list };
    let labels = row.labels.iter().filter(|(key, _)| !is_bookkeeping(key));
    [
        row.kubernetes_version.clone().unwrap_or_else(|| NONE.to_owned()),
        listed(row.namespaces.join(",")),
        listed(labels.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")),
        // A table's line is one line.
        listed(row.message.as_deref().unwrap_or_default().replace('\n', " ")),
    ]
}

/// Labels that no rule will select by.
fn is_bookkeeping(label: &str) -> bool {
    label.starts_with(argosy_api::names::PREFIX) || label == argosy_api::names::MANAGED_BY
}

/// `FREE/ALLOCATABLE`
fn share(name: &str, amounts: &Amounts, print: fn(i64) -> String) -> String {
    let of = |text: &str| parse_quantity(name, text).map_or_else(|| NONE.to_owned(), print);
    format!("{}/{}", of(&amounts.free), of(&amounts.allocatable))
}

/// Cores, with one digit after the point if there is one.
fn cores(millicores: i64) -> String {
    let tenths = millicores / 100;
    let sign = if tenths < 0 { "-" } else { "" };
    let (whole, tenth) = (tenths.abs() / 10, tenths.abs() % 10);
    if tenth == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{tenth}") }
}

/// In the largest unit of which there are at least two.
fn bytes(bytes: i64) -> String {
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    match units.iter().find(|(_, shift)| bytes.unsigned_abs() >> shift >= 2) {
        Some((unit, shift)) => format!("{}{unit}", bytes / (1 << shift)),
        None => bytes.to_string(),
    }
}

/// As kubectl tells ages, in one unit.
fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What is routed to none of the clusters listed.
pub fn elsewhere(rows: &[Row], workflows: Option<&BTreeMap<String, Count>>) -> String {
    let Some(workflows) = workflows else { return String::new() };
    let total = |count: &Count| count.running + count.waiting;
    let waiting = workflows.get("").map(total).unwrap_or_default();
    let mut text = match waiting {
        1 => "1 workflow waits for a cluster\n".to_owned(),
        waiting => format!("{waiting} workflows wait for a cluster\n"),
    };
    let is_listed = |name: &str| name.is_empty() || rows.iter().any(|row| row.name == name);
    for (name, count) in workflows.iter().filter(|(name, _)| !is_listed(name)) {
        text += &match total(count) {
            1 => format!("1 workflow is routed to {name}, which is no cluster (any more)\n"),
            count => format!("{count} workflows are routed to {name}, which is no cluster (any more)\n"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use argosy_api::WorkloadCluster;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn condition(name: &str, status: &str) -> Value {
        json!({"type": name, "status": status, "reason": "Reason", "message": "what is wrong",
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn rows(workflows: Option<&BTreeMap<String, Count>>) -> Vec<Row> {
        let cluster = |name: &str, spec: Value, status: Value| -> WorkloadCluster {
            serde_json::from_value(json!({
                "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster",
                "metadata": {"name": name, "labels": {"env": "prod", "argosy.dev/joined": name}},
                "spec": spec, "status": status,
            }))
            .unwrap()
        };
        let good = json!({
            "conditions": [condition("Ready", "True"), condition("ArgoReady", "True")],
            "kubernetesVersion": "v1.34.4",
            "capacity": {
                "time": "2026-01-01T00:00:00Z",
                "allocatable": {"cpu": "16", "memory": "64Gi"},
                "requested": {"cpu": "3500m", "memory": "44Gi"},
            },
        });
        let bad = json!({"conditions": [condition("Ready", "False"), condition("ArgoReady", "Unknown")]});
        let spec = json!({"kubeconfigSecret": {"name": "s"}, "namespaces": ["a", "b"]});
        let cordoned = json!({"kubeconfigSecret": {"name": "s"}, "cordoned": true});
        let now = "2026-01-01T00:00:07Z".parse().unwrap();
        [cluster("paris", spec, good), cluster("rome", cordoned.clone(), bad), cluster("x", cordoned, json!(null))]
            .iter()
            .map(|cluster| Row::new(cluster, workflows, now))
            .collect()
    }

    fn workflows() -> BTreeMap<String, Count> {
        [("", 0, 3), ("gone", 1, 0), ("paris", 12, 1)]
            .map(|(name, running, waiting)| (name.to_owned(), Count { running, waiting }))
            .into()
    }

    #[test]
    fn a_table_for_people() {
        let workflows = workflows();
        let rows = rows(Some(&workflows));
        let expected = "\
NAME    READY     ARGO      CORDONED   CPU       MEMORY      AGE   RUNNING   WAITING
paris   True      True      no         12.5/16   20Gi/64Gi   7s    12        1
rome    False     Unknown   yes        -         -           -     0         0
x       Unknown   Unknown   yes        -         -           -     0         0
";
        assert_eq!(render(&rows, false), expected);
        assert_eq!(
            elsewhere(&rows, Some(&workflows)),
            "3 workflows wait for a cluster\n1 workflow is routed to gone, which is no cluster (any more)\n"
        );
    }

    #[test]
    fn wide_says_why_a_cluster_is_not_ready() {
        let rendered = render(&rows(None), true);
        let lines: Vec<&str> = rendered.lines().collect();
        assert!(lines[1].ends_with("-         -         v1.34.4   a,b          env=prod   -"), "{rendered}");
        assert!(lines[2].ends_with("Reason: what is wrong"), "{rendered}");
        assert!(lines[3].ends_with("no syncer has looked at it yet"), "{rendered}");
    }

    #[test]
    fn without_clusters_the_next_step_is_named() {
        assert_eq!(render(&[], false), "no cluster has joined yet (kubectl argosy join --help)\n");
        assert_eq!(elsewhere(&[], Some(&BTreeMap::new())), "0 workflows wait for a cluster\n");
        assert_eq!(elsewhere(&[], None), "");
    }

    #[test]
    fn scripts_get_stable_names() {
        let workflows = workflows();
        let rows = serde_json::to_value(rows(Some(&workflows))).unwrap();
        assert_eq!(
            rows[0],
            json!({
                "name": "paris", "labels": {"env": "prod", "argosy.dev/joined": "paris"},
                "ready": "True", "argoReady": "True", "cordoned": false, "namespaces": ["a", "b"],
                "kubernetesVersion": "v1.34.4", "running": 12, "waiting": 1,
                "capacity": {
                    "time": "2026-01-01T00:00:00Z", "ageSeconds": 7,
                    "cpu": {"allocatable": "16", "requested": "3500m", "free": "12500m"},
                    "memory": {"allocatable": "64Gi", "requested": "44Gi", "free": "20Gi"},
                },
            })
        );
        assert_eq!(
            rows[1],
            json!({
                "name": "rome", "labels": {"env": "prod", "argosy.dev/joined": "rome"},
                "ready": "False", "argoReady": "Unknown", "message": "Reason: what is wrong", "cordoned": true,
                "namespaces": [], "running": 0, "waiting": 0,
            })
        );
    }

    #[rstest]
    #[case(0, "0")]
    #[case(250, "0.2")]
    #[case(-1500, "-1.5")]
    #[case(16_000, "16")]
    fn cpu_in_cores(#[case] millicores: i64, #[case] expected: &str) {
        assert_eq!(cores(millicores), expected);
    }

    #[rstest]
    #[case(0, "0")]
    #[case(1 << 31, "2Gi")]
    #[case(3 << 29, "1536Mi")]
    #[case(-(3 << 30), "-3Gi")]
    fn memory_in_a_readable_unit(#[case] amount: i64, #[case] expected: &str) {
        assert_eq!(bytes(amount), expected);
    }

    #[rstest]
    #[case(7, "7s")]
    #[case(119, "119s")]
    #[case(180, "3m")]
    #[case(7200, "2h")]
    #[case(200_000, "2d")]
    fn ages(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(age(seconds), expected);
    }
}
