//! The HTTPS server: `/route`, answered from what the watches last saw, and `/guard`, answered from the review alone.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argosy_api::names;
use argosy_placement::{self as placement, Decision};
use argosy_runtime::known::{Asked, Known};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::{Next, from_fn};
use axum::routing::post;
use axum::{Json, Router};
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, from_tcp};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::answered::Answered;
use crate::judge::judge;
use crate::metrics::{Metrics, Outcome};
use crate::peers::{self, Peers};
use crate::review::{Creation, Question, Reply, Request, ReviewError, read};
use crate::route::{Answer, Decided, answer, chosen, display_name, needs_decision};
use crate::view::{Label, annotation};

/// More than the API server takes from a user (3 MB), twice, for a change comes with what was there before.
const BODY_LIMIT: usize = 8 << 20;
/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait for the annotations of a namespace that the watch has not seen yet; the API server waits for us.
const NAMESPACE_DEADLINE: Duration = Duration::from_millis(1500);
/// How many changes are judged at one time: what is sent to exhaust the memory may take some 100 MB for each.
const JUDGED_AT_ONCE: usize = 2;
/// How long requests may take to finish, and connections to be idle, once new ones are no longer taken.
const FINISH: Duration = Duration::from_secs(10);

/// What a review is answered from.
pub struct Server {
    known: Arc<Known>,
    namespaces: Api<PartialObjectMeta<Namespace>>,
    metrics: Metrics,
    peers: Peers,
    judging: Semaphore,
}

/// Nothing is known about the namespace's rule, or about the clusters.
struct Unavailable(String);

impl Server {
    /// `client` is asked only about namespaces that are not `known` yet.
    pub fn new(known: Arc<Known>, client: Client, metrics: Metrics, peers: Peers) -> Self {
        Self { known, namespaces: Api::all(client), metrics, peers, judging: Semaphore::new(JUDGED_AT_ONCE) }
    }

    /// Answers a review about a change, beside the threads that everything else is answered on: what it asks about may
    /// have to be unpacked.
    async fn judge(&self, body: Bytes) -> Answered {
        let _turn = self.judging.acquire().await;
        tokio::task::spawn_blocking(move || judge(&body)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a change could not be judged");
            // Without the review's UID this counts as no answer, and the fence decides.
            Answered::failed(String::new(), "the change could not be judged")
        })
    }

    fn finish(&self, answered: Answered, start: Instant) -> Json<Reply> {
        let Answered { outcome, reply } = answered;
        self.metrics.count(outcome, start.elapsed());
        Json(reply)
    }

    async fn create(&self, uid: String, creation: &Creation<'_>) -> Answered {
        let Creation { namespace, view, .. } = creation;
        let now = Timestamp::now();
        let workflow = || display_name(namespace, &view.metadata);
        let decided = match self.decide(creation, now).await {
            Ok(decided) => decided,
            Err(Unavailable(why)) => {
                // Not refused: the namespace may have no rule. Where it has one, the policy argosy-fail-closed refuses
                // what is not stamped.
                let warning = format!("argosy: Workflow {}: {why}; it was not routed", workflow());
                tracing::warn!(warning, "not routed");
                return Answered { outcome: Outcome::Unavailable, reply: Reply::warn(uid, warning) };
            }
        };
        match answer(namespace, view, &decided, now) {
            Answer::Refuse { status, message } => Answered::refused(uid, status, &message),
            Answer::Allow { patch, outcome, stamp } => {
                // What came with this very stamp counts already: the API server asks again within one creation.
                let is_new = |stamp: &String| annotation(view, names::PLACEMENT) != Some(stamp.as_str());
                if let Some(stamp) = stamp.filter(is_new).filter(|_| !creation.dry_run) {
                    self.known.reserve(namespace, &stamp, now);
                    self.peers.tell(namespace, &stamp);
                }
                match &decided.decision {
                    Decision::Place { cluster, why } => {
                        tracing::info!(workflow = workflow(), cluster, reason = why.reason, "placed");
                    }
                    Decision::Wait(why) => tracing::info!(workflow = workflow(), reason = why.reason, "waits"),
                    _ => tracing::debug!(workflow = workflow(), outcome = outcome.label(), "not placed"),
                }
                Answered::allowed(uid, outcome, &patch)
            }
        }
    }

    async fn decide(&self, creation: &Creation<'_>, now: Timestamp) -> Result<Decided, Unavailable> {
        let Creation { namespace, view, .. } = creation;
        let known = match self.known.namespace(namespace) {
            Some(known) => known,
            None => Arc::new(self.ask(namespace).await?),
        };
        let ruled = self.known.is_ruled(&known);
        let label = Label::of(view);
        // The rest is only for those who use Argosy.
        if !needs_decision(view) || (self.known.is_synced() && !ruled && label.own().is_none()) {
            return Ok(Decided { decision: Decision::NoRule, ruled, archive_logs: None });
        }
        if !self.known.is_synced() {
            return Err(Unavailable(
                "the webhook has only just started and does not know policies and clusters yet".to_owned(),
            ));
        }
        let none = Default::default();
        let labels = view.metadata.labels.as_ref().unwrap_or(&none);
        let chosen = chosen(view, now);
        let asked = Asked { namespace, labels, own_cluster: label.own(), chosen: chosen.as_deref() };
        let (decision, archive_logs) = self.known.explain(
            asked,
            &known,
            || creation.spec(),
            now,
            |request, found, fleet| {
                (placement::decide(request, found, fleet), found.rule().and_then(|rule| rule.archive_logs))
            },
        );
        Ok(Decided { decision, ruled, archive_logs })
    }

    /// Asks the API server about a namespace that the watch has not seen yet: a rule may be there.
    async fn ask(&self, namespace: &str) -> Result<placement::Namespace, Unavailable> {
        let unavailable = |why: &str| {
            Unavailable(format!("whether namespace {namespace:?} has a rule could not be found out ({why})"))
        };
        match tokio::time::timeout(NAMESPACE_DEADLINE, self.namespaces.get(namespace)).await {
            Ok(Ok(found)) => Ok(placement::Namespace::new(namespace, found.labels(), found.annotations())),
            Ok(Err(kube::Error::Api(status))) => Err(unavailable(&status.message)),
            Ok(Err(error)) => {
                tracing::warn!(namespace, error = &error as &dyn std::error::Error, "namespace could not be read");
                Err(unavailable("the API server could not be reached"))
            }
            Err(_) => Err(unavailable("the API server did not answer in time")),
        }
    }
}

/// The webhook's paths.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/route", post(route))
        .route("/guard", post(guard))
        .route(peers::PATH, post(placed))
        .with_state(server)
}

/// What another replica has decided counts from now on.
async fn placed(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> StatusCode {
    // Before anything is read that may be long, or slow to come.
    if !server.peers.is_peer(&headers) {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(body) = receive(body).await else { return StatusCode::BAD_REQUEST };
    let Some(decisions) = server.peers.hear(&body) else { return StatusCode::BAD_REQUEST };
    let now = Timestamp::now();
    decisions.iter().for_each(|told| server.known.reserve(&told.namespace, &told.stamp, now));
    StatusCode::NO_CONTENT
}

/// Every request gets a review, whatever it was.
async fn route(State(server): State<Arc<Server>>, body: Body) -> Json<Reply> {
    let received = receive(body).await;
    let start = Instant::now();
    let answered = match &received {
        Ok(body) => {
            let (uid, request) = read(body);
            match request.and_then(Request::creation) {
                Ok(Question::Asked(creation)) => server.create(uid, &creation).await,
                Ok(Question::Other { what }) => {
                    Answered::unconcerned(uid, "/route is for the creation of Workflows", &what)
                }
                Err(error) => Answered::malformed(uid, &error),
            }
        }
        Err(error) => Answered::malformed(String::new(), error),
    };
    server.finish(answered, start)
}

/// As `route`, for changes to routed workflows.
async fn guard(State(server): State<Arc<Server>>, body: Body) -> Json<Reply> {
    let received = receive(body).await;
    let start = Instant::now();
    let answered = match received {
        Ok(body) => server.judge(body).await,
        Err(error) => Answered::malformed(String::new(), &error),
    };
    server.finish(answered, start)
}

async fn receive(body: Body) -> Result<Bytes, ReviewError> {
    use axum::body::HttpBody;
    // The exact size is known beforehand where the sender says so, as the API server does.
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(ReviewError::TooLarge { limit: BODY_LIMIT });
    }
    match tokio::time::timeout(BODY_DEADLINE, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(ReviewError::ReadBody { problem: error.to_string() }),
        Err(_) => Err(ReviewError::ReadBody { problem: "it did not arrive in time".to_owned() }),
    }
}

/// Serves HTTPS until `stop`, and for `drain` more, in which clients are sent to other replicas; then no new connections
/// are taken, and requests in progress are finished.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    certificates: Arc<dyn ResolvesServerCert>,
    stop: CancellationToken,
    drain: Duration,
) -> io::Result<()> {
    let tls = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls(certificates)?)));
    let handle = Handle::new();
    let end = handle.clone();
    let server = from_tcp(listener.into_std()?)?
        .acceptor(tls.acceptor(NoDelayAcceptor::new()))
        .first_request_timeout(BODY_DEADLINE)
        .handle(handle)
        .serve(sends_away(router, stop.clone()).into_make_service());
    let mut server = std::pin::pin!(server);
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ended = &mut server => return ended,
        () = drained => end.graceful_shutdown(Some(FINISH)),
    }
    server.await
}

/// Answers from `stop` on end their connections: API servers keep theirs (HTTP/1.1) for as long as they are used, a
/// review on its way while an idle one is closed is lost, and they do not send it again.
fn sends_away(router: Router, stop: CancellationToken) -> Router {
    router.layer(from_fn(move |request: HttpRequest, next: Next| {
        let stop = stop.clone();
        async move {
            let has_goaway = request.version() >= Version::HTTP_2;
            let mut response = next.run(request).await;
            if stop.is_cancelled() && !has_goaway {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }))
}

fn tls(certificates: Arc<dyn ResolvesServerCert>) -> io::Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_replica_that_leaves_ends_each_connection_with_its_next_answer() {
        let stop = CancellationToken::new();
        let router = sends_away(Router::new().route("/", get(|| async {})), stop.clone());
        let connection = async |version| {
            let request = HttpRequest::get("/").version(version).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().headers().get(CONNECTION).cloned()
        };
        assert_eq!(connection(Version::HTTP_11).await, None);
        stop.cancel();
        assert_eq!(connection(Version::HTTP_11).await.unwrap(), "close");
        assert_eq!(connection(Version::HTTP_2).await, None, "it has GOAWAY");
    }
}
