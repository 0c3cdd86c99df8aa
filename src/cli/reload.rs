//! `gatepost reload`: makes a running relay read its configuration again, or asks what that would change.

use super::admin_client::{AdminClientError, As, Common, endpoint, request};
use super::exit::{Cause, Exit, Failure};
use super::printer::Printer;
use super::runtime;
use crate::admin::api::RefusedReload;
use crate::admin::{AdminSettings, ReloadProblem, ReloadReport};
use hyper::Method;
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// The name in admin.operator_tokens whose token is shown. Default: the first
    #[arg(long, env = "GATEPOST_OPERATOR")]
    operator: Option<String>,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let admin = endpoint(&arguments.common.config)?;
    let report = runtime()?.block_on(ask(&admin, arguments.operator.as_deref(), arguments.dry_run))?;
    if arguments.common.json {
        let json = serde_json::to_string_pretty(&report);
        printer.text(&(json.map_err(|error| Failure::new(Exit::Software, error.to_string()))? + "\n"))?;
    } else if report.successful {
        printer.text(&text(&report, arguments.dry_run))?;
    }
    if report.successful || arguments.common.json {
        return Ok(if report.successful { Exit::Ok } else { Exit::Config });
    }
    Err(Failure { exit: Exit::Config, causes: report.problems.iter().map(cause).collect() })
}

/// Makes the relay reload, or say what a reload would change.
pub(super) async fn ask(admin: &AdminSettings, operator: Option<&str>, dry_run: bool) -> Result<ReloadReport, Failure> {
    let path = if dry_run { "/api/v1/reload?dry_run=true" } else { "/api/v1/reload" };
    let wrong = |error: serde_json::Error| Failure::new(Exit::Software, format!("the relay's answer: {error}"));
    match request(admin, As::Operator(operator), Method::POST, path).await {
        Ok(answer) => serde_json::from_slice(&answer).map_err(wrong),
        Err(AdminClientError::Refused { status, body, .. }) if status.as_u16() == 422 => {
            serde_json::from_slice::<RefusedReload>(&body).map(|refused| refused.report).map_err(wrong)
        }
        Err(error) => Err(error.into()),
    }
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
