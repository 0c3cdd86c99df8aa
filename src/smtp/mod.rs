//! The SMTP server protocol as a state machine without I/O.
//!
//! [`Session`] is one connection. The caller passes received octets to `handle_octets`, sends the replies from
//! `poll_transmit`, and does the [`Action`] that `poll` returns. The module has no socket, clock, task or policy. The
//! session itself replies to syntax errors, wrong order and exceeded limits; every other decision is one [`Question`],
//! one [`Answer`] and one reply.
//!
//! Guarantees: no octet of content is run as a command, whatever is wrong with the content; replies are sent in the
//! order of the commands (RFC 2920); an incomplete message is never committed; plaintext received before a TLS
//! handshake is discarded (RFC 3207 §4.2).
//! RFC 5321; 1870 SIZE, 2034, 2920 PIPELINING, 3030 CHUNKING, 3207 STARTTLS, 4954 AUTH, 6152 8BITMIME, 9422 LIMITS.
//! Not offered, because SES does not support them: SMTPUTF8, BINARYMIME, DSN.

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
    /// Answer with [`Session::handle_answer`]. `poll` returns no other action before that.
    Ask(Question),
    /// The next octets of the message.
    Content(Bytes),
    /// The transaction ended without a message: discard what was received of it.
    Abandon(Abandon),
    /// The client sent EHLO or HELO. Includes `Abandon`. The word replaces an earlier one.
    Hello {
        /// The argument of the command: any text.
        word: String,
        /// EHLO, not HELO.
        esmtp: bool,
    },
    /// The session refused a command or a message itself. For the log.
    Report {
        /// The verb, `?` if unknown.
        verb: &'static str,
        /// The argument of the command, if it is the reason of the refusal: see [`command::argument`].
        argument: String,
        /// The reply.
        reply: Reply,
    },
    /// The session closes on its own initiative with this reply: a time or number limit is exceeded, or the service
    /// stops. For the log; `Close` follows.
    Closing {
        /// The last command's verb; empty before the first command.
        after: &'static str,
        /// The reply.
        reply: Reply,
    },
    /// Many replies are ready: send the output of `poll_transmit` before the next call of `poll`, so that a client that
    /// sends and does not read cannot fill memory.
    Transmit,
    /// Includes `Abandon`, and the word of `Hello` is void. Send the output of `poll_transmit`, do the TLS handshake,
    /// then call [`Session::handle_tls_established`].
    StartTls,
    /// Send the output of `poll_transmit` and close the connection.
    Close,
}

impl Action {
    /// A refusal whose reason is not the argument.
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
    /// Content or a BDAT command is refused. A `Report` with the reply follows when the rest of the content has been
    /// read.
    Refused,
}

/// A decision that the protocol leaves to the caller: authentication, policy, limits, capacity.
#[derive(Debug)]
#[must_use = "an unanswered question stalls the connection"]
pub enum Question {
    /// AUTH: verify these credentials.
    Authenticate(Credentials),
    /// MAIL.
    ReversePath(ReversePath, MailParameters),
    /// RCPT.
    ForwardPath(ForwardPath),
    /// DATA or the first BDAT, before 354: may the message be received? The envelope is complete.
    Data {
        /// Reverse-path and forward-paths.
        envelope: Envelope,
        /// What the listener does with an mbox line.
        mbox_line: MboxLine,
    },
    /// End of data: take responsibility for the message received as `Content`, or refuse it.
    Commit {
        /// The content has lines over the limit, which the caller re-encodes.
        long_lines: bool,
    },
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Answer {
    /// Continue. Not valid for `Commit`.
    Proceed,
    /// For `Commit` only: the message is sent or stored.
    Accepted(Receipt),
    /// Refused, with the reply for the client.
    Refuse(Reply),
}

/// When a listener uses TLS.
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

/// How a listener uses AUTH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Not offered.
    #[default]
    Off,
    /// Offered.
    Optional,
    /// Required before MAIL.
    Required,
    /// Offered, and every name and password is accepted without becoming an identity. For applications that cannot send
    /// without AUTH.
    Any,
}

/// The handling of `foo..bar@docomo.example` in RCPT: not a dot-string of RFC 5321, but an existing mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrayDots {
    /// Refuse the recipient.
    #[default]
    Refuse,
    /// Send it as the quoted string that RFC 5321 requires.
    Quote,
}

/// The handling of a line `From ann Thu Jan  1 00:00:00 2026` before the header section, which programs add that read
/// mail from an mbox file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MboxLine {
    /// Refuse the message: the line is not a header field.
    #[default]
    Refuse,
    /// Drop the line.
    Drop,
}

/// The settings of one listener.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The host name in the greeting and in the EHLO reply.
    pub hostname: String,
    /// When TLS is used.
    pub tls: TlsMode,
    /// Allow only EHLO, NOOP, STARTTLS and QUIT before TLS; any other command receives 530 (RFC 3207 §4).
    pub require_tls: bool,
    /// How AUTH is used.
    pub auth: AuthMode,
    /// Whether AUTH is offered on an unencrypted connection.
    pub auth_in_clear: bool,
    /// The handling of a lone CR or LF.
    pub line_endings: LineEndings,
    /// The handling of a line of content over the limit.
    pub long_lines: LongLines,
    /// The handling of misplaced dots in a recipient's local part.
    pub stray_dots: StrayDots,
    /// The handling of an mbox line before a message.
    pub mbox_line: MboxLine,
    /// The limits of a session.
    pub limits: Limits,
}

impl Settings {
    /// Secure defaults: no TLS, no AUTH, bare line ends refused.
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

/// The limits of one session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Octets of a command line with its CR LF. RFC 5321 §4.5.3.1.4 requires at least 512.
    pub command_line_octets_max: usize,
    /// Octets of a line of an AUTH exchange. RFC 4954 §4 requires at least 12,288.
    pub auth_line_octets_max: usize,
    /// Octets of a line of content without its CR LF. RFC 5321 §4.5.3.1.6; SES refuses longer lines.
    pub content_line_octets_max: usize,
    /// Octets of a message as the client sends it. Advertised with SIZE and enforced.
    pub message_octets_max: u64,
    /// Recipients of a message. SES accepts 50 in one call.
    pub recipients_max: usize,
    /// Mail transactions in a session, advertised as LIMITS MAILMAX.
    pub transactions_max: u32,
    /// Commands in a session.
    pub commands_max: u32,
    /// Consecutive rejected commands and messages without an accepted message between them. Deferrals (4yz) are not
    /// counted: they are not errors of the client.
    pub errors_max: u32,
    /// Failed AUTH exchanges in a session. Clients try PLAIN, then LOGIN, so one wrong password is two failures.
    pub auth_failures_max: u32,
    /// The time from the start of a session until the client is recognised: a MAIL is accepted or a login succeeds.
    pub unrecognised_max: Duration,
    /// The wait for the next command. RFC 5321 §4.5.3.2.7: at least 5 minutes.
    pub command_wait_max: Duration,
    /// The wait for the next octets of content. RFC 5321 §4.5.3.2.5: 3 minutes.
    pub content_wait_max: Duration,
    /// How long content may arrive more slowly than `content_rate_min`.
    pub content_rate_grace: Duration,
    /// The minimum octets per second of content, on average after the grace period.
    pub content_rate_min: u32,
    /// The duration of a session. A message in progress at its end may be completed.
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

/// The largest message that stays below SES's 40 MB after base64, together with the trace field: 30,000,000 raw octets,
/// less the octets reserved for the field. SES guide, "Service quotas". It does not define MB, so the smaller value,
/// 10^6, is used.
pub const MESSAGE_OCTETS_MAX: u64 = 30_000_000 - crate::mail::trace::TRACE_OCTETS_MAX as u64;
