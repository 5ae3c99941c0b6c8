//! Programs of this workspace, built by cargo.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::Layout;

/// Builds programs of this workspace in release mode, each given as (package, program), and says where they are, in the
/// same order.
///
/// # Errors
/// What cargo says.
pub async fn build(layout: &Layout, programs: &[(&str, &str)]) -> Result<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let wanted = programs.iter().flat_map(|(package, program)| ["--package", package, "--bin", program]);
    let output = tokio::process::Command::new(&cargo)
        .args(["build", "--release", "--message-format=json-render-diagnostics"])
        .args(wanted)
        // Selected for its features alone: with them the crates are those that this very program was built with, and not
        // built once more.
        .args(["--package", env!("CARGO_PKG_NAME")])
        .current_dir(layout.workspace())
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("starting {}", cargo.display()))?;
    ensure!(output.status.success(), "cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<serde_json::Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let built = |program: &str| {
        let made = messages.iter().filter(|message| message["target"]["name"] == program);
        let mut paths = made.filter_map(|message| message["executable"].as_str());
        paths.next_back().map(PathBuf::from).with_context(|| format!("cargo did not say where it put {program}"))
    };
    programs.iter().map(|(_, program)| built(program)).collect()
}
