//! Splits input into lines of commands and of AUTH exchanges. RFC 5321 §2.3.8, §4.5.3.1.4.
//!
//! A line ends with CR LF. A line over the limit is discarded up to its end, however late that arrives, and causes one
//! reply. Only its start is stored.

use super::LineEndings;
use crate::mail::{Reply, replies};
use bytes::{Bytes, BytesMut};

/// Takes lines from the front of a buffer. No other code may take octets while a line is incomplete.
#[derive(Debug)]
pub(super) struct Lines {
    line_endings: LineEndings,
    /// The number of octets at the front that contain no LF.
    scanned: usize,
    /// The start of a line over the limit that is being discarded.
    overlong: Option<Bytes>,
}

/// A line over the limit or without CR.
#[derive(Debug)]
pub(super) struct BadLine {
    /// The start of the line. It is needed because a refused BDAT is still followed by its chunk, and because HTTP is
    /// detected even if its first line is too long.
    pub(super) start: Bytes,
    pub(super) reply: Reply,
}

impl Lines {
    pub(super) fn new(line_endings: LineEndings) -> Self {
        Self { line_endings, scanned: 0, overlong: None }
    }

    /// The next line without its line end, or an invalid line with its reply. `None`: the line is incomplete.
    pub(super) fn take(
        &mut self,
        input: &mut BytesMut,
        octets_max: usize,
        too_long: &Reply,
    ) -> Option<Result<Bytes, BadLine>> {
        let Some(found) = memchr::memchr(b'\n', &input[self.scanned..]) else {
            self.scanned = input.len();
            if input.len() > octets_max {
                self.overlong.get_or_insert_with(|| start_of(input));
                input.clear();
                self.scanned = 0;
            }
            return None;
        };
        let line = input.split_to(self.scanned + found + 1).freeze();
        self.scanned = 0;
        if let Some(start) = self.overlong.take() {
            return Some(Err(BadLine { start, reply: too_long.clone() }));
        }
        let bad = |reply: &Reply| Some(Err(BadLine { start: start_of(&line), reply: reply.clone() }));
        if line.len() > octets_max {
            return bad(too_long);
        }
        match line.strip_suffix(b"\r\n") {
            Some(text) => Some(Ok(line.slice(..text.len()))),
            None if self.line_endings == LineEndings::Normalize => Some(Ok(line.slice(..line.len() - 1))),
            None => bad(&replies::BARE_LINE_END),
        }
    }
}

/// Enough for the longest verb of SMTP or HTTP.
const START_OCTETS: usize = 16;

fn start_of(line: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&line[..line.len().min(START_OCTETS)])
}
