//! Rules about what SES makes of a policy: which actions there are, which resources and keys each knows, and that raw
//! content is sent under another action than the operation's name says.

use super::sheet::{Asked, Entry, Sheet};
use super::{Kind, NO_CONFIGURATION_SET, Report, did_you_mean};
use crate::iam::arn::not_allowed;
use crate::iam::service::{Action, actions, actions_named, is_global_key, own_keys, resource_types};

pub(super) fn look(sheet: &Sheet<'_>, report: &mut Report<'_>) {
    if sheet.kind == Kind::Trust {
        return;
    }
    for entry in &sheet.statements {
        for text in &entry.actions {
            action(entry, text, report);
        }
        resources(entry, report);
        for asked in &entry.conditions {
            key(entry, asked, report);
        }
    }
    raw(sheet, report);
    if sheet.kind == Kind::Identity {
        configuration_set(sheet, report);
    }
}

fn action(entry: &Entry, text: &str, report: &mut Report<'_>) {
    let key = if entry.not_action { "NotAction" } else { "Action" };
    let Some((service, name)) = text.split_once(':') else {
        if text != "*" && actions().any(|action| action.name.eq_ignore_ascii_case(text)) {
            report.statement("unknown-action", entry, Some(key), format!("{text:?}: did you mean \"ses:{text}\"?"));
        }
        return;
    };
    if ["sesv2", "email", "ses-v2", "sesv1"].iter().any(|other| other.eq_ignore_ascii_case(service)) {
        let text = format!(
            "{text:?}: the prefix is ses for both versions of the API, so this names nothing; did you mean \"ses:{name}\"?"
        );
        report.statement("unknown-action", entry, Some(key), text);
        return;
    }
    if service.eq_ignore_ascii_case("ses") && actions_named(text).is_empty() {
        let near = did_you_mean(name, actions().map(|action| action.name));
        let hint = near.map(|near| format!("; did you mean \"ses:{near}\"?")).unwrap_or_default();
        report.statement("unknown-action", entry, Some(key), format!("SES has no action {text:?}{hint}"));
    }
}

/// Whether each resource is of a type that some action of the statement is checked against, and each action meets one.
fn resources(entry: &Entry, report: &mut Report<'_>) {
    if entry.not_resource
        || entry.not_action
        || entry.resources.is_empty()
        || entry.actions.iter().any(|text| text == "*")
    {
        return;
    }
    let ours = entry.actions.iter().all(|text| text.to_ascii_lowercase().starts_with("ses:"));
    let known: Vec<Action> = entry.known_actions().collect();
    if !ours || known.is_empty() {
        return;
    }
    let consequence = if entry.denies { "so this Deny never applies" } else { "so nothing is allowed by it" };
    let all_star = known.iter().all(Action::takes_only_star);
    let mut say = |rule, text: String| report.statement(rule, entry, Some("Resource"), text);
    for text in &entry.resources {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [_, _, service, _, _, resource] = parts[..] else { continue };
        let (name, _) = resource.split_once('/').unwrap_or((resource, ""));
        // A pattern may be meant for many types; of one in the service, and of placeholders, the language's own rules speak.
        if name.contains(['*', '?', '$']) || not_allowed(text, true).is_some() {
            continue;
        }
        if service != "ses" {
            say("resource-type", format!("{text:?} is not a resource of SES, {consequence}"));
        } else if !resource_types().any(|known| known == name) {
            let near = did_you_mean(name, resource_types());
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            say("resource-type", format!("{text:?}: SES has no resources of type {name:?}, {consequence}{hint}"));
        } else if !all_star && !known.iter().any(|action| action.resource_types().any(|checked| checked == name)) {
            say("resource-type", format!("{text:?}: none of the actions is checked against {name}, {consequence}"));
        }
    }
    if entry.resources.iter().any(|text| text == "*") {
        return;
    }
    for text in &entry.actions {
        if let [only] = actions_named(text)[..]
            && only.takes_only_star()
        {
            say(
                "star-only",
                format!("{text} takes only Resource \"*\", {consequence}; give it a statement of its own"),
            );
        }
    }
}

fn key(entry: &Entry, asked: &Asked, report: &mut Report<'_>) {
    let Some((prefix, _)) = asked.key.split_once(':') else { return };
    let mut say = |text: String| report.statement("condition-key", entry, Some(&asked.key), text);
    match prefix.to_ascii_lowercase().as_str() {
        "ses" if !own_keys().any(|known| known.eq_ignore_ascii_case(&asked.key)) => {
            let near = did_you_mean(&asked.key, own_keys());
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            say(format!("SES has no such key, {}{hint}", consequence(entry, asked)));
        }
        "ses" => {
            // A wildcard names many actions; there the key is for those that have it.
            let without: Vec<&str> = entry
                .actions
                .iter()
                .filter(|_| !entry.not_action)
                .filter(|text| {
                    let named = actions_named(text);
                    !named.is_empty() && !named.iter().any(|action| action.provides(&asked.key))
                })
                .map(String::as_str)
                .collect();
            if !without.is_empty() {
                say(format!("SES does not provide it for {}, {}", without.join(", "), consequence(entry, asked)));
            }
        }
        "aws" if !is_global_key(&asked.key) => {
            let near = did_you_mean(&asked.key, crate::iam::service::GLOBAL_KEYS);
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            say(format!("AWS has no such global key, {}{hint}", consequence(entry, asked)));
        }
        _ => {}
    }
}

/// What becomes of a statement that asks for a key that no request has.
fn consequence(entry: &Entry, asked: &Asked) -> &'static str {
    let holds = if asked.bare == "null" {
        asked.values.iter().any(|value| value.eq_ignore_ascii_case("true"))
    } else {
        asked.true_without_key()
    };
    match (holds, entry.denies) {
        (true, true) => "so the condition always holds and the Deny hits every request",
        (true, false) => "so the condition always holds and limits nothing",
        (false, true) => "so the condition never holds and the Deny hits no request",
        (false, false) => "so the condition never holds and nothing is allowed",
    }
}

/// `SendEmail` of the SES v2 API with raw content, and everything over SMTP, is authorised as `ses:SendRawEmail`.
fn raw(sheet: &Sheet<'_>, report: &mut Report<'_>) {
    let covers =
        |entry: &Entry| entry.not_action || entry.names("SendRawEmail") || entry.actions.iter().any(|text| text == "*");
    for entry in sheet.statements.iter().filter(|entry| entry.names("SendEmail") && !covers(entry)) {
        let elsewhere = sheet
            .statements
            .iter()
            .any(|other| (other.allows, other.denies) == (entry.allows, entry.denies) && covers(other));
        if elsewhere {
            continue;
        }
        let text = if entry.denies {
            "ses:SendEmail is denied and ses:SendRawEmail is not: raw content, which a relay sends, passes"
        } else {
            "ses:SendEmail without ses:SendRawEmail: raw content, which a relay sends, is authorised as ses:SendRawEmail, \
             also by SendEmail of the v2 API"
        };
        report.statement("send-raw-email", entry, Some("Action"), text.to_owned());
    }
}

/// SES authorises a message for its configuration set too, also for one that the identity or the account has by default.
fn configuration_set(sheet: &Sheet<'_>, report: &mut Report<'_>) {
    let sends = |entry: &&Entry| {
        entry.allows && !entry.not_resource && !entry.resources.is_empty() && entry.names("SendRawEmail")
    };
    let anywhere = sheet.statements.iter().filter(|entry| entry.allows).any(|entry| {
        let sends = entry.not_action || entry.names("SendRawEmail") || entry.actions.iter().any(|text| text == "*");
        sends && (entry.not_resource || entry.resources.iter().any(|text| covers_a_set(text)))
    });
    let Some(entry) = sheet.statements.iter().find(sends).filter(|_| !anywhere) else { return };
    let text = "no configuration set is among the resources, so a message with one is refused, also with one that the identity \
                or the account has by default; add arn:…:configuration-set/NAME";
    report.statement(NO_CONFIGURATION_SET, entry, Some("Resource"), text.to_owned());
}

/// Whether a resource pattern can fit a configuration set.
fn covers_a_set(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts[..] {
        [_, _, _, _, _, resource] => {
            resource.starts_with("configuration-set/") || resource == "*" || text.contains("${")
        }
        _ => text.ends_with('*'),
    }
}
