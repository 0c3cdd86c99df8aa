//! Sends a load: the closed loop and the open loop, for every kind of sender.
//!
//! *Closed*: each connection sends its next message after the reply to the last. Shows the CPU per message and the maximum
//! rate. With a latency of SES, connections start at random times within it: independent programs do not start at the same
//! instant, and a closed loop would keep them in step. *Open*: messages become due at a rate, whether or not earlier ones are
//! answered, as at a real service; latency counts from the time when a message was **due**, so every message that a stall
//! delayed shows it (no coordinated omission).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The sender, the messages and the rate of a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) by: LimitKey,
    /// Connections, or concurrent calls.
    pub(crate) connections: usize,
    /// Size of a message.
    pub(crate) octets: usize,
    pub(crate) recipients: usize,
    pub(crate) seconds: f64,
    /// Ends after this number of messages, however long that takes.
    pub(crate) messages_max: Option<u64>,
    /// Messages a second over all connections: an open loop.
    pub(crate) rate: Option<f64>,
    /// Closed loop: milliseconds within which the connections start.
    pub(crate) spread_ms: u64,
}

impl Load {
    pub(crate) fn closed(by: LimitKey, connections: usize, octets: usize, seconds: f64) -> Self {
        Self { by, connections, octets, recipients: 1, seconds, messages_max: None, rate: None, spread_ms: 0 }
    }

    /// The same load from mail clients with other behaviour.
    pub(crate) fn with(&self, change: impl FnOnce(Smtp) -> Smtp) -> Self {
        let by = match self.by.clone() {
            LimitKey::Smtp(smtp) => LimitKey::Smtp(change(smtp)),
            by => by,
        };
        Self { by, ..self.clone() }
    }
}

impl Smtp {
    /// A client that sends one message after the other without TLS.
    pub(crate) fn plain(server: std::net::SocketAddr, applications: usize) -> Self {
        Self {
            server,
            applications,
            network: crate::network::LOOPBACK,
            pipelining: false,
            authority: None,
            login: None,
            messages_per_connection: None,
            patient: false,
        }
    }
}

/// The kind of sender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum LimitKey {
    /// A mail client.
    Smtp(Smtp),
    /// The baseline: a program that calls SES itself, with the SDK.
    Sdk { endpoint: String },
    /// One signed request, sent repeatedly: the maximum rate of the emulator.
    Replay { endpoint: String },
}

/// The behaviour of a mail client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Smtp {
    pub(crate) server: std::net::SocketAddr,
    /// Connections come from the addresses of this number of applications, in this network.
    pub(crate) applications: usize,
    pub(crate) network: crate::network::Network,
    /// MAIL, RCPT and DATA in one segment.
    pub(crate) pipelining: bool,
    /// STARTTLS, and the trusted authority.
    pub(crate) authority: Option<PathBuf>,
    /// AUTH PLAIN: name and password.
    pub(crate) login: Option<(String, String)>,
    /// Messages before QUIT and a new connection.
    pub(crate) messages_per_connection: Option<u64>,
    /// Retries a message that was deferred.
    pub(crate) patient: bool,
}

/// The result of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) accepted: u64,
    /// Different message ids in positive replies: equal to `accepted` if each was a separate message.
    pub(crate) distinct: u64,
    /// Other replies, by code.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Connections that broke; the text of the first error.
    pub(crate) broken: u64,
    pub(crate) trouble: Option<String>,
    /// Open loop: due, but not sent within [`CATCH_UP_MAX`] after the end.
    pub(crate) unsent: u64,
    /// From the first to the last reply.
    pub(crate) seconds: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Report {
    pub(crate) fn rate(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }
}

/// The reply to one message.
pub(crate) enum Answer {
    /// With the hash of the message id in the reply.
    Accepted(u64),
    Refused(u16),
}

/// One connection, or one caller of the API.
pub(crate) trait Sender: Send + 'static {
    /// Connects, so that the first message is as fast as the others.
    fn prepare(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends a message. After an error its outcome is unknown.
    fn send(&mut self) -> impl Future<Output = io::Result<Answer>> + Send;

    /// Ends the connection.
    fn end(&mut self) -> impl Future<Output = ()> + Send;
}

/// How long an open loop that is behind its rate continues after its end.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// Concurrent connection attempts: more would overflow listen queues, and a lost SYN takes a second.
const DIALS_AT_A_TIME: usize = 64;

/// Sends the load and returns the report.
pub(crate) async fn drive<S: Sender>(load: &Load, senders: Vec<S>) -> Report {
    let mut report = Report::default();
    let mut dialling = JoinSet::new();
    let dials = Arc::new(Semaphore::new(DIALS_AT_A_TIME));
    for mut sender in senders {
        let dials = Arc::clone(&dials);
        dialling.spawn(async move {
            let _dial = dials.acquire_owned().await;
            let dialled = sender.prepare().await;
            (sender, dialled)
        });
    }
    let mut ready = Vec::new();
    while let Some(dialled) = dialling.join_next().await {
        match dialled {
            Ok((sender, Ok(()))) => ready.push(sender),
            Ok((_, Err(error))) => report.breaks(&error),
            Err(error) => report.breaks(&io::Error::other(error)),
        }
    }
    let schedule = Arc::new(Schedule::new(load));
    if let Some(dues) = &schedule.dues {
        let (schedule, dues) = (Arc::clone(&schedule), dues.clone());
        // A separate thread, because a tokio timer is up to a millisecond late, and latencies here are half a millisecond.
        std::thread::spawn(move || {
            for due in dues {
                std::thread::sleep((schedule.began + due).saturating_duration_since(Instant::now()));
                schedule.due.add_permits(1);
            }
            schedule.due.close();
        });
    }
    let mut workers = JoinSet::new();
    let mut random = Random::default();
    for sender in ready {
        let begins = Duration::from_millis(load.spread_ms).mul_f64(random.fraction());
        workers.spawn(work(sender, Arc::clone(&schedule), begins));
    }
    let mut took = Vec::new();
    let mut ids = HashSet::new();
    let mut last = schedule.began;
    while let Some(done) = workers.join_next().await {
        let Ok(part) = done else { continue };
        report.accepted += part.ids.len() as u64;
        ids.extend(part.ids);
        took.extend(part.took);
        for (code, times) in part.refused {
            *report.refused.entry(code).or_default() += times;
        }
        for error in part.broken {
            report.breaks(&error);
        }
        last = last.max(part.last.unwrap_or(last));
    }
    report.distinct = ids.len() as u64;
    report.unsent =
        schedule.dues.as_ref().map_or(0, |dues| dues.len() - schedule.taken.load(Ordering::Relaxed).min(dues.len()))
            as u64;
    report.seconds = last.saturating_duration_since(schedule.began).as_secs_f64();
    took.sort_unstable();
    let at = |part: f64| {
        let place = ((took.len() as f64 * part).ceil() as usize).clamp(1, took.len().max(1)) - 1;
        took.get(place).map_or(f64::NAN, |microseconds| f64::from(*microseconds) / 1000.0)
    };
    (report.p50_ms, report.p90_ms, report.p99_ms, report.max_ms) = (at(0.5), at(0.9), at(0.99), at(1.0));
    report
}

impl Report {
    pub(crate) fn breaks(&mut self, error: &io::Error) {
        self.broken += 1;
        self.trouble.get_or_insert_with(|| error.to_string());
    }
}

/// The schedule of the messages.
struct Schedule {
    began: Instant,
    ends: Instant,
    messages_max: u64,
    begun: AtomicU64,
    /// Open loop: times since the start, in order.
    dues: Option<Vec<Duration>>,
    due: Semaphore,
    taken: AtomicUsize,
}

impl Schedule {
    fn new(load: &Load) -> Self {
        let length = Duration::from_secs_f64(load.seconds);
        let dues = load.rate.map(|rate| arrivals(rate, length));
        let began = Instant::now();
        let ends = match (&dues, load.messages_max) {
            (Some(_), _) => began + length + CATCH_UP_MAX,
            (None, Some(_)) => began + Duration::from_secs(3600),
            (None, None) => began + length,
        };
        Self {
            began,
            ends,
            messages_max: load.messages_max.unwrap_or(u64::MAX),
            begun: AtomicU64::new(0),
            dues,
            due: Semaphore::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// When the next message of this connection is due; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        if let Some(dues) = &self.dues {
            // The channel closes when the last message is due; the rest is received without waiting.
            if let Ok(permit) = self.due.acquire().await {
                permit.forget();
            }
            let due = self.began + *dues.get(self.taken.fetch_add(1, Ordering::Relaxed))?;
            return (Instant::now() < self.ends).then_some(due);
        }
        let now = Instant::now();
        (now < self.ends && self.begun.fetch_add(1, Ordering::Relaxed) < self.messages_max).then_some(now)
    }
}

/// Independent arrivals (a Poisson process), the same in every run: evenly spaced ones would make a queue look too good.
fn arrivals(rate: f64, length: Duration) -> Vec<Duration> {
    let mut random = Random::default();
    let (mut at, mut dues) = (0.0, Vec::new());
    loop {
        at += -random.fraction().ln() / rate;
        if at >= length.as_secs_f64() {
            return dues;
        }
        dues.push(Duration::from_secs_f64(at));
    }
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// In (0, 1].
    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// The results of one connection.
#[derive(Default)]
struct Part {
    ids: Vec<u64>,
    /// Microseconds.
    took: Vec<u32>,
    refused: BTreeMap<u16, u64>,
    broken: Vec<io::Error>,
    last: Option<Instant>,
}

async fn work<S: Sender>(mut sender: S, schedule: Arc<Schedule>, begins: Duration) -> Part {
    let mut part = Part::default();
    if schedule.dues.is_none() && !begins.is_zero() {
        tokio::time::sleep(begins).await;
    }
    while let Some(due) = schedule.next().await {
        let answer = sender.send().await;
        let now = Instant::now();
        part.last = Some(now);
        match answer {
            Ok(Answer::Accepted(id)) => {
                part.ids.push(id);
                part.took.push(u32::try_from((now - due).as_micros()).unwrap_or(u32::MAX));
            }
            Ok(Answer::Refused(code)) => *part.refused.entry(code).or_default() += 1,
            Err(error) => {
                part.broken.push(error);
                // Without a pause, a stopped server would be contacted in a busy loop.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    sender.end().await;
    part
}

/// FNV-1a: two ids with the same hash would look like a repeated message, but are very unlikely within one run.
pub(crate) fn hash(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

/// A message of this size, in which one line in fifty begins with a dot. `application` is the sender.
pub(crate) fn message(application: usize, octets: usize) -> Vec<u8> {
    let mut text = format!(
        "From: Billing <billing@app{application}.example.com>\r\nTo: Bob <bob@elsewhere.example>\r\n\
         Subject: Invoice 42\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\
         Message-ID: <42@app{application}.example.com>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    .into_bytes();
    let mut number = 0;
    while text.len() + 2 < octets {
        let line: &[u8] = match number % 50 {
            7 => b".a line that begins with a dot, as one in fifty does here\r\n",
            _ => b"a line of ordinary text, of about the length that such lines have\r\n",
        };
        let room = octets - text.len() - 2;
        text.extend_from_slice(&line[..line.len().min(room)]);
        number += 1;
    }
    // The last line may be cut, but ends with CR LF.
    while text.last().is_some_and(|octet| b"\r\n".contains(octet)) {
        text.pop();
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// The recipients.
pub(crate) fn recipients(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("bob{number}@elsewhere.example"))
}
