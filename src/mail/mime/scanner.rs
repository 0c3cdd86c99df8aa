//! Scans the body line by line.
//!
//! A line may be a boundary delimiter of any open multipart; inside a header section it may be a field. All other
//! octets are skipped by a search for the next line that begins with `--`.

use super::fields::{Fields, Name};
use super::{MimeError, MimeLimits, Part, Structure};
use memchr::memmem::Finder;
use std::ops::Range;
use std::sync::LazyLock;

/// Finds the parts of a message whose body is received in pieces.
#[derive(Debug)]
pub struct Scanner {
    limits: MimeLimits,
    at: At,
    /// The start of a line that was received in pieces.
    line: Vec<u8>,
    /// Octets of the body before the next one.
    offset: u64,
    /// The position of the current line.
    line_start: u64,
    /// The open multiparts and messages, the outermost first.
    levels: Vec<Level>,
    /// The boundaries of the open multiparts.
    boundaries: Vec<Boundary>,
    parts: Vec<Part>,
    certain_parts: usize,
    certain: bool,
    /// Octets of the Content fields of all parts.
    parameter_octets: usize,
    name_octets: usize,
    visited: u64,
}

/// The position of the next octet.
#[derive(Debug)]
enum At {
    /// In a line of a header section.
    Header(Box<Header>),
    /// In a line of a body that may be a delimiter.
    Line,
    /// In a line of a body that is not a delimiter.
    Text,
}

/// A header section that has not ended.
#[derive(Debug, Default)]
struct Header {
    fields: Fields,
    /// The field of the last line, if it is evaluated.
    field: Option<(Name, Vec<u8>)>,
    octets: usize,
    count: usize,
    /// Every mail program finds the part, and each line so far is a field.
    certain: bool,
}

/// An open multipart or message.
#[derive(Debug)]
struct Level {
    part: usize,
    /// Its close delimiter was found. Some mail programs continue to search for parts.
    closed: bool,
    /// Parts without a Content-Type are messages (RFC 2046 §5.1.5).
    digest: bool,
}

/// The boundary of an open multipart. Most lines differ from it in the first octets, which are compared as one number.
#[derive(Debug)]
struct Boundary {
    level: usize,
    text: Vec<u8>,
    start: u64,
    mask: u64,
}

/// A line that begins with two hyphens and a boundary.
struct Delimiter {
    level: usize,
    close: bool,
    /// Only blanks follow the boundary.
    exact: bool,
}

/// The octets of a delimiter line that are examined. In a longer line, the boundary may be followed by other text than
/// blanks.
const DELIMITER_OCTETS_MAX: usize = 2 * super::BOUNDARY_OCTETS_MAX;

static DASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n--"));

impl Scanner {
    /// A scanner for the body of a message with these header fields: name, and text after the colon.
    ///
    /// # Errors
    /// [`MimeError`].
    pub fn new<'a>(limits: MimeLimits, fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, MimeError> {
        let mut scanner = Self {
            limits,
            at: At::Text,
            line: Vec::new(),
            offset: 0,
            line_start: 0,
            levels: Vec::new(),
            boundaries: Vec::new(),
            parts: Vec::new(),
            certain_parts: 0,
            certain: true,
            parameter_octets: 0,
            name_octets: 0,
            visited: 0,
        };
        scanner.push_part(None, 0..0, true)?;
        let mut header = Box::new(Header { certain: true, ..Header::default() });
        for (name, value) in fields {
            if let Some(name) = Name::of(name.as_bytes()) {
                scanner.take_field(&mut header, name, value)?;
            }
        }
        scanner.end_header(header, 0, 0)?;
        Ok(scanner)
    }

    /// Processes the next octets of the body.
    ///
    /// # Errors
    /// [`MimeError`]. The remaining octets need not be passed.
    pub fn feed(&mut self, octets: &[u8]) -> Result<(), MimeError> {
        self.visited += octets.len() as u64;
        let mut rest = octets;
        while !rest.is_empty() {
            let consumed = match self.at {
                // No multipart is open, so the remaining octets cannot contain a part.
                At::Text | At::Line if self.boundaries.is_empty() => rest.len(),
                At::Text => self.pass_over(rest),
                At::Line if self.line.is_empty() && rest[0] != b'-' => {
                    self.at = At::Text;
                    0
                }
                At::Line | At::Header(_) => self.gather(rest)?,
            };
            self.offset += consumed as u64;
            rest = &rest[consumed..];
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`MimeError`].
    pub fn end(mut self) -> Result<Structure, MimeError> {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, self.offset)?;
        }
        self.end_headers(self.offset)?;
        self.close(0, self.offset);
        Ok(Structure { parts: self.parts, certain: self.certain })
    }

    /// Octets of memory in use.
    pub fn octets_held(&self) -> u64 {
        let header = match &self.at {
            At::Header(header) => header.field.as_ref().map_or(0, |(_, value)| value.capacity()),
            At::Line | At::Text => 0,
        };
        let parts = self.parts.capacity() * size_of::<Part>();
        (self.line.capacity() + header + parts + self.name_octets + self.boundaries.len() * super::BOUNDARY_OCTETS_MAX)
            as u64
    }

    /// Octets processed, counted for each interpretation and comparison. The work is proportional to this number.
    pub fn octets_visited(&self) -> u64 {
        self.visited
    }

    /// Skips lines that cannot be delimiters. Returns the number of octets.
    fn pass_over(&mut self, rest: &[u8]) -> usize {
        let mut passed = 0;
        let octets = loop {
            match DASHES.find(&rest[passed..]) {
                // Enough of the line is available to exclude a delimiter.
                Some(at) if self.is_other(&rest[passed + at + 3..]) => passed += at + 3,
                Some(at) => break passed + at + 1,
                // The end of the input may be the start of such a line.
                None if rest.ends_with(b"\n-") => break rest.len() - 1,
                None => break rest.len(),
            }
        };
        if rest[octets - 1] == b'\n' {
            self.start_line(octets);
        }
        octets
    }

    /// Whether the text after two hyphens does not begin with a boundary. False if fewer than eight octets are
    /// available.
    fn is_other(&self, text: &[u8]) -> bool {
        let start = first_octets(text);
        text.len() >= 8 && self.boundaries.iter().all(|boundary| (start ^ boundary.start) & boundary.mask != 0)
    }

    /// Records that the next line begins after this number of octets.
    fn start_line(&mut self, octets: usize) {
        self.line_start = self.offset + octets as u64;
        if matches!(self.at, At::Text) {
            self.at = At::Line;
        }
    }

    /// Collects a line. Returns the number of octets of `rest` that belong to it.
    fn gather(&mut self, rest: &[u8]) -> Result<usize, MimeError> {
        let end = memchr::memchr(b'\n', rest).map(|end| end + 1);
        let octets = end.unwrap_or(rest.len());
        let line_end = self.offset + octets as u64;
        if end.is_some() && self.line.is_empty() {
            self.take_line(&rest[..octets], line_end)?;
        } else {
            self.line.extend_from_slice(&rest[..octets]);
            if end.is_none() {
                self.check_line()?;
                return Ok(octets);
            }
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, line_end)?;
            // Reuses the memory for the next line.
            self.line = line;
            self.line.clear();
        }
        self.start_line(octets);
        Ok(octets)
    }

    /// Checks whether an incomplete line can still be a field or a delimiter.
    fn check_line(&mut self) -> Result<(), MimeError> {
        if self.line.len() > DELIMITER_OCTETS_MAX {
            let mut line = std::mem::take(&mut self.line);
            let delimits = self.delimiter(&line).is_some();
            line.truncate(if delimits { DELIMITER_OCTETS_MAX + 1 } else { line.len() });
            self.line = line;
            if delimits {
                return Ok(());
            }
        }
        match &mut self.at {
            At::Header(header) if header.octets + self.line.len() > self.limits.header_octets_max => {
                self.header_too_large()
            }
            At::Line
                if self.line.len() >= 2 && !self.line.starts_with(b"--") || self.line.len() > DELIMITER_OCTETS_MAX =>
            {
                self.line.clear();
                self.at = At::Text;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Refuses a header section over its limit, unless it may not be a header section.
    fn header_too_large(&mut self) -> Result<(), MimeError> {
        match std::mem::replace(&mut self.at, At::Text) {
            At::Header(header) if header.certain => Err(MimeError::HeaderTooLarge(self.limits.header_octets_max)),
            At::Header(header) => {
                self.line.clear();
                self.end_header(header, self.line_start, self.line_start)
            }
            other => {
                self.at = other;
                Ok(())
            }
        }
    }

    /// Processes a line, with its line end if it has one. `end` is the position of the next line. Of a long delimiter
    /// line, `line` is only the start.
    fn take_line(&mut self, line: &[u8], end: u64) -> Result<(), MimeError> {
        if let Some(delimiter) = self.delimiter(line) {
            return self.take_delimiter(&delimiter, end);
        }
        let At::Header(mut header) = std::mem::replace(&mut self.at, At::Text) else { return Ok(()) };
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return self.end_header(header, self.line_start, end);
        }
        header.octets += line.len();
        header.count += usize::from(!matches!(text[0], b' ' | b'\t'));
        let over = match () {
            () if header.octets > self.limits.header_octets_max => {
                Some(MimeError::HeaderTooLarge(self.limits.header_octets_max))
            }
            () if header.count > self.limits.header_fields_max => {
                Some(MimeError::TooManyFields(self.limits.header_fields_max))
            }
            () => None,
        };
        match over {
            Some(error) if header.certain => return Err(error),
            // If it may not be a header section, its size is not a reason to refuse.
            Some(_) => return self.end_header(header, self.line_start, self.line_start),
            None => {}
        }
        self.take_header_line(&mut header, line, text)?;
        self.at = At::Header(header);
        Ok(())
    }

    fn take_header_line(&mut self, header: &mut Header, line: &[u8], text: &[u8]) -> Result<(), MimeError> {
        if matches!(text[0], b' ' | b'\t') {
            if let Some((_, value)) = &mut header.field {
                value.extend_from_slice(line);
            }
            return Ok(());
        }
        self.end_field(header)?;
        match memchr::memchr(b':', text) {
            Some(colon) if colon > 0 && text[..colon].trim_ascii_end().iter().all(u8::is_ascii_graphic) => {
                header.certain &= !text[..colon].ends_with(b" ") && !text[..colon].ends_with(b"\t");
                header.field = Name::of(&text[..colon]).map(|name| (name, line[colon + 1..].to_vec()));
            }
            // For some mail programs the header section ends here; others ignore the line.
            _ => header.certain = false,
        }
        Ok(())
    }

    fn end_field(&mut self, header: &mut Header) -> Result<(), MimeError> {
        match header.field.take() {
            Some((name, value)) => {
                let value = value.strip_suffix(b"\n").unwrap_or(&value);
                self.take_field(header, name, value.strip_suffix(b"\r").unwrap_or(value))
            }
            None => Ok(()),
        }
    }

    fn take_field(&mut self, header: &mut Header, name: Name, value: &[u8]) -> Result<(), MimeError> {
        self.parameter_octets += value.len();
        if self.parameter_octets > self.limits.parameter_octets_max {
            return Err(MimeError::ParametersTooLarge(self.limits.parameter_octets_max));
        }
        header.fields.take(name, value, &self.limits)
    }

    /// Ends a header section without a blank line and without a body. If the part is a message, the header section of
    /// the message inside ends too.
    fn end_headers(&mut self, end: u64) -> Result<(), MimeError> {
        while let At::Header(header) = std::mem::replace(&mut self.at, At::Text) {
            self.end_header(header, end, end)?;
        }
        Ok(())
    }

    /// Ends the header section of the newest part at `end`; its body begins at `body`.
    fn end_header(&mut self, mut header: Box<Header>, end: u64, body: u64) -> Result<(), MimeError> {
        self.end_field(&mut header)?;
        let Fields { media_type, boundaries, multipart, message, encoding, names, repeated, visited, .. } =
            header.fields;
        self.visited += visited;
        let index = self.parts.len() - 1;
        let digest = self.parts[index]
            .parent
            .is_some_and(|parent| self.levels.iter().any(|level| level.part == parent && level.digest));
        let default = if digest { "message/rfc822" } else { "text/plain" };
        let message = message || digest && media_type.is_none();
        let part = &mut self.parts[index];
        part.header.end = end;
        part.body = body..body;
        part.media_type = media_type.unwrap_or_else(|| default.to_owned());
        part.encoding = encoding.unwrap_or_default();
        self.name_octets += names.iter().map(|name| name.len() + size_of::<String>()).sum::<usize>();
        part.names = names;
        let certain = part.certain && header.certain && !repeated;
        // If only some mail programs find the part, the others disagree only if it contains further parts.
        let agreed = if part.certain { certain && boundaries.len() <= 1 } else { boundaries.is_empty() && !message };
        part.certain = certain;
        self.certain &= agreed;
        self.at = At::Line;
        if multipart && !boundaries.is_empty() {
            let digest = self.parts[index].media_type == "multipart/digest";
            self.push_level(Level { part: index, closed: false, digest })?;
            let level = self.levels.len() - 1;
            self.boundaries.extend(boundaries.into_iter().map(|text| Boundary::new(level, text)));
        }
        if message {
            self.push_level(Level { part: index, closed: false, digest: false })?;
            self.push_part(Some(index), body..body, certain)?;
            self.at = At::Header(Box::new(Header { certain, ..Header::default() }));
        }
        Ok(())
    }

    fn push_level(&mut self, level: Level) -> Result<(), MimeError> {
        if self.levels.len() >= self.limits.depth_max {
            return Err(MimeError::TooDeep(self.limits.depth_max));
        }
        self.levels.push(level);
        Ok(())
    }

    fn push_part(&mut self, parent: Option<usize>, header: Range<u64>, certain: bool) -> Result<(), MimeError> {
        // Parts that only some mail programs find, such as text after a multipart, do not make a valid message exceed
        // the limit.
        let most = if certain { self.limits.parts_max } else { 2 * self.limits.parts_max };
        let counted = if certain { self.certain_parts } else { self.parts.len() };
        if counted >= most {
            return Err(MimeError::TooManyParts(self.limits.parts_max));
        }
        self.certain_parts += usize::from(certain);
        let body = header.end..header.end;
        let (media_type, names) = (String::new(), Vec::new());
        self.parts.push(Part { parent, header, body, media_type, encoding: Default::default(), names, certain });
        Ok(())
    }

    /// The delimiter in a line: the innermost whose boundary is followed by nothing, else the innermost whose boundary
    /// is a prefix (which is sufficient by RFC 2046 §5.1.1).
    fn delimiter(&mut self, line: &[u8]) -> Option<Delimiter> {
        let text = line.strip_prefix(b"--").filter(|_| !self.boundaries.is_empty())?;
        self.visited += text.len() as u64;
        let start = first_octets(text);
        let mut best: Option<Delimiter> = None;
        for boundary in self.boundaries.iter().rev() {
            if (start ^ boundary.start) & boundary.mask != 0 {
                continue;
            }
            self.visited += boundary.text.len() as u64;
            let Some(behind) = text.strip_prefix(&*boundary.text) else { continue };
            let close = behind.starts_with(b"--");
            let blank = if close { &behind[2..] } else { behind }.trim_ascii().is_empty();
            let exact = blank && line.len() <= DELIMITER_OCTETS_MAX;
            let delimiter = Delimiter { level: boundary.level, close, exact };
            if exact {
                return Some(delimiter);
            }
            best.get_or_insert(delimiter);
        }
        best
    }

    /// Starts a part whose header section begins at `start`.
    fn take_delimiter(&mut self, &Delimiter { level, close, exact }: &Delimiter, start: u64) -> Result<(), MimeError> {
        self.end_headers(self.line_start)?;
        // The CR LF before the line belongs to the delimiter.
        self.close(level + 1, self.line_start.saturating_sub(2));
        let certain = exact && !close && !self.levels[level].closed;
        self.certain &= exact && !self.levels[level].closed;
        self.levels[level].closed |= close;
        let container = self.levels[level].part;
        // After a close delimiter, only some mail programs find parts.
        self.push_part(Some(container), start..start, certain)?;
        self.at = At::Header(Box::new(Header { certain, ..Header::default() }));
        Ok(())
    }

    /// Ends all levels except the outermost `levels`.
    fn close(&mut self, levels: usize, end: u64) {
        for part in
            self.levels.get(levels..).unwrap_or_default().iter().map(|level| level.part).chain([self.parts.len() - 1])
        {
            let body = &mut self.parts[part].body;
            body.end = end.max(body.start);
        }
        self.levels.truncate(levels);
        self.boundaries.retain(|boundary| boundary.level < levels);
    }
}

impl Boundary {
    fn new(level: usize, text: Vec<u8>) -> Self {
        let mask = match text.len() {
            8.. => u64::MAX,
            octets => u64::MAX << (64 - 8 * octets),
        };
        Self { level, start: first_octets(&text) & mask, mask, text }
    }
}

/// The first eight octets as a number, padded with zeros.
fn first_octets(text: &[u8]) -> u64 {
    let mut octets = [0; 8];
    let length = text.len().min(8);
    octets[..length].copy_from_slice(&text[..length]);
    u64::from_be_bytes(octets)
}
