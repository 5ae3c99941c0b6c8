//! What played containers print: their own name and a number, a line a second for as long as they run.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::{Api, Client};
use tokio::time::sleep;

/// How often a container that runs is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A container of a pod.
struct Source {
    pods: Api<Pod>,
    pod: String,
    container: String,
}

/// What of a log was asked for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    follow: bool,
    timestamps: bool,
    tail: Option<i64>,
}

/// Answers as a kubelet does, as far as the tests ask.
pub(super) async fn container_logs(
    State(client): State<Client>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let source = Source { pods: Api::namespaced(client, &namespace), pod, container };
    let wanted = Wanted::read(&query.unwrap_or_default());
    let Some((started, ended)) = source.times().await else {
        let Source { pod, container, .. } = source;
        let why = format!("container {container:?} in pod {pod:?} is waiting to start: ContainerCreating");
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    let so_far = lines(started, ended.unwrap_or_else(Timestamp::now));
    let first = wanted.tail.map_or(1, |tail| (so_far - tail + 1).max(1));
    Body::from_stream(source.print(started, first, wanted)).into_response()
}

/// How many lines there are at a time.
fn lines(started: Timestamp, now: Timestamp) -> i64 {
    now.duration_since(started).as_secs().max(0) + 1
}

impl Wanted {
    fn read(query: &str) -> Self {
        let value = |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name);
        let is_true = |name: &str| value(name).is_some_and(|(_, value)| value == "true");
        let tail = value("tailLines").and_then(|(_, lines)| lines.parse().ok());
        Self { follow: is_true("follow"), timestamps: is_true("timestamps"), tail }
    }
}

impl Source {
    /// When it started, and when it ended.
    async fn times(&self) -> Option<(Timestamp, Option<Timestamp>)> {
        let status = self.pods.get_opt(&self.pod).await.ok()??.status?;
        let statuses = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
        match statuses.into_iter().find(|status| status.name == self.container)?.state? {
            ContainerState { terminated: Some(ended), .. } => {
                let end = ended.finished_at.map_or_else(Timestamp::now, |time| time.0);
                Some((ended.started_at.map_or(end, |time| time.0), Some(end)))
            }
            ContainerState { running: Some(running), .. } => Some((running.started_at?.0, None)),
            _ => None,
        }
    }

    /// The lines from this number on.
    fn print(self, started: Timestamp, first: i64, wanted: Wanted) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold((self, first), move |(source, number)| {
            let Wanted { follow, timestamps, .. } = wanted;
            async move {
                loop {
                    // A pod that is gone has ended.
                    let now = Timestamp::now();
                    let ended = source.times().await.map_or(Some(now), |(_, ended)| ended);
                    if number <= lines(started, ended.unwrap_or(now)) {
                        break;
                    }
                    if ended.is_some() || !follow {
                        return None;
                    }
                    sleep(LOOK).await;
                }
                let time = started + SignedDuration::from_secs(number - 1);
                let time = if timestamps { format!("{time:.9} ") } else { String::new() };
                let line = format!("{time}{} {} line {number}\n", source.pod, source.container);
                Some((Ok(line.into()), (source, number + 1)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let all = Wanted { follow: true, timestamps: true, tail: Some(10) };
        assert_eq!(Wanted::read("follow=true&tailLines=10&timestamps=true"), all);
        assert_eq!(Wanted::read(""), Wanted::default());
    }

    #[test]
    fn a_line_a_second() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!((lines(at(5), at(5)), lines(at(5), at(8)), lines(at(5), at(4))), (1, 4, 1));
    }
}
