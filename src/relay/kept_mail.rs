//! The spool of a relay: taking messages into it, and what operators ask of it.

use super::Relay;
use super::due_queue::App;
use super::retry_schedule::OnAmbiguous;
use super::transaction::Transaction;
use crate::mail::parameters::Delivery;
use crate::mail::{Certainty, Envelope, Outcome, OutcomeKind, Permitted, QueueId, Receipt, Refusal, replies};
use crate::observe::{Event, QueueEndRecord};
use crate::spool::operate::{self, QueueAction, QueueFilter, QueuePage};
use crate::spool::{DeadLetters, QueuedMessage, RECIPIENTS_PER_PART, Spool, SpoolError, SpoolUsage, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// A spool, and where messages go that fail.
#[derive(Clone)]
pub(crate) struct SpoolParts {
    pub(crate) spool: Arc<dyn Spool>,
    /// `None`: messages that fail are held.
    pub(crate) dead_letters: Option<Arc<DeadLetters>>,
}

/// The spool of a relay, and what its worker is told.
pub(super) struct KeptMail {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    added: mpsc::UnboundedSender<(App, QueueId)>,
    /// Taken by the worker.
    additions: Mutex<Option<mpsc::UnboundedReceiver<(App, QueueId)>>>,
}

impl KeptMail {
    pub(super) fn new(spool: SpoolParts) -> Self {
        let (added, additions) = mpsc::unbounded_channel();
        let SpoolParts { spool, dead_letters } = spool;
        Self { spool, dead_letters, added, additions: Mutex::new(Some(additions)) }
    }

    /// The messages that are added from now on, for the one worker.
    pub(super) fn additions(&self) -> Option<mpsc::UnboundedReceiver<(App, QueueId)>> {
        self.additions.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells the worker of a message that is due now. The channel has no bound, because the worker empties it at once.
    pub(super) fn add(&self, app: App, id: QueueId) {
        // Without a worker it is found at the next start.
        let _ = self.added.send((app, id));
    }
}

impl Relay {
    /// How full the spool is, if there is one.
    pub fn spool_usage(&self) -> Option<SpoolUsage> {
        self.kept.as_ref().map(|kept| kept.spool.usage())
    }

    /// How long the oldest message waits in the spool, if there is one.
    pub fn oldest_age(&self) -> Option<Duration> {
        Some(Timestamp::from(self.clock.wall()).since(self.spool_usage()?.oldest?))
    }

    /// What is wrong with the spool: messages wait longer than the settings allow, or wait for an operator.
    pub(super) fn spool_fault(&self) -> Option<String> {
        let dead_letters = self.kept.as_ref().and_then(|kept| kept.dead_letters.as_ref());
        if dead_letters.is_some_and(|letters| letters.is_failing()) {
            let text =
                "spool.dead_letter takes no more messages, and those that fail are held: make room, then release them";
            return Some(text.to_owned());
        }
        let age = self.oldest_age().filter(|age| *age >= self.settings.queue.degraded_after)?;
        let minutes = age.as_secs() / 60;
        Some(format!("the oldest message in the spool waits for {minutes} minutes: see the log lines of its attempts"))
    }

    /// Lists messages of the spool, or does something with them: one page. `None`: there is no spool.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn queue_page(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
        action: Option<QueueAction>,
    ) -> Option<Result<QueuePage, SpoolError>> {
        let kept = self.kept.as_ref()?;
        let now = Timestamp::from(self.clock.wall());
        let changed = |message: &QueuedMessage| match action {
            Some(QueueAction::Release | QueueAction::Retry) => kept.add(message.app.clone(), message.id),
            Some(QueueAction::Remove) => self.observer.observe(&Event::QueueLeft(&QueueEndRecord {
                id: message.id,
                app: message.app.as_ref(),
                octets: message.octets,
                status: "removed",
                attempts: message.state.attempts,
                age: now.since(message.accepted),
            })),
            _ => {}
        };
        Some(operate::page(&*kept.spool, filter, after, action, now, &changed).await)
    }

    /// The content of a message in the spool.
    pub async fn queued_content(&self, id: QueueId) -> Option<Result<Permitted, SpoolError>> {
        Some(self.kept.as_ref()?.spool.load(id).await)
    }

    /// What acceptance promises: without a spool, that the provider has the message.
    pub(super) fn delivery(&self, granted: Delivery) -> Delivery {
        if self.settings.spools { granted } else { Delivery::HandOff }
    }

    /// Whether the spool has space for a message that can go nowhere else: asked before the client sends it.
    pub(super) fn has_space(&self, transaction: &Transaction, envelope: &Envelope) -> Result<(), Refusal> {
        let many = envelope.forward_paths().len() > RECIPIENTS_PER_PART;
        let needed =
            transaction.delivery == Delivery::Spool || (transaction.delivery == Delivery::HandOffElseSpool && many);
        let Some(kept) = self.kept.as_ref().filter(|_| needed) else { return Ok(()) };
        let octets = envelope.parameters().declared_octets.unwrap_or_default();
        kept.spool.stage(transaction.app.as_ref(), octets).map(drop).map_err(refusal)
    }

    /// Makes a message durable. `Ok` is what a 250 can be made from.
    pub(super) async fn keep(&self, message: Permitted, deadline: std::time::Instant) -> Result<Receipt, Refusal> {
        let Some(kept) = &self.kept else { return Err(refusal(SpoolError::Unavailable("there is none".to_owned()))) };
        let app = message.granted().app.clone();
        let staged = kept.spool.stage(app.as_ref(), message.content().octets().len() as u64).map_err(refusal)?;
        let kept = Arc::clone(kept);
        // A task of its own: a message that becomes durable after the deadline is in the queue, and is sent like any other. The client
        // that sends it again then sends it twice.
        let commit = tokio::spawn(async move {
            let id = staged.commit(message).await?;
            kept.add(app, id);
            Ok(id)
        });
        let id = match tokio::time::timeout_at(deadline.into(), commit).await {
            Ok(Ok(committed)) => committed.map_err(refusal)?,
            Ok(Err(error)) => return Err(refusal(SpoolError::Unavailable(error.to_string()))),
            Err(_) => return Err(refusal(SpoolError::Unavailable("the disk did not answer in time".to_owned()))),
        };
        Ok(Receipt::Spool(id))
    }

    /// Whether a message may be kept after this attempt to hand it off. Not what the provider refuses; and what may have been sent only where
    /// the application accepts that it may be sent twice.
    pub(super) fn may_keep(&self, app: &App, outcome: &Outcome) -> bool {
        match outcome.certainty {
            Certainty::Sent(_) => false,
            Certainty::NotSent => outcome.kind != OutcomeKind::Refused,
            Certainty::Ambiguous => self.settings.queue.of(app).on_ambiguous == OnAmbiguous::Retry,
        }
    }
}

/// The reply of a spool that took nothing.
fn refusal(error: SpoolError) -> Refusal {
    let reply = match error {
        SpoolError::Full(_) => replies::INSUFFICIENT_STORAGE,
        _ => replies::LOCAL_ERROR,
    };
    Refusal::new(reply, error.to_string())
}
