//! Answers on their way out, with what is counted of them.

use json_patch::Patch;

use crate::metrics::Outcome;
use crate::review::{Reply, ReviewError};

/// An answer, and what it counts as.
pub(crate) struct Answered {
    pub(crate) outcome: Outcome,
    pub(crate) reply: Reply,
}

impl Answered {
    /// With this patch, which may be empty.
    pub(crate) fn allowed(uid: String, outcome: Outcome, patch: &Patch) -> Self {
        match Reply::allow(uid.clone(), patch) {
            Ok(reply) => Self { outcome, reply },
            Err(error) => Self::failed(uid, &error.to_string()),
        }
    }

    /// The message names the workflow.
    pub(crate) fn refused(uid: String, status: u16, message: &str) -> Self {
        tracing::info!(reason = message, "refused");
        Self { outcome: Outcome::Refused, reply: Reply::refuse(uid, status, message) }
    }

    /// No fault of whoever asks.
    pub(crate) fn failed(uid: String, why: &str) -> Self {
        tracing::error!(why, "no answer can be given");
        Self { outcome: Outcome::Unavailable, reply: Reply::refuse(uid, 500, why) }
    }

    /// What was sent cannot be read.
    pub(crate) fn malformed(uid: String, error: &ReviewError) -> Self {
        tracing::warn!(uid, %error, "malformed review");
        Self { outcome: Outcome::Malformed, reply: Reply::refuse(uid, error.status(), &error.to_string()) }
    }

    /// The path is for something else.
    pub(crate) fn unconcerned(uid: String, purpose: &str, what: &str) -> Self {
        let warning = format!("argosy: {purpose} only, and was asked about {what}");
        Self { outcome: Outcome::Unconcerned, reply: Reply::warn(uid, warning) }
    }
}
