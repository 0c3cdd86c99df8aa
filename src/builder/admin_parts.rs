//! The admin endpoint of a relay that is being put together.

use super::running::Listeners;
use crate::admin::{
    Access, AdminContext, AdminEndpoint, AdminError, AdminServer, AdminSettings, ListenerSummary, Reloads,
};
use crate::mail::Clock;
use crate::observe::{AddressForm, Decisions, Metrics, Observer, Tee};
use crate::relay::ExplainedListener;
use crate::server::{ListenerHandle, ServerContext};
use std::sync::{Arc, PoisonError};

/// Decisions take at most this part of the memory budget.
const MEMORY_PART: u64 = 4;

/// What there is of the endpoint before there is a relay.
pub(super) struct AdminParts {
    server: AdminServer,
    metrics: Arc<Metrics>,
    decisions: Arc<Decisions>,
    addresses: AddressForm,
}

impl AdminParts {
    /// Takes the socket.
    pub(super) fn bind(
        settings: AdminSettings,
        clock: &Arc<dyn Clock>,
        memory_octets: u64,
    ) -> Result<Self, AdminError> {
        let decisions_max = settings.decisions_max.min(Decisions::fitting(memory_octets / MEMORY_PART));
        Ok(Self {
            metrics: Arc::new(Metrics::new()),
            decisions: Arc::new(Decisions::new(decisions_max, Arc::clone(clock))),
            addresses: settings.addresses,
            server: AdminServer::bind(settings)?,
        })
    }

    /// The observer, and what the endpoint counts and keeps.
    pub(super) fn observers(&self, observer: Arc<dyn Observer>) -> Arc<dyn Observer> {
        Arc::new(Tee(observer, Tee(Arc::clone(&self.metrics), Arc::clone(&self.decisions))))
    }

    /// What the decisions take of the memory budget.
    pub(super) fn octets_max(&self) -> u64 {
        self.decisions.octets_max()
    }

    pub(super) fn access(&self) -> Access {
        self.server.access()
    }

    pub(super) fn decisions(&self) -> Arc<Decisions> {
        Arc::clone(&self.decisions)
    }

    pub(super) fn address(&self) -> &AdminEndpoint {
        self.server.address()
    }

    /// Serves requests about this relay until it is cut.
    pub(super) fn start(self, shared: &ServerContext, listeners: &Listeners, reloads: Option<Arc<Reloads>>) {
        let limits = shared.limits.clone();
        let of = |listeners: &Listeners| {
            let listeners = Arc::clone(listeners);
            move || -> Vec<_> {
                let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
                listeners.iter().map(|listener| (summary(listener), listener.tls(), listener.accepts())).collect()
            }
        };
        let (summaries, certificates, accepting) = (of(listeners), of(listeners), of(listeners));
        let subject = AdminContext {
            relay: shared.relay.clone(),
            metrics: self.metrics,
            decisions: self.decisions,
            addresses: self.addresses,
            started: shared.clock.now(),
            listeners: Box::new(move || summaries().into_iter().map(|(summary, ..)| summary).collect()),
            explained: explained(listeners),
            connections: Box::new(move || limits.in_use()),
            reloads,
            draining: shared.draining.clone(),
            certificates: Box::new(move || {
                let all = certificates().into_iter();
                all.filter_map(|(summary, tls, _)| Some((summary.name, tls?.not_after()))).collect()
            }),
            listening: Box::new(move || accepting().iter().all(|(.., accepts)| *accepts)),
        };
        // Not one of the tasks that a drain waits for: it reports the drain.
        tokio::spawn(self.server.run(subject, shared.cut.clone()));
    }
}

/// What explanations need of the listeners.
fn explained(listeners: &Listeners) -> Box<dyn Fn() -> Vec<ExplainedListener> + Send + Sync> {
    let listeners = Arc::clone(listeners);
    Box::new(move || {
        let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().map(ListenerHandle::explained).collect()
    })
}

fn summary(listener: &ListenerHandle) -> ListenerSummary {
    let lower = |word: &dyn std::fmt::Debug| format!("{word:?}").to_lowercase();
    let (tls, auth) = listener.offers();
    ListenerSummary {
        name: listener.name().to_string(),
        address: listener.address().to_string(),
        tls: lower(&tls),
        auth: lower(&auth),
    }
}
