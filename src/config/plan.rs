//! A checked configuration, and the builder that is made of it.
//!
//! [`Config::plan`] reads secrets and certificates, and reports everything that is wrong at once, each error with its place. It
//! opens no socket and calls no network, so `gatepost check` does the same as a start. Warnings are about settings that work
//! and probably are mistakes.

use super::auth::KnownUsers;
use super::certificate_pairs::ListenerCertificate;
use super::changes::FilesRead;
use super::diagnostics::{ConfigError, Diagnostic, Diagnostics, Found, Purpose};
use super::fixed_settings::FixedSettings;
use super::process_environment::ProcessEnvironment;
use super::secret_source::{Source, is_world_readable};
use super::spool::SpoolPlan;
use super::upstream::Upstream;
use super::values::Hostname;
use super::{Config, ReloadMode, admin, auth, limits, listener, pace, policy, redis, spool, upstream};
use crate::admin::AdminSettings;
use crate::auth::Users;
use crate::builder::Builder;
use crate::limit::{
    LimitRule, LocalLimiter, LockoutSettings, PaceSettings, RedisConnection, RedisError, RedisLimiter, RedisSettings,
    RedisTokenBucket, StateError,
};
use crate::mail::headers::HeaderLimits;
use crate::mail::mime::MimeLimits;
use crate::mail::trace::TraceDetail;
use crate::mail::{Clock, SystemClock};
use crate::observe::{AddressForm, LogObserver};
use crate::policy::AppPolicy;
use crate::relay::{AppConnectionLimits, BudgetSettings, DeadlineSettings, QueueSettings, SendQueueSettings};
use crate::server::ListenerSettings;
use crate::spool::{DeadLetters, DiskSpool, OpenError, Recovery};
use crate::transport::Transport;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A checked configuration: everything but open sockets and the transport.
#[derive(Debug)]
pub struct Plan {
    /// The name of the relay in the greeting and the trace field.
    pub hostname: String,
    /// Where messages are sent.
    pub upstream: Upstream,
    /// What works, and probably is a mistake.
    pub warnings: Vec<Diagnostic>,
    /// The users that can authenticate.
    pub(crate) user_names: BTreeSet<String>,
    /// Every certificate of every listener.
    pub(crate) certificates: Vec<ListenerCertificate>,
    listeners: Vec<ListenerSettings>,
    policy: AppPolicy,
    limits: Vec<LimitRule>,
    time_zone: TimeZone,
    redis: Option<RedisSettings>,
    store: Option<RedisConnection>,
    /// The name of the shared token bucket in Redis: one region of one account. Relays of another account need a prefix of
    /// their own.
    bucket: String,
    state_directory: Option<PathBuf>,
    spool: Option<SpoolPlan>,
    queue: QueueSettings,
    send_queue: SendQueueSettings,
    app_connections: AppConnectionLimits,
    admin: Option<AdminSettings>,
    users: Option<Users>,
    settings: Settings,
    /// Whether a changed file is read again.
    pub(crate) watch: bool,
    /// What was read.
    pub(crate) read: FilesRead,
    /// The settings that need a restart.
    pub(crate) fixed: FixedSettings,
}

/// Settings that the builder takes as they are.
#[derive(Debug)]
struct Settings {
    addresses: AddressForm,
    trace: TraceDetail,
    header: HeaderLimits,
    mime: MimeLimits,
    budget: BudgetSettings,
    connections_max: usize,
    connections_per_client_max: usize,
    unrecognised_connections_max: Option<usize>,
    deadline: DeadlineSettings,
    shutdown_grace: Duration,
    pace: PaceSettings,
    account_interval: Option<Duration>,
    lockout: LockoutSettings,
}

impl Settings {
    fn of(config: &Config) -> Self {
        let connections = &config.connections;
        Self {
            addresses: config.log.addresses.into(),
            trace: config.trace.into(),
            header: config.header.limits(),
            mime: config.mime.limits(),
            budget: config.memory.budget(),
            connections_max: connections.total_max.size(),
            connections_per_client_max: connections.per_client_max.size(),
            unrecognised_connections_max: connections.unrecognised_max.map(|most| most.size()),
            deadline: DeadlineSettings { before_spool: config.spool.hand_off_wait(), ..config.deadline.settings() },
            shutdown_grace: config.shutdown_grace_seconds.wait(),
            pace: config.pace.settings(),
            account_interval: config.pace.account_interval(),
            lockout: config.auth.lockout(),
        }
    }

    fn apply(self, builder: Builder) -> Builder {
        builder
            .observer(LogObserver::new(self.addresses))
            .trace(self.trace)
            .header_limits(self.header)
            .mime_limits(self.mime)
            .budget(self.budget)
            .connections(self.connections_max, self.connections_per_client_max)
            .unrecognised_connections(self.unrecognised_connections_max)
            .deadline(self.deadline)
            .shutdown_grace(self.shutdown_grace)
            .pace(self.pace)
            .account_interval(self.account_interval)
            .lockout(self.lockout)
    }
}

impl Config {
    /// Checks everything, and makes the plan of a relay.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] with all errors.
    pub fn plan(&self, environment: &ProcessEnvironment, purpose: Purpose<'_>) -> Result<Plan, ConfigError> {
        self.plan_or_found(environment, purpose).map_err(|found| ConfigError::Wrong(found.errors))
    }

    /// The same for `gatepost check`, which shows the warnings beside errors.
    ///
    /// # Errors
    /// [`Found`] with all errors and warnings.
    pub fn check(&self, environment: &ProcessEnvironment) -> Result<Plan, Found> {
        self.plan_or_found(environment, Purpose::Check)
    }

    fn plan_or_found(&self, environment: &ProcessEnvironment, mut purpose: Purpose<'_>) -> Result<Plan, Found> {
        let diagnostics = &mut Diagnostics::new(&self.source_map, environment);
        let hostname = hostname(self, diagnostics);
        let known = auth::plan(self, diagnostics);
        let policy = policy::plan(self, &known, diagnostics);
        let (listeners, certificates) = listener::plan(self, &hostname, known.may_exist(), diagnostics, &mut purpose);
        let KnownUsers { users, names, .. } = known;
        let limits = limits::plan(self, diagnostics);
        let redis = redis::plan(&self.redis, diagnostics);
        let state_directory = limits::state_directory(self, &limits, diagnostics);
        let (send_queue, app_connections) = pace::plan(self, diagnostics);
        let (spool, queue) = spool::plan(self, diagnostics);
        let admin = admin::plan(&self.admin, &self.listener, self.log.addresses, diagnostics);
        let upstream = upstream::plan(self, diagnostics);
        let message_octets = self.smtp.check(diagnostics);
        self.deadline.check(message_octets, self.shutdown_grace_seconds, diagnostics);
        self.memory.check(message_octets, users.as_ref(), diagnostics);
        check_inline_secrets(self, diagnostics);
        let fixed = FixedSettings::of(self, &upstream, state_directory.as_ref(), spool.as_ref());
        let Found { errors, warnings } = diagnostics.take();
        match policy.filter(|_| errors.is_empty()) {
            Some(policy) => Ok(Plan {
                hostname,
                upstream,
                warnings,
                user_names: names,
                certificates,
                listeners,
                policy,
                limits,
                time_zone: self.limits.time_zone.0.clone(),
                redis,
                store: None,
                bucket: self.ses.region.clone().unwrap_or_else(|| "account".to_owned()),
                state_directory,
                spool,
                queue,
                send_queue,
                app_connections,
                admin,
                users,
                settings: Settings::of(self),
                watch: self.reload == ReloadMode::Watch,
                read: FilesRead::new(self, diagnostics.take_files()),
                fixed,
            }),
            None => Err(Found { errors, warnings }),
        }
    }
}

impl Plan {
    /// Connects to Redis, if limits and pace are shared. Without this call, the limits of the builder are those of one process,
    /// which is enough for a check.
    ///
    /// # Errors
    /// [`RedisError`] if it does not answer and `redis.start_without` is false.
    pub async fn connect_redis(&mut self) -> Result<(), RedisError> {
        if let Some(settings) = &self.redis {
            self.store = Some(RedisConnection::connect(settings.clone(), Arc::new(SystemClock)).await?);
        }
        Ok(())
    }

    /// The connection to Redis that a running relay has.
    pub(crate) fn store(&self) -> Option<&RedisConnection> {
        self.store.as_ref()
    }

    /// Uses the connection to Redis that a running relay has.
    pub(crate) fn use_store(&mut self, store: Option<RedisConnection>) {
        self.store = store;
    }

    /// The limiter of this process; `None` if Redis counts. It replaces the one of the builder at a start, where the counts of days and
    /// months are opened, which only one process may do; after that, it goes on with the counts of the one `before`.
    ///
    /// # Errors
    /// [`StateError`] if the state directory cannot be used.
    pub fn local_limiter(&self, before: Option<&LocalLimiter>) -> Result<Option<LocalLimiter>, StateError> {
        if self.store.is_some() {
            return Ok(None);
        }
        if let Some(before) = before {
            return Ok(Some(before.with_rules(self.limits.clone(), self.time_zone.clone())));
        }
        let fresh = || LocalLimiter::in_zone(self.limits.clone(), Arc::new(SystemClock), self.time_zone.clone());
        Ok(Some(self.with_counts(LocalLimiter::with_state)?.unwrap_or_else(fresh)))
    }

    /// The same with a copy of the counts in the state directory, which a running relay may be using.
    ///
    /// # Errors
    /// [`StateError`] if they cannot be read.
    pub fn limits_seen(&self) -> Result<Option<LocalLimiter>, StateError> {
        self.with_counts(LocalLimiter::read_only)
    }

    fn with_counts(
        &self,
        open: impl Fn(Vec<LimitRule>, Arc<dyn Clock>, TimeZone, &Path) -> Result<LocalLimiter, StateError>,
    ) -> Result<Option<LocalLimiter>, StateError> {
        let Some(directory) = &self.state_directory else { return Ok(None) };
        open(self.limits.clone(), Arc::new(SystemClock), self.time_zone.clone(), directory).map(Some)
    }

    /// The spool, if there is one: what waits in it, and the directory for messages that fail. It replaces the one of the builder at a
    /// start. Only one process may have it. Blocks while it is read.
    ///
    /// # Errors
    /// [`OpenError`] if it cannot be used.
    pub fn open_spool(&self) -> Result<Option<(DiskSpool, DeadLetters, Recovery)>, OpenError> {
        let Some(SpoolPlan { disk, dead_letter, dead_letter_octets_max }) = &self.spool else { return Ok(None) };
        let (spool, recovery) = DiskSpool::open(disk, Arc::new(SystemClock))?;
        let letters = DeadLetters::open(dead_letter, *dead_letter_octets_max)
            .map_err(|error| OpenError::Io { path: dead_letter.clone(), error })?;
        Ok(Some((spool, letters, recovery)))
    }

    /// The directory of the spool, if there is one.
    pub fn spool_directory(&self) -> Option<&Path> {
        self.spool.as_ref().map(|spool| spool.disk.directory.as_path())
    }

    /// The builder with every setting of the file, except for what a start opens: a dry run has to know only that there is a spool.
    pub fn builder(mut self, transport: impl Transport) -> Builder {
        if self.store.is_some() {
            // All relays take from one token bucket, so none of them has only a part of the rate.
            self.settings.pace.instances = NonZeroU32::MIN;
        }
        let builder = Builder::new(&self.hostname, self.policy, transport);
        let mut builder = self
            .settings
            .apply(builder)
            .send_queue(self.send_queue)
            .app_connections(self.app_connections)
            .queue(self.queue);
        if let Some(store) = &self.store {
            builder = builder.tokens(RedisTokenBucket::new(store, &self.bucket));
        }
        if !self.limits.is_empty() {
            builder = match &self.store {
                Some(store) => builder.limiter(RedisLimiter::new(store, self.limits, self.time_zone)),
                None => builder.limiter(LocalLimiter::in_zone(self.limits, Arc::new(SystemClock), self.time_zone)),
            };
        }
        builder = builder.spools(self.spool.is_some());
        if let Some(admin) = self.admin {
            builder = builder.admin(admin);
        }
        if let Some(users) = self.users {
            builder = builder.authenticator(users);
        }
        self.listeners.into_iter().fold(builder, Builder::listener)
    }

    /// Concurrent connections, over all listeners.
    pub fn connections_max(&self) -> u64 {
        self.settings.connections_max as u64
    }

    /// The limits.
    pub fn limits(&self) -> &[LimitRule] {
        &self.limits
    }

    /// The admin listener, if there is one.
    pub fn admin(&self) -> Option<&AdminSettings> {
        self.admin.as_ref()
    }

    /// Applications, and the rules for other clients.
    pub fn policy(&self) -> &AppPolicy {
        &self.policy
    }

    /// The listeners.
    pub fn listeners(&self) -> impl Iterator<Item = &ListenerSettings> {
        self.listeners.iter()
    }
}

/// The configured host name, or that of the machine.
fn hostname(config: &Config, diagnostics: &mut Diagnostics<'_>) -> String {
    if let Some(Hostname(name)) = &config.hostname {
        return name.clone();
    }
    let machine = diagnostics.environment().machine_name.clone().unwrap_or_default();
    match machine.trim().parse::<Hostname>() {
        Ok(Hostname(name)) => name,
        // The id of a container, or a name with an underscore: the operator did not choose it, so it is no error.
        Err(_) => {
            let message =
                format!("this machine's name {:?} is not a domain name, so the relay uses localhost", machine.trim());
            diagnostics.warn("hostname", message, "set hostname");
            "localhost".to_owned()
        }
    }
}

/// A file with secrets in it must be as protected as a secret.
fn check_inline_secrets(config: &Config, diagnostics: &mut Diagnostics<'_>) {
    let inline = |source: Option<&Source>| matches!(source, Some(Source::Inline(_)));
    let mut found = config.auth.users.values().any(|source| inline(Some(source)));
    found |= inline(config.auth.user_list.as_ref()) || inline(config.tls.key.as_ref());
    found |= config.redis.has_inline_secret();
    found |= config.listener.iter().any(|listener| inline(listener.key.as_ref()));
    let file = diagnostics.source_map().file();
    if found && is_world_readable(file) {
        let message = format!("{} holds secrets, and every user of this machine can read it", file.display());
        diagnostics.warn("", message, "chmod 0640, or move them to { file = … } or { credential = … }");
    }
}
