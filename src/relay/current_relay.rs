//! The relay with the configuration in force, for those that outlive a change of it.

use super::Relay;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The relay with the configuration in force. Clones share it.
///
/// A session holds the relay that it began its transaction with, and takes the current one at the next MAIL; so no transaction is
/// decided by two configurations.
#[derive(Clone, Debug)]
pub(crate) struct CurrentRelay(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    relay: RwLock<Arc<Relay>>,
    /// Number of changes, so that a session finds out without a lock that there is none.
    changes: AtomicU64,
}

impl CurrentRelay {
    pub(crate) fn new(relay: Arc<Relay>) -> Self {
        Self(Arc::new(Slot { changes: AtomicU64::new(relay.number), relay: RwLock::new(relay) }))
    }

    /// The relay now.
    pub(crate) fn get(&self) -> Arc<Relay> {
        Arc::clone(&self.0.relay.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The relay now, if it is another one than that.
    pub(super) fn newer_than(&self, held: &Relay) -> Option<Arc<Relay>> {
        (self.0.changes.load(Ordering::Acquire) != held.number).then(|| self.get())
    }

    /// Puts another relay in force.
    pub(crate) fn replace(&self, relay: Arc<Relay>) {
        let mut slot = self.0.relay.write().unwrap_or_else(PoisonError::into_inner);
        self.0.changes.store(relay.number, Ordering::Release);
        *slot = relay;
    }
}
