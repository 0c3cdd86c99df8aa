//! Evaluates a request against documents. IAM User Guide, "Policy evaluation logic".
//!
//! [`evaluate`] decides by the documents of one policy type: an explicit deny wins, then an allow; otherwise the request is implicitly
//! denied. The caller combines the types: each must allow. [`trace`] shows every statement as `evaluate` sees it.

use super::arn;
use super::condition::Condition;
use super::context::Context;
use super::document::{Document, Effect, Principals, Statement};

/// An action on a resource.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `ses:SendRawEmail`.
    pub action: &'a str,
    /// The ARN of the resource.
    pub resource: &'a str,
    /// The ARN of the principal (of the session, if there is one), the name of a service, or the ARN of the provider of
    /// a web identity. `None`: unknown, which only `"*"` matches.
    pub principal: Option<&'a str>,
    /// The condition keys.
    pub context: &'a Context,
}

/// A request, with the parts of its resource.
struct PreparedRequest<'a> {
    request: &'a Request<'a>,
    /// The principal has a permissions boundary.
    has_boundary: bool,
    /// `None`: the resource is not an ARN.
    resource: Option<[&'a str; 6]>,
}

impl<'a> PreparedRequest<'a> {
    fn new(request: &'a Request<'a>, has_boundary: bool) -> Self {
        Self { request, has_boundary, resource: arn::split(request.resource) }
    }

    fn names_principal(&self, statement: &Statement) -> bool {
        statement.principal.as_ref().is_none_or(|principals| {
            self.ignores_exception(statement) || principal_fits(principals, self.request.principal)
        })
    }

    /// Whether the exception of `NotPrincipal` in a Deny is ignored: it is for a principal with a permissions boundary,
    /// "regardless of the values specified in the NotPrincipal element". "AWS JSON policy elements: NotPrincipal".
    fn ignores_exception(&self, statement: &Statement) -> bool {
        self.has_boundary && denies_by_not_principal(statement)
    }

    fn names_action(&self, statement: &Statement) -> bool {
        let Request { action, context, .. } = self.request;
        let named = statement.actions.patterns.iter().any(|(_, pattern)| pattern.matches(action, context, true));
        named != statement.actions.negated
    }

    fn names_resource(&self, statement: &Statement) -> bool {
        let Request { context, .. } = self.request;
        let is = |parts| self.resource.as_ref().is_some_and(|resource| arn::parts_match(parts, resource, context));
        statement.resources.as_ref().is_none_or(|resources| {
            resources.patterns.iter().any(|(text, parts)| text == "*" || is(parts)) != resources.negated
        })
    }

    fn unmet_condition<'b>(&self, statement: &'b Statement) -> Option<&'b Condition> {
        statement.conditions.iter().find(|condition| !condition.holds(self.request.context))
    }
}

/// The decision by the documents of one type.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// A statement allows it and none denies it.
    Allow(&'a Document, &'a Statement),
    /// This statement denies it.
    ExplicitDeny(&'a Document, &'a Statement),
    /// No statement applies.
    ImplicitDeny,
}

impl Decision<'_> {
    /// Whether it is `Allow`.
    pub const fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(..))
    }

    /// The name of the decision in IAM's simulator.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Allow(..) => "allowed",
            Self::ExplicitDeny(..) => "explicitDeny",
            Self::ImplicitDeny => "implicitDeny",
        }
    }

    /// The statement that decided, as `file.json, statement 2 ("Sid")`.
    pub fn place(&self) -> Option<String> {
        match self {
            Self::Allow(document, statement) | Self::ExplicitDeny(document, statement) => {
                Some(format!("{}, {}", document.name, statement.place()))
            }
            Self::ImplicitDeny => None,
        }
    }
}

/// Whether a statement denies all principals but those that it names.
pub(super) fn denies_by_not_principal(statement: &Statement) -> bool {
    statement.effect == Effect::Deny && statement.principal.as_ref().is_some_and(|principals| principals.negated)
}

/// Evaluates the documents of one policy type. Allocates nothing.
pub fn evaluate<'a>(documents: impl IntoIterator<Item = &'a Document>, request: &Request<'_>) -> Decision<'a> {
    evaluate_with_boundary(documents, request, false)
}

/// The same for a principal with or without a permissions boundary.
pub(super) fn evaluate_with_boundary<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    request: &Request<'_>,
    has_boundary: bool,
) -> Decision<'a> {
    let prepared = PreparedRequest::new(request, has_boundary);
    let mut decision = Decision::ImplicitDeny;
    for document in documents {
        for statement in &document.statements {
            // After an allow, only a deny can change the decision.
            let matters = statement.effect == Effect::Deny || !decision.is_allow();
            if !matters || mismatch(statement, &prepared).is_some() {
                continue;
            }
            match statement.effect {
                Effect::Deny => return Decision::ExplicitDeny(document, statement),
                Effect::Allow => decision = Decision::Allow(document, statement),
            }
        }
    }
    decision
}

/// Why a statement does not apply to a request.
#[derive(Clone, Copy, Debug)]
pub enum Mismatch<'a> {
    /// It is for another principal.
    Principal,
    /// It is for other actions.
    Action,
    /// It is for other resources.
    Resource,
    /// This condition does not hold.
    Condition(&'a Condition),
}

/// One statement, as it was evaluated.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// Its document.
    pub document: &'a Document,
    /// The statement.
    pub statement: &'a Statement,
    /// `None`: it applies to the request.
    pub mismatch: Option<Mismatch<'a>>,
}

/// Every statement of the documents, as [`evaluate`] sees it.
pub fn trace<'a>(documents: impl IntoIterator<Item = &'a Document>, request: &Request<'_>) -> Vec<Trace<'a>> {
    trace_with_boundary(documents, request, false)
}

/// The same for a principal with or without a permissions boundary.
pub(super) fn trace_with_boundary<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    request: &Request<'_>,
    has_boundary: bool,
) -> Vec<Trace<'a>> {
    let prepared = PreparedRequest::new(request, has_boundary);
    let mut steps = Vec::new();
    for document in documents {
        for statement in &document.statements {
            steps.push(Trace { document, statement, mismatch: mismatch(statement, &prepared) });
        }
    }
    steps
}

/// The first element of a statement that does not fit, in the order principal, action, resource, condition.
fn mismatch<'a>(statement: &'a Statement, request: &PreparedRequest<'_>) -> Option<Mismatch<'a>> {
    if !request.names_principal(statement) {
        return Some(Mismatch::Principal);
    }
    if !request.names_action(statement) {
        return Some(Mismatch::Action);
    }
    if !request.names_resource(statement) {
        return Some(Mismatch::Resource);
    }
    request.unmet_condition(statement).map(Mismatch::Condition)
}

fn principal_fits(principals: &Principals, principal: Option<&str>) -> bool {
    let fits = principals.names.iter().any(|(kind, name)| match (kind.as_str(), principal) {
        (_, _) if name == "*" => true,
        ("AWS", Some(principal)) => aws_principal_fits(name, principal),
        ("Service" | "Federated", Some(principal)) => name == principal,
        _ => false,
    });
    fits != principals.negated
}

/// An account (`111122223333`, or its root ARN) matches all its principals, and a role matches its sessions. Otherwise
/// the ARNs must be equal. "AWS JSON policy elements: Principal": no wildcards inside an ARN.
fn aws_principal_fits(name: &str, principal: &str) -> bool {
    let Some(asking) = super::Arn::parse(principal) else { return false };
    let [_, partition, service, _, account, resource] = asking.parts();
    if name == account || name == principal {
        return true;
    }
    let Some(named) = super::Arn::parse(name) else { return false };
    let [_, named_partition, _, _, named_account, named_resource] = named.parts();
    if partition != named_partition || account != named_account {
        return false;
    }
    if named_resource == "root" {
        return true;
    }
    // arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION is a session of arn:aws:iam::ACCOUNT:role/PATH/NAME.
    let session = resource.strip_prefix("assumed-role/").filter(|_| service == "sts");
    let role = session.and_then(|rest| rest.split('/').next());
    role.is_some() && named_resource.starts_with("role/") && named_resource.rsplit('/').next() == role
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
