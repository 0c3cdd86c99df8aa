//! Limits counted in Redis.
//!
//! Costs, keys and replies are those of the local limiter; only the counting differs. A call without an answer in time
//! may have been counted, so an outage can only count too much.

use super::connection::{RedisConnection, Unavailable};
use super::scripts::{self, Call, TAKEN};
use super::token_bucket::unavailable;
use super::{OnRedisError, RedisError, RedisSettings};
use crate::limit::calendar::{Calendar, until};
use crate::limit::local::{LocalLimiter, NO_DATE_WAIT};
use crate::limit::matching::{ActiveLimits, Charge, Charges, ExceededWindow, KeyHash};
use crate::limit::rule::{LimitRule, Period, Quota, Rate, Window};
use crate::limit::{LimitDecision, LimitError, LimitStanding, LimitStatus, LimitStep, Limiter, Note, Reservation};
use crate::mail::parameters::AppName;
use crate::mail::{Clock, replies};
use async_trait::async_trait;
use jiff::tz::TimeZone;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Counts in Redis, together with all relays that have the same prefix.
#[derive(Debug)]
pub struct RedisLimiter {
    store: RedisConnection,
    rules: ActiveLimits,
    /// By rule, then by window.
    meters: Vec<Vec<WindowKey>>,
    calendar: Calendar,
    /// Counts this instance's part of the limits while Redis is not available.
    local: Option<LocalLimiter>,
}

#[derive(Debug)]
enum WindowKey {
    /// The rate, and the end of its key: counts of another rate are not comparable.
    Rate(Rate, String),
    Quota(Quota),
}

/// What a step took, and the time, which determines the period that a refund goes to.
struct StepCharges {
    charges: Charges,
    wall: SystemTime,
}

/// How long counts are stored after the end of their period, for clocks that are set back.
const KEPT_SECONDS: u64 = 86_400;

impl RedisLimiter {
    /// A limiter with these rules over an open connection. Days and months are those of the zone.
    pub fn new(store: &RedisConnection, rules: Vec<LimitRule>, zone: TimeZone) -> Self {
        let RedisSettings { instances, on_error, .. } = *store.settings();
        let local = (on_error == OnRedisError::Local).then(|| {
            let rules = rules.iter().map(|rule| part(rule, instances)).collect();
            LocalLimiter::in_zone(rules, store.clock(), zone.clone())
        });
        Self {
            store: store.clone(),
            meters: rules.iter().map(|rule| rule.windows.iter().map(WindowKey::new).collect()).collect(),
            rules: ActiveLimits::new(rules, KeyHash::Shared),
            calendar: Calendar::new(zone),
            local,
        }
    }

    /// Connects for this limiter alone.
    ///
    /// # Errors
    /// As [`RedisConnection::connect`].
    pub async fn connect(
        rules: Vec<LimitRule>,
        zone: TimeZone,
        clock: Arc<dyn Clock>,
        settings: RedisSettings,
    ) -> Result<Self, RedisError> {
        Ok(Self::new(&RedisConnection::connect(settings, clock).await?, rules, zone))
    }

    fn meter(&self, charge: &Charge) -> &WindowKey {
        &self.meters[usize::from(charge.rule)][usize::from(charge.window)]
    }

    /// What a step costs. An error where Redis is not needed: the step never fits, or there is no valid date.
    fn charges(&self, step: &LimitStep<'_>) -> Result<Charges, ExceededWindow> {
        let charges = self.rules.charges(step);
        let wall = self.store.clock().wall();
        for charge in &charges {
            let exceeded = |wait| ExceededWindow { rule: charge.rule, wait };
            match self.meter(charge) {
                WindowKey::Rate(rate, _) if charge.amount > rate.burst() => return Err(exceeded(None)),
                WindowKey::Quota(quota) if charge.amount > quota.amount => return Err(exceeded(None)),
                WindowKey::Quota(quota) if self.calendar.span(quota.per, wall).is_none() => {
                    return Err(exceeded(Some(NO_DATE_WAIT)));
                }
                WindowKey::Rate(..) | WindowKey::Quota(_) => {}
            }
        }
        Ok(charges)
    }

    /// One call for one key. The hash tag stores all counts of a limit for one fact on one node of a cluster.
    fn call(&self, operation: Operation, charge: &Charge, wall: SystemTime) -> Call {
        let (prefix, amount) = (&self.store.settings().prefix, charge.amount.get());
        match self.meter(charge) {
            WindowKey::Rate(rate, end) => {
                let key = format!("{prefix}:{{{:032x}}}:{end}", charge.key);
                // Rounded to whole nanoseconds, as in the local limiter.
                let interval = rate.interval().as_nanos() as f64 / 1_000.0;
                let cost = f64::from(amount) * interval;
                let slack = f64::from(rate.burst().get() - amount.min(rate.burst().get())) * interval;
                match operation {
                    Operation::Take => Call::new(&scripts::TAKE, key, [&cost, &slack]),
                    Operation::GiveBack => Call::new(&scripts::GIVE_BACK, key, [&cost]),
                    Operation::Look => Call::new(&scripts::LOOK, key, []),
                }
            }
            WindowKey::Quota(quota) => {
                let name = if quota.per == Period::Day { "day" } else { "month" };
                let span = self.calendar.span(quota.per, wall);
                let (start, end) = span.map_or((0, 0), |span| (span.start, span.end));
                let key = format!("{prefix}:{{{:032x}}}:{name}:{start}", charge.key);
                let seconds = until(end, wall).as_secs() + KEPT_SECONDS;
                match operation {
                    Operation::Take => Call::new(&scripts::TAKE_QUOTA, key, [&quota.amount, &amount, &seconds]),
                    Operation::GiveBack => Call::new(&scripts::GIVE_BACK_QUOTA, key, [&amount, &seconds]),
                    Operation::Look => Call::new(&scripts::LOOK_QUOTA, key, []),
                }
            }
        }
    }

    /// The time without capacity, from the script's answer.
    fn wait(&self, charge: &Charge, answer: i64, wall: SystemTime) -> Duration {
        match self.meter(charge) {
            WindowKey::Rate(..) => Duration::from_micros(u64::try_from(answer).unwrap_or_default().max(1)),
            WindowKey::Quota(quota) => {
                self.calendar.span(quota.per, wall).map_or(NO_DATE_WAIT, |span| until(span.end, wall))
            }
        }
    }

    /// Takes for each step all that it costs, or nothing. All calls are in one round trip. A second one returns what
    /// was taken for steps that were refused; until then, it counts as taken.
    async fn take_all(&self, steps: &[&Charges]) -> Result<Vec<Result<Reservation, ExceededWindow>>, Unavailable> {
        let live = self.store.live()?;
        let wall = self.store.clock().wall();
        let calls: Vec<Call> = steps
            .iter()
            .flat_map(|charges| charges.iter())
            .map(|charge| self.call(Operation::Take, charge, wall))
            .collect();
        let work = async {
            let mut answers = live.run(&calls).await?.into_iter();
            let (mut outcomes, mut back) = (Vec::with_capacity(steps.len()), Vec::new());
            for charges in steps {
                let answers: Vec<i64> = answers.by_ref().take(charges.len()).collect();
                let full = charges.iter().zip(&answers).find(|(_, answer)| **answer != TAKEN);
                outcomes.push(match full {
                    None => Ok(Reservation::new(StepCharges { charges: (*charges).clone(), wall })),
                    Some((charge, wait)) => {
                        let taken = charges.iter().zip(&answers).filter(|(_, answer)| **answer == TAKEN);
                        back.extend(taken.map(|(charge, _)| self.call(Operation::GiveBack, charge, wall)));
                        Err(ExceededWindow { rule: charge.rule, wait: Some(self.wait(charge, *wait, wall)) })
                    }
                });
            }
            if !back.is_empty() {
                live.run(&back).await?;
            }
            Ok(outcomes)
        };
        self.store.bounded(&live, work).await
    }

    /// What remains of a window, from the script's answer: the debt of a rate in nanoseconds, or the count of a quota.
    fn left(&self, charge: &Charge, answer: i64) -> u64 {
        match (self.meter(charge), u64::try_from(answer).unwrap_or_default()) {
            (WindowKey::Rate(rate, _), debt_nanos) => {
                let interval_nanos = u64::try_from(rate.interval().as_nanos()).unwrap_or(u64::MAX);
                u64::from(rate.burst().get()).saturating_sub(debt_nanos.div_ceil(interval_nanos))
            }
            (WindowKey::Quota(quota), count) => u64::from(quota.amount.get()).saturating_sub(count),
        }
    }

    async fn take_one(&self, charges: &Charges) -> Result<Result<Reservation, ExceededWindow>, Unavailable> {
        self.take_all(&[charges]).await?.pop().ok_or(Unavailable)
    }

    /// Converts an outcome to a decision. Where the limit is `Delay`, waits for capacity.
    async fn decide(
        &self,
        step: &LimitStep<'_>,
        charges: &Charges,
        mut outcome: Result<Result<Reservation, ExceededWindow>, Unavailable>,
        began: Instant,
    ) -> Result<LimitDecision, LimitError> {
        let mut waited_already = false;
        loop {
            let exceeded = match outcome {
                Ok(Ok(reservation)) => return Ok(LimitDecision::Taken(reservation)),
                Ok(Err(exceeded)) => exceeded,
                Err(Unavailable) => return self.without(step, waited_already).await,
            };
            let waited = self.store.clock().now().saturating_duration_since(began);
            let delay_max = self.rules.delay_max(exceeded).saturating_sub(waited);
            match exceeded.wait {
                Some(wait) if wait <= delay_max && !delay_max.is_zero() => tokio::time::sleep(wait).await,
                _ => return Ok(self.rules.over(exceeded, &step.stage)),
            }
            waited_already = true;
            outcome = self.take_one(charges).await;
        }
    }

    /// Decides while Redis is not available.
    async fn without(&self, step: &LimitStep<'_>, waited_already: bool) -> Result<LimitDecision, LimitError> {
        match (self.store.settings().on_error, &self.local) {
            (OnRedisError::Allow, _) => Ok(LimitDecision::Taken(Reservation::default())),
            (OnRedisError::Local, Some(local)) => {
                // If the outage begins during a delay, the step does not wait a second time.
                let decision = if waited_already { local.try_take(step) } else { local.take(step).await? };
                Ok(match decision {
                    // A part of a limit does not justify a permanent rejection: the whole limit may have capacity, or
                    // be large enough.
                    LimitDecision::Over { limit, reply, wait } if reply.is_permanent() => {
                        LimitDecision::Over { limit, reply: replies::RATE_LIMITED, wait }
                    }
                    decision => decision,
                })
            }
            (OnRedisError::Local | OnRedisError::Defer, _) => Err(unavailable()),
        }
    }
}

/// The number of windows in one call for the metrics.
const STANDINGS_AT_ONCE: usize = 100;

#[derive(Clone, Copy)]
enum Operation {
    Take,
    GiveBack,
    Look,
}

impl WindowKey {
    fn new(window: &Window) -> Self {
        match window {
            Window::Rate(rate) => Self::Rate(*rate, format!("{}ns:{}", rate.interval().as_nanos(), rate.burst())),
            Window::Quota(quota) => Self::Quota(*quota),
        }
    }
}

/// The part of a limit that one instance counts without the others.
fn part(rule: &LimitRule, instances: NonZeroU32) -> LimitRule {
    let windows = rule.windows.iter().map(|window| window.divided(instances)).collect();
    LimitRule { windows, ..rule.clone() }
}

#[async_trait]
impl Limiter for RedisLimiter {
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError> {
        let began = self.store.clock().now();
        match self.charges(step) {
            Ok(charges) if charges.is_empty() => Ok(LimitDecision::Taken(Reservation::default())),
            Ok(charges) => self.decide(step, &charges, self.take_one(&charges).await, began).await,
            Err(exceeded) => Ok(self.rules.over(exceeded, &step.stage)),
        }
    }

    fn is_distant(&self) -> bool {
        true
    }

    async fn take_each(&self, steps: &[LimitStep<'_>]) -> Vec<Result<LimitDecision, LimitError>> {
        let began = self.store.clock().now();
        let charges: Vec<Result<Charges, ExceededWindow>> = steps.iter().map(|step| self.charges(step)).collect();
        let to_take: Vec<&Charges> = charges.iter().flatten().filter(|charges| !charges.is_empty()).collect();
        let outcomes = if to_take.is_empty() { Ok(Vec::new()) } else { self.take_all(&to_take).await };
        let mut outcomes = outcomes.map(VecDeque::from);
        let mut decisions = Vec::with_capacity(steps.len());
        for (step, charges) in steps.iter().zip(&charges) {
            decisions.push(match charges {
                Ok(charges) if charges.is_empty() => Ok(LimitDecision::Taken(Reservation::default())),
                Ok(charges) => {
                    let outcome = match &mut outcomes {
                        Ok(outcomes) => outcomes.pop_front().ok_or(Unavailable),
                        Err(Unavailable) => Err(Unavailable),
                    };
                    self.decide(step, charges, outcome, began).await
                }
                Err(exceeded) => Ok(self.rules.over(*exceeded, &step.stage)),
            });
        }
        decisions
    }

    async fn give_back(&self, reservation: Reservation) {
        match (reservation.0, &self.local) {
            (Note::Other(note), _) => {
                let Ok(taken) = note.downcast::<StepCharges>() else { return };
                let refund = |charge| self.call(Operation::GiveBack, charge, taken.wall);
                let calls: Vec<Call> = taken.charges.iter().map(refund).collect();
                self.store.send(&calls).await;
            }
            (note @ Note::Charges(_), Some(local)) => local.refund(Reservation(note)),
            (Note::Charges(_) | Note::Nothing, _) => {}
        }
    }

    async fn peek(&self, step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError> {
        let charges = self.rules.charges(step);
        let wall = self.store.clock().wall();
        let calls: Vec<Call> = charges.iter().map(|charge| self.call(Operation::Look, charge, wall)).collect();
        let answers = match self.store.live() {
            _ if calls.is_empty() => Ok(Vec::new()),
            Ok(live) => self.store.bounded(&live, live.run(&calls)).await,
            Err(unavailable) => Err(unavailable),
        };
        let Ok(answers) = answers else {
            return match (self.store.settings().on_error, &self.local) {
                (OnRedisError::Allow, _) => Ok(Vec::new()),
                (OnRedisError::Local, Some(local)) => local.peek(step).await,
                (OnRedisError::Local | OnRedisError::Defer, _) => Err(unavailable()),
            };
        };
        let left = |charge: &Charge| {
            let index = charges.iter().position(|other| other == charge);
            self.left(charge, index.and_then(|index| answers.get(index)).copied().unwrap_or_default())
        };
        Ok(self.rules.views(step, left))
    }

    async fn standings(&self, apps: &[AppName]) -> Vec<LimitStanding> {
        let standing = self.rules.standing(apps);
        let wall = self.store.clock().wall();
        let calls: Vec<Call> = standing.iter().map(|(charge, _)| self.call(Operation::Look, charge, wall)).collect();
        let (mut answers, wait_max) = (Vec::new(), self.store.settings().wait_max);
        // In chunks, so that no decision waits long behind one. An error here does not open the breaker.
        for calls in calls.chunks(STANDINGS_AT_ONCE) {
            let Ok(live) = self.store.live() else { break };
            let Ok(Ok(more)) = tokio::time::timeout(wait_max, live.run(calls)).await else { break };
            answers.extend(more);
        }
        let left: Vec<u64> =
            standing.iter().zip(answers).map(|((charge, _), answer)| self.left(charge, answer)).collect();
        self.rules.standings(standing, &left)
    }
}
