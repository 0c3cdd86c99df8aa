//! Sending at a measured pace: the closed loop and the open loop, for every kind of sender.
//!
//! *Closed*: each connection sends its next message when the last is answered. Shows what CPU a message costs and what
//! rate is the most. Where SES takes its time, connections begin at random moments of that time: programs that know nothing
//! of each other do not begin in one instant, and a closed loop would keep them together. *Open*: messages become due at a
//! rate, answered or not, as at the door of a real service; latency counts from when a message was **due**, so a stall is
//! seen by every message that it delayed (no coordinated omission).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What is to be sent, by whom, how fast.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) by: LimitKey,
    /// Connections, or calls at a time.
    pub(crate) connections: usize,
    /// Size of a message.
    pub(crate) octets: usize,
    pub(crate) recipients: usize,
    pub(crate) seconds: f64,
    /// Ends after so many messages, however long that takes.
    pub(crate) messages_max: Option<u64>,
    /// Messages a second, all connections together: an open loop.
    pub(crate) rate: Option<f64>,
    /// Closed loop: within how many milliseconds the connections begin.
    pub(crate) spread_ms: u64,
}

impl Load {
    pub(crate) fn closed(by: LimitKey, connections: usize, octets: usize, seconds: f64) -> Self {
        Self { by, connections, octets, recipients: 1, seconds, messages_max: None, rate: None, spread_ms: 0 }
    }

    /// The same load from mail clients that behave otherwise.
    pub(crate) fn with(&self, change: impl FnOnce(Smtp) -> Smtp) -> Self {
        let by = match self.by.clone() {
            LimitKey::Smtp(smtp) => LimitKey::Smtp(change(smtp)),
            by => by,
        };
        Self { by, ..self.clone() }
    }
}

impl Smtp {
    /// A client that sends one message after the other in clear.
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

/// Who sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum LimitKey {
    /// A mail client.
    Smtp(Smtp),
    /// The yardstick: a program that calls SES itself, with the SDK.
    Sdk { endpoint: String },
    /// One signed request, written again and again: what the emulator can take.
    Replay { endpoint: String },
}

/// How a mail client behaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Smtp {
    pub(crate) server: std::net::SocketAddr,
    /// Connections come from the addresses of so many applications, in that network.
    pub(crate) applications: usize,
    pub(crate) network: crate::network::Network,
    /// MAIL, RCPT and DATA in one segment.
    pub(crate) pipelining: bool,
    /// STARTTLS, and whose certificates to trust.
    pub(crate) authority: Option<PathBuf>,
    /// AUTH PLAIN: name and password.
    pub(crate) login: Option<(String, String)>,
    /// Then QUIT and a new connection.
    pub(crate) messages_per_connection: Option<u64>,
    /// Tries a message again that was deferred.
    pub(crate) patient: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) accepted: u64,
    /// Message ids that were quoted by acceptances: as many as accepted, if each was a message of its own.
    pub(crate) distinct: u64,
    /// Other answers, by code.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Connections that broke; the first words of the first.
    pub(crate) broken: u64,
    pub(crate) trouble: Option<String>,
    /// Open loop: due, but not sent before the patience was over.
    pub(crate) unsent: u64,
    /// From the first to the last answer.
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

/// An answer to one message.
pub(crate) enum Answer {
    /// With the message id that was quoted, hashed.
    Accepted(u64),
    Refused(u16),
}

/// One connection, or one caller.
pub(crate) trait Sender: Send + 'static {
    /// Connects, so that the first message is as quick as the others.
    fn prepare(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends a message. An error means that nobody knows what became of it.
    fn send(&mut self) -> impl Future<Output = io::Result<Answer>> + Send;

    /// Says goodbye.
    fn end(&mut self) -> impl Future<Output = ()> + Send;
}

/// How long an open loop that could not keep up goes on after its end.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// Connections opened at a time: more overflow listen queues, and a lost SYN costs a second.
const DIALS_AT_A_TIME: usize = 64;

/// Sends the load and reports.
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
        // A thread of its own, because a tokio timer is up to a millisecond late, which is much beside half a one.
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

/// When to send.
struct Schedule {
    began: Instant,
    ends: Instant,
    messages_max: u64,
    begun: AtomicU64,
    /// Open loop: since the beginning, in order.
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

    /// When the next message of this connection is due; `None`: that was all.
    async fn next(&self) -> Option<Instant> {
        if let Some(dues) = &self.dues {
            // Closed when the last is due: what is left is taken without waiting.
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

/// Independent arrivals (a Poisson process), the same ones in every run: evenly spaced ones flatter a queue.
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

/// What one connection saw.
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
                // A server that is gone would otherwise be asked as fast as it can say no.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    sender.end().await;
    part
}

/// FNV-1a: two ids of one run with the same hash would show as a repeated message, and are less likely than that.
pub(crate) fn hash(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

/// A message of that size, with one line in fifty that begins with a dot. `application` is who sends it.
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
    // Whatever the last line was cut to, it ends as a line.
    while text.last().is_some_and(|octet| b"\r\n".contains(octet)) {
        text.pop();
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Who the messages go to.
pub(crate) fn recipients(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("bob{number}@elsewhere.example"))
}
