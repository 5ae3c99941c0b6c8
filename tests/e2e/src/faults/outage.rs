//! What fails, how, and what is true of it while it lasts.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::cluster::played;
use testbed::layout::CONTROL;
use testbed::links::{self, Fault, to_control, to_webhook, to_wec};
use testbed::{Testbed, argosy, process};

/// The workload cluster in which all workflows of an outage run.
pub const WEC: &str = "cluster1";
const API_SERVER: &str = "kube-apiserver";

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Syncer,
    Webhook,
    Wec,
    Control,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// The process is killed, and started again after a moment.
    Killed,
    /// Every way between it and Argosy is cut.
    Cut(Duration),
    /// Nothing comes through, and nobody is told.
    BlackHole(Duration),
    /// Everything takes so long to come through, each way.
    Slow(Duration),
}

/// How long a killed process stays down: as long as a kubelet needs to begin another.
const DOWN: Duration = Duration::from_secs(3);
/// How long a slow link is slow.
const SLOW: Duration = Duration::from_secs(15);

pub const WHAT: [What; 4] = [What::Syncer, What::Webhook, What::Wec, What::Control];
pub const HOW: [How; 5] = [
    How::Killed,
    How::Cut(Duration::from_secs(5)),
    How::Cut(Duration::from_secs(120)),
    How::BlackHole(Duration::from_secs(30)),
    How::Slow(Duration::from_millis(500)),
];

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syncer => "syncer",
            Self::Webhook => "webhook",
            Self::Wec => "workload cluster's API server",
            Self::Control => "control cluster's API server",
        })
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("killed"),
            Self::Cut(length) => write!(f, "cut off for {} s", length.as_secs()),
            Self::BlackHole(length) => write!(f, "in a black hole for {} s", length.as_secs()),
            Self::Slow(by) => write!(f, "{} ms away", by.as_millis()),
        }
    }
}

impl What {
    /// The ways between it and the rest of Argosy; the WECs' own programs, and users, have others.
    fn links(self, testbed: &Testbed) -> Vec<String> {
        let wecs = testbed.wecs().iter().map(|wec| to_wec(&wec.name));
        match self {
            Self::Syncer => std::iter::once(to_control(argosy::SYNCER)).chain(wecs).collect(),
            Self::Webhook => vec![to_control(argosy::WEBHOOK), to_webhook()],
            Self::Wec => vec![to_wec(WEC)],
            Self::Control => vec![to_control(argosy::SYNCER), to_control(argosy::WEBHOOK), to_webhook()],
        }
    }

    fn daemon(self) -> (&'static str, &'static str) {
        match self {
            Self::Syncer => (CONTROL, argosy::SYNCER),
            Self::Webhook => (CONTROL, argosy::WEBHOOK),
            Self::Wec => (WEC, API_SERVER),
            Self::Control => (CONTROL, API_SERVER),
        }
    }
}

impl How {
    /// How long it lasts.
    pub fn length(self) -> Duration {
        match self {
            Self::Killed => DOWN,
            Self::Cut(length) | Self::BlackHole(length) => length,
            Self::Slow(_) => SLOW,
        }
    }
}

/// Has it fail.
pub async fn begin(testbed: &Testbed, what: What, how: How) -> Result<()> {
    let fault = match how {
        How::Killed => {
            let (cluster, daemon) = what.daemon();
            ensure!(process::kill_at_once(&testbed.layout, cluster, daemon), "{daemon} of {cluster} did not run");
            return Ok(());
        }
        How::Cut(_) => Fault::Cut,
        How::BlackHole(_) => Fault::BlackHole,
        How::Slow(by) => Fault::Slow(by),
    };
    links::set(testbed, &what.links(testbed), fault).await
}

/// Mends it; a process that was killed is there again afterwards.
pub async fn mend(testbed: &Testbed, what: What, how: How) -> Result<()> {
    if how != How::Killed {
        return links::set(testbed, &what.links(testbed), Fault::None).await;
    }
    match what.daemon() {
        (cluster, API_SERVER) => played::start_api_server(testbed, cluster).await,
        (_, program) => argosy::start(testbed, program).await,
    }
}
