//! `[admin]`: the listener for operators.

use super::diagnostics::Diagnostics;
use super::listener::Listener;
use super::secret_source::Source;
use super::section::section;
use super::values::{Listen, ListenAddress};
use crate::admin::{AdminEndpoint, AdminSettings};
use serde_json::json;

section! {
    /// The listener for operators: /livez, /readyz and /metrics over HTTP. Without an address, there is no such
    /// listener.
    pub(crate) AdminSection {
        /// IP:PORT such as 127.0.0.1:9925, or unix:/run/gatepost/admin.sock. Default: no listener.
        #[schemars(example = &"127.0.0.1:9925")]
        address: Option<ListenAddress> = None,
        /// What clients send as "Authorization: Bearer TOKEN": { file = "…" }, { env = "…" } or { credential = "…" }.
        /// Required where other machines can reach the address.
        #[schemars(example = json!({ "file": "/etc/gatepost/admin-token" }))]
        token: Option<Source> = None,
    } []
}

/// The least length of a token: 128 bits in hex.
const TOKEN_OCTETS_MIN: usize = 32;

/// The settings of the admin listener; `None` without an address.
pub(super) fn plan(
    section: &AdminSection,
    listeners: &[Listener],
    diagnostics: &mut Diagnostics<'_>,
) -> Option<AdminSettings> {
    let AdminSection { address, token } = section;
    let Some(address) = address else {
        if token.is_some() {
            diagnostics.error(
                "admin.token",
                "a token without an address",
                "set admin.address, such as \"127.0.0.1:9925\"",
            );
        }
        return None;
    };
    let free = matches!(&address.0, Listen::Tcp(tcp) if tcp.port() == 0);
    if !free && listeners.iter().any(|listener| listener.address.as_ref() == Some(address)) {
        diagnostics.error("admin.address", "a listener has this address already", "give each an address of its own");
    }
    let secret = match token {
        None => None,
        Some(source) => {
            let text = diagnostics.secret("admin.token", source)?.trim().to_owned();
            if text.len() < TOKEN_OCTETS_MIN || !text.bytes().all(|octet| matches!(octet, b'!'..=b'~')) {
                let message = "a token has at least 32 printable characters and no spaces";
                diagnostics.error("admin.token", message, "for example: openssl rand -hex 32");
            }
            Some(text)
        }
    };
    let endpoint = match &address.0 {
        Listen::Tcp(address) => {
            if !address.ip().is_loopback() && secret.is_none() {
                let message = format!("other machines can reach {address}, and no token is set");
                diagnostics.error("admin.address", message, "set admin.token, or listen on loopback or a Unix socket");
            }
            AdminEndpoint::Tcp(*address)
        }
        Listen::Unix(path) => AdminEndpoint::Unix(path.clone()),
        Listen::Systemd(_) => {
            diagnostics.error(
                "admin.address",
                "the admin listener does not take a systemd socket",
                "write IP:PORT or unix:PATH",
            );
            return None;
        }
    };
    Some(AdminSettings { endpoint, token: secret })
}
