//! The virtual node of a cluster: where its shadows are, and where the control cluster's API server finds who has their
//! logs. Nothing is ever run there.

use std::time::Duration;

use argosy_api::{WorkloadCluster, names};
use argosy_runtime::client::{RequestError, within};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use thiserror::Error;

use crate::kubelet::Address;

/// The namespace of the Leases by which nodes say that they are there.
const LEASES: &str = "kube-node-lease";
/// How often it is renewed, and how long it is good for, as kubelets do.
pub const RENEW: Duration = Duration::from_secs(10);
const DURATION: u32 = 40;
const FIELD_MANAGER: &str = "argosy-syncer";

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
    name: String,
    cluster: String,
    control: Client,
}

impl VirtualNode {
    pub fn new(control: Client, cluster: &str) -> Self {
        Self { name: names::virtual_node(cluster), cluster: cluster.to_owned(), control }
    }

    /// Makes it, or makes it right again, and says that it is ready and who has its logs.
    pub async fn put(&self, owner: &WorkloadCluster, address: &Address) -> Result<(), NodeError> {
        let nodes: Api<Node> = Api::all(self.control.clone());
        let present = within(nodes.get_opt(&self.name)).await?;
        if let Some(node) = &present
            && node.labels().get(names::NODE_CLUSTER) != Some(&self.cluster)
        {
            return Err(NodeError::Taken { name: self.name.clone(), cluster: self.cluster.clone() });
        }
        let applied = PatchParams::apply(FIELD_MANAGER).force();
        within(nodes.patch(&self.name, &applied, &Patch::Apply(self.object(owner)))).await?;
        self.patch_status(&status(address, &ready("True", "SyncerReady", "its logs are served"))).await?;
        Ok(())
    }

    /// Says that it does not answer, and why. Its Lease is no longer renewed, either.
    pub async fn lost(&self, reason: &str, message: &str) -> Result<(), RequestError> {
        self.patch_status(&json!({"status": {"conditions": [ready("False", reason, message)]}})).await
    }

    /// Renews its Lease, which Kubernetes takes for the sign that a node is there.
    pub async fn renew(&self) -> Result<(), RequestError> {
        let leases: Api<Lease> = Api::namespaced(self.control.clone(), LEASES);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name},
            "spec": {
                "holderIdentity": self.name, "leaseDurationSeconds": DURATION,
                "renewTime": format!("{:.6}", Timestamp::now()),
            },
        });
        let applied = PatchParams::apply(FIELD_MANAGER).force();
        within(leases.patch(&self.name, &applied, &Patch::Apply(&lease))).await.map(drop)
    }

    async fn patch_status(&self, status: &Value) -> Result<(), RequestError> {
        let nodes: Api<Node> = Api::all(self.control.clone());
        within(nodes.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(status))).await.map(drop)
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
                },
                "ownerReferences": [{
                    "apiVersion": WorkloadCluster::api_version(&()), "kind": WorkloadCluster::kind(&()),
                    "name": owner.name_any(), "uid": owner.uid().unwrap_or_default(),
                }],
            },
            "spec": {
                // Of no cloud: a cloud's controllers delete nodes without it as soon as they are not ready.
                "providerID": format!("argosy://{}", self.cluster),
                "unschedulable": true,
                "taints": [taint("NoSchedule"), taint("NoExecute")],
            },
        })
    }
}

fn status(address: &Address, ready: &Value) -> Value {
    // No room: a pod that tolerates everything has no place here, either.
    let none = json!({"cpu": "0", "memory": "0", "pods": "0"});
    json!({"status": {
        "addresses": [{"type": address.kind.to_string(), "address": address.ip.to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port}},
        "capacity": none,
        "allocatable": none,
        "conditions": [ready],
        "nodeInfo": {
            "kubeletVersion": format!("argosy-{}", env!("CARGO_PKG_VERSION")), "operatingSystem": "", "architecture": "",
            "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "machineID": "",
            "osImage": "", "systemUUID": "",
        },
    }})
}

fn ready(status: &str, reason: &str, message: &str) -> Value {
    let now = Timestamp::now().to_string();
    let now = format!("{}Z", now.split('.').next().unwrap_or_default().trim_end_matches('Z'));
    json!({
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    })
}
