//! Errors and warnings about a configuration, each with its place and a hint, and what the checks of all sections share.

use super::changes::digest;
use super::process_environment::ProcessEnvironment;
use super::secret_source::Source;
use super::source_map::{Location, SourceMap};
use crate::server::Endpoint;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub location: Location,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The file was read and has errors, at least one.
    #[error("{}", lines(.0))]
    Wrong(Vec<Diagnostic>),
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl ConfigError {
    /// The errors of a file that could be read.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Wrong(diagnostics) => diagnostics,
            Self::Read { .. } => &[],
        }
    }
}

/// What a plan is made for.
pub enum Purpose<'a> {
    /// To check the configuration: nothing is written, and sockets that systemd opens are assumed to exist.
    Check,
    /// To change a running relay: no certificate is made, and a systemd socket is the one that its listener has.
    Reload,
    /// To start: missing development certificates are made, and `sockets` returns a systemd socket by name or number.
    Start {
        /// Returns each socket once.
        sockets: &'a mut dyn FnMut(&str) -> Result<Endpoint, String>,
    },
}

impl fmt::Debug for Purpose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "Check",
            Self::Reload => "Reload",
            Self::Start { .. } => "Start",
        })
    }
}

/// Errors and warnings, in the order of the file, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What makes the configuration unusable.
    pub errors: Vec<Diagnostic>,
    /// What works, and probably is a mistake.
    pub warnings: Vec<Diagnostic>,
}

/// Collects errors and warnings while the sections are checked, and reads the texts that they name.
pub(super) struct Diagnostics<'a> {
    source_map: &'a SourceMap,
    environment: &'a ProcessEnvironment,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// A digest of each file that was read.
    files: BTreeMap<PathBuf, u64>,
}

impl<'a> Diagnostics<'a> {
    pub(super) fn new(source_map: &'a SourceMap, environment: &'a ProcessEnvironment) -> Self {
        Self { source_map, environment, errors: Vec::new(), warnings: Vec::new(), files: BTreeMap::new() }
    }

    /// Takes out what was read.
    pub(super) fn take_files(&mut self) -> BTreeMap<PathBuf, u64> {
        std::mem::take(&mut self.files)
    }

    /// Takes out what was found.
    pub(super) fn take(&mut self) -> Found {
        let (errors, warnings) = (std::mem::take(&mut self.errors), std::mem::take(&mut self.warnings));
        Found { errors: in_order(errors), warnings: in_order(warnings) }
    }

    /// The errors so far. A check that found none in between may draw conclusions from what it read.
    pub(super) fn error_count(&self) -> usize {
        self.errors.len()
    }

    /// Where keys stand.
    pub(super) fn source_map(&self) -> &'a SourceMap {
        self.source_map
    }

    /// The environment that sources are read from.
    pub(super) fn environment(&self) -> &'a ProcessEnvironment {
        self.environment
    }

    /// An error at a key of the file, or at the nearest table around it.
    pub(super) fn error(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.error_at(self.source_map.of(path), message, hint);
    }

    /// An error at a place outside the file.
    pub(super) fn error_at(&mut self, location: Location, message: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(diagnostic(location, message, hint));
    }

    /// A warning at a key of the file, or at the nearest table around it.
    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.warn_at(self.source_map.of(path), message, hint);
    }

    /// A warning at a place outside the file.
    pub(super) fn warn_at(&mut self, location: Location, message: impl Into<String>, hint: impl Into<String>) {
        self.warnings.push(diagnostic(location, message, hint));
    }

    /// The text of a secret. Warns if every user of the machine can read it.
    pub(super) fn secret(&mut self, path: &str, source: &Source) -> Option<String> {
        if source.is_world_readable(self.environment) {
            let message = format!("every user of this machine can read {source}");
            self.warn(path, message, "chmod 0600, or 0640 with a group");
        }
        self.text(path, source)
    }

    /// A text that is no secret.
    pub(super) fn text(&mut self, path: &str, source: &Source) -> Option<String> {
        let text = source.read(self.environment).map_err(|error| self.error(path, error.message, error.hint)).ok()?;
        if let Some(file) = source.path(self.environment) {
            self.files.insert(file, digest(text.as_bytes()));
        }
        Some(text)
    }
}

fn diagnostic(location: Location, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
    let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
    Diagnostic { location, message: message.into(), hint }
}

/// By line, without duplicates: two listeners with one certificate report the same errors.
fn in_order(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    diagnostics.retain(|diagnostic| seen.insert((diagnostic.location.to_string(), diagnostic.message.clone())));
    diagnostics.sort_by_key(|diagnostic| diagnostic.location.line());
    diagnostics
}

/// An entry of a list of tables, with its path: `listener.0`.
pub(super) struct Item<'a, T> {
    pub(super) path: String,
    pub(super) value: &'a T,
}

impl<'a, T> Item<'a, T> {
    /// The entries of a list that stands at the top level of the file.
    pub(super) fn all(list: &str, values: &'a [T]) -> impl Iterator<Item = Self> {
        values.iter().enumerate().map(move |(index, value)| Self { path: format!("{list}.{index}"), value })
    }

    /// The path of a key of the entry.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }
}
