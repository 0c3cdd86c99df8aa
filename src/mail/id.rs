//! Ids of sessions and of their mail transactions.
//!
//! The same id is in the trace field, in refusals (`ref …`) and in every log line, so that one search finds all of
//! them. Ids are unique, but not secret.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The id of one connection from greeting to close: 13 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

/// The id of the n-th mail transaction of a session, counted from 1: `session-n`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId {
    session: SessionId,
    number: u32,
}

/// The id of a message in the spool: that of the transaction in which it was accepted, so that one search finds the
/// trace field, the 250, every attempt and the end of the message. The order of ids means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(TransactionId);

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SESSION_DIGITS: usize = 13;

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

impl TransactionId {
    /// Reads `session-n`, as it is displayed.
    pub fn parse(text: &str) -> Option<Self> {
        let (session, number) = text.split_once('-')?;
        let digit = |octet: u8| DIGITS.iter().position(|digit| *digit == octet.to_ascii_uppercase());
        let mut value = 0_u64;
        for octet in session.bytes() {
            value = value.checked_mul(32)?.checked_add(digit(octet)? as u64)?;
        }
        let plain = session.len() == SESSION_DIGITS && number.bytes().all(|octet| octet.is_ascii_digit());
        let number = number.parse().ok().filter(|_| plain)?;
        Some(Self { session: SessionId(value), number })
    }
}

impl QueueId {
    /// The id of the message that was accepted in this transaction.
    pub fn of(transaction: TransactionId) -> Self {
        Self(transaction)
    }

    /// The transaction in which the message was accepted.
    pub fn transaction(self) -> TransactionId {
        self.0
    }

    /// Reads an id as it is displayed.
    pub fn parse(text: &str) -> Option<Self> {
        TransactionId::parse(text).map(Self)
    }

    /// The id as two numbers: for storage.
    pub(crate) fn to_numbers(self) -> (u64, u32) {
        (self.0.session.0, self.0.number)
    }

    /// The id of two numbers from [`to_numbers`](Self::to_numbers).
    pub(crate) fn from_numbers(session: u64, number: u32) -> Self {
        Self(TransactionId { session: SessionId(session), number })
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; SESSION_DIGITS];
        for (index, digit) in (0..SESSION_DIGITS).rev().zip(&mut text) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_displayed() {
        for (session, number) in [(0, 1), (u64::MAX, u32::MAX), (0x0123_4567_89AB_CDEF, 7)] {
            let id = QueueId::from_numbers(session, number);
            assert_eq!(QueueId::parse(&id.to_string()), Some(id));
            assert_eq!(id.to_numbers(), (session, number));
        }
        for text in ["", "-", "0-1", "0000000000000-", "000000000000U-1", "ZZZZZZZZZZZZZ-1", "0000000000000-+1"] {
            assert_eq!(QueueId::parse(text), None, "{text}");
        }
    }
}
