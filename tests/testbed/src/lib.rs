//! Several Kubernetes clusters with Argo Workflows on one machine, for the demo, tests and benchmarks: a control cluster
//! and workload execution clusters (WECs), with real nodes (root) or played ones (any user).
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testbed::{Options, Progress, Testbed};
//! let testbed = Testbed::up(&Options::named("e2e"), Progress::new()).await?;
//! let client = testbed.control().client().await?;
//! testbed.down().await?;
//! # Ok(())
//! # }
//! ```

pub mod argo;
pub mod argosy;
pub mod artifacts;
mod cargo;
pub mod cli;
pub mod cluster;
pub mod database;
pub mod demo;
pub mod further;
pub mod images;
pub mod layout;
pub mod links;
pub mod player;
pub mod prerequisites;
pub mod process;
pub mod programs;
pub mod progress;
pub mod slot;
mod testbed;

pub use argo::CrdFlavour;
pub use cluster::Cluster;
pub use layout::{Layout, Nodes};
pub use progress::Progress;
pub use testbed::{Options, Testbed, down};
