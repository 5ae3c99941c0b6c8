//! From the signal to the end.

use std::future::{Future, pending};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled at the first SIGTERM or SIGINT.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM: shutting down"),
            _ = int.recv() => tracing::info!("SIGINT: shutting down"),
        }
        shutdown.cancel();
    });
    Ok(token)
}

/// Runs a task that may end only after the shutdown, and then leaves the last word to the others. If it ends before,
/// this returns, and the process should end with it.
pub async fn essential<T>(task: impl Future<Output = T>, shutdown: &CancellationToken) -> T {
    let ended = task.await;
    if shutdown.is_cancelled() {
        pending::<()>().await;
    }
    ended
}
