//! The SMTP server protocol as a state machine without I/O.
//!
//! [`Session`] is one connection: octets go in with `handle_octets`, replies come out of `poll_transmit`, and `poll` says
//! what the caller must do. No socket, no clock, no task, no policy inside. Bad syntax, bad order and bounds are answered
//! in here; everything else is one [`Question`], one [`Answer`], one reply.
//!
//! Promise: no octet of content is ever run as a command, whatever is wrong with the content; replies come in the order
//! of the commands (RFC 2920); a message that was cut off is never committed; plaintext that was received before a TLS
//! handshake is thrown away (RFC 3207 §4.2).
//! RFC 5321; 1870 SIZE, 2034, 2920 PIPELINING, 3030 CHUNKING, 3207 STARTTLS, 4954 AUTH, 6152 8BITMIME, 9422 LIMITS.
//! Not offered, because SES cannot honour them: SMTPUTF8, BINARYMIME, DSN.

pub mod command;
mod commands;
pub mod content;
mod content_phase;
mod incoming;
mod line;
mod sasl;
mod session;
mod state;

pub use content::{LineEndings, LongLines};
pub use session::Session;

use crate::mail::{Credentials, Envelope, ForwardPath, MailParameters, Receipt, Reply, ReversePath};
use bytes::Bytes;
use std::time::Duration;

/// What the caller must do next.
#[derive(Debug)]
#[must_use = "an action that is not done stalls the connection"]
pub enum Action {
    /// Answer with [`Session::handle_answer`]. No other action comes before that.
    Ask(Question),
    /// The next octets of the message.
    Content(Bytes),
    /// The transaction is over without a message: forget what was received of it.
    Abandon(Abandon),
    /// The client named itself. Like `Abandon`, and its word replaces the one before.
    Hello {
        /// What it said: anything at all.
        word: String,
        /// EHLO, not HELO.
        esmtp: bool,
    },
    /// A command, or a message, was refused in here. For the log.
    Report {
        /// The verb, `?` if unknown.
        verb: &'static str,
        /// What stood behind the verb, if that is why it was refused: see [`command::argument`].
        argument: String,
        /// What was replied.
        reply: Reply,
    },
    /// The session closes by itself, with this reply: a time or a number is over its limit, or the service stops. For the
    /// log; `Close` follows.
    Closing {
        /// The last command's verb; empty before the first command.
        after: &'static str,
        /// What was replied.
        reply: Reply,
    },
    /// Much is ready: send what `poll_transmit` has before going on, so that a peer that sends and does not read costs no
    /// more than its socket.
    Transmit,
    /// Like `Abandon`, and what `Hello` said is gone too. Send what `poll_transmit` has, do the handshake, then call
    /// [`Session::handle_tls_established`].
    StartTls,
    /// Send what `poll_transmit` has and close.
    Close,
}

impl Action {
    /// A refusal whose argument is not the reason.
    fn report(verb: &'static str, reply: Reply) -> Self {
        Self::Report { verb, argument: String::new(), reply }
    }
}

/// Why a session abandons a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandon {
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
    /// Content, or a BDAT command, is refused; a `Report` with the reply follows when the rest of the content has been read.
    Refused,
}

/// A decision that the protocol leaves to the caller: authentication, policy, limits, capacity.
#[derive(Debug)]
#[must_use = "an unanswered question stalls the connection"]
pub enum Question {
    /// AUTH: are these credentials good?
    Authenticate(Credentials),
    /// MAIL.
    ReversePath(ReversePath, MailParameters),
    /// RCPT.
    ForwardPath(ForwardPath),
    /// DATA or the first BDAT, before 354: is there room? The envelope is complete.
    Data {
        /// Reverse-path and forward-paths.
        envelope: Envelope,
        /// What the listener does with an mbox line.
        mbox_line: MboxLine,
    },
    /// The end of data: take responsibility for what came as `Content`, or refuse it.
    Commit {
        /// It has lines over the limit, which the listener takes to have them made shorter.
        long_lines: bool,
    },
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Answer {
    /// Go on. Not an answer to `Commit`.
    Proceed,
    /// To `Commit` only: the message is in other hands.
    Accepted(Receipt),
    /// No, and this is what the client hears.
    Refuse(Reply),
}

/// Whether and how a listener speaks TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    #[default]
    None,
    /// On request (RFC 3207).
    StartTls,
    /// From the first octet (RFC 8314 §3.3).
    Implicit,
}

/// Whether and how a listener asks for AUTH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Not offered.
    #[default]
    Off,
    /// Offered.
    Optional,
    /// Needed before MAIL.
    Required,
    /// Offered, and every name and password is accepted; it is never an identity. For applications that insist.
    Any,
}

/// What to do with `foo..bar@docomo.example` in RCPT: no dot-string of RFC 5321, and a mailbox that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrayDots {
    /// Refuse the recipient.
    #[default]
    Refuse,
    /// Send it on as the quoted string that it should have been.
    Quote,
}

/// What to do with a line `From ann Thu Jan  1 00:00:00 2026` in front of the header section: mail out of an mbox file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MboxLine {
    /// Refuse the message: the line is no header field.
    #[default]
    Refuse,
    /// Drop the line.
    Drop,
}

/// What one listener offers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the greeting and EHLO call us.
    pub hostname: String,
    /// TLS.
    pub tls: TlsMode,
    /// Nothing but EHLO, NOOP, STARTTLS and QUIT before TLS; any other command receives 530 (RFC 3207 §4).
    pub require_tls: bool,
    /// AUTH.
    pub auth: AuthMode,
    /// AUTH on an unencrypted connection.
    pub auth_in_clear: bool,
    /// What to do with a lone CR or LF.
    pub line_endings: LineEndings,
    /// What to do with a line of content over the limit.
    pub long_lines: LongLines,
    /// What to do with a recipient's local part that has dots where none may be.
    pub stray_dots: StrayDots,
    /// What to do with an mbox line in front of a message.
    pub mbox_line: MboxLine,
    /// Bounds.
    pub limits: Limits,
}

impl Settings {
    /// The safe defaults: no TLS, no AUTH, bare line ends refused.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            tls: TlsMode::None,
            require_tls: false,
            auth: AuthMode::Off,
            auth_in_clear: false,
            line_endings: LineEndings::Refuse,
            long_lines: LongLines::Refuse,
            stray_dots: StrayDots::Refuse,
            mbox_line: MboxLine::Refuse,
            limits: Limits::default(),
        }
    }
}

/// The bounds of one session.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Octets of a command line with its CR LF. RFC 5321 §4.5.3.1.4 wants at least 512.
    pub command_line_octets_max: usize,
    /// Octets of a line of an AUTH exchange. RFC 4954 §4 wants at least 12,288.
    pub auth_line_octets_max: usize,
    /// Octets of a line of content without its CR LF. RFC 5321 §4.5.3.1.6; SES refuses longer ones.
    pub content_line_octets_max: usize,
    /// Octets of a message as the client sends it: advertised with SIZE and enforced.
    pub message_octets_max: u64,
    /// Recipients of a message. SES takes 50 in one call.
    pub recipients_max: usize,
    /// Mail transactions in a session, advertised as LIMITS MAILMAX.
    pub transactions_max: u32,
    /// Commands in a session.
    pub commands_max: u32,
    /// Rejected commands and messages in a row, without an accepted message between them. Deferrals (4yz) do not count:
    /// they are no error of the client's.
    pub errors_max: u32,
    /// Failed AUTH exchanges in a session. Clients try PLAIN, then LOGIN: two for one wrong password.
    pub auth_failures_max: u32,
    /// From the start of a session until the client is recognised: a MAIL is accepted or a login succeeds.
    pub unrecognised_max: Duration,
    /// Wait for the next command. RFC 5321 §4.5.3.2.7: at least 5 minutes.
    pub command_wait_max: Duration,
    /// Wait for the next octets of content. RFC 5321 §4.5.3.2.5: 3 minutes.
    pub content_wait_max: Duration,
    /// How long content may come below `content_rate_min` before that counts.
    pub content_rate_grace: Duration,
    /// The least octets a second of content, on average after the grace.
    pub content_rate_min: u32,
    /// A session as a whole; a message that is under way at its end may finish.
    pub session_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line_octets_max: 2_048,
            auth_line_octets_max: 12_288,
            content_line_octets_max: 998,
            message_octets_max: MESSAGE_OCTETS_MAX,
            recipients_max: 50,
            transactions_max: 10_000,
            commands_max: 100_000,
            errors_max: 20,
            auth_failures_max: 6,
            unrecognised_max: Duration::from_secs(60),
            command_wait_max: Duration::from_secs(300),
            content_wait_max: Duration::from_secs(180),
            content_rate_grace: Duration::from_secs(60),
            content_rate_min: 500,
            session_max: Duration::from_secs(4 * 3600),
        }
    }
}

/// The largest message that, with our trace field on top, stays under SES's 40 MB after base64: 30,000,000 octets raw,
/// less what is reserved for the field. SES guide, "Service quotas"; whether MB means 10^6 is not said, so the smaller.
pub const MESSAGE_OCTETS_MAX: u64 = 30_000_000 - crate::mail::trace::TRACE_OCTETS_MAX as u64;
