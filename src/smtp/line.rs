//! Lines: of commands, and of AUTH exchanges. RFC 5321 §2.3.8, §4.5.3.1.4.
//!
//! A line ends with CR LF. One over the limit is thrown away to its end, however long that takes to come, and costs one
//! reply; the next line is in step. Keeps of it no more than its start.

use super::LineEndings;
use crate::mail::{Reply, replies};
use bytes::{Bytes, BytesMut};

/// Takes lines from the front of a buffer, whose octets nobody else takes while a line is incomplete.
#[derive(Debug)]
pub(super) struct Lines {
    line_endings: LineEndings,
    /// How much of the buffer is known to hold no LF.
    scanned: usize,
    /// A line over the limit is being thrown away; how it began.
    overlong: Option<Bytes>,
}

/// A line that is no line.
#[derive(Debug)]
pub(super) struct BadLine {
    /// How it began: a refused BDAT is followed by its chunk all the same, and HTTP is HTTP however long its first line.
    pub(super) start: Bytes,
    pub(super) reply: Reply,
}

impl Lines {
    pub(super) fn new(line_endings: LineEndings) -> Self {
        Self { line_endings, scanned: 0, overlong: None }
    }

    /// The next line without its line end, or the reply that it earns; `None` if it is not complete.
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

/// Enough for the longest verb, ours or HTTP's.
const START_OCTETS: usize = 16;

fn start_of(line: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&line[..line.len().min(START_OCTETS)])
}
