//! `gatepost check`: what a start would find wrong, and what the configuration means.
//!
//! Errors go to standard error, warnings and the review to standard output; with `--json`, one document has all of them.
//! Nothing is opened or written, and no network is asked.

mod credentials;
mod review;

use super::exit::{Cause, Exit, Failure};
use super::printer::Printer;
use super::{ConfigFile, reload, runtime};
use crate::admin::ReloadReport;
use crate::config::{Config, Found, Plan, ProcessEnvironment, Purpose, Upstream};
use crate::transport::ses::SesTransport;
use review::Review;
use serde::Serialize;
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Exit with 78 for warnings too
    #[arg(long)]
    strict: bool,
    /// Also say what a reload would change for the relay that runs with this configuration; needs its admin endpoint
    #[arg(long)]
    against_running: bool,
    /// Print one JSON document instead of text, with good, errors, warnings, review
    #[arg(long)]
    json: bool,
}

/// Everything that a check found.
#[derive(Serialize)]
struct Report {
    file: String,
    /// No errors; with `--strict`, no warnings either.
    good: bool,
    errors: Vec<Cause>,
    warnings: Vec<Cause>,
    /// What the configuration means; missing where something is wrong.
    review: Option<Review>,
    /// What a reload would change; missing if that was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_running: Option<ReloadReport>,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let (report, exit) = match arguments.file.load() {
        Ok((config, process_environment)) => {
            let mut report = report(arguments, &config, &process_environment)?;
            if arguments.against_running && report.review.is_some() {
                report.against_running = Some(against_running(&config, &process_environment)?);
            }
            let exit = if report.good { Exit::Ok } else { Exit::Config };
            (report, exit)
        }
        // No file, or one that cannot be read, has an exit code of its own.
        Err(failure) => (arguments.report(failure.causes, Vec::new(), None), failure.exit),
    };
    if arguments.json {
        let json = serde_json::to_string_pretty(&report);
        printer.text(&(json.map_err(|error| Failure::new(Exit::Software, error.to_string()))? + "\n"))?;
        return Ok(exit);
    }
    for error in &report.errors {
        printer.note(&row("error", error));
    }
    let mut text = report.review.as_ref().map(Review::text).unwrap_or_default();
    for warning in &report.warnings {
        let _ = writeln!(text, "{}", row("warning", warning));
    }
    if let Some(running) = &report.against_running {
        text.push_str(&reload::text(running, true));
        for problem in &running.problems {
            let _ = writeln!(text, "the running relay refuses it: {}: {}", problem.place, problem.message);
        }
    }
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let warnings = count(report.warnings.len(), "warning");
    let verdict = match (report.good, report.errors.len()) {
        (true, _) => "good".to_owned(),
        (false, 0) => format!("{warnings}; --strict fails on warnings"),
        (false, errors) => format!("{}, {warnings}", count(errors, "error")),
    };
    let _ = writeln!(text, "{}: {verdict}", report.file);
    printer.text(&text)?;
    Ok(exit)
}

/// One line: severity, place, message and hint.
fn row(severity: &str, cause: &Cause) -> String {
    let Cause { place, message, hint } = cause;
    let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
    let hint = hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    let line: String =
        format!("{place}{message}{hint}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{severity:<12} {line}")
}

impl Arguments {
    fn report(&self, errors: Vec<Cause>, warnings: Vec<Cause>, review: Option<Review>) -> Report {
        let good = errors.is_empty() && (warnings.is_empty() || !self.strict);
        Report { file: self.file.config.display().to_string(), good, errors, warnings, review, against_running: None }
    }
}

fn report(arguments: &Arguments, config: &Config, process_environment: &ProcessEnvironment) -> Result<Report, Failure> {
    let causes = |problems: &[crate::config::Diagnostic]| problems.iter().map(Cause::from).collect::<Vec<_>>();
    let plan = match config.check(process_environment) {
        Ok(plan) => plan,
        Err(Found { errors, warnings }) => {
            return Ok(arguments.report(causes(&errors), causes(&warnings), None));
        }
    };
    let mut warnings = causes(&plan.warnings);
    let mut review = Review::of(config, &plan, process_environment);
    match connected(config, plan, process_environment)? {
        Ok((region, found)) => {
            review.region = region;
            warnings.extend(causes(&found.warnings));
            let good = found.errors.is_empty();
            Ok(arguments.report(causes(&found.errors), warnings, good.then_some(review)))
        }
        Err(failure) => Ok(arguments.report(failure.causes, warnings, None)),
    }
}

fn against_running(config: &Config, environment: &ProcessEnvironment) -> Result<ReloadReport, Failure> {
    let admin = config.plan(environment, Purpose::Check)?.admin().cloned();
    let admin = admin.ok_or_else(|| {
        Failure::new(Exit::Config, "--against-running needs the admin endpoint of the running relay")
            .with_hint("set admin.address and admin.token, or an admin.address that is a Unix socket")
    })?;
    runtime()?.block_on(reload::ask(&admin, None, true))
}

/// As a start does it, so that a region that is missing in file, environment and profile is found here too. Credentials are
/// not looked up: the user who checks is seldom the one that the relay runs as.
fn connected(
    config: &Config,
    plan: Plan,
    process_environment: &ProcessEnvironment,
) -> Result<Result<(String, Found), Failure>, Failure> {
    let settings = match &plan.upstream {
        Upstream::Amazon(settings) => (**settings).clone(),
        // Nothing is sent to it in a check; a start asks the emulator where it listens.
        Upstream::Emulator(emulation) => emulation.ses("http://127.0.0.1:9".to_owned()),
    };
    let place = config.source_map.of("ses");
    let transport = match runtime()?.block_on(SesTransport::connect(settings)) {
        Ok(transport) => transport,
        Err(error) => return Ok(Err(Failure::from(error).at(&place))),
    };
    let region = transport.region().to_owned();
    let found = config.check_region(process_environment, &region).unwrap_or_default();
    Ok(match plan.builder(transport).check() {
        Ok(()) => Ok((region, found)),
        Err(error) => Err(Failure::from(error).at(&config.source_map.of(""))),
    })
}
