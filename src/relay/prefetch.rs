//! Prefetching: for a pipelined group of RCPT, a limiter in another process is called once.
//!
//! Policy decides about each recipient as usual. Only the limiter's decisions for the group are fetched together. They are kept until
//! the session reaches each command, and returned if it does not.

use super::SessionHandler;
use super::admission::Admitted;
use super::transaction::PrefetchedRecipient;
use crate::limit::{LimitStage, LimitStep};
use crate::mail::{ForwardPath, Granted, Refusal};
use crate::policy::RcptFacts;
use std::sync::Arc;

impl SessionHandler {
    /// The decision about a recipient, if it was fetched.
    pub(super) fn fetched(&mut self, path: &ForwardPath) -> Option<Result<Admitted, Refusal>> {
        let transaction = self.transaction.as_mut()?;
        let accepted = transaction.accepted;
        let found = transaction
            .prefetched
            .iter()
            .position(|prefetched| prefetched.path == *path && prefetched.accepted_before == accepted)?;
        Some(transaction.prefetched.swap_remove(found).judged)
    }

    pub(super) fn is_fetched(&self, path: &ForwardPath) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| {
            transaction
                .prefetched
                .iter()
                .any(|prefetched| prefetched.path == *path && prefetched.accepted_before == transaction.accepted)
        })
    }

    /// Fetches the decisions about a recipient and about those that follow it in the input.
    pub(super) async fn fetch(&mut self, paths: Vec<ForwardPath>) {
        self.forget_prefetched().await;
        let Some(transaction) = &mut self.transaction else { return };
        let mut granted: Vec<(ForwardPath, usize, Arc<Granted>)> = Vec::with_capacity(paths.len());
        for forward_path in paths {
            // A repeated recipient is not counted twice.
            if granted.iter().any(|(path, ..)| *path == forward_path) {
                continue;
            }
            let place = granted.len();
            let facts = RcptFacts {
                client: &self.client,
                reverse_path: &transaction.reverse_path,
                forward_path: &forward_path,
                accepted_before: transaction.accepted + place,
            };
            // After a refused recipient the number of accepted ones differs, so the rest is decided command by command.
            match self.relay.decided(&self.client, self.relay.policy.forward_path(&facts).await) {
                Ok(grant) => granted.push((forward_path, transaction.accepted + place, grant)),
                Err(_) => break,
            }
        }
        let step = |(path, _, granted)| {
            let stage = LimitStage::Rcpt(path);
            LimitStep { client: &self.client, granted, reverse_path: &transaction.reverse_path, stage }
        };
        let steps: Vec<LimitStep<'_>> = granted.iter().map(|(path, at, granted)| step((path, at, granted))).collect();
        let decisions = self.relay.limiter.take_each(&steps).await;
        for ((path, accepted_before, granted), decision) in granted.into_iter().zip(decisions) {
            let judged = self.relay.taken(&self.client, granted, decision);
            transaction.prefetched.push(PrefetchedRecipient { path, accepted_before, judged });
        }
    }

    /// Returns the remaining decisions, which are not needed.
    pub(super) async fn forget_prefetched(&mut self) {
        let prefetched = self.transaction.as_mut().map(|transaction| std::mem::take(&mut transaction.prefetched));
        if let Some(prefetched) = prefetched.filter(|prefetched| !prefetched.is_empty()) {
            Box::pin(self.give_back_prefetched(prefetched)).await;
        }
    }

    /// Returns what the limiter took for these decisions.
    pub(super) async fn give_back_prefetched(&self, prefetched: Vec<PrefetchedRecipient>) {
        for PrefetchedRecipient { judged, .. } in prefetched {
            if let Ok(Admitted { reservation, .. }) = judged {
                self.relay.limiter.give_back(reservation).await;
            }
        }
    }
}
