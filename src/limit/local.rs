//! Rates counted in this process, by governor's GCRA over a store of ours.
//!
//! All windows of a step are taken together or not at all: what was taken before one had no room is put back. Promise:
//! over any stretch of time, what a key gets through is at most rate × time + burst. Counts are forgotten at a restart.

use super::rule::{By, LimitRule, Measure, OverLimit, Window};
use super::store::SharedTimes;
use super::{LimitDecision, LimitError, LimitStage, LimitStep, LimitView, Limiter, Ticket};
use crate::mail::{ClientAddress, Clock, Reply, replies};
use async_trait::async_trait;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keeps rates in memory.
#[derive(Debug)]
pub struct LocalLimiter {
    rules: Vec<Compiled>,
    time: Time,
    hashers: [RandomState; 2],
}

#[derive(Debug)]
struct Compiled {
    rule: LimitRule,
    meters: Vec<Meter>,
}

#[derive(Debug)]
struct Meter {
    window: Window,
    interval_nanos: u64,
    limiter: RateLimiter<u128, SharedTimes, Time, NoOpMiddleware<Duration>>,
    /// governor does not show its store, so we hold it too.
    store: SharedTimes,
    start: Duration,
}

/// The relay's clock, as governor wants it: since the limiter began.
#[derive(Clone)]
struct Time {
    clock: Arc<dyn Clock>,
    began: Instant,
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl GovernorClock for Time {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.began)
    }
}

/// One meter, one key, so many: what a step takes, and what giving back undoes.
#[derive(Clone, Copy, Debug)]
struct Charge {
    rule: usize,
    window: usize,
    key: u128,
    amount: NonZeroU32,
}

/// Where there was no room.
struct NoRoom {
    rule: usize,
    /// `None`: there never is; it is more than the burst.
    wait: Option<Duration>,
}

/// Keys that one window remembers, at about 40 octets each.
const KEYS_MAX: usize = 1_000_000;

impl LocalLimiter {
    /// These limits. Time comes from `clock`; waits of `Delay` are the machine's.
    pub fn new(rules: Vec<LimitRule>, clock: Arc<dyn Clock>) -> Self {
        let time = Time { began: clock.now(), clock };
        let meter = |window: &Window| {
            let quota = Quota::with_period(window.interval()).map(|quota| quota.allow_burst(window.burst()));
            // An interval is never zero, which is all that governor refuses.
            let quota = quota.unwrap_or(Quota::per_second(window.burst()));
            let start = time.now();
            let store = SharedTimes::new(KEYS_MAX);
            Meter {
                window: *window,
                interval_nanos: u64::try_from(window.interval().as_nanos()).unwrap_or(u64::MAX),
                limiter: RateLimiter::new(quota, store.clone(), time.clone()),
                store,
                start,
            }
        };
        let rules =
            rules.into_iter().map(|rule| Compiled { meters: rule.windows.iter().map(meter).collect(), rule }).collect();
        Self { rules, time, hashers: [RandomState::new(), RandomState::new()] }
    }

    /// What a step costs, limit by limit.
    fn charges(&self, step: &LimitStep<'_>) -> Vec<Charge> {
        let mut charges = Vec::new();
        for (place, Compiled { rule, meters }) in self.rules.iter().enumerate() {
            let Some(amount) = amount(rule, step) else { continue };
            let Some(key) = self.key(place, rule, step) else { continue };
            charges.extend((0..meters.len()).map(|window| Charge { rule: place, window, key, amount }));
        }
        charges
    }

    fn key(&self, place: usize, rule: &LimitRule, step: &LimitStep<'_>) -> Option<u128> {
        let app = step.granted.app.as_ref();
        if !rule.apps.is_empty() && !app.is_some_and(|app| rule.apps.contains(app)) {
            return None;
        }
        Some(match (rule.by, step.stage) {
            (By::App, _) => self.hash(place, app?.as_str()),
            (By::Identity, _) => self.hash(place, step.client.identity.as_ref()?.name()),
            (By::Client { ipv4_prefix, ipv6_prefix }, _) => {
                let ClientAddress::Ip(address) = step.client.address else { return None };
                self.hash(place, &cut(address.ip(), ipv4_prefix, ipv6_prefix))
            }
            (By::ReversePath, _) => self.hash(place, step.reverse_path.mailbox()?),
            (By::Author, LimitStage::Message { author, .. }) => self.hash(place, author),
            (By::RecipientDomain, LimitStage::Rcpt(path)) => self.hash(place, path.mailbox().domain()),
            (By::Author | By::RecipientDomain, _) => return None,
            (By::Relay, _) => self.hash(place, ""),
        })
    }

    fn hash(&self, place: usize, fact: &(impl std::hash::Hash + ?Sized)) -> u128 {
        let [high, low] = &self.hashers;
        u128::from(high.hash_one((place, fact))) << 64 | u128::from(low.hash_one((place, fact)))
    }

    fn meter(&self, charge: &Charge) -> &Meter {
        &self.rules[charge.rule].meters[charge.window]
    }

    /// Takes all of them, or none.
    fn take_all(&self, charges: &[Charge]) -> Result<(), NoRoom> {
        for (place, charge) in charges.iter().enumerate() {
            if let Err(wait) = self.meter(charge).take(charge, self.time.now()) {
                self.put_back(&charges[..place]);
                return Err(NoRoom { rule: charge.rule, wait });
            }
        }
        Ok(())
    }

    fn put_back(&self, charges: &[Charge]) {
        for charge in charges {
            self.meter(charge).put_back(charge);
        }
    }

    fn over(&self, no_room: &NoRoom, stage: &LimitStage<'_>) -> LimitDecision {
        let rule = &self.rules[no_room.rule].rule;
        let reply = match (no_room.wait, rule.measure, rule.over) {
            (None, Measure::Octets, _) => replies::MESSAGE_TOO_LARGE,
            // A client that splits succeeds: the recipients before this one are sent.
            (_, Measure::Recipients, OverLimit::Defer | OverLimit::Delay(_))
                if matches!(stage, LimitStage::Rcpt(_)) =>
            {
                replies::TOO_MANY_RECIPIENTS
            }
            (_, _, OverLimit::Reject) => replies::RATE_LIMIT_EXCEEDED,
            (wait, ..) => rate_limited(wait),
        };
        LimitDecision::Over { limit: rule.name.clone(), reply, wait: no_room.wait }
    }
}

fn rate_limited(wait: Option<Duration>) -> Reply {
    match wait {
        None => replies::RATE_LIMITED,
        Some(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            replies::RATE_LIMITED.with_text(&format!("Rate limit reached, try again in {seconds} s"))
        }
    }
}

impl Meter {
    /// `Err(None)`: more than the burst, so there will never be room.
    fn take(&self, charge: &Charge, now: Duration) -> Result<(), Option<Duration>> {
        let since_start = now.saturating_sub(self.start);
        if !self.store.has_room(charge.key, u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX)) {
            return Err(Some(self.window.interval()));
        }
        match self.limiter.check_key_n(&charge.key, charge.amount) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(Some(not_until.wait_time_from(now))),
            Err(_) => Err(None),
        }
    }

    fn put_back(&self, charge: &Charge) {
        let nanos = self.interval_nanos.saturating_mul(u64::from(charge.amount.get()));
        self.store.put_back(charge.key, nanos);
    }

    fn left(&self, key: u128, now: Duration) -> u64 {
        let burst = u64::from(self.window.burst().get());
        let Some(arrival) = self.store.arrival(key) else { return burst };
        let now = u64::try_from(now.saturating_sub(self.start).as_nanos()).unwrap_or(u64::MAX);
        burst.saturating_sub(arrival.saturating_sub(now).div_ceil(self.interval_nanos))
    }
}

/// What a step costs in this limit's measure; `None`: nothing, at this step.
fn amount(rule: &LimitRule, step: &LimitStep<'_>) -> Option<NonZeroU32> {
    // A count that no burst can hold is refused as such.
    let large = |count: u64| NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX));
    match (rule.measure, rule.by, step.stage) {
        (Measure::Messages, By::Author, LimitStage::Message { .. }) => NonZeroU32::new(1),
        (Measure::Messages, by, LimitStage::Mail { .. }) if by != By::Author => NonZeroU32::new(1),
        (Measure::Recipients, By::Author, LimitStage::Message { recipients, .. }) => large(recipients as u64),
        (Measure::Recipients, by, LimitStage::Rcpt(_)) if by != By::Author => NonZeroU32::new(1),
        (Measure::Octets, _, LimitStage::Message { octets, .. }) => large(octets),
        _ => None,
    }
}

fn cut(address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> Option<ipnet::IpNet> {
    let prefix = if address.is_ipv4() { ipv4_prefix } else { ipv6_prefix };
    ipnet::IpNet::new(address, prefix).ok().map(|network| network.trunc())
}

#[async_trait]
impl Limiter for LocalLimiter {
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError> {
        // A message that says it is larger than any burst need not be uploaded.
        if let LimitStage::Mail { declared_octets: Some(octets) } = step.stage
            && let Some(rule) = self.too_large(step, octets)
        {
            return Ok(self.over(&NoRoom { rule, wait: None }, &step.stage));
        }
        let charges = self.charges(step);
        if charges.is_empty() {
            return Ok(LimitDecision::Taken(Ticket::default()));
        }
        let began = self.time.now();
        loop {
            let no_room = match self.take_all(&charges) {
                Ok(()) => return Ok(LimitDecision::Taken(Ticket::new(charges))),
                Err(no_room) => no_room,
            };
            let patience = match self.rules[no_room.rule].rule.over {
                OverLimit::Delay(most) => most.saturating_sub(self.time.now().saturating_sub(began)),
                OverLimit::Defer | OverLimit::Reject => Duration::ZERO,
            };
            match no_room.wait {
                Some(wait) if wait <= patience && !patience.is_zero() => tokio::time::sleep(wait).await,
                _ => return Ok(self.over(&no_room, &step.stage)),
            }
        }
    }

    async fn give_back(&self, ticket: Ticket) {
        if let Some(charges) = ticket.into_note::<Vec<Charge>>() {
            self.put_back(&charges);
        }
    }

    async fn look(&self, step: &LimitStep<'_>) -> Result<Vec<LimitView>, LimitError> {
        let now = self.time.now();
        let view = |charge: &Charge| {
            let meter = self.meter(charge);
            let limit = self.rules[charge.rule].rule.name.clone();
            LimitView { limit, left: meter.left(charge.key, now), capacity: u64::from(meter.window.burst().get()) }
        };
        Ok(self.charges(step).iter().map(view).collect())
    }
}

impl LocalLimiter {
    /// The first limit of octets that such a message can never pass.
    fn too_large(&self, step: &LimitStep<'_>, octets: u64) -> Option<usize> {
        self.rules.iter().enumerate().position(|(place, Compiled { rule, meters })| {
            rule.measure == Measure::Octets
                && meters.iter().any(|meter| octets > u64::from(meter.window.burst().get()))
                && (rule.by == By::Author || self.key(place, rule, step).is_some())
        })
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
