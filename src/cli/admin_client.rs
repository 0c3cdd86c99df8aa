//! Requests to the admin endpoint of a running relay.

use crate::admin::{AdminEndpoint, AdminSettings};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// The longest wait for an answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);
/// The most octets of an answer: a large message, or a page of rows with a thousand recipients each.
const ANSWER_OCTETS_MAX: usize = 512 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminClientError {
    /// Nothing listens there: the relay does not run.
    #[error("no relay answers on {endpoint}: {error}")]
    NotRunning { endpoint: String, error: io::Error },
    /// It answered, and refused.
    #[error("the relay answered {status}: {text}")]
    Refused { status: StatusCode, text: String },
    /// The exchange failed.
    #[error("the admin endpoint: {0}")]
    Failed(String),
}

/// One request. Returns the body of a successful answer.
pub(super) async fn request(settings: &AdminSettings, method: Method, path: &str) -> Result<Bytes, AdminClientError> {
    let not_running = |error| AdminClientError::NotRunning { endpoint: settings.endpoint.to_string(), error };
    let exchange = async {
        match &settings.endpoint {
            AdminEndpoint::Tcp(address) => {
                exchange(TcpStream::connect(address).await.map_err(not_running)?, settings, method, path).await
            }
            AdminEndpoint::Unix(socket) => {
                exchange(UnixStream::connect(socket).await.map_err(not_running)?, settings, method, path).await
            }
        }
    };
    let late = |_| AdminClientError::Failed(format!("no answer within {ANSWER_WAIT_MAX:?}"));
    timeout(ANSWER_WAIT_MAX, exchange).await.map_err(late)?
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    settings: &AdminSettings,
    method: Method,
    path: &str,
) -> Result<Bytes, AdminClientError> {
    let failed = |error: &dyn std::fmt::Display| AdminClientError::Failed(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "gatepost");
    if let Some(token) = &settings.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_OCTETS_MAX).collect().await.map_err(|error| failed(&error))?;
    let body = body.to_bytes();
    match status.is_success() {
        true => Ok(body),
        false => Err(AdminClientError::Refused { status, text: String::from_utf8_lossy(&body).trim().to_owned() }),
    }
}
