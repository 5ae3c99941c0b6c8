//! The list of intents on an original: what is added to it, and what may go.

use std::collections::BTreeMap;

use argosy_api::{Intent, Wish, intents, names};
use thiserror::Error;

use crate::view::value;

/// The most that an object's annotations may have, in bytes of keys and values. The API server takes 256 KiB, and others
/// write some, too.
const LIMIT: usize = 240 << 10;

/// Annotations of an object.
type Annotations = BTreeMap<String, String>;

/// Why a wish cannot be noted.
#[derive(Debug, Error, PartialEq)]
pub(super) enum LedgerError {
    #[error(
        "annotation {} has no room for what this changes: the annotations would have {size} bytes, and {LIMIT} is the \
         most; try again when the cluster has carried out what is noted there, or create the workflow anew (argo resubmit)",
        names::INTENTS
    )]
    Full { size: usize },
    #[error("annotation {} ends with number {}, which has no successor: remove it", names::INTENTS, u64::MAX)]
    LastNumber,
}

impl LedgerError {
    /// The HTTP status for the user.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Full { .. } => 413,
            Self::LastNumber => 422,
        }
    }
}

/// Adds a wish to the list that the object has now: the new value, and the intent. `None`: this write has noted it
/// already, for the API server asks again when another webhook has changed the object after this one.
pub(super) fn note(
    wish: Wish,
    old: Option<&Annotations>,
    new: Option<&Annotations>,
) -> Result<Option<(String, Intent)>, LedgerError> {
    let present = value(new, names::INTENTS);
    let mut intents = present.map(intents::read).unwrap_or_default();
    let last = intents.last();
    if value(old, names::INTENTS) != present && last.is_some_and(|last| is_same(&last.wish, &wish)) {
        return Ok(None);
    }
    // The user may have changed this one in the same write; the fence refuses that, but later.
    let done = value(old, names::INTENTS_DONE).and_then(|done| done.parse().ok()).unwrap_or(0);
    let id = last.map_or(0, |last| last.id).max(done).checked_add(1).ok_or(LedgerError::LastNumber)?;
    let intent = Intent { id, wish };
    intents.retain(|intent| intent.id > done);
    intents.push(intent.clone());
    let text = serde_json::json!(intents).to_string();
    let others = new.into_iter().flatten().filter(|(key, _)| *key != names::INTENTS);
    let size = others.map(|(key, value)| key.len() + value.len()).sum::<usize>() + names::INTENTS.len() + text.len();
    if size > LIMIT { Err(LedgerError::Full { size }) } else { Ok(Some((text, intent))) }
}

/// Whether the one is what the guard made of the other. After a retry was noted, most of it can no longer be seen.
fn is_same(noted: &Wish, wish: &Wish) -> bool {
    match (noted, wish) {
        (Wish::Retry(_), Wish::Retry(_)) => true,
        _ => noted == wish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Map, json};

    fn annotations(intents: &str, done: &str) -> Annotations {
        [(names::INTENTS, intents), (names::INTENTS_DONE, done)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn approval(node: &str) -> Wish {
        let nodes = [(node.to_owned(), json!({"phase": "Succeeded"}))].into_iter().collect();
        Wish::Nodes { nodes, outputs: Vec::new() }
    }

    fn ids(text: &str) -> Vec<u64> {
        intents::read(text).iter().map(|intent| intent.id).collect()
    }

    const ONE: &str = r#"{"id":1,"kind":"nodes","nodes":{"a":{"phase":"Succeeded"}}}"#;
    const TWO: &str = r#"{"id":2,"kind":"retry"}"#;

    #[rstest]
    #[case::first("", "", &[1])]
    #[case::behind_another(&format!("[{ONE}]"), "", &[1, 2])]
    #[case::what_is_done_goes(&format!("[{ONE},{TWO}]"), "1", &[2, 3])]
    #[case::all_is_done(&format!("[{ONE},{TWO}]"), "2", &[3])]
    #[case::more_is_done_than_is_listed(&format!("[{ONE}]"), "7", &[8])]
    #[case::the_list_is_gone("", "7", &[8])]
    #[case::unreadable("[1]", "done", &[1])]
    fn numbers_go_on(#[case] intents: &str, #[case] done: &str, #[case] expected: &[u64]) {
        let annotations = annotations(intents, done);
        let (text, intent) = note(approval("b"), Some(&annotations), Some(&annotations)).unwrap().unwrap();
        assert_eq!(ids(&text), expected);
        assert_eq!(Some(&intent.id), expected.last());
    }

    #[test]
    fn the_same_is_noted_again_only_in_another_write() {
        let first = note(approval("a"), None, None).unwrap().unwrap().0;
        let noted = annotations(&first, "");
        assert_eq!(note(approval("a"), None, Some(&noted)), Ok(None));
        let (again, _) = note(approval("a"), Some(&noted), Some(&noted)).unwrap().unwrap();
        assert_eq!(ids(&again), [1, 2]);
    }

    #[test]
    fn a_list_that_is_full_is_refused() {
        let wish = |bytes: usize| Wish::Nodes {
            nodes: [("a".to_owned(), json!({"message": "x".repeat(bytes)}))].into_iter().collect::<Map<_, _>>(),
            outputs: Vec::new(),
        };
        let mut others = annotations("", "");
        others.insert("a".to_owned(), "x".repeat(100 << 10));
        assert!(note(wish(139 << 10), None, Some(&others)).is_ok());
        let Err(LedgerError::Full { size }) = note(wish(140 << 10), None, Some(&others)) else { panic!("taken") };
        assert!(size > LIMIT);
    }

    #[test]
    fn a_forged_last_number_is_refused() {
        let forged = annotations(r#"[{"id":18446744073709551615,"kind":"retry"}]"#, "");
        assert_eq!(note(approval("a"), Some(&forged), Some(&forged)), Err(LedgerError::LastNumber));
    }
}
