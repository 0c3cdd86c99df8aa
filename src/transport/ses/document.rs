//! Writes the content of a message into the JSON document of a call, once.
//!
//! The SDK encodes the content as base64, searches that text for characters to escape (base64 has none), and copies it into a
//! string that grows by doubling. For a large message this is most of the cost of a call, and needs four times its memory.
//! Here the SDK writes the document with empty content; before it signs, the base64 text is inserted into a body of the exact
//! size, and the content is released. The document is octet for octet that of the SDK, which a test checks.

use aws_sdk_sesv2::config::http::HttpRequest;
use aws_sdk_sesv2::error::BoxError;
use aws_sdk_sesv2::operation::send_email::SendEmailInput;
use aws_sdk_sesv2::primitives::Blob;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use base64_simd::STANDARD;
use bytes::Bytes;
use memchr::memmem::Finder;
use std::fmt;
use std::sync::LazyLock;

/// Takes raw content out of a call, before the SDK writes its document.
pub(super) fn take_content(call: &mut SendEmailInput) -> Option<DetachedContent> {
    let raw = call.content.as_mut()?.raw.as_mut()?;
    let content = std::mem::replace(&mut raw.data, Blob::new([]));
    Some(DetachedContent(Some(content.into_bytes())))
}

/// The content until it is written, then `None`: a second attempt of the same call is an error, not an empty message.
pub(super) struct DetachedContent(Option<Bytes>);

impl Storable for DetachedContent {
    type Storer = StoreReplace<Self>;
}

impl fmt::Debug for DetachedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} octets", self.0.as_ref().map(Bytes::len))
    }
}

impl DetachedContent {
    /// Writes the content into the request, and releases it, so that a large message is not in memory twice while it is sent.
    pub(super) fn put_into(&mut self, request: &mut HttpRequest) -> Result<(), BoxError> {
        let content = self.0.take().ok_or("a call is not made twice: its content is gone")?;
        let document = request.body().bytes().ok_or("the document is a stream")?;
        let document = with_content(document, &content).ok_or("the document has no place for content")?;
        request.headers_mut().insert("content-length", document.len().to_string());
        *request.body_mut() = SdkBody::from(document);
        Ok(())
    }
}

/// Empty content, as the SDK writes it. It occurs once only: inside a JSON string its quotes would be escaped.
const EMPTY: &[u8] = br#""Raw":{"Data":""}"#;
static FIND_EMPTY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(EMPTY));
/// The text is inserted before the last two octets of [`EMPTY`].
const BEHIND: usize = 2;

fn with_content(document: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let place = FIND_EMPTY.find(document)? + EMPTY.len() - BEHIND;
    let (before, behind) = document.split_at(place);
    let mut whole = Vec::with_capacity(document.len() + STANDARD.encoded_length(content.len()));
    whole.extend_from_slice(before);
    STANDARD.encode_append(content, &mut whole);
    whole.extend_from_slice(behind);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_without_a_place_is_not_sent() {
        assert_eq!(with_content(br#"{"Content":{"Raw":{}}}"#, b"a"), None);
    }

    #[test]
    fn content_is_written_once() {
        let mut content = DetachedContent(Some(Bytes::from_static(b"a")));
        let mut request = HttpRequest::new(SdkBody::from(r#"{"Content":{"Raw":{"Data":""}}}"#));
        content.put_into(&mut request).unwrap();
        assert_eq!(request.body().bytes(), Some(&br#"{"Content":{"Raw":{"Data":"YQ=="}}}"#[..]));
        assert_eq!(request.headers().get("content-length"), Some("35"));
        assert!(content.put_into(&mut request).is_err(), "a second attempt would be an empty message");
    }
}
