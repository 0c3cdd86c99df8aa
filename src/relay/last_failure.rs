//! The last failed login of a connection.

use crate::mail::Credentials;
use std::hash::{BuildHasher, RandomState};

/// Recognises the same credentials again: clients try a password with PLAIN and then with LOGIN, which is one failure. Stores
/// a keyed hash only.
#[derive(Debug, Default)]
pub(super) struct LastFailure {
    hasher: RandomState,
    hash: Option<u64>,
}

impl LastFailure {
    pub(super) fn hash(&self, credentials: &Credentials) -> u64 {
        self.hasher.hash_one((&credentials.name, credentials.password.expose()))
    }

    pub(super) fn is(&self, hash: u64) -> bool {
        self.hash == Some(hash)
    }

    pub(super) fn set(&mut self, hash: u64) {
        self.hash = Some(hash);
    }
}
