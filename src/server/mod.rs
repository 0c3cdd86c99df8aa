//! The SMTP server: sockets, TLS, timers. It knows nothing of SMTP itself.
//!
//! A listener accepts, checks the connection limits, reads the PROXY header of trusted proxies, and starts one task per
//! connection. The task carries octets between the socket and its [`Session`](crate::smtp::Session), and questions between
//! the session and the [`relay`](crate::relay). If the relay has threads of its own, the thread with the fewest connections
//! runs the task.

mod certificate_choice;
mod connection;
mod connection_limits;
mod handshake;
mod listener;
mod listener_context;
mod proxy;
mod stream;
mod threads;
mod tls;

pub(crate) use connection_limits::ConnectionLimits;
pub use listener::{BindError, Endpoint, ListenerAddress};
pub(crate) use listener::{Bound, ListenerHandle};
pub(crate) use threads::Threads;
#[cfg(feature = "cli")]
pub(crate) use tls::names_in_pem;
pub use tls::{ClientCertificates, PemPair, TlsError, TlsSettings, Validity};

use crate::mail::Clock;
use crate::observe::Observer;
use crate::relay::{CurrentRelay, ExplainedListener, Relay};
use crate::smtp;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One listener.
#[derive(Debug)]
#[non_exhaustive]
pub struct ListenerSettings {
    /// Its name, in log lines and for policy.
    pub name: Arc<str>,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What it offers.
    pub smtp: smtp::Settings,
    /// Certificates; needed where `smtp.tls` is not `None`.
    pub tls: Option<TlsSettings>,
    /// Networks of proxies whose connections begin with a PROXY header. A PROXY header from any other client is an error.
    pub proxies: Vec<IpNet>,
    /// The longest wait for the PROXY header, and for the TLS handshake.
    pub handshake_wait_max: Duration,
}

impl ListenerSettings {
    /// What an explanation needs of it.
    pub(crate) fn explained(&self) -> ExplainedListener {
        let unix = match self.endpoint {
            Endpoint::Unix { .. } => true,
            #[cfg(unix)]
            Endpoint::InheritedUnix(_) => true,
            _ => false,
        };
        ExplainedListener { name: Arc::clone(&self.name), smtp: self.smtp.clone(), unix }
    }

    /// A plain listener.
    pub fn new(name: &str, endpoint: Endpoint, smtp: smtp::Settings) -> Self {
        Self {
            name: name.into(),
            endpoint,
            smtp,
            tls: None,
            proxies: Vec::new(),
            handshake_wait_max: Duration::from_secs(20),
        }
    }
}

/// What all connections of a process share.
#[derive(Clone)]
pub(crate) struct ServerContext {
    pub(crate) relay: CurrentRelay,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) limits: ConnectionLimits,
    /// Cancelled: stop accepting, send 421 at command boundaries.
    pub(crate) draining: CancellationToken,
    /// Cancelled: drop everything.
    pub(crate) cut: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) threads: Threads,
}

impl std::fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerContext").field("relay", &self.relay).finish_non_exhaustive()
    }
}

impl ServerContext {
    /// For a relay that is about to listen.
    pub(crate) fn new(relay: Arc<Relay>, limits: ConnectionLimits) -> Self {
        Self {
            clock: Arc::clone(relay.clock()),
            observer: Arc::clone(relay.observer()),
            relay: CurrentRelay::new(relay),
            limits,
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            threads: Threads::default(),
        }
    }
}
