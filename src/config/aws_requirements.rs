//! The identities, configuration sets and addresses that the relay needs at AWS, for `gatepost policy generate`.
//!
//! Only what is used: the identities that allowed From addresses are of, the configuration sets that messages are
//! sent with, the addresses themselves in the form that IAM's `StringLike` has.

use super::Config;
use super::plan::Plan;
use crate::mail::parameters::covering_identities;
use crate::policy::{AddressPattern, App, OnAuthor};
use std::collections::{BTreeSet, HashSet};

/// What a configuration requires at AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AwsRequirements {
    /// `ses.region`.
    pub(crate) region: Option<String>,
    /// `aws.partition`.
    pub(crate) partition: Option<String>,
    /// `aws.account`.
    pub(crate) account: Option<String>,
    /// Names of identities, and ARNs of those that another account authorised.
    pub(crate) identities: Vec<String>,
    /// Names of configuration sets.
    pub(crate) configuration_sets: Vec<String>,
    /// Allowed authors, in the form of `StringLike`.
    pub(crate) from_patterns: Vec<String>,
    /// Requirements that generated documents do not cover, in sentences.
    pub(crate) remarks: Vec<String>,
}

impl Plan {
    /// What the policy and its configuration require at AWS.
    pub(crate) fn aws_requirements(&self, config: &Config) -> AwsRequirements {
        let listed = &config.aws.identities;
        let known = Known { listed, lower: listed.iter().map(|name| name.to_ascii_lowercase()).collect() };
        let (mut identities, mut sets, mut from) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut remarks = Vec::new();
        for app in self.policy().every_app() {
            let rewritten = match &app.on_author {
                OnAuthor::Rewrite(author) => AddressPattern::parse(&author.mailbox.to_string()).ok(),
                OnAuthor::Reject => None,
            };
            for pattern in app.from.iter().chain(&rewritten) {
                from.insert(string_like(pattern));
                match &app.send.identity_arn {
                    Some(arn) => drop(identities.insert(arn.to_string())),
                    None => identities.extend(identities_of(pattern, &known)),
                }
            }
            sets.extend(app.send.configuration_set.iter().map(ToString::to_string));
            remarks.extend(remarks_on(app));
        }
        sets.extend(config.aws.default_configuration_sets.values().map(ToString::to_string));
        AwsRequirements {
            region: config.ses.region.clone(),
            partition: config.aws.partition.clone(),
            account: config.aws.account.as_ref().map(|account| account.0.clone()),
            identities: identities.into_iter().collect(),
            configuration_sets: sets.into_iter().collect(),
            from_patterns: from.into_iter().collect(),
            remarks,
        }
    }
}

fn remarks_on(app: &App) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(role) = &app.send.role {
        remarks.push(format!(
            "{} sends through {role}: that role needs these documents, and the role of the relay needs sts:AssumeRole on it",
            app.name
        ));
    }
    if app
        .requested_fields
        .iter()
        .any(|field| matches!(field, crate::mail::parameters::RequestedField::ConfigurationSet))
    {
        remarks.push(format!("{} may choose its configuration set: add those that it may use", app.name));
    }
    remarks
}

/// The pattern in the form of IAM: a `?` stands for itself here, and for any character in `StringLike`.
fn string_like(pattern: &AddressPattern) -> String {
    if pattern.matches_everything() { "*".to_owned() } else { pattern.to_string().replace('?', "${?}") }
}

/// The verified identities, and the same in lower case for lookups.
struct Known<'a> {
    listed: &'a [String],
    lower: HashSet<String>,
}

/// The verified identities of the addresses of a pattern; its domain if none is known.
fn identities_of(pattern: &AddressPattern, known: &Known<'_>) -> Vec<String> {
    let text = pattern.to_string();
    let domain = text.rsplit_once('@').map_or(text.as_str(), |(_, domain)| domain);
    let domain = domain.strip_prefix("*.").unwrap_or(domain);
    if domain == "*" {
        return known.listed.to_vec();
    }
    let is_known = |name: &&str| known.lower.contains(&name.to_ascii_lowercase());
    vec![covering_identities(&text, domain).find(is_known).unwrap_or(domain).to_owned()]
}
