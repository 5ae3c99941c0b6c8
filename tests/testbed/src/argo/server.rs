//! argo-server, in the control cluster: Argo's HTTP API, by which its UI and many programs create workflows, and which
//! takes the events that WorkflowEventBindings make workflows of. Only where it is asked for: it costs memory and a few
//! seconds.

use anyhow::{Context, Result};
use http::Uri;
use tokio::net::TcpStream;

use super::{NAMESPACE, PATIENCE, apply, in_namespace, kubeconfig_of, read_manifests};
use crate::Testbed;
use crate::process::{Daemon, wait_until};

/// The daemon, and its account.
const NAME: &str = "argo-server";
/// The purpose of its saved port.
const PORT: &str = "control/argo-server";

/// Starts it and waits until it takes requests, each with its user's own token. It serves plain HTTP: nothing here would
/// know its certificate. May be called again.
///
/// # Errors
/// The API server refuses an object, or argo-server does not come to listen; with the object's or the log's name.
pub async fn start(testbed: &mut Testbed) -> Result<()> {
    let port = testbed.state.port(PORT)?;
    testbed.state.save(&testbed.layout)?;
    let (layout, programs, cluster) = (&testbed.layout, &testbed.programs, testbed.control());
    let step = testbed.progress.step(format!("argo-server in {}", cluster.name));
    let client = cluster.client().await?;
    for file in [
        "base/argo-server/argo-server-sa.yaml",
        "cluster-install-no-crds/argo-server-rbac/argo-server-clusterole.yaml",
        "cluster-install-no-crds/argo-server-rbac/argo-server-clusterolebinding.yaml",
    ] {
        for object in read_manifests(&programs.argo_manifests().join(file))? {
            apply(&client, &in_namespace(object)).await?;
        }
    }
    let kubeconfig = kubeconfig_of(layout, cluster, &client, NAME, NAME).await?;
    let server = Daemon::new(layout, &cluster.name, NAME, programs.path("argo")?)
        .args(["server", "--auth-mode=client", "--secure=false", "--kube-api-qps=200", "--kube-api-burst=400"])
        .args([
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--namespace={NAMESPACE}"),
            format!("--port={port}"),
        ])
        // Where the API server is that it takes its clients' tokens to, it finds as kubectl does.
        .env("KUBECONFIG", kubeconfig.display().to_string())
        .in_netns(cluster.netns.as_deref())
        .start()?;
    let host = host(testbed)?;
    wait_until(NAME, PATIENCE, Some(&server), || async {
        TcpStream::connect((host.as_str(), port)).await.context("it does not listen yet").map(drop)
    })
    .await?;
    step.done(format!("at http://{host}:{port}"));
    Ok(())
}

/// Where it is reached from this machine, `http://HOST:PORT`; `None`: it was not asked for.
///
/// # Errors
/// The cluster has no address.
pub fn url(testbed: &Testbed) -> Result<Option<String>> {
    let Some(port) = testbed.state.ports.get(PORT) else { return Ok(None) };
    Ok(Some(format!("http://{}:{port}", host(testbed)?)))
}

/// It runs where the cluster's API server does.
fn host(testbed: &Testbed) -> Result<String> {
    let url = &testbed.control().api_url;
    let uri: Uri = url.parse().with_context(|| format!("{url}: no address"))?;
    uri.host().map(ToOwned::to_owned).with_context(|| format!("{url}: no host in it"))
}
