//! Why a mail transaction that MAIL started ended without a message: for its log line and its metric.

use super::{Reply, replies};

/// The reason that the transaction ended.
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
    /// DATA or BDAT was refused with this reply, which ended the transaction.
    Refused(Reply),
    /// The session closed on its own initiative with this reply.
    SessionClosed(Reply),
    /// The client closed the connection.
    ClientClosed,
    /// The connection failed, or the client did not read the replies in time.
    ConnectionLost,
    /// The relay stopped before the transaction ended.
    Cut,
}

/// Replies of a session that closes on its own initiative, and the word for each. At most 9 words, because they are
/// label values.
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
    /// The word for log lines and label values.
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

    /// The reply that the client received, if the relay ended the transaction.
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

/// The word for the reply of a session that closes on its own initiative.
pub fn closing_word(reply: &Reply) -> &'static str {
    CLOSINGS.iter().find(|(row, _)| row == reply).map_or("other", |(_, word)| word)
}
