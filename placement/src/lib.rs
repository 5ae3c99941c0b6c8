//! Where a workflow runs: pure decisions over (workflow, rule, clusters), with their reasons. No I/O, no async, no
//! clock.

mod cluster;
mod decide;
mod rule;
mod selector;

pub use cluster::Cluster;
pub use decide::{Decision, Request, decide, permitted};
pub use rule::{Rule, RuleError};
pub use selector::{ParseError, Selector};
