//! Where everything of a testbed lies, and what is remembered of it between commands.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The name of a testbed when none is given.
pub const DEFAULT_NAME: &str = "default";
/// The name of the control cluster.
pub const CONTROL: &str = "control";

/// The name of the n-th workload execution cluster, counted from 1.
pub fn wec_name(number: u8) -> String {
    format!("cluster{number}")
}

/// What the clusters' nodes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Nodes {
    /// A kubelet and containerd per cluster, in a network namespace: pods run. Needs root on Linux.
    Real,
    /// A player in the kubelet's place runs pods through their phases. Any user.
    Played,
}

impl std::fmt::Display for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Nodes::Real => "real",
            Nodes::Played => "played",
        })
    }
}

/// The folders of one named testbed.
#[derive(Debug, Clone)]
pub struct Layout {
    workspace: PathBuf,
    name: String,
    dir: PathBuf,
}

impl Layout {
    /// The testbed called `name` of the checkout at `workspace_root`. Creates nothing.
    ///
    /// # Errors
    /// A name that is no DNS label of at most 30 characters.
    pub fn new(workspace_root: &Path, name: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            (1..=30).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('-') && !name.ends_with('-'),
            "testbed name {name:?}: expected 1 to 30 of a-z, 0-9 and '-', neither starting nor ending with '-'"
        );
        let workspace = workspace_root
            .canonicalize()
            .with_context(|| format!("finding the workspace folder {}", workspace_root.display()))?;
        let shared = workspace.join("target/testbed");
        let dir = if name == DEFAULT_NAME { shared } else { shared.join("named").join(name) };
        Ok(Self { workspace, name: name.to_owned(), dir })
    }

    /// The testbed called `name` of the checkout that this program was built from.
    ///
    /// # Errors
    /// As [`Layout::new`]; or that checkout is gone.
    pub fn of_this_checkout(name: &str) -> Result<Self> {
        Self::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), name)
    }

    /// The checkout's root folder.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// The testbed's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The testbed's own folder; absolute, and the marker by which its processes are recognised.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What one cluster keeps: certificates, etcd's data, daemons' settings.
    pub fn cluster_dir(&self, cluster: &str) -> PathBuf {
        self.dir.join("clusters").join(cluster)
    }

    /// The administrator's kubeconfig of one cluster.
    pub fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.dir.join("kubeconfig").join(format!("{cluster}.yaml"))
    }

    /// The folder with kubectl, argo, helm and the rest; shared by all testbeds of the checkout.
    pub fn bin(&self) -> PathBuf {
        self.workspace.join("target/testbed/bin")
    }

    /// Where daemons log: `CLUSTER/DAEMON.log`. Kept by `down`, emptied by the next `up`.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The saved [`State`].
    pub fn state_file(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Takes the testbed for one command at a time; the lock goes with the returned file, or the process.
    ///
    /// # Errors
    /// Another command works on this testbed right now, or the folder cannot be written.
    pub fn lock(&self) -> Result<File> {
        create_private_dir(&self.dir)?;
        let path = self.dir.join("lock");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        // A program that a killed command had just started may hold the lock for a moment longer.
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(fs::TryLockError::WouldBlock) => {
                    bail!("testbed {:?}: another `testbed` command is at work on it; wait for it or stop it", self.name)
                }
                Err(fs::TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("locking {}", path.display()));
                }
            }
        }
    }
}

/// Creates a folder, and what is missing above it, that only its owner may enter.
pub(crate) fn create_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("creating the folder {}", path.display()))
}

/// Writes a file by renaming, so that no reader and no killed run ever sees half of it. `mode` as for chmod.
pub(crate) fn write_file(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        // The mode is right before there is anything to read.
        fs::write(&temporary, b"")?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))?;
        fs::write(&temporary, content.as_ref())?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// What is remembered of a testbed between commands (`state.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What its nodes are made of.
    pub nodes: Nodes,
    /// How many workload execution clusters it has.
    pub wecs: u8,
    /// Its slot: which of the 100 address ranges is its own.
    pub slot: u8,
    /// Whether Argosy is installed in it.
    pub argosy: bool,
    /// Loopback ports of played clusters, by purpose.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Whether `up` came to its end.
    #[serde(default)]
    pub complete: bool,
}

impl State {
    /// The saved state, or `None` if the testbed is not up.
    ///
    /// # Errors
    /// The file is there, but cannot be read.
    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.state_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let state = serde_json::from_slice(&text).with_context(|| {
            format!("{}: not a testbed's state; `testbed down --name {}` clears it", path.display(), layout.name())
        })?;
        Ok(Some(state))
    }

    /// Saves it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        write_file(&layout.state_file(), serde_json::to_vec_pretty(self)?, 0o644)
    }

    /// The loopback port for `purpose` (such as `control/kube-apiserver`): the saved one, or a free one from now on.
    /// Ports lie below the range that the kernel hands out by itself. Call [`State::save`] afterwards.
    ///
    /// # Errors
    /// All ports of the testbed's slot are taken.
    pub fn port(&mut self, purpose: &str) -> Result<u16> {
        if let Some(port) = self.ports.get(purpose) {
            return Ok(*port);
        }
        let first = 20_000 + u16::from(self.slot) * 100;
        let free = (first..first + 100)
            .filter(|port| !self.ports.values().any(|taken| taken == port))
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        let Some(port) = free else { bail!("no free loopback port between {first} and {} for {purpose}", first + 99) };
        self.ports.insert(purpose.to_owned(), port);
        Ok(port)
    }

    /// The names of the testbed's clusters, the control cluster first.
    pub fn clusters(&self) -> Vec<String> {
        std::iter::once(CONTROL.to_owned()).chain((1..=self.wecs).map(wec_name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for good in ["default", "e2e-1", "a"] {
            assert!(Layout::new(root, good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "..", "a.b", &"a".repeat(31)] {
            assert!(Layout::new(root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_named_testbed_lies_beside_the_default_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
        let default = Layout::new(&root, DEFAULT_NAME).unwrap();
        let named = Layout::new(&root, "e2e").unwrap();
        assert_eq!(default.kubeconfig("cluster1"), root.join("target/testbed/kubeconfig/cluster1.yaml"));
        assert_eq!(named.dir(), root.join("target/testbed/named/e2e"));
        assert_eq!(named.bin(), default.bin());
    }

    #[test]
    fn a_port_is_given_once_and_kept() {
        let mut state =
            State { nodes: Nodes::Played, wecs: 2, slot: 97, argosy: false, ports: BTreeMap::new(), complete: false };
        let first = state.port("control/kube-apiserver").unwrap();
        let second = state.port("cluster1/kube-apiserver").unwrap();
        assert_ne!(first, second);
        assert_eq!(state.port("control/kube-apiserver").unwrap(), first);
        assert!((29_700..29_800).contains(&first));
        assert_eq!(state.clusters(), ["control", "cluster1", "cluster2"]);
    }
}
