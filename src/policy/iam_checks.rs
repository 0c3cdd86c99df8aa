//! Evaluates IAM policy documents for a message as AWS would evaluate them for its SendEmail call.
//!
//! The value of each element:
//!
//! | Element | Value |
//! | --- | --- |
//! | action | `ses:SendRawEmail`, which is what SES v2 `SendEmail` with raw content is authorised as. An explicit deny of `ses:SendEmail` refuses too |
//! | resource | the identity of each author (its address or a domain that covers it), and the configuration set, each by itself |
//! | `ses:FromAddress`, `ses:FromDisplayName` | of From, in the upper and lower case that is sent; a message with several authors is evaluated for each |
//! | `ses:FeedbackAddress` | the address that receives bounces, if there is one |
//! | `ses:Recipients` | all forward-paths |
//! | `ses:ApiVersion` | `2` |
//! | `ses:TenantName` | the tenant, if there is one |
//! | `aws:SourceIp` | the SMTP client's address, after the PROXY protocol |
//! | `aws:SecureTransport` | whether the SMTP connection is encrypted |
//! | `aws:CurrentTime`, `aws:EpochTime` | now |
//! | `aws:UserAgent` | `gatepost/VERSION`, as in the calls to SES |
//! | `aws:username` | the AUTH name |
//! | `aws:PrincipalTag/…` | as the operator set for the application |

use super::app::{App, refusal};
use super::error::AppPolicyError;
use super::{MessageFacts, Note};
use crate::iam::condition::Kind;
use crate::iam::{Context, Decision, Document, Mismatch, Request, Statement, evaluate, trace};
use crate::mail::parameters::{covering_identities, is_same_identity};
use crate::mail::{Author, ClientAddress, Clock, Mailbox, Refusal, SendParameters, USER_AGENT, replies};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The AWS account: the parts of ARNs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AwsAccount {
    /// `aws`, `aws-us-gov`.
    pub partition: String,
    /// Region.
    pub region: String,
    /// Twelve digits.
    pub account: String,
    /// The verified identities, addresses and domains. The most specific one that covers an author is evaluated. Empty: its domain.
    pub identities: Vec<String>,
    /// The default configuration set of each identity.
    pub default_configuration_sets: Vec<(String, String)>,
    /// Whether the account is in the sandbox, where the identities of recipients must be allowed as well.
    pub sandbox: bool,
}

impl AwsAccount {
    /// An account with production access, whose identities are domains.
    pub fn new(partition: &str, region: &str, account: &str) -> Self {
        Self {
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
            identities: Vec::new(),
            default_configuration_sets: Vec::new(),
            sandbox: false,
        }
    }
}

/// The condition keys that have a value for SMTP; the last is a prefix.
pub(super) const KEYS: &[&str] = &[
    "ses:FromAddress",
    "ses:FromDisplayName",
    "ses:FeedbackAddress",
    "ses:Recipients",
    "ses:ApiVersion",
    "ses:TenantName",
    "aws:SourceIp",
    "aws:SecureTransport",
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:UserAgent",
    "aws:username",
    "aws:PrincipalTag/",
];

/// Checks that every condition about sending can be decided here. Statements about other actions are not checked, since the
/// file may be the one that is attached to the role.
pub(super) fn check(document: &Document) -> Result<(), AppPolicyError> {
    let nothing = Context::new();
    for statement in &document.statements {
        let speaks_of = |action: &&str| {
            let named = statement.actions.patterns.iter().any(|(_, pattern)| pattern.matches(action, &nothing, true));
            named != statement.actions.negated
        };
        if !["ses:SendRawEmail", "ses:SendEmail"].iter().any(speaks_of) {
            continue;
        }
        let place = || format!("{}, {}", document.name, statement.place());
        let resources = statement.resources.iter().flat_map(|resources| &resources.patterns);
        let mut in_resources = resources.flat_map(|(_, parts)| parts.iter()).flat_map(|part| part.variables());
        if let Some(key) = in_resources.find(|key| !is_known(key)) {
            return Err(AppPolicyError::UnknownKey { place: place(), key: key.to_owned(), known: KEYS.join(", ") });
        }
        for condition in &statement.conditions {
            let keys = std::iter::once(condition.key.as_str()).chain(condition.variables());
            if let Some(key) = keys.into_iter().find(|key| !is_known(key)) {
                return Err(AppPolicyError::UnknownKey { place: place(), key: key.to_owned(), known: KEYS.join(", ") });
            }
            let many = condition.key.eq_ignore_ascii_case("ses:Recipients");
            if many && condition.qualifier.is_none() && condition.operator.kind != Kind::Null {
                return Err(AppPolicyError::ManyValues { place: place(), operator: condition.operator_text() });
            }
        }
    }
    Ok(())
}

fn is_known(key: &str) -> bool {
    KEYS.iter().any(|known| match known.strip_suffix('/') {
        Some(_) => key.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known)),
        None => key.eq_ignore_ascii_case(known),
    })
}

/// Evaluates the documents of the application, and those of the relay as a whole.
pub(super) struct IamChecks<'a> {
    pub(super) account: &'a AwsAccount,
    pub(super) relay: &'a [Arc<Document>],
    pub(super) app: &'a App,
    /// As [`keys`] has them.
    pub(super) keys: &'a BTreeSet<String>,
    pub(super) clock: &'a dyn Clock,
}

impl IamChecks<'_> {
    /// Checks that every list of documents allows the message: rules, the relay's documents and the application's must all allow it.
    /// Returns the first few statements that allowed it, each once.
    pub(super) fn judge(
        &self,
        facts: &MessageFacts<'_>,
        authors: &[Author],
        send: &SendParameters,
    ) -> Result<String, Refusal> {
        let mut allowed: SmallVec<[(&Document, &Statement); PLACES_MAX]> = SmallVec::new();
        self.ask(facts, authors, send, |list, resource, context| {
            let (document, statement) = judge_one(list, resource, context)?;
            let known = allowed.iter().any(|(_, other)| std::ptr::eq(*other, statement));
            if !known && allowed.len() < PLACES_MAX {
                allowed.push((document, statement));
            }
            Ok(())
        })?;
        let places = allowed.iter().map(|(document, statement)| format!("{}, {}", document.name, statement.place()));
        Ok(places.collect::<Vec<_>>().join("; "))
    }

    /// Every evaluation of `judge`, with every statement that was compared.
    pub(super) fn trace(
        &self,
        facts: &MessageFacts<'_>,
        authors: &[Author],
        send: &SendParameters,
        notes: &mut Vec<Note>,
    ) {
        let _ = self.ask(facts, authors, send, |list, resource, context| {
            for action in ACTIONS {
                let request = Request { action, resource, principal: None, context };
                let decision = evaluate(list.iter().map(AsRef::as_ref), &request);
                // For the second action, only an explicit deny counts.
                if action != ACTIONS[0] && !matches!(decision, Decision::ExplicitDeny(..)) {
                    continue;
                }
                let names: Vec<&str> = list.iter().map(|document| document.name.as_str()).collect();
                let text = format!("{action} on {resource}: {} by {}", decision.label(), names.join(", "));
                notes.push(Note::new("documents", text));
                for step in trace(list.iter().map(AsRef::as_ref), &request) {
                    let why = match step.mismatch {
                        None => format!("speaks of it: {:?}", step.statement.effect),
                        Some(Mismatch::Principal) => "another principal".to_owned(),
                        Some(Mismatch::Action) => "other actions".to_owned(),
                        Some(Mismatch::Resource) => "other resources".to_owned(),
                        Some(Mismatch::Condition(condition)) => {
                            let got = context.get(&condition.key.to_ascii_lowercase());
                            let got = got.map_or_else(|| "missing".to_owned(), |got| got.join(", "));
                            let (key, operator, wanted) = (&condition.key, condition.operator.name, &condition.values);
                            format!("its condition does not hold: {key} is {got}; {operator} {}", wanted.join(", "))
                        }
                    };
                    let place = step.statement.place();
                    notes.push(Note::new("statement", format!("{}, {place}: {why}", step.document.name)));
                }
            }
            Ok(())
        });
    }

    /// The evaluations: every list of documents, for every author and every resource.
    fn ask<'b>(
        &'b self,
        facts: &MessageFacts<'_>,
        authors: &[Author],
        send: &SendParameters,
        mut question: impl FnMut(&'b [Arc<Document>], &str, &Context) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for author in authors {
            let context = self.context(facts, author, send);
            for list in [self.relay, self.app.documents.as_slice()].into_iter().filter(|list| !list.is_empty()) {
                for resource in self.resources(&author.mailbox, facts, send) {
                    question(list, &resource, &context)?;
                }
            }
        }
        Ok(())
    }

    /// Every resource of the call.
    fn resources(&self, author: &Mailbox, facts: &MessageFacts<'_>, send: &SendParameters) -> Vec<String> {
        let own = self.identity_of(author);
        let identity = send.identity_arn.as_ref().map_or_else(|| self.arn("identity", &own), ToString::to_string);
        let own_default = || {
            let defaults = &self.account.default_configuration_sets;
            defaults.iter().find(|(identity, _)| *identity == own).map(|(_, set)| set.clone())
        };
        let set = send.configuration_set.as_ref().map(ToString::to_string).or_else(own_default);
        let mut resources = vec![identity];
        resources.extend(set.map(|set| self.arn("configuration-set", &set)));
        if self.account.sandbox {
            let recipients = facts.envelope.forward_paths().iter();
            resources.extend(recipients.map(|path| self.arn("identity", &self.identity_of(path.mailbox()))));
        }
        resources
    }

    /// The most specific identity that covers an address: the address, its domain, or the nearest parent domain. Without one, its domain.
    fn identity_of(&self, mailbox: &Mailbox) -> String {
        let (address, domain) = (mailbox.to_string(), mailbox.domain().to_string());
        let is_verified = |name: &&str| self.account.identities.iter().any(|identity| is_same_identity(identity, name));
        covering_identities(&address, &domain).find(is_verified).unwrap_or(&domain).to_owned()
    }

    fn arn(&self, kind: &str, name: &str) -> String {
        let AwsAccount { partition, region, account, .. } = self.account;
        ["arn:", partition, ":ses:", region, ":", account, ":", kind, "/", name].concat()
    }

    /// Only the condition keys that occur in a document: each takes time, and most occur in none.
    fn context(&self, facts: &MessageFacts<'_>, author: &Author, send: &SendParameters) -> Context {
        self.keys.iter().fold(Context::new(), |context, key| match self.values(key, facts, author, send) {
            Some(values) => context.with_list(key, values),
            None => context,
        })
    }

    /// The value of a key (lower case) in this call; `None`: it is missing.
    fn values(
        &self,
        key: &str,
        facts: &MessageFacts<'_>,
        author: &Author,
        send: &SendParameters,
    ) -> Option<Vec<String>> {
        let now = || jiff::Timestamp::try_from(self.clock.wall()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let (envelope, client) = (facts.envelope, facts.client);
        let value = match key {
            "ses:recipients" => return Some(envelope.forward_paths().iter().map(ToString::to_string).collect()),
            "ses:fromaddress" => author.address_as_written(),
            "ses:fromdisplayname" => crate::mail::author::decode_phrase(author.display_name.as_ref()?),
            "ses:feedbackaddress" => {
                send.feedback_address(envelope, self.app.permits_bounces_to(envelope.reverse_path()))?.to_string()
            }
            "ses:apiversion" => "2".to_owned(),
            "ses:tenantname" => send.tenant.as_ref()?.as_str().to_owned(),
            "aws:sourceip" => match client.address {
                ClientAddress::Ip(address) => address.ip().to_string(),
                ClientAddress::Unix | ClientAddress::Unknown => return None,
            },
            "aws:securetransport" => client.tls.is_some().to_string(),
            "aws:currenttime" => now().to_string(),
            "aws:epochtime" => now().as_second().to_string(),
            "aws:useragent" => USER_AGENT.to_owned(),
            "aws:username" => client.identity.as_ref()?.name().to_owned(),
            other => {
                let wanted = other.strip_prefix("aws:principaltag/")?;
                // Of several, the last one counts, as in a map that is filled in order.
                let mut tags = self.app.principal_tags.iter().rev();
                tags.find(|(tag, _)| tag.eq_ignore_ascii_case(wanted))?.1.clone()
            }
        };
        Some(vec![value])
    }
}

/// The condition keys that occur in documents, lower case.
pub(super) fn keys<'a>(documents: impl Iterator<Item = &'a Arc<Document>>) -> BTreeSet<String> {
    let statements = documents.flat_map(|document| &document.statements);
    statements.flat_map(|statement| statement.keys()).map(str::to_owned).collect()
}

/// The action that SES evaluates, and one that a Deny of sending is likely to name.
const ACTIONS: [&str; 2] = ["ses:SendRawEmail", "ses:SendEmail"];

/// The number of statements in the log line of a message.
const PLACES_MAX: usize = 4;

/// The statement that allowed the call.
fn judge_one<'a>(
    list: &'a [Arc<Document>],
    resource: &str,
    context: &Context,
) -> Result<(&'a Document, &'a Statement), Refusal> {
    let request = |action| Request { action, resource, principal: None, context };
    let documents = || list.iter().map(AsRef::as_ref);
    let refuse = |action: &str, decision: &Decision<'_>| {
        let by = decision.place().map(|place| format!(" by {place}")).unwrap_or_default();
        let detail = format!("{} of {action} on {resource}{by}", decision.label());
        Err(refusal("iam_document", replies::NOT_ALLOWED_BY_DOCUMENT, detail))
    };
    let [raw, plain] = ACTIONS;
    let allowed = match evaluate(documents(), &request(raw)) {
        Decision::Allow(document, statement) => (document, statement),
        decision => return refuse(raw, &decision),
    };
    // Here only an explicit deny counts.
    match evaluate(documents(), &request(plain)) {
        decision @ Decision::ExplicitDeny(..) => refuse(plain, &decision),
        Decision::Allow(..) | Decision::ImplicitDeny => Ok(allowed),
    }
}
