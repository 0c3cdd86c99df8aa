//! The users of a plan: names and hashes from the file and from a list.

use super::plan::Diagnostics;
use super::secret_source::Source;
use super::sections::Auth;
use crate::auth::{PasswordHash, Users, UsersSettings};
use crate::mail::SystemClock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who can authenticate, as far as their sources could be read.
#[derive(Default)]
pub(super) struct KnownUsers {
    /// `None`: there are none that can authenticate.
    pub(super) users: Option<Users>,
    pub(super) names: BTreeSet<String>,
    /// False: a source has an error, so a name that is missing here proves nothing.
    pub(super) complete: bool,
}

impl KnownUsers {
    /// Whether there are users, or would be if their sources were right.
    pub(super) fn may_exist(&self) -> bool {
        self.users.is_some() || !self.complete
    }
}

/// Who can authenticate.
pub(super) fn plan(diagnostics: &mut Diagnostics<'_>) -> KnownUsers {
    let auth = &diagnostics.config.auth;
    let errors_before = diagnostics.errors.len();
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
            diagnostics.error(&path, format!("{name:?} stands in auth.user_list too"), "keep one of them");
        } else {
            match PasswordHash::parse(&text) {
                Ok(hash) => drop(found.insert(name.clone(), hash)),
                Err(error) => diagnostics.error(&path, error.to_string(), HASH_HINT),
            }
        }
    }
    let complete = diagnostics.errors.len() == errors_before;
    offered_somewhere(diagnostics);
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
    let hint = "the system gives no random octets: see whether /dev/urandom can be read";
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
        // Neither the line nor the hash: both may be somebody's password in clear.
        diagnostics.error("auth.user_list", format!("line {} of {list} {wrong}", at + 1), HASH_HINT);
    }
    let is_empty = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
    if text.lines().all(is_empty) {
        let hint = "write one NAME:HASH a line; `gatepost hash-password` makes the hash";
        diagnostics.error("auth.user_list", format!("{list} has no users in it"), hint);
    }
}

/// Users that nobody asks for are half a configuration: somebody believes that AUTH is on.
fn offered_somewhere(diagnostics: &mut Diagnostics<'_>) {
    let config = diagnostics.config;
    let offered = config.listener.iter().any(|listener| matches!(listener.auth, Auth::Optional | Auth::Required));
    let path = match (&config.auth.user_list, config.auth.users.is_empty()) {
        (_, false) => "auth.users",
        (Some(_), true) => "auth.user_list",
        (None, true) => return,
    };
    if !offered {
        let hint = "set auth = \"required\" or \"optional\" on a listener, or take the users away";
        diagnostics.error(path, "there are users, and no listener where they could authenticate", hint);
    }
}
