//! A review about a change of a routed workflow, from its bytes to its answer.

use argosy_api::Intent;
use json_patch::Patch;

use crate::answered::Answered;
use crate::guard::{self, Answer};
use crate::metrics::Outcome;
use crate::review::{Question, Request, Update, read};
use crate::route::display_name;

/// Answers a review about a change.
pub(crate) fn judge(body: &[u8]) -> Answered {
    let (uid, request) = read(body);
    let Update { namespace, user, old, new } = match request.and_then(Request::update) {
        Ok(Question::Asked(update)) => update,
        Ok(Question::Other { what }) => return Answered::unconcerned(uid, "/guard is for changes to Workflows", &what),
        Err(error) => return Answered::malformed(uid, &error),
    };
    let workflow = display_name(&namespace, &old.metadata);
    match guard::answer(&workflow, &old, &new) {
        Answer::Leave => {
            tracing::debug!(workflow, user, "left to the fence");
            Answered::allowed(uid, Outcome::Left, &Patch::default())
        }
        Answer::Change { patch, intent: Some(Intent { id, wish }) } => {
            tracing::info!(workflow, user, id, kind = wish.kind(), "noted for its copy");
            Answered::allowed(uid, Outcome::Noted, &patch)
        }
        Answer::Change { patch, intent: None } => {
            tracing::debug!(workflow, user, "given back");
            Answered::allowed(uid, Outcome::Restored, &patch)
        }
        Answer::Refuse { status, message } => Answered::refused(uid, status, &message),
    }
}
