//! What VPC endpoint policies ask for beyond IAM. A document that breaks these is refused when the endpoint is created or
//! changed (`NO_WILDCARD`), minutes after the command said yes in the worst case.
//! AWS PrivateLink Guide, "Control access to VPC endpoints using endpoint policies".

use super::Report;
use super::sheet::{Asked, Entry, Sheet};
use crate::iam::service::SYSTEM_ID_KEYS;

/// "An endpoint policy can contain up to 20,480 characters (including white space)."
const ENDPOINT_CHARACTERS_MAX: usize = 20_480;
/// "At least six consecutive characters before or after each wildcard character", with a string condition operator.
const LITERALS_BESIDE_WILDCARD: usize = 6;

pub(super) fn look(sheet: &Sheet<'_>, report: &mut Report<'_>) {
    let characters = sheet.text.chars().count();
    if characters > ENDPOINT_CHARACTERS_MAX {
        report.document(
            "endpoint-size",
            format!("has {characters} characters; an endpoint policy has at most {ENDPOINT_CHARACTERS_MAX}, white space included"),
        );
    }
    for entry in &sheet.statements {
        for asked in &entry.conditions {
            wildcards(entry, asked, report);
            system_ids(entry, asked, report);
            keys(entry, asked, report);
        }
        let named = entry.principals.iter().map(|(_, name)| name).chain(&entry.resources);
        let compared = entry.conditions.iter().flat_map(|asked| &asked.values);
        for text in named.chain(compared).filter(|text| text.starts_with("arn:")) {
            account_or_wildcard(entry, text, report);
        }
    }
}

fn wildcards(entry: &Entry, asked: &Asked, report: &mut Report<'_>) {
    if !asked.compares_text() || !asked.has_wildcards() {
        return;
    }
    for value in &asked.values {
        if !enough_beside_each_wildcard(value) {
            report.statement(
                "endpoint-wildcard",
                entry,
                Some(&asked.key),
                format!(
                    "{value:?}: an endpoint policy wants at least {LITERALS_BESIDE_WILDCARD} characters in a row before or \
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

fn system_ids(entry: &Entry, asked: &Asked, report: &mut Report<'_>) {
    if !SYSTEM_ID_KEYS.iter().any(|key| key.eq_ignore_ascii_case(&asked.key)) {
        return;
    }
    let wildcard = asked.has_wildcards() && asked.values.iter().any(|value| value.contains(['*', '?']));
    if wildcard || asked.bare.starts_with("numeric") {
        report.statement(
            "endpoint-system-key",
            entry,
            Some(&asked.key),
            format!("{} on a key that holds a system's id: an endpoint policy takes neither wildcards nor numeric operators there", asked.operator),
        );
    }
}

fn keys(entry: &Entry, asked: &Asked, report: &mut Report<'_>) {
    let key = asked.key.to_ascii_lowercase();
    if key.starts_with("ses:") {
        report.statement(
            "endpoint-unproven",
            entry,
            Some(&asked.key),
            "AWS does not document that an SES endpoint policy knows the keys of SES; try it out before you rely on it, \
             or leave the condition to the role's policy, which must allow as well"
                .to_owned(),
        );
    }
    if key == "aws:sourceip" {
        report.statement(
            "endpoint-source-ip",
            entry,
            Some(&asked.key),
            "a request through an endpoint does not carry aws:SourceIp but aws:VpcSourceIp".to_owned(),
        );
    }
}

/// "The account portion of an ARN is an account ID or a wildcard, not both."
fn account_or_wildcard(entry: &Entry, text: &str, report: &mut Report<'_>) {
    let account = text.split(':').nth(4).unwrap_or_default();
    if account.contains(['*', '?']) && account != "*" {
        report.statement(
            "endpoint-account",
            entry,
            None,
            format!("{text:?}: in an endpoint policy the account of an ARN is an id or *, not a mixture"),
        );
    }
}
