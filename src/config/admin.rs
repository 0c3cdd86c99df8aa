//! `[admin]`: the listener for operators.

use super::diagnostics::Diagnostics;
use super::listener::Listener;
use super::log::Addresses;
use super::number::Number;
use super::secret_source::Source;
use super::section::section;
use super::values::{Listen, ListenAddress};
use crate::admin::{AdminEndpoint, AdminSettings};
use serde_json::json;
use std::collections::BTreeMap;

section! {
    /// The listener for operators: /livez, /readyz, /metrics and the API /api/v1 over HTTP. Without an address, there is no such
    /// listener.
    pub(crate) AdminSection {
        /// IP:PORT such as 127.0.0.1:9925, or unix:/run/gatepost/admin.sock. Default: no listener.
        #[schemars(example = &"127.0.0.1:9925")]
        address: Option<ListenAddress> = None,
        /// What clients send as "Authorization: Bearer TOKEN" to read: { file = "…" }, { env = "…" } or { credential = "…" }. It
        /// reads metrics and the API, never the content of a message. It, or an operator token, is required where other machines
        /// can reach the address. /livez and /readyz need no token.
        #[schemars(example = json!({ "file": "/etc/gatepost/admin-token" }))]
        token: Option<Source> = None,
        /// Names with a token each: NAME = { file = "…" }, { env = "…" } or { credential = "…" }. These tokens may also change what
        /// the API can change (queue, lockouts, drain) and read the content of messages in the spool; each change is logged
        /// with the name. Without any, only clients of a Unix socket may.
        #[schemars(example = json!({ "alice": { "file": "/etc/gatepost/operator-alice" } }))]
        operator_tokens: BTreeMap<String, Source> = BTreeMap::new(),
        /// How many decisions about connections, commands and messages are kept for the API and `gatepost decisions`, in memory,
        /// about 1 KiB each, and at most a quarter of memory.octets, of which they are a part. 0: none.
        decisions_max: Number<0, 1_000_000> = Number::of(10_000),
    } []
}

/// The least length of a token: 128 bits in hex.
const TOKEN_OCTETS_MIN: usize = 32;

/// The settings of the admin listener; `None` without an address.
pub(super) fn plan(
    section: &AdminSection,
    listeners: &[Listener],
    addresses: Addresses,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<AdminSettings> {
    let AdminSection { address, token, operator_tokens, decisions_max } = section;
    let Some(address) = address else {
        for (given, key) in [(token.is_some(), "admin.token"), (!operator_tokens.is_empty(), "admin.operator_tokens")] {
            if given {
                let hint = "set admin.address, such as \"127.0.0.1:9925\"";
                diagnostics.error(key, "a token without an address", hint);
            }
        }
        return None;
    };
    let free = matches!(&address.0, Listen::Tcp(tcp) if tcp.port() == 0);
    if !free && listeners.iter().any(|listener| listener.address.as_ref() == Some(address)) {
        diagnostics.error("admin.address", "a listener has this address already", "give each an address of its own");
    }
    let secret = match token {
        None => None,
        Some(source) => Some(read("admin.token", source, diagnostics)?),
    };
    let mut operators: Vec<(String, String)> = Vec::new();
    for (name, source) in operator_tokens {
        let path = format!("admin.operator_tokens.{name}");
        if !is_name(name) {
            let message = format!("{name:?} cannot be the name of an operator");
            diagnostics.error(&path, message, "1 to 64 of A-Z a-z 0-9 . _ -");
        }
        let text = read(&path, source, diagnostics)?;
        if secret.as_ref() == Some(&text) || operators.iter().any(|(_, other)| *other == text) {
            diagnostics.error(&path, "another token is the same", "give each its own: openssl rand -hex 32");
        }
        operators.push((name.clone(), text));
    }
    let endpoint = match &address.0 {
        Listen::Tcp(address) => {
            if !address.ip().is_loopback() && secret.is_none() && operators.is_empty() {
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
    let mut settings = AdminSettings::new(endpoint);
    settings.token = secret;
    settings.operator_tokens = operators;
    settings.decisions_max = decisions_max.size();
    settings.addresses = addresses.into();
    Some(settings)
}

/// Reads a token.
fn read(path: &str, source: &Source, diagnostics: &mut Diagnostics<'_>) -> Option<String> {
    let text = diagnostics.secret(path, source)?.trim().to_owned();
    if text.len() < TOKEN_OCTETS_MIN || !text.bytes().all(|octet| matches!(octet, b'!'..=b'~')) {
        let message = "a token has at least 32 printable characters and no spaces";
        diagnostics.error(path, message, "for example: openssl rand -hex 32");
    }
    Some(text)
}

/// Whether a log field can have it without quotes.
fn is_name(name: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}
