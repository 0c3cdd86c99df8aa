//! What is limited: who, what is counted, in which windows, and what happens beyond.

use crate::mail::RuleName;
use crate::mail::parameters::AppName;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// Its name: log field and metric label.
    pub name: RuleName,
    /// Whose counts are kept apart.
    pub by: By,
    /// What is counted.
    pub measure: Measure,
    /// All of them must have room.
    pub windows: Vec<Window>,
    /// What happens when one has none.
    pub over: OverLimit,
    /// Only for these applications; empty: for all.
    pub apps: Vec<AppName>,
}

/// Whose counts are kept apart. Every key is a fact that policy matched or that the connection shows; where a message has
/// no such fact (no AUTH name, a Unix socket), the limit does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Each application.
    App,
    /// Each AUTH name.
    Identity,
    /// Each client address, cut to a prefix.
    Client {
        /// For IPv4; 32 is the address.
        ipv4_prefix: u8,
        /// For IPv6; 64 is what one host can choose its addresses from.
        ipv6_prefix: u8,
    },
    /// Each exact reverse-path, as policy accepted it.
    ReversePath,
    /// Each author (the first mailbox of From).
    Author,
    /// Each domain of recipients. Counts recipients only.
    RecipientDomain,
    /// All together.
    Relay,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// One a message.
    Messages,
    /// One a recipient, which is what SES counts.
    Recipients,
    /// Octets of messages, trace field included.
    Octets,
}

/// What happens to what finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    /// 451 4.7.1, with how long in the text.
    Defer,
    /// 550 5.7.1.
    Reject,
    /// Waits for room, this long at most; then `Defer`. Who waits holds a connection.
    Delay(Duration),
}

/// A rate: `100/s`, `100/s burst 200`, `2000/min`, `50000/day`. Without `burst`, as much as a period allows may come at
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    amount: NonZeroU32,
    period: Duration,
    burst: NonZeroU32,
}

/// Why a text is not a window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no rate; write 100/s, 100/s burst 200, 2000/min, 600/h or 50000/day, with numbers from 1 to 4294967295"
)]
pub struct RuleError(String);

impl Window {
    /// How many in a period, in the long run.
    pub fn amount(&self) -> NonZeroU32 {
        self.amount
    }

    /// How many at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// How long it takes for room for one to come back: at least a nanosecond, so 10^9 a second is the fastest rate.
    pub fn interval(&self) -> Duration {
        (self.period / self.amount.get()).max(Duration::from_nanos(1))
    }
}

impl FromStr for Window {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let error = || RuleError(text.to_owned());
        let number = |word: &str| word.parse::<NonZeroU32>().map_err(|_| error());
        let (rate, burst) = match text.trim().split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(number(burst.trim())?)),
            None => (text.trim(), None),
        };
        let (amount, unit) = rate.split_once('/').ok_or_else(error)?;
        let amount = number(amount.trim())?;
        let seconds = match unit.trim() {
            "s" | "second" => 1,
            "min" | "minute" => 60,
            "h" | "hour" => 3_600,
            "day" => 86_400,
            _ => return Err(error()),
        };
        Ok(Self { amount, period: Duration::from_secs(seconds), burst: burst.unwrap_or(amount) })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            60 => "min",
            3_600 => "h",
            86_400 => "day",
            _ => "s",
        };
        write!(f, "{}/{unit} burst {}", self.amount, self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_printed() {
        for (text, want) in [
            ("100/s", "100/s burst 100"),
            ("100/s burst 200", "100/s burst 200"),
            (" 2000 / min ", "2000/min burst 2000"),
            ("600/hour burst 10", "600/h burst 10"),
            ("50000/day", "50000/day burst 50000"),
        ] {
            let window: Window = text.parse().unwrap();
            assert_eq!(window.to_string(), want);
            assert_eq!(want.parse(), Ok(window));
        }
        for text in ["", "100", "0/s", "100/s burst 0", "100/week", "-1/s", "1.5/s", "100/s burst", "5000000000/s"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
