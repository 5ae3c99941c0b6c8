//! The syncer's program.

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    argosy_syncer::run(argosy_syncer::Args::parse()).await
}
