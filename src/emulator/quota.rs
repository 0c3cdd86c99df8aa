//! Send rate and 24-hour quota, counted in recipients.
//!
//! The rate is a bucket with the capacity of one second, or of the settings, and is full at the start. A message larger
//! than the bucket passes when the bucket is full. The quota is a rolling window of 24 hours in steps of a minute. A
//! message that one of them refuses is not charged to the other. Recipients are also counted without limits, because
//! GetAccount returns `SentLast24Hours`. SES Developer Guide, "Managing sending quotas".

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::refusal::{ErrorName, Refusal};
use super::settings::AccountSettings;

#[derive(Debug)]
pub(super) struct Quota {
    per_second: Option<f64>,
    /// Recipients that the bucket holds.
    at_once: f64,
    per_day: Option<u32>,
    tokens: f64,
    refilled: Instant,
    /// Start of the minute, and recipients sent in it; the oldest first. At most one entry a minute.
    minutes: VecDeque<(Instant, u64)>,
    sent: u64,
}

/// The cost of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) recipients: usize,
    /// Recipients that do not count toward the daily quota: the mailbox simulator's.
    pub(super) simulated: usize,
}

impl Quota {
    pub(super) fn new(account: &AccountSettings, now: Instant) -> Self {
        let per_second = account.recipients_per_second_max;
        let second = per_second.map_or(1.0, |rate| rate.max(1.0));
        let at_once = account.recipients_at_once_max.map_or(second, |most| f64::from(most.max(1)));
        Self {
            per_second,
            at_once,
            per_day: account.recipients_per_day_max,
            tokens: at_once,
            refilled: now,
            minutes: VecDeque::new(),
            sent: 0,
        }
    }

    pub(super) fn take(&mut self, cost: Cost, now: Instant) -> Result<(), Refusal> {
        self.forget_before(now);
        let toward_quota = (cost.recipients - cost.simulated.min(cost.recipients)) as u64;
        if self.per_day.is_some_and(|most| self.sent + toward_quota > u64::from(most)) {
            return Err(ErrorName::LimitExceededException.into());
        }
        if let Some(rate) = self.per_second {
            let size = self.at_once;
            let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
            self.tokens = (self.tokens + elapsed * rate).min(size);
            self.refilled = now;
            let wanted = cost.recipients as f64;
            if self.tokens < wanted.min(size) {
                return Err(ErrorName::TooManyRequestsException.into());
            }
            self.tokens -= wanted;
        }
        self.count(toward_quota, now);
        Ok(())
    }

    pub(super) fn sent_last_24_hours(&mut self, now: Instant) -> u64 {
        self.forget_before(now);
        self.sent
    }

    fn count(&mut self, recipients: u64, now: Instant) {
        self.sent += recipients;
        match self.minutes.back_mut() {
            Some((start, count)) if now.saturating_duration_since(*start) < STEP => *count += recipients,
            _ => self.minutes.push_back((now, recipients)),
        }
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some((start, count)) = self.minutes.front().copied() {
            if now.saturating_duration_since(start) < WINDOW {
                break;
            }
            self.sent -= count;
            self.minutes.pop_front();
        }
    }
}

const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
const STEP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Cost = Cost { recipients: 1, simulated: 0 };

    fn name(result: Result<(), Refusal>) -> Option<ErrorName> {
        result.err().map(|refusal| refusal.name)
    }

    #[test]
    fn the_quota_counts_recipients_and_rolls() {
        let start = Instant::now();
        let account = AccountSettings { recipients_per_day_max: Some(3), ..AccountSettings::default() };
        let mut quota = Quota::new(&account, start);
        assert_eq!(name(quota.take(Cost { recipients: 2, simulated: 0 }, start)), None);
        assert_eq!(
            name(quota.take(Cost { recipients: 2, simulated: 0 }, start)),
            Some(ErrorName::LimitExceededException)
        );
        assert_eq!(name(quota.take(Cost { recipients: 9, simulated: 9 }, start)), None, "the simulator is not counted");
        assert_eq!(name(quota.take(ONE, start)), None);
        assert_eq!(quota.sent_last_24_hours(start), 3);
        assert_eq!(name(quota.take(ONE, start + WINDOW - STEP)), Some(ErrorName::LimitExceededException));
        assert_eq!(name(quota.take(ONE, start + WINDOW)), None);
    }

    #[test]
    fn the_bucket_has_the_size_of_the_settings() {
        let start = Instant::now();
        let account = AccountSettings {
            recipients_per_second_max: Some(10.0),
            recipients_at_once_max: Some(2),
            ..AccountSettings::default()
        };
        let mut quota = Quota::new(&account, start);
        let mut names = |at| [name(quota.take(ONE, at)), name(quota.take(ONE, at)), name(quota.take(ONE, at))];
        let throttled = Some(ErrorName::TooManyRequestsException);
        assert_eq!(names(start), [None, None, throttled]);
        assert_eq!(names(start + Duration::from_millis(100)), [None, throttled, throttled]);
        assert_eq!(names(start + Duration::from_secs(60)), [None, None, throttled]);
    }

    #[test]
    fn the_rate_refills_and_a_large_message_waits_for_a_full_bucket() {
        let start = Instant::now();
        let account = AccountSettings { recipients_per_second_max: Some(2.0), ..AccountSettings::default() };
        let mut quota = Quota::new(&account, start);
        assert_eq!(name(quota.take(Cost { recipients: 10, simulated: 0 }, start)), None);
        let later = start + Duration::from_secs(4);
        assert_eq!(name(quota.take(ONE, later)), Some(ErrorName::TooManyRequestsException), "the debt is paid first");
        assert_eq!(name(quota.take(ONE, start + Duration::from_secs(5))), None);
    }
}
