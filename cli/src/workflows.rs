//! Routed workflows of the control cluster, of which only the metadata is asked for.

use std::collections::BTreeMap;

use anyhow::Result;
use argosy_api::names;
use argosy_api::workflow::{SpecView, Workflow};
use argosy_runtime::client::within;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::ask::told;

/// Workflows per answer.
const PAGE: u32 = 500;

/// A routed workflow that is not completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// `NAMESPACE/NAME`
    pub name: String,
    /// Empty while it waits for one.
    pub cluster: String,
    pub is_running: bool,
}

/// All that are not completed, of one cluster or of every one. Where Argo Workflows is not installed, there are none.
pub async fn routed(control: &Client, cluster: Option<&str>) -> Result<Vec<Routed>> {
    let of = match cluster {
        Some(cluster) => format!("{}={cluster}", names::CLUSTER),
        None => format!("{0},{0}!={1}", names::CLUSTER, names::LOCAL),
    };
    let selector = format!("{of},{}!=true", names::ARGO_COMPLETED);
    let api: Api<Workflow<SpecView, ()>> = Api::all(control.clone());
    let mut found = Vec::new();
    let mut params = ListParams::default().labels(&selector).limit(PAGE);
    loop {
        let page = match within(api.list_metadata(&params)).await {
            Ok(page) => page,
            Err(error) if error.status() == Some(404) => return Ok(found),
            Err(error) => return Err(told("list the routed workflows", &error)),
        };
        found.extend(page.items.iter().map(|item| Routed::new(&item.namespace().unwrap_or_default(), item)));
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => params = params.continue_token(&more),
            None => return Ok(found),
        }
    }
}

impl Routed {
    fn new(namespace: &str, workflow: &impl ResourceExt) -> Self {
        let label = |name: &str| workflow.labels().get(name).map(String::as_str).unwrap_or_default();
        Self {
            name: format!("{namespace}/{}", workflow.name_any()),
            cluster: label(names::CLUSTER).to_owned(),
            is_running: label(names::ARGO_PHASE) == "Running",
        }
    }
}

/// How many of a cluster's workflows run, and how many are yet to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub running: u64,
    pub waiting: u64,
}

/// Counts by cluster; those under the empty name wait for one.
pub fn count(workflows: &[Routed]) -> BTreeMap<String, Count> {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for workflow in workflows {
        let count = counts.entry(workflow.cluster.clone()).or_default();
        *(if workflow.is_running { &mut count.running } else { &mut count.waiting }) += 1;
    }
    counts
}

/// How many workflows are named.
const NAMED: usize = 5;

/// How many there are, and the first of them by name; `None` if there are none.
pub fn listed(names: &[String], one: &str, many: &str) -> Option<String> {
    let first = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMED { ", …" } else { "" };
    match names.len() {
        0 => None,
        1 => Some(format!("1 {one}: {first}")),
        count => Some(format!("{count} {many}: {first}{more}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, None)]
    #[case(1, Some("1 copy runs: ns/w0"))]
    #[case(5, Some("5 copies run: ns/w0, ns/w1, ns/w2, ns/w3, ns/w4"))]
    #[case(7, Some("7 copies run: ns/w0, ns/w1, ns/w2, ns/w3, ns/w4, …"))]
    fn what_is_live_is_counted_and_the_first_named(#[case] count: usize, #[case] expected: Option<&str>) {
        let names: Vec<String> = (0..count).map(|i| format!("ns/w{i}")).collect();
        assert_eq!(listed(&names, "copy runs", "copies run").as_deref(), expected);
    }
}
