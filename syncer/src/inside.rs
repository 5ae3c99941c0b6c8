//! Pull mode: a syncer inside of the one cluster that it serves. Its way to that cluster is its own; the control cluster it
//! reaches as an account of its own there, with a token that is renewed where it came from.

use std::path::PathBuf;

use argosy_api::kubeconfig;
use argosy_runtime::client::{self, ClientError};
use kube::Client;

use crate::args::InsideArgs;

const WHOSE: &str = "workload cluster";

/// Where a syncer is, and what it has there.
#[derive(Clone)]
pub struct Inside {
    /// Name of the WorkloadCluster.
    pub cluster: String,
    pub client: Client,
    /// Namespace and name of the Secret, in this cluster, with the token for the control cluster.
    pub token_secret: Option<(String, String)>,
    /// Where the token for this cluster is read: a kubeconfig, or else the pod's file.
    kubeconfig: Option<PathBuf>,
    token_file: Option<String>,
}

impl Inside {
    /// `None`: it is in the control cluster.
    pub async fn new(args: InsideArgs) -> Result<Option<Self>, ClientError> {
        let Some(cluster) = args.cluster else { return Ok(None) };
        let InsideArgs { member_kubeconfig: kubeconfig, token_secret, .. } = args;
        let config = client::config(kubeconfig.clone(), WHOSE).await?;
        let token_file = config.auth_info.token_file.clone();
        Ok(Some(Self { cluster, client: client::client(config, WHOSE)?, token_secret, kubeconfig, token_file }))
    }

    /// Who it is among the holders of Leases: pods of two clusters may have one name.
    pub fn identity(&self, identity: &str) -> String {
        format!("{}/{identity}", self.cluster)
    }

    /// The token that it has for its own cluster, as it is now.
    pub fn token(&self) -> Option<String> {
        match &self.kubeconfig {
            Some(file) => {
                let kubeconfig = serde_saphyr::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
                kubeconfig::token(&kubeconfig).map(str::to_owned)
            }
            None => std::fs::read_to_string(self.token_file.as_ref()?).ok(),
        }
    }
}
