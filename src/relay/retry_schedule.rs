//! When a message in the queue is tried again, and when not any more.

use crate::mail::{Certainty, Outcome, OutcomeKind};
use std::time::Duration;

/// The longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(4_000);

/// The longest wait that the provider may request.
const REQUESTED_MAX: Duration = Duration::from_secs(3600);

/// What happens to a message whose attempt may have sent it. SES has no idempotency token: trying again may send it twice,
/// not trying again may lose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAmbiguous {
    /// It is tried again. At least once is what mail promises (RFC 5321 §4.5.4.1).
    #[default]
    Retry,
    /// It is held until an operator decides.
    Hold,
}

/// How long messages of an application are kept, and what is done when it is not known whether one was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetrySettings {
    /// From acceptance until a message fails. RFC 5321 §4.5.4.1 suggests four to five days.
    pub expiry: Duration,
    /// What happens after an ambiguous attempt.
    pub on_ambiguous: OnAmbiguous,
    /// The longest wait before the second attempt. It doubles with each further one, up to 4,000 s.
    pub first_wait: Duration,
}

impl Default for RetrySettings {
    /// Four days; trying again; 30 s.
    fn default() -> Self {
        Self {
            expiry: Duration::from_secs(4 * 24 * 3600),
            on_ambiguous: OnAmbiguous::default(),
            first_wait: Duration::from_secs(30),
        }
    }
}

/// What happens after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterAttempt {
    /// The part was sent.
    Sent,
    /// The part fails: the provider refuses it, or it is too old.
    Fail(Failure),
    /// Another attempt after this wait.
    Retry(Duration),
    /// No attempt until an operator releases the message.
    Hold,
}

/// Why a message fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The provider refuses it.
    Rejected,
    /// It was in the queue longer than its application allows.
    Expired,
}

impl Failure {
    /// The word for log fields and metric labels.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// Decides what happens after an attempt of a message of that age, which is the `attempts`-th since a part of it was last sent. `random` is at least 0 and less than 1.
pub(super) fn after(
    outcome: &Outcome,
    attempts: u32,
    age: Duration,
    settings: &RetrySettings,
    random: f64,
) -> AfterAttempt {
    match (&outcome.certainty, outcome.kind) {
        (Certainty::Sent(_), _) => return AfterAttempt::Sent,
        (Certainty::NotSent, OutcomeKind::Refused) => return AfterAttempt::Fail(Failure::Rejected),
        (Certainty::Ambiguous, _) if settings.on_ambiguous == OnAmbiguous::Hold => return AfterAttempt::Hold,
        _ => {}
    }
    let wait =
        wait(settings.first_wait, attempts, random).max(outcome.retry_after.unwrap_or_default().min(REQUESTED_MAX));
    // The last attempt is at the end of the time, not before it.
    let left = settings.expiry.saturating_sub(age);
    if left.is_zero() { AfterAttempt::Fail(Failure::Expired) } else { AfterAttempt::Retry(wait.min(left)) }
}

/// Exponential backoff with full jitter: any wait from zero to the bound, so that messages that failed together are not tried together.
fn wait(first: Duration, attempts: u32, random: f64) -> Duration {
    longest_wait(first, attempts).mul_f64(random.clamp(0.0, 1.0))
}

/// The bound of the wait after that many attempts.
pub(super) fn longest_wait(first: Duration, attempts: u32) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{MessageId, replies};

    const FIRST: Duration = Duration::from_secs(30);

    fn not_sent(kind: OutcomeKind) -> Outcome {
        Outcome::not_sent(kind, replies::THROTTLED, "")
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let bounds: Vec<u64> = (1..=9).map(|attempts| wait(FIRST, attempts, 1.0).as_secs()).collect();
        assert_eq!(bounds, [30, 60, 120, 240, 480, 960, 1920, 3840, 4000]);
        assert_eq!(wait(FIRST, u32::MAX, 1.0).as_secs(), 4000);
        assert_eq!((wait(FIRST, 3, 0.0), wait(FIRST, 3, 0.5)), (Duration::ZERO, Duration::from_secs(60)));
    }

    #[test]
    fn each_outcome_has_its_consequence() {
        let settings = RetrySettings::default();
        let hold = RetrySettings { on_ambiguous: OnAmbiguous::Hold, ..settings };
        let young = Duration::from_secs(60);
        let at = |outcome: &Outcome, age, settings: &RetrySettings| after(outcome, 1, age, settings, 0.5);
        let retry = AfterAttempt::Retry(Duration::from_secs(15));
        let sent = Outcome::sent(MessageId::new("1").unwrap());
        assert_eq!(at(&sent, young, &settings), AfterAttempt::Sent);
        assert_eq!(at(&not_sent(OutcomeKind::Refused), young, &settings), AfterAttempt::Fail(Failure::Rejected));
        for kind in [
            OutcomeKind::Throttled,
            OutcomeKind::DailyQuota,
            OutcomeKind::OperatorError,
            OutcomeKind::Failed,
            OutcomeKind::Unreachable,
            OutcomeKind::Deadline,
        ] {
            assert_eq!(at(&not_sent(kind), young, &settings), retry, "{kind:?}");
        }
        let ambiguous = Outcome::ambiguous(OutcomeKind::NoResponse, replies::PROVIDER_NO_RESPONSE, "");
        assert_eq!(at(&ambiguous, young, &settings), retry);
        assert_eq!(at(&ambiguous, young, &hold), AfterAttempt::Hold);
    }

    #[test]
    fn the_last_attempt_is_at_the_end_of_the_time() {
        let settings = RetrySettings::default();
        let outcome = not_sent(OutcomeKind::Unreachable);
        let nearly = settings.expiry - Duration::from_secs(5);
        assert_eq!(after(&outcome, 9, nearly, &settings, 0.9), AfterAttempt::Retry(Duration::from_secs(5)));
        assert_eq!(after(&outcome, 9, settings.expiry, &settings, 0.9), AfterAttempt::Fail(Failure::Expired));
    }

    #[test]
    fn a_wait_that_the_provider_requested_is_kept() {
        let outcome = Outcome { retry_after: Some(Duration::from_secs(600)), ..not_sent(OutcomeKind::Throttled) };
        let settings = RetrySettings::default();
        let wanted = AfterAttempt::Retry(Duration::from_secs(600));
        assert_eq!(after(&outcome, 1, Duration::ZERO, &settings, 0.0), wanted);
    }
}
