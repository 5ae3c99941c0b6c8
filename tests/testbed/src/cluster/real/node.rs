//! The node of a real cluster: containerd, kubelet, kube-proxy; and the scheduler.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;

use super::address::Place;
use super::cgroups;
use crate::cluster::Cluster;
use crate::images::registry;
use crate::layout::{Layout, create_private_dir, write_file};
use crate::prerequisites::require;
use crate::process::{Daemon, Running, wait_until};
use crate::programs::Programs;

/// How often a kubelet is started that ends at once.
const STARTS: u32 = 3;
/// How long a node may take to become ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// containerd's settings that the CRI plugin shares with its runtime section.
const CRI: &str = "io.containerd.grpc.v1.cri";

/// Starts containerd and waits until it answers. Needs no API server.
pub(super) async fn start_containerd(layout: &Layout, place: &Place) -> Result<Running> {
    let dir = layout.cluster_dir(&place.cluster).join("containerd");
    let (data, run) = (place.data_dir().join("containerd"), place.run_dir());
    for folder in [&dir, &data, &run] {
        create_private_dir(folder)?;
    }
    let cni = write_cni(&dir, place)?;
    let mirrors = dir.join("certs.d");
    write_file(&mirrors.join("_default/hosts.toml"), registry::hosts_toml(place.slot), 0o644)?;
    let config = containerd_toml(&data, &run, &cni, &mirrors, &require("runc")?);
    write_file(&dir.join("config.toml"), config, 0o644)?;
    let daemon = Daemon::new(layout, &place.cluster, "containerd", &require("containerd")?)
        .args(["--config", &dir.join("config.toml").to_string_lossy()])
        .in_netns(Some(&place.netns()))
        .start()?;
    let socket = socket(place);
    wait_until(&format!("{}: containerd", place.cluster), Duration::from_secs(60), Some(&daemon), || async {
        tokio::net::UnixStream::connect(&socket).await.map(drop).with_context(|| format!("{}", socket.display()))
    })
    .await?;
    Ok(daemon)
}

/// Starts scheduler, kube-proxy and kubelet, and waits until the node is ready for pods.
pub(super) async fn start(layout: &Layout, programs: &Programs, place: &Place, cluster: &Cluster) -> Result<()> {
    let (name, netns) = (place.cluster.as_str(), place.netns());
    let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig.display());
    Daemon::new(layout, name, "kube-scheduler", programs.path("kube-scheduler")?)
        .args([kubeconfig.as_str(), "--leader-elect=false", "--secure-port=0"])
        .in_netns(Some(&netns))
        .start()?;
    Daemon::new(layout, name, "kube-proxy", programs.path("kube-proxy")?)
        .args([
            kubeconfig.clone(),
            "--proxy-mode=iptables".to_owned(),
            format!("--hostname-override={}", place.node()),
            format!("--cluster-cidr={}", place.pods()),
            // Conntrack's limits belong to the machine, which a namespace may not change.
            "--conntrack-max-per-core=0".to_owned(),
        ])
        .in_netns(Some(&netns))
        .start()?;
    let nodes: Api<Node> = Api::all(cluster.client().await?);
    let mut starts = 0;
    loop {
        let kubelet = start_kubelet(layout, programs, place, &kubeconfig)?;
        starts += 1;
        let what = format!("{name}: node");
        let ready = wait_until(&what, PATIENCE, Some(&kubelet), || async { node_ready(&nodes, &place.node()).await });
        match ready.await {
            // Kubelets have their sockets for device plugins at one place, whatever their folders are: of two that start at
            // the same moment one ends.
            Err(_) if starts < STARTS && !kubelet.is_alive() => {}
            ready => return ready,
        }
    }
}

fn start_kubelet(layout: &Layout, programs: &Programs, place: &Place, kubeconfig: &str) -> Result<Running> {
    let dir = layout.cluster_dir(&place.cluster);
    let data = place.data_dir();
    for folder in ["kubelet", "pod-logs", "volume-plugins"] {
        create_private_dir(&data.join(folder))?;
    }
    cgroups::ensure(&place.cgroup()).with_context(|| format!("{}: making its cgroup", place.cluster))?;
    let settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", place.cgroup()),
        "failSwapOn": false,
        "failCgroupV1": false,
        "containerRuntimeEndpoint": format!("unix://{}", socket(place).display()),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": dir.join("pki/ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        // The disk is the developer's: it may well be nearly full.
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "50Mi"},
        "enforceNodeAllocatable": [],
        "volumePluginDir": data.join("volume-plugins"),
        // Kubelets that share a folder of logs throw each other's away.
        "podLogsDir": data.join("pod-logs"),
        "shutdownGracePeriod": "0s",
        "syncFrequency": "20s",
        "nodeStatusUpdateFrequency": "5s",
        "registerWithTaints": [],
    });
    let file = dir.join("kubelet.yaml");
    write_file(&file, serde_saphyr::to_string(&settings)?, 0o644)?;
    Daemon::new(layout, &place.cluster, "kubelet", programs.path("kubelet")?)
        .args([
            format!("--config={}", file.display()),
            kubeconfig.to_owned(),
            format!("--root-dir={}", data.join("kubelet").display()),
            format!("--cert-dir={}", data.join("kubelet/pki").display()),
            format!("--hostname-override={}", place.node()),
            format!("--node-ip={}", place.address()),
        ])
        .in_netns(Some(&place.netns()))
        .start()
}

async fn node_ready(nodes: &Api<Node>, name: &str) -> Result<()> {
    let node = nodes.get(name).await?;
    let status = node.status.unwrap_or_default();
    let ready = status.conditions.unwrap_or_default().into_iter().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => {}
        Some(condition) => bail!("node {name} is not ready: {}", condition.message.unwrap_or_default()),
        None => bail!("node {name} has not said yet whether it is ready"),
    }
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    match taints.first() {
        Some(taint) => bail!("node {name} still has the taint {}", taint.key),
        None => Ok(()),
    }
}

/// containerd's socket.
pub(crate) fn socket(place: &Place) -> PathBuf {
    place.run_dir().join("containerd.sock")
}

/// The pods' network, the way containerd reads it.
fn write_cni(dir: &Path, place: &Place) -> Result<PathBuf> {
    let folder = dir.join("cni");
    let settings = json!({
        "cniVersion": "1.0.0",
        // Also the beginning of the names of what the plugins remember outside our folders.
        "name": place.netns(),
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            // Outside of its cluster a pod shows its node's address, so that no other needs a route back to it.
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": place.pods()}]],
                "dataDir": place.data_dir().join("cni"),
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    });
    write_file(&folder.join("10-bridge.conflist"), serde_json::to_vec_pretty(&settings)?, 0o644)?;
    Ok(folder)
}

fn containerd_toml(data: &Path, run: &Path, cni: &Path, mirrors: &Path, runc: &Path) -> String {
    let (data, run, cni, mirrors, runc) =
        (data.display(), run.display(), cni.display(), mirrors.display(), runc.display());
    format!(
        r#"version = 2
root = "{data}"
state = "{run}/containerd"
[grpc]
  address = "{run}/containerd.sock"
[plugins."{CRI}"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  # In a sandbox that may not lower anyone's score, containers could not start otherwise.
  restrict_oom_score_adj = true
  # Then `down` knows whose they are.
  netns_mounts_under_state_dir = true
  [plugins."{CRI}".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."{CRI}".registry]
    config_path = "{mirrors}"
  [plugins."{CRI}".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."{CRI}".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."{CRI}".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        Root = "{run}/runc"
"#
    )
}

/// Where the links to containers' logs lie that the kubelet makes in a folder that it does not let us choose.
pub(super) const CONTAINER_LOG_LINKS: &str = "/var/log/containers";

/// Removes links in [`CONTAINER_LOG_LINKS`] that lead below `data`.
pub(super) fn remove_log_links(data: &Path) {
    let Ok(entries) = fs::read_dir(CONTAINER_LOG_LINKS) else { return };
    for entry in entries.flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(data)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
