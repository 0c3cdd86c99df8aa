//! The sending quota of an account.

use std::fmt;

/// The account's quota. Rate and 24 hours count recipients, not messages.
/// SES API v2, "SendQuota"; guide, "Service quotas in Amazon SES".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccountQuota {
    /// Recipients per second.
    pub recipients_per_second_max: f64,
    /// Recipients in any 24 hours; `None`: unlimited.
    pub recipients_per_24_hours_max: Option<f64>,
    /// Recipients in the last 24 hours.
    pub recipients_last_24_hours: f64,
    /// Whether the account may send at the moment.
    pub sending_enabled: bool,
}

/// The fault if [`AccountQuota::sending_enabled`] is false; SES gives no reason.
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

/// Why the state of the account could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The provider does not offer it, or the transport cannot read it.
    #[error("this transport cannot ask")]
    Unsupported,
    /// The credentials lack the permission. The operator may add it or not. Sending may still work.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// Sending does not work either: no credentials, no connection. One sentence with the cause and what to do.
    #[error("{0}")]
    Fault(String),
    /// The resource does not exist, or is disabled. One sentence.
    #[error("{0}")]
    Missing(String),
    /// No answer, or an invalid one. Sending may still work.
    #[error("{0}")]
    Unavailable(String),
}
