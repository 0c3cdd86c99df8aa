//! What the parts cost: `cargo bench --no-default-features --bench parts`.
//!
//! One binary, quick to build without the AWS SDK. Quote ratios between rows of one run; absolute times are the machine's.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gatepost::aws::{Document, DocumentKind};
use gatepost::limit::{By, LimitDecision, LimitRule, LimitStage, LimitStep, Limiter, LocalLimiter, Measure, OverLimit};
use gatepost::mail::headers::{HeaderLimits, HeaderSection, blank_line};
use gatepost::mail::parameters::AppName;
use gatepost::mail::{
    Author, Client, ClientAddress, Content, Envelope, ForwardPath, Granted, MailParameters, Mailbox, Requested,
    ReversePath, RuleName, SessionId, SystemClock, author,
};
use gatepost::policy::{
    AccountSettings, AddressPattern, App, AppPolicy, MessageFacts, Policy, PolicyDecision, Recognition,
};
use gatepost::smtp::content::{LineEndings, LongLines, Scanner, Step};
use gatepost::smtp::{Action, Answer, Session, Settings, command};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The answer of a future that has it at once, as the built-in policy has.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the built-in policy waits for nothing"),
    }
}

const HEADER: &str = "Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\nFrom: Billing <billing@app7.example>\r\n\
    To: Bob <bob@elsewhere.example>\r\nSubject: Invoice 42\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\
    Message-ID: <42@app7.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";

fn body(octets: usize, dots: bool) -> Vec<u8> {
    let line: &[u8] = if dots {
        b"..a line that begins with a dot, as one in ten does not\r\n"
    } else {
        b"a line of ordinary text that is about as long as these are\r\n"
    };
    line.iter().copied().cycle().take(octets / line.len() * line.len()).chain(*b".\r\n").collect()
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, line) in [
        ("MAIL", &b"MAIL FROM:<billing@app7.example> SIZE=10240 BODY=8BITMIME"[..]),
        ("RCPT", b"RCPT TO:<bob@elsewhere.example>"),
    ] {
        group.bench_function(name, |b| b.iter(|| command::parse(black_box(line))));
    }
    for (name, value) in [
        ("From, plain", &b" Billing <billing@app7.example>"[..]),
        ("From, encoded and folded", b" =?utf-8?q?J=C3=BCrgen?= Example\r\n <billing@app7.example>"),
    ] {
        group.bench_function(name, |b| b.iter(|| author::parse(black_box(value))));
        let read = author::parse(value).unwrap();
        group.bench_function(format!("{name}, second reader"), |b| b.iter(|| author::agree(black_box(value), &read)));
    }
    group.bench_function("header section", |b| {
        b.iter(|| HeaderSection::parse(black_box(HEADER.as_bytes()), &HeaderLimits::default()));
    });
    group.finish();
}

fn scanning(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for (name, octets, dots) in
        [("10 KB", 10_240, false), ("10 KB, every line stuffed", 10_240, true), ("1 MB", 1 << 20, false)]
    {
        let wire = body(octets, dots);
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut scanner = Scanner::data(LineEndings::Refuse, LongLines::Refuse, 998);
                let mut rest = black_box(&wire[..]);
                while let Step::Content(n) | Step::Dropped(n) | Step::Instead(n, _) = scanner.step(rest) {
                    rest = &rest[n..];
                }
            });
        });
    }
    group.finish();
}

fn session(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    let settings = Arc::new(Settings::new("relay.example"));
    let start = gatepost::mail::Clock::now(&SystemClock);
    let mut wire = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n".to_vec();
    wire.extend_from_slice(&body(10_240, false));
    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function("10 KB message, pipelined", |b| {
        let fresh = || {
            let mut session = Session::new(Arc::clone(&settings), start);
            session.handle_octets(b"EHLO x\r\n", start);
            while session.poll().is_some() {}
            session
        };
        b.iter_batched(
            fresh,
            |mut session| {
                session.handle_octets(&wire, start);
                while let Some(action) = session.poll() {
                    if let Action::Ask(_) = action {
                        session.handle_answer(Answer::Proceed, start);
                    }
                }
                session
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Everything that a decision about a message is made of.
struct Message {
    client: Client,
    envelope: Envelope,
    content: Content,
    authors: Vec<Author>,
    requested: Requested,
}

impl Message {
    fn of_app(number: usize) -> Self {
        let text = HEADER.replace("app7", &format!("app{number}"));
        let octets = [text.as_bytes(), b"\r\n", &vec![b'x'; 9_000]].concat();
        let end = blank_line(&octets, 0).unwrap();
        let header = HeaderSection::parse(&octets[..end], &HeaderLimits::default()).unwrap();
        let content = Content::new(Bytes::from(octets), header);
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

    fn facts(&self) -> MessageFacts<'_> {
        MessageFacts {
            client: &self.client,
            envelope: &self.envelope,
            content: &self.content,
            authors: &self.authors,
            sender: None,
            resent: &[],
            requested: &self.requested,
        }
    }
}

fn network(number: usize) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x0a00_0001 + (u32::try_from(number).unwrap() << 8))
}

/// Each application has its own /24, three patterns and its own configuration set.
fn policy(apps: usize, document: Option<Arc<Document>>) -> AppPolicy {
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
            let mut app = App::new(name, Recognition { networks, ..Recognition::default() }, from.to_vec());
            app.documents.extend(document.clone());
            app
        })
        .collect();
    let account = document.map(|_| AccountSettings {
        partition: "aws".to_owned(),
        region: "us-east-1".to_owned(),
        account: "111122223333".to_owned(),
        identities: vec!["example.com".to_owned()],
        default_configuration_sets: Vec::new(),
        sandbox: false,
    });
    AppPolicy::new(apps, None, Vec::new(), account, Arc::new(SystemClock)).unwrap()
}

/// Twenty statements, of which the last allows.
fn document() -> Arc<Document> {
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

fn deciding(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    group.throughput(Throughput::Elements(1));
    let mut decide = |name: BenchmarkId, policy: &AppPolicy, message: &Message| {
        assert!(matches!(now(policy.message(&message.facts())).unwrap(), PolicyDecision::Accept(_)));
        group.bench_function(name, |b| b.iter(|| now(policy.message(black_box(&message.facts())))));
    };
    for apps in [10, 1_000, 10_000] {
        decide(BenchmarkId::new("apps", apps), &policy(apps, None), &Message::of_app(apps - 1));
    }
    decide(
        BenchmarkId::new("20-statement document, apps", 1_000),
        &policy(1_000, Some(document())),
        &Message::of_app(999),
    );
    group.finish();
}

/// Limits that have room: what each message pays. The first is one number in one store, the last what an operator sets.
fn limiting(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit");
    group.throughput(Throughput::Elements(1));
    let rule = |name: &str, by, windows: &[&str]| LimitRule {
        name: RuleName::parse(name).unwrap(),
        by,
        measure: Measure::Messages,
        windows: windows.iter().map(|text| text.parse().unwrap()).collect(),
        over: OverLimit::Defer,
        apps: Vec::new(),
    };
    let fast = "1000000000/s";
    let address = By::Client { ipv4_prefix: 32, ipv6_prefix: 64 };
    for (name, rules) in [
        ("none", Vec::new()),
        ("one", vec![rule("app", By::App, &[fast])]),
        (
            "three, two windows each",
            vec![
                rule("app", By::App, &[fast, fast]),
                rule("client", address, &[fast, fast]),
                rule("relay", By::Relay, &[fast, fast]),
            ],
        ),
    ] {
        let limiter = LocalLimiter::new(rules, Arc::new(SystemClock));
        let message = Message::of_app(7);
        let mut granted = Granted::by(RuleName::parse("bench").unwrap());
        granted.app = Some(AppName::parse("app7").unwrap());
        let reverse_path = message.envelope.reverse_path().clone();
        let stage = LimitStage::Mail;
        let step = LimitStep { client: &message.client, granted: &granted, reverse_path: &reverse_path, stage };
        group.bench_function(format!("{name}: decision"), |b| {
            b.iter(|| matches!(limiter.try_take(black_box(&step)), LimitDecision::Taken(_)));
        });
        group.bench_function(format!("{name}: take and give back"), |b| {
            b.iter(|| match now(limiter.take(black_box(&step))).unwrap() {
                LimitDecision::Taken(ticket) => now(limiter.give_back(ticket)),
                LimitDecision::Over { .. } => unreachable!("there is room for a thousand million"),
            });
        });
    }
    group.finish();
}

/// Decisions over a real Redis: `GATEPOST_BENCH_REDIS=redis://127.0.0.1:PORT`, and the feature. A decision is one limit with
/// two windows: two keys, one round trip.
fn sharing(c: &mut Criterion) {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("GATEPOST_BENCH_REDIS") {
        redis(c, &url);
    }
    #[cfg(not(feature = "redis"))]
    let _ = c;
}

#[cfg(feature = "redis")]
fn redis(c: &mut Criterion, url: &str) {
    use gatepost::limit::{RedisLimiter, RedisSettings, RedisUrl};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut settings = RedisSettings::new(RedisUrl::parse(url).unwrap(), std::num::NonZeroU32::MIN);
    settings.wait_max = std::time::Duration::from_secs(5);
    settings.on_error = gatepost::limit::OnRedisError::Defer;
    let fast = "1000000000/s";
    let rule = LimitRule {
        name: RuleName::parse("app").unwrap(),
        by: By::App,
        measure: Measure::Messages,
        windows: [fast, "4000000000/day"].map(|text| text.parse().unwrap()).to_vec(),
        over: OverLimit::Defer,
        apps: Vec::new(),
    };
    let connected = RedisLimiter::connect(vec![rule], jiff::tz::TimeZone::UTC, Arc::new(SystemClock), settings);
    let limiter = Arc::new(runtime.block_on(connected).unwrap());
    let message = Message::of_app(7);
    let mut granted = Granted::by(RuleName::parse("bench").unwrap());
    granted.app = Some(AppName::parse("app7").unwrap());
    let facts = Arc::new((message.client, granted, message.envelope.reverse_path().clone()));
    async fn decide(limiter: &RedisLimiter, facts: &(Client, Granted, ReversePath)) {
        let stage = LimitStage::Mail;
        let step = LimitStep { client: &facts.0, granted: &facts.1, reverse_path: &facts.2, stage };
        assert!(matches!(limiter.take(&step).await.unwrap(), LimitDecision::Taken(_)));
    }
    let mut group = c.benchmark_group("redis");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one after the other", |b| b.iter(|| runtime.block_on(decide(&limiter, &facts))));
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 at a time", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for _ in 0..64 {
                    let (limiter, facts) = (Arc::clone(&limiter), Arc::clone(&facts));
                    tasks.spawn(async move { decide(&limiter, &facts).await });
                }
                while let Some(done) = tasks.join_next().await {
                    done.unwrap();
                }
            });
        });
    });
    group.finish();
}

criterion_group!(parts, parsing, scanning, session, deciding, limiting, sharing);
criterion_main!(parts);
