//! Programs that the machine has already: in `KUBEBUILDER_ASSETS`, or on PATH.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::layout::Layout;
use crate::process::search_path;

/// A program in a fitting version.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) version: String,
}

/// Looks for a program whose major and minor version are those of `pinned`.
pub(super) async fn find(name: &str, pinned: &str, layout: &Layout) -> Option<Found> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let path = search_path();
    let folders = assets.into_iter().chain(std::env::split_paths(&path));
    // The testbed's own folder of links is on PATH after `testbed env`; what it links to is not found, but built.
    let own = layout.workspace().join("target");
    for folder in folders.filter(|folder| !folder.starts_with(&own)) {
        let path = folder.join(name);
        if path.is_file()
            && let Some(version) = version_of(name, &path).await
            && fits(&version, pinned)
        {
            return Some(Found { path, version });
        }
    }
    None
}

async fn version_of(name: &str, path: &Path) -> Option<String> {
    let args: &[&str] = match name {
        "kubectl" => &["version", "--client"],
        "helm" | "argo" | "argoexec" | "workflow-controller" => &["version", "--short"],
        _ => &["--version"],
    };
    let asked = tokio::process::Command::new(path).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(10), asked).await.ok()?.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// The first word that looks like `v1.34.4` or `3.6.6`.
fn parse_version(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || c == ',' || c == '"').find_map(|word| {
        let version = word.trim_start_matches('v');
        let mut parts = version.split('.');
        let number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
        (number(parts.next()) && number(parts.next()) && parts.next().is_some()).then(|| version.to_owned())
    })
}

fn fits(version: &str, pinned: &str) -> bool {
    let minor = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    minor(version) == minor(pinned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        let cases = [
            ("Kubernetes v1.34.4\n", Some("1.34.4")),
            ("etcd Version: 3.6.6\nGit SHA: abc\nGo Version: go1.25.1\n", Some("3.6.6")),
            ("Client Version: v1.34.1\nKustomize Version: v5.7.1\n", Some("1.34.1")),
            ("v3.22.0+g1234\n", Some("3.22.0+g1234")),
            ("argo: v3.7.4\n", Some("3.7.4")),
            ("unknown", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_version(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_fitting_version_has_the_same_minor() {
        assert!(fits("1.34.1", "1.34.4"));
        assert!(!fits("1.33.4", "1.34.4"));
        assert!(!fits("1.3.4", "1.34.4"));
    }
}
