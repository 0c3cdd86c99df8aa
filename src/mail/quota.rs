//! What the provider lets an account send.

use std::fmt;

/// The account's quota. Rate and 24 hours count recipients, not messages.
/// SES API v2, "SendQuota"; guide, "Service quotas in Amazon SES".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccountQuota {
    /// Recipients a second.
    pub recipients_per_second_max: f64,
    /// Recipients in any 24 hours; `None`: unlimited.
    pub recipients_per_24_hours_max: Option<f64>,
    /// Recipients in the last 24 hours.
    pub recipients_last_24_hours: f64,
    /// Whether the account may send at all now.
    pub sending_enabled: bool,
}

/// The fault where [`AccountQuota::sending_enabled`] is false; SES says no more.
pub const SENDING_PAUSED: &str =
    "SES refuses to send: sending is paused for the account; see the account dashboard of the SES console";

impl fmt::Display for AccountQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recipients_per_second_max: rate, recipients_last_24_hours: sent, .. } = self;
        match self.recipients_per_24_hours_max {
            Some(most) => write!(f, "{rate} recipients/s, {sent} of {most} recipients in 24 h"),
            None => write!(f, "{rate} recipients/s, {sent} recipients in 24 h"),
        }
    }
}

/// Why a question about the account was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The provider has no such thing, or the transport cannot ask.
    #[error("this transport cannot ask")]
    Unsupported,
    /// We may not ask: the operator's to mend, or to leave so. Nothing is known about sending.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// Sending cannot work either: no credentials, no connection. One sentence: what is wrong, and what to do.
    #[error("{0}")]
    Fault(String),
    /// What was asked for does not exist, or is switched off. One sentence.
    #[error("{0}")]
    Missing(String),
    /// No answer, or none that can be read. Nothing is known about sending.
    #[error("{0}")]
    Unavailable(String),
}
