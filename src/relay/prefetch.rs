//! Recipients that the client has already said: a pipelined group of RCPT asks a distant limiter once.
//!
//! Policy is asked for each as ever; only the limiter's answers for the group are fetched together, kept until the
//! session comes to each command, and given back if it never does.

use super::SessionHandler;
use super::admission::Admitted;
use crate::limit::{LimitStage, LimitStep};
use crate::mail::{ForwardPath, Granted, Refusal};
use crate::policy::RcptFacts;
use std::sync::Arc;

/// A recipient that was judged before its command was reached.
#[derive(Debug)]
pub(super) struct PrefetchedRecipient {
    path: ForwardPath,
    accepted_before: usize,
    judged: Result<Admitted, Refusal>,
}

impl SessionHandler {
    /// The answer for a recipient, if it was fetched already.
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

    /// Fetches the answers for a recipient and for those that follow it on the wire.
    pub(super) async fn fetch(&mut self, paths: Vec<ForwardPath>) {
        self.forget_prefetched().await;
        let Some(transaction) = &mut self.transaction else { return };
        let mut granted: Vec<(ForwardPath, usize, Arc<Granted>)> = Vec::with_capacity(paths.len());
        for forward_path in paths {
            // One that stands twice is not asked about twice.
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
            // Where policy says no, those behind come in another number: they are judged when they come.
            match self.relay.decided(&self.client, self.relay.policy.forward_path(&facts).await) {
                Ok(yes) => granted.push((forward_path, transaction.accepted + place, yes)),
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

    /// No more of them will be asked for.
    pub(super) async fn forget_prefetched(&mut self) {
        let prefetched = self.transaction.as_mut().map(|transaction| std::mem::take(&mut transaction.prefetched));
        if let Some(prefetched) = prefetched.filter(|prefetched| !prefetched.is_empty()) {
            Box::pin(self.give_back_prefetched(prefetched)).await;
        }
    }

    /// Gives back what was fetched and never asked for.
    pub(super) async fn give_back_prefetched(&self, prefetched: Vec<PrefetchedRecipient>) {
        for PrefetchedRecipient { judged, .. } in prefetched {
            if let Ok(Admitted { ticket, .. }) = judged {
                self.relay.limiter.give_back(ticket).await;
            }
        }
    }
}
