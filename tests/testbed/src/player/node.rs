//! The Node that a played cluster's pods are on.

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

/// What a played node claims to have, as Kubernetes quantities. No pod is ever refused for lack of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Capacity {
    /// CPUs
    #[arg(long, default_value = "64")]
    pub cpu: String,
    /// Memory
    #[arg(long, default_value = "256Gi")]
    pub memory: String,
    /// How many pods
    #[arg(long, default_value = "10000")]
    pub pods: String,
}

/// Creates the Node, or brings it up to date, and marks it ready. `port` is where the kubelet's API is, on loopback.
///
/// # Errors
/// The API server refuses it, or does not answer.
pub(super) async fn register(client: &Client, name: &str, capacity: &Capacity, port: u16) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let params = PatchParams::apply("testbed-player").force();
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": std::env::consts::ARCH
        }}
    });
    nodes.patch(name, &params, &Patch::Apply(&node)).await.with_context(|| format!("creating the node {name}"))?;
    // Admission gives every new node the taint not-ready; the controller that takes it away again doesn't run here.
    let untaint = json!({"spec": {"taints": null}});
    nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(&untaint))
        .await
        .with_context(|| format!("removing the taints of the node {name}"))?;
    let resources = json!({
        "cpu": capacity.cpu, "memory": capacity.memory, "pods": capacity.pods, "ephemeral-storage": "1Ti"
    });
    let now = Timestamp::now().to_string();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "played by the testbed",
            "lastHeartbeatTime": now, "lastTransitionTime": now
        })
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {
            "capacity": resources, "allocatable": resources,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [
                condition("Ready", "True", "PlayerReady"),
                condition("MemoryPressure", "False", "Played"),
                condition("DiskPressure", "False", "Played"),
                condition("PIDPressure", "False", "Played"),
            ],
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "played",
                "containerRuntimeVersion": "played://", "kubeletVersion": "played", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": std::env::consts::ARCH
            }
        }
    });
    nodes
        .patch_status(name, &params, &Patch::Apply(&status))
        .await
        .with_context(|| format!("writing the status of the node {name}"))?;
    Ok(())
}
