//! Why applications and documents make no policy.

use crate::mail::parameters::AppName;

/// Why a policy cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppPolicyError {
    /// IAM documents contain ARNs, and the account is not known.
    #[error("IAM documents need the account, region and partition that their ARNs are of")]
    NoAccount,
    /// A condition on a key that has no meaning for SMTP: any decision would be a guess.
    #[error("{place}: condition key {key} has no meaning here; known are {known}")]
    UnknownKey {
        /// Document and statement.
        place: String,
        /// The key.
        key: String,
        /// The keys that have one.
        known: String,
    },
    /// A condition on all recipients that does not say whether all or any must fit; AWS does not document which it takes.
    #[error(
        "{place}: {operator} on ses:Recipients, which has many values; write ForAllValues: or ForAnyValue: before it"
    )]
    ManyValues {
        /// Document and statement.
        place: String,
        /// The operator.
        operator: String,
    },
    /// An application that could never be recognised.
    #[error("application {0} says nothing about how it is recognised")]
    NotRecognised(AppName),
}
