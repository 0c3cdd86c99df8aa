//! `gatepost run`: the relay, from its configuration to the last message.

use super::exit::{Exit, Failure};
use super::live::{self, Live, Seen};
use super::log;
use super::signals::{SignalRequest, Signals};
use super::sockets::Sockets;
use super::start;
use super::{ConfigFile, runtime};
use crate::admin::{AdminEndpoint, ReloadReport, ReloadRequest, Reloads};
use crate::config::{Config, Diagnostic, LogFormat, Plan, ProcessEnvironment, Purpose, Upstream};
use crate::emulator::Emulator;
use crate::server::ListenerAddress;
use crate::smtp::{AuthMode, TlsMode};
use crate::spool::{DeadLetters, DiskSpool, Recovery};
use crate::transport::ses::{SesSettings, SesTransport};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// Runs until a signal; also says in which format the log is, which the errors of a failed start are written in too.
pub(super) fn run(file: &ConfigFile) -> (Result<Exit, Failure>, LogFormat) {
    let sockets = Sockets::from_environment();
    match file.load() {
        Ok((config, process_environment)) => {
            let format = config.log.format;
            (serve(Some(file), config, process_environment, sockets, |_| Ok(())), format)
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
    file: Option<&ConfigFile>,
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
    let ended = runtime.block_on(relay(plan, file.cloned(), config, process_environment, started));
    // A verification of a password may still be running; its result is not needed.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(log);
    ended
}

async fn relay(
    mut plan: Plan,
    file: Option<ConfigFile>,
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
    let (transport, ses, emulator) = upstream(&plan.upstream).await?;
    let transport = Arc::new(transport);
    if let Some(found) = config.check_region(&process_environment, transport.region()) {
        warn_of(&found.warnings);
        if !found.errors.is_empty() {
            return Err(Failure::of_problems(&found.errors));
        }
    }
    let offers: Vec<(TlsMode, AuthMode)> = plan.listeners().map(|it| (it.smtp.tls, it.smtp.auth)).collect();
    let limiter = plan.local_limiter(None)?.map(Arc::new);
    let spool = open_spool(&plan)?;
    let (store, fixed, read, watch) = (plan.store().cloned(), plan.fixed.clone(), plan.read.clone(), plan.watch);
    let report = ReloadReport {
        time: live::now(),
        trigger: "start".to_owned(),
        successful: true,
        digest: read.digest(),
        changes: Vec::new(),
        problems: Vec::new(),
    };
    let (reloads, requests) = Reloads::new(report, read.shown());
    let builder = plan.builder(Arc::clone(&transport)).file_descriptors_max(descriptors);
    let mut builder = builder.reloads(Arc::clone(&reloads));
    if let Some(limiter) = &limiter {
        builder = builder.limiter(Arc::clone(limiter));
    }
    if let Some((spool, dead_letters)) = spool {
        builder = builder.spool(spool, Some(dead_letters));
    }
    let running = builder.threads(std::thread::available_parallelism().map_or(1, usize::from)).start();
    let running = running.map_err(|error| start::failure(&config, error))?;
    let addresses = running.addresses();
    let listeners = addresses.iter().zip(offers);
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
    // A running relay does not need the lists of applications and limits a second time.
    drop((config, process_environment));
    let endpoint = emulator.as_ref().map(Emulator::endpoint_url);
    let seen = Seen::of(&read);
    let live =
        Live { file, running, transport, ses, emulator: endpoint, limiter, store, fixed, read, reloads, watch, seen };
    let exit = until_signal(live, &mut signals, requests).await;
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

async fn upstream(upstream: &Upstream) -> Result<(SesTransport, SesSettings, Option<Emulator>), Failure> {
    match upstream {
        Upstream::Amazon(settings) => {
            let settings = (**settings).clone();
            let transport = SesTransport::connect(settings.clone()).await?;
            let endpoint = settings.endpoint_url.as_deref().unwrap_or("");
            info!(target: "gatepost", region = transport.region(), endpoint, "sending to Amazon SES");
            Ok((transport, settings, None))
        }
        Upstream::Emulator(settings) => {
            let emulator = Emulator::start(settings.emulator.clone()).await?;
            let ses = settings.ses(emulator.endpoint_url());
            let transport = SesTransport::connect(ses.clone()).await?;
            let directory = settings.emulator.directory.as_ref().map(|path| path.display().to_string());
            let kept = directory.unwrap_or_else(|| "memory".to_owned());
            warn!(
                target: "gatepost", endpoint = emulator.endpoint_url(), region = settings.emulator.region, kept,
                "sending to the SES emulator: no message leaves this machine"
            );
            Ok((transport, ses, Some(emulator)))
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
async fn until_signal(mut live: Live, signals: &mut Signals, mut requests: mpsc::Receiver<ReloadRequest>) -> Exit {
    let signal = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                SignalRequest::Stop(signal) => break signal,
                SignalRequest::Reload => {
                    live.reload("SIGHUP").await;
                }
            },
            () = live.changed() => {
                live.reload("watch").await;
            }
            Some(ReloadRequest { dry_run, answer }) = requests.recv() => {
                let report = if dry_run { live.dry_run().await } else { live.reload("api").await };
                // Whoever asked may be gone.
                let _ = answer.send(report);
            }
        }
    };
    let running = live.running;
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
