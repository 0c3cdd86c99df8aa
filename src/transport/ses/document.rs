//! The JSON document of a call, with the content written into it once.
//!
//! The SDK makes base64 text of the content, looks at each octet of that text for what JSON would have to escape (base64 has
//! nothing of the kind), and copies it into a string that grows by doubling. For a large message this is most of what a call
//! costs, and holds it four times. Here the SDK writes the document with empty content; before it signs, the base64 text is
//! put where it belongs, in a body of the exact size, and the content is let go. The document is, octet for octet, the one
//! that the SDK would have written: a test holds the two against each other.

use aws_sdk_sesv2::config::interceptors::{
    BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_sesv2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sesv2::error::BoxError;
use aws_sdk_sesv2::operation::send_email::SendEmailInput;
use aws_sdk_sesv2::primitives::Blob;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use base64_simd::STANDARD;
use bytes::Bytes;
use memchr::memmem::Finder;
use std::fmt;
use std::sync::LazyLock;

/// Takes raw content out of a call before the SDK writes its document, and writes it in afterwards.
#[derive(Debug)]
pub(super) struct ContentLast;

/// Content between the two; `None` once it is written: a second attempt of the same call would be an empty message.
struct Aside(Option<Bytes>);

impl Storable for Aside {
    type Storer = StoreReplace<Self>;
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} octets", self.0.as_ref().map(Bytes::len))
    }
}

#[dyn_dispatch_hint]
impl Intercept for ContentLast {
    fn name(&self) -> &'static str {
        "ContentLast"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let input = context.input_mut().downcast_mut::<SendEmailInput>();
        let raw = input.and_then(|input| input.content.as_mut()?.raw.as_mut());
        if let Some(raw) = raw {
            let content = std::mem::replace(&mut raw.data, Blob::new([]));
            bag.interceptor_state().store_put(Aside(Some(content.into_bytes())));
        }
        Ok(())
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Aside(content)) = bag.get_mut_from_interceptor_state() else { return Ok(()) };
        // Let go as soon as it is written: a large message is not held twice while it is sent.
        let content = content.take().ok_or("a call is not made twice: its content is gone")?;
        let request = context.request_mut();
        let document = request.body().bytes().ok_or("the document is a stream")?;
        let document = with_content(document, &content).ok_or("the document has no place for content")?;
        request.headers_mut().insert("content-length", document.len().to_string());
        *request.body_mut() = SdkBody::from(document);
        Ok(())
    }
}

/// Empty content, as it is written. Inside a JSON string its quotes would have backslashes, so it stands nowhere else.
const EMPTY: &[u8] = br#""Raw":{"Data":""}"#;
static FIND_EMPTY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(EMPTY));
/// Where the text goes in: before the last two of those octets.
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
    use crate::transport::ses::agent::OwnUserAgent;
    use aws_config::retry::RetryConfig;
    use aws_sdk_sesv2::config::http::HttpRequest;
    use aws_sdk_sesv2::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_sesv2::types::{Destination, EmailContent, MessageTag, RawMessage};
    use aws_sdk_sesv2::{Client, Config};
    use aws_smithy_runtime_api::client::http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    };
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// Keeps what would have been sent.
    #[derive(Clone, Debug, Default)]
    struct Catcher(Arc<Mutex<Vec<HttpRequest>>>);

    impl HttpConnector for Catcher {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            self.0.lock().unwrap().push(request);
            HttpConnectorFuture::ready(Err(ConnectorError::io("caught".into())))
        }
    }

    impl HttpClient for Catcher {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            SharedHttpConnector::new(self.clone())
        }
    }

    /// What the SDK sends, or what it sends with our two interceptors.
    async fn sent(content: &[u8], tag: &str, ours: bool) -> HttpRequest {
        let mut all = attempts(content, tag, ours, RetryConfig::disabled()).await;
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    async fn attempts(content: &[u8], tag: &str, ours: bool, retries: RetryConfig) -> Vec<HttpRequest> {
        let catcher = Catcher::default();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .retry_config(retries)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .http_client(catcher.clone());
        let config = if ours { config.interceptor(ContentLast).interceptor(OwnUserAgent) } else { config };
        let raw = RawMessage::builder().data(Blob::new(content)).build().unwrap();
        let call = Client::from_conf(config.build()).send_email();
        let tag = MessageTag::builder().name(tag).value(tag).build().unwrap();
        let _ = call
            .from_email_address(r#"","Raw":{"Data":""},"#)
            .destination(Destination::builder().bcc_addresses("Data").build())
            .content(EmailContent::builder().raw(raw).build())
            .email_tags(tag)
            .send()
            .await;
        std::mem::take(&mut *catcher.0.lock().unwrap())
    }

    #[tokio::test]
    async fn the_document_is_the_one_that_the_sdk_would_have_written() {
        let long: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        for content in [&b""[..], b"a", b"ab", b"From: a@b\r\n\r\n\xff\0", &long[..9_999], &long[..10_000], &long] {
            for tag in ["a", r#""Raw":{"Data":""}"#, r#"\"Raw\":{\"Data\":\"\"}"#] {
                let (ours, theirs) = (sent(content, tag, true).await, sent(content, tag, false).await);
                assert!(ours.body().bytes() == theirs.body().bytes(), "{} octets, {tag}", content.len());
                let length = |request: &HttpRequest| request.headers().get("content-length").map(str::to_owned);
                assert_eq!(length(&ours), length(&theirs));
            }
        }
    }

    #[tokio::test]
    async fn a_second_attempt_does_not_send_an_empty_message() {
        let retries = RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1));
        assert_eq!(attempts(b"a", "a", false, retries.clone()).await.len(), 3, "the SDK would try again");
        assert_eq!(attempts(b"a", "a", true, retries).await.len(), 1);
    }

    #[tokio::test]
    async fn a_call_names_the_relay_once_and_no_attempts() {
        let (ours, theirs) = (sent(b"a", "a", true).await, sent(b"a", "a", false).await);
        assert_eq!(ours.headers().get_all("user-agent").collect::<Vec<_>>(), [crate::mail::USER_AGENT]);
        for name in ["x-amz-user-agent", "amz-sdk-invocation-id", "amz-sdk-request"] {
            assert_eq!((ours.headers().get(name), theirs.headers().contains_key(name)), (None, true), "{name}");
        }
    }

    #[test]
    fn a_document_without_a_place_is_not_sent() {
        assert_eq!(with_content(br#"{"Content":{"Raw":{}}}"#, b"a"), None);
    }
}
