//! A loopback emulator of the Amazon SES v2 API.
//!
//! Lets a program that speaks to SES through a real AWS SDK run without an AWS account: set the SDK's endpoint to
//! [`Emulator::endpoint_url`] and its credentials to one of [`EmulatorSettings::credentials`]. SendEmail with raw
//! content is checked as SES checks it, stored, and can be inspected; GetAccount, GetEmailIdentity, GetConfigurationSet and
//! GetSuppressedDestination return the settings. Faults can be scripted, one for each request.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use gatepost::emulator::{Emulator, EmulatorSettings, Fault};
//!
//! let emulator = Emulator::start(EmulatorSettings::default()).await?;
//! emulator.script([Fault::throttled(), Fault::Hang]);
//! // … point the program under test at emulator.endpoint_url() …
//! assert_eq!(emulator.counts().send_email_requests, 2);
//! emulator.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! The module imports no other module of gatepost and shares no parser and no table with the relay, so that a test of
//! the relay does not compare its code with itself.
//!
//! Guarantees: it listens on loopback only. A message that SendEmail accepts is in [`Emulator::messages`] before the
//! response is sent. Every list, body, wait and connection is bounded. It reads no environment and installs nothing
//! global.
//!
//! Limits: HTTP/1.1 without TLS; raw content only; no delivery, no events, no IAM policies (actions can be denied by
//! name); attachments are not checked. Its behaviour is documented by AWS or was seen in captures; where neither
//! exists, the file that decides says so.
//!
//! One request, file by file: `server` accepts the connection, `routes` selects the operation, `signature` verifies the
//! signature, `request` parses the JSON, `submission` makes the checks of SES, `capture` stores the message, `outbound`
//! connects these steps and applies the `fault` that `script` selected; `request_log` records the request. `control` is the
//! API for tests in other languages: its module documentation lists the requests.

mod access_denied;
mod address;
mod asymmetric;
mod author_readings;
mod body;
mod capture;
mod clock;
mod connection;
mod control;
mod fault;
mod identities;
mod ids;
mod lists;
mod mailbox_simulator;
mod outbound;
mod quota;
mod raw;
mod reads;
mod refusal;
mod reply;
mod request;
mod request_log;
mod routes;
mod script;
mod server;
mod settings;
mod signature;
mod storage;
mod submission;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use access_denied::Denial;
pub use author_readings::AuthorReadings;
pub use capture::CapturedMessage;
pub use fault::{Fault, FaultSyntaxError};
pub use mailbox_simulator::DeliveryOutcome;
pub use refusal::ErrorName;
pub use request::{Destination, SendParameters};
pub use request_log::{Counts, RequestOutcome, SeenRequest};
pub use settings::{
    AccountSettings, Bounds, ConfigurationSet, Credential, EmulatorSettings, Enforcement, Identity, Retention,
    SuppressionReason, Tenant,
};

/// A running emulator. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<Infallible>>,
    server: JoinHandle<()>,
}

/// Why an emulator could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// The address to listen on can be reached from other machines.
    #[error("the emulator listens on loopback only, and {0} is not loopback: other machines could read its messages")]
    NotLoopback(SocketAddr),
    /// A setting is invalid.
    #[error("emulator settings: {0}")]
    Settings(&'static str),
    /// The address could not be listened on.
    #[error("the emulator cannot listen on {address}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The directory for messages could not be created.
    #[error("the emulator cannot use the directory {}", directory.display())]
    Directory {
        /// The requested directory.
        directory: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

impl Emulator {
    /// Starts listening. Must be called in a tokio runtime with time and I/O enabled, which then serves the emulator.
    pub async fn start(settings: EmulatorSettings) -> Result<Emulator, EmulatorError> {
        check(&settings)?;
        if let Some(directory) = &settings.directory {
            let created = tokio::fs::create_dir_all(directory).await;
            created.map_err(|source| EmulatorError::Directory { directory: directory.clone(), source })?;
        }
        let refused = |source| EmulatorError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let shared = Arc::new(Shared::new(settings));
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server::run(listener, Arc::clone(&shared), stopped));
        Ok(Self { address, shared, stop: Some(stop), server })
    }

    /// Where it listens, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as an endpoint for an AWS SDK: `http://127.0.0.1:port`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The stored messages, the oldest first.
    pub fn messages(&self) -> Vec<CapturedMessage> {
        self.shared.store.list().iter().map(|message| CapturedMessage::clone(message)).collect()
    }

    /// Forgets the messages, not their number.
    pub fn clear_messages(&self) {
        self.shared.store.clear();
    }

    /// The SendEmail requests seen, the oldest first, faulted ones included: at most the last 10,000.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.request_log.recent()
    }

    /// Totals since the start.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Queues faults, one for each of the next SendEmail requests. Returns whether they fit; if not, none is queued.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) -> bool {
        // One more than the limit shows that they do not fit: an endless iterator must not fill the memory.
        let faults: Vec<_> = faults.into_iter().take(script::FAULTS_MAX + 1).collect();
        let queued = lock(&self.shared.script).queue(faults).is_ok();
        if !queued {
            tracing::warn!(most = script::FAULTS_MAX, "emulator: script does not fit, nothing was queued");
        }
        queued
    }

    /// Sets the fault of the n-th SendEmail request from now; 1 is the next. Returns whether it fits.
    pub fn script_at(&self, request: u64, fault: Fault) -> bool {
        lock(&self.shared.script).at(request, fault).is_ok()
    }

    /// Sets the fault of every SendEmail request that has none queued, until it is taken back with `None`.
    pub fn script_always(&self, fault: Option<Fault>) {
        lock(&self.shared.script).always(fault);
    }

    /// Removes all scripted faults. A fault that a request has already received continues.
    pub fn clear_script(&self) {
        lock(&self.shared.script).clear();
    }

    /// Sets the time that every SendEmail request waits before it is checked.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.set_latency(latency);
    }

    /// Stops listening, cuts every connection, and returns when all is closed.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Err(error) = (&mut self.server).await {
            tracing::warn!(%error, "emulator: the server did not end by itself");
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn check(settings: &EmulatorSettings) -> Result<(), EmulatorError> {
    if !settings.listen.ip().is_loopback() {
        return Err(EmulatorError::NotLoopback(settings.listen));
    }
    let rate = settings.account.recipients_per_second_max;
    let rules = [
        (settings.credentials.is_empty(), "at least one credential is needed"),
        (settings.region.is_empty(), "a region is needed"),
        (rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0), "the send rate must be a number above 0"),
    ];
    match rules.iter().find(|(broken, _)| *broken) {
        Some((_, problem)) => Err(EmulatorError::Settings(problem)),
        None => Ok(()),
    }
}

/// The state that all connections share.
#[derive(Debug)]
struct Shared {
    clock: clock::WallClock,
    started: jiff::Timestamp,
    ids: ids::Ids,
    request_log: Arc<request_log::RequestLog>,
    store: capture::MessageStore,
    script: Mutex<script::FaultScript>,
    quota: Mutex<quota::Quota>,
    latency_microseconds: AtomicU64,
    bodies: body::BodyBudget,
    /// Enough for a message of the maximum size in base64 and JSON, with the other parameters. A message slightly above
    /// the limit is still read, so that it receives the error of SES.
    body_octets_max: usize,
    settings: EmulatorSettings,
}

impl Shared {
    fn new(settings: EmulatorSettings) -> Self {
        let clock = clock::WallClock::ahead_by(settings.clock_ahead_seconds);
        let message = settings.bounds.message_octets_max;
        let body_octets_max = message.saturating_add(message / 8).saturating_add(PARAMETER_OCTETS_MAX);
        let shared = Self {
            clock,
            started: clock.now(),
            ids: ids::Ids::new(),
            request_log: Arc::default(),
            store: capture::MessageStore::new(settings.retention),
            script: Mutex::default(),
            quota: Mutex::new(quota::Quota::new(&settings.account, tokio::time::Instant::now())),
            latency_microseconds: AtomicU64::new(0),
            bodies: body::BodyBudget::new(settings.bounds.body_octets_in_flight_max, body_octets_max),
            body_octets_max,
            settings,
        };
        shared.set_latency(shared.settings.latency);
        shared
    }

    async fn read_body(
        &self,
        body: hyper::body::Incoming,
        octets_max: usize,
    ) -> Result<body::ReadBody<'_>, refusal::Refusal> {
        self.bodies.read(body, octets_max, self.settings.bounds.body_time_max).await
    }

    fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_microseconds.load(Ordering::Relaxed))
    }

    fn set_latency(&self, latency: Duration) {
        self.latency_microseconds.store(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        self.request_log.counts(self.store.accepted())
    }
}

/// Locks, also after a panic elsewhere: the guarded lists and counts are consistent after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The part of a request body for everything except the content.
const PARAMETER_OCTETS_MAX: usize = 256 * 1024;
