//! The proof that a message may be sent.

use super::content::Content;
use super::envelope::Envelope;
use super::id::TransactionId;
use super::parameters::Granted;
use std::sync::Arc;

/// A message that admission accepted, with what it was granted. Fields are private and only `relay/admission.rs` makes
/// one (`tests/architecture.rs` looks), so what policy judged and what leaves the house are the same octets. A transport takes
/// nothing else.
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

    /// Our name for the transaction that brought it.
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// From whom and to whom.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The same, to keep.
    pub fn envelope_shared(&self) -> Arc<Envelope> {
        Arc::clone(&self.envelope)
    }

    /// The message.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// What policy granted it.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// The same, to keep.
    pub fn granted_shared(&self) -> Arc<Granted> {
        Arc::clone(&self.granted)
    }

    /// Takes it apart, so that the content can be handed on without a copy. Whoever tells of the message afterwards has the
    /// other two as well.
    pub fn into_parts(self) -> (Arc<Envelope>, Content, Arc<Granted>) {
        (self.envelope, self.content, self.granted)
    }
}
