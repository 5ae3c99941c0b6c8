//! A PostgreSQL for Argo: archives of workflows, and the nodes of those that are too large for etcd. One for all clusters
//! of a testbed, on loopback, with everything that it keeps in the testbed's folder. It is Debian's, run as a daemon like
//! the others; the package's own service is left alone.

use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::layout::{Layout, State, create_private_dir};
use crate::process::{Daemon, run, wait_until};
use crate::progress::Progress;
use crate::slot::is_root;

/// In the place of a cluster's name, and the daemon.
const SHARED: &str = "shared";
const NAME: &str = "postgres";
/// User, password and database.
const USER: &str = "argo";
const DATABASE: &str = "postgres";
/// The Secret with user and password in each cluster, named as in Argo's own examples.
const SECRET: &str = "argo-postgres-config";
/// Debian's folders of its versions.
const VERSIONS: &str = "/usr/lib/postgresql";
const PATIENCE: Duration = Duration::from_secs(60);

/// What runs a program as somebody else than root, as PostgreSQL insists. `nobody` may go through folders that are
/// root's, for the testbed's are nobody else's.
const AS_NOBODY: [&str; 5] =
    ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"];
const NOBODY: u32 = 65534;

/// A database that runs.
pub struct Database {
    port: u16,
    /// Controllers make the tables, and two that do so at once get in each other's way.
    turn: Mutex<()>,
}

/// The folder with PostgreSQL's programs, the newest if there are several.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let number = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some((number(&entry.path())?, entry.path().join("bin")))).max();
    newest.map(|(_, folder)| folder).filter(|folder| folder.join("initdb").exists())
}

/// Starts it and waits until it takes connections. May be called again. Saves its port in `state`.
///
/// # Errors
/// It is not on this machine, or does not come up; with its log's name.
pub async fn start(layout: &Layout, state: &mut State, progress: &Progress) -> Result<Database> {
    let step = progress.step("PostgreSQL");
    let programs = programs().with_context(|| format!("no PostgreSQL in {VERSIONS}"))?;
    let port = state.port(NAME)?;
    state.save(layout)?;
    let folder = layout.cluster_dir(SHARED);
    create_private_dir(&folder)?;
    let data = folder.join(NAME);
    if !data.exists() {
        step.detail("making the database");
        init(&programs, &folder, &data).await.context("making the database")?;
    }
    let server = programs.join("postgres").display().to_string();
    let (program, args) = as_nobody(&server);
    let running = Daemon::new(layout, SHARED, NAME, Path::new(&program))
        .args(args)
        .args([format!("--port={port}"), format!("-D{}", data.display())])
        .args(["--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--logging_collector=off"])
        // Nothing here outlives the machine, and nothing of it is to be left in /dev/shm.
        .args(["--fsync=off", "--synchronous_commit=off", "--dynamic_shared_memory_type=mmap"])
        .args(["--shared_buffers=16MB", "--max_connections=100"])
        .start()?;
    let asks = programs.join("pg_isready").display().to_string();
    wait_until(NAME, PATIENCE, Some(&running), || async {
        run(&asks, &["--quiet", "--host=127.0.0.1", &format!("--port={port}"), &format!("--dbname={DATABASE}")])
            .await
            .map(drop)
    })
    .await?;
    step.done(format!("at {}:{port}", Ipv4Addr::LOCALHOST));
    Ok(Database { port, turn: Mutex::new(()) })
}

/// Makes an empty database; whole or not at all, should this be killed.
async fn init(programs: &Path, folder: &Path, data: &Path) -> Result<()> {
    let new = folder.join(format!("{NAME}.new"));
    if new.exists() {
        std::fs::remove_dir_all(&new).with_context(|| format!("removing {}", new.display()))?;
    }
    create_private_dir(&new)?;
    if is_root() {
        chown(&new, Some(NOBODY), Some(NOBODY)).with_context(|| format!("giving {} to nobody", new.display()))?;
    }
    let (program, mut args) = as_nobody(&programs.join("initdb").display().to_string());
    args.push(format!("--pgdata={}", new.display()));
    // Whoever reaches this machine's loopback may sign in: there is nothing in it but what tests put there.
    let more = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"].map(ToOwned::to_owned);
    args.extend(more);
    args.push(format!("--username={USER}"));
    run(&program, &args.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    std::fs::rename(&new, data).with_context(|| format!("renaming {}", new.display()))
}

/// The program and first arguments that run `program` as PostgreSQL lets itself be run.
fn as_nobody(program: &str) -> (String, Vec<String>) {
    if !is_root() {
        return (program.to_owned(), Vec::new());
    }
    let setpriv = crate::prerequisites::locate("setpriv").unwrap_or_else(|| "setpriv".into());
    let args = AS_NOBODY.iter().copied().chain([program]).map(ToOwned::to_owned);
    (setpriv.display().to_string(), args.collect())
}

impl Database {
    /// The turn to start a program that makes tables.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The part `persistence` of the settings of Argo in a cluster. All share the tables, so each has to have its own
    /// name in them.
    pub(crate) fn settings(&self, cluster: &str) -> Value {
        let key = |key: &str| json!({"name": SECRET, "key": key});
        json!({
            "archive": true,
            "nodeStatusOffLoad": true,
            "clusterName": cluster,
            // One connection by itself would make a controller's workers wait for each other.
            "connectionPool": {"maxIdleConns": 4, "maxOpenConns": 8},
            "postgresql": {
                "host": Ipv4Addr::LOCALHOST.to_string(), "port": self.port, "database": DATABASE,
                "tableName": "argo_workflows", "userNameSecret": key("username"), "passwordSecret": key("password"),
            },
        })
    }

    /// The Secret that they speak of.
    pub(crate) fn secret(namespace: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": namespace},
            "stringData": {"username": USER, "password": USER},
        })
    }
}

/// The address of this machine that is not loopback: API servers refuse to lead to one that is.
///
/// # Errors
/// It has none.
pub(crate) fn own_address() -> Result<Ipv4Addr> {
    // Sends nothing: the kernel only says from where it would.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("making a socket")?;
    let found = socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| socket.local_addr());
    match found.context("this machine has no route")?.ip() {
        std::net::IpAddr::V4(address) => {
            ensure!(!address.is_loopback() && !address.is_unspecified(), "this machine has no address but loopback");
            Ok(address)
        }
        std::net::IpAddr::V6(_) => anyhow::bail!("this machine has no IPv4 address"),
    }
}
