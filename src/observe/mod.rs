//! Events, and the log lines, metrics and lists of decisions made from them. [`Observer`] is the extension point.
//!
//! An [`Observer`] receives every [`Event`] on the task where it happens, so it must be quick and must not block. It decides nothing.
//! [`LogObserver`] writes the log lines.

mod address_form;
#[cfg(feature = "admin")]
mod app_counts;
#[cfg(feature = "admin")]
mod decision;
#[cfg(feature = "admin")]
mod decisions;
#[cfg(feature = "admin")]
mod last_errors;
mod log;
#[cfg(feature = "admin")]
mod metrics;
mod printable;
#[cfg(feature = "admin")]
mod process_metrics;
#[cfg(feature = "admin")]
mod prometheus_text;
mod repeats;
#[cfg(feature = "admin")]
mod words;

pub use address_form::AddressForm;
#[cfg(feature = "admin")]
pub(crate) use app_counts::{Counts, HourAndDay};
#[cfg(feature = "admin")]
pub(crate) use decision::{Decision, DecisionResult, Stage};
#[cfg(feature = "admin")]
pub(crate) use decisions::{DecisionQuery, Decisions, Found};
pub use log::LogObserver;
#[cfg(feature = "admin")]
pub use metrics::Metrics;
#[cfg(feature = "admin")]
pub(crate) use metrics::{LimitSnapshot, MetricsSnapshot, SpoolSnapshot};
#[cfg(feature = "admin")]
pub(crate) use printable::printable;
#[cfg(feature = "admin")]
pub(crate) use process_metrics::ProcessSnapshot;
#[cfg(feature = "admin")]
pub(crate) use prometheus_text::prometheus_text;

use crate::mail::parameters::AppName;
use crate::mail::{
    Abandonment, AccountQuota, Author, Client, ClientAddress, ForwardPath, Identity, Mailbox, Outcome, QueueId,
    ReadError, Reply, ReversePath, TransactionId,
};
use std::time::Duration;

/// Receives events.
pub trait Observer: Send + Sync + 'static {
    /// Called once per event.
    fn observe(&self, event: &Event<'_>);

    /// Called about every ten seconds, for summary lines.
    fn summarise(&self) {}
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was turned away before a session began.
    ConnectionRefused {
        /// The client's address.
        address: ClientAddress,
        /// The listener's name.
        listener: &'a str,
        /// The reply, if one was sent.
        reply: Option<&'a Reply>,
        /// Why.
        reason: &'a str,
    },
    /// A client closed before it sent anything, on a listener where it must send first: a health check, or a port scan.
    Silent {
        /// The client's address.
        address: ClientAddress,
        /// The listener's name.
        listener: &'a str,
    },
    /// A session began.
    Connected(&'a Client),
    /// A session ended.
    Disconnected {
        /// Whose.
        client: &'a Client,
        /// Messages that were accepted in it.
        messages: u32,
        /// How long it lasted.
        duration: Duration,
    },
    /// TLS was established.
    Encrypted(&'a Client),
    /// AUTH succeeded.
    Authenticated {
        /// The client.
        client: &'a Client,
        /// As whom.
        identity: &'a Identity,
    },
    /// AUTH failed.
    AuthenticationFailed {
        /// The client.
        client: &'a Client,
        /// The name that was tried.
        name: &'a str,
        /// What was replied.
        reply: &'a Reply,
        /// Why, if it was not simply wrong.
        detail: &'a str,
    },
    /// A command was refused.
    CommandRefused {
        /// The client.
        client: &'a Client,
        /// The transaction, if one is open.
        transaction: Option<TransactionId>,
        /// `MAIL`, `RCPT`, …; `?` for an unknown one.
        verb: &'a str,
        /// What was replied.
        reply: &'a Reply,
        /// The rule or limit that refused, if one did.
        rule: Option<&'a str>,
        /// The address in question.
        address: Option<&'a Mailbox>,
        /// Why exactly.
        detail: &'a str,
    },
    /// A message was accepted or refused, after its content was received.
    MessageEnded(&'a MessageRecord<'a>),
    /// A transaction whose MAIL was accepted ended without a decision about a message. For every accepted MAIL there is one of
    /// this or one of `MessageEnded`.
    TransactionEnded(&'a TransactionRecord<'a>),
    /// The session closed by itself: a time or a number is over its limit, or the service stops.
    SessionClosed {
        /// The client.
        client: &'a Client,
        /// The transaction that ends with it; a `TransactionEnded` with the same reply follows.
        transaction: Option<TransactionId>,
        /// The last command's verb; empty before the first.
        after: &'a str,
        /// What was replied.
        reply: &'a Reply,
    },
    /// Policy only reports, and would have refused.
    WouldRefuse {
        /// The client.
        client: &'a Client,
        /// The transaction.
        transaction: TransactionId,
        /// `MAIL`, `RCPT` or `DATA`.
        verb: &'a str,
        /// The application.
        app: Option<&'a str>,
        /// Rule, reply and reason.
        detail: &'a str,
    },
    /// The provider throttled an attempt, so the message was certainly not sent, and the relay tries again.
    TriedAgain {
        /// The provider's error code.
        code: &'static str,
    },
    /// The provider's throttling, or its end, changed the pace of all sending.
    PaceChanged {
        /// The change, in words.
        change: &'a str,
        /// Whether it is for the worse.
        slower: bool,
    },
    /// The account's quota was read.
    QuotaRead(&'a AccountQuota),
    /// The account's quota could not be read.
    QuotaUnknown {
        /// Why.
        error: &'a ReadError,
        /// What is done without it.
        detail: &'a str,
    },
    /// A limit was reached; the refusal that follows names it too.
    LimitHit {
        /// The name of the limit.
        limit: &'a str,
        /// The application, if it is known.
        app: Option<&'a str>,
    },
    /// Something that sending needs does not work. Sent once until it works again, and once more if the reason changes.
    Degraded {
        /// The applications that need it, if they are known; not all of many.
        apps: &'a [AppName],
        /// What is wrong, and what to do: one sentence.
        fault: &'a str,
    },
    /// It works again.
    Recovered {
        /// The applications that need it, if they are known; not all of many.
        apps: &'a [AppName],
        /// What was wrong.
        fault: &'a str,
        /// Whether it is unknown that it works: the application has sent nothing for a long time.
        expired: bool,
    },
    /// An attempt to send a message of the spool ended.
    AttemptEnded(&'a AttemptRecord<'a>),
    /// A message of the spool had an attempt in progress when the relay ended: it may have been sent.
    AttemptInterrupted {
        /// The message.
        id: QueueId,
        /// Its application.
        app: Option<&'a AppName>,
    },
    /// A message left the spool.
    QueueLeft(&'a QueueEndRecord<'a>),
    /// An operator changed something over the admin endpoint, or read the content of a message.
    Operated {
        /// The name of the token, or `socket`: a client of the Unix socket.
        operator: &'a str,
        /// Method, path and query of the request.
        action: &'a str,
        /// The status of the answer; 0: the client went away before it.
        status: u16,
    },
    /// Policy or limiter could not decide; the client was deferred.
    DecisionFailed {
        /// The client.
        client: &'a Client,
        /// What went wrong.
        detail: &'a str,
    },
}

/// The end of a transaction without a message.
#[derive(Debug)]
pub struct TransactionRecord<'a> {
    /// Our name for it.
    pub transaction: TransactionId,
    /// The client.
    pub client: &'a Client,
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// The application that policy recognised at MAIL.
    pub app: Option<&'a str>,
    /// Number of recipients that were accepted.
    pub recipients: usize,
    /// Octets of content received.
    pub octets: u64,
    /// The last verb that was decided in it: `MAIL`, `RCPT`, `DATA` or `BDAT`.
    pub after: &'a str,
    /// What ended it.
    pub why: &'a Abandonment,
}

/// Everything about one message's end; the log line is made from this.
#[derive(Debug)]
pub struct MessageRecord<'a> {
    /// Our name for it.
    pub transaction: TransactionId,
    /// The client.
    pub client: &'a Client,
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// The authors, if they could be read.
    pub authors: &'a [Author],
    /// The recipients.
    pub forward_paths: &'a [ForwardPath],
    /// The Message-ID field, as far as its first line can be read.
    pub message_id: Option<&'a str>,
    /// Octets of content, trace field included.
    pub octets: u64,
    /// The rule that accepted or refused it, if one did.
    pub rule: Option<&'a str>,
    /// The pattern and the statements of documents that permitted it, where policy names them.
    pub permitted_by: Option<&'a str>,
    /// The application that policy recognised.
    pub app: Option<&'a str>,
    /// The configuration set it was sent with.
    pub configuration_set: Option<&'a str>,
    /// The attempt, if there was one.
    pub outcome: Option<&'a Outcome>,
    /// What was replied.
    pub reply: &'a Reply,
    /// Why exactly, if it was refused here.
    pub detail: &'a str,
    /// From the end of data to the reply.
    pub latency: Duration,
    /// How long the provider took, if it was asked.
    pub attempt: Option<Duration>,
}

/// One attempt to send a message of the spool, or a part of it.
#[derive(Debug)]
pub struct AttemptRecord<'a> {
    /// The message.
    pub id: QueueId,
    /// Its application.
    pub app: Option<&'a AppName>,
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// The recipients of this attempt.
    pub forward_paths: &'a [ForwardPath],
    /// Octets of content.
    pub octets: u64,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// What follows: `sent`, `deferred`, `held`, `rejected` or `expired`.
    pub next: &'static str,
    /// The wait before the next attempt, if there is one.
    pub wait: Option<Duration>,
    /// Since the message was accepted.
    pub age: Duration,
    /// How long the provider took.
    pub duration: Duration,
}

/// The end of a message of the spool.
#[derive(Debug)]
pub struct QueueEndRecord<'a> {
    /// The message.
    pub id: QueueId,
    /// Its application.
    pub app: Option<&'a AppName>,
    /// Octets of content.
    pub octets: u64,
    /// `sent`, `rejected`, `expired`, `damaged` or `removed`.
    pub status: &'static str,
    /// Attempts.
    pub attempts: u32,
    /// Since it was accepted.
    pub age: Duration,
}

/// Two observers that receive the same events.
#[derive(Debug)]
pub struct Tee<A, B>(pub A, pub B);

impl<A: Observer, B: Observer> Observer for Tee<A, B> {
    fn observe(&self, event: &Event<'_>) {
        self.0.observe(event);
        self.1.observe(event);
    }

    fn summarise(&self) {
        self.0.summarise();
        self.1.summarise();
    }
}

impl<T: Observer + ?Sized> Observer for std::sync::Arc<T> {
    fn observe(&self, event: &Event<'_>) {
        (**self).observe(event);
    }

    fn summarise(&self) {
        (**self).summarise();
    }
}

/// Ignores events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn observe(&self, _event: &Event<'_>) {}
}
