//! The states of a session. Variants own their data: an envelope exists only in the states that have one.

use super::Action;
use super::incoming::{IncomingContent, TransferRate};
use super::sasl::Exchange;
use crate::mail::{Envelope, ForwardPath, MailParameters, Reply, ReversePath};
use std::time::Instant;

#[derive(Debug)]
pub(super) enum State {
    /// The next line is a command.
    Command(Transaction),
    /// The next line belongs to an AUTH exchange.
    Sasl(Exchange),
    /// A question is open; octets queue up.
    Pending(PendingQuestion),
    /// The next octets are content after DATA.
    Data(IncomingContent),
    /// The next octets are content of a BDAT chunk.
    Chunk { content: IncomingContent, remaining: u64, last: bool },
    /// The content is complete, including a last line end that the client omitted.
    ContentEnd { long_lines: bool },
    /// The next octets are a chunk of a refused BDAT: they are discarded, then the reply is sent.
    DiscardChunk { remaining: u64, reply: Reply, rate: TransferRate },
    /// The TLS handshake is in progress.
    Handshake,
    /// The last reply is being sent. Holds the action to return before `Close`, for the log.
    Closing(Option<Box<Action>>),
    /// The session is over.
    Closed,
}

/// The value that `poll` leaves while it takes the state: a handler that sets no other state ends the transaction.
impl Default for State {
    fn default() -> Self {
        Self::Command(Transaction::None)
    }
}

/// The progress of a mail transaction.
#[derive(Debug)]
pub(super) enum Transaction {
    None,
    /// MAIL was accepted, RCPT not yet.
    Mail(ReversePath, MailParameters),
    /// At least one RCPT was accepted.
    Rcpt(Envelope),
    /// At least one BDAT was accepted.
    Chunks(IncomingContent),
}

/// The open question, with the data that its answer needs.
#[derive(Debug)]
pub(super) enum PendingQuestion {
    Credentials,
    ReversePath(ReversePath, MailParameters),
    ForwardPath(Transaction, ForwardPath),
    Data,
    FirstChunk { octets: u64, last: bool },
    Commit,
}

impl Transaction {
    /// Adds a recipient.
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

/// The result of a step of `poll`.
pub(super) enum Progress {
    /// The caller must do this.
    Do(Action),
    /// The state changed; take another step.
    Again,
    /// Wait for octets.
    Wait,
}

/// A deadline, and the reply if it passes.
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) reply: Reply,
}
