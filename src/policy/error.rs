//! Errors in applications and IAM documents.

use crate::mail::parameters::AppName;

/// Why a policy cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppPolicyError {
    /// IAM documents contain ARNs, and the account is not known.
    #[error("IAM documents need the account, region and partition that their ARNs are of")]
    NoAccount,
    /// A condition on a key that has no value for SMTP. Any decision would be a guess.
    #[error("{place}: condition key {key} has no value here; supported keys are {known}")]
    UnknownKey {
        /// Document and statement.
        place: String,
        /// The key.
        key: String,
        /// The keys that have a value.
        known: String,
    },
    /// A condition on recipients without `ForAllValues` or `ForAnyValue`. AWS does not document which it applies.
    #[error(
        "{place}: {operator} on ses:Recipients, which has many values; write ForAllValues: or ForAnyValue: before it"
    )]
    ManyValues {
        /// Document and statement.
        place: String,
        /// The operator.
        operator: String,
    },
    /// An application that no client can match.
    #[error("application {0} has no certificate, AUTH name, network or listener by which it is recognised")]
    NotRecognised(AppName),
}
