//! The token bucket of the account's rate, shared by a fleet.

use super::scripts::{self, Call, TAKEN};
use super::{OnRedisError, RedisConnection};
use crate::limit::{LimitError, LocalTokenBucket, Take, TokenBucket, TokenRate};
use async_trait::async_trait;
use std::num::NonZeroU32;
use std::time::Duration;

/// A bucket counted in Redis: all relays with the same prefix and name share it.
#[derive(Debug)]
pub struct RedisTokenBucket {
    store: RedisConnection,
    key: String,
    /// The bucket of this process while Redis is down.
    local: LocalTokenBucket,
}

impl RedisTokenBucket {
    /// The bucket with a name, such as the region and account that the rate belongs to.
    pub fn new(store: &RedisConnection, name: &str) -> Self {
        let local = LocalTokenBucket::new(store.clock());
        Self { store: store.clone(), key: format!("{}:{{tokens:{name}}}", store.settings().prefix), local }
    }
}

/// The part of the rate that one instance uses without the others.
fn part(rate: TokenRate, instances: NonZeroU32) -> TokenRate {
    let by = f64::from(instances.get());
    TokenRate { per_second: rate.per_second / by, burst: rate.burst / by, reserve: rate.reserve / by }
}

/// The cost of a number of recipients, in microseconds.
fn micros(recipients: f64, rate: TokenRate) -> f64 {
    (recipients / rate.per_second * 1e6).min(MICROS_MAX)
}

/// If a message would take longer than a day, the rate is too low to be used.
const MICROS_MAX: f64 = 86_400e6;

#[async_trait]
impl TokenBucket for RedisTokenBucket {
    async fn take(&self, recipients: u32, rate: TokenRate, guaranteed: bool) -> Result<Take, LimitError> {
        let cost = f64::from(recipients);
        let reserve = if guaranteed { rate.reserve } else { 0.0 };
        let slack = micros((rate.burst - cost).max(0.0) + reserve, rate);
        if let Ok(live) = self.store.live() {
            let call = Call::new(&scripts::TAKE, self.key.clone(), [&micros(cost, rate), &slack]);
            if let Ok(answer) = self.store.bounded(&live, live.run(&[call])).await {
                let answer = answer.first().copied().unwrap_or(TAKEN);
                let after = |wait: u64| Take::RetryAfter(Duration::from_micros(wait.max(1)));
                return Ok(u64::try_from(answer).map_or(Take::Granted, after));
            }
        }
        match self.store.settings().on_error {
            OnRedisError::Local => {
                Ok(self.local.try_take(recipients, part(rate, self.store.settings().instances), guaranteed))
            }
            OnRedisError::Defer => Err(unavailable()),
            OnRedisError::Allow => Ok(Take::Granted),
        }
    }

    async fn give_back(&self, recipients: u32, rate: TokenRate) {
        // It is not known which bucket the tokens were taken from. A bucket is at most full, so the error is at most
        // one burst.
        if self.store.is_connected() {
            let call = Call::new(&scripts::GIVE_BACK, self.key.clone(), [&micros(f64::from(recipients), rate)]);
            self.store.send(&[call]).await;
        } else {
            self.local.give_back(recipients, part(rate, self.store.settings().instances)).await;
        }
    }

    async fn pause(&self, wait: Duration) {
        // In both buckets: Redis may fail during the pause.
        self.local.pause(wait).await;
        let micros = wait.as_micros().min(MICROS_MAX as u128);
        self.store.send(&[Call::new(&scripts::PAUSE, self.key.clone(), [&micros])]).await;
    }
}

pub(super) fn unavailable() -> LimitError {
    LimitError::Unavailable("Redis does not answer".to_owned())
}
