//! A log of all SendEmail requests and connections.
//!
//! A request is recorded when its head has been read, before any other processing, so that the log includes requests
//! that are reset, left hanging or abandoned: it shows how often a client tried. The list is bounded, and the oldest
//! entries are removed; the counts include them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::lock;

/// One SendEmail request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// Counts from 1.
    pub number: u64,
    /// When its head was read, by the emulator's clock.
    pub seen_at: Timestamp,
    /// The number of the connection; the first one is 1.
    pub connection: u64,
    /// The name of the scripted fault, if any.
    pub fault: Option<&'static str>,
    /// How it ended.
    pub outcome: RequestOutcome,
    /// Name of the error it was answered with.
    pub error: Option<&'static str>,
    /// The message was accepted with this id, even if the client did not receive it.
    pub message_id: Option<String>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// It has not.
    Open,
    /// Answered with this HTTP status.
    Answered(u16),
    /// The connection was reset, as scripted.
    Reset,
    /// It hung, as scripted, until the client left or the emulator stopped it.
    Hung,
    /// The client closed the connection, or the emulator was stopped, before a response was sent.
    Abandoned,
}

impl RequestOutcome {
    fn to_json(self) -> Value {
        match self {
            RequestOutcome::Open => json!("open"),
            RequestOutcome::Answered(status) => json!(status),
            RequestOutcome::Reset => json!("reset"),
            RequestOutcome::Hung => json!("hung"),
            RequestOutcome::Abandoned => json!("abandoned"),
        }
    }
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// SendEmail requests seen, faulted ones included.
    pub send_email_requests: u64,
    /// Messages accepted, even if the client did not receive the response.
    pub messages_accepted: u64,
    /// Requests of any kind, the control API's included.
    pub http_requests: u64,
    /// Connections accepted.
    pub connections_opened: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Connections that carried at least one request to the service, as opposed to the control API.
    pub service_connections_opened: u64,
}

#[derive(Debug, Default)]
pub(super) struct RequestLog {
    entries: Mutex<Entries>,
    pub(super) http_requests: AtomicU64,
    pub(super) connections_opened: AtomicU64,
    pub(super) connections_open: AtomicU64,
    pub(super) service_connections_opened: AtomicU64,
}

#[derive(Debug, Default)]
struct Entries {
    seen: u64,
    recent: VecDeque<SeenRequest>,
}

impl RequestLog {
    /// Enters a request. The entry is closed by the ticket, or as abandoned when the ticket is dropped.
    pub(super) fn enter(self: &Arc<Self>, connection: u64, fault: Option<&'static str>, seen_at: Timestamp) -> Ticket {
        let mut entries = lock(&self.entries);
        entries.seen += 1;
        let number = entries.seen;
        if entries.recent.len() == ENTRIES_MAX {
            entries.recent.pop_front();
        }
        let outcome = RequestOutcome::Open;
        entries.recent.push_back(SeenRequest {
            number,
            seen_at,
            connection,
            fault,
            outcome,
            error: None,
            message_id: None,
        });
        Ticket { request_log: Arc::clone(self), number, if_dropped: RequestOutcome::Abandoned }
    }

    pub(super) fn recent(&self) -> Vec<SeenRequest> {
        lock(&self.entries).recent.iter().cloned().collect()
    }

    /// Forgets the list, not the counts.
    pub(super) fn clear(&self) {
        lock(&self.entries).recent.clear();
    }

    pub(super) fn counts(&self, messages_accepted: u64) -> Counts {
        Counts {
            send_email_requests: lock(&self.entries).seen,
            messages_accepted,
            http_requests: self.http_requests.load(Ordering::Relaxed),
            connections_opened: self.connections_opened.load(Ordering::Relaxed),
            connections_open: self.connections_open.load(Ordering::Relaxed),
            service_connections_opened: self.service_connections_opened.load(Ordering::Relaxed),
        }
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut SeenRequest)) {
        let mut entries = lock(&self.entries);
        // Numbers are consecutive, so the index of an entry follows from the first one.
        let first = entries.recent.front().map_or(u64::MAX, |entry| entry.number);
        let index = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| entries.recent.get_mut(index)) {
            change(entry);
        }
    }
}

/// The open entry of one request.
#[derive(Debug)]
pub(super) struct Ticket {
    request_log: Arc<RequestLog>,
    number: u64,
    if_dropped: RequestOutcome,
}

impl Ticket {
    pub(super) fn accepted(&self, message_id: &str) {
        self.request_log.update(self.number, |entry| entry.message_id = Some(message_id.to_owned()));
    }

    pub(super) fn refused(&self, error: &'static str) {
        self.request_log.update(self.number, |entry| entry.error = Some(error));
    }

    /// Sets the outcome that is recorded when the guard is dropped.
    pub(super) fn will_end(&mut self, outcome: RequestOutcome) {
        self.if_dropped = outcome;
    }

    /// For an outcome that is certain before it can be waited for, such as a reset.
    pub(super) fn ends(mut self, outcome: RequestOutcome) {
        self.if_dropped = outcome;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.request_log.update(self.number, |entry| entry.outcome = self.if_dropped);
    }
}

pub(super) fn to_json(counts: Counts, recent: &[SeenRequest]) -> Value {
    let recent: Vec<_> = recent
        .iter()
        .map(|entry| {
            json!({
                "number": entry.number,
                "seen_at": entry.seen_at.to_string(),
                "connection": entry.connection,
                "fault": entry.fault,
                "outcome": entry.outcome.to_json(),
                "error": entry.error,
                "message_id": entry.message_id,
            })
        })
        .collect();
    json!({
        "send_email_requests": counts.send_email_requests,
        "messages_accepted": counts.messages_accepted,
        "http_requests": counts.http_requests,
        "connections_opened": counts.connections_opened,
        "connections_open": counts.connections_open,
        "service_connections_opened": counts.service_connections_opened,
        "recent": recent,
    })
}

/// Requests listed; the counts go on.
const ENTRIES_MAX: usize = 10_000;
