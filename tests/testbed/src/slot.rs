//! Slots: which of 100 address ranges a testbed has for its own, so that several run side by side on one machine.
//!
//! A slot is a file in a folder that all testbeds of a user share; it names the testbed's folder. `down` frees it; one
//! whose testbed is gone is taken over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::layout::{self, Layout};
use crate::process;

/// How many testbeds fit on one machine.
const SLOTS: u8 = 100;

/// The folder for sockets and other things that need a short path or must not outlive a boot: `/run/argosy-testbed` for
/// root, a folder of the user's own otherwise.
pub fn runtime_dir() -> PathBuf {
    if is_root() {
        return PathBuf::from("/run/argosy-testbed");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        Some(dir) => dir.join("argosy-testbed"),
        None => std::env::temp_dir().join(format!("argosy-testbed-{}", rustix::process::geteuid().as_raw())),
    }
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The short folder of one cluster for sockets.
pub fn run_dir(slot: u8, cluster: &str) -> PathBuf {
    runtime_dir().join(slot.to_string()).join(cluster)
}

/// The slot of `layout`'s testbed: the one it has, or a free one from now on.
///
/// # Errors
/// All slots are taken, or the folder cannot be written.
pub fn acquire(layout: &Layout) -> Result<u8> {
    let folder = folder()?;
    // Held while choosing only; a killed run leaves the slot's file, by which `find` recognises it.
    let _lock = lock(&folder)?;
    let taken = taken(&folder)?;
    if let Some((slot, _)) = taken.iter().find(|(_, dir)| dir.as_path() == layout.dir()) {
        return Ok(*slot);
    }
    let routes = routes();
    let free = (0..SLOTS).find(|slot| match taken.get(slot) {
        Some(dir) => is_abandoned(dir),
        None => !routes.iter().any(|route| overlaps(route, *slot)),
    });
    let Some(slot) = free else {
        bail!("all {SLOTS} slots for testbeds are taken (see {}); end some with `testbed down`", folder.display())
    };
    layout::write_file(&folder.join(slot.to_string()), layout.dir().as_os_str().as_encoded_bytes(), 0o600)?;
    Ok(slot)
}

/// The slots that `layout`'s testbed has, usually one or none.
///
/// # Errors
/// The folder of slots cannot be read.
pub fn find(layout: &Layout) -> Result<Vec<u8>> {
    let taken = taken(&folder()?)?;
    Ok(taken.into_iter().filter(|(_, dir)| dir == layout.dir()).map(|(slot, _)| slot).collect())
}

/// Whether no testbed has the slot.
///
/// # Errors
/// The folder of slots cannot be read.
pub fn is_free(slot: u8) -> Result<bool> {
    Ok(!taken(&folder()?)?.contains_key(&slot))
}

/// Gives a slot back.
///
/// # Errors
/// The slot's file cannot be removed.
pub fn release(slot: u8) -> Result<()> {
    let path = folder()?.join(slot.to_string());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn folder() -> Result<PathBuf> {
    let folder = runtime_dir().join("slots");
    layout::create_private_dir(&folder)?;
    Ok(folder)
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.lock().with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

fn taken(folder: &Path) -> Result<BTreeMap<u8, PathBuf>> {
    let mut taken = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?.flatten() {
        if let Some(slot) = entry.file_name().to_str().and_then(|name| name.parse::<u8>().ok())
            && let Ok(dir) = fs::read_to_string(entry.path())
        {
            taken.insert(slot, PathBuf::from(dir));
        }
    }
    Ok(taken)
}

/// Its folder went away (a deleted checkout) and nothing of it runs.
fn is_abandoned(dir: &Path) -> bool {
    !dir.exists() && process::find(dir).is_empty()
}

/// The destinations in the machine's routing table, as `10.1.0.0/16` or `10.1.2.3`.
fn routes() -> Vec<String> {
    let output = std::process::Command::new("ip").args(["-4", "route", "show", "table", "all"]).output();
    let Ok(output) = output else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())))
        .map(str::to_owned)
        .collect()
}

/// Whether a route leads into 10.(100+slot).0.0/16, or contains it. The default route (/0) and the like do not count.
fn overlaps(route: &str, slot: u8) -> bool {
    let (address, length) = route.split_once('/').unwrap_or((route, "32"));
    let (Ok(address), Ok(length)) = (address.parse::<Ipv4Addr>(), length.parse::<u32>()) else { return false };
    if length <= 8 {
        // A whole 10.0.0.0/8 is somebody's VPN; more specific routes of ours go first.
        return false;
    }
    let ours = Ipv4Addr::new(10, 100 + slot, 0, 0).to_bits();
    let shift = 32 - length.min(16);
    address.to_bits() >> shift == ours >> shift
}

#[cfg(test)]
mod tests {
    use super::overlaps;

    #[test]
    fn routes_of_others_are_kept_clear_of() {
        let cases = [
            ("10.100.0.0/24", 0, true),
            ("10.100.17.3", 0, true),
            ("10.101.0.0/16", 0, false),
            ("10.96.0.0/12", 0, true),
            ("10.96.0.0/12", 12, false),
            ("10.0.0.0/8", 3, false),
            ("192.168.0.0/16", 3, false),
            ("default", 3, false),
        ];
        for (route, slot, expected) in cases {
            assert_eq!(overlaps(route, slot), expected, "{route} {slot}");
        }
    }
}
