//! `kubectl argosy`: see `kubectl argosy --help`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    argosy_cli::main().await
}
