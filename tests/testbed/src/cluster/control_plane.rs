//! etcd, kube-apiserver and kube-controller-manager of a cluster, whichever its nodes are.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;

use super::pki::Pki;
use super::{Cluster, nth_address};
use crate::layout::{Layout, create_private_dir, write_file};
use crate::process::{Daemon, Running, wait_until};
use crate::programs::Programs;

/// How long an API server may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where an API server keeps its objects.
#[derive(Debug, Clone)]
pub struct EtcdEndpoint {
    /// `http://127.0.0.1:2379`.
    pub url: String,
    /// The prefix of all keys, such as `/control`; API servers that share an etcd have one each.
    pub prefix: String,
}

/// Everything that makes one control plane different from another.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// The cluster's name.
    pub name: String,
    /// Where the objects are kept.
    pub etcd: EtcdEndpoint,
    /// The network namespace to run in.
    pub netns: Option<String>,
    /// What the API server listens on.
    pub bind: Ipv4Addr,
    /// What clients call it.
    pub advertise: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// The Services' network, `10.96.0.0/24`.
    pub service_cidr: String,
    /// Where the API server reaches processes of the machine itself.
    pub host_address: Ipv4Addr,
    /// kube-controller-manager's `--controllers`.
    pub controllers: String,
    /// More arguments for kube-apiserver.
    pub extra_args: Vec<String>,
    /// More arguments for kube-controller-manager.
    pub controller_manager_args: Vec<String>,
}

/// Starts an etcd without waiting for it: API servers wait by themselves. It keeps its data under `cluster`'s folder and
/// listens on loopback only.
///
/// # Errors
/// The program cannot be started.
pub fn start_etcd(
    layout: &Layout,
    programs: &Programs,
    cluster: &str,
    netns: Option<&str>,
    (client_port, peer_port): (u16, u16),
) -> Result<Running> {
    let data = layout.cluster_dir(cluster).join("etcd");
    create_private_dir(&data)?;
    let (client, peer) = (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
    Daemon::new(layout, cluster, "etcd", programs.path("etcd")?)
        .args([
            "--name=testbed".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=testbed={peer}"),
            // Nothing here outlives the machine, and fsync is what makes several etcds on one disk slow.
            "--unsafe-no-fsync".to_owned(),
            "--quota-backend-bytes=8589934592".to_owned(),
            "--log-level=warn".to_owned(),
        ])
        .in_netns(netns)
        .start()
}

/// Starts kube-apiserver and kube-controller-manager, and waits until the API server is ready and the namespace
/// `default` has its service account (before that it refuses pods). Writes the administrator's kubeconfig.
///
/// # Errors
/// A program cannot be started or ends; or the time is up. Names the daemon's log.
pub async fn start(layout: &Layout, programs: &Programs, plane: &ControlPlane) -> Result<Cluster> {
    let name = plane.name.as_str();
    let dir = layout.cluster_dir(name);
    create_private_dir(&dir)?;
    let service = nth_address(&plane.service_cidr, 1)?;
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let addresses = [IpAddr::V4(plane.advertise), IpAddr::V4(Ipv4Addr::LOCALHOST), service];
    let pki = Pki::ensure(&dir.join("pki"), name, &names, &addresses)?;
    let api_url = format!("https://{}:{}", plane.advertise, plane.port);
    let cluster = Cluster {
        name: name.to_owned(),
        kubeconfig: layout.kubeconfig(name),
        ca_pem: pki.read("ca.crt")?,
        netns: plane.netns.clone(),
        host_address: plane.host_address,
        api_url,
    };
    write_file(&cluster.kubeconfig, pki.admin_kubeconfig(name, &cluster.api_url)?, 0o600)?;

    let server = start_apiserver(layout, programs, plane, &pki)?;
    let client = cluster.client().await?;
    wait_until(&format!("{name}: kube-apiserver"), PATIENCE, Some(&server), || readyz(client.clone())).await?;

    let manager = start_controller_manager(layout, programs, plane, &pki)?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    wait_until(&format!("{name}: kube-controller-manager"), PATIENCE, Some(&manager), || async {
        accounts.get("default").await.map(drop).context("service account default/default")
    })
    .await?;
    Ok(cluster)
}

/// Asks an API server whether it is ready.
///
/// # Errors
/// It does not answer, or names what it still waits for.
pub async fn readyz(client: kube::Client) -> Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    client.request_text(request).await.context("GET /readyz")?;
    Ok(())
}

fn start_apiserver(layout: &Layout, programs: &Programs, plane: &ControlPlane, pki: &Pki) -> Result<Running> {
    let file = |name: &str| pki.path(name).display().to_string();
    Daemon::new(layout, &plane.name, "kube-apiserver", programs.path("kube-apiserver")?)
        .args([
            format!("--etcd-servers={}", plane.etcd.url),
            format!("--etcd-prefix={}", plane.etcd.prefix),
            format!("--bind-address={}", plane.bind),
            format!("--advertise-address={}", plane.advertise),
            format!("--secure-port={}", plane.port),
            format!("--cert-dir={}", layout.cluster_dir(&plane.name).display()),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            // As kubeadm has it.
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", file("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", file("service-accounts.key")),
            format!("--service-cluster-ip-range={}", plane.service_cidr),
            "--endpoint-reconciler-type=lease".to_owned(),
        ])
        .args(plane.extra_args.iter().cloned())
        .in_netns(plane.netns.as_deref())
        .start()
}

fn start_controller_manager(layout: &Layout, programs: &Programs, plane: &ControlPlane, pki: &Pki) -> Result<Running> {
    let file = |name: &str| pki.path(name).display().to_string();
    Daemon::new(layout, &plane.name, "kube-controller-manager", programs.path("kube-controller-manager")?)
        .args([
            format!("--kubeconfig={}", layout.kubeconfig(&plane.name).display()),
            // Serves nothing: its port would clash between clusters on loopback.
            "--secure-port=0".to_owned(),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", file("service-accounts.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            format!("--service-cluster-ip-range={}", plane.service_cidr),
            format!("--controllers={}", plane.controllers),
        ])
        .args(plane.controller_manager_args.iter().cloned())
        .in_netns(plane.netns.as_deref())
        .start()
}
