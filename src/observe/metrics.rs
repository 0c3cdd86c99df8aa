//! Counters and gauges for Prometheus, made from events.
//!
//! Names begin with `gatepost_`, units are base units, and labels are bounded: listeners, applications, rules, limits and
//! codes, never an address. More distinct rules than [`WORDS_MAX`], and more applications than [`APPS_MAX`], count as
//! `other`; what belongs to no application that is known has an empty `app`.
//! Prometheus: "Metric and label naming", OpenMetrics 1.0.

use super::process_metrics::{self, ProcessSnapshot};
use super::words::{Word, Words};
use super::{Event, Observer};
use crate::mail::abandonment::closing_word;
use crate::mail::parameters::AppName;
use crate::mail::{AccountQuota, Certainty, Outcome, OutcomeKind, Reply, RuleName};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

type Float = Gauge<f64, AtomicU64>;

macro_rules! labels {
    ($( $name:ident { $( $label:ident: $type:ty ),+ } )+) => { $(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $( $label: $type ),+ }
    )+ };
}

labels! {
    Listener { listener: Word }
    Accepted { listener: Word, result: Word }
    App { app: Word }
    Refused { verb: Word, code: u16, app: Word }
    Transaction { outcome: Word, code: Option<u16>, app: Word }
    Abandoned { after: Word, reason: Word }
    Closed { reason: Word }
    Decision { rule: Word, decision: Word, app: Word }
    Left { status: Word, app: Word }
    Queued { state: Word, app: Word }
    Limit { limit: Word, app: Word }
    LimitWindow { limit: String, window: String, app: String }
    Request { outcome: Word, code: Word }
    Authentication { result: Word }
    Use { r#use: Word }
    Version { version: Word }
}

/// The metrics, and the [`Observer`] that counts them.
pub struct Metrics {
    registry: Registry,
    connections: Family<Listener, Gauge>,
    connections_total: Family<Accepted, Counter>,
    commands_refused: Family<Refused, Counter>,
    transactions: Family<Transaction, Counter>,
    abandoned: Family<Abandoned, Counter>,
    sessions_closed: Family<Closed, Counter>,
    decisions: Family<Decision, Counter>,
    limit_hits: Family<Limit, Counter>,
    authentications: Family<Authentication, Counter>,
    message_size: Histogram,
    handoff_duration: Histogram,
    recipients: Family<App, Counter>,
    octets: Family<App, Counter>,
    requests: Family<Request, Counter>,
    request_duration: Histogram,
    ambiguous: Counter,
    queue: Family<Queued, Gauge>,
    queue_octets: Family<App, Gauge>,
    oldest: Float,
    damaged: Gauge,
    queue_left: Family<Left, Counter>,
    queue_time: Histogram,
    decision_failures: Counter,
    quota_rate: Float,
    quota_24_hours: Float,
    sent_24_hours: Float,
    pace: Float,
    memory: Family<Use, Gauge>,
    waiting: Gauge,
    calls: Gauge,
    certificate: Family<Listener, Gauge>,
    faults: Gauge,
    reload_successful: Gauge,
    reload_time: Gauge,
    words: Words,
    apps: Words,
    /// The names of limits: their refusals count as hits, not as decisions of policy.
    limits: RwLock<HashSet<Word>>,
}

/// What is in the spool.
#[derive(Clone, Debug, Default)]
pub struct SpoolSnapshot {
    /// For each application with messages: messages that wait, messages that are held, octets of all.
    pub apps: Vec<(Option<AppName>, u64, u64, u64)>,
    /// The age of the oldest message; 0 if there is none.
    pub oldest_seconds: f64,
    /// Damaged records that were set aside.
    pub damaged: u64,
}

/// Values that are read at each scrape.
#[derive(Clone, Debug, Default)]
pub struct MetricsSnapshot {
    /// The account's quota, as read last.
    pub account: Option<AccountQuota>,
    /// The current pace, in recipients per second.
    pub pace: Option<f64>,
    /// Octets in use: received content in memory, messages being sent, content on disk.
    pub octets: (u64, u64, u64),
    /// Messages in the send queue, and calls in flight.
    pub send_queue: (usize, usize),
    /// What is in the spool, if there is one.
    pub spool: Option<SpoolSnapshot>,
    /// Each listener's certificate and its end, in seconds since 1970.
    pub certificates: Vec<(String, i64)>,
    /// Limits that count all messages of an application, or all messages.
    pub limits: Vec<LimitSnapshot>,
    /// The number of known faults.
    pub faults: usize,
    /// Whether the configuration was read successfully the last time, and when that was, in seconds since 1970. `None`: it is not read
    /// from files.
    pub reload: Option<(bool, i64)>,
    /// The figures of the process; `None` where the system has none.
    pub process: Option<ProcessSnapshot>,
}

/// One window of a limit.
#[derive(Clone, Debug)]
pub struct LimitSnapshot {
    /// The limit.
    pub limit: RuleName,
    /// The application, where each has a count of its own.
    pub app: Option<AppName>,
    /// The window, as it is configured.
    pub window: String,
    /// How much of it is used.
    pub used: u64,
    /// How much remains.
    pub remaining: u64,
}

/// Distinct rule, limit and listener names.
const WORDS_MAX: usize = 5_000;
/// Applications with series of their own.
const APPS_MAX: usize = 1_000;

/// Up to four days, the longest time in the queue by default.
const QUEUE_SECONDS: [f64; 12] =
    [0.1, 1.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 28_800.0, 86_400.0, 172_800.0, 345_600.0];
/// SES answers in about 20 to 200 ms; a hand-off may wait in the send queue until the deadline.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const OCTETS: [f64; 9] = [1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6, 16e6, 40e6];

impl Metrics {
    /// Metrics without events: all at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("gatepost"),
            connections: Family::default(),
            connections_total: Family::default(),
            commands_refused: Family::default(),
            transactions: Family::default(),
            abandoned: Family::default(),
            sessions_closed: Family::default(),
            decisions: Family::default(),
            limit_hits: Family::default(),
            authentications: Family::default(),
            message_size: Histogram::new(OCTETS),
            handoff_duration: Histogram::new(SECONDS),
            recipients: Family::default(),
            octets: Family::default(),
            requests: Family::default(),
            request_duration: Histogram::new(SECONDS),
            ambiguous: Counter::default(),
            queue: Family::default(),
            queue_octets: Family::default(),
            oldest: Float::default(),
            damaged: Gauge::default(),
            queue_left: Family::default(),
            queue_time: Histogram::new(QUEUE_SECONDS),
            decision_failures: Counter::default(),
            quota_rate: Gauge::default(),
            quota_24_hours: Gauge::default(),
            sent_24_hours: Gauge::default(),
            pace: Gauge::default(),
            memory: Family::default(),
            waiting: Gauge::default(),
            calls: Gauge::default(),
            certificate: Family::default(),
            faults: Gauge::default(),
            reload_successful: Gauge::default(),
            reload_time: Gauge::default(),
            words: Words::new(WORDS_MAX),
            apps: Words::new(APPS_MAX),
            limits: RwLock::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let mut registry = Registry::with_prefix("gatepost");
        let r = &mut registry;
        r.register("smtp_connections_open", "SMTP connections now", self.connections.clone());
        r.register("smtp_connections", "SMTP connections since the start", self.connections_total.clone());
        r.register("smtp_commands_refused", "SMTP commands refused", self.commands_refused.clone());
        r.register(
            "smtp_transactions",
            "Mail transactions, by how they ended: one for every accepted MAIL",
            self.transactions.clone(),
        );
        let abandoned = self.abandoned.clone();
        r.register("smtp_transactions_abandoned", "Mail transactions that ended without a message", abandoned);
        let closed = self.sessions_closed.clone();
        r.register("smtp_sessions_closed", "Sessions that the relay closed by itself with 421", closed);
        r.register("policy_decisions", "Decisions that a rule made", self.decisions.clone());
        r.register("limit_hits", "Refusals because a limit was exceeded", self.limit_hits.clone());
        r.register("smtp_authentications", "AUTH exchanges", self.authentications.clone());
        let size = self.message_size.clone();
        r.register_with_unit("message_size", "Size of messages, trace field included", Unit::Bytes, size);
        let duration = self.handoff_duration.clone();
        r.register_with_unit("handoff_duration", "From the end of data to the reply", Unit::Seconds, duration);
        r.register("recipients", "Recipients of accepted messages", self.recipients.clone());
        let octets = self.octets.clone();
        r.register_with_unit("accepted_messages", "Octets of accepted messages", Unit::Bytes, octets);
        let successful = self.reload_successful.clone();
        r.register(
            "config_last_reload_successful",
            "1: the configuration was read successfully the last time",
            successful,
        );
        let time = self.reload_time.clone();
        let name = "config_last_reload_success_timestamp";
        r.register_with_unit(name, "When the configuration in force was read", Unit::Seconds, time);
        r.register(
            "faults",
            "What sending needs and does not work; 0: nothing is known to be wrong",
            self.faults.clone(),
        );
        r.register("ses_requests", "Calls to SES", self.requests.clone());
        let duration = self.request_duration.clone();
        r.register_with_unit("ses_request_duration", "How long SES took", Unit::Seconds, duration);
        r.register("ses_ambiguous_attempts", "Attempts that may have sent a message", self.ambiguous.clone());
        r.register("queue_messages", "Messages in the spool", self.queue.clone());
        r.register_with_unit("queue", "Octets of the messages in the spool", Unit::Bytes, self.queue_octets.clone());
        let oldest = self.oldest.clone();
        r.register_with_unit("queue_oldest_age", "Age of the oldest message in the spool", Unit::Seconds, oldest);
        r.register("queue_damaged_records", "Damaged records that were set aside", self.damaged.clone());
        r.register("queue_messages_left", "Messages that left the queue", self.queue_left.clone());
        let time = self.queue_time.clone();
        r.register_with_unit("queue_time", "From acceptance into the queue to the end", Unit::Seconds, time);
        r.register("decision_failures", "Policy or limiter could not decide", self.decision_failures.clone());
        r.register("ses_quota_recipients_per_second", "What the account may send", self.quota_rate.clone());
        r.register("ses_quota_recipients", "What the account may send in 24 hours", self.quota_24_hours.clone());
        r.register(
            "ses_quota_recipients_used",
            "What the account has sent in the last 24 hours",
            self.sent_24_hours.clone(),
        );
        r.register("pace_recipients_per_second", "The send rate in force", self.pace.clone());
        r.register_with_unit(
            "held",
            "Octets of messages that are being received or sent",
            Unit::Bytes,
            self.memory.clone(),
        );
        r.register("send_queue_messages", "Messages in the send queue", self.waiting.clone());
        r.register("ses_calls_in_flight", "Calls to SES under way", self.calls.clone());
        let not_after = self.certificate.clone();
        r.register_with_unit("tls_certificate_not_after_timestamp", "The certificate's end", Unit::Seconds, not_after);
        let build = Family::<Version, Gauge>::default();
        build.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        r.register("build_info", "What runs here", build);
        self.registry = registry;
    }

    /// The applications that have been counted so far, those with series of their own.
    pub fn apps(&self) -> Vec<AppName> {
        self.apps.all().into_iter().filter_map(|name| AppName::parse(name).ok()).collect()
    }

    /// All metrics in the OpenMetrics text format.
    pub fn open_metrics(&self, snapshot: &MetricsSnapshot) -> String {
        self.take(snapshot);
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        if !snapshot.limits.is_empty() {
            append(&mut text, &limits(&snapshot.limits));
        }
        if let Some(process) = &snapshot.process {
            append(&mut text, &process_metrics::registry(process));
        }
        text
    }

    fn take(&self, snapshot: &MetricsSnapshot) {
        if let Some(account) = &snapshot.account {
            self.quota_rate.set(account.recipients_per_second_max);
            self.quota_24_hours.set(account.recipients_per_24_hours_max.unwrap_or(f64::INFINITY));
            self.sent_24_hours.set(account.recipients_last_24_hours);
        }
        self.pace.set(snapshot.pace.unwrap_or(f64::INFINITY));
        let (receiving, sending, disk) = snapshot.octets;
        for (name, octets) in [("receiving", receiving), ("sending", sending), ("disk", disk)] {
            self.memory.get_or_create(&Use { r#use: name }).set(signed(octets));
        }
        self.faults.set(signed(snapshot.faults as u64));
        let (successful, time) = snapshot.reload.unwrap_or((true, 0));
        self.reload_successful.set(successful.into());
        self.reload_time.set(time);
        self.waiting.set(signed(snapshot.send_queue.0 as u64));
        self.calls.set(signed(snapshot.send_queue.1 as u64));
        if let Some(spool) = &snapshot.spool {
            self.spool(spool);
        }
        for (listener, not_after) in &snapshot.certificates {
            self.certificate.get_or_create(&Listener { listener: self.word(listener) }).set(*not_after);
        }
    }

    fn spool(&self, spool: &SpoolSnapshot) {
        // An application whose last message left has no row any more.
        self.queue.clear();
        self.queue_octets.clear();
        for (app, waiting, held, octets) in &spool.apps {
            let app = self.app(app.as_ref().map(AppName::as_str));
            for (state, messages) in [("waiting", waiting), ("held", held)] {
                self.queue.get_or_create(&Queued { state, app }).inc_by(signed(*messages));
            }
            self.queue_octets.get_or_create(&App { app }).inc_by(signed(*octets));
        }
        self.oldest.set(spool.oldest_seconds);
        self.damaged.set(signed(spool.damaged));
    }

    fn word(&self, word: &str) -> Word {
        self.words.word(word)
    }

    fn app(&self, app: Option<&str>) -> Word {
        app.map_or("", |app| self.apps.word(app))
    }

    fn decided(&self, rule: Option<&str>, decision: Word, app: Word) {
        let is_limit = |rule: &&str| self.limits.read().unwrap_or_else(PoisonError::into_inner).contains(*rule);
        if let Some(rule) = rule.filter(|rule| !is_limit(rule)) {
            let decision = Decision { rule: self.word(rule), decision, app };
            self.decisions.get_or_create(&decision).inc();
        }
    }
}

/// The samples of limits, made for each scrape, so that an application that no longer sends has none.
fn limits(moments: &[LimitSnapshot]) -> Registry {
    let (used, remaining) = (Family::<LimitWindow, Gauge>::default(), Family::<LimitWindow, Gauge>::default());
    for LimitSnapshot { limit, app, window, used: is_used, remaining: is_remaining } in moments {
        let app = app.as_ref().map(ToString::to_string).unwrap_or_default();
        let labels = LimitWindow { limit: limit.to_string(), window: window.clone(), app };
        used.get_or_create(&labels).set(signed(*is_used));
        remaining.get_or_create(&labels).set(signed(*is_remaining));
    }
    let mut registry = Registry::with_prefix("gatepost");
    registry.register("limit_used", "How much of a limit's window is used now", used);
    registry.register("limit_remaining", "How much of a limit's window remains now", remaining);
    registry
}

/// Adds the samples of another registry before the end mark.
fn append(text: &mut String, registry: &Registry) {
    text.truncate(text.len().saturating_sub("# EOF\n".len()));
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(text, registry);
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Observer for Metrics {
    fn observe(&self, event: &Event<'_>) {
        let accepted = |listener: &str, result| Accepted { listener: self.word(listener), result };
        let authentication = |result| Authentication { result };
        match event {
            Event::Connected(client) => {
                let listener = Listener { listener: self.word(&client.listener) };
                self.connections.get_or_create(&listener).inc();
                self.connections_total.get_or_create(&accepted(&client.listener, "accepted")).inc();
            }
            Event::Disconnected { client, .. } => {
                self.connections.get_or_create(&Listener { listener: self.word(&client.listener) }).dec();
            }
            Event::ConnectionRefused { listener, .. } => {
                self.connections_total.get_or_create(&accepted(listener, "refused")).inc();
            }
            Event::Silent { listener, .. } => {
                self.connections_total.get_or_create(&accepted(listener, "silent")).inc();
            }
            Event::Authenticated { .. } => drop(self.authentications.get_or_create(&authentication("accepted")).inc()),
            Event::AuthenticationFailed { reply, .. } => {
                let result = if reply.is_temporary() { "deferred" } else { "rejected" };
                self.authentications.get_or_create(&authentication(result)).inc();
            }
            Event::CommandRefused { client, verb, reply, rule, .. } => {
                let app = self.app(client.app_name());
                self.commands_refused.get_or_create(&Refused { verb: self.word(verb), code: reply.code(), app }).inc();
                self.decided(*rule, if reply.is_temporary() { "defer" } else { "reject" }, app);
            }
            Event::LimitHit { limit, app } => {
                let limit = self.word(limit);
                self.limits.write().unwrap_or_else(PoisonError::into_inner).insert(limit);
                self.limit_hits.get_or_create(&Limit { limit, app: self.app(*app) }).inc();
            }
            Event::DecisionFailed { .. } => drop(self.decision_failures.inc()),
            Event::TriedAgain { code } => {
                let code = if code.is_empty() { "none" } else { code };
                self.requests.get_or_create(&Request { outcome: OutcomeKind::Throttled.label(), code }).inc();
            }
            Event::MessageEnded(record) => self.message(record),
            Event::TransactionEnded(record) => {
                let (outcome, code) = (record.why.outcome(), record.why.reply().map(Reply::code));
                let app = self.app(record.app);
                self.transactions.get_or_create(&Transaction { outcome, code, app }).inc();
                if outcome == "abandoned" {
                    let after = self.word(record.after);
                    self.abandoned.get_or_create(&Abandoned { after, reason: record.why.word() }).inc();
                }
            }
            Event::SessionClosed { reply, .. } => {
                self.sessions_closed.get_or_create(&Closed { reason: closing_word(reply) }).inc();
            }
            Event::AttemptEnded(record) => {
                let app = self.app(record.app.map(AppName::as_str));
                self.attempt(record.outcome, Some(record.duration), app, record.forward_paths.len(), record.octets);
            }
            Event::AttemptInterrupted { .. } => drop(self.ambiguous.inc()),
            Event::QueueLeft(record) => {
                let app = self.app(record.app.map(AppName::as_str));
                self.queue_left.get_or_create(&Left { status: record.status, app }).inc();
                self.queue_time.observe(record.age.as_secs_f64());
            }
            Event::Encrypted(_)
            | Event::WouldRefuse { .. }
            | Event::PaceChanged { .. }
            | Event::Degraded { .. }
            | Event::Recovered { .. }
            | Event::QuotaRead(_)
            | Event::QuotaUnknown { .. }
            | Event::Operated { .. } => {}
        }
    }
}

impl Metrics {
    fn message(&self, record: &super::MessageRecord<'_>) {
        let (outcome, decision) = match record.reply {
            reply if reply.is_positive() => ("accepted", "accept"),
            reply if reply.is_temporary() => ("deferred", "defer"),
            _ => ("rejected", "reject"),
        };
        let app = self.app(record.app);
        let transaction = Transaction { outcome, code: Some(record.reply.code()), app };
        self.transactions.get_or_create(&transaction).inc();
        // A rule that accepted a message did so, whatever the provider answered.
        self.decided(record.rule, if record.outcome.is_some() { "accept" } else { decision }, app);
        self.message_size.observe(record.octets as f64);
        self.handoff_duration.observe(record.latency.as_secs_f64());
        if let Some(outcome) = record.outcome {
            self.attempt(outcome, record.attempt, app, record.forward_paths.len(), record.octets);
        }
    }

    fn attempt(&self, outcome: &Outcome, duration: Option<Duration>, app: Word, recipients: usize, octets: u64) {
        if let Some(duration) = duration {
            self.request_duration.observe(duration.as_secs_f64());
        }
        let code = if outcome.code.is_empty() { "none" } else { outcome.code };
        let request = Request { outcome: outcome.kind.label(), code };
        self.requests.get_or_create(&request).inc();
        match &outcome.certainty {
            Certainty::Sent(_) => {
                self.recipients.get_or_create(&App { app }).inc_by(recipients as u64);
                self.octets.get_or_create(&App { app }).inc_by(octets);
            }
            certainty => drop(self.ambiguous.inc_by(u64::from(*certainty == Certainty::Ambiguous))),
        }
    }
}
