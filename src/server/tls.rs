//! TLS: makes a rustls configuration from certificates. TLS 1.2 and 1.3, aws-lc-rs; no process-wide provider is installed.

use super::certificate_choice::Choice;
use crate::mail::{ClientCertificate, TlsInfo};
use aws_lc_rs::digest;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, RootCertStore, ServerConfig, ServerConnection};
use x509_parser::extensions::GeneralName;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Not PEM, or not of the kind that was expected.
    #[error("{what}: {error}")]
    Pem {
        /// Which input.
        what: &'static str,
        /// The reader's error.
        error: pem::Error,
    },
    /// The PEM holds no certificate.
    #[error("{0}: no certificate in it")]
    Empty(&'static str),
    /// An X.509 certificate of version 1 or 2, which has no names that clients could verify.
    #[error("an X.509 version {0} certificate, and TLS needs version 3")]
    Version(u32),
    /// The private key is not that of the certificate.
    #[error("the private key is not the one of the certificate")]
    KeyMismatch,
    /// rustls refuses the combination.
    #[error("certificate and key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
    /// The authorities for client certificates cannot be used.
    #[error("client certificate authorities cannot be used: {0}")]
    Authorities(String),
}

/// Whether clients must present certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Not requested.
    #[default]
    Off,
    /// Requested; a certificate that is sent must be valid.
    Optional,
    /// The handshake fails without a valid one.
    Required,
}

/// The certificates of a listener, with their private keys, which `Debug` does not print.
///
/// Clones share them: [`TlsSettings::replace`] affects all clones, from the next handshake on.
#[derive(Clone)]
pub struct TlsSettings {
    now: Arc<RwLock<LoadedCertificates>>,
}

#[derive(Clone)]
struct LoadedCertificates {
    config: Arc<ServerConfig>,
    /// The validity of each certificate, in the order of the pairs.
    validity: Vec<Validity>,
}

/// The version of a certificate, if it is 1 or 2: the error of rustls would not name the cause.
fn old_version(der: &[u8]) -> Option<u32> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    // In the certificate, version 1 is the number 0. RFC 5280 §4.1.2.1.
    let version = certificate.version().0 + 1;
    (version < 3).then_some(version)
}

/// The names of the first certificate in PEM.
#[cfg(feature = "cli")]
pub(crate) fn names_in_pem(chain: &[u8]) -> Vec<String> {
    let first = CertificateDer::pem_slice_iter(chain).next().and_then(Result::ok);
    first.map(|der| read_certificate(&der).names).unwrap_or_default()
}

/// The validity period of a certificate, in seconds since 1970; 0 if it cannot be parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The start.
    pub not_before: i64,
    /// The end.
    pub not_after: i64,
}

impl Validity {
    fn of(der: &[u8]) -> Self {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return Self::default() };
        let validity = certificate.validity();
        Self { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() }
    }
}

/// A certificate chain and its private key, in PEM.
#[derive(Clone, Copy)]
pub struct PemPair<'a> {
    /// The chain, end-entity first.
    pub chain: &'a [u8],
    /// The key: PKCS#8, PKCS#1 or SEC1.
    pub key: &'a [u8],
}

impl fmt::Debug for PemPair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PemPair")
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSettings")
    }
}

impl TlsSettings {
    /// From PEM: the certificate chain, end-entity first, and its private key (PKCS#8, PKCS#1 or SEC1).
    /// `authorities` are the issuers of client certificates; ignored with [`ClientCertificates::Off`].
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        client_certificates: ClientCertificates,
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        Self::from_pairs(&[PemPair { chain, key }], client_certificates, authorities)
    }

    /// From several certificates: a client receives one for the name that it requests and of a type that it can verify; ECDSA
    /// if it can verify both ECDSA and RSA.
    ///
    /// # Errors
    /// [`TlsError`]; [`TlsError::Empty`] without a pair.
    pub fn from_pairs(
        pairs: &[PemPair<'_>],
        client_certificates: ClientCertificates,
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let mut certified = Vec::with_capacity(pairs.len());
        for PemPair { chain, key } in pairs {
            let chain = certificates("certificate", chain)?;
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Pem { what: "private key", error })?;
            if let Some(version) = chain.first().and_then(|leaf| old_version(leaf)) {
                return Err(TlsError::Version(version));
            }
            let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::KeyMismatch,
                other => TlsError::Refused(other),
            });
            certified.push(pair?);
        }
        if certified.is_empty() {
            return Err(TlsError::Empty("certificate"));
        }
        let leaves = certified.iter().filter_map(|pair| pair.cert.first());
        let validity = leaves.map(|leaf| Validity::of(leaf)).collect();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let mut config = match client_certificates {
            ClientCertificates::Off => builder.with_no_client_auth(),
            wanted => builder.with_client_cert_verifier(verifier(wanted, authorities, provider)?),
        }
        .with_cert_resolver(Arc::new(Choice::new(certified)));
        // Many clients open a connection for each message. Measured: with an RSA key a resumed handshake costs half of a full
        // one; with TLS 1.3 and a P-256 key it costs the same, since the key exchange is done again.
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(1024);
        let certified = LoadedCertificates { config: Arc::new(config), validity };
        Ok(Self { now: Arc::new(RwLock::new(certified)) })
    }

    /// Replaces the certificates with those of `other`, from the next handshake on.
    pub fn replace(&self, other: &Self) {
        let certified = other.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = certified;
    }

    /// The earliest end of the certificates' validity, in seconds since 1970; 0 if one cannot be parsed.
    pub fn not_after(&self) -> i64 {
        self.validity().iter().map(|validity| validity.not_after).min().unwrap_or(0)
    }

    /// The validity of each certificate, in the order of the pairs.
    pub fn validity(&self) -> Vec<Validity> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).validity.clone()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner).config)
    }
}

fn verifier(
    wanted: ClientCertificates,
    authorities: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client certificate authorities", authorities)? {
        roots.add(certificate).map_err(|error| TlsError::Authorities(error.to_string()))?;
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

/// The facts of a finished handshake.
pub(super) fn info(connection: &ServerConnection) -> TlsInfo {
    TlsInfo {
        version: connection.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
        cipher: connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
        client_certificate: connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| Arc::new(read_certificate(certificate))),
    }
}

/// The facts of a certificate that rustls has verified.
fn read_certificate(der: &[u8]) -> ClientCertificate {
    let sum = digest::digest(&digest::SHA256, der);
    let fingerprint = sum.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
        return ClientCertificate { fingerprint, ..ClientCertificate::default() };
    };
    // The parser prints the least specific part first, in the order of the certificate.
    let subject = certificate.subject().to_string();
    let subject: Vec<&str> = subject.rsplit(", ").collect();
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(name).collect(),
        _ => Vec::new(),
    };
    ClientCertificate { fingerprint, subject: subject.join(", "), names }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_for_its_names() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["billing.internal".to_owned(), "10.0.0.7".to_owned(), "app@example.com".to_owned()];
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "Example");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "billing");
        let certificate = parameters.self_signed(&key).unwrap();
        let read = read_certificate(certificate.der());
        assert_eq!(read.subject, "CN=billing, O=Example");
        assert_eq!(read.names, ["billing.internal", "10.0.0.7", "app@example.com"]);
        assert_eq!(read.fingerprint.len(), 64);
        assert_eq!(read_certificate(b"no certificate").subject, "");
    }
}
