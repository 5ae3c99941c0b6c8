//! What Argosy must do on real API servers with real Argo controllers; `tests/e2e.rs` runs it.

pub mod cases;
pub mod fence;
pub mod verbs;
pub mod world;
