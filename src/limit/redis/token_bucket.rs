//! The account's own rate, shared by a fleet.

use super::scripts::{self, Call, TAKEN};
use super::{OnRedisError, RedisConnection};
use crate::limit::{LimitError, LocalTokenBucket, Take, TokenBucket, TokenRate};
use async_trait::async_trait;
use std::num::NonZeroU32;
use std::time::Duration;

/// Counted in Redis: every relay with the same prefix and name takes from one bucket.
#[derive(Debug)]
pub struct RedisTokenBucket {
    store: RedisConnection,
    key: String,
    /// Where this process counts without Redis.
    local: LocalTokenBucket,
}

impl RedisTokenBucket {
    /// The bucket of that name, such as the region and account that the rate is of.
    pub fn new(store: &RedisConnection, name: &str) -> Self {
        let local = LocalTokenBucket::new(store.clock());
        Self { store: store.clone(), key: format!("{}:{{tokens:{name}}}", store.settings().prefix), local }
    }
}

/// What an instance gets without the others.
fn part(rate: TokenRate, instances: NonZeroU32) -> TokenRate {
    let by = f64::from(instances.get());
    TokenRate { per_second: rate.per_second / by, burst: rate.burst / by, reserve: rate.reserve / by }
}

/// So many recipients' worth of time, in microseconds.
fn micros(recipients: f64, rate: TokenRate) -> f64 {
    (recipients / rate.per_second * 1e6).min(MICROS_MAX)
}

/// A rate so low that a message takes longer than a day is no rate.
const MICROS_MAX: f64 = 86_400e6;

#[async_trait]
impl TokenBucket for RedisTokenBucket {
    async fn take(&self, recipients: u32, rate: TokenRate, guaranteed: bool) -> Result<Take, LimitError> {
        let cost = f64::from(recipients);
        let reserve = if guaranteed { rate.reserve } else { 0.0 };
        let slack = micros((rate.burst - cost).max(0.0) + reserve, rate);
        if let Ok(live) = self.store.live() {
            let call = Call::new(&scripts::TAKE, self.key.clone(), [&micros(cost, rate), &slack]);
            if let Ok(said) = self.store.bounded(&live, live.run(&[call])).await {
                let said = said.first().copied().unwrap_or(TAKEN);
                let after = |wait: u64| Take::RetryAfter(Duration::from_micros(wait.max(1)));
                return Ok(u64::try_from(said).map_or(Take::Granted, after));
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
        // Where it was taken is not known. Either bucket is full at most, so the worst is that much once more.
        if self.store.is_connected() {
            let call = Call::new(&scripts::GIVE_BACK, self.key.clone(), [&micros(f64::from(recipients), rate)]);
            self.store.tell(&[call]).await;
        } else {
            self.local.give_back(recipients, part(rate, self.store.settings().instances)).await;
        }
    }

    async fn pause(&self, wait: Duration) {
        // In both: Redis may go in the middle of it.
        self.local.pause(wait).await;
        let micros = wait.as_micros().min(MICROS_MAX as u128);
        self.store.tell(&[Call::new(&scripts::PAUSE, self.key.clone(), [&micros])]).await;
    }
}

pub(super) fn unavailable() -> LimitError {
    LimitError::Unavailable("Redis does not answer".to_owned())
}
