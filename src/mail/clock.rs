//! The only reader of the clock. Everybody else is given the time, so that tests advance it and never sleep.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// Monotonic time for waits and limits, wall time for what people read.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic: deadlines, rates.
    fn now(&self) -> Instant;

    /// The calendar: trace fields, log lines, quotas of a day.
    fn wall(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that moves only when told: for tests of waits, limits and quotas.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Instant, SystemTime)>);

impl ManualClock {
    /// Starts at the machine's time.
    pub fn new() -> Self {
        Self(Mutex::new((SystemClock.now(), SystemClock.wall())))
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        let mut times = self.lock();
        times.0 += by;
        times.1 += by;
    }

    /// Sets the calendar alone, as an operator or NTP may: monotonic time does not follow.
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
