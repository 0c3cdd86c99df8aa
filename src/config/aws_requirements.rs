//! What the relay needs of AWS, as far as its configuration tells: for `gatepost policy generate`.
//!
//! Only what is really used: the identities that allowed From addresses are of, the configuration sets that messages are
//! sent with, the addresses themselves in the form that IAM's `StringLike` has.

use super::plan::Plan;
use crate::policy::{AddressPattern, App, OnAuthor};
use std::collections::{BTreeSet, HashSet};

/// What a configuration says about the AWS side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsRequirements {
    /// `ses.region`.
    pub region: Option<String>,
    /// `aws.partition`.
    pub partition: Option<String>,
    /// `aws.account`.
    pub account: Option<String>,
    /// Names of identities, and ARNs of those that another account authorised.
    pub identities: Vec<String>,
    /// Names of configuration sets.
    pub configuration_sets: Vec<String>,
    /// Allowed authors, as `StringLike` has them.
    pub from_patterns: Vec<String>,
    /// What the documents cannot cover, in sentences.
    pub remarks: Vec<String>,
}

impl Plan {
    /// What this configuration needs of AWS.
    pub fn aws_requirements(&self) -> AwsRequirements {
        let config = self.config();
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
            "{} sends through {role}: that role needs these documents, and ours sts:AssumeRole on it",
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

/// The pattern as IAM has it: a `?` of ours is one, and in `StringLike` any character.
fn string_like(pattern: &AddressPattern) -> String {
    if pattern.is_everybody() { "*".to_owned() } else { pattern.to_string().replace('?', "${?}") }
}

/// The verified identities, and the same in lower case to look up.
struct Known<'a> {
    listed: &'a [String],
    lower: HashSet<String>,
}

/// The verified identities that addresses of a pattern are of; where nothing is known, its domain.
fn identities_of(pattern: &AddressPattern, known: &Known<'_>) -> Vec<String> {
    let text = pattern.to_string();
    let domain = text.rsplit_once('@').map_or(text.as_str(), |(_, domain)| domain);
    let domain = domain.strip_prefix("*.").unwrap_or(domain);
    if domain == "*" {
        return known.listed.to_vec();
    }
    // The same address, its domain, or the nearest parent of it.
    let is_known = |name: &str| known.lower.contains(&name.to_ascii_lowercase());
    if is_known(&text) {
        return vec![text];
    }
    let parents = std::iter::successors(Some(domain), |name| name.split_once('.').map(|(_, rest)| rest));
    let nearest = parents.into_iter().find(|name| is_known(name));
    vec![nearest.unwrap_or(domain).to_owned()]
}
