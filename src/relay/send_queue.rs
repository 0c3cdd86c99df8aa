//! The send queue: messages wait here for a send slot, which is capacity in the account's rate, one of the calls to the provider,
//! and memory.
//!
//! [`FairQueue`] decides the order. One task, the dispatcher, takes all three for the next message only, so that waiting
//! messages hold neither calls nor memory. A guaranteed message may use a reserve that the others may not, so it does not wait
//! for an application that floods. No message waits longer than its deadline; one that certainly would is refused at once.

use super::budget::{Budget, Share};
use super::fair_queue::{App, AppShare, FairQueue, Next, Waiting, Weight};
use crate::limit::{PaceDecision, Pacer, PacerPermit};
use crate::mail::parameters::AppName;
use crate::mail::{Clock, Refusal, Reply, RuleName, replies};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// Settings of the send queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SendQueueSettings {
    /// Calls to the provider at a time.
    pub calls_max: usize,
    /// Shares by application; the others have the default.
    pub shares: HashMap<AppName, AppShare>,
}

impl Default for SendQueueSettings {
    fn default() -> Self {
        Self { calls_max: 200, shares: HashMap::new() }
    }
}

/// The send queue.
pub(super) struct SendQueue {
    calls_max: AtomicUsize,
    pace: Option<Arc<Pacer>>,
    clock: Arc<dyn Clock>,
    budget: Arc<Budget>,
    calls: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Messages that the provider throttled. They are sent before those that wait, in the order in which they were throttled.
    throttled: AtomicUsize,
    throttled_order: tokio::sync::Mutex<()>,
    /// What the next message waits for: the reason for a message whose deadline passes.
    waiting_for: AtomicU8,
    state: Mutex<State>,
    /// Wakes the dispatcher: a new message may have priority over the next one.
    changed: Notify,
}

/// Permission to send one message now.
#[derive(Debug)]
pub(super) struct SendSlot {
    taken: Option<PacerPermit>,
    recipients: u32,
    _call: OwnedSemaphorePermit,
    _memory: Share,
}

/// Answers a message that waits.
type Waiter = oneshot::Sender<Result<SendSlot, Refusal>>;

struct State {
    queue: FairQueue<Waiter>,
    /// Whether the dispatcher runs.
    dispatching: bool,
}

/// How often the head of the queue is examined without an event: a rate may have changed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl SendQueue {
    pub(super) fn new(
        settings: SendQueueSettings,
        pace: Option<Arc<Pacer>>,
        clock: Arc<dyn Clock>,
        budget: Arc<Budget>,
    ) -> Self {
        let calls_max = settings.calls_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            pace,
            clock,
            budget,
            calls: Arc::new(Semaphore::new(calls_max)),
            waiting: AtomicUsize::new(0),
            throttled: AtomicUsize::new(0),
            throttled_order: tokio::sync::Mutex::default(),
            waiting_for: AtomicU8::new(WaitingFor::Calls as u8),
            state: Mutex::new(State { queue: FairQueue::new(settings.shares), dispatching: false }),
            changed: Notify::new(),
            calls_max: AtomicUsize::new(calls_max),
        }
    }

    /// Changes the settings. Messages that wait have the new shares; calls in flight above a lower maximum end by themselves.
    pub(super) fn configure(&self, settings: SendQueueSettings) {
        self.state().queue.set_shares(settings.shares);
        let calls_max = settings.calls_max.clamp(1, Semaphore::MAX_PERMITS);
        let before = self.calls_max.swap(calls_max, Ordering::AcqRel);
        self.calls.add_permits(calls_max.saturating_sub(before));
        let (calls, fewer) = (Arc::clone(&self.calls), before.saturating_sub(calls_max));
        let missing = fewer - calls.forget_permits(fewer);
        if missing > 0 {
            tokio::spawn(async move {
                for _ in 0..missing {
                    if let Ok(permit) = calls.acquire().await {
                        permit.forget();
                    }
                }
            });
        }
        self.changed.notify_one();
    }

    fn calls_max(&self) -> usize {
        self.calls_max.load(Ordering::Acquire)
    }

    /// Messages that wait, and calls in flight.
    pub(super) fn in_use(&self) -> (usize, usize) {
        let calls = self.calls_max().saturating_sub(self.calls.available_permits());
        (self.waiting.load(Ordering::Relaxed), calls)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a send slot for a message of that application, until the deadline.
    pub(super) async fn slot(
        self: &Arc<Self>,
        app: &App,
        weight: Weight,
        deadline: Instant,
    ) -> Result<SendSlot, Refusal> {
        if self.waiting.load(Ordering::Acquire) == 0
            && self.throttled.load(Ordering::Acquire) == 0
            && let Some(slot) = self.at_once(app, weight).await?
        {
            return Ok(slot);
        }
        let (waiter, answer) = oneshot::channel();
        let start = self.enqueue(app, weight, waiter, deadline)?;
        self.changed.notify_one();
        if start {
            let queue = Arc::clone(self);
            tokio::spawn(async move { queue.dispatch().await });
        }
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) => Err(no_memory("the send queue has stopped")),
            Err(_) => {
                self.changed.notify_one();
                Err(self.late())
            }
        }
    }

    /// A slot without waiting, if everything is free.
    async fn at_once(&self, app: &App, weight: Weight) -> Result<Option<SendSlot>, Refusal> {
        let Ok(call) = Arc::clone(&self.calls).try_acquire_owned() else { return Ok(None) };
        let Some(memory) = self.budget.try_send(weight.octets) else { return Ok(None) };
        let taken = match &self.pace {
            None => None,
            Some(pace) => match pace.take(weight.recipients, false).await {
                PaceDecision::Go(taken) => Some(taken),
                PaceDecision::Wait(_) => return Ok(None),
                PaceDecision::Closed(refusal) => return Err(refusal),
            },
        };
        if self.pace.is_some() {
            self.state().queue.charge(app, weight.recipients, self.clock.now());
        }
        Ok(Some(SendSlot { taken, recipients: weight.recipients, _call: call, _memory: memory }))
    }

    /// Puts a message into its application's queue. True: the caller must start the dispatcher.
    fn enqueue(&self, app: &App, weight: Weight, waiter: Waiter, deadline: Instant) -> Result<bool, Refusal> {
        let rate = self.pace.as_ref().and_then(|pace| pace.view().recipients_per_second);
        let now = self.clock.now();
        let mut state = self.state();
        // Refused at once if the message would be late even with the whole rate for its application.
        let waiting = state.queue.recipients_waiting(app) as f64;
        let left = deadline.saturating_duration_since(now).as_secs_f64();
        if let Some(rate) = rate.filter(|rate| waiting / rate > left) {
            let detail = format!("{waiting} recipients of this application wait already, at {rate:.2} a second");
            return Err(paced(replies::THROTTLED, detail));
        }
        state.queue.push(app, weight, now, waiter);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Ok(!std::mem::replace(&mut state.dispatching, true))
    }

    /// The dispatcher: gives slots until no message waits.
    async fn dispatch(&self) {
        loop {
            self.set_waiting_for(WaitingFor::Calls);
            let Ok(call) = Arc::clone(&self.calls).acquire_owned().await else { return };
            let Some((Waiting { weight, payload: waiter, .. }, taken)) = self.next().await else { return };
            let slot = taken.map(|(taken, memory)| SendSlot {
                taken,
                recipients: weight.recipients,
                _call: call,
                _memory: memory,
            });
            // The message has stopped waiting meanwhile.
            if let Err(Ok(slot)) = waiter.send(slot) {
                self.give_back(slot).await;
            }
        }
    }

    /// The next message, with its memory and its part of the rate. `None`: no message waits.
    async fn next(&self) -> Option<(Waiting<Waiter>, Result<(Option<PacerPermit>, Share), Refusal>)> {
        loop {
            let changed = self.changed.notified();
            if self.throttled.load(Ordering::Acquire) > 0 {
                let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
                continue;
            }
            let next = self.peek()?;
            let memory = match self.budget.try_send(next.weight.octets) {
                Some(memory) => memory,
                None => {
                    self.set_waiting_for(WaitingFor::Memory);
                    // Another message may fit meanwhile. Dropping the wait frees what it has reserved.
                    tokio::select! {
                        memory = self.budget.send(next.weight.octets) => memory?,
                        () = self.changed.notified() => continue,
                        () = tokio::time::sleep(LOOK_AGAIN) => continue,
                    }
                }
            };
            self.set_waiting_for(WaitingFor::Rate);
            let Some(pace) = &self.pace else {
                match self.pop(&next) {
                    Some(waiter) => return Some((waiter, Ok((None, memory)))),
                    None => continue,
                }
            };
            match pace.take(next.weight.recipients, next.guaranteed).await {
                PaceDecision::Go(taken) => match self.pop(&next) {
                    Some(waiter) => return Some((waiter, Ok((Some(taken), memory)))),
                    None => pace.give_back(taken).await,
                },
                PaceDecision::Closed(refusal) => {
                    if let Some(waiter) = self.pop(&next) {
                        return Some((waiter, Err(refusal)));
                    }
                }
                PaceDecision::Wait(wait) => {
                    drop(memory);
                    let _ = tokio::time::timeout(wait.min(LOOK_AGAIN), self.changed.notified()).await;
                }
            }
        }
    }

    /// The next message, of those that still wait. Without one, dispatching ends.
    fn peek(&self) -> Option<Next> {
        let now = self.clock.now();
        let mut state = self.state();
        let gone = state.queue.remove_gone(oneshot::Sender::is_closed);
        self.waiting.fetch_sub(gone, Ordering::AcqRel);
        let next = state.queue.next(now, |octets| self.budget.has_memory_to_send(octets));
        state.dispatching = next.is_some();
        next
    }

    fn pop(&self, next: &Next) -> Option<Waiting<Waiter>> {
        let waiting = self.state().queue.pop(next, self.clock.now())?;
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        Some(waiting)
    }

    /// Returns a slot that was not used.
    pub(super) async fn give_back(&self, slot: SendSlot) {
        if let (Some(pace), Some(taken)) = (&self.pace, slot.taken) {
            pace.give_back(taken).await;
        }
    }

    /// Takes another part of the rate for a message that the provider throttled, before all waiting messages. False: there is no
    /// capacity before the deadline.
    pub(super) async fn again(&self, slot: &mut SendSlot, deadline: Instant) -> bool {
        let Some(pace) = &self.pace else { return false };
        let _counted = Throttled::count(self);
        // The pacer returns what the throttled attempt took, unless attempts are throttled repeatedly.
        slot.taken = None;
        let take = async {
            let _first = self.throttled_order.lock().await;
            loop {
                match pace.take(slot.recipients, false).await {
                    PaceDecision::Go(taken) => return Some(taken),
                    PaceDecision::Wait(wait) if self.clock.now() + wait > deadline => return None,
                    PaceDecision::Wait(wait) => tokio::time::sleep(wait.min(LOOK_AGAIN)).await,
                    PaceDecision::Closed(_) => return None,
                }
            }
        };
        slot.taken = tokio::time::timeout_at(deadline.into(), take).await.ok().flatten();
        slot.taken.is_some()
    }

    fn set_waiting_for(&self, what: WaitingFor) {
        self.waiting_for.store(what as u8, Ordering::Relaxed);
    }

    /// The refusal of a message whose deadline has passed.
    fn late(&self) -> Refusal {
        let waiting_for = self.waiting_for.load(Ordering::Relaxed);
        let rate = self.pace.as_ref().and_then(|pace| pace.view().recipients_per_second);
        if waiting_for == WaitingFor::Memory as u8 {
            return no_memory(
                "no send slot before the deadline: messages that are being sent have taken the memory budget",
            );
        }
        if waiting_for == WaitingFor::Calls as u8 {
            let calls = self.calls_max();
            let detail = format!("no send slot before the deadline: {calls} calls to the provider are in flight");
            return Refusal::new(replies::DEADLINE, detail).by(RuleName::CALLS);
        }
        let rate = rate.map_or_else(|| "a pause".to_owned(), |rate| format!("{rate:.2} recipients/s"));
        paced(replies::THROTTLED, format!("no send slot before the deadline, at {rate}"))
    }
}

impl SendSlot {
    /// What was taken of the rate, for [`Pacer::record_outcome`].
    pub(super) fn taken(&self) -> Option<PacerPermit> {
        self.taken
    }
}

/// Counts a throttled message that waits for its next attempt.
struct Throttled<'a>(&'a SendQueue);

impl<'a> Throttled<'a> {
    fn count(queue: &'a SendQueue) -> Self {
        queue.throttled.fetch_add(1, Ordering::AcqRel);
        Self(queue)
    }
}

impl Drop for Throttled<'_> {
    fn drop(&mut self) {
        if self.0.throttled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// The resource that the next message waits for.
#[derive(Clone, Copy)]
enum WaitingFor {
    Calls,
    Rate,
    Memory,
}

fn paced(reply: Reply, detail: String) -> Refusal {
    Refusal::new(reply, detail).by(RuleName::PACE)
}

fn no_memory(detail: &str) -> Refusal {
    Refusal::new(replies::INSUFFICIENT_STORAGE, detail)
}

impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendQueue").field("calls_max", &self.calls_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "send_queue_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod throttle_tests;
