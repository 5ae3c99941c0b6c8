//! What must be on the machine before a testbed can come up, told in one message; Debian packages are installed.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::database;
use crate::layout::Nodes;
use crate::process::{run, search_path};
use crate::progress::Progress;
use crate::slot::is_root;

/// The oldest Go that builds the pinned modules.
const GO: (u32, u32) = (1, 25);

/// What clusters with real nodes need: a program (or file) and the Debian package that has it.
const REAL: [(&str, &str); 10] = [
    ("containerd", "containerd"),
    // Not crun: Debian's refuses machines that mix cgroup v1 and v2.
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ipset", "ipset"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("docker-registry", "docker-registry"),
    ("busybox", "busybox-static"),
];

/// The Debian package with the database that keeps Argo's archive.
const POSTGRESQL: &str = "postgresql";

/// What keeps a database from this machine; `None`: it has one, or can have it.
pub fn no_database() -> Option<String> {
    let has_programs = database::programs().is_some() || (is_root() && locate("apt-get").is_some());
    if !has_programs {
        return Some(format!("no PostgreSQL, and nobody who may install it (Debian package {POSTGRESQL}, as root)"));
    }
    database::own_address().err().map(|error| format!("{error:#}"))
}

/// The kind of nodes to take when the user names none: real ones where this machine can have them.
pub fn possible_nodes() -> Nodes {
    if is_root() && cfg!(target_os = "linux") && (missing(&REAL).is_empty() || locate("apt-get").is_some()) {
        Nodes::Real
    } else {
        Nodes::Played
    }
}

/// Checks everything, and installs the Debian packages that real nodes, and a database, need.
///
/// # Errors
/// Something is missing that cannot be installed; one message names all of it and what to do.
pub async fn ensure(nodes: Nodes, with_database: bool, progress: &Progress) -> Result<()> {
    let mut problems = Vec::new();
    if with_database && database::programs().is_none() {
        if is_root() && locate("apt-get").is_some() {
            let step = progress.step(format!("installing the Debian package {POSTGRESQL}"));
            install(&[POSTGRESQL]).await?;
            step.done("");
        }
        problems.extend(no_database());
    }
    if !cfg!(target_os = "linux") {
        problems.push("Linux: a testbed runs on nothing else".to_owned());
    }
    if locate("setsid").is_none() {
        problems.push("the program `setsid` (Debian package util-linux)".to_owned());
    }
    if nodes == Nodes::Real {
        if is_root() {
            problems.extend(ensure_packages(progress).await?);
        } else {
            problems.push(
                "root: clusters with real nodes make network namespaces and containers; run this as root (sudo), \
                 or take `--nodes played`, which any user can"
                    .to_owned(),
            );
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks what a testbed with {nodes} nodes needs:\n  - {}", problems.join("\n  - "))
}

/// Installs what is missing; answers what is missing even so.
async fn ensure_packages(progress: &Progress) -> Result<Vec<String>> {
    let packages = missing(&REAL);
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    if locate("apt-get").is_some() {
        let step = progress.step(format!("installing the Debian packages {}", packages.join(" ")));
        let outcome = install(&packages).await;
        let left = missing(&REAL);
        if left.is_empty() {
            step.done("");
            return Ok(Vec::new());
        }
        if let Err(error) = outcome {
            return Err(error.context(format!("installing the Debian packages {}", left.join(" "))));
        }
    }
    let left = missing(&REAL).into_iter();
    Ok(left
        .map(|package| {
            let needs = REAL.iter().filter(|(_, of)| *of == package).map(|(program, _)| *program).collect::<Vec<_>>();
            format!("{} (Debian package {package}; install it)", needs.join(", "))
        })
        .collect())
}

async fn install(packages: &[&str]) -> Result<()> {
    let mut args = vec!["-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends"];
    args.extend(packages);
    if apt(&args).await.is_ok() {
        return Ok(());
    }
    // A new machine has no lists of packages yet, or old ones.
    apt(&["update"]).await?;
    apt(&args).await
}

async fn apt(args: &[&str]) -> Result<()> {
    let output = tokio::process::Command::new("apt-get")
        .args(args)
        .env("PATH", search_path())
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Some of the packages bring services; the testbed starts its own.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .output()
        .await
        .context("starting apt-get")?;
    if !output.status.success() {
        bail!("`apt-get {}` failed:\n{}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The packages of what is not there.
fn missing(needs: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        needs.iter().filter(|(program, _)| locate(program).is_none()).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// A program on PATH or in Debian's folders for system programs; an absolute path is taken as it is.
pub fn locate(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    std::env::split_paths(&search_path()).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// As [`locate`].
///
/// # Errors
/// It is not there.
pub fn require(program: &str) -> Result<PathBuf> {
    locate(program).with_context(|| format!("the program {program} is not on PATH"))
}

/// Go, for building programs that are not in the cache.
///
/// # Errors
/// It is missing or too old; with what to do.
pub async fn go() -> Result<()> {
    let advice = format!(
        "Go {}.{} or newer is needed to build the clusters' programs (once; they are kept in a cache). \
         Install it and put `go` on PATH, or put the programs themselves on PATH or in KUBEBUILDER_ASSETS",
        GO.0, GO.1
    );
    if locate("go").is_none() {
        bail!("no `go` on PATH: {advice}");
    }
    let version = run("go", &["env", "GOVERSION"]).await.context("asking Go for its version")?;
    match parse_go(&version) {
        Some(found) if found < GO => bail!("{} is too old: {advice}", version.trim()),
        _ => Ok(()),
    }
}

/// `go1.26.8` as (1, 26); development versions as `None`.
fn parse_go(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().strip_prefix("go")?.split(['.', 'r', 'b']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_go;

    #[test]
    fn go_versions() {
        let cases = [
            ("go1.26.8\n", Some((1, 26))),
            ("go1.25rc1", Some((1, 25))),
            ("go1.9", Some((1, 9))),
            ("devel +abc", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_go(text), expected, "{text}");
        }
    }
}
