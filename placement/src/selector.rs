//! Label selectors as `kubectl -l` takes them: `env=prod,region in (eu,us),!spot`; `*` selects everything.
//!
//! kube's own `Selector` parses too, but its errors do not say where; a person who typed an annotation needs the
//! column.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use thiserror::Error;

/// A parsed label selector: alternatives, in each of which all requirements hold. Text has one alternative; lists of
/// selectors, as KubeStellar has them, may have more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    any: Vec<Vec<Requirement>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    DoesNotExist,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// What is wrong with a selector, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("column {column}: expected {expected}, found {found}")]
pub struct ParseError {
    /// Counts characters from 1.
    pub column: usize,
    pub expected: &'static str,
    /// The offending piece in quotes, or `the end`.
    pub found: String,
}

impl Selector {
    /// The selector that selects everything, written `*`.
    pub fn everything() -> Self {
        Self { any: vec![Vec::new()] }
    }

    /// Selects what any of these does; of none, nothing.
    pub fn any_of(selectors: impl IntoIterator<Item = Self>) -> Self {
        Self { any: selectors.into_iter().flat_map(|selector| selector.any).collect() }
    }

    /// Selects what both do.
    pub fn and(&self, other: &Self) -> Self {
        let both = |left: &Vec<Requirement>, right: &Vec<Requirement>| left.iter().chain(right).cloned().collect();
        Self { any: self.any.iter().flat_map(|left| other.any.iter().map(move |right| both(left, right))).collect() }
    }

    /// Selects objects whose label `key` has one of these values.
    pub fn one_of(key: &str, values: Vec<String>) -> Self {
        Self { any: vec![vec![Requirement { key: key.to_owned(), test: Test::In(values) }]] }
    }

    /// Whether nothing is selected that lacks the label `key`.
    pub fn requires(&self, key: &str) -> bool {
        let is_required = |one: &Requirement| one.key == key && matches!(one.test, Test::Exists | Test::In(_));
        self.any.iter().all(|all| all.iter().any(is_required))
    }

    /// Reads a selector as Kubernetes objects hold it.
    ///
    /// # Errors
    /// An operator that Kubernetes does not know; in words.
    pub fn from_object(selector: &LabelSelector) -> Result<Self, String> {
        let labels = selector.match_labels.iter().flatten();
        let labels =
            labels.map(|(key, value)| Ok(Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) }));
        let expressions = selector.match_expressions.iter().flatten().map(|expression| {
            let values = || expression.values.clone().unwrap_or_default();
            let test = match expression.operator.as_str() {
                "In" => Test::In(values()),
                "NotIn" => Test::NotIn(values()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::DoesNotExist,
                other => return Err(format!("expected operator In, NotIn, Exists or DoesNotExist, found {other:?}")),
            };
            Ok(Requirement { key: expression.key.clone(), test })
        });
        Ok(Self { any: vec![labels.chain(expressions).collect::<Result<_, _>>()?] })
    }

    /// Parses the syntax of `kubectl -l`, or `*`. An empty text is an error: where everything is meant, `*` says so.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser { tokens: tokens(text), next: 0, end: text.chars().count() + 1 };
        if parser.peek() == "*" {
            parser.next += 1;
            return parser.expect("", "nothing after `*`").map(|()| Self::everything());
        }
        let mut requirements = vec![parser.requirement()?];
        while parser.peek() == "," {
            parser.next += 1;
            requirements.push(parser.requirement()?);
        }
        parser.expect("", "`,` or the end")?;
        Ok(Self { any: vec![requirements] })
    }

    /// Whether an object with these labels is selected. As in Kubernetes, `!=` and `notin` also select objects
    /// without the key.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.any.iter().any(|all| all.iter().all(|requirement| requirement.matches(labels)))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any.is_empty() {
            return f.write_str("nothing");
        }
        for (i, all) in self.any.iter().enumerate() {
            if i > 0 {
                f.write_str(" or ")?;
            }
            if all.is_empty() {
                f.write_str("*")?;
            }
            for (i, requirement) in all.iter().enumerate() {
                write!(f, "{}{requirement}", if i > 0 { "," } else { "" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, test } = self;
        match test {
            Test::Exists => write!(f, "{key}"),
            Test::DoesNotExist => write!(f, "!{key}"),
            Test::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            Test::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0]),
            Test::In(values) => write!(f, "{key} in ({})", values.join(",")),
            Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
        }
    }
}

/// A piece of the text with its column.
struct Token<'a> {
    column: usize,
    text: &'a str,
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
    end: usize,
}

/// Splits into operators (`, ( ) = == != ! *`) and words; white space only separates.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut column = 1;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| !c.is_whitespace() && !",()=!*".contains(c);
        let length = match first {
            '=' | '!' if rest[1..].starts_with('=') => 2,
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() {
            found.push(Token { column, text: token });
        }
        column += token.chars().count();
        rest = after;
    }
    found
}

impl<'a> Parser<'a> {
    /// The next token, empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.get(self.next).map_or("", |token| token.text)
    }

    fn error(&self, expected: &'static str) -> ParseError {
        match self.tokens.get(self.next) {
            Some(token) => ParseError { column: token.column, expected, found: format!("`{}`", token.text) },
            None => ParseError { column: self.end, expected, found: "the end".to_owned() },
        }
    }

    fn expect(&mut self, text: &str, expected: &'static str) -> Result<(), ParseError> {
        if self.peek() != text {
            return Err(self.error(expected));
        }
        self.next += 1;
        Ok(())
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        if self.peek() == "!" {
            self.next += 1;
            return Ok(Requirement { key: self.key()?, test: Test::DoesNotExist });
        }
        let key = self.key()?;
        let test = match self.peek() {
            "=" | "==" => {
                self.next += 1;
                Test::In(vec![self.value()?])
            }
            "!=" => {
                self.next += 1;
                Test::NotIn(vec![self.value()?])
            }
            "in" => {
                self.next += 1;
                Test::In(self.values()?)
            }
            "notin" => {
                self.next += 1;
                Test::NotIn(self.values()?)
            }
            "" | "," => Test::Exists,
            _ => return Err(self.error("`=`, `!=`, `in`, `notin`, `,` or the end")),
        };
        Ok(Requirement { key, test })
    }

    fn key(&mut self) -> Result<String, ParseError> {
        const EXPECTED: &str = "a label key such as `env` or `example.com/env`";
        let key = self.peek();
        if !is_label_key(key) {
            return Err(self.error(EXPECTED));
        }
        self.next += 1;
        Ok(key.to_owned())
    }

    fn value(&mut self) -> Result<String, ParseError> {
        let value = self.peek();
        // `a=` and `a in (,x)` mean the empty value, as they do for kubectl.
        if matches!(value, "" | "," | ")") {
            return Ok(String::new());
        }
        if !is_label_name(value) {
            return Err(self.error("a label value (at most 63 letters, digits, `-`, `_`, `.`)"));
        }
        self.next += 1;
        Ok(value.to_owned())
    }

    fn values(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect("(", "`(` and a list of values")?;
        let mut values = vec![self.value()?];
        while self.peek() == "," {
            self.next += 1;
            values.push(self.value()?);
        }
        self.expect(")", "`,` or `)`")?;
        Ok(values)
    }
}

/// `prefix/name` or `name`, as Kubernetes' validation has it.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_dns_label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label)) && is_label_name(name)
}

/// The form of a label's value, and of the name in its key.
fn is_label_name(name: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 63
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && is_edge(name.chars().next())
        && is_edge(name.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[rstest]
    #[case("*", "", true)]
    #[case("env=prod", "env=prod", true)]
    #[case("env==prod", "env=dev", false)]
    #[case("env!=prod", "env=dev", true)]
    #[case("env!=prod", "", true)]
    #[case(" env = prod , region in ( eu , us ) ", "env=prod,region=us", true)]
    #[case("env=prod,region in (eu,us)", "env=prod,region=ap", false)]
    #[case("region notin (eu)", "region=us", true)]
    #[case("region notin (eu)", "region=eu", false)]
    #[case("region notin (eu)", "", true)]
    #[case("gpu", "gpu=", true)]
    #[case("gpu", "", false)]
    #[case("!spot", "", true)]
    #[case("!spot", "spot=yes", false)]
    #[case("env=", "env=", true)]
    #[case("env in (,a)", "env=", true)]
    #[case("example.com/in=notin", "example.com/in=notin", true)]
    fn selects(#[case] selector: &str, #[case] of: &str, #[case] expected: bool) {
        assert_eq!(Selector::parse(selector).unwrap().matches(&labels(of)), expected);
    }

    #[rstest]
    #[case("", "column 1: expected a label key such as `env` or `example.com/env`, found the end")]
    #[case("env=prod,", "column 10: expected a label key such as `env` or `example.com/env`, found the end")]
    #[case("env=prod region=eu", "column 10: expected `,` or the end, found `region`")]
    #[case("env~prod", "column 1: expected a label key such as `env` or `example.com/env`, found `env~prod`")]
    #[case("env is prod", "column 5: expected `=`, `!=`, `in`, `notin`, `,` or the end, found `is`")]
    #[case("env in eu", "column 8: expected `(` and a list of values, found `eu`")]
    #[case("env in (eu", "column 11: expected `,` or `)`, found the end")]
    #[case("*,env", "column 2: expected nothing after `*`, found `,`")]
    #[case("é=x", "column 1: expected a label key such as `env` or `example.com/env`, found `é`")]
    #[case("a=ü", "column 3: expected a label value (at most 63 letters, digits, `-`, `_`, `.`), found `ü`")]
    fn errors_point_at_the_column(#[case] selector: &str, #[case] message: &str) {
        assert_eq!(Selector::parse(selector).unwrap_err().to_string(), message);
    }

    #[test]
    fn reads_the_selectors_of_objects() {
        let object = serde_json::json!({
            "matchLabels": {"env": "prod"},
            "matchExpressions": [
                {"key": "region", "operator": "In", "values": ["eu", "us"]},
                {"key": "spot", "operator": "DoesNotExist"},
            ],
        });
        let selector = Selector::from_object(&serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!(selector.to_string(), "env=prod,region in (eu,us),!spot");
        assert_eq!(Selector::from_object(&LabelSelector::default()).unwrap(), Selector::everything());
        let object = serde_json::json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]});
        assert!(Selector::from_object(&serde_json::from_value(object).unwrap()).unwrap_err().contains("Gt"));
    }

    #[test]
    fn alternatives_and_conjunctions() {
        let parse = |text| Selector::parse(text).unwrap();
        let either = Selector::any_of([parse("a=1"), parse("b")]);
        assert!(either.matches(&labels("a=1")) && either.matches(&labels("b=")) && !either.matches(&labels("a=2")));
        let both = either.and(&parse("c!=3"));
        assert!(both.matches(&labels("b=x")) && !both.matches(&labels("a=1,c=3")));
        assert_eq!(both.to_string(), "a=1,c!=3 or b,c!=3");
        assert!(!Selector::any_of([]).matches(&labels("")));
    }

    /// What the CRD's schema refuses, the parser refuses too, and the other way around.
    #[test]
    fn the_schema_checks_the_same_syntax() {
        let pattern = regex::Regex::new(&argosy_api::placement_policy::selector_pattern()).unwrap();
        proptest!(ProptestConfig::with_cases(4096), |(text in "[aB=!,() *./-]{0,10}( in \\(| notin \\()?[ab,)!= ]{0,6}")| {
            prop_assert_eq!(pattern.is_match(&text), Selector::parse(&text).is_ok(), "{:?}", text);
        });
    }

    proptest! {
        #[test]
        fn never_panics_and_columns_lie_within(text in "[a-z=!,() *ü/.]{0,24}") {
            if let Err(error) = Selector::parse(&text) {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
            }
        }

        #[test]
        fn what_is_printed_parses_to_the_same(text in "!?[a-c]{1,2}((=|!=| in | notin )(\\([a-c]?(,[a-c])*\\)|[a-c]?))?") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
