//! Parses the raw message as the service does: fields, structure, lines.
//!
//! Lines end with LF, with or without CR before it. The behaviour of SES for other line ends is not known; other
//! interpretations of the author are in `author_readings.rs`. Refuses what SES documents to refuse: no header, no blank line,
//! a repeated field that must be single, a line above 998 octets. SES Developer Guide, "Email header fields"; SES API
//! v2 reference, `RawMessage`; RFC 5322 §2.1.1.

use memchr::{memchr, memchr_iter};

use super::refusal::Refusal;

/// One header field, unfolded; octets that are not UTF-8 are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
}

/// Header of a message, and that a body follows.
#[derive(Debug)]
pub(super) struct Header(Vec<Field>);

impl Header {
    /// Parses the header, or returns why this is not a message.
    pub(super) fn read(raw: &[u8]) -> Result<Self, Refusal> {
        let mut fields: Vec<Field> = Vec::new();
        let mut rest = raw;
        loop {
            let Some(end) = memchr(b'\n', rest) else {
                return Err(Refusal::bad_request("Invalid MIME content: no blank line between header and body."));
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            rest = &rest[end + 1..];
            match (line.first(), fields.last_mut()) {
                (None, None) => return Err(Refusal::bad_request("Invalid MIME content: no header.")),
                (None, Some(_)) => return Ok(Self(fields)),
                (Some(b' ' | b'\t'), Some(field)) => field.value.push_str(&String::from_utf8_lossy(line)),
                _ => fields.push(read_field(line)?),
            }
        }
    }

    /// Values of every field with this name.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value.trim())
    }

    pub(super) fn check_duplicates(&self) -> Result<(), Refusal> {
        // One bit a name.
        let mut seen = 0_u64;
        for field in &self.0 {
            let Ok(index) = SINGLE.binary_search_by(|known| fold(known).cmp(fold(&field.name))) else { continue };
            if seen & 1 << index != 0 {
                return Err(Refusal::bad_request(format!("Duplicate header '{}'.", SINGLE[index])));
            }
            seen |= 1 << index;
        }
        Ok(())
    }
}

fn fold(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|octet| octet.to_ascii_lowercase())
}

fn read_field(line: &[u8]) -> Result<Field, Refusal> {
    let malformed = || Refusal::bad_request("Invalid MIME content: malformed header field.");
    let colon = memchr(b':', line).ok_or_else(malformed)?;
    let name = line[..colon].trim_ascii_end();
    // RFC 5322 §2.2: printable ASCII except the colon.
    if name.is_empty() || !name.iter().all(|octet| (0x21..0x7f).contains(octet)) {
        return Err(malformed());
    }
    Ok(Field {
        name: String::from_utf8_lossy(name).into_owned(),
        value: String::from_utf8_lossy(&line[colon + 1..]).into_owned(),
    })
}

/// The documentation has the limit but not the error text; this text is not from SES.
pub(super) fn check_line_lengths(raw: &[u8]) -> Result<(), Refusal> {
    let mut start = 0;
    let ends = memchr_iter(b'\n', raw).chain([raw.len()]);
    for (number, end) in (1_usize..).zip(ends) {
        let line = &raw[start..end];
        let octets = line.strip_suffix(b"\r").unwrap_or(line).len();
        if octets > LINE_OCTETS_MAX {
            return Err(Refusal::bad_request(format!(
                "Maximum line length exceeded: line {number} has {octets} octets, {LINE_OCTETS_MAX} are allowed."
            )));
        }
        start = end + 1;
    }
    Ok(())
}

/// RFC 5322 §2.1.1, without CRLF.
const LINE_OCTETS_MAX: usize = 998;

/// SES Developer Guide, "Email header fields": those that must not appear twice. In order, without regard to case.
const SINGLE: &[&str] = &[
    "Accept-Language",
    "Archived-At",
    "Auto-Submitted",
    "Bounces-to",
    "Comments",
    "Content-Alternative",
    "Content-Base",
    "Content-Class",
    "Content-Description",
    "Content-Disposition",
    "Content-Duration",
    "Content-ID",
    "Content-Language",
    "Content-Length",
    "Content-Location",
    "Content-MD5",
    "Content-Transfer-Encoding",
    "Content-Type",
    "Date",
    "Delivered-To",
    "Disposition-Notification-Options",
    "Disposition-Notification-To",
    "DKIM-Signature",
    "DomainKey-Signature",
    "Errors-To",
    "From",
    "Importance",
    "In-Reply-To",
    "Keywords",
    "List-Archive",
    "List-Help",
    "List-Id",
    "List-Owner",
    "List-Post",
    "List-Subscribe",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Message-Context",
    "Message-ID",
    "MIME-Version",
    "Organization",
    "Original-From",
    "Original-Message-ID",
    "Original-Recipient",
    "Original-Subject",
    "Precedence",
    "Priority",
    "References",
    "Reply-To",
    "Return-Path",
    "Return-Receipt-To",
    "Sender",
    "Sensitivity",
    "Solicitation",
    "Subject",
    "Thread-Index",
    "Thread-Topic",
    "User-Agent",
    "VBR-Info",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_header_blank_line_body() {
        for (name, raw, want) in [
            ("usual", &b"From: a@b\r\nTo: c@d\r\n\r\nhi\r\n"[..], Ok(2)),
            ("LF only", b"From: a@b\n\nhi", Ok(1)),
            ("empty body", b"From: a@b\r\n\r\n", Ok(1)),
            ("folded", b"From: a\r\n <a@b>\r\n\r\n", Ok(1)),
            ("nothing", b"", Err("Invalid MIME content: no blank line between header and body.")),
            ("no blank line", b"From: a@b\r\n", Err("Invalid MIME content: no blank line between header and body.")),
            ("no header", b"\r\nhi\r\n", Err("Invalid MIME content: no header.")),
            ("text only", b"hello\r\n\r\n", Err("Invalid MIME content: malformed header field.")),
            ("name with space", b"Fr om: a@b\r\n\r\n", Err("Invalid MIME content: malformed header field.")),
        ] {
            let read = Header::read(raw).map(|header| header.0.len()).map_err(|refusal| refusal.message.into_owned());
            assert_eq!(read, want.map_err(str::to_owned), "{name}");
        }
    }

    #[test]
    fn every_single_field_is_refused_when_given_twice() {
        for name in SINGLE {
            let raw = format!("{name}: 1\r\n{}: 2\r\n\r\n", name.to_uppercase());
            let header = Header::read(raw.as_bytes()).expect("a header");
            let refusal = header.check_duplicates().expect_err("twice");
            assert_eq!(refusal.message, format!("Duplicate header '{name}'."));
        }
        let header = Header::read(b"Received: a\r\nReceived: b\r\n\r\n").expect("a header");
        assert_eq!(header.check_duplicates(), Ok(()));
    }

    #[test]
    fn a_line_may_have_998_octets_and_not_one_more() {
        for (octets, end, want) in [(998, "\r\n", true), (999, "\r\n", false), (998, "", true), (999, "\n", false)] {
            let raw = format!("A: b\r\n\r\n{}{end}", "x".repeat(octets));
            assert_eq!(check_line_lengths(raw.as_bytes()).is_ok(), want, "{octets} {end:?}");
        }
    }
}
