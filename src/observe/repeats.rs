//! Log lines that one client causes repeatedly: the first few are written, the others are counted.
//!
//! Of each kind of line and each client address (of IPv6: each /64), the first [`LINES_MAX`] of an interval are written; at
//! its end one line says how many more there were. Metrics count everything, and at level debug every line is written.
//! The table is bounded: clients over the bound share one count per kind.

use crate::mail::ClientAddress;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one kind and one client that are written in an interval.
const LINES_MAX: u32 = 10;
/// How long lines are counted together.
const INTERVAL: Duration = Duration::from_secs(60);
/// Kinds and clients that are counted separately.
const CLIENTS_MAX: usize = 1_000;

/// The kind of the lines.
pub(super) type Kind = &'static str;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<(Kind, CountedClient), Count>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CountedClient {
    Client(IpAddr),
    /// Unix sockets, and addresses that are not known.
    Local,
    /// Clients beyond the size of the table.
    Others,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    written: u32,
    more: u64,
}

/// Lines that were not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) kind: Kind,
    /// The client address; empty for a Unix socket, `others` beyond the size of the table.
    pub(super) client: String,
    pub(super) lines: u64,
    pub(super) seconds: u64,
}

impl Repeats {
    /// Whether this line is written; it is counted if not.
    pub(super) fn admit(&self, kind: Kind, client: ClientAddress, now: Instant) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (kind, who(client));
        if counts.len() >= CLIENTS_MAX && !counts.contains_key(&key) {
            counts.retain(|_, count| count.more > 0 || !count.is_over(now));
            if counts.len() >= CLIENTS_MAX {
                key.1 = CountedClient::Others;
            }
        }
        let count = counts.entry(key).or_insert(Count { since: now, written: 0, more: 0 });
        // The count of the previous interval stays until it is reported.
        if count.is_over(now) && count.more == 0 {
            *count = Count { since: now, written: 0, more: 0 };
        }
        let write = count.written < LINES_MAX;
        match write {
            true => count.written += 1,
            false => count.more += 1,
        }
        write
    }

    /// The summaries of intervals that have ended; with `all`, of the others too.
    pub(super) fn summaries(&self, now: Instant, all: bool) -> Vec<Summary> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summaries = Vec::new();
        counts.retain(|(kind, who), count| {
            if !all && !count.is_over(now) {
                return true;
            }
            if count.more > 0 {
                let client = match who {
                    CountedClient::Client(address) => address.to_string(),
                    CountedClient::Local => String::new(),
                    CountedClient::Others => "others".to_owned(),
                };
                let seconds = now.saturating_duration_since(count.since).as_secs();
                summaries.push(Summary { kind, client, lines: count.more, seconds });
            }
            false
        });
        summaries
    }
}

impl Count {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= INTERVAL
    }
}

fn who(client: ClientAddress) -> CountedClient {
    match client {
        ClientAddress::Ip(address) => match address.ip() {
            IpAddr::V6(address) => {
                CountedClient::Client(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into())
            }
            address => CountedClient::Client(address),
        },
        ClientAddress::Unix | ClientAddress::Unknown => CountedClient::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Clock, SystemClock};

    fn client(number: u32) -> ClientAddress {
        ClientAddress::Ip((IpAddr::from(number.to_be_bytes()), 25).into())
    }

    /// There was a line for each of 100,000 refusals.
    #[test]
    fn of_many_lines_of_one_client_the_first_few_are_written_and_the_rest_is_told_once() {
        let (repeats, now) = (Repeats::default(), SystemClock.now());
        let written = (0..100_000).filter(|_| repeats.admit("refused", client(1), now)).count();
        assert_eq!(written, 10);
        assert!(repeats.admit("other", client(1), now) && repeats.admit("refused", client(2), now));
        assert!(repeats.summaries(now, false).is_empty());
        let later = now + INTERVAL;
        let want = Summary { kind: "refused", client: "0.0.0.1".to_owned(), lines: 99_990, seconds: 60 };
        assert_eq!(repeats.summaries(later, false), [want]);
        assert!(repeats.summaries(later, true).is_empty() && repeats.admit("refused", client(1), later));
    }

    #[test]
    fn the_table_is_bounded_and_every_line_is_written_or_told() {
        let (repeats, now) = (Repeats::default(), SystemClock.now());
        let written = (0..5_000).filter(|number| repeats.admit("refused", client(*number), now)).count();
        assert!(repeats.0.lock().unwrap().len() <= CLIENTS_MAX + 1);
        let summaries = repeats.summaries(now, true);
        let told: u64 = summaries.iter().map(|summary| summary.lines).sum();
        assert_eq!(written as u64 + told, 5_000);
        assert_eq!(summaries[0].client, "others");
    }
}
