//! How fast may all together send? Just under the account's own rate, and slower when the provider says so.
//!
//! The rate is what the provider tells of the account, or a fixed figure, or what throttling taught. A throttle makes
//! everybody wait a moment and then go more slowly: the rate is multiplied down, and grows back by the second. While the
//! provider goes on throttling, the waits double, so that the number of requests is bounded however many clients knock.
//! The quota of 24 hours is told apart: it stops everything for minutes, then one message tries.

use super::tokens::{TokenRate, Tokens};
use crate::mail::{AccountQuota, Clock, Kind, Outcome, Reply, replies};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is known of the rate without asking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaceSettings {
    /// Recipients a second, where the account does not tell; and the most, where it does. `None`: as the account says, and
    /// without that no pace until the provider throttles.
    pub recipients_per_second_max: Option<f64>,
    /// How much of the rate we use: other senders of the account and clocks want some.
    pub percent: u32,
    /// How many relays share the account without knowing of each other.
    pub instances: NonZeroU32,
}

impl Default for PaceSettings {
    fn default() -> Self {
        Self { recipients_per_second_max: None, percent: 98, instances: NonZeroU32::MIN }
    }
}

/// The pace of all sending.
pub struct Pace {
    settings: PaceSettings,
    tokens: Arc<dyn Tokens>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    jitter: RandomState,
}

#[derive(Debug, Default)]
struct State {
    account: Option<AccountQuota>,
    /// Where nobody tells a rate: what throttling taught.
    learned: Option<f64>,
    slowed: Option<Slowed>,
    /// Throttles since the last message that went through.
    throttles: u32,
    closed: Option<Closed>,
    /// For the rate that is learned: recipients in the second that began then.
    second: Option<(Instant, f64)>,
}

/// The rate is a part of what it should be.
#[derive(Clone, Copy, Debug)]
struct Slowed {
    factor: f64,
    at: Instant,
}

/// The 24 hours are used up.
#[derive(Clone, Copy, Debug)]
struct Closed {
    until: Instant,
    times: u32,
}

/// What was taken, to be used or given back.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    recipients: u32,
    rate: TokenRate,
    began: Instant,
}

/// Whether a message may go now.
#[derive(Debug)]
pub enum PaceDecision {
    /// It may.
    Go(Taken),
    /// Not before so long.
    Wait(Duration),
    /// Not within any wait that a client would sit through.
    Closed {
        /// For the peer.
        reply: Reply,
        /// For the log.
        detail: String,
    },
}

/// The pace now, for metrics and for `explain`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaceView {
    /// Recipients a second; `None`: no pace.
    pub recipients_per_second: Option<f64>,
    /// What the account told last.
    pub account: Option<AccountQuota>,
    /// Whether throttling has slowed us.
    pub slowed: bool,
    /// Whether the quota of 24 hours is used up.
    pub closed: bool,
}

/// What hearing of an outcome changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PaceChange {
    /// The provider throttled: so many recipients a second from now on, after a pause.
    Slowed {
        /// The new rate.
        recipients_per_second: f64,
        /// The pause.
        pause: Duration,
    },
    /// The quota of 24 hours is used up: nothing is sent for so long.
    Closed(Duration),
    /// It has room again.
    Opened,
}

/// A second's worth may go at once after a pause: this part of it for everybody, that part for the guaranteed on top.
const BURST_SECONDS: f64 = 0.5;
const RESERVE_SECONDS: f64 = 0.25;
/// Where no rate is known.
const UNPACED: TokenRate = TokenRate { per_second: 1e6, burst: 1e6, reserve: 0.0 };
/// At a throttle, the rate becomes this part of itself, but not less than that part of the whole.
const DECREASE: f64 = 0.7;
const FACTOR_MIN: f64 = 0.05;
/// Throttles in a row after which nothing is sent in a burst.
const TRIES: u32 = 2;
/// What comes back a second, of the whole: from 0.7 it takes 15 seconds.
const INCREASE_PER_SECOND: f64 = 0.02;
/// The pause at the first throttle and the longest one; doubling in between, with jitter.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long nothing is tried when the 24 hours are used up; doubling, with jitter.
const CLOSED_MIN: Duration = Duration::from_secs(600);
const CLOSED_MAX: Duration = Duration::from_secs(3600);
/// How long the others wait for the one that tries.
const TRIAL: Duration = Duration::from_secs(60);
/// A rate that throttling taught is forgotten after this long without one.
const LEARNED: Duration = Duration::from_secs(600);

impl Pace {
    /// A pace over that store of room.
    pub fn new(settings: PaceSettings, tokens: Arc<dyn Tokens>, clock: Arc<dyn Clock>) -> Self {
        Self { settings, tokens, clock, state: Mutex::default(), jitter: RandomState::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a message with so many recipients.
    pub async fn take(&self, recipients: u32, guaranteed: bool) -> PaceDecision {
        let began = self.clock.now();
        let rate = {
            let mut state = self.state();
            if let Some(refusal) = state.closed_at(began) {
                return refusal;
            }
            self.rate(&mut state, began).unwrap_or(UNPACED)
        };
        match self.tokens.take(recipients, rate, guaranteed).await {
            Ok(Ok(())) => PaceDecision::Go(Taken { recipients, rate, began }),
            Ok(Err(wait)) => PaceDecision::Wait(wait),
            Err(error) => PaceDecision::Closed { reply: replies::LOCAL_ERROR, detail: error.to_string() },
        }
    }

    /// Gives back what was not used.
    pub async fn give_back(&self, taken: Taken) {
        self.tokens.give_back(taken.recipients, taken.rate).await;
    }

    /// The account told its quota.
    pub fn account(&self, quota: AccountQuota) {
        let mut state = self.state();
        state.account = Some(quota);
        // It tells of the last 24 hours: if there is room again, somebody may try sooner.
        let room = quota.recipients_per_24_hours_max.is_none_or(|most| quota.recipients_last_24_hours < most);
        if let (true, Some(closed)) = (room, &mut state.closed) {
            closed.until = self.clock.now().min(closed.until);
        }
    }

    /// How the attempt ended that this was taken for.
    pub async fn heard(&self, taken: Taken, outcome: &Outcome) -> Option<PaceChange> {
        let now = self.clock.now();
        let change = {
            let mut state = self.state();
            match outcome.kind {
                Kind::Accepted => return state.went_through(now, f64::from(taken.recipients)),
                Kind::DailyQuota => return state.close(now, self.jitter(now)),
                Kind::Throttled => self.throttled(&mut state, now, taken, outcome.retry_after)?,
                _ => return None,
            }
        };
        if let PaceChange::Slowed { pause, .. } = change {
            self.tokens.pause(pause).await;
        }
        Some(change)
    }

    fn throttled(&self, state: &mut State, now: Instant, taken: Taken, asked: Option<Duration>) -> Option<PaceChange> {
        // What was under way when we slowed down says nothing of the new rate.
        if state.slowed.is_some_and(|slowed| taken.began <= slowed.at) {
            return None;
        }
        if self.settings.recipients_per_second_max.is_none() && state.account.is_none() {
            let recent = state.second.map_or(1.0, |(_, recipients)| recipients).max(1.0);
            state.learned = Some(state.learned.map_or(recent, |learned| learned.min(recent)));
        }
        let factor = (state.factor(now) * DECREASE).max(FACTOR_MIN);
        state.slowed = Some(Slowed { factor, at: now });
        let doubled = PAUSE_MIN * 2_u32.pow(state.throttles.min(7));
        state.throttles = state.throttles.saturating_add(1);
        let pause = doubled.min(PAUSE_MAX).mul_f64(0.5 + 0.5 * self.jitter(now)).max(asked.unwrap_or_default());
        let recipients_per_second = self.rate(state, now).map_or(UNPACED.per_second, |rate| rate.per_second);
        Some(PaceChange::Slowed { recipients_per_second, pause })
    }

    /// The rate now; `None`: nobody told one, and the provider has not throttled.
    fn rate(&self, state: &mut State, now: Instant) -> Option<TokenRate> {
        if state.learned.is_some() && state.slowed.is_none_or(|slowed| now.duration_since(slowed.at) > LEARNED) {
            state.learned = None;
        }
        let told = state.account.map(|account| account.recipients_per_second_max);
        let whole = match (told, self.settings.recipients_per_second_max) {
            (Some(told), Some(most)) => told.min(most),
            (Some(rate), None) | (None, Some(rate)) => rate,
            (None, None) => state.learned?,
        };
        let used = whole * f64::from(self.settings.percent) / 100.0 / f64::from(self.settings.instances.get());
        let per_second = (used * state.factor(now)).max(RATE_MIN);
        // While nothing goes through, a few try.
        let at_once = if state.throttles > TRIES { 0.0 } else { per_second };
        Some(TokenRate { per_second, burst: (at_once * BURST_SECONDS).max(1.0), reserve: at_once * RESERVE_SECONDS })
    }

    /// The pace now.
    pub fn view(&self) -> PaceView {
        let now = self.clock.now();
        let mut state = self.state();
        let rate = self.rate(&mut state, now);
        PaceView {
            recipients_per_second: rate.map(|rate| rate.per_second),
            account: state.account,
            slowed: state.factor(now) < 1.0,
            closed: state.closed.is_some(),
        }
    }

    /// Between 0 and 1, so that relays which were throttled together do not come back together.
    fn jitter(&self, now: Instant) -> f64 {
        (self.jitter.hash_one(now) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Recipients a second: an account in the sandbox has one, shared by many.
const RATE_MIN: f64 = 0.01;

impl State {
    fn factor(&self, now: Instant) -> f64 {
        self.slowed.map_or(1.0, |slowed| {
            let since = now.saturating_duration_since(slowed.at).as_secs_f64();
            (slowed.factor + since * INCREASE_PER_SECOND).min(1.0)
        })
    }

    fn closed_at(&mut self, now: Instant) -> Option<PaceDecision> {
        let closed = self.closed.as_mut()?;
        if now >= closed.until {
            // This one tries.
            closed.until = now + TRIAL;
            return None;
        }
        let seconds = closed.until.duration_since(now).as_secs();
        let detail = format!("the quota of 24 hours is used up; the next try is in {seconds} s");
        Some(PaceDecision::Closed { reply: replies::DAILY_QUOTA, detail })
    }

    fn close(&mut self, now: Instant, jitter: f64) -> Option<PaceChange> {
        // Others were under way when the first one heard.
        let times = match self.closed {
            Some(closed) if closed.until > now + TRIAL => return None,
            Some(closed) => closed.times + 1,
            None => 0,
        };
        let wait = (CLOSED_MIN * 2_u32.pow(times.min(4))).min(CLOSED_MAX).mul_f64(1.0 + 0.5 * jitter);
        self.closed = Some(Closed { until: now + wait, times });
        Some(PaceChange::Closed(wait))
    }

    fn went_through(&mut self, now: Instant, recipients: f64) -> Option<PaceChange> {
        self.throttles = 0;
        self.second = match self.second {
            Some((began, sum)) if now.duration_since(began) < Duration::from_secs(1) => Some((began, sum + recipients)),
            _ => Some((now, recipients)),
        };
        self.closed.take().map(|_| PaceChange::Opened)
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
