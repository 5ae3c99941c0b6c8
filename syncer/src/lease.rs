//! Who works on a cluster: the holder of its Lease.
//!
//! As in Kubernetes' own leader election, no clock but one's own is trusted: a foreign Lease has run out when it has
//! not changed for its duration under one's own eyes. And a holder stops before its Lease runs out for others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use argosy_runtime::client::{RequestError, within};
use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

/// How long a Lease is good for without being renewed.
pub const DURATION: Duration = Duration::from_secs(10);
/// How often its holder renews it.
pub const RENEW: Duration = Duration::from_secs(2);
/// How often others look at it.
const LOOK: Duration = Duration::from_secs(1);
/// How much earlier than others a holder takes its own Lease for lost.
const MARGIN: Duration = Duration::from_secs(2);

/// How long a candidate leaves a Lease that it may take to one that it is meant for.
const COURTESY: Duration = Duration::from_secs(3);

/// A Lease as one candidate sees it.
pub struct Lease {
    api: Api<LeaseObject>,
    name: String,
    identity: String,
    started: Instant,
    /// Milliseconds after `started`; 0 while not held.
    held_until: AtomicU64,
}

/// The version of a Lease that was seen last, and when it was seen first.
#[derive(Debug, Default)]
pub struct Seen(Option<(String, Instant)>);

impl Seen {
    /// Since when the Lease has been as it is in this version, which is seen now.
    pub fn since(&mut self, version: &str, now: Instant) -> Instant {
        match &self.0 {
            Some((known, since)) if known == version => *since,
            _ => self.0.insert((version.to_owned(), now)).1,
        }
    }
}

/// What a candidate may do about a Lease.
#[derive(Debug, PartialEq)]
enum Claim {
    /// It is free, has run out, or was one's own already.
    Take,
    /// Somebody holds it.
    Wait,
}

/// `unchanged`: how long the Lease has been seen to stay as it is. `courtesy`: how much longer others are to have had time
/// for it.
fn claim(spec: Option<&LeaseSpec>, me: &str, unchanged: Duration, courtesy: Duration) -> Claim {
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    let duration = if holder.is_empty() { 0 } else { u64::try_from(seconds).unwrap_or_default() };
    if holder == me || unchanged >= Duration::from_secs(duration) + courtesy { Claim::Take } else { Claim::Wait }
}

impl Lease {
    /// A Lease of this name in `namespace`, to be held as `identity`.
    pub fn new(client: Client, namespace: &str, name: String, identity: String) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name, identity, started: Instant::now(), held_until: AtomicU64::new(0) }
    }

    /// Whether writes may go out in the name of this Lease.
    pub fn is_held(&self) -> bool {
        self.millis(Instant::now()) < self.held_until.load(Ordering::Acquire)
    }

    /// Waits until the Lease is held. While it is not meant for this process, others are given time to take it.
    pub async fn acquire(&self, is_meant: impl Fn() -> bool) {
        let mut seen = Seen::default();
        loop {
            let courtesy = if is_meant() { Duration::ZERO } else { COURTESY };
            match self.try_acquire(&mut seen, courtesy).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.name, error = error.message(), "cannot look at the Lease"),
            }
            sleep(LOOK).await;
        }
    }

    /// Renews the Lease for as long as that goes well. Returns when it is lost.
    pub async fn keep(&self) {
        while self.is_held() {
            sleep(RENEW).await;
            match self.try_acquire(&mut Seen::default(), Duration::ZERO).await {
                Ok(true) => {}
                Ok(false) => {
                    self.held_until.store(0, Ordering::Release);
                    tracing::warn!(lease = self.name, "somebody else holds the Lease");
                }
                Err(error) => tracing::warn!(lease = self.name, error = error.message(), "cannot renew the Lease"),
            }
        }
    }

    /// Lets go, so that another can take over at once.
    pub async fn release(&self) {
        self.held_until.store(0, Ordering::Release);
        let released = async {
            let Some(mut lease) = within(self.api.get_opt(&self.name)).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(self.identity.as_str()) {
                spec.holder_identity = None;
                within(self.api.replace(&self.name, &PostParams::default(), &lease)).await?;
            }
            Ok::<_, RequestError>(())
        };
        if let Err(error) = released.await {
            tracing::warn!(lease = self.name, error = error.message(), "cannot release the Lease; it will run out");
        }
    }

    async fn try_acquire(&self, seen: &mut Seen, courtesy: Duration) -> Result<bool, RequestError> {
        let before = Instant::now();
        let lease = within(self.api.get_opt(&self.name)).await?;
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
        let since = seen.since(&version, before);
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        if claim(spec, &self.identity, since.elapsed(), courtesy) == Claim::Wait {
            return Ok(false);
        }
        let taken = match lease {
            None => within(self.api.create(&PostParams::default(), &self.taken(None))).await,
            Some(lease) => within(self.api.replace(&self.name, &PostParams::default(), &self.taken(Some(lease)))).await,
        };
        match taken {
            Ok(_) => {
                self.held_until.store(self.millis(before + DURATION - MARGIN), Ordering::Release);
                Ok(true)
            }
            // Another candidate was faster.
            Err(error) if error.status() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn taken(&self, lease: Option<LeaseObject>) -> LeaseObject {
        let mut lease = lease.unwrap_or_else(|| LeaseObject {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default() + 1);
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::absent(None, 0, 0, Claim::Take)]
    #[case::absent_but_meant_for_another(None, 2, 3, Claim::Wait)]
    #[case::released(Some(""), 0, 0, Claim::Take)]
    #[case::released_for_another(Some(""), 2, 3, Claim::Wait)]
    #[case::released_and_nobody_came(Some(""), 3, 3, Claim::Take)]
    #[case::own_after_a_restart(Some("me"), 0, 3, Claim::Take)]
    #[case::held(Some("you"), 9, 0, Claim::Wait)]
    #[case::run_out(Some("you"), 10, 0, Claim::Take)]
    #[case::run_out_but_meant_for_another(Some("you"), 12, 3, Claim::Wait)]
    fn claims(#[case] holder: Option<&str>, #[case] unchanged: u64, #[case] courtesy: u64, #[case] expected: Claim) {
        let spec = holder.map(|holder| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(10),
            ..LeaseSpec::default()
        });
        let [unchanged, courtesy] = [unchanged, courtesy].map(Duration::from_secs);
        assert_eq!(claim(spec.as_ref(), "me", unchanged, courtesy), expected);
    }
}
