//! One SMTP session: the states, what goes in, what comes out.
//!
//! The peer chooses the order of commands, so the state is an enum whose variants own their data: an envelope exists
//! only in the states that have one. What each command does is in `verbs`, what each octet of content does in
//! `receiving`.

use super::command::{self, BadCommand, Command};
use super::line::{BadLine, Lines};
use super::receiving::{Chunks, Pace, Receiving};
use super::sasl::Exchange;
use super::{Action, Answer, AuthMode, Settings, StrayDots, TlsMode};
use crate::mail::{Envelope, ForwardPath, MailParameters, Receipt, Reply, ReversePath, replies};
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// One connection, from the greeting to the close.
pub struct Session {
    pub(super) settings: Arc<Settings>,
    pub(super) state: State,
    pub(super) input: BytesMut,
    lines: Lines,
    /// More came while a question was open than we keep, and some of it is gone: this session cannot go on.
    flooded: bool,
    output: BytesMut,
    pub(super) encrypted: bool,
    pub(super) greeted: bool,
    pub(super) authenticated: bool,
    /// A MAIL was accepted, a login succeeded, or the caller knows the client.
    recognised: bool,
    draining: bool,
    pub(super) transactions: u32,
    commands: u32,
    last_verb: &'static str,
    errors: u32,
    pub(super) auth_failures: u32,
    started: Instant,
    /// When the wait that is going on began: for a command, for the next octets.
    pub(super) waiting_since: Instant,
    pub(super) now: Instant,
}

#[derive(Debug)]
pub(super) enum State {
    /// The next line is a command.
    Command(Transaction),
    /// The next line belongs to an AUTH exchange.
    Sasl(Exchange),
    /// A question is open; octets queue up.
    Asked(Asked),
    /// The next octets are content after DATA.
    Data(Receiving),
    /// The next octets are content of a BDAT chunk.
    Chunk { chunks: Chunks, remaining: u64, last: bool },
    /// The next octets are a chunk of a refused BDAT: swallowed, then answered.
    Swallow { remaining: u64, reply: Reply, pace: Pace },
    /// The TLS handshake is going on.
    Handshake,
    /// The last reply is on its way; for the log, what comes before `Close`.
    Closing(Option<Box<Action>>),
    /// Over.
    Closed,
}

/// How far a mail transaction is.
#[derive(Debug)]
pub(super) enum Transaction {
    None,
    /// MAIL was accepted, no RCPT was yet.
    Mail(ReversePath, MailParameters),
    /// At least one RCPT was accepted.
    Rcpt(Envelope),
    /// At least one BDAT was accepted.
    Chunks(Chunks),
}

/// Which question is open, and what the answer is for.
#[derive(Debug)]
pub(super) enum Asked {
    Credentials,
    ReversePath(ReversePath, MailParameters),
    ForwardPath(Transaction, ForwardPath),
    Data,
    FirstChunk { octets: u64, last: bool },
    Commit,
}

/// Octets that may queue up while a question is open. A caller that minds `wants_octets` never comes near.
const INPUT_OCTETS_MAX: usize = 1024 * 1024;

/// Octets of replies that may wait for `poll_transmit`; at more, no further command is looked at. One HELP of six octets
/// makes a hundred, and there is no need to answer somebody who does not read.
const OUTPUT_OCTETS_MAX: usize = 64 * 1024;

/// How a TLS handshake begins. RFC 8446 §5.1: content type, and the major version of every TLS.
const TLS_HANDSHAKE: &[u8] = &[22, 3];

/// RFC 5321 §4.5.3.1.3, with the verb: longer ones are looked at when they come.
const FORWARD_PATH_LINE_OCTETS_MAX: usize = 512;

impl Session {
    /// A new connection; for implicit TLS, after the handshake. The greeting is ready in `poll_transmit`.
    pub fn new(settings: Arc<Settings>, now: Instant) -> Self {
        let mut session = Self {
            encrypted: settings.tls == TlsMode::Implicit,
            state: State::Command(Transaction::None),
            input: BytesMut::new(),
            lines: Lines::new(settings.line_endings),
            flooded: false,
            output: BytesMut::new(),
            greeted: false,
            authenticated: false,
            recognised: false,
            draining: false,
            transactions: 0,
            commands: 0,
            last_verb: "",
            errors: 0,
            auth_failures: 0,
            started: now,
            waiting_since: now,
            now,
            settings,
        };
        let greeting = format!("220 {} ESMTP gatepost", session.settings.hostname);
        session.write_text(&greeting);
        session
    }

    /// Octets from the peer.
    pub fn handle_octets(&mut self, octets: &[u8], now: Instant) {
        self.input.extend_from_slice(octets);
        self.handle_input(now);
    }

    /// The buffer that `handle_octets` fills, for callers that read straight into it: append, then `handle_input`.
    pub fn input_buffer(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Octets were appended to `input_buffer`.
    pub fn handle_input(&mut self, now: Instant) {
        self.now = now;
        match &mut self.state {
            State::Data(_) | State::Chunk { .. } | State::Swallow { .. } => self.waiting_since = now,
            // Plaintext that came before the handshake, and what comes after the last word, is nobody's.
            State::Handshake | State::Closing(_) | State::Closed => self.input.clear(),
            // The question is still answered: whoever was asked may have taken the message.
            State::Asked(_) if self.input.len() > INPUT_OCTETS_MAX => {
                self.input.clear();
                self.flooded = true;
            }
            _ => {}
        }
    }

    /// The answer to the question that is open. Without one, it is passed over.
    pub fn handle_answer(&mut self, answer: Answer, now: Instant) {
        self.now = now;
        let state = std::mem::replace(&mut self.state, State::Command(Transaction::None));
        let State::Asked(asked) = state else {
            self.state = state;
            return;
        };
        self.waiting_since = now;
        match (&asked, answer) {
            (Asked::Commit, Answer::Accepted(Receipt::Provider(id))) => {
                self.errors = 0;
                self.write(&replies::ACCEPTED.with_text(&format!("Ok {id}")));
            }
            // An answer that does not belong to the question: promise nothing.
            (Asked::Commit, Answer::Proceed) | (_, Answer::Accepted(_)) => self.refused(asked, replies::LOCAL_ERROR),
            (_, Answer::Proceed) => self.proceed(asked),
            (_, Answer::Refuse(reply)) if reply.is_temporary() || reply.is_permanent() => self.refused(asked, reply),
            // "No" in words that the client would take for "yes".
            (_, Answer::Refuse(_)) => self.refused(asked, replies::LOCAL_ERROR),
        }
        if self.flooded && !matches!(self.state, State::Closing(_)) {
            self.close_with(&replies::TOO_FAR_AHEAD);
        }
    }

    fn proceed(&mut self, asked: Asked) {
        match asked {
            Asked::Credentials => {
                self.authenticated = true;
                self.recognised = true;
                self.write(&replies::AUTHENTICATED);
            }
            Asked::ReversePath(path, parameters) => {
                self.recognised = true;
                self.write(&replies::REVERSE_PATH_OK);
                self.state = State::Command(Transaction::Mail(path, parameters));
            }
            Asked::ForwardPath(transaction, path) => {
                self.write(&replies::FORWARD_PATH_OK);
                self.state = State::Command(transaction.with(path));
            }
            Asked::Data => {
                self.write(&replies::SEND_CONTENT);
                self.state = State::Data(Receiving::data(&self.settings, self.now));
            }
            Asked::FirstChunk { octets, last } => {
                let chunks = Chunks::new(&self.settings, self.now);
                self.state = State::Chunk { chunks, remaining: octets, last };
            }
            Asked::Commit => {}
        }
    }

    fn refused(&mut self, asked: Asked, reply: Reply) {
        match asked {
            Asked::Credentials => self.auth_failed(&reply),
            Asked::ForwardPath(transaction, _) => {
                self.state = State::Command(transaction);
                // A list in which policy denies many is no misbehaviour; cut off, it would be tried again for ever.
                self.write(&reply);
            }
            // Its octets come all the same.
            Asked::FirstChunk { octets, .. } => drop(self.swallow(octets, reply)),
            Asked::ReversePath(..) | Asked::Data | Asked::Commit => self.count_error(&reply),
        }
    }

    /// The handshake is done. What came in plain text behind STARTTLS is gone, and so is everything the client said.
    /// Without [`Action::StartTls`] before, it is passed over.
    pub fn handle_tls_established(&mut self, now: Instant) {
        self.now = now;
        if !matches!(self.state, State::Handshake) {
            return;
        }
        self.waiting_since = now;
        self.input.clear();
        self.lines = Lines::new(self.settings.line_endings);
        self.encrypted = true;
        self.greeted = false;
        self.state = State::Command(Transaction::None);
    }

    /// A deadline of `poll_timeout` has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        let reply = match self.state {
            State::Data(_) | State::Chunk { .. } | State::Swallow { .. } | State::Command(Transaction::Chunks(_)) => {
                replies::CONTENT_TOO_SLOW
            }
            _ if now >= self.started + self.settings.limits.session_max => replies::SESSION_TOO_LONG,
            _ => replies::IDLE_TOO_LONG,
        };
        self.close_with(&reply);
    }

    /// The service is shutting down: 421 as soon as no message is under way.
    pub fn handle_drain(&mut self, now: Instant) {
        self.now = now;
        self.draining = true;
    }

    /// The client is one that may send, although its MAIL may still be deferred.
    pub fn handle_recognised(&mut self) {
        self.recognised = true;
    }

    /// The place is needed for another client. A client that is recognised keeps it.
    pub fn handle_shed(&mut self, now: Instant) {
        self.now = now;
        if !self.recognised && matches!(self.state, State::Command(_) | State::Sasl(_)) {
            self.close_with(&replies::TOO_MANY_CONNECTIONS);
        }
    }

    /// Whether `handle_drain` was called.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether the next octets are content: a hint for the size of a read.
    pub fn receives_content(&self) -> bool {
        matches!(self.state, State::Data(_) | State::Chunk { .. } | State::Swallow { .. })
    }

    /// Forward-paths of the RCPT commands that have come already and follow the one that is asked about: as far as they
    /// can be read, and no further than the next other command. They are not taken; their turn comes.
    pub fn forward_paths_ahead(&self) -> Vec<ForwardPath> {
        let mut paths = Vec::new();
        let mut rest = &self.input[..];
        while let (Some(end), true) = (memchr::memchr(b'\n', rest), paths.len() < self.settings.limits.recipients_max) {
            let line = rest[..end].strip_suffix(b"\r").filter(|line| line.len() < FORWARD_PATH_LINE_OCTETS_MAX);
            match line.map(|line| command::parse(&Bytes::copy_from_slice(line))) {
                Some(Ok(Command::Rcpt(path))) => paths.push(path),
                _ => break,
            }
            rest = &rest[end + 1..];
        }
        paths
    }

    /// The last command's verb; empty before the first, `?` if unknown.
    pub fn last_verb(&self) -> &'static str {
        self.last_verb
    }

    /// Whether AUTH succeeded, also where every name and password is accepted.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether the session closed because the client said QUIT. Any other close may come while the client still sends.
    pub fn has_quit(&self) -> bool {
        self.last_verb == "QUIT"
    }

    /// Replies that are ready to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| self.output.split().freeze())
    }

    /// When to call `handle_timeout`, if nothing comes before. `None` while a question is open: whoever answers it has
    /// a deadline of its own.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let limits = &self.settings.limits;
        let pace = match &self.state {
            State::Command(Transaction::None | Transaction::Mail(..) | Transaction::Rcpt(_)) | State::Sasl(_) => {
                let whole = match self.recognised {
                    true => limits.session_max,
                    false => limits.session_max.min(limits.unrecognised_max),
                };
                return Some((self.waiting_since + limits.command_wait_max).min(self.started + whole));
            }
            // Between chunks, too: small chunks at long intervals are slow content.
            State::Command(Transaction::Chunks(chunks)) | State::Chunk { chunks, .. } => &chunks.receiving.pace,
            State::Data(receiving) => &receiving.pace,
            State::Swallow { pace, .. } => pace,
            State::Asked(_) | State::Handshake | State::Closing(_) | State::Closed => return None,
        };
        Some((self.waiting_since + limits.content_wait_max).min(pace.deadline(limits)))
    }

    /// Whether octets from the peer would be looked at now. While not, leave them in the socket: that bounds them.
    pub fn wants_octets(&self) -> bool {
        !matches!(self.state, State::Asked(_) | State::Handshake | State::Closing(_) | State::Closed)
            && self.output.len() < OUTPUT_OCTETS_MAX
    }

    /// What to do next; `None`: wait for octets or for the deadline.
    pub fn poll(&mut self) -> Option<Action> {
        loop {
            let must_close = self.must_close();
            let step = match &mut self.state {
                State::Asked(_) | State::Handshake | State::Closed => return None,
                State::Closing(report) => {
                    let report = report.take();
                    if report.is_none() {
                        self.state = State::Closed;
                    }
                    return Some(report.map_or(Action::Close, |report| *report));
                }
                State::Command(_) | State::Sasl(_) if must_close => {
                    let reply = if self.draining { replies::SHUTTING_DOWN } else { replies::SESSION_TOO_LONG };
                    self.close_with(&reply);
                    continue;
                }
                State::Command(_) | State::Sasl(_) if self.output.len() >= OUTPUT_OCTETS_MAX => {
                    return Some(Action::Transmit);
                }
                State::Command(_) => self.poll_command(),
                State::Sasl(_) => self.poll_sasl(),
                State::Data(_) => self.poll_data(),
                State::Chunk { .. } => self.poll_chunk(),
                State::Swallow { .. } => self.poll_swallow(),
            };
            match step {
                Progress::Do(action) => return Some(action),
                Progress::Again => {}
                Progress::Wait => return None,
            }
        }
    }

    /// Between commands, with no message under way, is where a session ends that must.
    fn must_close(&self) -> bool {
        let message_under_way = matches!(self.state, State::Command(Transaction::Chunks(_)));
        !message_under_way && (self.draining || self.now >= self.started + self.settings.limits.session_max)
    }

    fn poll_command(&mut self) -> Progress {
        // A handshake has no line end where one would be looked for: it would wait for one, or be many bad commands.
        if self.commands == 0 && !self.encrypted && self.input.starts_with(TLS_HANDSHAKE) {
            self.input.clear();
            self.close_reported(&replies::NOT_TLS);
            return Progress::Do(Action::report("?", replies::NOT_TLS));
        }
        let limit = self.settings.limits.command_line_octets_max;
        let (line, fault) = match self.take_line(limit, &replies::LINE_TOO_LONG) {
            None => return Progress::Wait,
            Some(Ok(line)) => (line, None),
            Some(Err(bad)) => (bad.start, Some(bad.reply)),
        };
        self.waiting_since = self.now;
        self.commands += 1;
        if self.commands > self.settings.limits.commands_max {
            self.close_with(&replies::TOO_MANY_COMMANDS);
            return Progress::Again;
        }
        if command::is_http(&line) {
            self.close_reported(&replies::NOT_HTTP);
            return Progress::Do(Action::report("?", replies::NOT_HTTP));
        }
        let verb = command::verb(&line);
        self.last_verb = verb;
        let parsed = match fault {
            None => match (command::parse(&line), self.settings.stray_dots) {
                (Err(bad), StrayDots::Quote) => command::parse_with_stray_dots(&line).ok_or(bad),
                (parsed, _) => parsed,
            },
            Some(reply) => Err(BadCommand::unread(verb, reply)),
        };
        match parsed {
            Ok(command) => self.run(verb, command),
            Err(bad) => match bad.chunk_octets {
                Some(octets) => self.swallow(octets, bad.reply),
                None => self.refuse_line(verb, &bad.reply, command::argument(&line)),
            },
        }
    }

    /// The next line without its line end, or the reply that it earns.
    pub(super) fn take_line(&mut self, octets_max: usize, too_long: &Reply) -> Option<Result<Bytes, BadLine>> {
        self.lines.take(&mut self.input, octets_max, too_long)
    }

    /// Refuses a command in here: reply, count, report.
    pub(super) fn refuse(&mut self, verb: &'static str, reply: &Reply) -> Progress {
        self.refuse_line(verb, reply, String::new())
    }

    /// The same for a line that cannot be read, with its argument for the log.
    fn refuse_line(&mut self, verb: &'static str, reply: &Reply, argument: String) -> Progress {
        self.waiting_since = self.now;
        self.count_error(reply);
        Progress::Do(Action::Report { verb, argument, reply: reply.clone() })
    }

    /// Replies with a refusal and counts it; too many and the session ends.
    pub(super) fn count_error(&mut self, reply: &Reply) {
        if reply.code() == CLOSING {
            return self.close_reported(reply);
        }
        self.write(reply);
        // A deferral is not the client's error: who drains a queue while the provider throttles hears many.
        if reply.is_temporary() {
            return;
        }
        self.errors += 1;
        if self.errors >= self.settings.limits.errors_max {
            self.close_with(&replies::TOO_MANY_ERRORS);
        }
    }

    pub(super) fn auth_failed(&mut self, reply: &Reply) {
        self.auth_failures += 1;
        self.state = State::Command(Transaction::None);
        if reply.code() == CLOSING {
            return self.close_reported(reply);
        }
        self.write(reply);
        if self.auth_failures >= self.settings.limits.auth_failures_max {
            self.close_with(&replies::TOO_MANY_ERRORS);
        }
    }

    /// Whether AUTH can be used now.
    pub(super) fn offers_auth(&self) -> bool {
        self.settings.auth != AuthMode::Off && (self.encrypted || self.settings.auth_in_clear && !self.tls_missing())
    }

    /// Whether STARTTLS can be used now.
    pub(super) fn offers_starttls(&self) -> bool {
        self.settings.tls == TlsMode::StartTls && !self.encrypted
    }

    /// Whether TLS must come first.
    pub(super) fn tls_missing(&self) -> bool {
        self.settings.require_tls && !self.encrypted
    }

    /// Closes; the caller of the session has not seen why yet.
    fn close_with(&mut self, reply: &Reply) {
        self.write(reply);
        let closing = Action::Closing { after: self.last_verb, reply: reply.clone() };
        self.state = State::Closing(Some(Box::new(closing)));
    }

    /// Closes, for a reason that is reported otherwise.
    pub(super) fn close_reported(&mut self, reply: &Reply) {
        self.write(reply);
        self.state = State::Closing(None);
    }

    pub(super) fn write(&mut self, reply: &Reply) {
        reply.write_line(&mut self.output);
    }

    pub(super) fn write_text(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }
}

/// RFC 5321 §4.2.1: whoever hears 421 knows that the connection closes, so it does, whoever said it.
const CLOSING: u16 = 421;

/// What came in is not shown: a line of an AUTH exchange is a password.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What a step of `poll` came to.
pub(super) enum Progress {
    /// The caller must do this.
    Do(Action),
    /// Look at the state again.
    Again,
    /// Nothing to do until octets come.
    Wait,
}

impl Transaction {
    /// With one more recipient.
    pub(super) fn with(self, path: ForwardPath) -> Self {
        match self {
            Self::Mail(reverse_path, parameters) => Self::Rcpt(Envelope::new(reverse_path, parameters, path)),
            Self::Rcpt(mut envelope) => {
                envelope.add(path);
                Self::Rcpt(envelope)
            }
            other => other,
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
