//! `[auth]`: users, and how their passwords are verified.

use super::Config;
use super::diagnostics::Diagnostics;
use super::listener::Listener;
use super::number::{Number, SecondsOrZero};
use super::secret_source::Source;
use super::section::section;
use super::values::EvenRate;
use crate::auth::{PasswordHash, Users, UsersSettings};
use crate::limit::LockoutSettings;
use crate::mail::SystemClock;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

section! {
    /// Users, for listeners with auth = "optional" or "required".
    pub(crate) Authentication {
        /// Names with a password hash each: NAME = "HASH", argon2id or bcrypt, as `gatepost hash-password` prints it. A hash
        /// may also come from { file = "…" }, { env = "…" } or { credential = "…" }.
        #[schemars(example = json!({
            "ann": "$argon2id$v=19$m=19456,t=2,p=1$…", "printer": { "credential": "printer-hash" }
        }))]
        users: BTreeMap<String, Source> = BTreeMap::new(),
        /// A list of users, one NAME:HASH a line, # begins a comment: { file = "…" } or { credential = "…" }. The form that
        /// `htpasswd -B` writes.
        #[schemars(example = json!({ "file": "/etc/gatepost/users" }))]
        user_list: Option<Source> = None,
        /// How many passwords are verified at a time. Each argon2id verification takes about 19 MiB of memory.octets.
        parallel_max: Number<1, 64> = Number::of(UsersSettings::default().parallel_max as u64),
        /// How many verifications may wait; further ones receive 454, and clients retry.
        waiting_max: Number<0, 10_000> = Number::of(UsersSettings::default().waiting_max as u64),
        /// How many verifications of one client address (for IPv6: one /64) may run or wait; further ones wait for these, 20
        /// seconds at most, and then receive 454.
        waiting_by_client_max: Number<1, 10_000> = Number::of(LockoutSettings::default().at_once_by_client as u64),
        /// Seconds that a verified name and password is remembered, for applications that open a connection for each message.
        /// 0: not at all.
        remember_seconds: SecondsOrZero = SecondsOrZero::seconds(UsersSettings::default().remember),
        /// A rate such as "30/h burst 10": failures with one name from one client address. Beyond it, logins with that name
        /// from that address receive 454 without verification.
        failures: EvenRate = EvenRate(LockoutSettings::default().by_client_and_name),
        /// A rate such as "120/h burst 60": failures of one client address with any name. Beyond it, every login from that
        /// address receives 454.
        failures_by_client: EvenRate = EvenRate(LockoutSettings::default().by_client),
        /// A rate such as "300/h burst 30": failures with one name from all addresses. Beyond it, logins with that name are
        /// delayed by failure_delay_seconds. An attacker cannot lock out a user at another address.
        failures_by_name: EvenRate = EvenRate(LockoutSettings::default().by_name),
        /// Seconds, up to 10.
        failure_delay_seconds: Number<0, 10> = Number::seconds(LockoutSettings::default().delay),
    } []
}

impl Authentication {
    /// The lockout of the limiter.
    pub(crate) fn lockout(&self) -> LockoutSettings {
        LockoutSettings {
            by_client_and_name: self.failures.0,
            by_client: self.failures_by_client.0,
            at_once_by_client: self.waiting_by_client_max.size(),
            by_name: self.failures_by_name.0,
            delay: self.failure_delay_seconds.wait(),
        }
    }
}

/// The users whose sources could be read.
#[derive(Default)]
pub(super) struct KnownUsers {
    /// `None`: no user can authenticate.
    pub(super) users: Option<Users>,
    pub(super) names: BTreeSet<String>,
    /// False: a source has an error, so a name that is missing here may exist.
    pub(super) complete: bool,
}

impl KnownUsers {
    /// Whether there are users, or would be if their sources had no errors.
    pub(super) fn may_exist(&self) -> bool {
        self.users.is_some() || !self.complete
    }
}

/// Reads the users of the file and of the list.
pub(super) fn plan(config: &Config, diagnostics: &mut Diagnostics<'_>) -> KnownUsers {
    let auth = &config.auth;
    let errors_before = diagnostics.error_count();
    let mut found = BTreeMap::new();
    if let Some(list) = &auth.user_list {
        read_list(diagnostics, list, &mut found);
    }
    for (name, source) in &auth.users {
        let path = format!("auth.users.{name}");
        let Some(text) = diagnostics.secret(&path, source) else { continue };
        if name.is_empty() || name.len() > NAME_OCTETS_MAX {
            diagnostics.error(
                &path,
                "a user's name has 1 to 255 octets",
                "choose a shorter name, and not an empty one",
            );
        } else if found.contains_key(name) {
            diagnostics.error(&path, format!("{name:?} is in auth.user_list too"), "keep one of them");
        } else {
            match PasswordHash::parse(&text) {
                Ok(hash) => drop(found.insert(name.clone(), hash)),
                // A line of a list.
                Err(_) if text.split_once(':').is_some_and(|(_, hash)| PasswordHash::parse(hash).is_ok()) => {
                    let hint = "remove NAME:, or name the file in auth.user_list";
                    diagnostics.error(&path, "NAME:HASH, where the hash alone is expected", hint);
                }
                Err(error) => diagnostics.error(&path, error.to_string(), HASH_HINT),
            }
        }
    }
    let complete = diagnostics.error_count() == errors_before;
    check_offered(config, diagnostics);
    let settings = UsersSettings {
        parallel_max: auth.parallel_max.size(),
        waiting_max: auth.waiting_max.size(),
        remember: auth.remember_seconds.wait(),
    };
    if found.is_empty() {
        return KnownUsers { complete, ..KnownUsers::default() };
    }
    let names = found.keys().cloned().collect();
    let users = Users::new(found, settings, Arc::new(SystemClock));
    let hint = "the system returns no random octets: check that /dev/urandom can be read";
    let users = users.map_err(|error| diagnostics.error("auth", error.to_string(), hint)).ok();
    KnownUsers { complete: complete && users.is_some(), users, names }
}

/// RFC 4616 §2.
const NAME_OCTETS_MAX: usize = 255;
const HASH_HINT: &str = "run `gatepost hash-password` and write what it prints";

fn read_list(diagnostics: &mut Diagnostics<'_>, list: &Source, found: &mut BTreeMap<String, PasswordHash>) {
    let Some(text) = diagnostics.secret("auth.user_list", list) else { return };
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = match line.split_once(':').filter(|(name, _)| (1..=NAME_OCTETS_MAX).contains(&name.len())) {
            None => "is not NAME:HASH".to_owned(),
            Some((name, _)) if found.contains_key(name) => format!("has {name:?} for the second time"),
            Some((name, hash)) => match PasswordHash::parse(hash) {
                Ok(hash) => {
                    found.insert(name.to_owned(), hash);
                    continue;
                }
                Err(error) => format!("has no hash that can be used: {error}"),
            },
        };
        // Neither the line nor the hash is shown: both may be a password in clear.
        diagnostics.error("auth.user_list", format!("line {} of {list} {wrong}", at + 1), HASH_HINT);
    }
    let is_empty = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
    if text.lines().all(is_empty) {
        let hint = "write one NAME:HASH a line; `gatepost hash-password` makes the hash";
        diagnostics.error("auth.user_list", format!("{list} has no users in it"), hint);
    }
}

/// Users without a listener that offers AUTH: the configuration is probably incomplete.
fn check_offered(config: &Config, diagnostics: &mut Diagnostics<'_>) {
    let offered = config.listener.iter().any(Listener::verifies_users);
    let path = match (&config.auth.user_list, config.auth.users.is_empty()) {
        (_, false) => "auth.users",
        (Some(_), true) => "auth.user_list",
        (None, true) => return,
    };
    if !offered {
        let hint = "set auth = \"required\" or \"optional\" on a listener, or remove the users";
        diagnostics.error(path, "there are users, but no listener where they can authenticate", hint);
    }
}
