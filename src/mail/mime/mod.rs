//! The MIME parts of a message: position, media type, transfer encoding and file names.
//!
//! [`Scanner`] reads the body once while it is received, in linear time, without recursion and without copying it.
//! [`MimeLimits`] bounds the stored data; a message over a limit is refused. Boundaries and names are parsed in every
//! way that mail programs do: if any of them would show an attachment, its name is in [`Structure::names`]. If the
//! interpretations disagree about the positions of parts, [`Structure::is_certain`] is false. RFC 2045 §5 (fields), RFC
//! 2046 §5.1 (multipart), §5.2 (message), RFC 2183, RFC 2231 and RFC 2047 (names).

mod fields;
mod scanner;

pub use scanner::Scanner;

use std::ops::Range;

/// Limits of the parts of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MimeLimits {
    /// Depth of nested multiparts and messages.
    pub depth_max: usize,
    /// Parts of the whole message; SES accepts 500 (SES guide, "Service quotas").
    pub parts_max: usize,
    /// Octets of one part's header section.
    pub header_octets_max: usize,
    /// Fields of one part's header section.
    pub header_fields_max: usize,
    /// Parameters of the fields of one part; each piece of RFC 2231 is counted.
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
    /// A file name in a charset such as EBCDIC that cannot be decoded.
    #[error("File name of a MIME part is in a charset that cannot be read")]
    UnreadableName,
    /// Over [`BOUNDARY_OCTETS_MAX`].
    #[error("MIME boundary is longer than {0} octets")]
    BoundaryTooLong(usize),
}

/// RFC 2046 §5.1.1 allows 70; clients use longer ones.
pub const BOUNDARY_OCTETS_MAX: usize = 256;

/// The transfer encoding of a part's body (RFC 2045 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferEncoding {
    /// `7bit`, `8bit`, `binary`, or no field.
    #[default]
    Identity,
    /// `quoted-printable`.
    QuotedPrintable,
    /// `base64`.
    Base64,
    /// Any other encoding, or more than one.
    Other,
}

/// One part. Offsets are relative to the body of the message: 0 is the octet after the blank line that ends its header
/// section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The multipart or message that contains the part: an index of [`Structure::parts`]. `None`: the message itself.
    pub parent: Option<usize>,
    /// The header section, without the blank line. Empty for the message itself.
    pub header: Range<u64>,
    /// The body, without the CR LF that belongs to the following delimiter.
    pub body: Range<u64>,
    /// `type/subtype` in lower case; `text/plain` if the field is missing.
    pub media_type: String,
    /// The transfer encoding of the body.
    pub encoding: TransferEncoding,
    /// The file names, in every interpretation.
    pub names: Vec<String>,
    /// Whether every mail program finds this part with this header section.
    pub certain: bool,
}

impl Part {
    /// Whether the media type has this type (`text`, `multipart`).
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
    /// The parts in the order of their start; the first is the message itself. Includes parts that only some mail
    /// programs find ([`Part::certain`]).
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// File names of attachments, in every interpretation.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| part.names.iter().map(String::as_str))
    }

    /// Whether all interpretations agree about the positions of the parts.
    pub fn is_certain(&self) -> bool {
        self.certain
    }
}

#[cfg(test)]
#[path = "mime_tests.rs"]
mod tests;
