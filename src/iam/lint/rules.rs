//! Rules about the language itself: ARNs, principals, versions, operators, sizes. True for every service.

use super::arn_syntax::{is_account, is_endpoint, is_region};
use super::lenient::{LenientCondition, LenientDocument, LenientStatement};
use super::{Kind, Report};
use crate::iam::arn::not_allowed;
use crate::iam::service::MULTIVALUED_KEYS;

/// Rules whose findings are more precise than the parser's error for the same statement.
pub(super) const MORE_PRECISE: &[&str] = &["invalid-resource"];

pub(super) fn check(document: &LenientDocument<'_>, report: &mut Report<'_>) {
    size(document, report);
    for statement in &document.statements {
        let mut earlier = document.statements.iter().take(statement.number - 1);
        if statement.sid.is_some() && earlier.any(|other| other.sid == statement.sid) {
            report.statement(
                "sid",
                statement,
                Some("Sid"),
                "another statement has this Sid; AWS refuses it".to_owned(),
            );
        }
        principals(document, statement, report);
        for text in &statement.resources {
            resource(document, statement, text, report);
        }
        for condition in &statement.conditions {
            check_condition(statement, condition, report);
            for value in condition.values.iter().filter(|value| value.starts_with("arn:")) {
                placeholders(statement, &condition.key, value, report);
            }
        }
        let texts =
            statement.resources.iter().chain(statement.conditions.iter().flat_map(|condition| &condition.values));
        if !document.variables && texts.into_iter().any(|text| text.contains("${")) {
            report.statement(
                "version",
                statement,
                None,
                "${…} is plain text in this document: policy variables need \"Version\": \"2012-10-17\"".to_owned(),
            );
        }
    }
}

/// The size limits. IAM does not count white space; SES specifies "4 KB".
/// IAM User Guide, "IAM and AWS STS quotas"; SES API Reference, CreateEmailIdentityPolicy; AWS Organizations User Guide,
/// "Quotas and service limits".
fn size(document: &LenientDocument<'_>, report: &mut Report<'_>) {
    let dense = document.text.chars().filter(|c| !c.is_whitespace()).count();
    let (size, limit, owner) = match document.kind {
        Kind::Identity => (dense, 6_144, "characters without white space a managed policy may have"),
        Kind::Trust => {
            (dense, 2_048, "characters without white space a trust policy may have, unless the quota was raised")
        }
        Kind::Resource => (document.text.len(), 4_096, "octets the policy of an SES identity may have"),
        // An SCP's was 5,120 until it was doubled; an RCP's still is.
        Kind::Scp => (document.text.chars().count(), 10_240, "characters a service control policy may have"),
        Kind::Rcp => (document.text.chars().count(), 5_120, "characters a resource control policy may have"),
        Kind::Endpoint => return,
    };
    if size > limit {
        report.document("size", format!("has {size} of the {limit} {owner}"));
    }
}

fn principals(document: &LenientDocument<'_>, statement: &LenientStatement, report: &mut Report<'_>) {
    let key = Some("Principal");
    if statement.not_principal {
        report.statement(
            "not-principal",
            statement,
            key,
            if statement.allows {
                "NotPrincipal in Allow allows all other principals of all accounts; use Principal".to_owned()
            } else {
                "NotPrincipal in Deny exempts a session only if session, role and account are all listed, and never a \
                 principal with a permissions boundary; use Principal \"*\" and ArnNotEquals on aws:PrincipalArn"
                    .to_owned()
            },
        );
    }
    for (kind, name) in &statement.principals {
        let open = name == "*" && statement.allows && !statement.not_principal;
        if open && matches!(document.kind, Kind::Resource | Kind::Trust) && statement.conditions.is_empty() {
            let text = "all principals of all accounts are allowed; name the account or role, or add a condition";
            report.statement("open", statement, key, text.to_owned());
        }
        if name == "*" || kind != "AWS" {
            continue;
        }
        if name.starts_with("arn:") && !name.contains(['*', '?']) {
            placeholders(statement, "Principal", name, report);
            continue;
        }
        let text = if ["AROA", "AIDA"].iter().any(|start| name.starts_with(start)) {
            format!("{name} is the id of a user or role that no longer exists; no principal matches")
        } else if name.contains(['*', '?']) {
            format!("{name:?}: no wildcards inside a principal; name it, or use Principal \"*\" and aws:PrincipalArn")
        } else if is_account(name) {
            continue;
        } else {
            format!("{name:?} is neither an account of twelve digits nor an ARN")
        };
        report.statement("principal", statement, key, text);
    }
}

/// Checks the form of a resource.
fn resource(document: &LenientDocument<'_>, statement: &LenientStatement, text: &str, report: &mut Report<'_>) {
    if text == "*" {
        return;
    }
    let consequence = match (statement.denies, statement.not_resource) {
        (true, false) => "this Deny denies nothing there",
        (true, true) => "this Deny does not spare it",
        (false, _) => "nothing is allowed by it",
    };
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let tail = parts.len() >= 3 && text.ends_with('*');
    if parts[0] != "arn" || parts.len() < 6 && !tail {
        let text = format!("{text:?} is not an ARN (arn:partition:service:region:account:resource): {consequence}");
        report.statement("invalid-resource", statement, Some("Resource"), text);
        return;
    }
    // Placeholders of a template are reported by [`placeholders`].
    let why = not_allowed(text, document.variables).filter(|_| !text.contains("${AWS::"));
    if let Some(why) = why {
        report.statement("invalid-resource", statement, Some("Resource"), format!("{text:?}: {why}: {consequence}"));
    }
    placeholders(statement, "Resource", text, report);
}

/// Finds placeholders of templates in an ARN.
pub(super) fn placeholders(statement: &LenientStatement, key: &str, arn: &str, report: &mut Report<'_>) {
    let mut say = |text: String| report.statement("placeholder", statement, Some(key), format!("{arn:?}: {text}"));
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    if arn.contains("${AWS::") || arn.contains("{{") || arn.contains(['<', '>']) {
        return say("a placeholder was not filled in".to_owned());
    }
    // A policy variable may have any value, and contains colons.
    let [_, partition, service, region, account, resource] = parts[..] else { return };
    if arn.contains("${") {
        return;
    }
    if !matches!(partition, "aws" | "aws-us-gov" | "aws-cn") && !partition.contains('*') {
        say(format!("{partition:?} is not a partition (aws, aws-us-gov)"));
    }
    let wild = |part: &str| part.contains(['*', '?']);
    let no_account_wanted = account == "aws" || account.is_empty() && service == "s3";
    if !wild(account) && !is_account(account) && !no_account_wanted {
        say(format!("{account:?} is not an account of twelve digits"));
    }
    if !region.is_empty() && !wild(region) && !is_region(region) {
        say(format!("{region:?} is not a region"));
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

fn check_condition(statement: &LenientStatement, condition: &LenientCondition, report: &mut Report<'_>) {
    let key = Some(condition.key.as_str());
    if condition.for_all && statement.allows && !presence_is_asked(statement, &condition.key) {
        report.statement(
            "for-all-values",
            statement,
            key,
            format!(
                "{} is true for a request without the key; in Allow add \"Null\": {{\"{}\": \"false\"}}",
                condition.operator, condition.key
            ),
        );
    }
    let multivalued = MULTIVALUED_KEYS.iter().any(|known| known.eq_ignore_ascii_case(&condition.key));
    if multivalued && !condition.for_all && !condition.for_any && condition.bare != "null" {
        report.statement(
            "multivalued",
            statement,
            key,
            format!("the key has several values: {} needs ForAllValues: or ForAnyValue: in front", condition.operator),
        );
    }
    if condition.compares_text() && !condition.has_wildcards() {
        for value in condition.values.iter().filter(|value| value.replace("${*}", "").contains('*')) {
            let like = condition.operator.replace("EqualsIgnoreCase", "Like").replace("Equals", "Like");
            let text = format!("{value:?}: * is a plain character to {}; {like} has wildcards", condition.operator);
            report.statement("literal-star", statement, key, text);
        }
    }
    if condition.compares_text() && condition.has_wildcards() {
        for value in condition.values.iter().filter(|value| value.contains(".*")) {
            let text = format!(
                "{value:?}: {} has no regular expressions: .* is a dot and then anything; * alone is anything",
                condition.operator
            );
            report.statement("regular-expression", statement, key, text);
        }
    }
    if condition.compares_text() && ADDRESS_KEYS.iter().any(|known| known.eq_ignore_ascii_case(&condition.key)) {
        for value in condition.values.iter().filter(|value| value.contains(['<', '>'])) {
            let hint = "the key has the address alone, without display name and angle brackets; ses:FromDisplayName has the name";
            report.statement("display-name", statement, key, format!("{value:?}: {hint}"));
        }
    }
    if condition.key.eq_ignore_ascii_case("aws:SourceVpce") {
        for value in condition.values.iter().filter(|value| !is_endpoint(value) && !condition.has_wildcards()) {
            report.statement(
                "placeholder",
                statement,
                key,
                format!("{value:?} is not a VPC endpoint id (vpce- and 8 or 17 hexadecimal digits)"),
            );
        }
    }
}

/// Keys whose values are addresses.
const ADDRESS_KEYS: &[&str] = &["ses:FromAddress", "ses:FeedbackAddress", "ses:Recipients"];

/// Whether another condition of the statement fails without the key.
fn presence_is_asked(statement: &LenientStatement, key: &str) -> bool {
    statement.conditions.iter().any(|other| {
        other.key.eq_ignore_ascii_case(key)
            && if other.bare == "null" {
                other.values.iter().all(|value| value.eq_ignore_ascii_case("false"))
            } else {
                !other.true_without_key()
            }
    })
}
