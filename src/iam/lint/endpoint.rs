//! Rules of VPC endpoint policies beyond IAM. AWS refuses a document that violates them when the endpoint is created or
//! changed (`NO_WILDCARD`), which may be minutes after the command succeeded. AWS PrivateLink Guide, "Control access to
//! VPC endpoints using endpoint policies".

use super::Report;
use super::lenient::{LenientCondition, LenientDocument, LenientStatement};
use crate::iam::service::SYSTEM_ID_KEYS;

/// "An endpoint policy can contain up to 20,480 characters (including white space)."
const ENDPOINT_CHARACTERS_MAX: usize = 20_480;
/// "At least six consecutive characters before or after each wildcard character", with a string condition operator.
const LITERALS_BESIDE_WILDCARD: usize = 6;

pub(super) fn check(document: &LenientDocument<'_>, report: &mut Report<'_>) {
    let characters = document.text.chars().count();
    if characters > ENDPOINT_CHARACTERS_MAX {
        report.document(
            "endpoint-size",
            format!("has {characters} characters; an endpoint policy has at most {ENDPOINT_CHARACTERS_MAX}, white space included"),
        );
    }
    for statement in &document.statements {
        for condition in &statement.conditions {
            wildcards(statement, condition, report);
            system_ids(statement, condition, report);
            keys(statement, condition, report);
        }
        let named = statement.principals.iter().map(|(_, name)| name).chain(&statement.resources);
        let compared = statement.conditions.iter().flat_map(|condition| &condition.values);
        for text in named.chain(compared).filter(|text| text.starts_with("arn:")) {
            account_or_wildcard(statement, text, report);
        }
    }
}

fn wildcards(statement: &LenientStatement, condition: &LenientCondition, report: &mut Report<'_>) {
    if !condition.compares_text() || !condition.has_wildcards() {
        return;
    }
    for value in &condition.values {
        if !enough_beside_each_wildcard(value) {
            report.statement(
                "endpoint-wildcard",
                statement,
                Some(&condition.key),
                format!(
                    "{value:?}: an endpoint policy needs at least {LITERALS_BESIDE_WILDCARD} characters in a row before or \
                     after each wildcard of a string operator; write the value out, or leave it to the role's policy"
                ),
            );
        }
    }
}

/// Whether each wildcard has a long enough run of other characters right before or right after it.
fn enough_beside_each_wildcard(value: &str) -> bool {
    let runs: Vec<usize> = value.split(['*', '?']).map(|run| run.chars().count()).collect();
    runs.windows(2).all(|pair| pair.iter().any(|run| *run >= LITERALS_BESIDE_WILDCARD))
}

fn system_ids(statement: &LenientStatement, condition: &LenientCondition, report: &mut Report<'_>) {
    if !SYSTEM_ID_KEYS.iter().any(|key| key.eq_ignore_ascii_case(&condition.key)) {
        return;
    }
    let wildcard = condition.has_wildcards() && condition.values.iter().any(|value| value.contains(['*', '?']));
    if wildcard || condition.bare.starts_with("numeric") {
        report.statement(
            "endpoint-system-key",
            statement,
            Some(&condition.key),
            format!("{} on a key that holds a system's id: an endpoint policy takes neither wildcards nor numeric operators there", condition.operator),
        );
    }
}

fn keys(statement: &LenientStatement, condition: &LenientCondition, report: &mut Report<'_>) {
    let key = condition.key.to_ascii_lowercase();
    if key.starts_with("ses:") {
        report.statement(
            "endpoint-unproven",
            statement,
            Some(&condition.key),
            "AWS does not document that an SES endpoint policy knows the keys of SES; try it out before you rely on it, \
             or leave the condition to the role's policy, which must allow as well"
                .to_owned(),
        );
    }
    if key == "aws:sourceip" {
        report.statement(
            "endpoint-source-ip",
            statement,
            Some(&condition.key),
            "a request through an endpoint does not carry aws:SourceIp but aws:VpcSourceIp".to_owned(),
        );
    }
}

/// "The account portion of an ARN is an account ID or a wildcard, not both."
fn account_or_wildcard(statement: &LenientStatement, text: &str, report: &mut Report<'_>) {
    let account = text.split(':').nth(4).unwrap_or_default();
    if account.contains(['*', '?']) && account != "*" {
        report.statement(
            "endpoint-account",
            statement,
            None,
            format!("{text:?}: in an endpoint policy the account of an ARN is an id or *, not a mixture"),
        );
    }
}
