//! Times in answers and queries: RFC 3339.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A time in UTC, to the millisecond: `2026-01-31T12:00:00.000Z`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("format" = "date-time"))]
pub(crate) struct Time(pub(crate) String);

impl Time {
    pub(super) fn of_millis(millis: u64) -> Self {
        let time = i64::try_from(millis).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        Self(time.map(|time| format!("{time:.3}")).unwrap_or_default())
    }

    pub(super) fn of_seconds(seconds: i64) -> Self {
        Self(jiff::Timestamp::from_second(seconds).map(|time| format!("{time:.3}")).unwrap_or_default())
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self) -> i64 {
        self.0.parse().map_or(0, jiff::Timestamp::as_second)
    }

    pub(crate) fn of(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self::of_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Milliseconds since 1970 of an RFC 3339 text.
pub(super) fn millis(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(u64::try_from(time.as_millisecond()).unwrap_or(0))
}
