//! `gatepost status`: what runs, over the admin endpoint.

use super::admin_client::{Common, endpoint, read};
use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::runtime;
use crate::admin::api::Status;
use serde_json::Value;
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to show instead: apps (what each may send, its limits and counts), limits, ses (account, pace, last errors), lockouts,
    /// reload (what the last one changed), config (the configuration in force, without secrets)
    topic: Option<Topic>,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Topic {
    Apps,
    Limits,
    Ses,
    Lockouts,
    Reload,
    Config,
}

impl Topic {
    fn path(self) -> &'static str {
        match self {
            Self::Apps => "/api/v1/apps",
            Self::Limits => "/api/v1/limits",
            Self::Ses => "/api/v1/ses",
            Self::Lockouts => "/api/v1/lockouts",
            Self::Reload => "/api/v1/reload",
            Self::Config => "/api/v1/config",
        }
    }
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let settings = endpoint(&arguments.common.config)?;
    if let Some(topic) = arguments.topic {
        let value: Value = runtime()?.block_on(read(&settings, topic.path()))?;
        match (arguments.common.json, topic, &value["text"]) {
            (true, ..) => printer.line(&value.to_string())?,
            (false, Topic::Config, Value::String(text)) => printer.text(text)?,
            _ => printer.text(&outline(&value))?,
        };
        return Ok(Exit::Ok);
    }
    let path = "/api/v1/status";
    let value: Value = runtime()?.block_on(read(&settings, path))?;
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

/// JSON as an outline: a line for each value, below its name.
fn outline(value: &Value) -> String {
    fn line(text: &mut String, depth: usize, name: &str, value: &Value) {
        let indent = "  ".repeat(depth);
        let plain = |value: &Value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>()
        };
        let is_flat = |value: &Value| !value.is_object() && !value.is_array();
        // Writing to a string does not fail.
        let _ = match value {
            Value::Object(members) => {
                let _ = writeln!(text, "{indent}{name}");
                members.iter().for_each(|(name, value)| line(text, depth + 1, name, value));
                Ok(())
            }
            Value::Array(items) if items.iter().all(is_flat) => {
                let items: Vec<String> = items.iter().map(plain).collect();
                writeln!(
                    text,
                    "{indent}{name}: {}",
                    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
                )
            }
            Value::Array(items) => {
                items.iter().for_each(|item| {
                    let called = item["name"].as_str().or(item["limit"].as_str()).unwrap_or("-");
                    line(text, depth, &format!("{name} {called}"), item);
                });
                Ok(())
            }
            value => writeln!(text, "{indent}{name}: {}", plain(value)),
        };
    }
    let mut text = String::new();
    if let Value::Object(members) = value {
        members.iter().for_each(|(name, value)| line(&mut text, 0, name, value));
    }
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
