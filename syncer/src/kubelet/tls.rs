//! The kubelet's HTTPS: a client certificate is asked for, and one that is shown must be of the cluster's client CA, which the
//! API server itself publishes; who shows none has to bring a token.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use argosy_runtime::client::within;
use axum::extract::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, from_tcp};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoClientAuth;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::Layer;

use super::auth::Peer;
use super::{Kubelet, router};

/// Where every API server says which CA its clients' certificates are of.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
const CLIENT_CA: &str = "client-ca-file";
/// How often it, and the certificate to serve with, are looked at again.
const LOOK: Duration = Duration::from_secs(60);
/// How long a connection may take to ask for something.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long an API server may be silent before it is asked whether it is there, and how often then.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long logs that are on their way may take to end when the syncer does.
const FINISH: Duration = Duration::from_secs(1);

/// What is served with. Compared, to see whether it is another by now.
#[derive(Clone, Debug, Default, PartialEq)]
struct Material {
    client_ca: Vec<Vec<u8>>,
    /// In PEM; `None`: self-signed.
    own: Option<(Vec<u8>, Vec<u8>)>,
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    kubelet: Arc<Kubelet>,
    control: Client,
    folder: Option<PathBuf>,
    shutdown: CancellationToken,
) -> Result<()> {
    let self_signed = rcgen::generate_simple_self_signed([kubelet.address.ip.to_string()])
        .context("cannot make a certificate for live logs")?;
    let mut material = Material::read(&control, folder.as_deref(), Material::default()).await;
    let config = material.config(&self_signed).or_else(|error| {
        // Workflows are delivered all the same.
        tracing::warn!(error = format!("{error:#}"), "live logs: served with a certificate of our own");
        Material { own: None, ..material.clone() }.config(&self_signed)
    });
    let config = RustlsConfig::from_config(Arc::new(config?));
    // What is accepted inherits it: of an API server whose machine is gone, nothing else is ever heard.
    let alive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(&listener).set_tcp_keepalive(&alive).context("live logs: the port takes no keepalive")?;
    let handle = Handle::new();
    let server = from_tcp(listener.into_std()?)?
        .acceptor(PeerAcceptor(RustlsAcceptor::new(config.clone()).acceptor(NoDelayAcceptor::new())))
        .first_request_timeout(FIRST_REQUEST)
        .handle(handle.clone())
        .serve(router(kubelet).into_make_service());
    let mut server = std::pin::pin!(server);
    loop {
        tokio::select! {
            ended = &mut server => return ended.context("live logs are served no longer"),
            () = shutdown.cancelled() => break,
            () = sleep(LOOK) => {
                let now = Material::read(&control, folder.as_deref(), material.clone()).await;
                if now != material {
                    match now.config(&self_signed) {
                        Ok(new) => config.reload_from_config(Arc::new(new)),
                        Err(error) => tracing::warn!(error = format!("{error:#}"), "live logs: the old certificates stay"),
                    }
                    material = now;
                }
            }
        }
    }
    handle.graceful_shutdown(Some(FINISH));
    server.await.context("live logs are served no longer")
}

impl Material {
    /// What is there now; what cannot be read stays as it was.
    async fn read(control: &Client, folder: Option<&Path>, before: Self) -> Self {
        let client_ca = match client_ca(control).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "live logs: cannot read which CA the API servers are of");
                before.client_ca
            }
        };
        let own = folder.and_then(|folder| match own(folder) {
            Ok(own) => Some(own),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "live logs: cannot read --kubelet-certificate");
                before.own
            }
        });
        Self { client_ca, own }
    }

    fn config(&self, self_signed: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Result<ServerConfig> {
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.client_ca.iter().map(|der| CertificateDer::from_slice(der)));
        let clients: Arc<dyn ClientCertVerifier> = if roots.is_empty() {
            Arc::new(NoClientAuth)
        } else {
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .context("the API server's client CA is of no use")?
        };
        let (chain, key) = match &self.own {
            Some((chain, key)) => (
                CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>().context("tls.crt")?,
                PrivateKeyDer::from_pem_slice(key).context("tls.key")?,
            ),
            None => (
                vec![self_signed.cert.der().clone()],
                PrivateKeyDer::Pkcs8(self_signed.signing_key.serialize_der().into()),
            ),
        };
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_client_cert_verifier(clients).with_single_cert(chain, key)?)
    }
}

async fn client_ca(control: &Client) -> Result<Vec<Vec<u8>>> {
    let maps: Api<ConfigMap> = Api::namespaced(control.clone(), NAMESPACE);
    let map = within(maps.get(CONFIG_MAP)).await.with_context(|| format!("ConfigMap {NAMESPACE}/{CONFIG_MAP}"))?;
    let text = map.data.unwrap_or_default().remove(CLIENT_CA).unwrap_or_default();
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).map(|found| Ok(found?.to_vec()));
    certificates.collect::<Result<_>>().with_context(|| format!("{CLIENT_CA} of {NAMESPACE}/{CONFIG_MAP}"))
}

fn own(folder: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let read = |name: &str| {
        let file = folder.join(name);
        std::fs::read(&file).with_context(|| format!("reading {}", file.display()))
    };
    Ok((read("tls.crt")?, read("tls.key")?))
}

/// Takes connections as the inner one does, and tells requests whom theirs is from.
#[derive(Clone)]
struct PeerAcceptor(RustlsAcceptor<NoDelayAcceptor>);

impl<S: Send + 'static> Accept<TcpStream, S> for PeerAcceptor {
    type Stream = <RustlsAcceptor<NoDelayAcceptor> as Accept<TcpStream, S>>::Stream;
    type Service = AddExtension<<RustlsAcceptor<NoDelayAcceptor> as Accept<TcpStream, S>>::Service, Peer>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepting = self.0.accept(stream, service);
        async move {
            let (stream, service) = accepting.await?;
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = Peer::new(certificates.and_then(|chain| chain.first()));
            Ok((stream, Extension(peer).layer(service)))
        }
        .boxed()
    }
}
