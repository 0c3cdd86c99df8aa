//! The policy of a plan: applications, the rules for other clients, and IAM policy documents.
//!
//! Rules that contradict each other, or can never apply, are errors: the operator relies on them.

use super::app::App;
use super::auth::KnownUsers;
use super::diagnostics::{Diagnostics, Item};
use super::listener::{Auth, Certificates};
use super::rules::Enforcement;
use super::ses_parameters::Parameters;
use super::{Config, aws, documents, policy_section};
use crate::mail::SystemClock;
use crate::policy::{AppPolicy, AppPolicyError, OnAuthor};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// The policy; `None` if a part of it has an error.
pub(super) fn plan(config: &Config, users: &KnownUsers, diagnostics: &mut Diagnostics<'_>) -> Option<AppPolicy> {
    let common = Parameters::common(&config.ses.ses_parameters(), diagnostics);
    let others = policy_section::plan(config, &common, diagnostics);
    let mut apps = Vec::new();
    let mut names = HashSet::new();
    for item in Item::all("app", &config.app) {
        let is_first = item.value.name.as_ref().is_none_or(|name| names.insert(name.0.as_str()));
        apps.extend(item.plan(config, users, &common, is_first, diagnostics));
    }
    let documents = documents::read("policy.documents", &config.policy.documents, diagnostics);
    let has_documents = !config.policy.documents.is_empty() || config.app.iter().any(|app| !app.documents.is_empty());
    let account = aws::plan(config, has_documents, diagnostics);
    check_who_may_send(config, users.may_exist(), diagnostics);
    warn_of_roll_out(config, diagnostics);
    if apps.len() < config.app.len() || has_documents && account.is_none() {
        return None;
    }
    if let Some(account) = account.as_ref().filter(|_| documents.is_empty()) {
        documents::check_account(account, &apps, diagnostics);
    }
    let made = AppPolicy::new(apps, others, documents, account, Arc::new(SystemClock));
    let policy = made.map_err(|error| not_decided_here(config, &error, diagnostics)).ok()?;
    warn_of_overlaps(&policy, diagnostics);
    check_identities(config, &policy, diagnostics);
    Some(policy.soft_fail(config.policy.soft_fail))
}

/// A condition of an IAM document that only SES can decide.
fn not_decided_here(config: &Config, error: &AppPolicyError, diagnostics: &mut Diagnostics<'_>) {
    let (AppPolicyError::UnknownKey { place, .. } | AppPolicyError::ManyValues { place, .. }) = error else {
        diagnostics.error("policy", error.to_string(), "see the manual, chapter policy");
        return;
    };
    let of_apps = Item::all("app", &config.app).map(|item| (item.path, &item.value.documents));
    let lists = std::iter::once(("policy".to_owned(), &config.policy.documents)).chain(of_apps);
    let is_it = |file: &&PathBuf| place.starts_with(&format!("{}, ", file.display()));
    let path = lists.into_iter().find_map(|(path, files)| {
        let at = files.iter().position(|file| is_it(&file))?;
        Some(format!("{path}.documents.{at}"))
    });
    let hint = match error {
        AppPolicyError::ManyValues { .. } => "ForAllValues: all recipients must match, ForAnyValue: one of them",
        _ => "remove the condition from the copy that gatepost reads: only AWS can decide it",
    };
    diagnostics.error(path.as_deref().unwrap_or("policy"), error.to_string(), hint);
}

/// Warns of applications that match a client equally well: the first pairs, and how many more there are.
fn warn_of_overlaps(policy: &AppPolicy, diagnostics: &mut Diagnostics<'_>) {
    let pairs = policy.overlaps();
    let name = |index: usize| &policy.apps()[index].name;
    for &(first, second) in pairs.iter().take(OVERLAPS_MAX) {
        let (winner, other) = (name(first), name(second));
        let message = format!("a client can match {winner} and {other} equally; it is recognised as {winner}");
        let hint = "the first in the file is chosen; add a more specific key to one of them";
        diagnostics.warn(&format!("app.{second}.name"), message, hint);
    }
    let more = pairs.len().saturating_sub(OVERLAPS_MAX);
    if more > 0 {
        diagnostics.warn(
            "app",
            format!("{more} more pairs of applications match equally"),
            "the first in the file is chosen",
        );
    }
}

/// Pairs of applications that are listed.
const OVERLAPS_MAX: usize = 100;

/// SES rejects every message of an author that `identity_arn` does not cover.
fn check_identities(config: &Config, policy: &AppPolicy, diagnostics: &mut Diagnostics<'_>) {
    for (index, app) in policy.every_app().enumerate() {
        let Some(arn) = &app.send.identity_arn else { continue };
        let (path, own) = match config.app.get(index) {
            Some(section) => (format!("app.{index}"), section.identity_arn.is_some()),
            None => ("policy".to_owned(), false),
        };
        let key = if own { format!("{path}.identity_arn") } else { format!("{path}.from") };
        let hint = "SES rejects such messages: name the identity of that domain, or remove the pattern";
        for pattern in app.from.iter().filter(|pattern| !pattern.can_match(arn)) {
            diagnostics.error(&key, format!("{pattern} is not covered by the identity {arn}"), hint);
        }
        if let OnAuthor::Rewrite(author) = &app.on_author
            && !arn.covers(&author.mailbox)
        {
            let message = format!("{}, which replaces From, is not covered by the identity {arn}", author.mailbox);
            diagnostics.error(&key, message, hint);
        }
    }
}

/// A listener that other machines can reach, without a statement of who may send, is an error and not an open relay.
fn check_who_may_send(config: &Config, has_users: bool, diagnostics: &mut Diagnostics<'_>) {
    let apps: Vec<Item<'_, App>> = Item::all("app", &config.app).collect();
    for item in Item::all("listener", &config.listener) {
        let listener = item.value;
        let Some(address) = &listener.address else { continue };
        // auth = "any" never identifies a client, and "optional" does not require it.
        let identified =
            (listener.auth == Auth::Required && has_users) || listener.client_certificates == Certificates::Required;
        if identified {
            continue;
        }
        // Clients of the proxy reach this listener.
        let reachable = !address.0.is_local() || !listener.proxy_protocol_from.is_empty();
        let mut reported = false;
        let by_listener = |app: &App| !app.is_identified() && !app.listeners.is_empty();
        for app in apps.iter().filter(|app| reachable && by_listener(app.value)) {
            if app.value.accepts(listener) {
                reported = true;
                let message = format!("every client that reaches {address} would be this application");
                let hint = "name its networks, auth or certificates too, or set auth = \"required\" on the listener";
                diagnostics.error(&app.key("listeners"), message, hint);
            }
        }
        let named = apps.iter().any(|app| app.value.is_identified() && app.value.accepts(listener));
        if !reported && !address.0.is_local() && !named && config.policy.clients.is_none() {
            let message =
                format!("other machines can reach {address}, and the configuration does not limit who may send");
            let hint = "set policy.clients to your networks, or auth = \"required\" with users, or client_certificates = \
                        \"required\", or add an [[app]] with networks, auth or certificates";
            diagnostics.error(&item.key("address"), message, hint);
        }
    }
}

/// Settings that make sense while a policy is rolled out, and should not stay.
fn warn_of_roll_out(config: &Config, diagnostics: &mut Diagnostics<'_>) {
    let of_policy = ("policy".to_owned(), Some(config.policy.enforcement), Some(config.policy.soft_fail));
    let of_apps = Item::all("app", &config.app).map(|item| (item.path, item.value.enforcement, item.value.soft_fail));
    for (path, enforcement, soft_fail) in std::iter::once(of_policy).chain(of_apps) {
        if enforcement == Some(Enforcement::Report) {
            let message = "messages that the rules refuse are sent, and only logged";
            diagnostics.warn(&format!("{path}.enforcement"), message, "for a roll-out only");
        }
        if soft_fail == Some(true) {
            let message = "mail that policy refuses is deferred, so clients keep trying";
            diagnostics.warn(&format!("{path}.soft_fail"), message, "for a roll-out only");
        }
    }
}
