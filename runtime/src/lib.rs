//! What Argosy's daemons share around their own work: logs, the admin server, API clients, shutdown, and what is
//! known of the control cluster, by which both webhook and syncer decide.

pub mod admin;
pub mod client;
pub mod events;
pub mod foreign;
pub mod known;
pub mod patch;
pub mod shutdown;
pub mod snapshot;
pub mod telemetry;
