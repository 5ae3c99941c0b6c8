//! The `testbed` program: see `testbed --help`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    testbed::cli::main().await
}
