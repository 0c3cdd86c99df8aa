//! Counts connections by key, for limits on the connections of one client or of one application.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// The counts. Clones share them.
#[derive(Debug)]
pub(crate) struct ConnectionCounter<K: Eq + Hash>(Arc<Mutex<HashMap<K, usize>>>);

/// One connection. Dropping it decrements the count.
#[derive(Debug)]
pub(crate) struct CountedConnection<K: Eq + Hash> {
    counter: ConnectionCounter<K>,
    pub(crate) key: K,
}

impl<K: Clone + Eq + Hash> ConnectionCounter<K> {
    /// Counts one more connection; `None` if there are `max` with this key.
    pub(crate) fn take(&self, key: K, max: usize) -> Option<CountedConnection<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&key).copied().unwrap_or_default();
        if count >= max {
            return None;
        }
        counts.insert(key.clone(), count + 1);
        Some(CountedConnection { counter: self.clone(), key })
    }
}

impl<K: Eq + Hash> Clone for ConnectionCounter<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash> Default for ConnectionCounter<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash> Drop for CountedConnection<K> {
    fn drop(&mut self) {
        let mut counts = self.counter.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            // Clients come and go: a key without connections must not stay in the table.
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_connection_leaves_no_count_behind() {
        let counter = ConnectionCounter::default();
        let held = [counter.take("shop", 2).unwrap(), counter.take("shop", 2).unwrap()];
        assert!(counter.take("shop", 2).is_none());
        assert_eq!(counter.take("billing", 1).unwrap().key, "billing");
        drop(held);
        assert!(counter.0.lock().unwrap().is_empty());
    }
}
