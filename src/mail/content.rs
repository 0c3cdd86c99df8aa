//! A whole message: header section, blank line, body, with our trace field on top.

use super::headers::{Field, HeaderSection};
use bytes::Bytes;

/// What policy judges and, octet for octet, what the provider gets.
#[derive(Clone, Debug)]
pub struct Content {
    octets: Bytes,
    header: HeaderSection,
}

impl Content {
    /// `header` must have been parsed from the beginning of `octets`.
    pub fn new(octets: Bytes, header: HeaderSection) -> Self {
        Self { octets, header }
    }

    /// The header fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.header.fields(&self.octets)
    }

    /// The fields of that name, in order.
    pub fn fields_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Field<'a>> + 'a {
        self.fields().filter(move |field| field.is(name))
    }

    /// All of it.
    pub fn octets(&self) -> &Bytes {
        &self.octets
    }

    /// All of it, without a copy if nobody else holds it.
    pub fn into_octets(self) -> Bytes {
        self.octets
    }
}
