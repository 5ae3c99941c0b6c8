//! The record of a decision on the workflow that it is about.

use argosy_api::Placement;
use k8s_openapi::jiff::Timestamp;

use crate::decide::Why;
use crate::resources::print_quantity;

/// What is written down of a decision for `cluster` (`local`, or empty for a workflow that waits).
pub fn placement(cluster: &str, why: &Why, now: Timestamp) -> Placement {
    Placement {
        time: seconds(now),
        cluster: cluster.to_owned(),
        rule: why.source.clone(),
        reason: why.reason.clone(),
        own: None,
        asks: why.asks.iter().map(|(name, amount)| (name.to_owned(), print_quantity(name, amount))).collect(),
        candidates: why.candidates.clone(),
        rejected: why.rejected.clone(),
        figures_age: why.figures_age,
    }
}

/// The annotation's text.
pub fn encode(placement: &Placement) -> String {
    // Strings and numbers only: there is nothing that JSON cannot hold.
    serde_json::to_string(placement).unwrap_or_default()
}

/// The time of a stamp: RFC 3339 in UTC, whole seconds, 20 characters.
fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
