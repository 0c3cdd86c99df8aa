//! What the provider tells of the account, and what its answers do to the pace.

use super::Relay;
use super::send_queue::SendSlot;
use crate::limit::PaceChange;
use crate::mail::{Outcome, QuotaError};
use crate::observe::Event;
use std::time::Duration;

/// Asking takes no longer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// After an answer that did not come; doubling up to the usual interval.
const RETRY_MIN: Duration = Duration::from_secs(5);

impl Relay {
    /// Asks for the account's quota now and at every interval, for ever. Never per message: the provider takes one such
    /// call a second from all of an account.
    pub async fn watch_account(&self, interval: Duration) {
        let mut retry = RETRY_MIN;
        let mut told = None;
        loop {
            let wait = match self.read_account().await {
                Ok(()) => {
                    (retry, told) = (RETRY_MIN, None);
                    interval
                }
                Err(error) => {
                    // Told once: a permission that is not meant to be there is no news.
                    if told.as_ref() != Some(&error) {
                        let detail = match self.pace.as_ref().and_then(|pace| pace.view().recipients_per_second) {
                            Some(rate) => format!("sending goes on at {rate:.2} recipients/s"),
                            None => "sending goes on without a pace until SES throttles".to_owned(),
                        };
                        self.observer.observe(&Event::QuotaUnknown { error: &error, detail: &detail });
                    }
                    let wait = if matches!(error, QuotaError::Unavailable(_)) { retry.min(interval) } else { interval };
                    retry = retry.saturating_mul(2);
                    told = Some(error);
                    wait
                }
            };
            if told == Some(QuotaError::Unsupported) {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn read_account(&self) -> Result<(), QuotaError> {
        let answer = tokio::time::timeout(ANSWER_WAIT_MAX, self.transport.quota()).await;
        let quota = answer.map_err(|_| QuotaError::Unavailable("no answer in time".to_owned()))??;
        if let Some(pace) = &self.pace {
            pace.account(quota);
        }
        self.observer.observe(&Event::QuotaRead(&quota));
        Ok(())
    }

    /// How the attempt ended that had this turn.
    pub(super) async fn heard(&self, slot: &SendSlot, outcome: &Outcome) {
        let (Some(pace), Some(taken)) = (&self.pace, slot.taken()) else { return };
        let (change, slower) = match pace.heard(taken, outcome).await {
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
            Some(PaceChange::Opened) => ("the quota of 24 hours has room again".to_owned(), false),
        };
        self.observer.observe(&Event::PaceChanged { change: &change, slower });
    }
}
