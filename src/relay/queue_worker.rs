//! Sends what is in the spool: one task that knows what is due, and a task for each attempt.
//!
//! An attempt begins with a durable record and ends with one. An attempt whose end is not recorded, because the process or the disk
//! failed, is ambiguous: it may have sent the message. What is sent is what was accepted; with which role, endpoint and at which
//! pace is decided at each attempt, from the configuration in force.

use super::due_queue::{App, DueQueue, Signal};
use super::fair_queue::Weight;
use super::health::Way;
use super::kept_mail::KeptMail;
use super::retry_schedule::{AfterAttempt, Failure, OnAmbiguous, RetrySettings, after, longest_wait};
use super::{CurrentRelay, Relay};
use crate::mail::parameters::{TAGS_MAX, Tag, TagText};
use crate::mail::{Certainty, Fault, Outcome, OutcomeKind, Permitted, QueueId, author};
use crate::observe::{AttemptRecord, Event, QueueEndRecord};
use crate::spool::{Change, QueuedMessage, RECIPIENTS_PER_PART, SpoolError, Timestamp};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long an attempt waits for a send slot before it lets others wait.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(120);

/// The wait after a failure that is none of the provider: no slot, or a spool that cannot be written.
const LOCAL_RETRY: Duration = Duration::from_secs(10);

/// Messages that are read from the spool's list at a time.
const PAGE: usize = 1_000;

/// How often a part of the spool is searched for messages that are too old, how many pages of it, and how many end at a time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
const SWEEP_PAGES: usize = 10;
const SWEEP_MAX: usize = 200;

/// What an attempt leaves to the worker.
struct Attempted {
    /// When the message is due again. `None`: it has left the queue, or is held.
    again: Option<Duration>,
    signal: Signal,
}

impl Attempted {
    fn over(signal: Signal) -> Self {
        Self { again: None, signal }
    }

    fn later(wait: Duration) -> Self {
        Self { again: Some(wait), signal: Signal::None }
    }
}

struct InProgress {
    app: App,
    id: QueueId,
    /// Whether the queue of due messages counts it.
    counted: bool,
}

struct QueueWorker {
    current: CurrentRelay,
    kept: Arc<KeptMail>,
    due: DueQueue,
    attempts: JoinSet<Attempted>,
    in_progress: HashMap<Id, InProgress>,
    ids_in_progress: HashSet<QueueId>,
}

impl CurrentRelay {
    /// Sends what is in the spool until `draining`; then waits for the attempts in progress. Returns at once without a spool. Each attempt
    /// is made with the configuration in force when it begins.
    pub(crate) async fn run_queue(self, draining: CancellationToken) {
        let relay = self.get();
        let Some(kept) = relay.kept.clone() else { return };
        let additions = kept.additions();
        let Some(additions) = additions else { return };
        let due = DueQueue::new(relay.settings.queue.attempts_max, Instant::now().into_std());
        drop(relay);
        let worker = QueueWorker {
            current: self,
            kept,
            due,
            attempts: JoinSet::new(),
            in_progress: HashMap::new(),
            ids_in_progress: HashSet::new(),
        };
        worker.run(additions, draining).await;
    }
}

impl QueueWorker {
    async fn run(mut self, mut additions: mpsc::UnboundedReceiver<(App, QueueId)>, draining: CancellationToken) {
        // New mail is accepted and attempted while the list is read: a page at a time.
        let mut unread = Some(None);
        let (mut sweep, mut swept_to) = (Instant::now() + SWEEP_INTERVAL, None);
        loop {
            if Instant::now() >= sweep {
                sweep = Instant::now() + SWEEP_INTERVAL;
                swept_to = self.expire(swept_to, &draining);
            }
            if let Some(after) = unread {
                unread = self.read_page(after);
            }
            self.begin_attempts(&draining);
            let wake = if unread.is_some() { Some(Instant::now()) } else { self.due.wakes().map(Instant::from_std) };
            tokio::select! {
                () = draining.cancelled() => break,
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                Some((app, id)) = additions.recv() => self.due.add(&app, id, Instant::now().into_std(), true),
                () = sleep_until(wake.map_or(sweep, |wake| wake.min(sweep))) => {}
            }
        }
        while let Some(ended) = self.attempts.join_next_with_id().await {
            self.ended(ended);
        }
    }

    /// Reads the next messages of the spool. Returns the id after which to read on.
    fn read_page(&mut self, after: Option<QueueId>) -> Option<Option<QueueId>> {
        let (page, relay) = (self.kept.spool.page(after, PAGE), self.current.get());
        let wall = Timestamp::from(relay.clock.wall());
        let now = Instant::now().into_std();
        for message in page.iter().filter(|message| message.state.held.is_none()) {
            // If the clock was set back since, it waits no longer than after its last attempt.
            let longest = longest_wait(relay.settings.queue.of(&message.app).first_wait, message.state.failures);
            let wait = message.state.due.since(wall).min(longest);
            self.due.add(&message.app, message.id, now + wait, message.state.attempts == 0);
        }
        page.last().map(|message| Some(message.id))
    }

    /// Ends messages that are too old and are not attempted, because their application or the provider is closed: a part of the spool
    /// at a time. Returns where the next call goes on.
    fn expire(&mut self, from: Option<QueueId>, draining: &CancellationToken) -> Option<QueueId> {
        let (mut after, relay) = (from, self.current.get());
        let wall = Timestamp::from(relay.clock.wall());
        for _ in 0..SWEEP_PAGES {
            let page = self.kept.spool.page(after, PAGE);
            after = page.last().map(|message| message.id);
            for message in page.iter().filter(|message| message.state.held.is_none()) {
                let expiry = relay.settings.queue.of(&message.app).expiry;
                // Where attempts are made, the next one decides.
                let is_old = self.due.is_closed(&message.app) && wall.since(message.accepted) >= expiry;
                if self.attempts.len() >= SWEEP_MAX || !is_old || !self.ids_in_progress.insert(message.id) {
                    continue;
                }
                let (relay, kept, id) = (Arc::clone(&relay), Arc::clone(&self.kept), message.id);
                let attempt = Attempt { relay, kept, id, draining: draining.clone() };
                let task = self.attempts.spawn(async move { attempt.expire().await });
                let app = message.app.clone();
                self.in_progress.insert(task.id(), InProgress { app, id, counted: false });
            }
            if after.is_none() {
                break;
            }
        }
        after
    }

    fn begin_attempts(&mut self, draining: &CancellationToken) {
        while let Some((app, id)) = self.due.next(Instant::now().into_std()) {
            if !self.ids_in_progress.insert(id) {
                // It was added twice.
                self.due.end(&app, Signal::None, Instant::now().into_std());
                continue;
            }
            let (relay, kept) = (self.current.get(), Arc::clone(&self.kept));
            let attempt = Attempt { relay, kept, id, draining: draining.clone() };
            let task = self.attempts.spawn(async move { attempt.run().await });
            self.in_progress.insert(task.id(), InProgress { app, id, counted: true });
        }
    }

    fn ended(&mut self, ended: Result<(Id, Attempted), tokio::task::JoinError>) {
        let (task, attempted) = match ended {
            Ok((task, attempted)) => (task, attempted),
            // A panic: what was recorded decides at the next attempt.
            Err(error) => (error.id(), Attempted::later(LOCAL_RETRY)),
        };
        let Some(InProgress { app, id, counted }) = self.in_progress.remove(&task) else { return };
        self.ids_in_progress.remove(&id);
        let now = Instant::now().into_std();
        if counted {
            self.due.end(&app, attempted.signal, now);
        }
        let wait = attempted.again.or_else(|| {
            // An operator may have released it while the attempt ended.
            let queued = self.kept.spool.get(id).filter(|queued| queued.state.held.is_none());
            queued.map(|_| LOCAL_RETRY)
        });
        if let Some(wait) = wait {
            self.due.add(&app, id, now + wait, false);
        }
    }
}

/// One attempt of one part of a message.
struct Attempt {
    relay: Arc<Relay>,
    kept: Arc<KeptMail>,
    id: QueueId,
    draining: CancellationToken,
}

impl Attempt {
    async fn run(&self) -> Attempted {
        let Some(queued) = self.kept.spool.get(self.id).filter(|queued| queued.state.held.is_none()) else {
            return Attempted::over(Signal::None);
        };
        let settings = self.relay.settings.queue.of(&queued.app);
        if let Some(part) = (0..queued.parts).find(|part| queued.state.started.contains(*part)) {
            return self.interrupted(&queued, part, &settings).await;
        }
        // In turn, so that a part that fails does not delay the others.
        let waiting: Vec<u8> = queued.parts_waiting().collect();
        let Some(turn) = (queued.state.attempts as usize).checked_rem(waiting.len()) else {
            return Attempted::over(Signal::None);
        };
        let part = waiting[turn];
        let weight =
            Weight { recipients: queued.recipients_of(part), octets: self.relay.transport.octets_held(queued.octets) };
        let slot_deadline = self.relay.clock.now() + SLOT_WAIT_MAX;
        let slot = tokio::select! {
            slot = self.relay.send_queue.slot(&queued.app, weight, slot_deadline) => slot,
            // A shutdown begins no attempts.
            () = self.draining.cancelled() => return Attempted::over(Signal::None),
        };
        let Ok(slot) = slot else {
            return Attempted { again: Some(self.spread(LOCAL_RETRY)), signal: Signal::NoSlot };
        };
        let message = match self.kept.spool.load(self.id).await {
            Ok(message) => self.part(&message, part),
            Err(error) => {
                self.relay.send_queue.give_back(slot).await;
                return self.not_loaded(&queued, error);
            }
        };
        let started = self.record(Change::Started { part }).await;
        let state = self.kept.spool.get(self.id).map(|queued| queued.state.held.is_some());
        match (started, state) {
            (Ok(true), Some(false)) => {}
            // Nothing is sent that could not be recorded: after a restart it would be sent once more.
            (Err(_), _) => {
                self.relay.send_queue.give_back(slot).await;
                return Attempted::later(LOCAL_RETRY);
            }
            // An operator has removed or held it while it waited for its slot.
            (Ok(_), state) => {
                self.relay.send_queue.give_back(slot).await;
                if state.is_some() {
                    let (due, result) = (queued.state.due, "held before the attempt began".into());
                    self.record_until_done(Change::Ended { part, last: false, due, result }).await;
                }
                return Attempted::over(Signal::None);
            }
        }
        let began = self.relay.clock.now();
        let deadline = began + self.relay.settings.deadline.of(queued.octets);
        let outcome = self.relay.transport.send(message.clone(), deadline).await;
        self.relay.record_outcome(&slot, &outcome).await;
        drop(slot);
        let duration = self.relay.clock.now().saturating_duration_since(began);
        self.relay.health.record_outcome(&outcome, || way(&message));
        if outcome.certainty == Certainty::Ambiguous {
            self.relay.count_ambiguous();
        }
        let age = self.age(&queued);
        let next = after(&outcome, queued.state.failures + 1, age, &settings, self.random());
        self.observe(&queued, &message, &outcome, next, duration);
        // Without a share of the memory any more, content is held only where it is needed.
        let message = matches!(next, AfterAttempt::Fail(_)).then_some(message);
        self.settle(&queued, part, message, &outcome, next).await
    }

    /// Ends a message that is too old, without another attempt.
    async fn expire(&self) -> Attempted {
        let Some(queued) = self.kept.spool.get(self.id).filter(|queued| queued.state.held.is_none()) else {
            return Attempted::over(Signal::None);
        };
        let Some(part) = queued.parts_waiting().next().filter(|_| queued.state.started.is_empty()) else {
            return Attempted::later(LOCAL_RETRY);
        };
        let message = match self.kept.spool.load(self.id).await {
            Ok(message) => self.part(&message, part),
            Err(error) => return self.not_loaded(&queued, error),
        };
        let result = queued.state.last.clone().unwrap_or_else(|| "no attempt was made".into());
        let ended = |last| Change::Ended { part, last, due: Timestamp::MAX, result: Arc::clone(&result) };
        match self.bury(Some(&message), Failure::Expired, &result).await {
            Ok(()) => {
                self.record_until_done(ended(true)).await;
                self.leaves(&queued, Failure::Expired.label(), Signal::None)
            }
            Err(reason) => {
                self.hold(format!("{}: {result}; {reason}", Failure::Expired.label()), ended(false)).await;
                Attempted::over(Signal::None)
            }
        }
    }

    /// Records what follows from the outcome.
    async fn settle(
        &self,
        queued: &QueuedMessage,
        part: u8,
        message: Option<Permitted>,
        outcome: &Outcome,
        next: AfterAttempt,
    ) -> Attempted {
        let signal = signal(outcome);
        let text: Arc<str> = text(outcome).into();
        let ended = |last, due| Change::Ended { part, last, due, result: Arc::clone(&text) };
        match next {
            AfterAttempt::Sent => {
                self.record_until_done(ended(true, Timestamp::default())).await;
                self.leaves(queued, "sent", signal)
            }
            AfterAttempt::Fail(failure) => match self.bury(message.as_ref(), failure, &text).await {
                Ok(()) => {
                    self.record_until_done(ended(true, Timestamp::default())).await;
                    self.leaves(queued, failure.label(), signal)
                }
                Err(reason) => {
                    let reason = format!("{}: {text}; {reason}", failure.label());
                    self.hold(reason, ended(false, Timestamp::MAX)).await;
                    Attempted::over(signal)
                }
            },
            AfterAttempt::Hold => {
                self.hold(format!("the last attempt may have sent it: {text}"), ended(false, Timestamp::MAX)).await;
                Attempted::over(signal)
            }
            AfterAttempt::Retry(wait) => {
                let due = Timestamp::from(self.relay.clock.wall()).after(wait);
                self.record_until_done(ended(false, due)).await;
                Attempted { again: Some(wait), signal }
            }
        }
    }

    /// An attempt that began before a restart, or before a panic: nothing is known of it.
    async fn interrupted(&self, queued: &QueuedMessage, part: u8, settings: &RetrySettings) -> Attempted {
        self.relay.count_ambiguous();
        let result: Arc<str> = "the relay ended during the attempt: the message may have been sent".into();
        let due = Timestamp::from(self.relay.clock.wall());
        let ended = Change::Ended { part, last: false, due, result: Arc::clone(&result) };
        self.relay.observer.observe(&Event::AttemptInterrupted { id: self.id, app: queued.app.as_ref() });
        match settings.on_ambiguous {
            OnAmbiguous::Retry => {
                self.record_until_done(ended).await;
                Attempted::later(Duration::ZERO)
            }
            OnAmbiguous::Hold => {
                self.hold(result.to_string(), ended).await;
                Attempted::over(Signal::None)
            }
        }
    }

    /// The part ended, and with it perhaps the message.
    fn leaves(&self, queued: &QueuedMessage, status: &'static str, signal: Signal) -> Attempted {
        if self.kept.spool.get(self.id).is_some() {
            return Attempted { again: Some(Duration::ZERO), signal };
        }
        self.relay.observer.observe(&Event::QueueLeft(&QueueEndRecord {
            id: self.id,
            app: queued.app.as_ref(),
            octets: queued.octets,
            status,
            attempts: queued.state.attempts + 1,
            age: self.age(queued),
        }));
        Attempted::over(signal)
    }

    /// Stores a message that failed for the operator. The error says why it cannot be stored.
    async fn bury(&self, message: Option<&Permitted>, failure: Failure, text: &str) -> Result<(), String> {
        let letters = self.kept.dead_letters.as_ref().ok_or("there is no directory for it (dead_letter)")?;
        let message = message.ok_or("its content is not in memory")?;
        letters.store(message, failure.label(), text).await.map_err(|error| error.to_string())
    }

    /// Holds the message first: if the process ends between the records, it is held and not tried again.
    async fn hold(&self, reason: String, ended: Change) {
        self.record_until_done(Change::Held { reason: reason.into() }).await;
        self.record_until_done(ended).await;
    }

    fn not_loaded(&self, queued: &QueuedMessage, error: SpoolError) -> Attempted {
        match error {
            SpoolError::NotFound(_) => Attempted::over(Signal::None),
            SpoolError::Damaged(_) => self.leaves(queued, "damaged", Signal::None),
            SpoolError::Full(_) | SpoolError::Unavailable(_) => Attempted::later(LOCAL_RETRY),
        }
    }

    async fn record(&self, change: Change) -> Result<bool, SpoolError> {
        self.kept.spool.change(self.id, change).await
    }

    /// Records an end, however long that takes: without it, a restart could not tell that the attempt is over.
    async fn record_until_done(&self, change: Change) {
        while self.record(change.clone()).await.is_err() {
            tokio::time::sleep(LOCAL_RETRY).await;
        }
    }

    /// The part of the message, as it is sent: with what was granted, by the way that the configuration now has for its application.
    fn part(&self, message: &Permitted, part: u8) -> Permitted {
        let mut send = message.granted().send.clone();
        if let Some(route) = message.granted().app.as_ref().and_then(|app| self.relay.routes.get(app)) {
            send.role.clone_from(&route.role);
            send.endpoint_id.clone_from(&route.endpoint_id);
        }
        let tags = send.tags.get_or_insert_default();
        if let Some(name) = self.relay.settings.queue.tag.as_ref().filter(|_| tags.len() < TAGS_MAX)
            && tags.iter().all(|tag| tag.name != *name)
            && let Ok(value) = TagText::parse(&self.id.to_string())
        {
            tags.push(Tag { name: name.clone(), value });
        }
        let start = usize::from(part) * RECIPIENTS_PER_PART;
        message.part(start..start + RECIPIENTS_PER_PART, send)
    }

    fn age(&self, queued: &QueuedMessage) -> Duration {
        Timestamp::from(self.relay.clock.wall()).since(queued.accepted)
    }

    fn observe(
        &self,
        queued: &QueuedMessage,
        message: &Permitted,
        outcome: &Outcome,
        next: AfterAttempt,
        duration: Duration,
    ) {
        self.relay.observer.observe(&Event::AttemptEnded(&AttemptRecord {
            id: self.id,
            app: queued.app.as_ref(),
            reverse_path: message.envelope().reverse_path(),
            forward_paths: message.envelope().forward_paths(),
            octets: queued.octets,
            attempt: queued.state.attempts + 1,
            outcome,
            next: match next {
                AfterAttempt::Sent => "sent",
                AfterAttempt::Fail(failure) => failure.label(),
                AfterAttempt::Retry(_) => "deferred",
                AfterAttempt::Hold => "held",
            },
            wait: match next {
                AfterAttempt::Retry(wait) => Some(wait),
                _ => None,
            },
            age: self.age(queued),
            duration,
        }));
    }

    /// At least 0 and less than 1.
    fn random(&self) -> f64 {
        (RandomState::new().hash_one(self.id) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn spread(&self, wait: Duration) -> Duration {
        wait / 2 + (wait / 2).mul_f64(self.random())
    }
}

/// What an outcome says about other messages.
fn signal(outcome: &Outcome) -> Signal {
    match (&outcome.certainty, outcome.kind) {
        (Certainty::Sent(_), _) | (_, OutcomeKind::Refused) => Signal::Works,
        // Of one author: other messages of the application may be sent.
        (_, OutcomeKind::OperatorError) if matches!(outcome.fault, Some(Fault { of_author: true, .. })) => Signal::None,
        (_, OutcomeKind::OperatorError) => Signal::AppCannotSend,
        (_, OutcomeKind::Failed | OutcomeKind::Unreachable | OutcomeKind::NoResponse) => Signal::ProviderFailed,
        _ => Signal::None,
    }
}

/// The result in words, for `queue list`.
fn text(outcome: &Outcome) -> String {
    match &outcome.certainty {
        Certainty::Sent(id) => format!("sent as {id}"),
        _ if outcome.code.is_empty() && outcome.detail.is_empty() => outcome.kind.label().to_owned(),
        // Mostly the detail has the code.
        _ if outcome.detail.contains(outcome.code) => cut(&format!("{}: {}", outcome.kind.label(), outcome.detail)),
        _ => cut(&format!("{}: {} {}", outcome.kind.label(), outcome.code, outcome.detail)),
    }
}

/// The most octets of a result that are kept.
const TEXT_OCTETS_MAX: usize = 300;

fn cut(text: &str) -> String {
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    text.get(..text.floor_char_boundary(TEXT_OCTETS_MAX)).unwrap_or_default().to_owned()
}

fn way(message: &Permitted) -> Way {
    let granted = message.granted();
    let mut authors =
        message.content().fields_named("From").filter_map(|field| author::parse(field.value).ok()).flatten();
    Way {
        app: granted.app.clone(),
        role: granted.send.role.clone(),
        set: granted.send.configuration_set.clone(),
        domain: authors.next().map(|author| author.mailbox.domain().to_string()),
    }
}
