//! Copies whose nodes are not simply in their status are made readable before the next step is decided.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::argo_server::ArgoServerError;
use crate::desk::{Copy, CopyStatus, Key};
use crate::plan::Step;
use crate::readable::{Nodes, repacked, without_nodes};
use crate::work::{StepError, Work};

/// The nodes of a copy cannot be read.
#[derive(Debug)]
pub struct Unread {
    why: String,
    /// Until somebody changes something.
    is_for_good: bool,
}

impl Unread {
    /// What is done in the place of a step that was decided without the nodes: those that the original shows stay there,
    /// and the copy is not let go of while there is hope to read its own. `otherwise` is the step without any return.
    pub fn instead(self, step: Step, otherwise: impl FnOnce() -> Step) -> Result<Step, StepError> {
        let step = match step {
            Step::Return(mut new) => {
                new.operations.retain(|operation| !is_of_nodes(operation));
                if new.operations.is_empty() { otherwise() } else { Step::Return(new) }
            }
            Step::Settle => otherwise(),
            step => step,
        };
        match step {
            Step::Rest | Step::Release if !self.is_for_good => Err(StepError::Unread { why: self.why }),
            step => Ok(step),
        }
    }
}

fn is_of_nodes(operation: &PatchOperation) -> bool {
    let path = operation.path().as_str();
    ["/status/nodes", "/status/compressedNodes"].iter().any(|of| path.starts_with(of))
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
                Err(error) => {
                    let is_for_good = matches!(error, ArgoServerError::NoWay { .. });
                    let why = format!("cluster {} keeps them in a database, and {error}", self.here.cluster);
                    copy.status = CopyStatus::Whole(without_nodes(status, &why).map_err(unreadable)?.into());
                    return Ok(Some(Unread { why, is_for_good }));
                }
            },
        }
        Ok(None)
    }

    /// Gives a live copy whose nodes are in a database these nodes, as it is to have them for an intent to be carried out
    /// on it.
    pub(crate) async fn add_nodes(&self, key: &Key, live: &mut Value) -> Result<(), StepError> {
        let is_offloaded = live["status"]["offloadNodeStatusVersion"].as_str().is_some_and(|it| !it.is_empty());
        if !is_offloaded {
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
