//! The cgroups below which a kubelet puts its pods, on machines with cgroup v1 (also mixed with v2) and with v2.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use rustix::process::Signal;

use crate::process::kill;

const ROOT: &str = "/sys/fs/cgroup";

/// Controllers that kubelet and runc want, as v2 names them.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// The roots of all hierarchies: one per controller with v1, one with v2.
fn roots() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if is_v2() {
        return vec![root.to_owned()];
    }
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    // Links such as cpu -> cpu,cpuacct lead to the same hierarchy again.
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Makes the cgroup `name` in every hierarchy.
pub(super) fn ensure(name: &str) -> Result<()> {
    if is_v2() {
        let root = Path::new(ROOT);
        enable_controllers(root)?;
        let dir = root.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        return enable_controllers(&dir);
    }
    for root in roots() {
        let dir = root.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        // A cpuset without CPUs and memory nodes takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read_to_string(root.join(file))
                && fs::read_to_string(dir.join(file)).is_ok_and(|own| own.trim().is_empty())
            {
                fs::write(dir.join(file), all.trim())
                    .with_context(|| format!("setting {file} of {}", dir.display()))?;
            }
        }
    }
    Ok(())
}

/// Hands the controllers on to the cgroups below `dir` (v2).
fn enable_controllers(dir: &Path) -> Result<()> {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let control = dir.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control).unwrap_or_default();
    for controller in available.split_whitespace().filter(|name| CONTROLLERS.contains(name)) {
        if !enabled.split_whitespace().any(|name| name == controller) {
            fs::write(&control, format!("+{controller}")).with_context(|| {
                format!(
                    "enabling the cgroup controller {controller} in {} (in a container: its processes must be in a \
                     cgroup below the root for that)",
                    control.display()
                )
            })?;
        }
    }
    Ok(())
}

/// Kills everything in the cgroups whose name begins with `prefix` and removes them. Answers how many processes there
/// were.
pub(super) async fn remove(prefix: &str) -> usize {
    let mut killed = 0;
    // Removing fails while killed processes are still on their way out.
    for _ in 0..50 {
        let cgroups = matching(prefix);
        if cgroups.is_empty() {
            break;
        }
        for cgroup in &cgroups {
            for dir in below(cgroup) {
                for pid in processes(&dir) {
                    kill(pid, Signal::KILL);
                    killed += 1;
                }
                let _ = fs::remove_dir(&dir);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    killed
}

/// Whether there are cgroups whose name begins with `prefix`.
pub(super) fn matching(prefix: &str) -> Vec<PathBuf> {
    let tops = roots().into_iter().filter_map(|root| fs::read_dir(root).ok());
    tops.flat_map(|entries| entries.flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

/// The folder and all below it, deepest first.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            all.extend(below(&entry.path()));
        }
    }
    all.push(dir.to_owned());
    all
}

fn processes(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
