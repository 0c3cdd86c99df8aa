//! `gatepost run`: the relay, from its configuration to the last message.

use super::exit::{Exit, Failure};
use super::log;
use super::signals::Signals;
use super::sockets::Sockets;
use super::{ConfigFile, runtime};
use crate::assemble::Running;
use crate::config::{Plan, Purpose, Upstream};
use crate::emulator::Emulator;
use crate::smtp::{AuthMode, TlsMode};
use crate::transport::ses::SesTransport;
use std::time::Duration;
use tracing::{info, warn};

pub(super) fn run(file: &ConfigFile) -> Result<Exit, Failure> {
    let mut sockets = Sockets::from_environment();
    let (config, surroundings) = file.load()?;
    let directives = std::env::var("GATEPOST_LOG").ok().filter(|text| !text.is_empty());
    let log = log::start(&config.log, directives.as_deref()).map_err(|error| Failure::new(Exit::Config, error))?;
    let purpose = Purpose::Start { sockets: &mut |name| sockets.take(name) };
    let plan = config.plan(&surroundings, purpose)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(relay(plan));
    // A verification of a password may still be running; nobody waits for its answer.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(log);
    ended
}

async fn relay(mut plan: Plan) -> Result<Exit, Failure> {
    // Before anything listens: a signal from now on is a drain, not a death.
    let mut signals = Signals::listen()?;
    info!(target: "gatepost", version = env!("CARGO_PKG_VERSION"), hostname = plan.hostname, "starting");
    for warning in &plan.warnings {
        let hint = warning.hint.as_deref().unwrap_or_default();
        warn!(target: "gatepost", place = %warning.place, hint, "{}", warning.message);
    }
    plan.connect_redis().await?;
    let (transport, emulator) = upstream(&plan.upstream).await?;
    let offers: Vec<(TlsMode, AuthMode)> = plan.listeners().map(|it| (it.smtp.tls, it.smtp.auth)).collect();
    let limits = plan.kept_limits()?;
    let mut builder = plan.builder(transport);
    if let Some(limits) = limits {
        builder = builder.limiter(limits);
    }
    let running = builder.start()?;
    for ((name, address), (tls, auth)) in running.addresses().iter().zip(offers) {
        let (tls, auth) = (lower(tls), lower(auth));
        info!(target: "gatepost", listener = %name, tls, auth, "listening on {address}");
    }
    let exit = until_signal(running, &mut signals).await;
    if let Some(emulator) = emulator {
        emulator.stop().await;
    }
    Ok(exit)
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
                "sending to the SES emulator: nothing leaves this machine"
            );
            Ok((transport, Some(emulator)))
        }
    }
}

fn lower(word: impl std::fmt::Debug) -> String {
    format!("{word:?}").to_lowercase()
}

/// Waits for a signal, then for messages under way; a second signal or the end of the grace cuts.
async fn until_signal(running: Running, signals: &mut Signals) -> Exit {
    let signal = signals.next().await;
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
        () = tokio::time::sleep(grace) => "the grace is over",
        signal = signals.next() => signal,
    };
    // Nobody was told 250 for what is cut now: those clients still own their messages.
    warn!(target: "gatepost", why, connections = running.connections(), "stopped: connections were cut");
    Exit::TryAgain
}
