//! Which cluster, by kubectl's rules: --kubeconfig, else the files of KUBECONFIG, else ~/.kube/config; --context, else
//! the current one.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use argosy_runtime::client::configure;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// What these options are about, in the help.
const HEADING: &str = "Control cluster";

/// Where the control cluster is.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// Kubeconfig file [default: the files that KUBECONFIG names, or ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the control cluster [default: the current context]
    #[arg(long, global = true, value_name = "CONTEXT", help_heading = HEADING)]
    pub context: Option<String>,
}

impl ControlArgs {
    /// A client for the control cluster.
    pub async fn client(&self) -> Result<Client> {
        // In a pod there is no kubeconfig, as for kubectl.
        let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let chosen = self.kubeconfig.is_some() || self.context.is_some();
        match read(self.kubeconfig.as_deref())? {
            Some(kubeconfig) => client(kubeconfig, self.context.as_deref()).await.context("the control cluster"),
            None if in_pod && !chosen => build(Config::incluster()?),
            None => anyhow::bail!("there is no kubeconfig: give one with --kubeconfig or KUBECONFIG"),
        }
    }
}

/// The kubeconfig of this file, or the one that kubectl would use, if there is one.
pub fn read(file: Option<&Path>) -> Result<Option<Kubeconfig>> {
    if let Some(file) = file {
        return Ok(Some(Kubeconfig::read_from(file).map_err(no_good)?));
    }
    let files: Vec<PathBuf> = match std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
        Some(files) => std::env::split_paths(&files).collect(),
        None => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    // Those that are missing are passed over, as kubectl does.
    let mut files = files.iter().filter(|file| file.is_file()).peekable();
    if files.peek().is_none() {
        return Ok(None);
    }
    let merged = files.try_fold(Kubeconfig::default(), |merged, file| merged.merge(Kubeconfig::read_from(file)?));
    Ok(Some(merged.map_err(no_good)?))
}

/// A client for a context, or the current one.
pub async fn client(kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Client> {
    let by_proxy = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref()).any(|c| c.proxy_url.is_some());
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(no_good)?;
    if !by_proxy {
        // kube takes HTTPS_PROXY from the environment, but not the exceptions that NO_PROXY makes.
        config.proxy_url = None;
    }
    build(config)
}

/// kube's errors tell their sources already.
fn no_good(error: impl Display) -> anyhow::Error {
    anyhow!("{error}")
}

fn build(mut config: Config) -> Result<Client> {
    configure(&mut config);
    Client::try_from(config).map_err(no_good)
}
