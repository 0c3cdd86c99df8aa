//! The two paths of an envelope. RFC 5321 §3.3, §4.1.1.2, §4.1.1.3.

use super::address::Mailbox;
use std::fmt;

/// Where failure notices go. `MAIL FROM:<>` is legal and means: never answer this message.
/// RFC 5321 §4.1.1.2, §4.5.5.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`.
    Null,
    /// A mailbox.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The mailbox, or `None` for the null reverse-path.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

/// Where the message goes: a mailbox whose domain is a name, because SES refuses address literals and, with one bad
/// recipient, the whole call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForwardPath(Mailbox);

impl ForwardPath {
    /// `None` for a mailbox at an address literal.
    pub fn new(mailbox: Mailbox) -> Option<Self> {
        mailbox.domain().name().is_some().then_some(Self(mailbox))
    }

    /// The mailbox.
    pub fn mailbox(&self) -> &Mailbox {
        &self.0
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
