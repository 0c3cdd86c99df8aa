//! The parts of a message: where each one lies, its media type, transfer encoding and file names.
//!
//! [`Scanner`] reads the body once, as it comes, in linear time, without recursion and without a copy of it. What it keeps
//! is bounded by [`MimeLimits`]; a message beyond a bound is refused. Boundaries and names are read in every way that mail
//! programs do: what any of them would show as an attachment has its name in [`Structure::names`]. Where readings differ on
//! where parts lie, [`Structure::is_certain`] says so.
//! RFC 2045 §5 (fields), RFC 2046 §5.1 (multipart), §5.2 (message), RFC 2183, RFC 2231 and RFC 2047 (names).

mod fields;
mod scanner;

pub use scanner::Scanner;

use std::ops::Range;

/// Bounds on the parts of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MimeLimits {
    /// Multiparts and messages inside each other.
    pub depth_max: usize,
    /// Parts of the whole message; SES takes 500 (SES guide, "Service quotas").
    pub parts_max: usize,
    /// Octets of one part's header section.
    pub header_octets_max: usize,
    /// Fields of one part's header section.
    pub header_fields_max: usize,
    /// Parameters of the fields of one part, the pieces of RFC 2231 counted one by one.
    pub parameters_max: usize,
    /// Octets of the Content-Type and Content-Disposition fields of all parts together.
    pub parameter_octets_max: usize,
}

impl Default for MimeLimits {
    fn default() -> Self {
        Self {
            depth_max: 20,
            parts_max: 500,
            header_octets_max: 128 * 1024,
            header_fields_max: 1000,
            parameters_max: 100,
            parameter_octets_max: 256 * 1024,
        }
    }
}

/// Why the parts of a message are refused. The numbers are the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MimeError {
    /// Over [`MimeLimits::depth_max`].
    #[error("MIME parts are nested deeper than {0}")]
    TooDeep(usize),
    /// Over [`MimeLimits::parts_max`].
    #[error("Message has more than {0} MIME parts")]
    TooManyParts(usize),
    /// Over [`MimeLimits::header_octets_max`].
    #[error("Header of a MIME part is longer than {0} octets")]
    HeaderTooLarge(usize),
    /// Over [`MimeLimits::header_fields_max`].
    #[error("Header of a MIME part has more than {0} fields")]
    TooManyFields(usize),
    /// Over [`MimeLimits::parameters_max`].
    #[error("Content-Type or Content-Disposition of a MIME part has more than {0} parameters")]
    TooManyParameters(usize),
    /// Over [`MimeLimits::parameter_octets_max`].
    #[error("Content-Type and Content-Disposition of all MIME parts are longer than {0} octets")]
    ParametersTooLarge(usize),
    /// A file name in a charset such as EBCDIC, in which nothing can be read.
    #[error("File name of a MIME part is in a charset that cannot be read")]
    UnreadableName,
    /// Over [`BOUNDARY_OCTETS_MAX`].
    #[error("MIME boundary is longer than {0} octets")]
    BoundaryTooLong(usize),
}

/// RFC 2046 §5.1.1 allows 70; more are found in the wild.
pub const BOUNDARY_OCTETS_MAX: usize = 256;

/// How a part's body is encoded (RFC 2045 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferEncoding {
    /// Not at all: `7bit`, `8bit`, `binary`, or no field.
    #[default]
    Identity,
    /// `quoted-printable`.
    QuotedPrintable,
    /// `base64`.
    Base64,
    /// Something else, or more than one.
    Other,
}

/// One part. Offsets are of the body of the message: 0 is the octet after the blank line behind its header section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The multipart or message that it is in: a place in [`Structure::parts`]. `None`: it is the message itself.
    pub parent: Option<usize>,
    /// Its header section, without the blank line. Empty for the message itself.
    pub header: Range<u64>,
    /// Its body, without the CR LF that belongs to the boundary delimiter behind it.
    pub body: Range<u64>,
    /// `type/subtype` in lower case; `text/plain` where it says nothing.
    pub media_type: String,
    /// How its body is encoded.
    pub encoding: TransferEncoding,
    /// Its file name, in every reading.
    pub names: Vec<String>,
    /// Every reader sees this part, with this header.
    pub certain: bool,
}

impl Part {
    /// Whether the media type is one of these types (`text`, `multipart`).
    pub fn is_type(&self, name: &str) -> bool {
        self.media_type.split('/').next() == Some(name)
    }
}

/// The parts of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Structure {
    parts: Vec<Part>,
    certain: bool,
}

impl Structure {
    /// The parts in the order in which they begin; the first is the message itself. Those that only some readers see are
    /// among them ([`Part::certain`]).
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// File names of attachments, in every reading.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| part.names.iter().map(String::as_str))
    }

    /// Whether all readers agree on where the parts lie.
    pub fn is_certain(&self) -> bool {
        self.certain
    }
}

#[cfg(test)]
#[path = "mime_tests.rs"]
mod tests;
