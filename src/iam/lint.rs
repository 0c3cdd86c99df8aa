//! Finds errors in policy documents before AWS does, and those that AWS does not report.
//!
//! Also works on documents that the evaluator refuses: a parse error is a finding, and the rules check the remaining
//! statements. Every rule has a name, and the caller may ignore a rule. A document without findings is not proved to
//! have the intended effect; [`super::simulate`] shows its effect.
//!
//! `rules` is about the language, `ses` about SES, `endpoint` about VPC endpoint policies.

pub(super) mod arn_syntax;
mod endpoint;
mod lenient;
mod rules;
mod ses;

use super::document::{DocumentKind, open, read_statement};
use super::simulate::PolicyType;
use lenient::{LenientDocument, LenientStatement};

/// The rule about sending without a configuration set, which does not count where no message has one.
pub(crate) const NO_CONFIGURATION_SET: &str = "no-configuration-set";

/// What a document is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To a user, group or role; also permissions boundary and session policy.
    Identity,
    /// To a VPC endpoint.
    Endpoint,
    /// To an SES identity.
    Resource,
    /// The trust policy of a role.
    Trust,
    /// To an organisation: service control policy.
    Scp,
    /// To an organisation: resource control policy.
    Rcp,
}

impl Kind {
    const fn document(self) -> DocumentKind {
        match self {
            Self::Identity | Self::Scp => DocumentKind::Identity,
            Self::Endpoint | Self::Resource | Self::Trust | Self::Rcp => DocumentKind::Resource,
        }
    }

    const fn policy_type(self) -> PolicyType {
        match self {
            Self::Identity => PolicyType::Identity,
            Self::Endpoint => PolicyType::Endpoint,
            Self::Resource | Self::Trust => PolicyType::Resource,
            Self::Scp => PolicyType::Scp,
            Self::Rcp => PolicyType::Rcp,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// The document's name: the file.
    pub document: String,
    /// The statement, counted from 1; `None`: the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<usize>,
    /// Its `Sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The element or condition key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The error and its consequence.
    pub text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.document)?;
        if let Some(number) = self.statement {
            write!(f, ", statement {number}")?;
        }
        if let Some(sid) = &self.sid {
            write!(f, " ({sid:?})")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", {key}")?;
        }
        write!(f, ": {} [{}]", self.text, self.rule)
    }
}

/// Checks a document.
pub(crate) fn lint(name: &str, json: &str, kind: Kind) -> Vec<Finding> {
    let mut report = Report { document: name, findings: Vec::new() };
    let (variables, statements) = match open(name, json) {
        Ok(read) => read,
        Err(error) => {
            report.document("not-understood", error.to_string());
            return report.findings;
        }
    };
    let document = LenientDocument::read(kind, json, variables, statements.clone());
    rules::check(&document, &mut report);
    ses::check(&document, &mut report);
    if kind == Kind::Endpoint {
        endpoint::check(&document, &mut report);
    }
    // Errors of the evaluator, except where a rule reports them more precisely.
    let mut refused = false;
    for (statement, value) in document.statements.iter().zip(statements) {
        if let Err(wrong) = read_statement(statement.number, value, document.variables, kind.document()) {
            refused = true;
            let is_reported = report.findings.iter().any(|finding| {
                finding.statement == Some(statement.number) && rules::MORE_PRECISE.contains(&finding.rule)
            });
            if !is_reported {
                report.statement("not-understood", statement, None, wrong.text);
            }
        }
    }
    if !refused && let Err(error) = kind.policy_type().parse(name, json) {
        report.document("not-understood", error.to_string());
    }
    let mut findings = report.findings;
    findings.sort_by_key(|finding| finding.statement);
    findings
}

/// The findings so far.
struct Report<'a> {
    document: &'a str,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn document(&mut self, rule: &'static str, text: String) {
        let document = self.document.to_owned();
        self.findings.push(Finding { rule, document, statement: None, sid: None, key: None, text });
    }

    fn statement(&mut self, rule: &'static str, statement: &LenientStatement, key: Option<&str>, text: String) {
        self.findings.push(Finding {
            rule,
            document: self.document.to_owned(),
            statement: Some(statement.number),
            sid: statement.sid.clone(),
            key: key.map(str::to_owned),
            text,
        });
    }
}

/// The nearest of some words, if it is similar enough.
pub(super) fn did_you_mean<T: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    let word = word.to_lowercase();
    let near = known.into_iter().map(|known| (distance(&word, &known.as_ref().to_lowercase()), known));
    near.min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= 2 || *distance * 3 <= word.len().max(known.as_ref().len()))
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[path = "lint/lint_tests.rs"]
mod tests;
