//! A serving certificate and the CA that signed it, kept in a Secret that several replicas share: issued, renewed,
//! reloaded without a restart, and made known to the API server as the `caBundle` of a MutatingWebhookConfiguration.
//!
//! Renewing the CA goes bundle first: a new CA is published beside the old one, and only when every API server has
//! had time to see it is a certificate signed by it served.

mod args;
mod keeper;
mod kin;
mod material;
mod plan;
mod registration;
mod resolver;
#[cfg(test)]
mod simulation;

pub use args::{Args, Lifetimes};
pub use keeper::{Keeper, KeeperError, Kept, Readiness, SecretRef};
pub use kin::Kin;
pub use material::{IssueError, Material, MaterialError};
pub use resolver::Resolver;
