//! One rate for any number of keys: governor's GCRA over [`GcraStore`].

use super::Take;
use super::gcra_store::GcraStore;
use super::rule::Rate;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};
use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The length of an interval over that of the meter before, as the bits of an f64, until what was taken is converted; 0: nothing is
    /// to be converted.
    conversion: AtomicU64,
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
        Self::over(GcraStore::new(KEYS_MAX), rate)
    }

    /// A meter of another rate that goes on with what was taken of this one. Both count in one store, so what is taken and given back
    /// through this one counts too; [`Self::put_in_force`] converts it.
    pub(super) fn with_rate(&self, rate: Rate) -> Self {
        let next = Self::over(self.store.clone(), rate);
        if next.interval_nanos != self.interval_nanos {
            let ratio = next.interval_nanos as f64 / self.interval_nanos as f64;
            next.conversion.store(ratio.to_bits(), Ordering::Relaxed);
        }
        next
    }

    /// From now on, this meter counts, and not the one that it was made from. Does nothing the second time.
    pub(super) fn put_in_force(&self, now: Duration) {
        match self.conversion.swap(0, Ordering::Relaxed) {
            0 => {}
            ratio => self.store.rescale(nanos(now), f64::from_bits(ratio)),
        }
    }

    fn over(store: GcraStore, rate: Rate) -> Self {
        let quota = Quota::with_period(rate.interval()).map(|quota| quota.allow_burst(rate.burst()));
        // An interval is never zero, which is the only value that governor refuses.
        let quota = quota.unwrap_or(Quota::per_second(rate.burst()));
        NOW.set(Duration::ZERO);
        let interval_nanos = u64::try_from(rate.interval().as_nanos()).unwrap_or(u64::MAX);
        Self {
            rate,
            interval_nanos,
            limiter: RateLimiter::new(quota, store.clone(), FixedClock),
            store,
            conversion: AtomicU64::new(0),
        }
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
