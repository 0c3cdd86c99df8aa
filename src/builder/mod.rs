//! The public builder: components and settings in, a running relay out. No configuration file.
//!
//! ```no_run
//! # use gatepost::builder::Builder;
//! # use gatepost::policy::{AddressPattern, AppPolicy};
//! # use gatepost::server::{Endpoint, ListenerSettings};
//! # async fn run(transport: impl gatepost::transport::Transport) -> Result<(), Box<dyn std::error::Error>> {
//! let policy = AppPolicy::local(vec![AddressPattern::parse("*@example.com")?]);
//! let smtp = gatepost::smtp::Settings::new("relay.example");
//! let relay = Builder::new("relay.example", policy, transport)
//!     .listener(ListenerSettings::new("main", Endpoint::Tcp("127.0.0.1:0".parse()?), smtp))
//!     .start()?;
//! println!("listening on {}", relay.address("main").ok_or("no such listener")?);
//! relay.stop().await;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "admin")]
mod admin_parts;
mod running;

pub use crate::relay::{ExplainError, Explanation, Facts, Sent, Step};
pub use running::Running;

#[cfg(feature = "admin")]
use crate::admin::{AdminError, AdminSettings, Reloads};
use crate::auth::Authenticator;
use crate::limit::{Limiter, LocalTokenBucket, Lockout, LockoutSettings, PaceSettings, Pacer, TokenBucket, Unlimited};
use crate::mail::headers::HeaderLimits;
use crate::mail::mime::MimeLimits;
use crate::mail::trace::TraceDetail;
use crate::mail::{Clock, SystemClock};
use crate::observe::{LogObserver, Observer};
use crate::policy::Policy;
use crate::relay::{
    AppConnectionLimits, BudgetSettings, Components, DeadlineSettings, Explainer, QueueSettings, Relay, RelaySettings,
    SendQueueSettings, SpoolParts,
};
use crate::server::{BindError, Bound, ConnectionLimits, ListenerHandle, ListenerSettings, ServerContext, Threads};
use crate::smtp::{AuthMode, TlsMode};
use crate::spool::{DeadLetters, Spool};
use crate::transport::Transport;
#[cfg(feature = "admin")]
use admin_parts::AdminParts;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No listener was given.
    #[error("no listener: no client could reach the relay")]
    NoListener,
    /// Two listeners have one name.
    #[error("two listeners are called {0}")]
    ListenerTwice(Arc<str>),
    /// A socket could not be taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listener speaks TLS and has no certificate.
    #[error("listener {0}: TLS without a certificate")]
    NoCertificate(Arc<str>),
    /// A listener requires AUTH and there is no authenticator.
    #[error("listener {0}: AUTH without an authenticator")]
    NoAuthenticator(Arc<str>),
    /// A hand-off may last longer than the shutdown waits for it.
    #[error(
        "the hand-off deadline of the largest message ({deadline_s} s) must be shorter than the shutdown grace ({grace_s} s)"
    )]
    DeadlineOverGrace {
        /// Seconds.
        deadline_s: u64,
        /// Seconds.
        grace_s: u64,
    },
    /// The admin endpoint cannot listen.
    #[cfg(feature = "admin")]
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The system starts no more threads.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// Password verification would take the whole memory budget.
    #[error("the memory budget is too small: verifying passwords alone may take {0} octets of it")]
    BudgetTooSmall(u64),
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
}

/// Configures and starts a relay.
pub struct Builder {
    settings: RelaySettings,
    budget: BudgetSettings,
    listeners: Vec<ListenerSettings>,
    policy: Arc<dyn Policy>,
    transport: Arc<dyn Transport>,
    spool: Option<SpoolParts>,
    limiter: Arc<dyn Limiter>,
    authenticator: Option<Arc<dyn Authenticator>>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
    pace: PaceSettings,
    tokens: Option<Arc<dyn TokenBucket>>,
    account_interval: Option<Duration>,
    lockout: LockoutSettings,
    #[cfg(feature = "admin")]
    admin: Option<AdminSettings>,
    #[cfg(feature = "admin")]
    reloads: Option<Arc<Reloads>>,
    connections: (usize, usize),
    unrecognised_connections: Option<usize>,
    file_descriptors_max: Option<u64>,
    threads: usize,
    grace: Duration,
}

impl Builder {
    /// A relay with this host name, policy and transport. Everything else has a safe default.
    pub fn new(hostname: &str, policy: impl Policy, transport: impl Transport) -> Self {
        Self {
            settings: RelaySettings {
                hostname: hostname.to_owned(),
                trace: TraceDetail::default(),
                header: HeaderLimits::default(),
                mime: MimeLimits::default(),
                deadline: DeadlineSettings::default(),
                send_queue: SendQueueSettings::default(),
                app_connections: AppConnectionLimits::default(),
                queue: QueueSettings::default(),
                spools: false,
            },
            budget: BudgetSettings::default(),
            listeners: Vec::new(),
            policy: Arc::new(policy),
            transport: Arc::new(transport),
            spool: None,
            limiter: Arc::new(Unlimited),
            authenticator: None,
            observer: Arc::new(LogObserver::default()),
            clock: Arc::new(SystemClock),
            pace: PaceSettings::default(),
            tokens: None,
            account_interval: Some(Duration::from_secs(300)),
            lockout: LockoutSettings::default(),
            #[cfg(feature = "admin")]
            admin: None,
            #[cfg(feature = "admin")]
            reloads: None,
            connections: (1_000, 200),
            unrecognised_connections: None,
            file_descriptors_max: None,
            threads: 0,
            grace: Duration::from_secs(25),
        }
    }

    /// One more listener.
    #[must_use]
    pub fn listener(mut self, listener: ListenerSettings) -> Self {
        self.listeners.push(listener);
        self
    }

    /// The limiter. Default: no limits.
    #[must_use]
    pub fn limiter(mut self, limiter: impl Limiter) -> Self {
        self.limiter = Arc::new(limiter);
        self
    }

    /// The rate of all messages together. Default: 98 % of the account's rate; no limit until the provider reports the rate or
    /// throttles.
    #[must_use]
    pub fn pace(mut self, settings: PaceSettings) -> Self {
        self.pace = settings;
        self
    }

    /// The token bucket of [`pace`](Self::pace). Default: one in this process.
    #[must_use]
    pub fn tokens(mut self, tokens: impl TokenBucket) -> Self {
        self.tokens = Some(Arc::new(tokens));
        self
    }

    /// The interval at which the account's quota is read, also at the start; `None`: never. Default: 5 minutes.
    #[must_use]
    pub fn account_interval(mut self, interval: Option<Duration>) -> Self {
        self.account_interval = interval;
        self
    }

    /// The concurrent calls to the provider, and the applications' shares of the rate. Default: 200, equal shares.
    #[must_use]
    pub fn send_queue(mut self, settings: SendQueueSettings) -> Self {
        self.settings.send_queue = settings;
        self
    }

    /// The limits of failed logins. Default: 30 per hour with one name from one client; see [`LockoutSettings`].
    #[must_use]
    pub fn lockout(mut self, settings: LockoutSettings) -> Self {
        self.lockout = settings;
        self
    }

    /// The admin endpoint: health and metrics. Default: none.
    #[cfg(feature = "admin")]
    #[must_use]
    pub fn admin(mut self, settings: AdminSettings) -> Self {
        self.admin = Some(settings);
        self
    }

    /// What the admin endpoint asks to read the configuration again.
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn reloads(mut self, reloads: Arc<Reloads>) -> Self {
        self.reloads = Some(reloads);
        self
    }

    /// The limits on connections of each application. Default: none.
    #[must_use]
    pub fn app_connections(mut self, connections: AppConnectionLimits) -> Self {
        self.settings.app_connections = connections;
        self
    }

    /// The authenticator. Default: no client can authenticate.
    #[must_use]
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// The observer. Default: log lines through `tracing`.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// The clock of deadlines, rates and dates. Default: the machine's. Waits on sockets always use the machine's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What the trace field shows of the client. Default: nothing.
    #[must_use]
    pub fn trace(mut self, detail: TraceDetail) -> Self {
        self.settings.trace = detail;
        self
    }

    /// Bounds on header sections.
    #[must_use]
    pub fn header_limits(mut self, limits: HeaderLimits) -> Self {
        self.settings.header = limits;
        self
    }

    /// Bounds on the MIME parts of messages.
    #[must_use]
    pub fn mime_limits(mut self, limits: MimeLimits) -> Self {
        self.settings.mime = limits;
        self
    }

    /// The limits of memory and disk. Default: 256 MiB and 4 GiB.
    #[must_use]
    pub fn budget(mut self, budget: BudgetSettings) -> Self {
        self.budget = budget;
        self
    }

    /// Connections at a time: in total, and from one client. Default: 1,000 and 200.
    #[must_use]
    pub fn connections(mut self, total_max: usize, per_client_max: usize) -> Self {
        self.connections = (total_max, per_client_max);
        self
    }

    /// Connections at a time of clients that are not recognised: before an accepted MAIL or a successful login. Default: three
    /// quarters of the total.
    #[must_use]
    pub fn unrecognised_connections(mut self, most: Option<usize>) -> Self {
        self.unrecognised_connections = most;
        self
    }

    /// The maximum number of file descriptors of the process, if it is known. The last quarter, at most 256, is reserved for
    /// health checks and calls to the provider.
    #[must_use]
    pub fn file_descriptors_max(mut self, most: Option<u64>) -> Self {
        self.file_descriptors_max = most;
        self
    }

    /// Serves connections on this many threads of the relay, each with its own runtime: a message stays on one processor, which
    /// costs less CPU than a runtime whose threads share the work. One per processor is a good number. The components are called
    /// on these threads, so tasks that they spawn end with the relay. Default: 0, connections are tasks of the runtime that starts
    /// the relay.
    #[must_use]
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = count;
        self
    }

    /// The spool, for messages whose [`Granted::delivery`](crate::mail::Granted::delivery) says so, and the directory for those that
    /// fail. Without the directory, messages that fail are held in the queue. Default: no spool, every message is handed off.
    #[must_use]
    pub fn spool(mut self, spool: impl Spool, dead_letters: Option<DeadLetters>) -> Self {
        self.settings.spools = true;
        self.spool = Some(SpoolParts { spool: Arc::new(spool), dead_letters: dead_letters.map(Arc::new) });
        self
    }

    /// Whether [`explain`](Self::explain) and [`check`](Self::check) take the relay for one that has a spool: without opening it.
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn spools(mut self, spools: bool) -> Self {
        self.settings.spools = spools;
        self
    }

    /// How messages in the spool are sent.
    #[must_use]
    pub fn queue(mut self, queue: QueueSettings) -> Self {
        self.settings.queue = queue;
        self
    }

    /// The time from the end of data to the reply. Default: 20 s, and one second more for each 8 MB.
    #[must_use]
    pub fn deadline(mut self, deadline: DeadlineSettings) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// How long [`Running::stop`] waits for messages in progress. Default: 25 s, because container platforms allow 30 s.
    #[must_use]
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    /// [`StartError`], except for sockets, which are not taken.
    pub fn check(&self) -> Result<(), StartError> {
        if self.listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        for (place, listener) in self.listeners.iter().enumerate() {
            let name = || Arc::clone(&listener.name);
            if self.listeners[..place].iter().any(|before| before.name == listener.name) {
                return Err(StartError::ListenerTwice(name()));
            }
            if listener.smtp.tls != TlsMode::None && listener.tls.is_none() {
                return Err(StartError::NoCertificate(name()));
            }
            let verifies = matches!(listener.smtp.auth, AuthMode::Optional | AuthMode::Required);
            if verifies && self.authenticator.is_none() {
                return Err(StartError::NoAuthenticator(name()));
            }
        }
        let largest = self.listeners.iter().map(|listener| listener.smtp.limits.message_octets_max).max();
        let deadline = self.settings.deadline.of(largest.unwrap_or_default());
        if deadline >= self.grace {
            return Err(StartError::DeadlineOverGrace {
                deadline_s: deadline.as_secs_f64().ceil() as u64,
                grace_s: self.grace.as_secs(),
            });
        }
        let verifying = self.authenticator.as_ref().map_or(0, |authenticator| authenticator.octets_held_max());
        if verifying.saturating_mul(2) > self.budget.memory_octets {
            return Err(StartError::BudgetTooSmall(verifying));
        }
        Ok(())
    }

    /// Explains what the relay would reply to a message, and why. Sends nothing, takes nothing from any limit, opens no socket.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub async fn explain(&self, facts: &Facts) -> Result<Explanation, ExplainError> {
        let explainer = Explainer {
            settings: &self.settings,
            budget: &self.budget,
            policy: &self.policy,
            limiter: &self.limiter,
            authenticates: self.authenticator.is_some(),
            transport: &self.transport,
            clock: &self.clock,
        };
        explainer.explain(self.listeners.iter().map(ListenerSettings::explained), facts).await
    }

    /// Takes the sockets and starts accepting.
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub fn start(self) -> Result<Running, StartError> {
        self.check()?;
        #[cfg(feature = "admin")]
        let admin_parts = match self.admin {
            Some(settings) => Some(AdminParts::bind(settings, &self.clock, self.budget.memory_octets)?),
            None => None,
        };
        #[cfg(feature = "admin")]
        let observer = match &admin_parts {
            Some(parts) => parts.observers(self.observer),
            None => self.observer,
        };
        #[cfg(not(feature = "admin"))]
        let observer = self.observer;
        let bound: Vec<Bound> = self.listeners.into_iter().map(Bound::bind).collect::<Result<_, _>>()?;
        let clock = || Arc::clone(&self.clock);
        let tokens = self.tokens.unwrap_or_else(|| Arc::new(LocalTokenBucket::new(clock())));
        let pace = Some(Arc::new(Pacer::new(self.pace, tokens, clock())));
        let lockout = Some(Lockout::new(self.lockout, clock()));
        let components = Components {
            pace,
            lockout,
            policy: self.policy,
            limiter: self.limiter,
            authenticator: self.authenticator,
            transport: self.transport,
            spool: self.spool,
            observer,
            clock: self.clock,
        };
        let mut budget = self.budget;
        #[cfg(feature = "admin")]
        if let Some(parts) = &admin_parts {
            budget.memory_octets -= parts.octets_max().min(budget.memory_octets);
        }
        budget.file_descriptors_max = self.file_descriptors_max.or(budget.file_descriptors_max);
        let relay = Arc::new(Relay::new(self.settings, components, &budget));
        let (total_max, per_client_max) = self.connections;
        let limits = ConnectionLimits::new(total_max, per_client_max, self.unrecognised_connections);
        let mut shared = ServerContext::new(relay, limits);
        shared.threads = Threads::start(self.threads, &shared.cut).map_err(StartError::Threads)?;
        let listeners: Vec<ListenerHandle> = bound.into_iter().map(|listener| listener.start(shared.clone())).collect();
        let running = Running {
            shared,
            listeners: Arc::new(Mutex::new(listeners)),
            watch: Mutex::default(),
            reconfiguring: tokio::sync::Mutex::default(),
            #[cfg(feature = "admin")]
            admin: admin_parts.as_ref().map(|parts| parts.address().clone()),
            #[cfg(feature = "admin")]
            access: admin_parts.as_ref().map(AdminParts::access),
            #[cfg(feature = "admin")]
            decisions: admin_parts.as_ref().map(AdminParts::decisions),
            grace: Mutex::new(self.grace),
        };
        #[cfg(feature = "admin")]
        if let Some(parts) = admin_parts {
            parts.start(&running.shared, &running.listeners, self.reloads);
        }
        running.start_tasks(self.account_interval);
        Ok(running)
    }
}
