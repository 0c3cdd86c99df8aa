//! The documents that a relay needs and no more: its role's policy, who may assume the role, the endpoint's policy, and the
//! policies of the identities that it sends as.
//!
//! From plain facts ([`Needs`]); knows no configuration. What goes in is checked first, because a wrong name here would be
//! a policy that is valid and useless. Each document carries the commands that put it in place, and what AWS has not
//! documented and we therefore do not promise. Partitions aws and aws-us-gov; SES is in no other.
//! SES Developer Guide, "Controlling access", "Sending authorization policy examples"; AWS PrivateLink Guide.

use super::lint::Kind;
use super::lint::shape::{is_account, is_endpoint, is_region};
use super::trust::{self, Trust};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the relay needs, and where.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// `aws` or `aws-us-gov`.
    pub partition: String,
    /// `us-east-1`.
    pub region: String,
    /// Twelve digits: the account that the relay runs in.
    pub account: String,
    /// The role's name, with its path if it has one: `service/relay`.
    pub role_name: String,
    /// Names of identities (`example.com`, `ann@example.com`), or ARNs where another account owns them.
    pub identities: Vec<String>,
    /// Names of configuration sets, an account's or identity's default one included.
    pub configuration_sets: Vec<String>,
    /// Who may stand in From, as `StringLike` has it: `*@example.com`. Empty: any address of the identities.
    pub from_patterns: Vec<String>,
    /// What the relay reads.
    pub read_actions: ReadActions,
    /// `vpce-…` of the endpoint for the SES API.
    pub vpc_endpoint: Option<String>,
    /// Accounts, or ARNs in them, that may send as our identities too.
    pub sending_principals: Vec<String>,
    /// Who may assume the role.
    pub trust: Vec<Trust>,
}

/// Reading actions; each only if it is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadActions {
    /// `ses:GetAccount`: quota, sandbox, whether sending is paused.
    pub account: bool,
    /// `ses:GetEmailIdentity`, on the identities.
    pub identities: bool,
    /// `ses:GetConfigurationSet`, on the configuration sets.
    pub configuration_sets: bool,
    /// `ses:GetSuppressedDestination`.
    pub suppression: bool,
}

/// One document.
#[derive(Clone, Debug, Serialize)]
pub struct Generated {
    /// What it is.
    pub title: String,
    /// The file's name that the commands use.
    pub file: String,
    /// What it is attached to, for [`super::lint::lint`].
    #[serde(skip)]
    pub kind: Kind,
    /// The document; one line, without white space between.
    pub json: String,
    /// What puts it in place.
    pub commands: Vec<String>,
    /// What to know before.
    pub notes: Vec<String>,
}

/// What cannot be written into a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?}: {wanted}")]
pub struct NeedError {
    /// Which fact.
    pub what: &'static str,
    /// What it says.
    pub value: String,
    /// What it should be.
    pub wanted: &'static str,
}

/// A policy, in the order in which people read it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    pub(super) version: &'static str,
    pub(super) statement: Vec<Line>,
}

/// A statement.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Line {
    pub(super) sid: &'static str,
    pub(super) effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<Who>,
    pub(super) action: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) condition: BTreeMap<&'static str, BTreeMap<String, Vec<String>>>,
}

/// A principal: everybody, or kind and names.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Who {
    Everybody(&'static str),
    Named(BTreeMap<&'static str, Vec<String>>),
}

impl Who {
    pub(super) fn named(kind: &'static str, names: Vec<String>) -> Option<Self> {
        Some(Self::Named(BTreeMap::from([(kind, names)])))
    }
}

impl Line {
    pub(super) fn when(mut self, operator: &'static str, key: impl Into<String>, values: Vec<String>) -> Self {
        self.condition.entry(operator).or_default().insert(key.into(), values);
        self
    }
}

/// Writes every document that the needs call for.
///
/// # Errors
/// [`NeedError`]: a fact that no policy can hold.
pub fn generate(needs: &Needs) -> Result<Vec<Generated>, NeedError> {
    needs.check()?;
    // In the order in which their commands must be given: the role, then what it may.
    let mut documents: Vec<Generated> = trust::document(needs).into_iter().collect();
    documents.push(role_policy(needs));
    if let Some(endpoint) = &needs.vpc_endpoint {
        documents.push(endpoint_policy(needs, endpoint));
        documents.extend(needs.own_identities().map(|identity| outside_denied(needs, identity, endpoint)));
    }
    if !needs.sending_principals.is_empty() {
        documents.extend(needs.own_identities().map(|identity| others_may_send(needs, identity)));
    }
    documents.extend(needs.identities.iter().filter(|identity| needs.is_foreign(identity)).map(|arn| {
        let name = arn.rsplit('/').next().unwrap_or(arn);
        may_send_as_foreign(needs, arn, name)
    }));
    Ok(documents)
}

impl Needs {
    /// The role's ARN.
    pub fn role_arn(&self) -> String {
        format!("arn:{}:iam::{}:role/{}", self.partition, self.account, self.role_name)
    }

    fn arn(&self, resource_type: &str, name: &str) -> String {
        format!("arn:{}:ses:{}:{}:{resource_type}/{name}", self.partition, self.region, self.account)
    }

    fn identity_arn(&self, identity: &str) -> String {
        if identity.starts_with("arn:") { identity.to_owned() } else { self.arn("identity", identity) }
    }

    fn identity_arns(&self) -> Vec<String> {
        self.identities.iter().map(|identity| self.identity_arn(identity)).collect()
    }

    fn configuration_set_arns(&self) -> Vec<String> {
        self.configuration_sets.iter().map(|name| self.arn("configuration-set", name)).collect()
    }

    fn is_foreign(&self, identity: &str) -> bool {
        identity.starts_with("arn:") && identity.split(':').nth(4) != Some(&self.account)
    }

    fn own_identities(&self) -> impl Iterator<Item = &str> {
        let own = self.identities.iter().filter(|identity| !self.is_foreign(identity));
        own.map(|identity| identity.rsplit('/').next().unwrap_or(identity))
    }

    fn check(&self) -> Result<(), NeedError> {
        let wrong = |what, value: &str, wanted| Err(NeedError { what, value: value.to_owned(), wanted });
        let name = |text: &str, also: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
        };
        if !matches!(self.partition.as_str(), "aws" | "aws-us-gov") {
            return wrong("partition", &self.partition, "SES is in aws and aws-us-gov");
        }
        if !is_region(&self.region) || self.region.starts_with("us-gov-") != (self.partition == "aws-us-gov") {
            return wrong("region", &self.region, "must be a region of the partition, such as us-east-1");
        }
        if !is_account(&self.account) {
            return wrong("account", &self.account, "must be twelve digits");
        }
        // IAM: letters, digits and +=,.@_- in names; a path before.
        if !name(&self.role_name, "+=,.@_-/") || self.role_name.starts_with('/') || self.role_name.ends_with('/') {
            return wrong("role name", &self.role_name, "must be a name, with its path before it: service/relay");
        }
        if self.identities.is_empty() {
            return wrong("identity", "", "at least one is needed: a relay without one sends nothing");
        }
        for identity in &self.identities {
            let start = format!("arn:{}:ses:{}:", self.partition, self.region);
            let bare = match identity.strip_prefix(start.as_str()).and_then(|rest| rest.split_once(":identity/")) {
                Some((account, bare)) if is_account(account) => bare,
                _ => identity.as_str(),
            };
            if !name(bare, ".-_@+=%!#$&'^`{}|~") || !bare.contains('.') || bare.contains("${") {
                return wrong(
                    "identity",
                    identity,
                    "must be a domain, an address, or an identity's ARN in the same region",
                );
            }
        }
        for set in &self.configuration_sets {
            if !name(set, "-_") || set.len() > 64 {
                return wrong("configuration set", set, "has letters, digits, - and _ only, at most 64");
            }
        }
        for pattern in &self.from_patterns {
            if pattern.is_empty() || pattern.contains("${") || pattern.contains(char::is_whitespace) {
                return wrong("from pattern", pattern, "must be an address, * and ? being wildcards");
            }
        }
        if let Some(endpoint) = self.vpc_endpoint.as_ref().filter(|endpoint| !is_endpoint(endpoint)) {
            return wrong("VPC endpoint", endpoint, "must be vpce- and 8 or 17 hexadecimal digits");
        }
        for principal in &self.sending_principals {
            let start = format!("arn:{}:", self.partition);
            let account =
                if principal.starts_with(&start) { principal.split(':').nth(4).unwrap_or("") } else { principal };
            if !is_account(account) || principal.contains(['*', '?']) {
                return wrong("sending account", principal, "must be an account of twelve digits, or an ARN in one");
            }
        }
        self.trust.iter().try_for_each(Trust::check)
    }
}

/// Raw content is authorised as `ses:SendRawEmail`; SES's own texts name the operation, `ses:SendEmail`. Grant both.
const SEND: [&str; 2] = ["ses:SendEmail", "ses:SendRawEmail"];

fn role_policy(needs: &Needs) -> Generated {
    let mut send = Line { sid: "Send", effect: "Allow", action: SEND.to_vec(), ..Line::default() };
    // SES checks each resource that a message touches by itself, with the same keys.
    send.resource = [needs.identity_arns(), needs.configuration_set_arns()].concat();
    let mut statement = vec![with_from(send, needs)];
    let reads = needs.read_actions;
    let mut read = |sid, action: Vec<&'static str>, resource: Vec<String>| {
        if !action.is_empty() && !resource.is_empty() {
            statement.push(Line { sid, effect: "Allow", action, resource, ..Line::default() });
        }
    };
    let some = |wanted: bool, action| if wanted { vec![action] } else { vec![] };
    // These two take only "*".
    let whole =
        [some(reads.account, "ses:GetAccount"), some(reads.suppression, "ses:GetSuppressedDestination")].concat();
    read("ReadAccount", whole, vec!["*".to_owned()]);
    read("ReadIdentities", some(reads.identities, "ses:GetEmailIdentity"), needs.identity_arns());
    read("ReadSets", some(reads.configuration_sets, "ses:GetConfigurationSet"), needs.configuration_set_arns());

    let name = trust::bare_name(&needs.role_name);
    let file = "role-policy.json";
    let mut notes = Vec::new();
    if !needs.from_patterns.is_empty() {
        notes.push("StringLike compares ses:FromAddress with case, and IAM has no StringLike without it.".to_owned());
    }
    notes.push(
        "In the sandbox SES checks the identity of each recipient too: list those as identities until the account has left it."
            .to_owned(),
    );
    notes.push(
        "A default configuration set of the account or of an identity is checked like a named one: it belongs in the list."
            .to_owned(),
    );
    document("The role's policy", file, Kind::Identity, statement)
        .command(format!(
            "aws iam put-role-policy --role-name {name} --policy-name gatepost --policy-document file://{file}"
        ))
        .noted(notes)
}

fn with_from(line: Line, needs: &Needs) -> Line {
    if needs.from_patterns.is_empty() {
        return line;
    }
    line.when("StringLike", "ses:FromAddress", needs.from_patterns.clone())
}

fn endpoint_policy(needs: &Needs, endpoint: &str) -> Generated {
    let mut action = SEND.to_vec();
    let reads = needs.read_actions;
    for (wanted, name) in [
        (reads.account, "ses:GetAccount"),
        (reads.identities, "ses:GetEmailIdentity"),
        (reads.configuration_sets, "ses:GetConfigurationSet"),
        (reads.suppression, "ses:GetSuppressedDestination"),
    ] {
        if wanted {
            action.push(name);
        }
    }
    let line = Line {
        sid: "RelayOnly",
        effect: "Allow",
        principal: Some(Who::Everybody("*")),
        action,
        resource: vec!["*".to_owned()],
        ..Line::default()
    }
    .when("StringEquals", "aws:PrincipalArn", vec![needs.role_arn()]);
    let file = "endpoint-policy.json";
    let (region, service) = (&needs.region, format!("com.amazonaws.{}.email", needs.region));
    document("The endpoint's policy", file, Kind::Endpoint, vec![line])
        .command(format!(
            "aws ec2 describe-vpc-endpoint-services --region {region} --service-names {service} \
             --query 'ServiceDetails[].[VpcEndpointPolicySupported,PrivateDnsName]'"
        ))
        .command(format!(
            "aws ec2 modify-vpc-endpoint --region {region} --vpc-endpoint-id {endpoint} --policy-document file://{file}"
        ))
        .noted(vec![
            "AWS has not documented whether an SES endpoint policy knows ses:FromAddress, ses:Recipients or resources other \
             than \"*\". This document therefore says only who may come through; From, identities and configuration sets \
             are limited by the role's policy, which must allow as well."
                .to_owned(),
            "The endpoint for SMTP (email-smtp) takes no policy. Ask with the first command what your region's takes.".to_owned(),
            "It takes minutes until a changed policy counts.".to_owned(),
        ])
}

fn outside_denied(needs: &Needs, identity: &str, endpoint: &str) -> Generated {
    let line = Line {
        sid: "DenyOutsideTheEndpoint",
        effect: "Deny",
        principal: Some(Who::Everybody("*")),
        action: vec!["ses:Send*"],
        resource: vec![needs.arn("identity", identity)],
        ..Line::default()
    }
    // True also for a request that comes through no endpoint and has no such key.
    .when("StringNotEquals", "aws:SourceVpce", vec![endpoint.to_owned()]);
    let title = format!("The policy of identity {identity}: no sends from outside the endpoint");
    identity_document(needs, title, identity, "deny-outside", line).noted(vec![
        "It denies the console, other programs and the SES SMTP interface too, unless they come through this endpoint."
            .to_owned(),
    ])
}

fn others_may_send(needs: &Needs, identity: &str) -> Generated {
    let line = Line {
        sid: "OthersMaySend",
        effect: "Allow",
        principal: Who::named("AWS", needs.sending_principals.clone()),
        action: SEND.to_vec(),
        resource: vec![needs.arn("identity", identity)],
        ..Line::default()
    };
    let title = format!("The policy of identity {identity}: other accounts may send as it");
    identity_document(needs, title, identity, "others-may-send", with_from(line, needs))
        .noted(vec!["The other account's own identity-based policy must allow the same action on this ARN.".to_owned()])
}

/// Sending authorization: the owner's policy, to be put in place by the owner.
fn may_send_as_foreign(needs: &Needs, arn: &str, identity: &str) -> Generated {
    let line = Line {
        sid: "RelayMaySend",
        effect: "Allow",
        principal: Who::named("AWS", vec![needs.role_arn()]),
        action: SEND.to_vec(),
        resource: vec![arn.to_owned()],
        ..Line::default()
    };
    let owner = arn.split(':').nth(4).unwrap_or_default();
    let title = format!("For account {owner}, the policy of identity {identity}: the relay may send as it");
    identity_document(needs, title, identity, "relay-may-send", with_from(line, needs)).noted(vec![
        format!("To be put in place by account {owner}. The relay names {arn} as identity ARN when it sends."),
        "The role must exist before: AWS refuses a principal that it does not find.".to_owned(),
    ])
}

fn identity_document(needs: &Needs, title: String, identity: &str, policy: &str, line: Line) -> Generated {
    let file = format!("identity-{}-{policy}.json", identity.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let command = format!(
        "aws sesv2 create-email-identity-policy --region {} --email-identity {} --policy-name gatepost-{policy} --policy file://{file}",
        needs.region,
        trust::quoted(identity),
    );
    document(title, &file, Kind::Resource, vec![line]).command(command)
}

/// A document by itself.
pub(super) fn document(title: impl Into<String>, file: &str, kind: Kind, statement: Vec<Line>) -> Generated {
    let policy = Policy { version: "2012-10-17", statement };
    // Maps of strings and lists of strings: nothing in there that JSON cannot say.
    let json = serde_json::to_string(&policy).unwrap_or_default();
    Generated { title: title.into(), file: file.to_owned(), kind, json, commands: Vec::new(), notes: Vec::new() }
}

impl Generated {
    pub(super) fn command(mut self, command: String) -> Self {
        self.commands.push(command);
        self
    }

    pub(super) fn noted(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
