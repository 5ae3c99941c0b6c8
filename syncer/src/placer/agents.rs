//! Syncers inside of their clusters that are not heard of any more: nobody else would say that such a cluster is lost.

use std::collections::HashMap;
use std::time::Duration;

use argosy_api::names;
use argosy_api::workload_cluster::UNREACHABLE;
use argosy_runtime::client::{RequestError, within};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Placer;
use crate::health::{self, Trouble};
use crate::lease::{DURATION, Seen};

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How much longer than its Lease is good for one may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at them, for ever.
pub(super) async fn follow(placer: &Placer) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    placer.known.all_synced().await;
    let mut seen: HashMap<String, Seen> = HashMap::new();
    loop {
        ticks.tick().await;
        let clusters = placer.known.clusters();
        let names: Vec<&str> = clusters.iter().filter(|c| c.is_pull).map(|cluster| cluster.name.as_str()).collect();
        seen.retain(|cluster, _| names.contains(&cluster.as_str()));
        for name in names {
            let seen = seen.entry(name.to_owned()).or_default();
            if let Err(error) = look(placer, name, seen).await {
                tracing::warn!(cluster = name, error = error.message(), "cannot look at the cluster's syncer");
            }
        }
    }
}

async fn look(placer: &Placer, cluster: &str, seen: &mut Seen) -> Result<(), RequestError> {
    let leases: Api<Lease> = Api::namespaced(placer.control.clone(), &placer.namespace);
    let lease = within(leases.get_opt(&names::lease(cluster))).await?;
    let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.as_deref()).unwrap_or_default();
    let unchanged = seen.since(version, Instant::now()).elapsed();
    let Some(message) = silence(lease.as_ref().and_then(|lease| lease.spec.as_ref()), unchanged, cluster) else {
        return Ok(());
    };
    if !placer.lease.is_held() {
        return Ok(());
    }
    // One that takes up its Lease this moment reports anew with its next look.
    health::report(&placer.control, cluster, &Err(Trouble { reason: UNREACHABLE, message })).await
}

/// What is wrong with a cluster whose syncer's Lease has been seen to stay as it is for so long.
fn silence(lease: Option<&LeaseSpec>, unchanged: Duration, cluster: &str) -> Option<String> {
    if unchanged < DURATION + PATIENCE {
        return None;
    }
    let remedy = format!(
        "see that it runs there and reaches this API server; if its token has expired, `kubectl argosy join {cluster} \
         --renew`"
    );
    let holder = lease.and_then(|lease| lease.holder_identity.as_deref()).filter(|holder| !holder.is_empty());
    Some(match (holder, lease.and_then(|lease| lease.renew_time.as_ref())) {
        (None, None) => format!("no syncer inside of the cluster has signed in yet: {remedy}"),
        (None, Some(last)) => format!("the syncer inside of the cluster has ended at {:.0}: {remedy}", last.0),
        (Some(_), last) => {
            let since = last.map(|last| format!(" since {:.0}", last.0)).unwrap_or_default();
            format!("the syncer inside of the cluster has not been heard of{since}: {remedy}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use rstest::rstest;

    #[rstest]
    #[case::renewing(Some("c/a"), true, 14, None)]
    #[case::silent(Some("c/a"), true, 15, Some("has not been heard of since 2026-01-02T03:04:05Z"))]
    #[case::ended(Some(""), true, 15, Some("has ended at 2026-01-02T03:04:05Z"))]
    #[case::being_taken_over(Some(""), true, 3, None)]
    #[case::never_there(None, false, 15, Some("has signed in yet"))]
    fn silent_syncers(
        #[case] holder: Option<&str>,
        #[case] renewed: bool,
        #[case] unchanged: u64,
        #[case] expected: Option<&str>,
    ) {
        let time = renewed.then(|| MicroTime("2026-01-02T03:04:05.6Z".parse().unwrap()));
        let spec = LeaseSpec { holder_identity: holder.map(str::to_owned), renew_time: time, ..LeaseSpec::default() };
        let told = silence(Some(&spec), Duration::from_secs(unchanged), "c");
        match expected {
            None => assert_eq!(told, None),
            Some(expected) => assert!(told.as_ref().is_some_and(|told| told.contains(expected)), "{told:?}"),
        }
    }
}
