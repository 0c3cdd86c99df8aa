//! How often, how fast? The seam between the relay and whoever counts.
//!
//! A [`Limiter`] is asked after policy said yes, once per MAIL, once per RCPT and once at end of data, and takes what the
//! step costs: all of it or nothing. What was taken can be given back, when the transaction ends without a message or the
//! message was definitely not sent. Keys derive from the facts that policy matched, never from what a client says of
//! itself. [`LocalLimiter`] counts in this process; [`Unlimited`] counts nothing.

mod local;
mod rule;
mod store;

pub use local::LocalLimiter;
pub use rule::{By, LimitRule, Measure, OverLimit, RuleError, Window};

use crate::mail::{Client, ForwardPath, Granted, Mailbox, Reply, ReversePath, RuleName};
use async_trait::async_trait;
use std::any::Any;
use std::time::Duration;

/// A keeper of rates and quotas.
#[async_trait]
pub trait Limiter: Send + Sync + 'static {
    /// Takes what a step costs from every limit that it touches, or from none.
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError>;

    /// Gives back what a step took.
    async fn give_back(&self, ticket: Ticket);

    /// Which limits a step would touch and how much of each is left, without taking anything.
    async fn look(&self, step: &LimitStep<'_>) -> Result<Vec<LimitView>, LimitError>;
}

/// A step of a transaction, with what it costs and what keys can be made of.
#[derive(Clone, Copy, Debug)]
pub struct LimitStep<'a> {
    /// Who is connected.
    pub client: &'a Client,
    /// What policy granted: the application, and the rule.
    pub granted: &'a Granted,
    /// The reverse-path, as policy accepted it.
    pub reverse_path: &'a ReversePath,
    /// Which step.
    pub stage: LimitStage<'a>,
}

/// The three places where limits count.
#[derive(Clone, Copy, Debug)]
pub enum LimitStage<'a> {
    /// MAIL: one message.
    Mail {
        /// `SIZE=`, if the client said it: a message that can never fit is refused before its content comes.
        declared_octets: Option<u64>,
    },
    /// RCPT: one recipient.
    Rcpt(&'a ForwardPath),
    /// End of data.
    Message {
        /// The first author.
        author: &'a Mailbox,
        /// Octets of the message.
        octets: u64,
        /// Number of recipients.
        recipients: usize,
    },
}

/// A limiter's answer.
#[derive(Debug)]
pub enum LimitDecision {
    /// There was room, and it is taken.
    Taken(Ticket),
    /// There is none.
    Over {
        /// The limit, for operators: log field and metric label.
        limit: RuleName,
        /// For the peer: 4yz, or 5yz for what can never pass.
        reply: Reply,
        /// When trying again makes sense, if that is known.
        wait: Option<Duration>,
    },
}

/// What a step took: whatever the limiter needs to give it back.
#[derive(Debug, Default)]
pub struct Ticket(Option<Box<dyn Any + Send + Sync>>);

impl Ticket {
    /// A ticket that carries the limiter's own note.
    pub fn new(note: impl Any + Send + Sync) -> Self {
        Self(Some(Box::new(note)))
    }

    /// The note, if it is of that type.
    pub fn into_note<T: Any>(self) -> Option<T> {
        self.0?.downcast().ok().map(|note| *note)
    }
}

/// One limit, as `look` sees it.
#[derive(Clone, Debug)]
pub struct LimitView {
    /// Its name.
    pub limit: RuleName,
    /// How much is left now.
    pub left: u64,
    /// How much there can be at most.
    pub capacity: u64,
}

/// The limiter could not answer. The relay defers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Its store did not answer.
    #[error("limiter is unavailable: {0}")]
    Unavailable(String),
}

/// Counts nothing, refuses nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

#[async_trait]
impl Limiter for Unlimited {
    async fn take(&self, _step: &LimitStep<'_>) -> Result<LimitDecision, LimitError> {
        Ok(LimitDecision::Taken(Ticket::default()))
    }

    async fn give_back(&self, _ticket: Ticket) {}

    async fn look(&self, _step: &LimitStep<'_>) -> Result<Vec<LimitView>, LimitError> {
        Ok(Vec::new())
    }
}
