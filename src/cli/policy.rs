//! `gatepost policy`: IAM policy documents, without an AWS account. May it (simulate), what is needed (generate), what is
//! wrong with it (lint). The work is done in `iam`; here are flags, files and output.
//!
//! Exit codes: 0 allowed, or nothing found; 64 usage; 65 a document is bad, or something was found; 66, 74 a file cannot be
//! read; 73 a file cannot be made; 77 denied.

mod generate;
mod lint;
mod simulate;

use super::exit::Exit;
use std::fmt;
use std::io::Write;
use std::path::Path;

/// Simulate, generate and check IAM policies, without calls to AWS
#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArguments {
    #[command(subcommand)]
    command: PolicyCommand,
}

/// What to do with policies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show whether AWS would allow a request: evaluates the policies of every type together, as AWS does
    Simulate(simulate::Arguments),
    /// Print the least-privilege policies for a relay: role, trust, endpoint and identity policies
    Generate(generate::Arguments),
    /// Report the errors in policy documents
    Lint(lint::Arguments),
}

impl PolicyArguments {
    /// Does it. Results go to `out`, what ends the command to `complaints`; returns the exit code.
    pub(crate) fn run(self, out: &mut impl Write, complaints: &mut impl Write) -> u8 {
        let mut text = String::new();
        let ended = match self.command {
            PolicyCommand::Simulate(arguments) => arguments.run(&mut text),
            PolicyCommand::Generate(arguments) => arguments.run(&mut text),
            PolicyCommand::Lint(arguments) => arguments.run(&mut text),
        };
        // What was found before a failure is a result too.
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        let code = match ended {
            Ok(code) => code,
            Err(Failure { code, text }) => {
                // If this fails, there is no reader left.
                let _ = writeln!(complaints, "gatepost: {text}");
                code
            }
        };
        match written {
            // A reader that went away has read enough.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => IO,
            _ => code,
        }
    }
}

const OK: u8 = Exit::Ok as u8;
const USAGE: u8 = Exit::Usage as u8;
const DATA: u8 = Exit::Data as u8;
const NO_INPUT: u8 = Exit::NoInput as u8;
const CANNOT_CREATE: u8 = Exit::CannotCreate as u8;
const IO: u8 = Exit::Io as u8;
const DENIED: u8 = Exit::NoPermission as u8;

/// What ends the command early.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }
}

impl From<super::exit::Failure> for Failure {
    fn from(failure: super::exit::Failure) -> Self {
        Self::new(failure.exit as u8, failure)
    }
}

/// A document's name for messages, and its text.
fn read(path: &Path) -> Result<(String, String), Failure> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => NO_INPUT,
                std::io::ErrorKind::InvalidData => DATA,
                _ => IO,
            };
            Err(Failure::new(code, format!("cannot read {name}: {error}")))
        }
    }
}

/// A value as indented JSON, and a line end.
fn json(value: &impl serde::Serialize) -> String {
    // Nothing that is printed here has keys that JSON cannot say.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
#[path = "policy/policy_tests.rs"]
mod tests;
