//! Rate limits and quotas, and the pace of all sending.
//!
//! The relay calls a [`Limiter`] after policy accepted: once per MAIL, once per RCPT and once at end of data. A call
//! takes what the step costs from all limits or from none. The amounts are returned if the transaction ends without a
//! message, or if the message was certainly not sent. Keys derive from the facts that policy matched, never from claims
//! of the client. [`LocalLimiter`] counts in this process. [`Unlimited`] counts nothing. With the feature `redis`,
//! `RedisLimiter` counts for several relays together.

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

pub(crate) use gcra::Debt;
pub use local::LocalLimiter;
pub use lockout::LockoutSettings;
#[cfg(feature = "admin")]
pub(crate) use lockout::{LockedOut, LockoutEffect};
pub(crate) use lockout::{Lockout, LoginStatus};
pub use pacer::PaceSettings;
pub(crate) use pacer::{PaceChange, PaceDecision, Pacer, PacerPermit};
pub use quota_journal::StateError;
#[cfg(feature = "redis")]
pub use redis::{OnRedisError, RedisConnection, RedisError, RedisLimiter, RedisSettings, RedisTokenBucket, RedisUrl};
pub use rule::{LimitKey, LimitRule, Measure, OnExceeded, Period, Quota, Rate, RuleError, Window};
pub(crate) use token_bucket::LocalTokenBucket;
pub use token_bucket::{TokenBucket, TokenRate};

use crate::mail::parameters::AppName;
use crate::mail::{Client, ForwardPath, Granted, Mailbox, Reply, ReversePath, RuleName};
use async_trait::async_trait;
use std::any::Any;
use std::time::Duration;

/// Counts rates and quotas.
#[async_trait]
pub trait Limiter: Send + Sync + 'static {
    /// Takes what a step costs from every limit that applies, or from none. The future is dropped at the deadline of a message, and
    /// if the relay cuts its connections; what it took until then is not returned.
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError>;

    /// Takes for several steps, each on its own. A client that pipelines RCPT has sent all of them already, so a
    /// limiter with a remote store can use one round trip.
    async fn take_each(&self, steps: &[LimitStep<'_>]) -> Vec<Result<LimitDecision, LimitError>> {
        let mut decisions = Vec::with_capacity(steps.len());
        for step in steps {
            decisions.push(self.take(step).await);
        }
        decisions
    }

    /// Whether a call needs a network round trip. The caller then passes steps that are known together to
    /// [`Self::take_each`].
    fn is_distant(&self) -> bool {
        false
    }

    /// Returns what a step took.
    async fn give_back(&self, reservation: Reservation);

    /// Called when a change of the configuration puts this limiter in force, in place of another one.
    fn put_in_force(&self) {}

    /// Which limits apply to a step and how much of each remains. Takes nothing.
    async fn peek(&self, step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError>;

    /// How full the limits are, for metrics: those that count all messages of one of these applications, and those that
    /// count all messages of the relay. At most [`STANDINGS_MAX`] windows. Empty if it is not known now.
    async fn standings(&self, _apps: &[AppName]) -> Vec<LimitStanding> {
        Vec::new()
    }
}

#[async_trait]
impl<T: Limiter + ?Sized> Limiter for std::sync::Arc<T> {
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError> {
        (**self).take(step).await
    }

    async fn take_each(&self, steps: &[LimitStep<'_>]) -> Vec<Result<LimitDecision, LimitError>> {
        (**self).take_each(steps).await
    }

    fn is_distant(&self) -> bool {
        (**self).is_distant()
    }

    async fn give_back(&self, reservation: Reservation) {
        (**self).give_back(reservation).await;
    }

    fn put_in_force(&self) {
        (**self).put_in_force();
    }

    async fn peek(&self, step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError> {
        (**self).peek(step).await
    }

    async fn standings(&self, apps: &[AppName]) -> Vec<LimitStanding> {
        (**self).standings(apps).await
    }
}

/// The most windows that [`Limiter::standings`] returns.
pub const STANDINGS_MAX: usize = 2_000;

/// How full one window of a limit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStanding {
    /// The limit's name.
    pub limit: RuleName,
    /// The application, if the limit counts each one separately.
    pub app: Option<AppName>,
    /// The window.
    pub window: Window,
    /// The remaining amount.
    pub left: u64,
}

impl LimitStanding {
    /// The used amount.
    pub fn used(&self) -> u64 {
        u64::from(self.window.capacity().get()).saturating_sub(self.left)
    }
}

/// A step of a transaction: the facts from which its cost and keys derive.
#[derive(Clone, Copy, Debug)]
pub struct LimitStep<'a> {
    /// The client.
    pub client: &'a Client,
    /// What policy granted: application and rule.
    pub granted: &'a Granted,
    /// The reverse-path, as policy accepted it.
    pub reverse_path: &'a ReversePath,
    /// The command or phase.
    pub stage: LimitStage<'a>,
}

/// The three stages at which limits count.
#[derive(Clone, Copy, Debug)]
pub enum LimitStage<'a> {
    /// MAIL: one message.
    Mail,
    /// The `SIZE=` of MAIL: octets that the client announces. Only checked, so that a message which would be refused at
    /// the end of data is not transferred.
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

/// The decision of a limiter.
#[derive(Debug)]
pub enum LimitDecision {
    /// The step is within all limits, and its cost is taken.
    Taken(Reservation),
    /// A limit is exceeded, and nothing is taken.
    Over {
        /// The limit's name, for the log field and metric label.
        limit: RuleName,
        /// The reply for the client: 4yz, or 5yz for a step that can never pass.
        reply: Reply,
        /// When a retry can succeed, if known.
        wait: Option<Duration>,
    },
}

/// The result of taking a part of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a part that was not granted must not be used"]
pub enum Take {
    /// The amount is taken.
    Granted,
    /// Nothing is taken; after this time there may be capacity.
    RetryAfter(Duration),
    /// Nothing is taken, and a retry cannot succeed: the amount is larger than the burst.
    NeverFits,
}

/// What a step took, in the form that the limiter needs to return it.
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
    /// A reservation with the limiter's own data.
    pub fn new(note: impl Any + Send + Sync) -> Self {
        Self(Note::Other(Box::new(note)))
    }

    /// The data, if it has that type.
    pub fn into_data<T: Any>(self) -> Option<T> {
        match self.0 {
            Note::Other(note) => note.downcast().ok().map(|note| *note),
            Note::Nothing | Note::Charges(_) => None,
        }
    }

    /// The limiters of this module need no allocation.
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

/// One window of a limit, as [`Limiter::peek`] returns it.
#[derive(Clone, Debug)]
pub struct LimitStatus {
    /// The limit's name.
    pub limit: RuleName,
    /// The window.
    pub window: Window,
    /// An opaque key. Two values with the same limit, window and key are of one count.
    pub key: u64,
    /// The remaining amount.
    pub left: u64,
    /// The amount that the step would take.
    pub needs: u64,
    /// The reply if less than `needs` remains.
    pub over: Reply,
}

/// The limiter could not decide. The relay defers the command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The store of the limiter did not answer.
    #[error("limiter is unavailable: {0}")]
    Unavailable(String),
}

/// Counts nothing and refuses nothing.
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
