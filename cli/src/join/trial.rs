//! Signs in as the syncer will, before the control cluster hears of it.

use std::time::Duration;

use anyhow::{Result, bail};
use argosy_runtime::client::{RequestError, configure, kube_system_uid};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::time::sleep;

/// New rights take a moment to be in force.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 10;

/// Reads what the syncer reads first. An address that is only the syncer's to reach is no reason to refuse.
pub async fn sign_in(kubeconfig: &Value, expected_uid: &str) -> Result<()> {
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig.clone())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    configure(&mut config);
    config.proxy_url = None;
    let server = config.cluster_url.clone();
    let client = Client::try_from(config)?;
    let mut tries = 0;
    loop {
        tries += 1;
        match kube_system_uid(&client).await {
            Ok(found) if found.as_deref() == Some(expected_uid) => return Ok(()),
            Ok(found) => bail!(
                "{server} is another cluster than the one given (kube-system UID {}, given {expected_uid})",
                found.unwrap_or_default()
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
