//! Which message of the queue is attempted next. No I/O, no clock.
//!
//! Applications take turns, and within an application new messages and those that were tried before take turns, so that neither one
//! application nor an old backlog delays the others. An application whose messages cannot be sent because of its configuration is
//! *closed*: one of its messages is a probe from time to time, and the others wait without attempts. The same holds for all of them
//! while the provider cannot be reached.

use crate::mail::QueueId;
use crate::mail::parameters::AppName;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// An application; `None`: messages of none.
pub(super) type App = Option<AppName>;

/// Attempts of one application at a time: enough to use its share of the rate, and few enough that what it has waiting costs the
/// others little.
const APP_ATTEMPTS_MAX: usize = 32;

/// Failures in a row, of whatever application, after which the provider counts as unreachable.
const PROVIDER_FAILURES_MAX: u32 = 5;

/// From one probe of the provider to the next.
const PROVIDER_PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// From one probe of an application to the next.
const APP_PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// How long an application waits that got no send slot: the rate is used up, and its messages would all ask in vain.
const NO_SLOT_INTERVAL: Duration = Duration::from_secs(5);

/// What the end of an attempt says about others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The provider answered, and the application may send.
    Works,
    /// An operator must change something before messages of this application can be sent.
    AppCannotSend,
    /// The provider did not answer, or failed.
    ProviderFailed,
    /// The application got no send slot: its messages wait a moment without asking again.
    NoSlot,
    /// Nothing.
    None,
}

/// Messages by the time at which they are due.
#[derive(Debug)]
pub(super) struct DueQueue {
    began: Instant,
    apps: HashMap<App, AppQueue>,
    /// The applications in the order of their turns.
    turns: VecDeque<App>,
    attempts: usize,
    attempts_max: usize,
    provider: Gate,
    failures: u32,
}

#[derive(Debug, Default)]
struct AppQueue {
    fresh: BTreeSet<(Tick, Key)>,
    deferred: BTreeSet<(Tick, Key)>,
    /// Where each of them is: a message is in one of the sets, once.
    entries: BTreeMap<Key, Entry>,
    attempts: usize,
    gate: Gate,
    /// The next one is a deferred message, if one is due.
    turn_of_deferred: bool,
}

/// Tenths of a second since the queue was made. There may be a million of them, so they are small; they last for six years.
type Tick = u32;

const TICK: Duration = Duration::from_millis(100);

/// The latest tick that an [`Entry`] can hold.
const TICK_MAX: Tick = Tick::MAX >> 1;

/// A [`QueueId`] in twelve octets instead of sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key([u32; 3]);

impl Key {
    fn of(id: QueueId) -> Self {
        let (session, number) = id.to_numbers();
        Self([(session >> 32) as u32, session as u32, number])
    }

    fn id(self) -> QueueId {
        let [high, low, number] = self.0;
        QueueId::from_numbers(u64::from(high) << 32 | u64::from(low), number)
    }
}

/// When a message is due, and whether it is a new one, in one number.
#[derive(Clone, Copy, Debug)]
struct Entry(u32);

impl Entry {
    fn new(due: Tick, is_fresh: bool) -> Self {
        Self(due << 1 | u32::from(is_fresh))
    }

    fn due(self) -> Tick {
        self.0 >> 1
    }

    fn is_fresh(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The tick of a moment, rounded down: a message may be due a tick too early.
fn tick(began: Instant, at: Instant) -> Tick {
    let ticks = at.saturating_duration_since(began).as_millis() / TICK.as_millis();
    Tick::try_from(ticks).unwrap_or(TICK_MAX).min(TICK_MAX)
}

/// Open, or closed until the next probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gate(Option<Instant>);

impl Gate {
    /// Whether an attempt may begin, with that many in progress.
    fn is_open(self, attempts: usize, now: Instant) -> bool {
        self.0.is_none_or(|probe| attempts == 0 && probe <= now)
    }

    /// An attempt begins. Where the gate is closed, it was a probe.
    fn probed(&mut self, next: Instant) {
        self.0 = self.0.map(|_| next);
    }

    /// When an attempt may begin, if nothing else changes.
    fn opens(self, due: Instant) -> Instant {
        self.0.map_or(due, |probe| probe.max(due))
    }
}

impl AppQueue {
    fn first(&self) -> Option<Tick> {
        let first = |set: &BTreeSet<(Tick, Key)>| set.first().map(|(due, _)| *due);
        first(&self.fresh).into_iter().chain(first(&self.deferred)).min()
    }

    fn add(&mut self, id: QueueId, due: Tick, is_fresh: bool) {
        let id = Key::of(id);
        let before = self.entries.get(&id).copied();
        if before.is_some_and(|before| before.due() <= due) {
            return;
        }
        let is_fresh = before.map_or(is_fresh, Entry::is_fresh);
        let set = if is_fresh { &mut self.fresh } else { &mut self.deferred };
        if let Some(before) = before {
            set.remove(&(before.due(), id));
        }
        set.insert((due, id));
        self.entries.insert(id, Entry::new(due, is_fresh));
    }

    fn may_attempt(&self, now: Instant) -> bool {
        self.attempts < APP_ATTEMPTS_MAX && self.gate.is_open(self.attempts, now)
    }

    fn pop(&mut self, now: Tick) -> Option<QueueId> {
        let is_due = |set: &BTreeSet<(Tick, Key)>| set.first().is_some_and(|(due, _)| *due <= now);
        let (fresh, deferred) = (is_due(&self.fresh), is_due(&self.deferred));
        let set = match (fresh, deferred) {
            (false, false) => return None,
            (true, true) if self.turn_of_deferred => &mut self.deferred,
            (true, _) => &mut self.fresh,
            (false, true) => &mut self.deferred,
        };
        self.turn_of_deferred = !self.turn_of_deferred;
        let (_, id) = set.pop_first()?;
        self.entries.remove(&id);
        Some(id.id())
    }

    fn is_idle(&self) -> bool {
        self.fresh.is_empty() && self.deferred.is_empty() && self.attempts == 0 && self.gate == Gate::default()
    }
}

impl DueQueue {
    /// An empty queue that allows that many attempts at a time.
    pub(super) fn new(attempts_max: usize, now: Instant) -> Self {
        Self {
            began: now,
            apps: HashMap::new(),
            turns: VecDeque::new(),
            attempts: 0,
            attempts_max: attempts_max.max(1),
            provider: Gate::default(),
            failures: 0,
        }
    }

    /// Adds a message. One that is there already is due at the earlier time.
    pub(super) fn add(&mut self, app: &App, id: QueueId, due: Instant, is_fresh: bool) {
        if !self.apps.contains_key(app) {
            self.apps.insert(app.clone(), AppQueue::default());
            self.turns.push_back(app.clone());
        }
        if let Some(queue) = self.apps.get_mut(app) {
            queue.add(id, tick(self.began, due), is_fresh);
        }
    }

    /// The next message to attempt, which counts as in progress until [`end`](Self::end).
    pub(super) fn next(&mut self, now: Instant) -> Option<(App, QueueId)> {
        if self.attempts >= self.attempts_max || !self.provider.is_open(self.attempts, now) {
            return None;
        }
        let now_tick = tick(self.began, now);
        for _ in 0..self.turns.len() {
            let app = self.turns.pop_front()?;
            let Some(queue) = self.apps.get_mut(&app) else { continue };
            if queue.is_idle() {
                self.apps.remove(&app);
                continue;
            }
            let id = if queue.may_attempt(now) { queue.pop(now_tick) } else { None };
            self.turns.push_back(app.clone());
            if let Some(id) = id {
                // A probe, whatever comes of it, is the only one for a while.
                queue.gate.probed(now + APP_PROBE_INTERVAL);
                self.provider.probed(now + PROVIDER_PROBE_INTERVAL);
                queue.attempts += 1;
                self.attempts += 1;
                return Some((app, id));
            }
        }
        None
    }

    /// When [`next`](Self::next) will have a message, if no attempt ends before. `None`: only the end of an attempt or a new message changes
    /// that.
    pub(super) fn wakes(&self) -> Option<Instant> {
        if self.attempts >= self.attempts_max || (self.provider.0.is_some() && self.attempts > 0) {
            return None;
        }
        let times = self
            .apps
            .values()
            .filter(|queue| queue.attempts < APP_ATTEMPTS_MAX && (queue.gate.0.is_none() || queue.attempts == 0));
        let at = |due: Tick| self.began.checked_add(TICK * due);
        times.filter_map(|queue| Some(self.provider.opens(queue.gate.opens(at(queue.first()?)?)))).min()
    }

    /// An attempt ended.
    pub(super) fn end(&mut self, app: &App, signal: Signal, now: Instant) {
        self.attempts = self.attempts.saturating_sub(1);
        match signal {
            Signal::Works => {
                self.provider = Gate(None);
                self.failures = 0;
            }
            Signal::ProviderFailed => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= PROVIDER_FAILURES_MAX {
                    self.provider = Gate(Some(now + PROVIDER_PROBE_INTERVAL));
                }
            }
            Signal::AppCannotSend => {
                // The provider answered.
                self.provider = Gate(None);
                self.failures = 0;
            }
            Signal::NoSlot | Signal::None => {}
        }
        if let Some(queue) = self.apps.get_mut(app) {
            queue.attempts = queue.attempts.saturating_sub(1);
            match signal {
                Signal::Works => queue.gate = Gate(None),
                Signal::AppCannotSend => queue.gate = Gate(Some(now + APP_PROBE_INTERVAL)),
                Signal::NoSlot => queue.gate = Gate(Some(now + NO_SLOT_INTERVAL)),
                Signal::ProviderFailed | Signal::None => {}
            }
        }
    }

    /// Whether messages of that application wait without attempts.
    pub(super) fn is_closed(&self, app: &App) -> bool {
        self.provider.0.is_some() || self.apps.get(app).is_some_and(|queue| queue.gate.0.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Clock, SystemClock};

    fn id(number: u32) -> QueueId {
        QueueId::from_numbers(1, number)
    }

    fn app(name: &str) -> App {
        AppName::parse(name).ok()
    }

    struct Setup {
        queue: DueQueue,
        now: Instant,
    }

    impl Setup {
        fn new(attempts_max: usize) -> Self {
            let now = SystemClock.now();
            Self { queue: DueQueue::new(attempts_max, now), now }
        }

        fn add(&mut self, name: &str, number: u32, after_seconds: u64, is_fresh: bool) {
            let due = self.now + Duration::from_secs(after_seconds);
            self.queue.add(&app(name), id(number), due, is_fresh);
        }

        fn next(&mut self) -> Option<(String, u32)> {
            let (app, id) = self.queue.next(self.now)?;
            Some((app.map(|app| app.to_string()).unwrap_or_default(), id.to_numbers().1))
        }

        fn end(&mut self, name: &str, signal: Signal) {
            self.queue.end(&app(name), signal, self.now);
        }

        fn seconds(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        fn wakes_in(&self) -> Option<u64> {
            self.queue.wakes().map(|at| at.saturating_duration_since(self.now).as_secs())
        }
    }

    #[test]
    fn applications_take_turns_however_much_one_has() {
        let mut setup = Setup::new(100);
        (0..20).for_each(|number| setup.add("bulk", number, 0, true));
        setup.add("billing", 100, 0, true);
        setup.add("", 200, 0, true);
        let first: Vec<String> = (0..4).filter_map(|_| setup.next()).map(|(app, _)| app).collect();
        assert_eq!(first, ["bulk", "billing", "", "bulk"]);
    }

    #[test]
    fn new_messages_and_deferred_ones_take_turns() {
        let mut setup = Setup::new(100);
        (0..3).for_each(|number| setup.add("a", number, 0, false));
        (10..13).for_each(|number| setup.add("a", number, 0, true));
        let order: Vec<u32> = (0..6).filter_map(|_| setup.next()).map(|(_, number)| number).collect();
        assert_eq!(order, [10, 0, 11, 1, 12, 2]);
        assert_eq!(setup.next(), None);
    }

    #[test]
    fn a_message_waits_until_it_is_due() {
        let mut setup = Setup::new(100);
        setup.add("a", 1, 30, false);
        assert_eq!((setup.next(), setup.wakes_in()), (None, Some(30)));
        setup.seconds(30);
        assert_eq!(setup.next(), Some(("a".to_owned(), 1)));
        assert_eq!(setup.wakes_in(), None);
    }

    #[test]
    fn attempts_are_bounded_in_total_and_for_one_application() {
        let mut setup = Setup::new(40);
        (0..100).for_each(|number| setup.add("a", number, 0, true));
        let begun = (0..100).filter_map(|_| setup.next()).count();
        assert_eq!((begun, setup.wakes_in()), (APP_ATTEMPTS_MAX, None));
        (100..200).for_each(|number| setup.add("b", number, 0, true));
        assert_eq!((0..100).filter_map(|_| setup.next()).count(), 40 - APP_ATTEMPTS_MAX);
        setup.end("a", Signal::Works);
        assert!(setup.next().is_some() && setup.next().is_none());
    }

    #[test]
    fn an_application_that_cannot_send_probes_and_the_others_go_on() {
        let mut setup = Setup::new(100);
        (0..10).for_each(|number| setup.add("paused", number, 0, true));
        assert!(setup.next().is_some());
        setup.end("paused", Signal::AppCannotSend);
        assert_eq!((setup.next(), setup.wakes_in()), (None, Some(20)));
        setup.add("good", 100, 0, true);
        assert_eq!(setup.next(), Some(("good".to_owned(), 100)));
        setup.end("good", Signal::Works);
        assert_eq!(setup.next(), None, "the success of another application says nothing");
        setup.seconds(20);
        assert!(setup.next().is_some() && setup.next().is_none(), "one probe");
        setup.end("paused", Signal::Works);
        assert_eq!((0..10).filter_map(|_| setup.next()).count(), 8, "the rest leaves at once");
    }

    #[test]
    fn a_provider_that_fails_is_probed_by_one_message_every_ten_seconds() {
        let mut setup = Setup::new(100);
        (0..20).for_each(|number| setup.add("a", number, 0, true));
        (20..40).for_each(|number| setup.add("b", number, 0, true));
        let begun: Vec<String> = (0..10).filter_map(|_| setup.next()).map(|(app, _)| app).collect();
        for app in &begun[..5] {
            setup.end(app, Signal::ProviderFailed);
        }
        assert!(setup.queue.is_closed(&None) && setup.next().is_none());
        for app in &begun[5..] {
            setup.end(app, Signal::ProviderFailed);
        }
        assert_eq!((setup.next(), setup.wakes_in()), (None, Some(10)));
        let mut probes = Vec::new();
        for _ in 0..4 {
            setup.seconds(10);
            let (app, _) = setup.next().unwrap();
            assert_eq!(setup.next(), None, "one probe at a time");
            setup.end(&app, Signal::ProviderFailed);
            probes.push(app);
        }
        assert_eq!(probes, ["a", "b", "a", "b"], "not always the same application");
        setup.seconds(10);
        let (app, _) = setup.next().unwrap();
        setup.end(&app, Signal::Works);
        assert!(!setup.queue.is_closed(&None));
        assert_eq!((0..100).filter_map(|_| setup.next()).count(), 25, "what waited leaves");
    }

    #[test]
    fn a_message_that_is_added_again_is_due_once_at_the_earlier_time() {
        let mut setup = Setup::new(100);
        setup.add("a", 1, 30, false);
        setup.add("a", 1, 0, true);
        setup.add("a", 1, 60, false);
        assert_eq!(setup.next(), Some(("a".to_owned(), 1)));
        setup.end("a", Signal::Works);
        setup.seconds(100);
        assert_eq!(setup.next(), None);
    }

    #[test]
    fn without_a_send_slot_an_application_asks_once_in_a_while() {
        let mut setup = Setup::new(100);
        (0..10).for_each(|number| setup.add("a", number, 0, true));
        assert!(setup.next().is_some());
        setup.end("a", Signal::NoSlot);
        assert_eq!((setup.next(), setup.wakes_in()), (None, Some(5)));
        setup.seconds(5);
        assert!(setup.next().is_some() && setup.next().is_none());
        setup.end("a", Signal::Works);
        assert_eq!((0..10).filter_map(|_| setup.next()).count(), 8);
    }

    #[test]
    fn an_application_without_messages_is_forgotten() {
        let mut setup = Setup::new(100);
        setup.add("a", 1, 0, true);
        setup.next();
        setup.end("a", Signal::Works);
        assert_eq!(setup.next(), None);
        assert!(setup.queue.apps.is_empty() && setup.queue.turns.is_empty());
    }
}
