//! What a running relay reads again at SIGHUP: certificates, keys and authorities.

use super::Config;
use super::diagnostics::{ConfigError, Diagnostics, Found};
use super::listener::{self, Listener};
use super::process_environment::ProcessEnvironment;
use super::source_map::SourceMap;
use super::tls::TlsFiles;
use crate::server::TlsSettings;
use std::io;
use std::path::Path;

/// The sections that name certificates. The rest of the configuration is not needed after the start.
#[derive(Clone, Debug)]
pub(crate) struct CertificateReload {
    listener: Vec<Listener>,
    tls: TlsFiles,
    source_map: SourceMap,
}

impl CertificateReload {
    /// From the configuration that the relay started with.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            listener: config.listener.clone(),
            tls: config.tls.clone(),
            source_map: config.source_map.without_positions(),
        }
    }

    /// The certificates of listeners with TLS, by the name of the listener, as their files are now.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] with all errors of the certificates.
    pub(crate) fn certificates(
        &self,
        environment: &ProcessEnvironment,
    ) -> Result<Vec<(String, TlsSettings)>, ConfigError> {
        let mut diagnostics = Diagnostics::new(&self.source_map, environment);
        let certificates = listener::reload(&self.listener, &self.tls, &mut diagnostics);
        let Found { errors, .. } = diagnostics.take();
        if errors.is_empty() { Ok(certificates) } else { Err(ConfigError::Wrong(errors)) }
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> &Path {
        self.source_map.file()
    }

    /// Whether the configuration file changed since it was read. A pipe or a device never did.
    ///
    /// # Errors
    /// The error of the operating system if the file cannot be read.
    pub(crate) fn has_file_changed(&self) -> io::Result<bool> {
        let file = self.source_map.file();
        match std::fs::metadata(file)?.is_file() {
            true => std::fs::read(file).map(|octets| octets != self.source_map.text().as_bytes()),
            false => Ok(false),
        }
    }
}
