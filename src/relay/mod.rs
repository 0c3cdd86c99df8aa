//! The work: from a question of the SMTP session to its answer.
//!
//! [`Relay`] holds the components and the budgets. A `SessionHandler` answers the questions of one connection, always in the same
//! order: policy, limiter, memory and disk, policy and limiter for the whole message, send slot, transport. A 250 at the end of data is
//! made from a [`Receipt`](crate::mail::Receipt) only.

mod account_quota;
mod admission;
mod app_connections;
mod authentication;
mod budget;
mod checks;
mod current_relay;
mod delivery;
mod dry_run;
mod due_queue;
mod explain;
mod fair_queue;
mod fields;
mod health;
mod kept_mail;
mod last_failure;
mod message_context;
mod prefetch;
mod queue_settings;
mod queue_worker;
mod reception;
mod reencode;
mod retry_schedule;
mod rewriting;
mod send_queue;
mod session_handler;
mod spill_file;
mod transaction;

pub use app_connections::AppConnectionLimits;
pub use budget::{Budget, BudgetSettings};
pub(crate) use current_relay::CurrentRelay;
pub(crate) use dry_run::DryRun;
pub use explain::{ExplainError, Explanation, Facts, Sent, Step};
pub(crate) use explain::{ExplainedListener, Explainer};
pub use fair_queue::AppShare;
pub use health::KnownFault;
pub(crate) use kept_mail::SpoolParts;
pub use queue_settings::QueueSettings;
pub use retry_schedule::{OnAmbiguous, RetrySettings};
pub use send_queue::SendQueueSettings;
pub(crate) use session_handler::SessionHandler;

use crate::auth::Authenticator;
#[cfg(feature = "admin")]
use crate::limit::LimitStanding;
use crate::limit::{Limiter, Lockout, LockoutSettings, PaceSettings, Pacer, TokenBucket};
use crate::mail::headers::HeaderLimits;
use crate::mail::mime::MimeLimits;
use crate::mail::parameters::AppName;
use crate::mail::trace::TraceDetail;
use crate::mail::{Clock, ConnectionCounter, SendParameters};
use crate::observe::Observer;
use crate::policy::Policy;
use crate::transport::Transport;
use health::Health;
use kept_mail::KeptMail;
use send_queue::SendQueue;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What the relay does with a message, beside what its components decide.
#[derive(Clone, Debug)]
pub(crate) struct RelaySettings {
    /// The host name in the trace field.
    pub hostname: String,
    /// What the trace field shows of the client.
    pub trace: TraceDetail,
    /// Bounds on the header section.
    pub header: HeaderLimits,
    /// Bounds on the parts of the body.
    pub mime: MimeLimits,
    /// The deadline of sending.
    pub deadline: DeadlineSettings,
    /// The send queue.
    pub send_queue: SendQueueSettings,
    /// Connections that an application may have.
    pub app_connections: AppConnectionLimits,
    /// Sending what is in the spool.
    pub queue: QueueSettings,
    /// Whether there is a spool. A dry run has none and behaves as if.
    pub spools: bool,
}

/// From the end of data to the reply: every wait and the provider's attempt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DeadlineSettings {
    /// For an empty message.
    pub base: Duration,
    /// What a message adds: its octets over this rate.
    pub upload_octets_per_second: u64,
    /// With less time left than this, an attempt is not begun: it would most likely end as "may have been sent".
    pub attempt_min: Duration,
    /// Where a message goes to the spool if it cannot be sent: the end of the first attempt. Shorter than clients wait for a reply.
    pub before_spool: Duration,
}

impl Default for DeadlineSettings {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(20),
            upload_octets_per_second: 8_000_000,
            attempt_min: Duration::from_secs(2),
            before_spool: Duration::from_secs(8),
        }
    }
}

impl DeadlineSettings {
    /// For a message of that size.
    pub fn of(&self, octets: u64) -> Duration {
        let upload = octets.saturating_mul(1000) / self.upload_octets_per_second.max(1);
        self.base + Duration::from_millis(upload)
    }
}

/// The components and budgets, shared by all connections. What counts is shared with the relay of the next configuration.
pub struct Relay {
    /// How many configurations were in force before.
    number: u64,
    pub(crate) settings: RelaySettings,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) limiter: Arc<dyn Limiter>,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) pace: Option<Arc<Pacer>>,
    pub(crate) lockout: Option<Arc<Lockout>>,
    send_queue: Arc<SendQueue>,
    app_connections: ConnectionCounter<AppName>,
    ambiguous: Arc<AtomicU64>,
    health: Arc<Health>,
    /// The spool. `None`: every message is handed off.
    kept: Option<Arc<KeptMail>>,
    /// What the messages of each application are sent with, for those in the spool.
    routes: HashMap<AppName, SendParameters>,
    /// Messages that may be re-encoded at a time on the blocking pool.
    reencoders: Arc<Semaphore>,
}

/// The components of a relay.
pub(crate) struct Components {
    /// The policy.
    pub policy: Arc<dyn Policy>,
    /// The limiter.
    pub limiter: Arc<dyn Limiter>,
    /// The users. `None`: no client can authenticate.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// Pacing of all messages together. `None`: no pacing.
    pub pace: Option<Arc<Pacer>>,
    /// The lock-out after failed logins. `None`: only the session's own limit.
    pub lockout: Option<Lockout>,
    /// The transport.
    pub transport: Arc<dyn Transport>,
    /// The spool. `None`: every message is handed off.
    pub spool: Option<SpoolParts>,
    /// The observer.
    pub observer: Arc<dyn Observer>,
    /// The clock for deadlines and dates.
    pub clock: Arc<dyn Clock>,
}

/// What another configuration replaces.
pub(crate) struct Replacement {
    /// The policy.
    pub policy: Arc<dyn Policy>,
    /// The limiter.
    pub limiter: Arc<dyn Limiter>,
    /// The users.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// The transport.
    pub transport: Arc<dyn Transport>,
    /// The lock-out after failed logins.
    pub lockout: LockoutSettings,
    /// The pace.
    pub pace: PaceSettings,
    /// Where the rate is counted; `None`: where it was.
    pub tokens: Option<Arc<dyn TokenBucket>>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Relay {
    /// Puts the components together. The memory that verifying passwords may take is subtracted from the budget.
    pub(crate) fn new(settings: RelaySettings, components: Components, budget: &BudgetSettings) -> Self {
        let set_aside = components.authenticator.as_ref().map_or(0, |authenticator| authenticator.octets_held_max());
        let budget = Arc::new(Budget::new(budget, set_aside));
        let (pace, clock) = (components.pace.clone(), Arc::clone(&components.clock));
        let send_queue = Arc::new(SendQueue::new(settings.send_queue.clone(), pace, clock, Arc::clone(&budget)));
        let health = Arc::new(Health::new(Arc::clone(&components.observer), Arc::clone(&components.clock)));
        let routes = components.policy.sends().into_iter().collect();
        let kept = components.spool.map(|spool| Arc::new(KeptMail::new(spool)));
        Self {
            number: 0,
            kept,
            routes,
            health,
            settings,
            pace: components.pace,
            lockout: components.lockout.map(Arc::new),
            send_queue,
            app_connections: ConnectionCounter::default(),
            policy: components.policy,
            limiter: components.limiter,
            authenticator: components.authenticator,
            transport: components.transport,
            observer: components.observer,
            clock: components.clock,
            budget,
            ambiguous: Arc::default(),
            reencoders: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
        }
    }

    /// A relay with another configuration, which goes on with the counts, queues and budgets of this one. Nothing changes for this one,
    /// except for what they share: the pace and the shares of the send queue have the new settings at once.
    pub(crate) fn reconfigured(&self, settings: RelaySettings, replacement: Replacement) -> Self {
        let Replacement { policy, limiter, authenticator, transport, lockout, pace, tokens } = replacement;
        limiter.put_in_force();
        self.send_queue.configure(settings.send_queue.clone());
        if let Some(pacer) = &self.pace {
            pacer.configure(pace, tokens);
        }
        let routes = policy.sends().into_iter().collect();
        self.health.reconfigured(&routes);
        Self {
            number: self.number + 1,
            settings: RelaySettings { spools: self.settings.spools, ..settings },
            routes,
            policy,
            limiter,
            authenticator,
            transport,
            lockout: self.lockout.as_ref().map(|failures| Arc::new(failures.with_settings(lockout))),
            observer: Arc::clone(&self.observer),
            clock: Arc::clone(&self.clock),
            budget: Arc::clone(&self.budget),
            pace: self.pace.clone(),
            send_queue: Arc::clone(&self.send_queue),
            app_connections: self.app_connections.clone(),
            ambiguous: Arc::clone(&self.ambiguous),
            health: Arc::clone(&self.health),
            kept: self.kept.clone(),
            reencoders: Arc::clone(&self.reencoders),
        }
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The observer.
    pub(crate) fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    /// Attempts so far whose result is ambiguous: the message may have been sent.
    pub fn ambiguous_attempts(&self) -> u64 {
        self.ambiguous.load(Ordering::Relaxed)
    }

    fn count_ambiguous(&self) {
        self.ambiguous.fetch_add(1, Ordering::Relaxed);
    }

    /// The pacer.
    #[cfg(feature = "admin")]
    pub(crate) fn pace(&self) -> Option<&Arc<Pacer>> {
        self.pace.as_ref()
    }

    /// Messages in the send queue, and calls to the provider in flight.
    pub fn send_queue(&self) -> (usize, usize) {
        self.send_queue.in_use()
    }

    /// How full the limits of these applications are.
    #[cfg(feature = "admin")]
    pub(crate) async fn standings(&self, apps: &[AppName]) -> Vec<LimitStanding> {
        self.limiter.standings(apps).await
    }

    /// The memory and disk budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}
