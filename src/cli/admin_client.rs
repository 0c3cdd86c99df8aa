//! Requests to the admin endpoint of a running relay.

use super::exit::{Exit, Failure};
use super::{ConfigFile, config_plan};
use crate::admin::{AdminEndpoint, AdminSettings, Problem};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How a command finds the relay, and what it prints.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

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
    #[error("the relay answered {}: {text}", status.as_u16())]
    Refused { status: StatusCode, text: String, body: Bytes },
    /// The configuration has no such operator.
    #[error("admin.operator_tokens has no {0}")]
    NoOperator(String),
    /// The exchange failed.
    #[error("the admin endpoint: {0}")]
    Failed(String),
}

/// What a request shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum As<'a> {
    /// The token that reads, or one of an operator if there is no other.
    Reader,
    /// The token of that operator; without a name, the first one. The token that reads, if there is no other.
    Operator(Option<&'a str>),
}

impl As<'_> {
    fn token(self, settings: &AdminSettings) -> Result<Option<&str>, AdminClientError> {
        let first = settings.operator_tokens.first().map(|(_, token)| token.as_str());
        let reader = settings.token.as_deref();
        match self {
            Self::Reader => Ok(reader.or(first)),
            Self::Operator(None) => Ok(first.or(reader)),
            Self::Operator(Some(name)) => {
                let named = settings.operator_tokens.iter().find(|(known, _)| known == name);
                let unknown = || AdminClientError::NoOperator(name.to_owned());
                named.map(|(_, token)| Some(token.as_str())).ok_or_else(unknown)
            }
        }
    }
}

/// The admin endpoint in the configuration.
pub(super) fn endpoint(config: &ConfigFile) -> Result<AdminSettings, Failure> {
    let plan = config_plan(config)?;
    let failure =
        || Failure::new(Exit::Config, "the configuration has no admin endpoint").with_hint("set admin.address");
    plan.admin().cloned().ok_or_else(failure)
}

/// One request whose answer is JSON.
pub(super) async fn read<T: serde::de::DeserializeOwned>(settings: &AdminSettings, path: &str) -> Result<T, Failure> {
    let answer = request(settings, As::Reader, Method::GET, path).await?;
    serde_json::from_slice(&answer)
        .map_err(|error| Failure::new(Exit::Software, format!("the relay's answer: {error}")))
}

/// One request. Returns the body of a successful answer.
pub(super) async fn request(
    settings: &AdminSettings,
    shown: As<'_>,
    method: Method,
    path: &str,
) -> Result<Bytes, AdminClientError> {
    send(settings, shown, method, path, Bytes::new()).await
}

/// A POST with a body of JSON.
pub(super) async fn post(
    settings: &AdminSettings,
    shown: As<'_>,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, AdminClientError> {
    send(settings, shown, Method::POST, path, body.into()).await
}

async fn send(
    settings: &AdminSettings,
    shown: As<'_>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, AdminClientError> {
    let not_running = |error| AdminClientError::NotRunning { endpoint: settings.endpoint.to_string(), error };
    let token = shown.token(settings)?;
    let exchange = async {
        match &settings.endpoint {
            AdminEndpoint::Tcp(address) => {
                let host = address.to_string();
                exchange(TcpStream::connect(address).await.map_err(not_running)?, &host, token, method, path, body)
                    .await
            }
            AdminEndpoint::Unix(socket) => {
                exchange(
                    UnixStream::connect(socket).await.map_err(not_running)?,
                    "localhost",
                    token,
                    method,
                    path,
                    body,
                )
                .await
            }
        }
    };
    let late = |_| AdminClientError::Failed(format!("no answer within {ANSWER_WAIT_MAX:?}"));
    timeout(ANSWER_WAIT_MAX, exchange).await.map_err(late)?
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, AdminClientError> {
    let failed = |error: &dyn std::fmt::Display| AdminClientError::Failed(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(body)).map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_OCTETS_MAX).collect().await.map_err(|error| failed(&error))?;
    let body = body.to_bytes();
    match status.is_success() {
        true => Ok(body),
        false => {
            let problem = serde_json::from_slice::<Problem>(&body).map(|problem| problem.detail);
            let text = problem.unwrap_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned());
            Err(AdminClientError::Refused { status, text, body })
        }
    }
}

impl From<AdminClientError> for Failure {
    fn from(error: AdminClientError) -> Self {
        let exit = match &error {
            AdminClientError::Refused { status, .. } if status.as_u16() == 403 || status.as_u16() == 401 => {
                Exit::NoPermission
            }
            AdminClientError::Refused { status, .. } if matches!(status.as_u16(), 400 | 404) => Exit::Data,
            AdminClientError::NoOperator(_) => Exit::Usage,
            _ => Exit::Unavailable,
        };
        let failure = Self::new(exit, error.to_string());
        match error {
            AdminClientError::NotRunning { .. } => failure.with_hint("is the relay running, with this configuration?"),
            _ => failure,
        }
    }
}
