//! What the webhook reads of a Workflow: metadata, and the few fields of `spec` and `status` that it may have to change.
//! The rest, which may be megabytes, is skipped over.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use argosy_api::{Placement, RuleSource, Workflow, names};
use argosy_placement::{own_cluster, read_stamp};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A Workflow as it is asked to be created.
pub(crate) type View = Workflow<Part<Spec>, Part<Status>>;

/// A part of a Workflow that should be an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<T> {
    Object(T),
    /// Something else, which the CRD may let through.
    Odd,
}

/// What is looked at of `spec`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) suspend: Flag,
    pub(crate) archive_logs: Flag,
    pub(crate) synchronization: Option<Box<RawValue>>,
    pub(crate) workflow_template_ref: Option<IgnoredAny>,
    pub(crate) arguments: Option<Box<RawValue>>,
}

/// What is looked at of `status`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) phase: Option<Box<RawValue>>,
    pub(crate) stored_workflow_template_spec: Option<IgnoredAny>,
}

/// What a field of the spec says that is to be true or false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flag {
    #[default]
    Absent,
    /// There, but null: for Argo, too, it is unset.
    Null,
    Is(bool),
    /// What Argo refuses.
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

/// The workflow's spec, if it is an object.
pub(crate) fn spec(view: &View) -> Option<&Spec> {
    match &view.spec {
        Some(Part::Object(spec)) => Some(spec),
        Some(Part::Odd) | None => None,
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

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor(PhantomData))
    }
}

/// Reads an object as it streams by; an untagged enum would build the whole object first.
struct PartVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PartVisitor<T> {
    type Value = Part<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a workflow")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Part::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Part<T>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Part::Odd)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Part<T>, E> {
        Ok(Part::Odd)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Part<T>, E> {
        Ok(Part::Odd)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Part<T>, E> {
        Ok(Part::Odd)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Part<T>, E> {
        Ok(Part::Odd)
    }

    fn visit_str<E>(self, _: &str) -> Result<Part<T>, E> {
        Ok(Part::Odd)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Value {
            Null(()),
            Bool(bool),
            Other(IgnoredAny),
        }
        Ok(match Value::deserialize(deserializer)? {
            Value::Null(()) => Self::Null,
            Value::Bool(value) => Self::Is(value),
            Value::Other(_) => Self::Other,
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
    #[case(r#"{"spec":{}}"#, Some(Part::Object(Flag::Absent)))]
    #[case(r#"{"spec":{"templates":[{"suspend":{}}],"suspend":true}}"#, Some(Part::Object(Flag::Is(true))))]
    #[case(r#"{"spec":{"suspend":false,"entrypoint":"a"}}"#, Some(Part::Object(Flag::Is(false))))]
    #[case(r#"{"spec":{"suspend":null}}"#, Some(Part::Object(Flag::Null)))]
    #[case(r#"{"spec":{"suspend":{"a":[1]}}}"#, Some(Part::Object(Flag::Other)))]
    #[case(r#"{"spec":[1,{"suspend":true}]}"#, Some(Part::Odd))]
    #[case(r#"{"spec":"suspend"}"#, Some(Part::Odd))]
    #[case(r#"{"spec":1}"#, Some(Part::Odd))]
    #[case(r#"{"spec":-1}"#, Some(Part::Odd))]
    #[case(r#"{"spec":1.5}"#, Some(Part::Odd))]
    #[case(r#"{"spec":false}"#, Some(Part::Odd))]
    fn reads_any_spec(#[case] text: &str, #[case] expected: Option<Part<Flag>>) {
        let read = view(text).spec.map(|spec| match spec {
            Part::Object(spec) => Part::Object(spec.suspend),
            Part::Odd => Part::Odd,
        });
        assert_eq!(read, expected);
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
