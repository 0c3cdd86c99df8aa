//! Does a request match, and what follows. IAM User Guide, "Policy evaluation logic".
//!
//! [`evaluate`] looks at the documents of one policy type: an explicit deny wins, then an allow, then nothing was said,
//! which is a deny too. Intersecting the types is the caller's: each must allow.

use super::arn;
use super::condition::Condition;
use super::context::Context;
use super::document::{Document, Effect, Principals, Statement};
use std::cell::OnceCell;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `ses:SendRawEmail`.
    pub action: &'a str,
    /// The ARN of the resource.
    pub resource: &'a str,
    /// The ARN of who asks (of the session, where there is one), a service's name, or the ARN of the provider that vouches
    /// for a web identity; `None` where nobody knows, which matches `"*"` only.
    pub principal: Option<&'a str>,
    /// The condition keys.
    pub context: &'a Context,
}

/// A request, with the parts of its resource found once for all statements, if one asks for them.
struct Asked<'a> {
    request: &'a Request<'a>,
    /// Who asks has a permissions boundary.
    has_boundary: bool,
    resource: OnceCell<Option<[&'a str; 6]>>,
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request<'a>) -> Self {
        Self::beside(request, false)
    }

    fn beside(request: &'a Request<'a>, has_boundary: bool) -> Self {
        Self { request, has_boundary, resource: OnceCell::new() }
    }

    fn names_principal(&self, statement: &Statement) -> bool {
        statement.principal.as_ref().is_none_or(|principals| {
            self.ignores_exception(statement) || principal_fits(principals, self.request.principal)
        })
    }

    /// `NotPrincipal` in a Deny spares nobody who has a permissions boundary, "regardless of the values specified in the
    /// NotPrincipal element". "AWS JSON policy elements: NotPrincipal".
    fn ignores_exception(&self, statement: &Statement) -> bool {
        self.has_boundary && denies_by_not_principal(statement)
    }

    fn names_action(&self, statement: &Statement) -> bool {
        let Request { action, context, .. } = self.request;
        let named = statement.actions.patterns.iter().any(|(_, pattern)| pattern.matches(action, context, true));
        named != statement.actions.negated
    }

    fn names_resource(&self, statement: &Statement) -> bool {
        let Request { resource, context, .. } = self.request;
        let parts_of_it = || self.resource.get_or_init(|| arn::split(resource)).as_ref();
        let is = |parts| parts_of_it().is_some_and(|resource| arn::parts_match(parts, resource, context));
        statement.resources.as_ref().is_none_or(|resources| {
            resources.patterns.iter().any(|(text, parts)| text == "*" || is(parts)) != resources.negated
        })
    }

    fn unmet_condition<'b>(&self, statement: &'b Statement) -> Option<&'b Condition> {
        statement.conditions.iter().find(|condition| !condition.holds(self.request.context))
    }
}

/// What the documents of one type say.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// A statement allows it and none denies it.
    Allow(&'a Document, &'a Statement),
    /// This statement denies it.
    ExplicitDeny(&'a Document, &'a Statement),
    /// No statement speaks of it.
    ImplicitDeny,
}

impl Decision<'_> {
    /// Whether it is `Allow`.
    pub const fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(..))
    }

    /// As IAM's simulator says it.
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

/// Whether a statement denies all but those that it names.
pub(super) fn denies_by_not_principal(statement: &Statement) -> bool {
    statement.effect == Effect::Deny && statement.principal.as_ref().is_some_and(|principals| principals.negated)
}

/// Evaluates the documents of one policy type. Allocates nothing.
pub fn evaluate<'a>(documents: impl IntoIterator<Item = &'a Document>, request: &Request<'_>) -> Decision<'a> {
    evaluate_beside(documents, request, false)
}

/// The same for somebody who has a permissions boundary, or not.
pub(super) fn evaluate_beside<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    request: &Request<'_>,
    has_boundary: bool,
) -> Decision<'a> {
    let asked = Asked::beside(request, has_boundary);
    let mut decision = Decision::ImplicitDeny;
    for document in documents {
        for statement in &document.statements {
            // Once allowed, only a deny changes anything.
            let matters = statement.effect == Effect::Deny || !decision.is_allow();
            if !matters || !speaks_of(statement, &asked) {
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

/// A statement that allows a request, if [`evaluate`] would say `Allow`: perhaps another one than `evaluate` names. Beside all
/// that deny, most requests need one statement for that.
pub fn allowing<'a>(
    documents: impl IntoIterator<Item = &'a Document, IntoIter: Clone>,
    request: &Request<'_>,
) -> Option<(&'a Document, &'a Statement)> {
    let asked = Asked::of(request);
    let mut documents = documents.into_iter();
    if documents.clone().any(|document| document.denials().any(|statement| speaks_of(statement, &asked))) {
        return None;
    }
    documents.find_map(|document| Some((document, document.allowing(|statement| speaks_of(statement, &asked))?)))
}

/// The first statement that denies a request, whatever allows it.
pub fn explicit_deny<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    request: &Request<'_>,
) -> Option<Decision<'a>> {
    let asked = Asked::of(request);
    let mut all =
        documents.into_iter().flat_map(|document| document.denials().map(move |statement| (document, statement)));
    all.find(|(_, statement)| speaks_of(statement, &asked))
        .map(|(document, statement)| Decision::ExplicitDeny(document, statement))
}

/// Why a statement does not speak of a request.
#[derive(Clone, Copy, Debug)]
pub enum Mismatch<'a> {
    /// Of another principal.
    Principal,
    /// Of other actions.
    Action,
    /// Of other resources.
    Resource,
    /// This condition does not hold.
    Condition(&'a Condition),
}

/// One statement, as it was looked at.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// Its document.
    pub document: &'a Document,
    /// The statement.
    pub statement: &'a Statement,
    /// `None`: it speaks of the request.
    pub mismatch: Option<Mismatch<'a>>,
}

/// Every statement of the documents, as [`evaluate`] sees it.
pub fn trace<'a>(documents: impl IntoIterator<Item = &'a Document>, request: &Request<'_>) -> Vec<Trace<'a>> {
    trace_beside(documents, request, false)
}

/// The same for somebody who has a permissions boundary, or not.
pub(super) fn trace_beside<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    request: &Request<'_>,
    has_boundary: bool,
) -> Vec<Trace<'a>> {
    let asked = Asked::beside(request, has_boundary);
    let mut steps = Vec::new();
    for document in documents {
        for statement in &document.statements {
            steps.push(Trace { document, statement, mismatch: mismatch(statement, &asked) });
        }
    }
    steps
}

/// Whether a statement speaks of a request: as [`mismatch`], with conditions first, since they are what most statements
/// of one document differ by, and with the dearest question last.
fn speaks_of(statement: &Statement, asked: &Asked<'_>) -> bool {
    asked.unmet_condition(statement).is_none()
        && asked.names_action(statement)
        && asked.names_resource(statement)
        && asked.names_principal(statement)
}

/// The first element of a statement that does not fit, in the order principal, action, resource, condition.
fn mismatch<'a>(statement: &'a Statement, asked: &Asked<'_>) -> Option<Mismatch<'a>> {
    if !asked.names_principal(statement) {
        return Some(Mismatch::Principal);
    }
    if !asked.names_action(statement) {
        return Some(Mismatch::Action);
    }
    if !asked.names_resource(statement) {
        return Some(Mismatch::Resource);
    }
    asked.unmet_condition(statement).map(Mismatch::Condition)
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

/// An account (`111122223333`, or its root ARN) stands for everybody in it; a role for its sessions; otherwise the ARN
/// must be the same. "AWS JSON policy elements: Principal": no wildcards inside an ARN.
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
