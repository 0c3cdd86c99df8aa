//! The outcome of one attempt to send a message.
//!
//! It includes whether the message was sent, because the provider has no idempotency token: a refund, a retry and a
//! failover depend on this.

use super::id::QueueId;
use super::reply::Reply;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The provider's id of an accepted message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageId(String);

impl MessageId {
    /// Accepts printable ASCII without spaces, at most 200 octets, because a reply quotes it.
    pub fn new(text: &str) -> Option<Self> {
        let plain = !text.is_empty() && text.len() <= 200 && text.bytes().all(|octet| matches!(octet, b'!'..=b'~'));
        plain.then(|| Self(text.to_owned()))
    }

    /// The id as the provider returned it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The proof of acceptance. A 250 at end of data can be created only from a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// The provider accepted the message and returned an id.
    Provider(MessageId),
    /// The message is durable in the spool, with this id.
    Spool(QueueId),
}

impl Receipt {
    /// The 250 for the client.
    pub fn reply(&self) -> Reply {
        let text = match self {
            Self::Provider(id) => format!("Ok {id}"),
            Self::Spool(id) => format!("Ok queued as {id}"),
        };
        super::replies::ACCEPTED.with_text(&text)
    }
}

/// Whether the message may have been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Not sent: nothing was written, or the provider refused.
    NotSent,
    /// Sent, with this id.
    Sent(MessageId),
    /// Unknown: the request was written at least in part, and no valid answer was received.
    Ambiguous,
}

/// The reason of an outcome; for metrics and for the decision about the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// Accepted.
    Accepted,
    /// The send rate is used up at the moment.
    Throttled,
    /// The 24-hour quota is used up.
    DailyQuota,
    /// The provider refuses this message. The author must correct it.
    Refused,
    /// The operator must correct something: permission, credentials, paused or suspended sending, missing configuration
    /// set.
    OperatorError,
    /// The provider failed (5xx).
    Failed,
    /// The provider could not be reached.
    Unreachable,
    /// The request was written and no valid answer was received: timeout, reset, garbage.
    NoResponse,
    /// The deadline passed before anything was sent.
    Deadline,
}

impl OutcomeKind {
    /// The word for log fields and metric labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Throttled => "throttled",
            Self::DailyQuota => "daily_quota",
            Self::Refused => "rejected",
            Self::OperatorError => "operator_error",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::NoResponse => "no_response",
            Self::Deadline => "deadline",
        }
    }
}

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the message may have been sent.
    pub certainty: Certainty,
    /// The reason.
    pub kind: OutcomeKind,
    /// The wait that the provider requested, if any.
    pub retry_after: Option<Duration>,
    /// The provider's error code; empty if there is none or it is not known.
    pub code: &'static str,
    /// The reply for the client, if the relay does not retry itself.
    pub reply: Reply,
    /// The provider's error code and message, for the operator's log only.
    pub detail: String,
    /// What prevents sending until an operator changes it, if the transport knows.
    pub fault: Option<Fault>,
}

/// Why messages cannot be sent, for operators: the cause and what to do. Contains no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One sentence.
    pub text: Cow<'static, str>,
    /// Whether it depends on the author: messages of other domains may be sent.
    pub of_author: bool,
}

impl Outcome {
    /// An attempt whose message the provider accepted.
    pub fn sent(id: MessageId) -> Self {
        let reply = Receipt::Provider(id.clone()).reply();
        let certainty = Certainty::Sent(id);
        Self {
            certainty,
            kind: OutcomeKind::Accepted,
            retry_after: None,
            code: "",
            reply,
            detail: String::new(),
            fault: None,
        }
    }

    /// An attempt whose message was certainly not sent.
    pub fn not_sent(kind: OutcomeKind, reply: Reply, detail: impl Into<String>) -> Self {
        Self {
            certainty: Certainty::NotSent,
            kind,
            retry_after: None,
            code: "",
            reply,
            detail: detail.into(),
            fault: None,
        }
    }

    /// An attempt whose message may have been sent.
    pub fn ambiguous(kind: OutcomeKind, reply: Reply, detail: impl Into<String>) -> Self {
        Self {
            certainty: Certainty::Ambiguous,
            kind,
            retry_after: None,
            code: "",
            reply,
            detail: detail.into(),
            fault: None,
        }
    }
}
