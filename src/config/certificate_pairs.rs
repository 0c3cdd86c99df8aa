//! The certificates and keys of one listener: whether they can be used, and which file is wrong.

use super::certificates::{Trouble, trouble};
use super::diagnostics::{Diagnostics, Purpose};
use super::secret_source::Source;
use crate::server::{ClientCertificates, PemPair, TlsError, TlsSettings, names_in_pem};
use rustls_pki_types::pem;

/// A certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerCertificate {
    /// The listener.
    pub(crate) listener: String,
    /// The file, or what else it was read from.
    pub(crate) source: String,
    /// The names that it is valid for.
    pub(crate) names: Vec<String>,
    /// The start of its validity, in seconds since 1970; 0: not stated.
    pub(crate) not_before: i64,
    /// The end of its validity, in seconds since 1970; 0: not stated.
    pub(crate) not_after: i64,
}

/// One half of a pair: the path of its key, its source, and its text.
pub(super) struct Half {
    pub(super) path: String,
    pub(super) source: String,
    /// Whether the text stands in the configuration itself.
    pub(super) inline: bool,
    pub(super) text: String,
}

impl Half {
    pub(super) fn new(path: String, source: &Source, text: String) -> Self {
        Self { path, source: source.to_string(), inline: matches!(source, Source::Inline(_)), text }
    }

    /// Whether it stands in the configuration and is the path of a file: no PEM is one line.
    fn is_path(&self) -> bool {
        let text = self.text.trim();
        self.inline && !text.contains('\n') && (text.contains('/') || text.ends_with(".pem")) && !text.contains("-----")
    }
}

/// A certificate chain and its key.
pub(super) struct PairText {
    pub(super) chain: Half,
    pub(super) key: Half,
}

/// The issuers of client certificates of a listener.
pub(super) struct Issuers {
    pub(super) wanted: ClientCertificates,
    pub(super) half: Half,
}

/// The TLS of a listener.
pub(super) struct ListenerTls {
    pub(super) settings: TlsSettings,
    pub(super) certificates: Vec<ListenerCertificate>,
}

/// The TLS of the listener of that name. Each pair is checked by itself first, so that an error names the file.
pub(super) fn tls(
    listener: &str,
    pairs: &[PairText],
    issuers: &Issuers,
    diagnostics: &mut Diagnostics<'_>,
    purpose: &Purpose<'_>,
) -> Option<ListenerTls> {
    let Issuers { wanted, half } = issuers;
    let authorities = half.text.as_bytes();
    let mut certificates = Vec::new();
    for pair in pairs {
        let chain = pair.chain.text.as_bytes();
        match TlsSettings::from_pem(chain, pair.key.text.as_bytes(), *wanted, authorities) {
            Ok(settings) => {
                dates(diagnostics, pair, &settings, purpose);
                let validity = settings.validity().first().copied().unwrap_or_default();
                certificates.push(ListenerCertificate {
                    listener: listener.to_owned(),
                    source: pair.chain.source.clone(),
                    names: names_in_pem(chain),
                    not_before: validity.not_before,
                    not_after: validity.not_after,
                });
            }
            Err(error) => {
                refused(diagnostics, pair, half, &error);
                return None;
            }
        }
    }
    let pem: Vec<PemPair<'_>> =
        pairs.iter().map(|pair| PemPair { chain: pair.chain.text.as_bytes(), key: pair.key.text.as_bytes() }).collect();
    let hint = "each pair can be used by itself: try without further_pairs";
    let made = TlsSettings::from_pairs(&pem, *wanted, authorities);
    let settings = made.map_err(|error| diagnostics.error(&pairs[0].chain.path, error.to_string(), hint)).ok()?;
    Some(ListenerTls { settings, certificates })
}

/// A certificate that expired or is not yet valid is an error in a check. A start or a reload only warns: clients that do not
/// verify still send, and another listener may have a valid one.
fn dates(diagnostics: &mut Diagnostics<'_>, pair: &PairText, settings: &TlsSettings, purpose: &Purpose<'_>) {
    let Some(Trouble { message, fails }) = trouble(settings) else { return };
    let message = format!("{}: {message}", pair.chain.source);
    if !fails {
        return diagnostics.warn(&pair.chain.path, message, "renew it; SIGHUP makes the relay read it again");
    }
    let hint = "clients that verify certificates refuse it: renew it, or see that this machine's clock is right";
    match purpose {
        Purpose::Check => diagnostics.error(&pair.chain.path, message, hint),
        Purpose::Reload | Purpose::Start { .. } => diagnostics.warn(&pair.chain.path, message, hint),
    }
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const KEY: &str = "PRIVATE KEY-----";

/// Why a text is not PEM. The text of the error itself may have octets of the file, which may be of a key.
fn not_pem(error: &pem::Error) -> String {
    let why = match error {
        pem::Error::IllegalSectionStart { .. } => {
            "a -----BEGIN …----- line is not alone on its line; of a variable, each \\n must be a real line break"
        }
        pem::Error::MissingSectionEnd { .. } => "a section has no -----END …----- line",
        pem::Error::Base64Decode(_) => "the text between -----BEGIN …----- and -----END …----- is not base64",
        _ => "it cannot be read",
    };
    format!("not PEM: {why}")
}

/// Reports which file is wrong, and how.
fn refused(diagnostics: &mut Diagnostics<'_>, pair: &PairText, issuers: &Half, error: &TlsError) {
    let PairText { chain, key } = pair;
    let of_issuers = |what: &str| what.contains("authorities");
    let pem = "it must be PEM text, with -----BEGIN …----- and -----END …----- lines";
    let inline = [chain, key, issuers].into_iter().find(|half| half.is_path());
    let (half, message, hint): (&Half, String, String) = match error {
        // This is the cause, whatever the error is.
        _ if let Some(half) = inline => {
            let hint = "for a file write { file = \"PATH\" }";
            return diagnostics.error(&half.path, "this is the path of a file, where the content is expected", hint);
        }
        TlsError::Empty(what) if of_issuers(what) => {
            (issuers, "no certificate in it".to_owned(), "name the certificates of the issuers, in PEM".to_owned())
        }
        TlsError::Empty(_) if chain.text.contains(KEY) => {
            let hint = "name the certificate in certificate, and the key in key";
            (chain, "a private key, and no certificate".to_owned(), hint.to_owned())
        }
        TlsError::Empty(_) => {
            (chain, "no certificate in it".to_owned(), format!("{pem}: {CERTIFICATE} first, the end-entity's"))
        }
        TlsError::Pem { what, error } if of_issuers(what) => (issuers, not_pem(error), pem.to_owned()),
        TlsError::Pem { what: "private key", .. } if key.text.contains(CERTIFICATE) && !key.text.contains(KEY) => {
            let hint = "name the certificate in certificate, and the key in key";
            (key, "a certificate, and no private key".to_owned(), hint.to_owned())
        }
        TlsError::Pem { what: "private key", .. } if key.text.contains("ENCRYPTED") => {
            let hint = "decrypt it: openssl pkey -in FILE -out NEW; protect the new file by its permissions";
            (key, "the private key is encrypted".to_owned(), hint.to_owned())
        }
        TlsError::Pem { what: "private key", .. } => {
            (key, "no private key in it".to_owned(), format!("{pem}: PKCS#8, PKCS#1 or SEC1, not encrypted"))
        }
        TlsError::Pem { error, .. } => (chain, not_pem(error), pem.to_owned()),
        TlsError::Version(_) => {
            let hint = "make it again with the names that clients connect by: openssl req -x509 -addext \
                        subjectAltName=DNS:relay.example.com, or `gatepost gen-cert` to try";
            (chain, error.to_string(), hint.to_owned())
        }
        TlsError::KeyMismatch => {
            let message = format!("the private key in {} is not the one of this certificate", key.source);
            (chain, message, "certificate and key must belong together: name the two files of one pair".to_owned())
        }
        TlsError::Authorities(_) => {
            (issuers, error.to_string(), "name the certificates of the issuers, in PEM".to_owned())
        }
        other => (chain, other.to_string(), "certificate and key must be PEM, and belong together".to_owned()),
    };
    diagnostics.error(&half.path, format!("{}: {message}", half.source), hint);
}
