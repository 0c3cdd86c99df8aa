//! The proof that a message may be sent.

use super::content::Content;
use super::envelope::Envelope;
use super::id::TransactionId;
use super::parameters::Granted;
use std::sync::Arc;

/// A message that admission accepted, with its grant. The fields are private, and only `relay/admission.rs` creates one
/// (checked by `tests/architecture.rs`), so the octets that policy evaluated are the octets that are sent. A transport accepts
/// no other type.
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
