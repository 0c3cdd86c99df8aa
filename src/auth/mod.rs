//! Authentication: the interface between the relay and a user store.
//!
//! [`Users`] is the built-in store of names and password hashes.

mod hash;
mod users;

pub use hash::{HashError, PasswordHash};
pub use users::{Users, UsersSettings};

use crate::mail::{Credentials, Identity};
use async_trait::async_trait;

/// A verifier of names and passwords.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Verifies credentials. An unknown name must take the same time as a wrong password. The future is dropped if the relay
    /// cuts its connections.
    async fn authenticate(&self, credentials: &Credentials) -> Result<AuthDecision, AuthError>;

    /// Whether it still accepts this identity. Asked at each MAIL of a session that authenticated as it, because the users may have changed
    /// since.
    fn knows(&self, _identity: &Identity) -> bool {
        true
    }

    /// The octets of memory that all verifications together hold at a time, at most. The relay sets them aside from its
    /// budget.
    fn octets_held_max(&self) -> u64 {
        0
    }
}

/// The decision of an authenticator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthDecision {
    /// It is this identity.
    Accept(Identity),
    /// Unknown name or wrong password. The client is not told which.
    Reject,
}

/// Could not verify: 454 4.7.0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The maximum number of verifications is waiting.
    #[error("too many verifications at once")]
    Busy,
    /// The user store did not answer.
    #[error("user store is unavailable: {0}")]
    Unavailable(String),
}
