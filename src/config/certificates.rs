//! Makes a temporary authority, and one certificate that it issues with its key, for development and tests.
//!
//! Three files: `ca.pem`, which clients trust, `cert.pem` and `key.pem`. The authority's own key is never written, so
//! it cannot issue a second certificate. P-256; 398 days, the longest that common clients accept.
//! RFC 5280 §4.2.1 (key usage, basic constraints, names), RFC 9525 (names in subjectAltName only).

use crate::mail::{Clock, SystemClock};
use crate::server::TlsSettings;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many days a pair is valid.
pub(crate) const DAYS: u64 = 398;

/// Certificates and key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    /// The authority.
    pub(crate) authority: String,
    /// The certificate.
    pub(crate) certificate: String,
    /// Its key.
    pub(crate) key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
    }
}

/// The files of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PairPaths {
    /// The authority.
    pub(crate) authority: PathBuf,
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// The key, readable by its owner only.
    pub(crate) key: PathBuf,
}

/// Why a pair cannot be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PairError {
    /// A name cannot be in a certificate.
    #[error("{0:?} cannot be in a certificate: names are domain names or IP addresses")]
    Name(String),
    /// A file exists already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// An error of the library.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl Pair {
    /// Makes a pair for those names, which are domain names or IP addresses.
    ///
    /// # Errors
    /// [`PairError::Name`] or [`PairError::Make`].
    pub(crate) fn make(names: &[String]) -> Result<Self, PairError> {
        for name in names {
            let valid = name.parse::<std::net::IpAddr>().is_ok() || dns_name(name);
            if !valid {
                return Err(PairError::Name(name.clone()));
            }
        }
        let mut authority = params(&[], "gatepost throw-away authority")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let mut leaf = params(names, "gatepost development certificate")?;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = leaf.signed_by(&key, &issuer)?.pem();
        Ok(Self { authority: authority_pem, certificate, key: key.serialize_pem() })
    }

    /// Writes the files, and creates missing directories. Without `replace`, nothing is written if one of the files exists.
    ///
    /// # Errors
    /// [`PairError::Exists`] or [`PairError::Write`].
    pub(crate) fn write(&self, paths: &PairPaths, replace: bool) -> Result<(), PairError> {
        let files = [
            // The key last: when it exists, its certificate does.
            (&paths.authority, &self.authority, 0o644),
            (&paths.certificate, &self.certificate, 0o644),
            (&paths.key, &self.key, 0o600),
        ];
        if let Some((path, ..)) = files.iter().find(|(path, ..)| !replace && path.exists()) {
            return Err(PairError::Exists(path.to_path_buf()));
        }
        for (path, text, mode) in files {
            write(path, text, mode, replace).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => PairError::Exists(path.clone()),
                _ => PairError::Write { path: path.clone(), error },
            })?;
        }
        Ok(())
    }
}

impl PairPaths {
    /// `ca.pem`, `cert.pem` and `key.pem` in that directory.
    pub(crate) fn within(directory: &Path) -> Self {
        Self {
            authority: directory.join("ca.pem"),
            certificate: directory.join("cert.pem"),
            key: directory.join("key.pem"),
        }
    }
}

fn params(names: &[String], title: &str) -> Result<CertificateParams, PairError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, title);
    // From a day before today in UTC, since clocks of clients may be slow.
    let today = jiff::Timestamp::try_from(SystemClock.wall()).unwrap_or_default();
    let date = jiff::tz::TimeZone::UTC.to_datetime(today).date();
    let month = u8::try_from(date.month()).unwrap_or(1);
    let day = u8::try_from(date.day()).unwrap_or(1);
    params.not_before = date_time_ymd(date.year().into(), month, day) - DAY;
    params.not_after = params.not_before + DAY * u32::try_from(DAYS).unwrap_or_default();
    Ok(params)
}

/// A problem with the dates of a certificate.
pub(crate) struct Trouble {
    pub(crate) message: String,
    /// Whether clients that verify reject it now.
    pub(crate) fails: bool,
}

/// How long before its expiry a certificate is warned of.
const RENEW_BEFORE: jiff::SignedDuration = jiff::SignedDuration::from_hours(14 * 24);

/// The problem with the dates of certificates, if any; of several, one that makes clients reject a certificate.
pub(crate) fn trouble(tls: &TlsSettings) -> Option<Trouble> {
    let now = jiff::Timestamp::try_from(SystemClock.wall()).unwrap_or_default();
    let time = |seconds| jiff::Timestamp::from_second(seconds).unwrap_or_default();
    // 0: not stated.
    let dated = tls.validity().into_iter().filter(|validity| validity.not_after != 0);
    let told = dated.filter_map(|validity| match (time(validity.not_before), time(validity.not_after)) {
        (_, end) if end < now => Some(Trouble { message: format!("the certificate expired at {end}"), fails: true }),
        (begin, _) if begin > now => {
            Some(Trouble { message: format!("the certificate is not valid before {begin}"), fails: true })
        }
        (_, end) if end.duration_since(now) < RENEW_BEFORE => {
            let days = end.duration_since(now).as_hours() / 24;
            Some(Trouble { message: format!("the certificate expires at {end}, in {days} days"), fails: false })
        }
        _ => None,
    });
    told.max_by_key(|trouble| trouble.fails)
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A domain name, or a wildcard, which is a name in certificates only.
fn dns_name(name: &str) -> bool {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    plain.is_ascii() && crate::mail::MailDomain::parse(plain).is_ok_and(|domain| domain.name().is_some())
}

/// Writes in one step: no process reads a part of the file, and the key is never readable for other users.
fn write(path: &Path, text: &str, mode: u32, replace: bool) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    file.as_file().sync_all()?;
    let persisted = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    persisted.map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ClientCertificates;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
    use std::sync::Arc;
    use tokio_rustls::rustls::client::WebPkiServerVerifier;
    use tokio_rustls::rustls::client::danger::ServerCertVerifier;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

    fn names() -> Vec<String> {
        ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_client_that_trusts_the_authority_trusts_the_certificate_for_its_names_and_its_days() {
        let pair = Pair::make(&names()).unwrap();
        TlsSettings::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes(), ClientCertificates::Off, b"").unwrap();
        let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(read(&pair.authority)).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let now = SystemClock.wall().duration_since(std::time::UNIX_EPOCH).unwrap();
        let verify = |name: &str, after: Duration| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let at = UnixTime::since_unix_epoch(now + after);
            verifier.verify_server_cert(&read(&pair.certificate), &[], &name, &[], at).map(drop)
        };
        for name in names() {
            assert_eq!(verify(&name, Duration::ZERO), Ok(()), "{name}");
        }
        assert!(verify("other.example", Duration::ZERO).is_err());
        assert_eq!(verify("localhost", DAY * 395), Ok(()));
        let late = verify("localhost", DAY * 399);
        assert!(matches!(late, Err(Error::InvalidCertificate(CertificateError::ExpiredContext { .. }))), "{late:?}");
    }

    #[test]
    fn what_is_there_is_not_overwritten_and_the_key_is_its_owners_only() {
        let directory = tempfile::tempdir().unwrap();
        let paths = PairPaths::within(&directory.path().join("made"));
        let (first, second) = (Pair::make(&names()).unwrap(), Pair::make(&names()).unwrap());
        first.write(&paths, false).unwrap();
        assert!(matches!(second.write(&paths, false), Err(PairError::Exists(_))));
        assert_eq!(std::fs::read_to_string(&paths.key).unwrap(), first.key);
        second.write(&paths, true).unwrap();
        assert_eq!(std::fs::read_to_string(&paths.key).unwrap(), second.key);
        assert!(!super::super::secret_source::is_world_readable(&paths.key));
        assert!(super::super::secret_source::is_world_readable(&paths.certificate));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for name in ["", "a b", "a_b.example", "http://x", "*", "ünder.example"] {
            assert!(matches!(Pair::make(&[name.to_owned()]), Err(PairError::Name(_))), "{name}");
        }
        Pair::make(&["*.a.example".to_owned()]).unwrap();
    }
}
