//! Mailboxes: local part and domain, in one canonical form.
//!
//! The syntax is the strict `Mailbox` of RFC 5321 §4.1.2, without obsolete forms, because policy compares the result.
//! Two spellings of one mailbox give the same value: unnecessary quotes are removed, and domains are lower-case
//! A-labels (RFC 5890). The case of the local part is significant (RFC 5321 §2.4). Limits: local part 64 octets, domain
//! 255, both together 254 (RFC 5321 §4.5.3.1, RFC 3696 erratum 1690).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a text is not a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// No `@`, so no domain.
    #[error("address has no domain")]
    NoDomain,
    /// The local part is not ASCII, and SES does not support SMTPUTF8.
    #[error("local part is not ASCII")]
    NonAsciiLocalPart,
    /// The local part is neither a dot-string nor a quoted string, or longer than 64 octets.
    #[error("local part is malformed")]
    LocalPart,
    /// The domain is neither a domain name nor an address literal.
    #[error("domain is malformed")]
    Domain,
    /// The address is longer than 254 octets.
    #[error("address is longer than 254 octets")]
    TooLong,
}

/// `local-part@domain`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    local_part: String,
    domain: MailDomain,
}

/// The part after the `@`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MailDomain {
    /// A domain name in lower-case A-labels, without a trailing dot.
    Name(String),
    /// An address literal, without its brackets: `127.0.0.1`, `IPv6:::1`.
    Literal(String),
}

impl Mailbox {
    /// Parses `local-part@domain`. A U-label domain is converted to A-labels.
    ///
    /// # Errors
    /// [`AddressError`], by the invalid part.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // Split at the last `@`: a quoted local part can contain one, a domain cannot.
        let (local_part, domain) = text.rsplit_once('@').ok_or(AddressError::NoDomain)?;
        if !local_part.is_ascii() {
            return Err(AddressError::NonAsciiLocalPart);
        }
        let local_part = match local_part.strip_prefix('"') {
            Some(rest) => unquote(rest.strip_suffix('"').ok_or(AddressError::LocalPart)?)?,
            None if is_dot_string(local_part) => local_part.to_owned(),
            None => return Err(AddressError::LocalPart),
        };
        Self::from_parts(local_part, MailDomain::parse(domain)?)
    }

    /// A mailbox from an unquoted local part and a domain.
    ///
    /// # Errors
    /// [`AddressError`] if a part is too long, or if the local part has octets that a quoted string cannot contain.
    pub fn from_parts(local_part: String, domain: MailDomain) -> Result<Self, AddressError> {
        if !local_part.is_ascii() {
            return Err(AddressError::NonAsciiLocalPart);
        }
        if local_part.len() > 64 || !local_part.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
            return Err(AddressError::LocalPart);
        }
        let mailbox = Self { local_part, domain };
        let (MailDomain::Name(domain) | MailDomain::Literal(domain)) = &mailbox.domain;
        // An upper bound: quotes, `@` and brackets, and each octet of the local part escaped. It is below the limit for
        // nearly all addresses, so they are not printed.
        let octets_at_most = 2 * mailbox.local_part.len() + domain.len() + 5;
        let too_long = octets_at_most > 254 && mailbox.to_string().len() > 254;
        if too_long { Err(AddressError::TooLong) } else { Ok(mailbox) }
    }

    /// The local part, without quotes.
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// The domain.
    pub fn domain(&self) -> &MailDomain {
        &self.domain
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local_part) {
            f.write_str(&self.local_part)?;
            f.write_str("@")?;
            self.domain.fmt(f)
        } else {
            f.write_str("\"")?;
            for c in self.local_part.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
            write!(f, "\"@{}", self.domain)
        }
    }
}

impl MailDomain {
    /// Parses a domain name (A-labels or U-labels) or a bracketed address literal.
    ///
    /// # Errors
    /// [`AddressError::Domain`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or(AddressError::Domain)?;
            let valid = match inside.get(..5) {
                Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inside[5..].parse::<Ipv6Addr>().is_ok(),
                _ => inside.parse::<Ipv4Addr>().is_ok(),
            };
            return if valid { Ok(Self::Literal(inside.to_owned())) } else { Err(AddressError::Domain) };
        }
        let name = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(text).map_err(|_| AddressError::Domain)?
        };
        // A last label of digits only is an IPv4 address without its brackets.
        let last = name.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|octet| octet.is_ascii_digit());
        let valid = name.len() <= 255 && name.split('.').all(is_label) && !numeric;
        if valid { Ok(Self::Name(name)) } else { Err(AddressError::Domain) }
    }

    /// The domain name, or `None` for an address literal.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Literal(_) => None,
        }
    }
}

impl fmt::Display for MailDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Literal(inside) => write!(f, "[{inside}]"),
        }
    }
}

/// RFC 5321 §4.1.2 `sub-domain`: letters, digits and inner hyphens, up to 63.
fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// RFC 5322 §3.2.3 `atext`.
pub(crate) const fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^' | b'_' | b'`'
        )
        || matches!(octet, b'{' | b'|' | b'}' | b'~')
}

/// RFC 5321 §4.1.2 `Dot-string`.
pub(crate) fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

/// The content of a quoted string with its quoted pairs resolved (RFC 5321 §4.1.2 `Quoted-string`).
fn unquote(inside: &str) -> Result<String, AddressError> {
    let mut text = String::with_capacity(inside.len());
    let mut octets = inside.bytes();
    while let Some(octet) = octets.next() {
        let plain = match octet {
            b'"' => return Err(AddressError::LocalPart),
            b'\\' => octets.next().ok_or(AddressError::LocalPart)?,
            other => other,
        };
        if !matches!(plain, b' '..=b'~') {
            return Err(AddressError::LocalPart);
        }
        text.push(char::from(plain));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_mailbox_has_one_form() {
        for (name, text, want) in [
            ("plain", "ann@a.example", Ok("ann@a.example")),
            ("domain case", "Ann@A.EXAMPLE", Ok("Ann@a.example")),
            ("needless quotes", "\"ann\"@a.example", Ok("ann@a.example")),
            ("needed quotes", "\"a b\"@a.example", Ok("\"a b\"@a.example")),
            ("quoted at", "\"a@x.com\"@evil.example", Ok("\"a@x.com\"@evil.example")),
            ("quoted pair", "\"a\\\"b\"@a.example", Ok("\"a\\\"b\"@a.example")),
            ("empty quoted", "\"\"@a.example", Ok("\"\"@a.example")),
            ("u-label", "ann@bücher.example", Ok("ann@xn--bcher-kva.example")),
            ("ipv4 literal", "ann@[127.0.0.1]", Ok("ann@[127.0.0.1]")),
            ("ipv6 literal", "ann@[IPv6:::1]", Ok("ann@[IPv6:::1]")),
            ("local host", "root@localhost", Ok("root@localhost")),
            ("host with a number", "root@host1", Ok("root@host1")),
            ("no domain", "postmaster", Err(AddressError::NoDomain)),
            ("empty domain", "ann@", Err(AddressError::Domain)),
            ("trailing dot", "ann@a.example.", Err(AddressError::Domain)),
            ("ipv4 without brackets", "ann@10.0.0.1", Err(AddressError::Domain)),
            ("label with a hyphen first", "ann@-a.example", Err(AddressError::Domain)),
            ("underscore", "ann@a_b.example", Err(AddressError::Domain)),
            ("control in domain", "ann@a\0.example", Err(AddressError::Domain)),
            ("bad literal", "ann@[10.0.0]", Err(AddressError::Domain)),
            ("two ats", "a@b@c.example", Err(AddressError::LocalPart)),
            ("double dot", "a..b@c.example", Err(AddressError::LocalPart)),
            ("leading dot", ".a@c.example", Err(AddressError::LocalPart)),
            ("empty local part", "@c.example", Err(AddressError::LocalPart)),
            ("space", "a b@c.example", Err(AddressError::LocalPart)),
            ("open quote", "\"a@c.example", Err(AddressError::LocalPart)),
            ("quote inside", "\"a\"b\"@c.example", Err(AddressError::LocalPart)),
            ("CR in quotes", "\"a\rb\"@c.example", Err(AddressError::LocalPart)),
            ("non-ascii local part", "jürgen@c.example", Err(AddressError::NonAsciiLocalPart)),
        ] {
            assert_eq!(Mailbox::parse(text).map(|m| m.to_string()), want.map(str::to_owned), "{name}");
        }
        assert_eq!(Mailbox::parse(&format!("{}@a.example", "a".repeat(65))), Err(AddressError::LocalPart));
        // The limit applies to the written form: quotes are counted, and escaped characters are two octets.
        for before in [format!("{}@", "a".repeat(64)), format!("\"{}\"@", "\\\"".repeat(31))] {
            let rest = |octets: usize| "d".repeat(octets - before.len() - 3 * 60);
            let domain = |octets| ["b".repeat(59), "c".repeat(59), "e".repeat(59), rest(octets)].join(".");
            let length = |octets| Mailbox::parse(&format!("{before}{}", domain(octets))).map(|it| it.to_string().len());
            assert_eq!((length(254), length(255)), (Ok(254), Err(AddressError::TooLong)), "{before}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_gives_the_same_mailbox(local in "[ -~]{1,20}", domain in "[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{2,6}){1,3}") {
            let mailbox = Mailbox::from_parts(local, MailDomain::parse(&domain).unwrap()).unwrap();
            prop_assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = Mailbox::parse(&text);
        }
    }
}
