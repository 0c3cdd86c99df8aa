//! The token bucket of the account's rate: counted in this process, or in a store that a fleet shares.

use super::{Debt, LimitError, Take};
use crate::mail::Clock;
use async_trait::async_trait;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The current rate. It changes when the provider raises it or throttles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenRate {
    /// Recipients per second; more than zero.
    pub per_second: f64,
    /// Recipients that may pass at once after a pause.
    pub burst: f64,
    /// Recipients that a guaranteed message may take beyond the burst. Other messages wait until this is paid back.
    pub reserve: f64,
}

/// The bucket that all sending shares.
#[async_trait]
pub trait TokenBucket: Send + Sync + 'static {
    /// Takes tokens for a number of recipients, or nothing and returns the wait until there may be enough.
    ///
    /// A message with more recipients than the burst passes when the bucket is full; the excess is paid back before the
    /// next message. Guarantee: in any interval of time, at most rate × time + burst + reserve + the recipients of one
    /// message pass.
    async fn take(&self, recipients: u32, rate: TokenRate, guaranteed: bool) -> Result<Take, LimitError>;

    /// Returns tokens that were not used.
    async fn give_back(&self, recipients: u32, rate: TokenRate);

    /// Grants nothing for this long, because the provider throttles.
    async fn pause(&self, wait: Duration);
}

/// A bucket counted in this process.
pub(crate) struct LocalTokenBucket {
    clock: Arc<dyn Clock>,
    times: Mutex<Times>,
}

struct Times {
    debt: Debt,
    /// Nothing is granted before this time.
    paused_until: Instant,
}

impl std::fmt::Debug for LocalTokenBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalTokenBucket")
    }
}

impl LocalTokenBucket {
    /// A full bucket.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self { clock, times: Mutex::new(Times { debt: Debt::default(), paused_until: now }) }
    }

    /// See [`TokenBucket::take`].
    pub(crate) fn try_take(&self, recipients: u32, rate: TokenRate, guaranteed: bool) -> Take {
        let now = self.clock.now();
        let time = |recipients: f64| Duration::from_secs_f64((recipients / rate.per_second).min(SECONDS_MAX));
        let cost = f64::from(recipients);
        let reserve = if guaranteed { rate.reserve } else { 0.0 };
        let slack = time((rate.burst - cost).max(0.0) + reserve);
        let mut times = self.times();
        let wait = times.debt.wait(slack, now).max(times.paused_until.saturating_duration_since(now));
        if !wait.is_zero() {
            return Take::RetryAfter(wait);
        }
        times.debt.take(time(cost), now);
        Take::Granted
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// If a message would take longer than this, the rate is too low to be used.
const SECONDS_MAX: f64 = 86_400.0;

#[async_trait]
impl TokenBucket for LocalTokenBucket {
    async fn take(&self, recipients: u32, rate: TokenRate, guaranteed: bool) -> Result<Take, LimitError> {
        Ok(self.try_take(recipients, rate, guaranteed))
    }

    async fn give_back(&self, recipients: u32, rate: TokenRate) {
        let time = Duration::from_secs_f64((f64::from(recipients) / rate.per_second).min(SECONDS_MAX));
        self.times().debt.give_back(time);
    }

    async fn pause(&self, wait: Duration) {
        let until = self.clock.now() + wait;
        let mut times = self.times();
        times.paused_until = times.paused_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::ManualClock;

    const RATE: TokenRate = TokenRate { per_second: 10.0, burst: 5.0, reserve: 3.0 };

    fn bucket() -> (Arc<ManualClock>, LocalTokenBucket) {
        let clock = Arc::new(ManualClock::new());
        (Arc::clone(&clock), LocalTokenBucket::new(clock))
    }

    #[test]
    fn the_guaranteed_get_through_when_the_others_have_taken_everything() {
        let (clock, tokens) = bucket();
        assert_eq!(
            [(); 6].map(|()| tokens.try_take(1, RATE, false) == Take::Granted),
            [true, true, true, true, true, false]
        );
        assert_eq!([(); 4].map(|()| tokens.try_take(1, RATE, true) == Take::Granted), [true, true, true, false]);
        assert_eq!(
            tokens.try_take(1, RATE, false),
            Take::RetryAfter(Duration::from_millis(400)),
            "and the others pay for it"
        );
        clock.advance(Duration::from_millis(100));
        assert_eq!(tokens.try_take(1, RATE, true), Take::Granted);
    }

    #[test]
    fn a_message_larger_than_the_burst_goes_and_is_paid_back() {
        let (clock, tokens) = bucket();
        assert_eq!(tokens.try_take(50, RATE, false), Take::Granted);
        assert_eq!(tokens.try_take(1, RATE, false), Take::RetryAfter(Duration::from_millis(4_600)));
        assert_eq!(tokens.try_take(50, RATE, false), Take::RetryAfter(Duration::from_secs(5)));
        clock.advance(Duration::from_secs(5));
        assert_eq!(tokens.try_take(50, RATE, false), Take::Granted);
    }

    #[tokio::test]
    async fn what_is_given_back_is_there_and_a_pause_is_for_everybody() {
        let (clock, tokens) = bucket();
        assert_eq!(tokens.try_take(5, RATE, false), Take::Granted);
        tokens.give_back(5, RATE).await;
        assert_eq!(tokens.try_take(5, RATE, false), Take::Granted);
        tokens.pause(Duration::from_millis(200)).await;
        assert_ne!(tokens.try_take(1, RATE, true), Take::Granted);
        clock.advance(Duration::from_millis(200));
        assert_eq!(tokens.try_take(1, RATE, false), Take::Granted);
    }
}
