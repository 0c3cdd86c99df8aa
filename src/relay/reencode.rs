//! Shortens lines over 998 octets before policy decides, where no reader sees a difference.
//!
//! SES refuses such lines. Web applications write an HTML body in one line, other programs base64 or a To field. A text body
//! becomes quoted-printable, or base64 if it is mostly not ASCII. Base64 is wrapped. A header field is folded at a blank; a
//! field without one is never broken, because the rest could become a From field. Signed parts, attached messages and all
//! other bodies are not changed: a message with a long line there is refused, and so is one whose parts are not at the same
//! position for all readers.
//! RFC 5321 §4.5.3.1.6, RFC 2045 §6.7 and §6.8, RFC 5322 §2.2.3, RFC 1847 §2.1.

use super::Relay;
use super::reception::BufferedMessage;
use crate::mail::headers::{HeaderLimits, blank_line};
use crate::mail::mime::{MimeLimits, Part, Structure, TransferEncoding};
use crate::mail::{Content, HeaderSection, Refusal, quoted_printable, replies};
use crate::smtp::MESSAGE_OCTETS_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout_at;

/// RFC 5321 §4.5.3.1.6, without CR LF.
const LINE_OCTETS_MAX: usize = 998;
/// RFC 2045 §6.8.
const BASE64_LINE_OCTETS: usize = 76;
/// RFC 5322 §2.1.1: the length that a header line should not exceed.
const HEADER_LINE_OCTETS: usize = 78;
/// The largest message that is re-encoded on the event loop: it takes less time than passing it to another thread.
const HERE_OCTETS_MAX: usize = 64 * 1024;

impl Relay {
    /// The message with shorter lines. A message over 64 KiB is re-encoded on the blocking pool, on at most as many threads as
    /// there are processors; the wait for a thread ends at `deadline`.
    pub(super) async fn shorten(
        &self,
        message: BufferedMessage,
        deadline: Instant,
    ) -> Result<BufferedMessage, Refusal> {
        let limits = HeaderLimits { octets_max: usize::MAX, ..self.settings.header };
        let (content, mime) = (message.content.clone(), self.settings.mime);
        if content.octets().len() <= HERE_OCTETS_MAX {
            return Ok(BufferedMessage { content: shorten(&content, &limits, mime)?, ..message });
        }
        let deferred = |detail: &str| Refusal::new(replies::DEADLINE, detail);
        let permit = timeout_at(deadline.into(), Arc::clone(&self.reencoders).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(deferred("other messages were re-encoded until the deadline"));
        };
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            shorten(&content, &limits, mime)
        });
        let content = work.await.map_err(|error| deferred(&format!("re-encoding: {error}")))??;
        Ok(BufferedMessage { content, ..message })
    }
}

fn refuse(place: &str) -> Refusal {
    let detail = format!("a line over {LINE_OCTETS_MAX} octets {place}");
    let text = format!("Message line is longer than {LINE_OCTETS_MAX} octets: {place}");
    Refusal::new(replies::CONTENT_LINE_TOO_LONG.with_text(&text), detail)
}

fn too_large(octets: usize) -> Refusal {
    let detail = format!("{octets} octets after re-encoding");
    Refusal::new(replies::MESSAGE_TOO_LARGE, detail)
}

/// The same message with shorter lines.
fn shorten(content: &Content, limits: &HeaderLimits, mime: MimeLimits) -> Result<Content, Refusal> {
    let octets = content.octets();
    let changes = changes(octets, content.structure())?;
    let mut shortened: Vec<u8> = Vec::with_capacity(octets.len());
    let mut copied = 0;
    for Change { header, body, recode } in changes {
        shortened.extend_from_slice(&octets[copied..header.start]);
        let text = recode.and_then(|recode| Text::of(&octets[body.clone()], recode));
        let encoding = text.as_ref().map(Text::encoding);
        write_header(&mut shortened, &octets[header.clone()], encoding, header.start == 0)?;
        shortened.extend_from_slice(&octets[header.end..body.start]);
        copied = if recode.is_some() { body.end } else { body.start };
        match (text, recode) {
            (Some(text), _) => text.write(&mut shortened)?,
            (None, Some(_)) => {
                octets[body]
                    .split_inclusive(|octet| *octet == b'\n')
                    .try_for_each(|line| wrap(&mut shortened, line))?;
            }
            (None, None) => {}
        }
    }
    shortened.extend_from_slice(&octets[copied..]);
    if shortened.len() as u64 > MESSAGE_OCTETS_MAX {
        return Err(too_large(shortened.len()));
    }
    if long_lines(&shortened).next().is_some() {
        return Err(refuse("is still there after re-encoding"));
    }
    let again = Content::parse(Bytes::from(shortened), limits, mime)
        .map_err(|error| refuse(&format!("re-encoded, but then: {error}")))?;
    // The second half of a broken line may look like a delimiter.
    match again.structure().parts().len() == content.structure().parts().len() {
        true => Ok(again),
        false => Err(refuse("makes another part when it is re-encoded")),
    }
}

/// One part whose header or body changes. Offsets are relative to the message.
struct Change {
    header: Range<usize>,
    body: Range<usize>,
    recode: Option<Recode>,
}

/// How a body is encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recode {
    /// Text without an encoding: it is encoded.
    Plain,
    /// Quoted-printable with long lines: it is encoded again.
    QuotedPrintable,
    /// Base64: its lines are wrapped.
    Base64,
}

/// The parts that must change, in order.
fn changes(octets: &[u8], structure: &Structure) -> Result<Vec<Change>, Refusal> {
    let end = blank_line(octets, 0).unwrap_or(octets.len());
    let start = (end + 2).min(octets.len());
    let parts = structure.parts();
    let place = |offset: u64| start + usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len() - start);
    let header = |number: usize| match number {
        0 => 0..end,
        _ => place(parts[number].header.start)..place(parts[number].header.end),
    };
    let mut changes: Vec<Change> = Vec::new();
    let mut last = None;
    for line in long_lines(octets) {
        // The last part that begins before the line.
        let number = match line < start {
            true => 0,
            false => parts.partition_point(|part| place(part.header.start) <= line).saturating_sub(1),
        };
        let part = parts.get(number).ok_or_else(|| refuse("in a message that cannot be read"))?;
        let (header, body) = (header(number), place(part.body.start)..place(part.body.end));
        let in_header = header.contains(&line);
        if line >= start && !structure.is_certain() {
            return Err(refuse("in a message whose parts can be read in several ways"));
        }
        if !in_header && !body.contains(&line) {
            return Err(refuse("outside the text of a text part"));
        }
        if number > 0 && is_sealed(parts, part) {
            return Err(refuse("in a part that is signed, encrypted or of a message inside the message"));
        }
        let recode = if in_header { None } else { Some(recode(part)?) };
        if last == Some(number) {
            let change = changes.last_mut();
            change.into_iter().for_each(|change| change.recode = change.recode.or(recode));
        } else {
            changes.push(Change { header, body, recode });
        }
        last = Some(number);
    }
    Ok(changes)
}

/// The positions of the lines over the limit.
fn long_lines(octets: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let ends = memchr::memchr_iter(b'\n', octets).map(|end| end + 1).chain([octets.len()]);
    let mut start = 0;
    ends.filter_map(move |end| {
        let line = std::mem::replace(&mut start, end);
        let text = octets[line..end].strip_suffix(b"\r\n").unwrap_or(&octets[line..end]);
        (text.len() > LINE_OCTETS_MAX).then_some(line)
    })
}

/// Whether a part is inside another one whose octets must not change.
fn is_sealed(parts: &[Part], part: &Part) -> bool {
    let mut parent = part.parent.and_then(|number| parts.get(number));
    while let Some(outer) = parent {
        if outer.is_type("message") || matches!(&*outer.media_type, "multipart/signed" | "multipart/encrypted") {
            return true;
        }
        parent = outer.parent.and_then(|number| parts.get(number));
    }
    false
}

fn recode(part: &Part) -> Result<Recode, Refusal> {
    match (part.encoding, part.is_type("text")) {
        (TransferEncoding::Base64, _) if !part.is_type("message") && !part.is_type("multipart") => Ok(Recode::Base64),
        (TransferEncoding::Identity, true) => Ok(Recode::Plain),
        (TransferEncoding::QuotedPrintable, true) => Ok(Recode::QuotedPrintable),
        _ => Err(refuse("outside the text of a text part")),
    }
}

/// Writes a header section with long fields folded. `encoding` replaces the Content-Transfer-Encoding.
fn write_header(out: &mut Vec<u8>, header: &[u8], encoding: Option<Encoding>, top: bool) -> Result<(), Refusal> {
    let section = HeaderSection::parse(header, &HeaderLimits { octets_max: usize::MAX, ..HeaderLimits::default() })
        .map_err(|_| refuse("below a header that cannot be read"))?;
    let mut mime_version = false;
    for field in section.fields(header) {
        mime_version |= field.is("MIME-Version");
        if encoding.is_some() && field.is("Content-Transfer-Encoding") {
            continue;
        }
        for line in field.octets.split_inclusive(|octet| *octet == b'\n') {
            fold(out, line)?;
        }
    }
    if let Some(encoding) = encoding {
        if top && !mime_version {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        out.extend_from_slice(b"Content-Transfer-Encoding: ");
        out.extend_from_slice(match encoding {
            Encoding::QuotedPrintable => b"quoted-printable\r\n",
            Encoding::Base64 => b"base64\r\n",
        });
    }
    Ok(())
}

/// Folds a header line over the limit at blanks. No line of the result is blank.
pub(super) fn fold(out: &mut Vec<u8>, line: &[u8]) -> Result<(), Refusal> {
    let mut rest = line;
    while line.len() > LINE_OCTETS_MAX + 2 && rest.len() > HEADER_LINE_OCTETS + 2 {
        match fold_at(rest) {
            Some(at) => {
                out.extend_from_slice(&rest[..at]);
                out.extend_from_slice(b"\r\n");
                rest = &rest[at..];
            }
            None if rest.len() > LINE_OCTETS_MAX + 2 => {
                return Err(refuse("in a header field without a blank to fold it at"));
            }
            None => break,
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// The last blank within the preferred length at which a line can be folded, or the first one after it. There is text on both
/// sides: neither the field name alone nor blanks alone form a line.
fn fold_at(line: &[u8]) -> Option<usize> {
    let blank = |octet: u8| matches!(octet, b' ' | b'\t');
    let named = if blank(line[0]) { 0 } else { memchr::memchr(b':', line).map_or(0, |at| at + 1) };
    let text = named + line[named..].iter().position(|octet| !blank(*octet))?;
    let end = line.iter().rposition(|octet| !octet.is_ascii_whitespace())?;
    // A continuation line that looks like a From field would be refused.
    let from = |rest: &[u8]| rest.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"From"));
    let starts = |at: &usize| blank(line[*at]) && !blank(line[at - 1]) && !from(line[*at..].trim_ascii_start());
    let near = (text + 1..=HEADER_LINE_OCTETS.min(end)).rev().find(starts);
    near.or_else(|| (HEADER_LINE_OCTETS.max(text) + 1..LINE_OCTETS_MAX.min(end)).find(starts))
}

/// The new encoding of a text body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    QuotedPrintable,
    /// For text that is mostly not ASCII, where quoted-printable would be much longer.
    Base64,
}

/// The text of a body that is encoded again.
struct Text<'a> {
    octets: Cow<'a, [u8]>,
    /// The number of octets that quoted-printable encodes.
    encoded: usize,
}

impl<'a> Text<'a> {
    /// The text of a body; `None` if it is only wrapped.
    fn of(body: &'a [u8], recode: Recode) -> Option<Self> {
        let octets = match recode {
            Recode::Plain => Cow::Borrowed(body),
            Recode::QuotedPrintable => Cow::Owned(quoted_printable::decode(body)),
            Recode::Base64 => return None,
        };
        let is_encoded = |octet: &&u8| !quoted_printable::is_plain(**octet) && !matches!(octet, b'\r' | b'\n');
        let encoded = octets.iter().filter(is_encoded).count();
        Some(Self { octets, encoded })
    }

    /// Quoted-printable adds two octets to each encoded one, base64 a third to all. Text that quoted-printable would make two
    /// thirds longer is not readable in it either.
    fn encoding(&self) -> Encoding {
        if self.encoded * 3 > self.octets.len() { Encoding::Base64 } else { Encoding::QuotedPrintable }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let text = &self.octets;
        let (octets, breaks) = match self.encoding() {
            Encoding::QuotedPrintable => (text.len() + 2 * self.encoded, text.len() / 16),
            Encoding::Base64 => (text.len() / 3 * 4, text.len() / 24),
        };
        if (out.len() + octets) as u64 > MESSAGE_OCTETS_MAX {
            return Err(too_large(out.len() + octets));
        }
        out.reserve(octets + breaks + 64);
        match self.encoding() {
            // A lone CR or LF is encoded.
            Encoding::QuotedPrintable => {
                for line in text.split_inclusive(|octet| *octet == b'\n') {
                    let (line, end) = line.strip_suffix(b"\r\n").map_or((line, &b""[..]), |line| (line, b"\r\n"));
                    quoted_printable::encode_line(out, line);
                    out.extend_from_slice(end);
                }
            }
            Encoding::Base64 => {
                let mut line = [0; BASE64_LINE_OCTETS];
                for piece in text.chunks(BASE64_LINE_OCTETS / 4 * 3) {
                    let octets = STANDARD.encode_slice(piece, &mut line).unwrap_or_default();
                    out.extend_from_slice(&line[..octets]);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        Ok(())
    }
}

/// Wraps a long line of base64, where line ends have no meaning (RFC 2045 §6.8).
fn wrap(out: &mut Vec<u8>, line: &[u8]) -> Result<(), Refusal> {
    let text = line.strip_suffix(b"\r\n").unwrap_or(line);
    if text.len() <= LINE_OCTETS_MAX {
        out.extend_from_slice(line);
        return Ok(());
    }
    let known = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=' | b' ' | b'\t');
    if !text.iter().all(known) {
        return Err(refuse("in base64 with other characters in it"));
    }
    for (number, piece) in text.chunks(BASE64_LINE_OCTETS).enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(&line[text.len()..]);
    Ok(())
}

#[cfg(test)]
#[path = "reencode_tests.rs"]
mod tests;
