//! What is to be done about one object that a workflow refers to: decided from how it is on both sides, and nothing else.

use super::kind::{Copying, Reference};

/// How the object is in the WEC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum There {
    Absent,
    /// Somebody else's. It is used as it is, and never touched.
    Foreign,
    /// Our copy, of this state of its origin.
    Ours {
        source: Option<String>,
    },
    /// We may not look.
    Unknown,
}

/// How its origin is in the control cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Absent,
    /// In this state.
    Present {
        source: String,
    },
    /// It cannot be read, or is nothing to copy.
    Barred {
        why: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: it is as it should be, or nothing can be done.
    Leave,
    Create,
    Update,
    /// The workflow cannot run; why.
    Wait(String),
}

/// Whether the origin matters at all: only then is it read.
pub fn asks_for_origin(there: &There, copying: Copying) -> bool {
    copying == Copying::Yes && matches!(there, There::Absent | There::Ours { .. })
}

/// Decides about an object without which the workflow does (`optional`) or does not run.
pub fn decide(reference: &Reference, optional: bool, there: &There, origin: &Origin, copying: Copying) -> Action {
    let why = match (there, copying, origin) {
        (There::Foreign | There::Unknown, ..) => return Action::Leave,
        (There::Ours { .. }, Copying::Denied(_) | Copying::Never, _) => return Action::Leave,
        (There::Ours { source }, Copying::Yes, Origin::Present { source: now }) => {
            return if source.as_ref() == Some(now) { Action::Leave } else { Action::Update };
        }
        (There::Ours { .. }, Copying::Yes, Origin::Barred { .. }) => return Action::Leave,
        (There::Ours { .. }, Copying::Yes, Origin::Absent) => {
            format!("{reference} is no longer in the control cluster")
        }
        (There::Absent, Copying::Never, _) => format!("there is no {reference} there"),
        (There::Absent, Copying::Denied(field), _) => {
            format!("there is no {reference} there, and it may not be copied ({field} of the WorkloadCluster)")
        }
        (There::Absent, Copying::Yes, Origin::Present { .. }) => return Action::Create,
        (There::Absent, Copying::Yes, Origin::Absent) => {
            format!("there is no {reference}, neither there nor in the control cluster")
        }
        (There::Absent, Copying::Yes, Origin::Barred { why }) => {
            format!("there is no {reference} there, and it cannot be copied: {why}")
        }
    };
    if optional { Action::Leave } else { Action::Wait(why) }
}

/// So many missing objects are named; more would only hide the first.
const NAMED: usize = 5;

/// What a workflow waits for, in one sentence.
pub fn sentence(missing: &[String]) -> String {
    let named = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match missing.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::kind::Kind;
    use rstest::rstest;

    const NO: Copying = Copying::Denied("spec.copy.configMaps");

    fn ours(source: &str) -> There {
        There::Ours { source: Some(source.to_owned()) }
    }

    fn present() -> Origin {
        Origin::Present { source: "u@7".to_owned() }
    }

    fn barred() -> Origin {
        Origin::Barred { why: "configmaps is forbidden".to_owned() }
    }

    fn shown(action: Action) -> String {
        match action {
            Action::Wait(why) => why,
            other => format!("{other:?}"),
        }
    }

    #[rstest]
    #[case::copied(There::Absent, Copying::Yes, present(), "Create")]
    #[case::in_step(ours("u@7"), Copying::Yes, present(), "Leave")]
    #[case::changed(ours("u@6"), Copying::Yes, present(), "Update")]
    #[case::made_anew(ours("t@7"), Copying::Yes, present(), "Update")]
    #[case::its_mark_is_gone(There::Ours { source: None }, Copying::Yes, present(), "Update")]
    #[case::a_strangers(There::Foreign, Copying::Yes, present(), "Leave")]
    #[case::not_to_be_seen(There::Unknown, Copying::Yes, Origin::Absent, "Leave")]
    #[case::consent_withdrawn(ours("u@6"), NO, present(), "Leave")]
    #[case::origin_not_readable_any_more(ours("u@6"), Copying::Yes, barred(), "Leave")]
    #[case::no_consent(
        There::Absent,
        NO,
        present(),
        r#"there is no ConfigMap "x" there, and it may not be copied (spec.copy.configMaps of the WorkloadCluster)"#
    )]
    #[case::nowhere(
        There::Absent,
        Copying::Yes,
        Origin::Absent,
        r#"there is no ConfigMap "x", neither there nor in the control cluster"#
    )]
    #[case::origin_deleted(
        ours("u@7"),
        Copying::Yes,
        Origin::Absent,
        r#"ConfigMap "x" is no longer in the control cluster"#
    )]
    #[case::not_readable(
        There::Absent,
        Copying::Yes,
        barred(),
        r#"there is no ConfigMap "x" there, and it cannot be copied: configmaps is forbidden"#
    )]
    #[case::of_the_cluster(There::Absent, Copying::Never, Origin::Absent, r#"there is no ConfigMap "x" there"#)]
    fn decisions(#[case] there: There, #[case] copying: Copying, #[case] origin: Origin, #[case] expected: &str) {
        let reference = Reference { kind: Kind::ConfigMap, name: "x".into() };
        let action = decide(&reference, false, &there, &origin, copying);
        let waits = matches!(action, Action::Wait(_));
        assert_eq!(shown(action.clone()), expected);
        // What is optional holds nothing up, and is copied all the same.
        let optional = decide(&reference, true, &there, &origin, copying);
        assert_eq!(optional, if waits { Action::Leave } else { action });
    }

    #[test]
    fn the_message_stays_short() {
        let missing: Vec<String> = (1..=7).map(|i| i.to_string()).collect();
        assert_eq!(sentence(&missing[..2]), "1; 2");
        assert_eq!(sentence(&missing), "1; 2; 3; 4; 5; and 2 more");
    }
}
