//! Quotas of a calendar day or month, in the configured time zone.
//!
//! The period is part of the key of a count. A change of the machine's clock therefore cannot give a period more than
//! its quota: a clock that is set back finds the existing counts of the earlier period.

use super::rule::{Period, Quota};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// A period of the calendar, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Calculates the days and months of one time zone.
#[derive(Debug)]
pub(super) struct Calendar {
    zone: TimeZone,
    /// The latest day and month. Cached because all calls until midnight need the same ones.
    cached: Mutex<[Span; 2]>,
}

impl Calendar {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, cached: Mutex::new([Span { start: 0, end: 0 }; 2]) }
    }

    /// The period that contains a time. `None` if the time is outside the supported range of the calendar; the caller
    /// then refuses.
    pub(super) fn span(&self, per: Period, wall: SystemTime) -> Option<Span> {
        let time = Timestamp::try_from(wall).ok()?;
        let index = usize::from(per == Period::Month);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let span = cached[index];
        if (span.start..span.end).contains(&time.as_second()) {
            return Some(span);
        }
        let date = time.to_zoned_datetime(self.zone.clone()).date();
        let (first, next) = match per {
            Period::Day => (date, date.checked_add(1.day()).ok()?),
            Period::Month => (date.first_of_month(), date.first_of_month().checked_add(1.month()).ok()?),
        };
        // Where midnight does not exist (a change to summer time at midnight), the day begins at its first existing
        // moment.
        let moment =
            |date: jiff::civil::Date| Some(date.to_zoned_datetime(self.zone.clone()).ok()?.timestamp().as_second());
        cached[index] = Span { start: moment(first)?, end: moment(next)? };
        Some(cached[index])
    }
}

/// A key's count in one period.
pub(super) type CountKey = (u128, Span);

/// Why a quota was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The amount is larger than the quota.
    Never,
    /// The quota is used up for this long, until the period ends.
    For(Duration),
    /// The quota has capacity, but too much was taken since the counts were last written to disk.
    Unwritten,
}

/// The counts, by key and period.
#[derive(Debug)]
pub(super) struct Counts {
    counts: Mutex<QuotaCounts>,
    keys_max: usize,
}

#[derive(Debug, Default)]
struct QuotaCounts {
    counts: HashMap<CountKey, u32>,
    /// Counts that changed since the last write, with the amount that was taken since then.
    changed: HashMap<CountKey, u32>,
    /// When expired counts were last removed. Removal visits all counts, up to a million, so it is not done on every
    /// call.
    swept: i64,
}

impl QuotaCounts {
    fn sweep(&mut self, now: i64) {
        self.swept = now;
        self.counts.retain(|(_, span), _| span.end + KEPT_SECONDS > now);
    }
}

impl Counts {
    pub(super) fn new(keys_max: usize, restored: HashMap<CountKey, u32>) -> Self {
        let counts = QuotaCounts { counts: restored, changed: HashMap::new(), swept: i64::MIN };
        Self { counts: Mutex::new(counts), keys_max }
    }

    fn counts(&self) -> MutexGuard<'_, QuotaCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an amount from a quota. `unwritten_max`: the most that may be taken between two writes to disk. One amount
    /// may always be taken.
    pub(super) fn take(
        &self,
        quota: &Quota,
        key: CountKey,
        amount: NonZeroU32,
        wall: SystemTime,
        unwritten_max: Option<u32>,
    ) -> Result<(), Full> {
        if amount > quota.amount {
            return Err(Full::Never);
        }
        let full = || Err(Full::For(until(key.1.end, wall)));
        let mut counts = self.counts();
        if counts.counts.len() >= self.keys_max && !counts.counts.contains_key(&key) {
            let now = seconds(wall);
            if now.abs_diff(counts.swept) >= SWEEP_SECONDS {
                counts.sweep(now);
            }
            if counts.counts.len() >= self.keys_max {
                return full();
            }
        }
        let unwritten = counts.changed.get(&key).copied().unwrap_or_default();
        let with_this = unwritten.saturating_add(amount.get());
        let too_much = unwritten > 0 && unwritten_max.is_some_and(|most| with_this > most);
        let count = counts.counts.entry(key).or_default();
        match count.checked_add(amount.get()) {
            Some(sum) if sum <= quota.amount.get() && too_much => return Err(Full::Unwritten),
            Some(sum) if sum <= quota.amount.get() => *count = sum,
            _ => return full(),
        }
        counts.changed.insert(key, with_this);
        Ok(())
    }

    /// Returns an amount to a quota.
    pub(super) fn put_back(&self, key: CountKey, amount: NonZeroU32) {
        let mut counts = self.counts();
        if let Some(count) = counts.counts.get_mut(&key) {
            *count = count.saturating_sub(amount.get());
            // The unwritten amount stays: otherwise a loop of take and return would exceed `unwritten_max`.
            counts.changed.entry(key).or_default();
        }
    }

    pub(super) fn count(&self, key: CountKey) -> u32 {
        self.counts().counts.get(&key).copied().unwrap_or_default()
    }

    /// The counts that changed since the last call.
    pub(super) fn changes(&self) -> Vec<(CountKey, u32)> {
        let mut counts = self.counts();
        let changed = std::mem::take(&mut counts.changed);
        changed.into_keys().map(|key| (key, counts.counts.get(&key).copied().unwrap_or_default())).collect()
    }

    /// Marks counts whose write failed, so that the next call of [`Self::changes`] returns them again.
    pub(super) fn unwritten(&self, changes: &[(CountKey, u32)]) {
        let mut counts = self.counts();
        for (key, _) in changes {
            counts.changed.entry(*key).or_default();
        }
    }

    /// All counts except expired ones.
    pub(super) fn all(&self, wall: SystemTime) -> Vec<(CountKey, u32)> {
        let mut counts = self.counts();
        counts.sweep(seconds(wall));
        counts.counts.iter().map(|(key, count)| (*key, *count)).collect()
    }
}

/// How long counts are stored after the end of their period, for clocks that are set back.
const KEPT_SECONDS: i64 = 86_400;
const SWEEP_SECONDS: u64 = 60;

fn seconds(wall: SystemTime) -> i64 {
    Timestamp::try_from(wall).map_or(i64::MAX, |time| time.as_second())
}

/// The time until a period ends.
pub(super) fn until(end: i64, wall: SystemTime) -> Duration {
    Duration::from_secs(u64::try_from(end.saturating_sub(seconds(wall))).unwrap_or_default().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        SystemTime::try_from(text.parse::<Timestamp>().unwrap()).unwrap()
    }

    #[test]
    fn days_and_months_are_those_of_the_zone() {
        let calendar = |zone: &str| Calendar::new(TimeZone::get(zone).unwrap());
        for (zone, time, per, start, end) in [
            ("UTC", "2026-11-21T23:59:59Z", Period::Day, "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            ("Asia/Tokyo", "2026-11-21T15:00:00Z", Period::Day, "2026-11-21T15:00:00Z", "2026-11-22T15:00:00Z"),
            // These days have 23 and 25 hours.
            ("Europe/Berlin", "2026-03-29T10:00:00Z", Period::Day, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("Europe/Berlin", "2026-10-25T10:00:00Z", Period::Day, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("Europe/Berlin", "2026-10-25T10:00:00Z", Period::Month, "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
            ("UTC", "2028-02-29T10:00:00Z", Period::Month, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            // Midnight of that day did not exist in this zone.
            ("America/Sao_Paulo", "2018-11-04T12:00:00Z", Period::Day, "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
        ] {
            let span = calendar(zone).span(per, at(time)).unwrap();
            let printed = [span.start, span.end].map(|second| Timestamp::from_second(second).unwrap().to_string());
            assert_eq!(printed, [start, end], "{zone} {time}");
        }
    }

    #[test]
    fn whatever_the_clock_does_no_day_gets_more_than_its_quota() {
        let (calendar, counts) = (Calendar::new(TimeZone::UTC), Counts::new(100, HashMap::new()));
        let quota = Quota { amount: NonZeroU32::new(3).unwrap(), per: Period::Day };
        let take = |time: &str| {
            let span = calendar.span(Period::Day, at(time)).unwrap();
            counts.take(&quota, (7, span), NonZeroU32::MIN, at(time), None).is_ok()
        };
        assert_eq!([(); 4].map(|()| take("2026-11-21T10:00:00Z")), [true, true, true, false]);
        assert!(take("2026-12-24T10:00:00Z"), "the clock is a month ahead");
        assert!(!take("2026-11-21T10:00:01Z"), "the clock is corrected: the day is still used up");
        assert!(take("2026-11-22T00:00:00Z"));
    }

    #[test]
    fn keys_are_bounded_and_those_of_old_periods_go() {
        let (calendar, counts) = (Calendar::new(TimeZone::UTC), Counts::new(10, HashMap::new()));
        let quota = Quota { amount: NonZeroU32::new(3).unwrap(), per: Period::Day };
        let take = |key: u128, time: &str| {
            let span = calendar.span(Period::Day, at(time)).unwrap();
            counts.take(&quota, (key, span), NonZeroU32::MIN, at(time), None)
        };
        for key in 0..10 {
            assert_eq!(take(key, "2026-11-21T10:00:00Z"), Ok(()));
        }
        assert_eq!(
            take(10, "2026-11-21T23:00:00Z"),
            Err(Full::For(Duration::from_secs(3_600))),
            "a full table refuses"
        );
        assert_eq!(take(9, "2026-11-21T10:00:00Z"), Ok(()));
        assert_eq!(take(10, "2026-11-24T10:00:00Z"), Ok(()));
        assert_eq!(counts.all(at("2026-11-24T10:00:00Z")).len(), 1);
    }

    #[test]
    fn between_two_writes_a_bounded_part_is_taken_and_one_amount_always() {
        let counts = Counts::new(10, HashMap::new());
        let quota = Quota { amount: NonZeroU32::new(100).unwrap(), per: Period::Day };
        let key = (1, Span { start: 0, end: i64::MAX / 2 });
        let take = |amount| {
            let amount = NonZeroU32::new(amount).unwrap();
            counts.take(&quota, key, amount, SystemTime::UNIX_EPOCH, Some(5))
        };
        assert_eq!([take(3), take(2), take(1)], [Ok(()), Ok(()), Err(Full::Unwritten)]);
        // The count before the return may be on disk.
        counts.put_back(key, NonZeroU32::MIN);
        assert_eq!(take(1), Err(Full::Unwritten));
        assert_eq!(counts.changes(), [(key, 4)]);
        assert_eq!([take(20), take(1)], [Ok(()), Err(Full::Unwritten)]);
        counts.changes();
        assert!(matches!([take(80), take(101)], [Err(Full::For(_)), Err(Full::Never)]));
    }
}
