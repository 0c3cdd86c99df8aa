//! Who is at the other end of a connection, as far as we know.

use super::id::SessionId;
use super::parameters::AppName;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The facts about one connection. Policy reads them; only the relay writes them.
#[derive(Clone, Debug)]
pub struct Client {
    /// Our name for the session.
    pub session: SessionId,
    /// Where the client is, after the PROXY protocol.
    pub address: ClientAddress,
    /// The name of the listener that accepted the connection.
    pub listener: Arc<str>,
    /// What EHLO or HELO said. Anything at all; for the log, never for identity.
    pub hello: String,
    /// Set once the connection is encrypted.
    pub tls: Option<TlsInfo>,
    /// Set once AUTH succeeded.
    pub identity: Option<Identity>,
    /// The application that policy recognised so far. For log and metrics, never for a decision.
    pub app: Option<AppName>,
}

impl Client {
    /// The name of the application, if it is known.
    pub fn app_name(&self) -> Option<&str> {
        self.app.as_ref().map(AppName::as_str)
    }

    /// A client of which no more is known than where it connects from.
    pub fn new(session: SessionId, address: ClientAddress, listener: Arc<str>) -> Self {
        Self { session, address, listener, hello: String::new(), tls: None, identity: None, app: None }
    }
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// TCP. An IPv4-mapped IPv6 address is given as the IPv4 address it is.
    Ip(SocketAddr),
    /// A Unix socket: whoever may open its file.
    Unix,
    /// A trusted proxy spoke for itself or said that it does not know (PROXY `LOCAL`, `UNKNOWN`).
    Unknown,
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

/// What the TLS handshake told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// The cipher suite's IANA name.
    pub cipher: String,
    /// The client's verified certificate; `None` where none was asked for or given.
    pub client_certificate: Option<Arc<ClientCertificate>>,
}

/// What a verified client certificate says. A certificate that cannot be read has its fingerprint only.
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
    /// Names an identity. To be called by an authenticator, after it has verified the password.
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
