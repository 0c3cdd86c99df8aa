//! Rules about SES: which actions exist, which resources and keys each supports, and that raw content requires another
//! action than the name of the operation suggests.

use super::lenient::{LenientCondition, LenientDocument, LenientStatement};
use super::{Kind, NO_CONFIGURATION_SET, Report, did_you_mean};
use crate::iam::arn::not_allowed;
use crate::iam::service::{Action, actions, actions_named, is_global_key, own_keys, resource_types};

pub(super) fn check(document: &LenientDocument<'_>, report: &mut Report<'_>) {
    if document.kind == Kind::Trust {
        return;
    }
    for statement in &document.statements {
        for text in &statement.actions {
            action(statement, text, report);
        }
        resources(statement, report);
        for condition in &statement.conditions {
            key(statement, condition, report);
        }
    }
    raw(document, report);
    if document.kind == Kind::Identity {
        configuration_set(document, report);
    }
}

fn action(statement: &LenientStatement, text: &str, report: &mut Report<'_>) {
    let key = if statement.not_action { "NotAction" } else { "Action" };
    let Some((service, name)) = text.split_once(':') else {
        if text != "*" && actions().any(|action| action.name.eq_ignore_ascii_case(text)) {
            report.statement("unknown-action", statement, Some(key), format!("{text:?}: did you mean \"ses:{text}\"?"));
        }
        return;
    };
    if ["sesv2", "email", "ses-v2", "sesv1"].iter().any(|other| other.eq_ignore_ascii_case(service)) {
        let text = format!(
            "{text:?}: the prefix is ses for both versions of the API, so this names nothing; did you mean \"ses:{name}\"?"
        );
        report.statement("unknown-action", statement, Some(key), text);
        return;
    }
    if service.eq_ignore_ascii_case("ses") && actions_named(text).is_empty() {
        let near = did_you_mean(name, actions().map(|action| action.name));
        let hint = near.map(|near| format!("; did you mean \"ses:{near}\"?")).unwrap_or_default();
        report.statement("unknown-action", statement, Some(key), format!("SES has no action {text:?}{hint}"));
    }
}

/// Whether each resource is of a type that some action of the statement is checked against, and each action meets one.
fn resources(statement: &LenientStatement, report: &mut Report<'_>) {
    if statement.not_resource
        || statement.not_action
        || statement.resources.is_empty()
        || statement.actions.iter().any(|text| text == "*")
    {
        return;
    }
    let ours = statement.actions.iter().all(|text| text.to_ascii_lowercase().starts_with("ses:"));
    let known: Vec<Action> = statement.known_actions().collect();
    if !ours || known.is_empty() {
        return;
    }
    let consequence = if statement.denies { "so this Deny never applies" } else { "so nothing is allowed by it" };
    let all_star = known.iter().all(Action::takes_only_star);
    let mut finding = |rule, text: String| report.statement(rule, statement, Some("Resource"), text);
    for text in &statement.resources {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [_, _, service, _, _, resource] = parts[..] else { continue };
        let (name, _) = resource.split_once('/').unwrap_or((resource, ""));
        // A pattern may be meant for many types. One in the service, and placeholders, are reported by `rules`.
        if name.contains(['*', '?', '$']) || not_allowed(text, true).is_some() {
            continue;
        }
        if service != "ses" {
            finding("resource-type", format!("{text:?} is not a resource of SES, {consequence}"));
        } else if !resource_types().any(|known| known == name) {
            let near = did_you_mean(name, resource_types());
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            finding("resource-type", format!("{text:?}: SES has no resources of type {name:?}, {consequence}{hint}"));
        } else if !all_star && !known.iter().any(|action| action.resource_types().any(|checked| checked == name)) {
            finding("resource-type", format!("{text:?}: none of the actions is checked against {name}, {consequence}"));
        }
    }
    if statement.resources.iter().any(|text| text == "*") {
        return;
    }
    for text in &statement.actions {
        if let [only] = actions_named(text)[..]
            && only.takes_only_star()
        {
            finding(
                "star-only",
                format!("{text} takes only Resource \"*\", {consequence}; give it a statement of its own"),
            );
        }
    }
}

fn key(statement: &LenientStatement, condition: &LenientCondition, report: &mut Report<'_>) {
    let Some((prefix, _)) = condition.key.split_once(':') else { return };
    let mut finding = |text: String| report.statement("condition-key", statement, Some(&condition.key), text);
    match prefix.to_ascii_lowercase().as_str() {
        "ses" if !own_keys().any(|known| known.eq_ignore_ascii_case(&condition.key)) => {
            let near = did_you_mean(&condition.key, own_keys());
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            finding(format!("SES has no such key, {}{hint}", consequence(statement, condition)));
        }
        "ses" => {
            // A wildcard matches many actions, and the key may be meant for those that have it.
            let without: Vec<&str> = statement
                .actions
                .iter()
                .filter(|_| !statement.not_action)
                .filter(|text| {
                    let named = actions_named(text);
                    !named.is_empty() && !named.iter().any(|action| action.provides(&condition.key))
                })
                .map(String::as_str)
                .collect();
            if !without.is_empty() {
                finding(format!(
                    "SES does not provide it for {}, {}",
                    without.join(", "),
                    consequence(statement, condition)
                ));
            }
        }
        "aws" if !is_global_key(&condition.key) => {
            let near = did_you_mean(&condition.key, crate::iam::service::GLOBAL_KEYS);
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            finding(format!("AWS has no such global key, {}{hint}", consequence(statement, condition)));
        }
        _ => {}
    }
}

/// The effect of a condition on a key that no request has.
fn consequence(statement: &LenientStatement, condition: &LenientCondition) -> &'static str {
    let holds = if condition.bare == "null" {
        condition.values.iter().any(|value| value.eq_ignore_ascii_case("true"))
    } else {
        condition.true_without_key()
    };
    match (holds, statement.denies) {
        (true, true) => "so the condition always holds and the Deny hits every request",
        (true, false) => "so the condition always holds and limits nothing",
        (false, true) => "so the condition never holds and the Deny hits no request",
        (false, false) => "so the condition never holds and nothing is allowed",
    }
}

/// `SendEmail` of the SES v2 API with raw content, and everything over SMTP, is authorised as `ses:SendRawEmail`.
fn raw(document: &LenientDocument<'_>, report: &mut Report<'_>) {
    let covers = |statement: &LenientStatement| {
        statement.not_action || statement.names("SendRawEmail") || statement.actions.iter().any(|text| text == "*")
    };
    for statement in document.statements.iter().filter(|statement| statement.names("SendEmail") && !covers(statement)) {
        let elsewhere = document
            .statements
            .iter()
            .any(|other| (other.allows, other.denies) == (statement.allows, statement.denies) && covers(other));
        if elsewhere {
            continue;
        }
        let text = if statement.denies {
            "ses:SendEmail is denied and ses:SendRawEmail is not: raw content, which a relay sends, passes"
        } else {
            "ses:SendEmail without ses:SendRawEmail: raw content, which a relay sends, is authorised as ses:SendRawEmail, \
             also by SendEmail of the v2 API"
        };
        report.statement("send-raw-email", statement, Some("Action"), text.to_owned());
    }
}

/// SES authorises a message for its configuration set too, also for one that the identity or the account has by default.
fn configuration_set(document: &LenientDocument<'_>, report: &mut Report<'_>) {
    let sends = |statement: &&LenientStatement| {
        statement.allows
            && !statement.not_resource
            && !statement.resources.is_empty()
            && statement.names("SendRawEmail")
    };
    let anywhere = document.statements.iter().filter(|statement| statement.allows).any(|statement| {
        let sends =
            statement.not_action || statement.names("SendRawEmail") || statement.actions.iter().any(|text| text == "*");
        sends && (statement.not_resource || statement.resources.iter().any(|text| covers_a_set(text)))
    });
    let Some(statement) = document.statements.iter().find(sends).filter(|_| !anywhere) else { return };
    let text = "no configuration set is among the resources, so a message with one is refused, also with one that the identity \
                or the account has by default; add arn:…:configuration-set/NAME";
    report.statement(NO_CONFIGURATION_SET, statement, Some("Resource"), text.to_owned());
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
