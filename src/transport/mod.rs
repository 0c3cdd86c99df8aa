//! Sending to a provider. [`Transport`] is the extension point.
//!
//! A transport makes one attempt and returns one [`Outcome`]. It never retries by itself, and it never calls an attempt "not sent" that
//! may have been sent: the provider has no idempotency token, so the code that decides about a retry must know. A transport knows
//! nothing of limits, queues and pacing; it reports a throttle.

mod null;
#[cfg(feature = "ses")]
pub mod ses;

pub use null::NullTransport;

use crate::mail::parameters::{ConfigurationSetName, RoleArn};
use crate::mail::{AccountQuota, Outcome, Permitted, ReadError};
use async_trait::async_trait;
use std::time::Instant;

#[async_trait]
impl<T: Transport + ?Sized> Transport for std::sync::Arc<T> {
    async fn send(&self, message: Permitted, deadline: Instant) -> Outcome {
        (**self).send(message, deadline).await
    }

    async fn quota(&self) -> Result<AccountQuota, ReadError> {
        (**self).quota().await
    }

    async fn check(&self, role: Option<&RoleArn>, set: Option<&ConfigurationSetName>) -> Result<(), ReadError> {
        (**self).check(role, set).await
    }

    fn octets_held(&self, message_octets: u64) -> u64 {
        (**self).octets_held(message_octets)
    }
}

/// Sends messages to a provider.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Makes one attempt to send the message. It ends before `deadline`.
    ///
    /// The relay drops the future only if it cuts its connections, and then counts the attempt as ambiguous; a client that
    /// disconnects does not cancel it. After [`OutcomeKind::Throttled`](crate::mail::OutcomeKind::Throttled) with
    /// [`Certainty::NotSent`](crate::mail::Certainty::NotSent), the relay may call again with the same message.
    async fn send(&self, message: Permitted, deadline: Instant) -> Outcome;

    /// Reads the sending quota of the account. Called at the start and every few minutes.
    async fn quota(&self) -> Result<AccountQuota, ReadError> {
        Err(ReadError::Unsupported)
    }

    /// Checks whether messages can be sent as a role (`None`: as the transport itself) with a configuration set. Without a
    /// configuration set: whether there are credentials, and the account may send. Called at the start, and again while the
    /// check fails.
    async fn check(&self, _role: Option<&RoleArn>, _set: Option<&ConfigurationSetName>) -> Result<(), ReadError> {
        Err(ReadError::Unsupported)
    }

    /// Octets of memory that an attempt needs at its peak for a message of that size, the message included. They count
    /// against the relay's memory budget.
    fn octets_held(&self, message_octets: u64) -> u64 {
        message_octets
    }
}
