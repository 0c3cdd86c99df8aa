//! Lines over 998 octets: text bodies that have them become quoted-printable, before policy judges.
//!
//! SES refuses such lines, and web applications make them (an HTML mail in one line). Only bodies of text parts are
//! touched, and the Content-Transfer-Encoding of their own part. A header line is never broken: at 998 it could become a
//! From field. What is signed is left alone, and so is what is no text: a message with a long line there is refused.
//! RFC 5321 §4.5.3.1.6, RFC 2045 §6.7, RFC 1847 §2.1.

use super::Relay;
use super::admission::Refusal;
use super::reception::Loaded;
use crate::mail::headers::{HeaderLimits, blank_line};
use crate::mail::{Content, HeaderSection, replies};
use crate::smtp::MESSAGE_OCTETS_MAX;
use bytes::Bytes;
use mail_parser::{Encoding, Message, MessageParser, MimeHeaders, PartType};
use quoted_printable::{InputMode, Options};

/// RFC 5321 §4.5.3.1.6, without CR LF.
const LINE_OCTETS_MAX: usize = 998;

impl Relay {
    /// The message with shorter lines.
    pub(super) fn shorten(&self, message: Loaded) -> Result<Loaded, Refusal> {
        let limits = HeaderLimits { octets_max: usize::MAX, ..self.settings.header };
        Ok(Loaded { content: shorten(&message.content, &limits)?, ..message })
    }
}

/// The same message with shorter lines.
fn shorten(content: &Content, limits: &HeaderLimits) -> Result<Content, Refusal> {
    let octets = content.octets();
    let refuse = |detail: &str| Refusal {
        reply: replies::CONTENT_LINE_TOO_LONG,
        rule: None,
        detail: format!("a line over {LINE_OCTETS_MAX} octets {detail}"),
    };
    let message = MessageParser::new().parse(&octets[..]).ok_or_else(|| refuse("in a message that cannot be read"))?;
    let mut shortened: Vec<u8> = Vec::with_capacity(octets.len() + octets.len() / 4);
    let mut copied = 0;
    for line in long_lines(octets) {
        if line < copied {
            continue;
        }
        let Some(part) = text_part_at(&message, line) else {
            return Err(refuse("outside the text of a text part"));
        };
        let part = &message.parts[part];
        let (header, body, end) = bounds(part, octets.len());
        if header < copied {
            return Err(refuse("in parts that overlap"));
        }
        shortened.extend_from_slice(&octets[copied..header]);
        let top = header == 0;
        write_header(&mut shortened, &octets[header..body], top).map_err(refuse)?;
        write_body(&mut shortened, &octets[body..end], part.encoding).map_err(refuse)?;
        copied = end;
    }
    shortened.extend_from_slice(&octets[copied..]);
    if shortened.len() as u64 > MESSAGE_OCTETS_MAX {
        let detail = format!("{} octets after re-encoding", shortened.len());
        return Err(Refusal { reply: replies::MESSAGE_TOO_LARGE, rule: None, detail });
    }
    if long_lines(&shortened).next().is_some() {
        return Err(refuse("is still there after re-encoding"));
    }
    let end = blank_line(&shortened, 0).unwrap_or(shortened.len());
    let section = HeaderSection::parse(&shortened[..end], limits)
        .map_err(|error| refuse(&format!("re-encoded, but then: {error}")))?;
    Ok(Content::new(Bytes::from(shortened), section))
}

/// Where the lines begin that are too long.
fn long_lines(octets: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let ends = memchr::memchr_iter(b'\n', octets).map(|end| end + 1).chain([octets.len()]);
    let mut start = 0;
    ends.filter_map(move |end| {
        let line = std::mem::replace(&mut start, end);
        let text = octets[line..end].strip_suffix(b"\r\n").unwrap_or(&octets[line..end]);
        (text.len() > LINE_OCTETS_MAX).then_some(line)
    })
}

/// The text part in whose body a line begins; `None`: it is somebody else's.
fn text_part_at(message: &Message<'_>, line: usize) -> Option<usize> {
    let found = message.parts.iter().position(|part| {
        let inside = (part.raw_body_offset() as usize..part.raw_end_offset() as usize).contains(&line);
        inside && matches!(part.body, PartType::Text(_) | PartType::Html(_))
    })?;
    // Who is inside of what: signed parts, and parts of a message inside the message.
    let encloses = |outer: &mail_parser::MessagePart<'_>| {
        let range = outer.raw_header_offset() as usize..outer.raw_end_offset() as usize;
        range.contains(&line)
    };
    let untouchable = message.parts.iter().enumerate().any(|(place, part)| {
        let sealed = part.content_type().is_some_and(|kind| {
            kind.ctype().eq_ignore_ascii_case("multipart")
                && kind.subtype().is_some_and(|subtype| {
                    ["signed", "encrypted"].iter().any(|sealed| subtype.eq_ignore_ascii_case(sealed))
                })
        });
        place != found && encloses(part) && (sealed || matches!(part.body, PartType::Message(_)))
    });
    let text = message.parts[found].content_type().is_none_or(|kind| kind.ctype().eq_ignore_ascii_case("text"));
    (text && !untouchable).then_some(found)
}

fn bounds(part: &mail_parser::MessagePart<'_>, most: usize) -> (usize, usize, usize) {
    let [header, body, end] = [part.raw_header_offset(), part.raw_body_offset(), part.raw_end_offset()];
    let end = (end as usize).min(most);
    ((header as usize).min(end), (body as usize).min(end), end)
}

/// The part's header section with the new encoding in the place of the old one.
fn write_header(out: &mut Vec<u8>, header: &[u8], top: bool) -> Result<(), &'static str> {
    if long_lines(header).next().is_some() {
        return Err("in a header section");
    }
    let fields = header.strip_suffix(b"\r\n").unwrap_or(header);
    let section =
        HeaderSection::parse(fields, &HeaderLimits::default()).map_err(|_| "below a header that cannot be read")?;
    let mut mime_version = false;
    for field in section.fields(fields) {
        mime_version |= field.is("MIME-Version");
        if !field.is("Content-Transfer-Encoding") {
            out.extend_from_slice(field.octets);
        }
    }
    if top && !mime_version {
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    out.extend_from_slice(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n");
    Ok(())
}

fn write_body(out: &mut Vec<u8>, body: &[u8], encoding: Encoding) -> Result<(), &'static str> {
    // Every line of text gets its line end; octets of a decoded text that are no line end are encoded.
    let options = Options::default().input_mode(InputMode::Text);
    match encoding {
        Encoding::None => out.extend(quoted_printable::encode_with_options(body, options).into_bytes()),
        Encoding::QuotedPrintable => {
            let text = quoted_printable::decode(body, quoted_printable::ParseMode::Robust);
            let text = text.map_err(|_| "in quoted-printable that cannot be read")?;
            out.extend(quoted_printable::encode_with_options(text, options).into_bytes());
        }
        Encoding::Base64 => return Err("in base64"),
    }
    Ok(())
}

#[cfg(test)]
#[path = "reencode_tests.rs"]
mod tests;
