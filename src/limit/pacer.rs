//! How fast may all together send? Just under the account's own rate, and slower when the provider says so.
//!
//! The rate is what the provider tells of the account, or a fixed figure, and not more than what throttling taught
//! (`learned.rs`). A throttle makes everybody wait a moment. While the provider goes on throttling, the waits double, so that
//! the number of requests is bounded however many clients there are. The quota of 24 hours is told apart: it stops everything
//! for minutes, then one message tries.

use super::Take;
use super::learned::Learned;
use super::token_bucket::{TokenBucket, TokenRate};
use crate::mail::{AccountQuota, Clock, Outcome, OutcomeKind, Refusal, RuleName, replies};
use std::fmt;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
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
pub struct Pacer {
    settings: PaceSettings,
    tokens: Arc<dyn TokenBucket>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Where the series of jitters begins.
    seed: u64,
}

#[derive(Debug, Default)]
struct State {
    account: Option<AccountQuota>,
    learned: Learned,
    closed: Option<Closed>,
    /// Jitters drawn.
    drawn: u64,
    /// The rate that was reported last as lowered, and when.
    reported: Option<(f64, Instant)>,
}

/// The 24 hours are used up.
#[derive(Clone, Copy, Debug)]
struct Closed {
    until: Instant,
    times: u32,
}

/// What was taken, to be used or given back.
#[derive(Clone, Copy, Debug)]
pub struct PacerPermit {
    recipients: u32,
    rate: TokenRate,
    began: Instant,
}

/// Whether a message may go now.
#[derive(Debug)]
pub enum PaceDecision {
    /// The message may be sent.
    Go(PacerPermit),
    /// Ask again after that time.
    Wait(Duration),
    /// Not within any wait that a client has patience for.
    Closed(Refusal),
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

/// The guaranteed get so much of the burst on top.
const RESERVE: f64 = 0.5;
/// Where no rate is known.
const UNPACED: TokenRate = TokenRate { per_second: 1e6, burst: 1e6, reserve: 0.0 };
/// A throttle is reported if the rate is so much lower than the reported one, or the pause so long, or after so long.
const REPORT_LOWER: f64 = 0.9;
const REPORT_PAUSE: Duration = Duration::from_secs(1);
const REPORT_AGAIN: Duration = Duration::from_secs(60);
/// How long nothing is tried when the 24 hours are used up; doubling, with jitter.
const CLOSED_MIN: Duration = Duration::from_secs(600);
const CLOSED_MAX: Duration = Duration::from_secs(3600);
/// How long the others wait for the one that tries.
const TRIAL: Duration = Duration::from_secs(60);

impl Pacer {
    /// A pace over that store of room.
    pub fn new(settings: PaceSettings, tokens: Arc<dyn TokenBucket>, clock: Arc<dyn Clock>) -> Self {
        Self { settings, tokens, clock, state: Mutex::default(), seed: RandomState::new().hash_one(0) }
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
            Ok(Take::Granted) => PaceDecision::Go(PacerPermit { recipients, rate, began }),
            Ok(Take::RetryAfter(wait)) => PaceDecision::Wait(wait),
            // A bucket that says so is wrong: a message for more recipients than the burst is paid back later.
            Ok(Take::NeverFits) => PaceDecision::Wait(NEVER_FITS_WAIT),
            Err(error) => {
                PaceDecision::Closed(Refusal::new(replies::LOCAL_ERROR, error.to_string()).by(RuleName::PACE))
            }
        }
    }

    /// Gives back what was not used.
    pub async fn give_back(&self, taken: PacerPermit) {
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
    pub async fn record_outcome(&self, taken: PacerPermit, outcome: &Outcome) -> Option<PaceChange> {
        let now = self.clock.now();
        let (pause, is_first) = {
            let mut state = self.state();
            let told = self.told(&state);
            let recipients = f64::from(taken.recipients);
            match outcome.kind {
                OutcomeKind::Accepted => {
                    state.learned.accepted(now, taken.began, recipients, told);
                    return state.closed.take().map(|_| PaceChange::Opened);
                }
                OutcomeKind::DailyQuota => {
                    let jitter = self.jitter(&mut state);
                    return state.close(now, jitter);
                }
                OutcomeKind::Throttled => {
                    let pause = state.learned.throttled(now, taken.began, recipients, told)?;
                    let pause = pause.mul_f64(0.5 + 0.5 * self.jitter(&mut state));
                    (pause, state.learned.in_a_row() == 1)
                }
                _ => return None,
            }
        };
        if is_first {
            // So that it is made up for at once: a small bucket would be full before the next turn. Not always: a bucket that is
            // empty would see two attempts for each that it has room for.
            self.give_back(taken).await;
        }
        let pause = pause.max(outcome.retry_after.unwrap_or_default());
        self.tokens.pause(pause).await;
        let mut state = self.state();
        let rate = self.rate(&mut state, now).map_or(UNPACED.per_second, |rate| rate.per_second);
        let is_news = state.reported.is_none_or(|(reported, at)| {
            rate < reported * REPORT_LOWER || now.saturating_duration_since(at) >= REPORT_AGAIN
        });
        if !is_news && pause < REPORT_PAUSE {
            return None;
        }
        state.reported = Some((rate, now));
        Some(PaceChange::Slowed { recipients_per_second: rate, pause })
    }

    /// Our part of what the account tells and the settings allow.
    fn told(&self, state: &State) -> Option<f64> {
        let account = state.account.map(|account| account.recipients_per_second_max);
        let whole = match (account, self.settings.recipients_per_second_max) {
            (Some(told), Some(most)) => told.min(most),
            (told, most) => told.or(most)?,
        };
        let used = whole * f64::from(self.settings.percent) / 100.0 / f64::from(self.settings.instances.get());
        Some(used.max(RATE_MIN))
    }

    /// The rate now; `None`: nobody told one, and the provider has not throttled.
    fn rate(&self, state: &mut State, now: Instant) -> Option<TokenRate> {
        let told = self.told(state);
        let per_second = state.learned.rate(now, told)?;
        let burst = state.learned.burst(per_second).max(1.0);
        Some(TokenRate { per_second, burst, reserve: burst * RESERVE })
    }

    /// The pace now.
    pub fn view(&self) -> PaceView {
        let now = self.clock.now();
        let mut state = self.state();
        let rate = self.rate(&mut state, now);
        PaceView {
            recipients_per_second: rate.map(|rate| rate.per_second),
            account: state.account,
            slowed: state.learned.is_slowed(self.told(&state)),
            closed: state.closed.is_some(),
        }
    }

    /// Between 0 and 1, so that relays which were throttled together do not come back together.
    fn jitter(&self, state: &mut State) -> f64 {
        state.drawn += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, state.drawn).hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The same every time.
    #[cfg(test)]
    pub(crate) fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

/// Until the next attempt with a bucket that can never grant.
const NEVER_FITS_WAIT: Duration = Duration::from_secs(1);

/// Recipients a second: an account in the sandbox has one, shared by many.
const RATE_MIN: f64 = 0.01;

impl State {
    fn closed_at(&mut self, now: Instant) -> Option<PaceDecision> {
        let closed = self.closed.as_mut()?;
        if now >= closed.until {
            // This one tries.
            closed.until = now + TRIAL;
            return None;
        }
        let seconds = closed.until.duration_since(now).as_secs();
        let detail = format!("the quota of 24 hours is used up; the next try is in {seconds} s");
        Some(PaceDecision::Closed(Refusal::new(replies::DAILY_QUOTA, detail).by(RuleName::PACE)))
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
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "pacer_tests.rs"]
mod tests;
