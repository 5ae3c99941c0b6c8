//! Where a workflow runs: pure decisions over (workflow, rules, clusters), with their reasons. No I/O, no async, no
//! clock.

mod capacity;
mod cluster;
mod decide;
pub mod demand;
mod fit;
mod hold;
pub mod kubestellar;
mod resources;
mod rule;
mod rules;
mod score;
mod selector;
mod stamp;

pub use capacity::{Capacity, Group};
pub use cluster::Cluster;
pub use decide::{Decision, Fleet, Rejection, Request, Surveyed, Why, decide, permitted, survey};
pub use fit::fits;
pub use hold::{Holds, Waiter, open_to};
pub use resources::{Resources, parse_quantity, print_quantity};
pub use rule::{Rule, RuleError};
pub use rules::{Found, Namespace, Policy, find, in_order, is_ruled};
pub use score::Placed;
pub use selector::{ParseError, Selector};
pub use serde_json_path::JsonPath;
pub use stamp::{encode, own_cluster, placement, read as read_stamp};
