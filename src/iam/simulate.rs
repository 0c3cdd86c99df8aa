//! Evaluates a request against all policy types together, as AWS does.
//!
//! An explicit deny in any policy denies the request. Otherwise each attached type must allow: service control policies
//! (on every level), permissions boundary, session policy, endpoint policy, and the identity-based policies, which are
//! always required. The exception is a resource-based policy in the same account: its allow can replace others,
//! depending on the principal that it names, see `Grant`. Across accounts it cannot: both sides must allow. IAM User
//! Guide, "How AWS enforcement code logic evaluates requests to allow or deny access", "Policy evaluation for requests
//! within a single account", "Cross-account policy evaluation logic".

use super::document::{Document, DocumentError, DocumentKind, Effect};
use super::evaluate::{
    Decision, Mismatch, Request, Trace, denies_by_not_principal, evaluate_with_boundary, trace_with_boundary,
};
use super::{Arn, Context};
use std::collections::BTreeMap;

/// What a document is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PolicyType {
    /// To the organisation, an organisational unit or the account of the resource (RCP).
    Rcp,
    /// The organisation, an organisational unit or the account of the principal (SCP).
    Scp,
    /// To the resource: an SES identity's sending authorization.
    Resource,
    /// To the user, its groups, or the role.
    Identity,
    /// To the user or role, as permissions boundary.
    Boundary,
    /// The session, at its creation.
    Session,
    /// The VPC endpoint of the request.
    Endpoint,
}

impl PolicyType {
    /// As AWS calls it in its denials. "Troubleshoot access denied error messages".
    pub(crate) const fn name(self) -> &'static str {
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

    /// Parses a document of this type, with the restrictions of the type.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub(crate) fn parse(self, name: &str, json: &str) -> Result<Document, DocumentError> {
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

    /// The first violation of this type's grammar: position and rule. AWS Organizations User Guide, "RCP syntax"; AWS
    /// PrivateLink Guide, "Control access to VPC endpoints".
    pub(crate) fn restriction(self, document: &Document) -> Option<(String, &'static str)> {
        let everything = |document: &Document| {
            // RCPFullAWSAccess, which AWS attaches itself.
            matches!(&document.statements[..], [only] if only.conditions.is_empty()
                && only.actions.patterns.iter().all(|(text, _)| text == "*"))
        };
        document.statements.iter().find_map(|statement| {
            let star = |text: &str| text == "*";
            let rule = match self {
                Self::Rcp if statement.effect == Effect::Allow && !everything(document) => {
                    "Allow is permitted in AWS's own RCPFullAWSAccess only"
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
pub(crate) struct Policies(BTreeMap<PolicyType, Vec<Vec<Document>>>);

impl Policies {
    /// None: nothing is attached.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Attaches documents of one type. One of them must allow.
    ///
    /// Service control policies that are attached again form another level (organisation, unit, account), and every
    /// level must allow. Further documents of other types are added to the earlier ones.
    pub(crate) fn attach(&mut self, policy_type: PolicyType, documents: Vec<Document>) {
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
pub(crate) enum Verdict {
    /// Every relevant type allows.
    Allowed,
    /// A statement denies.
    ExplicitDeny,
    /// A relevant type does not allow.
    ImplicitDeny,
}

impl Verdict {
    /// The name of the verdict in IAM's simulator.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ExplicitDeny => "explicitDeny",
            Self::ImplicitDeny => "implicitDeny",
        }
    }
}

/// The decision of the documents of one type, on one level.
#[derive(Clone, Debug)]
pub(crate) struct TypeDecision<'a> {
    /// The type.
    pub policy_type: PolicyType,
    /// The decision of these documents alone.
    pub decision: Decision<'a>,
    /// Every statement.
    pub statements: Vec<Trace<'a>>,
}

/// Everything about one request.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<'a> {
    /// The outcome.
    pub verdict: Verdict,
    /// The type that decided. Where several deny, the first in the order of evaluation.
    pub decided_by: PolicyType,
    /// Each type, in the order of evaluation.
    pub said: Vec<TypeDecision<'a>>,
    /// Condition keys of statements that the request lacks, as the statements write them.
    pub missing_keys: Vec<String>,
    /// Rules of AWS, other than statements, that affected the verdict.
    pub notes: Vec<&'static str>,
}

impl Outcome<'_> {
    /// The clause with which AWS explains a denial, if it does: "because no … policy allows the … action".
    pub(crate) fn clause(&self, action: &str) -> Option<String> {
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
    /// The principal is not named.
    None,
    /// The account: it may give the permission on, by an identity-based policy.
    Delegated,
    /// The role: an identity-based policy is not needed, but permissions boundary and session policy still limit.
    Role,
    /// The user, the session, or all principals: only an explicit deny limits.
    Direct,
}

/// Evaluates one request.
pub(crate) fn simulate<'a>(policies: &'a Policies, request: &Request<'_>) -> Outcome<'a> {
    let context = implied(request);
    let request = Request { context: &context, ..*request };
    let has_boundary = policies.0.contains_key(&PolicyType::Boundary);
    let decisions: Vec<TypeDecision<'a>> = policies
        .levels()
        .map(|(policy_type, documents)| TypeDecision {
            policy_type,
            decision: evaluate_with_boundary(documents, &request, has_boundary),
            statements: trace_with_boundary(documents, &request, has_boundary),
        })
        .collect();
    let mut notes = Vec::new();
    let (verdict, decided_by) = decide(&decisions, &request, &mut notes);
    let all = || decisions.iter().flat_map(|one| &one.statements);
    if has_boundary && all().any(|step| step.mismatch.is_none() && denies_by_not_principal(step.statement)) {
        notes.push(NOT_PRINCIPAL);
    }
    notes.extend(OPEN.iter().filter(|(is_open, _)| all().any(|step| is_open(step, &context))).map(|(_, note)| *note));
    let missing_keys = missing_keys(&decisions, &context);
    Outcome { verdict, decided_by, said: decisions, missing_keys, notes }
}

fn decide(
    decisions: &[TypeDecision<'_>],
    request: &Request<'_>,
    notes: &mut Vec<&'static str>,
) -> (Verdict, PolicyType) {
    if decisions.iter().any(|one| one.policy_type == PolicyType::Rcp) {
        notes.push(RCP_SERVICES);
    }
    if let Some(denied) = decisions.iter().find(|one| matches!(one.decision, Decision::ExplicitDeny(..))) {
        return (Verdict::ExplicitDeny, denied.policy_type);
    }
    let needs = |policy_type: PolicyType| {
        decisions.iter().any(|one| one.policy_type == policy_type && !one.decision.is_allow())
            || policy_type == PolicyType::Identity && !decisions.iter().any(|one| one.policy_type == policy_type)
    };
    let grant = decisions
        .iter()
        .filter(|one| one.policy_type == PolicyType::Resource)
        .flat_map(|one| &one.statements)
        .map(|step| grant_of(step, request))
        .max()
        .unwrap_or(Grant::None);
    let across = across_accounts(request);
    let names_principals =
        |one: &TypeDecision<'_>| matches!(one.policy_type, PolicyType::Resource | PolicyType::Endpoint);
    if request.principal.is_none() && decisions.iter().any(names_principals) {
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
        // AWS advises against it, and documents only that it may allow all principals.
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

/// The keys that follow from principal, action and resource. Existing values are not replaced.
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

/// The missing keys of statements that apply to this principal and action, on this resource or on one with a variable.
fn missing_keys(decisions: &[TypeDecision<'_>], context: &Context) -> Vec<String> {
    let mut missing: Vec<String> = Vec::new();
    let mut ask = |key: &str| {
        let known = missing.iter().any(|before| before.eq_ignore_ascii_case(key));
        if !known && context.get(&key.to_ascii_lowercase()).is_none() {
            missing.push(key.to_owned());
        }
    };
    for step in decisions.iter().flat_map(|one| &one.statements) {
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

/// Behaviour that AWS does not document, if a statement depends on it, and the interpretation here.
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
            let applies = !matches!(step.mismatch, Some(Mismatch::Principal | Mismatch::Action));
            applies
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

const NOT_PRINCIPAL: &str =
    "a Deny with NotPrincipal applies to every principal with a permissions boundary, also to those that it names";
const NO_PRINCIPAL: &str =
    "no principal was given: only Principal \"*\" matches, and the accounts are taken to be the same";
const ACROSS_ACCOUNTS: &str = "across accounts: the identity-based policy and the resource-based policy must both allow, and \
     only an SES identity has the latter";
const DIRECT: &str = "the resource-based policy allows this user, this session or all principals of the account: identity-based \
     policy, permissions boundary and session policy are not needed and limit by an explicit deny only";
const BY_ROLE: &str = "the resource-based policy allows the role within the account: an identity-based policy is not needed; \
     permissions boundary and session policy still limit";
const DELEGATED: &str = "the resource-based policy names the account, which only delegates: an identity-based policy must \
     allow too";
const RCP_SERVICES: &str =
    "resource control policies apply to the services that AWS lists; check whether SES is one of them";

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
