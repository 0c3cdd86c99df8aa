//! Rules about the language itself: ARNs, principals, versions, operators, sizes. True for every service.

use super::shape::{is_account, is_endpoint, is_region};
use super::sheet::{Asked, Entry, Sheet};
use super::{Kind, Report};
use crate::iam::arn::not_allowed;
use crate::iam::service::MULTIVALUED_KEYS;

/// Rules that say more than the strict reader, which would report the same statement.
pub(super) const SAID_BETTER: &[&str] = &["invalid-resource"];

pub(super) fn look(sheet: &Sheet<'_>, report: &mut Report<'_>) {
    size(sheet, report);
    for entry in &sheet.statements {
        let mut earlier = sheet.statements.iter().take(entry.number - 1);
        if entry.sid.is_some() && earlier.any(|other| other.sid == entry.sid) {
            report.statement("sid", entry, Some("Sid"), "another statement has this Sid; AWS refuses it".to_owned());
        }
        principals(sheet, entry, report);
        for text in &entry.resources {
            resource(sheet, entry, text, report);
        }
        for asked in &entry.conditions {
            condition(entry, asked, report);
            for value in asked.values.iter().filter(|value| value.starts_with("arn:")) {
                placeholders(entry, &asked.key, value, report);
            }
        }
        let texts = entry.resources.iter().chain(entry.conditions.iter().flat_map(|asked| &asked.values));
        if !sheet.variables && texts.into_iter().any(|text| text.contains("${")) {
            report.statement(
                "version",
                entry,
                None,
                "${…} is plain text in this document: policy variables need \"Version\": \"2012-10-17\"".to_owned(),
            );
        }
    }
}

/// IAM and SES count differently: IAM leaves white space out, SES says "4 KB".
/// IAM User Guide, "IAM and AWS STS quotas"; SES API Reference, CreateEmailIdentityPolicy; AWS Organizations User Guide,
/// "Quotas and service limits".
fn size(sheet: &Sheet<'_>, report: &mut Report<'_>) {
    let dense = sheet.text.chars().filter(|c| !c.is_whitespace()).count();
    let (size, limit, whose) = match sheet.kind {
        Kind::Identity => (dense, 6_144, "characters without white space a managed policy may have"),
        Kind::Trust => {
            (dense, 2_048, "characters without white space a trust policy may have, unless the quota was raised")
        }
        Kind::Resource => (sheet.text.len(), 4_096, "octets the policy of an SES identity may have"),
        // An SCP's was 5,120 until it was doubled; an RCP's still is.
        Kind::Scp => (sheet.text.chars().count(), 10_240, "characters a service control policy may have"),
        Kind::Rcp => (sheet.text.chars().count(), 5_120, "characters a resource control policy may have"),
        Kind::Endpoint => return,
    };
    if size > limit {
        report.document("size", format!("has {size} of the {limit} {whose}"));
    }
}

fn principals(sheet: &Sheet<'_>, entry: &Entry, report: &mut Report<'_>) {
    let key = Some("Principal");
    if entry.not_principal {
        report.statement(
            "not-principal",
            entry,
            key,
            if entry.allows {
                "NotPrincipal in Allow opens to everybody else, whoever that is; name Principal".to_owned()
            } else {
                "NotPrincipal in Deny spares a role's sessions only if session, role and account are all listed, and nobody \
                 who has a permissions boundary; use Principal \"*\" and ArnNotEquals on aws:PrincipalArn"
                    .to_owned()
            },
        );
    }
    for (kind, name) in &entry.principals {
        let open = name == "*" && entry.allows && !entry.not_principal;
        if open && matches!(sheet.kind, Kind::Resource | Kind::Trust) && entry.conditions.is_empty() {
            let text = "everybody in every account is allowed; name the account or role, or add a condition";
            report.statement("open", entry, key, text.to_owned());
        }
        if name == "*" || kind != "AWS" {
            continue;
        }
        if name.starts_with("arn:") && !name.contains(['*', '?']) {
            placeholders(entry, "Principal", name, report);
            continue;
        }
        let text = if ["AROA", "AIDA"].iter().any(|start| name.starts_with(start)) {
            format!("{name} is the id of a user or role that no longer exists; nobody matches")
        } else if name.contains(['*', '?']) {
            format!("{name:?}: no wildcards inside a principal; name it, or use Principal \"*\" and aws:PrincipalArn")
        } else if is_account(name) {
            continue;
        } else {
            format!("{name:?} is neither an account of twelve digits nor an ARN")
        };
        report.statement("principal", entry, key, text);
    }
}

/// The shape of a resource.
fn resource(sheet: &Sheet<'_>, entry: &Entry, text: &str, report: &mut Report<'_>) {
    if text == "*" {
        return;
    }
    let consequence = match (entry.denies, entry.not_resource) {
        (true, false) => "this Deny denies nothing there",
        (true, true) => "this Deny does not spare it",
        (false, _) => "nothing is allowed by it",
    };
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let tail = parts.len() >= 3 && text.ends_with('*');
    if parts[0] != "arn" || parts.len() < 6 && !tail {
        let text = format!("{text:?} is no ARN (arn:partition:service:region:account:resource): {consequence}");
        report.statement("invalid-resource", entry, Some("Resource"), text);
        return;
    }
    // Of what a template left there, [`placeholders`] speaks.
    let why = not_allowed(text, sheet.variables).filter(|_| !text.contains("${AWS::"));
    if let Some(why) = why {
        report.statement("invalid-resource", entry, Some("Resource"), format!("{text:?}: {why}: {consequence}"));
    }
    placeholders(entry, "Resource", text, report);
}

/// What a template left in an ARN.
pub(super) fn placeholders(entry: &Entry, key: &str, arn: &str, report: &mut Report<'_>) {
    let mut say = |text: String| report.statement("placeholder", entry, Some(key), format!("{arn:?}: {text}"));
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    if arn.contains("${AWS::") || arn.contains("{{") || arn.contains(['<', '>']) {
        return say("a placeholder was not filled in".to_owned());
    }
    // A policy variable may stand for anything, and has colons.
    let [_, partition, service, region, account, resource] = parts[..] else { return };
    if arn.contains("${") {
        return;
    }
    if !matches!(partition, "aws" | "aws-us-gov" | "aws-cn") && !partition.contains('*') {
        say(format!("{partition:?} is no partition (aws, aws-us-gov)"));
    }
    let wild = |part: &str| part.contains(['*', '?']);
    let no_account_wanted = account == "aws" || account.is_empty() && service == "s3";
    if !wild(account) && !is_account(account) && !no_account_wanted {
        say(format!("{account:?} is no account of twelve digits"));
    }
    if !region.is_empty() && !wild(region) && !is_region(region) {
        say(format!("{region:?} is no region"));
    }
    if region.is_empty() && service == "ses" {
        say("SES resources have a region".to_owned());
    }
    if !region.is_empty() && !wild(region) && !wild(partition) && is_region(region) {
        let gov = region.starts_with("us-gov-");
        if gov != (partition == "aws-us-gov") {
            say(format!("region {region} is not in partition {partition}"));
        }
    }
    if resource.is_empty() || resource.ends_with('/') {
        say("the name is missing".to_owned());
    }
}

fn condition(entry: &Entry, asked: &Asked, report: &mut Report<'_>) {
    let key = Some(asked.key.as_str());
    if asked.for_all && entry.allows && !presence_is_asked(entry, &asked.key) {
        report.statement(
            "for-all-values",
            entry,
            key,
            format!(
                "{} is true for a request without the key; in Allow add \"Null\": {{\"{}\": \"false\"}}",
                asked.operator, asked.key
            ),
        );
    }
    let multivalued = MULTIVALUED_KEYS.iter().any(|known| known.eq_ignore_ascii_case(&asked.key));
    if multivalued && !asked.for_all && !asked.for_any && asked.bare != "null" {
        report.statement(
            "multivalued",
            entry,
            key,
            format!("the key has several values: {} wants ForAllValues: or ForAnyValue: in front", asked.operator),
        );
    }
    if asked.compares_text() && !asked.has_wildcards() {
        for value in asked.values.iter().filter(|value| value.replace("${*}", "").contains('*')) {
            let like = asked.operator.replace("EqualsIgnoreCase", "Like").replace("Equals", "Like");
            let text = format!("{value:?}: * is a plain character to {}; {like} has wildcards", asked.operator);
            report.statement("literal-star", entry, key, text);
        }
    }
    if asked.compares_text() && asked.has_wildcards() {
        for value in asked.values.iter().filter(|value| value.contains(".*")) {
            let text = format!(
                "{value:?}: {} has no regular expressions: .* is a dot and then anything; * alone is anything",
                asked.operator
            );
            report.statement("regular-expression", entry, key, text);
        }
    }
    if asked.compares_text() && ADDRESS_KEYS.iter().any(|known| known.eq_ignore_ascii_case(&asked.key)) {
        for value in asked.values.iter().filter(|value| value.contains(['<', '>'])) {
            let hint = "the key has the address alone, without display name and angle brackets; ses:FromDisplayName has the name";
            report.statement("display-name", entry, key, format!("{value:?}: {hint}"));
        }
    }
    if asked.key.eq_ignore_ascii_case("aws:SourceVpce") {
        for value in asked.values.iter().filter(|value| !is_endpoint(value) && !asked.has_wildcards()) {
            report.statement(
                "placeholder",
                entry,
                key,
                format!("{value:?} is no VPC endpoint id (vpce- and 8 or 17 hexadecimal digits)"),
            );
        }
    }
}

/// Keys whose values are addresses.
const ADDRESS_KEYS: &[&str] = &["ses:FromAddress", "ses:FeedbackAddress", "ses:Recipients"];

/// Whether another condition of the statement fails without the key.
fn presence_is_asked(entry: &Entry, key: &str) -> bool {
    entry.conditions.iter().any(|other| {
        other.key.eq_ignore_ascii_case(key)
            && if other.bare == "null" {
                other.values.iter().all(|value| value.eq_ignore_ascii_case("false"))
            } else {
                !other.true_without_key()
            }
    })
}
