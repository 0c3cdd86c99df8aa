//! The two paths of an envelope. RFC 5321 §3.3, §4.1.1.2, §4.1.1.3.

use super::address::Mailbox;
use std::fmt;

/// The address that receives failure notices. `MAIL FROM:<>` is legal and means that no notice may be sent.
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

/// A recipient: a mailbox with a domain name, because SES refuses address literals, and refuses the whole call if one
/// recipient is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForwardPath(Mailbox);

impl ForwardPath {
    /// Returns `None` for a mailbox with an address literal.
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
