//! A connection without a socket: what the door would reply, word for word.
//!
//! The same [`Session`] and the same [`SessionHandler`] as at the door, driven by the same [`SessionHandler::perform`]; so a dry_run and
//! the wire cannot disagree but in what the components of the relay do. Knows nothing of sockets, TLS records and timeouts: a
//! handshake succeeds at once, with the facts that were given.

use super::{Relay, SessionHandler};
use crate::mail::Abandonment;
use crate::mail::{Client, Clock, TlsInfo};
use crate::smtp::{Action, AuthMode, Session, Settings};
use std::sync::Arc;

/// A connection that only a program knows of.
pub struct DryRun {
    session: Session,
    handler: SessionHandler,
    clock: Arc<dyn Clock>,
    /// What STARTTLS would find out.
    tls: TlsInfo,
}

/// Octets that are given to the session at a time, as a socket would.
const PIECE_OCTETS: usize = 64 * 1024;

impl DryRun {
    /// A connection of that client to a listener with those settings. For implicit TLS, `client.tls` is set already; `tls`
    /// is what a STARTTLS would find out.
    pub fn begin(relay: &Arc<Relay>, settings: Settings, client: Client, tls: TlsInfo) -> Self {
        let handler = relay.handler(client, settings.auth != AuthMode::Off);
        let clock = Arc::clone(relay.clock());
        Self { session: Session::new(Arc::new(settings), clock.now()), handler, clock, tls }
    }

    /// The client sends octets; what it hears.
    pub async fn say(&mut self, octets: &[u8]) -> String {
        let mut heard = Vec::new();
        let mut pieces = octets.chunks(PIECE_OCTETS);
        loop {
            let piece = pieces.next();
            self.session.handle_octets(piece.unwrap_or_default(), self.clock.now());
            while let Some(action) = self.session.poll() {
                match self.handler.perform(action, &mut self.session).await {
                    Some(Action::StartTls) => {
                        self.handler.encrypted(self.tls.clone()).await;
                        self.session.handle_tls_established(self.clock.now());
                    }
                    Some(Action::Close) => break,
                    Some(_) | None => {}
                }
                while let Some(octets) = self.session.poll_transmit() {
                    heard.extend_from_slice(&octets);
                }
            }
            while let Some(octets) = self.session.poll_transmit() {
                heard.extend_from_slice(&octets);
            }
            if piece.is_none() {
                return String::from_utf8_lossy(&heard).into_owned();
            }
        }
    }

    /// The client sends a message after 354, as it is: dots stuffed, the end mark behind it. What it hears then.
    pub async fn content(&mut self, message: &[u8]) -> String {
        let mut wire = Vec::with_capacity(message.len() + 64);
        for line in message.split_inclusive(|octet| *octet == b'\n') {
            // A dot behind a lone LF begins no line for us, so there is nothing to stuff.
            if line.starts_with(b".") && (wire.is_empty() || wire.ends_with(b"\r\n")) {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        if !wire.is_empty() && !wire.ends_with(b"\r\n") {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
        self.say(&wire).await
    }

    /// The connection is over.
    pub async fn end(self) {
        self.handler.end(Abandonment::ClientClosed).await;
    }
}

impl std::fmt::Debug for DryRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DryRun").finish_non_exhaustive()
    }
}
