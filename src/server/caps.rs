//! How many connections there may be: in total, and from one client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts. Clones count together.
#[derive(Clone, Debug)]
pub struct Caps {
    total_max: usize,
    per_client_max: usize,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// Why a connection is too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Total,
    Client,
}

/// One of the total; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    caps: Caps,
    client: Option<IpAddr>,
}

impl Caps {
    /// At most that many connections, and that many from one client address. An IPv6 client is its /64: that is what one
    /// host can choose its addresses from.
    pub fn new(total_max: usize, per_client_max: usize) -> Self {
        Self { total_max, per_client_max, counts: Arc::default() }
    }

    /// Connections now.
    pub fn in_use(&self) -> usize {
        self.counts().total
    }

    pub(super) fn enter(&self) -> Result<Place, Over> {
        let mut counts = self.counts();
        if counts.total >= self.total_max {
            return Err(Over::Total);
        }
        counts.total += 1;
        Ok(Place { caps: self.clone(), client: None })
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the place as this client's, once it is known who it is.
    pub(super) fn take_by(&mut self, address: IpAddr) -> Result<(), Over> {
        let client = prefix(address);
        let mut counts = self.caps.counts();
        let count = counts.by_client.entry(client).or_default();
        if *count >= self.caps.per_client_max {
            return Err(Over::Client);
        }
        *count += 1;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.caps.counts();
        counts.total -= 1;
        if let Some(client) = self.client
            && let Some(count) = counts.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_client.remove(&client);
            }
        }
    }
}

fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_leave_nothing_behind() {
        let caps = Caps::new(3, 2);
        let client: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let mut places: Vec<Place> = (0..3).map(|_| caps.enter().unwrap()).collect();
        assert_eq!(caps.enter().unwrap_err(), Over::Total);
        assert_eq!(places[0].take_by(client), Ok(()));
        assert_eq!(places[1].take_by(neighbour), Ok(()));
        assert_eq!(places[2].take_by(client), Err(Over::Client), "one /64 is one client");
        assert_eq!(places[2].take_by("192.0.2.1".parse().unwrap()), Ok(()));
        drop(places);
        assert_eq!(caps.in_use(), 0);
        assert!(caps.counts().by_client.is_empty());
    }
}
