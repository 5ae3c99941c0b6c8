//! Whether an object that is there already may be changed: what `join` made is its own, the rest is somebody's.

use std::collections::BTreeMap;

use argosy_api::names;
use thiserror::Error;

/// What may be done about an object that `join` needs.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is missing, or `join` made it, or it was forced.
    Write,
    /// The chart argosy-member made it: it is what is needed, and Helm's to change.
    Keep,
}

/// An object that is not ours.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotOurs {
    #[error("{what} is there already, and `kubectl argosy join` did not make it; --force takes it over")]
    Stranger { what: String },
    #[error(
        "{what} belongs to another control cluster (kube-system UID {uid}); choose another namespace for this one's \
         account with --member-namespace, or take it over with --force"
    )]
    OtherControl { what: String, uid: String },
}

/// `labels`: of the object, if it is there. `owner`: the value that [`names::JOINED`] has on our own.
pub fn verdict(
    what: &str,
    labels: Option<&BTreeMap<String, String>>,
    owner: &str,
    force: bool,
) -> Result<Verdict, NotOurs> {
    let Some(labels) = labels else { return Ok(Verdict::Write) };
    let label = |name: &str| labels.get(name).map(String::as_str);
    let is_charts =
        label("app.kubernetes.io/name") == Some("argosy-member") && label(names::MANAGED_BY) == Some("Helm");
    match label(names::JOINED) {
        Some(joined) if joined == owner => Ok(Verdict::Write),
        // Even when forced: Helm would put back what we wrote.
        None if is_charts => Ok(Verdict::Keep),
        _ if force => Ok(Verdict::Write),
        Some(uid) => Err(NotOurs::OtherControl { what: what.to_owned(), uid: uid.to_owned() }),
        None => Err(NotOurs::Stranger { what: what.to_owned() }),
    }
}

/// Whether `join` made it.
pub fn is_ours(labels: Option<&BTreeMap<String, String>>, owner: &str) -> bool {
    labels.and_then(|labels| labels.get(names::JOINED)).is_some_and(|joined| joined == owner)
}

/// Labels of what `join` makes.
pub fn labels(owner: &str) -> BTreeMap<String, String> {
    [(names::JOINED, owner), (names::MANAGED_BY, names::MANAGER)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::missing(None, false, "Write")]
    #[case::ours(Some("argosy.dev/joined=me"), false, "Write")]
    #[case::the_charts(Some("app.kubernetes.io/name=argosy-member,app.kubernetes.io/managed-by=Helm"), false, "Keep")]
    #[case::another_charts(
        Some("app.kubernetes.io/name=x,app.kubernetes.io/managed-by=Helm"),
        false,
        "X is there already, and `kubectl argosy join` did not make it; --force takes it over"
    )]
    #[case::strangers(
        Some(""),
        false,
        "X is there already, and `kubectl argosy join` did not make it; --force takes it over"
    )]
    #[case::another_control_clusters(
        Some("argosy.dev/joined=you"),
        false,
        "X belongs to another control cluster (kube-system UID you); choose another namespace for this one's account with --member-namespace, or take it over with --force"
    )]
    #[case::forced(Some("argosy.dev/joined=you"), true, "Write")]
    #[case::forced_but_helms(
        Some("app.kubernetes.io/name=argosy-member,app.kubernetes.io/managed-by=Helm"),
        true,
        "Keep"
    )]
    fn who_may_write(#[case] labels: Option<&str>, #[case] force: bool, #[case] expected: &str) {
        let labels = labels.map(|labels| {
            let pairs = labels.split(',').filter_map(|label| label.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        });
        let told = match verdict("X", labels.as_ref(), "me", force) {
            Ok(verdict) => format!("{verdict:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(told, expected);
    }
}
