//! The environment of the process, as data: tests and embedders choose it, and nothing below reads it by itself.

use std::fmt;
use std::path::PathBuf;

/// Environment variables, the directory of systemd credentials and the name of the machine.
#[derive(Clone, Default)]
pub struct ProcessEnvironment {
    /// The environment variables.
    pub variables: Vec<(String, String)>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials_directory: Option<PathBuf>,
    /// The host name of the machine.
    pub machine_name: Option<String>,
}

impl fmt::Debug for ProcessEnvironment {
    /// Environment variables may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessEnvironment")
    }
}

impl ProcessEnvironment {
    /// From the environment variables and the name of the machine.
    pub fn new(variables: Vec<(String, String)>, machine_name: Option<String>) -> Self {
        let directory = variables.iter().find(|(name, _)| name == "CREDENTIALS_DIRECTORY");
        Self { credentials_directory: directory.map(|(_, value)| value.into()), variables, machine_name }
    }

    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
