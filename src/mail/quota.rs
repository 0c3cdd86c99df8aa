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

impl fmt::Display for AccountQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recipients_per_second_max: rate, recipients_last_24_hours: sent, .. } = self;
        match self.recipients_per_24_hours_max {
            Some(most) => write!(f, "{rate} recipients/s, {sent} of {most} recipients in 24 h"),
            None => write!(f, "{rate} recipients/s, {sent} recipients in 24 h"),
        }
    }
}

/// Why the quota is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The provider has no such thing, or the transport cannot ask.
    #[error("this transport does not tell a quota")]
    Unsupported,
    /// We may not ask: the operator's to mend, or to leave so.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// Nobody answered, or not in words that can be read.
    #[error("{0}")]
    Unavailable(String),
}
