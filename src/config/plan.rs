//! Settings checked against each other, and made into what every room takes.
//!
//! [`Config::plan`] reads secrets and certificates and tells all that is wrong at once, each with its place. It opens no
//! socket and asks no network, so `gatepost check` does the same as a start. Warnings are what works and should not.

use super::Config;
use super::pairs::ListenerCertificate;
use super::secret_source::{ProcessEnvironment, Source, is_world_readable};
use super::source_map::{ConfigError, Diagnostic, Location};
use super::upstream::Upstream;
use super::users::KnownUsers;
use super::values::Hostname;
use crate::admin::AdminSettings;
use crate::auth::{Authenticator, Users};
use crate::builder::Builder;
use crate::limit::{
    LimitRule, LocalLimiter, RedisError, RedisLimiter, RedisSettings, RedisStore, RedisTokens, StateError,
};
use crate::mail::{Clock, SystemClock};
use crate::observe::LogObserver;
use crate::policy::AppPolicy;
use crate::relay::{AppConnections, SendQueueSettings};
use crate::server::{Endpoint, ListenerSettings};
use crate::transport::Transport;
use jiff::tz::TimeZone;
use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a plan is made for.
pub enum Purpose<'a> {
    /// To look at: nothing is written, and sockets of systemd's are taken to be there.
    Check,
    /// To read the certificates of a relay that runs again: nothing is made.
    Reload,
    /// To start: missing development certificates are made, and `sockets` gives those of systemd's by name or number.
    Start {
        /// Gives away a socket, once.
        sockets: &'a mut dyn FnMut(&str) -> Result<Endpoint, String>,
    },
}

impl std::fmt::Debug for Purpose<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Check => "Check",
            Self::Reload => "Reload",
            Self::Start { .. } => "Start",
        })
    }
}

/// A relay that only lacks its sockets and its way out.
#[derive(Debug)]
pub struct Plan {
    /// What the relay calls itself.
    pub hostname: String,
    /// Where mail goes.
    pub upstream: Upstream,
    /// What works and should not.
    pub warnings: Vec<Diagnostic>,
    pub(super) listeners: Vec<ListenerSettings>,
    policy: AppPolicy,
    limits: Vec<LimitRule>,
    redis: Option<RedisSettings>,
    store: Option<RedisStore>,
    state_directory: Option<PathBuf>,
    send_queue: SendQueueSettings,
    app_connections: AppConnections,
    admin: Option<AdminSettings>,
    users: Option<Users>,
    /// Who can authenticate.
    pub user_names: BTreeSet<String>,
    /// Every certificate of every listener.
    pub certificates: Vec<ListenerCertificate>,
    config: Config,
}

/// What was found while a plan was made.
pub(super) struct Diagnostics<'a> {
    pub(super) config: &'a Config,
    pub(super) process_environment: &'a ProcessEnvironment,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) certificates: Vec<ListenerCertificate>,
}

/// What is wrong, and what works and should not; each in the order of the file, and once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What is wrong.
    pub errors: Vec<Diagnostic>,
    /// What works and should not.
    pub warnings: Vec<Diagnostic>,
}

impl<'a> Diagnostics<'a> {
    pub(super) fn new(config: &'a Config, process_environment: &'a ProcessEnvironment) -> Self {
        Self { config, process_environment, errors: Vec::new(), warnings: Vec::new(), certificates: Vec::new() }
    }

    pub(super) fn into_found(self) -> Found {
        Found { errors: in_order(self.errors), warnings: in_order(self.warnings) }
    }

    fn diagnostic(&self, path: &str, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        Diagnostic { location: self.config.source_map.of(path), message: message.into(), hint }
    }

    pub(super) fn error(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(self.diagnostic(path, message, hint));
    }

    /// The same of something that stands elsewhere than in the file.
    pub(super) fn error_at(&mut self, location: Location, message: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(Diagnostic { location, message: message.into(), hint: Some(hint.into()) });
    }

    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.warnings.push(self.diagnostic(path, message, hint));
    }

    /// A secret's text; one that everybody can read is warned of.
    pub(super) fn secret(&mut self, path: &str, source: &Source) -> Option<String> {
        if source.is_world_readable(self.process_environment) {
            self.warn(
                path,
                format!("every user of this machine can read {source}"),
                "chmod 0600, or 0640 with a group",
            );
        }
        self.text(path, source)
    }

    /// A text that is no secret.
    pub(super) fn text(&mut self, path: &str, source: &Source) -> Option<String> {
        source.read(self.process_environment).map_err(|error| self.error(path, error.message, error.hint)).ok()
    }
}

/// Of two listeners with one certificate, both find the same wrong with it.
fn in_order(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    let mut diagnostics: Vec<Diagnostic> = diagnostics
        .into_iter()
        .filter(|diagnostic| seen.insert((diagnostic.location.to_string(), diagnostic.message.clone())))
        .collect();
    diagnostics.sort_by_key(|diagnostic| diagnostic.location.line());
    diagnostics
}

impl Config {
    /// Checks everything and puts it together.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] with everything that is wrong.
    pub fn plan(&self, process_environment: &ProcessEnvironment, purpose: Purpose<'_>) -> Result<Plan, ConfigError> {
        self.plan_or_found(process_environment, purpose).map_err(|found| ConfigError::Wrong(found.errors))
    }

    /// The same for a look: the warnings too where something is wrong.
    ///
    /// # Errors
    /// [`Found`] with everything that is wrong.
    pub fn check(&self, process_environment: &ProcessEnvironment) -> Result<Plan, Found> {
        self.plan_or_found(process_environment, Purpose::Check)
    }

    fn plan_or_found(&self, process_environment: &ProcessEnvironment, mut purpose: Purpose<'_>) -> Result<Plan, Found> {
        let mut diagnostics = Diagnostics::new(self, process_environment);
        let hostname = hostname(&mut diagnostics);
        let known = super::users::plan(&mut diagnostics);
        let policy = super::policy::plan(&mut diagnostics, &known);
        let listeners = super::listeners::plan(&mut diagnostics, &hostname, known.may_exist(), &mut purpose);
        let KnownUsers { users, names, .. } = known;
        let limits = super::limits::plan(&mut diagnostics);
        let redis = super::redis::plan(&mut diagnostics);
        let state_directory = super::limits::state_directory(&mut diagnostics, &limits);
        let (send_queue, app_connections) = super::pace::plan(&mut diagnostics);
        let admin = super::admin::plan(&mut diagnostics);
        let upstream = super::upstream::plan(&mut diagnostics);
        bounds(&mut diagnostics, users.as_ref());
        inline_secrets(&mut diagnostics);
        let certificates = std::mem::take(&mut diagnostics.certificates);
        let Found { errors, warnings } = diagnostics.into_found();
        match policy.filter(|_| errors.is_empty()) {
            Some(policy) => {
                let config = self.without_lists();
                Ok(Plan {
                    hostname,
                    upstream,
                    warnings,
                    listeners,
                    policy,
                    limits,
                    redis,
                    store: None,
                    state_directory,
                    send_queue,
                    app_connections,
                    admin,
                    users,
                    user_names: names,
                    certificates,
                    config,
                })
            }
            None => Err(Found { errors, warnings }),
        }
    }

    /// The listeners alone, with their certificates as the files are now. For a relay that runs: [`Config::without_lists`]
    /// is enough.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] with everything that is wrong with them.
    pub fn listeners(&self, process_environment: &ProcessEnvironment) -> Result<Vec<ListenerSettings>, ConfigError> {
        let mut diagnostics = Diagnostics::new(self, process_environment);
        let hostname = hostname(&mut diagnostics);
        // Whether AUTH has users was settled when it started, and their passwords are not read again.
        let listeners = super::listeners::plan(&mut diagnostics, &hostname, true, &mut Purpose::Reload);
        let Found { errors, .. } = diagnostics.into_found();
        if errors.is_empty() { Ok(listeners) } else { Err(ConfigError::Wrong(errors)) }
    }
}

impl Plan {
    /// Connects to Redis, if limits and pace are shared. Without this, the builder's limits are those of one process, which is
    /// enough for a check.
    ///
    /// # Errors
    /// [`RedisError`] if it does not answer and the file does not say to start without it.
    pub async fn connect_redis(&mut self) -> Result<(), RedisError> {
        if let Some(settings) = &self.redis {
            self.store = Some(RedisStore::connect(settings.clone(), Arc::new(SystemClock)).await?);
        }
        Ok(())
    }

    /// A keeper of the file's limits whose counts of days and months survive a restart; `None` where there is nothing to
    /// keep. To be given to the builder, in place of its own, by whoever starts the relay: one process has the counts.
    ///
    /// # Errors
    /// [`StateError`] if the state directory cannot be used.
    pub fn kept_limits(&self) -> Result<Option<LocalLimiter>, StateError> {
        self.with_counts(LocalLimiter::kept)
    }

    /// The same with the counts as they stand in the state directory now, for a look beside a relay that runs.
    ///
    /// # Errors
    /// [`StateError`] if they cannot be read.
    pub fn limits_seen(&self) -> Result<Option<LocalLimiter>, StateError> {
        self.with_counts(LocalLimiter::seen)
    }

    fn with_counts(
        &self,
        open: impl Fn(Vec<LimitRule>, Arc<dyn Clock>, TimeZone, &Path) -> Result<LocalLimiter, StateError>,
    ) -> Result<Option<LocalLimiter>, StateError> {
        let Some(directory) = &self.state_directory else { return Ok(None) };
        let zone = self.config.limits.time_zone.0.clone();
        open(self.limits.clone(), Arc::new(SystemClock), zone, directory).map(Some)
    }

    /// The public builder with every setting of the file.
    pub fn builder(self, transport: impl Transport) -> Builder {
        let config = self.config;
        let mut pace = config.pace.settings();
        if self.store.is_some() {
            // All of them take from one bucket, so nobody is given a part of it.
            pace.instances = NonZeroU32::MIN;
        }
        let mut builder = Builder::new(&self.hostname, self.policy, transport)
            .observer(LogObserver::new(config.log.addresses.into()))
            .trace(config.trace.into())
            .header_limits(config.header.limits())
            .mime_limits(config.mime.limits())
            .budget(config.memory.budget())
            .connections(config.connections.total_max.size(), config.connections.per_client_max.size())
            .unrecognised_connections(config.connections.unrecognised_max.map(|most| most.size()))
            .deadline(config.deadline.settings())
            .shutdown_grace(config.shutdown_grace_seconds.wait())
            .pace(pace)
            .account_interval(config.pace.account_interval())
            .send_queue(self.send_queue)
            .app_connections(self.app_connections)
            .lockout(config.auth.lockout());
        if let Some(store) = &self.store {
            // One region of one account: relays of another need another prefix.
            builder = builder.tokens(RedisTokens::new(store, config.ses.region.as_deref().unwrap_or("account")));
        }
        if !self.limits.is_empty() {
            let zone = config.limits.time_zone.0;
            builder = match &self.store {
                Some(store) => builder.limiter(RedisLimiter::new(store, self.limits, zone)),
                None => builder.limiter(LocalLimiter::in_zone(self.limits, Arc::new(SystemClock), zone)),
            };
        }
        if let Some(admin) = self.admin {
            builder = builder.admin(admin);
        }
        if let Some(users) = self.users {
            builder = builder.authenticator(users);
        }
        self.listeners.into_iter().fold(builder, Builder::listener)
    }

    /// Connections at a time, over all listeners.
    pub fn connections_max(&self) -> u64 {
        self.config.connections.total_max.get()
    }

    /// The limits, as they are counted.
    pub fn limits(&self) -> &[LimitRule] {
        &self.limits
    }

    /// Where operators ask for health and metrics, if anywhere.
    pub fn admin(&self) -> Option<&AdminSettings> {
        self.admin.as_ref()
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Applications, and the rules for everybody else.
    pub fn policy(&self) -> &AppPolicy {
        &self.policy
    }

    /// One line a listener: its name, address, TLS and AUTH.
    pub fn listeners(&self) -> impl Iterator<Item = &ListenerSettings> {
        self.listeners.iter()
    }
}

fn hostname(diagnostics: &mut Diagnostics<'_>) -> String {
    if let Some(Hostname(name)) = &diagnostics.config.hostname {
        return name.clone();
    }
    let machine = diagnostics.process_environment.machine_name.clone().unwrap_or_default();
    match machine.trim().parse::<Hostname>() {
        Ok(Hostname(name)) => name,
        // The number of a container, an underscore: nobody chose it for us, so it must not keep us from starting.
        Err(_) => {
            let message =
                format!("this machine's name {:?} is no domain name, so we call ourselves localhost", machine.trim());
            diagnostics.warn("hostname", message, "set hostname");
            "localhost".to_owned()
        }
    }
}

fn bounds(diagnostics: &mut Diagnostics<'_>, users: Option<&Users>) {
    let config = diagnostics.config;
    let octets = config.smtp.message_octets_max.get();
    let most = crate::smtp::MESSAGE_OCTETS_MAX;
    if octets > most {
        let hint = format!("{most} at most: base64 adds a third, and SES takes 40 MB after it");
        diagnostics.error(
            "smtp.message_octets_max",
            format!("messages of {octets} octets are too large for SES"),
            hint,
        );
    }
    // One mistake is told once.
    let octets = octets.min(most);
    let (deadline, grace) = (config.deadline.settings().of(octets), config.shutdown_grace_seconds.wait());
    if deadline >= grace {
        let message = format!(
            "a message of {octets} octets may take {:.1} s, and a shutdown waits {} s only",
            deadline.as_secs_f64(),
            grace.as_secs()
        );
        let path =
            if config.source_map.contains("deadline") { "deadline.base_seconds" } else { "shutdown_grace_seconds" };
        diagnostics.error(
            path,
            message,
            "raise shutdown_grace_seconds, or lower deadline.base_seconds or smtp.message_octets_max",
        );
    }
    if config.deadline.attempt_seconds_min.get() >= config.deadline.base_seconds.get() {
        let message = "with a deadline this short, no attempt would ever begin";
        diagnostics.error("deadline.attempt_seconds_min", message, "less than deadline.base_seconds");
    }
    if config.memory.disk_octets.get() < octets {
        let message = format!("a message of {octets} octets would never find room");
        diagnostics.error("memory.disk_octets", message, "at least smtp.message_octets_max");
    }
    if let Some(directory) = &config.memory.disk_directory
        && !directory.is_dir()
    {
        let what = if directory.exists() { "is no directory" } else { "does not exist" };
        let message =
            format!("{} {what}: content that does not fit into memory could not be stored", directory.display());
        diagnostics.error(
            "memory.disk_directory",
            message,
            "make it, writable for the relay's user; or leave the key out",
        );
    }
    let verifying = users.map_or(0, Authenticator::octets_held_max);
    if verifying * 2 > config.memory.octets.get() {
        let message = format!("verifying passwords alone may take {verifying} octets");
        diagnostics.error("memory.octets", message, "at least twice that; or lower auth.parallel_max");
    }
}

/// A file with secrets in it is one itself.
fn inline_secrets(diagnostics: &mut Diagnostics<'_>) {
    let config = diagnostics.config;
    let inline = |source: Option<&Source>| matches!(source, Some(Source::Inline(_)));
    let mut found = config.auth.users.values().any(|source| inline(Some(source)));
    found |= inline(config.auth.user_list.as_ref()) || inline(config.tls.key.as_ref());
    found |= config.redis.has_inline_secret();
    found |= config.listener.iter().any(|listener| inline(listener.key.as_ref()));
    let file = config.source_map.file();
    if found && is_world_readable(file) {
        let message = format!("{} holds secrets, and every user of this machine can read it", file.display());
        diagnostics.warn("", message, "chmod 0640, or move them to { file = … } or { credential = … }");
    }
}
