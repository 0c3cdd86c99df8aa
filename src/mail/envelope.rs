//! The envelope: one reverse-path and at least one forward-path. RFC 5321 §2.3.1.

use super::address::AddressError;
use super::path::{ForwardPath, ReversePath};

/// What MAIL said beside the reverse-path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=`: what the client believes the message's size in octets to be (RFC 1870 §6.1).
    pub declared_octets: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: BodyType,
    /// What stood in MAIL FROM, if it is no address. It is taken as the null reverse-path where policy says so
    /// ([`Granted::takes_unreadable_path`](crate::mail::Granted::takes_unreadable_path)), and refused elsewhere.
    pub unreadable_path: Option<Box<UnreadablePath>>,
}

/// The argument of a MAIL that is no address, such as `scanner`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadablePath {
    /// As it was written between the angle brackets.
    pub text: String,
    /// Why it is no address.
    pub error: AddressError,
}

/// RFC 6152 §2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// Not said. Legacy clients send 8-bit content without saying so; it passes unchanged.
    #[default]
    Unspecified,
    /// `BODY=7BIT`.
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
}

/// One reverse-path and at least one forward-path: the constructor takes the first one and the rest.
/// A forward-path stands once, however often the client named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    reverse_path: ReversePath,
    parameters: MailParameters,
    forward_paths: Vec<ForwardPath>,
}

impl Envelope {
    /// An envelope with its first recipient.
    pub fn new(reverse_path: ReversePath, parameters: MailParameters, first: ForwardPath) -> Self {
        Self { reverse_path, parameters, forward_paths: vec![first] }
    }

    /// Adds a recipient, unless it is there already.
    pub fn add(&mut self, forward_path: ForwardPath) {
        if !self.contains(&forward_path) {
            self.forward_paths.push(forward_path);
        }
    }

    /// Whether this recipient is there already. Local parts are compared with case (RFC 5321 §2.4).
    pub fn contains(&self, forward_path: &ForwardPath) -> bool {
        self.forward_paths.contains(forward_path)
    }

    /// Who hears of failures.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// What MAIL said beside the reverse-path.
    pub fn parameters(&self) -> &MailParameters {
        &self.parameters
    }

    /// The recipients, in the order of their RCPT commands; at least one.
    pub fn forward_paths(&self) -> &[ForwardPath] {
        &self.forward_paths
    }
}
