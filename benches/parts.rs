//! The cost of single parts: `cargo bench --no-default-features --bench parts`.
//!
//! One binary that builds fast without the AWS SDK; with `--features ses`, calls to SES are measured too. Compare rows
//! of one run by their ratios; absolute times depend on the machine.
#![allow(missing_docs, clippy::unwrap_used)]

mod cases;

use cases::{ADDRESSES, HEADER, Message, body, document, from_fields, limiters, now, policy};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gatepost::limit::{LimitDecision, LimitStage, LimitStep, Limiter};
use gatepost::mail::headers::{HeaderLimits, HeaderSection};
use gatepost::mail::parameters::AppName;
use gatepost::mail::{Granted, Mailbox, MessageId, Outcome, RuleName, SystemClock, author, replies};
use gatepost::policy::{AppPolicy, Policy, PolicyDecision};
use gatepost::smtp::content::{LineEndings, LongLines, Scanner, Step};
use gatepost::smtp::{Action, Answer, Session, Settings, command};
use std::hint::black_box;
use std::sync::Arc;

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
    for text in ADDRESSES {
        group.bench_function(format!("address {text}"), |b| b.iter(|| Mailbox::parse(black_box(text))));
    }
    for (name, values) in from_fields() {
        group.throughput(Throughput::Elements(values.len() as u64));
        group.bench_function(format!("From, {name} corpus"), |b| {
            b.iter(|| values.iter().filter(|value| author::parse(black_box(value)).is_ok()).count());
        });
    }
    group.throughput(Throughput::Elements(1));
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

/// From an outcome to the reply.
fn replying(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    let id = MessageId::new("0100018f-0123456789abcdef-000000").unwrap();
    group.bench_function("sent", |b| b.iter(|| Outcome::sent(black_box(id.clone()))));
    let sent = Outcome::sent(id);
    for (name, reply) in [("a row of the table", &replies::LOCAL_ERROR), ("250 with a message id", &sent.reply)] {
        group.bench_function(format!("{name}, written"), |b| {
            b.iter(|| {
                let mut line = String::new();
                black_box(reply).write_line(&mut line);
                line
            });
        });
    }
    group.bench_function("with a reference", |b| {
        b.iter(|| replies::LOCAL_ERROR.with_reference(black_box(&"0123456789abcdef")));
    });
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

fn limiting(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit");
    group.throughput(Throughput::Elements(1));
    for (name, limiter) in limiters() {
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
    use gatepost::limit::{LimitKey, LimitRule, Measure, RedisLimiter, RedisSettings, RedisUrl};
    use gatepost::mail::{Client, ReversePath};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut settings = RedisSettings::new(RedisUrl::parse(url).unwrap(), std::num::NonZeroU32::MIN);
    settings.wait_max = std::time::Duration::from_secs(5);
    settings.on_error = gatepost::limit::OnRedisError::Defer;
    let fast = "1000000000/s";
    let windows = [fast, "4000000000/day"].map(|text| text.parse().unwrap()).to_vec();
    let rule = LimitRule::new(RuleName::parse("app").unwrap(), LimitKey::App, Measure::Messages, windows);
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

/// A call to SES, from the permitted message to the outcome: `--features ses`. The server is a socket that reads a
/// request and answers at once; the last row measures it alone.
fn calling(c: &mut Criterion) {
    #[cfg(feature = "ses")]
    calls::all(c);
    #[cfg(not(feature = "ses"))]
    let _ = c;
}

#[cfg(feature = "ses")]
mod calls {
    use criterion::{BatchSize, Criterion, Throughput};
    use gatepost::builder::Builder;
    use gatepost::mail::{Clock, MessageId, Outcome, Permitted, SystemClock};
    use gatepost::policy::{AddressPattern, AppPolicy};
    use gatepost::server::{Endpoint, ListenerAddress, ListenerSettings};
    use gatepost::transport::Transport;
    use gatepost::transport::ses::{SesSettings, SesTransport, StaticCredentials};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    pub(super) fn all(c: &mut Criterion) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = answerer();
        let pair = StaticCredentials { access_key_id: "id".to_owned(), secret_access_key: "secret".to_owned() };
        let mut settings = SesSettings::default();
        settings.region = Some("us-east-1".to_owned());
        settings.endpoint_url = Some(format!("http://{address}"));
        settings.credentials = Some(pair);
        let ses = runtime.block_on(SesTransport::connect(settings)).unwrap();
        let mut group = c.benchmark_group("SES call");
        for (name, octets) in [("1 KB", 1_000), ("10 KB", 10_000), ("1 MB", 1_000_000)] {
            let message = runtime.block_on(permitted(octets));
            group.throughput(Throughput::Bytes(octets as u64));
            group.bench_function(name, |b| {
                b.iter_batched(
                    || message.clone(),
                    |message| {
                        let deadline = SystemClock.now() + Duration::from_secs(10);
                        let outcome = runtime.block_on(ses.send(message, deadline));
                        assert!(outcome.reply.is_positive(), "{outcome:?}");
                    },
                    BatchSize::SmallInput,
                );
            });
        }
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answer = [0; ANSWER.len()];
        group.throughput(Throughput::Elements(1));
        group.bench_function("the socket alone", |b| {
            b.iter(|| {
                stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").unwrap();
                stream.read_exact(&mut answer).unwrap();
            });
        });
        group.finish();
    }

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"MessageId\":\"1\"}";

    /// Accepts everything, and reads only the length of a request. Ends with the process.
    fn answerer() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
        address
    }

    fn answer(mut stream: TcpStream) {
        let (mut request, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
        loop {
            let Ok(octets @ 1..) = stream.read(&mut piece) else { return };
            request.extend_from_slice(&piece[..octets]);
            let Some(head) = memchr::memmem::find(&request, b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if request.len() >= head + 4 + length.unwrap_or(0) {
                request.clear();
                if stream.write_all(ANSWER).is_err() {
                    return;
                }
            }
        }
    }

    /// A permitted message, from a relay, because only a relay can create one.
    async fn permitted(octets: usize) -> Permitted {
        let kept = Keeper::default();
        let policy = AppPolicy::local(vec![AddressPattern::parse("*@a.example").unwrap()]);
        let smtp = gatepost::smtp::Settings::new("relay.example");
        let endpoint = Endpoint::Tcp("127.0.0.1:0".parse().unwrap());
        let builder = Builder::new("relay.example", policy, kept.clone());
        let relay = builder.listener(ListenerSettings::new("bench", endpoint, smtp)).start().unwrap();
        let Some(ListenerAddress::Tcp(address)) = relay.address("bench") else { unreachable!() };
        let body = String::from_utf8(super::cases::body(octets, false)).unwrap();
        let dialogue = format!(
            "EHLO a\r\nMAIL FROM:<ann@a.example>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n\
             From: Ann <ann@a.example>\r\nSubject: x\r\n\r\n{body}QUIT\r\n"
        );
        let told = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(dialogue.as_bytes()).unwrap();
            let mut told = String::new();
            stream.read_to_string(&mut told).unwrap();
            told
        });
        let told = told.await.unwrap();
        relay.stop().await;
        let message = kept.0.lock().unwrap().take();
        message.ok_or(told).unwrap()
    }

    #[derive(Clone, Default)]
    struct Keeper(Arc<Mutex<Option<Permitted>>>);

    #[async_trait::async_trait]
    impl Transport for Keeper {
        async fn send(&self, message: Permitted, _: Instant) -> Outcome {
            *self.0.lock().unwrap() = Some(message);
            Outcome::sent(MessageId::new("kept").unwrap())
        }
    }
}

criterion_group!(parts, parsing, scanning, session, replying, deciding, limiting, sharing, calling);
criterion_main!(parts);
