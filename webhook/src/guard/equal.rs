//! When two values are the same. Argo's clients read a Workflow into Go types and write it back, which changes its text
//! where nobody meant to change anything.

use argosy_placement::parse_quantity;
use serde_json::{Map, Value};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// What a round trip through Go's types does is no difference: it drops what is empty (null, "", 0, false and
    /// containers of nothing else) or puts it there, and writes quantities in one way.
    Loose,
    /// A value that is there but empty differs from none: what a user sets an output to may be empty.
    Exact,
}

/// What stands for a field that is not there.
static ABSENT: Value = Value::Null;

/// Fields whose values are quantities by name, as in a container's resources.
const QUANTITIES: [&str; 2] = ["requests", "limits"];
/// Fields that are a quantity.
const QUANTITY: [&str; 2] = ["sizeLimit", "capacity"];

/// A field of an object; null if it is not there.
pub(super) fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a Value {
    fields.get(name).unwrap_or(&ABSENT)
}

/// The names of the fields that at least one of the two has, each once.
pub(super) fn names<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))).map(String::as_str)
}

/// Whether Go would write it the same as if it were not there.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// Whether they say the same.
pub(super) fn equal(a: &Value, b: &Value, care: Care) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => names(a, b).all(|name| {
            let (a, b) = (field(a, name), field(b, name));
            equal(a, b, care) || (care == Care::Loose && is_same_quantity(name, a, b))
        }),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b, care)),
        _ if a == b => true,
        _ if care == Care::Loose && is_empty(a) && is_empty(b) => true,
        // Argo takes a number or a boolean for a parameter's value, and writes it as a string.
        _ => text(a).is_some_and(|a| text(b).is_some_and(|b| a == b)),
    }
}

fn is_same_quantity(name: &str, a: &Value, b: &Value) -> bool {
    let same = |name: &str, a: &Value, b: &Value| {
        let amount = |value: &Value| parse_quantity(name, &text(value)?);
        amount(a).is_some_and(|a| amount(b) == Some(a))
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) if QUANTITIES.contains(&name) => names(a, b).all(|name| {
            let (a, b) = (field(a, name), field(b, name));
            same(name, a, b) || equal(a, b, Care::Loose)
        }),
        _ => QUANTITY.contains(&name) && same(name, a, b),
    }
}

/// As Argo's `AnyString` reads a scalar.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => value.as_f64().map(|value| value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    // What Go's types add or drop.
    #[case(json!({}), json!({"arguments": {}, "metadata": {"creationTimestamp": null}}), true, false)]
    #[case(json!({"a": {"readOnly": false, "port": 0, "name": ""}}), json!({}), true, false)]
    #[case(json!([{"name": "a"}]), json!([{"name": "a", "inputs": {}}]), true, false)]
    #[case(json!({"a": null}), json!({}), true, true)]
    #[case(json!({"finishedAt": null}), json!({"finishedAt": "2026-01-02T03:04:05Z"}), false, false)]
    // Parameters' values.
    #[case(json!({"value": 5}), json!({"value": "5"}), true, true)]
    #[case(json!({"value": 0.1}), json!({"value": "0.1"}), true, true)]
    #[case(json!({"value": true}), json!({"value": "true"}), true, true)]
    #[case(json!({"value": 5}), json!({"value": "5.0"}), false, false)]
    #[case(json!({"value": "0"}), json!({}), false, false)]
    #[case(json!({"value": ""}), json!({}), true, false)]
    #[case(json!({"valueFrom": {"supplied": {}}}), json!({"value": ""}), true, false)]
    // Quantities.
    #[case(json!({"requests": {"cpu": 0.5, "memory": "1024Mi"}}), json!({"requests": {"cpu": "500m", "memory": "1Gi"}}), true, false)]
    #[case(json!({"limits": {"cpu": "1000m"}}), json!({"limits": {"cpu": "1"}}), true, false)]
    #[case(json!({"limits": {"cpu": "1000m"}}), json!({"limits": {"cpu": "2"}}), false, false)]
    #[case(json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "1", "memory": "1Gi"}}), false, false)]
    #[case(json!({"emptyDir": {"sizeLimit": "1024Mi"}}), json!({"emptyDir": {"sizeLimit": "1Gi"}}), true, false)]
    #[case(json!({"args": ["1000m"]}), json!({"args": ["1"]}), false, false)]
    // What somebody changed.
    #[case(json!({"a": ["x", ""]}), json!({"a": ["x"]}), false, false)]
    #[case(json!({"a": 1}), json!({"a": 2}), false, false)]
    #[case(json!({"a": {"b": 1}}), json!({"a": "b"}), false, false)]
    fn tells_a_round_trip_from_a_change(
        #[case] old: Value,
        #[case] new: Value,
        #[case] loose: bool,
        #[case] exact: bool,
    ) {
        for (a, b) in [(&old, &new), (&new, &old)] {
            assert_eq!((equal(a, b, Care::Loose), equal(a, b, Care::Exact)), (loose, exact));
        }
    }
}
