//! The state of a message in the queue, and the changes of it.
//!
//! A message is sent in parts, because the provider takes a bounded number of recipients per call. Part `n` has the
//! recipients from `n` times [`RECIPIENTS_PER_PART`] on. Each part is attempted, retried and ended on its own.

use crate::mail::QueueId;
use crate::mail::parameters::AppName;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Recipients of one call. SES Developer Guide, "Service quotas": 50 recipients per message.
pub const RECIPIENTS_PER_PART: usize = 50;

/// Recipients of a message in the spool.
pub const RECIPIENTS_MAX: usize = RECIPIENTS_PER_PART * PartSet::PARTS_MAX;

/// A message in the queue, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    /// The id in the 250.
    pub id: QueueId,
    /// The application that sent it.
    pub app: Option<AppName>,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Octets of content.
    pub octets: u64,
    /// Recipients.
    pub recipients: u32,
    /// Parts in which it is sent.
    pub parts: u8,
    /// What happened since.
    pub state: QueueState,
}

/// What changes while a message is in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueState {
    /// The next attempt, if the message is not held.
    pub due: Timestamp,
    /// Why it is held: no attempt is made until it is released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Arc<str>>,
    /// Attempts that ended.
    pub attempts: u32,
    /// Of them, those since a part was last sent: the wait before the next one grows with it.
    pub failures: u32,
    /// Parts with an attempt that began and has not ended. After a restart nothing is known of its result: it is ambiguous.
    pub started: PartSet,
    /// Parts that were sent or have failed. A message leaves the queue when all have.
    pub ended: PartSet,
    /// How the last attempt ended, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Arc<str>>,
}

/// A change of a message in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// An attempt begins. Durable before the provider is called: an attempt without an end may have sent the part.
    Started {
        /// The part.
        part: u8,
    },
    /// An attempt ended.
    Ended {
        /// The part.
        part: u8,
        /// Whether the part was sent or has failed for good. If not, there is another attempt.
        last: bool,
        /// When, if the part has not ended.
        due: Timestamp,
        /// The result, in words.
        result: Arc<str>,
    },
    /// No attempts until the message is released.
    Held {
        /// Why.
        reason: Arc<str>,
    },
    /// Attempts again.
    Released {
        /// The next one.
        due: Timestamp,
    },
    /// The next attempt is at another time.
    Rescheduled {
        /// The time.
        due: Timestamp,
    },
    /// The message leaves the queue. The caller has recorded why.
    Removed,
}

impl QueuedMessage {
    /// A message that was accepted now and is due now.
    ///
    /// `recipients` must be 1 to [`RECIPIENTS_MAX`]; more are an error of the caller and count as that.
    pub fn accepted(id: QueueId, app: Option<AppName>, at: Timestamp, octets: u64, recipients: usize) -> Self {
        let count = u32::try_from(recipients).unwrap_or(u32::MAX);
        let parts = recipients.div_ceil(RECIPIENTS_PER_PART).clamp(1, PartSet::PARTS_MAX);
        let parts = u8::try_from(parts).unwrap_or(u8::MAX);
        Self {
            id,
            app,
            accepted: at,
            octets,
            recipients: count,
            parts,
            state: QueueState { due: at, ..QueueState::default() },
        }
    }

    /// Applies a change. Returns whether the message leaves the queue. Changes may be repeated: the state is the same.
    pub fn apply(&mut self, change: &Change) -> bool {
        let state = &mut self.state;
        match change {
            Change::Started { part } => state.started.insert(*part),
            Change::Ended { part, last, due, result } => {
                state.attempts = state.attempts.saturating_add(1);
                state.started.remove(*part);
                state.last = Some(Arc::clone(result));
                match last {
                    true => {
                        state.ended.insert(*part);
                        state.failures = 0;
                    }
                    false => {
                        state.due = *due;
                        state.failures = state.failures.saturating_add(1);
                    }
                }
            }
            Change::Held { reason } => state.held = Some(Arc::clone(reason)),
            Change::Released { due } => {
                state.held = None;
                state.due = *due;
            }
            Change::Rescheduled { due } => state.due = *due,
            Change::Removed => return true,
        }
        state.ended == PartSet::first(self.parts)
    }

    /// Recipients of a part.
    pub fn recipients_of(&self, part: u8) -> u32 {
        let most = RECIPIENTS_PER_PART as u32;
        self.recipients.saturating_sub(u32::from(part) * most).min(most)
    }

    /// The parts that are to be sent: neither ended nor under way.
    pub fn parts_waiting(&self) -> impl Iterator<Item = u8> + '_ {
        (0..self.parts).filter(|part| !self.state.ended.contains(*part) && !self.state.started.contains(*part))
    }
}

/// A set of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartSet(u32);

impl PartSet {
    /// The most parts of a message.
    pub const PARTS_MAX: usize = 32;

    /// The first `count` parts.
    pub fn first(count: u8) -> Self {
        Self(u32::MAX.checked_shr(32_u32.saturating_sub(u32::from(count))).unwrap_or(0))
    }

    /// Whether the part is in the set.
    pub fn contains(self, part: u8) -> bool {
        self.0.checked_shr(u32::from(part)).is_some_and(|bits| bits & 1 == 1)
    }

    /// Adds a part.
    pub fn insert(&mut self, part: u8) {
        self.0 |= 1_u32.checked_shl(u32::from(part)).unwrap_or(0);
    }

    /// Removes a part.
    pub fn remove(&mut self, part: u8) {
        self.0 &= !1_u32.checked_shl(u32::from(part)).unwrap_or(0);
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Wall time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last one that there is.
    pub const MAX: Self = Self(u64::MAX);

    /// Milliseconds since 1970.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Later by that much.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this one; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    /// A time before 1970 counts as 1970.
    fn from(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(recipients: usize) -> QueuedMessage {
        QueuedMessage::accepted(QueueId::from_numbers(1, 1), None, Timestamp::from_millis(5), 10, recipients)
    }

    fn ended(part: u8, last: bool) -> Change {
        Change::Ended { part, last, due: Timestamp::from_millis(9), result: "result".into() }
    }

    #[test]
    fn a_message_leaves_the_queue_when_all_its_parts_have_ended() {
        let mut message = message(101);
        assert_eq!(message.parts, 3);
        assert_eq!((0..4).map(|part| message.recipients_of(part)).collect::<Vec<_>>(), [50, 50, 1, 0]);
        for part in [0, 2] {
            assert!(!message.apply(&Change::Started { part }));
            assert!(!message.apply(&ended(part, true)));
        }
        assert!(!message.apply(&ended(1, false)));
        assert_eq!(message.parts_waiting().collect::<Vec<_>>(), [1]);
        assert_eq!((message.state.due, message.state.attempts), (Timestamp::from_millis(9), 3));
        assert_eq!(message.state.failures, 1, "two parts were sent");
        assert!(message.apply(&ended(1, true)));
    }

    #[test]
    fn the_largest_message_has_as_many_parts_as_a_set_can_hold() {
        assert_eq!(message(RECIPIENTS_MAX).parts, 32);
        let all = PartSet::first(32);
        assert!((0..32).all(|part| all.contains(part)) && !all.contains(32));
        assert!(PartSet::first(0).is_empty());
    }

    #[test]
    fn a_held_message_keeps_its_parts() {
        let mut message = message(1);
        message.apply(&Change::Held { reason: "why".into() });
        assert_eq!(message.state.held.as_deref(), Some("why"));
        message.apply(&Change::Released { due: Timestamp::from_millis(7) });
        assert_eq!((message.state.held.as_deref(), message.state.due), (None, Timestamp::from_millis(7)));
        assert!(message.apply(&Change::Removed));
    }
}
