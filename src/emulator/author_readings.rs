//! Finds every author that any mail program could see in a message.
//!
//! A relay that checks the author is effective only if no mail program shows another one. Mail programs differ: where
//! lines end, which of two fields is used, what a comment or a quoted string hides. This file applies all of these
//! interpretations at once and makes no decision, so that a test can assert that a forbidden author is in none of them.
//!
//! It is simple on purpose, and shares no code with the relay that it tests. It may find too many addresses, but not too
//! few.

use std::collections::BTreeSet;

use mail_parser::{HeaderName, HeaderValue, MessageParser};

/// The author of one message, in many interpretations. Addresses have a domain in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorReadings {
    /// The result of mail-parser, for every From field that it finds.
    pub parser: Vec<String>,
    /// The first From field, unfolded.
    pub first_field: Option<String>,
    /// The last From field, unfolded.
    pub last_field: Option<String>,
    /// Each different From field that appears when lines end in CRLF, in LF, or in either of CR and LF.
    pub fields: Vec<String>,
    /// Every text between `<` and `>` that looks like an address.
    pub angle_bracketed: Vec<String>,
    /// The obsolete forms of RFC 5322 §4.4: comments and quoted names taken away, white space around dots and at-signs
    /// closed, groups and source routes opened.
    pub obsolete: Vec<String>,
    /// Every text in a From field that looks like an address, including names and comments.
    pub anywhere: Vec<String>,
    /// The same, of Sender and Resent-From fields.
    pub other_fields: Vec<String>,
}

impl AuthorReadings {
    /// Parses a raw message.
    pub fn read(raw: &[u8]) -> Self {
        let fields = fields_named(raw, &["from"]);
        let mut readings = Self {
            parser: parser_reading(raw),
            first_field: fields.first().cloned(),
            last_field: last_field(raw),
            ..Self::default()
        };
        for field in &fields {
            extend(&mut readings.angle_bracketed, angle_brackets(field).flat_map(addresses_in));
            extend(&mut readings.obsolete, addresses_in(&closed_up(&without_names(&without_comments(field)))));
            extend(&mut readings.anywhere, addresses_in(field));
            extend(&mut readings.anywhere, addresses_in(&closed_up(&without_comments(field))));
        }
        for field in fields_named(raw, &["sender", "resent-from"]) {
            extend(&mut readings.other_fields, addresses_in(&field));
            extend(&mut readings.other_fields, addresses_in(&closed_up(&without_comments(&field))));
        }
        readings.fields = fields;
        readings
    }

    /// Every address that a mail program takes for the author, without those in display names and comments, which are
    /// in [`anywhere`](Self::anywhere).
    pub fn authors(&self) -> BTreeSet<&str> {
        [&self.parser, &self.angle_bracketed, &self.obsolete].into_iter().flatten().map(String::as_str).collect()
    }
}

/// The addresses mail-parser sees in every From field.
fn parser_reading(raw: &[u8]) -> Vec<String> {
    let parser = MessageParser::new().header_address(HeaderName::From).default_header_ignore();
    let mut found = Vec::new();
    if let Some(message) = parser.parse_headers(raw) {
        for header in message.headers() {
            if let (HeaderName::From, HeaderValue::Address(address)) = (&header.name, &header.value) {
                extend(&mut found, address.iter().filter_map(|each| each.address()).map(lower_domain));
            }
        }
    }
    found
}

/// How a parser finds the end of a line.
#[derive(Clone, Copy)]
enum LineEnd {
    Crlf,
    Lf,
    CrOrLf,
}

impl LineEnd {
    const ALL: [LineEnd; 3] = [LineEnd::Lf, LineEnd::Crlf, LineEnd::CrOrLf];

    /// Splits off the first line.
    fn split(self, raw: &[u8]) -> (&[u8], &[u8]) {
        let end = match self {
            LineEnd::Crlf => memchr::memmem::find(raw, b"\r\n").map(|at| (at, 2)),
            LineEnd::Lf => memchr::memchr(b'\n', raw).map(|at| (at, 1)),
            LineEnd::CrOrLf => {
                memchr::memchr2(b'\r', b'\n', raw).map(|at| (at, if raw[at..].starts_with(b"\r\n") { 2 } else { 1 }))
            }
        };
        let (at, width) = end.unwrap_or((raw.len(), 0));
        let line = &raw[..at];
        let line = if matches!(self, LineEnd::Lf) { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        (line, &raw[at + width..])
    }

    /// Values of the fields with one of these names, unfolded.
    fn fields(self, raw: &[u8], names: &[&str]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut open = false;
        let mut rest = raw;
        while !rest.is_empty() {
            let (line, after) = self.split(rest);
            rest = after;
            if line.is_empty() {
                break;
            }
            if matches!(line[0], b' ' | b'\t') {
                if let (true, Some(field)) = (open, found.last_mut()) {
                    field.push_str(&String::from_utf8_lossy(line));
                }
                // Some mail programs do not unfold, and take such a line for a field.
                if !names_match(line, names) {
                    continue;
                }
            }
            open = names_match(line, names);
            if let (true, Some(colon)) = (open, memchr::memchr(b':', line)) {
                found.push(String::from_utf8_lossy(&line[colon + 1..]).trim().to_owned());
            }
        }
        found
    }
}

fn names_match(line: &[u8], names: &[&str]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    // Some mail programs ignore NUL and other controls, so the name is compared without them.
    let name: Vec<u8> = line[..colon].iter().copied().filter(|octet| octet.is_ascii_graphic()).collect();
    names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted.as_bytes()))
}

fn fields_named(raw: &[u8], names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for rule in LineEnd::ALL {
        extend(&mut found, rule.fields(raw, names));
    }
    found
}

fn last_field(raw: &[u8]) -> Option<String> {
    LineEnd::Lf.fields(raw, &["from"]).pop()
}

/// The texts between each `<` and the next `>`.
fn angle_brackets(text: &str) -> impl Iterator<Item = &str> {
    text.split('<').skip(1).map(|open| open.split('>').next().unwrap_or(open))
}

/// Everything around an at-sign that could be an address.
fn addresses_in(text: &str) -> Vec<String> {
    let octets = text.as_bytes();
    memchr::memchr_iter(b'@', octets)
        .filter_map(|at| {
            let start = local_start(octets, at);
            let end = domain_end(octets, at + 1);
            let domain = text.get(at + 1..end)?.trim_end_matches('.');
            let local = text.get(start..at)?;
            (!local.is_empty() && !domain.is_empty()).then(|| format!("{local}@{}", domain.to_ascii_lowercase()))
        })
        .collect()
}

fn local_start(octets: &[u8], at: usize) -> usize {
    if at > 0 && octets[at - 1] == b'"' {
        // A quoted local part: back to the quote that opens it, past escaped ones.
        let mut start = at - 1;
        while start > 0 && at - start < QUOTED_OCTETS_MAX {
            start -= 1;
            if octets[start] == b'"' && (start == 0 || octets[start - 1] != b'\\') {
                return start;
            }
        }
    }
    let is_local =
        |octet: &u8| *octet >= 0x80 || octet.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(octet);
    at - octets[..at].iter().rev().take_while(|octet| is_local(octet)).count()
}

fn domain_end(octets: &[u8], start: usize) -> usize {
    if octets.get(start) == Some(&b'[') {
        return memchr::memchr(b']', &octets[start..]).map_or(octets.len(), |close| start + close + 1);
    }
    let is_domain = |octet: &u8| *octet >= 0x80 || octet.is_ascii_alphanumeric() || b".-_".contains(octet);
    start + octets[start..].iter().take_while(|octet| is_domain(octet)).count()
}

/// Removes `(comments)`, including nested ones, but not inside quotes.
fn without_comments(text: &str) -> String {
    let (mut text_only, mut depth, mut quoted, mut escaped) =
        (String::with_capacity(text.len()), 0_usize, false, false);
    for letter in text.chars() {
        let literal = std::mem::take(&mut escaped);
        match letter {
            '\\' if !literal => escaped = true,
            '"' if !literal && depth == 0 => quoted = !quoted,
            '(' if !literal && !quoted => depth += 1,
            ')' if !literal && !quoted && depth > 0 => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            text_only.push(letter);
        }
    }
    text_only
}

/// Removes quoted strings that are not part of an address: those that are not followed by a dot or an at-sign.
fn without_names(text: &str) -> String {
    let mut text_only = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('"') {
        text_only.push_str(&rest[..open]);
        let quoted = &rest[open..];
        let close = closing_quote(quoted);
        let (string, after) = quoted.split_at(close);
        if after.trim_start().starts_with(['@', '.']) {
            text_only.push_str(string);
        }
        rest = after;
    }
    text_only.push_str(rest);
    text_only
}

/// One past the quote that closes the one the text begins with; the end if none does.
fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Closes white space around dots and at-signs: `ann . b @ example . com`. RFC 5322 §4.4, obs-local-part, obs-domain.
fn closed_up(text: &str) -> String {
    let mut closed = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '.' | '@') {
            closed.truncate(closed.trim_end().len());
        }
        if !letter.is_whitespace() || !closed.ends_with(['.', '@']) {
            closed.push(letter);
        }
    }
    closed
}

fn lower_domain(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

/// Adds addresses that the list does not contain. A list is truncated at [`ENTRIES_MAX`].
fn extend(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for entry in more {
        if list.len() < ENTRIES_MAX && !list.contains(&entry) {
            list.push(entry);
        }
    }
}

/// The distance in which an opening quote is searched, so that a field full of quotes takes linear time. RFC 5321
/// §4.5.3.1.1 allows a local part of 64 octets.
const QUOTED_OCTETS_MAX: usize = 1_000;

/// Different addresses or fields listed under one reading.
const ENTRIES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_hidden_in_any_way_is_seen() {
        for (name, raw) in [
            ("plain", &b"From: eve@evil.test\r\n\r\n"[..]),
            ("second field", b"From: ann@example.com\r\nFrom: eve@evil.test\r\n\r\n"),
            ("second mailbox", b"From: ann@example.com, eve@evil.test\r\n\r\n"),
            ("space before colon", b"From: ann@example.com\r\nFrom : eve@evil.test\r\n\r\n"),
            ("bare LF", b"From: ann@example.com\r\nSubject: x\nFrom: eve@evil.test\r\n\r\n"),
            ("bare CR", b"From: ann@example.com\r\nSubject: x\rFrom: eve@evil.test\r\n\r\n"),
            ("after LF LF", b"From: ann@example.com\n\n\r\nFrom: eve@evil.test\r\n\r\n"),
            ("second line-end style only", b"From: ann@example.com\r\nX: y\n\nz\r\nFrom: eve@evil.test\r\n\r\n"),
            ("folded", b"From: Ann\r\n <eve@evil.test>\r\n\r\n"),
            ("folded field", b"Subject: x\r\n From: eve@evil.test\r\nFrom: ann@example.com\r\n\r\n"),
            ("two angles", b"From: <ann@example.com> <eve@evil.test>\r\n\r\n"),
            ("quoted bracket", b"From: \"<ann@example.com>\" <eve@evil.test>\r\n\r\n"),
            ("comment", b"From: eve(ann@example.com)@evil.test\r\n\r\n"),
            ("spaced dots", b"From: eve @ evil . test\r\n\r\n"),
            ("group", b"From: Team: ann@example.com, eve@evil.test;\r\n\r\n"),
            ("source route", b"From: <@example.com,@a.test:eve@evil.test>\r\n\r\n"),
            ("upper case", b"FROM: eve@EVIL.test\r\n\r\n"),
            ("control in the name", b"From: ann@example.com\r\nFr\0om: eve@evil.test\r\n\r\n"),
        ] {
            let readings = AuthorReadings::read(raw);
            assert!(readings.authors().contains("eve@evil.test"), "{name}: {readings:?}");
        }
    }

    #[test]
    fn a_name_or_a_comment_is_not_an_author_but_is_listed() {
        for raw in [
            &b"From: \"eve@evil.test\" <ann@example.com>\r\n\r\n"[..],
            b"From: ann@example.com (eve@evil.test)\r\n\r\n",
        ] {
            let readings = AuthorReadings::read(raw);
            assert_eq!(readings.authors().into_iter().collect::<Vec<_>>(), ["ann@example.com"]);
            assert!(readings.anywhere.contains(&"eve@evil.test".to_owned()), "{readings:?}");
        }
    }

    #[test]
    fn first_and_last_field_are_told_apart() {
        let readings = AuthorReadings::read(
            b"From: a@example.com\r\nTo: x@y\r\nFROM: b@example.com\r\nSender: c@example.com\r\n\r\nFrom: d@e\r\n",
        );
        assert_eq!(readings.first_field.as_deref(), Some("a@example.com"));
        assert_eq!(readings.last_field.as_deref(), Some("b@example.com"));
        assert_eq!(readings.fields, ["a@example.com", "b@example.com"]);
        assert_eq!(readings.other_fields, ["c@example.com"]);
    }

    #[test]
    fn no_octets_make_the_reader_panic() {
        for raw in [
            &b""[..],
            b"@",
            b"From:@",
            b"From: \"@\r\n\r\n",
            b"From: <\xff@\xfe>\r\n\r\n",
            b"From: \"\\",
            b"From: a@[",
            b"\xf0:(",
        ] {
            for cut in 0..=raw.len() {
                AuthorReadings::read(&raw[..cut]);
            }
        }
    }
}
