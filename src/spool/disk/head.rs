//! The head of a message's record: what a spool knows of a message besides its content.

use super::super::queued_message::{QueueState, QueuedMessage, Timestamp};
use super::super::stored_message::StoredMessage;
use crate::mail::QueueId;
use crate::mail::parameters::AppName;
use serde::{Deserialize, Serialize};

/// As JSON. Unknown fields are ignored, so that fields can be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// When the message was accepted.
    pub(super) accepted: Timestamp,
    /// Octets of content.
    pub(super) octets: u64,
    /// CRC32C of content that is in a file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_checksum: Option<u32>,
    /// Of a copy: the state so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<QueueState>,
    #[serde(flatten)]
    pub(super) message: StoredMessage,
}

impl Head {
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(super) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// The message in the queue.
    pub(super) fn message(&self, id: QueueId) -> Option<QueuedMessage> {
        let app = self.message.app().map(AppName::parse).transpose().ok()?;
        let recipients = self.message.forward_paths().len();
        let mut message = QueuedMessage::accepted(id, app, self.accepted, self.octets, recipients);
        if let Some(state) = &self.state {
            message.state = state.clone();
        }
        Some(message)
    }
}
