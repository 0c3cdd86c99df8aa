//! Limits the password verifications of one client that run at the same time.
//!
//! Verification is slow on purpose and all clients share one queue. A client that guesses passwords must not fill the
//! queue: attempts above `at_once_by_client` wait for the client's own earlier attempts. A waiting attempt holds a
//! connection, so connection limits bound the number of waiting attempts.

use ipnet::IpNet;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest wait of an attempt for earlier attempts of the same client.
const WAIT_MAX: Duration = Duration::from_secs(20);

type Clients = Mutex<HashMap<Option<IpNet>, (Arc<Semaphore>, usize)>>;

/// The clients with a verification that waits or runs.
pub(super) struct AtOnce {
    each_max: usize,
    clients: Arc<Clients>,
}

/// A slot for one verification of a client. Dropping it releases the slot.
#[must_use]
pub(crate) struct Verification {
    _permit: OwnedSemaphorePermit,
    _entry: Entry,
}

/// The table entry of a client. It exists while an attempt of the client waits or is verified.
struct Entry {
    clients: Arc<Clients>,
    client: Option<IpNet>,
}

impl AtOnce {
    pub(super) fn new(each_max: usize) -> Self {
        Self { each_max: each_max.max(1), clients: Arc::default() }
    }

    /// Waits for a slot. `None`: no slot became free within [`WAIT_MAX`].
    pub(super) async fn enter(&self, client: Option<IpNet>) -> Option<Verification> {
        let semaphore = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || (Arc::new(Semaphore::new(self.each_max)), 0);
            let (semaphore, count) = clients.entry(client).or_insert_with(fresh);
            *count += 1;
            Arc::clone(semaphore)
        };
        let entry = Entry { clients: Arc::clone(&self.clients), client };
        let permit = tokio::time::timeout(WAIT_MAX, semaphore.acquire_owned()).await.ok()?.ok()?;
        Some(Verification { _permit: permit, _entry: entry })
    }
}

impl std::fmt::Debug for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verification")
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: guesses from one address filled the verification queue for all clients.
    #[tokio::test(start_paused = true)]
    async fn one_client_has_a_number_of_verifications_and_another_does_not_wait_for_it() {
        let (at_once, one) = (AtOnce::new(2), Some("192.0.2.1/32".parse().unwrap()));
        let held = [at_once.enter(one).await, at_once.enter(one).await];
        assert!(held.iter().all(Option::is_some));
        assert!(at_once.enter(one).await.is_none(), "the wait is longer than the maximum");
        assert!(at_once.enter(Some("192.0.2.2/32".parse().unwrap())).await.is_some());
        drop(held);
        assert!(at_once.enter(one).await.is_some());
        assert!(at_once.clients.lock().unwrap().is_empty());
    }
}
