//! The wall clock that signatures are checked against.
//!
//! The only function of the module that reads the time of day. Durations are measured with `tokio::time::Instant`, so
//! that a paused runtime can advance them. The clock can be set wrong on purpose, to test a client whose clock differs
//! from the service's; this needs no privilege.

use jiff::{SignedDuration, Timestamp};

/// Time of day, plus the error it is meant to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    ahead: SignedDuration,
}

impl WallClock {
    pub(super) fn ahead_by(seconds: i64) -> Self {
        Self { ahead: SignedDuration::from_secs(seconds) }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the emulator imports no module of the relay, so it has a clock of its own"
    )]
    pub(super) fn now(self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.ahead).unwrap_or(now)
    }

    /// Whether the clock is offset, so that the `Date` field of a response is written here and not by hyper.
    pub(super) fn is_off(self) -> bool {
        !self.ahead.is_zero()
    }
}

/// ISO 8601 basic format, as in `x-amz-date`.
pub(super) fn basic(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Parses the format of [`basic`], and no other.
pub(super) fn parse_basic(text: &str) -> Option<Timestamp> {
    let shape_is_right = text.len() == 16 && text.bytes().all(|octet| octet.is_ascii_digit() || b"TZ".contains(&octet));
    if !shape_is_right {
        return None;
    }
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
}

/// RFC 9110 §5.6.7, the preferred format.
pub(super) fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_format_reads_back_what_it_wrote_and_nothing_else() {
        let time = Timestamp::from_second(1_700_000_000).expect("in range");
        assert_eq!(basic(time), "20231114T221320Z");
        assert_eq!(parse_basic("20231114T221320Z"), Some(time));
        for wrong in ["", "20231114", "2023-11-14T22:13:20Z", "20231114T221320", "20231314T221320Z", "20231114T221320+"]
        {
            assert_eq!(parse_basic(wrong), None, "{wrong}");
        }
        assert_eq!(http_date(time), "Tue, 14 Nov 2023 22:13:20 GMT");
    }
}
