//! The mutating webhook: at a Workflow's creation it decides where the workflow runs, and says so in a minimal patch.

mod args;
mod metrics;
mod peers;
mod review;
mod route;
mod run;
mod server;
mod view;

pub use args::Args;
pub use metrics::Metrics;
pub use peers::Peers;
pub use run::run;
pub use server::{Server, router, serve};
