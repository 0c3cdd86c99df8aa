//! The facts about the client of a connection.

use super::id::SessionId;
use super::parameters::AppName;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The facts about one connection. Only the relay sets them; policy reads them.
#[derive(Clone, Debug)]
pub struct Client {
    /// The id of the session.
    pub session: SessionId,
    /// The client's address, after the PROXY protocol.
    pub address: ClientAddress,
    /// The name of the listener that accepted the connection.
    pub listener: Arc<str>,
    /// The argument of EHLO or HELO: any text. For the log, never for identity.
    pub hello: String,
    /// Set once the connection is encrypted.
    pub tls: Option<TlsInfo>,
    /// Set once AUTH succeeded.
    pub identity: Option<Identity>,
    /// The application that policy has recognised so far. For log and metrics, never for a decision.
    pub app: Option<AppName>,
}

impl Client {
    /// The name of the application, if it was recognised.
    pub fn app_name(&self) -> Option<&str> {
        self.app.as_ref().map(AppName::as_str)
    }

    /// A client of which only the address is known.
    pub fn new(session: SessionId, address: ClientAddress, listener: Arc<str>) -> Self {
        Self { session, address, listener, hello: String::new(), tls: None, identity: None, app: None }
    }
}

/// The address of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// TCP. An IPv4-mapped IPv6 address is converted to IPv4.
    Ip(SocketAddr),
    /// A Unix socket: any process that may open the file.
    Unix,
    /// A trusted proxy connected on its own behalf or does not know the client (PROXY `LOCAL`, `UNKNOWN`).
    Unknown,
}

impl ClientAddress {
    /// The network that counts as one client: an IPv4 address, or the /64 of an IPv6 address, since one host can choose its
    /// addresses from that. `None` for a Unix socket and an unknown address.
    pub fn network(&self) -> Option<IpNet> {
        let Self::Ip(address) = self else { return None };
        network_of(address.ip(), 32, 64)
    }
}

/// The network of an address with one of these prefix lengths.
pub(crate) fn network_of(address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> Option<IpNet> {
    let prefix = if address.is_ipv4() { ipv4_prefix } else { ipv6_prefix };
    IpNet::new(address, prefix).ok().map(|network| network.trunc())
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The result of the TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// The cipher suite's IANA name.
    pub cipher: String,
    /// The client's verified certificate; `None` if none was requested or presented.
    pub client_certificate: Option<Arc<ClientCertificate>>,
}

/// The fields of a verified client certificate. A certificate that cannot be parsed has only a fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 over the DER, lower-case hex without separators.
    pub fingerprint: String,
    /// The subject, most specific part first: `CN=billing, O=Example`.
    pub subject: String,
    /// The subject's alternative names: DNS names (lower case), mailboxes, URIs, IP addresses.
    pub names: Vec<String>,
}

/// The authenticated name: an AUTH user whose password was verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// An identity. Call this only in an authenticator, after it has verified the password.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
