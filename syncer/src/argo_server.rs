//! argo-server of a WEC: it alone reads the nodes that Argo keeps in a database there.
//!
//! The way to it is the WEC's API server, which leads to Services: so there is no other address to be opened, and nobody
//! else is ever shown the token. API servers take the header Authorization for themselves; argo-server looks for the
//! token in a cookie as well, as its UI sends it.

use std::time::Duration;

use argosy_api::WorkloadCluster;
use argosy_api::workflow::SyncView;
use argosy_runtime::client::{RequestError, within};
use http::{HeaderValue, Request, header};
use kube::Client;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::desk::Key;

/// How many workflows are read at a time: each may have tens of megabytes of nodes.
const AT_A_TIME: usize = 2;

/// How long one waits for its turn: whoever does keeps a worker from other workflows.
const TURN: Duration = Duration::from_secs(1);

/// argo-server of one cluster.
pub struct ArgoServer {
    wec: Client,
    /// Namespace and name of its Service, the latter as API servers take it: `https:argo-server:2746`.
    namespace: String,
    service: String,
    cookie: Option<HeaderValue>,
    turns: Semaphore,
}

/// Why a workflow was not read.
#[derive(Debug, Error)]
pub enum ArgoServerError {
    /// It stays so until somebody changes something.
    #[error(
        "argo-server there (Service {namespace}/{service}) does not give them: {why}; argosy-member gives the right, and \
         spec.argoServer of the WorkloadCluster says which Service it is"
    )]
    NoWay { namespace: String, service: String, why: String },
    /// Why is in the log: what peers say may be different each time, and would be written to the original each time.
    #[error("argo-server there (Service {namespace}/{service}) does not answer")]
    NoAnswer { namespace: String, service: String },
    #[error("argo-server is asked for other workflows' nodes first")]
    Busy,
}

impl ArgoServer {
    /// argo-server of a cluster that is reached with this client, whose kubeconfig signs in with this token, if it does
    /// with one.
    pub fn new(wec: &Client, cluster: &WorkloadCluster, token: Option<&str>) -> Self {
        let cookie = token.and_then(|token| HeaderValue::from_str(&format!("authorization=Bearer {token}")).ok());
        let cookie = cookie.map(|mut cookie| {
            cookie.set_sensitive(true);
            cookie
        });
        let place = cluster.spec.argo_server.clone();
        let turns = Semaphore::new(AT_A_TIME);
        Self { wec: wec.clone(), namespace: place.namespace, service: place.service, cookie, turns }
    }

    /// A workflow with all of its nodes, as it is now.
    pub async fn workflow(&self, key: &Key) -> Result<SyncView, ArgoServerError> {
        let turn = tokio::time::timeout(TURN, self.turns.acquire()).await;
        let Ok(_turn) = turn else { return Err(ArgoServerError::Busy) };
        let path = format!(
            "/api/v1/namespaces/{}/services/{}/proxy/api/v1/workflows/{}/{}",
            self.namespace, self.service, key.namespace, key.name
        );
        let mut request = Request::get(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let failed = |why: String, is_for_good| {
            let (namespace, service) = (self.namespace.clone(), self.service.clone());
            match is_for_good {
                true => ArgoServerError::NoWay { namespace, service, why },
                false => {
                    tracing::warn!(workflow = %key, namespace, service, why, "argo-server does not answer");
                    ArgoServerError::NoAnswer { namespace, service }
                }
            }
        };
        let request = request.body(Vec::new()).map_err(|error| failed(error.to_string(), true))?;
        let answer = within(self.wec.request_text(request)).await;
        let answer = answer.map_err(|error| failed(error.message(), is_for_good(&error)))?;
        serde_json::from_str(&answer).map_err(|error| failed(format!("its answer is no workflow: {error}"), false))
    }
}

/// Whether asking again would be answered in the same way. Some answers are the API server's, with HTTP's codes; others
/// argo-server's, with gRPC's: unauthenticated, no permission, not found, not implemented.
fn is_for_good(error: &RequestError) -> bool {
    matches!(error.status(), Some(400 | 401 | 403 | 404 | 405 | 16 | 7 | 5 | 12))
}
