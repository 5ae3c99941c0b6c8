//! The HTTPS server: one route, answered from what the watches last saw.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argosy_placement::{Decision, Request, decide};
use argosy_runtime::policy::{NamespaceRule, Policy, rule_of};
use axum::body::{Body, to_bytes};
use axum::extract::State;
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

use crate::metrics::{Metrics, Outcome};
use crate::review::{Question, Reply, ReviewError, read};
use crate::route::{Answer, answer, display_name, needs_decision};
use crate::view::{Label, View};

/// More than the API server takes from a user (3 MB), with room for the review around it.
const BODY_LIMIT: usize = 8 << 20;
/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait for the annotations of a namespace that the watch has not seen yet; the API server waits for us.
const NAMESPACE_DEADLINE: Duration = Duration::from_millis(1500);
/// How long requests may take to finish, and connections to be idle, once new ones are no longer taken.
const FINISH: Duration = Duration::from_secs(10);

/// What a review is answered from.
pub struct Server {
    policy: Arc<Policy>,
    namespaces: Api<PartialObjectMeta<Namespace>>,
    metrics: Metrics,
}

/// Nothing is known about the namespace's rule, or about the clusters.
struct Unavailable(String);

/// An answer on its way out.
struct Answered {
    outcome: Outcome,
    reply: Reply,
}

impl Server {
    /// `client` is asked only about namespaces that `policy` has not seen yet.
    pub fn new(policy: Arc<Policy>, client: Client, metrics: Metrics) -> Self {
        Self { policy, namespaces: Api::all(client), metrics }
    }

    /// Answers one review.
    async fn review(&self, uid: String, question: Result<Question, ReviewError>) -> Answered {
        match question {
            Ok(Question::Create { namespace, view }) => self.create(uid, &namespace, &view).await,
            Ok(Question::Other { what }) => {
                let warning =
                    format!("argosy: /route is for the creation of Workflows only, and was asked about {what}");
                Answered { outcome: Outcome::Unconcerned, reply: Reply::warn(uid, warning) }
            }
            Err(error) => {
                tracing::warn!(%uid, %error, "malformed review");
                Answered { outcome: Outcome::Malformed, reply: Reply::refuse(uid, error.status(), &error.to_string()) }
            }
        }
    }

    async fn create(&self, uid: String, namespace: &str, view: &View) -> Answered {
        let workflow = || display_name(namespace, view);
        let refused = |uid, outcome: Outcome, status, message: &str| {
            tracing::info!(workflow = workflow(), outcome = outcome.label(), reason = message, "refused");
            Answered { outcome, reply: Reply::refuse(uid, status, message) }
        };
        let (decision, ruled) = match self.decide(namespace, view).await {
            Ok(decided) => decided,
            Err(Unavailable(why)) => {
                let message = format!("Workflow {}: {why}", workflow());
                return refused(uid, Outcome::Unavailable, 503, &message);
            }
        };
        match answer(namespace, view, &decision, ruled, Timestamp::now()) {
            Answer::Refuse { status, message } => refused(uid, Outcome::Refused, status, &message),
            Answer::Allow { patch, outcome } => {
                if let Decision::Place { cluster, reason, .. } = &decision {
                    tracing::info!(workflow = workflow(), cluster, reason, "placed");
                } else {
                    tracing::debug!(workflow = workflow(), outcome = outcome.label(), "not placed");
                }
                match Reply::allow(uid.clone(), &patch) {
                    Ok(reply) => Answered { outcome, reply },
                    Err(error) => refused(uid, Outcome::Unavailable, 500, &error.to_string()),
                }
            }
        }
    }

    /// The decision, and whether the namespace has a rule.
    async fn decide(&self, namespace: &str, view: &View) -> Result<(Decision, bool), Unavailable> {
        let rule = match self.policy.rule(namespace) {
            Some(rule) => rule,
            None => Arc::new(self.ask(namespace).await?),
        };
        let ruled = rule.is_some();
        let own_cluster = Label::of(view).own();
        // The rest is only for those who use Argosy.
        if !needs_decision(view) || (!ruled && own_cluster.is_none()) {
            return Ok((Decision::NoRule, ruled));
        }
        if !self.policy.is_synced() {
            return Err(Unavailable(
                "the webhook has only just started and does not know the clusters yet; try again".to_owned(),
            ));
        }
        let clusters = self.policy.clusters();
        let none = Default::default();
        let labels = view.metadata.labels.as_ref().unwrap_or(&none);
        let request = Request { namespace, labels, own_cluster };
        Ok((decide(&request, Option::as_ref(&rule), &clusters), ruled))
    }

    /// Asks the API server about a namespace that the watch has not seen yet: a rule may be there.
    async fn ask(&self, namespace: &str) -> Result<NamespaceRule, Unavailable> {
        let unavailable = |why: &str| {
            Unavailable(format!("whether namespace {namespace:?} has a rule could not be found out ({why}); try again"))
        };
        match tokio::time::timeout(NAMESPACE_DEADLINE, self.namespaces.get(namespace)).await {
            Ok(Ok(found)) => Ok(rule_of(namespace, found.annotations())),
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
    Router::new().route("/route", post(route)).with_state(server)
}

/// Every request gets a review, whatever it was.
async fn route(State(server): State<Arc<Server>>, body: Body) -> Json<Reply> {
    let body = receive(body).await;
    let start = Instant::now();
    let (uid, question) = match body {
        Ok(body) => read(&body),
        Err(error) => (String::new(), Err(error)),
    };
    let Answered { outcome, reply } = server.review(uid, question).await;
    server.metrics.count(outcome, start.elapsed());
    Json(reply)
}

async fn receive(body: Body) -> Result<axum::body::Bytes, ReviewError> {
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

/// Serves HTTPS until `shutdown`; then no new connections are taken, and requests in progress are finished.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    certificates: Arc<dyn ResolvesServerCert>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let tls = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls(certificates)?)));
    let handle = Handle::new();
    let stop = handle.clone();
    let server = from_tcp(listener.into_std()?)?
        .acceptor(tls.acceptor(NoDelayAcceptor::new()))
        .first_request_timeout(BODY_DEADLINE)
        .handle(handle)
        .serve(router.into_make_service());
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = shutdown => stop.graceful_shutdown(Some(FINISH)),
    }
    server.await
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
