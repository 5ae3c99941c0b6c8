//! argo-server: Argo's HTTP API, by which its UI and many programs create workflows, which takes the events that
//! WorkflowEventBindings make workflows of, and which alone reads what Argo keeps in a database. Only where it is asked
//! for: it costs memory and a few seconds.

use anyhow::{Context, Result};
use http::Uri;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::net::TcpStream;

use super::{NAMESPACE, OFFLOAD_ALL, PATIENCE, apply, in_namespace, kubeconfig_of, read_manifests};
use crate::layout::CONTROL;
use crate::process::{Daemon, wait_until};
use crate::{Cluster, Testbed, database};

/// The daemon, its account, and its Service.
const NAME: &str = "argo-server";
/// The Service's port.
const SERVICE_PORT: u16 = 2746;

/// The purpose of its saved port.
fn port_of(cluster: &str) -> String {
    format!("{cluster}/{NAME}")
}

/// Starts it in the control cluster and waits until it takes requests, each with its user's own token. It serves plain
/// HTTP: nothing here would know its certificate. May be called again.
///
/// # Errors
/// The API server refuses an object, or argo-server does not come to listen; with the object's or the log's name.
pub async fn start(testbed: &mut Testbed) -> Result<()> {
    let port = testbed.state.port(&port_of(CONTROL))?;
    testbed.state.save(&testbed.layout)?;
    run(testbed, testbed.control(), port, &["--secure=false"]).await
}

/// Starts one in each workload cluster of played nodes, and makes it the Service that Argo's own manifests make of it:
/// with HTTPS, and led to by the API server.
///
/// # Errors
/// As [`start`].
pub async fn start_beside_workflows(testbed: &mut Testbed) -> Result<()> {
    for wec in testbed.wecs().to_vec() {
        let port = testbed.state.port(&port_of(&wec.name))?;
        testbed.state.save(&testbed.layout)?;
        run(testbed, &wec, port, &[]).await?;
        let client = wec.client().await?;
        let serving = || format!("{}: making the Service of {NAME}", wec.name);
        serve(&client, port).await.with_context(serving)?;
    }
    Ok(())
}

async fn run(testbed: &Testbed, cluster: &Cluster, port: u16, args: &[&str]) -> Result<()> {
    let (layout, programs) = (&testbed.layout, &testbed.programs);
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
        .args(["server", "--auth-mode=client", "--kube-api-qps=200", "--kube-api-burst=400"])
        .args(args.iter().copied())
        .args([
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--namespace={NAMESPACE}"),
            format!("--port={port}"),
        ])
        // Where the API server is that it takes its clients' tokens to, it finds as kubectl does.
        .env("KUBECONFIG", kubeconfig.display().to_string())
        .env(OFFLOAD_ALL, (cluster.name != CONTROL).to_string())
        .in_netns(cluster.netns.as_deref())
        .start()?;
    let host = host(cluster)?;
    wait_until(NAME, PATIENCE, Some(&server), || async {
        TcpStream::connect((host.as_str(), port)).await.context("it does not listen yet").map(drop)
    })
    .await?;
    step.done(format!("at {host}:{port}"));
    Ok(())
}

/// Makes the Service, with the one endpoint that no controller makes here. API servers lead to what a Pod says is its
/// address only, so there is such a Pod, on a node that nobody plays.
async fn serve(client: &kube::Client, port: u16) -> Result<()> {
    let address = database::own_address()?.to_string();
    let metadata = json!({"name": NAME, "namespace": NAMESPACE});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"nodeName": "outside", "serviceAccountName": NAME, "containers": [{"name": NAME, "image": "none"}]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"ports": [{"name": "web", "port": SERVICE_PORT, "targetPort": port}]},
    });
    let target = json!({"kind": "Pod", "name": NAME, "namespace": NAMESPACE});
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": [{"addresses": [{"ip": address, "targetRef": target}], "ports": [{"name": "web", "port": port}]}],
    });
    for object in [pod, service, endpoints] {
        apply(client, &object).await?;
    }
    let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.patch_status(NAME, &PatchParams::default(), &Patch::Merge(&status)).await.context("its Pod's address")?;
    Ok(())
}

/// Where the control cluster's is reached from this machine, `http://HOST:PORT`; `None`: it was not asked for.
///
/// # Errors
/// The cluster has no address.
pub fn url(testbed: &Testbed) -> Result<Option<String>> {
    let Some(port) = testbed.state.ports.get(&port_of(CONTROL)) else { return Ok(None) };
    Ok(Some(format!("http://{}:{port}", host(testbed.control())?)))
}

/// It runs where the cluster's API server does.
fn host(cluster: &Cluster) -> Result<String> {
    let url = &cluster.api_url;
    let uri: Uri = url.parse().with_context(|| format!("{url}: no address"))?;
    uri.host().map(ToOwned::to_owned).with_context(|| format!("{url}: no host in it"))
}
