//! The store of rate counts: one number for each key, computed by governor.
//!
//! governor's public interface can only consume; this store also returns amounts and reads the state. The number is the
//! theoretical arrival time of GCRA, in nanoseconds since the limiter was created. Returning an amount moves it to an
//! earlier time. The store is sharded, and no lock is held across keys. It is bounded: a key whose bucket is full again
//! carries no information and is removed when the store needs the capacity.

use governor::nanos::Nanos;
use governor::state::StateStore;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 64;

/// Arrival times by key.
#[derive(Debug)]
pub(super) struct ArrivalTimes {
    shards: Vec<Mutex<Shard>>,
    keys_max: usize,
    /// The approximate number of keys, so that the capacity check needs no lock.
    keys: AtomicUsize,
}

/// Passes keys through unchanged: they are keyed hashes already.
#[derive(Debug, Default)]
pub(super) struct KeyIsHash(u64);

impl Hasher for KeyIsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        self.0 = octets.iter().fold(self.0, |hash, octet| hash.rotate_left(8) ^ u64::from(*octet));
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = (key >> 64) as u64;
    }
}

type Shard = HashMap<u128, u64, BuildHasherDefault<KeyIsHash>>;

impl ArrivalTimes {
    /// A store for about `keys_max` keys.
    pub(super) fn new(keys_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, keys_max: keys_max.div_ceil(SHARDS).max(1), keys: AtomicUsize::new(0) }
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, Shard> {
        self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store has capacity for a key: it is stored already, or keys with a full bucket can be removed.
    pub(super) fn has_capacity(&self, key: u128, now: u64) -> bool {
        // No shard can be full yet.
        if self.keys.load(Ordering::Relaxed) < self.keys_max {
            return true;
        }
        let mut shard = self.shard(key);
        if shard.len() < self.keys_max || shard.contains_key(&key) {
            return true;
        }
        let before = shard.len();
        shard.retain(|_, arrival| *arrival > now);
        self.keys.fetch_sub(before - shard.len(), Ordering::Relaxed);
        shard.len() < self.keys_max
    }

    /// Moves a key's arrival time to an earlier one.
    pub(super) fn put_back(&self, key: u128, nanos: u64) {
        if let Some(arrival) = self.shard(key).get_mut(&key) {
            *arrival = arrival.saturating_sub(nanos);
        }
    }

    /// Changes the unit of what was taken: each arrival time is as many intervals of the new length ahead of `now` as it was of the old.
    pub(super) fn rescale(&self, now: u64, ratio: f64) {
        for shard in &self.shards {
            for arrival in shard.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
                let ahead = arrival.saturating_sub(now) as f64 * ratio;
                *arrival = now.saturating_add(ahead as u64);
            }
        }
    }

    /// Removes a key, whose bucket is then full.
    #[cfg_attr(not(feature = "admin"), allow(dead_code, reason = "the admin endpoint lists it"))]
    pub(super) fn forget(&self, key: u128) {
        if self.shard(key).remove(&key).is_some() {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn arrival(&self, key: u128) -> Option<u64> {
        self.shard(key).get(&key).copied()
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

/// The same store, shared by governor and the limiter.
#[derive(Clone, Debug)]
pub(super) struct GcraStore(Arc<ArrivalTimes>);

impl GcraStore {
    pub(super) fn new(keys_max: usize) -> Self {
        Self(Arc::new(ArrivalTimes::new(keys_max)))
    }
}

impl std::ops::Deref for GcraStore {
    type Target = ArrivalTimes;

    fn deref(&self) -> &ArrivalTimes {
        &self.0
    }
}

impl StateStore for GcraStore {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(*key);
        let known = shard.get(key).copied().map(Nanos::from);
        let (outcome, arrival) = decide(known)?;
        if shard.insert(*key, arrival.as_u64()).is_none() {
            self.keys.fetch_add(1, Ordering::Relaxed);
        }
        Ok(outcome)
    }
}
