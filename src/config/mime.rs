//! `[mime]`: limits of the MIME parts of a message.

use super::number::Number;
use super::section::section;
use crate::mail::mime::MimeLimits;

section! {
    /// Limits of the MIME parts of a message. A message over one of them is rejected with 554, and the reply names the limit.
    pub(crate) Mime {
        /// Multiparts and attached messages nested in each other.
        depth_max: Number<1, 100> = Number::of(MimeLimits::default().depth_max as u64),
        /// Parts of a message; SES accepts 500.
        parts_max: Number<1, 10_000> = Number::of(MimeLimits::default().parts_max as u64),
        /// Bytes of the header section of one part.
        header_octets_max: Number<1_024, 10_000_000> = Number::of(MimeLimits::default().header_octets_max as u64),
        /// Fields of the header section of one part.
        header_fields_max: Number<10, 100_000> = Number::of(MimeLimits::default().header_fields_max as u64),
        /// Parameters of Content-Type and Content-Disposition of one part. Each piece of a parameter that is split as in
        /// RFC 2231 counts.
        parameters_max: Number<10, 1_000> = Number::of(MimeLimits::default().parameters_max as u64),
        /// Bytes of Content-Type and Content-Disposition of all parts together.
        parameter_octets_max: Number<1_024, 10_000_000> = Number::of(MimeLimits::default().parameter_octets_max as u64),
    } []
}

impl Mime {
    /// The limits of the MIME reader.
    pub(crate) fn limits(&self) -> MimeLimits {
        MimeLimits {
            depth_max: self.depth_max.size(),
            parts_max: self.parts_max.size(),
            header_octets_max: self.header_octets_max.size(),
            header_fields_max: self.header_fields_max.size(),
            parameters_max: self.parameters_max.size(),
            parameter_octets_max: self.parameter_octets_max.size(),
        }
    }
}
