//! The messages of a spool in memory, and what they take of its limits.

use super::SpoolError;
use super::queued_message::{Change, QueuedMessage, Timestamp};
use crate::mail::QueueId;
use crate::mail::parameters::AppName;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a spool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolLimits {
    /// Octets of content of all messages.
    pub octets_max: u64,
    /// Messages.
    pub messages_max: u64,
    /// Octets of content of one application's messages.
    pub app_octets_max: u64,
    /// Messages of one application.
    pub app_messages_max: u64,
}

impl Default for SpoolLimits {
    /// 10 GiB and 1,000,000 messages; half of each for one application.
    fn default() -> Self {
        Self {
            octets_max: 10 * 1024 * 1024 * 1024,
            messages_max: 1_000_000,
            app_octets_max: 5 * 1024 * 1024 * 1024,
            app_messages_max: 500_000,
        }
    }
}

/// What is in a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolUsage {
    /// Messages in the queue, and space that is reserved for further ones.
    pub messages: u64,
    /// Octets of their content.
    pub octets: u64,
    /// Messages that are held.
    pub held: u64,
    /// When the oldest message was accepted, to the minute.
    pub oldest: Option<Timestamp>,
    /// The same by application, of those that have messages; in no order.
    pub apps: Vec<AppUsage>,
    /// Damaged records that were set aside, as far as they are still there.
    pub damaged: u64,
    /// Whether the last write failed.
    pub failing: bool,
}

/// What one application has in a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppUsage {
    /// The application; `None`: messages of none.
    pub app: Option<AppName>,
    /// Its messages, and space that is reserved for further ones.
    pub messages: u64,
    /// Octets of their content.
    pub octets: u64,
    /// Its messages that are held.
    pub held: u64,
}

/// The most texts of results that are kept once. Further ones are kept per message.
const TEXTS_MAX: usize = 1000;

/// The messages, each with the place where it is stored.
#[derive(Debug)]
pub(super) struct Queue<L> {
    limits: SpoolLimits,
    messages: BTreeMap<QueueId, Stored<L>>,
    used: Used,
    apps: HashMap<Option<AppName>, Used>,
    /// Messages by the minute in which they were accepted.
    minutes: BTreeMap<u64, u64>,
    /// Texts of results: after an outage a million messages have the same one.
    texts: HashSet<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Stored<L> {
    pub(super) message: QueuedMessage,
    pub(super) place: L,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    messages: u64,
    octets: u64,
    held: u64,
}

const MINUTE_MILLIS: u64 = 60_000;

impl<L: Copy + PartialEq> Queue<L> {
    pub(super) fn new(limits: SpoolLimits) -> Self {
        Self {
            limits,
            messages: BTreeMap::new(),
            used: Used::default(),
            apps: HashMap::new(),
            minutes: BTreeMap::new(),
            texts: HashSet::new(),
        }
    }

    /// Takes space, or says which limit has none.
    fn reserve(&mut self, app: Option<&AppName>, octets: u64) -> Result<(), SpoolError> {
        let SpoolLimits { octets_max, messages_max, app_octets_max, app_messages_max } = self.limits;
        let of_app = self.apps.get(&app.cloned()).copied().unwrap_or_default();
        let limits = [
            ("messages", self.used.messages, 1, messages_max),
            ("octets", self.used.octets, octets, octets_max),
            ("messages of this application", of_app.messages, 1, app_messages_max),
            ("octets of this application", of_app.octets, octets, app_octets_max),
        ];
        if let Some((what, used, _, max)) =
            limits.into_iter().find(|(_, used, more, max)| used.saturating_add(*more) > *max)
        {
            return Err(SpoolError::Full(format!("{used} of {max} {what}")));
        }
        self.count(app.cloned(), octets);
        Ok(())
    }

    fn count(&mut self, app: Option<AppName>, octets: u64) {
        for used in [&mut self.used, self.apps.entry(app).or_default()] {
            used.messages += 1;
            used.octets += octets;
        }
    }

    fn uncount(&mut self, app: &Option<AppName>, octets: u64) {
        self.used.less(octets);
        if let Some(used) = self.apps.get_mut(app) {
            used.less(octets);
            if used.messages == 0 {
                self.apps.remove(app);
            }
        }
    }

    /// Adds a message, or replaces it and returns the place it had.
    pub(super) fn insert(&mut self, message: QueuedMessage, place: L) -> Option<L> {
        self.count(message.app.clone(), message.octets);
        let mut message = message;
        if let Some((app, _)) = self.apps.get_key_value(&message.app) {
            // One allocation of the name for all its messages.
            message.app.clone_from(app);
        }
        let state = &mut message.state;
        state.last.iter_mut().chain(&mut state.held).for_each(|text| share(&mut self.texts, text));
        *self.minutes.entry(message.accepted.millis() / MINUTE_MILLIS).or_default() += 1;
        self.count_held(&message.app.clone(), 0, u64::from(message.state.held.is_some()));
        let before = self.messages.insert(message.id, Stored { message, place })?;
        self.left(&before);
        Some(before.place)
    }

    /// Applies a change. `None`: there is no such message. The place, if the message leaves the queue.
    pub(super) fn apply(&mut self, id: QueueId, change: &Change) -> Option<Option<Stored<L>>> {
        let stored = self.messages.get_mut(&id)?;
        let was_held = stored.message.state.held.is_some();
        let leaves = stored.message.apply(change);
        let (app, is_held) = (stored.message.app.clone(), stored.message.state.held.is_some());
        if !leaves {
            let state = &mut stored.message.state;
            state.last.iter_mut().chain(&mut state.held).for_each(|text| share(&mut self.texts, text));
        }
        if was_held != is_held {
            self.count_held(&app, u64::from(was_held), u64::from(is_held));
        }
        Some(if leaves { self.remove(id) } else { None })
    }

    fn count_held(&mut self, app: &Option<AppName>, before: u64, now: u64) {
        for used in std::iter::once(&mut self.used).chain(self.apps.get_mut(app)) {
            used.held = (used.held + now).saturating_sub(before);
        }
    }

    /// A message is no longer in the queue.
    fn left(&mut self, stored: &Stored<L>) {
        let message = &stored.message;
        self.count_held(&message.app, u64::from(message.state.held.is_some()), 0);
        self.uncount(&message.app, message.octets);
        let minute = message.accepted.millis() / MINUTE_MILLIS;
        if let Some(count) = self.minutes.get_mut(&minute) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.minutes.remove(&minute);
            }
        }
    }

    /// Notes that a message was copied. `false`: it is not where it was copied from.
    #[cfg(feature = "spool")]
    pub(super) fn relocate(&mut self, id: QueueId, from: L, to: L) -> bool {
        match self.messages.get_mut(&id) {
            Some(stored) if stored.place == from => {
                stored.place = to;
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, id: QueueId) -> Option<Stored<L>> {
        let stored = self.messages.remove(&id)?;
        self.left(&stored);
        Some(stored)
    }

    pub(super) fn get(&self, id: QueueId) -> Option<&Stored<L>> {
        self.messages.get(&id)
    }

    pub(super) fn page(&self, after: Option<QueueId>, count: usize) -> Vec<QueuedMessage> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.messages.range((from, Bound::Unbounded)).take(count).map(|(_, stored)| stored.message.clone()).collect()
    }

    /// What is in it.
    pub(super) fn usage(&self) -> SpoolUsage {
        let Used { messages, octets, held } = self.used;
        let oldest = self.minutes.first_key_value().map(|(minute, _)| Timestamp::from_millis(minute * MINUTE_MILLIS));
        let apps = self.apps.iter().map(|(app, used)| {
            let Used { messages, octets, held } = *used;
            AppUsage { app: app.clone(), messages, octets, held }
        });
        SpoolUsage { messages, octets, held, oldest, apps: apps.collect(), ..SpoolUsage::default() }
    }
}

impl Used {
    fn less(&mut self, octets: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.octets = self.octets.saturating_sub(octets);
    }
}

/// Makes equal texts one allocation.
fn share(texts: &mut HashSet<Arc<str>>, text: &mut Arc<str>) {
    match texts.get(text) {
        Some(known) => *text = Arc::clone(known),
        None => {
            if texts.len() >= TEXTS_MAX {
                // Those that no message has any more.
                texts.retain(|text| Arc::strong_count(text) > 1);
            }
            if texts.len() < TEXTS_MAX {
                texts.insert(Arc::clone(text));
            }
        }
    }
}

/// Space in a queue that is reserved. Dropping it releases the space.
#[derive(Debug)]
pub(super) struct Reservation<L: Copy + PartialEq> {
    queue: Arc<Mutex<Queue<L>>>,
    app: Option<AppName>,
    octets: u64,
}

impl<L: Copy + PartialEq> Reservation<L> {
    pub(super) fn take(queue: &Arc<Mutex<Queue<L>>>, app: Option<&AppName>, octets: u64) -> Result<Self, SpoolError> {
        lock(queue).reserve(app, octets)?;
        Ok(Self { queue: Arc::clone(queue), app: app.cloned(), octets })
    }
}

impl<L: Copy + PartialEq> Drop for Reservation<L> {
    fn drop(&mut self) {
        lock(&self.queue).uncount(&self.app, self.octets);
    }
}

pub(super) fn lock<L>(queue: &Mutex<Queue<L>>) -> MutexGuard<'_, Queue<L>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
