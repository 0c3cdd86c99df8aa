//! A durable queue: messages that were accepted and are not sent yet. [`Spool`] is the extension point.
//!
//! What a spool promises:
//! - A message whose [`commit`](StagedMessage::commit) returned `Ok` survives power loss, until a change ends it.
//! - A message whose commit failed is not sent, with one exception: where the disk failed while it was written, it may be
//!   found at the next start, and be sent although the client received 451.
//! - What is stored is returned octet for octet, or not at all: a checksum covers envelope, grant and content.
//! - Nothing is deleted silently. What is damaged is set aside, counted and never sent.
//!
//! A spool knows nothing of schedules, transports and retries: `relay` decides what happens to a message and records it as
//! a [`Change`].

pub mod conformance;
mod dead_letters;
#[cfg(feature = "spool")]
mod disk;
mod memory;
pub mod operate;
mod queue;
mod queued_message;
mod stored_message;

pub use dead_letters::{DeadLetterError, DeadLetters};
#[cfg(feature = "spool")]
pub use disk::{DiskSpool, DiskSpoolSettings, OpenError, Recovery};
pub use memory::MemorySpool;
pub use queue::{AppUsage, SpoolLimits, SpoolUsage};
pub use queued_message::{Change, PartSet, QueueState, QueuedMessage, RECIPIENTS_MAX, RECIPIENTS_PER_PART, Timestamp};
pub use stored_message::{RestoreError, StoredMessage};

use crate::mail::parameters::AppName;
use crate::mail::{Permitted, QueueId};
use async_trait::async_trait;

/// Keeps accepted messages until they are sent.
#[async_trait]
pub trait Spool: Send + Sync + 'static {
    /// Reserves space for a message of that size, before the client sends it. Dropping the result releases the space.
    ///
    /// # Errors
    /// [`SpoolError::Full`] over a limit, [`SpoolError::Unavailable`] while nothing can be stored.
    fn stage(&self, app: Option<&AppName>, octets: u64) -> Result<Box<dyn StagedMessage>, SpoolError>;

    /// Makes a change of a message durable. `Ok(false)`: there is no such message.
    ///
    /// Cancel safe in this sense: a dropped call was made, or was not.
    ///
    /// # Errors
    /// [`SpoolError::Unavailable`]: the change was not made, or will be found at the next start only.
    async fn change(&self, id: QueueId, change: Change) -> Result<bool, SpoolError>;

    /// Reads a message with its content, as it was committed.
    ///
    /// # Errors
    /// [`SpoolError::NotFound`], [`SpoolError::Damaged`] after it was set aside, [`SpoolError::Unavailable`].
    async fn load(&self, id: QueueId) -> Result<Permitted, SpoolError>;

    /// Reads what is known of a message, without its content.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    async fn describe(&self, id: QueueId) -> Result<StoredMessage, SpoolError>;

    /// The state of one message.
    fn get(&self, id: QueueId) -> Option<QueuedMessage>;

    /// The states of the messages after that id (`None`: from the first on), in the order of ids, at most `count`.
    fn page(&self, after: Option<QueueId>, count: usize) -> Vec<QueuedMessage>;

    /// How full it is.
    fn usage(&self) -> SpoolUsage;
}

/// Space for one message.
#[async_trait]
pub trait StagedMessage: Send {
    /// Makes the message durable and visible, in one step.
    ///
    /// `Ok` promises that the message survives power loss; the SMTP client receives 250 on the strength of it. The message may
    /// have a few more octets than were announced. Dropping the future, like dropping a `StagedMessage`, leaves nothing that
    /// recovery takes for a message, unless writing had begun.
    ///
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::Unavailable`].
    async fn commit(self: Box<Self>, message: Permitted) -> Result<QueueId, SpoolError>;
}

/// Why a spool did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// A limit is reached. It is free again when messages leave. For the client: 452.
    #[error("the spool is full: {0}")]
    Full(String),
    /// The disk does not do what it should. For the client: 451; for the operator: an alarm.
    #[error("the spool cannot be used: {0}")]
    Unavailable(String),
    /// There is no message with this id.
    #[error("no message {0} in the spool")]
    NotFound(QueueId),
    /// What was stored cannot be read. It was set aside.
    #[error("message {0} is damaged")]
    Damaged(QueueId),
}
