//! The record of a decision on the workflow that it is about.

use argosy_api::{Placement, RuleSource, names};
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

/// Reads a stamp; `None` for what is none.
pub fn read(annotation: &str) -> Option<Placement> {
    serde_json::from_str(annotation).ok()
}

/// What a user put into the label `kubestellar.io/cluster`. A label is somebody else's word where the stamp beside it says
/// that a rule has set it: it was inherited from another workflow, or set a moment ago. A stamp may be forged, which gains
/// nothing: then, too, the decision is made anew.
pub fn own_cluster(label: Option<&str>, stamp: Option<&Placement>) -> Option<String> {
    let label = label?;
    let own = Some(label).filter(|label| !label.is_empty()).map(ToOwned::to_owned);
    // This cluster itself is only ever a user's word.
    match stamp.filter(|stamp| stamp.cluster == label && label != names::LOCAL) {
        // It waits for the cluster that its user chose.
        Some(stamp) if label.is_empty() => stamp.own.clone(),
        Some(stamp) if stamp.rule != RuleSource::Label => None,
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::absent(None, None, None)]
    #[case::empty(Some(""), None, None)]
    #[case::users(Some("c1"), None, Some("c1"))]
    #[case::users_with_an_unrelated_stamp(Some("c1"), Some(("c2", "namespace", None)), Some("c1"))]
    #[case::users_recorded(Some("c1"), Some(("c1", "label", None)), Some("c1"))]
    #[case::a_namespaces(Some("c1"), Some(("c1", "namespace", None)), None)]
    #[case::a_policys(Some("c1"), Some(("c1", "policy/p", None)), None)]
    #[case::waiting(Some(""), Some(("", "namespace", None)), None)]
    #[case::waiting_for_the_users_choice(Some(""), Some(("", "label", Some("c1"))), Some("c1"))]
    #[case::local(Some("local"), Some(("local", "namespace", None)), Some("local"))]
    fn tells_the_users_choice_from_a_rules(
        #[case] label: Option<&str>,
        #[case] stamp: Option<(&str, &str, Option<&str>)>,
        #[case] expected: Option<&str>,
    ) {
        let stamp = stamp.map(|(cluster, rule, own)| {
            let own = own.map_or(String::new(), |own| format!(r#","own":"{own}""#));
            read(&format!(r#"{{"time":"t","cluster":"{cluster}","rule":"{rule}","reason":""{own}}}"#)).unwrap()
        });
        assert_eq!(own_cluster(label, stamp.as_ref()).as_deref(), expected);
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        assert_eq!(read("not a stamp"), None);
        assert_eq!(read(r#"{"time":"t","cluster":"c","rule":"whim","reason":""}"#), None);
    }
}
