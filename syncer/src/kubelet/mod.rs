//! Live logs, the way to them: what the control cluster's API server asks the virtual nodes' kubelet for, which is this
//! syncer. It streams logs from the WECs, and refuses whatever else kubelets are asked for.
//!
//! `auth` says who asks and whether they may, `tls` is whom connections are taken from, `stream` is a log on its way.

mod auth;
mod stream;
mod tls;
mod turns;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use argosy_api::names;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::desk::Key;
use crate::shadows::Shadows;
use crate::work::locked;

use self::auth::{Auth, Peer};
use self::stream::Ask;
use self::turns::Turns;

/// Of the virtual nodes' kubelet.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Live logs")]
pub struct KubeletArgs {
    /// Serve the logs of routed workflows' pods there, as the kubelet of one virtual node per cluster; without it there are
    /// no such nodes, and no live logs
    #[arg(long, value_name = "ADDRESS:PORT", requires = "kubelet_address")]
    pub kubelet_listen: Option<SocketAddr>,
    /// Where the control cluster's API servers reach that
    #[arg(long, env = "POD_IP", value_name = "IP")]
    pub kubelet_address: Option<IpAddr>,
    /// As which type of address the virtual nodes have it, of those that --kubelet-preferred-address-types of the API
    /// servers names; network plugins make routes to nodes by InternalIP, so that is for where nothing else is looked at
    #[arg(long, value_enum, default_value_t, value_name = "TYPE")]
    pub kubelet_address_type: AddressType,
    /// Folder with tls.crt and tls.key to serve with, read again when they change; without it the certificate is
    /// self-signed, as kubelets' own, and API servers with --kubelet-certificate-authority refuse it
    #[arg(long, value_name = "FOLDER")]
    pub kubelet_certificate: Option<PathBuf>,
}

/// Types of a node's addresses that an IP address can be given as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum AddressType {
    #[default]
    Hostname,
    #[value(name = "ExternalIP")]
    ExternalIp,
    #[value(name = "InternalIP")]
    InternalIp,
}

impl fmt::Display for AddressType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hostname => "Hostname",
            Self::ExternalIp => "ExternalIP",
            Self::InternalIp => "InternalIP",
        })
    }
}

/// Where API servers find the kubelet of the virtual nodes.
#[derive(Clone, Debug)]
pub struct Address {
    pub kind: AddressType,
    pub ip: IpAddr,
    pub port: u16,
}

/// The clusters whose logs are served by this process.
pub struct Kubelet {
    pub address: Address,
    served: Mutex<HashMap<String, Served>>,
    auth: Auth,
    turns: Arc<Turns>,
}

/// A cluster, for as long as it answers.
#[derive(Clone)]
struct Served {
    shadows: Arc<Shadows>,
    link: Link,
}

/// A cluster's logs are served for as long as there is this. Those that are on their way go on until the [`Link`] is cut.
pub struct Serving {
    kubelet: Arc<Kubelet>,
    cluster: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        locked(&self.kubelet.served).remove(&self.cluster);
    }
}

/// The way to a cluster. It outlives sessions; logs that are on their way end with it.
#[derive(Clone, Default)]
pub struct Link(CancellationToken);

impl Kubelet {
    /// Binds, and answers what serves. Both are `None` without --kubelet-listen.
    pub async fn bind(
        args: KubeletArgs,
        control: Client,
        shutdown: CancellationToken,
    ) -> Result<(Option<Arc<Self>>, impl Future<Output = Result<()>>)> {
        let KubeletArgs { kubelet_listen, kubelet_address, kubelet_address_type, kubelet_certificate } = args;
        let bound = match kubelet_listen.zip(kubelet_address) {
            None => None,
            Some((listen, ip)) => {
                let listener = TcpListener::bind(listen).await;
                let listener = listener.with_context(|| format!("cannot listen on {listen} (--kubelet-listen)"))?;
                let port = listener.local_addr().context("cannot read the port listened on")?.port();
                let address = Address { kind: kubelet_address_type, ip, port };
                let auth = Auth::new(&control);
                let kubelet = Self { address, served: Mutex::default(), auth, turns: Arc::default() };
                Some((Arc::new(kubelet), listener))
            }
        };
        let kubelet = bound.as_ref().map(|(kubelet, _)| Arc::clone(kubelet));
        let serving = async move {
            match bound {
                Some((kubelet, listener)) => {
                    tls::serve(listener, kubelet, control, kubelet_certificate, shutdown).await
                }
                None => {
                    shutdown.cancelled().await;
                    Ok(())
                }
            }
        };
        Ok((kubelet, serving))
    }

    /// Serves a cluster's logs until what is returned is dropped.
    pub fn serve(self: &Arc<Self>, shadows: Arc<Shadows>, link: Link) -> Serving {
        let cluster = shadows.cluster().to_owned();
        locked(&self.served).insert(cluster.clone(), Served { shadows, link });
        Serving { kubelet: Arc::clone(self), cluster }
    }

    /// The cluster where a pod is, if whoever asks may ask its node's kubelet.
    async fn admit(&self, peer: &Peer, headers: &HeaderMap, verb: &str, pod: &Key) -> Result<Option<Served>, Refusal> {
        let caller = self.auth.who(peer, headers).await?;
        let served = locked(&self.served).values().find(|served| served.shadows.has(pod)).cloned();
        let node = served.as_ref().map(|served| names::virtual_node(served.shadows.cluster()));
        self.auth.may(&caller, verb, node.as_deref()).await?;
        Ok(served)
    }
}

impl Link {
    /// Ends the logs that are on their way, and begins anew.
    pub fn cut(&mut self) {
        self.0.cancel();
        *self = Self::default();
    }

    async fn is_cut(&self) {
        self.0.cancelled().await;
    }
}

/// An answer for people; the API server hands it on to them.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

fn router(kubelet: Arc<Kubelet>) -> Router {
    Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
        // exec, run, attach and portForward; the last one names no container.
        .route("/{what}/{namespace}/{pod}", any(no_way_in))
        .route("/{what}/{namespace}/{pod}/{*rest}", any(no_way_in))
        .with_state(kubelet)
}

async fn container_logs(
    State(kubelet): State<Arc<Kubelet>>,
    Extension(peer): Extension<Peer>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let key = Key { namespace, name: pod };
    // Before anybody is asked whether that is allowed.
    let Some(turn) = kubelet.turns.take(&key.namespace) else {
        let why =
            format!("too many logs, of namespace {} or of all, are being read already; try again later", key.namespace);
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, why));
    };
    let Some(served) = kubelet.admit(&peer, &headers, "get", &key).await? else {
        // API servers keep to themselves what is said of a pod that is not found.
        let why = format!("{key} is no pod of a routed workflow whose cluster answers now");
        return Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, why));
    };
    let ask = Ask::new(&key, &container, query.as_deref().unwrap_or_default())?;
    ask.open(served.shadows.cluster(), served.shadows.patient(), served.link.clone(), turn).await
}

/// Commands in pods of another cluster, and connections to them, are for who may sign in there.
async fn no_way_in(
    State(kubelet): State<Arc<Kubelet>>,
    Extension(peer): Extension<Peer>,
    Path(path): Path<HashMap<String, String>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let part = |name: &str| path.get(name).cloned().unwrap_or_default();
    let (what, key) = (part("what"), Key { namespace: part("namespace"), name: part("pod") });
    let verb = if method == Method::GET { "get" } else { "create" };
    let served = kubelet.admit(&peer, &headers, verb, &key).await?;
    let cluster =
        served.map_or_else(|| "another cluster".to_owned(), |served| format!("cluster {}", served.shadows.cluster()));
    let why = format!(
        "pod {key} runs in {cluster}: Argosy brings its logs here, but no {what}; ask that cluster's own API server"
    );
    // API servers and kubectl hand on a Status; of other text they may make an unknown error.
    let status = Status {
        status: Some("Failure".to_owned()),
        reason: Some("Forbidden".to_owned()),
        message: Some(why),
        code: Some(StatusCode::FORBIDDEN.as_u16().into()),
        ..Status::default()
    };
    Ok((StatusCode::FORBIDDEN, Json(status)).into_response())
}
