//! `gatepost reload`: makes a running relay read its configuration again, or asks what that would change.

use super::admin_client::{AdminClientError, request};
use super::exit::{Cause, Exit, Failure};
use super::printer::Printer;
use super::{ConfigFile, runtime};
use crate::admin::{AdminSettings, ReloadProblem, ReloadReport};
use crate::config::Purpose;
use hyper::Method;
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    // Only the admin endpoint of this file is needed: where the rest of it is wrong, the relay says so.
    let (config, environment) = arguments.file.load()?;
    let admin = config.plan(&environment, Purpose::Check)?.admin().cloned();
    let admin = admin.ok_or_else(|| {
        let hint =
            "set admin.address and admin.token, or an admin.address that is a Unix socket; or send the relay SIGHUP";
        Failure::new(Exit::Config, "the configuration has no admin endpoint, over which the relay could be asked")
            .with_hint(hint)
    })?;
    let report = runtime()?.block_on(ask(&admin, arguments.dry_run))?;
    if arguments.json {
        let json = serde_json::to_string_pretty(&report);
        printer.text(&(json.map_err(|error| Failure::new(Exit::Software, error.to_string()))? + "\n"))?;
    } else if report.successful {
        printer.text(&text(&report, arguments.dry_run))?;
    }
    if report.successful || arguments.json {
        return Ok(if report.successful { Exit::Ok } else { Exit::Config });
    }
    Err(Failure { exit: Exit::Config, causes: report.problems.iter().map(cause).collect() })
}

/// Makes the relay reload, or say what a reload would change.
pub(super) async fn ask(admin: &AdminSettings, dry_run: bool) -> Result<ReloadReport, Failure> {
    let path = if dry_run { "/api/v1/reload?dry_run=true" } else { "/api/v1/reload" };
    let answer = match request(admin, Method::POST, path).await {
        // A configuration that is wrong: the answer says what.
        Err(AdminClientError::Refused { text, .. }) if text.starts_with('{') => text.into(),
        other => other?,
    };
    let report = serde_json::from_slice(&answer);
    report.map_err(|_| Failure::new(Exit::Unavailable, String::from_utf8_lossy(&answer).into_owned()))
}

/// What changes, line by line.
pub(super) fn text(report: &ReloadReport, dry_run: bool) -> String {
    let mut text = String::new();
    for change in &report.changes {
        let _ = writeln!(text, "{change}");
    }
    let _ = match (report.changes.len(), dry_run) {
        (0, true) => writeln!(text, "a reload would change nothing"),
        (0, false) => writeln!(text, "reloaded: nothing has changed"),
        (changes, true) => writeln!(text, "a reload would make {changes} change(s)"),
        (changes, false) => writeln!(text, "reloaded: {changes} change(s)"),
    };
    text
}

fn cause(problem: &ReloadProblem) -> Cause {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Cause { place: given(&problem.place), message: problem.message.clone(), hint: given(&problem.hint) }
}
