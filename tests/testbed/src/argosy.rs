//! Argosy in a testbed: installed with its Helm charts, as a user would. On real nodes it runs as pods; on played ones,
//! which run no programs, webhook and syncer are processes of this machine that sign in as the charts' accounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use argosy_api::WorkloadCluster;
use argosy_api::workload_cluster::{SECRET_KEY, SECRET_SUFFIX};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::{played, token};
use crate::layout::{Nodes, write_file};
use crate::process::{self, Daemon, run, wait_until};
use crate::{Cluster, Testbed, cargo, further, images, links, programs};

/// The namespace of Argosy in every cluster.
pub const NAMESPACE: &str = "argosy";
/// The daemons' names, where they run as processes.
pub const WEBHOOK: &str = "argosy-webhook";
pub const SYNCER: &str = "argosy-syncer";
/// The program behind `kubectl argosy`.
pub const PLUGIN: &str = "kubectl-argosy";

/// How many of each a played testbed has ports for; the others than the first only some cases start.
const REPLICAS: usize = 3;

const REGISTRY: &str = "ghcr.io/argosy";
/// Enough to see each step of a workflow.
pub(crate) const LOG: &str = "info,argosy_syncer=debug";
const FIELD_MANAGER: &str = "testbed";
/// How long installing may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Installs Argosy in the control cluster, joins the workload clusters, and waits until a workflow would be routed. May
/// be called again, also after a change of Argosy's code. `with_links` puts [`links`] between its programs and API servers.
///
/// # Errors
/// The build, Helm or the API server refuses something, or Argosy does not come to work; with what it said.
pub async fn install(testbed: &mut Testbed, with_links: bool) -> Result<()> {
    let step = testbed.progress.step("building Argosy");
    let built = cargo::build(&testbed.layout, &[(WEBHOOK, WEBHOOK), (SYNCER, SYNCER), ("argosy-cli", PLUGIN)]).await?;
    let [webhook, syncer, plugin] = &built[..] else { bail!("cargo built other programs") };
    programs::link(PLUGIN, plugin, &testbed.layout.bin())?;
    step.done("");
    let step = testbed.progress.step("installing Argosy");
    let control = testbed.control().client().await?;
    match testbed.state.nodes {
        Nodes::Real => install_pods(testbed, &built, &step).await?,
        Nodes::Played => start_processes(testbed, [webhook, syncer], with_links).await?,
    }
    for wec in testbed.wecs() {
        step.detail(format!("joining {}", wec.name));
        join(testbed, wec, &control).await?;
    }
    step.detail("waiting for the clusters and the webhook");
    wait_until_ready(testbed).await?;
    step.done(format!("{} joined", testbed.wecs().iter().map(|w| w.name.as_str()).collect::<Vec<_>>().join(", ")));
    Ok(())
}

/// Puts the images into the registry and lets the chart run them.
async fn install_pods(testbed: &Testbed, built: &[PathBuf], step: &crate::progress::Step) -> Result<()> {
    step.detail("packing images");
    // A tag of their content, so that a change rolls the Deployments, and no change does nothing.
    let tag = content_tag(built)?;
    let programs: Vec<&Path> = built.iter().map(PathBuf::as_path).collect();
    // The syncer's image has the plugin, too.
    let (webhook, syncer) = programs.split_at(1);
    for (image, programs) in [("webhook", webhook), ("syncer", syncer)] {
        let image = images::of_programs(&format!("{REGISTRY}/{image}:{tag}"), programs).await?;
        images::publish(&testbed.layout, image).await?;
    }
    step.detail("helm");
    let values = json!({"image": {"tag": tag}, "logs": {"filter": LOG}, "syncer": {"copySecrets": true}});
    helm(testbed, testbed.control(), "argosy", "charts/argosy", &values).await
}

fn content_tag(files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(std::fs::read(file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

/// Installs the chart for programs outside of the cluster, and starts these.
async fn start_processes(testbed: &mut Testbed, built: [&PathBuf; 2], with_links: bool) -> Result<()> {
    let further = further::WEBHOOK.to_owned();
    for name in replicas(WEBHOOK).into_iter().chain(replicas(SYNCER)).chain([further]) {
        testbed.state.port(&serving_port(&name))?;
    }
    for name in replicas(WEBHOOK).into_iter().chain(replicas(SYNCER)) {
        testbed.state.port(&admin_port(&name))?;
    }
    testbed.state.save(&testbed.layout)?;
    if with_links {
        let program = played::player_program(&testbed.layout, &testbed.progress).await?;
        links::start(testbed, &program).await?;
    }
    let url = match links::port(&testbed.state, &links::to_webhook()) {
        Some(port) => format!("https://{}:{port}", testbed.control().host_address),
        None => webhook_url(testbed, WEBHOOK)?,
    };
    let values = json!({"webhook": {"url": url}, "syncer": {"enabled": false, "copySecrets": true}});
    helm(testbed, testbed.control(), "argosy", "charts/argosy", &values).await?;
    for (name, program) in [WEBHOOK, SYNCER].into_iter().zip(built) {
        // A copy: what runs stays what it is while cargo builds anew.
        let kept = kept(testbed, name);
        let program = std::fs::read(program).with_context(|| format!("reading {}", program.display()))?;
        if std::fs::read(&kept).ok().as_ref() != Some(&program) {
            for replica in replicas(name) {
                process::stop(&testbed.layout, "control", &replica);
            }
            write_file(&kept, program, 0o755)?;
        }
        start(testbed, name).await?;
    }
    Ok(())
}

/// The daemons of a program: [`WEBHOOK`] or [`SYNCER`] itself first, then its further replicas.
pub fn replicas(program: &str) -> Vec<String> {
    let further = (2..=REPLICAS).map(|number| format!("{program}-{number}"));
    std::iter::once(program.to_owned()).chain(further).collect()
}

/// Purposes of saved ports.
pub(crate) fn serving_port(name: &str) -> String {
    format!("control/{name}")
}

fn admin_port(name: &str) -> String {
    format!("control/{name}-admin")
}

pub(crate) fn kept(testbed: &Testbed, name: &str) -> PathBuf {
    testbed.layout.cluster_dir("control").join(name)
}

/// Where a webhook of a played testbed answers.
///
/// # Errors
/// The testbed runs no such process.
pub fn webhook_url(testbed: &Testbed, name: &str) -> Result<String> {
    let port = testbed.state.ports.get(&serving_port(name)).with_context(|| format!("no port for {name}"))?;
    Ok(format!("https://{}:{port}", testbed.control().host_address))
}

/// Where a process of a played testbed shows its metrics and whether it is ready.
///
/// # Errors
/// The testbed runs no such process.
pub fn admin_url(testbed: &Testbed, name: &str) -> Result<String> {
    let port = testbed.state.ports.get(&admin_port(name)).with_context(|| format!("no port for {name}"))?;
    Ok(format!("http://{}:{port}", testbed.control().host_address))
}

/// Starts one of the daemons that [`replicas`] names, in a played testbed; also again, after it was ended.
///
/// # Errors
/// The testbed runs no such process, or it does not start.
pub async fn start(testbed: &Testbed, name: &str) -> Result<()> {
    start_with(testbed, name, &[]).await
}

/// The same with more arguments; one that runs with others begins anew.
///
/// # Errors
/// As [`start`].
pub async fn start_with(testbed: &Testbed, name: &str, more: &[&str]) -> Result<()> {
    ensure!(testbed.state.nodes == Nodes::Played, "on real nodes {name} is a Deployment");
    // Replicas are the same program, and sign in as the same account.
    let of_it = |program: &&str| replicas(program).iter().any(|replica| replica == name);
    let program = [WEBHOOK, SYNCER].into_iter().find(of_it).with_context(|| format!("{name} is no program"))?;
    let port =
        |purpose: &str| testbed.state.ports.get(purpose).copied().with_context(|| format!("no port for {purpose}"));
    let kubeconfig = testbed.layout.cluster_dir("control").join(format!("{name}.kubeconfig"));
    if !kubeconfig.exists() {
        let token = token(&testbed.control().client().await?, NAMESPACE, program).await?;
        let control = by_link(testbed, testbed.control(), &links::to_control(name));
        write_file(&kubeconfig, control.kubeconfig_with_token(program, &token)?, 0o600)?;
    }
    let host = testbed.control().host_address;
    let own = if program == WEBHOOK {
        let peers = replicas(WEBHOOK).into_iter().filter(|peer| peer != name);
        let peers: Result<Vec<_>> = peers.map(|peer| Ok(format!("--peer={}", webhook_url(testbed, &peer)?))).collect();
        let own = [
            format!("--listen={host}:{}", port(&serving_port(name))?),
            format!("--tls-san={host}"),
            "--webhook-configuration=argosy".to_owned(),
            // Nothing stands between it and the API server that would have to learn that it goes.
            "--drain=0s".to_owned(),
        ];
        [Vec::from(own), peers?].concat()
    } else {
        // Nobody wants to wait here for what no workflow uses any more.
        let listen = format!("--kubelet-listen={host}:{}", port(&serving_port(name))?);
        let address = format!("--kubelet-address={host}");
        vec![format!("--identity={name}"), format!("--log={LOG}"), "--keep-unused=20s".to_owned(), listen, address]
    };
    Daemon::new(&testbed.layout, "control", name, &kept(testbed, program))
        .args([format!("--kubeconfig={}", kubeconfig.display()), format!("--namespace={NAMESPACE}")])
        .args([format!("--admin-listen={host}:{}", port(&admin_port(name))?)])
        .args(own)
        .args(more.iter().copied())
        .start()
        .map(drop)
}

/// A cluster as it is reached by a link, if the testbed has links.
fn by_link(testbed: &Testbed, cluster: &Cluster, link: &str) -> Cluster {
    let by_link = |port| format!("https://{}:{port}", cluster.host_address);
    let api_url = links::port(&testbed.state, link).map_or_else(|| cluster.api_url.clone(), by_link);
    Cluster { api_url, ..cluster.clone() }
}

/// Installs or upgrades a chart of this workspace.
async fn helm(testbed: &Testbed, cluster: &Cluster, release: &str, chart: &str, values: &Value) -> Result<()> {
    helm_in(testbed, cluster, NAMESPACE, release, chart, values).await
}

/// The same in another namespace.
pub(crate) async fn helm_in(
    testbed: &Testbed,
    cluster: &Cluster,
    namespace: &str,
    release: &str,
    chart: &str,
    values: &Value,
) -> Result<()> {
    let file = testbed.layout.cluster_dir(&cluster.name).join(format!("{release}.values.json"));
    write_file(&file, values.to_string(), 0o644)?;
    let helm = testbed.programs.path("helm")?.display().to_string();
    let chart = testbed.layout.workspace().join(chart);
    let (kubeconfig, timeout) = (cluster.kubeconfig.display().to_string(), format!("{}s", PATIENCE.as_secs()));
    run(
        &helm,
        &[
            "upgrade",
            "--install",
            release,
            &chart.display().to_string(),
            "--kubeconfig",
            &kubeconfig,
            "--namespace",
            namespace,
            "--create-namespace",
            "--values",
            &file.display().to_string(),
            "--wait",
            "--timeout",
            &timeout,
        ],
    )
    .await
    .with_context(|| format!("installing {chart:?} in {}", cluster.name))
    .map(drop)
}

/// Installs the member chart in a workload cluster, and makes it known in the control cluster.
async fn join(testbed: &Testbed, wec: &Cluster, control: &Client) -> Result<()> {
    // The cluster would take Secrets, too; whether it gets them its WorkloadCluster says.
    let copy = json!({"templates": true, "configMaps": true, "secrets": true});
    let values = json!({"createNamespaces": true, "copy": copy});
    helm(testbed, wec, "argosy-member", "charts/argosy-member", &values).await?;
    let secrets: Api<Secret> = Api::namespaced(control.clone(), NAMESPACE);
    let name = format!("{}{SECRET_SUFFIX}", wec.name);
    let is_there = secrets.get_opt(&name).await?.is_some();
    if !is_there {
        let token = token(&wec.client().await?, NAMESPACE, SYNCER).await?;
        let kubeconfig = by_link(testbed, wec, &links::to_wec(&wec.name)).kubeconfig_with_token(SYNCER, &token)?;
        let data = BTreeMap::from([(SECRET_KEY.to_owned(), ByteString(kubeconfig.into_bytes()))]);
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.name = Some(name.clone());
        secrets.create(&PostParams::default(), &secret).await?;
    }
    let cluster = json!({
        "apiVersion": "argosy.dev/v1alpha1",
        "kind": "WorkloadCluster",
        "metadata": {"name": wec.name, "labels": {"name": wec.name, "env": "testbed"}},
        "spec": {"kubeconfigSecret": {"name": name}, "namespaces": ["*"], "createNamespaces": true},
    });
    let clusters: Api<WorkloadCluster> = Api::all(control.clone());
    let applied = PatchParams::apply(FIELD_MANAGER).force();
    clusters.patch(&wec.name, &applied, &Patch::Apply(&cluster)).await?;
    Ok(())
}

/// Installs no more of Argosy than its admission policies, for tests of these alone.
///
/// # Errors
/// Helm or the API server refuses something.
pub async fn install_policies(testbed: &Testbed) -> Result<()> {
    let values = json!({"webhook": {"enabled": false}, "syncer": {"enabled": false}});
    helm(testbed, testbed.control(), "argosy", "charts/argosy", &values).await
}

/// Waits until every cluster is ready and a workflow is routed (in a dry run, so that nothing comes of it).
///
/// # Errors
/// What is still missing after two minutes.
pub async fn wait_until_ready(testbed: &Testbed) -> Result<()> {
    let control = testbed.control().client().await?;
    let clusters: Api<WorkloadCluster> = Api::all(control.clone());
    let workflow = argosy_api::workflow::api_resource();
    let workflows: Api<DynamicObject> = Api::namespaced_with(control.clone(), "default", &workflow);
    for wec in testbed.wecs() {
        wait_until(&format!("WorkloadCluster {}", wec.name), PATIENCE, None, || async {
            let known = argosy_placement::Cluster::from(&clusters.get(&wec.name).await?);
            ensure!(known.not_ready.is_none(), "{}", known.not_ready.unwrap_or_default());
            Ok(())
        })
        .await?;
    }
    let Some(wec) = testbed.wecs().last() else { return Ok(()) };
    wait_until("routing", PATIENCE, None, || async {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        workflows.create(&dry_run, &probe(&workflow, &wec.name)).await.map(drop).map_err(Into::into)
    })
    .await
}

fn probe(resource: &ApiResource, cluster: &str) -> DynamicObject {
    let mut workflow = DynamicObject::new("probe", resource).data(json!({"spec": {"entrypoint": "none"}}));
    workflow.metadata.labels = Some([(argosy_api::names::CLUSTER.to_owned(), cluster.to_owned())].into());
    workflow
}
