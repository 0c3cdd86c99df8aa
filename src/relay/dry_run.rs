//! A dry run: the replies that a client would receive, without a socket and without sending anything.
//!
//! It uses the same [`Session`] and [`SessionHandler`] as a connection, so that it differs from one only in the answers of the
//! relay's components. The dry run makes its own relay, whose transport is a [`NullTransport`]: it cannot send. It has no
//! timeouts, and a TLS handshake succeeds at once with the given facts.

use super::{BudgetSettings, Components, CurrentRelay, Relay, RelaySettings, SessionHandler};
use crate::mail::{Abandonment, Client, Clock, Permitted, TlsInfo};
use crate::smtp::{Action, AuthMode, Session, Settings};
use crate::transport::NullTransport;
use std::sync::Arc;

/// A connection that exists only in memory.
pub(crate) struct DryRun {
    session: Session,
    handler: SessionHandler,
    clock: Arc<dyn Clock>,
    transport: Arc<NullTransport>,
    /// The result of STARTTLS.
    tls: TlsInfo,
}

/// Octets that the session receives at a time, as from a socket.
const PIECE_OCTETS: usize = 64 * 1024;

impl DryRun {
    /// A connection of a client to a listener. For implicit TLS `client.tls` is already set; `tls` is the result of STARTTLS.
    /// The transport in `components` is only asked how much memory a message needs. There is no pacing, and no lock-out after
    /// failed logins.
    pub(crate) fn begin(
        relay: &RelaySettings,
        components: Components,
        budget: &BudgetSettings,
        listener: Settings,
        client: Client,
        tls: TlsInfo,
    ) -> Self {
        let real = components.transport;
        let transport = Arc::new(NullTransport::with_octets_held(move |octets| real.octets_held(octets)));
        let components =
            Components { transport: transport.clone(), spool: None, pace: None, lockout: None, ..components };
        let relay = Arc::new(Relay::new(relay.clone(), components, budget));
        let clock = Arc::clone(relay.clock());
        let handler = SessionHandler::new(CurrentRelay::new(relay), client, listener.auth != AuthMode::Off);
        Self { session: Session::new(Arc::new(listener), clock.now()), handler, clock, transport, tls }
    }

    /// Sends octets as the client. Returns what the client receives.
    pub(crate) async fn send(&mut self, octets: &[u8]) -> String {
        let mut received = Vec::new();
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
                    received.extend_from_slice(&octets);
                }
            }
            while let Some(octets) = self.session.poll_transmit() {
                received.extend_from_slice(&octets);
            }
            if piece.is_none() {
                return String::from_utf8_lossy(&received).into_owned();
            }
        }
    }

    /// Sends a message as the client after 354, with doubled dots and the end mark. Returns what the client receives.
    pub(crate) async fn send_content(&mut self, message: &[u8]) -> String {
        let mut wire = Vec::with_capacity(message.len() + 64);
        for line in message.split_inclusive(|octet| *octet == b'\n') {
            // A dot after a lone LF is not at the start of a line, so it is not doubled.
            if line.starts_with(b".") && (wire.is_empty() || wire.ends_with(b"\r\n")) {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        if !wire.is_empty() && !wire.ends_with(b"\r\n") {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
        self.send(&wire).await
    }

    /// Ends the connection. Returns the message that would have been sent, if one was accepted.
    pub(crate) async fn end(self) -> Option<Permitted> {
        self.handler.end(Abandonment::ClientClosed).await;
        self.transport.take_last()
    }
}

impl std::fmt::Debug for DryRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DryRun").finish_non_exhaustive()
    }
}
