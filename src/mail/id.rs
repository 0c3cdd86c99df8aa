//! Names that we give: to a session, and to each mail transaction in it.
//!
//! The same id stands in the trace field, in refusals (`ref …`) and in every log line, so that one search finds all three.
//! Unique, not secret.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One connection from greeting to close: 13 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

/// The n-th mail transaction of a session, counted from 1: `session-n`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId {
    session: SessionId,
    number: u32,
}

impl SessionId {
    /// A new id: a counter under a hash that is keyed once per process.
    pub fn fresh() -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(KEY.get_or_init(RandomState::new).hash_one(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The id of this session's transaction with that number.
    pub fn transaction(self, number: u32) -> TransactionId {
        TransactionId { session: self, number }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut text = [0; 13];
        for (place, digit) in (0..13).rev().zip(&mut text) {
            *digit = DIGITS[(self.0 >> (place * 5)) as usize & 31];
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
