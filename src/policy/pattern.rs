//! Patterns for mailboxes: `ann@a.example`, `*@a.example`, `*@*.a.example`, `billing+*@a.example`.
//!
//! Always anchored at both ends. The local part is compared with case, the domain without and in A-label form. `*` in the
//! local part is any run of characters; `*.` in front of a domain is one or more labels; `*@*` is everybody.

use crate::mail::parameters::{IdentityArn, is_within};
use crate::mail::{MailDomain, Mailbox};
use std::fmt;
use std::sync::Arc;

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No `@`: a bare domain or name, which somebody may have meant in either of two ways.
    #[error("{0:?} has no @; write *@{0} for every address of that domain")]
    NoAt(String),
    /// The local part can match nothing.
    #[error("{0:?}: the local part must be letters, digits, * and . ! # $ % & ' + - / = ? ^ _ ` {{ | }} ~")]
    LocalPart(String),
    /// The domain is not one.
    #[error("{0:?}: the domain must be a domain name, *.domain or *")]
    Domain(String),
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    /// The runs between the stars; one run: no star.
    local_runs: Vec<String>,
    domain: DomainPattern,
    /// As it prints: the log line of every message that it permits has it.
    text: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DomainPattern {
    Any,
    /// With the dot in front.
    Below(String),
    Exactly(String),
}

impl AddressPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| PatternError::NoAt(text.to_owned()))?;
        let plain = |octet: u8| crate::mail::address::is_atext(octet) || octet == b'.';
        if local.is_empty() || !local.bytes().all(plain) {
            return Err(PatternError::LocalPart(text.to_owned()));
        }
        let name = |text_of_name: &str| match MailDomain::parse(text_of_name) {
            Ok(MailDomain::Name(name)) => Ok(name),
            _ => Err(PatternError::Domain(text.to_owned())),
        };
        let domain = match domain.strip_prefix("*.") {
            None if domain == "*" => DomainPattern::Any,
            None => DomainPattern::Exactly(name(domain)?),
            Some(parent) => DomainPattern::Below(format!(".{}", name(parent)?)),
        };
        let local_runs: Vec<String> = local.split('*').map(str::to_owned).collect();
        let text = match &domain {
            DomainPattern::Any => format!("{local}@*"),
            DomainPattern::Exactly(name) => format!("{local}@{name}"),
            DomainPattern::Below(parent) => format!("{local}@*{parent}"),
        };
        Ok(Self { local_runs, domain, text: text.into() })
    }

    /// As it prints.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether it matches everybody.
    pub fn is_everybody(&self) -> bool {
        self.domain == DomainPattern::Any && self.local_runs.iter().all(String::is_empty)
    }

    /// Whether an address of that identity could fit.
    pub fn meets(&self, arn: &IdentityArn) -> bool {
        let name = arn.name().to_ascii_lowercase();
        if arn.name().contains('@') {
            return Mailbox::parse(arn.name()).is_ok_and(|mailbox| self.matches(&mailbox));
        }
        match &self.domain {
            DomainPattern::Any => true,
            DomainPattern::Exactly(domain) => is_within(domain, &name),
            DomainPattern::Below(dotted) => {
                let parent = dotted.trim_start_matches('.');
                is_within(parent, &name) || is_within(&name, parent)
            }
        }
    }

    /// Whether a mailbox fits. Linear in the length of the local part times the stars.
    pub fn matches(&self, mailbox: &Mailbox) -> bool {
        let domain = match (&self.domain, mailbox.domain()) {
            (DomainPattern::Any, _) => true,
            (DomainPattern::Exactly(name), MailDomain::Name(domain)) => domain == name,
            (DomainPattern::Below(parent), MailDomain::Name(domain)) => {
                domain.len() > parent.len() && domain.ends_with(parent.as_str())
            }
            (_, MailDomain::Literal(_)) => false,
        };
        domain && runs_match(&self.local_runs, mailbox.local_part())
    }
}

/// A text with `*` for any run of characters, compared without case: for display names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPattern {
    runs: Vec<String>,
}

impl TextPattern {
    /// Compiles a pattern; every text is one.
    pub fn new(text: &str) -> Self {
        Self { runs: text.split('*').map(str::to_lowercase).collect() }
    }

    /// Whether a text fits.
    pub fn matches(&self, text: &str) -> bool {
        runs_match(&self.runs, &text.to_lowercase())
    }
}

fn runs_match(runs: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = runs else {
        return runs.first().is_some_and(|run| run == text);
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
        return false;
    };
    for run in middle {
        match rest.find(run.as_str()) {
            Some(at) => rest = &rest[at + run.len()..],
            None => return false,
        }
    }
    true
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_addresses() {
        for (pattern, mailbox, want) in [
            ("ann@a.example", "ann@a.example", true),
            ("ann@a.example", "ann@A.EXAMPLE", true),
            ("ann@a.example", "Ann@a.example", false),
            ("ann@a.example", "joann@a.example", false),
            ("ann@a.example", "ann@a.example.evil.example", false),
            ("*@a.example", "anybody@a.example", true),
            ("*@a.example", "\"a@b\"@a.example", true),
            ("*@a.example", "ann@b.a.example", false),
            ("*@a.example", "ann@xa.example", false),
            ("*@*.a.example", "ann@b.a.example", true),
            ("*@*.a.example", "ann@c.b.a.example", true),
            ("*@*.a.example", "ann@a.example", false),
            ("*@*.a.example", "ann@xa.example", false),
            ("billing+*@a.example", "billing+42@a.example", true),
            ("billing+*@a.example", "billing@a.example", false),
            ("a*a@a.example", "a@a.example", false),
            ("a*a@a.example", "aa@a.example", true),
            ("*x*y*@a.example", "axbyc@a.example", true),
            ("*x*y*@a.example", "aybxc@a.example", false),
            ("*@bücher.example", "ann@xn--bcher-kva.example", true),
            ("*@*", "ann@[10.0.0.1]", true),
            ("*@a.example", "ann@[10.0.0.1]", false),
        ] {
            let compiled = AddressPattern::parse(pattern).unwrap();
            assert_eq!(compiled.matches(&Mailbox::parse(mailbox).unwrap()), want, "{pattern} {mailbox}");
        }
    }

    #[test]
    fn display_names_are_matched_without_case() {
        assert!(TextPattern::new("Billing *").matches("billing team"));
        assert!(!TextPattern::new("Billing").matches("The Billing"));
    }

    #[test]
    fn what_could_be_meant_in_two_ways_is_an_error() {
        for text in ["a.example", "*", "@a.example", "*@", "ann@a*.example", "ann@*", "a b@a.example", "ann@[10.0.0.1]"]
        {
            let parsed = AddressPattern::parse(text);
            assert_eq!(parsed.is_ok(), text == "ann@*", "{text}: {parsed:?}");
        }
    }
}
