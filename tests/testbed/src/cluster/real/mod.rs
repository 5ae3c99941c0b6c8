//! Clusters whose pods run: each in a network namespace of its own with etcd, kube-apiserver, kube-controller-manager,
//! kube-scheduler, kube-proxy, containerd and a kubelet.

pub(crate) mod address;
mod cgroups;
mod network;
mod node;
mod teardown;

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

pub(crate) use teardown::{remove, remove_dir};

use self::address::{MOST_CLUSTERS, Place};
use super::Cluster;
use super::control_plane::{self, ControlPlane, EtcdEndpoint};
use crate::images;
use crate::layout::{Layout, State};
use crate::programs::Programs;
use crate::progress::Progress;

/// All of kube-controller-manager's controllers but those that give nodes addresses or ask a cloud.
const CONTROLLERS: &str =
    "*,-node-ipam-controller,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller";

/// Brings all clusters up, at the same time, with the registry that their images come from. May be called again.
///
/// # Errors
/// Names the cluster, the daemon and its log.
pub async fn up(layout: &Layout, state: &State, programs: &Programs, progress: &Progress) -> Result<Vec<Cluster>> {
    let names = state.clusters();
    ensure!(
        names.len() <= usize::from(MOST_CLUSTERS),
        "a testbed has room for {} workload clusters",
        MOST_CLUSTERS - 1
    );
    let step = progress.step("network");
    // Kubelets, containerds and API servers all watch files; Debian's limit is soon reached by three clusters.
    network::raise_limit("fs/inotify/max_user_instances", 8192)?;
    network::raise_limit("fs/inotify/max_user_watches", 524_288)?;
    network::ensure_bridge(state.slot).await.context("making the bridge")?;
    step.skip();

    let images = {
        let (layout, programs, progress, slot) = (layout.clone(), programs.clone(), progress.clone(), state.slot);
        tokio::spawn(async move { images::up(&layout, &programs, slot, &progress).await })
    };
    let tasks: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(name, position)| {
            let place = Place::new(state.slot, position, name);
            let (layout, programs, progress) = (layout.clone(), programs.clone(), progress.clone());
            tokio::spawn(async move { cluster_up(&layout, &programs, &place, &progress).await })
        })
        .collect();
    // All of them end before an error is told: whoever clears up next meets nothing that still starts.
    let clusters = futures::future::join_all(tasks).await;
    let images = images.await.context("preparing images")?;
    let clusters =
        clusters.into_iter().map(|cluster| cluster.context("bringing a cluster up")?).collect::<Result<_>>()?;
    images?;
    Ok(clusters)
}

async fn cluster_up(layout: &Layout, programs: &Programs, place: &Place, progress: &Progress) -> Result<Cluster> {
    let name = place.cluster.as_str();
    let step = progress.step(format!("cluster {name}"));
    step.detail("network");
    network::ensure_cluster(place).await.with_context(|| format!("{name}: making its network"))?;
    step.detail("control plane");
    let netns = place.netns();
    let etcd = control_plane::start_etcd(layout, programs, name, Some(&netns), (2379, 2380))?;
    let containerd = node::start_containerd(layout, place).await?;
    let plane = ControlPlane {
        name: name.to_owned(),
        etcd: EtcdEndpoint { url: "http://127.0.0.1:2379".to_owned(), prefix: "/registry".to_owned() },
        netns: Some(netns),
        bind: Ipv4Addr::UNSPECIFIED,
        advertise: place.address(),
        port: 443,
        service_cidr: place.services(),
        host_address: address::bridge_address(place.slot),
        controllers: CONTROLLERS.to_owned(),
        extra_args: Vec::new(),
        controller_manager_args: Vec::new(),
    };
    let cluster = etcd.while_alive(control_plane::start(layout, programs, &plane)).await?;
    step.detail("node");
    containerd.ensure_alive()?;
    node::start(layout, programs, place, &cluster).await?;
    step.done(format!("ready at {}", cluster.api_url));
    Ok(cluster)
}

/// The clusters of a testbed that is up.
///
/// # Errors
/// Their certificates cannot be read.
pub fn open(layout: &Layout, state: &State) -> Result<Vec<Cluster>> {
    let clusters = state.clusters();
    let places = clusters.iter().zip(0..).map(|(name, position)| Place::new(state.slot, position, name));
    places
        .map(|place| {
            let ca = layout.cluster_dir(&place.cluster).join("pki/ca.crt");
            Ok(Cluster {
                kubeconfig: layout.kubeconfig(&place.cluster),
                api_url: format!("https://{}:443", place.address()),
                ca_pem: std::fs::read_to_string(&ca).with_context(|| format!("reading {}", ca.display()))?,
                netns: Some(place.netns()),
                host_address: address::bridge_address(place.slot),
                name: place.cluster,
            })
        })
        .collect()
}
