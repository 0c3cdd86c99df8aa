//! What became of one attempt to hand a message on.
//!
//! Certainty is part of it, because the provider has no idempotency token: a refund, a retry and a failover all ask
//! "could it have been sent?".

use super::reply::Reply;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The provider's name for an accepted message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageId(String);

impl MessageId {
    /// Printable ASCII without spaces, at most 200 octets: it is quoted in a reply.
    pub fn new(text: &str) -> Option<Self> {
        let plain = !text.is_empty() && text.len() <= 200 && text.bytes().all(|octet| matches!(octet, b'!'..=b'~'));
        plain.then(|| Self(text.to_owned()))
    }

    /// As the provider wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The only thing a 250 at end of data can be made from. No receipt, no 250.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// The provider accepted the message and named it.
    Provider(MessageId),
}

/// Could it have been sent?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// No: nothing was written, or the provider said so.
    NotSent,
    /// Yes, under this name.
    Sent(MessageId),
    /// Perhaps: the request was written, at least in part, and no readable answer came.
    Ambiguous,
}

/// Why; for metrics and for whoever decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// Accepted.
    Accepted,
    /// The send rate is used up for the moment.
    Throttled,
    /// The 24-hour quota is used up.
    DailyQuota,
    /// The provider refuses this message: the author's to mend.
    Refused,
    /// The operator's to mend: permission, credentials, paused or suspended sending, missing configuration set.
    OperatorError,
    /// The provider failed (5xx).
    Failed,
    /// The provider could not be reached.
    Unreachable,
    /// The request was written and no readable answer came: timeout, reset, garbage.
    NoResponse,
    /// The deadline passed before anything was sent.
    Deadline,
}

impl OutcomeKind {
    /// The word for logs and metric labels.
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

/// One attempt's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Could it have been sent?
    pub certainty: Certainty,
    /// Why.
    pub kind: OutcomeKind,
    /// How long the provider asked us to wait, if it did.
    pub retry_after: Option<Duration>,
    /// The provider's word for it; empty where it said none that is known.
    pub code: &'static str,
    /// What the client hears, if nobody tries again on its behalf.
    pub reply: Reply,
    /// What the provider said, for the operator's log only: error code and message.
    pub detail: String,
    /// What keeps messages from being sent until somebody changes it, where the transport knows.
    pub fault: Option<Fault>,
}

/// Why messages cannot be sent, for a person: what is wrong and what to do. It names no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One sentence.
    pub text: Cow<'static, str>,
    /// Whether it depends on the author: messages of other domains may be sent.
    pub of_author: bool,
}

impl Outcome {
    /// The provider accepted the message.
    pub fn sent(id: MessageId) -> Self {
        let reply = super::replies::ACCEPTED.with_text(&format!("Ok {id}"));
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

    /// The provider has not got the message, for certain.
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

    /// The provider may have got the message.
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
