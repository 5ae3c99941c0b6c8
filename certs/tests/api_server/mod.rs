//! A small API server in memory: one Secret and one MutatingWebhookConfiguration, with resourceVersions and watches.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

/// What it holds.
pub struct ApiServer {
    state: Mutex<State>,
    /// Counts changes; what watches wait for.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    secret: Option<Value>,
    configuration: Option<Value>,
    /// Every change: its version, kind, type of event and the object then.
    events: Vec<(u64, Kind, &'static str, Value)>,
    /// Successful writes by method and kind, in order.
    writes: Vec<(Method, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Secret,
    Configuration,
}

impl ApiServer {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), version: watch::Sender::new(1) })
    }

    pub fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        kube::Client::new(service, "argosy")
    }

    pub fn get(&self, kind: Kind) -> Option<Value> {
        self.state.lock().unwrap().slot(kind).clone()
    }

    /// Changes an object as another client would; `None` deletes it.
    pub fn set(&self, kind: Kind, object: Option<Value>) {
        self.change(&mut self.state.lock().unwrap(), kind, object);
    }

    pub fn writes(&self, method: &Method, kind: Kind) -> usize {
        self.state.lock().unwrap().writes.iter().filter(|write| **write == (method.clone(), kind)).count()
    }

    fn change(&self, state: &mut State, kind: Kind, object: Option<Value>) -> Value {
        let version = *self.version.borrow() + 1;
        let event = match (&object, state.slot(kind)) {
            (Some(_), None) => "ADDED",
            (Some(_), Some(_)) => "MODIFIED",
            (None, _) => "DELETED",
        };
        let mut now = object.clone().or_else(|| state.slot(kind).clone()).unwrap_or_default();
        now["metadata"]["resourceVersion"] = json!(version.to_string());
        *state.slot(kind) = object.map(|_| now.clone());
        state.events.push((version, kind, event, now.clone()));
        self.version.send_replace(version);
        now
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let kind = if path.contains("secrets") { Kind::Secret } else { Kind::Configuration };
        let is_list = path.ends_with("secrets") || path.ends_with("configurations");
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("watch=true") {
            return self.watch(kind, query).await;
        }
        let body = body.collect_bytes().await.unwrap();
        let mut state = self.state.lock().unwrap();
        let present = state.slot(kind).clone();
        if parts.method == Method::GET {
            return match (is_list, present) {
                (true, present) => {
                    let version = self.version.borrow().to_string();
                    let items: Vec<Value> = present.into_iter().collect();
                    respond(200, &json!({"metadata": {"resourceVersion": version}, "items": items}))
                }
                (false, Some(object)) => respond(200, &object),
                (false, None) => fail(404),
            };
        }
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let next = match (&parts.method, present) {
            (&Method::POST, Some(_)) => return fail(409),
            (&Method::POST, None) => sent,
            (_, None) => return fail(404),
            (_, Some(object)) if sent["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => {
                return fail(409);
            }
            (&Method::PUT, Some(_)) => sent,
            (_, Some(object)) => merged(object, &sent),
        };
        state.writes.push((parts.method, kind));
        let written = self.change(&mut state, kind, Some(next));
        respond(200, &written)
    }

    /// Waits for events after a version, and ends with them: clients come back for more.
    async fn watch(&self, kind: Kind, query: &str) -> Response<Body> {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).unwrap();
        let since: u64 = since.parse().unwrap();
        let mut changes = self.version.subscribe();
        loop {
            changes.borrow_and_update();
            let lines: Vec<String> = {
                let state = self.state.lock().unwrap();
                let new = state.events.iter().filter(|(version, of, ..)| *version > since && *of == kind);
                new.map(|(_, _, event, object)| json!({"type": event, "object": object}).to_string() + "\n").collect()
            };
            if !lines.is_empty() {
                return Response::new(Body::from(lines.concat().into_bytes()));
            }
            changes.changed().await.unwrap();
        }
    }
}

impl State {
    fn slot(&mut self, kind: Kind) -> &mut Option<Value> {
        match kind {
            Kind::Secret => &mut self.secret,
            Kind::Configuration => &mut self.configuration,
        }
    }
}

/// As much of a strategic merge as the keeper needs: webhooks go by name.
fn merged(mut object: Value, patch: &Value) -> Value {
    for change in patch["webhooks"].as_array().unwrap() {
        let webhooks = object["webhooks"].as_array_mut().unwrap();
        let webhook = webhooks.iter_mut().find(|webhook| webhook["name"] == change["name"]).unwrap();
        let changes: &Map<String, Value> = change["clientConfig"].as_object().unwrap();
        webhook["clientConfig"].as_object_mut().unwrap().extend(changes.clone());
    }
    object
}

fn fail(code: u16) -> Response<Body> {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no", "code": code,
                        "reason": if code == 409 { "Conflict" } else { "NotFound" }});
    respond(code, &status)
}

fn respond(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
