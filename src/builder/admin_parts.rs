//! The admin endpoint of a relay that is being put together.

use crate::admin::{AdminContext, AdminEndpoint, AdminError, AdminServer, AdminSettings, ListenerSummary};
use crate::mail::Clock;
use crate::observe::{AddressForm, Decisions, Metrics, Observer, Tee};
use crate::server::{ListenerAddress, ListenerSettings, ServerContext, TlsSettings};
use crate::smtp::{AuthMode, TlsMode};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// What there is of the endpoint before there is a relay.
pub(super) struct AdminParts {
    server: AdminServer,
    metrics: Arc<Metrics>,
    decisions: Arc<Decisions>,
    addresses: AddressForm,
    /// TLS and AUTH of each listener.
    offers: Vec<(TlsMode, AuthMode)>,
}

impl AdminParts {
    /// Takes the socket.
    pub(super) fn bind(
        settings: AdminSettings,
        listeners: &[ListenerSettings],
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, AdminError> {
        Ok(Self {
            metrics: Arc::new(Metrics::new()),
            decisions: Arc::new(Decisions::new(settings.decisions_max, Arc::clone(clock))),
            addresses: settings.addresses,
            offers: listeners.iter().map(|listener| (listener.smtp.tls, listener.smtp.auth)).collect(),
            server: AdminServer::bind(settings)?,
        })
    }

    /// The observer, and what the endpoint counts and keeps.
    pub(super) fn observers(&self, observer: Arc<dyn Observer>) -> Arc<dyn Observer> {
        Arc::new(Tee(observer, Tee(Arc::clone(&self.metrics), Arc::clone(&self.decisions))))
    }

    pub(super) fn address(&self) -> &AdminEndpoint {
        self.server.address()
    }

    /// Serves requests about this relay until it is cut.
    pub(super) fn start(
        self,
        shared: &ServerContext,
        addresses: &[(Arc<str>, ListenerAddress)],
        certificates: &[(Arc<str>, TlsSettings)],
        listeners: Vec<AbortHandle>,
    ) {
        let (of, limits) = (certificates.to_vec(), shared.limits.clone());
        let not_after = move || of.iter().map(|(name, tls)| (name.to_string(), tls.not_after())).collect();
        let subject = AdminContext {
            relay: Arc::clone(&shared.relay),
            metrics: self.metrics,
            decisions: self.decisions,
            addresses: self.addresses,
            started: shared.relay.clock().now(),
            listeners: summaries(addresses, &self.offers),
            connections: Box::new(move || limits.in_use()),
            draining: shared.draining.clone(),
            certificates: Box::new(not_after),
            listening: Box::new(move || listeners.iter().all(|listener| !listener.is_finished())),
        };
        // Not one of the tasks that a drain waits for: it reports the drain.
        tokio::spawn(self.server.run(subject, shared.cut.clone()));
    }
}

fn summaries(addresses: &[(Arc<str>, ListenerAddress)], offers: &[(TlsMode, AuthMode)]) -> Vec<ListenerSummary> {
    let lower = |word: &dyn std::fmt::Debug| format!("{word:?}").to_lowercase();
    let listeners = addresses.iter().zip(offers).map(|((name, address), (tls, auth))| ListenerSummary {
        name: name.to_string(),
        address: address.to_string(),
        tls: lower(tls),
        auth: lower(auth),
    });
    listeners.collect()
}
