//! Splits the header section into fields. RFC 5322 §2.2, §3.6.8.
//!
//! The input has only CR LF line ends: the scanner of `smtp` has refused or converted all others. A line that is not a
//! field, a continuation or the blank line makes the whole section malformed, because two parsers that interpret it
//! differently would disagree about the author. White space before the colon is refused for the same reason. A
//! [`HeaderSection`] is a list of offsets into the parsed octets, without a copy.

/// Limits of a header section.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HeaderLimits {
    /// Octets of all fields together, without the blank line.
    pub octets_max: usize,
    /// Number of fields.
    pub fields_max: usize,
    /// Number of `Received` fields; RFC 5321 §6.3 requires at least 100.
    pub hops_max: usize,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        Self { octets_max: 256 * 1024, fields_max: 1000, hops_max: 100 }
    }
}

/// Why a header section is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A line is not a field, a continuation or the blank line.
    #[error("header line {line} is not a field")]
    Malformed {
        /// The line number, from 1.
        line: usize,
    },
    /// A control character other than TAB, or a line separator of Unicode. Some parsers take it for the end of a line,
    /// so the text after it could be a field to them.
    #[error("header line {line} contains the control character U+{:04X}", u32::from(*character))]
    Control {
        /// The line number, from 1.
        line: usize,
        /// The character.
        character: char,
    },
    /// Over [`HeaderLimits::octets_max`].
    #[error("header section has too many octets")]
    TooLarge,
    /// Over [`HeaderLimits::fields_max`].
    #[error("header section has too many fields")]
    TooManyFields,
    /// Over [`HeaderLimits::hops_max`].
    #[error("too many Received fields")]
    TooManyHops,
}

/// The position of each field in the parsed octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderSection {
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    colon: usize,
    /// The position after the CR LF of the last line.
    end: usize,
}

/// One field, unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, in the case of the message.
    pub name: &'a str,
    /// The text after the colon, with folds, without the last CR LF.
    pub value: &'a [u8],
    /// The whole field with its last CR LF.
    pub octets: &'a [u8],
}

impl Field<'_> {
    /// Field names are compared without case (RFC 5322 §1.2.2).
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// NEL (U+0085), and the line and paragraph separators (U+2028, U+2029), in UTF-8.
const SEPARATORS: [&[u8]; 3] = [b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9"];

impl HeaderSection {
    /// Splits a header section: everything before the blank line, each line with its CR LF.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn parse(octets: &[u8], limits: &HeaderLimits) -> Result<Self, HeaderError> {
        if octets.len() > limits.octets_max {
            return Err(HeaderError::TooLarge);
        }
        let mut spans: Vec<Span> = Vec::new();
        let mut hops = 0;
        let mut start = 0;
        let mut line = 0;
        while start < octets.len() {
            line += 1;
            let malformed = HeaderError::Malformed { line };
            let end = memchr::memchr(b'\n', &octets[start..]).ok_or(malformed)? + start + 1;
            let text = octets[start..end].strip_suffix(b"\r\n").ok_or(malformed)?;
            if let Some(&octet) = text.iter().find(|octet| octet.is_ascii_control() && **octet != b'\t') {
                return Err(HeaderError::Control { line, character: char::from(octet) });
            }
            if let Some(found) = SEPARATORS.iter().find(|found| memchr::memmem::find(text, found).is_some()) {
                let character =
                    std::str::from_utf8(found).ok().and_then(|text| text.chars().next()).unwrap_or_default();
                return Err(HeaderError::Control { line, character });
            }
            if matches!(octets[start], b' ' | b'\t') {
                // A continuation. The first line cannot be one.
                spans.last_mut().ok_or(malformed)?.end = end;
            } else {
                let colon = memchr::memchr(b':', &octets[start..end]).ok_or(malformed)? + start;
                let name = &octets[start..colon];
                // RFC 5322 §3.6.8 `ftext`: printable, no colon, no space.
                if name.is_empty() || !name.iter().all(|octet| matches!(octet, b'!'..=b'~')) {
                    return Err(malformed);
                }
                hops += usize::from(name.eq_ignore_ascii_case(b"Received"));
                spans.push(Span { start, colon, end });
            }
            start = end;
        }
        match () {
            () if spans.len() > limits.fields_max => Err(HeaderError::TooManyFields),
            () if hops > limits.hops_max => Err(HeaderError::TooManyHops),
            () => Ok(Self { spans }),
        }
    }

    /// The fields, in order. `octets` must be the parsed octets, or begin with them.
    pub fn fields<'a>(&'a self, octets: &'a [u8]) -> impl Iterator<Item = Field<'a>> + 'a {
        self.spans.iter().map(move |span| Field {
            name: std::str::from_utf8(&octets[span.start..span.colon]).unwrap_or_default(),
            value: &octets[span.colon + 1..span.end - 2],
            octets: &octets[span.start..span.end],
        })
    }

    /// Appends the fields that `keep` selects to `out`, and returns the section in `out`. The present content of `out`
    /// must be whole fields, parsed as `before`.
    #[must_use]
    pub fn copy_kept(
        &self,
        octets: &[u8],
        before: &HeaderSection,
        out: &mut Vec<u8>,
        mut keep: impl FnMut(&Field<'_>) -> bool,
    ) -> HeaderSection {
        let mut spans = before.spans.clone();
        for (span, field) in self.spans.iter().zip(self.fields(octets)) {
            if keep(&field) {
                let start = out.len();
                out.extend_from_slice(field.octets);
                spans.push(Span { start, colon: start + (span.colon - span.start), end: out.len() });
            }
        }
        HeaderSection { spans }
    }
}

/// The position of the blank line that ends a header section, searched from `from`. `None`: it is not in `octets`. The
/// octets before the position are the header section, the two octets at it are the CR LF of the blank line.
pub fn blank_line(octets: &[u8], from: usize) -> Option<usize> {
    if octets.starts_with(b"\r\n") {
        return Some(0);
    }
    let from = from.saturating_sub(3);
    memchr::memmem::find(&octets[from..], b"\r\n\r\n").map(|at| from + at + 2)
}

/// Fields that SES refuses if they occur twice ("Amazon SES header fields" in its guide), and that RFC 5322 §3.6 allows
/// once. `From` is not in the list, because it has its own reply. `Bcc` and `Return-Path` are removed before the check.
pub const SINGLETON_FIELDS: &[&str] = &[
    "accept-language",
    "archived-at",
    "auto-submitted",
    "bounces-to",
    "cc",
    "comments",
    "content-alternative",
    "content-base",
    "content-class",
    "content-description",
    "content-disposition",
    "content-duration",
    "content-id",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-transfer-encoding",
    "content-type",
    "date",
    "delivered-to",
    "disposition-notification-options",
    "disposition-notification-to",
    "dkim-signature",
    "domainkey-signature",
    "errors-to",
    "importance",
    "in-reply-to",
    "keywords",
    "list-archive",
    "list-help",
    "list-id",
    "list-owner",
    "list-post",
    "list-subscribe",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "message-context",
    "message-id",
    "mime-version",
    "organization",
    "original-from",
    "original-message-id",
    "original-recipient",
    "original-subject",
    "precedence",
    "priority",
    "references",
    "reply-to",
    "return-receipt-to",
    "sender",
    "sensitivity",
    "solicitation",
    "subject",
    "thread-index",
    "thread-topic",
    "to",
    "user-agent",
    "vbr-info",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<(String, String)>, HeaderError> {
        let section = HeaderSection::parse(text.as_bytes(), &HeaderLimits::default())?;
        Ok(section
            .fields(text.as_bytes())
            .map(|f| (f.name.to_owned(), String::from_utf8_lossy(f.value).into_owned()))
            .collect())
    }

    #[test]
    fn a_section_is_fields_or_it_is_refused() {
        for (name, text, want) in [
            ("empty", "", Ok(vec![])),
            ("one", "From: a\r\n", Ok(vec![("From", " a")])),
            ("folded", "To: a,\r\n b\r\nX:\r\n", Ok(vec![("To", " a,\r\n b"), ("X", "")])),
            ("fold first", " a\r\n", Err(1)),
            ("space before the colon", "A: b\r\nFrom : a\r\n", Err(2)),
            ("no colon", "A: b\r\nhello\r\n", Err(2)),
            ("empty name", ": b\r\n", Err(1)),
            ("8-bit name", "Fröm: b\r\n", Err(1)),
            ("mbox line", "From a@b Mon Jan 1 00:00:00 2026\r\n", Err(1)),
        ] {
            let want = want
                .map(|w| w.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>())
                .map_err(|line| HeaderError::Malformed { line });
            assert_eq!(names(text), want, "{name}");
        }
    }

    /// Regression: `X: y<VT>From: ceo@b.example` was accepted, and Python finds a second From field in it.
    #[test]
    fn control_characters_are_refused_but_tab() {
        for octet in (0..=0x1f).chain([0x7f]) {
            let text = format!("From: a@a.example\r\nX: y{}From: ceo@b.example\r\n", char::from(octet));
            let parsed = HeaderSection::parse(text.as_bytes(), &HeaderLimits::default());
            match octet {
                b'\t' => assert!(parsed.is_ok()),
                b'\n' => assert!(parsed.is_err()),
                _ => assert_eq!(parsed, Err(HeaderError::Control { line: 2, character: char::from(octet) })),
            }
        }
    }

    /// Regression: the reply named the last octet of U+2028: "the control character 0xA8".
    #[test]
    fn a_separator_of_unicode_is_named_as_what_it_is() {
        for (separator, name) in [('\u{85}', "U+0085"), ('\u{2028}', "U+2028"), ('\u{2029}', "U+2029")] {
            let text = format!("From: a@a.example\r\nX: y{separator}z\r\n");
            let error = HeaderSection::parse(text.as_bytes(), &HeaderLimits::default()).unwrap_err();
            assert_eq!(error.to_string(), format!("header line 2 contains the control character {name}"));
        }
    }

    #[test]
    fn limits_are_on_octets_fields_and_hops() {
        let limits = HeaderLimits { octets_max: 40, fields_max: 2, hops_max: 1 };
        let parse = |text: &str| HeaderSection::parse(text.as_bytes(), &limits).map(|_| ());
        assert_eq!(parse("A: 1\r\nB: 2\r\n"), Ok(()));
        assert_eq!(parse("A: 1\r\nB: 2\r\nC: 3\r\n"), Err(HeaderError::TooManyFields));
        assert_eq!(parse(&format!("A: {}\r\n", "x".repeat(40))), Err(HeaderError::TooLarge));
        assert_eq!(parse("received: a\r\nReceived: b\r\n"), Err(HeaderError::TooManyHops));
    }

    #[test]
    fn kept_fields_are_found_where_they_were_copied() {
        let octets = b"Bcc: x\r\nFrom: a\r\n b\r\nTo: c\r\n";
        let section = HeaderSection::parse(octets, &HeaderLimits::default()).unwrap();
        let mut out = b"Received: r\r\n".to_vec();
        let trace = HeaderSection::parse(&out, &HeaderLimits::default()).unwrap();
        let copied = section.copy_kept(octets, &trace, &mut out, |field| !field.is("bcc"));
        assert_eq!(out, b"Received: r\r\nFrom: a\r\n b\r\nTo: c\r\n");
        assert_eq!(copied, HeaderSection::parse(&out, &HeaderLimits::default()).unwrap());
    }

    #[test]
    fn the_blank_line_is_found_at_every_cut() {
        for (text, want) in [("A: b\r\n\r\nbody", Some(6)), ("\r\nbody", Some(0)), ("A: b\r\n", None), ("", None)] {
            for cut in 0..=text.len() {
                let early = blank_line(&text.as_bytes()[..cut], 0);
                let found = early.or_else(|| blank_line(text.as_bytes(), cut));
                assert_eq!(found, want, "{text:?} cut at {cut}");
            }
        }
    }
}
