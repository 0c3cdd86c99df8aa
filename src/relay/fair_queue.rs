//! The order in which waiting messages are sent. Pure: no task, no clock, no provider.
//!
//! Applications share by weight: start-time fair queueing over recipients, which is what the provider counts. An application
//! below its guaranteed rate goes first. Where the memory for the message at the head is not free, a message that fits may
//! overtake it; together, such messages hold no more octets than the one they overtake, so a large one is not overtaken for ever.
//! Goyal, Vin, Cheng: "Start-time Fair Queuing", 1996.

use crate::limit::Debt;
use crate::mail::parameters::AppName;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// An application's part of the account's rate.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AppShare {
    /// Its part of the rate beyond the guaranteed rates, relative to the weights of the others; more than zero.
    pub weight: f64,
    /// Its guaranteed rate, in recipients per second; 0: none.
    pub recipients_per_second_min: f64,
}

impl Default for AppShare {
    fn default() -> Self {
        Self { weight: 1.0, recipients_per_second_min: 0.0 }
    }
}

/// What sending a message needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) recipients: u32,
    /// Memory while it is sent.
    pub(super) octets: u64,
}

/// The application of a message, if it has one.
pub(super) type App = Option<AppName>;

/// Messages that wait, by application.
pub(super) struct FairQueue<T> {
    shares: HashMap<AppName, AppShare>,
    by_app: HashMap<App, AppQueue<T>>,
    /// The start tag of the last message that was sent.
    virtual_time: f64,
}

/// A message that waits.
pub(super) struct Waiting<T> {
    pub(super) weight: Weight,
    pub(super) payload: T,
    /// Octets of later messages that were sent before it.
    overtaken_octets: u64,
    since: Instant,
}

/// The next message to send.
pub(super) struct Next {
    app: App,
    /// The position in the application's queue: 0, or after those that it overtakes.
    index: usize,
    pub(super) weight: Weight,
    /// It is first because its application is below its guaranteed rate.
    pub(super) guaranteed: bool,
    /// The application that would be next, if that is another one.
    overtakes: Option<App>,
}

struct AppQueue<T> {
    share: AppShare,
    waiting: VecDeque<Waiting<T>>,
    /// Recipients that wait.
    recipients: u64,
    /// The finish tag of the last message that was sent.
    finish: f64,
    /// What was taken of the guaranteed rate.
    guarantee: Debt,
}

/// How much of a guaranteed rate accumulates while an application does not send.
const GUARANTEE_BURST: Duration = Duration::from_secs(1);
/// Messages of an application that are searched for one that fits.
const LOOK_BEHIND_MAX: usize = 64;
/// Applications whose tags are stored. At this number, those without a waiting message are removed.
const APPS_MAX: usize = 10_000;

impl<T> FairQueue<T> {
    pub(super) fn new(shares: HashMap<AppName, AppShare>) -> Self {
        Self { shares, by_app: HashMap::new(), virtual_time: 0.0 }
    }

    /// Changes the shares, also of applications whose messages wait.
    pub(super) fn set_shares(&mut self, shares: HashMap<AppName, AppShare>) {
        for (app, queue) in &mut self.by_app {
            queue.share = app.as_ref().and_then(|app| shares.get(app)).copied().unwrap_or_default();
        }
        self.shares = shares;
    }

    /// Recipients of that application that wait.
    pub(super) fn recipients_waiting(&self, app: &App) -> u64 {
        self.by_app.get(app).map_or(0, |queue| queue.recipients)
    }

    pub(super) fn push(&mut self, app: &App, weight: Weight, since: Instant, payload: T) {
        let virtual_time = self.virtual_time;
        let queue = self.queue(app);
        queue.recipients += u64::from(weight.recipients);
        queue.finish = queue.finish.max(virtual_time);
        queue.waiting.push_back(Waiting { weight, payload, overtaken_octets: 0, since });
    }

    /// Counts a message that was sent without waiting.
    pub(super) fn charge(&mut self, app: &App, recipients: u32, now: Instant) {
        self.queue(app).charge(recipients, now);
    }

    /// Removes messages at the front of a queue that have stopped waiting. Returns how many.
    pub(super) fn remove_gone(&mut self, gone: impl Fn(&T) -> bool) -> usize {
        self.by_app.values_mut().map(|queue| queue.remove_gone(&gone)).sum()
    }

    /// The next message: the longest waiting one of the applications below their guaranteed rate, otherwise the one with the least
    /// start tag. If it does not fit, a message that fits and may overtake it.
    pub(super) fn next(&self, now: Instant, fits: impl Fn(u64) -> bool) -> Option<Next> {
        let head = self.first(now, |_| Some(0))?;
        match fits(head.weight.octets) {
            true => Some(head),
            false => Some(self.overtaking(&head, now, fits).unwrap_or(head)),
        }
    }

    /// Takes a message out of its queue.
    pub(super) fn pop(&mut self, next: &Next, now: Instant) -> Option<Waiting<T>> {
        self.count_overtaken(next);
        let virtual_time = self.virtual_time;
        let queue = self.by_app.get_mut(&next.app)?;
        let waiting = queue.waiting.remove(next.index)?;
        queue.recipients = queue.recipients.saturating_sub(waiting.weight.recipients.into());
        queue.charge(waiting.weight.recipients, now);
        let start = queue.finish.max(virtual_time);
        queue.finish = start + f64::from(waiting.weight.recipients) / queue.share.weight;
        // A guaranteed message does not follow the order of the tags.
        if !next.guaranteed {
            self.virtual_time = start;
        }
        Some(waiting)
    }

    /// The first of the messages that `index` selects, at most one per application.
    fn first(&self, now: Instant, index: impl Fn(&AppQueue<T>) -> Option<usize>) -> Option<Next> {
        let candidates = || {
            self.by_app.iter().filter_map(|(app, queue)| {
                let index = index(queue)?;
                Some((app, queue, index, queue.waiting.get(index)?))
            })
        };
        let guaranteed = candidates()
            .filter(|(_, queue, _, waiting)| queue.is_below_guarantee(waiting.weight.recipients, now))
            .min_by_key(|(.., waiting)| waiting.since);
        let fair = || candidates().min_by(|one, other| one.1.finish.total_cmp(&other.1.finish));
        let is_guaranteed = guaranteed.is_some();
        let (app, _, index, waiting) = guaranteed.or_else(fair)?;
        Some(Next { app: app.clone(), index, weight: waiting.weight, guaranteed: is_guaranteed, overtakes: None })
    }

    /// A message that fits and may go before the head, which does not fit.
    fn overtaking(&self, head: &Next, now: Instant, fits: impl Fn(u64) -> bool) -> Option<Next> {
        let blocked = self.by_app.get(&head.app)?.waiting.get(head.index)?;
        let mut found = self.first(now, |queue| queue.first_that_fits(&fits))?;
        if found.app != head.app {
            if !blocked.lets_pass(found.weight.octets) {
                return None;
            }
            found.overtakes = Some(head.app.clone());
        }
        Some(found)
    }

    fn count_overtaken(&mut self, next: &Next) {
        if let Some(queue) = next.overtakes.as_ref().and_then(|app| self.by_app.get_mut(app))
            && let Some(waiting) = queue.waiting.front_mut()
        {
            waiting.overtaken_octets = waiting.overtaken_octets.saturating_add(next.weight.octets);
        }
        if let Some(queue) = self.by_app.get_mut(&next.app) {
            for waiting in queue.waiting.iter_mut().take(next.index) {
                waiting.overtaken_octets = waiting.overtaken_octets.saturating_add(next.weight.octets);
            }
        }
    }

    fn queue(&mut self, app: &App) -> &mut AppQueue<T> {
        if self.by_app.len() >= APPS_MAX && !self.by_app.contains_key(app) {
            self.by_app.retain(|_, queue| !queue.waiting.is_empty());
        }
        self.by_app.entry(app.clone()).or_insert_with(|| AppQueue {
            share: app.as_ref().and_then(|app| self.shares.get(app)).copied().unwrap_or_default(),
            waiting: VecDeque::new(),
            recipients: 0,
            finish: 0.0,
            guarantee: Debt::default(),
        })
    }
}

impl<T> Waiting<T> {
    /// Whether a message of that many octets may go before it.
    fn lets_pass(&self, octets: u64) -> bool {
        self.overtaken_octets.saturating_add(octets) <= self.weight.octets
    }
}

impl<T> AppQueue<T> {
    /// The index of the first message that fits, if all before it let it pass.
    fn first_that_fits(&self, fits: impl Fn(u64) -> bool) -> Option<usize> {
        let near = self.waiting.iter().take(LOOK_BEHIND_MAX);
        let index = near.clone().position(|waiting| fits(waiting.weight.octets))?;
        let octets = self.waiting.get(index)?.weight.octets;
        near.take(index).all(|waiting| waiting.lets_pass(octets)).then_some(index)
    }

    fn remove_gone(&mut self, gone: impl Fn(&T) -> bool) -> usize {
        let mut removed = 0;
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| gone(&waiting.payload)) {
            self.recipients = self.recipients.saturating_sub(waiting.weight.recipients.into());
            removed += 1;
        }
        removed
    }

    fn is_below_guarantee(&self, recipients: u32, now: Instant) -> bool {
        let rate = self.share.recipients_per_second_min;
        if rate <= 0.0 {
            return false;
        }
        // A message with more recipients than one second of the rate needs one second of it only.
        let cost = Duration::from_secs_f64((f64::from(recipients) / rate).min(GUARANTEE_BURST.as_secs_f64()));
        self.guarantee.wait(GUARANTEE_BURST.saturating_sub(cost), now).is_zero()
    }

    fn charge(&mut self, recipients: u32, now: Instant) {
        let rate = self.share.recipients_per_second_min;
        if rate > 0.0 {
            self.guarantee.take(Duration::from_secs_f64((f64::from(recipients) / rate).min(COST_SECONDS_MAX)), now);
        }
    }
}

/// The maximum cost of one message. If a message would cost more, the guaranteed rate is too low to be used.
const COST_SECONDS_MAX: f64 = 3_600.0;
