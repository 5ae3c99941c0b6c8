//! Building a tool from its pinned Go module into the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Tool;
use crate::layout::Layout;
use crate::prerequisites;
use crate::process::search_path;
use crate::progress::{Progress, Step};

const ARGO_MODULE: &str = "github.com/argoproj/argo-workflows/v3";

/// A tool's pinned module.
pub(super) struct Source<'a> {
    tool: &'a Tool,
    module: Vec<u8>,
    sums: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(super) fn read(layout: &Layout, tool: &'a Tool) -> Result<Self> {
        let folder = layout.workspace().join("tests/testbed/tools").join(tool.name);
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        Ok(Self { tool, module: read("go.mod")?, sums: read("go.sum")? })
    }

    /// `programs/TOOL-VERSION-HASH` in the cache; the hash covers everything that makes a difference to the outcome.
    pub(super) fn cache_dir(&self, cache: &Path) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [&self.module, &self.sums, self.tool.ldflags().as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let short: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        cache.join("programs").join(format!("{}-{}-{short}", self.tool.name, self.tool.version))
    }

    /// Builds `programs` (name and package) into `dir`; waits where another testbed builds there, and takes its work.
    pub(super) async fn build(&self, dir: &Path, programs: &[(&str, &str)], progress: &Progress) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let step = progress.step(format!("building {} {}", self.tool.name, self.tool.version));
        let _lock = lock(dir, &step).await?;
        let missing: Vec<_> = programs.iter().filter(|(name, _)| !dir.join(name).exists()).copied().collect();
        let manifests = self.tool.name == "argo" && !dir.join("manifests").exists();
        if missing.is_empty() && !manifests {
            step.skip();
            return Ok(());
        }
        prerequisites::go().await?;
        let work = dir.join("build");
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
        }
        fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
        fs::write(work.join("go.mod"), &self.module)?;
        fs::write(work.join("go.sum"), &self.sums)?;
        if manifests {
            step.detail("fetching its manifests");
            let module = go(&work, &["mod", "download", "-json", ARGO_MODULE], &step).await?;
            let module: serde_json::Value = serde_json::from_str(&module).context("go mod download -json")?;
            let source = module["Dir"].as_str().context("go mod download -json: no Dir")?;
            copy_folder(&Path::new(source).join("manifests"), &work.join("manifests"))?;
            fs::rename(work.join("manifests"), dir.join("manifests"))?;
        }
        if !missing.is_empty() {
            self.compile(&work, &missing, &step).await?;
            // All are there before the first is moved, and each is moved whole.
            for (name, package) in &missing {
                let base = output_name(package);
                fs::rename(work.join("out").join(base), dir.join(name)).with_context(|| format!("moving {name}"))?;
            }
        }
        fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
        step.done(missing.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
        Ok(())
    }

    async fn compile(&self, work: &Path, programs: &[(&str, &str)], step: &Step) -> Result<()> {
        fs::create_dir_all(work.join("out"))?;
        let ldflags = self.tool.ldflags();
        let mut args = vec!["build", "-v", "-trimpath", "-ldflags", &ldflags, "-o", "out/"];
        if self.tool.name == "argo" {
            step.detail("fetching its modules");
            complete_argo(work, step).await?;
            args.extend(["-mod=vendor", "-overlay", "overlay.json"]);
        }
        args.extend(programs.iter().map(|(_, package)| *package));
        go(work, &args, step).await?;
        Ok(())
    }
}

/// The name that `go build` gives a program: the last part of its package that is no major version.
fn output_name(package: &str) -> &str {
    let is_version = |part: &str| part.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok());
    package.rsplit('/').find(|part| !is_version(part)).unwrap_or(package)
}

/// Argo's module lacks two files that its programs need: the user interface (no part of the module) and
/// `signal_linux.go` (upstream a symlink, which module archives leave out). An overlay may not touch Go's module cache,
/// so the build runs from a vendor folder.
async fn complete_argo(work: &Path, step: &Step) -> Result<()> {
    go(work, &["mod", "vendor", "-e"], step).await?;
    let module = work.join("vendor").join(ARGO_MODULE);
    let signals = module.join("workflow/executor/osspecific");
    let page = work.join("index.html");
    fs::write(&page, "<!doctype html><title>argo</title>The user interface is not part of the testbed.\n")?;
    let overlay = serde_json::json!({"Replace": {
        module.join("ui/dist/app/index.html").to_string_lossy(): page.to_string_lossy(),
        signals.join("signal_linux.go").to_string_lossy(): signals.join("signal_darwin.go").to_string_lossy(),
    }});
    fs::write(work.join("overlay.json"), overlay.to_string())?;
    Ok(())
}

/// Runs `go`, says on `step` what it is at, and answers its standard output.
async fn go(folder: &Path, args: &[&str], step: &Step) -> Result<String> {
    let mut child = tokio::process::Command::new("go")
        .args(args)
        .current_dir(folder)
        .env("PATH", search_path())
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-buildvcs=false")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting go")?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("go: its output cannot be read")
    };
    let printed = tokio::spawn(async move {
        let (mut text, mut lines) = (String::new(), BufReader::new(stdout).lines());
        while let Ok(Some(line)) = lines.next_line().await {
            text.push_str(&line);
            text.push('\n');
        }
        text
    });
    let (mut lines, mut last, mut packages) = (BufReader::new(stderr).lines(), Vec::new(), 0_u32);
    while let Some(line) = lines.next_line().await? {
        if let Some(module) = line.strip_prefix("go: downloading ") {
            step.detail(format!("downloading {module}"));
        } else if is_package(&line) {
            packages += 1;
            step.detail(format!("{packages} packages, {line}"));
        } else {
            last.push(line);
        }
    }
    let status = child.wait().await.context("waiting for go")?;
    if !status.success() {
        let said = last[last.len().saturating_sub(20)..].join("\n");
        bail!("`go {}` in {} failed ({status}):\n{said}", args.join(" "), folder.display());
    }
    Ok(printed.await.unwrap_or_default())
}

/// A line of `go build -v` is a package's path and nothing else.
fn is_package(line: &str) -> bool {
    !line.is_empty() && !line.contains([' ', ':', '#', '\t'])
}

async fn lock(dir: &Path, step: &Step) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    step.detail("another testbed builds it; waiting");
    tokio::task::spawn_blocking(move || file.lock().map(|()| file))
        .await
        .context("waiting for a lock")?
        .with_context(|| format!("locking {}", path.display()))
}

/// Copies what is regular; a module's files are read-only, the copies are not.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::write(&target, fs::read(entry.path())?).with_context(|| format!("writing {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{is_package, output_name};

    #[test]
    fn programs_are_named_as_go_names_them() {
        assert_eq!(output_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(output_name("helm.sh/helm/v3/cmd/helm"), "helm");
    }

    #[test]
    fn packages_are_told_from_messages() {
        assert!(is_package("k8s.io/kubernetes/cmd/kubelet"));
        assert!(!is_package("go: finding module"));
        assert!(!is_package("# k8s.io/kubernetes/cmd/kubelet"));
    }
}
