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
    pub by: LimitKey,
    /// What is counted.
    pub measure: Measure,
    /// All of them must have room.
    pub windows: Vec<Window>,
    /// What happens when one has none.
    pub over: OnExceeded,
    /// Only for these applications; empty: for all.
    pub apps: Vec<AppName>,
}

/// Whose counts are kept apart. Every key is a fact that policy matched or that the connection shows; where a message has
/// no such fact (no AUTH name, a Unix socket), the limit does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKey {
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
pub enum OnExceeded {
    /// 451 4.7.1, with how long in the text.
    Defer,
    /// 550 5.7.1.
    Reject,
    /// Waits for room, this long at most; then `Defer`. Who waits holds a connection.
    Delay(Duration),
}

/// How much may come in a stretch of time: `100/s`, `100/s burst 200`, `2000/min`, `600/h`, `50000/day`, `1000000/month`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// LimitKey the second, minute or hour: room comes back evenly.
    Rate(Rate),
    /// LimitKey the day or month of the calendar: room comes back at midnight.
    Quota(Quota),
}

/// So many in a period, evenly. Without `burst`, as much as a period allows may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    amount: NonZeroU32,
    period: Duration,
    burst: NonZeroU32,
}

/// So many in a day or a month of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many.
    pub amount: NonZeroU32,
    /// In what.
    pub per: Period,
}

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

/// Why a text is not a window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Cannot be read.
    #[error(
        "{0:?} is no rate; write 100/s, 100/s burst 200, 2000/min, 600/h, 50000/day or 1000000/month, with numbers from \
         1 to 4294967295"
    )]
    NotAWindow(String),
    /// `50000/day burst 10`.
    #[error(
        "{0:?}: days and months are counted on the calendar and have no burst; for a rolling rate write it per hour"
    )]
    QuotaWithBurst(String),
}

impl Rate {
    /// So many in a period, so many at once.
    pub const fn new(amount: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        Self { amount, period, burst }
    }

    /// How many at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// How long it takes for room for one to come back: at least a nanosecond, so 10^9 a second is the fastest rate.
    pub fn interval(&self) -> Duration {
        (self.period / self.amount.get()).max(Duration::from_nanos(1))
    }

    /// The same, divided among so many who do not know of each other. Nobody gets less than one at once.
    #[must_use]
    pub fn divided(&self, by: NonZeroU32) -> Self {
        let burst = NonZeroU32::new(self.burst.get() / by.get()).unwrap_or(NonZeroU32::MIN);
        Self { amount: self.amount, period: self.period * by.get(), burst }
    }
}

impl Window {
    /// How much there can be at once.
    pub fn capacity(&self) -> NonZeroU32 {
        match self {
            Self::Rate(rate) => rate.burst,
            Self::Quota(quota) => quota.amount,
        }
    }

    /// How long it takes for room for so many to come back; `None` where the calendar says.
    pub fn wait(&self, amount: u64) -> Option<Duration> {
        match self {
            Self::Rate(rate) => Some(rate.interval().saturating_mul(u32::try_from(amount).unwrap_or(u32::MAX))),
            Self::Quota(_) => None,
        }
    }

    /// The same, divided among so many who do not know of each other.
    #[must_use]
    pub fn divided(&self, by: NonZeroU32) -> Self {
        match self {
            Self::Rate(rate) => Self::Rate(rate.divided(by)),
            Self::Quota(Quota { amount, per }) => {
                let amount = NonZeroU32::new(amount.get() / by.get()).unwrap_or(NonZeroU32::MIN);
                Self::Quota(Quota { amount, per: *per })
            }
        }
    }
}

/// Names of periods: what may be written, how it is printed, how long it is; days and months are the calendar's.
const UNITS: &[(&[&str], &str, Unit)] = &[
    (&["s", "second"], "s", Unit::Seconds(1)),
    (&["min", "minute"], "min", Unit::Seconds(60)),
    (&["h", "hour"], "h", Unit::Seconds(3_600)),
    (&["day"], "day", Unit::Calendar(Period::Day)),
    (&["month"], "month", Unit::Calendar(Period::Month)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds(u64),
    Calendar(Period),
}

impl FromStr for Window {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let error = || RuleError::NotAWindow(text.to_owned());
        let number = |word: &str| word.parse::<NonZeroU32>().map_err(|_| error());
        let (rate, burst) = match text.trim().split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(number(burst.trim())?)),
            None => (text.trim(), None),
        };
        let (amount, unit) = rate.split_once('/').ok_or_else(error)?;
        let amount = number(amount.trim())?;
        let row = UNITS.iter().find(|(words, ..)| words.contains(&unit.trim())).ok_or_else(error)?;
        match row.2 {
            Unit::Seconds(seconds) => {
                Ok(Self::Rate(Rate::new(amount, Duration::from_secs(seconds), burst.unwrap_or(amount))))
            }
            Unit::Calendar(_) if burst.is_some() => Err(RuleError::QuotaWithBurst(text.to_owned())),
            Unit::Calendar(per) => Ok(Self::Quota(Quota { amount, per })),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self {
            Self::Rate(rate) => Unit::Seconds(rate.period.as_secs()),
            Self::Quota(quota) => Unit::Calendar(quota.per),
        };
        match (self, UNITS.iter().find(|row| row.2 == unit)) {
            (Self::Quota(Quota { amount, .. }), Some((_, name, _))) => write!(f, "{amount}/{name}"),
            (Self::Rate(Rate { amount, burst, .. }), Some((_, name, _))) => write!(f, "{amount}/{name} burst {burst}"),
            (_, None) => write!(f, "{} a period", self.capacity()),
        }
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
            ("50000/day", "50000/day"),
            ("7/month", "7/month"),
        ] {
            let window: Window = text.parse().unwrap();
            assert_eq!(window.to_string(), want);
            assert_eq!(want.parse(), Ok(window));
        }
        for text in [
            "",
            "100",
            "0/s",
            "100/s burst 0",
            "100/week",
            "-1/s",
            "1.5/s",
            "100/s burst",
            "5000000000/s",
            "5/day burst 2",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
