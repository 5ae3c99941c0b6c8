//! An S3 server for Argo's artifacts: one for all clusters of a testbed, with everything that it keeps in the testbed's
//! folder. Pods reach it over the bridge, as they reach the registry; with played nodes it is on loopback.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::Testbed;
use crate::layout::{Layout, State, create_private_dir, write_file};
use crate::process::{Daemon, wait_until};
use crate::programs::Programs;
use crate::progress::Progress;

/// The server's program, the folder of its pinned module, and its daemon.
pub(crate) const PROGRAM: &str = "versitygw";
/// In the place of a cluster's name.
const SHARED: &str = "shared";
/// The purpose of its saved port.
const PORT: &str = "shared/versitygw";
/// The folder with the buckets.
const OBJECTS: &str = "objects";
/// The server keeps a bucket as a folder of this name.
const BUCKET: &str = "artifacts";
/// The Secret with the keys, in each namespace that stores artifacts: Argo looks for it where the workflow is.
const SECRET: &str = "argo-artifacts";
/// There is nothing behind them but what tests put there.
const ACCESS_KEY: &str = "testbed";
const SECRET_KEY: &str = "testbed-secret";
const PATIENCE: Duration = Duration::from_secs(60);

/// A place for artifacts that runs.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// `HOST:PORT`, the same for pods of every cluster, for argo-server, and for this machine.
    pub endpoint: String,
}

/// Starts it and waits until it takes connections. May be called again. Saves its port in `state`. `host` is this machine
/// as the clusters see it.
///
/// # Errors
/// It does not come up; with its log's name.
pub async fn start(
    layout: &Layout,
    state: &mut State,
    programs: &Programs,
    host: std::net::Ipv4Addr,
    progress: &Progress,
) -> Result<Artifacts> {
    let step = progress.step("S3 server");
    let endpoint = format!("{host}:{}", state.port(PORT)?);
    state.save(layout)?;
    let folder = layout.cluster_dir(SHARED).join(PROGRAM);
    // Beside the objects, not in extended attributes, which some file systems lack.
    let (objects, attributes) = (folder.join(OBJECTS), folder.join("attributes"));
    create_private_dir(&objects.join(BUCKET))?;
    create_private_dir(&attributes)?;
    let running = Daemon::new(layout, SHARED, PROGRAM, programs.path(PROGRAM)?)
        .args([format!("--port={endpoint}"), "--quiet".to_owned(), "--keep-alive".to_owned()])
        .args(["posix".to_owned(), format!("--sidecar={}", attributes.display()), objects.display().to_string()])
        .env("ROOT_ACCESS_KEY", ACCESS_KEY)
        .env("ROOT_SECRET_KEY", SECRET_KEY)
        .start()?;
    wait_until(PROGRAM, PATIENCE, Some(&running), || async {
        tokio::net::TcpStream::connect(&endpoint).await.map(drop).context("connecting to the S3 server")
    })
    .await?;
    step.done(format!("at {endpoint}"));
    Ok(Artifacts { endpoint })
}

/// Whether a testbed has one.
pub(crate) fn is_there(state: &State) -> bool {
    state.ports.contains_key(PORT)
}

impl Artifacts {
    /// The part `artifactRepository` of the settings of Argo in every cluster. Logs are not archived by it: where the
    /// repository says that they are, no workflow can say otherwise.
    pub(crate) fn settings(&self) -> Value {
        let key = |key: &str| json!({"name": SECRET, "key": key});
        json!({
            "s3": {
                "endpoint": self.endpoint, "insecure": true, "bucket": BUCKET,
                "accessKeySecret": key("accesskey"), "secretKeySecret": key("secretkey"),
                // Names come again in other clusters and other namespaces; UIDs do not.
                "keyFormat": "{{workflow.namespace}}/{{workflow.name}}/{{workflow.uid}}/{{pod.name}}",
            },
        })
    }
}

/// Stores something, in the place of a pod.
///
/// # Errors
/// The testbed's folder cannot be written.
pub fn put(testbed: &Testbed, key: &str, content: &[u8]) -> Result<()> {
    let bucket = testbed.layout.cluster_dir(SHARED).join(PROGRAM).join(OBJECTS).join(BUCKET);
    write_file(&bucket.join(key), content, 0o600)
}

/// Lets workflows of a namespace store artifacts and argo-server read them: the Secret goes there in every cluster, where
/// the namespace is made if need be.
///
/// # Errors
/// An API server refuses an object.
pub async fn admit(testbed: &Testbed, namespace: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
        "stringData": {"accesskey": ACCESS_KEY, "secretkey": SECRET_KEY},
    });
    let params = PatchParams::apply("testbed-artifacts").force();
    for cluster in testbed.clusters() {
        let client = cluster.client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if namespaces.get_opt(namespace).await?.is_none() {
            let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            namespaces.patch(namespace, &params, &Patch::Apply(&made)).await.context("making the namespace")?;
        }
        let secrets: Api<Secret> = Api::namespaced(client, namespace);
        let put = || format!("{}: making Secret {namespace}/{SECRET}", cluster.name);
        secrets.patch(SECRET, &params, &Patch::Apply(&secret)).await.with_context(put)?;
    }
    Ok(())
}
