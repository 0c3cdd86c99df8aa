//! Receives content: after DATA, and in BDAT chunks (RFC 3030).
//!
//! A fault in content rejects the message and does not end the session: the rest of the content is read and discarded,
//! and then the reply is sent. An early reply would let the rest of the content be run as commands.

use super::content::LineEndings;
use super::incoming::{IncomingContent, ScanResult, TransferRate};
use super::session::Session;
use super::state::{PendingQuestion, Progress, State, Transaction};
use super::{Abandon, Action, Question};
use crate::mail::{Reply, replies};
use bytes::Bytes;

impl Session {
    pub(super) fn poll_data(&mut self, mut content: IncomingContent) -> Progress {
        let limits = &self.settings.limits;
        // Close after twice the size limit: a client that ignores the limit will not read the reply.
        if content.rate.octets > limits.message_octets_max.saturating_mul(2)
            && let Some(reply) = content.fault.take()
        {
            self.close_reported(&reply);
            return Progress::Do(Action::report("DATA", reply));
        }
        if self.input.is_empty() {
            self.state = State::Data(content);
            return Progress::Wait;
        }
        let progress = match content.scan(&mut self.input, usize::MAX, limits) {
            ScanResult::Content(octets) => Progress::Do(Action::Content(octets)),
            ScanResult::Rejected => Progress::Do(Action::Abandon(Abandon::Refused)),
            ScanResult::Nothing => Progress::Again,
            ScanResult::End => {
                return match content.fault.take() {
                    None => self.commit(content.scanner.long),
                    Some(reply) => self.refuse(Transaction::None, "DATA", &reply),
                };
            }
        };
        self.state = State::Data(content);
        progress
    }

    pub(super) fn poll_chunk(&mut self, mut content: IncomingContent, mut remaining: u64, last: bool) -> Progress {
        let limits = &self.settings.limits;
        // All chunks together are too large. This is known from the command, before the chunk arrives.
        let too_large = content.octets.saturating_add(remaining) > limits.message_octets_max;
        if let Some(reply) = content.fault.take().or_else(|| too_large.then_some(replies::MESSAGE_TOO_LARGE)) {
            return self.discard_chunk(remaining, reply);
        }
        if remaining == 0 {
            return self.chunk_end(content, last);
        }
        let progress = if self.input.is_empty() {
            Progress::Wait
        } else {
            let before = self.input.len();
            let octets_max = usize::try_from(remaining).unwrap_or(usize::MAX);
            let result = content.scan(&mut self.input, octets_max, limits);
            remaining -= (before - self.input.len()) as u64;
            match result {
                ScanResult::Content(octets) => Progress::Do(Action::Content(octets)),
                ScanResult::Nothing | ScanResult::Rejected | ScanResult::End => Progress::Again,
            }
        };
        self.state = State::Chunk { content, remaining, last };
        progress
    }

    /// Handles the end of a chunk without a fault.
    fn chunk_end(&mut self, content: IncomingContent, last: bool) -> Progress {
        if !last {
            self.state = State::Command(Transaction::Chunks(content));
            self.write(&replies::CHUNK_OK);
            return Progress::Again;
        }
        let scanner = &content.scanner;
        // RFC 5321 §2.3.8: content consists of whole lines. Clients that build MIME for BDAT omit the last line end. It
        // is added, because the message could not be sent with DATA without it, and SES would add it.
        let missing = match (scanner.at_line_start(), scanner.after_cr(), self.settings.line_endings) {
            (true, ..) => return self.commit(scanner.long),
            (_, true, LineEndings::Refuse) => return self.discard_chunk(0, replies::BARE_LINE_END_IN_CONTENT),
            (..) => b"\r\n",
        };
        // The limit applies to the message as it is sent to the provider.
        if content.octets + missing.len() as u64 > self.settings.limits.message_octets_max {
            return self.discard_chunk(0, replies::MESSAGE_TOO_LARGE);
        }
        self.state = State::ContentEnd { long_lines: scanner.long };
        Progress::Do(Action::Content(Bytes::from_static(missing)))
    }

    /// Asks the caller whether the complete message is accepted.
    pub(super) fn commit(&mut self, long_lines: bool) -> Progress {
        self.ask(PendingQuestion::Commit, Question::Commit { long_lines })
    }

    /// Discards a refused chunk, so that it is not run as commands, and sends the reply after it.
    ///
    /// The transaction ends (RFC 3030 §2). Otherwise the following chunks could form a message with a part missing.
    pub(super) fn discard_chunk(&mut self, octets: u64, reply: Reply) -> Progress {
        // A longer chunk ends the session.
        if octets > self.settings.limits.message_octets_max.saturating_mul(2) {
            self.write(&reply);
            self.state = State::Closing(Some(Box::new(Action::report("BDAT", reply))));
        } else {
            self.state = State::DiscardChunk { remaining: octets, reply, rate: TransferRate::new(self.now) };
        }
        Progress::Do(Action::Abandon(Abandon::Refused))
    }

    pub(super) fn poll_discard_chunk(&mut self, remaining: u64, reply: Reply, mut rate: TransferRate) -> Progress {
        let octets = usize::try_from(remaining).unwrap_or(usize::MAX).min(self.input.len());
        drop(self.input.split_to(octets));
        let remaining = remaining - octets as u64;
        rate.octets += octets as u64;
        if remaining > 0 {
            self.state = State::DiscardChunk { remaining, reply, rate };
            return Progress::Wait;
        }
        self.refuse(Transaction::None, "BDAT", &reply)
    }
}
