//! Checks To, Cc and Reply-To, and extracts the addresses that SES can parse.
//!
//! SES refuses a raw message with an address in one of these fields that it cannot parse ("Missing final '@domain'",
//! "Local address contains control or whitespace"), and does not name the field. Policy evaluates no address in them,
//! so this parser is as lenient as SES: display names may contain any text. RFC 5322 §3.4, one pass, no recursion.

use super::address::{AddressError, MailDomain, Mailbox, is_atext};
use std::ops::Range;

/// The names of the fields.
pub const FIELDS: [&str; 3] = ["To", "Cc", "Reply-To"];

/// An address that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ListError {
    /// The reason.
    pub reason: &'static str,
}

/// Checks that every address of a field can be parsed. `value` is the text after the colon. Groups, empty groups and
/// empty list members are valid.
///
/// # Errors
/// [`ListError`] of the first address that cannot be parsed.
pub fn check(value: &[u8]) -> Result<(), ListError> {
    let members = split(value)?;
    match members.iter().find(|member| member.stray_semicolon) {
        Some(_) => Err(ListError { reason: "a semicolon outside of a group; addresses are separated by commas" }),
        None => members.iter().try_for_each(|member| address(&value[member.text.clone()]).map(|_| ())),
    }
}

/// The members of a field that can be parsed, unchanged. Semicolons are accepted as separators, group names are
/// removed, and a whole address in an encoded word is decoded.
pub fn readable(value: &[u8]) -> Vec<Vec<u8>> {
    let Ok(members) = split(value) else { return Vec::new() };
    let texts = members.into_iter().map(|member| &value[member.text]);
    let readable = texts.filter_map(|text| match address(text) {
        // With its folds, because the length of a header line is limited.
        Ok(found) => found.then(|| text.trim_ascii().to_vec()),
        Err(_) => {
            let decoded = super::words::decode(std::str::from_utf8(text).ok()?.trim()).into_owned();
            Mailbox::parse(&decoded)
                .ok()
                .filter(|mailbox| decoded.is_ascii() && mailbox.domain().name().is_some())
                .map(|_| decoded.into_bytes())
        }
    });
    readable.collect()
}

/// A member of a list.
struct Member {
    text: Range<usize>,
    /// The member ends with a semicolon outside a group.
    stray_semicolon: bool,
}

/// The position of the next octet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Text,
    Quoted,
    Angle,
    Comment(usize),
}

/// The members, split at commas, and at the colon and the semicolon of groups.
fn split(value: &[u8]) -> Result<Vec<Member>, ListError> {
    let mut members = Vec::new();
    let (mut at, mut start, mut group, mut skip) = (At::Text, 0, false, false);
    for (index, &octet) in value.iter().enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        at = match (at, octet) {
            (At::Quoted | At::Comment(_), b'\\') => {
                skip = true;
                at
            }
            (At::Text, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Text,
            (At::Text, b'(') => At::Comment(1),
            (At::Comment(depth), b'(') => At::Comment(depth + 1),
            (At::Comment(1), b')') => At::Text,
            (At::Comment(depth), b')') => At::Comment(depth - 1),
            (At::Text, b'<') => At::Angle,
            (At::Angle, b'>') => At::Text,
            (At::Text, b':') if !group && !value[start..index].contains(&b'@') => {
                (group, start) = (true, index + 1);
                At::Text
            }
            (At::Text, b',' | b';') => {
                let ends_group = octet == b';' && std::mem::take(&mut group);
                members.push(Member { text: start..index, stray_semicolon: octet == b';' && !ends_group });
                group &= octet == b',';
                start = index + 1;
                At::Text
            }
            (at, _) => at,
        };
    }
    match at {
        At::Text if group => Err(ListError { reason: "a group that does not end" }),
        At::Text => {
            members.push(Member { text: start..value.len(), stray_semicolon: false });
            Ok(members)
        }
        At::Quoted => Err(ListError { reason: "a quoted string that does not end" }),
        At::Angle => Err(ListError { reason: "an angle bracket that does not end" }),
        At::Comment(_) => Err(ListError { reason: "a comment that does not end" }),
    }
}

/// Whether a member contains an address. False: it is empty.
fn address(member: &[u8]) -> Result<bool, ListError> {
    let fault = |reason| Err(ListError { reason });
    let text = without_comments(member);
    let text = text.trim_ascii();
    if text.is_empty() {
        return Ok(false);
    }
    let address = match angle(text) {
        None => text,
        Some(Range { start, end }) if text[end + 1..].trim_ascii().is_empty() => text[start + 1..end].trim_ascii(),
        Some(_) => return fault("text behind an angle bracket"),
    };
    if !address.is_ascii() {
        return fault("an address outside ASCII");
    }
    if address.starts_with(b"=?") && address.ends_with(b"?=") {
        return fault("a whole address in an encoded word");
    }
    let address = std::str::from_utf8(address).unwrap_or_default();
    match Mailbox::parse(address) {
        Ok(_) => Ok(true),
        Err(AddressError::LocalPart) if has_stray_dots(address) => Ok(true),
        Err(AddressError::NoDomain) => fault("an address without a domain"),
        Err(_) if address.contains([' ', '\t', '\r', '\n']) => fault("white space inside an address"),
        Err(_) => fault("an address that is malformed"),
    }
}

/// `foo..bar@docomo.example`: not a dot-string, but an existing mailbox.
fn has_stray_dots(address: &str) -> bool {
    address.rsplit_once('@').is_some_and(|(local_part, domain)| {
        !local_part.is_empty()
            && local_part.bytes().all(|octet| octet == b'.' || is_atext(octet))
            && MailDomain::parse(domain).is_ok()
    })
}

/// The range of the angle brackets: the last `<` outside quotes, and the `>` after it.
fn angle(text: &[u8]) -> Option<Range<usize>> {
    let (mut quoted, mut skip, mut open) = (false, false, None);
    for (index, octet) in text.iter().enumerate() {
        match octet {
            _ if std::mem::take(&mut skip) => {}
            b'\\' if quoted => skip = true,
            b'"' => quoted = !quoted,
            b'<' if !quoted => open = Some(index),
            _ => {}
        }
    }
    let open = open?;
    let close = memchr::memrchr(b'>', text).filter(|close| *close > open)?;
    Some(open..close)
}

fn without_comments(text: &[u8]) -> Vec<u8> {
    let (mut text_only, mut depth, mut quoted, mut skip) = (Vec::with_capacity(text.len()), 0_usize, false, false);
    for &octet in text {
        let escaped = std::mem::take(&mut skip);
        match octet {
            _ if escaped => {}
            b'\\' => skip = quoted || depth > 0,
            b'"' if depth == 0 => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if depth > 0 => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            text_only.push(octet);
        }
    }
    text_only
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_read_as_ses_reads_it() {
        for (value, want) in [
            (" ann@a.example", Ok(())),
            (" Ann <ann@a.example>, bob@b.example", Ok(())),
            (" \"Doe, Ann\" <ann@a.example>", Ok(())),
            (" ann@a.example (Ann, of A; or so)", Ok(())),
            (" undisclosed-recipients:;", Ok(())),
            (" Undisclosed recipients: ;", Ok(())),
            (" team: ann@a.example, bob@b.example; , cid@c.example", Ok(())),
            (" ann@a.example,", Ok(())),
            (" ann@a.example,,\r\n bob@b.example", Ok(())),
            (" ann@a.example <ann@a.example>", Ok(())),
            (" Jürgen <ann@a.example>", Ok(())),
            (" =?utf-8?q?J=C3=BCrgen?= <ann@a.example>", Ok(())),
            (" \"ann example\"@a.example", Ok(())),
            (" ann..b.@a.example", Ok(())),
            ("", Ok(())),
            (" root", Err("an address without a domain")),
            (" ann@a.example, root", Err("an address without a domain")),
            (" Ann <root>", Err("an address without a domain")),
            (" ann@a.example; bob@b.example", Err("a semicolon outside of a group; addresses are separated by commas")),
            (" =?utf-8?q?ann=40a=2Eexample?=", Err("a whole address in an encoded word")),
            (" ann example@a.example", Err("white space inside an address")),
            (" jürgen@a.example", Err("an address outside ASCII")),
            (" Ann <>", Err("an address that is malformed")),
            (" <ann@a.example> Ann", Err("text behind an angle bracket")),
            (" \"Ann <ann@a.example>", Err("a quoted string that does not end")),
            (" ann@a.example (Ann", Err("a comment that does not end")),
            (" Ann <ann@a.example", Err("an angle bracket that does not end")),
            (" team: ann@a.example", Err("a group that does not end")),
        ] {
            let got = check(value.as_bytes()).map_err(|error| error.reason);
            match (&got, want) {
                (Err(_), Err("an address that is malformed")) => {}
                _ => assert_eq!(got, want, "{value}"),
            }
        }
    }

    #[test]
    fn readable_members_are_returned() {
        for (value, want) in [
            (" ann@a.example; Bob <bob@b.example>", &["ann@a.example", "Bob <bob@b.example>"][..]),
            (" root, ann@a.example", &["ann@a.example"]),
            (" root", &[]),
            (" =?utf-8?q?ann=40a=2Eexample?=, x y@z", &["ann@a.example"]),
            (" team: ann@a.example, root;", &["ann@a.example"]),
            (" \"Doe, Ann\"\r\n <ann@a.example>; root", &["\"Doe, Ann\"\r\n <ann@a.example>"]),
            (" J\u{fc}rgen <ann@a.example>; root", &["J\u{fc}rgen <ann@a.example>"]),
            (" \"open", &[]),
        ] {
            let members = readable(value.as_bytes());
            let want: Vec<Vec<u8>> = want.iter().map(|text| text.as_bytes().to_vec()).collect();
            assert_eq!(members, want, "{value}");
            assert_eq!(check(&members.join(&b", "[..])), Ok(()), "{value}");
        }
    }

    proptest! {
        #[test]
        fn returned_members_can_be_parsed(value in "[ab@<>\"(),;:.\\\\ =?é]{0,40}") {
            let members = readable(value.as_bytes()).join(&b", "[..]);
            prop_assert_eq!(check(&members), Ok(()), "{:?}", members);
        }
    }
}
