//! The generic cell rate algorithm (GCRA), stored as a debt of time: the time in which the rate pays for what was
//! taken.
//!
//! The caller converts amounts into time (`amount / rate`), so the rate may change between two calls. ITU-T I.371,
//! "virtual scheduling".

use std::time::{Duration, Instant};

/// The amount that was taken and is not paid yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Debt {
    /// The theoretical arrival time: when the debt is paid. `None`: nothing was taken.
    paid_at: Option<Instant>,
}

impl Debt {
    /// The time until the debt is at most `slack`. Zero: now.
    pub(crate) fn wait(&self, slack: Duration, now: Instant) -> Duration {
        self.paid_at.map_or(Duration::ZERO, |paid_at| paid_at.saturating_duration_since(now)).saturating_sub(slack)
    }

    /// Adds a cost to the debt.
    pub(crate) fn take(&mut self, cost: Duration, now: Instant) {
        self.paid_at = Some(self.paid_at.map_or(now, |paid_at| paid_at.max(now)) + cost);
    }

    /// Subtracts a cost from the debt.
    pub(crate) fn give_back(&mut self, cost: Duration) {
        self.paid_at = self.paid_at.map(|paid_at| paid_at.checked_sub(cost).unwrap_or(paid_at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Clock, ManualClock};

    #[test]
    fn what_is_owed_is_paid_by_time_or_given_back() {
        let clock = ManualClock::new();
        let second = Duration::from_secs(1);
        let mut debt = Debt::default();
        assert_eq!(debt.wait(Duration::ZERO, clock.now()), Duration::ZERO);
        debt.take(3 * second, clock.now());
        assert_eq!(debt.wait(second, clock.now()), 2 * second);
        clock.advance(second);
        assert_eq!(debt.wait(second, clock.now()), second);
        debt.give_back(second);
        assert_eq!(debt.wait(second, clock.now()), Duration::ZERO);
        clock.advance(10 * second);
        debt.take(second, clock.now());
        assert_eq!(debt.wait(Duration::ZERO, clock.now()), second, "a pause saves nothing up");
    }
}
