//! What is written to a WorkloadCluster's status, and how.

use argosy_api::Capacity;
use argosy_runtime::patch::add;
use kube::api::Patch;
use serde_json::{Map, Value, json};

use super::census;

/// The status fields that are the inventory's; all others are health's.
#[derive(Debug)]
pub struct Figures {
    pub capacity: Count,
    /// `None` until the copies have been listed.
    pub active_workflows: Option<u32>,
}

/// How far the counting of nodes and pods is.
#[derive(Debug)]
pub enum Count {
    /// What a session before this one has written stays for now.
    UnderWay,
    /// Nodes and pods may not be read.
    Impossible,
    Done(Capacity),
}

impl Figures {
    /// Whether they say something else than those before, apart from the time.
    pub fn is_news_after(&self, before: &Self) -> bool {
        let is_same = match (&self.capacity, &before.capacity) {
            (Count::UnderWay, Count::UnderWay) | (Count::Impossible, Count::Impossible) => true,
            (Count::Done(now), Count::Done(before)) => !census::differ(now, before),
            _ => false,
        };
        !is_same || self.active_workflows != before.active_workflows
    }

    /// The write; `None` where there is nothing to say yet.
    ///
    /// A merge patch can take the capacity away, but not replace it: resources that are no longer there would stay
    /// in its maps. A JSON patch replaces it, but needs a status to be there: health writes one first.
    pub fn patch(&self) -> Option<Patch<Value>> {
        let active = self.active_workflows.map(|active| ("activeWorkflows", json!(active)));
        match &self.capacity {
            Count::Done(capacity) => {
                let fields = [("capacity", json!(capacity))].into_iter().chain(active);
                let put = |(field, value)| add(&["status", field], value);
                Some(Patch::Json(json_patch::Patch(fields.map(put).collect())))
            }
            Count::Impossible => Some(merge([("capacity", Value::Null)].into_iter().chain(active))),
            Count::UnderWay => active.map(|active| merge([active])),
        }
    }
}

fn merge<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Patch<Value> {
    let status: Map<String, Value> = fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
    Patch::Merge(json!({ "status": status }))
}
