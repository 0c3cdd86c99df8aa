//! IAM policy documents: reads the files that `policy.documents` and `documents` of an `[[app]]` name.

use super::diagnostics::Diagnostics;
use super::secret_source::Source;
use crate::iam::document::ArnPattern;
use crate::iam::lint::{Kind, lint};
use crate::iam::pattern::Pattern;
use crate::iam::service::actions_named;
use crate::iam::{Context, Document, DocumentError, DocumentKind, Effect, Statement};
use crate::policy::{App, AwsAccount};
use std::path::PathBuf;
use std::sync::Arc;

/// Reads the files of a key. An element that is not understood is an error: a statement is never ignored.
pub(super) fn read(path: &str, files: &[PathBuf], diagnostics: &mut Diagnostics<'_>) -> Vec<Arc<Document>> {
    let (mut read, mut misspelt) = (Vec::new(), false);
    for (index, file) in files.iter().enumerate() {
        let path = format!("{path}.{index}");
        let Some(text) = diagnostics.text(&path, &Source::File(file.clone())) else { continue };
        match Document::parse(&file.display().to_string(), &text, DocumentKind::Identity) {
            Ok(document) => {
                for (place, pattern, why) in document.resources_not_allowed() {
                    let message = format!("{}, {place}: resource {pattern:?} matches nothing: {why}", document.name);
                    diagnostics.warn(
                        &path,
                        message,
                        "write it in a form that AWS accepts; `gatepost policy lint` lists all of them",
                    );
                }
                misspelt |= misspelt_actions(diagnostics, &path, &document.name, &text);
                read.push(Arc::new(document));
            }
            Err(error) => diagnostics.error(&path, error.to_string(), unread(&error)),
        }
    }
    let allows = |document: &Arc<Document>| document.statements.iter().any(|one| one.effect == Effect::Allow);
    let sends =
        |document: &Arc<Document>| document.statements.iter().any(|one| one.effect == Effect::Allow && sends(one));
    let all_read = !read.is_empty() && read.len() == files.len();
    if all_read && !read.iter().any(allows) {
        let message = "no statement allows anything, so these documents refuse every message";
        diagnostics.warn(path, message, "deny alone is not enough: what is not allowed is denied");
    } else if all_read && !misspelt && !read.iter().any(sends) {
        let message = "no statement allows ses:SendRawEmail, so these documents refuse every message";
        diagnostics.warn(path, message, "allow ses:SendRawEmail: SES authorises raw content as that action");
    }
    read
}

/// Whether a statement's actions include the one that SES authorises sending as.
fn sends(statement: &Statement) -> bool {
    let mut patterns = statement.actions.patterns.iter();
    let named = patterns.any(|(text, _)| actions_named(text).iter().any(|action| action.name == "SendRawEmail"));
    named != statement.actions.negated
}

/// Warns of an application whose documents allow only ARNs of another partition, region or account than those that its messages
/// are sent with: every message would be refused. An application with `identity_arn` may use an identity of another account.
pub(super) fn check_account(account: &AwsAccount, apps: &[App], diagnostics: &mut Diagnostics<'_>) {
    let context = Context::default();
    let AwsAccount { partition, region, account, .. } = account;
    let fits = |(text, parts): &ArnPattern| {
        let is = |part: &Pattern, value: &str| part.matches(value, &context, false);
        text == "*" || is(&parts[1], partition) && is(&parts[3], region) && is(&parts[4], account)
    };
    let is_elsewhere = |statement: &Statement| {
        let resources = statement.resources.as_ref().filter(|resources| !resources.negated);
        resources.is_some_and(|resources| !resources.patterns.iter().any(fits))
    };
    let checked = apps.iter().enumerate().filter(|(_, app)| app.send.identity_arn.is_none());
    for (index, app) in checked {
        let statements = app.documents.iter().flat_map(|document| &document.statements);
        let mut sending = statements.filter(|one| one.effect == Effect::Allow && sends(one)).peekable();
        if sending.peek().is_some() && sending.all(is_elsewhere) {
            let wanted = format!("arn:{partition}:ses:{region}:{account}:identity/…");
            let message =
                format!("messages are sent with {wanted}, and no statement allows ses:SendRawEmail on such an ARN");
            let hint = "compare partition, region and account with ses.region and [aws] account";
            diagnostics.warn(&format!("app.{index}.documents"), message, hint);
        }
    }
}

/// Warns of actions that SES does not have. A newer SES may have them, and the file may be attached to a role.
fn misspelt_actions(diagnostics: &mut Diagnostics<'_>, path: &str, name: &str, text: &str) -> bool {
    let found = lint(name, text, Kind::Identity).into_iter().filter(|finding| finding.rule == "unknown-action");
    let mut any = false;
    for finding in found {
        any = true;
        let hint =
            "a statement with a misspelt action allows and denies nothing; `gatepost policy lint` lists all of them";
        diagnostics.warn(path, finding.to_string(), hint);
    }
    any
}

/// What to do about a document that cannot be read.
fn unread(error: &DocumentError) -> &'static str {
    const HINTS: &[(&str, &str)] = &[
        ("trailing comma", "remove the comma before the closing bracket"),
        ("EOF", "the text ends too early: a closing bracket or quote is missing, or the file is empty"),
        ("twice", "keep one of the two"),
        ("trailing characters", "one file is one document: remove what follows it"),
        ("expected `,`", "a comma is missing between two members"),
        ("Principal", "an identity policy has no Principal: remove it"),
        ("Version", "write \"Version\": \"2012-10-17\""),
        (
            "unknown element",
            "names of elements are Version, Statement, Sid, Effect, Action, Resource, Condition and so on",
        ),
        ("Effect", "write \"Effect\": \"Allow\" or \"Effect\": \"Deny\""),
        ("must be * or service:action", "for example: \"Action\": \"ses:SendRawEmail\""),
        ("has no Resource", "for example: \"Resource\": \"*\""),
        ("must be * or arn:", "for example: \"Resource\": \"arn:aws:ses:eu-west-1:111122223333:identity/example.com\""),
        (
            "Statement",
            "for example: \"Statement\": [{ \"Effect\": \"Allow\", \"Action\": \"ses:SendRawEmail\", \"Resource\": \"*\" }]",
        ),
        ("must be an object", "a document is { \"Version\": …, \"Statement\": […] }"),
    ];
    let (text, otherwise) = match error {
        DocumentError::TypographicQuote { .. } => return "replace typographic quotes by plain ones",
        DocumentError::Json { text, .. } => (text, "the file must be JSON: compare the place with its neighbours"),
        DocumentError::Policy { text, .. } => {
            (text, "see IAM's JSON policy reference; `gatepost policy lint` says more")
        }
    };
    HINTS.iter().find(|(part, _)| text.contains(part)).map_or(otherwise, |(_, hint)| hint)
}
