//! The admin server: `/healthz`, `/readyz` and `/metrics`, over plain HTTP on a port of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// Where health and metrics are served.
#[derive(Clone, Debug, Args)]
pub struct AdminArgs {
    /// Address of /healthz, /readyz and /metrics
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    admin_listen: SocketAddr,
}

/// Why the process is not ready, or nothing if it is.
pub type Readiness = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

struct Shared {
    metrics: Registry,
    ready: Readiness,
}

impl AdminArgs {
    /// Binds the address.
    pub async fn bind(self) -> std::io::Result<TcpListener> {
        let Self { admin_listen } = self;
        TcpListener::bind(admin_listen).await
    }
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    metrics: Registry,
    ready: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(metrics, ready)).with_graceful_shutdown(shutdown).await
}

fn router(metrics: Registry, ready: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(encode))
        .with_state(Arc::new(Shared { metrics, ready }))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match (shared.ready)() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn encode(State(shared): State<Arc<Shared>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shared.metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
