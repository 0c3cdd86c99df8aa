//! Limits counted in this process: rates with governor's GCRA over [`GcraStore`](super::gcra_store), quotas on the
//! calendar.
//!
//! A step takes from all its windows or from none: if one window is exceeded, the amounts taken from the earlier ones
//! are returned. Guarantee: in any interval of time, a key passes at most rate × time + burst, and in a period at most
//! its quota. Rates are lost at a restart, which takes no longer than they need to recover. Quotas survive a restart if
//! a directory is configured.

use super::calendar::{Calendar, Counts, Full, Span};
use super::matching::{ActiveLimits, Charge, ExceededWindow, Keys};
use super::quota_journal::{self, JournalWriter, StateError};
use super::rate::{KEYS_MAX, RateMeter};
use super::rule::{LimitRule, Quota, Rate, Window};
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

/// Counts rates in memory, and quotas in memory and optionally in a file.
pub struct LocalLimiter {
    rules: ActiveLimits,
    /// By rule, then by window.
    meters: Vec<Vec<WindowCounter>>,
    clock: Arc<dyn Clock>,
    began: Instant,
    calendar: Calendar,
    counts: Arc<Counts>,
    journal: Option<Arc<JournalWriter>>,
}

impl std::fmt::Debug for LocalLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalLimiter").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum WindowCounter {
    Rate(Arc<RateMeter>),
    Quota(Quota),
}

impl LocalLimiter {
    /// A limiter with these rules. Days and months are those of UTC, and a restart loses the counts. Reads the time
    /// from `clock`; the waits of `Delay` use the machine's timer.
    pub fn new(rules: Vec<LimitRule>, clock: Arc<dyn Clock>) -> Self {
        Self::with(rules, clock, TimeZone::UTC, HashMap::new(), fresh_keys())
    }

    /// A limiter with days and months of a time zone. The counts of quotas are stored in a directory, within half a
    /// second of the change.
    ///
    /// # Errors
    /// [`StateError`] if the directory cannot be used, or if another process uses it.
    pub fn with_state(
        rules: Vec<LimitRule>,
        clock: Arc<dyn Clock>,
        zone: TimeZone,
        directory: &Path,
    ) -> Result<Self, StateError> {
        let stored = quota_journal::open(directory, fresh_keys())?;
        let mut limiter = Self::with(rules, Arc::clone(&clock), zone, stored.counts, stored.keys);
        limiter.journal = Some(Arc::new(JournalWriter::start(stored.file, Arc::clone(&limiter.counts), clock)));
        Ok(limiter)
    }

    /// A limiter that reads the counts of a directory which another process may be using. It writes nothing.
    ///
    /// # Errors
    /// [`StateError`] if the counts cannot be read.
    pub fn read_only(
        rules: Vec<LimitRule>,
        clock: Arc<dyn Clock>,
        zone: TimeZone,
        directory: &Path,
    ) -> Result<Self, StateError> {
        let (keys, counts) = quota_journal::read_only(directory, fresh_keys())?;
        Ok(Self::with(rules, clock, zone, counts, keys))
    }

    /// A limiter in a time zone, with all counts at zero.
    pub fn in_zone(rules: Vec<LimitRule>, clock: Arc<dyn Clock>, zone: TimeZone) -> Self {
        Self::with(rules, clock, zone, HashMap::new(), fresh_keys())
    }

    /// A limiter with other rules that goes on with the counts of this one: of a limit with the same name, key and measure, rates keep
    /// what was taken, also if the amount changes; quotas of a day or month keep their counts. Both may be used at the same time: a
    /// transaction that began with this one ends with it. A directory with counts stays in use.
    #[must_use]
    pub fn with_rules(&self, rules: Vec<LimitRule>, zone: TimeZone) -> Self {
        let meters = rules.iter().map(|rule| {
            let is_same = |old: &LimitRule| (&old.name, old.by, old.measure) == (&rule.name, rule.by, rule.measure);
            let same = self.rules.rules().zip(&self.meters).find(|(old, _)| is_same(old));
            let meter = |window: &Window| match (window, same) {
                (Window::Rate(rate), Some((old, meters))) => WindowCounter::going_on(*rate, old, meters),
                _ => WindowCounter::new(window),
            };
            rule.windows.iter().map(meter).collect()
        });
        Self {
            meters: meters.collect(),
            rules: self.rules.with_rules(rules),
            clock: Arc::clone(&self.clock),
            began: self.began,
            calendar: Calendar::new(zone),
            counts: Arc::clone(&self.counts),
            journal: self.journal.clone(),
        }
    }

    fn with(
        rules: Vec<LimitRule>,
        clock: Arc<dyn Clock>,
        zone: TimeZone,
        counts: HashMap<(u128, Span), u32>,
        keys: Keys,
    ) -> Self {
        let began = clock.now();
        let meters = rules.iter().map(|rule| rule.windows.iter().map(WindowCounter::new).collect()).collect();
        Self {
            rules: ActiveLimits::new(rules, keys),
            meters,
            clock,
            began,
            calendar: Calendar::new(zone),
            counts: Arc::new(Counts::new(KEYS_MAX, counts)),
            journal: None,
        }
    }

    /// The time since the limiter was created.
    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.began)
    }

    fn meter(&self, charge: &Charge) -> &WindowCounter {
        &self.meters[usize::from(charge.rule)][usize::from(charge.window)]
    }

    /// Takes what a step costs from every limit that applies, or from none. Does not wait, not even for quotas to be
    /// written to disk.
    pub fn try_take(&self, step: &LimitStep<'_>) -> LimitDecision {
        let charges = self.rules.charges(step);
        if charges.is_empty() {
            return LimitDecision::Taken(Reservation::default());
        }
        match self.take_all(&charges, false) {
            Ok(()) => LimitDecision::Taken(Reservation::of(charges)),
            Err(refused) => self.rules.over(refused.exceeded(), &step.stage),
        }
    }

    /// Takes all charges or none. `as_written`: limits the amount of a quota that is taken before it is written to
    /// disk.
    fn take_all(&self, charges: &[Charge], as_written: bool) -> Result<(), NotTaken> {
        let now = self.now();
        for (index, charge) in charges.iter().enumerate() {
            let taken = match self.meter(charge) {
                WindowCounter::Rate(meter) => match meter.take(charge.key, charge.amount, now) {
                    Take::Granted => Ok(()),
                    Take::RetryAfter(wait) => Err(Full::For(wait)),
                    Take::NeverFits => Err(Full::Never),
                },
                WindowCounter::Quota(quota) => self.take_quota(charge, quota, as_written),
            };
            if let Err(why) = taken {
                self.put_back(&charges[..index]);
                return Err(NotTaken { rule: charge.rule, why });
            }
        }
        Ok(())
    }

    /// Takes all charges or none, and waits where quotas must be written to disk first.
    async fn take_all_as_written(&self, charges: &[Charge]) -> Result<(), NotTaken> {
        loop {
            match (self.take_all(charges, true), &self.journal) {
                (Err(NotTaken { why: Full::Unwritten, .. }), Some(journal)) => journal.hurry().await,
                (taken, _) => return taken,
            }
        }
    }

    fn take_quota(&self, charge: &Charge, quota: &Quota, as_written: bool) -> Result<(), Full> {
        let wall = self.clock.wall();
        // Without a valid date there are no periods: quotas refuse until the machine has one.
        let span = self.calendar.span(quota.per, wall).ok_or(Full::For(NO_DATE_WAIT))?;
        let journal = self.journal.as_ref().filter(|_| as_written);
        let unwritten_max = journal.and_then(|journal| journal.unwritten_max(quota.amount.get()));
        self.counts.take(quota, (charge.key, span), charge.amount, wall, unwritten_max)?;
        if let Some(journal) = &self.journal {
            journal.wake();
        }
        Ok(())
    }

    fn put_back(&self, charges: &[Charge]) {
        for charge in charges {
            match self.meter(charge) {
                WindowCounter::Rate(meter) => meter.put_back(charge.key, charge.amount),
                // Returned to the current period: at midnight this exceeds the new quota by the transactions in
                // progress.
                WindowCounter::Quota(quota) => {
                    if let Some(span) = self.calendar.span(quota.per, self.clock.wall()) {
                        self.counts.put_back((charge.key, span), charge.amount);
                    }
                }
            }
        }
    }

    fn left(&self, charge: &Charge) -> u64 {
        match self.meter(charge) {
            WindowCounter::Rate(meter) => meter.left(charge.key, self.now()),
            WindowCounter::Quota(quota) => {
                let span = self.calendar.span(quota.per, self.clock.wall());
                let count = span.map_or(u32::MAX, |span| self.counts.count((charge.key, span)));
                u64::from(quota.amount.get().saturating_sub(count))
            }
        }
    }

    /// Returns what a step took.
    pub(super) fn refund(&self, reservation: Reservation) {
        if let Some(charges) = reservation.into_charges() {
            self.put_back(&charges);
        }
    }
}

/// Which charge was not taken, and why.
struct NotTaken {
    rule: u16,
    why: Full,
}

impl NotTaken {
    fn exceeded(&self) -> ExceededWindow {
        let wait = match self.why {
            Full::Never => None,
            Full::For(wait) => Some(wait),
            Full::Unwritten => Some(DISK_WAIT_MAX),
        };
        ExceededWindow { rule: self.rule, wait }
    }
}

/// The longest wait for quotas to be written to disk. After it, the message is deferred.
const DISK_WAIT_MAX: Duration = Duration::from_secs(2);
pub(super) const NO_DATE_WAIT: Duration = Duration::from_secs(60);

/// Random SipHash keys, so that clients cannot choose values whose counters collide.
pub(super) fn fresh_keys() -> Keys {
    Keys([RandomState::new().hash_one(0), RandomState::new().hash_one(1)])
}

impl WindowCounter {
    fn new(window: &Window) -> Self {
        match window {
            Window::Rate(rate) => Self::Rate(Arc::new(RateMeter::new(*rate))),
            Window::Quota(quota) => Self::Quota(*quota),
        }
    }

    /// A rate that goes on with the count of the same rate of an earlier rule, or else of the one with the same period.
    fn going_on(rate: Rate, old: &LimitRule, meters: &[Self]) -> Self {
        let found = |fits: &dyn Fn(&Rate) -> bool| {
            old.windows.iter().zip(meters).find_map(|(window, meter)| match (window, meter) {
                (Window::Rate(old), Self::Rate(meter)) if fits(old) => Some((*old, meter)),
                _ => None,
            })
        };
        match found(&|old| *old == rate).or_else(|| found(&|old| old.period() == rate.period())) {
            Some((old, meter)) if old == rate => Self::Rate(Arc::clone(meter)),
            Some((_, meter)) => Self::Rate(Arc::new(meter.with_rate(rate))),
            None => Self::Rate(Arc::new(RateMeter::new(rate))),
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
                taken =
                    written.map_err(|_| LimitError::Unavailable("writing quota counts took too long".to_owned()))?;
            }
            let exceeded = match taken {
                Ok(()) => return Ok(LimitDecision::Taken(Reservation::of(charges))),
                Err(refused) => refused.exceeded(),
            };
            let delay_max = self.rules.delay_max(exceeded).saturating_sub(self.now().saturating_sub(began));
            match exceeded.wait {
                Some(wait) if wait <= delay_max && !delay_max.is_zero() => tokio::time::sleep(wait).await,
                _ => return Ok(self.rules.over(exceeded, &step.stage)),
            }
        }
    }

    async fn give_back(&self, reservation: Reservation) {
        self.refund(reservation);
    }

    fn put_in_force(&self) {
        let now = self.now();
        for meter in self.meters.iter().flatten() {
            if let WindowCounter::Rate(meter) = meter {
                meter.put_in_force(now);
            }
        }
    }

    async fn peek(&self, step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError> {
        Ok(self.rules.views(step, |charge| self.left(charge)))
    }

    async fn standings(&self, apps: &[AppName]) -> Vec<LimitStanding> {
        let standing = self.rules.standing(apps);
        let left: Vec<u64> = standing.iter().map(|(charge, _)| self.left(charge)).collect();
        self.rules.standings(standing, &left)
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
