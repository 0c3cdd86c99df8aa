//! The connection that is there or is not, and nobody who waits for it.
//!
//! A circuit breaker. Closed: decisions use the connection, each for `wait_max` at most. An error, or three answers in a row
//! that do not come in time, open it: from then on decisions are told at once that there is nothing. One task of our own
//! connects again, waits longer each time, and closes it only when Redis has run a script that writes, within `wait_max`.
//! So no session is the one that finds out. Every change of state is one log line.

use super::scripts::Call;
use super::wire::{Fault, RedisWire};
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

/// A Redis that limits and pacing share. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct RedisConnection {
    shared: Arc<Shared>,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

struct Shared {
    settings: RedisSettings,
    clock: Arc<dyn Clock>,
    live: RwLock<Option<ActiveConnection>>,
    /// Answers in a row that did not come in time.
    slow: AtomicU32,
    broken: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// A connection that was good a moment ago.
#[derive(Clone)]
pub(super) struct ActiveConnection {
    link: RedisWire,
    /// Which, so that a late error of an old one does not break the new one.
    number: u64,
}

impl ActiveConnection {
    pub(super) async fn run(&self, calls: &[Call]) -> Result<Vec<i64>, Fault> {
        self.link.run(calls).await
    }
}

/// There is no Redis now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unavailable;

/// So many answers in a row that are late open the breaker. One may be a fork or a slow command of somebody else.
const SLOW_MAX: u32 = 3;
/// Between two attempts to connect: from, up to. As long as some of a fleet are back and others are not, more gets through.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);
/// A connection that was good for this long: the next break begins with the short waits again.
const STEADY: Duration = Duration::from_secs(10);

impl RedisConnection {
    /// Connects, and stays connected as long as there is a clone. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`RedisError`] if the settings are wrong; and, unless `start_without` is set, if Redis does not answer.
    pub async fn connect(settings: RedisSettings, clock: Arc<dyn Clock>) -> Result<Self, RedisError> {
        settings.check()?;
        let (live, slow, broken) = (RwLock::new(None), AtomicU32::new(0), Notify::new());
        let shared = Arc::new(Shared { settings, clock, live, slow, broken });
        let (first, told) = oneshot::channel();
        let keeper = AbortOnDropHandle::new(tokio::spawn(keep(Arc::clone(&shared), first)));
        let why = match told.await {
            Ok(Ok(())) => return Ok(Self { shared, _keeper: Arc::new(keeper) }),
            Ok(Err(Fault(why))) => why,
            Err(_) => "the connection ended".to_owned(),
        };
        let settings = &shared.settings;
        if !settings.start_without {
            return Err(RedisError::Unreachable { place: settings.place(), why });
        }
        warn!(redis = settings.place(), why, "starting without Redis: {}", settings.meanwhile());
        Ok(Self { shared, _keeper: Arc::new(keeper) })
    }

    /// Whether decisions are made in Redis now.
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

    /// Does something with a connection, for no longer than a decision may wait.
    pub(super) async fn bounded<T>(
        &self,
        live: &ActiveConnection,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Unavailable> {
        let Shared { settings, slow, .. } = &*self.shared;
        let why = match timeout(settings.wait_max, work).await {
            Ok(Ok(value)) => {
                slow.store(0, Ordering::Relaxed);
                return Ok(value);
            }
            Ok(Err(Fault(why))) => why,
            Err(_) if slow.fetch_add(1, Ordering::Relaxed) + 1 < SLOW_MAX => return Err(Unavailable),
            Err(_) => format!("no answer within {} ms, {SLOW_MAX} times in a row", settings.wait_max.as_millis()),
        };
        self.shared.open_breaker(live.number, &why);
        Err(Unavailable)
    }

    /// One call for its effect. Nobody minds if it is lost.
    pub(super) async fn tell(&self, calls: &[Call]) {
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
            redis = self.settings.place(),
            why,
            "Redis is left alone until it answers: {}",
            self.settings.meanwhile()
        );
        self.broken.notify_one();
    }

    fn close_breaker(&self, link: RedisWire, number: u64) {
        self.slow.store(0, Ordering::Relaxed);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(ActiveConnection { link, number });
    }
}

/// Connects, and again whenever that is needed.
async fn keep(shared: Arc<Shared>, first: oneshot::Sender<Result<(), Fault>>) {
    let (mut first, mut wait) = (Some(first), WAIT_MIN);
    let mut tell_first = move |outcome| first.take().is_some_and(|first| first.send(outcome).is_ok());
    let place = shared.settings.place();
    for number in 0.. {
        // A task of its own: a TLS provider that cannot be chosen panics in there, and that is an error like others.
        let began = tokio::spawn(begin(shared.settings.clone())).await;
        match began.unwrap_or_else(|error| Err(Fault(error.to_string()))) {
            Ok(link) => {
                shared.close_breaker(link, number);
                info!(redis = place, "Redis answers: limits are shared");
                tell_first(Ok(()));
                let since = shared.clock.now();
                shared.broken.notified().await;
                if shared.clock.now().saturating_duration_since(since) >= STEADY {
                    wait = WAIT_MIN;
                }
            }
            Err(fault) => {
                debug!(redis = place, why = fault.0, "Redis does not answer");
                tell_first(Err(fault));
            }
        }
        sleep(spread(wait)).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// A connection that has shown that it works, and works in time.
async fn begin(settings: RedisSettings) -> Result<RedisWire, Fault> {
    let open = async {
        let link = RedisWire::open(&settings).await?;
        // The script may have to be sent and compiled first.
        link.probe(&settings.prefix).await?;
        Ok::<RedisWire, Fault>(link)
    };
    let late = |wait: Duration| Fault(format!("no answer within {} ms", wait.as_millis()));
    let link = timeout(settings.connect_max, open).await.map_err(|_| late(settings.connect_max))??;
    timeout(settings.wait_max, link.probe(&settings.prefix)).await.map_err(|_| late(settings.wait_max))??;
    Ok(link)
}

/// A wait between the half and the whole of it, so that a fleet does not come back in one moment.
fn spread(wait: Duration) -> Duration {
    let part = RandomState::new().hash_one(0) % 1_000;
    wait / 2 + wait.mul_f64(part as f64 / 2_000.0)
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
