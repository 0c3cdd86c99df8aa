//! What the log line and the refunds of a message need, from the end of data on.

use crate::limit::Reservation;
use crate::mail::parameters::AppName;
use crate::mail::{Author, Content, Envelope, TransactionId};
use std::sync::Arc;
use std::time::Instant;

/// A message whose content has been received.
pub(super) struct MessageContext {
    pub(super) id: TransactionId,
    /// When the provider was called.
    pub(super) began: Option<Instant>,
    pub(super) app: Option<AppName>,
    pub(super) ended: Instant,
    pub(super) envelope: Arc<Envelope>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) authors: Vec<Author>,
    /// Of the client.
    pub(super) message_id: Option<String>,
    pub(super) octets: u64,
}

/// What the log keeps of a Message-ID.
const MESSAGE_ID_OCTETS_MAX: usize = 250;

/// The client's Message-ID, cut: for the log line, in which people search for it.
pub(super) fn message_id(content: &Content) -> Option<String> {
    let field = content.fields_named("Message-ID").next()?;
    let value = String::from_utf8_lossy(&field.value[..field.value.len().min(MESSAGE_ID_OCTETS_MAX)]);
    let value = value.trim_ascii();
    Some(match value.bytes().any(|octet| octet.is_ascii_whitespace()) {
        false => value.to_owned(),
        // Folded.
        true => value.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
    })
}
