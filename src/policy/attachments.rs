//! Which files are attached: names out of MIME part headers, and nothing decoded but those.
//!
//! Walks the parts by their boundaries (RFC 2046 §5.1.1) without looking at what is in them. A name is refused by any of
//! the readings that a mail program might show: `filename` and `name` parameters, plain, RFC 2231 or RFC 2047 encoded.
//! Limits: 500 parts, as SES has it; multiparts nested 20 deep.

use super::Reason;
use super::app::refusal;
use crate::mail::headers::{HeaderLimits, HeaderSection, blank_line};
use crate::mail::{Content, replies};
use mail_parser::{MessageParser, MimeHeaders};
use std::sync::LazyLock;

const PARTS_MAX: usize = 500;
const DEPTH_MAX: usize = 20;

/// Refuses a message with an attachment of a denied type. `denied`: extensions, lower case, without dot.
pub(super) fn judge(content: &Content, denied: &[String]) -> Result<(), Reason> {
    if denied.is_empty() {
        return Ok(());
    }
    let mut walk = Walk { denied, parts: 0 };
    walk.part(content.octets(), 0)
}

struct Walk<'a> {
    denied: &'a [String],
    parts: usize,
}

impl Walk<'_> {
    /// One part: its header, and if that says multipart, the parts in it.
    fn part(&mut self, octets: &[u8], depth: usize) -> Result<(), Reason> {
        self.parts += 1;
        if self.parts > PARTS_MAX || depth > DEPTH_MAX {
            let detail = format!("more than {PARTS_MAX} parts, or nested deeper than {DEPTH_MAX}");
            return Err(refusal("attachments", replies::MALFORMED_HEADER, detail));
        }
        let end = blank_line(octets, 0).unwrap_or(octets.len());
        let (header, body) = octets.split_at(end);
        let body = body.get(2..).unwrap_or_default();
        let facts = read(header);
        if let Some(name) = facts.names.iter().find(|name| self.denies(name)) {
            return Err(refusal("attachments", replies::ATTACHMENT_NOT_PERMITTED, format!("attachment {name:?}")));
        }
        if facts.is_message {
            return self.part(body, depth + 1);
        }
        let Some(boundary) = facts.boundary else { return Ok(()) };
        let delimiter = [b"--", boundary.as_bytes()].concat();
        let mut starts = Vec::new();
        for at in memchr::memmem::find_iter(body, &delimiter) {
            if at == 0 || body[at - 1] == b'\n' {
                starts.push(at);
            }
        }
        for (place, &start) in starts.iter().enumerate() {
            let rest = &body[start + delimiter.len()..];
            if rest.starts_with(b"--") {
                break;
            }
            let Some(line_end) = memchr::memchr(b'\n', rest) else { break };
            let first = start + delimiter.len() + line_end + 1;
            let last = starts.get(place + 1).copied().unwrap_or(body.len());
            if let Some(part) = body.get(first..last) {
                self.part(part, depth + 1)?;
            }
        }
        Ok(())
    }

    /// By the last extension, as an operating system would run it: trailing dots and spaces do not count.
    fn denies(&self, name: &str) -> bool {
        let name = name.trim_end_matches(['.', ' ', '\t']).to_lowercase();
        name.rsplit_once('.').is_some_and(|(_, extension)| self.denied.iter().any(|denied| *denied == extension))
    }
}

#[derive(Default)]
struct PartFacts {
    names: Vec<String>,
    boundary: Option<String>,
    is_message: bool,
}

fn read(header: &[u8]) -> PartFacts {
    static READER: LazyLock<MessageParser> = LazyLock::new(|| MessageParser::new().with_mime_headers());
    let mut facts = PartFacts::default();
    // Most parts have no name and no boundary; then nobody needs to parse.
    let fold = header.to_ascii_lowercase();
    if ["name", "boundary", "message/"].iter().all(|word| memchr::memmem::find(&fold, word.as_bytes()).is_none()) {
        return facts;
    }
    let whole = [header, b"\r\n"].concat();
    let Some(message) = READER.parse_headers(&whole[..]) else { return facts };
    if let Some(kind) = message.content_type() {
        facts.boundary =
            kind.attribute("boundary").map(str::to_owned).filter(|_| kind.ctype().eq_ignore_ascii_case("multipart"));
        facts.is_message = kind.ctype().eq_ignore_ascii_case("message")
            && kind.subtype().is_some_and(|subtype| subtype.eq_ignore_ascii_case("rfc822"));
        facts.names.extend(kind.attribute("name").map(str::to_owned));
    }
    if let Some(disposition) = message.content_disposition() {
        facts.names.extend(disposition.attribute("filename").map(str::to_owned));
    }
    facts.names.extend(raw_names(header));
    facts.names =
        facts.names.iter().flat_map(|name| [name.clone(), crate::mail::author::decode_phrase(name)]).collect();
    facts
}

/// What stands behind `name=` and `filename=` as it is: for readers that do not know the encodings, and for parameters
/// that are given twice.
fn raw_names(header: &[u8]) -> Vec<String> {
    let Ok(section) = HeaderSection::parse(header, &HeaderLimits::default()) else { return Vec::new() };
    let mut names = Vec::new();
    for field in section.fields(header).filter(|field| field.is("Content-Type") || field.is("Content-Disposition")) {
        let text = String::from_utf8_lossy(field.value).replace("\r\n", "");
        for parameter in text.split(';').skip(1) {
            if let Some((key, value)) = parameter.split_once('=')
                && key.to_ascii_lowercase().contains("name")
            {
                names.push(value.trim().trim_matches('"').to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn verdict(text: &str) -> Result<(), String> {
        let text = text.replace('\n', "\r\n");
        let content = Content::new(Bytes::from(text), HeaderSection::default());
        judge(&content, &["exe".to_owned(), "js".to_owned()]).map_err(|reason| reason.detail)
    }

    fn attached(headers: &str) -> String {
        format!(
            "From: a@b.example\nContent-Type: multipart/mixed; boundary=\"x y\"\n\n--x y\nContent-Type: text/plain\n\nhello\n\
             --x y\n{headers}\n\nMZ\n--x y--\n"
        )
    }

    #[test]
    fn denied_types_are_found_in_every_spelling() {
        for (name, headers) in [
            ("filename", "Content-Disposition: attachment; filename=\"a.exe\""),
            ("upper case", "Content-Disposition: attachment; filename=A.EXE"),
            ("name", "Content-Type: application/x; name=a.exe"),
            ("two extensions", "Content-Type: application/x; name=\"invoice.pdf.exe\""),
            ("trailing dot", "Content-Type: application/x; name=\"a.exe. \""),
            ("rfc 2231", "Content-Disposition: attachment; filename*=utf-8''a%2Eexe"),
            ("rfc 2231 in pieces", "Content-Disposition: attachment; filename*0=\"a.e\"; filename*1=\"xe\""),
            ("rfc 2047", "Content-Disposition: attachment; filename=\"=?utf-8?q?a=2Eexe?=\""),
            ("folded", "Content-Disposition: attachment;\n filename=\"a.exe\""),
            ("twice", "Content-Disposition: attachment; filename=\"a.txt\"; filename=\"a.exe\""),
        ] {
            assert!(verdict(&attached(headers)).is_err(), "{name}");
        }
        let nested = attached(&format!(
            "Content-Type: multipart/mixed; boundary=z\n\n--z\nContent-Type: message/rfc822\n\n{}\n--z--",
            attached("Content-Type: text/javascript; name=run.js")
        ));
        assert!(verdict(&nested).is_err(), "nested");
        assert!(verdict("Content-Type: application/x; name=a.exe\n\nMZ").is_err(), "not multipart");
    }

    #[test]
    fn other_attachments_and_texts_pass() {
        for text in [
            attached("Content-Disposition: attachment; filename=\"a.pdf\""),
            attached("Content-Disposition: attachment; filename=\"exe\""),
            attached("Content-Type: text/plain").replace("MZ", "filename=a.exe"),
            "From: a@b.example\n\nfilename=a.exe\n".to_owned(),
        ] {
            assert_eq!(verdict(&text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_thousand_parts_and_a_thousand_levels_are_refused() {
        assert!(
            verdict(&format!("Content-Type: multipart/mixed; boundary=x\n\n{}", "--x\n\n\n".repeat(1_000))).is_err()
        );
        let mut deep = String::new();
        for level in 0..1_000 {
            deep.push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"));
        }
        assert!(verdict(&deep).is_err());
    }
}
