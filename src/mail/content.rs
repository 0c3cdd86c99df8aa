//! A whole message: header section, blank line, body, with our trace field on top.

use super::headers::{Field, HeaderError, HeaderLimits, HeaderSection, blank_line};
use super::mime::{MimeError, MimeLimits, Scanner, Structure};
use bytes::Bytes;
use std::sync::Arc;

/// What policy judges and, octet for octet, what the provider gets.
#[derive(Clone, Debug)]
pub struct Content {
    octets: Bytes,
    header: HeaderSection,
    structure: Arc<Structure>,
}

/// Why octets are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The header section.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The parts.
    #[error(transparent)]
    Mime(#[from] MimeError),
}

impl Content {
    /// `header` must have been parsed from the beginning of `octets`, and `structure` from what follows it.
    pub fn new(octets: Bytes, header: HeaderSection, structure: Arc<Structure>) -> Self {
        Self { octets, header, structure }
    }

    /// Parses a whole message whose lines end in CR LF.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn parse(octets: Bytes, header: &HeaderLimits, mime: MimeLimits) -> Result<Self, ContentError> {
        let end = blank_line(&octets, 0).unwrap_or(octets.len());
        let header = HeaderSection::parse(&octets[..end], header)?;
        let mut scanner = Scanner::new(mime, header.fields(&octets).map(|field| (field.name, field.value)))?;
        scanner.feed(octets.get(end + 2..).unwrap_or_default())?;
        let structure = Arc::new(scanner.end()?);
        Ok(Self { octets, header, structure })
    }

    /// The same body below another header section, which must be at the beginning of `octets` and agree with the old one
    /// in its Content fields.
    #[must_use]
    pub fn with_header(&self, octets: Bytes, header: HeaderSection) -> Self {
        Self { octets, header, structure: Arc::clone(&self.structure) }
    }

    /// The parts of the body: media types, encodings, file names.
    pub fn structure(&self) -> &Structure {
        &self.structure
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
