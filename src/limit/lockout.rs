//! Protection against guessed passwords.
//!
//! A client that fails too often with one name is locked out with that name: for a while, its attempts are refused
//! without verification. The failures with one name from all clients together only delay every attempt with it, so that
//! an attacker cannot lock an application out from another address. The failures of one client with all names together
//! lock that client out with every name, which stops attempts with a list of names. Counts are bounded, and a restart
//! resets them.

use super::at_once::{AtOnce, Verification};
use super::local::fresh_keys;
use super::matching::Keys;
use super::rate::RateMeter;
use super::rule::Rate;
use crate::mail::{Client, Clock};
use ipnet::IpNet;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The limits of failed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockoutSettings {
    /// Failures with one name from one client address (IPv6: from one /64). Above this rate, the client is locked out
    /// with the name.
    pub by_client_and_name: Rate,
    /// Failures of one client address with any name. Above this rate, the client is locked out with every name.
    pub by_client: Rate,
    /// Concurrent verifications of one client address. Further attempts wait for at most 20 s.
    pub at_once_by_client: usize,
    /// Failures with one name from all clients. Above this rate, attempts with the name are delayed.
    pub by_name: Rate,
    /// The delay of such attempts.
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
            by_client: rate(number(120), number(60)),
            at_once_by_client: 8,
            by_name: rate(number(300), number(30)),
            delay: Duration::from_secs(2),
        }
    }
}

/// Counts failed attempts.
pub(crate) struct Lockout {
    settings: LockoutSettings,
    by_client_and_name: RateMeter,
    by_client: RateMeter,
    by_name: RateMeter,
    at_once: AtOnce,
    keys: Keys,
    /// Who reached a limit last: the counts have keyed hashes only.
    reached: Arc<Mutex<HashMap<u128, Reached>>>,
    clock: Arc<dyn Clock>,
    began: Instant,
}

/// A client, a name or both whose failures reached a limit.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "admin"), allow(dead_code, reason = "the admin endpoint lists it"))]
struct Reached {
    network: Option<IpNet>,
    name: Option<Box<str>>,
    effect: LockoutEffect,
}

/// What a limit that is reached does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockoutEffect {
    /// Logins are refused.
    Locked,
    /// Logins are delayed.
    Delayed,
}

/// A limit of failed logins that is reached now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "admin"), allow(dead_code, reason = "the admin endpoint lists it"))]
pub(crate) struct LockedOut {
    /// Its id until the process ends: a keyed hash.
    pub(crate) id: u128,
    /// The client: an address, or the /64 of an IPv6 address. `None` with a name: all clients; without: Unix sockets.
    pub(crate) network: Option<IpNet>,
    /// The AUTH name; `None`: any name.
    pub(crate) name: Option<Box<str>>,
    /// What it does.
    pub(crate) effect: LockoutEffect,
    /// When the next login is admitted.
    pub(crate) wait: Duration,
}

/// Limits that are remembered as reached. Beyond that, they apply and are not listed.
const REACHED_MAX: usize = 1_000;
/// Octets of a name that is remembered.
const NAME_OCTETS_MAX: usize = 64;

/// Whether a client may try a name and password now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginStatus {
    /// Immediately.
    Free,
    /// After this delay.
    Delayed(Duration),
    /// Refused for this long.
    Locked(Duration),
}

impl Lockout {
    /// A lockout without failures.
    pub(crate) fn new(settings: LockoutSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            by_client_and_name: RateMeter::new(settings.by_client_and_name),
            by_client: RateMeter::new(settings.by_client),
            by_name: RateMeter::new(settings.by_name),
            at_once: AtOnce::new(settings.at_once_by_client),
            keys: fresh_keys(),
            reached: Arc::default(),
            began: clock.now(),
            clock,
            settings,
        }
    }

    /// A lockout with other settings that goes on with the failures of this one.
    pub(crate) fn with_settings(&self, settings: LockoutSettings) -> Self {
        let now = self.now();
        let go_on = |meter: &RateMeter, rate| {
            let next = meter.with_rate(rate);
            next.put_in_force(now);
            next
        };
        Self {
            by_client_and_name: go_on(&self.by_client_and_name, settings.by_client_and_name),
            by_client: go_on(&self.by_client, settings.by_client),
            by_name: go_on(&self.by_name, settings.by_name),
            at_once: AtOnce::new(settings.at_once_by_client),
            keys: self.keys,
            reached: Arc::clone(&self.reached),
            began: self.began,
            clock: Arc::clone(&self.clock),
            settings,
        }
    }

    /// The status of a client with a name.
    pub(crate) fn standing(&self, client: &Client, name: &str) -> LoginStatus {
        let (now, [here, everywhere, any]) = (self.now(), self.keys(client, name));
        if self.by_client.left(any, now) == 0 {
            return LoginStatus::Locked(self.by_client.wait(any, now));
        }
        if self.by_client_and_name.left(here, now) == 0 {
            return LoginStatus::Locked(self.by_client_and_name.wait(here, now));
        }
        match self.by_name.left(everywhere, now) {
            0 => LoginStatus::Delayed(self.settings.delay),
            _ => LoginStatus::Free,
        }
    }

    /// Records that name and password were wrong.
    pub(crate) fn failed(&self, client: &Client, name: &str) {
        let (now, [here, everywhere, any]) = (self.now(), self.keys(client, name));
        let _ = self.by_client.take(any, NonZeroU32::MIN, now);
        // A refused take needs no action: the client is locked out or delayed already.
        let _ = self.by_client_and_name.take(here, NonZeroU32::MIN, now);
        let _ = self.by_name.take(everywhere, NonZeroU32::MIN, now);
        let network = client.address.network();
        let name: Option<Box<str>> = Some(name[..name.floor_char_boundary(NAME_OCTETS_MAX)].into());
        for (key, meter, network, name, effect) in [
            (any, &self.by_client, network, None, LockoutEffect::Locked),
            (here, &self.by_client_and_name, network, name.clone(), LockoutEffect::Locked),
            (everywhere, &self.by_name, None, name, LockoutEffect::Delayed),
        ] {
            if meter.left(key, now) == 0 {
                self.remember(key, Reached { network, name, effect }, now);
            }
        }
    }

    fn remember(&self, key: u128, reached: Reached, now: Duration) {
        let mut all = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(&key) {
            return;
        }
        if all.len() >= REACHED_MAX {
            all.retain(|key, _| self.meter_over(*key, now).is_some());
        }
        if all.len() < REACHED_MAX {
            all.insert(key, reached);
        }
    }

    /// The meter in which that key has nothing left. A key is of one meter only.
    fn meter_over(&self, key: u128, now: Duration) -> Option<&RateMeter> {
        [&self.by_client, &self.by_client_and_name, &self.by_name].into_iter().find(|meter| meter.left(key, now) == 0)
    }

    /// The limits that are reached now, at most [`REACHED_MAX`].
    #[cfg_attr(not(feature = "admin"), allow(dead_code, reason = "the admin endpoint lists it"))]
    pub(crate) fn locked_out(&self) -> Vec<LockedOut> {
        let now = self.now();
        let mut all = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|key, _| self.meter_over(*key, now).is_some());
        let listed = all.iter().map(|(id, Reached { network, name, effect })| LockedOut {
            id: *id,
            network: *network,
            name: name.clone(),
            effect: *effect,
            wait: self.meter_over(*id, now).map_or(Duration::ZERO, |meter| meter.wait(*id, now)),
        });
        listed.collect()
    }

    /// Forgets the failures of one limit, by the id that [`locked_out`](Self::locked_out) lists.
    #[cfg_attr(not(feature = "admin"), allow(dead_code, reason = "the admin endpoint lists it"))]
    pub(crate) fn forgive(&self, id: u128) {
        for meter in [&self.by_client, &self.by_client_and_name, &self.by_name] {
            meter.forget(id);
        }
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Waits for a verification slot of the client. `None`: no slot became free in time.
    pub(crate) async fn verification(&self, client: &Client) -> Option<Verification> {
        self.at_once.enter(client.address.network()).await
    }

    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.began)
    }

    /// The keys for this name from this client, this name from all clients, and any name from this client.
    fn keys(&self, client: &Client, name: &str) -> [u128; 3] {
        let network = client.address.network();
        [self.keys.of(1, &(network, name)), self.keys.of(2, name), self.keys.of(3, &network)]
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
    use crate::mail::{ClientAddress, ManualClock, SessionId};

    #[test]
    fn a_client_is_locked_out_where_it_fails_and_nobody_is_elsewhere() {
        let clock = Arc::new(ManualClock::new());
        let lockout = Lockout::new(LockoutSettings::default(), Arc::clone(&clock) as Arc<dyn Clock>);
        let client =
            |address: &str| Client::new(SessionId::fresh(), ClientAddress::Ip(address.parse().unwrap()), "main".into());
        let (bad, good) = (client("192.0.2.1:1"), client("192.0.2.2:1"));
        for _ in 0..10 {
            assert_eq!(lockout.standing(&bad, "ann"), LoginStatus::Free);
            lockout.failed(&bad, "ann");
        }
        assert_eq!(lockout.standing(&bad, "ann"), LoginStatus::Locked(Duration::from_secs(120)));
        assert_eq!(lockout.standing(&bad, "bob"), LoginStatus::Free, "another name");
        assert_eq!(lockout.standing(&good, "ann"), LoginStatus::Free, "another client");
        // Failures of two more clients: all clients together delay the name, but do not lock it.
        for host in 3..5 {
            for _ in 0..10 {
                lockout.failed(&client(&format!("192.0.2.{host}:1")), "ann");
            }
        }
        assert_eq!(lockout.standing(&good, "ann"), LoginStatus::Delayed(Duration::from_secs(2)));
        clock.advance(Duration::from_secs(120));
        assert_ne!(lockout.standing(&bad, "ann"), LoginStatus::Locked(Duration::ZERO));
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(lockout.standing(&bad, "ann"), LoginStatus::Free);
    }

    /// Regression: the failures of one client over many names were not counted together.
    #[test]
    fn a_client_that_tries_many_names_is_locked_out_with_all_of_them() {
        let clock = Arc::new(ManualClock::new());
        let lockout = Lockout::new(LockoutSettings::default(), Arc::clone(&clock) as Arc<dyn Clock>);
        let client =
            |address: &str| Client::new(SessionId::fresh(), ClientAddress::Ip(address.parse().unwrap()), "main".into());
        let (bad, good) = (client("192.0.2.1:1"), client("192.0.2.2:1"));
        for number in 0..60 {
            let name = format!("user{number}");
            assert_eq!(lockout.standing(&bad, &name), LoginStatus::Free, "{name}");
            lockout.failed(&bad, &name);
        }
        assert!(matches!(lockout.standing(&bad, "ann"), LoginStatus::Locked(_)));
        assert_eq!(lockout.standing(&good, "ann"), LoginStatus::Free);
        clock.advance(Duration::from_secs(31));
        assert_eq!(lockout.standing(&bad, "ann"), LoginStatus::Free, "one in 30 seconds");
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
        assert!(matches!(lockout.standing(&client, "ann"), LoginStatus::Locked(_)));
    }

    #[test]
    fn who_is_locked_out_is_listed_and_forgiven() {
        let clock = Arc::new(ManualClock::new());
        let lockout = Lockout::new(LockoutSettings::default(), Arc::clone(&clock) as Arc<dyn Clock>);
        let client = Client::new(SessionId::fresh(), ClientAddress::Ip("192.0.2.1:1".parse().unwrap()), "main".into());
        for _ in 0..9 {
            lockout.failed(&client, "ann");
        }
        assert_eq!(lockout.locked_out(), []);
        lockout.failed(&client, "ann");
        let listed = lockout.locked_out();
        let [LockedOut { id, network, name, effect, wait }] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!((network.unwrap().to_string().as_str(), name.as_deref()), ("192.0.2.1/32", Some("ann")));
        assert_eq!((*effect, *wait), (LockoutEffect::Locked, Duration::from_secs(120)));
        lockout.forgive(*id);
        assert_eq!((lockout.standing(&client, "ann"), lockout.locked_out()), (LoginStatus::Free, Vec::new()));
        for _ in 0..10 {
            lockout.failed(&client, "ann");
        }
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(lockout.locked_out(), [], "it is over");
        for number in 0..2_000 {
            for _ in 0..10 {
                lockout.failed(&client, &format!("user{number}"));
            }
        }
        assert_eq!(lockout.locked_out().len(), REACHED_MAX);
    }

    #[test]
    fn a_jump_of_the_clock_locks_nobody_out_for_longer() {
        let clock = Arc::new(ManualClock::new());
        let lockout = Lockout::new(LockoutSettings::default(), Arc::clone(&clock) as Arc<dyn Clock>);
        let client = Client::new(SessionId::fresh(), ClientAddress::Ip("192.0.2.1:1".parse().unwrap()), "main".into());
        for _ in 0..10 {
            lockout.failed(&client, "ann");
        }
        clock.set_wall(clock.wall() - Duration::from_secs(86_400));
        assert_eq!(lockout.standing(&client, "ann"), LoginStatus::Locked(Duration::from_secs(120)));
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(lockout.standing(&client, "ann"), LoginStatus::Free);
    }
}
