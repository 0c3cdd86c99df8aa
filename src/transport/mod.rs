//! Handed on: the seam between the relay and a provider.
//!
//! A [`Transport`] makes one attempt and speaks of it in one [`Outcome`]. It never tries again by itself, and it never
//! calls an attempt "not sent" that may have been sent: the provider has no idempotency token, so whoever decides on a
//! retry must know. It does not know who limits, who queues, or who slows down when the provider throttles.

#[cfg(feature = "ses")]
pub mod ses;

use crate::mail::parameters::{ConfigurationSetName, RoleArn};
use crate::mail::{AccountQuota, Outcome, Permitted, ReadError};
use async_trait::async_trait;
use std::time::Instant;

/// A way out.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// One attempt to hand the message on, over before `deadline`.
    ///
    /// The relay does not drop the future once it has begun, not even when the client hangs up: a dropped attempt would be
    /// an ambiguous one that nobody counted. After `Kind::Throttled` with `Certainty::NotSent` it may call again with the same
    /// message.
    async fn send(&self, message: Permitted, deadline: Instant) -> Outcome;

    /// What the provider lets the account send. Asked at start and every few minutes.
    async fn quota(&self) -> Result<AccountQuota, ReadError> {
        Err(ReadError::Unsupported)
    }

    /// Whether messages can be sent as that role (`None`: as the transport itself) with that configuration set; without one:
    /// whether there are credentials, and the account may send. Asked at the start, and again while it does not work.
    async fn check(&self, _role: Option<&RoleArn>, _set: Option<&ConfigurationSetName>) -> Result<(), ReadError> {
        Err(ReadError::Unsupported)
    }

    /// How many octets of memory an attempt holds at its peak for a message of that size, the message itself included.
    /// The relay's memory budget counts it.
    fn octets_held(&self, message_octets: u64) -> u64 {
        message_octets
    }
}
