//! What the running relay would reply to a message, and why: with its own rules, and with what is left of its limits now.
//!
//! Nothing is sent, and nothing is taken from a limit.

use crate::admin::{AdminContext, Problem};
use crate::mail::ClientAddress;
use crate::relay::{Explanation, Facts};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Recipients of an explained message.
const RECIPIENTS_MAX: usize = 1_000;

/// A message and its client.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainRequest {
    /// The listener. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<String>,
    /// The client: IP, IP:PORT or unix. Default: this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    /// The name that it authenticates with; the password counts as right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// Whether it uses STARTTLS.
    #[serde(default)]
    pub(crate) tls: bool,
    /// The address in MAIL FROM; empty: the null reverse-path.
    #[serde(default)]
    pub(crate) reverse_path: String,
    /// The recipients, one to a thousand.
    #[schemars(length(min = 1, max = 1_000))]
    pub(crate) forward_paths: Vec<String>,
    /// The message in base64. Default: one with the reverse-path in From.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl ExplainRequest {
    fn facts(self) -> Result<Facts, String> {
        if self.forward_paths.is_empty() || self.forward_paths.len() > RECIPIENTS_MAX {
            return Err(format!("forward_paths has 1 to {RECIPIENTS_MAX} addresses"));
        }
        let client = self.client.as_deref().map(address).transpose()?;
        let message = match &self.message {
            Some(text) => STANDARD.decode(text).map_err(|error| format!("message is not base64: {error}"))?,
            None => {
                let to = &self.forward_paths[0];
                format!("From: {}\r\nTo: {to}\r\nSubject: test\r\n\r\ntest\r\n", self.reverse_path).into_bytes()
            }
        };
        let (reverse_path, forward_paths) = (self.reverse_path, self.forward_paths);
        Ok(Facts {
            listener: self.listener,
            client,
            identity: self.identity,
            tls: self.tls,
            certificate: None,
            reverse_path,
            forward_paths,
            message: message.into(),
        })
    }
}

fn address(text: &str) -> Result<ClientAddress, String> {
    let ip = |ip: IpAddr, port| ClientAddress::Ip(SocketAddr::new(ip.to_canonical(), port));
    match (text, text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        ("unix", ..) => Ok(ClientAddress::Unix),
        (_, Ok(address), _) => Ok(ip(address, 0)),
        (_, _, Ok(address)) => Ok(ip(address.ip(), address.port())),
        _ => Err("client is IP, IP:PORT or unix".to_owned()),
    }
}

pub(super) async fn explain(
    State(subject): State<Arc<AdminContext>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Explanation>, Problem> {
    let body = body.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let request: ExplainRequest =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request(format!("the body: {error}")))?;
    let facts = request.facts().map_err(Problem::bad_request)?;
    let explained = subject.relay.get().explain((subject.explained)(), &facts, true).await;
    explained.map(Json).map_err(|error| Problem::bad_request(error.to_string()))
}
