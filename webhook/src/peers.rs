//! Replicas tell each other what they have decided, at once: until a workflow exists, which takes some milliseconds, no
//! watch shows it, and in a burst two replicas would fill the same cluster.
//!
//! It is a courtesy, not a protocol: a word that is lost costs evenness, never correctness, for the watch brings the
//! workflow soon after. So nothing waits for it, and nothing is said twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use argosy_certs::Kin;
use argosy_runtime::client::{self, RequestError};
use argosy_runtime::events;
use axum::http::{self, HeaderMap, Uri, header};
use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinSet};

/// The path at which a replica listens to the others.
pub(crate) const PATH: &str = "/placed";
/// So many decisions wait to be told to a peer; older ones are dropped, for by then the watch has shown them.
const BACKLOG: usize = 1024;
/// At most so many are told in one request.
const AT_ONCE: usize = 256;
/// How long a peer may take to listen.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long a peer that did not listen is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Where the other replicas are.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PeerArgs {
    /// Service, in the namespace of --namespace, whose other endpoints are replicas of this webhook
    #[arg(long, value_name = "NAME")]
    peer_service: Option<String>,

    /// Address of another replica, such as https://10.0.0.2:8443, where there is no Service; may be repeated
    #[arg(long, value_name = "URL")]
    peer: Vec<Uri>,
}

/// A decision, as replicas tell each other of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) namespace: String,
    /// What the workflow was stamped with.
    pub(crate) stamp: String,
}

/// What one replica tells another.
#[derive(Debug, Serialize, Deserialize)]
struct Word {
    /// Who says it: a replica may meet itself behind the Service.
    from: u64,
    decisions: Vec<Told>,
}

/// The other replicas.
#[derive(Clone)]
pub struct Peers {
    me: u64,
    outbox: broadcast::Sender<Told>,
    kin: watch::Receiver<Option<Kin>>,
}

impl Peers {
    /// Replicas that know each other by `kin`.
    pub fn new(kin: watch::Receiver<Option<Kin>>) -> Self {
        let me = RandomState::new().hash_one(std::process::id());
        Self { me, outbox: broadcast::Sender::new(BACKLOG), kin }
    }

    /// Tells all of them, without waiting.
    pub(crate) fn tell(&self, namespace: &str, stamp: &str) {
        if self.outbox.receiver_count() > 0 {
            // All of them may have gone at this moment.
            let _ = self.outbox.send(Told { namespace: namespace.to_owned(), stamp: stamp.to_owned() });
        }
    }

    /// Whether a peer is speaking.
    pub(crate) fn is_peer(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| value.strip_prefix("Bearer "));
        token.is_some_and(|token| self.kin.borrow().as_ref().is_some_and(|kin| kin.knows(token)))
    }

    /// What a peer said; nothing, if it was this very replica. `None`: it makes no sense.
    pub(crate) fn hear(&self, body: &[u8]) -> Option<Vec<Told>> {
        let Word { from, decisions } = serde_json::from_slice(body).ok()?;
        Some(if from == self.me { Vec::new() } else { decisions })
    }

    /// Keeps in touch with all of them, for ever.
    pub async fn run(self, client: Client, namespace: &str, args: PeerArgs) {
        let PeerArgs { peer_service, peer } = args;
        let mut tasks = JoinSet::new();
        for url in peer {
            tasks.spawn(self.clone().talk(url));
        }
        let Some(service) = peer_service else {
            return std::future::pending().await;
        };
        let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
        let mut slices = events::watch("endpointslices", Api::<EndpointSlice>::namespaced(client, namespace), config);
        let mut known: HashMap<String, EndpointSlice> = HashMap::new();
        let mut talks: HashMap<Uri, AbortHandle> = HashMap::new();
        while let Some(event) = slices.next().await {
            match event {
                // A list that is under way takes nothing away yet; what it no longer has stops answering anyway.
                Event::Init | Event::InitDone => {}
                Event::InitApply(slice) | Event::Apply(slice) => drop(known.insert(slice.name_any(), slice)),
                Event::Delete(slice) => drop(known.remove(&slice.name_any())),
            }
            let wanted: Vec<Uri> = known.values().flat_map(urls).collect();
            talks.retain(|url, task| {
                let stays = wanted.contains(url);
                if !stays {
                    task.abort();
                }
                stays
            });
            for url in wanted {
                talks.entry(url).or_insert_with_key(|url| tasks.spawn(self.clone().talk(url.clone())));
            }
        }
    }

    /// Tells one peer everything that is decided from now on.
    async fn talk(mut self, url: Uri) {
        let mut decisions = self.outbox.subscribe();
        let mut client = None;
        let mut listens = true;
        loop {
            let Some(told) = gather(&mut decisions).await else { return };
            if client.is_none() || self.kin.has_changed().unwrap_or_default() {
                client = self.kin.borrow_and_update().as_ref().and_then(|kin| connect(&url, kin));
            }
            let Some(client) = &client else { continue };
            let said = say(client, &Word { from: self.me, decisions: told }).await;
            match &said {
                Err(error) if listens => {
                    let error = error.message();
                    tracing::info!(peer = %url, error, "a replica does not listen; bursts may be placed less evenly");
                }
                Ok(()) if !listens => tracing::info!(peer = %url, "the replica listens again"),
                _ => {}
            }
            listens = said.is_ok();
            if !listens {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for a decision, and takes along those that are there already; `None` when there will be none any more.
async fn gather(decisions: &mut broadcast::Receiver<Told>) -> Option<Vec<Told>> {
    let mut told = Vec::new();
    while told.is_empty() {
        match decisions.recv().await {
            Ok(first) => told.push(first),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
    while told.len() < AT_ONCE {
        match decisions.try_recv() {
            Ok(next) => told.push(next),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    Some(told)
}

/// A client for one peer: by its certificate it is known, wherever it answers.
fn connect(url: &Uri, kin: &Kin) -> Option<Client> {
    let mut config = Config::new(url.clone());
    client::configure(&mut config);
    config.connect_timeout = Some(DEADLINE);
    config.root_cert = Some(kin.authorities.clone());
    config.tls_server_name = Some(kin.name.clone());
    config.auth_info.token = Some(kin.token.clone().into());
    config.disable_compression = true;
    let made = Client::try_from(config);
    made.inspect_err(|error| tracing::warn!(peer = %url, %error, "no client for a replica")).ok()
}

async fn say(client: &Client, word: &Word) -> Result<(), RequestError> {
    let body = serde_json::to_vec(word).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(PATH).header(header::CONTENT_TYPE, "application/json").body(body);
    let request = request.map_err(kube::Error::HttpError)?;
    match tokio::time::timeout(DEADLINE, client.request_text(request)).await {
        Ok(answer) => Ok(answer.map(drop)?),
        Err(_) => Err(RequestError::Deadline),
    }
}

/// Where the endpoints of a slice answer.
fn urls(slice: &EndpointSlice) -> Vec<Uri> {
    let port = slice.ports.iter().flatten().find_map(|port| port.port);
    let serves = |ready: &k8s_openapi::api::discovery::v1::EndpointConditions| ready.serving != Some(false);
    let serving = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.as_ref().is_none_or(serves));
    let addresses = serving.flat_map(|endpoint| &endpoint.addresses);
    let url = |address: &String| {
        let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        format!("https://{host}:{}", port?).parse().ok()
    };
    addresses.filter_map(url).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kin(token: &str) -> Kin {
        Kin { authorities: Vec::new(), name: "webhook".into(), token: token.into() }
    }

    fn peers(token: &str) -> Peers {
        Peers::new(watch::channel(Some(kin(token))).1)
    }

    fn headers(token: &str) -> HeaderMap {
        [(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn only_a_peer_is_heard_and_nobody_hears_itself() {
        let me = peers("secret");
        let told = Told { namespace: "team".into(), stamp: "{}".into() };
        let word = |from| serde_json::to_vec(&Word { from, decisions: vec![told.clone()] }).unwrap();
        let other = word(me.me.wrapping_add(1));
        assert_eq!(me.hear(&other), Some(vec![told.clone()]));
        assert_eq!((me.hear(&word(me.me)), me.hear(b"[]")), (Some(Vec::new()), None));
        assert!(me.is_peer(&headers("secret")));
        assert!(!me.is_peer(&headers("guess")) && !me.is_peer(&HeaderMap::new()));
        assert!(!Peers::new(watch::channel(None).1).is_peer(&headers("")));
    }

    #[test]
    fn a_services_endpoints_are_where_they_serve() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4", "metadata": {"name": "s"}, "ports": [{"name": "https", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"serving": false}},
                {"addresses": ["fd00::1"]},
            ],
        }))
        .unwrap();
        let urls: Vec<String> = urls(&slice).iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["https://10.0.0.1:8443/", "https://[fd00::1]:8443/"]);
    }

    #[tokio::test]
    async fn what_is_decided_at_once_is_told_at_once_and_a_full_backlog_drops_the_oldest() {
        let peers = peers("secret");
        let mut decisions = peers.outbox.subscribe();
        (0..BACKLOG + 10).for_each(|n| peers.tell("team", &n.to_string()));
        let told = gather(&mut decisions).await.unwrap();
        assert_eq!((told.len(), told[0].stamp.as_str()), (AT_ONCE, "10"));
    }
}
