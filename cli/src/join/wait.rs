//! Waits until the syncer says that a cluster can be used.

use std::time::Duration;

use anyhow::{Result, bail};
use argosy_api::WorkloadCluster;
use argosy_api::workload_cluster::{ARGO_READY, READY};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

use crate::ask::ask;

const LOOK: Duration = Duration::from_millis(500);

/// Waits, and says on standard error what is missing whenever that changes.
pub async fn until_ready(control: &Client, name: &str, timeout: Duration) -> Result<()> {
    let api: Api<WorkloadCluster> = Api::all(control.clone());
    let end = Instant::now() + timeout;
    let mut said = Vec::new();
    loop {
        let cluster = ask(&format!("read WorkloadCluster {name}"), api.get(name)).await?;
        let missing = missing(&cluster);
        if missing.is_empty() {
            return Ok(());
        }
        if missing != said {
            eprintln!("waiting for {name}: {}", missing.join("; "));
            said = missing;
        }
        if Instant::now() >= end {
            let hint = if cluster.status.is_none() { "; is a syncer running in the control cluster?" } else { "" };
            bail!(
                "{name} is known now, but not ready after {}: {}{hint}",
                humantime::format_duration(timeout),
                said.join("; ")
            );
        }
        sleep(LOOK).await;
    }
}

/// Conditions that do not hold, or were not looked at since the last change.
fn missing(cluster: &WorkloadCluster) -> Vec<String> {
    let status = cluster.status.as_ref();
    let missing = |name: &&str| match status.and_then(|status| status.condition(name)) {
        Some(condition) if condition.observed_generation < cluster.metadata.generation => {
            Some(format!("{name} is being looked at anew"))
        }
        Some(condition) if condition.status == "True" => None,
        Some(condition) => {
            Some(format!("{name} is {} ({}: {})", condition.status, condition.reason, condition.message))
        }
        None => Some(format!("{name} is not known yet")),
    };
    [READY, ARGO_READY].iter().filter_map(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn condition(name: &str, status: &str, generation: i64) -> Value {
        json!({"type": name, "status": status, "reason": "R", "message": "m", "observedGeneration": generation,
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[rstest]
    #[case::nobody_looked(json!(null), "Ready is not known yet; ArgoReady is not known yet")]
    #[case::ready(json!([condition("Ready", "True", 2), condition("ArgoReady", "True", 2)]), "")]
    #[case::no_argo(
        json!([condition("Ready", "True", 2), condition("ArgoReady", "False", 2)]),
        "ArgoReady is False (R: m)"
    )]
    #[case::of_before_the_change(
        json!([condition("Ready", "True", 1), condition("ArgoReady", "True", 2)]),
        "Ready is being looked at anew"
    )]
    fn what_is_missing(#[case] conditions: Value, #[case] expected: &str) {
        let status = if conditions.is_null() { Value::Null } else { json!({"conditions": conditions}) };
        let cluster: WorkloadCluster = serde_json::from_value(json!({
            "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster",
            "metadata": {"name": "c", "generation": 2}, "spec": {"kubeconfigSecret": {"name": "s"}}, "status": status,
        }))
        .unwrap();
        assert_eq!(missing(&cluster).join("; "), expected);
    }
}
