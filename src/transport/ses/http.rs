//! The HTTP client of the SDK's calls: HTTP/1.1 on pooled connections, one call at a time on each.
//!
//! A call runs in the task that makes it. The SDK's own client gives each connection a task of its own and passes
//! request and answer between the two, which costs 2 to 7 % more CPU for a message of 10 KB. This client also reports whether
//! anything of a failed request was written.

use super::settings::SesTimeouts;
use super::wire::{RequestProgress, Wire};
use crate::mail::boxed;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http as smithy;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, Response, header::HOST};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::connect::HttpConnector;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::{self, Handle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::rustls;
use tower_service::Service;

/// The longest answer that is read. Those of SES have a few hundred octets.
const ANSWER_OCTETS_MAX: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Name resolution, TCP or TLS failed.
    #[error("no connection to {0}")]
    NotConnected(Uri, #[source] BoxError),
    /// Name resolution, TCP and TLS took too long.
    #[error("no connection to {0} within {1:?}")]
    ConnectTimeout(Uri, Duration),
    /// The answer was not complete in time.
    #[error("no answer within {0:?}")]
    AnswerTimeout(Duration),
    /// The connection failed before the answer was complete.
    #[error("the connection broke")]
    Broken(#[source] BoxError),
}

impl HttpError {
    /// Whether nothing of the request was written. With the other errors, it may have been.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(self, Self::NotConnected(..) | Self::ConnectTimeout(..))
    }
}

impl From<HttpError> for ConnectorError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::ConnectTimeout(..) | HttpError::AnswerTimeout(_) => Self::timeout(error.into()),
            _ => Self::io(error.into()),
        }
    }
}

/// The client, with its connection pool. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct PooledHttpClient(SharedHttpConnector);

impl PooledHttpClient {
    /// A client with the root certificates of the machine (or of `SSL_CERT_FILE` and `SSL_CERT_DIR`), if `tls` is used.
    ///
    /// # Errors
    /// If there are no root certificates.
    pub(super) fn new(timeouts: SesTimeouts, tls: bool) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let client = match tls {
            true => client.with_native_roots()?,
            false => client.with_root_certificates(rustls::RootCertStore::empty()),
        };
        Ok(Self::with_tls(client.with_no_client_auth(), timeouts))
    }

    fn with_tls(tls: rustls::ClientConfig, timeouts: SesTimeouts) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divides the time among the addresses, so that not the first one uses all of it.
        tcp.set_connect_timeout(Some(timeouts.connect));
        let pool = Arc::new(Pool { idle_max: timeouts.idle, connections: Mutex::default() });
        let connector = Connector { dialer: HttpsConnector::from((tcp, tls)), timeouts, pool };
        Self(SharedHttpConnector::new(SharedConnector(Arc::new(connector))))
    }
}

impl HttpClient for PooledHttpClient {
    // Its settings are the same timeouts.
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }
}

#[derive(Clone, Debug)]
struct SharedConnector(Arc<Connector>);

#[derive(Debug)]
struct Connector {
    dialer: HttpsConnector<HttpConnector>,
    timeouts: SesTimeouts,
    pool: Arc<Pool>,
}

impl smithy::HttpConnector for SharedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = Arc::clone(&self.0);
        HttpConnectorFuture::new_boxed(boxed(|| async move {
            let (origin, request) = split_origin(request).map_err(ConnectorError::user)?;
            let response = connector.call(origin, request).await?;
            HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
        }))
    }
}

/// The target of a request, and the request as written to it (RFC 9112 §3.2.1: path, and Host).
fn split_origin(request: HttpRequest) -> Result<(Uri, Request<SdkBody>), BoxError> {
    let mut request = request.try_into_http1x()?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let path = parts.path_and_query.replace(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    let origin = Uri::from_parts(parts)?;
    // The default port of the scheme is omitted, as in the signature.
    let port = origin.port_u16().filter(|port| *port != if origin.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    let host = origin.host().unwrap_or_default();
    let host = port.map_or_else(|| HeaderValue::from_str(host), |port| HeaderValue::try_from(format!("{host}:{port}")));
    request.headers_mut().insert(HOST, host?);
    Ok((origin, request))
}

impl Connector {
    async fn call(&self, origin: Uri, request: Request<SdkBody>) -> Result<Response<SdkBody>, HttpError> {
        let kept = poll_fn(|cx| Poll::Ready(self.pool.take(&origin, cx))).await;
        // The copy is for a second attempt on a new connection, if the pooled one was closed before the first octet.
        let spare = kept.is_some().then(|| copy(&request)).flatten();
        let connection = match kept {
            Some(connection) => connection,
            // Boxed: few calls need the memory of connecting.
            None => Box::pin(self.connect(&origin)).await?,
        };
        match (self.exchange(connection, request).await?, spare) {
            (Ok(response), _) => Ok(response),
            // The endpoint closed the pooled connection: try again on a new one.
            (Err(Failed::Unsent(_)), Some(request)) => {
                let connection = Box::pin(self.connect(&origin)).await?;
                let exchange = Box::pin(self.exchange(connection, request)).await?;
                exchange.map_err(|failed| failed.into_error(origin))
            }
            (Err(failed), _) => Err(failed.into_error(origin)),
        }
    }

    /// Makes a call on a connection, which returns to the pool after success.
    async fn exchange(
        &self,
        mut connection: KeptConnection,
        request: Request<SdkBody>,
    ) -> Result<Result<Response<SdkBody>, Failed>, HttpError> {
        let exchange = timeout(self.timeouts.read, connection.exchange(request)).await;
        let exchange = exchange.map_err(|_| HttpError::AnswerTimeout(self.timeouts.read))?;
        if exchange.is_ok() {
            connection.progress.answered();
            self.pool.put(connection);
        }
        Ok(exchange)
    }

    async fn connect(&self, origin: &Uri) -> Result<KeptConnection, HttpError> {
        let failed = |error| HttpError::NotConnected(origin.clone(), error);
        let connect = async {
            let stream = self.dialer.clone().call(origin.clone()).await?;
            let progress = Arc::<RequestProgress>::default();
            let (sender, work) = http1::handshake(Wire::new(stream, Arc::clone(&progress))).await?;
            Ok(KeptConnection {
                progress,
                origin: origin.clone(),
                sender,
                work: Box::new(work),
                ended: false,
                idle_since: Instant::now(),
                runtime: Handle::current().id(),
            })
        };
        match timeout(self.timeouts.connect, connect).await {
            Ok(connected) => connected.map_err(failed),
            Err(_) => Err(HttpError::ConnectTimeout(origin.clone(), self.timeouts.connect)),
        }
    }
}

/// A copy of a request, whose body is shared; `None` if the body is a stream.
fn copy(request: &Request<SdkBody>) -> Option<Request<SdkBody>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// A connection to SES. Dropping it closes it, also during a call.
#[derive(Debug)]
struct KeptConnection {
    origin: Uri,
    sender: SendRequest<SdkBody>,
    /// Reads and writes when polled; it has no task of its own. Boxed, because it is large and moves.
    work: Box<Connection<Wire, SdkBody>>,
    progress: Arc<RequestProgress>,
    ended: bool,
    idle_since: Instant,
    /// The runtime whose I/O driver the connection is registered with. A task of another runtime can use it too.
    runtime: runtime::Id,
}

/// Why a connection has no answer.
enum Failed {
    /// It ended before an octet of the request was written.
    Unsent(BoxError),
    Sent(BoxError),
}

impl Failed {
    fn into_error(self, origin: Uri) -> HttpError {
        match self {
            Self::Unsent(error) => HttpError::NotConnected(origin, error),
            Self::Sent(error) => HttpError::Broken(error),
        }
    }
}

impl KeptConnection {
    fn work(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            self.ended = Pin::new(&mut self.work).poll(cx).is_ready();
        }
    }

    /// Whether the connection can take a request, as far as is known.
    fn is_free(&mut self, cx: &mut Context<'_>) -> bool {
        self.work(cx);
        !self.ended && self.sender.is_ready()
    }

    /// Drives the connection until `awaited` is complete.
    async fn until<T>(&mut self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = pin!(awaited);
        poll_fn(|cx| {
            // Polled first too, because hyper delivers a body only after it was polled for.
            if let Poll::Ready(there) = awaited.as_mut().poll(cx) {
                return Poll::Ready(there);
            }
            self.work(cx);
            awaited.as_mut().poll(cx)
        })
        .await
    }

    async fn exchange(&mut self, request: Request<SdkBody>) -> Result<Response<SdkBody>, Failed> {
        self.progress.begin();
        let head = self.sender.try_send_request(request);
        let (head, body) = match self.until(head).await {
            Ok(response) => response.into_parts(),
            Err(error) => {
                let error = error.into_error().into();
                let failed = if self.progress.is_written() { Failed::Sent } else { Failed::Unsent };
                return Err(failed(error));
            }
        };
        let body =
            self.until(Limited::<Incoming>::new(body, ANSWER_OCTETS_MAX).collect()).await.map_err(Failed::Sent)?;
        Ok(Response::from_parts(head, SdkBody::from(body.to_bytes())))
    }
}

/// Idle connections, in the order of their last use.
#[derive(Debug)]
struct Pool {
    /// A connection that waited longer is not used again.
    idle_max: Duration,
    connections: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<KeptConnection>,
    /// The task that closes old connections, while there are any. It also ends with the runtime that it was spawned in.
    sweeper: Option<JoinHandle<()>>,
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the most recently used connection, which is the most likely to be open; preferably one of this runtime.
    fn take(&self, origin: &Uri, cx: &mut Context<'_>) -> Option<KeptConnection> {
        let here = Handle::current().id();
        loop {
            let mut connection = {
                let connections = &mut self.idle().connections;
                let last = |runtime: Option<runtime::Id>| {
                    let fits =
                        |kept: &KeptConnection| runtime.is_none_or(|id| id == kept.runtime) && kept.origin == *origin;
                    connections.iter().rposition(fits)
                };
                let place = last(Some(here)).or_else(|| last(None))?;
                connections.remove(place)
            };
            if connection.idle_since.elapsed() < self.idle_max && connection.is_free(cx) {
                return Some(connection);
            }
        }
    }

    fn put(self: &Arc<Self>, mut connection: KeptConnection) {
        // No task needs to be woken.
        if !connection.is_free(&mut Context::from_waker(Waker::noop())) {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.idle();
        idle.connections.push(connection);
        if idle.sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
            idle.sweeper = Some(tokio::spawn(sweep(Arc::downgrade(self))));
        }
    }

    /// Closes connections that were idle too long. Returns when the next one will be.
    fn close_old(&self) -> Option<Instant> {
        let mut idle = self.idle();
        let now = Instant::now();
        let old = idle.connections.partition_point(|connection| connection.idle_since + self.idle_max <= now);
        idle.connections.drain(..old);
        let next = idle.connections.first().map(|connection| connection.idle_since + self.idle_max);
        if next.is_none() {
            idle.sweeper = None;
        }
        next
    }
}

/// Closes unused connections, as long as there are any.
async fn sweep(pool: Weak<Pool>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.close_old()) {
        sleep_until(next).await;
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
