//! What is wrong with a policy document, said before AWS does, or where AWS says nothing.
//!
//! Works on documents that the evaluator refuses: what cannot be parsed is a finding like any other, and the rules look at
//! the text beside it. Every rule has a name; the caller may leave one out. Silence means that no rule found anything, not
//! that the policy does what was meant: that is what [`super::simulate`] shows.
//!
//! `rules` is about the language, `ses` about what SES makes of it, `endpoint` about VPC endpoint policies.

mod endpoint;
mod rules;
mod ses;
pub(super) mod shape;
mod sheet;

use super::document::{DocumentKind, open, read_statement};
use super::simulate::PolicyType;
use sheet::{Entry, Sheet};

/// The rule about sending without a configuration set, which does not count where no message has one.
pub const NO_CONFIGURATION_SET: &str = "no-configuration-set";

/// What a document is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To a user, group or role; also permissions boundary and session policy.
    Identity,
    /// To a VPC endpoint.
    Endpoint,
    /// To an SES identity.
    Resource,
    /// To a role, saying who may assume it.
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
pub struct Finding {
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
    /// What is wrong and what follows.
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

/// Looks at a document.
pub fn lint(name: &str, json: &str, kind: Kind) -> Vec<Finding> {
    let mut report = Report { document: name, findings: Vec::new() };
    let (variables, statements) = match open(name, json) {
        Ok(read) => read,
        Err(error) => {
            report.document("not-understood", error.to_string());
            return report.findings;
        }
    };
    let sheet = Sheet::read(kind, json, variables, statements.clone());
    rules::look(&sheet, &mut report);
    ses::look(&sheet, &mut report);
    if kind == Kind::Endpoint {
        endpoint::look(&sheet, &mut report);
    }
    // What the evaluator refuses, where no rule has said it better.
    let mut refused = false;
    for (entry, value) in sheet.statements.iter().zip(statements) {
        if let Err(wrong) = read_statement(entry.number, value, sheet.variables, kind.document()) {
            refused = true;
            let said = report
                .findings
                .iter()
                .any(|finding| finding.statement == Some(entry.number) && rules::SAID_BETTER.contains(&finding.rule));
            if !said {
                report.statement("not-understood", entry, None, wrong.text);
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

    fn statement(&mut self, rule: &'static str, entry: &Entry, key: Option<&str>, text: String) {
        self.findings.push(Finding {
            rule,
            document: self.document.to_owned(),
            statement: Some(entry.number),
            sid: entry.sid.clone(),
            key: key.map(str::to_owned),
            text,
        });
    }
}

/// The nearest of some words, if it is near enough to be meant.
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
