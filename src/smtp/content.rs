//! Finds the end of data, removes transparency dots, and checks the lines of content.
//!
//! The scanner converts octets received after DATA, or in BDAT chunks, into message content. Only CR LF . CR LF ends
//! the data. The scanner does not interpret the content and does not store it: each [`Step`] describes octets of the
//! caller's buffer. RFC 5321 §4.5.2 (transparency), §2.3.8 (lines end with CR LF only), §4.5.3.1.6 (line length).

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// The handling of a lone CR or LF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEndings {
    /// Refuse the message. Two servers that repair it differently disagree about the end of a message, which lets a
    /// sender inject a second message (SMTP smuggling).
    #[default]
    Refuse,
    /// Convert it to CR LF before policy evaluates the message. For devices that send bare LF, and programs that send
    /// CR CR LF. A run of CR and LF becomes as many line ends as it has LFs, and one if it has none. If only some
    /// readers would see the first blank line (CR LF next to LF), they would disagree about the end of the header
    /// section, and the message is refused. Only CR LF . CR LF ends the data; a line that other readers may take for a
    /// lone dot (CR LF . LF, CR LF . CR) is refused.
    Normalize,
}

/// The handling of a line over the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongLines {
    /// Refuse the message, as the provider would.
    #[default]
    Refuse,
    /// Accept the line and report it in the question at end of data. The caller re-encodes the content or refuses it.
    ReEncode,
}

/// What is wrong with content. The message is rejected and the session continues: the rest of the data is read and
/// discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFault {
    /// A CR without LF, or an LF without CR.
    BareLineEnd,
    /// A line is over the limit.
    LineTooLong,
    /// A NUL. RFC 5321 §2.4 forbids it in effect, and parsers of headers may stop at it.
    Nul,
}

/// The meaning of the next octets. `consumed` octets of the input are processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// They are content, unchanged.
    Content(usize),
    /// They are not content: a transparency dot, the line end before the end mark, or the dot of the end mark.
    Dropped(usize),
    /// They are replaced by these octets of content.
    Instead(usize, &'static [u8]),
    /// They end the data.
    End(usize),
    /// They are a fault: the message is rejected.
    Fault(usize, ContentFault),
}

/// The position of the next octet. The initial position is `LineStart`, because the 354 reply follows a line end: an
/// empty message is just `.\r\n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After CR LF.
    LineStart,
    /// After an LF without CR, which was converted. A dot here is content: clients add transparency dots only after CR
    /// LF.
    Lf,
    Text,
    /// After a CR that may belong to CR LF.
    Cr,
    /// After a CR that follows a line end, while line ends are converted. It is a line end only with an LF after it.
    LfCr,
    Dot,
    DotCr,
}

/// The scanner. The caller passes the received octets, handles the step, and passes the remaining octets.
#[derive(Clone, Debug)]
pub struct Scanner {
    at: At,
    line_endings: LineEndings,
    line_octets: usize,
    line_octets_max: usize,
    long_lines: LongLines,
    /// Whether a line was over the limit.
    pub(super) long: bool,
    /// Whether dots at line starts are transparency dots: after DATA, not in BDAT chunks.
    dots: bool,
    /// After a fault: only the end is searched.
    discarding: bool,
    /// Whether no blank line was found yet. Used while line ends are converted.
    in_header: bool,
    /// The last line end was an LF without CR.
    bare: bool,
}

impl Scanner {
    /// A scanner for content after DATA.
    pub fn data(line_endings: LineEndings, long_lines: LongLines, line_octets_max: usize) -> Self {
        Self {
            at: At::LineStart,
            line_endings,
            line_octets: 0,
            line_octets_max,
            long_lines,
            long: false,
            dots: true,
            discarding: false,
            in_header: line_endings == LineEndings::Normalize,
            bare: false,
        }
    }

    /// A scanner for BDAT chunks. All chunks of a message use the same scanner.
    pub fn chunks(line_endings: LineEndings, long_lines: LongLines, line_octets_max: usize) -> Self {
        Self { dots: false, ..Self::data(line_endings, long_lines, line_octets_max) }
    }

    /// Discards the rest: only the end is searched, and every octet before it is [`Step::Dropped`].
    pub fn discard(&mut self) {
        self.discarding = true;
    }

    /// Whether the content so far is empty or ends with CR LF. For the end of the last chunk.
    pub fn at_line_start(&self) -> bool {
        matches!(self.at, At::LineStart | At::Lf | At::LfCr)
    }

    /// Whether the last octet was a CR that may still be followed by its LF.
    pub fn after_cr(&self) -> bool {
        self.at == At::Cr
    }

    /// Processes the next octets. `input` must not be empty.
    pub fn step(&mut self, input: &[u8]) -> Step {
        let Some(&octet) = input.first() else { return Step::Dropped(0) };
        match self.at {
            // While discarding, conversion is not relevant.
            At::LfCr if self.discarding => self.at = At::Cr,
            // This CR belongs to the line end before it.
            At::LfCr if !matches!(octet, b'\r' | b'\n') => self.at = At::Text,
            _ => {}
        }
        let repairs = self.line_endings == LineEndings::Normalize;
        match (self.at, octet) {
            (At::LineStart, b'.') if self.dots => self.drop_one(At::Dot),
            (At::Dot, b'\r') => self.drop_one(At::DotCr),
            (At::DotCr, b'\n') => {
                self.at = At::LineStart;
                Step::End(1)
            }
            (At::DotCr, _) if self.discarding => self.drop_one_after_bare_cr(octet),
            // A reader that takes the CR for a line end would end the data here.
            (At::DotCr, _) => self.fault(0, ContentFault::BareLineEnd),
            (At::LfCr, b'\n') if !self.is_unambiguous(false) => self.doubtful_blank_line(1),
            (At::Cr | At::LfCr, b'\n') => {
                self.bare = false;
                self.at = At::LineStart;
                self.line_octets = 0;
                match (self.discarding, repairs) {
                    (true, _) => Step::Dropped(1),
                    (false, true) => Step::Instead(1, b"\r\n"),
                    (false, false) => Step::Content(1),
                }
            }
            (At::Cr, _) if self.discarding => self.drop_one_after_bare_cr(octet),
            (At::Cr | At::LfCr, b'\r') if repairs => Step::Dropped(1),
            // CRs without an LF are one line end.
            (At::Cr, _) if repairs => {
                self.at = At::Text;
                self.line_octets = 0;
                Step::Instead(0, b"\r\n")
            }
            (At::Cr | At::LfCr, _) => self.fault(0, ContentFault::BareLineEnd),
            (At::LineStart | At::Lf | At::Text | At::Dot, _) => match self.clean_lines(input) {
                0 => self.run(input),
                octets => {
                    self.at = At::LineStart;
                    self.line_octets = 0;
                    Step::Content(octets)
                }
            },
        }
    }

    /// The number of octets from the start that are whole, valid lines without a leading dot, found without visiting
    /// each line: a third of the instructions of [`Scanner::run`], which handles the input if this returns 0.
    ///
    /// Not used where line ends are converted: the same input would be searched again after each conversion, so a
    /// client could cause quadratic work. Elsewhere an invalid line is a fault, and the input is searched once.
    fn clean_lines(&self, input: &[u8]) -> usize {
        if self.discarding || self.line_endings == LineEndings::Normalize || input.len() < QUICK_OCTETS_MIN {
            return 0;
        }
        let dot = if self.dots { DOT_IN_FRONT.find(input) } else { None };
        let Some(end) = dot.or_else(|| memchr::memrchr(b'\n', input)) else { return 0 };
        let lines = &input[..=end];
        if lines.len() < QUICK_OCTETS_MIN {
            return 0;
        }
        let mut start = 0;
        let mut remaining = self.line_octets_max.saturating_sub(self.line_octets);
        while start < lines.len() {
            // The last line end within the limit: no line up to it is too long.
            let near = &lines[start..lines.len().min(start.saturating_add(remaining).saturating_add(b"\r\n".len()))];
            let Some(end) = memchr::memrchr(b'\n', near) else { return 0 };
            start += end + 1;
            remaining = self.line_octets_max;
        }
        if paired(lines) { lines.len() } else { 0 }
    }

    /// The longest run of whole lines and text. All content passes here, so it processes many lines at a time and
    /// searches only CR, LF and, at line starts, the dot.
    fn run(&mut self, input: &[u8]) -> Step {
        let mut start = 0;
        loop {
            let rest = &input[start..];
            let line_end = memchr::memchr2(b'\r', b'\n', rest);
            let text = &rest[..line_end.unwrap_or(rest.len())];
            if !text.is_empty() {
                self.at = At::Text;
                // The first fault is reported, independent of how the network divided the line.
                let remaining = match self.long_lines {
                    LongLines::Refuse => self.line_octets_max.saturating_sub(self.line_octets),
                    LongLines::ReEncode => usize::MAX,
                };
                self.line_octets += text.len();
                self.long |= self.line_octets > self.line_octets_max;
                if !self.discarding {
                    if memchr::memchr(0, &text[..text.len().min(remaining)]).is_some() {
                        return self.fault(start + text.len(), ContentFault::Nul);
                    }
                    if text.len() > remaining {
                        return self.fault(start + text.len(), ContentFault::LineTooLong);
                    }
                }
            }
            let at = start + text.len();
            match (line_end.map(|_| input[at]), input.get(at + 1)) {
                (None, _) => return self.passed(at),
                (Some(b'\r'), Some(b'\n')) => {
                    if text.is_empty() && matches!(self.at, At::LineStart | At::Lf) && !self.is_unambiguous(false) {
                        return self.doubtful_blank_line(at + 2);
                    }
                    self.bare = false;
                    self.at = At::LineStart;
                    self.line_octets = 0;
                    start = at + 2;
                    match input.get(start) {
                        None => return self.passed(start),
                        Some(b'.') if self.dots => return self.passed(start),
                        Some(_) => {}
                    }
                }
                // The conversion of this octet is not known yet. The content before it is returned first.
                (Some(b'\r'), _) if self.line_endings == LineEndings::Normalize && !self.discarding => {
                    if at > 0 {
                        return self.passed(at);
                    }
                    let after_line_end = matches!(self.at, At::LineStart | At::Lf);
                    return self.drop_one(if after_line_end { At::LfCr } else { At::Cr });
                }
                (Some(b'\r'), _) => {
                    self.at = At::Cr;
                    return self.passed(at + 1);
                }
                // A bare LF. The content before it is returned first, so that the next step begins with the LF.
                (Some(_), _) if at > 0 => return self.passed(at),
                (Some(_), _) => return self.bare_lf(),
            }
        }
    }

    fn passed(&self, octets: usize) -> Step {
        if self.discarding { Step::Dropped(octets) } else { Step::Content(octets) }
    }

    fn drop_one(&mut self, at: At) -> Step {
        self.at = at;
        Step::Dropped(1)
    }

    /// While discarding, a lone CR is text, but the octet after it may be another CR.
    fn drop_one_after_bare_cr(&mut self, octet: u8) -> Step {
        self.drop_one(if octet == b'\r' { At::Cr } else { At::Text })
    }

    /// A bare LF.
    fn bare_lf(&mut self) -> Step {
        let doubtful = matches!(self.at, At::LineStart | At::Lf) && !self.is_unambiguous(true);
        match self.line_endings {
            _ if self.discarding => self.drop_one(At::Text),
            LineEndings::Normalize if doubtful => self.fault(1, ContentFault::BareLineEnd),
            LineEndings::Normalize if self.at != At::Dot => {
                self.bare = true;
                self.at = if self.dots { At::Lf } else { At::LineStart };
                self.line_octets = 0;
                Step::Instead(1, b"\r\n")
            }
            // After a dot at the start of the line: a reader that takes the LF for a line end would end the data here.
            LineEndings::Refuse | LineEndings::Normalize => self.fault(1, ContentFault::BareLineEnd),
        }
    }

    /// Handles a line end at the start of a line. Returns whether all readers see the same blank line, or the header
    /// section has ended. CR LF next to a bare LF is one line end for a reader that accepts only CR LF, and two for
    /// others.
    fn is_unambiguous(&mut self, bare: bool) -> bool {
        let agreed = !self.in_header || self.discarding || self.bare == bare;
        self.in_header &= !agreed;
        agreed
    }

    /// A CR LF that forms a blank line for some readers only.
    fn doubtful_blank_line(&mut self, consumed: usize) -> Step {
        let fault = self.fault(consumed, ContentFault::BareLineEnd);
        self.at = At::LineStart;
        fault
    }

    fn fault(&mut self, consumed: usize, fault: ContentFault) -> Step {
        // A CR may still be the first octet of the end mark's line end.
        if !matches!(self.at, At::Cr | At::LfCr | At::DotCr) {
            self.at = At::Text;
        }
        self.discarding = true;
        Step::Fault(consumed, fault)
    }
}

/// A line that begins with a dot.
static DOT_IN_FRONT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n."));

/// The minimum input for the fast path. In tests 1, so that their tables use it.
const QUICK_OCTETS_MIN: usize = if cfg!(test) { 1 } else { 128 };

/// Whether every CR and LF is part of a CR LF, and there is no NUL. `lines` are whole lines, so the last octet is an
/// LF. Without branches, so that the compiler can vectorise it.
fn paired(lines: &[u8]) -> bool {
    let pairs = lines.iter().zip(lines.iter().skip(1));
    let wrong = pairs.fold(lines.first() == Some(&b'\n'), |wrong, (&octet, &next)| {
        wrong | ((octet == b'\r') != (next == b'\n')) | (octet == 0)
    });
    !wrong
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
