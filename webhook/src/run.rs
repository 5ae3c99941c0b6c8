//! The process: everything that runs in it, started and ended in order.

use std::sync::Arc;

use anyhow::{Context, bail};
use argosy_certs::{Keeper, Kept};
use argosy_runtime::admin::{self, Readiness};
use argosy_runtime::known::Known;
use argosy_runtime::shutdown;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::server::{Server, router, serve};

/// Runs the webhook until SIGTERM. Whatever else ends it is an error.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { listen, namespace, drain, client, peers, certs, admin, logs } = args;
    logs.init()?;
    let stop = shutdown::on_signal().context("signals cannot be received")?;
    // Whatever answering needs goes on until the last request is answered.
    let end = CancellationToken::new();
    let listener = TcpListener::bind(listen).await.with_context(|| format!("--listen {listen} cannot be bound"))?;
    let admin = admin.bind().await.context("--admin-listen cannot be bound")?;
    let client = client.client().await?;
    tracing::info!(%listen, namespace, "webhook starts");

    let (known, watches) = Known::watch(client.clone(), end.clone());
    let (Kept { resolver, ready: certified, kin }, keeper) =
        Keeper::start(client.clone(), &namespace, certs, end.clone());
    let others = Peers::new(kin);
    let talks = others.clone().run(client.clone(), &namespace, peers);
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let server = Arc::new(Server::new(Arc::clone(&known), client, metrics, others));

    let stopping = stop.clone();
    let ready: Readiness = Arc::new(move || {
        if stopping.is_cancelled() {
            return Err("shutting down");
        }
        if !known.is_synced() {
            return Err("namespaces, policies and clusters are not known yet");
        }
        *certified.borrow()
    });
    let admin = admin::serve(admin, registry, ready, end.clone().cancelled_owned());
    let webhook = serve(listener, router(server), resolver, stop, drain);

    let ended = tokio::select! {
        served = webhook => served.context("the webhook could not be served"),
        served = admin => match served.context("health and metrics could not be served") {
            Ok(()) => bail!("health and metrics ended"),
            error => error,
        },
        () = watches => bail!("the watches of the control cluster ended"),
        () = talks => bail!("the watch of the webhook's other replicas ended"),
        () = keeper => bail!("the keeper of certificates ended"),
    };
    end.cancel();
    tracing::info!("webhook ends");
    ended
}
