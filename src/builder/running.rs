//! A running relay.

use super::{Builder, StartError};
#[cfg(feature = "admin")]
use crate::admin::{Access, AdminEndpoint, AdminSettings};
#[cfg(feature = "admin")]
use crate::observe::Decisions;
#[cfg(feature = "admin")]
use crate::relay::{ExplainError, Explanation, Facts};
use crate::relay::{Relay, Replacement};
use crate::server::{Bound, ListenerAddress, ListenerHandle, ListenerSettings, ServerContext, TlsSettings};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The interval between two calls of [`Observer::summarise`](crate::observe::Observer::summarise).
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// How long the provider is not asked after a change of the configuration: many changes in a row must not be as many calls.
const RECONFIGURED_WAIT: Duration = Duration::from_secs(2);

pub(super) type Listeners = Arc<Mutex<Vec<ListenerHandle>>>;

/// A running relay. Dropping it cuts every connection, as [`Running::cut`] does; [`Running::stop`] lets messages in progress
/// finish.
#[derive(Debug)]
pub struct Running {
    pub(super) shared: ServerContext,
    pub(super) listeners: Listeners,
    /// Ends the task that watches the provider for the configuration in force.
    pub(super) watch: Mutex<CancellationToken>,
    /// One change of the configuration at a time.
    pub(super) reconfiguring: tokio::sync::Mutex<()>,
    #[cfg(feature = "admin")]
    pub(super) admin: Option<AdminEndpoint>,
    #[cfg(feature = "admin")]
    pub(super) access: Option<Access>,
    #[cfg(feature = "admin")]
    pub(super) decisions: Option<Arc<Decisions>>,
    pub(super) grace: Mutex<Duration>,
}

impl Running {
    /// Where each listener listens.
    pub fn addresses(&self) -> Vec<(Arc<str>, ListenerAddress)> {
        self.listeners().iter().map(|listener| (listener.name(), listener.address().clone())).collect()
    }

    /// Where the listener of that name listens.
    pub fn address(&self, name: &str) -> Option<ListenerAddress> {
        self.listeners().iter().find(|listener| &*listener.name() == name).map(|listener| listener.address().clone())
    }

    /// Replaces the certificates of the listener of that name, from the next handshake on. Sessions keep theirs. False: there is
    /// no such listener, or it has no TLS.
    pub fn replace_certificate(&self, name: &str, tls: &TlsSettings) -> bool {
        let listeners = self.listeners();
        let now = listeners.iter().find(|listener| &*listener.name() == name).and_then(ListenerHandle::tls);
        now.map(|now| now.replace(tls)).is_some()
    }

    /// The address of the admin endpoint.
    #[cfg(feature = "admin")]
    pub fn admin(&self) -> Option<&AdminEndpoint> {
        self.admin.as_ref()
    }

    /// Explains what the relay would reply to a message now, and why. Sends nothing and takes nothing from any limit.
    ///
    /// # Errors
    /// [`ExplainError`].
    #[cfg(feature = "admin")]
    pub async fn explain(&self, facts: &Facts) -> Result<Explanation, ExplainError> {
        let listeners = self.listeners().iter().map(ListenerHandle::explained).collect();
        self.relay().explain(listeners, facts, true).await
    }

    /// The same as if there were no limits.
    #[cfg(feature = "cli")]
    pub(crate) async fn explain_without_limits(&self, facts: &Facts) -> Result<Explanation, ExplainError> {
        let listeners = self.listeners().iter().map(ListenerHandle::explained).collect();
        self.relay().explain(listeners, facts, false).await
    }

    /// The last decisions, if there is an admin endpoint.
    #[cfg(feature = "cli")]
    pub(crate) fn decisions(&self) -> Option<&Arc<Decisions>> {
        self.decisions.as_ref()
    }

    /// The relay with the configuration in force, to inspect its budget, send queue and faults.
    pub fn relay(&self) -> Arc<Relay> {
        self.shared.relay.get()
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.shared.limits.in_use()
    }

    /// Gives the relay another configuration: that of a builder that is not started. All of it is in force at once, or, after an error,
    /// nothing of it.
    ///
    /// - A transaction that has begun ends with the configuration that it began with; the next MAIL of its session has the new one. No
    ///   connection is cut. What EHLO announced stays for a session.
    /// - A listener for the same address keeps its socket; others are added and removed.
    /// - The send queue, the pace, the spool, connection counts and lock-outs go on. A limiter goes on if it was made from the one in
    ///   force, as with [`LocalLimiter::with_rules`](crate::limit::LocalLimiter::with_rules).
    /// - The tokens of the admin endpoint are those of the builder from the next request on.
    /// - The builder's spool, observer, clock, threads, memory budget and address of the admin endpoint are not used: they need a restart.
    ///
    /// The future is not cancel-safe: if it is dropped, listeners that were removed may still be stopping.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn reconfigure(&self, builder: Builder) -> Result<(), StartError> {
        let _one = self.reconfiguring.lock().await;
        if self.shared.draining.is_cancelled() {
            return Err(StartError::Stopping);
        }
        builder.check()?;
        #[cfg(feature = "admin")]
        if let (Some(endpoint), Some(admin)) = (&self.admin, &builder.admin) {
            // Its address stays, whatever the builder has.
            AdminSettings { endpoint: endpoint.clone(), ..admin.clone() }.check()?;
        }
        let Builder { listeners, connections: (total_max, per_client_max), .. } = builder;
        let (kept, new) = self.split(listeners);
        // The only step that can fail, so it is the first.
        let bound: Vec<Bound> = new.into_iter().map(Bound::bind).collect::<Result<_, _>>()?;
        let replacement = Replacement {
            policy: builder.policy,
            limiter: builder.limiter,
            authenticator: builder.authenticator,
            transport: builder.transport,
            lockout: builder.lockout,
            pace: builder.pace,
            tokens: builder.tokens,
        };
        let relay = Arc::new(self.relay().reconfigured(builder.settings, replacement));
        self.shared.relay.replace(relay);
        self.shared.limits.configure(total_max, per_client_max, builder.unrecognised_connections);
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner) = builder.grace;
        let removed = {
            let mut running = self.listeners();
            let mut before = std::mem::take(&mut *running);
            for settings in kept {
                if let Some(place) = before.iter().position(|listener| listener.is_for(&settings)) {
                    let listener = before.swap_remove(place);
                    listener.configure(settings);
                    running.push(listener);
                }
            }
            running.extend(bound.into_iter().map(|listener| listener.start(self.shared.clone())));
            before
        };
        #[cfg(feature = "admin")]
        if let (Some(access), Some(admin)) = (&self.access, builder.admin) {
            access.replace(admin.token, admin.operator_tokens);
        }
        self.watch_provider(builder.account_interval, RECONFIGURED_WAIT);
        for listener in removed {
            listener.stop().await;
        }
        Ok(())
    }

    /// Stops accepting and waits for messages in progress, at most for the grace; then cuts. True: nothing was cut. Dropping the
    /// future cuts at once.
    pub async fn stop(self) -> bool {
        self.begin_drain();
        tokio::time::timeout(self.grace(), self.drained()).await.is_ok()
    }

    /// Stops accepting. Sessions end with 421 at their next command boundary.
    pub fn begin_drain(&self) {
        self.shared.draining.cancel();
        self.shared.tasks.close();
    }

    /// Waits until a drain that has begun is over.
    pub async fn drained(&self) {
        self.shared.tasks.wait().await;
    }

    /// Drops every connection, and waits until each has ended and is logged, at most one second.
    pub async fn cut(self) {
        self.begin_drain();
        self.shared.cut.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.drained()).await;
    }

    /// How long `stop` waits.
    pub fn grace(&self) -> Duration {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those for which a socket listens already, each for one of them, and the others.
    fn split(&self, settings: Vec<ListenerSettings>) -> (Vec<ListenerSettings>, Vec<ListenerSettings>) {
        let running = self.listeners();
        let mut claimed = vec![false; running.len()];
        settings.into_iter().partition(|settings| {
            let place = (0..running.len()).find(|place| !claimed[*place] && running[*place].is_for(settings));
            place.inspect(|place| claimed[*place] = true).is_some()
        })
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<ListenerHandle>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts what runs beside the connections.
    pub(super) fn start_tasks(&self, account_interval: Option<Duration>) {
        let (observer, cut) = (Arc::clone(&self.shared.observer), self.shared.cut.clone());
        // Not one of the tasks that a drain waits for.
        tokio::spawn(async move {
            while tokio::time::timeout(SUMMARY_INTERVAL, cut.cancelled()).await.is_err() {
                observer.summarise();
            }
        });
        self.watch_provider(account_interval, Duration::ZERO);
        // A drain waits for its attempts; a cut leaves them without a result.
        let (relay, draining, cut) = (self.shared.relay.clone(), self.shared.draining.clone(), self.shared.cut.clone());
        self.spawn(async move {
            tokio::select! {
                () = relay.run_queue(draining) => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// Watches the provider with the configuration in force, and no longer with the one before.
    fn watch_provider(&self, account_interval: Option<Duration>, wait: Duration) {
        let ends = self.shared.draining.child_token();
        let before = std::mem::replace(&mut *self.watch.lock().unwrap_or_else(PoisonError::into_inner), ends.clone());
        before.cancel();
        let relay = self.relay();
        self.spawn(async move {
            tokio::select! {
                () = async {
                    // A wait of zero lasts a tick of the timer, and a start asks before the first message is sent.
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    relay.watch_provider(account_interval).await;
                } => {}
                () = ends.cancelled() => {}
            }
        });
    }

    /// On the thread that is the most likely to have a connection to the provider.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self.shared.threads.first() {
            Some(runtime) => self.shared.tasks.spawn_on(task, runtime),
            None => self.shared.tasks.spawn(task),
        };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.draining.cancel();
        self.shared.cut.cancel();
    }
}
