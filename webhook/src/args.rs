//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use argosy_runtime::admin::AdminArgs;
use argosy_runtime::client::ClientArgs;
use argosy_runtime::telemetry::LogArgs;
use clap::Parser;

use crate::peers::PeerArgs;

/// Argosy's mutating webhook: decides at a workflow's creation where it runs.
///
/// It runs in the control cluster, or as a plain process beside it (--kubeconfig, --listen, --tls-san) where the chart's
/// value `webhook.url` points at it.
#[derive(Debug, Parser)]
#[command(name = "argosy-webhook", version)]
pub struct Args {
    /// Address of the webhook itself (HTTPS)
    #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,

    /// Argosy's own namespace in the control cluster
    #[arg(long, env = "POD_NAMESPACE", default_value = "argosy", value_name = "NAME")]
    pub(crate) namespace: String,

    /// How long to go on answering after SIGTERM, while the API server learns that this replica is leaving
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) drain: Duration,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    pub(crate) peers: PeerArgs,
    #[command(flatten)]
    pub(crate) certs: argosy_certs::Args,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    #[command(flatten)]
    pub(crate) logs: LogArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn outside_of_the_cluster_four_options_do() {
        let args = ["argosy-webhook", "--kubeconfig=k", "--listen=127.0.0.1:9443", "--tls-san=127.0.0.1"];
        let Args { listen, namespace, .. } =
            Args::parse_from(args.into_iter().chain(["--admin-listen=127.0.0.1:9080", "--namespace=argosy"]));
        assert_eq!((listen.port(), namespace.as_str()), (9443, "argosy"));
    }
}
