//! How often, how fast? The seam between the relay and whoever counts.
//!
//! A [`Limiter`] is asked after policy said yes, once per MAIL, once per RCPT and once at end of data, and takes what the
//! step costs: all of it or nothing. What was taken can be given back, when the transaction ends without a message or the
//! message was definitely not sent. Keys derive from the facts that policy matched, never from what a client says of
//! itself. [`LocalLimiter`] counts in this process; [`Unlimited`] counts nothing; with the feature `redis`, `RedisLimiter`
//! counts for a fleet.

mod at_once;
mod calendar;
mod gcra;
mod gcra_store;
mod learned;
mod local;
mod lockout;
mod matching;
mod pacer;
mod quota_journal;
mod rate;
#[cfg(feature = "redis")]
mod redis;
mod rule;
mod token_bucket;

pub use at_once::Verification;
pub use gcra::Debt;
pub use local::LocalLimiter;
pub use lockout::{Lockout, LockoutSettings, LoginStatus};
pub use pacer::{PaceChange, PaceDecision, PaceSettings, PaceView, Pacer, PacerPermit};
pub use quota_journal::StateError;
#[cfg(feature = "redis")]
pub use redis::{OnRedisError, RedisConnection, RedisError, RedisLimiter, RedisSettings, RedisTokenBucket, RedisUrl};
pub use rule::{LimitKey, LimitRule, Measure, OnExceeded, Period, Quota, Rate, RuleError, Window};
pub use token_bucket::{LocalTokenBucket, TokenBucket, TokenRate};

use crate::mail::parameters::AppName;
use crate::mail::{Client, ForwardPath, Granted, Mailbox, Reply, ReversePath, RuleName};
use async_trait::async_trait;
use std::any::Any;
use std::time::Duration;

/// A keeper of rates and quotas.
#[async_trait]
pub trait Limiter: Send + Sync + 'static {
    /// Takes what a step costs from every limit that it touches, or from none.
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError>;

    /// The same for several steps at once, each by itself: a client that pipelines RCPT has said them all already. A
    /// limiter whose store is far away asks it once.
    async fn take_each(&self, steps: &[LimitStep<'_>]) -> Vec<Result<LimitDecision, LimitError>> {
        let mut decisions = Vec::with_capacity(steps.len());
        for step in steps {
            decisions.push(self.take(step).await);
        }
        decisions
    }

    /// Whether an answer takes a way through the network: then steps that are known together are asked together.
    fn is_distant(&self) -> bool {
        false
    }

    /// Gives back what a step took.
    async fn give_back(&self, ticket: Reservation);

    /// Which limits a step would touch and how much of each is left, without taking anything.
    async fn peek(&self, step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError>;

    /// How full the limits are that count all messages of an application, for these applications, and those that count all
    /// messages; [`STANDINGS_MAX`] of them at most. For metrics. None where that is not known now.
    async fn standings(&self, _apps: &[AppName]) -> Vec<LimitStanding> {
        Vec::new()
    }
}

/// Windows that [`Limiter::standings`] tells of.
pub const STANDINGS_MAX: usize = 2_000;

/// How full one window of a limit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStanding {
    /// The limit's name.
    pub limit: RuleName,
    /// The application, where each has a count of its own.
    pub app: Option<AppName>,
    /// Which of its windows.
    pub window: Window,
    /// How much is left now.
    pub left: u64,
}

impl LimitStanding {
    /// How much is used now.
    pub fn used(&self) -> u64 {
        u64::from(self.window.capacity().get()).saturating_sub(self.left)
    }
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
    Mail,
    /// `SIZE=` of MAIL: octets that the client says will come. Only looked at, so that what would be refused at the end need
    /// not be uploaded.
    Declared(u64),
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
    Taken(Reservation),
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

/// The result of asking for a part of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a part that was not granted must not be used"]
pub enum Take {
    /// It is taken.
    Granted,
    /// Nothing is taken; after that time there may be enough.
    RetryAfter(Duration),
    /// Nothing is taken, and there will never be enough: it is more than the burst.
    NeverFits,
}

/// What a step took: whatever the limiter needs to give it back.
#[derive(Debug, Default)]
pub struct Reservation(Note);

#[derive(Debug, Default)]
enum Note {
    #[default]
    Nothing,
    Charges(matching::Charges),
    Other(Box<dyn Any + Send + Sync>),
}

impl Reservation {
    /// A ticket that carries the limiter's own note.
    pub fn new(note: impl Any + Send + Sync) -> Self {
        Self(Note::Other(Box::new(note)))
    }

    /// The note, if it is of that type.
    pub fn into_note<T: Any>(self) -> Option<T> {
        match self.0 {
            Note::Other(note) => note.downcast().ok().map(|note| *note),
            Note::Nothing | Note::Charges(_) => None,
        }
    }

    /// The limiters of this room need no allocation for theirs.
    fn of(charges: matching::Charges) -> Self {
        Self(Note::Charges(charges))
    }

    fn into_charges(self) -> Option<matching::Charges> {
        match self.0 {
            Note::Charges(charges) => Some(charges),
            Note::Nothing | Note::Other(_) => None,
        }
    }
}

/// One window of a limit, as `look` sees it.
#[derive(Clone, Debug)]
pub struct LimitStatus {
    /// The limit's name.
    pub limit: RuleName,
    /// Which of its windows.
    pub window: Window,
    /// Whose count; an opaque word. Views with the same limit, window and key count together.
    pub key: u64,
    /// How much is left now.
    pub left: u64,
    /// How much the step would take.
    pub needs: u64,
    /// What would be replied if that is not there.
    pub over: Reply,
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
        Ok(LimitDecision::Taken(Reservation::default()))
    }

    async fn give_back(&self, _ticket: Reservation) {}

    async fn peek(&self, _step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError> {
        Ok(Vec::new())
    }
}
