use super::*;
use crate::mail::{Clock, SystemClock};
use aws_config::retry::RetryConfig;
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_sdk_sesv2::config::{BehaviorVersion, Builder, Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_sesv2::primitives::Blob;
use aws_sdk_sesv2::types::{Destination, EmailContent, MessageTag, RawMessage};
use aws_sdk_sesv2::{Client, Config};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::Format;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Keeps what would have been sent.
#[derive(Clone, Debug, Default)]
struct Catcher {
    caught: Arc<Mutex<Vec<HttpRequest>>>,
    /// Answers 403, and that it is so late.
    date: Option<DateTime>,
    /// The same, with a time that changes.
    jumping: Option<Arc<Mutex<SystemTime>>>,
}

impl HttpConnector for Catcher {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.caught.lock().unwrap().push(request);
        let date = self.jumping.as_ref().map(|time| DateTime::from(*time.lock().unwrap()));
        HttpConnectorFuture::ready(match self.date.or(date) {
            None => Err(ConnectorError::io("caught".into())),
            Some(date) => {
                let mut response = HttpResponse::new(403.try_into().unwrap(), SdkBody::from("{}"));
                response.headers_mut().insert("date", date.fmt(Format::HttpDate).unwrap());
                Ok(response)
            }
        })
    }
}

impl HttpClient for Catcher {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl Catcher {
    fn only(&self) -> HttpRequest {
        let mut all = std::mem::take(&mut *self.caught.lock().unwrap());
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

fn http(client: Catcher) -> Http {
    Http { client: SharedHttpClient::new(client), is_of_sdk: false }
}

fn account() -> Account {
    Account {
        region: Region::new("eu-central-1"),
        credentials: SharedCredentialsProvider::new(credentials()),
        endpoint_url: None,
        fips: false,
        dual_stack: false,
        trusts_clock: false,
        region_set: None,
    }
}

fn credentials() -> Credentials {
    Credentials::new("id", "secret", Some("token".to_owned()), None, "test")
}

/// The same, as the SDK knows it.
fn config(account: &Account) -> Builder {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .region(account.region.clone())
        .credentials_provider(credentials())
        .use_fips(account.fips)
        .use_dual_stack(account.dual_stack);
    match &account.endpoint_url {
        Some(url) => config.endpoint_url(url),
        None => config,
    }
}

fn message(content: &[u8], tag: &str) -> SendEmailInput {
    let raw = RawMessage::builder().data(Blob::new(content)).build().unwrap();
    let tag = MessageTag::builder().name(tag).value(tag).build().unwrap();
    SendEmailInput::builder()
        .from_email_address(r#"","Raw":{"Data":""},"#)
        .destination(Destination::builder().bcc_addresses("Data").build())
        .content(EmailContent::builder().raw(raw).build())
        .email_tags(tag)
        .build()
        .unwrap()
}

async fn calls(account: Account, catcher: &Catcher) -> SesApi {
    let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_secs(1)).build();
    SesApi::new(account, http(catcher.clone()), timeouts).await.unwrap()
}

async fn ours(account: Account, message: SendEmailInput) -> HttpRequest {
    let catcher = Catcher::default();
    assert!(calls(account, &catcher).await.send_email(message).await.is_err());
    catcher.only()
}

async fn theirs(account: &Account, message: SendEmailInput) -> HttpRequest {
    let catcher = Catcher::default();
    let client = Client::from_conf(config(account).http_client(catcher.clone()).build());
    let call = client.send_email().set_from_email_address(message.from_email_address);
    let call = call.set_destination(message.destination).set_content(message.content);
    assert!(call.set_email_tags(message.email_tags).send().await.is_err());
    catcher.only()
}

#[tokio::test]
async fn the_document_is_the_one_that_the_sdk_would_have_written() {
    let long: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    for content in [&b""[..], b"a", b"ab", b"From: a@b\r\n\r\n\xff\0", &long[..9_999], &long[..10_000], &long] {
        for tag in ["a", r#""Raw":{"Data":""}"#, r#"\"Raw\":{\"Data\":\"\"}"#] {
            let (ours, theirs) =
                (ours(account(), message(content, tag)).await, theirs(&account(), message(content, tag)).await);
            assert!(ours.body().bytes() == theirs.body().bytes(), "{} octets, {tag}", content.len());
            let length = |request: &HttpRequest| request.headers().get("content-length").map(str::to_owned);
            assert_eq!(length(&ours), length(&theirs));
        }
    }
}

/// The name in the credential scope, the algorithm, and what is signed.
fn signature(request: &HttpRequest) -> (String, String, BTreeSet<String>) {
    let text = request.headers().get("authorization").unwrap();
    let (algorithm, rest) = text.split_once(' ').unwrap();
    let part = |name: &str| rest.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap();
    // Without the day.
    let scope = part("Credential").split('/').filter(|word| !word.starts_with("20")).collect::<Vec<_>>().join("/");
    (algorithm.to_owned(), scope, part("SignedHeaders").split(';').map(str::to_owned).collect())
}

#[tokio::test]
async fn a_call_goes_where_the_sdk_would_send_it_and_is_signed_alike() {
    let with = |change: fn(&mut Account)| {
        let mut account = account();
        change(&mut account);
        account
    };
    // What the SDK says of itself and of its attempts, and we do not.
    let of_sdk = ["x-amz-user-agent", "amz-sdk-invocation-id", "amz-sdk-request"];
    for (name, account, host) in [
        ("region", with(|_| {}), "https://email.eu-central-1.amazonaws.com/"),
        ("FIPS", with(|account| account.fips = true), "https://email-fips.eu-central-1.amazonaws.com/"),
        ("dual stack", with(|account| account.dual_stack = true), "https://email.eu-central-1.api.aws/"),
        (
            "China",
            with(|account| account.region = Region::new("cn-north-1")),
            "https://email.cn-north-1.amazonaws.com.cn/",
        ),
        (
            "VPC endpoint",
            with(|account| account.endpoint_url = Some("https://vpce-1.email.eu-central-1.vpce.amazonaws.com".into())),
            "https://vpce-1.email.eu-central-1.vpce.amazonaws.com/",
        ),
    ] {
        let theirs = theirs(&account, message(b"a", "a")).await;
        let ours = ours(account, message(b"a", "a")).await;
        assert_eq!((ours.method(), ours.uri()), (theirs.method(), theirs.uri()), "{name}");
        assert!(ours.uri().starts_with(host), "{name}: {}", ours.uri());
        let names = |request: &HttpRequest| request.headers().iter().map(|(name, _)| name.to_owned()).collect();
        let (our_names, mut their_names): (BTreeSet<String>, BTreeSet<String>) = (names(&ours), names(&theirs));
        their_names.retain(|name| !of_sdk.contains(&&**name));
        assert_eq!(our_names, their_names, "{name}");
        let (mut their_signature, our_signature) = (signature(&theirs), signature(&ours));
        their_signature.2.retain(|name| !of_sdk.contains(&&**name));
        assert_eq!(our_signature, their_signature, "{name}");
        assert_eq!(ours.headers().get("x-amz-security-token"), Some("token"));
        assert_eq!(ours.headers().get_all("user-agent").collect::<Vec<_>>(), [USER_AGENT]);
    }
}

#[tokio::test]
async fn a_message_with_a_multi_region_endpoint_goes_there_under_its_own_signature() {
    let of = |id: &str| {
        let mut message = message(b"a", "a");
        message.endpoint_id = Some(id.to_owned());
        message
    };
    for (account, url) in [
        (account(), "https://abc123.456def.endpoints.email.amazonaws.com/"),
        (Account { endpoint_url: Some("http://127.0.0.1:1".to_owned()), ..account() }, "http://127.0.0.1:1/"),
    ] {
        let request = ours(account, of("abc123.456def")).await;
        assert!(request.uri().starts_with(url), "{}", request.uri());
        let (algorithm, scope, signed) = signature(&request);
        assert_eq!((&*algorithm, &*scope), ("AWS4-ECDSA-P256-SHA256", "id/ses/aws4_request"));
        assert!(signed.contains("x-amz-region-set"), "{signed:?}");
        assert_eq!(request.headers().get("x-amz-region-set"), Some("*"));
    }
    let two = Account { region_set: Some("us-east-1,us-west-2".into()), ..account() };
    let request = ours(two, of("abc123.456def")).await;
    assert_eq!(request.headers().get("x-amz-region-set"), Some("us-east-1,us-west-2"));
    let catcher = Catcher::default();
    let with_fips = calls(Account { fips: true, ..account() }, &catcher).await;
    assert!(with_fips.send_email(of("abc123.456def")).await.is_err());
    assert!(catcher.caught.lock().unwrap().is_empty(), "there is no such endpoint");
}

#[tokio::test]
async fn a_call_is_made_once() {
    let catcher = Catcher::default();
    let calls = calls(account(), &catcher).await;
    assert!(calls.send_email(message(b"a", "a")).await.is_err());
    catcher.only();
    assert!(calls.get_account().await.is_err());
    let asked = catcher.only();
    assert_eq!((asked.method(), asked.uri()), ("GET", "https://email.eu-central-1.amazonaws.com/v2/email/account"));
    assert_eq!(asked.headers().get("user-agent"), Some(USER_AGENT));
    assert!(calls.get_configuration_set("relay").await.is_err());
    let asked = catcher.only();
    let url = "https://email.eu-central-1.amazonaws.com/v2/email/configuration-sets/relay";
    assert_eq!((asked.method(), asked.uri(), asked.headers().get("user-agent")), ("GET", url, Some(USER_AGENT)));
}

/// The time that a request is signed with, in seconds since 1970.
fn signed_at(request: &HttpRequest) -> i64 {
    let text = request.headers().get("x-amz-date").unwrap();
    let [date, time] = [&text[..8], &text[9..15]];
    let text = format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..]);
    DateTime::from_str(&text, Format::DateTime).unwrap().secs()
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_known_after_the_first_answer_unless_it_is_to_be_trusted() {
    let hour = Duration::from_secs(3600);
    let now = SystemClock.wall();
    for (trusts_clock, want) in [(false, 3590..3700), (true, 0..100)] {
        let catcher = Catcher { date: Some(DateTime::from(now + hour)), ..Catcher::default() };
        let calls = calls(Account { trusts_clock, ..account() }, &catcher).await;
        assert!(calls.get_account().await.is_err());
        let first = signed_at(&catcher.only());
        assert!(calls.send_email(message(b"a", "a")).await.is_err());
        let ahead = signed_at(&catcher.only()) - first;
        assert!(want.contains(&ahead), "{ahead} s");
    }
}

/// Credentials that SES called expired were used for up to an hour.
#[tokio::test]
async fn credentials_that_ses_refuses_are_asked_for_again() {
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let source = provide_credentials_fn(move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(credentials()) }
    });
    let account = Account { credentials: SharedCredentialsProvider::new(source), ..account() };
    let calls = calls(account, &Catcher::default()).await;
    for (forget, want) in [(false, 1), (false, 1), (true, 2), (false, 2), (true, 2)] {
        if forget {
            calls.forget_credentials();
        }
        assert!(calls.get_account().await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), want, "the last time, a moment later, they are kept");
    }
}

#[tokio::test]
async fn a_profile_that_does_not_exist_is_told_at_the_start() {
    let settings = crate::transport::ses::SesSettings {
        region: Some("eu-central-1".to_owned()),
        profile: Some("no-such-profile-of-gatepost".to_owned()),
        ..crate::transport::ses::SesSettings::default()
    };
    let failed = super::super::client::connect(settings, http(Catcher::default())).await.unwrap_err();
    assert!(matches!(&failed, SesError::NoProfile(name) if name == "no-such-profile-of-gatepost"), "{failed}");
    assert!(failed.to_string().contains("ses.profile or AWS_PROFILE"), "{failed}");
}

/// The clock jumps while the relay runs: seen from here, the clock of SES does.
#[tokio::test]
async fn after_a_jump_of_the_clock_one_call_is_refused_and_the_next_is_signed_with_the_time_of_ses() {
    let now = SystemClock.wall();
    let mut catcher = Catcher::default();
    let shared = Arc::new(Mutex::new(now));
    catcher.jumping = Some(Arc::clone(&shared));
    let calls = calls(account(), &catcher).await;
    for hours in [-5_i64, 30, 0] {
        let time = DateTime::from_secs(DateTime::from(now).secs() + hours * 3_600);
        *shared.lock().unwrap() = SystemTime::try_from(time).unwrap();
        assert!(calls.send_email(message(b"a", "a")).await.is_err());
        catcher.only();
        assert!(calls.send_email(message(b"a", "a")).await.is_err());
        let off = signed_at(&catcher.only()) - time.secs();
        assert!((-60..60).contains(&off), "{hours} h: {off} s");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_told_at_the_start() {
    // As the environment may name one beside our settings.
    let account = Account { endpoint_url: Some("http://127.0.0.1:1".to_owned()), fips: true, ..account() };
    let failed = SesApi::new(account, http(Catcher::default()), TimeoutConfig::builder().build()).await;
    assert!(matches!(failed, Err(SesError::NoEndpoint(_))), "{failed:?}");
}
