//! Quotas of a day or a month: counted on the calendar, in the zone that the operator names.
//!
//! A count belongs to one period, which is part of its key: whatever the machine's clock does, no period gets more than
//! its quota, and a clock that is set back finds the counts of the time it goes back to.

use super::rule::{Period, Quota};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// A stretch of the calendar, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Days and months of one zone.
#[derive(Debug)]
pub(super) struct Calendar {
    zone: TimeZone,
    /// The day and the month that were asked for last: they are asked for again until midnight.
    known: Mutex<[Span; 2]>,
}

impl Calendar {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, known: Mutex::new([Span { start: 0, end: 0 }; 2]) }
    }

    /// The period that a time falls into. A time that no calendar knows falls into none, and nothing passes.
    pub(super) fn span(&self, per: Period, wall: SystemTime) -> Option<Span> {
        let time = Timestamp::try_from(wall).ok()?;
        let place = usize::from(per == Period::Month);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let span = known[place];
        if (span.start..span.end).contains(&time.as_second()) {
            return Some(span);
        }
        let date = time.to_zoned(self.zone.clone()).date();
        let (first, next) = match per {
            Period::Day => (date, date.checked_add(1.day()).ok()?),
            Period::Month => (date.first_of_month(), date.first_of_month().checked_add(1.month()).ok()?),
        };
        // Where midnight does not exist (a change to summer time at midnight), the day begins with its first moment.
        let moment = |date: jiff::civil::Date| Some(date.to_zoned(self.zone.clone()).ok()?.timestamp().as_second());
        known[place] = Span { start: moment(first)?, end: moment(next)? };
        Some(known[place])
    }
}

/// A key's count in one period.
pub(super) type CountKey = (u128, Span);

/// Why nothing was taken of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// There never is room for that many.
    Never,
    /// Until the period is over.
    For(Duration),
    /// There is room, and too much was taken since counts were last written down.
    Unwritten,
}

/// How much was counted, by key and period.
#[derive(Debug)]
pub(super) struct Counts {
    shelves: Mutex<QuotaCounts>,
    keys_max: usize,
}

#[derive(Debug, Default)]
struct QuotaCounts {
    counts: HashMap<CountKey, u32>,
    /// What changed since it was last written down, and how much was taken of it meanwhile.
    changed: HashMap<CountKey, u32>,
    /// When counts that are long over were last looked for: looking through a million takes a while.
    swept: i64,
}

impl QuotaCounts {
    fn sweep(&mut self, now: i64) {
        self.swept = now;
        self.counts.retain(|(_, span), _| span.end + KEPT_SECONDS > now);
    }
}

impl Counts {
    pub(super) fn new(keys_max: usize, kept: HashMap<CountKey, u32>) -> Self {
        let shelves = QuotaCounts { counts: kept, changed: HashMap::new(), swept: i64::MIN };
        Self { shelves: Mutex::new(shelves), keys_max }
    }

    fn shelves(&self) -> MutexGuard<'_, QuotaCounts> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes so many of a quota. `unwritten_max`: how much of it may be taken between two times that counts are written
    /// down; one amount may always.
    pub(super) fn take(
        &self,
        quota: &Quota,
        place: CountKey,
        amount: NonZeroU32,
        wall: SystemTime,
        unwritten_max: Option<u32>,
    ) -> Result<(), Full> {
        if amount > quota.amount {
            return Err(Full::Never);
        }
        let full = || Err(Full::For(until(place.1.end, wall)));
        let mut shelves = self.shelves();
        if shelves.counts.len() >= self.keys_max && !shelves.counts.contains_key(&place) {
            let now = seconds(wall);
            if now.abs_diff(shelves.swept) >= SWEEP_SECONDS {
                shelves.sweep(now);
            }
            if shelves.counts.len() >= self.keys_max {
                return full();
            }
        }
        let unwritten = shelves.changed.get(&place).copied().unwrap_or_default();
        let with_this = unwritten.saturating_add(amount.get());
        let too_much = unwritten > 0 && unwritten_max.is_some_and(|most| with_this > most);
        let count = shelves.counts.entry(place).or_default();
        match count.checked_add(amount.get()) {
            Some(sum) if sum <= quota.amount.get() && too_much => return Err(Full::Unwritten),
            Some(sum) if sum <= quota.amount.get() => *count = sum,
            _ => return full(),
        }
        shelves.changed.insert(place, with_this);
        Ok(())
    }

    /// Gives back so many.
    pub(super) fn put_back(&self, place: CountKey, amount: NonZeroU32) {
        let mut shelves = self.shelves();
        if let Some(count) = shelves.counts.get_mut(&place) {
            *count = count.saturating_sub(amount.get());
            // What was taken stays: it may be given back and taken again and again before it is written down.
            shelves.changed.entry(place).or_default();
        }
    }

    pub(super) fn count(&self, place: CountKey) -> u32 {
        self.shelves().counts.get(&place).copied().unwrap_or_default()
    }

    /// What changed since the last call, with how much it is now.
    pub(super) fn changes(&self) -> Vec<(CountKey, u32)> {
        let mut shelves = self.shelves();
        let changed = std::mem::take(&mut shelves.changed);
        changed.into_keys().map(|place| (place, shelves.counts.get(&place).copied().unwrap_or_default())).collect()
    }

    /// What could not be written down, to be tried again.
    pub(super) fn unwritten(&self, changes: &[(CountKey, u32)]) {
        let mut shelves = self.shelves();
        for (place, _) in changes {
            shelves.changed.entry(*place).or_default();
        }
    }

    /// Everything that is not long over.
    pub(super) fn all(&self, wall: SystemTime) -> Vec<(CountKey, u32)> {
        let mut shelves = self.shelves();
        shelves.sweep(seconds(wall));
        shelves.counts.iter().map(|(place, count)| (*place, *count)).collect()
    }
}

/// Counts are kept for this long after their period, for clocks that are set back.
const KEPT_SECONDS: i64 = 86_400;
const SWEEP_SECONDS: u64 = 60;

fn seconds(wall: SystemTime) -> i64 {
    Timestamp::try_from(wall).map_or(i64::MAX, |time| time.as_second())
}

/// How long it is until a period is over.
pub(super) fn until(end: i64, wall: SystemTime) -> Duration {
    Duration::from_secs(u64::try_from(end.saturating_sub(seconds(wall))).unwrap_or_default().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        SystemTime::from(text.parse::<Timestamp>().unwrap())
    }

    #[test]
    fn days_and_months_are_those_of_the_zone() {
        let calendar = |zone: &str| Calendar::new(TimeZone::get(zone).unwrap());
        for (zone, time, per, start, end) in [
            ("UTC", "2026-11-21T23:59:59Z", Period::Day, "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            ("Asia/Tokyo", "2026-11-21T15:00:00Z", Period::Day, "2026-11-21T15:00:00Z", "2026-11-22T15:00:00Z"),
            // 23 and 25 hours long.
            ("Europe/Berlin", "2026-03-29T10:00:00Z", Period::Day, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("Europe/Berlin", "2026-10-25T10:00:00Z", Period::Day, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("Europe/Berlin", "2026-10-25T10:00:00Z", Period::Month, "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
            ("UTC", "2028-02-29T10:00:00Z", Period::Month, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            // Midnight of that day did not exist there.
            ("America/Sao_Paulo", "2018-11-04T12:00:00Z", Period::Day, "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
        ] {
            let span = calendar(zone).span(per, at(time)).unwrap();
            let told = [span.start, span.end].map(|second| Timestamp::from_second(second).unwrap().to_string());
            assert_eq!(told, [start, end], "{zone} {time}");
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
        assert!(take("2026-12-24T10:00:00Z"), "a clock that is a month ahead");
        assert!(!take("2026-11-21T10:00:01Z"), "and set right again: the day is still used up");
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
        assert_eq!(take(10, "2026-11-21T23:00:00Z"), Err(Full::For(Duration::from_secs(3_600))), "no room is no pass");
        assert_eq!(take(9, "2026-11-21T10:00:00Z"), Ok(()));
        assert_eq!(take(10, "2026-11-24T10:00:00Z"), Ok(()));
        assert_eq!(counts.all(at("2026-11-24T10:00:00Z")).len(), 1);
    }

    #[test]
    fn between_two_writes_a_bounded_part_is_taken_and_one_amount_always() {
        let counts = Counts::new(10, HashMap::new());
        let quota = Quota { amount: NonZeroU32::new(100).unwrap(), per: Period::Day };
        let place = (1, Span { start: 0, end: i64::MAX / 2 });
        let take = |amount| {
            let amount = NonZeroU32::new(amount).unwrap();
            counts.take(&quota, place, amount, SystemTime::UNIX_EPOCH, Some(5))
        };
        assert_eq!([take(3), take(2), take(1)], [Ok(()), Ok(()), Err(Full::Unwritten)]);
        // What is given back may have been seen.
        counts.put_back(place, NonZeroU32::MIN);
        assert_eq!(take(1), Err(Full::Unwritten));
        assert_eq!(counts.changes(), [(place, 4)]);
        assert_eq!([take(20), take(1)], [Ok(()), Err(Full::Unwritten)]);
        counts.changes();
        assert!(matches!([take(80), take(101)], [Err(Full::For(_)), Err(Full::Never)]));
    }
}
