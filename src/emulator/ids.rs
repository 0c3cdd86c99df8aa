//! Generates ids of messages and requests, in the format of SES.
//!
//! A message id looks like `0107017033dbb64d-be13a01e-dbf1-44b7-b876-3622165dacc1-000000`: a prefix, milliseconds since
//! 1970, a UUID. The first half of the UUID is random and chosen once per emulator, the second is a counter, so ids are
//! unique without a random number for each.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

#[derive(Debug)]
pub(super) struct Ids {
    drawn: u64,
    count: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        let mut octets = [0; 8];
        // Without randomness ids are still unique within the process.
        let _ = aws_lc_rs::rand::fill(&mut octets);
        Self { drawn: u64::from_be_bytes(octets), count: AtomicU64::new(1) }
    }

    pub(super) fn message_id(&self, now: Timestamp) -> String {
        format!("0100{:012x}-{}-000000", now.as_millisecond().max(0), self.request_id())
    }

    pub(super) fn request_id(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.drawn >> 32, self.drawn & 0xffff_ffff);
        format!(
            "{high:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            low >> 16,
            low & 0xfff,
            (count >> 48) & 0xfff,
            count & 0xffff_ffff_ffff
        )
    }
}
