//! End-of-data detection, the transparency procedure, and the rules for lines of content.
//!
//! Turns octets received after DATA, or in BDAT chunks, into message content. Stops at CR LF . CR LF and at nothing
//! else; never looks at meaning. Keeps no content: each [`Step`] speaks of the octets that the caller holds.
//! RFC 5321 §4.5.2 (transparency), §2.3.8 (lines end in CR LF, nothing else), §4.5.3.1.6 (line length).

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// What to do with a lone CR or LF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEndings {
    /// Refuse the message. Two servers that repair differently disagree where a message ends, and the difference carries
    /// a forged second message (smuggling).
    #[default]
    Refuse,
    /// Repair it, before policy sees the message. For devices that send bare LF, and for programs that send CR CR LF. A run
    /// of CR and LF becomes as many line ends as it has LFs, and one if it has none. A blank line that only some readers see
    /// ends no header section: with CR LF next to LF in front of it the message is refused. Still only CR LF . CR LF ends
    /// the data; a line that is a dot to other readers (CR LF . LF, CR LF . CR) is refused.
    Normalize,
}

/// What to do with a line over the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongLines {
    /// Refuse the message: the provider would.
    #[default]
    Refuse,
    /// Take it, and say so in the question at the end: whoever answers makes the lines shorter, or refuses.
    ReEncode,
}

/// What is wrong with content. The message is lost, the session is not: the rest of the data is read and thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFault {
    /// A CR without LF, or an LF without CR.
    BareLineEnd,
    /// A line over the limit.
    LineTooLong,
    /// NUL (RFC 5321 §2.4 forbids it in effect; header readers stop at it).
    Nul,
}

/// What the next octets are. `consumed` octets of the input are dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// They are content, as they are.
    Content(usize),
    /// They are no content: a dot of transparency, the line end before or the dot of the end mark.
    Dropped(usize),
    /// They stand for these octets of content.
    Instead(usize, &'static [u8]),
    /// With them, the data ends.
    End(usize),
    /// With them, the message is lost.
    Fault(usize, ContentFault),
}

/// Where the next octet falls. Starts at `LineStart`: the 354 reply ended a line, so an empty message is just `.\r\n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After CR LF.
    LineStart,
    /// After an LF without CR, which was repaired. A dot here is no transparency: clients add dots only after CR LF.
    Lf,
    Text,
    /// After a CR that may belong to CR LF.
    Cr,
    /// After a CR that follows a line end, being repaired. It is a line end only with an LF behind it.
    LfCr,
    Dot,
    DotCr,
}

/// The scanner: give it what came, do what the step says, give it the rest.
#[derive(Clone, Debug)]
pub struct Scanner {
    at: At,
    line_endings: LineEndings,
    line_octets: usize,
    line_octets_max: usize,
    long_lines: LongLines,
    /// Whether there was a line over the limit.
    pub(super) long: bool,
    /// Whether dots at the start of lines mean anything: after DATA they do, in BDAT chunks they do not.
    dots: bool,
    /// After a fault: find the end, mind nothing else.
    discarding: bool,
    /// Where line ends are repaired: no blank line has come.
    in_header: bool,
    /// The last line end was an LF without CR.
    bare: bool,
}

impl Scanner {
    /// For the content after DATA.
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

    /// For the content of BDAT chunks; one scanner for all chunks of a message.
    pub fn chunks(line_endings: LineEndings, long_lines: LongLines, line_octets_max: usize) -> Self {
        Self { dots: false, ..Self::data(line_endings, long_lines, line_octets_max) }
    }

    /// From now on only the end matters. Every octet that is not the end is [`Step::Dropped`].
    pub fn discard(&mut self) {
        self.discarding = true;
    }

    /// Whether the content so far ends with CR LF, or is empty. For the end of the last chunk.
    pub fn at_line_start(&self) -> bool {
        matches!(self.at, At::LineStart | At::Lf | At::LfCr)
    }

    /// Whether a CR was the last octet, and its LF has not come.
    pub fn after_cr(&self) -> bool {
        self.at == At::Cr
    }

    /// Looks at the next octets. `input` must not be empty.
    pub fn step(&mut self, input: &[u8]) -> Step {
        let Some(&octet) = input.first() else { return Step::Dropped(0) };
        match self.at {
            // Discarding, what was repaired does not matter.
            At::LfCr if self.discarding => self.at = At::Cr,
            // The line end in front was one line end with this CR.
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
            // To a reader that takes the CR for a line end, the data ended here.
            (At::DotCr, _) => self.fault(0, ContentFault::BareLineEnd),
            (At::LfCr, b'\n') if !self.agrees(false) => self.doubtful_blank_line(1),
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
            // CRs without an LF: one line end.
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

    /// How many octets from the start are whole lines with nothing wrong and no dot in front, seen without going from line
    /// to line: a third of the instructions that [`Scanner::run`] takes, which has a closer look where this says 0.
    ///
    /// Never where line ends are repaired: after each of them the same rest would be looked at in vain, which is a way to
    /// keep a processor busy. Elsewhere what is wrong is a fault, and nobody looks twice.
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
        let mut room = self.line_octets_max.saturating_sub(self.line_octets);
        while start < lines.len() {
            // The last line end that is near enough: no line up to it is too long.
            let near = &lines[start..lines.len().min(start.saturating_add(room).saturating_add(b"\r\n".len()))];
            let Some(end) = memchr::memrchr(b'\n', near) else { return 0 };
            start += end + 1;
            room = self.line_octets_max;
        }
        if paired(lines) { lines.len() } else { 0 }
    }

    /// The longest run of whole lines and text. This is where the octets pass, so it takes many lines at a time and looks
    /// only at CR, LF and, at line starts, the dot.
    fn run(&mut self, input: &[u8]) -> Step {
        let mut start = 0;
        loop {
            let rest = &input[start..];
            let line_end = memchr::memchr2(b'\r', b'\n', rest);
            let text = &rest[..line_end.unwrap_or(rest.len())];
            if !text.is_empty() {
                self.at = At::Text;
                // What is wrong first is told, however the network cut the line.
                let room = match self.long_lines {
                    LongLines::Refuse => self.line_octets_max.saturating_sub(self.line_octets),
                    LongLines::ReEncode => usize::MAX,
                };
                self.line_octets += text.len();
                self.long |= self.line_octets > self.line_octets_max;
                if !self.discarding {
                    if memchr::memchr(0, &text[..text.len().min(room)]).is_some() {
                        return self.fault(start + text.len(), ContentFault::Nul);
                    }
                    if text.len() > room {
                        return self.fault(start + text.len(), ContentFault::LineTooLong);
                    }
                }
            }
            let at = start + text.len();
            match (line_end.map(|_| input[at]), input.get(at + 1)) {
                (None, _) => return self.passed(at),
                (Some(b'\r'), Some(b'\n')) => {
                    if text.is_empty() && matches!(self.at, At::LineStart | At::Lf) && !self.agrees(false) {
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
                // It is no content until it is known what it is repaired to. What came before it first.
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
                // A bare LF. What came before it first, so that the step that speaks of it begins with it.
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

    /// Discarding, a lone CR is text, but the octet after it may be another CR.
    fn drop_one_after_bare_cr(&mut self, octet: u8) -> Step {
        self.drop_one(if octet == b'\r' { At::Cr } else { At::Text })
    }

    /// A bare LF.
    fn bare_lf(&mut self) -> Step {
        let doubtful = matches!(self.at, At::LineStart | At::Lf) && !self.agrees(true);
        match self.line_endings {
            _ if self.discarding => self.drop_one(At::Text),
            LineEndings::Normalize if doubtful => self.fault(1, ContentFault::BareLineEnd),
            LineEndings::Normalize if self.at != At::Dot => {
                self.bare = true;
                self.at = if self.dots { At::Lf } else { At::LineStart };
                self.line_octets = 0;
                Step::Instead(1, b"\r\n")
            }
            // After a dot that began the line: to a reader that takes the LF for a line end, the data ended here.
            LineEndings::Refuse | LineEndings::Normalize => self.fault(1, ContentFault::BareLineEnd),
        }
    }

    /// A line end comes at the start of a line: whether it makes a blank line to every reader, or where that does not matter.
    /// The first blank line ends the header section. CR LF beside a bare LF is one line end to a reader of CR LF only, and
    /// two to others.
    fn agrees(&mut self, bare: bool) -> bool {
        let agreed = !self.in_header || self.discarding || self.bare == bare;
        self.in_header &= !agreed;
        agreed
    }

    /// A CR LF that makes a blank line to some readers only.
    fn doubtful_blank_line(&mut self, consumed: usize) -> Step {
        let fault = self.fault(consumed, ContentFault::BareLineEnd);
        self.at = At::LineStart;
        fault
    }

    fn fault(&mut self, consumed: usize, fault: ContentFault) -> Step {
        // What was a CR may still be the first octet of the end mark's line end.
        if !matches!(self.at, At::Cr | At::LfCr | At::DotCr) {
            self.at = At::Text;
        }
        self.discarding = true;
        Step::Fault(consumed, fault)
    }
}

/// A line that begins with a dot.
static DOT_IN_FRONT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n."));

/// Fewer octets are not worth a quick look. In tests all are, so that their tables go through it.
const QUICK_OCTETS_MIN: usize = if cfg!(test) { 1 } else { 128 };

/// Whether CR and LF stand only together, and NUL nowhere. Of whole lines, so the last octet is an LF. Without branches,
/// which lets the compiler take many octets at a time.
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
