//! Why a mail transaction that MAIL began ended without a message: for its log line and its metric.

use super::{Reply, replies};

/// What ended the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abandonment {
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
    /// EHLO or HELO.
    Hello,
    /// STARTTLS.
    StartTls,
    /// DATA or BDAT was refused with this reply, and the transaction with it.
    Refused(Reply),
    /// The session closed by itself with this reply.
    SessionClosed(Reply),
    /// The client closed the connection.
    ClientClosed,
    /// The connection broke, or the client did not read our replies in time.
    ConnectionLost,
    /// The relay stopped before the transaction ended.
    Cut,
}

/// Replies of a session that closes by itself, and the word for each. At most 9 words: they are label values.
const CLOSINGS: [(Reply, &str); 8] = [
    (replies::IDLE_TOO_LONG, "idle"),
    (replies::CONTENT_TOO_SLOW, "content_too_slow"),
    (replies::SESSION_TOO_LONG, "session_time"),
    (replies::SHUTTING_DOWN, "shutdown"),
    (replies::TOO_MANY_ERRORS, "errors"),
    (replies::TOO_MANY_COMMANDS, "commands"),
    (replies::TOO_FAR_AHEAD, "too_far_ahead"),
    (replies::TOO_MANY_CONNECTIONS, "shed"),
];

impl Abandonment {
    /// A word for log lines and label values.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Quit => "quit",
            Self::Hello => "hello",
            Self::StartTls => "starttls",
            Self::Refused(_) => "refused",
            Self::SessionClosed(reply) => closing_word(reply),
            Self::ClientClosed => "client_closed",
            Self::ConnectionLost => "connection_lost",
            Self::Cut => "cut",
        }
    }

    /// What the client was told, if the relay ended it.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused(reply) | Self::SessionClosed(reply) => Some(reply),
            _ => None,
        }
    }

    /// The outcome of the transaction.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Refused(reply) if reply.is_temporary() => "deferred",
            Self::Refused(_) => "rejected",
            _ => "abandoned",
        }
    }
}

/// The word for the reply of a session that closes by itself.
pub fn closing_word(reply: &Reply) -> &'static str {
    CLOSINGS.iter().find(|(row, _)| row == reply).map_or("other", |(_, word)| word)
}
