//! The programs of Kubernetes, etcd, Argo Workflows, Helm and an S3 server that a testbed runs: built once from pinned Go
//! modules into a cache, or found on this machine in a fitting version.

mod build;
mod find;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::artifacts;
use crate::layout::{Layout, Nodes};
use crate::progress::Progress;

/// Programs that come from one Go module, at one version.
#[derive(Debug)]
pub struct Tool {
    /// Its name, and the folder of its pinned module under `tools/`.
    pub name: &'static str,
    /// Its version, without `v`.
    pub version: &'static str,
    /// Its programs: name and Go package.
    pub programs: &'static [(&'static str, &'static str)],
    /// The variable that holds the version in its programs, so that they tell the truth about themselves.
    version_variables: &'static [(&'static str, &'static str)],
}

const COMPONENT_BASE: &str = "k8s.io/component-base/version.";

/// All tools. Their versions are those of `tools/*/go.mod`.
pub const TOOLS: [Tool; 5] = [
    Tool { name: "etcd", version: "3.6.6", programs: &[("etcd", "go.etcd.io/etcd/server/v3")], version_variables: &[] },
    Tool {
        name: "kubernetes",
        version: "1.34.4",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
        version_variables: &[
            ("gitVersion", "v1.34.4"),
            ("gitMajor", "1"),
            ("gitMinor", "34"),
            ("gitTreeState", "clean"),
        ],
    },
    Tool {
        name: "argo",
        version: "3.7.4",
        programs: &[
            ("workflow-controller", "github.com/argoproj/argo-workflows/v3/cmd/workflow-controller"),
            ("argoexec", "github.com/argoproj/argo-workflows/v3/cmd/argoexec"),
            ("argo", "github.com/argoproj/argo-workflows/v3/cmd/argo"),
        ],
        version_variables: &[("github.com/argoproj/argo-workflows/v3.version", "v3.7.4")],
    },
    Tool {
        name: "helm",
        version: "3.22.0",
        programs: &[("helm", "helm.sh/helm/v3/cmd/helm")],
        version_variables: &[("helm.sh/helm/v3/internal/version.version", "v3.22.0")],
    },
    Tool {
        name: artifacts::PROGRAM,
        version: "1.8.0",
        programs: &[(artifacts::PROGRAM, "github.com/versity/versitygw/cmd/versitygw")],
        version_variables: &[("main.Version", "v1.8.0")],
    },
];

/// For what kind of testbed.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    pub nodes: Nodes,
    /// Whether there is a place for artifacts.
    pub artifacts: bool,
}

/// What only clusters with real nodes need.
const REAL_ONLY: [&str; 4] = ["kube-scheduler", "kube-proxy", "kubelet", "argoexec"];

impl Needs {
    fn include(self, program: &str) -> bool {
        match program {
            artifacts::PROGRAM => self.artifacts,
            other => self.nodes == Nodes::Real || !REAL_ONLY.contains(&other),
        }
    }
}

impl Tool {
    /// `-ldflags`: no symbols, and the version.
    fn ldflags(&self) -> String {
        let mut flags = String::from("-s -w");
        for (variable, value) in self.version_variables {
            let package = if variable.contains('.') { "" } else { COMPONENT_BASE };
            flags.push_str(&format!(" -X {package}{variable}={value}"));
        }
        flags
    }
}

/// Where each program is.
#[derive(Debug, Clone)]
pub struct Programs {
    paths: BTreeMap<&'static str, PathBuf>,
    argo_manifests: PathBuf,
}

impl Programs {
    /// Everything that such a testbed needs, built where it is missing, and reachable in [`Layout::bin`].
    ///
    /// # Errors
    /// Go is missing or too old while something must be built; or a build fails.
    pub async fn prepare(layout: &Layout, needs: Needs, progress: &Progress) -> Result<Self> {
        let cache = cache_dir()?;
        let mut paths = BTreeMap::new();
        let mut argo_manifests = PathBuf::new();
        for tool in &TOOLS {
            let source = build::Source::read(layout, tool)?;
            let dir = source.cache_dir(&cache);
            let mut missing = Vec::new();
            for (name, package) in tool.programs {
                if !needs.include(name) {
                    continue;
                }
                let built = dir.join(name);
                if built.exists() {
                    paths.insert(*name, built);
                } else if let Some(found) = find::find(name, tool.version, layout).await {
                    progress.note(format!("using {} ({} {})", found.path.display(), name, found.version));
                    paths.insert(*name, found.path);
                } else {
                    missing.push((*name, *package));
                    paths.insert(*name, built);
                }
            }
            if tool.name == "argo" {
                argo_manifests = dir.join("manifests");
            }
            if !missing.is_empty() || (tool.name == "argo" && !argo_manifests.exists()) {
                source.build(&dir, &missing, progress).await?;
            }
        }
        let programs = Self { paths, argo_manifests };
        programs.link(&layout.bin())?;
        Ok(programs)
    }

    /// The path of a program.
    ///
    /// # Errors
    /// It is none that this testbed needs.
    pub fn path(&self, name: &str) -> Result<&Path> {
        match self.paths.get(name) {
            Some(path) => Ok(path),
            None => bail!("the program {name} is not among those that were prepared for this testbed"),
        }
    }

    /// The folder `manifests` of the Argo Workflows module: CRDs in `base/crds/{minimal,full}`, RBAC, and so on.
    pub fn argo_manifests(&self) -> &Path {
        &self.argo_manifests
    }

    /// Makes the programs reachable under their names in one folder.
    fn link(&self, bin: &Path) -> Result<()> {
        fs::create_dir_all(bin).with_context(|| format!("creating {}", bin.display()))?;
        self.paths.iter().try_for_each(|(name, path)| link(name, path, bin))
    }
}

/// Makes a program reachable under a name in a folder.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn link(name: &str, path: &Path, bin: &Path) -> Result<()> {
    let link = bin.join(name);
    if fs::read_link(&link).is_ok_and(|target| target == *path) {
        return Ok(());
    }
    let temporary = bin.join(format!(".{name}.{}", std::process::id()));
    let place = || -> std::io::Result<()> {
        let _ = fs::remove_file(&temporary);
        std::os::unix::fs::symlink(path, &temporary)?;
        fs::rename(&temporary, &link)
    };
    place().with_context(|| format!("linking {} to {}", link.display(), path.display()))
}

/// The folder for what is built once and used by every testbed of this user: `$ARGOSY_CACHE`, `$XDG_CACHE_HOME/argosy`,
/// or `~/.cache/argosy`.
///
/// # Errors
/// None of these variables nor HOME is set.
pub fn cache_dir() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = var("ARGOSY_CACHE") {
        return std::path::absolute(&dir).with_context(|| format!("ARGOSY_CACHE={}", dir.display()));
    }
    if let Some(dir) = var("XDG_CACHE_HOME") {
        return Ok(dir.join("argosy"));
    }
    match var("HOME") {
        Some(home) => Ok(home.join(".cache/argosy")),
        None => bail!("no place for the programs' cache: set ARGOSY_CACHE to a folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_versions_are_those_of_the_go_modules() {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
        let modules = [
            ("etcd", "go.etcd.io/etcd/server/v3 v3.6.6"),
            ("kubernetes", "k8s.io/kubernetes v1.34.4"),
            ("argo", "github.com/argoproj/argo-workflows/v3 v3.7.4"),
            ("helm", "helm.sh/helm/v3 v3.22.0"),
            ("versitygw", "github.com/versity/versitygw v1.8.0"),
        ];
        for (tool, (name, requirement)) in TOOLS.iter().zip(modules) {
            assert_eq!(tool.name, name);
            assert!(requirement.ends_with(&format!("v{}", tool.version)), "{requirement}");
            let module = fs::read_to_string(tools.join(name).join("go.mod")).unwrap();
            assert!(module.contains(requirement), "{name}/go.mod does not require {requirement}");
        }
    }

    #[test]
    fn ldflags_name_the_version() {
        let kubernetes = TOOLS[1].ldflags();
        assert!(
            kubernetes.starts_with("-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 -X "),
            "{kubernetes}"
        );
        assert_eq!(TOOLS[3].ldflags(), "-s -w -X helm.sh/helm/v3/internal/version.version=v3.22.0");
        assert_eq!(TOOLS[0].ldflags(), "-s -w");
        assert_eq!(TOOLS[4].ldflags(), "-s -w -X main.Version=v1.8.0");
    }
}
