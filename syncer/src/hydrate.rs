//! Copies whose nodes are not simply in their status are made readable before the next step is decided.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::argo_server::ArgoServerError;
use crate::desk::{Copy, CopyStatus, Key};
use crate::plan::Step;
use crate::readable::{Nodes, OFFLOADED, is_offloaded, repacked, without_nodes};
use crate::work::{StepError, Work};

/// The nodes of a copy cannot be read.
#[derive(Debug)]
pub struct Unread {
    why: String,
    /// Until somebody changes something.
    is_for_good: bool,
    /// Whether the copy has ended.
    is_end: bool,
}

impl Unread {
    /// What is done in the place of a step that was decided without the nodes: those that the original shows stay there.
    /// While there is hope to read the copy's own, its end is not returned, for the original would be archived without
    /// them, nor is it let go of. `otherwise` is the step without any return.
    pub fn instead(&self, step: Step, otherwise: impl FnOnce() -> Step) -> Result<Step, StepError> {
        let step = match step {
            Step::Return(mut new) => {
                let waits = self.is_end && !self.is_for_good;
                new.operations.retain(|operation| if waits { says_why(operation) } else { !is_of_nodes(operation) });
                match otherwise() {
                    // What a user wishes does not wait for what cannot be read.
                    step @ (Step::Shutdown(_) | Step::Suspend(_)) => step,
                    step if new.operations.is_empty() => step,
                    _ => Step::Return(new),
                }
            }
            Step::Settle => otherwise(),
            step => step,
        };
        match step {
            Step::Rest | Step::Release if !self.is_for_good => Err(self.again()),
            step => Ok(step),
        }
    }

    /// Asks for another try, after a while.
    pub fn again(&self) -> StepError {
        StepError::Unread { why: self.why.clone() }
    }
}

fn is_of_nodes(operation: &PatchOperation) -> bool {
    let path = operation.path().as_str();
    ["/status/nodes", "/status/compressedNodes"].iter().any(|of| path.starts_with(of))
}

fn says_why(operation: &PatchOperation) -> bool {
    operation.path().as_str() == "/status/conditions"
}

impl Work {
    /// Makes a copy readable: as it is in the WEC now, with its nodes in its status. What was read once stays on the desk for
    /// as long as it does not change. Where its nodes cannot be read, it has none, and a condition that says so.
    pub(crate) async fn make_readable(&self, key: &Key, copy: &mut Copy) -> Result<Option<Unread>, StepError> {
        let CopyStatus::Whole(status) = &copy.status else { return Ok(None) };
        let unreadable = |error: serde_json::Error| StepError::Unreadable { why: error.to_string() };
        match Nodes::of(status) {
            Nodes::Plain => {}
            Nodes::Packed => {
                let status = CopyStatus::Whole(repacked(status).map_err(unreadable)?.into());
                copy.status = status.clone();
                self.copies.amend(key, &copy.resource_version, |known| known.status = status);
            }
            Nodes::Offloaded => match self.argo_server.workflow(key).await {
                Ok(live) if live.metadata.uid.as_ref() != Some(&copy.uid) => return Err(StepError::Outdated),
                Ok(live) => {
                    self.copies.written(live.clone());
                    *copy = Copy::new(live);
                }
                Err(error @ ArgoServerError::Busy) => return Err(StepError::Unread { why: error.to_string() }),
                Err(error) => {
                    let is_for_good = matches!(error, ArgoServerError::NoWay { .. });
                    let why = format!("cluster {} keeps them in a database, and {error}", self.here.cluster);
                    copy.status = CopyStatus::Whole(without_nodes(status, &why).map_err(unreadable)?.into());
                    return Ok(Some(Unread { why, is_for_good, is_end: copy.completed }));
                }
            },
        }
        Ok(None)
    }

    /// Gives a live copy whose nodes are in a database these nodes, as it is to have them for an intent to be carried out
    /// on it.
    pub(crate) async fn add_nodes(&self, key: &Key, live: &mut Value) -> Result<(), StepError> {
        if !is_offloaded(live["status"].get(OFFLOADED)) {
            return Ok(());
        }
        let whole =
            self.argo_server.workflow(key).await.map_err(|error| StepError::Unread { why: error.to_string() })?;
        let is_the_same = whole.metadata.uid.as_deref() == live["metadata"]["uid"].as_str()
            && whole.metadata.resource_version.as_deref() == live["metadata"]["resourceVersion"].as_str();
        if !is_the_same {
            return Err(StepError::Outdated);
        }
        let status: Value = whole.status.and_then(|status| serde_json::from_str(status.get()).ok()).unwrap_or_default();
        live["status"]["nodes"] = status["nodes"].clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Return;
    use argosy_runtime::patch::{add, remove};
    use rstest::rstest;
    use serde_json::json;

    fn instead(is_for_good: bool, is_end: bool, step: Step, otherwise: Step) -> String {
        match (Unread { why: "no answer".into(), is_for_good, is_end }).instead(step, || otherwise) {
            Ok(Step::Return(new)) => {
                new.operations.iter().map(|operation| operation.path().to_string()).collect::<Vec<_>>().join(" ")
            }
            Ok(step) => step.label().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn returned(and_phase: bool) -> Step {
        let more = [("phase", json!("Failed")), ("conditions", json!([]))];
        let more = more.into_iter().filter(|_| and_phase).map(|(field, value)| add(&["status", field], value));
        let operations = more.chain([remove(&["status", "nodes"]), remove(&["status", "compressedNodes"])]).collect();
        Step::Return(Return { operations, can_wait: false })
    }

    const HOPE: &str = "the copy's nodes cannot be read: no answer";

    #[rstest]
    #[case::what_is_shown_of_nodes_stays(false, false, returned(true), Step::Rest, "/status/phase /status/conditions")]
    #[case::an_end_without_hope_is_returned(true, true, returned(true), Step::Rest, "/status/phase /status/conditions")]
    #[case::and_the_copy_let_go_of(true, true, returned(false), Step::Release, "release")]
    #[case::with_hope_it_is_not_but_says_why(false, true, returned(true), Step::Rest, "/status/conditions")]
    #[case::and_the_copy_is_kept(false, true, returned(false), Step::Release, HOPE)]
    #[case::nothing_is_settled(false, false, Step::Settle, Step::Rest, HOPE)]
    #[case::it_is_asked_again(false, false, Step::Rest, Step::Rest, HOPE)]
    #[case::users_are_not_kept_waiting(false, false, returned(true), Step::Shutdown("Stop".into()), "shutdown")]
    fn without_its_nodes(
        #[case] is_for_good: bool,
        #[case] is_end: bool,
        #[case] step: Step,
        #[case] otherwise: Step,
        #[case] expected: &str,
    ) {
        assert_eq!(instead(is_for_good, is_end, step, otherwise), expected);
    }
}
