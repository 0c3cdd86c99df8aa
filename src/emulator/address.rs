//! Parses addresses in parameters as SES does: an address, or a display name and an address in angle brackets.
//!
//! Checks only the syntax, with the error texts of SES. Groups, comments and lists are not supported, because a
//! parameter has one address. SES API v2 reference, `Destination`: the local part must be 7-bit ASCII, a domain beyond
//! ASCII must be in Punycode.

use super::refusal::Refusal;

/// One address, split at its last `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mailbox {
    pub(super) local: String,
    /// In lower case.
    pub(super) domain: String,
}

impl Mailbox {
    /// Parses `ann@example.com` or `Ann <ann@example.com>`.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let bare = match text.strip_suffix('>') {
            None => text,
            Some(open) => open.rsplit_once('<').map(|(_, address)| address).ok_or_else(|| illegal("Missing '<'"))?,
        };
        // Otherwise a second address could hide in the part that is thrown away.
        if bare.contains(['<', '>', ',', ';']) && !bare.starts_with('"') {
            return Err(illegal("Illegal address"));
        }
        let (local, domain) = bare.rsplit_once('@').ok_or_else(|| illegal("Missing final '@domain'"))?;
        let rules = [
            (local.is_empty(), "Missing local name"),
            (domain.is_empty(), "Missing domain"),
            (
                local.bytes().any(|octet| !(0x21..0x7f).contains(&octet)) && !is_quoted(local),
                "Local address contains control or whitespace",
            ),
            (!local.is_ascii() || local.contains(['\r', '\n', '\0']), "Local address contains illegal character"),
            (local.contains('@') && !is_quoted(local), "Local address contains illegal character"),
            (domain.bytes().any(|octet| octet <= b' ' || octet == 0x7f), "Domain contains control or whitespace"),
            (domain.starts_with('.'), "Domain starts with dot"),
            (domain.contains(".."), "Domain contains dot-dot"),
            (domain.ends_with('.'), "Domain ends with dot"),
            (
                !domain.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._[]:".contains(&octet)),
                "Domain contains illegal character",
            ),
        ];
        match rules.iter().find(|(broken, _)| *broken) {
            Some((_, problem)) => Err(illegal(problem)),
            None => Ok(Self { local: local.to_owned(), domain: domain.to_ascii_lowercase() }),
        }
    }
}

impl std::fmt::Display for Mailbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}", self.local, self.domain)
    }
}

fn is_quoted(local: &str) -> bool {
    local.len() >= 2 && local.starts_with('"') && local.ends_with('"')
}

fn illegal(problem: &'static str) -> Refusal {
    Refusal::bad_request(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_address_or_says_what_is_wrong_with_it() {
        for (text, want) in [
            ("ann@example.com", Ok("ann@example.com")),
            (" Ann B. <Ann@EXAMPLE.com> ", Ok("Ann@example.com")),
            ("\"a b\"@example.com", Ok("\"a b\"@example.com")),
            ("\"x@y\"@example.com", Ok("\"x@y\"@example.com")),
            ("a@[127.0.0.1]", Ok("a@[127.0.0.1]")),
            ("ann", Err("Missing final '@domain'")),
            ("", Err("Missing final '@domain'")),
            ("@example.com", Err("Missing local name")),
            ("ann@", Err("Missing domain")),
            ("a b@example.com", Err("Local address contains control or whitespace")),
            ("ü@example.com", Err("Local address contains control or whitespace")),
            ("a@b@example.com", Err("Local address contains illegal character")),
            ("ann@ex ample.com", Err("Domain contains control or whitespace")),
            ("ann@.example.com", Err("Domain starts with dot")),
            ("ann@example..com", Err("Domain contains dot-dot")),
            ("ann@example.com.", Err("Domain ends with dot")),
            ("ann@exämple.com", Err("Domain contains illegal character")),
            ("ann@example.com>", Err("Missing '<'")),
            ("a@example.com,b@example.com", Err("Illegal address")),
        ] {
            let read = Mailbox::parse(text);
            match want {
                Ok(address) => assert_eq!(read.map(|mailbox| mailbox.to_string()), Ok(address.to_owned()), "{text}"),
                Err(problem) => {
                    assert_eq!(read.map_err(|refusal| refusal.message.into_owned()), Err(problem.to_owned()), "{text}")
                }
            }
        }
    }
}
