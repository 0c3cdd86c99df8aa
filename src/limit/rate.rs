//! One rate for any number of keys: governor's GCRA over [`GcraStore`].

use super::Take;
use super::gcra_store::GcraStore;
use super::rule::Rate;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};
use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

/// The most keys that one window stores, at about 70 octets each.
pub(super) const KEYS_MAX: usize = 1_000_000;

#[derive(Debug)]
pub(super) struct RateMeter {
    rate: Rate,
    interval_nanos: u64,
    limiter: RateLimiter<u128, GcraStore, FixedClock, NoOpMiddleware<Duration>>,
    /// A second reference: governor gives no access to its store.
    store: GcraStore,
}

/// The time that governor reads: one value for all windows of a decision, since the limiter was created.
#[derive(Clone, Copy, Debug)]
struct FixedClock;

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

impl GovernorClock for FixedClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        NOW.get()
    }
}

impl RateMeter {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = Quota::with_period(rate.interval()).map(|quota| quota.allow_burst(rate.burst()));
        // An interval is never zero, which is the only value that governor refuses.
        let quota = quota.unwrap_or(Quota::per_second(rate.burst()));
        NOW.set(Duration::ZERO);
        let store = GcraStore::new(KEYS_MAX);
        let interval_nanos = u64::try_from(rate.interval().as_nanos()).unwrap_or(u64::MAX);
        Self { rate, interval_nanos, limiter: RateLimiter::new(quota, store.clone(), FixedClock), store }
    }

    /// Takes an amount for a key. Times are relative to the creation of the meter.
    pub(super) fn take(&self, key: u128, amount: NonZeroU32, now: Duration) -> Take {
        if !self.store.has_capacity(key, nanos(now)) {
            return Take::RetryAfter(self.rate.interval());
        }
        NOW.set(now);
        match self.limiter.check_key_n(&key, amount) {
            Ok(Ok(())) => Take::Granted,
            Ok(Err(not_until)) => Take::RetryAfter(not_until.wait_time_from(now)),
            Err(_) => Take::NeverFits,
        }
    }

    pub(super) fn put_back(&self, key: u128, amount: NonZeroU32) {
        self.store.put_back(key, self.interval_nanos.saturating_mul(u64::from(amount.get())));
    }

    /// Forgets what a key has used.
    #[cfg_attr(not(feature = "admin"), allow(dead_code, reason = "the admin endpoint lists it"))]
    pub(super) fn forget(&self, key: u128) {
        self.store.forget(key);
    }

    /// The time until a key that has nothing left has capacity for one.
    pub(super) fn wait(&self, key: u128, now: Duration) -> Duration {
        let burst = self.interval_nanos.saturating_mul(self.rate.burst().get().into());
        let arrival = self.store.arrival(key).unwrap_or_default();
        let available_at = arrival.saturating_add(self.interval_nanos).saturating_sub(burst);
        Duration::from_nanos(available_at.saturating_sub(nanos(now)))
    }

    pub(super) fn left(&self, key: u128, now: Duration) -> u64 {
        let burst = u64::from(self.rate.burst().get());
        let Some(arrival) = self.store.arrival(key) else { return burst };
        burst.saturating_sub(arrival.saturating_sub(nanos(now)).div_ceil(self.interval_nanos))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
