//! Conditions: operator, key, values. IAM User Guide, "IAM JSON policy elements: Condition operators", "Conditions with
//! multiple context keys or values".
//!
//! | | key has a value | key is missing |
//! | --- | --- | --- |
//! | `StringEquals` and other positive ones | some policy value fits | false |
//! | `StringNotEquals` and other negated ones | no policy value fits | **true** |
//! | `…IfExists` | as without | **true** |
//! | `ForAnyValue:` | some request value fits some policy value | false |
//! | `ForAllValues:` | every request value fits some policy value | **true**, also for an empty list |
//! | `Null: true` / `false` | false / true | true / false, also for an empty list |
//!
//! AWS does not document `ForAnyValue:…IfExists` for a missing key; it is evaluated like `IfExists`. AWS also leaves
//! open an operator without a set qualifier on a key with several values; it is evaluated as "any" if positive and
//! "none" if negated. Lint reports such a condition, and `simulate` notes both.

use super::arn;
use super::context::Context;
use super::pattern::Pattern;
use jiff::Timestamp;
use std::net::IpAddr;

/// The type of the compared values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Exact text.
    StringEquals,
    /// Exact text without case.
    StringEqualsIgnoreCase,
    /// Text with wildcards, with case.
    StringLike,
    /// `=`, `<`, `<=`, `>`, `>=` on numbers.
    Numeric(Comparison),
    /// The same comparisons on dates.
    Date(Comparison),
    /// `true` or `false`.
    Bool,
    /// An address in a network.
    IpAddress,
    /// ARN, part by part. `ArnEquals` and `ArnLike` are the same.
    Arn,
    /// Whether the key is missing.
    Null,
}

/// How two numbers or dates compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `Equals`.
    Equals,
    /// `LessThan`.
    LessThan,
    /// `LessThanEquals`.
    LessThanEquals,
    /// `GreaterThan`.
    GreaterThan,
    /// `GreaterThanEquals`.
    GreaterThanEquals,
}

/// An operator: its name, the type that it compares, and whether it is negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// As AWS writes it.
    pub name: &'static str,
    /// The type of the compared values.
    pub kind: Kind,
    /// Whether it is true where the comparison is not.
    pub negated: bool,
}

const fn operator(name: &'static str, kind: Kind, negated: bool) -> Operator {
    Operator { name, kind, negated }
}

/// The supported operators. `BinaryEquals` is not supported: no key of a mail relay has binary values.
pub(crate) const OPERATORS: &[Operator] = &[
    operator("StringEquals", Kind::StringEquals, false),
    operator("StringNotEquals", Kind::StringEquals, true),
    operator("StringEqualsIgnoreCase", Kind::StringEqualsIgnoreCase, false),
    operator("StringNotEqualsIgnoreCase", Kind::StringEqualsIgnoreCase, true),
    operator("StringLike", Kind::StringLike, false),
    operator("StringNotLike", Kind::StringLike, true),
    operator("NumericEquals", Kind::Numeric(Comparison::Equals), false),
    operator("NumericNotEquals", Kind::Numeric(Comparison::Equals), true),
    operator("NumericLessThan", Kind::Numeric(Comparison::LessThan), false),
    operator("NumericLessThanEquals", Kind::Numeric(Comparison::LessThanEquals), false),
    operator("NumericGreaterThan", Kind::Numeric(Comparison::GreaterThan), false),
    operator("NumericGreaterThanEquals", Kind::Numeric(Comparison::GreaterThanEquals), false),
    operator("DateEquals", Kind::Date(Comparison::Equals), false),
    operator("DateNotEquals", Kind::Date(Comparison::Equals), true),
    operator("DateLessThan", Kind::Date(Comparison::LessThan), false),
    operator("DateLessThanEquals", Kind::Date(Comparison::LessThanEquals), false),
    operator("DateGreaterThan", Kind::Date(Comparison::GreaterThan), false),
    operator("DateGreaterThanEquals", Kind::Date(Comparison::GreaterThanEquals), false),
    operator("Bool", Kind::Bool, false),
    operator("IpAddress", Kind::IpAddress, false),
    operator("NotIpAddress", Kind::IpAddress, true),
    operator("ArnEquals", Kind::Arn, false),
    operator("ArnNotEquals", Kind::Arn, true),
    operator("ArnLike", Kind::Arn, false),
    operator("ArnNotLike", Kind::Arn, true),
    operator("Null", Kind::Null, false),
];

/// `ForAllValues:` or `ForAnyValue:` before an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetQualifier {
    /// Every value of the request must fit. True if there is none.
    ForAllValues,
    /// Some value of the request must fit.
    ForAnyValue,
}

/// One operator on one key.
#[derive(Clone, Debug)]
pub struct Condition {
    /// `ForAllValues:` or `ForAnyValue:`.
    pub qualifier: Option<SetQualifier>,
    /// The operator.
    pub operator: Operator,
    /// `…IfExists`.
    pub if_exists: bool,
    /// The key, as written.
    pub key: String,
    /// The key, lower case.
    pub(super) key_folded: String,
    /// The values, as written.
    pub values: Vec<String>,
    compiled: Vec<Value>,
}

/// A policy value, ready to compare.
#[derive(Clone, Debug)]
enum Value {
    Text(Pattern),
    Number(f64),
    Date(Timestamp),
    Bool(bool),
    Network(ipnet::IpNet),
    Arn(Box<[Pattern; 6]>),
}

/// Why a condition is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// The operator does not exist.
    #[error("unknown condition operator {0:?}{1}")]
    Operator(String, String),
    /// The operator cannot compare this value.
    #[error("{operator} on {key}: {value:?} is not {wanted}")]
    Value {
        /// The operator.
        operator: &'static str,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The required form.
        wanted: &'static str,
    },
    /// `Null` allows neither `IfExists` nor a set qualifier.
    #[error("Null takes neither IfExists nor ForAllValues: or ForAnyValue:")]
    Null,
    /// An empty list of values.
    #[error("{0} has no values")]
    NoValues(String),
}

impl Condition {
    /// Compiles a condition. `variables`: whether the document's version has policy variables.
    ///
    /// # Errors
    /// [`ConditionError`].
    pub fn compile(operator: &str, key: &str, values: Vec<String>, variables: bool) -> Result<Self, ConditionError> {
        let (qualifier, rest) = match operator.split_once(':') {
            None => (None, operator),
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("ForAllValues") => {
                (Some(SetQualifier::ForAllValues), rest)
            }
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("ForAnyValue") => {
                (Some(SetQualifier::ForAnyValue), rest)
            }
            Some(_) => return Err(unknown_operator(operator)),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let operator = *OPERATORS
            .iter()
            .find(|row| row.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown_operator(operator))?;
        if operator.kind == Kind::Null && (if_exists || qualifier.is_some()) {
            return Err(ConditionError::Null);
        }
        if values.is_empty() {
            return Err(ConditionError::NoValues(format!("{} on {key}", operator.name)));
        }
        let compiled = values
            .iter()
            .map(|value| {
                compile_value(operator.kind, value, variables).map_err(|wanted| ConditionError::Value {
                    operator: operator.name,
                    key: key.to_owned(),
                    value: value.clone(),
                    wanted,
                })
            })
            .collect::<Result<_, _>>()?;
        let key_folded = key.to_ascii_lowercase();
        Ok(Self { qualifier, operator, if_exists, key: key.to_owned(), key_folded, values, compiled })
    }

    /// Whether the condition holds.
    pub fn holds(&self, context: &Context) -> bool {
        let present = context.get(&self.key_folded);
        if self.operator.kind == Kind::Null {
            // An empty list is null too. Otherwise `ForAllValues`, which is true for an empty list, and the `Null: false` that
            // is meant to exclude this case would both hold.
            let missing = present.is_none_or(<[String]>::is_empty);
            return self.compiled.iter().any(|value| matches!(value, Value::Bool(wanted) if *wanted == missing));
        }
        let Some(values) = present else {
            // The key is missing: IfExists and negated operators are true, and so is "all of none".
            return self.if_exists
                || match self.qualifier {
                    Some(SetQualifier::ForAllValues) => true,
                    Some(SetQualifier::ForAnyValue) => false,
                    None => self.operator.negated,
                };
        };
        let negated = self.operator.negated;
        let one = |value: &String| self.compiled.iter().any(|policy| self.fits(policy, value, context)) != negated;
        match self.qualifier {
            Some(SetQualifier::ForAllValues) => values.iter().all(one),
            Some(SetQualifier::ForAnyValue) => values.iter().any(one),
            None if negated => values.iter().all(one),
            None => values.iter().any(one),
        }
    }

    /// Whether a value of the request fits a value of the policy, without regard to the operator's negation.
    fn fits(&self, policy: &Value, value: &str, context: &Context) -> bool {
        match (self.operator.kind, policy) {
            (Kind::StringEqualsIgnoreCase, Value::Text(pattern)) => pattern.matches(value, context, true),
            (_, Value::Text(pattern)) => pattern.matches(value, context, false),
            (Kind::Numeric(how), Value::Number(wanted)) => {
                value.parse().is_ok_and(|got: f64| how.holds(got.partial_cmp(wanted)))
            }
            (Kind::Date(how), Value::Date(wanted)) => {
                parse_date(value).is_some_and(|got| how.holds(Some(got.cmp(wanted))))
            }
            (_, Value::Bool(wanted)) => parse_bool(value) == Some(*wanted),
            (_, Value::Network(network)) => value.parse().is_ok_and(|address: IpAddr| network.contains(&address)),
            (_, Value::Arn(parts)) => arn::split(value).is_some_and(|got| arn::parts_match(parts, &got, context)),
            _ => false,
        }
    }

    /// The keys of the policy variables in its values, lower case.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.compiled.iter().flat_map(|value| {
            let patterns = match value {
                Value::Text(pattern) => std::slice::from_ref(pattern),
                Value::Arn(parts) => parts.as_slice(),
                Value::Number(_) | Value::Date(_) | Value::Bool(_) | Value::Network(_) => &[],
            };
            patterns.iter().flat_map(Pattern::variables)
        })
    }

    /// Whether the condition has no set qualifier on a key with several values in this request: AWS does not document
    /// the result.
    #[cfg(feature = "cli")]
    pub(super) fn is_open_on_many(&self, context: &Context) -> bool {
        let many = context.get(&self.key_folded).is_some_and(|values| values.len() > 1);
        many && self.qualifier.is_none() && self.operator.kind != Kind::Null
    }

    /// Whether the condition is `ForAnyValue:…IfExists` on a key that this request lacks: AWS does not document the
    /// result.
    #[cfg(feature = "cli")]
    pub(super) fn is_open_on_missing(&self, context: &Context) -> bool {
        let missing = context.get(&self.key_folded).is_none();
        missing && self.if_exists && self.qualifier == Some(SetQualifier::ForAnyValue)
    }

    /// As it would be written: `ForAllValues:StringLikeIfExists`.
    pub fn operator_text(&self) -> String {
        let qualifier = match self.qualifier {
            None => "",
            Some(SetQualifier::ForAllValues) => "ForAllValues:",
            Some(SetQualifier::ForAnyValue) => "ForAnyValue:",
        };
        format!("{qualifier}{}{}", self.operator.name, if self.if_exists { "IfExists" } else { "" })
    }
}

impl Comparison {
    fn holds(self, ordering: Option<std::cmp::Ordering>) -> bool {
        ordering.is_some_and(|ordering| match self {
            Self::Equals => ordering.is_eq(),
            Self::LessThan => ordering.is_lt(),
            Self::LessThanEquals => ordering.is_le(),
            Self::GreaterThan => ordering.is_gt(),
            Self::GreaterThanEquals => ordering.is_ge(),
        })
    }
}

fn unknown_operator(text: &str) -> ConditionError {
    let bare = text.rsplit(':').next().unwrap_or_default();
    let near = OPERATORS.iter().find(|row| {
        row.name.to_lowercase().starts_with(&bare.to_lowercase())
            || bare.to_lowercase().starts_with(&row.name.to_lowercase())
    });
    let hint = near.map(|row| format!("; did you mean {}?", row.name)).unwrap_or_default();
    ConditionError::Operator(text.to_owned(), hint)
}

fn compile_value(kind: Kind, text: &str, variables: bool) -> Result<Value, &'static str> {
    let pattern = |wildcards| {
        Pattern::compile(text, wildcards, variables)
            .map(Value::Text)
            .map_err(|_| "text with well-formed policy variables")
    };
    match kind {
        Kind::StringEquals | Kind::StringEqualsIgnoreCase => pattern(false),
        Kind::StringLike => pattern(true),
        Kind::Numeric(_) => {
            text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Number).ok_or("a number")
        }
        Kind::Date(_) => parse_date(text).map(Value::Date).ok_or("a date (ISO 8601) or seconds since 1970"),
        Kind::Bool | Kind::Null => parse_bool(text).map(Value::Bool).ok_or("true or false"),
        Kind::IpAddress => parse_network(text).map(Value::Network).ok_or("an IP address or network"),
        Kind::Arn => arn::compile(text, variables).map(Value::Arn).ok_or("an ARN of six parts"),
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// W3C's profile of ISO 8601, or seconds since 1970. A date alone is its midnight in UTC.
fn parse_date(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    text.parse().ok().or_else(|| {
        let date: jiff::civil::Date = text.parse().ok()?;
        Some(date.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })
}

fn parse_network(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from))
}
