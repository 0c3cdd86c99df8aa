//! The built-in users: names and password hashes.
//!
//! Verification is expensive in memory and time on purpose. It therefore runs off the event loop, a few at a time, and
//! the number of waiting ones is bounded. An unknown name takes the same time as a wrong password, whatever the hashes
//! are, also after a restart and on every relay with the same users. Verified credentials are cached for minutes under
//! a keyed hash, so that applications with one message per connection do not pay each time. Dropping the [`Users`] (a
//! reload) clears the cache.

use super::{AuthDecision, AuthError, Authenticator, PasswordHash};
use crate::mail::{Clock, Credentials, Identity};
use async_trait::async_trait;
use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Bounds of verification.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UsersSettings {
    /// Verifications at a time.
    pub parallel_max: usize,
    /// Verifications that may wait; further ones receive 454.
    pub waiting_max: usize,
    /// How long a verified name and password is remembered. Zero: not at all.
    pub remember: Duration,
}

impl Default for UsersSettings {
    fn default() -> Self {
        Self { parallel_max: 2, waiting_max: 64, remember: Duration::from_secs(300) }
    }
}

/// The maximum number of cached verifications. The oldest quarter is removed when it is full.
const REMEMBERED_MAX: usize = 4_096;

/// Names and hashes.
pub struct Users {
    hashes: HashMap<String, PasswordHash>,
    names: Vec<String>,
    /// A hash of each cost that the list has, for unknown names.
    decoys: BTreeMap<String, PasswordHash>,
    settings: UsersSettings,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    key: hmac::Key,
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Users {
    /// A store with these users. A repeated name has the last hash.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`] if the operating system returned no random octets for the key.
    pub fn new(
        users: impl IntoIterator<Item = (String, PasswordHash)>,
        settings: UsersSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthError> {
        let hashes: HashMap<String, PasswordHash> = users.into_iter().collect();
        let mut names: Vec<String> = hashes.keys().cloned().collect();
        names.sort();
        let decoys = hashes.values().map(|hash| (hash.cost().to_owned(), hash.clone())).collect();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new())
            .map_err(|_| AuthError::Unavailable("no random octets".to_owned()))?;
        Ok(Self {
            running: Arc::new(Semaphore::new(settings.parallel_max.max(1))),
            admitted: Arc::new(Semaphore::new(settings.parallel_max.max(1) + settings.waiting_max)),
            remembered: Mutex::new(HashMap::new()),
            hashes,
            names,
            decoys,
            settings,
            key,
            clock,
        })
    }

    /// The cache key of credentials: an HMAC under a random key that never leaves the process.
    fn mark(&self, credentials: &Credentials) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(credentials.name.len() as u64).to_be_bytes());
        context.update(credentials.name.as_bytes());
        context.update(credentials.password.expose().as_bytes());
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        mark
    }

    fn remembers(&self, mark: &[u8; 32]) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(mark).is_some_and(|until| self.clock.now() < *until)
    }

    fn remember(&self, mark: [u8; 32]) {
        if self.settings.remember.is_zero() {
            return;
        }
        let now = self.clock.now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            let mut ends: Vec<Instant> = remembered.values().copied().collect();
            let (_, quarter, _) = ends.select_nth_unstable(REMEMBERED_MAX / 4);
            let quarter = *quarter;
            remembered.retain(|_, until| *until > now && *until > quarter);
        }
        remembered.insert(mark, now + self.settings.remember);
    }

    /// The hash to verify against: the user's, or for an unknown name a dummy with a cost that occurs in the list. It
    /// is always the same for a name, also after a restart and on another relay, as for a known name: a varying cost
    /// would reveal that the name is unknown. The cost is the one whose SHA-256 with the name is the largest, so that a
    /// further user with a cost of the list changes nothing.
    fn hash_for(&self, name: &str) -> Option<(&PasswordHash, bool)> {
        if let Some(hash) = self.hashes.get(name) {
            return Some((hash, true));
        }
        let score = |cost: &str| {
            let mut context = digest::Context::new(&digest::SHA256);
            context.update(&(name.len() as u64).to_be_bytes());
            context.update(name.as_bytes());
            context.update(cost.as_bytes());
            context.finish().as_ref().to_vec()
        };
        self.decoys.iter().max_by_key(|(cost, _)| score(cost)).map(|(_, hash)| (hash, false))
    }
}

#[async_trait]
impl Authenticator for Users {
    async fn authenticate(&self, credentials: &Credentials) -> Result<AuthDecision, AuthError> {
        let mark = self.mark(credentials);
        let accept = || Ok(AuthDecision::Accept(Identity::new(&credentials.name)));
        if self.remembers(&mark) {
            return accept();
        }
        let Some((hash, known)) = self.hash_for(&credentials.name) else { return Ok(AuthDecision::Reject) };
        let hash = hash.clone();
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| AuthError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| AuthError::Busy)?;
        let password = credentials.password.clone();
        // The task holds the permits: if this future is dropped, the verification still runs and still counts.
        let verified = tokio::task::spawn_blocking(move || {
            let verified = hash.verify(password.expose());
            drop((admitted, running));
            verified
        })
        .await
        .map_err(|error| AuthError::Unavailable(error.to_string()))?;
        if verified && known {
            self.remember(mark);
            return accept();
        }
        Ok(AuthDecision::Reject)
    }

    fn knows(&self, identity: &Identity) -> bool {
        self.hashes.contains_key(identity.name())
    }

    fn octets_held_max(&self) -> u64 {
        let most = self.hashes.values().map(PasswordHash::octets_held).max().unwrap_or(0);
        most * self.settings.parallel_max.max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{ManualClock, Password};

    fn users(clock: Arc<ManualClock>) -> Users {
        let hash = |password| PasswordHash::parse(&bcrypt::hash(password, 4).unwrap()).unwrap();
        let list = [("ann".to_owned(), hash("secret")), ("bob".to_owned(), hash("other"))];
        Users::new(list, UsersSettings::default(), clock).unwrap()
    }

    fn credentials(name: &str, password: &str) -> Credentials {
        Credentials { name: name.to_owned(), password: Password::new(password) }
    }

    #[tokio::test]
    async fn only_the_right_name_with_the_right_password_is_accepted() {
        let users = users(Arc::default());
        for (name, password, want) in [
            ("ann", "secret", AuthDecision::Accept(Identity::new("ann"))),
            ("ann", "other", AuthDecision::Reject),
            ("carol", "secret", AuthDecision::Reject),
            ("carol", "other", AuthDecision::Reject),
            ("ann", "", AuthDecision::Reject),
            ("Ann", "secret", AuthDecision::Reject),
        ] {
            // Twice: the cached decision must equal the verified one.
            for _ in 0..2 {
                assert_eq!(users.authenticate(&credentials(name, password)).await.unwrap(), want, "{name} {password}");
            }
        }
    }

    #[tokio::test]
    async fn a_verified_password_is_remembered_for_minutes_and_a_wrong_one_is_not() {
        let clock = Arc::new(ManualClock::new());
        let users = users(Arc::clone(&clock));
        let right = credentials("ann", "secret");
        users.authenticate(&right).await.unwrap();
        users.authenticate(&credentials("ann", "wrong")).await.unwrap();
        assert!(users.remembers(&users.mark(&right)));
        assert!(!users.remembers(&users.mark(&credentials("ann", "wrong"))));
        assert!(!users.remembers(&users.mark(&credentials("anns", "ecret"))), "the length divides name and password");
        clock.advance(Duration::from_secs(301));
        assert!(!users.remembers(&users.mark(&right)));
    }

    #[tokio::test]
    async fn the_memory_of_verifications_is_bounded() {
        let users = users(Arc::default());
        for n in 0..(2 * REMEMBERED_MAX as u64) {
            let mut mark = [0; 32];
            mark[..8].copy_from_slice(&n.to_be_bytes());
            users.remember(mark);
        }
        assert!(users.remembered.lock().unwrap().len() <= REMEMBERED_MAX);
    }

    /// Which hash an unknown name cost hung on a key of the process and on the number of users.
    #[test]
    fn an_unknown_name_costs_the_same_after_a_restart_and_on_every_relay() {
        let argon = |memory: u32, text: &str| {
            format!("$argon2id$v=19$m={memory},t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo{text}")
        };
        let (low, high) = (bcrypt::hash("secret", 4).unwrap(), bcrypt::hash("secret", 5).unwrap());
        let users = |texts: &[&str]| {
            let list = texts.iter().enumerate();
            let list = list.map(|(index, text)| (format!("user{index}"), PasswordHash::parse(text).unwrap()));
            Users::new(list, UsersSettings::default(), Arc::new(ManualClock::new())).unwrap()
        };
        let (small, large) = (argon(64, ""), argon(128, ""));
        let one = users(&[&small, &large, &low, &high]);
        let other = users(&[&high, &low, &large, &small, &low, &low, &low]);
        assert_eq!(one.decoys.len(), 4, "{:?}", one.decoys.keys());
        let mut costs = BTreeMap::<&str, u32>::new();
        for number in 0..400 {
            let name = format!("nobody{number}");
            let (hash, known) = one.hash_for(&name).unwrap();
            assert!(!known);
            assert_eq!(hash.cost(), other.hash_for(&name).unwrap().0.cost(), "{name}");
            *costs.entry(hash.cost()).or_default() += 1;
        }
        assert!(costs.len() == 4 && costs.values().all(|names| *names > 50), "every cost: {costs:?}");
    }

    #[tokio::test]
    async fn more_waiting_than_may_are_told_so() {
        let hash = PasswordHash::parse(&bcrypt::hash("secret", 4).unwrap()).unwrap();
        let settings = UsersSettings { parallel_max: 1, waiting_max: 0, ..UsersSettings::default() };
        let users = Users::new([("ann".to_owned(), hash)], settings, Arc::new(ManualClock::new())).unwrap();
        let _held = Arc::clone(&users.admitted).try_acquire_owned().unwrap();
        assert!(matches!(users.authenticate(&credentials("ann", "secret")).await, Err(AuthError::Busy)));
    }
}
