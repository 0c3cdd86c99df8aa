//! The admin endpoint: liveness, readiness, metrics. HTTP, on loopback or a Unix socket; on any other address with
//! a bearer token.
//!
//! - `/livez`: the event loop turns.
//! - `/readyz`: it accepts, it is not draining, and there is memory for a message. Where sending does not work (no
//!   credentials, SES out of reach, a configuration set that is missing) it is "degraded", with the reason and a list of
//!   the faults, and still ready: another instance would have them too.
//! - `/metrics`: Prometheus text, or OpenMetrics if the request accepts it.
//!
//! Answers need nothing of the memory budget, so the endpoint works when the budget is used up. Connections are few and
//! short, and clients without the token cannot keep out a health check: a request must arrive within 2 seconds, and a
//! connection that has not shown the token is closed after its answer, or for a newer connection.

mod clients;
mod process;
mod queue;
mod reload;
mod socket;

use crate::limit::LimitStanding;
use crate::mail::parameters::AppName;
use crate::observe::{LimitSnapshot, Metrics, MetricsSnapshot, SpoolSnapshot, prometheus_text};
use crate::relay::{CurrentRelay, KnownFault, Relay};
use crate::spool::SpoolUsage;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use clients::{Clients, LoginStatus};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
pub use reload::{ReloadProblem, ReloadReport};
pub(crate) use reload::{ReloadRequest, Reloads};
use socket::{Socket, Stream};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The settings of the admin endpoint.
#[derive(Clone)]
#[non_exhaustive]
pub struct AdminSettings {
    /// Where it listens.
    pub endpoint: AdminEndpoint,
    /// What a client must show as `Authorization: Bearer …`. Required if other machines can reach the endpoint.
    pub token: Option<String>,
}

impl AdminSettings {
    /// An endpoint without a token, for clients on this machine.
    pub fn new(endpoint: AdminEndpoint) -> Self {
        Self { endpoint, token: None }
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

/// A listening endpoint.
#[derive(Debug)]
pub(crate) struct AdminServer {
    socket: Socket,
    address: AdminEndpoint,
    token: Option<Arc<str>>,
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
        if let (AdminEndpoint::Tcp(address), None) = (&settings.endpoint, &settings.token)
            && !address.ip().is_loopback()
        {
            return Err(AdminError::NoToken(*address));
        }
        let (socket, address) = Socket::bind(&settings.endpoint)
            .map_err(|error| AdminError::Listen { endpoint: settings.endpoint.to_string(), error })?;
        Ok(Self { socket, address, token: settings.token.map(Into::into) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &AdminEndpoint {
        &self.address
    }

    /// Serves requests until `ended` is cancelled.
    pub(crate) async fn run(self, subject: AdminContext, ended: CancellationToken) {
        let clients = Clients::default();
        let may_operate = self.token.is_some() || matches!(self.address, AdminEndpoint::Unix(_));
        let router = router(Arc::new(subject), self.token.clone(), may_operate);
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

fn router(subject: Arc<AdminContext>, token: Option<Arc<str>>, may_operate: bool) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(queue::router(may_operate))
        .merge(reload::router(may_operate))
        .with_state(subject)
        .layer(from_fn_with_state(token, admit))
}

/// With a token, a request without it receives 401.
async fn admit(
    State(token): State<Option<Arc<str>>>,
    Extension(status): Extension<Arc<LoginStatus>>,
    request: Request,
    next: Next,
) -> Response {
    let _answering = status.answering();
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    let known = match (token, shown) {
        (None, _) => true,
        (Some(token), Some(shown)) => same(token.as_bytes(), shown.as_bytes()),
        (Some(_), None) => false,
    };
    if known {
        status.recognise();
        return next.run(request).await;
    }
    // The connection is not kept for a client that shows no token.
    let fields = [(header::WWW_AUTHENTICATE, "Bearer"), (header::CONNECTION, "close")];
    (StatusCode::UNAUTHORIZED, fields, "a bearer token is needed\n").into_response()
}

/// Compares in constant time.
fn same(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

async fn ready(State(subject): State<Arc<AdminContext>>) -> Response {
    let not = |reason: &str| Some(reason.to_owned());
    let reason = match () {
        () if subject.draining.is_cancelled() => not("draining"),
        () if !(subject.listening)() => not("a listener does not accept"),
        () if subject.relay.get().spool_usage().is_some_and(|usage| usage.failing) => {
            not("the spool cannot be written")
        }
        () if !subject.relay.get().budget().has_room() => not("memory budget and disk allowance are used up"),
        () => None,
    };
    let faults = subject.relay.get().faults();
    let (code, status, reason) = match (reason, faults.first()) {
        (Some(reason), _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready", Some(reason)),
        (None, Some(first)) => (StatusCode::OK, "degraded", Some(first.text.clone())),
        (None, None) => (StatusCode::OK, "ready", None),
    };
    let listed = faults.iter().take(FAULTS_LISTED_MAX);
    let listed = listed
        .map(|KnownFault { apps, text }| Listed { apps: apps.iter().map(AppName::as_str).collect(), fault: text });
    let more = faults.len().saturating_sub(FAULTS_LISTED_MAX);
    (code, axum::Json(Health { reason, status, faults: listed.collect(), more })).into_response()
}

/// Faults that `/readyz` lists.
const FAULTS_LISTED_MAX: usize = 20;

fn spool(relay: &Relay, usage: SpoolUsage) -> SpoolSnapshot {
    let apps = usage.apps.into_iter().map(|app| (app.app, app.messages.saturating_sub(app.held), app.held, app.octets));
    let oldest_seconds = relay.oldest_age().unwrap_or_default().as_secs_f64();
    SpoolSnapshot { apps: apps.collect(), oldest_seconds, damaged: usage.damaged }
}

/// The body of `/readyz`.
#[derive(serde::Serialize)]
struct Health<'a> {
    /// The first fault, or why it is not ready.
    reason: Option<String>,
    status: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Listed<'a>>,
    /// Faults that are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    more: usize,
}

#[derive(serde::Serialize)]
struct Listed<'a> {
    /// The applications that it concerns; none: all of them.
    apps: Vec<&'a str>,
    fault: &'a str,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn sample(status: LimitStanding) -> LimitSnapshot {
    let (used, window) = (status.used(), status.window.to_string());
    LimitSnapshot { limit: status.limit, app: status.app, window, used, remaining: status.left }
}

async fn metrics(State(subject): State<Arc<AdminContext>>, headers: HeaderMap) -> Response {
    let view = subject.relay.get().pace().map(|pace| pace.view());
    let moment = MetricsSnapshot {
        account: view.and_then(|view| view.account),
        pace: view.and_then(|view| view.recipients_per_second),
        octets: subject.relay.get().budget().in_use(),
        send_queue: subject.relay.get().send_queue(),
        spool: subject.relay.get().spool_usage().map(|usage| spool(&subject.relay.get(), usage)),
        certificates: (subject.certificates)(),
        limits: subject.relay.get().standings(&subject.metrics.apps()).await.into_iter().map(sample).collect(),
        faults: subject.relay.get().faults().len(),
        reload: subject.reloads.as_ref().map(|reloads| reloads.gauges()),
        process: process::figures(),
    };
    let text = subject.metrics.open_metrics(&moment);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/openmetrics-text") {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return ([(header::CONTENT_TYPE, kind)], text).into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], prometheus_text(&text)).into_response()
}
