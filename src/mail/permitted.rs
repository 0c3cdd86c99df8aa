//! The proof that a message may be sent.

use super::content::Content;
use super::envelope::Envelope;
use super::id::TransactionId;
use super::parameters::{Granted, SendParameters};
use std::ops::Range;
use std::sync::Arc;

/// A message that admission accepted, with its grant. The fields are private. Only `relay/admission.rs` creates one, and
/// `spool/stored_message.rs` restores one that was created there (checked by `tests/architecture.rs`), so the octets that policy
/// evaluated are the octets that are sent. A transport and a spool accept no other type.
#[derive(Clone, Debug)]
pub struct Permitted {
    transaction: TransactionId,
    envelope: Arc<Envelope>,
    content: Content,
    granted: Arc<Granted>,
}

impl Permitted {
    pub(crate) fn permit(
        transaction: TransactionId,
        envelope: Arc<Envelope>,
        content: Content,
        granted: Arc<Granted>,
    ) -> Self {
        Self { transaction, envelope, content, granted }
    }

    /// A message that was permitted and stored.
    pub(crate) fn restore(
        transaction: TransactionId,
        envelope: Arc<Envelope>,
        content: Content,
        granted: Arc<Granted>,
    ) -> Self {
        Self::permit(transaction, envelope, content, granted)
    }

    /// The message to some of its recipients, with the parameters of the call replaced. The content is the same.
    pub(crate) fn part(&self, range: Range<usize>, send: SendParameters) -> Self {
        let envelope = match range.start == 0 && range.end >= self.envelope.forward_paths().len() {
            true => Arc::clone(&self.envelope),
            false => Arc::new(self.envelope.part(range)),
        };
        let granted = Arc::new(Granted { send, ..(*self.granted).clone() });
        Self { transaction: self.transaction, envelope, content: self.content.clone(), granted }
    }

    /// The id of the transaction.
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// The reverse-path and the forward-paths.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The shared envelope.
    pub fn envelope_shared(&self) -> Arc<Envelope> {
        Arc::clone(&self.envelope)
    }

    /// The message.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The grant of policy.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// The shared grant.
    pub fn granted_shared(&self) -> Arc<Granted> {
        Arc::clone(&self.granted)
    }

    /// Takes the message apart, so that the content can be sent without a copy. The relay shares envelope and grant for
    /// the log and metrics.
    pub fn into_parts(self) -> (Arc<Envelope>, Content, Arc<Granted>) {
        (self.envelope, self.content, self.granted)
    }
}
