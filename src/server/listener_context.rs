//! What the connections of one listener share.

use super::connection_limits::Over;
use super::{ListenerSettings, ServerContext};
use crate::mail::{ClientAddress, Reply, replies};
use crate::observe::Event;
use std::sync::Arc;
use std::time::Instant;

/// What the connections of one listener share.
#[derive(Debug)]
pub(super) struct ListenerContext {
    pub(super) settings: ListenerSettings,
    pub(super) shared: ServerContext,
    pub(super) smtp: Arc<crate::smtp::Settings>,
}

impl ListenerContext {
    pub(super) fn new(settings: ListenerSettings, shared: ServerContext) -> Self {
        let smtp = Arc::new(settings.smtp.clone());
        Self { settings, shared, smtp }
    }

    pub(super) fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// The reply to a connection over a limit, and the reason for the log. Reports the limit to the observer.
    pub(super) fn refusal(&self, over: Over) -> (Reply, &'static str) {
        let (limit, reply, reason) = match over {
            Over::Total => ("connections.total", replies::TOO_MANY_CONNECTIONS, "too many connections"),
            Over::Unrecognised => {
                let reason = "too many connections of clients that are not recognised";
                ("connections.unrecognised", replies::TOO_MANY_CONNECTIONS, reason)
            }
            Over::Client => (
                "connections.client",
                replies::TOO_MANY_CONNECTIONS_FROM_CLIENT,
                "too many connections from this client",
            ),
        };
        self.shared.observer.observe(&Event::LimitHit { limit, app: None });
        (reply, reason)
    }

    /// Reports a connection that is refused.
    pub(super) fn refused(&self, address: ClientAddress, reply: Option<&Reply>, reason: &str) {
        let listener = &*self.settings.name;
        self.shared.observer.observe(&Event::ConnectionRefused { address, listener, reply, reason });
    }
}
