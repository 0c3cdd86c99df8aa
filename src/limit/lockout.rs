//! How often may a password be wrong?
//!
//! Whoever fails too often with one name from one client is locked out there: nothing is verified for a while. Failures
//! with one name from everywhere together only make every attempt with it slow, so that nobody can lock an application
//! out from elsewhere. Counts are bounded and forgotten at a restart.

use super::charges::{Keys, cut};
use super::local::fresh_keys;
use super::meter::RateMeter;
use super::rule::Rate;
use crate::mail::{Client, ClientAddress, Clock};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutSettings {
    /// Failures with one name from one client address (of IPv6: from one /64); beyond, it is locked out.
    pub by_client_and_name: Rate,
    /// Failures with one name from everywhere; beyond, attempts with it wait.
    pub by_name: Rate,
    /// How long they wait.
    pub delay: Duration,
}

impl Default for LockoutSettings {
    fn default() -> Self {
        let rate = |an_hour, burst| Rate::new(an_hour, Duration::from_secs(3_600), burst);
        const fn number(number: u32) -> NonZeroU32 {
            match NonZeroU32::new(number) {
                Some(number) => number,
                None => NonZeroU32::MIN,
            }
        }
        Self {
            by_client_and_name: rate(number(30), number(10)),
            by_name: rate(number(300), number(30)),
            delay: Duration::from_secs(2),
        }
    }
}

/// Counts failures.
pub struct Lockout {
    settings: LockoutSettings,
    by_client_and_name: RateMeter,
    by_name: RateMeter,
    keys: Keys,
    clock: Arc<dyn Clock>,
    began: Instant,
}

/// Whether a name and password may be tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// At once.
    Free,
    /// After this wait.
    Delayed(Duration),
    /// Not before so long.
    Locked(Duration),
}

impl Lockout {
    /// Nobody has failed yet.
    pub fn new(settings: LockoutSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            by_client_and_name: RateMeter::new(settings.by_client_and_name),
            by_name: RateMeter::new(settings.by_name),
            keys: fresh_keys(),
            began: clock.now(),
            clock,
            settings,
        }
    }

    /// How that client stands with that name.
    pub fn standing(&self, client: &Client, name: &str) -> Standing {
        let (now, [here, everywhere]) = (self.now(), self.keys(client, name));
        if self.by_client_and_name.left(here, now) == 0 {
            return Standing::Locked(self.by_client_and_name.wait(here, now));
        }
        match self.by_name.left(everywhere, now) {
            0 => Standing::Delayed(self.settings.delay),
            _ => Standing::Free,
        }
    }

    /// Name and password were wrong.
    pub fn failed(&self, client: &Client, name: &str) {
        let (now, [here, everywhere]) = (self.now(), self.keys(client, name));
        // Where there is no room left, it is locked or slow already.
        let _ = self.by_client_and_name.take(here, NonZeroU32::MIN, now);
        let _ = self.by_name.take(everywhere, NonZeroU32::MIN, now);
    }

    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.began)
    }

    fn keys(&self, client: &Client, name: &str) -> [u128; 2] {
        let network = match client.address {
            ClientAddress::Ip(address) => cut(address.ip(), 32, 64),
            ClientAddress::Unix | ClientAddress::Unknown => None,
        };
        [self.keys.of(1, &(network, name)), self.keys.of(2, name)]
    }
}

impl std::fmt::Debug for Lockout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lockout").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{ManualClock, SessionId};

    #[test]
    fn a_client_is_locked_out_where_it_fails_and_nobody_is_elsewhere() {
        let clock = Arc::new(ManualClock::new());
        let lockout = Lockout::new(LockoutSettings::default(), Arc::clone(&clock) as Arc<dyn Clock>);
        let client =
            |address: &str| Client::new(SessionId::fresh(), ClientAddress::Ip(address.parse().unwrap()), "main".into());
        let (bad, good) = (client("192.0.2.1:1"), client("192.0.2.2:1"));
        for _ in 0..10 {
            assert_eq!(lockout.standing(&bad, "ann"), Standing::Free);
            lockout.failed(&bad, "ann");
        }
        assert_eq!(lockout.standing(&bad, "ann"), Standing::Locked(Duration::from_secs(120)));
        assert_eq!(lockout.standing(&bad, "bob"), Standing::Free, "another name");
        assert_eq!(lockout.standing(&good, "ann"), Standing::Free, "another client");
        // Two other clients help: from everywhere together that makes the name slow, not locked.
        for host in 3..5 {
            for _ in 0..10 {
                lockout.failed(&client(&format!("192.0.2.{host}:1")), "ann");
            }
        }
        assert_eq!(lockout.standing(&good, "ann"), Standing::Delayed(Duration::from_secs(2)));
        clock.advance(Duration::from_secs(120));
        assert_ne!(lockout.standing(&bad, "ann"), Standing::Locked(Duration::ZERO));
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(lockout.standing(&bad, "ann"), Standing::Free);
    }

    #[test]
    fn one_network_of_ipv6_is_one_client() {
        let lockout = Lockout::new(LockoutSettings::default(), Arc::new(ManualClock::new()));
        for host in 0..10 {
            let address = ClientAddress::Ip(format!("[2001:db8::{host:x}]:1").parse().unwrap());
            lockout.failed(&Client::new(SessionId::fresh(), address, "main".into()), "ann");
        }
        let address = ClientAddress::Ip("[2001:db8::ffff]:1".parse().unwrap());
        let client = Client::new(SessionId::fresh(), address, "main".into());
        assert!(matches!(lockout.standing(&client, "ann"), Standing::Locked(_)));
    }
}
