//! The mutating webhook: at a Workflow's creation it decides where the workflow runs (route), and when a routed one is
//! changed it turns what Argo's commands write into what is to happen where it runs (guard). Both answer with a minimal
//! patch.

mod answered;
mod args;
mod edits;
mod guard;
mod judge;
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
