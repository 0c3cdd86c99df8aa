//! Ids of sessions and of their mail transactions.
//!
//! The same id is in the trace field, in refusals (`ref …`) and in every log line, so that one search finds all of
//! them. Ids are unique, but not secret.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The id of one connection from greeting to close: 13 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

/// The id of the n-th mail transaction of a session, counted from 1: `session-n`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId {
    session: SessionId,
    number: u32,
}

impl SessionId {
    /// A new id: a counter, hashed with a key that is chosen once per process.
    pub fn fresh() -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(KEY.get_or_init(RandomState::new).hash_one(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The id of a transaction of this session, by its number.
    pub fn transaction(self, number: u32) -> TransactionId {
        TransactionId { session: self, number }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut text = [0; 13];
        for (index, digit) in (0..13).rev().zip(&mut text) {
            *digit = DIGITS[(self.0 >> (index * 5)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.session, self.number)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
