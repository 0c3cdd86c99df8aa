//! The account's quota, and what the provider's answers mean for pacing and health.

use super::Relay;
use super::health::{KnownFault, Subject};
use super::send_queue::SendSlot;
use crate::limit::PaceChange;
use crate::mail::{AccountQuota, Outcome, ReadError, SENDING_PAUSED};
use crate::observe::Event;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait for an answer of the provider.
pub(super) const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// The wait after a missing answer. Doubles up to the usual interval.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// The interval between two checks of what did not work, plus or minus a quarter.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(60);

impl Relay {
    /// Watches the provider for ever: reads the account's quota now and at every interval (`None`: never), and checks what
    /// the applications need now and, while it does not work, about every minute.
    pub(crate) async fn watch_provider(&self, interval: Option<Duration>) {
        let account = async {
            if let Some(interval) = interval {
                self.watch_account(interval).await;
            }
        };
        tokio::join!(account, self.watch_checks(interval.is_some()));
    }

    /// Reads the quota at intervals, never per message: SES accepts one such call per second and account.
    async fn watch_account(&self, interval: Duration) {
        let mut retry = RETRY_MIN;
        let mut reported = None;
        loop {
            let soon = spread(retry.min(interval).min(CHECK_INTERVAL));
            let wait = match self.read_account().await {
                Ok(quota) => {
                    (retry, reported) = (RETRY_MIN, None);
                    if quota.sending_enabled { interval } else { spread(interval.min(CHECK_INTERVAL)) }
                }
                Err(ReadError::Unsupported) => return,
                Err(error) => {
                    // Reported once, because the permission may be missing on purpose. Faults are reported separately.
                    if reported.as_ref() != Some(&error) && !matches!(error, ReadError::Fault(_)) {
                        let detail = match self.pace.as_ref().and_then(|pace| pace.view().recipients_per_second) {
                            Some(rate) => format!("sending continues at {rate:.2} recipients/s"),
                            None => "sending continues without a rate until SES throttles".to_owned(),
                        };
                        self.observer.observe(&Event::QuotaUnknown { error: &error, detail: &detail });
                    }
                    let wait = match error {
                        ReadError::Fault(_) => soon,
                        ReadError::Unavailable(_) => retry.min(interval),
                        _ => interval,
                    };
                    retry = retry.saturating_mul(2);
                    reported = Some(error);
                    wait
                }
            };
            self.rest(wait).await;
        }
    }

    /// Waits, at most until a check finds that the account does not work.
    async fn rest(&self, wait: Duration) {
        let end = Instant::now() + wait;
        let was_faulty = self.health.is_faulty(&Subject::Account(None));
        while Instant::now() < end {
            tokio::time::sleep_until(end.min(Instant::now() + CHECK_INTERVAL)).await;
            if !was_faulty && self.health.is_faulty(&Subject::Account(None)) {
                return;
            }
        }
    }

    async fn read_account(&self) -> Result<AccountQuota, ReadError> {
        let answer = tokio::time::timeout(ANSWER_WAIT_MAX, self.transport.quota()).await;
        let answer = answer.unwrap_or_else(|_| Err(ReadError::Unavailable("no answer in time".to_owned())));
        let may_send = match &answer {
            Ok(quota) if !quota.sending_enabled => Err(ReadError::Fault(SENDING_PAUSED.to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone()),
        };
        self.judge_check(Subject::Account(None), may_send, &[]);
        let quota = answer?;
        if let Some(pace) = &self.pace {
            pace.account(quota);
        }
        self.observer.observe(&Event::QuotaRead(&quota));
        Ok(quota)
    }

    /// The known faults of what sending needs.
    pub fn faults(&self) -> Vec<KnownFault> {
        let mut faults = self.health.faults();
        if self.pace.as_ref().is_some_and(|pace| pace.view().closed) {
            let text = "the SES quota of 24 hours is used up: wait, or ask AWS for a higher one".to_owned();
            faults.push(KnownFault { apps: Vec::new(), text });
        }
        faults.extend(self.spool_fault().map(|text| KnownFault { apps: Vec::new(), text }));
        faults
    }

    /// Reports the outcome of the attempt that used this slot to the pacer, and what it changed to the observer.
    pub(super) async fn record_outcome(&self, slot: &SendSlot, outcome: &Outcome) {
        let (Some(pace), Some(taken)) = (&self.pace, slot.taken()) else { return };
        let (change, slower) = match pace.record_outcome(taken, outcome).await {
            None => return,
            Some(PaceChange::Slowed { recipients_per_second, pause }) => {
                let pause = pause.as_millis();
                (
                    format!("throttled: nothing for {pause} ms, then {recipients_per_second:.2} recipients/s, evenly"),
                    true,
                )
            }
            Some(PaceChange::Closed(wait)) => {
                (format!("the quota of 24 hours is used up: the next try is in {} s", wait.as_secs()), true)
            }
            Some(PaceChange::Opened) => ("the quota of 24 hours has capacity again".to_owned(), false),
        };
        self.observer.observe(&Event::PaceChanged { change: &change, slower });
    }
}

/// A wait, plus or minus a quarter, so that relays that started together do not call together.
pub(super) fn spread(wait: Duration) -> Duration {
    let (quarter, parts) = (wait / 4, (RandomState::new().hash_one(0) % 1_000) as u32);
    wait - quarter + quarter * 2 / 1_000 * parts
}
