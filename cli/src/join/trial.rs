//! Signs in as the syncer will, before the control cluster hears of it.

use std::time::Duration;

use anyhow::{Result, bail};
use argosy_runtime::client::{RequestError, configure, within};
use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::Value;
use tokio::time::sleep;

/// New rights take a moment to be in force.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 10;

/// Reads what the syncer reads first. An address that is only the syncer's to reach is no reason to refuse.
pub async fn sign_in(kubeconfig: &Value, member_uid: &str) -> Result<()> {
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig.clone())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    configure(&mut config);
    config.proxy_url = None;
    let server = config.cluster_url.clone();
    let namespaces: Api<Namespace> = Api::all(Client::try_from(config)?);
    let mut tries = 0;
    loop {
        tries += 1;
        match within(namespaces.get("kube-system")).await {
            Ok(found) if found.uid().as_deref() == Some(member_uid) => return Ok(()),
            Ok(found) => bail!(
                "{server} is another cluster than the one given (kube-system UID {}, given {member_uid})",
                found.uid().unwrap_or_default()
            ),
            Err(RequestError::Kube(kube::Error::Api(_))) if tries < TRIES => sleep(PATIENCE).await,
            Err(error @ RequestError::Kube(kube::Error::Api(_))) => {
                bail!("the new account cannot sign in to {server}: {}", error.message())
            }
            Err(error) => {
                eprintln!(
                    "warning: {server} cannot be reached from here with what the syncer gets ({}); the syncer may still",
                    error.message()
                );
                return Ok(());
            }
        }
    }
}
