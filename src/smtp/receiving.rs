//! Content: after DATA, and in BDAT chunks (RFC 3030).
//!
//! A fault in content costs the message, never the session: the rest is read to its end and thrown away, and only then
//! comes the reply. An early reply would turn the rest into commands.

use super::content::{ContentFault, LineEndings, Scanner, Step};
use super::session::{Asked, Progress, Session, State, Transaction};
use super::{Abandon, Action, Limits, Question, Settings};
use crate::mail::{Reply, replies};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// The content of one message, as far as it has come.
#[derive(Debug)]
pub(super) struct Receiving {
    scanner: Scanner,
    /// Octets of content. RFC 1870 §3: doubled dots and the end mark are not part of the size.
    octets: u64,
    pub(super) pace: Pace,
    fault: Option<Reply>,
}

/// How fast octets come that are no commands, kept or thrown away.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    octets: u64,
}

/// The content of one message that comes in chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    pub(super) receiving: Receiving,
}

impl Receiving {
    pub(super) fn data(settings: &Settings, now: Instant) -> Self {
        let scanner =
            Scanner::data(settings.line_endings, settings.long_lines, settings.limits.content_line_octets_max);
        Self { scanner, octets: 0, pace: Pace::new(now), fault: None }
    }

    /// The scanner's next step. Looks no further than the limit: which fault is told must not hang on how the network cut
    /// the content.
    fn step(&mut self, input: &[u8], message_octets_max: u64) -> Step {
        let room = usize::try_from(message_octets_max.saturating_sub(self.octets)).unwrap_or(usize::MAX);
        let here = if self.fault.is_some() { input.len() } else { input.len().min(room.saturating_add(1)) };
        self.scanner.step(&input[..here])
    }

    /// What the scanner's step comes to. At most one action.
    fn take(&mut self, input: &mut bytes::BytesMut, step: Step, message_octets_max: u64) -> Taken {
        let before = input.len();
        let taken = self.take_step(input, step, message_octets_max);
        self.pace.octets += (before - input.len()) as u64;
        taken
    }

    fn take_step(&mut self, input: &mut bytes::BytesMut, step: Step, message_octets_max: u64) -> Taken {
        match step {
            Step::Dropped(octets) => {
                drop(input.split_to(octets));
                Taken::Nothing
            }
            Step::Content(octets) => {
                let octets = input.split_to(octets).freeze();
                self.keep(octets, message_octets_max)
            }
            Step::Instead(consumed, octets) => {
                drop(input.split_to(consumed));
                self.keep(Bytes::from_static(octets), message_octets_max)
            }
            Step::End(octets) => {
                drop(input.split_to(octets));
                Taken::End
            }
            Step::Fault(octets, fault) => {
                drop(input.split_to(octets));
                self.spoil(match fault {
                    ContentFault::BareLineEnd => replies::BARE_LINE_END_IN_CONTENT,
                    ContentFault::LineTooLong => replies::CONTENT_LINE_TOO_LONG,
                    ContentFault::Nul => replies::NUL_IN_CONTENT,
                })
            }
        }
    }

    fn keep(&mut self, octets: Bytes, message_octets_max: u64) -> Taken {
        self.octets += octets.len() as u64;
        if self.octets > message_octets_max {
            self.scanner.discard();
            return self.spoil(replies::MESSAGE_TOO_LARGE);
        }
        Taken::Content(octets)
    }

    /// The message is lost; the first reason is the one that is told.
    fn spoil(&mut self, reply: Reply) -> Taken {
        self.fault.get_or_insert(reply);
        Taken::Spoiled
    }
}

enum Taken {
    Nothing,
    Content(Bytes),
    Spoiled,
    End,
}

impl Chunks {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        let scanner =
            Scanner::chunks(settings.line_endings, settings.long_lines, settings.limits.content_line_octets_max);
        Self { receiving: Receiving { scanner, octets: 0, pace: Pace::new(now), fault: None } }
    }

    /// How much of a refused chunk is read to stay in step; a longer one ends the session.
    pub(super) fn swallow_octets_max(settings: &Settings) -> u64 {
        settings.limits.message_octets_max.saturating_mul(2)
    }
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, octets: 0 }
    }

    /// By when the next octets must come for the average rate to hold.
    pub(super) fn deadline(&self, limits: &Limits) -> Instant {
        let allowed = Duration::from_secs(self.octets / u64::from(limits.content_rate_min.max(1)));
        self.started + limits.content_rate_grace + allowed
    }
}

impl Session {
    pub(super) fn poll_data(&mut self) -> Progress {
        let State::Data(receiving) = &mut self.state else { return Progress::Again };
        let limits = &self.settings.limits;
        // Who goes on sending long after the limit does not listen for a reply either.
        if receiving.pace.octets > limits.message_octets_max.saturating_mul(2)
            && let Some(reply) = receiving.fault.take()
        {
            self.close_reported(&reply);
            return Progress::Do(Action::report("DATA", reply));
        }
        if self.input.is_empty() {
            return Progress::Wait;
        }
        let step = receiving.step(&self.input, limits.message_octets_max);
        match receiving.take(&mut self.input, step, limits.message_octets_max) {
            Taken::Content(octets) => Progress::Do(Action::Content(octets)),
            Taken::Spoiled => Progress::Do(Action::Abandon(Abandon::Refused)),
            Taken::Nothing => Progress::Again,
            Taken::End => match receiving.fault.take() {
                None => {
                    let long_lines = receiving.scanner.long;
                    self.commit(long_lines)
                }
                Some(reply) => {
                    self.state = State::Command(Transaction::None);
                    self.refuse("DATA", &reply)
                }
            },
        }
    }

    pub(super) fn poll_chunk(&mut self) -> Progress {
        let State::Chunk { chunks, remaining, .. } = &mut self.state else { return Progress::Again };
        let (receiving, limits) = (&mut chunks.receiving, &self.settings.limits);
        // Known before it comes: too much in all.
        let too_large = receiving.octets.saturating_add(*remaining) > limits.message_octets_max;
        if let Some(reply) = receiving.fault.take().or_else(|| too_large.then_some(replies::MESSAGE_TOO_LARGE)) {
            let octets = *remaining;
            return self.swallow(octets, reply);
        }
        if *remaining == 0 {
            return self.chunk_end();
        }
        if self.input.is_empty() {
            return Progress::Wait;
        }
        let here = usize::try_from(*remaining).unwrap_or(usize::MAX).min(self.input.len());
        let step = receiving.step(&self.input[..here], limits.message_octets_max);
        let before = self.input.len();
        let taken = receiving.take(&mut self.input, step, limits.message_octets_max);
        *remaining -= (before - self.input.len()) as u64;
        match taken {
            Taken::Content(octets) => Progress::Do(Action::Content(octets)),
            Taken::Nothing | Taken::Spoiled | Taken::End => Progress::Again,
        }
    }

    /// All octets of a chunk have come and are good.
    fn chunk_end(&mut self) -> Progress {
        let State::Chunk { chunks, last, .. } = std::mem::replace(&mut self.state, State::Command(Transaction::None))
        else {
            return Progress::Again;
        };
        let scanner = &chunks.receiving.scanner;
        if !last {
            self.state = State::Command(Transaction::Chunks(chunks));
            self.write(&replies::CHUNK_OK);
            return Progress::Again;
        }
        // RFC 5321 §2.3.8: content is whole lines. Clients that build MIME for BDAT leave the last line end out; without
        // it the message could not have come by DATA, and SES would add it.
        let missing = match (scanner.at_line_start(), scanner.after_cr(), self.settings.line_endings) {
            (true, ..) => return self.commit(scanner.long),
            (_, true, LineEndings::Refuse) => return self.swallow(0, replies::BARE_LINE_END_IN_CONTENT),
            (..) => b"\r\n",
        };
        // The limit is for the message as it will be sent.
        if chunks.receiving.octets + missing.len() as u64 > self.settings.limits.message_octets_max {
            return self.swallow(0, replies::MESSAGE_TOO_LARGE);
        }
        let mut ended = Chunks::new(&self.settings, self.now);
        ended.receiving.scanner.long = scanner.long;
        self.state = State::Chunk { chunks: ended, remaining: 0, last: true };
        Progress::Do(Action::Content(Bytes::from_static(missing)))
    }

    fn commit(&mut self, long_lines: bool) -> Progress {
        self.state = State::Asked(Asked::Commit);
        Progress::Do(Action::Ask(Question::Commit { long_lines }))
    }

    /// Reads a chunk that is refused, so that it is not run as commands, and only then says why.
    ///
    /// Whatever transaction there was is over (RFC 3030 §2): were it not, the chunks behind this one could be put
    /// together to a message with a hole in it.
    pub(super) fn swallow(&mut self, octets: u64, reply: Reply) -> Progress {
        if octets > Chunks::swallow_octets_max(&self.settings) {
            self.write(&reply);
            self.state = State::Closing(Some(Box::new(Action::report("BDAT", reply))));
        } else {
            self.state = State::Swallow { remaining: octets, reply, pace: Pace::new(self.now) };
        }
        Progress::Do(Action::Abandon(Abandon::Refused))
    }

    pub(super) fn poll_swallow(&mut self) -> Progress {
        let State::Swallow { remaining, reply, pace } = &mut self.state else { return Progress::Again };
        let here = usize::try_from(*remaining).unwrap_or(usize::MAX).min(self.input.len());
        drop(self.input.split_to(here));
        *remaining -= here as u64;
        pace.octets += here as u64;
        if *remaining > 0 {
            return Progress::Wait;
        }
        let reply = reply.clone();
        self.state = State::Command(Transaction::None);
        self.refuse("BDAT", &reply)
    }
}
