//! The kubelet's and the scheduler's stand-in for one cluster without nodes: binds its pods to one Node and takes them
//! through their phases, as [`script`] documents.
//!
//! All state is the pods' own, so a player may be ended and started at any time. Pods that have ended are not even
//! watched; a pod that is being played costs a few hundred bytes and one entry in a queue of timers.

mod actions;
mod kubelet;
mod log;
mod node;
mod pod;
mod script;
mod stage;
mod status;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use tokio::sync::mpsc;

pub use node::Capacity;
use pod::{Pod, PodView};
use stage::Stage;

/// Pods that have ended need nothing any more.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
const PAGE: u32 = 500;

/// Which cluster to play, and as what.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Kubeconfig of the cluster
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Name of the Node to create
    #[arg(long)]
    pub node: String,
    /// How many requests may be under way at once
    #[arg(long, default_value_t = 32)]
    pub concurrency: usize,
    #[command(flatten)]
    pub capacity: Capacity,
}

/// Plays until the process is told to end (SIGTERM or SIGINT).
///
/// # Errors
/// The kubeconfig cannot be used, or the API server refuses the Node or the list of pods.
pub async fn run(args: Args) -> Result<()> {
    let Args { kubeconfig, node, concurrency, capacity } = args;
    let (client, ca) = client(&kubeconfig).await?;
    let listener = kubelet::Listener::bind(&ca)?;
    node::register(&client, &node, &capacity, listener.port()?).await?;
    let (kills_in, kills) = mpsc::channel(64);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tracing::info!(node, "playing");
    tokio::select! {
        played = play(client.clone(), node, concurrency, kills) => played,
        served = listener.serve(client, kills_in) => served,
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// A client, and the certificates (DER) of the CA that the kubeconfig names.
async fn client(kubeconfig: &Path) -> Result<(Client, Vec<Vec<u8>>)> {
    let using = || format!("using the kubeconfig {}", kubeconfig.display());
    let config = Kubeconfig::read_from(kubeconfig).with_context(using)?;
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.with_context(using)?;
    // Steps are tried again here, with what is known by then.
    config.default_retry = false;
    let ca = config.root_cert.clone().unwrap_or_default();
    Ok((Client::try_from(config).with_context(using)?, ca))
}

async fn play(
    client: Client,
    node: String,
    concurrency: usize,
    mut kills: mpsc::Receiver<kubelet::Kill>,
) -> Result<()> {
    let pods: Api<PodView> = Api::all(client.clone());
    let mut stage = Stage::new(client, node, concurrency.max(1));
    // Not watched, so looked at once: what a former player marked as ended, but did not come to remove.
    for pod in ended_but_not_removed(&pods).await? {
        stage.apply(pod);
    }
    let config = watcher::Config::default().fields(UNFINISHED).page_size(PAGE);
    let mut events = std::pin::pin!(watcher(pods, config).default_backoff());
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(watcher::Event::Init)) => stage.begin_list(),
                Some(Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod))) => stage.apply(pod.into()),
                Some(Ok(watcher::Event::InitDone)) => stage.end_list(),
                Some(Ok(watcher::Event::Delete(pod))) => stage.remove(&pod.into()),
                Some(Err(error)) => tracing::warn!(%error, "watching the pods; trying again"),
                None => anyhow::bail!("the watch over the pods ended"),
            },
            Some(kill) = kills.recv() => stage.kill(&kill),
            () = stage.proceed() => {}
        }
    }
}

async fn ended_but_not_removed(pods: &Api<PodView>) -> Result<Vec<Pod>> {
    let mut found = Vec::new();
    for phase in ["Succeeded", "Failed"] {
        let mut params = ListParams::default().fields(&format!("status.phase={phase}")).limit(PAGE);
        loop {
            let page = tokio::time::timeout(Duration::from_secs(60), pods.list(&params));
            let page = page.await.context("listing the pods: no answer within 60 s")?.context("listing the pods")?;
            found.extend(
                page.items.into_iter().map(Pod::from).filter(|pod| pod.deleting.is_some_and(|grace| grace > 0)),
            );
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(found)
}
