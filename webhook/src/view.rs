//! What the webhook reads of a Workflow: metadata, and whether `spec` says suspend. The rest, which may be megabytes,
//! is skipped over.

use std::collections::BTreeMap;
use std::fmt;

use argosy_api::{Placement, RuleSource, Workflow, names};
use argosy_placement::{own_cluster, read_stamp};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A Workflow as it is asked to be created.
pub(crate) type View = Workflow<Spec, IgnoredAny>;

/// What kind of thing `spec` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    Object(Suspend),
    /// Not an object: nothing that could be suspended.
    Odd,
}

/// What `spec.suspend` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspend {
    Absent,
    True,
    /// There, but not `true`.
    Other,
}

/// The workflow's label `kubestellar.io/cluster`, and whose word it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Absent,
    /// There, but empty.
    Empty,
    /// The user's choice.
    Own(String),
    /// What a rule chose for the workflow that this one was made from, or a moment ago for this very one: by a
    /// resubmit, or by another webhook that changed the object and has us asked again.
    Inherited,
}

impl Suspend {
    pub(crate) fn of(view: &View) -> Option<Self> {
        match view.spec {
            Some(Spec::Object(suspend)) => Some(suspend),
            Some(Spec::Odd) | None => None,
        }
    }
}

impl Label {
    /// Reads the label and the stamp beside it.
    pub(crate) fn of(view: &View) -> Self {
        let Some(value) = label(view, names::CLUSTER) else { return Self::Absent };
        let stamp = stamp(view);
        match own_cluster(Some(value), stamp.as_ref()) {
            Some(own) => Self::Own(own),
            None if stamp.is_some_and(|stamp| stamp.cluster == value && stamp.rule != RuleSource::Label) => {
                Self::Inherited
            }
            None => Self::Empty,
        }
    }

    /// What the user chose.
    pub(crate) fn own(&self) -> Option<&str> {
        match self {
            Self::Own(value) => Some(value),
            Self::Absent | Self::Empty | Self::Inherited => None,
        }
    }
}

/// The stamp that came with the workflow, whosever it is.
pub(crate) fn stamp(view: &View) -> Option<Placement> {
    annotation(view, names::PLACEMENT).and_then(read_stamp)
}

/// Whether the workflow is done before it begins: brought back from a backup or an archive.
pub(crate) fn is_completed(view: &View) -> bool {
    label(view, names::ARGO_COMPLETED) == Some("true")
}

pub(crate) fn label<'a>(view: &'a View, key: &str) -> Option<&'a str> {
    value(view.metadata.labels.as_ref(), key)
}

pub(crate) fn annotation<'a>(view: &'a View, key: &str) -> Option<&'a str> {
    value(view.metadata.annotations.as_ref(), key)
}

/// What a map of labels or annotations, which may not be there, has under this key.
pub(crate) fn value<'a>(map: Option<&'a BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    map?.get(key).map(String::as_str)
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpecVisitor)
    }
}

/// Takes `suspend` out of an object as it streams by; an untagged enum would build the whole object first.
struct SpecVisitor;

impl<'de> Visitor<'de> for SpecVisitor {
    type Value = Spec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a workflow's spec")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spec, A::Error> {
        let mut suspend = Suspend::Absent;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Suspend => suspend = map.next_value()?,
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Spec::Object(suspend))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Spec, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Spec::Odd)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Spec, E> {
        Ok(Spec::Odd)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Spec, E> {
        Ok(Spec::Odd)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Spec, E> {
        Ok(Spec::Odd)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Spec, E> {
        Ok(Spec::Odd)
    }

    fn visit_str<E>(self, _: &str) -> Result<Spec, E> {
        Ok(Spec::Odd)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Key {
    Suspend,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Suspend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Value {
            Bool(bool),
            Other(IgnoredAny),
        }
        Ok(match Value::deserialize(deserializer)? {
            Value::Bool(true) => Self::True,
            Value::Bool(false) | Value::Other(_) => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn view(text: &str) -> View {
        serde_json::from_str(text).unwrap()
    }

    #[rstest]
    #[case(r#"{}"#, None)]
    #[case(r#"{"spec":null}"#, None)]
    #[case(r#"{"spec":{}}"#, Some(Spec::Object(Suspend::Absent)))]
    #[case(r#"{"spec":{"templates":[{"suspend":{}}],"suspend":true}}"#, Some(Spec::Object(Suspend::True)))]
    #[case(r#"{"spec":{"suspend":false,"entrypoint":"a"}}"#, Some(Spec::Object(Suspend::Other)))]
    #[case(r#"{"spec":{"suspend":null}}"#, Some(Spec::Object(Suspend::Other)))]
    #[case(r#"{"spec":{"suspend":{"a":[1]}}}"#, Some(Spec::Object(Suspend::Other)))]
    #[case(r#"{"spec":[1,{"suspend":true}]}"#, Some(Spec::Odd))]
    #[case(r#"{"spec":"suspend"}"#, Some(Spec::Odd))]
    #[case(r#"{"spec":1}"#, Some(Spec::Odd))]
    #[case(r#"{"spec":-1}"#, Some(Spec::Odd))]
    #[case(r#"{"spec":1.5}"#, Some(Spec::Odd))]
    #[case(r#"{"spec":false}"#, Some(Spec::Odd))]
    fn reads_any_spec(#[case] text: &str, #[case] expected: Option<Spec>) {
        assert_eq!(view(text).spec, expected);
    }

    #[rstest]
    #[case(None, None, Label::Absent)]
    #[case(Some(""), None, Label::Empty)]
    #[case(Some("c1"), None, Label::Own("c1".to_owned()))]
    #[case(Some("c1"), Some("not a stamp"), Label::Own("c1".to_owned()))]
    #[case(Some("c1"), Some(r#"{"time":"t","cluster":"c2","rule":"namespace","reason":""}"#), Label::Own("c1".to_owned()))]
    #[case(Some("c1"), Some(r#"{"time":"t","cluster":"c1","rule":"label","reason":""}"#), Label::Own("c1".to_owned()))]
    #[case(Some("c1"), Some(r#"{"time":"t","cluster":"c1","rule":"namespace","reason":""}"#), Label::Inherited)]
    #[case(Some(""), Some(r#"{"time":"t","cluster":"","rule":"namespace","reason":""}"#), Label::Inherited)]
    #[case(Some(""), Some(r#"{"time":"t","cluster":"","rule":"label","reason":"","own":"c1"}"#), Label::Own("c1".to_owned()))]
    #[case(Some("c1"), Some(r#"{"time":"t","cluster":"c1","rule":"policy/p","reason":""}"#), Label::Inherited)]
    #[case(
        Some("local"),
        Some(r#"{"time":"t","cluster":"local","rule":"namespace","reason":""}"#),
        Label::Own("local".to_owned())
    )]
    fn tells_the_users_label_from_an_inherited_one(
        #[case] cluster: Option<&str>,
        #[case] stamp: Option<&str>,
        #[case] expected: Label,
    ) {
        let mut view = view("{}");
        view.metadata.labels = cluster.map(|cluster| [(names::CLUSTER.to_owned(), cluster.to_owned())].into());
        view.metadata.annotations = stamp.map(|stamp| [(names::PLACEMENT.to_owned(), stamp.to_owned())].into());
        assert_eq!(Label::of(&view), expected);
    }
}
