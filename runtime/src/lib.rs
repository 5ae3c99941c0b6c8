//! What Argosy's daemons share around their own work: logs, the admin server, API clients, shutdown, and the policy
//! that both webhook and syncer decide by, kept fresh from watches.

pub mod admin;
pub mod client;
pub mod events;
pub mod policy;
pub mod shutdown;
pub mod telemetry;
