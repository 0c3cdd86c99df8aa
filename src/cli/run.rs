//! `gatepost run`: the relay, from its configuration to the last message.

use super::exit::{Exit, Failure};
use super::log;
use super::signals::{SignalRequest, Signals};
use super::sockets::Sockets;
use super::start;
use super::{ConfigFile, runtime};
use crate::admin::AdminEndpoint;
use crate::builder::Running;
use crate::config::certificates::trouble;
use crate::config::{CertificateReload, Config, Diagnostic, LogFormat, Plan, ProcessEnvironment, Purpose, Upstream};
use crate::emulator::Emulator;
use crate::server::ListenerAddress;
use crate::smtp::{AuthMode, TlsMode};
use crate::spool::{DeadLetters, DiskSpool, Recovery};
use crate::transport::ses::SesTransport;
use std::ffi::OsString;
use std::time::Duration;
use tracing::{error, info, warn};

/// Runs until a signal; also says in which format the log is, which the errors of a failed start are written in too.
pub(super) fn run(file: &ConfigFile) -> (Result<Exit, Failure>, LogFormat) {
    let sockets = Sockets::from_environment();
    match file.load() {
        Ok((config, process_environment)) => {
            let format = config.log.format;
            (serve(config, process_environment, sockets, |_| Ok(())), format)
        }
        Err(failure) => {
            // Only now is it read twice: it may be a pipe.
            let text =
                |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
            (Err(failure), Config::log_format(&file.config, std::env::vars_os().filter_map(text)))
        }
    }
}

/// What listens, as far as a person wants to know it.
pub(super) struct Started<'a> {
    pub(super) listeners: Vec<StartedListener<'a>>,
    pub(super) admin: Option<&'a AdminEndpoint>,
}

pub(super) struct StartedListener<'a> {
    name: &'a str,
    pub(super) address: &'a ListenerAddress,
    pub(super) tls: String,
    auth: String,
}

/// Runs the relay to its end. `started` is called when it listens.
pub(super) fn serve(
    config: Config,
    process_environment: ProcessEnvironment,
    mut sockets: Sockets,
    started: impl FnOnce(&Started<'_>) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let directives = std::env::var("GATEPOST_LOG").ok().filter(|text| !text.is_empty());
    let log = log::start(&config.log, directives.as_deref()).map_err(|error| {
        Failure::new(Exit::Config, error).with_hint("for example: GATEPOST_LOG=info,gatepost=debug")
    })?;
    let purpose = Purpose::Start { sockets: &mut |name| sockets.take(name) };
    let plan = config.plan(&process_environment, purpose)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(relay(plan, config, process_environment, started));
    // A verification of a password may still be running; its result is not needed.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(log);
    ended
}

/// The certificates that SIGHUP reads again, and the environment that they are read with.
struct Certificates {
    reload: CertificateReload,
    process_environment: ProcessEnvironment,
}

impl Certificates {
    /// Gives every listener its certificate as its file is now. If one has an error, all listeners keep the previous ones.
    fn reload(&self, running: &Running) {
        info!(target: "gatepost", "SIGHUP: certificates, keys and authorities are read again, and nothing else");
        let file = self.reload.file().display();
        match self.reload.has_file_changed() {
            Ok(false) => {}
            Ok(true) => warn!(
                target: "gatepost", place = %file,
                "the configuration file has changed since the start: its changes need a restart"
            ),
            Err(error) => warn!(
                target: "gatepost", place = %file,
                "the configuration file cannot be read, so the next start would fail: {error}"
            ),
        }
        match self.reload.certificates(&self.process_environment) {
            Ok(certificates) => {
                for (name, tls) in certificates.iter().filter(|(name, tls)| running.replace_certificate(name, tls)) {
                    let not_after = jiff::Timestamp::from_second(tls.not_after()).unwrap_or_default();
                    info!(target: "gatepost", listener = %name, %not_after, "certificate read again");
                    if let Some(trouble) = trouble(tls) {
                        warn!(target: "gatepost", listener = %name, "{}", trouble.message);
                    }
                }
            }
            Err(error) => {
                for problem in error.diagnostics() {
                    let hint = problem.hint.as_deref().unwrap_or_default();
                    error!(
                        target: "gatepost", place = %problem.location, hint,
                        "SIGHUP: certificates stay as they are: {}", problem.message
                    );
                }
            }
        }
    }
}

async fn relay(
    mut plan: Plan,
    config: Config,
    process_environment: ProcessEnvironment,
    started: impl FnOnce(&Started<'_>) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    // Before anything listens: a signal from now on is a drain, not a death.
    let mut signals = Signals::listen()?;
    info!(target: "gatepost", version = env!("CARGO_PKG_VERSION"), hostname = plan.hostname, "starting");
    warn_of(&plan.warnings);
    let descriptors = raise_file_descriptors(plan.connections_max());
    plan.connect_redis().await?;
    let (transport, emulator) = upstream(&plan.upstream).await?;
    if let Some(found) = config.check_region(&process_environment, transport.region()) {
        warn_of(&found.warnings);
        if !found.errors.is_empty() {
            return Err(Failure::of_problems(&found.errors));
        }
    }
    let offers: Vec<(TlsMode, AuthMode)> = plan.listeners().map(|it| (it.smtp.tls, it.smtp.auth)).collect();
    let limits = plan.kept_limits()?;
    let spool = open_spool(&plan)?;
    let mut builder = plan.builder(transport).file_descriptors_max(descriptors);
    if let Some(limits) = limits {
        builder = builder.limiter(limits);
    }
    if let Some((spool, dead_letters)) = spool {
        builder = builder.spool(spool, Some(dead_letters));
    }
    let running = builder.threads(std::thread::available_parallelism().map_or(1, usize::from)).start();
    let running = running.map_err(|error| start::failure(&config, error))?;
    let listeners = running.addresses().iter().zip(offers);
    let listeners = listeners.map(|((name, address), (tls, auth))| StartedListener {
        name,
        address,
        tls: lower(tls),
        auth: lower(auth),
    });
    let what = Started { listeners: listeners.collect(), admin: running.admin() };
    started(&what)?;
    for StartedListener { name, address, tls, auth } in what.listeners {
        info!(target: "gatepost", listener = %name, tls, auth, "listening on {address}");
    }
    if let Some(address) = what.admin {
        info!(target: "gatepost", "admin endpoint on {address}: /livez /readyz /metrics");
    }
    let certificates = Certificates { reload: CertificateReload::new(&config), process_environment };
    // A running relay does not need the lists of applications and limits a second time.
    drop(config);
    let exit = until_signal(running, &mut signals, &certificates).await;
    if let Some(emulator) = emulator {
        emulator.stop().await;
    }
    Ok(exit)
}

/// Opens the spool, and says what was found.
fn open_spool(plan: &Plan) -> Result<Option<(DiskSpool, DeadLetters)>, Failure> {
    let Some((spool, dead_letters, recovery)) = plan.open_spool()? else { return Ok(None) };
    let directory = plan.spool_directory().map(|path| path.display().to_string()).unwrap_or_default();
    let Recovery { messages, damaged, torn_octets, foreign, .. } = recovery;
    info!(target: "gatepost", directory, messages, "the spool is open");
    if damaged > 0 {
        error!(target: "gatepost", directory, damaged, "the spool has damaged records: see its directory corrupt");
    }
    if torn_octets > 0 {
        warn!(target: "gatepost", directory, torn_octets, "a write to the spool was interrupted: it was not acknowledged");
    }
    for name in foreign {
        warn!(target: "gatepost", directory, name, "a file in the spool is no part of it, and is left alone");
    }
    Ok(Some((spool, dead_letters)))
}

fn warn_of(problems: &[Diagnostic]) {
    for warning in problems {
        let hint = warning.hint.as_deref().unwrap_or_default();
        warn!(target: "gatepost", place = %warning.location, hint, "{}", warning.message);
    }
}

async fn upstream(upstream: &Upstream) -> Result<(SesTransport, Option<Emulator>), Failure> {
    match upstream {
        Upstream::Amazon(settings) => {
            let transport = SesTransport::connect((**settings).clone()).await?;
            let endpoint = settings.endpoint_url.as_deref().unwrap_or("");
            info!(target: "gatepost", region = transport.region(), endpoint, "sending to Amazon SES");
            Ok((transport, None))
        }
        Upstream::Emulator(settings) => {
            let emulator = Emulator::start(settings.emulator.clone()).await?;
            let transport = SesTransport::connect(settings.ses(emulator.endpoint_url())).await?;
            let directory = settings.emulator.directory.as_ref().map(|path| path.display().to_string());
            let kept = directory.unwrap_or_else(|| "memory".to_owned());
            warn!(
                target: "gatepost", endpoint = emulator.endpoint_url(), region = settings.emulator.region, kept,
                "sending to the SES emulator: no message leaves this machine"
            );
            Ok((transport, Some(emulator)))
        }
    }
}

/// Raises the soft limit on file descriptors to the hard one, and says what that is good for.
#[cfg(unix)]
fn raise_file_descriptors(connections_max: u64) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
    let now = if raised.is_ok() { before.maximum } else { before.current };
    let known = now;
    let now = now.unwrap_or(u64::MAX);
    info!(target: "gatepost", file_descriptors_max = now, connections_max, "file descriptors");
    // A connection, its call to SES and maybe a temporary file.
    let wanted = connections_max.saturating_mul(2).saturating_add(64);
    if now < wanted {
        warn!(target: "gatepost", "{now} file descriptors may be too few for {connections_max} connections: LimitNOFILE={wanted}");
    }
    known
}

#[cfg(not(unix))]
fn raise_file_descriptors(_connections_max: u64) -> Option<u64> {
    None
}

fn lower(word: impl std::fmt::Debug) -> String {
    format!("{word:?}").to_lowercase()
}

/// Waits for a signal, then for messages under way; a second signal or the end of the grace cuts.
async fn until_signal(running: Running, signals: &mut Signals, certificates: &Certificates) -> Exit {
    let signal = loop {
        match signals.next().await {
            SignalRequest::Stop(signal) => break signal,
            SignalRequest::Reload => certificates.reload(&running),
        }
    };
    let grace = running.grace();
    let connections = running.connections();
    info!(target: "gatepost", signal, connections, grace_s = grace.as_secs(), "stopping: no new connections");
    running.begin_drain();
    let why = tokio::select! {
        () = running.drained() => {
            let ambiguous_attempts = running.relay().ambiguous_attempts();
            info!(target: "gatepost", ambiguous_attempts, "stopped");
            return Exit::Ok;
        }
        () = tokio::time::sleep(grace) => "shutdown_grace_seconds is over",
        signal = signals.stop() => signal,
    };
    // No client received 250 for what is cut now: it still owns its message.
    warn!(target: "gatepost", why, connections = running.connections(), "stopped: connections were closed before their messages were finished");
    running.cut().await;
    Exit::TryAgain
}
