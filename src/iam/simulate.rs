//! May this request be made: every type of policy that applies, put together as AWS does.
//!
//! An explicit deny in any of them ends it. Then each type that is attached must allow: service control policies (on every
//! level), permissions boundary, session policy, endpoint policy, and the identity-based policies, which alone are never
//! optional. The exception is a resource-based policy in the same account: what it allows may stand in for the others,
//! and how far depends on whom it names, see `Grant`. Across accounts it cannot: both sides must allow.
//! IAM User Guide, "How AWS enforcement code logic evaluates requests to allow or deny access", "Policy evaluation for
//! requests within a single account", "Cross-account policy evaluation logic".

use super::document::{Document, DocumentError, DocumentKind, Effect};
use super::evaluate::{Decision, Mismatch, Request, Trace, denies_by_not_principal, evaluate_beside, trace_beside};
use super::{Arn, Context};
use std::collections::BTreeMap;

/// What a document is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyType {
    /// To the organisation, an organisational unit or the account of the resource (RCP).
    Rcp,
    /// To the organisation, an organisational unit or the account of who asks (SCP).
    Scp,
    /// To the resource: an SES identity's sending authorization.
    Resource,
    /// To the user, its groups, or the role.
    Identity,
    /// To the user or role, as permissions boundary.
    Boundary,
    /// To the session, when it was made.
    Session,
    /// To the VPC endpoint that the request comes through.
    Endpoint,
}

impl PolicyType {
    /// In the order of evaluation, and of the report.
    pub const ALL: [Self; 7] =
        [Self::Rcp, Self::Scp, Self::Resource, Self::Identity, Self::Boundary, Self::Session, Self::Endpoint];

    /// As AWS calls it in its denials. "Troubleshoot access denied error messages".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rcp => "resource control policy",
            Self::Scp => "service control policy",
            Self::Resource => "resource-based policy",
            Self::Identity => "identity-based policy",
            Self::Boundary => "permissions boundary",
            Self::Session => "session policy",
            Self::Endpoint => "VPC endpoint policy",
        }
    }

    /// Reads a document of this type, with the restrictions that the type has.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn parse(self, name: &str, json: &str) -> Result<Document, DocumentError> {
        let kind = match self {
            Self::Rcp | Self::Resource | Self::Endpoint => DocumentKind::Resource,
            Self::Scp | Self::Identity | Self::Boundary | Self::Session => DocumentKind::Identity,
        };
        let document = Document::parse(name, json, kind)?;
        match self.restriction(&document) {
            None => Ok(document),
            Some((place, text)) => Err(DocumentError::Policy { document: document.name, place, text: text.to_owned() }),
        }
    }

    /// What the grammar of this type forbids and the document does: place and rule.
    /// AWS Organizations User Guide, "RCP syntax"; AWS PrivateLink Guide, "Control access to VPC endpoints".
    pub fn restriction(self, document: &Document) -> Option<(String, &'static str)> {
        let everything = |document: &Document| {
            // RCPFullAWSAccess, which AWS attaches itself.
            matches!(&document.statements[..], [only] if only.conditions.is_empty()
                && only.actions.patterns.iter().all(|(text, _)| text == "*"))
        };
        document.statements.iter().find_map(|statement| {
            let star = |text: &str| text == "*";
            let rule = match self {
                Self::Rcp if statement.effect == Effect::Allow && !everything(document) => {
                    "Allow stands in AWS's own RCPFullAWSAccess only"
                }
                Self::Rcp if statement.actions.negated => "a resource control policy has no NotAction",
                Self::Rcp
                    if statement.effect == Effect::Deny
                        && statement.actions.patterns.iter().any(|(text, _)| star(text)) =>
                {
                    "a resource control policy names the service: ses:*, not *"
                }
                Self::Rcp
                    if statement
                        .principal
                        .as_ref()
                        .is_none_or(|who| who.negated || !who.names.iter().all(|(_, name)| star(name))) =>
                {
                    "Principal must be \"*\" in a resource control policy; say who in Condition"
                }
                Self::Rcp | Self::Endpoint if statement.resources.is_none() => "has no Resource or NotResource",
                _ => return None,
            };
            Some((statement.place(), rule))
        })
    }
}

/// The documents that apply.
#[derive(Clone, Debug, Default)]
pub struct Policies(BTreeMap<PolicyType, Vec<Vec<Document>>>);

impl Policies {
    /// None: nothing is attached.
    pub fn new() -> Self {
        Self::default()
    }

    /// Attaches documents of one type, which add up: one document, or another, allows.
    ///
    /// Attached once more, a service control policy stands on another level (organisation, unit, account), and every level
    /// must allow; documents of other types just add up.
    pub fn attach(&mut self, policy_type: PolicyType, documents: Vec<Document>) {
        let levels = self.0.entry(policy_type).or_default();
        match levels.first_mut() {
            Some(all) if policy_type != PolicyType::Scp => all.extend(documents),
            _ => levels.push(documents),
        }
    }

    fn levels(&self) -> impl Iterator<Item = (PolicyType, &[Document])> {
        self.0.iter().flat_map(|(policy_type, levels)| levels.iter().map(|level| (*policy_type, level.as_slice())))
    }
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every type that has a say allows.
    Allowed,
    /// A statement denies.
    ExplicitDeny,
    /// A type that has a say does not allow.
    ImplicitDeny,
}

impl Verdict {
    /// As IAM's simulator says it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ExplicitDeny => "explicitDeny",
            Self::ImplicitDeny => "implicitDeny",
        }
    }
}

/// What the documents of one type, on one level, say.
#[derive(Clone, Debug)]
pub struct Said<'a> {
    /// The type.
    pub policy_type: PolicyType,
    /// What follows from them alone.
    pub decision: Decision<'a>,
    /// Every statement.
    pub statements: Vec<Trace<'a>>,
}

/// Everything about one request.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The outcome.
    pub verdict: Verdict,
    /// The type that decided. Where several deny, the first in the order of evaluation.
    pub decided_by: PolicyType,
    /// Each type, in the order of evaluation.
    pub said: Vec<Said<'a>>,
    /// Keys that statements ask for and the request does not have, as the statements write them.
    pub missing_keys: Vec<String>,
    /// What AWS's rules, rather than a statement, had to do with it.
    pub notes: Vec<&'static str>,
}

impl Outcome<'_> {
    /// The clause with which AWS explains a denial, where it does: "because no … policy allows the … action".
    pub fn clause(&self, action: &str) -> Option<String> {
        let name = self.decided_by.name();
        match self.verdict {
            Verdict::Allowed => None,
            Verdict::ExplicitDeny => {
                let article = if name.starts_with('i') { "an" } else { "a" };
                Some(format!("with an explicit deny in {article} {name}"))
            }
            Verdict::ImplicitDeny => Some(format!("because no {name} allows the {action} action")),
        }
    }
}

/// How far an Allow of a resource-based policy reaches within the account, by whom it names. From weak to strong.
/// "How AWS enforcement code logic evaluates requests to allow or deny access", "Resource-based policies".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grant {
    /// Nobody who asks.
    None,
    /// The account: it may give the permission on, by an identity-based policy.
    Delegated,
    /// The role: an identity-based policy is not needed, but permissions boundary and session policy still limit.
    Role,
    /// The user, the session, or everybody: nothing but an explicit deny limits.
    Direct,
}

/// Evaluates one request.
pub fn simulate<'a>(policies: &'a Policies, request: &Request<'_>) -> Outcome<'a> {
    let context = implied(request);
    let request = Request { context: &context, ..*request };
    let has_boundary = policies.0.contains_key(&PolicyType::Boundary);
    let said: Vec<Said<'a>> = policies
        .levels()
        .map(|(policy_type, documents)| Said {
            policy_type,
            decision: evaluate_beside(documents, &request, has_boundary),
            statements: trace_beside(documents, &request, has_boundary),
        })
        .collect();
    let mut notes = Vec::new();
    let (verdict, decided_by) = decide(&said, &request, &mut notes);
    let all = || said.iter().flat_map(|said| &said.statements);
    if has_boundary && all().any(|step| step.mismatch.is_none() && denies_by_not_principal(step.statement)) {
        notes.push(NOT_PRINCIPAL);
    }
    notes.extend(OPEN.iter().filter(|(is_open, _)| all().any(|step| is_open(step, &context))).map(|(_, note)| *note));
    let missing_keys = missing_keys(&said, &context);
    Outcome { verdict, decided_by, said, missing_keys, notes }
}

fn decide(said: &[Said<'_>], request: &Request<'_>, notes: &mut Vec<&'static str>) -> (Verdict, PolicyType) {
    if said.iter().any(|said| said.policy_type == PolicyType::Rcp) {
        notes.push(RCP_SERVICES);
    }
    if let Some(denied) = said.iter().find(|said| matches!(said.decision, Decision::ExplicitDeny(..))) {
        return (Verdict::ExplicitDeny, denied.policy_type);
    }
    let needs = |policy_type: PolicyType| {
        said.iter().any(|said| said.policy_type == policy_type && !said.decision.is_allow())
            || policy_type == PolicyType::Identity && !said.iter().any(|said| said.policy_type == policy_type)
    };
    let grant = said
        .iter()
        .filter(|said| said.policy_type == PolicyType::Resource)
        .flat_map(|said| &said.statements)
        .map(|step| grant_of(step, request))
        .max()
        .unwrap_or(Grant::None);
    let across = across_accounts(request);
    let names_principals = |said: &Said<'_>| matches!(said.policy_type, PolicyType::Resource | PolicyType::Endpoint);
    if request.principal.is_none() && said.iter().any(names_principals) {
        notes.push(NO_PRINCIPAL);
    }
    // Rcp: RCPFullAWSAccess is always attached, so only its denials count.
    let mut wanted = vec![PolicyType::Scp];
    if across {
        notes.push(ACROSS_ACCOUNTS);
        if grant == Grant::None {
            return (
                Verdict::ImplicitDeny,
                if needs(PolicyType::Scp) { PolicyType::Scp } else { PolicyType::Resource },
            );
        }
        wanted.extend([PolicyType::Identity, PolicyType::Boundary, PolicyType::Session]);
    } else {
        match grant {
            Grant::Direct => notes.push(DIRECT),
            Grant::Role => {
                notes.push(BY_ROLE);
                wanted.extend([PolicyType::Boundary, PolicyType::Session]);
            }
            Grant::Delegated | Grant::None => {
                wanted.extend([PolicyType::Identity, PolicyType::Boundary, PolicyType::Session]);
            }
        }
        if grant == Grant::Delegated && needs(PolicyType::Identity) {
            notes.push(DELEGATED);
        }
    }
    wanted.push(PolicyType::Endpoint);
    match wanted.into_iter().find(|policy_type| needs(*policy_type)) {
        Some(policy_type) => (Verdict::ImplicitDeny, policy_type),
        None if needs(PolicyType::Identity) => (Verdict::Allowed, PolicyType::Resource),
        None => (Verdict::Allowed, PolicyType::Identity),
    }
}

/// How far one statement of a resource-based policy reaches.
fn grant_of(step: &Trace<'_>, request: &Request<'_>) -> Grant {
    if step.mismatch.is_some() || step.statement.effect != Effect::Allow {
        return Grant::None;
    }
    let Some(principals) = &step.statement.principal else { return Grant::None };
    if principals.negated {
        // AWS advises against it, and says no more than that it may allow everybody.
        return Grant::Direct;
    }
    let reach = |(kind, name): &(String, String)| match request.principal {
        _ if name == "*" => Grant::Direct,
        Some(asking) if kind != "AWS" => {
            if name == asking {
                Grant::Direct
            } else {
                Grant::None
            }
        }
        Some(asking) if name == asking => {
            if asking.contains(":role/") {
                Grant::Role
            } else {
                Grant::Direct
            }
        }
        Some(asking) => {
            let account = Arn::parse(asking).map(|arn| arn.parts()[4].to_owned()).unwrap_or_default();
            let named = Arn::parse(name);
            match named.as_ref().map(Arn::parts) {
                None if *name == account => Grant::Delegated,
                Some([_, _, _, _, of, "root"]) if of == account => Grant::Delegated,
                Some([_, _, _, _, of, resource]) if of == account && resource.starts_with("role/") => {
                    if session_of(asking, resource) { Grant::Role } else { Grant::None }
                }
                _ => Grant::None,
            }
        }
        None => Grant::None,
    };
    principals.names.iter().map(reach).max().unwrap_or(Grant::None)
}

/// Whether `arn:…:sts::…:assumed-role/NAME/SESSION` is a session of `role/PATH/NAME`.
fn session_of(asking: &str, role: &str) -> bool {
    let name = asking.split_once(":assumed-role/").and_then(|(_, rest)| rest.split('/').next());
    name.is_some() && role.rsplit('/').next() == name
}

fn across_accounts(request: &Request<'_>) -> bool {
    let account = |text: &str| Arn::parse(text).map(|arn| arn.parts()[4].to_owned()).filter(|part| !part.is_empty());
    match (request.principal.and_then(account), account(request.resource)) {
        (Some(asking), Some(owner)) => asking != owner,
        _ => false,
    }
}

/// The keys that follow from who asks for what. A value that was given stays.
fn implied(request: &Request<'_>) -> Context {
    let mut context = request.context.clone();
    if let Some([_, _, _, region, account, _]) = Arn::parse(request.resource).as_ref().map(Arn::parts) {
        if !region.is_empty() {
            context = context.or("aws:RequestedRegion", region);
        }
        if !account.is_empty() {
            context = context.or("aws:ResourceAccount", account);
        }
    }
    let asking = request.principal.and_then(Arn::parse);
    if let Some([arn, partition, service, _, account, resource]) = asking.as_ref().map(Arn::parts) {
        context = context.or("aws:PrincipalAccount", account);
        // A session's key is its role. The path is not in the session's ARN; give the key where the role has one.
        let role = resource.strip_prefix("assumed-role/").and_then(|rest| rest.split('/').next());
        let key = match role.filter(|_| service == "sts") {
            Some(role) => format!("{arn}:{partition}:iam::{account}:role/{role}"),
            None => request.principal.unwrap_or_default().to_owned(),
        };
        context = context.or("aws:PrincipalArn", key);
        if let Some(user) = resource.strip_prefix("user/") {
            context = context.or("aws:username", user.rsplit('/').next().unwrap_or(user));
        }
    }
    context
}

/// The keys asked for by statements that speak of this principal and action, on this resource or one with a variable.
fn missing_keys(said: &[Said<'_>], context: &Context) -> Vec<String> {
    let mut missing: Vec<String> = Vec::new();
    let mut ask = |key: &str| {
        let known = missing.iter().any(|before| before.eq_ignore_ascii_case(key));
        if !known && context.get(&key.to_ascii_lowercase()).is_none() {
            missing.push(key.to_owned());
        }
    };
    for step in said.iter().flat_map(|said| &said.statements) {
        let patterns = step.statement.resources.iter().flat_map(|resources| &resources.patterns);
        let in_resources = patterns.flat_map(|(_, parts)| parts.iter().flat_map(super::pattern::Pattern::variables));
        match step.mismatch {
            Some(Mismatch::Principal | Mismatch::Action) => {}
            Some(Mismatch::Resource) => in_resources.for_each(&mut ask),
            Some(Mismatch::Condition(_)) | None => {
                in_resources.for_each(&mut ask);
                for condition in &step.statement.conditions {
                    ask(&condition.key);
                    condition.variables().for_each(&mut ask);
                }
            }
        }
    }
    missing
}

/// What AWS leaves open, if a statement depends on it, and how it is read here.
type Open = (fn(&Trace<'_>, &Context) -> bool, &'static str);

const OPEN: &[Open] = &[
    (
        |step, context| {
            conditions_matter(step) && step.statement.conditions.iter().any(|one| one.is_open_on_many(context))
        },
        "AWS does not say what a condition without ForAllValues: or ForAnyValue: is on a key with several values; here it \
         holds if any value fits, and a negated one if none does",
    ),
    (
        |step, context| {
            conditions_matter(step) && step.statement.conditions.iter().any(|one| one.is_open_on_missing(context))
        },
        "AWS does not say what ForAnyValue: with IfExists is on a key that is missing; here it holds",
    ),
    (
        |step, context| {
            let asked = !matches!(step.mismatch, Some(Mismatch::Principal | Mismatch::Action));
            asked
                && step.statement.resources.as_ref().is_some_and(|resources| {
                    let negated = resources.patterns.iter().filter(|_| resources.negated);
                    negated.flat_map(|(_, parts)| parts.iter()).any(|part| part.is_unset(context))
                })
        },
        "AWS does not say what NotResource spares with a policy variable that has no value; here it spares nothing, so the \
         statement applies",
    ),
];

/// Whether all but the conditions of a statement fit.
fn conditions_matter(step: &Trace<'_>) -> bool {
    matches!(step.mismatch, None | Some(Mismatch::Condition(_)))
}

const NOT_PRINCIPAL: &str = "a Deny with NotPrincipal spares nobody who has a permissions boundary, whomever it names";
const NO_PRINCIPAL: &str =
    "no principal was given: only Principal \"*\" matches, and the accounts are taken to be the same";
const ACROSS_ACCOUNTS: &str = "across accounts: the identity-based policy and the resource-based policy must both allow, and \
     only an SES identity has the latter";
const DIRECT: &str = "the resource-based policy allows this user, session or everybody within the account: identity-based \
     policy, permissions boundary and session policy are not needed and limit by an explicit deny only";
const BY_ROLE: &str = "the resource-based policy allows the role within the account: an identity-based policy is not needed; \
     permissions boundary and session policy still limit";
const DELEGATED: &str = "the resource-based policy names the account, which only delegates: an identity-based policy must \
     allow too";
const RCP_SERVICES: &str = "resource control policies bind the services that AWS lists; look whether SES is among them";

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
