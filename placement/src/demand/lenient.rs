//! Reading JSON that may be anything: the Workflow CRD checks no types, and one odd field must not hide the others.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How many fields of wrong types are remembered.
const REMEMBERED: usize = 4;

/// What was read: the value, if there is one, and the paths of what has a wrong type and is left out of it.
pub(super) struct Read<T> {
    pub(super) value: Option<T>,
    pub(super) wrong: Vec<String>,
}

impl<T> Read<T> {
    fn is(value: T) -> Self {
        Self { value: Some(value), wrong: Vec::new() }
    }

    fn wrong() -> Self {
        Self { value: None, wrong: vec![String::new()] }
    }

    pub(super) fn map<U>(self, with: impl FnOnce(T) -> U) -> Read<U> {
        Read { value: self.value.map(with), wrong: self.wrong }
    }

    /// Takes the value, and leaves its wrong paths to what it is part of.
    pub(super) fn hand_over(self, part: impl fmt::Display, to: &mut Vec<String>) -> Option<T> {
        for path in self.wrong.into_iter().take(REMEMBERED.saturating_sub(to.len())) {
            let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            to.push(format!("{part}{dot}{path}"));
        }
        self.value
    }
}

/// A type that is read from some kinds of JSON values; of all others it says that they are wrong. `null` is absent.
pub(super) trait Lenient: Sized {
    fn from_text(_: &str) -> Read<Self> {
        Read::wrong()
    }

    fn from_bool(_: bool) -> Read<Self> {
        Read::wrong()
    }

    fn from_number(_: serde_json::Number) -> Read<Self> {
        Read::wrong()
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Read<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Read::wrong())
    }

    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Read<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Read::wrong())
    }
}

impl<'de, T: Lenient> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Whatever(PhantomData))
    }
}

struct Whatever<T>(PhantomData<T>);

impl<'de, T: Lenient> Visitor<'de> for Whatever<T> {
    type Value = Read<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Read<T>, E> {
        Ok(Read { value: None, wrong: Vec::new() })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Read<T>, E> {
        Ok(T::from_text(text))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Read<T>, E> {
        Ok(T::from_bool(value))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Read<T>, E> {
        Ok(T::from_number(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Read<T>, E> {
        Ok(T::from_number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Read<T>, E> {
        Ok(serde_json::Number::from_f64(number).map_or_else(Read::wrong, T::from_number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Read<T>, A::Error> {
        T::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Read<T>, A::Error> {
        T::from_map(map)
    }
}

impl Lenient for String {
    fn from_text(text: &str) -> Read<Self> {
        Read::is(text.to_owned())
    }
}

impl Lenient for bool {
    fn from_bool(value: bool) -> Read<Self> {
        Read::is(value)
    }
}

impl Lenient for u64 {
    fn from_number(number: serde_json::Number) -> Read<Self> {
        number.as_u64().map_or_else(Read::wrong, Read::is)
    }
}

/// Text that may be written as a number or a truth value, too (Argo's AnyString, Kubernetes' Quantity).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl Lenient for Text {
    fn from_text(text: &str) -> Read<Self> {
        Read::is(Self(text.to_owned()))
    }

    fn from_bool(value: bool) -> Read<Self> {
        Read::is(Self(value.to_string()))
    }

    fn from_number(number: serde_json::Number) -> Read<Self> {
        Read::is(Self(number.to_string()))
    }
}

/// An object that is there; what is in it does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present;

impl Lenient for Present {
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Read<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Read::is(Self))
    }
}

impl<T: Lenient> Lenient for Option<T> {
    fn from_text(text: &str) -> Read<Self> {
        T::from_text(text).map(Some)
    }

    fn from_bool(value: bool) -> Read<Self> {
        T::from_bool(value).map(Some)
    }

    fn from_number(number: serde_json::Number) -> Read<Self> {
        T::from_number(number).map(Some)
    }

    fn from_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Read<Self>, A::Error> {
        T::from_list(list).map(|read| read.map(Some))
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Read<Self>, A::Error> {
        T::from_map(map).map(|read| read.map(Some))
    }
}

impl<T: Lenient> Lenient for Vec<T> {
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Read<Self>, A::Error> {
        let (mut values, mut wrong) = (Self::new(), Vec::new());
        for index in 0.. {
            let Some(read) = list.next_element::<Read<T>>()? else { break };
            values.extend(read.hand_over(format_args!("[{index}]"), &mut wrong));
        }
        Ok(Read { value: Some(values), wrong })
    }
}

impl<T: Lenient> Lenient for BTreeMap<String, T> {
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Read<Self>, A::Error> {
        let (mut values, mut wrong) = (Self::new(), Vec::new());
        while let Some((key, read)) = map.next_entry::<String, Read<T>>()? {
            if let Some(value) = read.hand_over(format_args!("[{key:?}]"), &mut wrong) {
                values.insert(key, value);
            }
        }
        Ok(Read { value: Some(values), wrong })
    }
}

/// Reads a key without keeping it: as the one of these that it is.
pub(super) struct OneOf(pub(super) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de> Visitor<'de> for OneOf {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|known| **known == key).copied())
    }
}

/// Declares structs of which each field is read from the key behind it, whatever else is there.
macro_rules! views {
    ($($(#[$doc:meta])* struct $Name:ident { $($(#[$field_doc:meta])* $field:ident: $Type:ty = $key:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(super) struct $Name { $($(#[$field_doc])* pub(super) $field: $Type,)* }

        impl Lenient for $Name {
            fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Read<Self>, A::Error> {
                let (mut view, mut wrong) = (Self::default(), Vec::new());
                while let Some(key) = map.next_key_seed(OneOf(&[$($key),*]))? {
                    match key {
                        $(Some($key) => {
                            let read: Read<$Type> = map.next_value()?;
                            if let Some(value) = read.hand_over($key, &mut wrong) {
                                view.$field = value;
                            }
                        })*
                        _ => { map.next_value::<IgnoredAny>()?; }
                    }
                }
                Ok(Read { value: Some(view), wrong })
            }
        }
    )*};
}
pub(super) use views;
