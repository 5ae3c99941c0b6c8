//! Copies of what workflows refer to, once they are there: kept in step while a workflow that is not done uses them,
//! removed when none does.
//!
//! Which copies there are, and what uses them, is read from the WEC each time: nothing has to survive a restart.

use std::collections::HashSet;
use std::time::Duration;

use argosy_api::names;
use argosy_api::workflow;
use argosy_runtime::client::{RequestError, within};
use kube::api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Preconditions};
use kube::{Api, ResourceExt};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::kind::{Kind, Reference, from_text};
use super::{Dependency, Named, Preflight, Seen};
use crate::work::{StepError, Work, locked};

/// How often at least.
const EVERY: Duration = Duration::from_secs(60);

/// Looks after the copies until cancelled.
pub async fn run(work: &Work) {
    let mut ticks = interval(work.preflight.keep.clamp(Duration::from_secs(1), EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = work.upkeep().await {
            let cluster = &work.here.cluster;
            tracing::warn!(cluster, error = &error as &dyn std::error::Error, "cannot look after what workflows use");
        }
    }
}

impl Preflight {
    /// Whether nothing has used a copy for long enough: the next workflow often wants the same. The time runs from when that was first seen.
    fn has_outlived(&self, dependency: &Dependency, now: Instant) -> bool {
        let mut seen = locked(&self.seen);
        let seen = seen.entry(dependency.clone()).or_insert(Seen { used: now, written: None });
        now.duration_since(seen.used) >= self.keep
    }
}

impl Work {
    async fn upkeep(&self) -> Result<(), StepError> {
        // The copies first: what is delivered after that is used by nobody's memory but ours.
        let mut copies = Vec::new();
        for kind in Kind::COPIED {
            copies.extend(self.copies_of(kind).await?);
        }
        let used = if copies.is_empty() { HashSet::new() } else { self.used().await? };
        // What the WEC says is no consent: nothing leaves a namespace that has no workflow here.
        let routed: HashSet<String> = self.originals.keys().into_iter().map(|key| key.namespace).collect();
        for (dependency, metadata) in copies {
            let is_used = used.contains(&dependency);
            if is_used && !dependency.namespace.is_empty() && !routed.contains(&dependency.namespace) {
                continue;
            }
            if is_used {
                // Its namespace is one of the workflow's that uses it; what has none is the same in all.
                self.look_at(&dependency.namespace, &dependency.reference, true, Named::ByOurs)
                    .await
                    .map(drop)
                    .or_else(outdated)?;
            } else {
                let _alone = self.preflight.deleting.write().await;
                if self.preflight.has_outlived(&dependency, Instant::now()) {
                    self.drop_copy(&dependency, metadata).await?;
                }
            }
        }
        locked(&self.preflight.seen).retain(|_, seen| seen.used.elapsed() < 2 * self.preflight.keep);
        Ok(())
    }

    /// All our copies of a kind; none where we may not list them.
    async fn copies_of(&self, kind: Kind) -> Result<Vec<(Dependency, ObjectMeta)>, StepError> {
        let api: Api<DynamicObject> = Api::all_with(self.wec.clone(), &kind.api_resource());
        let ours = format!("{}={},{}={}", names::MANAGED_BY, names::MANAGER, names::CONTROL, self.shared.control_id);
        let listed = match within(api.list_metadata(&ListParams::default().labels(&ours))).await {
            Ok(listed) => listed.items,
            Err(error) if matches!(error.status(), Some(403 | 404)) => Vec::new(),
            Err(source) => return Err(StepError::ReadCopy { source }),
        };
        let of = |object: kube::core::PartialObjectMeta<DynamicObject>| {
            let reference = Reference { kind, name: object.name_any() };
            let namespace = object.namespace().unwrap_or_default();
            (Dependency { namespace, reference }, object.metadata)
        };
        Ok(listed.into_iter().map(of).collect())
    }

    /// What workflows use that are not done: those of every WorkloadCluster that leads to this WEC.
    async fn used(&self) -> Result<HashSet<Dependency>, StepError> {
        let api: Api<DynamicObject> = Api::all_with(self.wec.clone(), &workflow::api_resource());
        let active = format!("{}={},{}!=true", names::CONTROL, self.shared.control_id, names::ARGO_COMPLETED);
        let listed = within(api.list_metadata(&ListParams::default().labels(&active))).await;
        let listed = listed.map_err(|source| StepError::ReadCopy { source })?;
        let uses = listed.items.iter().flat_map(|object| {
            let namespace = object.namespace().unwrap_or_default();
            let text = object.annotations().get(names::USES).map(String::as_str).unwrap_or_default();
            from_text(text).map(move |reference| Dependency::new(&namespace, &reference))
        });
        Ok(uses.collect())
    }

    /// Deletes a copy as it was listed, and no other.
    async fn drop_copy(&self, dependency: &Dependency, metadata: ObjectMeta) -> Result<(), StepError> {
        self.check_lease()?;
        let preconditions = Preconditions { uid: metadata.uid, resource_version: metadata.resource_version };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = within(dependency.api(&self.wec).delete(&dependency.reference.name, &params)).await;
        self.metrics.copy_writes.inc();
        match deleted {
            Ok(_) => {
                // One that is made anew has its own time.
                locked(&self.preflight.seen).remove(dependency);
                let Dependency { namespace, reference } = dependency;
                tracing::info!(cluster = self.here.cluster, namespace, object = %reference, "deleted a copy that nothing uses");
                Ok(())
            }
            Err(error) if is_over(&error) => Ok(()),
            Err(source) => Err(StepError::WriteCopy { source }),
        }
    }
}

/// It is gone, somebody has changed it, or it is not ours to delete; the next time will tell.
fn is_over(error: &RequestError) -> bool {
    matches!(error.status(), Some(403 | 404 | 409))
}

fn outdated(error: StepError) -> Result<(), StepError> {
    if matches!(error, StepError::Outdated) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argosy_api::workload_cluster::Copy as Consent;

    const GRACE: Duration = Duration::from_secs(300);

    #[test]
    fn a_copy_goes_when_nothing_has_used_it_for_a_while() {
        let preflight = Preflight::new(Consent::default(), "argosy".into(), GRACE);
        let reference = |name: &str| Reference { kind: Kind::ConfigMap, name: name.into() };
        let (known, other) =
            (Dependency::new("team", &reference("known")), Dependency::new("team", &reference("other")));
        let start = Instant::now();
        preflight.note(known.clone(), start, true);
        assert!(!preflight.has_outlived(&known, start + GRACE / 2));
        assert!(preflight.has_outlived(&known, start + GRACE));
        // Used once more, by a workflow that is on its way.
        preflight.note(known.clone(), start + GRACE, false);
        assert!(!preflight.has_outlived(&known, start + GRACE + GRACE / 2));
        // One that a restarted syncer finds has its whole time.
        assert!(!preflight.has_outlived(&other, start + GRACE));
        assert!(preflight.has_outlived(&other, start + 2 * GRACE));
    }
}
