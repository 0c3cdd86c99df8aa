//! `gatepost check`: what a start would find wrong, and what the configuration means.

use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::{ConfigFile, runtime};
use crate::config::{App, Config, Plan, Purpose, Upstream};
use crate::server::{Endpoint, ListenerSettings};
use crate::transport::ses::SesTransport;
use std::fmt::Write;

pub(super) fn run(file: &ConfigFile, printer: &Printer) -> Result<Exit, Failure> {
    let (config, surroundings) = file.load()?;
    let plan = config.plan(&surroundings, Purpose::Check)?;
    let mut text = summary(&config, &plan);
    for warning in &plan.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    // As a start does it, so that a region that is missing in file, environment and profile is found here too. Credentials
    // are not looked up: whoever checks is seldom who runs.
    let settings = match &plan.upstream {
        Upstream::Amazon(settings) => (**settings).clone(),
        // Nothing is sent to it in a check; a start asks the emulator where it listens.
        Upstream::Emulator(emulation) => emulation.ses("http://127.0.0.1:9".to_owned()),
    };
    let transport = runtime()?.block_on(SesTransport::connect(settings))?;
    let _ = writeln!(text, "region       {}", transport.region());
    plan.builder(transport).check()?;
    let _ = writeln!(text, "{}: good", file.config.display());
    printer.text(&text)
}

fn summary(config: &Config, plan: &Plan) -> String {
    let mut text = format!("hostname     {}\n", plan.hostname);
    for (settings, listener) in plan.listeners().zip(&config.listener) {
        let address = listener.address.as_ref().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "listener     {} on {address}: {}", settings.name, offers(settings));
    }
    for (policy, app) in plan.policy().apps().iter().zip(&config.app) {
        let from: Vec<String> = policy.from.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "app          {}: {} as {}", policy.name, recognised(app), list(&from));
    }
    let from: Vec<String> = config.policy.from.iter().map(ToString::to_string).collect();
    let clients: Vec<String> = match &config.policy.clients {
        Some(clients) => clients.iter().map(ToString::to_string).collect(),
        None => vec!["this machine".to_owned()],
    };
    if from.is_empty() {
        let _ = writeln!(text, "may send     nobody else");
    } else {
        let _ = writeln!(text, "may send     from {} as {}", list(&clients), list(&from));
    }
    let octets = config.smtp.message_octets_max.get();
    let deadline = config.deadline.settings().of(octets).as_secs_f64();
    let _ = writeln!(
        text,
        "deadline     {} s, {deadline:.1} s for the largest message ({octets} octets); shutdown grace {} s",
        config.deadline.base_seconds, config.shutdown_grace_seconds
    );
    let _ = match &plan.upstream {
        Upstream::Emulator(settings) => {
            let kept = settings.emulator.directory.as_ref().map(|path| path.display().to_string());
            writeln!(text, "ses          emulator, mail is kept in {}", kept.as_deref().unwrap_or("memory"))
        }
        Upstream::Amazon(settings) => {
            let endpoint = settings.endpoint_url.as_deref().unwrap_or("the region's");
            writeln!(text, "ses          Amazon, endpoint {endpoint}")
        }
    };
    text
}

/// How an application is recognised, in a line.
fn recognised(app: &App) -> String {
    let text = |items: &[String]| items.join(" or ");
    let mut demands: Vec<String> = Vec::new();
    let certificates: Vec<String> = app.certificates.iter().map(ToString::to_string).collect();
    let networks: Vec<String> = app.networks.iter().map(ToString::to_string).collect();
    for (word, items) in
        [("certificate", &certificates), ("AUTH name", &app.auth), ("network", &networks), ("listener", &app.listeners)]
    {
        if !items.is_empty() {
            demands.push(format!("{word} {}", text(items)));
        }
    }
    demands.join(", ")
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "nobody".to_owned() } else { items.join(", ") }
}

fn offers(listener: &ListenerSettings) -> String {
    let smtp = &listener.smtp;
    let mut text = format!("tls {:?}, auth {:?}", smtp.tls, smtp.auth).to_lowercase();
    if smtp.require_tls {
        text.push_str(", TLS required");
    }
    if let Endpoint::Unix { mode, .. } = &listener.endpoint {
        let _ = write!(text, ", mode {mode:04o}");
    }
    text
}
