//! A transport that sends nothing: for dry runs.

use super::Transport;
use crate::mail::{MessageId, Outcome, OutcomeKind, Permitted, replies};
use async_trait::async_trait;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Accepts every message, sends none, and keeps the last one.
pub struct NullTransport {
    octets_held: Box<dyn Fn(u64) -> u64 + Send + Sync>,
    last: Mutex<Option<Permitted>>,
}

impl NullTransport {
    /// A transport that reports the memory of another one: see [`Transport::octets_held`].
    pub fn with_octets_held(octets_held: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Self {
        Self { octets_held: Box::new(octets_held), last: Mutex::default() }
    }

    /// Takes the last accepted message.
    pub fn take_last(&self) -> Option<Permitted> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Default for NullTransport {
    /// A transport that needs memory for the content only.
    fn default() -> Self {
        Self::with_octets_held(|octets| octets)
    }
}

#[async_trait]
impl Transport for NullTransport {
    async fn send(&self, message: Permitted, _deadline: Instant) -> Outcome {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        match MessageId::new("dry-run") {
            Some(id) => Outcome::sent(id),
            None => Outcome::not_sent(OutcomeKind::Failed, replies::LOCAL_ERROR, ""),
        }
    }

    fn octets_held(&self, message_octets: u64) -> u64 {
        (self.octets_held)(message_octets)
    }
}

impl fmt::Debug for NullTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NullTransport")
    }
}
