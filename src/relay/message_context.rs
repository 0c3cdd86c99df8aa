//! What the log line and the refunds of a message need after the end of data.

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
    /// The time of the end of data.
    pub(super) ended: Instant,
    pub(super) envelope: Arc<Envelope>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) authors: Vec<Author>,
    /// The client's Message-ID.
    pub(super) message_id: Option<String>,
    pub(super) octets: u64,
}

/// The octets of a Message-ID that are logged.
const MESSAGE_ID_OCTETS_MAX: usize = 250;

/// The client's Message-ID for the log line, truncated and unfolded.
pub(super) fn message_id(content: &Content) -> Option<String> {
    let field = content.fields_named("Message-ID").next()?;
    let value = String::from_utf8_lossy(&field.value[..field.value.len().min(MESSAGE_ID_OCTETS_MAX)]);
    let value = value.trim_ascii();
    Some(match value.bytes().any(|octet| octet.is_ascii_whitespace()) {
        false => value.to_owned(),
        true => value.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
    })
}
