//! Clusters without nodes, on loopback, for any user: one etcd for all, an API server and a controller manager each,
//! and a [`crate::player`] in the place of kubelet and scheduler.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::Cluster;
use super::audit;
use super::control_plane::{self, ControlPlane, EtcdEndpoint};
use crate::cargo;
use crate::layout::{Layout, State};
use crate::process::{Daemon, wait_until};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::testbed::Testbed;

/// In the place of a cluster's name, for the etcd that all share.
const SHARED: &str = "shared";
/// What Argo, Argosy and their tests need; each one more costs every cluster memory and a second of start.
const CONTROLLERS: &str = "serviceaccount-token-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,\
                           namespace-controller,garbage-collector-controller,clusterrole-aggregation-controller,\
                           resourcequota-controller,disruption-controller";
/// How long a player may take to show its node.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brings all clusters up, at the same time. May be called again. Saves the ports it takes in `state`.
///
/// # Errors
/// Names the cluster, the daemon and its log.
pub async fn up(layout: &Layout, state: &mut State, programs: &Programs, progress: &Progress) -> Result<Vec<Cluster>> {
    let player = player_program(layout, progress).await?;
    let etcd_ports = (state.port("etcd/client")?, state.port("etcd/peer")?);
    let planes = planes(layout, state, etcd_ports.0)?;
    // Saved before anything listens, so that what a killed run leaves is found again on the same ports.
    state.save(layout)?;
    control_plane::start_etcd(layout, programs, SHARED, None, etcd_ports)?;
    try_join_all(planes.iter().map(|plane| cluster_up(layout, programs, plane, &player, progress))).await
}

/// Starts the API server of a cluster again after it was ended, and waits until it is ready.
///
/// # Errors
/// The testbed has no such cluster, or the API server does not become ready.
pub async fn start_api_server(testbed: &Testbed, cluster: &str) -> Result<()> {
    let mut state = testbed.state.clone();
    let etcd_port = state.port("etcd/client")?;
    let planes = planes(&testbed.layout, &mut state, etcd_port)?;
    let plane = planes.iter().find(|plane| plane.name == cluster).with_context(|| format!("no cluster {cluster}"))?;
    control_plane::start(&testbed.layout, &testbed.programs, plane).await.map(drop)
}

fn planes(layout: &Layout, state: &mut State, etcd_port: u16) -> Result<Vec<ControlPlane>> {
    let mut planes = Vec::new();
    for (name, number) in state.clusters().into_iter().zip(0..) {
        let port = state.port(&api_server(&name))?;
        let extra_args = audit::args(layout, &name)?;
        planes.push(ControlPlane { extra_args, ..plane(name, number, port, etcd_port) });
    }
    Ok(planes)
}

/// The clusters of a testbed that is up.
///
/// # Errors
/// Their certificates cannot be read, or the saved state lacks a port.
pub fn open(layout: &Layout, state: &State) -> Result<Vec<Cluster>> {
    let clusters = state.clusters().into_iter();
    clusters
        .map(|name| {
            let port = state.ports.get(&api_server(&name)).with_context(|| {
                format!("{}: no port of cluster {name}; `testbed up` mends it", layout.state_file().display())
            })?;
            let ca = layout.cluster_dir(&name).join("pki/ca.crt");
            Ok(Cluster {
                kubeconfig: layout.kubeconfig(&name),
                api_url: format!("https://{}:{port}", Ipv4Addr::LOCALHOST),
                ca_pem: std::fs::read_to_string(&ca).with_context(|| format!("reading {}", ca.display()))?,
                netns: None,
                host_address: Ipv4Addr::LOCALHOST,
                name,
            })
        })
        .collect()
}

/// The name of the Node that all pods of a played cluster are on.
pub fn node_name(cluster: &str) -> String {
    format!("{cluster}-node")
}

/// The purpose under which an API server's port is saved.
pub(crate) fn api_server(cluster: &str) -> String {
    format!("{cluster}/kube-apiserver")
}

fn plane(name: String, number: u8, port: u16, etcd_port: u16) -> ControlPlane {
    ControlPlane {
        etcd: EtcdEndpoint { url: format!("http://127.0.0.1:{etcd_port}"), prefix: format!("/{name}") },
        name,
        netns: None,
        bind: Ipv4Addr::LOCALHOST,
        advertise: Ipv4Addr::LOCALHOST,
        port,
        // Nothing routes it; it only has to differ from cluster to cluster for whoever reads it.
        service_cidr: format!("10.96.{number}.0/24"),
        host_address: Ipv4Addr::LOCALHOST,
        controllers: CONTROLLERS.to_owned(),
        extra_args: Vec::new(),
        // Its own 20 requests a second are too few to clean up after a benchmark.
        controller_manager_args: vec!["--kube-api-qps=200".to_owned(), "--kube-api-burst=400".to_owned()],
    }
}

async fn cluster_up(
    layout: &Layout,
    programs: &Programs,
    plane: &ControlPlane,
    player: &Path,
    progress: &Progress,
) -> Result<Cluster> {
    let name = plane.name.as_str();
    let step = progress.step(format!("cluster {name}"));
    step.detail("control plane");
    let cluster = control_plane::start(layout, programs, plane).await?;
    step.detail("player");
    let node = node_name(name);
    let running = Daemon::new(layout, name, "player", player)
        .args(["play".to_owned(), format!("--kubeconfig={}", cluster.kubeconfig.display()), format!("--node={node}")])
        .start()?;
    let nodes: Api<Node> = Api::all(cluster.client().await?);
    wait_until(&format!("{name}: player"), PATIENCE, Some(&running), || async {
        let seen = nodes.get(&node).await.with_context(|| format!("reading the node {node}"))?;
        let conditions = seen.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ensure!(ready, "the node {node} is not ready yet");
        Ok(())
    })
    .await?;
    step.done(format!("ready at {}", cluster.api_url));
    Ok(cluster)
}

/// The program `testbed`: this process's own, or, where a test uses the library, the one built beside it.
pub(crate) async fn player_program(layout: &Layout, progress: &Progress) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding the program of this process")?;
    if own.file_stem().is_some_and(|name| name == "testbed") && own.parent().is_some_and(|dir| !dir.ends_with("deps")) {
        return Ok(own);
    }
    let step = progress.step("building the player");
    let built = cargo::build(layout, &[("testbed", "testbed")]).await?;
    step.skip();
    built.into_iter().next().context("cargo built nothing")
}
