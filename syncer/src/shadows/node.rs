//! The virtual node of a cluster: where its shadows are, and where the control cluster's API server finds who has their
//! logs. Nothing is ever run there.

use std::time::Duration;

use argosy_api::{WorkloadCluster, names};
use argosy_runtime::client::{RequestError, within};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

use crate::health::Trouble;
use crate::kubelet::Address;

/// The namespace of the Leases by which nodes say that they are there.
const LEASES: &str = "kube-node-lease";
/// How often it is renewed, and how long it is good for, as kubelets do.
const RENEW: Duration = Duration::from_secs(10);
const DURATION: u32 = 40;

/// Why there is no node.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error("node {name:?} is somebody else's (it has no label {}={cluster})", names::NODE_CLUSTER)]
    Taken { name: String, cluster: String },
    #[error("cannot write the node: {}", .source.message())]
    Write {
        #[from]
        source: RequestError,
    },
}

/// A cluster's virtual node.
pub struct VirtualNode {
    pub name: String,
    cluster: String,
    control: Client,
    address: Address,
}

/// What the node's condition Ready says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ready<'a> {
    status: &'static str,
    reason: &'a str,
    message: &'a str,
}

impl VirtualNode {
    pub fn new(control: Client, cluster: &str, address: Address) -> Self {
        Self { name: names::virtual_node(cluster), cluster: cluster.to_owned(), control, address }
    }

    /// Says whether the cluster's logs are served, and why not. Makes the node, or makes it right again, if they are. Writes
    /// only what is not so yet.
    pub async fn show(&self, owner: &WorkloadCluster, trouble: Option<&Trouble>) -> Result<(), NodeError> {
        let nodes: Api<Node> = Api::all(self.control.clone());
        let mut present = within(nodes.get_opt(&self.name)).await?;
        if let Some(node) = &present
            && node.labels().get(names::NODE_CLUSTER) != Some(&self.cluster)
        {
            return Err(NodeError::Taken { name: self.name.clone(), cluster: self.cluster.clone() });
        }
        let ready = match trouble {
            None => {
                let applied = PatchParams::apply(names::MANAGER).force();
                present = Some(within(nodes.patch(&self.name, &applied, &Patch::Apply(self.object(owner)))).await?);
                Ready { status: "True", reason: "SyncerReady", message: "its logs are served" }
            }
            Some(Trouble { reason, message }) => Ready { status: "False", reason, message },
        };
        // Nobody may have made it yet.
        let status =
            present.and_then(|node| news(&node.status.unwrap_or_default(), &self.address, ready, Timestamp::now()));
        if let Some(status) = status {
            within(nodes.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(status))).await?;
        }
        Ok(())
    }

    /// Renews its Lease until cancelled, which Kubernetes takes for the sign that somebody looks after a node.
    pub async fn keep_lease(&self, owner: &WorkloadCluster) {
        let leases: Api<Lease> = Api::namespaced(self.control.clone(), LEASES);
        let applied = PatchParams::apply(names::MANAGER).force();
        let mut ticks = interval(RENEW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.name, "ownerReferences": [owned_by(owner)]},
                "spec": {
                    "holderIdentity": self.name, "leaseDurationSeconds": DURATION,
                    "renewTime": format!("{:.6}", Timestamp::now()),
                },
            });
            if let Err(error) = within(leases.patch(&self.name, &applied, &Patch::Apply(&lease))).await {
                let cluster = &self.cluster;
                tracing::warn!(cluster, error = error.message(), "cannot renew the virtual node's Lease");
            }
        }
    }

    fn object(&self, owner: &WorkloadCluster) -> Value {
        let taint = |effect: &str| json!({"key": names::NODE_CLUSTER, "value": self.cluster, "effect": effect});
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                // No label kubernetes.io/os: by that, DaemonSets which tolerate every taint (CNI, kube-proxy) choose
                // nodes. By `type`, the others and cloud providers know a node that is none.
                "labels": {
                    names::NODE_CLUSTER: self.cluster,
                    "type": "virtual-kubelet",
                    "node.kubernetes.io/exclude-from-external-load-balancers": "true",
                    // Kubernetes evicts nothing any more where most nodes are not ready; these do not count.
                    "node.kubernetes.io/exclude-disruption": "true",
                },
                "ownerReferences": [owned_by(owner)],
            },
            "spec": {
                // Of no cloud: a cloud's controllers delete nodes without it as soon as they are not ready.
                "providerID": format!("argosy://{}", self.cluster),
                "taints": [taint("NoSchedule"), taint("NoExecute")],
            },
        })
    }
}

fn owned_by(owner: &WorkloadCluster) -> Value {
    json!({
        "apiVersion": WorkloadCluster::api_version(&()), "kind": WorkloadCluster::kind(&()),
        "name": owner.name_any(), "uid": owner.uid().unwrap_or_default(),
    })
}

/// What has to be written where a node's status is not as it should be.
fn news(present: &NodeStatus, address: &Address, ready: Ready, now: Timestamp) -> Option<Value> {
    let condition = present.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let says = |condition: &NodeCondition| {
        let said = condition.reason.as_deref().zip(condition.message.as_deref());
        condition.status == ready.status && said == Some((ready.reason, ready.message))
    };
    let endpoint = present.daemon_endpoints.as_ref().and_then(|ends| ends.kubelet_endpoint.as_ref());
    let addresses = present.addresses.iter().flatten().map(|at| (at.type_.clone(), at.address.clone()));
    let is_there = endpoint.is_some_and(|end| end.port == i32::from(address.port))
        && addresses.eq([(address.kind.to_string(), address.ip.to_string())]);
    if condition.is_some_and(says) && is_there {
        return None;
    }
    let since = condition.filter(|condition| condition.status == ready.status);
    let since = since.and_then(|condition| condition.last_transition_time.clone()).unwrap_or(Time(now));
    // No room: a pod that tolerates everything has no place here, either.
    let none = json!({"cpu": "0", "memory": "0", "pods": "0"});
    Some(json!({"status": {
        "addresses": [{"type": address.kind.to_string(), "address": address.ip.to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port}},
        "capacity": none,
        "allocatable": none,
        "conditions": [{
            "type": "Ready", "status": ready.status, "reason": ready.reason, "message": ready.message,
            "lastHeartbeatTime": Time(now), "lastTransitionTime": since,
        }],
        "nodeInfo": {
            "kubeletVersion": format!("argosy-{}", env!("CARGO_PKG_VERSION")), "operatingSystem": "", "architecture": "",
            "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "machineID": "",
            "osImage": "", "systemUUID": "",
        },
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::AddressType;
    use rstest::rstest;

    const READY: Ready = Ready { status: "True", reason: "SyncerReady", message: "its logs are served" };
    const LOST: Ready = Ready { status: "False", reason: "Unreachable", message: "no answer" };

    fn address(port: u16) -> Address {
        Address { kind: AddressType::Hostname, ip: [10, 0, 0, 1].into(), port }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// As it is read again after it was written.
    fn written(ready: Ready) -> NodeStatus {
        let mut status = news(&NodeStatus::default(), &address(10250), ready, at(0)).unwrap();
        serde_json::from_value(status["status"].take()).unwrap()
    }

    #[rstest]
    #[case::as_it_was(written(READY), 10250, READY, None)]
    #[case::lost(written(READY), 10250, LOST, Some(60))]
    #[case::lost_still(written(LOST), 10250, LOST, None)]
    #[case::lost_for_another_reason(written(LOST), 10250, Ready { message: "no route", ..LOST }, Some(0))]
    #[case::back(written(LOST), 10250, READY, Some(60))]
    #[case::served_by_another_syncer(written(READY), 10251, READY, Some(0))]
    // As Kubernetes does where nobody renews the Lease.
    #[case::given_up(written(Ready { status: "Unknown", reason: "NodeStatusUnknown", message: "m" }), 10250, READY, Some(60))]
    #[case::new(NodeStatus::default(), 10250, READY, Some(60))]
    fn only_news_are_written(
        #[case] present: NodeStatus,
        #[case] port: u16,
        #[case] ready: Ready,
        #[case] since: Option<i64>,
    ) {
        let written = news(&present, &address(port), ready, at(60));
        let written: Option<NodeStatus> =
            written.map(|mut news| serde_json::from_value(news["status"].take()).unwrap());
        let condition = written.map(|status| status.conditions.unwrap().remove(0));
        assert_eq!(
            condition.as_ref().and_then(|condition| condition.last_transition_time.clone()),
            since.map(|s| Time(at(s)))
        );
        assert!(condition.is_none_or(|condition| condition.status == ready.status));
    }
}
