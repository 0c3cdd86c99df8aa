//! TLS: certificates in, a rustls configuration out. TLS 1.2 and 1.3, aws-lc-rs, nothing installed globally.

use crate::mail::TlsInfo;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, ServerConnection};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Not PEM, or not of the kind that was expected.
    #[error("{what}: {error}")]
    Pem {
        /// Which input.
        what: &'static str,
        /// What the reader said.
        error: pem::Error,
    },
    /// The PEM holds no certificate.
    #[error("{0}: no certificate in it")]
    Empty(&'static str),
    /// rustls refuses the combination: a key that is not the certificate's, above all.
    #[error("certificate and key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
    /// The authorities for client certificates cannot be used.
    #[error("client certificate authorities cannot be used: {0}")]
    Authorities(String),
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Not asked for.
    #[default]
    Off,
    /// Asked for; who shows one must show a good one.
    Optional,
    /// No handshake without a good one.
    Required,
}

/// A server's certificate, ready to use. The key does not print.
#[derive(Clone)]
pub struct TlsSettings {
    config: Arc<ServerConfig>,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSettings")
    }
}

impl TlsSettings {
    /// From PEM: the certificate chain, end-entity first, and its private key (PKCS#8, PKCS#1 or SEC1).
    /// `authorities` are the issuers of client certificates; not looked at where those are `Off`.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        client_certificates: ClientCertificates,
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("certificate", chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Pem { what: "private key", error })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let mut config = match client_certificates {
            ClientCertificates::Off => builder.with_no_client_auth(),
            wanted => builder.with_client_cert_verifier(verifier(wanted, authorities, provider)?),
        }
        .with_single_cert(chain, key)?;
        // One mail a connection is the habit of many clients; a resumed handshake costs a fraction.
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(1024);
        Ok(Self { config: Arc::new(config) })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn verifier(
    wanted: ClientCertificates,
    authorities: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client certificate authorities", authorities)? {
        roots.add(certificate)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if wanted == ClientCertificates::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| TlsError::Authorities(error.to_string()))
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| TlsError::Pem { what, error })?;
    if list.is_empty() { Err(TlsError::Empty(what)) } else { Ok(list) }
}

/// What a finished handshake told.
pub(super) fn info(connection: &ServerConnection) -> TlsInfo {
    TlsInfo {
        version: connection.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
        cipher: connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
        client_certificate: connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| Arc::from(certificate.as_ref())),
    }
}
