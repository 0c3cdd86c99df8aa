//! The Redis connection, behind a circuit breaker. While the breaker is open, calls fail at once.
//!
//! Closed: decisions use the connection, each for at most `wait_max`. An error, or three consecutive late answers, open
//! the breaker. A background task then reconnects with growing waits, and closes the breaker only when Redis has run a
//! script that writes, within `wait_max`. So no session waits for a connection attempt. Every change of state is one
//! log line.

use super::scripts::Call;
use super::wire::{ConnectionError, RedisWire};
use super::{RedisError, RedisSettings};
use crate::mail::Clock;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

/// A Redis connection that limits and pacing share. Clones share the connection.
#[derive(Clone, Debug)]
pub struct RedisConnection {
    shared: Arc<Shared>,
    _maintainer: Arc<AbortOnDropHandle<()>>,
}

struct Shared {
    settings: RedisSettings,
    clock: Arc<dyn Clock>,
    live: RwLock<Option<ActiveConnection>>,
    /// Consecutive late answers.
    slow: AtomicU32,
    broken: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// A connection that the background task has verified.
#[derive(Clone)]
pub(super) struct ActiveConnection {
    link: RedisWire,
    /// The number of the connection, so that a late error of an earlier one does not close the current one.
    number: u64,
}

impl ActiveConnection {
    pub(super) async fn run(&self, calls: &[Call]) -> Result<Vec<i64>, ConnectionError> {
        self.link.run(calls).await
    }
}

/// Redis is not available.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unavailable;

/// The number of consecutive late answers that open the breaker. A single one may be a fork of the server or a slow
/// command of another client.
const SLOW_MAX: u32 = 3;
/// The shortest and the longest wait between two connection attempts. While a part of a fleet uses Redis and a part
/// does not, more than the limits allow passes.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);
/// After a connection that lasted this long, the waits start at the shortest again.
const STEADY: Duration = Duration::from_secs(10);

impl RedisConnection {
    /// Connects, and reconnects as long as there is a clone. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`RedisError`] if the settings are invalid, or if Redis does not answer and `start_without` is not set.
    pub async fn connect(settings: RedisSettings, clock: Arc<dyn Clock>) -> Result<Self, RedisError> {
        settings.check()?;
        let (live, slow, broken) = (RwLock::new(None), AtomicU32::new(0), Notify::new());
        let shared = Arc::new(Shared { settings, clock, live, slow, broken });
        let (first, result) = oneshot::channel();
        let maintainer = AbortOnDropHandle::new(tokio::spawn(maintain(Arc::clone(&shared), first)));
        let why = match result.await {
            Ok(Ok(())) => return Ok(Self { shared, _maintainer: Arc::new(maintainer) }),
            Ok(Err(ConnectionError(why))) => why,
            Err(_) => "the connection ended".to_owned(),
        };
        let settings = &shared.settings;
        if !settings.start_without {
            return Err(RedisError::Unreachable { place: settings.address(), why });
        }
        warn!(redis = settings.address(), why, "starting without Redis: {}", settings.fallback());
        Ok(Self { shared, _maintainer: Arc::new(maintainer) })
    }

    /// Whether decisions currently use Redis.
    pub fn is_connected(&self) -> bool {
        self.live().is_ok()
    }

    pub(super) fn settings(&self) -> &RedisSettings {
        &self.shared.settings
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.clock)
    }

    pub(super) fn live(&self) -> Result<ActiveConnection, Unavailable> {
        self.shared.live.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Unavailable)
    }

    /// Runs an operation on a connection, for at most the time that a decision may wait.
    pub(super) async fn bounded<T>(
        &self,
        live: &ActiveConnection,
        work: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, Unavailable> {
        let Shared { settings, slow, .. } = &*self.shared;
        let why = match timeout(settings.wait_max, work).await {
            Ok(Ok(value)) => {
                slow.store(0, Ordering::Relaxed);
                return Ok(value);
            }
            Ok(Err(ConnectionError(why))) => why,
            Err(_) if slow.fetch_add(1, Ordering::Relaxed) + 1 < SLOW_MAX => return Err(Unavailable),
            Err(_) => format!("no answer within {} ms, {SLOW_MAX} times in a row", settings.wait_max.as_millis()),
        };
        self.shared.open_breaker(live.number, &why);
        Err(Unavailable)
    }

    /// Makes calls whose results are not needed. An error is ignored.
    pub(super) async fn send(&self, calls: &[Call]) {
        if let Ok(live) = self.live() {
            let _ = self.bounded(&live, live.run(calls)).await;
        }
    }
}

impl Shared {
    fn open_breaker(&self, number: u64, why: &str) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_none_or(|live| live.number != number) {
            return;
        }
        *live = None;
        drop(live);
        warn!(
            redis = self.settings.address(),
            why,
            "Redis is not used until it answers again: {}",
            self.settings.fallback()
        );
        self.broken.notify_one();
    }

    fn close_breaker(&self, link: RedisWire, number: u64) {
        self.slow.store(0, Ordering::Relaxed);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(ActiveConnection { link, number });
    }
}

/// The background task: connects, and reconnects whenever the connection fails.
async fn maintain(shared: Arc<Shared>, first: oneshot::Sender<Result<(), ConnectionError>>) {
    let (mut first, mut wait) = (Some(first), WAIT_MIN);
    let mut tell_first = move |outcome| first.take().is_some_and(|first| first.send(outcome).is_ok());
    let address = shared.settings.address();
    for number in 0.. {
        // In its own task: a TLS provider that cannot be selected panics inside, and the panic becomes an error.
        let began = tokio::spawn(begin(shared.settings.clone())).await;
        match began.unwrap_or_else(|error| Err(ConnectionError(error.to_string()))) {
            Ok(link) => {
                shared.close_breaker(link, number);
                info!(redis = address, "Redis answers: limits are shared");
                tell_first(Ok(()));
                let since = shared.clock.now();
                shared.broken.notified().await;
                if shared.clock.now().saturating_duration_since(since) >= STEADY {
                    wait = WAIT_MIN;
                }
            }
            Err(fault) => {
                debug!(redis = address, why = fault.0, "Redis does not answer");
                tell_first(Err(fault));
            }
        }
        sleep(spread(wait)).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// A connection that has run a script in time.
async fn begin(settings: RedisSettings) -> Result<RedisWire, ConnectionError> {
    let open = async {
        let link = RedisWire::open(&settings).await?;
        // The first call may have to transfer and compile the script.
        link.probe(&settings.prefix).await?;
        Ok::<RedisWire, ConnectionError>(link)
    };
    let late = |wait: Duration| ConnectionError(format!("no answer within {} ms", wait.as_millis()));
    let link = timeout(settings.connect_max, open).await.map_err(|_| late(settings.connect_max))??;
    timeout(settings.wait_max, link.probe(&settings.prefix)).await.map_err(|_| late(settings.wait_max))??;
    Ok(link)
}

/// A wait between half of `wait` and `wait`, so that a fleet does not reconnect at the same moment.
fn spread(wait: Duration) -> Duration {
    let part = RandomState::new().hash_one(0) % 1_000;
    wait / 2 + wait.mul_f64(part as f64 / 2_000.0)
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
