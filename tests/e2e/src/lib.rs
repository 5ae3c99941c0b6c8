//! What Argosy must do on real API servers with real Argo controllers; `tests/e2e.rs` runs it.

pub mod cases;
mod creations;
mod dice;
pub mod faults;
pub mod fence;
mod generated;
mod same;
pub mod used;
pub mod verbs;
pub mod world;
