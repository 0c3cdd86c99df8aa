//! The admin endpoint: liveness, readiness, metrics, and the API of operators. HTTP, on loopback or a Unix socket; on any other address
//! with a bearer token.
//!
//! - `/livez`: the event loop turns.
//! - `/readyz`: it accepts, it is not draining, and there is memory for a message. Where sending does not work (no
//!   credentials, SES out of reach, a configuration set that is missing) it is "degraded", with the reason and a list of
//!   the faults, and still ready: another instance would have them too.
//! - `/metrics`: Prometheus text, or OpenMetrics if the request accepts it.
//! - `/api/v1`: what the relay is, what it decided and what it keeps; and what an operator may change. `/api/v1/openapi.json` describes it.
//!
//! `access.rs` says who may read and who may change.
//! Answers need nothing of the memory budget, so the endpoint works when the budget is used up. Connections are few and
//! short, and clients without the token cannot keep out a health check: a request must arrive within 2 seconds, and a
//! connection that has not shown the token is closed after its answer, or for a newer connection.

mod access;
pub(crate) mod api;
mod clients;
mod health;
mod problem;
mod process;
mod reload;
mod scrape;
mod socket;

use crate::observe::{AddressForm, Decisions, Metrics};
use crate::relay::{CurrentRelay, ExplainedListener};
pub(crate) use access::Access;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use clients::Clients;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
pub(crate) use problem::Problem;
#[cfg(feature = "cli")]
pub(crate) use reload::{ReloadProblem, ReloadRequest};
pub(crate) use reload::{ReloadReport, Reloads};
use socket::{Socket, Stream};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The settings of the admin endpoint.
#[derive(Clone)]
#[non_exhaustive]
pub struct AdminSettings {
    /// Where it listens.
    pub endpoint: AdminEndpoint,
    /// What a client must show as `Authorization: Bearer …` to read: metrics and the API, but never the content of a message. One token,
    /// this or an operator's, is required if other machines can reach the endpoint.
    pub token: Option<String>,
    /// Names and tokens of operators, who may also change what the API can change, and read the content of messages in the spool.
    /// Without any, only clients of a Unix socket may.
    pub operator_tokens: Vec<(String, String)>,
    /// The number of decisions that are kept for the API, about 1 KiB each; 0: none. Default: 10,000.
    pub decisions_max: usize,
    /// The form of addresses, AUTH names and Message-IDs in answers. Default: as they are.
    pub addresses: AddressForm,
}

/// The default of [`AdminSettings::decisions_max`].
const DECISIONS_MAX: usize = 10_000;

impl AdminSettings {
    /// An endpoint without a token, for clients on this machine.
    pub fn new(endpoint: AdminEndpoint) -> Self {
        Self {
            endpoint,
            token: None,
            operator_tokens: Vec::new(),
            decisions_max: DECISIONS_MAX,
            addresses: AddressForm::default(),
        }
    }
}

impl AdminSettings {
    /// Refuses an endpoint that other machines can reach without a token.
    ///
    /// # Errors
    /// [`AdminError::NoToken`].
    pub(crate) fn check(&self) -> Result<(), AdminError> {
        match &self.endpoint {
            AdminEndpoint::Tcp(address)
                if !address.ip().is_loopback() && self.token.is_none() && self.operator_tokens.is_empty() =>
            {
                Err(AdminError::NoToken(*address))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for AdminSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminSettings").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminEndpoint {
    /// TCP; port 0 is any free one.
    Tcp(SocketAddr),
    /// A Unix socket that its owner and group may open. A stale socket is replaced; any other file at the path is an error.
    Unix(PathBuf),
}

/// Why the endpoint does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Other machines could read it without a token.
    #[error("the admin endpoint on {0} can be reached from other machines: set a token, or listen on loopback")]
    NoToken(SocketAddr),
    /// The socket cannot be taken.
    #[error("the admin endpoint cannot listen on {endpoint}: {error}")]
    Listen {
        /// Where.
        endpoint: String,
        /// Why.
        error: io::Error,
    },
}

/// What the endpoint reports.
pub(crate) struct AdminContext {
    /// The relay.
    pub relay: CurrentRelay,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Reading the configuration again. `None`: it was not read from files.
    pub reloads: Option<Arc<Reloads>>,
    /// The last decisions.
    pub decisions: Arc<Decisions>,
    /// The form of addresses in answers.
    pub addresses: AddressForm,
    /// Since when the relay runs.
    pub started: Instant,
    /// What it listens on.
    pub listeners: Box<dyn Fn() -> Vec<ListenerSummary> + Send + Sync>,
    /// The listeners, for an explanation.
    pub explained: Box<dyn Fn() -> Vec<ExplainedListener> + Send + Sync>,
    /// Open connections.
    pub connections: Box<dyn Fn() -> usize + Send + Sync>,
    /// Cancelled: the relay drains.
    pub draining: CancellationToken,
    /// Each listener's certificate and its end, in seconds since 1970.
    pub certificates: Box<dyn Fn() -> Vec<(String, i64)> + Send + Sync>,
    /// Whether all listeners accept.
    pub listening: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for AdminContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminContext").finish_non_exhaustive()
    }
}

/// A listener, as far as operators want to know it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct ListenerSummary {
    /// The name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// `none`, `starttls` or `implicit`.
    pub tls: String,
    /// `off`, `optional`, `required` or `any`.
    pub auth: String,
}

/// A listening endpoint.
#[derive(Debug)]
pub(crate) struct AdminServer {
    socket: Socket,
    address: AdminEndpoint,
    access: Access,
}

/// The wait for the first request on a connection, and for the next one.
const HEADER_WAIT_MAX: Duration = Duration::from_secs(2);
const CONNECTION_MAX: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

impl AdminServer {
    /// Creates the socket.
    ///
    /// # Errors
    /// [`AdminError`].
    pub(crate) fn bind(settings: AdminSettings) -> Result<Self, AdminError> {
        settings.check()?;
        let AdminSettings { endpoint, token, operator_tokens, .. } = settings;
        let (socket, address) =
            Socket::bind(&endpoint).map_err(|error| AdminError::Listen { endpoint: endpoint.to_string(), error })?;
        let unix = matches!(endpoint, AdminEndpoint::Unix(_));
        Ok(Self { socket, address, access: Access::new(token, operator_tokens, unix) })
    }

    /// Its tokens, which can be replaced.
    pub(crate) fn access(&self) -> Access {
        self.access.clone()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &AdminEndpoint {
        &self.address
    }

    /// Serves requests until `ended` is cancelled.
    pub(crate) async fn run(self, subject: AdminContext, ended: CancellationToken) {
        let clients = Clients::default();
        let router = router(&Arc::new(subject), self.access.clone());
        loop {
            let accepted = tokio::select! {
                () = ended.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok(stream) => {
                    let (client, ended) = (clients.enter(), ended.clone());
                    let router = router.clone().layer(Extension(Arc::clone(&client.status)));
                    tokio::spawn(async move {
                        tokio::select! {
                            () = ended.cancelled() => {}
                            () = client.status.closed() => {}
                            _ = tokio::time::timeout(CONNECTION_MAX, serve(stream, router)) => {}
                        }
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

impl fmt::Display for AdminEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

async fn serve(stream: Stream, router: Router) {
    let service = TowerToHyperService::new(router);
    // No request in time, or a closed connection: no answer.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn router(subject: &Arc<AdminContext>, access: Access) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(scrape::metrics))
        .nest(api::PREFIX, api::router(subject))
        .with_state(Arc::clone(subject))
        .layer(from_fn_with_state(access, access::admit))
}
