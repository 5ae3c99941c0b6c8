//! A log on its way from a WEC's API server to the control cluster's: as it comes, no faster than it is read, and ended as
//! soon as nobody reads it.
//!
//! API servers hide from their clients that a kubelet's answer broke off: the log just ends, and the command with success.
//! So what breaks off here ends with a line that says so.

use std::convert::Infallible;

use argosy_runtime::client::DEADLINE;
use axum::body::{Body, BodyDataStream, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde::Deserialize;

use super::turns::Turn;
use super::{Link, Refusal};
use crate::desk::Key;

/// The parameters of a log that are handed on; the API server has checked them.
const PARAMETERS: [&str; 8] =
    ["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"];
/// No API server says more about why there is no log.
const LONGEST_REFUSAL: usize = 64 << 10;

/// What is asked for.
pub struct Ask {
    pod: Key,
    path: String,
    timestamps: bool,
}

/// A log of which more is to come.
struct Open {
    body: BodyDataStream,
    link: Link,
    farewell: Farewell,
    /// Whether what was sent last ended its line.
    line_ended: bool,
    /// One of so many.
    _turn: Turn,
}

struct Farewell {
    pod: Key,
    cluster: String,
    timestamps: bool,
}

impl Ask {
    /// `query`: as a kubelet is asked.
    pub fn new(pod: &Key, container: &str, query: &str) -> Result<Self, Refusal> {
        // Names come decoded; nothing in one may lead to another path.
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        };
        if ![pod.namespace.as_str(), &pod.name, container].into_iter().all(is_name) {
            return Err(Refusal(StatusCode::BAD_REQUEST, format!("no names: {pod}, {container}")));
        }
        let parameter = |pair: &&str| PARAMETERS.contains(&pair.split('=').next().unwrap_or_default());
        let pairs: Vec<&str> = query.split('&').filter(parameter).collect();
        let path = format!("/api/v1/namespaces/{}/pods/{}/log?container={container}", pod.namespace, pod.name);
        let path = pairs.iter().fold(path, |path, pair| format!("{path}&{pair}"));
        Ok(Self { pod: pod.clone(), path, timestamps: pairs.contains(&"timestamps=true") })
    }

    /// Asks the WEC. A container that is silent lets this wait, as a kubelet would.
    pub async fn open(self, cluster: &str, wec: &Client, link: Link, turn: Turn) -> Result<Response, Refusal> {
        let unreachable = |why: &str| {
            let why = format!("cluster {cluster}, where pod {} runs, does not answer: {why}", self.pod);
            Refusal(StatusCode::INTERNAL_SERVER_ERROR, why)
        };
        let request = Request::get(&self.path).body(kube::client::Body::empty());
        let request = request.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
        let response = tokio::select! {
            response = wec.send(request) => response.map_err(|error| unreachable(&error.to_string()))?,
            () = link.is_cut() => return Err(unreachable("the link was lost")),
        };
        let status = response.status();
        let body = Body::new(response.into_body());
        if !status.is_success() {
            return Err(self.refused(cluster, status, body).await);
        }
        let farewell = Farewell { pod: self.pod, cluster: cluster.to_owned(), timestamps: self.timestamps };
        let open = Open { body: body.into_data_stream(), link, farewell, line_ended: true, _turn: turn };
        Ok(Body::from_stream(open.bytes()).into_response())
    }

    /// What the WEC's API server says, as a kubelet would say it.
    async fn refused(&self, cluster: &str, status: StatusCode, body: Body) -> Refusal {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Said {
            message: String,
        }
        let read = tokio::time::timeout(DEADLINE, to_bytes(body, LONGEST_REFUSAL)).await;
        let read = read.ok().and_then(Result::ok).unwrap_or_default();
        let said: Said = serde_json::from_slice(&read).unwrap_or_default();
        match status {
            // About the pod or what was asked for.
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Refusal(status, said.message),
            StatusCode::FORBIDDEN => {
                let why = format!(
                    "cluster {cluster} does not let Argosy read logs ({}): `helm upgrade` argosy-member there, with logs: true",
                    said.message
                );
                Refusal(StatusCode::INTERNAL_SERVER_ERROR, why)
            }
            _ => Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("cluster {cluster}: {status}: {}", said.message)),
        }
    }
}

impl Open {
    fn bytes(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(Some(self), |open| async {
            let mut open = open?;
            let next = tokio::select! {
                next = open.body.next() => next,
                () = open.link.is_cut() => Some(Err(axum::Error::new("the link was lost"))),
            };
            match next? {
                Ok(bytes) => {
                    if let Some(last) = bytes.last() {
                        open.line_ended = *last == b'\n';
                    }
                    Some((Ok(bytes), Some(open)))
                }
                Err(error) => {
                    tracing::info!(pod = %open.farewell.pod, cluster = open.farewell.cluster, %error, "a log broke off");
                    Some((Ok(open.farewell.line(open.line_ended, Timestamp::now())), None))
                }
            }
        })
    }
}

impl Farewell {
    /// In the form of the log, so that whoever parses lines can.
    fn line(&self, line_ended: bool, now: Timestamp) -> Bytes {
        let Self { pod, cluster, timestamps } = self;
        let end = if line_ended { "" } else { "\n" };
        let time = if *timestamps { format!("{now:.9} ") } else { String::new() };
        let line = format!(
            "{end}{time}argosy: error: the log of pod {pod} broke off here, for the link to cluster {cluster} was lost; run the \
             command again when the cluster is back\n"
        );
        line.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Key {
        Key { namespace: "n".into(), name: "hello-1".into() }
    }

    #[test]
    fn what_is_handed_on() {
        let ask = Ask::new(&pod(), "main", "follow=true&timestamps=true&tailLines=10&container=wait&x=y").unwrap();
        assert_eq!(
            ask.path,
            "/api/v1/namespaces/n/pods/hello-1/log?container=main&follow=true&timestamps=true&tailLines=10"
        );
        assert!(ask.timestamps);
        for name in ["", "a/b", "a?b", "..%2f", "a b", "main&follow=true"] {
            assert!(Ask::new(&pod(), name, "").is_err(), "{name}");
        }
    }

    #[test]
    fn a_log_that_breaks_off_says_so_in_its_own_form() {
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let farewell = |timestamps, line_ended| {
            let farewell = Farewell { pod: pod(), cluster: "c1".into(), timestamps };
            String::from_utf8(farewell.line(line_ended, now).to_vec()).unwrap()
        };
        assert!(farewell(false, true).starts_with("argosy: error: the log of pod n/hello-1 broke off here"));
        assert!(farewell(false, false).starts_with("\nargosy: "));
        assert!(farewell(true, true).starts_with("2026-01-01T00:00:00.500000000Z argosy: "));
        assert!(farewell(true, false).ends_with('\n'));
    }
}
