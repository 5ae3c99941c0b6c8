//! What is found out about a WEC, and how it is told: the conditions of its WorkloadCluster.

use argosy_api::workload_cluster::{ADOPTED, ARGO_READY, CAPACITY_KNOWN, READY, UNREACHABLE};
use argosy_api::{WorkloadCluster, WorkloadClusterStatus, workflow};
use argosy_runtime::client::{RequestError, kube_system_uid, within};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::condition;

/// The reason of a [`Trouble`] with credentials.
pub const UNAUTHORIZED: &str = "Unauthorized";
/// How often a report that met another writer is tried.
const TRIES: u32 = 4;

/// Something that keeps a cluster from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// CamelCase, for the condition.
    pub reason: &'static str,
    pub message: String,
}

/// A cluster that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// UID of its kube-system namespace.
    pub cluster_uid: String,
    pub version: String,
    pub argo: Result<(), Trouble>,
    /// What the inventory says; `None` while it does not know.
    pub capacity: Option<Result<(), Trouble>>,
    /// How many copies there another control cluster made; `None` while that is not known.
    pub of_before: Option<usize>,
}

impl Trouble {
    fn unreachable(what: &str, error: &RequestError) -> Self {
        let (reason, hint) = match error.status() {
            Some(401) => (UNAUTHORIZED, ": are its credentials still good?"),
            Some(403) => ("Forbidden", ": is argosy-member installed there?"),
            _ => (UNREACHABLE, ""),
        };
        Self { reason, message: format!("{what}: {}{hint}", error.message()) }
    }
}

/// Asks a WEC who it is, what it is and whether it serves Argo's Workflows.
pub async fn look(wec: &Client) -> Result<Seen, Trouble> {
    let uid = kube_system_uid(wec).await;
    let uid = uid.map_err(|error| Trouble::unreachable("cannot read namespace kube-system", &error))?;
    let version = within(wec.apiserver_version()).await;
    let version = version.map_err(|error| Trouble::unreachable("cannot read the version", &error))?;
    Ok(Seen {
        cluster_uid: uid.unwrap_or_default(),
        version: version.git_version,
        argo: look_for_argo(wec).await,
        capacity: None,
        of_before: None,
    })
}

async fn look_for_argo(wec: &Client) -> Result<(), Trouble> {
    let group = format!("{}/{}", workflow::GROUP, workflow::VERSION);
    match within(wec.list_api_group_resources(&group)).await {
        Ok(served) if served.resources.iter().any(|resource| resource.name == workflow::PLURAL) => Ok(()),
        Err(error) if error.status() != Some(404) => Err(Trouble::unreachable("cannot ask for Argo Workflows", &error)),
        _ => Err(Trouble {
            reason: "NotInstalled",
            message: format!("the cluster does not serve {}.{group}: install Argo Workflows there", workflow::PLURAL),
        }),
    }
}

/// The status that a WorkloadCluster has after a look at its cluster.
pub fn status_after(
    before: Option<&WorkloadClusterStatus>,
    look: &Result<Seen, Trouble>,
    generation: Option<i64>,
    now: Timestamp,
) -> WorkloadClusterStatus {
    let mut status = before.cloned().unwrap_or_default();
    let conditions = &mut status.conditions;
    let mut set = |r#type: &str, value: &str, reason: &str, message: &str| {
        condition::set(conditions, r#type, (value, reason, message), generation, now);
    };
    match look {
        Ok(seen) => {
            set(READY, "True", "Connected", "the cluster answers");
            match &seen.argo {
                Ok(()) => set(ARGO_READY, "True", "Installed", "the cluster serves Argo Workflows"),
                Err(trouble) => set(ARGO_READY, "False", trouble.reason, &trouble.message),
            }
            match &seen.capacity {
                Some(Ok(())) => set(CAPACITY_KNOWN, "True", "Counted", "the cluster's nodes and pods are counted"),
                Some(Err(trouble)) => set(CAPACITY_KNOWN, "False", trouble.reason, &trouble.message),
                None => {}
            }
            match seen.of_before {
                Some(0) => status.conditions.retain(|condition| condition.type_ != ADOPTED),
                Some(count) => {
                    let message = format!(
                        "{count} workflows there were delivered by a control cluster that this one has taken the place of; \
                         nothing is done about them until `kubectl argosy adopt` binds them to originals here"
                    );
                    condition::set(
                        &mut status.conditions,
                        ADOPTED,
                        ("False", "OtherControlCluster", &message),
                        generation,
                        now,
                    );
                }
                None => {}
            }
            status.cluster_uid.get_or_insert_with(|| seen.cluster_uid.clone());
            status.kubernetes_version = Some(seen.version.clone());
        }
        Err(trouble) => {
            set(READY, "False", trouble.reason, &trouble.message);
            set(ARGO_READY, "Unknown", trouble.reason, "the cluster cannot be asked");
            set(CAPACITY_KNOWN, "Unknown", trouble.reason, "the cluster cannot be asked");
        }
    }
    status
}

/// The UID of the cluster that a WorkloadCluster has led to so far.
pub fn pinned(cluster: &WorkloadCluster) -> Option<&str> {
    cluster.status.as_ref().and_then(|status| status.cluster_uid.as_deref())
}

/// A kubeconfig that leads to another cluster than before must not be followed: the copies are not there.
pub fn check_pin(pinned: Option<&str>, seen: Seen) -> Result<Seen, Trouble> {
    match pinned {
        Some(pinned) if pinned != seen.cluster_uid => Err(Trouble {
            reason: "OtherCluster",
            message: format!(
                "the kubeconfig leads to another cluster than before (kube-system UID {}, before {pinned}): \
                 give the other cluster a WorkloadCluster of its own",
                seen.cluster_uid
            ),
        }),
        _ => Ok(seen),
    }
}

/// Writes what a look found, if it is news.
pub async fn report(control: &Client, name: &str, look: &Result<Seen, Trouble>) -> Result<(), RequestError> {
    let api: Api<WorkloadCluster> = Api::all(control.clone());
    let mut tries = 0;
    loop {
        tries += 1;
        match try_report(&api, name, look).await {
            // The inventory writes to the same object up to once a second.
            Err(error) if error.status() == Some(409) && tries < TRIES => {}
            answer => return answer,
        }
    }
}

async fn try_report(api: &Api<WorkloadCluster>, name: &str, look: &Result<Seen, Trouble>) -> Result<(), RequestError> {
    let known = within(api.get(name)).await?;
    let status = status_after(known.status.as_ref(), look, known.metadata.generation, Timestamp::now());
    if known.status.as_ref() == Some(&status) {
        return Ok(());
    }
    match look {
        Ok(_) => tracing::info!(cluster = name, "cluster answers"),
        Err(trouble) => tracing::warn!(cluster = name, reason = trouble.reason, trouble.message, "cluster not ready"),
    }
    // Only what is health's own: the figures are the inventory's.
    let WorkloadClusterStatus { conditions, cluster_uid, kubernetes_version, .. } = status;
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": known.resource_version()},
        "status": {"conditions": conditions, "clusterUid": cluster_uid, "kubernetesVersion": kubernetes_version},
    }));
    within(api.patch_status(name, &PatchParams::default(), &patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(argo: Result<(), Trouble>) -> Result<Seen, Trouble> {
        Ok(Seen { cluster_uid: "u".into(), version: "v1.34.4".into(), argo, capacity: None, of_before: None })
    }

    fn summary(status: &WorkloadClusterStatus) -> Vec<String> {
        let condition =
            |c: &Condition| format!("{}={} {} @{}", c.type_, c.status, c.reason, c.last_transition_time.0.as_second());
        status.conditions.iter().map(condition).collect()
    }

    #[test]
    fn transition_times_move_only_when_a_condition_does() {
        let first = status_after(None, &seen(Ok(())), Some(1), at(1));
        assert_eq!(summary(&first), ["Ready=True Connected @1", "ArgoReady=True Installed @1"]);
        assert_eq!(status_after(Some(&first), &seen(Ok(())), Some(1), at(2)), first);
        let lost = Err(Trouble { reason: "Unreachable", message: "m".into() });
        let lost = status_after(Some(&first), &lost, Some(1), at(3));
        assert_eq!(
            summary(&lost),
            ["Ready=False Unreachable @3", "ArgoReady=Unknown Unreachable @3", "CapacityKnown=Unknown Unreachable @3"]
        );
        assert_eq!(lost.cluster_uid.as_deref(), Some("u"));
    }

    #[test]
    fn capacity_is_known_or_not_once_that_is_clear() {
        let told = |before: Option<&WorkloadClusterStatus>, capacity| {
            let look = Ok(Seen { capacity, ..seen(Ok(())).unwrap() });
            status_after(before, &look, Some(1), at(1))
        };
        let message = |status: &WorkloadClusterStatus| {
            status.condition(CAPACITY_KNOWN).map(|known| format!("{}: {}", known.status, known.message))
        };
        let first = told(None, None);
        assert_eq!(message(&first), None);
        let denied = told(Some(&first), Some(Err(Trouble { reason: "Forbidden", message: "m".into() })));
        assert_eq!(message(&denied).as_deref(), Some("False: m"));
        assert_eq!(told(Some(&denied), None), denied);
        let counted = told(Some(&denied), Some(Ok(())));
        assert_eq!(message(&counted).as_deref(), Some("True: the cluster's nodes and pods are counted"));
    }

    #[test]
    fn another_cluster_behind_the_same_name_is_refused() {
        let mut cluster =
            WorkloadCluster::new("c", serde_json::from_str(r#"{"kubeconfigSecret":{"name":"s"}}"#).unwrap());
        let look = || Seen { cluster_uid: "u2".into(), ..seen(Ok(())).unwrap() };
        assert!(check_pin(pinned(&cluster), look()).is_ok());
        cluster.status = Some(WorkloadClusterStatus { cluster_uid: Some("u1".into()), ..Default::default() });
        assert_eq!(check_pin(pinned(&cluster), look()).unwrap_err().reason, "OtherCluster");
    }
}
