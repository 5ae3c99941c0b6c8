//! The clusters of a testbed: what all of them share, whichever their nodes are.

pub mod audit;
pub mod control_plane;
pub mod pki;
pub mod played;
pub mod real;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};

/// A cluster that runs, and how to reach it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `control`, `cluster1`, `cluster2`, …
    pub name: String,
    /// The administrator's kubeconfig; everything in it is inline.
    pub kubeconfig: PathBuf,
    /// The API server's address, `https://HOST:PORT`; reachable from this machine and from pods of every real cluster
    /// of the same testbed.
    pub api_url: String,
    /// The certificate (PEM) of the CA that signed the API server's certificate.
    pub ca_pem: String,
    /// The network namespace that its daemons run in; `None` where the nodes are played.
    pub netns: Option<String>,
    /// The address at which the API server reaches a process of the machine itself, such as a webhook that runs outside
    /// the cluster.
    pub host_address: Ipv4Addr,
}

impl Cluster {
    /// A client with the administrator's rights. It sets no deadline for answers: callers do.
    ///
    /// # Errors
    /// The kubeconfig is gone or no good.
    pub async fn client(&self) -> Result<kube::Client> {
        let read = Kubeconfig::read_from(&self.kubeconfig);
        let kubeconfig = read.with_context(|| format!("reading {}", self.kubeconfig.display()))?;
        client(kubeconfig).await.with_context(|| format!("{}: making a client", self.name))
    }

    /// A kubeconfig (YAML) for this cluster that signs in as `user` with a bearer token.
    ///
    /// # Errors
    /// It cannot be written as YAML.
    pub fn kubeconfig_with_token(&self, user: &str, token: &str) -> Result<String> {
        kubeconfig(&self.name, &self.api_url, &self.ca_pem, user, &json!({ "token": token }))
    }
}

/// A client of whatever cluster a kubeconfig's current context names.
///
/// # Errors
/// The kubeconfig is no good.
pub async fn client(kubeconfig: Kubeconfig) -> Result<kube::Client> {
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(kube::Client::try_from(config)?)
}

/// How long a service account's token is good for: longer than any testbed stays up.
const TOKEN_SECONDS: i64 = 365 * 24 * 3600;

/// A token of a service account.
pub(crate) async fn token(client: &Client, namespace: &str, account: &str) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let params = PostParams::default();
    let asked = accounts.create_token_request(account, &params, &request);
    let what = || format!("asking for a token of {namespace}/{account}");
    let answer = tokio::time::timeout(Duration::from_secs(60), asked).await.with_context(what)?.with_context(what)?;
    Ok(answer.status.with_context(what)?.token)
}

/// A kubeconfig (YAML) with one cluster and one user; `credentials` is the user's entry.
pub(crate) fn kubeconfig(cluster: &str, server: &str, ca_pem: &str, user: &str, credentials: &Value) -> Result<String> {
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": BASE64.encode(ca_pem)}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user, "namespace": "default"}}],
        "current-context": cluster,
    });
    serde_saphyr::to_string(&value).context("writing a kubeconfig")
}

/// The n-th address of a network such as `10.96.0.0/24`.
pub(crate) fn nth_address(cidr: &str, n: u32) -> Result<IpAddr> {
    let (network, _) = cidr.split_once('/').with_context(|| format!("{cidr}: expected ADDRESS/LENGTH"))?;
    let network: Ipv4Addr = network.parse().with_context(|| format!("{cidr}: no IPv4 network"))?;
    Ok(IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() + n)))
}
