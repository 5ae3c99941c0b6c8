//! What a kubelet's own API is asked for here: logs, and an `exec` of `kill`, by which Argo's controller ends a step's
//! containers (`argo stop`, `argo terminate`, deadlines, daemons). A played container runs nothing, so that request is never
//! upgraded to a stream; the signal counts as delivered, and the controller ignores the answer.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use axum_server::tls_rustls::RustlsConfig;
use kube::Client;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::sync::mpsc;

use super::log::container_logs;
use super::pod::{PodKey, WAIT};

/// A signal to a container of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) pod: PodKey,
    /// 15 for SIGTERM, and so on.
    pub(super) signal: u8,
}

/// Where the API server finds the kubelet's API of this node.
pub(super) struct Listener {
    listener: TcpListener,
    config: RustlsConfig,
}

impl Listener {
    /// Takes a free port on loopback. `ca` are the certificates (DER) of the cluster's CA: only the cluster's own
    /// clients may ask.
    ///
    /// # Errors
    /// There is no port, or no such CA.
    pub(super) fn bind(ca: &[Vec<u8>]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("taking a port on loopback")?;
        let mut roots = RootCertStore::empty();
        for certificate in ca {
            roots.add(CertificateDer::from_slice(certificate)).context("reading the cluster's CA")?;
        }
        let provider = Arc::new(default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .context("the kubeconfig names no CA that could vouch for the API server")?;
        // The API server is given no CA for kubelets, so it takes any certificate.
        let own =
            rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()]).context("making a certificate")?;
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_client_cert_verifier(clients).with_single_cert(vec![own.cert.der().clone()], key)
            })
            .context("preparing TLS")?;
        Ok(Listener { listener, config: RustlsConfig::from_config(Arc::new(config)) })
    }

    /// The port taken.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub(super) fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr().context("reading the port")?.port())
    }

    /// Answers the API server and hands on what it asks for, until `kills` has no reader any more.
    ///
    /// # Errors
    /// The port cannot be listened on.
    pub(super) async fn serve(self, client: Client, kills: mpsc::Sender<Kill>) -> Result<()> {
        let logs = get(container_logs).with_state(client);
        let router = Router::new()
            .route("/exec/{namespace}/{pod}/{container}", post(exec))
            .with_state(kills)
            .route("/containerLogs/{namespace}/{pod}/{container}", logs);
        let server =
            axum_server::from_tcp_rustls(self.listener, self.config).context("listening for the API server")?;
        server.serve(router.into_make_service()).await.context("serving the API server")
    }
}

async fn exec(
    State(kills): State<mpsc::Sender<Kill>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    uri: Uri,
) -> (StatusCode, &'static str) {
    let Some(signal) = signal(uri.query().unwrap_or_default()) else {
        return (StatusCode::NOT_IMPLEMENTED, "a played container runs no command but kill");
    };
    // `wait` catches the signal, to save outputs: it ends when the others have.
    if container != WAIT && kills.send(Kill { pod: PodKey { namespace, name }, signal }).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the player is about to end");
    }
    (StatusCode::FORBIDDEN, "the signal is delivered; a played container has no streams")
}

/// The signal that a command sends to process 1: `argoexec kill 15 1`, or `/bin/sh -c "kill -15 1"`.
fn signal(query: &str) -> Option<u8> {
    let parameters = query.split('&').filter_map(|pair| pair.strip_prefix("command="));
    let command: Vec<String> = parameters.map(|part| part.replace("%20", "+")).collect();
    let command = command.join("+");
    let (_, rest) = command.split_once("kill+")?;
    rest.split('+').next()?.trim_start_matches('-').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::signal;

    #[test]
    fn signals_are_read_from_what_the_controller_runs() {
        let table = [
            ("command=%2Fvar%2Frun%2Fargo%2Fargoexec&command=kill&command=15&command=1&container=main", Some(15)),
            ("command=%2Fbin%2Fsh&command=-c&command=kill+-9+1&container=sidecar&stdout=true", Some(9)),
            ("command=%2Fbin%2Fsh&command=-c&command=kill%20-15%201", Some(15)),
            ("command=ls&command=-l", None),
            ("command=kill", None),
            ("", None),
        ];
        for (query, expected) in table {
            assert_eq!(signal(query), expected, "{query}");
        }
    }
}
