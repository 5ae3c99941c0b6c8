//! `argosy-webhook`: decides at a workflow's creation where it runs.

use argosy_webhook::Args;
use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    argosy_webhook::run(Args::parse()).await
}
