//! TLS handshakes. The text for a failed one says what to do.

use super::listener_context::ListenerContext;
use super::stream::{AcceptedStream, PrefixedStream, Stream};
use super::tls;
use crate::mail::TlsInfo;
use std::io;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{AlertDescription, Error as TlsFault, PeerIncompatible};

/// Why there is no session.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// The client closed before it sent anything: a health check of a load balancer, or a port scan.
    Silent,
    /// The reason.
    Fault(String),
}

/// Does the handshake, within `handshake_wait_max`.
pub(super) async fn handshake(
    context: &ListenerContext,
    opened: AcceptedStream,
) -> Result<(Stream, TlsInfo), NotBegun> {
    let fault = |text: &str| NotBegun::Fault(format!("TLS handshake failed: {text}"));
    let tls = context.settings.tls.as_ref().ok_or_else(|| fault("the listener has no certificate"))?;
    let stream = PrefixedStream::new(opened.early, opened.stream);
    let accept = TlsAcceptor::from(tls.config()).accept(stream).into_fallible();
    match tokio::time::timeout(context.settings.handshake_wait_max, accept).await {
        Ok(Ok(stream)) => {
            let info = tls::info(stream.get_ref().1);
            Ok((Stream::Tls(Box::new(stream)), info))
        }
        Ok(Err((_, stream))) if stream.first().is_none() => Err(NotBegun::Silent),
        Ok(Err((error, stream))) => Err(fault(&describe(&error, stream.first()))),
        Err(_) => Err(fault("it took longer than handshake_seconds_max")),
    }
}

/// A record of a handshake begins with this octet. RFC 8446 §5.1.
const HANDSHAKE: u8 = 22;

fn describe(error: &io::Error, first: Option<u8>) -> String {
    if first.is_some_and(|first| first != HANDSHAKE) {
        return "the client speaks plain text on a TLS port: switch TLS on in the client, or let it use a listener with \
                tls = \"starttls\" or \"none\""
            .to_owned();
    }
    let Some(fault) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsFault>()) else {
        return format!(
            "the client closed the connection in the handshake; a client that does not trust the certificate may do \
             that ({error})"
        );
    };
    let (what, detail) = (remedy(fault), fault.to_string());
    if what.is_empty() { detail } else { format!("{what} ({detail})") }
}

/// What to do about a fault; empty if the text of rustls is sufficient.
fn remedy(fault: &TlsFault) -> &'static str {
    const VERSION: &str = "no common TLS version: the client offers neither TLS 1.2 nor 1.3; update the client, or let it use a \
                           listener with tls = \"none\" in a network that you trust";
    const CIPHER: &str = "no common cipher: the client offers no cipher suite that the listener supports with its \
                          certificates; an old client may need an RSA certificate beside the ECDSA one (further_pairs)";
    const TRUST: &str = "the client does not trust the certificate: give the client its authority, let it connect to a name \
                         in the certificate, and check that the chain is complete and not expired";
    use AlertDescription as Alert;
    use PeerIncompatible as Peer;
    match fault {
        TlsFault::PeerIncompatible(
            Peer::ServerDoesNotSupportTls12Or13
            | Peer::SupportedVersionsExtensionRequired
            // TLS 1.1 has no such extension, and rustls checks it before the version.
            | Peer::SignatureAlgorithmsExtensionRequired
            | Peer::Tls12NotOffered
            | Peer::Tls12NotOfferedOrEnabled,
        )
        | TlsFault::AlertReceived(Alert::ProtocolVersion) => VERSION,
        TlsFault::PeerIncompatible(_)
        | TlsFault::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => CIPHER,
        // The text of rustls if no certificate fits the client.
        TlsFault::General(text) if text.contains("no server certificate chain") => CIPHER,
        TlsFault::AlertReceived(
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::UnrecognisedName
            | Alert::AccessDenied
            // Another authority of the same name, such as an earlier development certificate.
            | Alert::DecryptError,
        ) => TRUST,
        TlsFault::NoCertificatesPresented => {
            "the client presented no certificate, and client_certificates = \"required\" needs one"
        }
        TlsFault::InvalidCertificate(_) => {
            "the client's certificate is not accepted: it must be issued by client_authorities, not be expired, and be \
             for client authentication"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_to_do() {
        let fault = |fault: TlsFault| io::Error::new(io::ErrorKind::InvalidData, fault);
        let old = PeerIncompatible::ServerDoesNotSupportTls12Or13;
        for (error, first, want) in [
            (fault(TlsFault::PeerIncompatible(old)), HANDSHAKE, "no common TLS version"),
            (fault(PeerIncompatible::SignatureAlgorithmsExtensionRequired.into()), HANDSHAKE, "no common TLS version"),
            (fault(TlsFault::AlertReceived(AlertDescription::ProtocolVersion)), HANDSHAKE, "no common TLS version"),
            (
                fault(TlsFault::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)),
                HANDSHAKE,
                "no common cipher",
            ),
            (
                fault(TlsFault::General("no server certificate chain resolved".to_owned())),
                HANDSHAKE,
                "no common cipher",
            ),
            (fault(TlsFault::AlertReceived(AlertDescription::UnknownCA)), HANDSHAKE, "does not trust the certificate"),
            (fault(TlsFault::AlertReceived(AlertDescription::CertificateExpired)), HANDSHAKE, "does not trust"),
            (fault(TlsFault::NoCertificatesPresented), HANDSHAKE, "the client presented no certificate"),
            (io::ErrorKind::UnexpectedEof.into(), HANDSHAKE, "closed the connection in the handshake"),
            (io::ErrorKind::InvalidData.into(), b'E', "plain text on a TLS port"),
        ] {
            let text = describe(&error, Some(first));
            assert!(text.contains(want), "{error:?}: {text}");
        }
    }
}
