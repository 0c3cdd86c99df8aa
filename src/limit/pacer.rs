//! Paces all sending together: just below the account's rate, and slower when the provider throttles.
//!
//! The rate is the account's rate as SES reports it, or a configured figure, and at most the rate learned from
//! throttling (`learned.rs`). A throttle pauses all sending for a moment. While the provider continues to throttle, the
//! pause doubles, so that the number of requests is bounded for any number of clients. The quota of 24 hours is handled
//! separately: when it is used up, all sending stops for minutes, then one message is tried.

use super::Take;
use super::learned::Learned;
use super::token_bucket::{TokenBucket, TokenRate};
use crate::mail::{AccountQuota, Clock, Outcome, OutcomeKind, Refusal, RuleName, replies};
use std::fmt;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The configured limits of the pace.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PaceSettings {
    /// Recipients per second, where the account reports no rate; otherwise the upper limit. `None`: the account's rate,
    /// and without that no pace until the provider throttles.
    pub recipients_per_second_max: Option<f64>,
    /// The percentage of the rate that this relay uses: other senders of the account and differences of clocks need the
    /// rest.
    pub percent: u32,
    /// How many relays share the account without a common store.
    pub instances: NonZeroU32,
}

impl Default for PaceSettings {
    fn default() -> Self {
        Self { recipients_per_second_max: None, percent: 98, instances: NonZeroU32::MIN }
    }
}

/// The pace of all sending.
pub(crate) struct Pacer {
    tokens: RwLock<Arc<dyn TokenBucket>>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// The seed of the jitter.
    seed: u64,
}

#[derive(Debug, Default)]
struct State {
    settings: PaceSettings,
    account: Option<AccountQuota>,
    learned: Learned,
    closed: Option<Closed>,
    /// The number of jitter values drawn.
    drawn: u64,
    /// The lowered rate that was logged last, and when.
    reported: Option<(f64, Instant)>,
}

/// The quota of 24 hours is used up.
#[derive(Clone, Copy, Debug)]
struct Closed {
    until: Instant,
    times: u32,
}

/// What was taken, to be used or returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacerPermit {
    recipients: u32,
    rate: TokenRate,
    began: Instant,
}

/// Whether a message may be sent now.
#[derive(Debug)]
pub(crate) enum PaceDecision {
    /// The message may be sent.
    Go(PacerPermit),
    /// Try again after this time.
    Wait(Duration),
    /// Sending stays stopped for longer than a client waits.
    Closed(Refusal),
}

/// The current pace, for metrics and for `explain`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PaceView {
    /// Recipients per second; `None`: no pace.
    pub recipients_per_second: Option<f64>,
    /// The account's quota as last reported.
    pub account: Option<AccountQuota>,
    /// Whether throttling has lowered the rate.
    pub slowed: bool,
    /// Whether the quota of 24 hours is used up.
    pub closed: bool,
}

/// What an outcome changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PaceChange {
    /// The provider throttled: the rate is lowered, after a pause.
    Slowed {
        /// The new rate.
        recipients_per_second: f64,
        /// The pause.
        pause: Duration,
    },
    /// The quota of 24 hours is used up: nothing is sent for this long.
    Closed(Duration),
    /// The quota of 24 hours has capacity again.
    Opened,
}

/// Messages within a guarantee may exceed the burst by this part of it.
const RESERVE: f64 = 0.5;
/// The bucket where no rate is known.
const UNPACED: TokenRate = TokenRate { per_second: 1e6, burst: 1e6, reserve: 0.0 };
/// A throttle is logged if the rate is below this part of the logged one, if the pause is this long, or after this
/// interval.
const REPORT_LOWER: f64 = 0.9;
const REPORT_PAUSE: Duration = Duration::from_secs(1);
const REPORT_AGAIN: Duration = Duration::from_secs(60);
/// How long sending stops when the quota of 24 hours is used up. The time doubles, with jitter.
const CLOSED_MIN: Duration = Duration::from_secs(600);
const CLOSED_MAX: Duration = Duration::from_secs(3600);
/// How long other messages wait for the one that is tried.
const TRIAL: Duration = Duration::from_secs(60);

impl Pacer {
    /// A pacer over a token bucket.
    pub(crate) fn new(settings: PaceSettings, tokens: Arc<dyn TokenBucket>, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State { settings, ..State::default() });
        Self { tokens: RwLock::new(tokens), clock, state, seed: RandomState::new().hash_one(0) }
    }

    /// Changes the settings, and the bucket if there is another one. What was learned of the provider stays.
    pub(crate) fn configure(&self, settings: PaceSettings, tokens: Option<Arc<dyn TokenBucket>>) {
        self.state().settings = settings;
        if let Some(tokens) = tokens {
            *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        }
    }

    fn tokens(&self) -> Arc<dyn TokenBucket> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the tokens for a message with this number of recipients.
    pub(crate) async fn take(&self, recipients: u32, guaranteed: bool) -> PaceDecision {
        let began = self.clock.now();
        let rate = {
            let mut state = self.state();
            if let Some(refusal) = state.closed_at(began) {
                return refusal;
            }
            Self::rate(&mut state, began).unwrap_or(UNPACED)
        };
        match self.tokens().take(recipients, rate, guaranteed).await {
            Ok(Take::Granted) => PaceDecision::Go(PacerPermit { recipients, rate, began }),
            Ok(Take::RetryAfter(wait)) => PaceDecision::Wait(wait),
            // A bucket should not return this: a message with more recipients than the burst is paid back later.
            Ok(Take::NeverFits) => PaceDecision::Wait(NEVER_FITS_WAIT),
            Err(error) => {
                PaceDecision::Closed(Refusal::new(replies::LOCAL_ERROR, error.to_string()).by(RuleName::PACE))
            }
        }
    }

    /// Returns tokens that were not used.
    pub(crate) async fn give_back(&self, taken: PacerPermit) {
        self.tokens().give_back(taken.recipients, taken.rate).await;
    }

    /// Records the account's quota.
    pub(crate) fn account(&self, quota: AccountQuota) {
        let mut state = self.state();
        state.account = Some(quota);
        // The report is about the last 24 hours: if there is capacity again, one message may be tried sooner.
        let has_capacity = quota.recipients_per_24_hours_max.is_none_or(|most| quota.recipients_last_24_hours < most);
        if let (true, Some(closed)) = (has_capacity, &mut state.closed) {
            closed.until = self.clock.now().min(closed.until);
        }
    }

    /// Records the outcome of the attempt that the tokens were taken for.
    pub(crate) async fn record_outcome(&self, taken: PacerPermit, outcome: &Outcome) -> Option<PaceChange> {
        let now = self.clock.now();
        let (pause, is_first) = {
            let mut state = self.state();
            let reported_rate = Self::reported_rate(&state);
            let recipients = f64::from(taken.recipients);
            match outcome.kind {
                OutcomeKind::Accepted => {
                    state.learned.accepted(now, taken.began, recipients, reported_rate);
                    return state.closed.take().map(|_| PaceChange::Opened);
                }
                OutcomeKind::DailyQuota => {
                    let jitter = self.jitter(&mut state);
                    return state.close(now, jitter);
                }
                OutcomeKind::Throttled => {
                    let pause = state.learned.throttled(now, taken.began, recipients, reported_rate)?;
                    let pause = pause.mul_f64(0.5 + 0.5 * self.jitter(&mut state));
                    (pause, state.learned.in_a_row() == 1)
                }
                _ => return None,
            }
        };
        if is_first {
            // A throttled attempt gets its tokens back, so that it is retried at once: a small bucket would be full
            // before its next turn. Repeated throttles do not: with an empty bucket, the provider would receive two
            // attempts for each one that it accepts.
            self.give_back(taken).await;
        }
        let pause = pause.max(outcome.retry_after.unwrap_or_default());
        self.tokens().pause(pause).await;
        let mut state = self.state();
        let rate = Self::rate(&mut state, now).map_or(UNPACED.per_second, |rate| rate.per_second);
        let is_news = state.reported.is_none_or(|(reported, at)| {
            rate < reported * REPORT_LOWER || now.saturating_duration_since(at) >= REPORT_AGAIN
        });
        if !is_news && pause < REPORT_PAUSE {
            return None;
        }
        state.reported = Some((rate, now));
        Some(PaceChange::Slowed { recipients_per_second: rate, pause })
    }

    /// This relay's part of the reported and configured rate.
    fn reported_rate(state: &State) -> Option<f64> {
        let account = state.account.map(|account| account.recipients_per_second_max);
        let settings = &state.settings;
        let whole = match (account, settings.recipients_per_second_max) {
            (Some(reported_rate), Some(most)) => reported_rate.min(most),
            (reported_rate, most) => reported_rate.or(most)?,
        };
        let used = whole * f64::from(settings.percent) / 100.0 / f64::from(settings.instances.get());
        Some(used.max(RATE_MIN))
    }

    /// The current rate. `None`: no rate is reported or configured, and the provider has not throttled.
    fn rate(state: &mut State, now: Instant) -> Option<TokenRate> {
        let reported_rate = Self::reported_rate(state);
        let per_second = state.learned.rate(now, reported_rate)?;
        let burst = state.learned.burst(per_second).max(1.0);
        Some(TokenRate { per_second, burst, reserve: burst * RESERVE })
    }

    /// The current pace.
    pub(crate) fn view(&self) -> PaceView {
        let now = self.clock.now();
        let mut state = self.state();
        let rate = Self::rate(&mut state, now);
        PaceView {
            recipients_per_second: rate.map(|rate| rate.per_second),
            account: state.account,
            slowed: state.learned.is_slowed(Self::reported_rate(&state)),
            closed: state.closed.is_some(),
        }
    }

    /// A value between 0 and 1, so that relays that were throttled together do not retry at the same moment.
    fn jitter(&self, state: &mut State) -> f64 {
        state.drawn += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, state.drawn).hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Fixes the jitter.
    #[cfg(test)]
    pub(crate) fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

/// The wait before the next attempt with a bucket that can never grant.
const NEVER_FITS_WAIT: Duration = Duration::from_secs(1);

/// Recipients per second. An account in the sandbox has a rate of one, which several relays may share.
const RATE_MIN: f64 = 0.01;

impl State {
    fn closed_at(&mut self, now: Instant) -> Option<PaceDecision> {
        let closed = self.closed.as_mut()?;
        if now >= closed.until {
            // This message is the one that is tried.
            closed.until = now + TRIAL;
            return None;
        }
        let seconds = closed.until.duration_since(now).as_secs();
        let detail = format!("the quota of 24 hours is used up; the next try is in {seconds} s");
        Some(PaceDecision::Closed(Refusal::new(replies::DAILY_QUOTA, detail).by(RuleName::PACE)))
    }

    fn close(&mut self, now: Instant, jitter: f64) -> Option<PaceChange> {
        // Attempts that were in flight when the first one failed do not double the time.
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
        f.debug_struct("Pacer").field("settings", &self.state().settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "pacer_tests.rs"]
mod tests;
