//! One SMTP session: its states, its inputs and its outputs.
//!
//! The client chooses the order of commands, so the state is an enum whose variants own their data: an envelope exists only in the
//! states that have one. What each command does is in `commands`, what each octet of content does in `content_phase`.

use super::command::{self, BadCommand, Command};
use super::incoming::IncomingContent;
use super::line::{BadLine, Lines};
use super::state::{Deadline, PendingQuestion, Progress, State, Transaction};
use super::{Action, Answer, AuthMode, Settings, StrayDots, TlsMode};
use crate::mail::{ForwardPath, Reply, replies};
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// One connection, from the greeting to the close.
///
/// **Inputs** are the `handle_*` methods: octets, answers, the end of the TLS handshake, a deadline, a shutdown. Each takes the time;
/// it must not go backwards. **Outputs** are the `poll_*` methods. After each input:
///
/// 1. call [`poll`](Self::poll) and do what each [`Action`] says, until it returns `None`;
/// 2. send what [`poll_transmit`](Self::poll_transmit) has;
/// 3. wait for octets, or until [`poll_timeout`](Self::poll_timeout).
///
/// While a [`Question`](super::Question) is open, `poll` returns `None`, no deadline runs and octets queue up, at most 1 MiB of
/// them: answer it with [`handle_answer`](Self::handle_answer). An answer without a question is ignored.
///
/// ```
/// use gatepost::smtp::{Action, Answer, Session, Settings};
/// use std::{sync::Arc, time::Instant};
///
/// let now = Instant::now();
/// let mut session = Session::new(Arc::new(Settings::new("relay.example")), now);
/// session.handle_octets(b"EHLO client.example\r\nMAIL FROM:<ann@a.example>\r\n", now);
/// let mut questions = 0;
/// while let Some(action) = session.poll() {
///     if let Action::Ask(_question) = action {
///         questions += 1;
///         session.handle_answer(Answer::Proceed, now);
///     }
/// }
/// let sent = session.poll_transmit().unwrap_or_default();
/// assert!(sent.starts_with(b"220 relay.example") && sent.ends_with(b"250 2.1.0 Ok\r\n"));
/// assert_eq!(questions, 1);
/// ```
pub struct Session {
    pub(super) settings: Arc<Settings>,
    pub(super) state: State,
    pub(super) input: BytesMut,
    lines: Lines,
    /// More than `INPUT_OCTETS_MAX` arrived while a question was open, and were discarded: the session must close.
    input_overflowed: bool,
    output: BytesMut,
    pub(super) encrypted: bool,
    pub(super) greeted: bool,
    pub(super) authenticated: bool,
    /// A MAIL was accepted, a login succeeded, or the caller recognised the client.
    recognised: bool,
    draining: bool,
    pub(super) transactions: u32,
    commands: u32,
    last_verb: &'static str,
    errors: u32,
    pub(super) auth_failures: u32,
    started: Instant,
    /// When the current wait for a command or for octets began.
    pub(super) waiting_since: Instant,
    pub(super) now: Instant,
}

/// Octets that are buffered while a question is open. A caller that respects `wants_octets` does not reach the limit.
const INPUT_OCTETS_MAX: usize = 1024 * 1024;

/// Octets of replies that are buffered for `poll_transmit`. Above this, no further command is run: one HELP of six octets
/// causes a reply of a hundred, which a client that does not read would accumulate.
const OUTPUT_OCTETS_MAX: usize = 64 * 1024;

/// The start of a TLS handshake. RFC 8446 §5.1: content type, and the major version of every TLS.
const TLS_HANDSHAKE: &[u8] = &[22, 3];

/// RFC 5321 §4.5.3.1.3, with the verb. Longer lines are not prefetched.
const FORWARD_PATH_LINE_OCTETS_MAX: usize = 512;

impl Session {
    /// A session for a new connection; for implicit TLS, after the handshake. The greeting is ready in `poll_transmit`.
    pub fn new(settings: Arc<Settings>, now: Instant) -> Self {
        let mut session = Self {
            encrypted: settings.tls == TlsMode::Implicit,
            state: State::Command(Transaction::None),
            input: BytesMut::new(),
            lines: Lines::new(settings.line_endings),
            input_overflowed: false,
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

    /// Passes octets received from the client.
    pub fn handle_octets(&mut self, octets: &[u8], now: Instant) {
        self.input.extend_from_slice(octets);
        self.handle_input(now);
    }

    /// The buffer that `handle_octets` fills, for callers that read into it directly: append, then call `handle_input`.
    pub fn input_buffer(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Reports that octets were appended to `input_buffer`.
    pub fn handle_input(&mut self, now: Instant) {
        self.now = now;
        match &mut self.state {
            State::Data(_) | State::Chunk { .. } | State::DiscardChunk { .. } => self.waiting_since = now,
            // Discard plaintext received before the TLS handshake, and input after the final reply.
            State::Handshake | State::Closing(_) | State::Closed => self.input.clear(),
            // The answer is still sent to the client: the message may have been accepted.
            State::Pending(_) if self.input.len() > INPUT_OCTETS_MAX => {
                self.input.clear();
                self.input_overflowed = true;
            }
            _ => {}
        }
    }

    /// Passes the answer to the open question.
    pub fn handle_answer(&mut self, answer: Answer, now: Instant) {
        self.now = now;
        let pending = match std::mem::take(&mut self.state) {
            State::Pending(pending) => pending,
            other => {
                self.state = other;
                return;
            }
        };
        self.waiting_since = now;
        match (&pending, answer) {
            (PendingQuestion::Commit, Answer::Accepted(receipt)) => {
                self.errors = 0;
                self.write(&receipt.reply());
            }
            // The answer does not fit the question: refuse, so that no message is confirmed without a receipt.
            (PendingQuestion::Commit, Answer::Proceed) | (_, Answer::Accepted(_)) => {
                self.refused(pending, replies::LOCAL_ERROR)
            }
            (_, Answer::Proceed) => self.proceed(pending),
            (_, Answer::Refuse(reply)) if reply.is_temporary() || reply.is_permanent() => self.refused(pending, reply),
            // A refusal with a 2yz or 3yz code would look like acceptance.
            (_, Answer::Refuse(_)) => self.refused(pending, replies::LOCAL_ERROR),
        }
        if self.input_overflowed && !matches!(self.state, State::Closing(_)) {
            self.close_with(&replies::TOO_FAR_AHEAD);
        }
    }

    fn proceed(&mut self, pending: PendingQuestion) {
        match pending {
            PendingQuestion::Credentials => {
                self.authenticated = true;
                self.recognised = true;
                self.write(&replies::AUTHENTICATED);
            }
            PendingQuestion::ReversePath(path, parameters) => {
                self.recognised = true;
                self.write(&replies::REVERSE_PATH_OK);
                self.state = State::Command(Transaction::Mail(path, parameters));
            }
            PendingQuestion::ForwardPath(transaction, path) => {
                self.write(&replies::FORWARD_PATH_OK);
                self.state = State::Command(transaction.with(path));
            }
            PendingQuestion::Data => {
                self.write(&replies::SEND_CONTENT);
                self.state = State::Data(IncomingContent::after_data(&self.settings, self.now));
            }
            PendingQuestion::FirstChunk { octets, last } => {
                let content = IncomingContent::in_chunks(&self.settings, self.now);
                self.state = State::Chunk { content, remaining: octets, last };
            }
            PendingQuestion::Commit => {}
        }
    }

    fn refused(&mut self, pending: PendingQuestion, reply: Reply) {
        match pending {
            PendingQuestion::Credentials => self.auth_failed(&reply),
            PendingQuestion::ForwardPath(transaction, _) => {
                self.state = State::Command(transaction);
                // Not counted as an error: denied recipients of a mailing list are not abuse, and a client whose
                // session is closed would retry the message again and again.
                self.write(&reply);
            }
            // The client sends the chunk without waiting for the reply.
            PendingQuestion::FirstChunk { octets, .. } => drop(self.discard_chunk(octets, reply)),
            PendingQuestion::ReversePath(..) | PendingQuestion::Data | PendingQuestion::Commit => {
                self.count_error(&reply)
            }
        }
    }

    /// Reports that the TLS handshake is complete. Plaintext received after STARTTLS and the word of EHLO are
    /// discarded. Ignored without a preceding [`Action::StartTls`].
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

    /// Reports that the deadline of `poll_timeout` has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if let Some(Deadline { reply, .. }) = self.deadline().filter(|deadline| now >= deadline.at) {
            self.close_with(&reply);
        }
    }

    /// Reports that the service is shutting down: 421 is sent as soon as no message is in progress.
    pub fn handle_drain(&mut self, now: Instant) {
        self.now = now;
        self.draining = true;
    }

    /// Reports that the caller recognised the client as one that may send, although its MAIL may still be deferred.
    pub fn handle_recognised(&mut self) {
        self.recognised = true;
    }

    /// Closes the connection because another client needs the capacity. Ignored if the client is recognised.
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
        matches!(self.state, State::Data(_) | State::Chunk { .. } | State::DiscardChunk { .. })
    }

    /// The forward-paths of RCPT commands in the input buffer after the current command, up to the first line that is
    /// not a valid RCPT. The lines stay in the buffer.
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

    /// The last command's verb; empty before the first command, `?` if unknown.
    pub fn last_verb(&self) -> &'static str {
        self.last_verb
    }

    /// Whether AUTH succeeded. True also where every name and password is accepted.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether the session closed because of QUIT. After any other close the client may still be sending.
    pub fn has_quit(&self) -> bool {
        self.last_verb == "QUIT"
    }

    /// Returns replies that are ready to be sent.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| self.output.split().freeze())
    }

    /// When to call `handle_timeout`, if no octets arrive before. `None` while a question is open: the caller that
    /// answers it has a deadline of its own.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline().map(|deadline| deadline.at)
    }

    fn deadline(&self) -> Option<Deadline> {
        let limits = &self.settings.limits;
        let rate = match &self.state {
            State::Command(Transaction::None | Transaction::Mail(..) | Transaction::Rcpt(_)) | State::Sasl(_) => {
                let idle = self.waiting_since + limits.command_wait_max;
                let unrecognised = (!self.recognised).then_some(self.started + limits.unrecognised_max);
                let idle = unrecognised.map_or(idle, |at| at.min(idle));
                let whole = self.started + limits.session_max;
                return Some(match idle < whole {
                    true => Deadline { at: idle, reply: replies::IDLE_TOO_LONG },
                    false => Deadline { at: whole, reply: replies::SESSION_TOO_LONG },
                });
            }
            // Between chunks too: small chunks at long intervals are slow content.
            State::Command(Transaction::Chunks(content)) | State::Chunk { content, .. } | State::Data(content) => {
                &content.rate
            }
            State::DiscardChunk { rate, .. } => rate,
            State::Pending(_) | State::ContentEnd { .. } | State::Handshake | State::Closing(_) | State::Closed => {
                return None;
            }
        };
        let at = (self.waiting_since + limits.content_wait_max).min(rate.deadline(limits));
        Some(Deadline { at, reply: replies::CONTENT_TOO_SLOW })
    }

    /// Whether octets from the client are processed now. If not, leave them in the socket, so that TCP flow control
    /// bounds them.
    pub fn wants_octets(&self) -> bool {
        !matches!(self.state, State::Pending(_) | State::Handshake | State::Closing(_) | State::Closed)
            && self.output.len() < OUTPUT_OCTETS_MAX
    }

    /// What to do next. `None`: wait for octets or for the deadline.
    pub fn poll(&mut self) -> Option<Action> {
        loop {
            if matches!(self.state, State::Command(_) | State::Sasl(_)) {
                if self.must_close() {
                    let reply = if self.draining { replies::SHUTTING_DOWN } else { replies::SESSION_TOO_LONG };
                    self.close_with(&reply);
                } else if self.output.len() >= OUTPUT_OCTETS_MAX {
                    return Some(Action::Transmit);
                }
            }
            let progress = match std::mem::take(&mut self.state) {
                state @ (State::Pending(_) | State::Handshake | State::Closed) => {
                    self.state = state;
                    return None;
                }
                State::Closing(Some(report)) => {
                    self.state = State::Closing(None);
                    return Some(*report);
                }
                State::Closing(None) => {
                    self.state = State::Closed;
                    return Some(Action::Close);
                }
                State::Command(transaction) => self.poll_command(transaction),
                State::Sasl(exchange) => self.poll_sasl(exchange),
                State::Data(content) => self.poll_data(content),
                State::Chunk { content, remaining, last } => self.poll_chunk(content, remaining, last),
                State::ContentEnd { long_lines } => self.commit(long_lines),
                State::DiscardChunk { remaining, reply, rate } => self.poll_discard_chunk(remaining, reply, rate),
            };
            match progress {
                Progress::Do(action) => return Some(action),
                Progress::Again => {}
                Progress::Wait => return None,
            }
        }
    }

    /// Whether the session must close now: between commands, with no message in progress.
    fn must_close(&self) -> bool {
        let message_under_way = matches!(self.state, State::Command(Transaction::Chunks(_)));
        !message_under_way && (self.draining || self.now >= self.started + self.settings.limits.session_max)
    }

    fn poll_command(&mut self, transaction: Transaction) -> Progress {
        // A TLS handshake contains no line ends: as commands it would wait for one, or be many invalid commands.
        if self.commands == 0 && !self.encrypted && self.input.starts_with(TLS_HANDSHAKE) {
            self.input.clear();
            self.close_reported(&replies::NOT_TLS);
            return Progress::Do(Action::report("?", replies::NOT_TLS));
        }
        let limit = self.settings.limits.command_line_octets_max;
        let (line, fault) = match self.take_line(limit, &replies::LINE_TOO_LONG) {
            None => {
                self.state = State::Command(transaction);
                return Progress::Wait;
            }
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
            Some(reply) => Err(BadCommand::verb_only(verb, reply)),
        };
        match parsed {
            Ok(command) => self.run(transaction, verb, command),
            Err(bad) => match bad.chunk_octets {
                Some(octets) => self.discard_chunk(octets, bad.reply),
                None => self.refuse_line(transaction, verb, &bad.reply, command::argument(&line)),
            },
        }
    }

    /// The next line without its line end, or an invalid line with its reply.
    pub(super) fn take_line(&mut self, octets_max: usize, too_long: &Reply) -> Option<Result<Bytes, BadLine>> {
        self.lines.take(&mut self.input, octets_max, too_long)
    }

    /// Refuses a command: sends the reply, counts the error and reports it. The transaction does not change.
    pub(super) fn refuse(&mut self, transaction: Transaction, verb: &'static str, reply: &Reply) -> Progress {
        self.refuse_line(transaction, verb, reply, String::new())
    }

    /// Refuses a line that cannot be parsed, with its argument for the log.
    fn refuse_line(
        &mut self,
        transaction: Transaction,
        verb: &'static str,
        reply: &Reply,
        argument: String,
    ) -> Progress {
        self.state = State::Command(transaction);
        self.waiting_since = self.now;
        self.count_error(reply);
        Progress::Do(Action::Report { verb, argument, reply: reply.clone() })
    }

    /// Sends a refusal and counts it. Too many end the session.
    pub(super) fn count_error(&mut self, reply: &Reply) {
        if reply.code() == SERVICE_CLOSING {
            return self.close_reported(reply);
        }
        self.write(reply);
        // A deferral is not an error of the client: a client that empties its queue while SES throttles receives many.
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
        if reply.code() == SERVICE_CLOSING {
            return self.close_reported(reply);
        }
        self.write(reply);
        if self.auth_failures >= self.settings.limits.auth_failures_max {
            self.close_with(&replies::TOO_MANY_ERRORS);
        }
    }

    /// Whether AUTH is currently available.
    pub(super) fn offers_auth(&self) -> bool {
        self.settings.auth != AuthMode::Off && (self.encrypted || self.settings.auth_in_clear && !self.tls_missing())
    }

    /// Whether STARTTLS is currently available.
    pub(super) fn offers_starttls(&self) -> bool {
        self.settings.tls == TlsMode::StartTls && !self.encrypted
    }

    /// Whether TLS must be started first.
    pub(super) fn tls_missing(&self) -> bool {
        self.settings.require_tls && !self.encrypted
    }

    /// Closes the session with a reply and an action for the log.
    fn close_with(&mut self, reply: &Reply) {
        self.write(reply);
        let closing = Action::Closing { after: self.last_verb, reply: reply.clone() };
        self.state = State::Closing(Some(Box::new(closing)));
    }

    /// Closes the session with a reply; the reason is logged elsewhere.
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

/// RFC 5321 §4.2.1: 421 announces that the connection closes. The session therefore closes for every 421, including one
/// from policy or an embedder.
const SERVICE_CLOSING: u16 = 421;

/// Omits the input: a line of an AUTH exchange contains a password.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
