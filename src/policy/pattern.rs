//! Patterns for mailboxes: `ann@a.example`, `*@a.example`, `*@*.a.example`, `billing+*@a.example`.
//!
//! A pattern matches the whole address. The local part is compared case-sensitively, the domain case-insensitively and in A-label form.
//! `*` in the local part is any sequence of characters; `*.` in front of a domain is one or more labels; `*@*` matches every address.

use crate::mail::parameters::{IdentityArn, is_within};
use crate::mail::{MailDomain, Mailbox};
use std::fmt;
use std::sync::Arc;

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No `@`: a bare domain or name, which has two possible meanings.
    #[error("{text:?} has no @; write {}", with_at(text))]
    NoAt {
        /// As written.
        text: String,
    },
    /// No local part.
    #[error("{0:?} has nothing before the @; write *{0} for every address of that domain")]
    NoLocalPart(String),
    /// A regular expression.
    #[error(
        "{text:?} looks like a regular expression, and patterns have only * for any run of characters: no regular \
             expressions; write {instead}"
    )]
    RegularExpression {
        /// As written.
        text: String,
        /// A pattern that is probably meant.
        instead: String,
    },
    /// The local part has a character that no dot-string has.
    #[error("{0:?}: the local part must be letters, digits, * and . ! # $ % & ' + - / = ? ^ _ ` {{ | }} ~")]
    LocalPart(String),
    /// The domain is not one.
    #[error("{0:?}: the domain must be a domain name, *.domain or *, as in *@example.com or *@*.example.com")]
    Domain(String),
}

/// A pattern that is probably meant.
fn with_at(text: &str) -> String {
    match text {
        "*" => "*@* for every address".to_owned(),
        "" | "<>" => "*@example.com; for MAIL FROM:<> set null_reverse_path".to_owned(),
        domain => format!("*@{domain} for every address of that domain"),
    }
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    /// The texts between the stars. One text: no star.
    local_runs: Vec<String>,
    domain: DomainPattern,
    /// Its text, for the log line of every message that it permits.
    text: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DomainPattern {
    Any,
    /// With the leading dot.
    Below(String),
    Exactly(String),
}

impl AddressPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::compile(text).and_then(|pattern| {
            // Only a quoted local part begins with a dot, so this is the "any character" of a regular expression.
            let begins_with_dot = pattern.local_runs.first().is_some_and(|run| run.starts_with('.'));
            if begins_with_dot { Err(regular_expression(text)) } else { Ok(pattern) }
        })
    }

    fn compile(text: &str) -> Result<Self, PatternError> {
        if text.contains(['\\', '(', '[']) && !text.contains("@[") || text.starts_with('^') && text.ends_with('$') {
            return Err(regular_expression(text));
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| PatternError::NoAt { text: text.to_owned() })?;
        let plain = |octet: u8| crate::mail::address::is_atext(octet) || octet == b'.';
        if local.is_empty() && MailDomain::parse(domain).is_ok() {
            return Err(PatternError::NoLocalPart(text.to_owned()));
        }
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

    /// Its text.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether it matches every address.
    pub fn matches_everything(&self) -> bool {
        self.domain == DomainPattern::Any && self.local_runs.iter().all(String::is_empty)
    }

    /// Whether it can match an address of this identity.
    pub fn can_match(&self, arn: &IdentityArn) -> bool {
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

    /// Whether it matches a mailbox. Time: the length of the local part times the number of stars.
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

    /// Whether it would match a mailbox if local parts were compared case-insensitively.
    pub fn matches_without_case(&self, mailbox: &Mailbox) -> bool {
        let local_runs = self.local_runs.iter().map(|run| run.to_ascii_lowercase()).collect();
        let lower = Mailbox::from_parts(mailbox.local_part().to_ascii_lowercase(), mailbox.domain().clone());
        lower.is_ok_and(|mailbox| Self { local_runs, ..self.clone() }.matches(&mailbox))
    }
}

/// The error for a regular expression, with a pattern for its domain.
fn regular_expression(text: &str) -> PatternError {
    let domain = text.rsplit_once('@').map_or("", |(_, domain)| domain).replace('\\', "");
    let name = MailDomain::parse(domain.trim_end_matches('$')).ok();
    let domain = name.as_ref().and_then(|domain| domain.name()).unwrap_or("example.com");
    PatternError::RegularExpression { text: text.to_owned(), instead: format!("*@{domain}") }
}

/// A text with `*` for any sequence of characters, compared case-insensitively: for display names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPattern {
    runs: Vec<String>,
}

impl TextPattern {
    /// Compiles a pattern. Every text is valid.
    pub fn new(text: &str) -> Self {
        Self { runs: text.split('*').map(str::to_lowercase).collect() }
    }

    /// Whether it matches a text.
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
    fn a_regular_expression_is_named_and_a_pattern_to_copy_given() {
        for (text, want) in [
            (".*@example\\.com", "write *@example.com"),
            ("^.*@example\\.com$", "write *@example.com"),
            ("^ann@a.example$", "write *@a.example"),
            (".+@a.example", "write *@a.example"),
            (".*@a.example", "write *@a.example"),
            ("(ann|bob)@a.example", "write *@a.example"),
            ("[a-z]+@a.example", "write *@a.example"),
            ("/.*\\.example/", "write *@example.com"),
        ] {
            let error = AddressPattern::parse(text).unwrap_err().to_string();
            assert!(error.contains("no regular expressions; ") && error.ends_with(want), "{text}: {error}");
        }
        for text in ["ann.*@a.example", "a^b@a.example", "a|b@a.example", "$*@a.example", "billing+*@a.example"] {
            assert!(AddressPattern::parse(text).is_ok(), "{text}");
        }
        let error = AddressPattern::parse("@a.example").unwrap_err().to_string();
        assert!(error.ends_with("write *@a.example for every address of that domain"), "{error}");
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
