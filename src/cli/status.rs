//! `gatepost status`: what runs, over the admin endpoint.

use super::admin_client::{Common, endpoint, read};
use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::runtime;
use crate::admin::api::Status;
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let settings = endpoint(&arguments.common.config)?;
    let path = "/api/v1/status";
    let value: serde_json::Value = runtime()?.block_on(read(&settings, path))?;
    let status: Status = serde_json::from_value(value.clone())
        .map_err(|error| Failure::new(Exit::Software, format!("the relay's answer: {error}")))?;
    match arguments.common.json {
        true => printer.line(&value.to_string())?,
        false => printer.text(&text(&status))?,
    };
    Ok(if status.health.status == "not ready" { Exit::TryAgain } else { Exit::Ok })
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<14} {value}");
    };
    let health = &status.health;
    let reason = health.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    row("status", format!("{}{reason}", health.status));
    for fault in health.faults.iter().skip(1) {
        row("fault", fault.fault.clone());
    }
    row("version", status.version.clone());
    row("hostname", status.hostname.clone());
    row("started", format!("{}, {} ago", status.started.0, duration(status.uptime_seconds)));
    for listener in &status.listeners {
        row(
            "listener",
            format!("{} {}, tls {}, auth {}", listener.name, listener.address, listener.tls, listener.auth),
        );
    }
    for certificate in &status.certificates {
        let left = certificate.days_left;
        row("certificate", format!("{}: until {}, {left} days left", certificate.listener, certificate.not_after.0));
    }
    row("connections", status.connections.to_string());
    row("send queue", format!("{} waiting, {} calls to SES", status.send_queue.messages, status.send_queue.calls));
    if let Some(spool) = &status.spool {
        let (waiting, held, octets) = (spool.waiting, spool.held, spool.octets);
        let oldest = duration(spool.oldest_seconds);
        row("spool", format!("{waiting} waiting, {held} held, {octets} bytes; the oldest is {oldest} old"));
    }
    let budget = &status.budget;
    let memory = budget.receiving_octets + budget.sending_octets;
    row("messages", format!("{memory} bytes in memory, {} on disk", budget.disk_octets));
    text
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let texts = [0, 59, 60, 3_599, 3_600, 90_000].map(duration);
        assert_eq!(texts, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "1 d 1 h"]);
    }
}
