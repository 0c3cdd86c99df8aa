//! Input for the benchmarks of parts: messages, applications, documents, limits, the corpus of From fields.
//!
//! Shared by `parts` (wall time) and `instructions` (counts), so that both measure the same work.

use bytes::Bytes;
use gatepost::iam::{Document, DocumentKind};
use gatepost::limit::{LimitKey, LimitRule, LocalLimiter, Measure};
use gatepost::mail::headers::HeaderLimits;
use gatepost::mail::mime::MimeLimits;
use gatepost::mail::parameters::AppName;
use gatepost::mail::{
    Author, Client, ClientAddress, Content, Envelope, ForwardPath, MailParameters, Mailbox, Requested, ReversePath,
    RuleName, SessionId, SystemClock, author,
};
use gatepost::policy::{AddressField, AddressPattern, App, AppPolicy, AwsAccount, MatchCriteria, MessageFacts};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The result of a future that is ready at once, such as those of the built-in policy.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the built-in policy waits for nothing"),
    }
}

pub(crate) const HEADER: &str = "Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\nFrom: Billing <billing@app7.example>\r\n\
    To: Bob <bob@elsewhere.example>\r\nSubject: Invoice 42\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\
    Message-ID: <42@app7.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";

pub(crate) fn body(octets: usize, dots: bool) -> Vec<u8> {
    let line: &[u8] = if dots {
        b"..a line that begins with a dot, as one in ten does not\r\n"
    } else {
        b"a line of ordinary text that is about as long as these are\r\n"
    };
    line.iter().copied().cycle().take(octets / line.len() * line.len()).chain(*b".\r\n").collect()
}

/// Everything that a decision about a message needs.
pub(crate) struct Message {
    pub(crate) client: Client,
    pub(crate) envelope: Envelope,
    pub(crate) content: Content,
    pub(crate) authors: Vec<Author>,
    pub(crate) requested: Requested,
}

impl Message {
    pub(crate) fn of_app(number: usize) -> Self {
        let text = HEADER.replace("app7", &format!("app{number}"));
        let octets = [text.as_bytes(), b"\r\n", &vec![b'x'; 9_000]].concat();
        let content = Content::parse(Bytes::from(octets), &HeaderLimits::default(), MimeLimits::default()).unwrap();
        let authors = author::parse(content.fields_named("From").next().unwrap().value).unwrap();
        let mailbox = |text: &str| Mailbox::parse(text).unwrap();
        Self {
            client: Client::new(SessionId::fresh(), ClientAddress::Ip((network(number), 40_000).into()), "main".into()),
            envelope: Envelope::new(
                ReversePath::Mailbox(authors[0].mailbox.clone()),
                MailParameters::default(),
                ForwardPath::new(mailbox("bob@elsewhere.example")).unwrap(),
            ),
            content,
            authors,
            requested: Requested::default(),
        }
    }

    pub(crate) fn facts(&self) -> MessageFacts<'_> {
        MessageFacts {
            client: &self.client,
            envelope: &self.envelope,
            content: &self.content,
            from: AddressField::Mailboxes(&self.authors),
            sender: AddressField::Missing,
            resent: AddressField::Missing,
            unreadable: None,
            requested: &self.requested,
        }
    }
}

pub(crate) fn network(number: usize) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x0a00_0001 + (u32::try_from(number).unwrap() << 8))
}

/// Each application has its own /24, three patterns and its own configuration set.
pub(crate) fn policy(apps: usize, document: Option<Arc<Document>>) -> AppPolicy {
    let apps = (0..apps)
        .map(|number| {
            let networks = vec![format!("{}/24", network(number)).parse::<ipnet::IpNet>().unwrap().trunc()];
            let from = ["*@other.example", "noreply@*.example", "*"].map(|local| match local {
                "*" => AddressPattern::parse(&format!("*@app{number}.example")).unwrap(),
                pattern => {
                    AddressPattern::parse(pattern).unwrap_or_else(|_| AddressPattern::parse("x@y.example").unwrap())
                }
            });
            let name = AppName::parse(&format!("app{number}")).unwrap();
            let mut client = MatchCriteria::default();
            client.networks = networks;
            let mut app = App::new(name, client, from.to_vec());
            app.documents.extend(document.clone());
            app
        })
        .collect();
    let account = document.map(|_| {
        let mut account = AwsAccount::new("aws", "us-east-1", "111122223333");
        account.identities.push("example.com".to_owned());
        account
    });
    AppPolicy::new(apps, None, Vec::new(), account, Arc::new(SystemClock)).unwrap()
}

/// Twenty statements, of which the last allows.
pub(crate) fn document() -> Arc<Document> {
    let statement = |n: usize| {
        format!(
            r#"{{"Effect":"Allow","Action":["ses:SendRawEmail","ses:SendEmail"],"Resource":"arn:aws:ses:*:111122223333:identity/*",
                "Condition":{{"StringLike":{{"ses:FromAddress":["*@team{n}.example","*@*.team{n}.example"]}}}}}}"#
        )
    };
    let mut statements: Vec<String> = (0..19).map(statement).collect();
    statements.push(statement(20).replace("*@team20.example", "*"));
    let json = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
    Arc::new(Document::parse("role.json", &json, DocumentKind::Identity).unwrap())
}

/// A rate that is never reached.
const FAST: &str = "1000000000/s";

/// Limits that are not reached: the cost for each message. The first is one number in one store, the last a typical configuration.
pub(crate) fn limiters() -> Vec<(&'static str, LocalLimiter)> {
    let rule = |name: &str, by, windows: &[&str]| {
        let windows = windows.iter().map(|text| text.parse().unwrap()).collect();
        LimitRule::new(RuleName::parse(name).unwrap(), by, Measure::Messages, windows)
    };
    let address = LimitKey::Client { ipv4_prefix: 32, ipv6_prefix: 64 };
    let three = vec![
        rule("app", LimitKey::App, &[FAST, FAST]),
        rule("client", address, &[FAST, FAST]),
        rule("relay", LimitKey::Relay, &[FAST, FAST]),
    ];
    [("none", Vec::new()), ("one", vec![rule("app", LimitKey::App, &[FAST])]), ("three, two windows each", three)]
        .into_iter()
        .map(|(name, rules)| (name, LocalLimiter::new(rules, Arc::new(SystemClock))))
        .collect()
}

/// Values of the From fields of `tests/corpus`: those of ordinary mail, and those of attacks.
pub(crate) fn from_fields() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let values = |text: &str| -> Vec<Vec<u8>> {
        let headers = text.lines().map(|line| {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            case["header"].as_str().unwrap().as_bytes().to_vec()
        });
        // A message without a readable From field has no value to parse.
        headers
            .filter_map(|header| {
                let octets = Bytes::from([&header[..], b"\r\n"].concat());
                let content = Content::parse(octets, &HeaderLimits::default(), MimeLimits::default()).ok()?;
                Some(content.fields_named("From").next()?.value.to_vec())
            })
            .collect()
    };
    let fields = vec![
        ("legal", values(include_str!("../../tests/corpus/legal.jsonl"))),
        ("hostile", values(include_str!("../../tests/corpus/hostile.jsonl"))),
    ];
    assert!(fields.iter().all(|(_, values)| values.len() > 30), "the corpus is not read");
    fields
}

/// Forward-paths as clients write them.
pub(crate) const ADDRESSES: [&str; 4] =
    ["bob@elsewhere.example", "billing+invoice-42@app7.example.com", "\"odd one\"@b.example", "bob@[192.0.2.1]"];
