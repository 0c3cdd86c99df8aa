//! Limits counted in this process: rates by governor's GCRA over a store of ours, quotas on the calendar.
//!
//! All windows of a step are taken together or not at all: what was taken before one had no room is put back. Promise:
//! over any stretch of time, what a key gets through is at most rate × time + burst, and in a period at most its quota.
//! Rates are forgotten at a restart, which takes no longer than they need to recover; quotas are kept if a directory is
//! given.

use super::calendar::{Calendar, Counts, Full, Span};
use super::matching::{ActiveLimits, Charge, Keys, NoRoom};
use super::quota_journal::{self, JournalWriter, StateError};
use super::rate::{KEYS_MAX, RateMeter};
use super::rule::{LimitRule, Quota, Window};
use super::{LimitDecision, LimitError, LimitStanding, LimitStatus, LimitStep, Limiter, Reservation, Take};
use crate::mail::Clock;
use crate::mail::parameters::AppName;
use async_trait::async_trait;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keeps counts in memory, and those of quotas in a file.
pub struct LocalLimiter {
    rules: ActiveLimits,
    /// LimitKey rule, by window.
    meters: Vec<Vec<Meter>>,
    clock: Arc<dyn Clock>,
    began: Instant,
    calendar: Calendar,
    counts: Arc<Counts>,
    keeper: Option<JournalWriter>,
}

impl std::fmt::Debug for LocalLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalLimiter").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Meter {
    Rate(Box<RateMeter>),
    Quota(Quota),
}

impl LocalLimiter {
    /// These limits, with days and months in UTC, and counts that a restart forgets. Time comes from `clock`; waits of
    /// `Delay` are the machine's.
    pub fn new(rules: Vec<LimitRule>, clock: Arc<dyn Clock>) -> Self {
        Self::with(rules, clock, TimeZone::UTC, HashMap::new(), fresh_keys())
    }

    /// These limits, with days and months of a time zone, and the counts of quotas kept in a directory. They are on disk
    /// within half a second.
    ///
    /// # Errors
    /// [`StateError`] if the directory cannot be used, or another process uses it.
    pub fn kept(
        rules: Vec<LimitRule>,
        clock: Arc<dyn Clock>,
        zone: TimeZone,
        directory: &Path,
    ) -> Result<Self, StateError> {
        let kept = quota_journal::open(directory, fresh_keys())?;
        let mut limiter = Self::with(rules, Arc::clone(&clock), zone, kept.counts, kept.keys);
        limiter.keeper = Some(JournalWriter::start(kept.file, Arc::clone(&limiter.counts), clock));
        Ok(limiter)
    }

    /// The same with the counts of a directory that another process may be using: for a look, nothing is kept.
    ///
    /// # Errors
    /// [`StateError`] if the counts cannot be read.
    pub fn seen(
        rules: Vec<LimitRule>,
        clock: Arc<dyn Clock>,
        zone: TimeZone,
        directory: &Path,
    ) -> Result<Self, StateError> {
        let (keys, counts) = quota_journal::read_only(directory, fresh_keys())?;
        Ok(Self::with(rules, clock, zone, counts, keys))
    }

    /// The same limits in another time zone, nothing counted yet.
    pub fn in_zone(rules: Vec<LimitRule>, clock: Arc<dyn Clock>, zone: TimeZone) -> Self {
        Self::with(rules, clock, zone, HashMap::new(), fresh_keys())
    }

    fn with(
        rules: Vec<LimitRule>,
        clock: Arc<dyn Clock>,
        zone: TimeZone,
        counts: HashMap<(u128, Span), u32>,
        keys: Keys,
    ) -> Self {
        let began = clock.now();
        let meters = rules.iter().map(|rule| rule.windows.iter().map(Meter::new).collect()).collect();
        Self {
            rules: ActiveLimits::new(rules, keys),
            meters,
            clock,
            began,
            calendar: Calendar::new(zone),
            counts: Arc::new(Counts::new(KEYS_MAX, counts)),
            keeper: None,
        }
    }

    /// Since the limiter began.
    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.began)
    }

    fn meter(&self, charge: &Charge) -> &Meter {
        &self.meters[usize::from(charge.rule)][usize::from(charge.window)]
    }

    /// Takes what a step costs from every limit that it touches, or from none; waits for nothing, so not for quotas to be
    /// written down either.
    pub fn try_take(&self, step: &LimitStep<'_>) -> LimitDecision {
        let charges = self.rules.charges(step);
        if charges.is_empty() {
            return LimitDecision::Taken(Reservation::default());
        }
        match self.take_all(&charges, false) {
            Ok(()) => LimitDecision::Taken(Reservation::of(charges)),
            Err(refused) => self.rules.over(refused.no_room(), &step.stage),
        }
    }

    /// Takes all of them, or none. `as_written`: of quotas no more than may be taken before it is written down.
    fn take_all(&self, charges: &[Charge], as_written: bool) -> Result<(), NotTaken> {
        let now = self.now();
        for (place, charge) in charges.iter().enumerate() {
            let taken = match self.meter(charge) {
                Meter::Rate(meter) => match meter.take(charge.key, charge.amount, now) {
                    Take::Granted => Ok(()),
                    Take::RetryAfter(wait) => Err(Full::For(wait)),
                    Take::NeverFits => Err(Full::Never),
                },
                Meter::Quota(quota) => self.take_quota(charge, quota, as_written),
            };
            if let Err(why) = taken {
                self.put_back(&charges[..place]);
                return Err(NotTaken { rule: charge.rule, why });
            }
        }
        Ok(())
    }

    /// The same, with the waits for quotas to be written down.
    async fn take_all_as_written(&self, charges: &[Charge]) -> Result<(), NotTaken> {
        loop {
            match (self.take_all(charges, true), &self.keeper) {
                (Err(NotTaken { why: Full::Unwritten, .. }), Some(keeper)) => keeper.hurry().await,
                (taken, _) => return taken,
            }
        }
    }

    fn take_quota(&self, charge: &Charge, quota: &Quota, as_written: bool) -> Result<(), Full> {
        let wall = self.clock.wall();
        // A machine without a date has no days: nothing passes until it has one.
        let span = self.calendar.span(quota.per, wall).ok_or(Full::For(NO_DATE_WAIT))?;
        let keeper = self.keeper.as_ref().filter(|_| as_written);
        let unwritten_max = keeper.and_then(|keeper| keeper.unwritten_max(quota.amount.get()));
        self.counts.take(quota, (charge.key, span), charge.amount, wall, unwritten_max)?;
        if let Some(keeper) = &self.keeper {
            keeper.wake();
        }
        Ok(())
    }

    fn put_back(&self, charges: &[Charge]) {
        for charge in charges {
            match self.meter(charge) {
                Meter::Rate(meter) => meter.put_back(charge.key, charge.amount),
                // To the period that it is now: at midnight that is generous by what was under way.
                Meter::Quota(quota) => {
                    if let Some(span) = self.calendar.span(quota.per, self.clock.wall()) {
                        self.counts.put_back((charge.key, span), charge.amount);
                    }
                }
            }
        }
    }

    fn left(&self, charge: &Charge) -> u64 {
        match self.meter(charge) {
            Meter::Rate(meter) => meter.left(charge.key, self.now()),
            Meter::Quota(quota) => {
                let span = self.calendar.span(quota.per, self.clock.wall());
                let count = span.map_or(u32::MAX, |span| self.counts.count((charge.key, span)));
                u64::from(quota.amount.get().saturating_sub(count))
            }
        }
    }

    /// Gives back what a step took.
    pub(super) fn refund(&self, ticket: Reservation) {
        if let Some(charges) = ticket.into_charges() {
            self.put_back(&charges);
        }
    }
}

/// Where there was no room.
struct NotTaken {
    rule: u16,
    why: Full,
}

impl NotTaken {
    fn no_room(&self) -> NoRoom {
        let wait = match self.why {
            Full::Never => None,
            Full::For(wait) => Some(wait),
            Full::Unwritten => Some(DISK_WAIT_MAX),
        };
        NoRoom { rule: self.rule, wait }
    }
}

/// The longest wait for quotas to be written down. Beyond, the message is deferred.
const DISK_WAIT_MAX: Duration = Duration::from_secs(2);
pub(super) const NO_DATE_WAIT: Duration = Duration::from_secs(60);

/// Nobody can know them.
pub(super) fn fresh_keys() -> Keys {
    Keys([RandomState::new().hash_one(0), RandomState::new().hash_one(1)])
}

impl Meter {
    fn new(window: &Window) -> Self {
        match window {
            Window::Rate(rate) => Self::Rate(Box::new(RateMeter::new(*rate))),
            Window::Quota(quota) => Self::Quota(*quota),
        }
    }
}

#[async_trait]
impl Limiter for LocalLimiter {
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError> {
        let charges = self.rules.charges(step);
        if charges.is_empty() {
            return Ok(LimitDecision::Taken(Reservation::default()));
        }
        let began = self.now();
        loop {
            let mut taken = self.take_all(&charges, true);
            if matches!(taken, Err(NotTaken { why: Full::Unwritten, .. })) {
                let written = tokio::time::timeout(DISK_WAIT_MAX, self.take_all_as_written(&charges)).await;
                taken = written
                    .map_err(|_| LimitError::Unavailable("quota counts are not written down in time".to_owned()))?;
            }
            let no_room = match taken {
                Ok(()) => return Ok(LimitDecision::Taken(Reservation::of(charges))),
                Err(refused) => refused.no_room(),
            };
            let patience = self.rules.patience(no_room).saturating_sub(self.now().saturating_sub(began));
            match no_room.wait {
                Some(wait) if wait <= patience && !patience.is_zero() => tokio::time::sleep(wait).await,
                _ => return Ok(self.rules.over(no_room, &step.stage)),
            }
        }
    }

    async fn give_back(&self, ticket: Reservation) {
        self.refund(ticket);
    }

    async fn peek(&self, step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError> {
        Ok(self.rules.views(step, |charge| self.left(charge)))
    }

    async fn standings(&self, apps: &[AppName]) -> Vec<LimitStanding> {
        let standing = self.rules.standing(apps);
        let left: Vec<u64> = standing.iter().map(|(charge, _)| self.left(charge)).collect();
        self.rules.told(standing, &left)
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
