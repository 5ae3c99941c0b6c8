//! Who shares the clusters: the syncers that are alive, and which of them is to have which cluster.
//!
//! Each has a Lease of its own that says that it is there. From the same members follows the same share for all of them,
//! so nobody has to be asked; where views differ for a moment, the cluster's own Lease decides.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use argosy_api::names;
use argosy_runtime::client::{RequestError, within};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::lease::{DURATION, RENEW, Seen};

/// How long a member has been gone when its Lease is removed.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The members that are alive, by identity, as this process sees them.
#[derive(Clone)]
pub struct Members {
    me: String,
    alive: watch::Receiver<Vec<String>>,
}

/// Keeps saying that this process is there, and looks who else is.
pub struct Roll {
    api: Api<LeaseObject>,
    me: String,
    seen: HashMap<String, Seen>,
    alive: watch::Sender<Vec<String>>,
}

impl Members {
    /// The members as seen from `me`, and what keeps them known.
    pub fn new(client: Client, namespace: &str, me: &str) -> (Self, Roll) {
        // Alone, until others are seen.
        let (sender, alive) = watch::channel(vec![me.to_owned()]);
        let api = Api::namespaced(client, namespace);
        let roll = Roll { api, me: me.to_owned(), seen: HashMap::new(), alive: sender };
        (Self { me: me.to_owned(), alive }, roll)
    }

    /// Whether this process is to have the cluster, of all these.
    pub fn is_mine(&self, cluster: &str, clusters: &[&str]) -> bool {
        share(clusters, &self.alive.borrow()).get(cluster).is_none_or(|member| *member == self.me)
    }
}

/// Which member is to have which cluster: as even as can be, and so that as few as can be move when a member comes or
/// goes (rendezvous hashing with bounded loads).
fn share<'a>(clusters: &[&'a str], members: &'a [String]) -> BTreeMap<&'a str, &'a str> {
    let most = clusters.len().div_ceil(members.len().max(1));
    let mut loads: HashMap<&str, usize> = HashMap::new();
    let mut shares = BTreeMap::new();
    let mut sorted = clusters.to_vec();
    sorted.sort_unstable();
    for cluster in sorted {
        let has_room = |member: &&String| loads.get(member.as_str()).copied().unwrap_or_default() < most;
        let best = members.iter().filter(has_room).max_by_key(|member| (weight(cluster, member), member.as_str()));
        if let Some(member) = best {
            *loads.entry(member).or_default() += 1;
            shares.insert(cluster, member.as_str());
        }
    }
    shares
}

fn weight(cluster: &str, member: &str) -> u64 {
    // The same in every process of the same build; another only moves clusters once more.
    let mut hasher = DefaultHasher::new();
    (cluster, member).hash(&mut hasher);
    hasher.finish()
}

impl Roll {
    /// Runs until `shutdown`, and then says that this process goes.
    pub async fn keep(mut self, shutdown: CancellationToken) {
        let mut ticks = interval(RENEW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => break,
            }
            if let Err(error) = self.call().await {
                // Nobody's share changes for that; the Leases of the clusters decide.
                tracing::debug!(error = error.message(), "cannot call the roll of syncers");
            }
        }
        if let Err(error) = within(self.api.delete(&names::member(&self.me), &DeleteParams::default())).await {
            tracing::warn!(error = error.message(), "the other syncers will notice late that this one is gone");
        }
    }

    async fn call(&mut self) -> Result<(), RequestError> {
        let here = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": names::member(&self.me), "labels": {names::MEMBER: "syncer"}},
            "spec": {
                "holderIdentity": self.me, "leaseDurationSeconds": DURATION.as_secs(),
                "renewTime": format!("{:.6}", Timestamp::now()),
            },
        });
        let applied = PatchParams::apply(names::MANAGER).force();
        within(self.api.patch(&names::member(&self.me), &applied, &Patch::Apply(&here))).await?;
        let all = within(self.api.list(&ListParams::default().labels(names::MEMBER))).await?;
        let (alive, forgotten) = self.look(&all.items, Instant::now());
        self.alive.send_if_modified(|known| {
            let is_new = *known != alive;
            if is_new {
                tracing::info!(members = alive.join(" "), "these syncers share the clusters");
            }
            *known = alive;
            is_new
        });
        for lease in forgotten {
            let version = Preconditions { resource_version: lease.resource_version(), uid: None };
            let params = DeleteParams { preconditions: Some(version), ..DeleteParams::default() };
            // Somebody else may have been faster.
            let _ = within(self.api.delete(&lease.name_any(), &params)).await;
        }
        Ok(())
    }

    /// Who is alive, and which Leases nobody will renew any more. No clock but one's own is trusted.
    fn look<'a>(&mut self, leases: &'a [LeaseObject], now: Instant) -> (Vec<String>, Vec<&'a LeaseObject>) {
        let (mut alive, mut forgotten) = (vec![self.me.clone()], Vec::new());
        self.seen.retain(|name, _| leases.iter().any(|lease| lease.name_any() == *name));
        for lease in leases {
            let identity = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
            if identity.is_empty() || identity == self.me {
                continue;
            }
            let version = lease.resource_version().unwrap_or_default();
            let age = now.duration_since(self.seen.entry(lease.name_any()).or_default().since(&version, now));
            // Sooner than its clusters' Leases run out, so that it is known by then whose they are.
            if age < DURATION - RENEW / 2 {
                alive.push(identity);
            } else if age >= FORGOTTEN {
                forgotten.push(lease);
            }
        }
        alive.sort();
        alive.dedup();
        (alive, forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(prefix: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{prefix}{n}")).collect()
    }

    proptest! {
        #[test]
        fn shares_are_even_and_few_move_when_one_goes(clusters in 1_usize..40, members in 1_usize..6, gone in 0_usize..6) {
            let (clusters, members) = (named("c", clusters), named("m", members));
            let clusters: Vec<&str> = clusters.iter().map(String::as_str).collect();
            let before = share(&clusters, &members);
            prop_assert_eq!(before.len(), clusters.len());
            let loads: Vec<usize> =
                members.iter().map(|member| before.values().filter(|has| *has == member).count()).collect();
            prop_assert!(loads.iter().all(|load| *load <= clusters.len().div_ceil(members.len())), "{:?}", loads);
            let mut turned = members.clone();
            turned.reverse();
            prop_assert_eq!(&share(&clusters, &turned), &before);

            let left: Vec<String> = members.iter().filter(|member| **member != format!("m{gone}")).cloned().collect();
            if !left.is_empty() && left.len() < members.len() {
                let after = share(&clusters, &left);
                let moved = clusters.iter().filter(|c| before[*c] != after[*c]).count();
                // Those of the one that went, and those that have to make room.
                prop_assert!(moved <= 2 * clusters.len().div_ceil(members.len()) + 1, "{} moved", moved);
            }
        }
    }

    fn lease(identity: &str, version: &str) -> LeaseObject {
        serde_json::from_value(json!({
            "metadata": {"name": names::member(identity), "resourceVersion": version},
            "spec": {"holderIdentity": identity},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_member_is_gone_once_its_lease_does_not_change_under_our_eyes() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let (_, mut roll) = Members::new(Client::try_from(config).unwrap(), "n", "a");
        let now = Instant::now();
        let mut alive = |version: &str, seconds| {
            let leases = [lease("a", "1"), lease("b", version)];
            let (alive, forgotten) = roll.look(&leases, now + Duration::from_secs(seconds));
            (alive.join(" "), forgotten.len())
        };
        assert_eq!(alive("1", 0), ("a b".to_owned(), 0));
        assert_eq!(alive("1", 8), ("a b".to_owned(), 0));
        assert_eq!(alive("1", 10), ("a".to_owned(), 0));
        assert_eq!(alive("2", 11), ("a b".to_owned(), 0));
        assert_eq!(alive("2", 611), ("a".to_owned(), 1));
    }
}
