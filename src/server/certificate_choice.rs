//! Selects a listener's certificate for a client: one for the name that it requests, and of a type that it can verify.

use std::fmt;
use std::sync::Arc;
use tokio_rustls::rustls::SignatureAlgorithm;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

/// The certificates of a listener, in the order in which they are tried: ECDSA first, because a handshake with P-256 costs a
/// quarter of one with RSA 2048.
pub(super) struct Choice(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl Choice {
    pub(super) fn new(pairs: Vec<CertifiedKey>) -> Self {
        let named =
            |pair: CertifiedKey| (pair.cert.first().map(|leaf| dns_names(leaf)).unwrap_or_default(), pair.into());
        let mut pairs: Vec<(Vec<String>, Arc<CertifiedKey>)> = pairs.into_iter().map(named).collect();
        // A stable sort: certificates of one type stay in the given order.
        pairs.sort_by_key(|(_, pair)| pair.key.algorithm() == SignatureAlgorithm::RSA);
        Self(pairs)
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(names, _)| names)).finish()
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has removed the schemes that fit no cipher suite of the client.
        let usable =
            |pair: &&(Vec<String>, Arc<CertifiedKey>)| pair.1.key.choose_scheme(hello.signature_schemes()).is_some();
        let wanted = hello.server_name().map(str::to_ascii_lowercase);
        let named = wanted.and_then(|wanted| {
            let fits = |(names, _): &&(Vec<String>, Arc<CertifiedKey>)| names.iter().any(|name| covers(name, &wanted));
            self.0.iter().filter(fits).find(usable)
        });
        // A client that requests another name, or none, may not verify the name, so it receives any certificate of a type
        // that it can verify.
        named.or_else(|| self.0.iter().find(usable)).map(|(_, pair)| Arc::clone(pair))
    }
}

/// RFC 9525 §6.3: an asterisk is a whole first label.
fn covers(name: &str, wanted: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => wanted.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == domain),
        None => name == wanted,
    }
}

fn dns_names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(dns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_covers_one_label() {
        for (name, wanted, covered) in [
            ("mail.a.example", "mail.a.example", true),
            ("*.a.example", "mail.a.example", true),
            ("*.a.example", "a.example", false),
            ("*.a.example", "x.mail.a.example", false),
            ("*.a.example", ".a.example", false),
        ] {
            assert_eq!(covers(name, wanted), covered, "{name} {wanted}");
        }
    }
}
