//! The envelope: one reverse-path and at least one forward-path. RFC 5321 §2.3.1.

use super::address::AddressError;
use super::path::{ForwardPath, ReversePath};

/// The parameters of MAIL besides the reverse-path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=`: the size of the message in octets that the client announces (RFC 1870 §6.1).
    pub declared_octets: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: BodyType,
    /// The argument of MAIL FROM, if it is not an address. Where policy allows it
    /// ([`Granted::takes_unreadable_path`](crate::mail::Granted::takes_unreadable_path)), it counts as the null
    /// reverse-path; elsewhere the command is refused.
    pub unreadable_path: Option<Box<UnreadablePath>>,
}

/// The argument of a MAIL that is not an address, such as `scanner`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadablePath {
    /// The text between the angle brackets.
    pub text: String,
    /// Why it is not an address.
    pub error: AddressError,
}

/// RFC 6152 §2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// No parameter. Legacy clients send 8-bit content without it; the content is passed unchanged.
    #[default]
    Unspecified,
    /// `BODY=7BIT`.
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
}

/// One reverse-path and at least one forward-path: the constructor takes the first one. Each forward-path occurs once,
/// even if the client repeats it.
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

    /// Adds a recipient, if the envelope does not contain it.
    pub fn add(&mut self, forward_path: ForwardPath) {
        if !self.contains(&forward_path) {
            self.forward_paths.push(forward_path);
        }
    }

    /// The envelope with only those recipients, of the numbers in `range`; at least one.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Self {
        let end = range.end.min(self.forward_paths.len());
        let start = range.start.min(end.saturating_sub(1));
        Self { forward_paths: self.forward_paths[start..end].to_vec(), ..self.clone() }
    }

    /// Whether the envelope contains this recipient. Local parts are compared with case (RFC 5321 §2.4).
    pub fn contains(&self, forward_path: &ForwardPath) -> bool {
        self.forward_paths.contains(forward_path)
    }

    /// The address that receives failure notices.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// The parameters of MAIL besides the reverse-path.
    pub fn parameters(&self) -> &MailParameters {
        &self.parameters
    }

    /// The recipients, in the order of their RCPT commands; at least one.
    pub fn forward_paths(&self) -> &[ForwardPath] {
        &self.forward_paths
    }
}
