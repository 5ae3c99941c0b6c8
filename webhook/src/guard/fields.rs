//! An object's fields, each as its own JSON text: a status may be a megabyte, of which a write changes a line.

use std::collections::BTreeMap;
use std::fmt;

use argosy_runtime::patch::{add, remove};
use json_patch::PatchOperation;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Fields by name, unparsed.
pub(super) type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The most fields that an object is read with. No workflow has so many nodes; in memory, tiny ones are many times their
/// text.
const MOST: usize = 100_000;

/// A field whose text differs between an old and a new object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference<'f, 'a> {
    pub(super) name: &'f str,
    old: Option<&'a RawValue>,
    new: Option<&'a RawValue>,
}

/// The fields of what may be an object. Nothing has none; `None`: it is something else.
pub(super) fn read(object: Option<&RawValue>) -> Option<Fields<'_>> {
    object.map_or(Some(Fields::new()), |object| read_text(object.get()))
}

/// The fields of an object that is not at hand as a part of something else.
pub(super) fn read_text(object: &str) -> Option<Fields<'_>> {
    let mut text = serde_json::Deserializer::from_str(object);
    let fields = text.deserialize_map(Reader).ok()?;
    text.end().ok().map(|()| fields)
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of at most {MOST} fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::new();
        while let Some((name, value)) = map.next_entry()? {
            if fields.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            fields.insert(name, value);
        }
        Ok(fields)
    }
}

/// What differs in text; whether it does in meaning takes to parse it.
pub(super) fn differences<'f, 'a>(
    old: &'f Fields<'a>,
    new: &'f Fields<'a>,
) -> impl Iterator<Item = Difference<'f, 'a>> {
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    names.filter_map(|name| {
        let (old, new) = (old.get(name).copied(), new.get(name).copied());
        let same = old.map(RawValue::get) == new.map(RawValue::get);
        (!same).then_some(Difference { name, old, new })
    })
}

/// A value; null if there is none. `None`: it is nested too deeply to be parsed.
pub(super) fn parse(value: Option<&RawValue>) -> Option<Value> {
    value.map_or(Some(Value::Null), |value| serde_json::from_str(value.get()).ok())
}

impl Difference<'_, '_> {
    pub(super) fn before(&self) -> Option<Value> {
        parse(self.old)
    }

    pub(super) fn after(&self) -> Option<Value> {
        parse(self.new)
    }

    /// How long its text was, and is.
    pub(super) fn lengths(&self) -> (usize, usize) {
        let length = |value: Option<&RawValue>| value.map_or(0, |value| value.get().len());
        (length(self.old), length(self.new))
    }

    /// Whether the field is there now.
    pub(super) fn is_there(&self) -> bool {
        self.new.is_some()
    }

    /// Gives the field of the object at `path` its old value back.
    pub(super) fn restore(&self, path: &[&str]) -> Option<PatchOperation> {
        let path = [path, &[self.name]].concat();
        Some(match self.old {
            Some(old) => add(&path, parse(Some(old))?),
            None => remove(&path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_too_many_fields_is_not_read() {
        let object =
            |count: usize| format!("{{{}}}", (0..count).map(|i| format!("\"{i}\":0")).collect::<Vec<_>>().join(","));
        assert_eq!(read_text(&object(MOST)).unwrap().len(), MOST);
        assert!(read_text(&object(MOST + 1)).is_none());
    }
}
