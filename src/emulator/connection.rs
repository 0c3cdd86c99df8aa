//! The connection of a request, as far as the request controls it.

use super::reply::Reply;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// One connection.
pub(super) struct Connection {
    /// Counts from 1.
    pub(super) number: u64,
    served_the_service: AtomicBool,
    reset: Notify,
}

impl Connection {
    pub(super) fn new(number: u64) -> Self {
        Self { number, served_the_service: AtomicBool::new(false), reset: Notify::new() }
    }

    /// Whether this is the first request for SES, not for the control API, on this connection.
    pub(super) fn is_first_for_the_service(&self) -> bool {
        !self.served_the_service.swap(true, Ordering::Relaxed)
    }

    /// Resets the connection. Never returns: the connection's task ends, and the request with it.
    pub(super) async fn reset(&self) -> Reply {
        self.reset.notify_one();
        std::future::pending().await
    }

    /// Returns when a request has requested a reset.
    pub(super) async fn must_reset(&self) {
        self.reset.notified().await;
    }
}
