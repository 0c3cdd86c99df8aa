//! Whole numbers. Bounds are part of the type, and so of the schema and of error messages.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A whole number with bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number<const MIN: u64, const MAX: u64>(u64);

/// A duration of 1 second to a week.
pub(crate) type Seconds = Number<1, WEEK_SECONDS>;
/// A duration of up to a week, where zero turns a feature off.
pub(crate) type SecondsOrZero = Number<0, WEEK_SECONDS>;
/// A count of at least one.
pub(crate) type Count = Number<1, { u32::MAX as u64 }>;
/// Bytes, up to 1 PiB.
pub(crate) type Octets = Number<1, { 1 << 50 }>;

const WEEK_SECONDS: u64 = 7 * 24 * 3600;

impl<const MIN: u64, const MAX: u64> Number<MIN, MAX> {
    /// A number, limited to the bounds: for defaults, which come from other modules.
    pub(crate) fn of(value: u64) -> Self {
        Self(value.clamp(MIN, MAX))
    }

    /// The seconds of a duration, limited to the bounds.
    pub(crate) fn seconds(wait: Duration) -> Self {
        Self::of(wait.as_secs())
    }

    /// The number.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The number as a size in memory.
    pub(crate) fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The number in 32 bits.
    pub(crate) fn small(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// The number as a duration in seconds.
    pub(crate) fn wait(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Number<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(NumberVisitor)
    }
}

/// The visitor checks the bounds: there the reader still knows the place of the value, in lists too.
struct NumberVisitor<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> de::Visitor<'_> for NumberVisitor<MIN, MAX> {
    type Value = Number<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        match u64::try_from(value) {
            Ok(value) if (MIN..=MAX).contains(&value) => Ok(Number(value)),
            _ => Err(E::custom(format!("{value} is out of range: {MIN} to {MAX}"))),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Number<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Number<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Number_{MIN}_{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        object([("type", "integer".into()), ("minimum", MIN.into()), ("maximum", MAX.into())])
    }
}

/// A schema of those members.
pub(super) fn object<const N: usize>(members: [(&str, serde_json::Value); N]) -> Schema {
    let mut schema = Schema::default();
    for (name, value) in members {
        schema.insert(name.to_owned(), value);
    }
    schema
}
