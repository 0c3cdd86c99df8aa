//! `[header]`: limits of the header section of a message.

use super::number::Number;
use super::section::section;
use crate::mail::headers::HeaderLimits;

section! {
    /// Limits of the header section of a message.
    pub(crate) Header {
        /// Bytes of all fields together.
        octets_max: Number<1_024, 10_000_000> = Number::of(HeaderLimits::default().octets_max as u64),
        /// Number of fields.
        fields_max: Number<10, 100_000> = Number::of(HeaderLimits::default().fields_max as u64),
        /// Number of Received fields; more indicate a mail loop. RFC 5321 requires at least 100.
        hops_max: Number<1, 10_000> = Number::of(HeaderLimits::default().hops_max as u64),
    } []
}

impl Header {
    /// The limits of the header reader.
    pub(crate) fn limits(&self) -> HeaderLimits {
        HeaderLimits {
            octets_max: self.octets_max.size(),
            fields_max: self.fields_max.size(),
            hops_max: self.hops_max.size(),
        }
    }
}
