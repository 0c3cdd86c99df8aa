//! The accepted messages, for tests.
//!
//! The newest messages are stored, within both limits of [`Retention`]. Older ones are removed, but stay counted. Raw
//! octets are shared, not copied.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::author_readings::AuthorReadings;
use super::mailbox_simulator::DeliveryOutcome;
use super::request::{Destination, SendParameters};
use super::settings::Retention;
use super::{lock, submission::Submission};

/// One accepted message.
#[derive(Clone, Debug)]
pub struct CapturedMessage {
    /// As SendEmail answered.
    pub message_id: String,
    /// By the emulator's clock.
    pub received_at: Timestamp,
    /// The author in force: `FromEmailAddress`, else the first address of the From field. Without display name.
    pub from: String,
    /// Every recipient, in the order To, Cc, Bcc, as given.
    pub to: Vec<String>,
    /// The same, grouped; from the header if the request had no `Destination`.
    pub destination: Destination,
    /// The octets of `Content.Raw.Data`, unchanged: `FromEmailAddress` is not written into them.
    pub raw: Bytes,
    /// The addresses that a mail program could take for the author.
    pub readings: AuthorReadings,
    /// The request's parameters.
    pub parameters: SendParameters,
    /// The configuration set in force: parameter, else header field, else the identity's default.
    pub configuration_set: Option<String>,
    /// The tags in force: parameter, else header field.
    pub email_tags: Vec<(String, String)>,
    /// The delivery outcome of each recipient of `to`.
    pub outcomes: Vec<DeliveryOutcome>,
    /// The access key that signed the request.
    pub access_key_id: String,
    /// The request, without the content.
    request: Value,
}

impl CapturedMessage {
    pub(super) fn new(
        message_id: String,
        received_at: Timestamp,
        submission: Submission,
        outcomes: Vec<DeliveryOutcome>,
        access_key_id: &str,
    ) -> Self {
        let Submission { request, authors, destination, configuration_set, email_tags, .. } = submission;
        Self {
            message_id,
            received_at,
            from: authors.first().map(ToString::to_string).unwrap_or_default(),
            to: destination.all().map(str::to_owned).collect(),
            destination,
            readings: AuthorReadings::read(&request.raw),
            raw: request.raw,
            parameters: request.parameters,
            configuration_set,
            email_tags,
            outcomes,
            access_key_id: access_key_id.to_owned(),
            request: request.json,
        }
    }

    /// The line of `GET /messages`, with its line end.
    pub(super) fn to_line(&self) -> String {
        let mut value = self.to_json();
        if let Some(members) = value.as_object_mut() {
            members.insert("raw_b64".to_owned(), Value::String(STANDARD.encode(&self.raw)));
        }
        format!("{value}\n")
    }

    pub(super) fn to_json(&self) -> Value {
        let tags: Vec<_> = self.email_tags.iter().map(|(name, value)| json!({"Name": name, "Value": value})).collect();
        let outcomes: Vec<_> = self
            .to
            .iter()
            .zip(&self.outcomes)
            .map(|(recipient, outcome)| json!({"recipient": recipient, "outcome": outcome.as_str()}))
            .collect();
        json!({
            "message_id": self.message_id,
            "received_at": self.received_at.to_string(),
            "from": self.from,
            "to": self.to,
            "destination": {
                "to": self.destination.to,
                "cc": self.destination.cc,
                "bcc": self.destination.bcc,
            },
            "readings": {
                "parser": self.readings.parser,
                "first_field": self.readings.first_field,
                "last_field": self.readings.last_field,
                "fields": self.readings.fields,
                "angle_bracketed": self.readings.angle_bracketed,
                "obsolete": self.readings.obsolete,
                "anywhere": self.readings.anywhere,
                "other_fields": self.readings.other_fields,
            },
            "parameters": self.request,
            "configuration_set": self.configuration_set,
            "email_tags": tags,
            "outcomes": outcomes,
            "access_key_id": self.access_key_id,
        })
    }
}

/// The stored messages, and the number of accepted ones.
#[derive(Debug)]
pub(super) struct MessageStore {
    retention: Retention,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Arc<CapturedMessage>>,
    octets: usize,
    accepted: u64,
}

impl MessageStore {
    pub(super) fn new(retention: Retention) -> Self {
        Self { retention, kept: Mutex::default() }
    }

    pub(super) fn keeps_messages(&self) -> bool {
        matches!(self.retention, Retention::Newest { .. })
    }

    pub(super) fn count_only(&self) {
        lock(&self.kept).accepted += 1;
    }

    pub(super) fn add(&self, message: Arc<CapturedMessage>) {
        let mut kept = lock(&self.kept);
        kept.accepted += 1;
        let Retention::Newest { messages_max, octets_max } = self.retention else { return };
        kept.octets += message.raw.len();
        kept.messages.push_back(message);
        while kept.messages.len() > messages_max || kept.octets > octets_max {
            let Some(oldest) = kept.messages.pop_front() else { break };
            kept.octets -= oldest.raw.len();
        }
    }

    pub(super) fn list(&self) -> Vec<Arc<CapturedMessage>> {
        lock(&self.kept).messages.iter().cloned().collect()
    }

    /// Messages accepted since the start, including those that are no longer stored.
    pub(super) fn accepted(&self) -> u64 {
        lock(&self.kept).accepted
    }

    /// Forgets the list, not the count.
    pub(super) fn clear(&self) {
        let mut kept = lock(&self.kept);
        kept.messages.clear();
        kept.octets = 0;
    }
}
