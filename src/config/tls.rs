//! `[tls]`: certificates for all listeners, and the pair that `tls.generate` makes.

use super::certificates::{Pair, PairPaths};
use super::diagnostics::{Diagnostics, Purpose};
use super::secret_source::Source;
use super::section::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

section! {
    /// Certificates, for every listener without certificates of its own.
    pub(crate) TlsFiles {
        /// The certificate chain in PEM, end-entity first: { file = "…" }.
        #[schemars(example = json!({ "file": "/etc/gatepost/cert.pem" }))]
        certificate: Option<Source> = None,
        /// The private key in PEM (PKCS#8, PKCS#1 or SEC1): { file = "…" } or { credential = "…" }.
        #[schemars(example = json!({ "file": "/etc/gatepost/key.pem" }))]
        key: Option<Source> = None,
        /// Further certificates with their keys, for other names, or RSA beside ECDSA for old clients:
        /// [{ certificate = { file = "…" }, key = { file = "…" } }]. A client receives one for the name that it requests (SNI),
        /// of a kind that it can verify, and ECDSA where it can verify both: P-256 costs a quarter of RSA 2048.
        #[schemars(example = json!([{
            "certificate": { "file": "/etc/gatepost/rsa-cert.pem" }, "key": { "file": "/etc/gatepost/rsa-key.pem" }
        }]))]
        further_pairs: Vec<CertificatePair> = Vec::new(),
        /// The issuers of client certificates in PEM: { file = "…" }.
        #[schemars(example = json!({ "file": "/etc/gatepost/clients-ca.pem" }))]
        client_authorities: Option<Source> = None,
        /// true or false: make certificate and key at the start if neither file exists, with a temporary authority
        /// beside them in ca.pem. For development only: no client trusts that authority unless you install it on the
        /// client.
        generate: bool = false,
    } []
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificatePair {
    /// The certificate chain in PEM, end-entity first: { file = "…" }.
    pub(crate) certificate: Source,
    /// The private key in PEM (PKCS#8, PKCS#1 or SEC1): { file = "…" } or { credential = "…" }.
    pub(crate) key: Source,
}

/// `tls.generate` cannot make a pair; the diagnostics say why.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotMade;

/// The pair of `tls.generate` for those names, if its files do not exist: written at a start, made in memory for a check.
pub(super) fn generated(
    tls: &TlsFiles,
    names: &[String],
    diagnostics: &mut Diagnostics<'_>,
    purpose: &Purpose<'_>,
) -> Result<Option<Pair>, NotMade> {
    if !tls.generate {
        return Ok(None);
    }
    let (Some(Source::File(certificate)), Some(Source::File(key))) = (&tls.certificate, &tls.key) else {
        let hint =
            "for example: certificate = { file = \"./var/certs/cert.pem\" }, key = { file = \"./var/certs/key.pem\" }";
        diagnostics.error("tls.generate", "generate needs tls.certificate and tls.key as files", hint);
        return Err(NotMade);
    };
    match (certificate.exists(), key.exists()) {
        (true, true) => return Ok(None),
        (false, false) if matches!(purpose, Purpose::Reload) => {
            let message = format!("{} no longer exists: it was created at the start", certificate.display());
            diagnostics.error("tls.generate", message, "clients trust the one in use; the next start makes another");
            return Err(NotMade);
        }
        (false, false) => {}
        (there, _) => {
            let (one, other) = if there { (certificate, key) } else { (key, certificate) };
            let message = format!("{} exists and {} does not", one.display(), other.display());
            diagnostics.error(
                "tls.generate",
                message,
                "existing files are not overwritten: remove it, and a new pair is created",
            );
            return Err(NotMade);
        }
    }
    let paths = PairPaths {
        authority: certificate.with_file_name("ca.pem"),
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let made = Pair::make(names).and_then(|pair| {
        if matches!(purpose, Purpose::Start { .. }) {
            // An authority without its pair is useless.
            let _ = std::fs::remove_file(&paths.authority);
            pair.write(&paths, false)?;
        }
        Ok(pair)
    });
    let hint = "let the relay's user write there, or name existing certificates and set generate = false";
    made.map(Some).map_err(|error| {
        diagnostics.error("tls.generate", error.to_string(), hint);
        NotMade
    })
}
