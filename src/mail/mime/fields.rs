//! Parses the Content fields of one part.
//!
//! Mail programs parse parameters differently: with or without regard to quotes, RFC 2231 pieces by number or in their
//! order, folds with or without their blanks. Each interpretation may give another file name; all of them are
//! collected.

use super::{BOUNDARY_OCTETS_MAX, MimeError, MimeLimits, TransferEncoding};
use crate::mail::words;

/// The Content fields of one header section.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// `type/subtype` of the first Content-Type field.
    pub(super) media_type: Option<String>,
    pub(super) boundaries: Vec<Vec<u8>>,
    /// A multipart in any interpretation.
    pub(super) multipart: bool,
    /// A message in any interpretation.
    pub(super) message: bool,
    pub(super) encoding: Option<TransferEncoding>,
    pub(super) names: Vec<String>,
    /// A field occurs twice.
    pub(super) repeated: bool,
    /// A name is in a charset that cannot be decoded.
    opaque: bool,
    parameters: usize,
    /// Octets processed, counted for each interpretation.
    pub(super) visited: u64,
}

/// The fields that are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Type,
    Disposition,
    Encoding,
}

impl Name {
    /// Blanks before the colon are ignored, as in many mail programs.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let known = [
            (&b"content-type"[..], Self::Type),
            (b"content-disposition", Self::Disposition),
            (b"content-transfer-encoding", Self::Encoding),
        ];
        let name = name.trim_ascii_end();
        known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, name)| name)
    }
}

/// The maximum number of candidates for the boundary of one multipart.
const BOUNDARIES_MAX: usize = 8;

impl Fields {
    /// Adds a field. `value`: the text after the colon, with folds.
    pub(super) fn take(&mut self, name: Name, value: &[u8], limits: &MimeLimits) -> Result<(), MimeError> {
        let unfolded = without_folds(value, false);
        if name == Name::Encoding {
            self.take_encoding(&unfolded);
            return Ok(());
        }
        // Python decodes the whole field before it parses the parameters.
        let decoded = words::decode(&String::from_utf8_lossy(&unfolded)).into_owned().into_bytes();
        let tight = without_folds(value, true);
        if name == Name::Type {
            self.take_type(&unfolded)?;
            self.take_kind(&decoded)?;
        }
        let mut seen = Vec::new();
        let mut most = self.take_parameters(&unfolded, &mut seen)?;
        for reading in [decoded, tight].iter().filter(|reading| **reading != unfolded) {
            most = most.max(self.take_parameters(reading, &mut seen)?);
        }
        self.parameters += most;
        if self.parameters > limits.parameters_max {
            return Err(MimeError::TooManyParameters(limits.parameters_max));
        }
        self.names.sort_unstable();
        self.names.dedup();
        if self.opaque { Err(MimeError::UnreadableName) } else { Ok(()) }
    }

    fn take_encoding(&mut self, value: &[u8]) {
        let word = token(value);
        let encoding = match () {
            () if ["", "7bit", "8bit", "binary"].iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())) => {
                TransferEncoding::Identity
            }
            () if word.eq_ignore_ascii_case(b"quoted-printable") => TransferEncoding::QuotedPrintable,
            () if word.eq_ignore_ascii_case(b"base64") => TransferEncoding::Base64,
            () => TransferEncoding::Other,
        };
        self.repeated |= self.encoding.is_some();
        self.encoding = Some(if self.encoding.is_some() { TransferEncoding::Other } else { encoding });
    }

    fn take_type(&mut self, value: &[u8]) -> Result<(), MimeError> {
        self.repeated |= self.media_type.is_some();
        if self.media_type.is_none() {
            let lower = value[..value.len().min(MEDIA_TYPE_OCTETS_MAX)].to_ascii_lowercase();
            self.media_type = Some(String::from_utf8_lossy(token(&lower)).into_owned());
        }
        self.take_kind(value)
    }

    /// Determines whether the part contains parts, in any interpretation. Some mail programs take the body of every
    /// message/* for a message.
    fn take_kind(&mut self, value: &[u8]) -> Result<(), MimeError> {
        let first = value.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
        let first = &first[..first.len().min(MEDIA_TYPE_OCTETS_MAX)];
        let lower = first.to_ascii_lowercase();
        self.multipart |= lower.starts_with(b"multipart");
        self.message |= lower.starts_with(b"message");
        // Lenient mail programs find the boundary without a semicolon before it.
        match memchr::memmem::find(&lower, b"boundary=").map(|at| token(&first[at + b"boundary=".len()..])) {
            Some(value) => {
                self.add_boundary(value.strip_prefix(b"\"").unwrap_or(value).strip_suffix(b"\"").unwrap_or(value))
            }
            None => Ok(()),
        }
    }

    /// Adds the parameters of every interpretation that is not in `seen`. Returns the largest number of parameters of
    /// one interpretation.
    fn take_parameters(&mut self, value: &[u8], seen: &mut Vec<Vec<Parameter>>) -> Result<usize, MimeError> {
        let quoted = by_quotes(value, false);
        self.visited += value.len() as u64;
        let mut most = quoted.len();
        let in_quotes = quoted.iter().any(|parameter| parameter.base == b"boundary" && parameter.quoted);
        self.take_reading(quoted, seen)?;
        // Without special characters, all interpretations are equal.
        if value.iter().any(|octet| TSPECIALS.contains(octet)) {
            for mut reading in [by_quotes(value, true), by_separators(value, b";"), by_separators(value, b"; \t,")] {
                self.visited += value.len() as u64;
                most = most.max(reading.len());
                // Boundaries outside the quotes would split parts at lines that most mail programs do not see as
                // delimiters.
                reading.retain(|parameter| !(in_quotes && parameter.base == b"boundary"));
                self.take_reading(reading, seen)?;
            }
        }
        Ok(most)
    }

    /// Adds the result of one interpretation, if it is not in `seen`.
    fn take_reading(&mut self, reading: Vec<Parameter>, seen: &mut Vec<Vec<Parameter>>) -> Result<(), MimeError> {
        // Only these are evaluated.
        let matters = |parameter: &Parameter| matches!(&*parameter.base, b"boundary" | b"name" | b"filename");
        let parameters: Vec<Parameter> = reading.into_iter().filter(matters).collect();
        if parameters.is_empty() || seen.contains(&parameters) {
            return Ok(());
        }
        self.take_new_reading(&parameters)?;
        seen.push(parameters);
        Ok(())
    }

    fn take_new_reading(&mut self, parameters: &[Parameter]) -> Result<(), MimeError> {
        for parameter in parameters.iter().filter(|parameter| parameter.base == b"boundary") {
            self.add_boundary(&parameter.value)?;
        }
        let is_name = |parameter: &&Parameter| matches!(&*parameter.base, b"name" | b"filename");
        let mut pieces: Vec<&Parameter> = parameters.iter().filter(is_name).collect();
        for piece in pieces.iter().filter(|piece| piece.number.is_none()) {
            self.add_names(&[piece]);
        }
        let boundaries = parameters.iter().filter(|parameter| parameter.base == b"boundary" && parameter.split);
        let mut boundaries: Vec<&Parameter> = boundaries.collect();
        boundaries.sort_by_key(|piece| piece.number);
        let plain: Vec<u8> = boundaries.iter().flat_map(|piece| piece.decoded(piece.extended)).collect();
        self.add_boundary(&without_charset(&plain))?;
        pieces.sort_by(|a, b| a.base.cmp(&b.base));
        for group in pieces.chunk_by(|a, b| a.base == b.base).filter(|group| group.iter().any(|piece| piece.split)) {
            // In their order; by number; and by number up to a gap, with the first of two equal numbers.
            self.add_names(group);
            let mut numbered = group.to_vec();
            numbered.sort_by_key(|piece| piece.number);
            self.add_names(&numbered);
            numbered.retain(|piece| piece.number.is_some());
            numbered.dedup_by_key(|piece| piece.number);
            let whole = numbered.iter().zip(0..).take_while(|(piece, index)| piece.number == Some(*index)).count();
            if (1..group.len()).contains(&whole) {
                self.add_names(&numbered[..whole]);
            }
        }
        Ok(())
    }

    fn add_boundary(&mut self, boundary: &[u8]) -> Result<(), MimeError> {
        // Trailing blanks are not part of the boundary (RFC 2046 §5.1.1).
        let boundary = boundary.trim_ascii_end();
        if boundary.len() > BOUNDARY_OCTETS_MAX {
            return Err(MimeError::BoundaryTooLong(BOUNDARY_OCTETS_MAX));
        }
        if boundary.is_empty() || self.boundaries.iter().any(|known| known == boundary) {
            return Ok(());
        }
        if self.boundaries.len() == BOUNDARIES_MAX {
            return Err(MimeError::TooManyParameters(BOUNDARIES_MAX));
        }
        self.boundaries.push(boundary.to_vec());
        Ok(())
    }

    /// Adds the names that the joined pieces can have: percent-decoded where RFC 2231 requires it, everywhere, and
    /// nowhere.
    fn add_names(&mut self, pieces: &[&Parameter]) {
        let join = |decode: fn(&Parameter) -> bool| -> Vec<u8> {
            pieces.iter().flat_map(|piece| piece.decoded(decode(piece))).collect()
        };
        let raw = join(|_| false);
        self.visited += raw.len() as u64;
        if pieces.iter().any(|piece| piece.extended) || raw.contains(&b'%') {
            for octets in [join(|piece| piece.extended), join(|_| true), words::percent(&raw)] {
                self.visited += octets.len() as u64;
                let name = without_charset(&octets);
                let charset = octets.split(|octet| *octet == b'\'').next().unwrap_or_default();
                let charset = if name.len() < octets.len() { charset } else { b"" };
                self.opaque |= words::is_opaque(charset);
                self.add_name(words::in_charset(charset, &name));
                self.add_name(String::from_utf8_lossy(&octets).into_owned());
            }
        }
        self.add_name(String::from_utf8_lossy(&raw).into_owned());
    }

    fn add_name(&mut self, name: String) {
        if name.contains("=?") {
            self.opaque |= words::encoded(&name).any(|word| word.is_opaque);
            self.visited += name.len() as u64;
            self.names.push(words::decode(&name).into_owned());
        }
        self.names.push(name);
    }
}

/// RFC 2045 §5.1, and further characters that mail programs treat differently.
const TSPECIALS: &[u8] = b"()<>@,\\\"[]?' \t";

/// The end of an unquoted value in a strict interpretation.
const TOKEN_ENDS: &[u8] = b"<>@,\\\"[]?= \t";

/// A media type is shorter. Of a longer text, the start is sufficient.
const MEDIA_TYPE_OCTETS_MAX: usize = 100;

/// The first word of a value, without comments and parameters.
fn token(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii_start();
    let end = value.iter().position(|octet| matches!(octet, b';' | b'(' | b' ' | b'\t')).unwrap_or(value.len());
    &value[..end]
}

/// Removes folds. As RFC 5322 §2.2.3 defines it, the CR LF is removed; with `tight`, the blanks after it too.
fn without_folds(value: &[u8], tight: bool) -> Vec<u8> {
    let mut unfolded = Vec::with_capacity(value.len());
    let mut blanks = false;
    for &octet in value {
        match octet {
            b'\r' => {}
            b'\n' => blanks = tight,
            b' ' | b'\t' if blanks => {}
            other => {
                blanks = false;
                unfolded.push(other);
            }
        }
    }
    unfolded
}

/// Removes the prefix of RFC 2231 §4: `charset'language'text`.
fn without_charset(value: &[u8]) -> Vec<u8> {
    value.splitn(3, |octet| *octet == b'\'').nth(2).unwrap_or(value).to_vec()
}

/// One parameter in one interpretation.
#[derive(Debug)]
struct Parameter {
    /// The name in lower case, up to the first `*`.
    base: Vec<u8>,
    /// The name contains a `*`.
    split: bool,
    /// RFC 2231 §3: the number of the piece.
    number: Option<u32>,
    /// RFC 2231 §4: the name ends with `*`, so the value is percent-encoded.
    extended: bool,
    value: Vec<u8>,
    /// The value was in quotes.
    quoted: bool,
}

/// Compares without regard to quotes.
impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        let key = |parameter: &Self| (parameter.split, parameter.number, parameter.extended);
        key(self) == key(other) && self.base == other.base && self.value == other.value
    }
}

impl Parameter {
    fn new(name: &[u8], value: Vec<u8>) -> Self {
        let name = without_comments(name).trim_ascii().to_ascii_lowercase();
        let mut pieces = name.split(|octet| *octet == b'*');
        let base = pieces.next().unwrap_or_default().trim_ascii().to_vec();
        let number = pieces.next().and_then(|digits| std::str::from_utf8(digits).ok()?.trim().parse().ok());
        let (split, extended) = (name.contains(&b'*'), name.ends_with(b"*"));
        Self { base, split, number, extended, value, quoted: false }
    }

    fn decoded(&self, decode: bool) -> Vec<u8> {
        if decode { words::percent(&self.value) } else { self.value.clone() }
    }
}

/// RFC 2045 §5.1, with quotes and comments. An unquoted value ends at a semicolon or comment, or, with `token`, at any
/// character that is not part of a token. The type at the start may be missing.
fn by_quotes(value: &[u8], token: bool) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    let first = value.split(|octet| *octet == b';').next().unwrap_or_default();
    let mut rest = if first.contains(&b'=') { value } else { after(value, b';') };
    while !rest.is_empty() {
        let end = rest.iter().position(|octet| matches!(octet, b'=' | b';')).unwrap_or(rest.len());
        let name = &rest[..end];
        if rest.get(end) != Some(&b'=') {
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        rest = skip_comments(&rest[end + 1..]);
        let quote = rest.starts_with(b"\"");
        let value = match rest.strip_prefix(b"\"") {
            Some(inside) => {
                let (value, behind) = quoted(inside);
                rest = behind;
                value
            }
            None => {
                let ends = |octet: &u8| matches!(octet, b';' | b'(') || token && TOKEN_ENDS.contains(octet);
                let end = rest.iter().position(ends).unwrap_or(rest.len());
                let value = rest[..end].trim_ascii().to_vec();
                rest = &rest[end..];
                value
            }
        };
        parameters.push(Parameter { quoted: quote, ..Parameter::new(name, value) });
        rest = after(rest, b';');
    }
    parameters
}

/// Ignores the syntax of quotes and comments, except quotes around a value.
fn by_separators(value: &[u8], separators: &[u8]) -> Vec<Parameter> {
    let quote = |octet: &u8| matches!(octet, b'"' | b'\'' | b' ' | b'\t');
    let pairs = value.split(|octet| separators.contains(octet)).filter_map(|pair| {
        let (name, value) = pair.split_at(memchr::memchr(b'=', pair)?);
        let value = &value[1..];
        let start = value.iter().position(|octet| !quote(octet)).unwrap_or(value.len());
        let end = value.iter().rposition(|octet| !quote(octet)).map_or(start, |last| last + 1);
        Some(Parameter::new(name, value[start..end.max(start)].to_vec()))
    });
    pairs.collect()
}

/// A name without comments. An unclosed comment extends to the end.
fn without_comments(name: &[u8]) -> Vec<u8> {
    let mut depth = 0_usize;
    let mut text = Vec::with_capacity(name.len());
    for &octet in name {
        match octet {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => text.push(octet),
            _ => {}
        }
    }
    text
}

fn after(value: &[u8], mark: u8) -> &[u8] {
    memchr::memchr(mark, value).map_or(&[], |at| &value[at + 1..])
}

/// The text of a quoted string up to its end or to the end of the value, and the octets after it.
fn quoted(rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut text = Vec::new();
    let mut octets = rest.iter().enumerate();
    while let Some((at, &octet)) = octets.next() {
        match octet {
            b'\\' => text.extend(octets.next().map(|(_, pair)| *pair)),
            b'"' => return (text, &rest[at + 1..]),
            _ => text.push(octet),
        }
    }
    (text, &[])
}

/// Skips blanks and comments (RFC 5322 §3.2.2). Iterative, because the client chooses their depth.
fn skip_comments(rest: &[u8]) -> &[u8] {
    let mut depth = 0_usize;
    let mut octets = rest.iter().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => drop(octets.next()),
            b' ' | b'\t' => {}
            _ if depth == 0 => return &rest[at..],
            _ => {}
        }
    }
    &[]
}
