//! Exit codes of sysexits.h, and errors that carry one.

use crate::builder::StartError;
use crate::config::{ConfigError, Diagnostic, Location};
use crate::emulator::EmulatorError;
use crate::limit::RedisError;
use crate::limit::StateError;
use crate::spool::OpenError;
use crate::transport::ses::SesError;
use serde::Serialize;
use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    Ok = 0,
    /// The command line is wrong.
    Usage = 64,
    /// The data is wrong: a message that was refused.
    Data = 65,
    /// A file is not there.
    NoInput = 66,
    /// A service cannot be reached, a socket cannot be taken.
    Unavailable = 69,
    /// A defect of ours.
    Software = 70,
    /// A call of the operating system failed.
    OsError = 71,
    /// A file cannot be made.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// Trying again may help.
    TryAgain = 75,
    /// Not permitted.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error and what it ends the process with.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    /// What is wrong; at least one.
    pub(super) causes: Vec<Cause>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cause {
    /// Where, in the form that editors jump to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<String>,
    /// What.
    pub(super) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, causes: vec![Cause { place: None, message: message.into(), hint: None }] }
    }

    /// The same, with what to do about the last cause that has no advice yet.
    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(cause) = self.causes.last_mut() {
            cause.hint.get_or_insert(hint.into());
        }
        self
    }

    /// The same, at a place of the configuration.
    #[must_use]
    pub(super) fn at(mut self, place: &Location) -> Self {
        if let Some(cause) = self.causes.last_mut() {
            cause.place.get_or_insert(place.to_string());
        }
        self
    }

    /// A file that was named and cannot be read.
    pub(super) fn reading(path: &std::path::Path, error: &io::Error) -> Self {
        Self::new(reading(error), format!("cannot read {}: {error}", path.display()))
    }

    /// A configuration that is wrong.
    pub(super) fn of_problems(problems: &[Diagnostic]) -> Self {
        Self { exit: Exit::Config, causes: problems.iter().map(Cause::from).collect() }
    }
}

impl From<&Diagnostic> for Cause {
    fn from(problem: &Diagnostic) -> Self {
        Self { place: Some(problem.location.to_string()), message: problem.message.clone(), hint: problem.hint.clone() }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.message)?,
            None => f.write_str(&self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes: Vec<String> = self.causes.iter().map(ToString::to_string).collect();
        f.write_str(&causes.join("\n"))
    }
}

fn reading(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::NotFound => Exit::NoInput,
        io::ErrorKind::PermissionDenied => Exit::NoPermission,
        io::ErrorKind::InvalidData => Exit::Data,
        _ => Exit::Io,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Read { error: cause, .. } => Self::new(reading(cause), error.to_string()),
            _ => Self::of_problems(error.diagnostics()),
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        match &error {
            RedisError::Unreachable { .. } => Self::new(Exit::Unavailable, error.to_string())
                .with_hint("correct redis.url or start Redis; redis.start_without = true starts without it"),
            _ => Self::new(Exit::Config, error.to_string()).with_hint("correct [redis] of the configuration"),
        }
    }
}

impl From<SesError> for Failure {
    fn from(error: SesError) -> Self {
        Self::new(Exit::Config, error.to_string())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let (exit, hint) = match &error {
            StateError::InUse(_) => (
                Exit::CannotCreate,
                "one process has a state directory: stop the other, or give this one another directory",
            ),
            StateError::Io { error, .. } => (reading(error), "let the relay's user write to limits.state_directory"),
            _ => (Exit::Config, "name another directory in limits.state_directory, or repair that one"),
        };
        Self::new(exit, error.to_string()).with_hint(hint)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let (exit, hint) = match &error {
            OpenError::InUse(_) => {
                (Exit::CannotCreate, "one process has a spool: stop the other, or give this one another directory")
            }
            OpenError::Io { error, .. } => (reading(error), "let the relay's user write to spool.directory"),
            _ => (Exit::Config, "use the version that wrote it, or another spool.directory"),
        };
        Self::new(exit, error.to_string()).with_hint(hint)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Bind(bind) => of_socket(bind.source()),
            _ => Exit::Config,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<EmulatorError> for Failure {
    fn from(error: EmulatorError) -> Self {
        let (exit, cause) = match &error {
            EmulatorError::Listen { source, .. } => (of_socket(Some(source)), format!(": {source}")),
            EmulatorError::Directory { source, .. } => (Exit::CannotCreate, format!(": {source}")),
            _ => (Exit::Config, String::new()),
        };
        let failure = Self::new(exit, format!("{error}{cause}"));
        match &error {
            EmulatorError::Listen { .. } => {
                failure.with_hint("choose a free port in ses_emulator.listen (of `gatepost ses-emulator`: --listen)")
            }
            EmulatorError::Directory { .. } => failure.with_hint("name a directory that this user can write to"),
            _ => failure,
        }
    }
}

/// A port below 1024 needs a privilege; otherwise another process has the address.
fn of_socket(cause: Option<&(dyn Error + 'static)>) -> Exit {
    match cause.and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => Exit::NoPermission,
        _ => Exit::Unavailable,
    }
}
