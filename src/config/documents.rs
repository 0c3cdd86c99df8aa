//! The IAM policy documents of a plan, and the account that their ARNs are of.

use super::plan::Findings;
use super::source::Source;
use crate::aws::{Document, DocumentKind, Effect};
use crate::policy::AccountSettings;
use std::path::PathBuf;
use std::sync::Arc;

/// IAM policy documents. Anything in them that is not understood is an error, never a statement that does not count.
pub(super) fn documents(findings: &mut Findings<'_>, path: &str, files: &[PathBuf]) -> Vec<Arc<Document>> {
    let mut read = Vec::new();
    for (place, file) in files.iter().enumerate() {
        let path = format!("{path}.{place}");
        let Some(text) = findings.text(&path, &Source::File(file.clone())) else { continue };
        match Document::parse(&file.display().to_string(), &text, DocumentKind::Identity) {
            Ok(document) => {
                for (place, pattern, why) in document.resources_not_allowed() {
                    let message = format!("{}, {place}: resource {pattern:?} fits nothing: {why}", document.name);
                    findings.warn(&path, message, "write it as AWS takes it; `gatepost policy lint` lists all of them");
                }
                read.push(Arc::new(document));
            }
            Err(error) => {
                findings.error(&path, error.to_string(), "an identity policy as IAM takes it: no Principal");
            }
        }
    }
    let allows = |document: &Arc<Document>| document.statements.iter().any(|one| one.effect == Effect::Allow);
    if !read.is_empty() && read.len() == files.len() && !read.iter().any(allows) {
        let message = "no statement allows anything, so these documents refuse every message";
        findings.warn(path, message, "deny alone is not enough: what is not allowed is denied");
    }
    read
}

/// What ARNs are made of.
pub(super) fn account(findings: &mut Findings<'_>, wanted: bool) -> Option<AccountSettings> {
    let config = findings.config;
    let aws = &config.aws;
    if !wanted {
        if config.places.stands("aws") {
            findings.warn("aws", "there are no IAM policy documents, so this is not used", "");
        }
        return None;
    }
    // As the SDK looks for it, but for profile and instance, which are not asked before a start.
    let environment =
        || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| findings.surroundings.variable(name));
    let emulated = config.ses_emulator.settings(None);
    let region = match (&config.ses.region, config.ses.emulator) {
        (Some(region), _) => Some(region.clone()),
        (None, true) => Some(emulated.region.clone()),
        (None, false) => environment().map(str::to_owned),
    };
    let account = match (&aws.account, config.ses.emulator) {
        (Some(account), _) => Some(account.0.clone()),
        (None, true) => Some(emulated.account_id),
        (None, false) => None,
    };
    if account.is_none() {
        let message = "IAM policy documents name ARNs, and nothing says of which account";
        findings.error("aws.account", message, "for example: [aws] account = \"111122223333\"");
    }
    if region.is_none() {
        findings.error(
            "ses.region",
            "IAM policy documents name ARNs, and nothing says of which region",
            "set ses.region",
        );
    }
    let (account, region) = (account?, region?);
    Some(AccountSettings {
        partition: aws.partition.clone().unwrap_or_else(|| partition(&region).to_owned()),
        region,
        account,
        identities: aws.identities.clone(),
        default_configuration_sets: aws
            .default_configuration_sets
            .iter()
            .map(|(identity, set)| (identity.clone(), set.to_string()))
            .collect(),
        sandbox: aws.sandbox,
    })
}

/// AWS General Reference, "ARN format", and the SDK's partitions file.
const PARTITIONS: &[(&str, &str)] = &[
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-isof-", "aws-iso-f"),
    ("eusc-", "aws-eusc"),
];

fn partition(region: &str) -> &'static str {
    PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}
