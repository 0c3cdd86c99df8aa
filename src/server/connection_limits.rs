//! Limits on connections: in total, from one client, and of clients that are not recognised.
//!
//! A client is recognised when policy accepts its MAIL or a login succeeds. Clients that are not recognised may use only a part
//! of the connections, so that they do not keep out recognised ones. A client whose address was recognised within a day counts
//! as recognised. When that part or the total is used up, the oldest connection that is not recognised is closed for a new one, if it is
//! at least 5 seconds old.

use crate::mail::{ClientAddress, ConnectionCounter, CountedConnection};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The limits and the counts. Clones share the counts.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    maxima: Arc<Maxima>,
    by_client: ConnectionCounter<IpNet>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug)]
struct Maxima {
    total: AtomicUsize,
    unrecognised: AtomicUsize,
    per_client: AtomicUsize,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    /// Connections that are not recognised, oldest first.
    unrecognised: BTreeMap<u64, Unrecognised>,
    last_key: u64,
    /// Addresses that were recognised, and when.
    known: HashMap<IpNet, Instant>,
}

#[derive(Debug)]
struct Unrecognised {
    since: Instant,
    shed: CancellationToken,
}

/// Which limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Total,
    Unrecognised,
    Client,
}

/// One connection. Dropping it releases the connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    limits: ConnectionLimits,
    client: Option<CountedConnection<IpNet>>,
    /// Its key in [`Counts::unrecognised`], while the client is not recognised.
    unrecognised: Option<(u64, CancellationToken)>,
}

/// A connection is not closed for another one before this time.
const SHED_AFTER: Duration = Duration::from_secs(5);
/// How long an address counts as recognised.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// The number of recognised addresses that are remembered. At this number, the oldest quarter is removed.
const KNOWN_MAX: usize = 4_096;

impl ConnectionLimits {
    /// Limits the connections in total and from one client address; for IPv6, from one /64, because one host can choose its
    /// addresses from that. At most three quarters of the total are for clients that are not recognised.
    /// `unrecognised_max` replaces that part.
    pub(crate) fn new(total_max: usize, per_client_max: usize, unrecognised_max: Option<usize>) -> Self {
        let maxima = Maxima { total: 0.into(), unrecognised: 0.into(), per_client: 0.into() };
        let limits = Self { maxima: Arc::new(maxima), by_client: ConnectionCounter::default(), counts: Arc::default() };
        limits.configure(total_max, per_client_max, unrecognised_max);
        limits
    }

    /// Changes the limits. Connections above lower ones stay.
    pub(crate) fn configure(&self, total_max: usize, per_client_max: usize, unrecognised_max: Option<usize>) {
        let unrecognised_max = unrecognised_max.map_or(total_max - total_max / 4, |most| most.max(1));
        self.maxima.total.store(total_max, Ordering::Relaxed);
        self.maxima.unrecognised.store(unrecognised_max, Ordering::Relaxed);
        self.maxima.per_client.store(per_client_max, Ordering::Relaxed);
    }

    /// Connections now.
    pub(crate) fn in_use(&self) -> usize {
        self.counts().total
    }

    /// Counts a new connection. A client on a Unix socket is on this machine and counts as recognised.
    pub(super) fn enter(&self, address: ClientAddress, now: Instant) -> Result<ConnectionGuard, Over> {
        let (total_max, unrecognised_max) =
            (self.maxima.total.load(Ordering::Relaxed), self.maxima.unrecognised.load(Ordering::Relaxed));
        let mut counts = self.counts();
        let recognised = match address {
            ClientAddress::Unix => true,
            address => address.network().is_some_and(|client| counts.knows(client, now)),
        };
        let crowded = !recognised && counts.unrecognised.len() >= unrecognised_max;
        if (crowded || counts.total >= total_max) && !counts.shed(now) {
            return Err(if counts.total >= total_max { Over::Total } else { Over::Unrecognised });
        }
        counts.total += 1;
        let unrecognised = (!recognised).then(|| counts.add_unrecognised(now));
        Ok(ConnectionGuard { limits: self.clone(), client: None, unrecognised })
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn knows(&self, client: IpNet, now: Instant) -> bool {
        self.known.get(&client).is_some_and(|since| now.saturating_duration_since(*since) < KNOWN_FOR)
    }

    fn add_unrecognised(&mut self, now: Instant) -> (u64, CancellationToken) {
        self.last_key += 1;
        let shed = CancellationToken::new();
        self.unrecognised.insert(self.last_key, Unrecognised { since: now, shed: shed.clone() });
        (self.last_key, shed)
    }

    /// Closes the oldest connection that is not recognised, and frees it at once.
    fn shed(&mut self, now: Instant) -> bool {
        let Some(oldest) = self.unrecognised.first_entry() else { return false };
        if now.saturating_duration_since(oldest.get().since) < SHED_AFTER {
            return false;
        }
        oldest.remove().shed.cancel();
        self.total -= 1;
        true
    }

    fn remember(&mut self, client: IpNet, now: Instant) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&client) {
            let mut times: Vec<Instant> = self.known.values().copied().collect();
            let (_, quarter, _) = times.select_nth_unstable(KNOWN_MAX / 4);
            let quarter = *quarter;
            self.known.retain(|_, since| *since > quarter);
        }
        self.known.insert(client, now);
    }
}

impl ConnectionGuard {
    /// Counts the connection as this client's, once its address is known.
    pub(super) fn take_by(&mut self, client: IpNet, now: Instant) -> Result<(), Over> {
        let counted = self.limits.by_client.take(client, self.limits.maxima.per_client.load(Ordering::Relaxed));
        self.client = Some(counted.ok_or(Over::Client)?);
        let mut counts = self.limits.counts();
        // For a client behind a proxy the address is known only now.
        if counts.knows(client, now)
            && let Some((number, _)) = self.unrecognised.take()
            && counts.unrecognised.remove(&number).is_none()
        {
            // It was closed for another connection, and is no longer counted.
            counts.total += 1;
        }
        Ok(())
    }

    /// Records that the client is recognised: the connection is no longer closed for another one, and the address is remembered.
    pub(super) fn recognise(&mut self, now: Instant) {
        let mut counts = self.limits.counts();
        if let Some((number, _)) = self.unrecognised.take()
            && counts.unrecognised.remove(&number).is_none()
        {
            counts.total += 1;
        }
        if let Some(client) = &self.client {
            counts.remember(client.key, now);
        }
    }

    /// Cancelled when another client needs the connection; `None` for a recognised client.
    pub(super) fn shed(&self) -> Option<CancellationToken> {
        self.unrecognised.as_ref().map(|(_, shed)| shed.clone())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut counts = self.limits.counts();
        let shed = self.unrecognised.as_ref().is_some_and(|(number, _)| counts.unrecognised.remove(number).is_none());
        if !shed {
            counts.total -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Clock, SystemClock};

    fn from(text: &str) -> ClientAddress {
        ClientAddress::Ip(format!("{text}:1").parse().unwrap())
    }

    #[test]
    fn dropped_connections_are_not_counted() {
        let (limits, now) = (ConnectionLimits::new(3, 2, None), SystemClock.now());
        let client = from("[2001:db8::1]").network().unwrap();
        let neighbour = from("[2001:db8::2]").network().unwrap();
        let mut connections: Vec<ConnectionGuard> =
            (0..3).map(|_| limits.enter(ClientAddress::Unknown, now).unwrap()).collect();
        assert_eq!(limits.enter(ClientAddress::Unknown, now).unwrap_err(), Over::Total);
        assert_eq!(connections[0].take_by(client, now), Ok(()));
        assert_eq!(connections[1].take_by(neighbour, now), Ok(()));
        assert_eq!(connections[2].take_by(client, now), Err(Over::Client), "one /64 is one client");
        assert_eq!(connections[2].take_by(from("192.0.2.1").network().unwrap(), now), Ok(()));
        drop(connections);
        assert_eq!(limits.in_use(), 0);
        assert!(limits.counts().unrecognised.is_empty());
    }

    /// Clients that no policy permits held all connections, and permitted ones received 421.
    #[test]
    fn clients_that_are_not_recognised_do_not_keep_others_out() {
        let (limits, began) = (ConnectionLimits::new(8, 8, None), SystemClock.now());
        let mut known = limits.enter(from("192.0.2.1"), began).unwrap();
        known.take_by(from("192.0.2.1").network().unwrap(), began).unwrap();
        known.recognise(began);
        drop(known);
        let unrecognised: Vec<ConnectionGuard> =
            (0..6).map(|_| limits.enter(from("198.51.100.1"), began).unwrap()).collect();
        assert_eq!(limits.enter(from("198.51.100.1"), began).unwrap_err(), Over::Unrecognised);
        let _known = limits.enter(from("192.0.2.1"), began).unwrap();
        let _unix = limits.enter(ClientAddress::Unix, began).unwrap();
        assert_eq!(limits.enter(from("192.0.2.1"), began).unwrap_err(), Over::Total);
        let later = began + SHED_AFTER;
        let mut first = limits.enter(from("203.0.113.1"), later).unwrap();
        let shed = |place: usize| unrecognised[place].shed().unwrap().is_cancelled();
        assert!(shed(0) && !shed(1), "the oldest is closed for a new one");
        assert_eq!(limits.in_use(), 8);
        first.recognise(later);
        drop(first);
        drop(unrecognised);
        assert_eq!(limits.in_use(), 2);
        let forgotten = began + KNOWN_FOR;
        assert!(!limits.counts().knows(from("192.0.2.1").network().unwrap(), forgotten));
    }

    #[test]
    fn the_memory_of_recognised_addresses_is_bounded() {
        let (limits, now) = (ConnectionLimits::new(8, 8, None), SystemClock.now());
        for number in 0..2 * u32::try_from(KNOWN_MAX).unwrap() {
            let at = now + Duration::from_secs(number.into());
            limits.counts().remember(std::net::IpAddr::from(number.to_be_bytes()).into(), at);
        }
        assert!(limits.counts().known.len() <= KNOWN_MAX);
    }
}
