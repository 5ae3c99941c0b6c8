//! Taking real clusters away, also what a killed run left of them. Looks at what is there, not at what should be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use super::address::{bridge, data_dir, netns_prefix};
use super::{cgroups, network, node};
use crate::slot::runtime_dir;

/// Where CNI's library remembers what it did, by network name.
const CNI_RESULTS: &str = "/var/lib/cni/results";

/// Removes containers' processes, mounts, cgroups, network and data of the testbed in `slot`. Its daemons must have
/// ended. Answers whether there was anything.
///
/// # Errors
/// Something does not go away; with its name.
pub(crate) async fn remove(slot: u8) -> Result<bool> {
    let prefix = netns_prefix(slot);
    let (data, run) = (data_dir(slot), runtime_dir().join(slot.to_string()));
    let netns = names_in(Path::new("/run/netns"), &prefix);
    let links = names_in(Path::new("/sys/class/net"), &format!("{}v", bridge(slot)));
    let anything = !netns.is_empty()
        || network::link_exists(&bridge(slot))
        || data.exists()
        || run.exists()
        || !cgroups::matching(&prefix).is_empty();
    cgroups::remove(&prefix).await;
    let shim_sockets = shim_sockets(&run);
    for _ in 0..3 {
        // A mount may hide another one at the same place.
        for mount in mounts_below(&[&data, &run]) {
            let _ = unmount(&mount, UnmountFlags::DETACH);
        }
    }
    network::remove(slot, &netns, &links).await.context("taking the clusters' network away")?;
    node::remove_log_links(&data);
    let loopbacks = sandboxes(&data).into_iter().map(|id| format!("cni-loopback-{id}-lo"));
    for name in names_in(Path::new(CNI_RESULTS), &prefix).into_iter().chain(loopbacks) {
        let _ = fs::remove_file(Path::new(CNI_RESULTS).join(name));
    }
    for socket in shim_sockets {
        let _ = fs::remove_file(socket);
    }
    // Never delete through a mount: what is behind it may be the host's own folder.
    if let Some(mount) = mounts_below(&[&data, &run]).first() {
        bail!("{} is still mounted; unmount it (`umount -l`) and run `testbed down` again", mount.display());
    }
    for dir in [data, run] {
        remove_dir(&dir)?;
    }
    Ok(anything)
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn names_in(folder: &Path, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Mount points below the folders, the latest first.
fn mounts_below(folders: &[&Path]) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|point| folders.iter().any(|folder| point.starts_with(folder)))
        .collect();
    mounts.reverse();
    mounts
}

/// The kernel writes blanks and backslashes in paths as octal numbers.
fn unescape(path: &str) -> PathBuf {
    PathBuf::from(path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

/// The IDs of all pods' sandboxes that the clusters' containerds know.
fn sandboxes(data: &Path) -> Vec<String> {
    let Ok(clusters) = fs::read_dir(data) else { return Vec::new() };
    let folders = clusters.flatten().map(|dir| dir.path().join("containerd/io.containerd.grpc.v1.cri/sandboxes"));
    folders.flat_map(|folder| names_in(&folder, "")).collect()
}

/// containerd's shims listen on sockets outside of its own folders, and name them in a file inside.
fn shim_sockets(run: &Path) -> Vec<PathBuf> {
    let mut sockets = Vec::new();
    let Ok(clusters) = fs::read_dir(run) else { return sockets };
    for cluster in clusters.flatten() {
        let tasks = cluster.path().join("containerd/io.containerd.runtime.v2.task/k8s.io");
        let Ok(tasks) = fs::read_dir(tasks) else { continue };
        for task in tasks.flatten() {
            if let Ok(address) = fs::read_to_string(task.path().join("address"))
                && let Some(path) = address.trim().strip_prefix("unix://")
            {
                sockets.push(PathBuf::from(path));
            }
        }
    }
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_escapes_are_undone() {
        assert_eq!(unescape("/a\\040b/c\\134d"), PathBuf::from("/a b/c\\d"));
    }
}
