//! The rules of limits: key, measure, windows, and the reaction when a limit is exceeded.

use crate::mail::RuleName;
use crate::mail::parameters::AppName;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitRule {
    /// The name, for the log field and metric label.
    pub name: RuleName,
    /// The key: which messages share a count.
    pub by: LimitKey,
    /// What is counted.
    pub measure: Measure,
    /// The windows. A step must be within all of them.
    pub windows: Vec<Window>,
    /// The reaction when a window is exceeded.
    pub over: OnExceeded,
    /// The applications that the limit applies to; empty: all.
    pub apps: Vec<AppName>,
}

impl LimitRule {
    /// A limit that defers, for all applications.
    pub fn new(name: RuleName, by: LimitKey, measure: Measure, windows: Vec<Window>) -> Self {
        Self { name, by, measure, windows, over: OnExceeded::Defer, apps: Vec::new() }
    }
}

/// The key of a limit: which messages share a count. Every key is a fact that policy matched or that the connection
/// shows. If a message has no such fact (no AUTH name, a Unix socket), the limit does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// Each application.
    App,
    /// Each AUTH name.
    Identity,
    /// Each client address, truncated to a prefix.
    Client {
        /// The prefix length for IPv4; 32 is the whole address.
        ipv4_prefix: u8,
        /// The prefix length for IPv6; 64 is the network from which one host can choose its addresses.
        ipv6_prefix: u8,
    },
    /// Each reverse-path, exactly as policy accepted it.
    ReversePath,
    /// Each author (the first mailbox of From).
    Author,
    /// Each recipient domain. Counts recipients only.
    RecipientDomain,
    /// All messages of the relay.
    Relay,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// One per message.
    Messages,
    /// One per recipient, as SES counts.
    Recipients,
    /// Octets of messages, trace field included.
    Octets,
}

/// The reaction when a limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExceeded {
    /// 451 4.7.1, with the time until a retry in the text.
    Defer,
    /// 550 5.7.1.
    Reject,
    /// Waits for capacity, at most this long; then `Defer`. A waiting message holds a connection.
    Delay(Duration),
}

/// The amount for an interval of time: `100/s`, `100/s burst 200`, `2000/min`, `600/h`, `50000/day`, `1000000/month`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// By the second, minute or hour: capacity returns evenly.
    Rate(Rate),
    /// By the day or month of the calendar: capacity returns at midnight.
    Quota(Quota),
}

/// An amount per period, evenly. Without `burst`, the amount of a whole period may pass at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    amount: NonZeroU32,
    period: Duration,
    burst: NonZeroU32,
}

/// An amount per day or month of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The amount.
    pub amount: NonZeroU32,
    /// The period.
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
    /// The text has no valid form.
    #[error(
        "{0:?} is not a rate; write 100/s, 100/s burst 200, 2000/min, 600/h, 50000/day or 1000000/month, with numbers from \
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
    /// A rate of `amount` per `period`, with `burst` at once.
    pub const fn new(amount: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        Self { amount, period, burst }
    }

    /// The period in which the amount passes.
    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// The amount that may pass at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// The time in which capacity for one returns: at least a nanosecond, so 10^9 per second is the fastest rate.
    pub fn interval(&self) -> Duration {
        (self.period / self.amount.get()).max(Duration::from_nanos(1))
    }

    /// The rate divided among instances that do not share counts. The burst of each is at least one.
    #[must_use]
    pub fn divided(&self, by: NonZeroU32) -> Self {
        let burst = NonZeroU32::new(self.burst.get() / by.get()).unwrap_or(NonZeroU32::MIN);
        Self { amount: self.amount, period: self.period * by.get(), burst }
    }
}

impl Window {
    /// The largest amount that may pass at once.
    pub fn capacity(&self) -> NonZeroU32 {
        match self {
            Self::Rate(rate) => rate.burst,
            Self::Quota(quota) => quota.amount,
        }
    }

    /// The time in which capacity for an amount returns. `None`: the calendar decides.
    pub fn wait(&self, amount: u64) -> Option<Duration> {
        match self {
            Self::Rate(rate) => Some(rate.interval().saturating_mul(u32::try_from(amount).unwrap_or(u32::MAX))),
            Self::Quota(_) => None,
        }
    }

    /// The window divided among instances that do not share counts.
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

/// The units: accepted names, printed name, length. Days and months are those of the calendar.
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
