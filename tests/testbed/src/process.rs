//! Daemons: started once, found again by a mark in their environment, and ended together.
//!
//! No pid files: a daemon carries its testbed's folder, its own name and a fingerprint of how it was started in its
//! environment, where `/proc` shows them. So what a killed run left behind is found as well as anything else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::layout::Layout;

/// Names the folder of the testbed that a process belongs to.
const TESTBED: &str = "ARGOSY_TESTBED";
/// `CLUSTER/DAEMON/FINGERPRINT`.
const DAEMON: &str = "ARGOSY_TESTBED_DAEMON";
/// A PATH that also a root without a login has `iptables` and `runc` in.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long daemons have to end by themselves before they are killed.
const GRACE: Duration = Duration::from_secs(5);

/// A daemon to be started.
#[derive(Debug, Clone)]
pub struct Daemon {
    testbed: PathBuf,
    logs: PathBuf,
    cluster: String,
    name: String,
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    netns: Option<String>,
}

/// A daemon that was started, now or earlier.
#[derive(Debug, Clone)]
pub struct Running {
    /// `CLUSTER/DAEMON`.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Where it writes what it has to say.
    pub log: PathBuf,
    /// Whether it was started just now.
    pub fresh: bool,
}

impl Daemon {
    /// The daemon `name` of `cluster` (for one that serves all clusters: any word that is no cluster's name).
    pub fn new(layout: &Layout, cluster: &str, name: &str, program: &Path) -> Self {
        Self {
            testbed: layout.dir().to_owned(),
            logs: layout.logs(),
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            netns: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. A daemon has no others but PATH, HOME and the marks.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Runs it in a network namespace; `None` is the machine's own.
    #[must_use]
    pub fn in_netns(mut self, netns: Option<&str>) -> Self {
        self.netns = netns.map(str::to_owned);
        self
    }

    /// Starts it, unless it runs already in just this way; one that runs in another way (other arguments, a newer
    /// program) is ended first. It outlives this process.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&self) -> Result<Running> {
        let label = format!("{}/{}", self.cluster, self.name);
        let log = self.logs.join(&self.cluster).join(format!("{}.log", self.name));
        let fingerprint = self.fingerprint()?;
        let same_name: Vec<_> =
            find(&self.testbed).into_iter().filter(|found| found.is(&self.cluster, &self.name)).collect();
        if let Some(found) = same_name.iter().find(|found| found.fingerprint == fingerprint) {
            return Ok(Running { name: label, pid: found.pid, log, fresh: false });
        }
        end(&same_name, GRACE);
        let mut command = Command::new("setsid");
        if let Some(netns) = &self.netns {
            // Not `ip netns exec`: that one remounts /sys, which hides the cgroups from the kubelet.
            command.arg("nsenter").arg(format!("--net=/run/netns/{netns}"));
        }
        command.arg(&self.program).args(&self.args);
        let (out, err) = log_file(&log)?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).current_dir(&self.testbed);
        command.env_clear().env("PATH", search_path()).envs(&self.env);
        command.env("HOME", std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
        command.env(TESTBED, &self.testbed).env(DAEMON, format!("{label}/{fingerprint}"));
        let mut child = command.spawn().with_context(|| format!("starting {label} ({})", self.program.display()))?;
        let pid = child.id();
        // Somebody has to collect the exit status, or a daemon that ends stays as a zombie of this process.
        std::thread::spawn(move || child.wait());
        Ok(Running { name: label, pid, log, fresh: true })
    }

    /// Changes with everything that makes a running daemon another one than this.
    fn fingerprint(&self) -> Result<String> {
        let program = fs::metadata(&self.program)
            .with_context(|| format!("{}/{}: the program {}", self.cluster, self.name, self.program.display()))?;
        let mut hasher = DefaultHasher::new();
        (&self.program, &self.args, &self.env, &self.netns).hash(&mut hasher);
        (program.len(), program.modified().ok()).hash(&mut hasher);
        Ok(format!("{:016x}", hasher.finish()))
    }
}

impl Running {
    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        is_alive(self.pid)
    }

    /// # Errors
    /// It has ended; with its log's last lines.
    pub fn ensure_alive(&self) -> Result<()> {
        if self.is_alive() {
            return Ok(());
        }
        bail!("{} ended unexpectedly; {}", self.name, self.last_words())
    }

    /// Waits for `work` that needs this daemon; ends at once if the daemon does.
    ///
    /// # Errors
    /// That of `work`; or the daemon has ended, with its log's last lines.
    pub async fn while_alive<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let ended = async {
            loop {
                self.ensure_alive()?;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        tokio::select! {
            done = work => done,
            ended = ended => ended,
        }
    }

    /// The log's path and last lines, for an error's text.
    pub fn last_words(&self) -> String {
        format!("the last lines of {}:\n{}", self.log.display(), tail(&self.log, 15))
    }
}

/// A process with the marks of a testbed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub pid: u32,
    /// The cluster it serves.
    pub cluster: String,
    /// The daemon that it is, or was started by.
    pub daemon: String,
    /// Whether it is that daemon, and not something the daemon started (which inherits the marks).
    pub itself: bool,
    fingerprint: String,
}

impl Found {
    fn is(&self, cluster: &str, daemon: &str) -> bool {
        self.itself && self.cluster == cluster && self.daemon == daemon
    }
}

/// All processes of the testbed in `dir`.
pub fn find(dir: &Path) -> Vec<Found> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<Found> = pids.filter_map(|pid| inspect(pid, dir)).collect();
    found.sort_by_key(|found| found.pid);
    found
}

/// All processes of the testbed, the way `status` shows them: only the daemons themselves.
pub fn daemons(layout: &Layout) -> Vec<Found> {
    find(layout.dir()).into_iter().filter(|found| found.itself).collect()
}

fn inspect(pid: u32, dir: &Path) -> Option<Found> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let (testbed, daemon) = marks(&environ)?;
    if testbed != dir.as_os_str().as_bytes() {
        return None;
    }
    let daemon = String::from_utf8_lossy(daemon);
    let mut parts = daemon.split('/');
    let cluster = parts.next().unwrap_or_default().to_owned();
    let name = parts.next().unwrap_or_default().to_owned();
    let fingerprint = parts.next().unwrap_or_default().to_owned();
    // The daemon leads the session that setsid made for it; its children do not, save containerd's shims.
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let leads = rustix::process::getsid(Pid::from_raw(pid.cast_signed())).ok() == Pid::from_raw(pid.cast_signed());
    let shim = command
        .split(|byte| *byte == 0)
        .next()
        .is_some_and(|program| program.windows(15).any(|w| w == b"containerd-shim"));
    let mut itself = leads && !shim;
    if pid == std::process::id() {
        itself = false;
    }
    Some(Found { pid, cluster, daemon: name, itself, fingerprint })
}

/// The values of the two marks in a process's environment block.
fn marks(environ: &[u8]) -> Option<(&[u8], &[u8])> {
    let value = |key: &str| {
        environ.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    };
    Some((value(TESTBED)?, value(DAEMON).unwrap_or_default()))
}

/// The processes of one daemon.
fn of(layout: &Layout, cluster: &str, daemon: &str) -> Vec<Found> {
    find(layout.dir()).into_iter().filter(|found| found.is(cluster, daemon)).collect()
}

/// Ends one daemon of a testbed and waits until it is gone. Answers whether there was one.
pub fn stop(layout: &Layout, cluster: &str, daemon: &str) -> bool {
    let found = of(layout, cluster, daemon);
    end(&found, GRACE);
    !found.is_empty()
}

/// Kills one daemon of a testbed, which has no time to do anything more, and waits until it is gone. Answers whether there
/// was one.
pub fn kill_at_once(layout: &Layout, cluster: &str, daemon: &str) -> bool {
    let found = of(layout, cluster, daemon);
    send(&found, Signal::KILL, GRACE);
    !found.is_empty()
}

/// Lets a daemon hang where it is, until [`thaw`]. Answers whether there was one.
pub fn freeze(layout: &Layout, cluster: &str, daemon: &str) -> bool {
    signal(layout, cluster, daemon, Signal::STOP)
}

/// Lets a daemon go on that was frozen. Answers whether there was one.
pub fn thaw(layout: &Layout, cluster: &str, daemon: &str) -> bool {
    signal(layout, cluster, daemon, Signal::CONT)
}

fn signal(layout: &Layout, cluster: &str, daemon: &str, signal: Signal) -> bool {
    let found = of(layout, cluster, daemon);
    found.iter().for_each(|process| kill(process.pid, signal));
    !found.is_empty()
}

/// Ends every process of the testbed in `dir`: those that make others first (kubelet before containerd, containerd
/// before its shims), API server and etcd last. Answers how many there were.
pub fn stop_all(dir: &Path) -> usize {
    let mut count = 0;
    for stage in 0..=STAGES.len() {
        let found: Vec<_> = find(dir).into_iter().filter(|found| stage_of(found) <= stage).collect();
        count += found.len();
        end(&found, GRACE);
    }
    count
}

/// Who is ended when; what is named nowhere is ended in the last stage.
const STAGES: [&[&str]; 2] = [
    &[
        "workflow-controller",
        "argo-server",
        "player",
        "kubelet",
        "kube-proxy",
        "kube-scheduler",
        "kube-controller-manager",
        "syncer",
        "webhook",
    ],
    &["containerd", "kube-apiserver"],
];

fn stage_of(found: &Found) -> usize {
    if !found.itself {
        return STAGES.len();
    }
    STAGES.iter().position(|names| names.contains(&found.daemon.as_str())).unwrap_or(STAGES.len())
}

/// SIGTERM to all, then SIGKILL to those still there after `grace`.
fn end(found: &[Found], grace: Duration) {
    if !send(found, Signal::TERM, grace) {
        send(found, Signal::KILL, GRACE);
    }
}

/// Sends a signal to all that are alive; answers whether all of them are gone before the patience is.
fn send(found: &[Found], signal: Signal, patience: Duration) -> bool {
    let alive = |found: &&Found| is_alive(found.pid);
    for process in found.iter().filter(alive) {
        kill(process.pid, signal);
    }
    let deadline = Instant::now() + patience;
    while found.iter().any(|process| alive(&process)) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    if pid > 1
        && pid != std::process::id()
        && let Some(pid) = Pid::from_raw(pid.cast_signed())
    {
        // Gone in the meantime is as good as ended.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the command's name, which stands in parentheses and may contain anything.
    !matches!(stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next()), Some('Z' | 'X') | None)
}

/// The PATH for programs that this one starts: the user's own, and where Debian has system programs.
pub(crate) fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) => format!("{path}:{SEARCH_PATH}"),
        Err(_) => SEARCH_PATH.to_owned(),
    }
}

/// Runs a command to its end and answers what it printed.
///
/// # Errors
/// It cannot be started, or fails; with what it printed.
pub(crate) async fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new(program)
        .args(args)
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("`{program} {}` failed ({}): {}", args.join(" "), output.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn log_file(path: &Path) -> Result<(File, File)> {
    let open = || -> std::io::Result<(File, File)> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        Ok((file.try_clone()?, file))
    };
    open().with_context(|| format!("opening the log {}", path.display()))
}

/// Some daemons write whole structures into a line; an error's text shows this many characters of it.
const LONGEST_LINE: usize = 300;

/// The last `lines` lines of a file, or a word on why there are none.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => "(empty)".to_owned(),
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            let short = |line: &&str| line.chars().take(LONGEST_LINE).collect::<String>();
            all[all.len().saturating_sub(lines)..].iter().map(short).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("({error})"),
    }
}

/// Asks `ready` again and again until it answers `Ok`, and watches meanwhile that `daemon` lives.
///
/// # Errors
/// The time is up (with the last answer and the daemon's log), or the daemon ended.
pub(crate) async fn wait_until<T, F, Fut>(
    what: &str,
    limit: Duration,
    daemon: Option<&Running>,
    mut ready: F,
) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let answer = match tokio::time::timeout(Duration::from_secs(5), ready()).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow::anyhow!("no answer within 5 s")),
        };
        let error = match answer {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if let Some(daemon) = daemon {
            daemon.ensure_alive()?;
        }
        if tokio::time::Instant::now() > deadline {
            let words = daemon.map(|daemon| format!("; {}", daemon.last_words())).unwrap_or_default();
            return Err(error.context(format!("{what}: not ready after {} s{words}", limit.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_from_an_environment_block() {
        let block = b"A=1\0ARGOSY_TESTBED=/x/y\0ARGOSY_TESTBED_DAEMON=control/etcd/0f\0B=2\0";
        assert_eq!(marks(block), Some((b"/x/y".as_slice(), b"control/etcd/0f".as_slice())));
        assert_eq!(marks(b"A=1\0XARGOSY_TESTBED=/x\0"), None);
    }

    #[test]
    fn a_daemon_is_started_once_found_and_ended() {
        let dir = std::env::temp_dir().join(format!("testbed-process-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let layout = Layout::new(&dir, "process").unwrap();
        fs::create_dir_all(layout.dir()).unwrap();
        let daemon = Daemon::new(&layout, "control", "sleeper", Path::new("/bin/sleep")).args(["60"]);
        let first = daemon.start().unwrap();
        assert!(first.fresh && first.is_alive());
        std::thread::sleep(Duration::from_millis(200));
        let again = daemon.start().unwrap();
        assert_eq!((again.pid, again.fresh), (first.pid, false));
        let changed = daemon.clone().args(["1"]).start().unwrap();
        assert!(changed.fresh && !first.is_alive());
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(stop_all(layout.dir()), 1);
        assert!(!changed.is_alive() && find(layout.dir()).is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }
}
