//! The only access to the system clock. All other code receives a [`Clock`] or a time, so that tests advance the time
//! and never sleep.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// Monotonic time for waits and limits, wall time for dates.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time: for deadlines and rates.
    fn now(&self) -> Instant;

    /// Wall time: for trace fields, log lines and daily quotas.
    fn wall(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "the only function that reads the system clock")]
impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that changes only when a test changes it: for tests of waits, limits and quotas.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Instant, SystemTime)>);

impl ManualClock {
    /// Starts at the machine's time.
    pub fn new() -> Self {
        Self(Mutex::new((SystemClock.now(), SystemClock.wall())))
    }

    /// Advances both times.
    pub fn advance(&self, by: Duration) {
        let mut times = self.lock();
        times.0 += by;
        times.1 += by;
    }

    /// Sets the wall time alone, as an operator or NTP may; the monotonic time does not change.
    pub fn set_wall(&self, wall: SystemTime) {
        self.lock().1 = wall;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Instant, SystemTime)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.lock().0
    }

    fn wall(&self) -> SystemTime {
        self.lock().1
    }
}
