//! `[aws]`: the account of the ARNs in IAM policy documents.

use super::Config;
use super::diagnostics::Diagnostics;
use super::section::section;
use super::values::{AccountId, ConfigurationSet};
use crate::policy::AwsAccount;
use serde_json::json;
use std::collections::BTreeMap;

section! {
    /// The AWS account of the ARNs in IAM policy documents. The region is ses.region, or AWS_REGION.
    pub(crate) Aws {
        /// The twelve digits of the account.
        #[schemars(example = &"111122223333")]
        account: Option<AccountId> = None,
        /// aws, aws-cn, aws-us-gov, … Default: that of the region.
        #[schemars(example = &"aws")]
        partition: Option<String> = None,
        /// A list of verified domains and addresses. The most specific one that covers an author decides the ARN of its
        /// identity. Default: the author's own domain.
        #[schemars(example = ["example.com"])]
        identities: Vec<String> = Vec::new(),
        /// Configuration sets that identities have by default: IDENTITY = "NAME".
        #[schemars(example = json!({ "example.com": "transactional" }))]
        default_configuration_sets: BTreeMap<String, ConfigurationSet> = BTreeMap::new(),
        /// true or false: the account has no production access, so the identities of recipients must be allowed too.
        sandbox: bool = false,
    } []
}

/// The account of the ARNs that documents are compared with; `None` without documents.
pub(super) fn plan(config: &Config, has_documents: bool, diagnostics: &mut Diagnostics<'_>) -> Option<AwsAccount> {
    let aws = &config.aws;
    if !has_documents {
        if diagnostics.source_map().contains("aws") {
            let hint = "`gatepost policy generate` uses it; if you do not, remove [aws]";
            diagnostics.warn("aws", "there are no IAM policy documents, so `gatepost run` does not use this", hint);
        }
        return None;
    }
    // As the SDK looks for it, without profile and instance: these are read at a start only.
    let environment = diagnostics.environment();
    let of_environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| environment.variable(name));
    let emulated = config.ses_emulator.settings(None);
    let region = match (&config.ses.region, config.ses.emulator) {
        (Some(region), _) => Some(region.clone()),
        (None, true) => Some(emulated.region.clone()),
        (None, false) => of_environment().map(str::to_owned),
    };
    let account = match (&aws.account, config.ses.emulator) {
        (Some(account), _) => Some(account.0.clone()),
        (None, true) => Some(emulated.account_id),
        (None, false) => None,
    };
    if account.is_none() {
        let message = "IAM policy documents contain ARNs, and the account is not set";
        diagnostics.error("aws.account", message, "for example: [aws] account = \"111122223333\"");
    }
    if region.is_none() {
        diagnostics.error(
            "ses.region",
            "IAM policy documents contain ARNs, and the region is not set",
            "set ses.region",
        );
    }
    let (account, region) = (account?, region?);
    Some(AwsAccount {
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
