//! Clients for API servers.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use thiserror::Error;

/// How long one request to an API server may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Where the control cluster is.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    /// Kubeconfig of the control cluster; without it: the pod's service account, or else what kubectl would use
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Why there is no client for the cluster `whose`.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error("kubeconfig {path:?} of the {whose} cannot be used")]
    ReadKubeconfig { whose: &'static str, path: PathBuf, source: kube::config::KubeconfigError },
    #[error("no way to the {whose}: neither in a pod, nor is there a kubeconfig")]
    Infer { whose: &'static str, source: kube::config::InferConfigError },
    #[error("no client for the {whose}")]
    Build { whose: &'static str, source: kube::Error },
}

impl ClientArgs {
    /// A client for the control cluster.
    pub async fn client(self) -> Result<Client, ClientError> {
        const WHOSE: &str = "control cluster";
        client(config(self.kubeconfig, WHOSE).await?, WHOSE)
    }
}

/// The way to a cluster: by this kubeconfig; without it by the pod's service account, or else as kubectl would go.
pub async fn config(kubeconfig: Option<PathBuf>, whose: &'static str) -> Result<Config, ClientError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = |source| ClientError::ReadKubeconfig { whose, path: path.clone(), source };
            let kubeconfig = Kubeconfig::read_from(&path).map_err(read)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(read)?
        }
        None => Config::infer().await.map_err(|source| ClientError::Infer { whose, source })?,
    };
    configure(&mut config);
    Ok(config)
}

/// The client that goes this way.
pub fn client(config: Config, whose: &'static str) -> Result<Client, ClientError> {
    Client::try_from(config).map_err(|source| ClientError::Build { whose, source })
}

/// What tells a cluster from any other: the UID of its kube-system namespace.
pub async fn kube_system_uid(client: &Client) -> Result<Option<String>, RequestError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    Ok(within(namespaces.get("kube-system")).await?.metadata.uid)
}

/// What every client of ours has in common: no hidden retries, which would outlast any deadline (up to 164 s).
pub fn configure(config: &mut Config) {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Longer than any watch is silent; what is silent for longer is a connection that nobody is at the end of.
    config.read_timeout = Some(Duration::from_secs(310));
}

/// A request that failed, or did not end in time.
#[derive(Debug, Error)]
pub enum RequestError {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
}

impl RequestError {
    /// The HTTP status that the API server answered with, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether what was to be written is more than the API server, or the etcd behind it, takes.
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::Kube(kube::Error::Api(status)) => {
                // etcd's own limit, and that of the messages to it, come as internal errors.
                let is_said = |why| status.message.contains(why);
                status.code == 413
                    || (status.code == 500
                        && ["request is too large", "message larger than max"].into_iter().any(is_said))
            }
            _ => false,
        }
    }

    /// What the API server said, or what kept it from answering: for people, without the layers around it.
    pub fn message(&self) -> String {
        match self {
            Self::Kube(kube::Error::Api(status)) => status.message.clone(),
            other => innermost(other),
        }
    }
}

/// The message at the bottom of a chain of sources: "connection refused" rather than "service error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Waits for a request to an API server, at most [`DEADLINE`].
pub async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RequestError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(RequestError::Kube),
        Err(_) => Err(RequestError::Deadline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn what_is_too_large() {
        for (code, message, expected) in [
            (413, "Request entity too large: limit is 3145728", true),
            (500, "etcdserver: request is too large", true),
            (500, "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2 vs. 1)", true),
            (500, "etcdserver: request timed out", false),
            (422, "spec: too large", false),
        ] {
            let status = Status { code, message: message.to_owned(), ..Status::default() };
            let error = RequestError::Kube(kube::Error::Api(status.boxed()));
            assert_eq!(error.is_too_large(), expected, "{message}");
        }
    }
}
