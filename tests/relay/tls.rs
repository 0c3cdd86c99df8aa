//! Certificates by name and kind, and handshakes that fail.

use crate::support::{Pair, Smtp, TestRelay, TestSetup, listener, tls_listener};
use gatepost::server::{ClientCertificates, PemPair, TlsSettings};
use gatepost::smtp::TlsMode;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::rustls;

/// A certificate of that kind for these names.
fn pair(names: &[&str], kind: &'static rcgen::SignatureAlgorithm) -> Pair {
    let key = rcgen::KeyPair::generate_for(kind).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
}

/// The certificate that a client gets which trusts all of these, asks for that name, and offers those cipher suites.
async fn shown(
    relay: &TestRelay,
    trusted: &[&Pair],
    name: &'static str,
    suites: Option<&[rustls::CipherSuite]>,
) -> Option<CertificateDer<'static>> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if let Some(wanted) = suites {
        provider.cipher_suites.retain(|suite| wanted.contains(&suite.suite()));
    }
    const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    let versions = if suites.is_some() { TLS12 } else { rustls::ALL_VERSIONS };
    let mut roots = rustls::RootCertStore::empty();
    for pair in trusted {
        roots.add(der(pair)).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(relay.port("implicit")).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from(name).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    Some(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
}

/// Old Windows and Java reach only one of RSA and ECDSA.
#[tokio::test]
async fn a_client_gets_a_certificate_for_the_name_it_asks_for_and_of_a_kind_it_can_verify() {
    let ecdsa = pair(&["localhost"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let rsa = pair(&["localhost"], &rcgen::PKCS_RSA_SHA256);
    let other = pair(&["mail.other.example"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let pairs =
        [&rsa, &ecdsa, &other].map(|pair| PemPair { chain: pair.certificate.as_bytes(), key: pair.key.as_bytes() });
    let settings = TlsSettings::from_pairs(&pairs, ClientCertificates::Off, b"").unwrap();
    assert_eq!(settings.validity().len(), 3);
    let relay = TestRelay::with(|mut plan: TestSetup| {
        let mut listener = listener("implicit", |smtp| smtp.tls = TlsMode::Implicit);
        listener.tls = Some(settings);
        plan.listeners = vec![listener];
        plan
    })
    .await;
    let all = [&ecdsa, &rsa, &other];
    let suite = |suite| Some(vec![suite]);
    for (name, suites, want) in [
        ("localhost", None, Some(&ecdsa)),
        ("localhost", suite(rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), Some(&rsa)),
        ("localhost", suite(rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), Some(&ecdsa)),
        ("mail.other.example", None, Some(&other)),
    ] {
        let got = shown(&relay, &all, name, suites.as_deref()).await;
        assert_eq!(got, want.map(der), "{name} {suites:?}");
    }
    assert!(shown(&relay, &[&ecdsa], "mail.other.example", None).await.is_none());
    relay.log.until("TLS handshake failed: the client does not trust the certificate").await;
}

#[tokio::test]
async fn a_handshake_that_fails_says_what_to_do_and_a_silent_connection_is_no_warning() {
    let made = Pair::new();
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.listeners = vec![tls_listener("implicit", &made, TlsMode::Implicit, |_| {}), listener("plain", |_| {}), {
            let mut behind = listener("behind", |_| {});
            behind.proxies = vec!["127.0.0.0/8".parse().unwrap()];
            behind
        }];
        plan
    })
    .await;
    for listener in ["implicit", "behind"] {
        drop(TcpStream::connect(relay.port(listener)).await.unwrap());
        relay.log.until("Silent { address: Ip(127.0.0.1:").await;
        relay.log.until(&format!("listener: \"{listener}\" }}")).await;
    }
    assert!(!relay.log.lines().iter().any(|line| line.contains("ConnectionRefused")), "{:?}", relay.log.lines());
    let mut plain = Smtp::connect(relay.port("implicit")).await;
    plain.say("EHLO client.example").await;
    relay.log.until("TLS handshake failed: the client speaks plain text on a TLS port").await;
    let stream = TcpStream::connect(relay.port("plain")).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    assert!(made.connector().connect(name, stream).await.is_err());
    relay.log.until("TLS handshake failed: the client speaks TLS on a plain port").await;
}
