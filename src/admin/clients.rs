//! The connections of the admin endpoint: a bounded number, and the newest is always served.
//!
//! A health check must not wait behind idle connections. At the limit, the oldest idle connection that has not shown the
//! token is closed for the new one; if all have shown it, the oldest idle connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// The maximum number of connections: metrics scrapers, a load balancer, an operator, and clients without the token.
pub(super) const CONNECTIONS_MAX: usize = 32;

/// All connections, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients(Arc<Mutex<OpenConnections>>);

#[derive(Debug, Default)]
struct OpenConnections {
    next: u64,
    by_age: BTreeMap<u64, Arc<LoginStatus>>,
}

/// What is known of one connection.
#[derive(Debug, Default)]
pub(super) struct LoginStatus {
    /// The client has shown the token, or sent a request where none is needed.
    recognised: AtomicBool,
    /// Requests in progress.
    answering: AtomicUsize,
    closed: CancellationToken,
}

/// One connection. Dropping it releases the slot.
#[derive(Debug)]
pub(super) struct Client {
    clients: Clients,
    number: u64,
    pub(super) status: Arc<LoginStatus>,
}

/// A request in progress. Until it is dropped, its connection is closed for another one only if all are busy.
pub(super) struct Answering(Arc<LoginStatus>);

impl Clients {
    /// Adds a connection. An older one may be closed for it.
    pub(super) fn enter(&self) -> Client {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.by_age.len() >= CONNECTIONS_MAX {
            let idle = |status: &LoginStatus| status.answering.load(Ordering::Relaxed) == 0;
            let unrecognised = |status: &LoginStatus| !status.recognised.load(Ordering::Relaxed);
            let oldest = |of: &dyn Fn(&LoginStatus) -> bool| {
                open.by_age.iter().find(|(_, status)| of(status)).map(|(number, _)| *number)
            };
            let chosen =
                oldest(&|it| unrecognised(it) && idle(it)).or_else(|| oldest(&idle)).or_else(|| oldest(&|_| true));
            if let Some(status) = chosen.and_then(|number| open.by_age.remove(&number)) {
                status.closed.cancel();
            }
        }
        open.next += 1;
        let (number, status) = (open.next, Arc::new(LoginStatus::default()));
        open.by_age.insert(number, Arc::clone(&status));
        Client { clients: self.clone(), number, status }
    }
}

impl LoginStatus {
    /// Waits until the connection is closed for another one.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn recognise(&self) {
        self.recognised.store(true, Ordering::Relaxed);
    }

    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.0.lock().unwrap_or_else(PoisonError::into_inner).by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_served_and_the_oldest_stranger_goes() {
        let clients = Clients::default();
        let mut all: Vec<Client> = (0..CONNECTIONS_MAX).map(|_| clients.enter()).collect();
        all[0].status.recognise();
        let answering = all[1].status.answering();
        all.push(clients.enter());
        let closed = |all: &[Client], place: usize| all[place].status.closed.is_cancelled();
        assert!(!closed(&all, 0) && !closed(&all, 1) && closed(&all, 2), "the oldest idle one without a token");
        for client in &all {
            client.status.recognise();
        }
        all.push(clients.enter());
        assert!(closed(&all, 0) && !closed(&all, 1), "the oldest that answers nothing");
        drop(answering);
        all.push(clients.enter());
        assert!(closed(&all, 1) || closed(&all, CONNECTIONS_MAX + 1), "one of the idle ones");
        drop(all);
        assert!(clients.0.lock().unwrap().by_age.is_empty());
    }
}
