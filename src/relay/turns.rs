//! Whose turn is it to send? One turn is room in the account's rate, one of the calls in flight, and memory.
//!
//! Applications share by weight: start-time fair queueing over recipients, which is what the provider counts. An
//! application that stays below its guaranteed rate goes first, out of a reserve that the others may not touch, so one
//! that floods costs it next to nothing. Nobody waits longer than the deadline allows; who certainly would is told at
//! once. All three are taken for the message at the head only, so that what waits holds neither calls nor memory. Where the
//! memory for the head is not there, a message that fits goes first; what overtakes a message holds together no more octets
//! than that message, so a large one is not overtaken for ever.
//! Goyal, Vin, Cheng: "Start-time Fair Queuing", 1996.

use super::budget::{Budget, Share};
use crate::limit::{Pace, PaceDecision, Taken};
use crate::mail::parameters::AppName;
use crate::mail::{Clock, Reply, RuleName, replies};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// An application's part of the account's rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppShare {
    /// Its part of what is left over, relative to the others'; more than nothing.
    pub weight: f64,
    /// Recipients a second that it gets first.
    pub recipients_per_second_min: f64,
}

impl Default for AppShare {
    fn default() -> Self {
        Self { weight: 1.0, recipients_per_second_min: 0.0 }
    }
}

/// How turns are given.
#[derive(Clone, Debug)]
pub struct TurnSettings {
    /// Calls to the provider at a time.
    pub calls_max: usize,
    /// Shares by application; the others have the default.
    pub shares: HashMap<AppName, AppShare>,
}

impl Default for TurnSettings {
    fn default() -> Self {
        Self { calls_max: 200, shares: HashMap::new() }
    }
}

/// The queue for turns.
pub(super) struct Turns {
    settings: TurnSettings,
    pace: Option<Arc<Pace>>,
    clock: Arc<dyn Clock>,
    budget: Arc<Budget>,
    calls: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Messages that the provider throttled. They go before those that wait, in the order in which they were throttled.
    throttled: AtomicUsize,
    throttled_order: tokio::sync::Mutex<()>,
    /// What the head of the queue waits for, for whoever comes too late.
    short_of: AtomicU8,
    queues: Mutex<Queues>,
    /// Somebody came, who may go before the one that is waited for.
    came: Notify,
}

/// A turn to send, to be used for one call.
#[derive(Debug)]
pub(super) struct Turn {
    taken: Option<Taken>,
    recipients: u32,
    _call: OwnedSemaphorePermit,
    _memory: Share,
}

/// Why there is no turn.
#[derive(Debug)]
pub(super) struct NoTurn {
    pub(super) reply: Reply,
    pub(super) limit: Option<RuleName>,
    pub(super) detail: String,
}

/// What a message needs a turn for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) recipients: u32,
    /// Of memory, while it is sent.
    pub(super) octets: u64,
}

type App = Option<AppName>;

#[derive(Default)]
struct Queues {
    by_app: HashMap<App, Queue>,
    /// The start tag of what went last.
    now: f64,
    /// Whether somebody is giving turns.
    giving: bool,
}

struct Queue {
    share: AppShare,
    waiting: VecDeque<Waiter>,
    /// Recipients that wait.
    recipients: u64,
    /// The finish tag of what was given last.
    finish: f64,
    /// When the guaranteed rate has room again for what was taken: its own GCRA.
    guaranteed: Option<Instant>,
}

struct Waiter {
    weight: Weight,
    /// Octets of the messages that went before it although it came first.
    overtaken_octets: u64,
    came: Instant,
    turn: oneshot::Sender<Result<Turn, NoTurn>>,
}

/// A guaranteed rate holds this much after a pause.
const GUARANTEE_BURST: Duration = Duration::from_secs(1);
/// Without news, the head of the queue is looked at this often: a rate may have changed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Messages of an application that are looked at for one that fits.
const LOOK_BEHIND_MAX: usize = 64;
/// Applications whose tags are remembered; a policy that names more begins anew.
const APPS_MAX: usize = 10_000;

impl Turns {
    pub(super) fn new(
        settings: TurnSettings,
        pace: Option<Arc<Pace>>,
        clock: Arc<dyn Clock>,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            pace,
            clock,
            budget,
            calls: Arc::new(Semaphore::new(settings.calls_max.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            throttled: AtomicUsize::new(0),
            throttled_order: tokio::sync::Mutex::default(),
            short_of: AtomicU8::new(ShortOf::Calls as u8),
            queues: Mutex::default(),
            came: Notify::new(),
            settings,
        }
    }

    /// Messages that wait, and calls in flight.
    pub(super) fn in_use(&self) -> (usize, usize) {
        let calls = self.settings.calls_max.saturating_sub(self.calls.available_permits());
        (self.waiting.load(Ordering::Relaxed), calls)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn for a message of that application, before the deadline.
    pub(super) async fn turn(self: &Arc<Self>, app: &App, weight: Weight, deadline: Instant) -> Result<Turn, NoTurn> {
        if self.waiting.load(Ordering::Acquire) == 0
            && self.throttled.load(Ordering::Acquire) == 0
            && let Some(turn) = self.at_once(app, weight).await?
        {
            return Ok(turn);
        }
        let (turn, mine) = oneshot::channel();
        let give = self.enqueue(app, Waiter { weight, overtaken_octets: 0, came: self.clock.now(), turn }, deadline)?;
        self.came.notify_one();
        if give {
            let turns = Arc::clone(self);
            tokio::spawn(async move { turns.give().await });
        }
        match tokio::time::timeout_at(deadline.into(), mine).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) => Err(NoTurn::late("the queue for turns has gone")),
            Err(_) => {
                self.came.notify_one();
                Err(self.late())
            }
        }
    }

    /// Nobody waits: is everything there?
    async fn at_once(&self, app: &App, weight: Weight) -> Result<Option<Turn>, NoTurn> {
        let Ok(call) = Arc::clone(&self.calls).try_acquire_owned() else { return Ok(None) };
        let Some(memory) = self.budget.try_send(weight.octets) else { return Ok(None) };
        let taken = match &self.pace {
            None => None,
            Some(pace) => match pace.take(weight.recipients, false).await {
                PaceDecision::Go(taken) => Some(taken),
                PaceDecision::Wait(_) => return Ok(None),
                PaceDecision::Closed { reply, detail } => return Err(NoTurn::paced(reply, detail)),
            },
        };
        if self.pace.is_some() {
            self.queues().queue(app, &self.settings).charge(weight.recipients, self.clock.now());
        }
        Ok(Some(Turn { taken, recipients: weight.recipients, _call: call, _memory: memory }))
    }

    /// Puts a message into its application's queue. True: somebody has to begin giving turns.
    fn enqueue(&self, app: &App, waiter: Waiter, deadline: Instant) -> Result<bool, NoTurn> {
        let rate = self.pace.as_ref().and_then(|pace| pace.view().recipients_per_second);
        let mut queues = self.queues();
        let now = queues.now;
        let queue = queues.queue(app, &self.settings);
        // With the whole rate for itself alone it would come too late.
        let ahead = queue.recipients as f64;
        let left = deadline.saturating_duration_since(waiter.came).as_secs_f64();
        if let Some(rate) = rate.filter(|rate| ahead / rate > left) {
            let detail = format!("{ahead} recipients of this application wait already, at {rate:.2} a second");
            return Err(NoTurn::paced(replies::THROTTLED, detail));
        }
        queue.recipients += u64::from(waiter.weight.recipients);
        queue.finish = queue.finish.max(now);
        queue.waiting.push_back(waiter);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Ok(!std::mem::replace(&mut queues.giving, true))
    }

    /// Gives turns until nobody waits.
    async fn give(&self) {
        loop {
            self.is_short_of(ShortOf::Calls);
            let Ok(call) = Arc::clone(&self.calls).acquire_owned().await else { return };
            let Some((waiter, taken)) = self.next().await else { return };
            let recipients = waiter.weight.recipients;
            let turn = taken.map(|(taken, memory)| Turn { taken, recipients, _call: call, _memory: memory });
            // Who has gone meanwhile gives back what it got.
            if let Err(Ok(turn)) = waiter.turn.send(turn) {
                self.give_back(turn).await;
            }
        }
    }

    /// The next message, with its memory and its room in the rate. `None`: nobody waits any more.
    async fn next(&self) -> Option<(Waiter, Result<(Option<Taken>, Share), NoTurn>)> {
        loop {
            let came = self.came.notified();
            if self.throttled.load(Ordering::Acquire) > 0 {
                let _ = tokio::time::timeout(LOOK_AGAIN, came).await;
                continue;
            }
            let head = self.head()?;
            let memory = match self.budget.try_send(head.weight.octets) {
                Some(memory) => memory,
                None => {
                    self.is_short_of(ShortOf::Memory);
                    // What comes meanwhile, or waits, may fit by then; what was put aside for the head is free again.
                    tokio::select! {
                        memory = self.budget.send(head.weight.octets) => memory?,
                        () = self.came.notified() => continue,
                        () = tokio::time::sleep(LOOK_AGAIN) => continue,
                    }
                }
            };
            self.is_short_of(ShortOf::Rate);
            let Some(pace) = &self.pace else {
                match self.pop(&head) {
                    Some(waiter) => return Some((waiter, Ok((None, memory)))),
                    None => continue,
                }
            };
            match pace.take(head.weight.recipients, head.guaranteed).await {
                PaceDecision::Go(taken) => match self.pop(&head) {
                    Some(waiter) => return Some((waiter, Ok((Some(taken), memory)))),
                    None => pace.give_back(taken).await,
                },
                PaceDecision::Closed { reply, detail } => {
                    if let Some(waiter) = self.pop(&head) {
                        return Some((waiter, Err(NoTurn::paced(reply, detail))));
                    }
                }
                PaceDecision::Wait(wait) => {
                    drop(memory);
                    let _ = tokio::time::timeout(wait.min(LOOK_AGAIN), self.came.notified()).await;
                }
            }
        }
    }

    /// Who goes next: a guaranteed one, the longest waiting first; otherwise the least start tag. Those who have gone are
    /// left out. Without anybody, giving is over.
    fn head(&self) -> Option<Head> {
        let now = self.clock.now();
        let mut queues = self.queues();
        let mut gone = 0;
        for queue in queues.by_app.values_mut() {
            gone += queue.forget_gone();
        }
        self.waiting.fetch_sub(gone, Ordering::AcqRel);
        let head = queues.first(now, |_| Some(0));
        let head = head.map(|head| match self.budget.has_memory_to_send(head.weight.octets) {
            true => head,
            false => queues.overtaking(&head, now, |octets| self.budget.has_memory_to_send(octets)).unwrap_or(head),
        });
        if head.is_none() {
            queues.giving = false;
        }
        head
    }

    /// Takes it out of its application's queue.
    fn pop(&self, head: &Head) -> Option<Waiter> {
        let now = self.clock.now();
        let mut queues = self.queues();
        queues.count_overtaken(head);
        let virtual_now = queues.now;
        let queue = queues.by_app.get_mut(&head.app)?;
        let waiter = queue.waiting.remove(head.place)?;
        queue.recipients = queue.recipients.saturating_sub(waiter.weight.recipients.into());
        queue.charge(waiter.weight.recipients, now);
        let start = queue.finish.max(virtual_now);
        queue.finish = start + f64::from(waiter.weight.recipients) / queue.share.weight;
        // Who goes first by guarantee goes out of the order of tags.
        if !head.guaranteed {
            queues.now = start;
        }
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        Some(waiter)
    }

    /// Gives back a turn that was not used.
    pub(super) async fn give_back(&self, turn: Turn) {
        if let (Some(pace), Some(taken)) = (&self.pace, turn.taken) {
            pace.give_back(taken).await;
        }
    }

    /// Room in the rate again for a message that the provider throttled, which takes its place before all that wait. False: not
    /// before the deadline.
    pub(super) async fn again(&self, turn: &mut Turn, deadline: Instant) -> bool {
        let Some(pace) = &self.pace else { return false };
        let _counted = Throttled::count(self);
        // The pace gives back what the throttled attempt took, where that does not make it worse.
        turn.taken = None;
        let take = async {
            let _first = self.throttled_order.lock().await;
            loop {
                match pace.take(turn.recipients, false).await {
                    PaceDecision::Go(taken) => return Some(taken),
                    PaceDecision::Wait(wait) if self.clock.now() + wait > deadline => return None,
                    PaceDecision::Wait(wait) => tokio::time::sleep(wait.min(LOOK_AGAIN)).await,
                    PaceDecision::Closed { .. } => return None,
                }
            }
        };
        turn.taken = tokio::time::timeout_at(deadline.into(), take).await.ok().flatten();
        turn.taken.is_some()
    }

    fn is_short_of(&self, what: ShortOf) {
        self.short_of.store(what as u8, Ordering::Relaxed);
    }

    /// The deadline came first.
    fn late(&self) -> NoTurn {
        let short_of = self.short_of.load(Ordering::Relaxed);
        let rate = self.pace.as_ref().and_then(|pace| pace.view().recipients_per_second);
        if short_of == ShortOf::Memory as u8 {
            return NoTurn::late("no turn before the deadline: what is being sent has taken the memory budget");
        }
        if short_of == ShortOf::Calls as u8 {
            let calls = self.settings.calls_max;
            let detail = format!("no turn before the deadline: {calls} calls to the provider are in flight");
            return NoTurn { reply: replies::DEADLINE, limit: RuleName::parse("calls").ok(), detail };
        }
        let rate = rate.map_or_else(|| "a pause".to_owned(), |rate| format!("{rate:.2} recipients/s"));
        NoTurn::paced(replies::THROTTLED, format!("no turn before the deadline, at {rate}"))
    }
}

impl Turn {
    /// What was taken of the rate, for [`Pace::heard`].
    pub(super) fn taken(&self) -> Option<Taken> {
        self.taken
    }
}

/// A message that was throttled and waits, in the count of them.
struct Throttled<'a>(&'a Turns);

impl<'a> Throttled<'a> {
    fn count(turns: &'a Turns) -> Self {
        turns.throttled.fetch_add(1, Ordering::AcqRel);
        Self(turns)
    }
}

impl Drop for Throttled<'_> {
    fn drop(&mut self) {
        if self.0.throttled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.came.notify_one();
        }
    }
}

/// What there is too little of.
#[derive(Clone, Copy)]
enum ShortOf {
    Calls,
    Rate,
    Memory,
}

struct Head {
    app: App,
    /// In the application's queue: 0, or behind those that it overtakes.
    place: usize,
    weight: Weight,
    guaranteed: bool,
    /// The application whose turn it would be, if that is another.
    overtakes: Option<App>,
}

impl NoTurn {
    fn paced(reply: Reply, detail: String) -> Self {
        Self { reply, limit: RuleName::parse("pace").ok(), detail }
    }

    fn late(detail: &str) -> Self {
        Self { reply: replies::INSUFFICIENT_STORAGE, limit: None, detail: detail.to_owned() }
    }
}

impl Queues {
    /// The application whose turn it is, of those that `place` gives a message of.
    fn first(&self, now: Instant, place: impl Fn(&Queue) -> Option<usize>) -> Option<Head> {
        let waiting = || {
            self.by_app.iter().filter_map(|(app, queue)| {
                let place = place(queue)?;
                Some((app, queue, place, queue.waiting.get(place)?))
            })
        };
        let guaranteed = waiting()
            .filter(|(_, queue, _, waiter)| queue.has_guaranteed(waiter.weight.recipients, now))
            .min_by_key(|(.., waiter)| waiter.came);
        let fair = || waiting().min_by(|one, other| one.1.finish.total_cmp(&other.1.finish));
        let is_guaranteed = guaranteed.is_some();
        let (app, _, place, waiter) = guaranteed.or_else(fair)?;
        Some(Head { app: app.clone(), place, weight: waiter.weight, guaranteed: is_guaranteed, overtakes: None })
    }

    /// A message that fits, to go before the head, which does not, if those that it overtakes permit it.
    fn overtaking(&self, head: &Head, now: Instant, fits: impl Fn(u64) -> bool) -> Option<Head> {
        let blocked = self.by_app.get(&head.app)?.waiting.get(head.place)?;
        let place = |queue: &Queue| queue.first_that_fits(&fits);
        let mut found = self.first(now, place)?;
        if found.app != head.app {
            if !blocked.lets_pass(found.weight.octets) {
                return None;
            }
            found.overtakes = Some(head.app.clone());
        }
        Some(found)
    }

    fn count_overtaken(&mut self, head: &Head) {
        if let Some(queue) = head.overtakes.as_ref().and_then(|app| self.by_app.get_mut(app))
            && let Some(waiter) = queue.waiting.front_mut()
        {
            waiter.overtaken_octets = waiter.overtaken_octets.saturating_add(head.weight.octets);
        }
        if let Some(queue) = self.by_app.get_mut(&head.app) {
            for waiter in queue.waiting.iter_mut().take(head.place) {
                waiter.overtaken_octets = waiter.overtaken_octets.saturating_add(head.weight.octets);
            }
        }
    }

    fn queue(&mut self, app: &App, settings: &TurnSettings) -> &mut Queue {
        if self.by_app.len() >= APPS_MAX && !self.by_app.contains_key(app) {
            self.by_app.retain(|_, queue| !queue.waiting.is_empty());
        }
        self.by_app.entry(app.clone()).or_insert_with(|| {
            let share = app.as_ref().and_then(|app| settings.shares.get(app)).copied().unwrap_or_default();
            Queue { share, waiting: VecDeque::new(), recipients: 0, finish: 0.0, guaranteed: None }
        })
    }
}

impl Waiter {
    /// Whether a message of that many octets may go before it.
    fn lets_pass(&self, octets: u64) -> bool {
        self.overtaken_octets.saturating_add(octets) <= self.weight.octets
    }
}

impl Queue {
    /// The place of the first message that fits, if all before it let it pass.
    fn first_that_fits(&self, fits: impl Fn(u64) -> bool) -> Option<usize> {
        let ahead = self.waiting.iter().take(LOOK_BEHIND_MAX);
        let place = ahead.clone().position(|waiter| fits(waiter.weight.octets))?;
        let octets = self.waiting.get(place)?.weight.octets;
        ahead.take(place).all(|waiter| waiter.lets_pass(octets)).then_some(place)
    }

    /// Leaves out those at the front whose deadline has come.
    fn forget_gone(&mut self) -> usize {
        let mut gone = 0;
        while let Some(waiter) = self.waiting.pop_front_if(|waiter| waiter.turn.is_closed()) {
            self.recipients = self.recipients.saturating_sub(waiter.weight.recipients.into());
            gone += 1;
        }
        gone
    }

    fn has_guaranteed(&self, recipients: u32, now: Instant) -> bool {
        let rate = self.share.recipients_per_second_min;
        let Some(paid) = self.guaranteed.filter(|paid| *paid > now) else { return rate > 0.0 };
        // Whoever has a whole second's worth may send a message for more recipients than that.
        let cost = Duration::from_secs_f64((f64::from(recipients) / rate).min(GUARANTEE_BURST.as_secs_f64()));
        rate > 0.0 && paid.duration_since(now) + cost <= GUARANTEE_BURST
    }

    fn charge(&mut self, recipients: u32, now: Instant) {
        let rate = self.share.recipients_per_second_min;
        if rate > 0.0 {
            let cost = Duration::from_secs_f64((f64::from(recipients) / rate).min(3_600.0));
            self.guaranteed = Some(self.guaranteed.map_or(now, |paid| paid.max(now)) + cost);
        }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod throttle_tests;
