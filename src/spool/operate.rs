//! What an operator does with messages in a spool: list, hold, release, retry, remove.
//!
//! All of it works in pages, so that a call looks at a bounded number of messages.

use super::queued_message::{Change, QueuedMessage, Timestamp};
use super::{Spool, SpoolError};
use crate::mail::QueueId;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Messages that one call looks at.
pub const PAGE_MAX: usize = 1_000;

/// Which messages. All that is given must hold; nothing given: all messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueFilter {
    /// These messages only.
    pub id: Option<String>,
    /// Of this application; `-`: of none.
    pub app: Option<String>,
    /// In this state.
    pub state: Option<MessageState>,
    /// Accepted at least this many seconds ago.
    pub older_than_seconds: Option<u64>,
    /// With a recipient at this domain.
    pub recipient_domain: Option<String>,
}

/// What a message in the spool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MessageState {
    /// It waits for its next attempt.
    Waiting,
    /// An attempt is in progress, or was interrupted.
    Sending,
    /// No attempts are made.
    Held,
}

impl MessageState {
    /// The state of a message.
    pub fn of(message: &QueuedMessage) -> Self {
        match (&message.state.held, message.state.started.is_empty()) {
            (Some(_), _) => Self::Held,
            (None, false) => Self::Sending,
            (None, true) => Self::Waiting,
        }
    }

    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Held => "held",
        }
    }
}

/// What is done with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueAction {
    /// No more attempts, until it is released. One in progress ends.
    Hold,
    /// Attempts again, from now on.
    Release,
    /// The next attempt is now. Held messages stay held.
    Retry,
    /// It leaves the queue without being sent. One that is being sent may be sent.
    Remove,
}

/// A message, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
pub struct QueueRow {
    /// The queue id.
    pub id: String,
    /// The application.
    pub app: Option<String>,
    /// The state.
    pub state: MessageState,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted: Timestamp,
    /// When it is due, in milliseconds since 1970.
    pub due: Timestamp,
    /// Octets of content.
    pub octets: u64,
    /// Attempts that ended.
    pub attempts: u32,
    /// Parts that it is sent in, and those that have ended.
    pub parts: u8,
    /// Parts that were sent or have failed.
    pub parts_ended: u8,
    /// Why it is held.
    pub held: Option<String>,
    /// How the last attempt ended.
    pub last: Option<String>,
    /// The reverse-path; `None` for the null reverse-path.
    pub reverse_path: Option<String>,
    /// The recipients.
    pub forward_paths: Vec<String>,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
pub struct QueuePage {
    /// The messages that fit.
    pub rows: Vec<QueueRow>,
    /// Where the next call begins; `None`: this was the end.
    pub next: Option<String>,
}

impl QueueFilter {
    fn fits(&self, message: &QueuedMessage, now: Timestamp) -> bool {
        let app = message.app.as_ref().map_or("-", |app| app.as_str());
        self.id.as_deref().is_none_or(|id| id == message.id.to_string())
            && self.app.as_deref().is_none_or(|wanted| wanted == app)
            && self.state.is_none_or(|state| state == MessageState::of(message))
            && self.older_than_seconds.is_none_or(|age| now.since(message.accepted) >= Duration::from_secs(age))
    }

    fn fits_recipients(&self, forward_paths: &[String]) -> bool {
        let at = |path: &String, domain: &str| {
            path.rsplit_once('@').is_some_and(|(_, found)| found.eq_ignore_ascii_case(domain))
        };
        self.recipient_domain.as_deref().is_none_or(|domain| forward_paths.iter().any(|path| at(path, domain)))
    }
}

/// The messages after that id that fit, of the next [`PAGE_MAX`]. With an action, it is done to each first, and `changed` is called; a
/// message that does not need it is left out.
///
/// # Errors
/// [`SpoolError::Unavailable`] if a change cannot be made durable; others may have been made, and `changed` was called for those.
pub async fn page(
    spool: &dyn Spool,
    filter: &QueueFilter,
    after: Option<QueueId>,
    action: Option<QueueAction>,
    now: Timestamp,
    changed: &(dyn Fn(&QueuedMessage) + Sync),
) -> Result<QueuePage, SpoolError> {
    // One message is found by its id.
    let (messages, whole) = match filter.id.as_deref() {
        Some(id) => (QueueId::parse(id).and_then(|id| spool.get(id)).into_iter().collect(), true),
        None => {
            let messages = spool.page(after, PAGE_MAX);
            let whole = messages.len() < PAGE_MAX;
            (messages, whole)
        }
    };
    let next = messages.last().filter(|_| !whole).map(|message| message.id.to_string());
    let mut found = Vec::new();
    for message in messages.into_iter().filter(|message| filter.fits(message, now)) {
        let stored = match spool.describe(message.id).await {
            Ok(stored) => stored,
            // It left meanwhile, or was set aside.
            Err(SpoolError::NotFound(_) | SpoolError::Damaged(_)) => continue,
            Err(error) => return Err(error),
        };
        if filter.fits_recipients(stored.forward_paths()) {
            found.push((message, stored));
        }
    }
    // All at once, so that they are in one flush.
    let done = join_all(found.iter().map(async |(message, _)| match action {
        None => Ok(true),
        Some(action) => match change(action, message, now) {
            None => Ok(false),
            Some(change) => spool.change(message.id, change).await.inspect(|was_there| {
                if *was_there {
                    changed(message);
                }
            }),
        },
    }))
    .await;
    let mut rows = Vec::new();
    for ((message, stored), done) in found.into_iter().zip(done) {
        if !done? {
            continue;
        }
        let message = spool.get(message.id).unwrap_or(message);
        rows.push(QueueRow {
            id: message.id.to_string(),
            app: message.app.as_ref().map(ToString::to_string),
            state: MessageState::of(&message),
            accepted: message.accepted,
            due: message.state.due,
            octets: message.octets,
            attempts: message.state.attempts,
            parts: message.parts,
            parts_ended: (0..message.parts).filter(|part| message.state.ended.contains(*part)).count() as u8,
            held: message.state.held.as_deref().map(str::to_owned),
            last: message.state.last.as_deref().map(str::to_owned),
            reverse_path: stored.reverse_path().map(str::to_owned),
            forward_paths: stored.forward_paths().to_vec(),
        });
    }
    Ok(QueuePage { rows, next })
}

/// The change that an action makes of a message; `None`: it needs none.
fn change(action: QueueAction, message: &QueuedMessage, now: Timestamp) -> Option<Change> {
    let is_held = message.state.held.is_some();
    match action {
        QueueAction::Hold => (!is_held).then(|| Change::Held { reason: "an operator holds it".into() }),
        QueueAction::Release => is_held.then_some(Change::Released { due: now }),
        QueueAction::Retry => (!is_held).then_some(Change::Rescheduled { due: now }),
        QueueAction::Remove => Some(Change::Removed),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemorySpool, SpoolLimits, StoredMessage};
    use super::*;
    use crate::mail::{SessionId, SystemClock};
    use std::sync::Arc;

    async fn spool() -> MemorySpool {
        let spool = MemorySpool::new(SpoolLimits::default(), Arc::new(SystemClock));
        for (app, domain) in [("billing", "b.example"), ("billing", "c.example"), ("shop", "b.example")] {
            let json = format!(r#"{{"forward_paths":["x@{domain}"],"rule":"all","app":"{app}"}}"#);
            let stored: StoredMessage = serde_json::from_str(&json).unwrap();
            let id = QueueId::of(SessionId::fresh().transaction(1));
            let message = stored.restore(id, "Subject: x\r\n\r\n\r\n".into()).unwrap();
            spool.stage(None, 1).unwrap().commit(message).await.unwrap();
        }
        spool
    }

    async fn count(spool: &MemorySpool, filter: QueueFilter, action: Option<QueueAction>) -> usize {
        page(spool, &filter, None, action, Timestamp::MAX, &|_| {}).await.unwrap().rows.len()
    }

    #[tokio::test]
    async fn a_filter_selects_by_everything_that_it_has() {
        let spool = spool().await;
        let domain = |domain: &str| Some(domain.to_owned());
        let billing = || QueueFilter { app: Some("billing".to_owned()), ..QueueFilter::default() };
        assert_eq!(count(&spool, QueueFilter::default(), None).await, 3);
        assert_eq!(count(&spool, billing(), None).await, 2);
        assert_eq!(count(&spool, QueueFilter { recipient_domain: domain("C.example"), ..billing() }, None).await, 1);
        assert_eq!(count(&spool, QueueFilter { state: Some(MessageState::Held), ..billing() }, None).await, 0);
        assert_eq!(count(&spool, QueueFilter { older_than_seconds: Some(60), ..billing() }, None).await, 2);
        assert_eq!(count(&spool, QueueFilter { id: domain("nonsense"), ..billing() }, None).await, 0);
    }

    #[tokio::test]
    async fn an_action_says_what_it_changed_and_leaves_out_what_needs_nothing() {
        let spool = spool().await;
        let billing = || QueueFilter { app: Some("billing".to_owned()), ..QueueFilter::default() };
        let held = || QueueFilter { state: Some(MessageState::Held), ..QueueFilter::default() };
        assert_eq!(count(&spool, billing(), Some(QueueAction::Hold)).await, 2);
        assert_eq!(count(&spool, QueueFilter::default(), Some(QueueAction::Hold)).await, 1, "two are held already");
        assert_eq!(count(&spool, held(), None).await, 3);
        assert_eq!(count(&spool, QueueFilter::default(), Some(QueueAction::Retry)).await, 0, "held messages stay held");
        assert_eq!(count(&spool, billing(), Some(QueueAction::Release)).await, 2);
        assert_eq!(count(&spool, held(), Some(QueueAction::Remove)).await, 1);
        assert_eq!(spool.usage().messages, 2);
    }
}
