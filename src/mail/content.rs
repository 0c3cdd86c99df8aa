//! A whole message: header section, blank line and body, with the trace field as the first field.

use super::headers::{Field, HeaderError, HeaderLimits, HeaderSection, blank_line};
use super::mime::{MimeError, MimeLimits, Scanner, Structure};
use bytes::Bytes;
use std::sync::Arc;

/// The octets that policy evaluates and that the provider receives, without any change in between.
#[derive(Clone, Debug)]
pub struct Content {
    octets: Bytes,
    header: HeaderSection,
    structure: Arc<Structure>,
}

/// Why octets are not a valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The header section is invalid.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The MIME parts are invalid.
    #[error(transparent)]
    Mime(#[from] MimeError),
}

impl Content {
    /// `header` must be parsed from the beginning of `octets`, and `structure` from the octets after it.
    pub fn new(octets: Bytes, header: HeaderSection, structure: Arc<Structure>) -> Self {
        Self { octets, header, structure }
    }

    /// Parses a whole message with CR LF line ends.
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

    /// Replaces the header section: `octets` has the new one and the same body. Its Content fields must equal the old
    /// ones.
    #[must_use]
    pub fn with_header(&self, octets: Bytes, header: HeaderSection) -> Self {
        Self { octets, header, structure: Arc::clone(&self.structure) }
    }

    /// The MIME parts of the body: media types, encodings, file names.
    pub fn structure(&self) -> &Structure {
        &self.structure
    }

    /// The header fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.header.fields(&self.octets)
    }

    /// The fields with a name, in order.
    pub fn fields_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Field<'a>> + 'a {
        self.fields().filter(move |field| field.is(name))
    }

    /// The whole message.
    pub fn octets(&self) -> &Bytes {
        &self.octets
    }

    /// The whole message, without a copy if this is the only reference.
    pub fn into_octets(self) -> Bytes {
        self.octets
    }
}
