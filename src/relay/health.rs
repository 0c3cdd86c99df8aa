//! Known faults of what sending needs: credentials, connection, account, configuration sets, and those that messages of an
//! application met.
//!
//! A fault stays until the same thing works: for the same role and configuration set and, if a message met it, for the
//! same application. A fault that a message met is dropped [`EXPIRY`] after the last message that met it. The observer
//! receives one event when a fault begins or changes, and one when it
//! ends. [`FAULTS_MAX`] are kept.

use crate::mail::parameters::{AppName, ConfigurationSetName, RoleArn};
use crate::mail::{Certainty, Clock, Fault, Outcome, OutcomeKind, SendParameters};
use crate::observe::{Event, Observer};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a fault that messages met is kept after the last of them.
pub(super) const EXPIRY: Duration = Duration::from_secs(15 * 60);
/// Faults that are kept separately.
const FAULTS_MAX: usize = 100;
/// Applications that are named with a fault that concerns several.
pub(super) const APPS_MAX: usize = 10;
/// The shortest interval between two reports of a fault whose reason changes.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A fault that is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFault {
    /// The applications that cannot send, as far as they are known. Empty: all of them.
    pub apps: Vec<AppName>,
    /// One sentence: what is wrong, and what to do.
    pub text: String,
}

/// What a fault is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Credentials, connection and account, as that role; `None`: as the transport itself.
    Account(Option<RoleArn>),
    /// A configuration set, seen as that role.
    Set(Option<RoleArn>, ConfigurationSetName),
    /// The messages of an application.
    Messages(Way),
}

/// What a message shares with others that succeed or fail: role, configuration set, domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) app: Option<AppName>,
    pub(super) role: Option<RoleArn>,
    pub(super) set: Option<ConfigurationSetName>,
    /// The domain of the author, in faults that depend on it.
    pub(super) domain: Option<String>,
}

#[derive(Debug)]
struct Known {
    subject: Subject,
    text: Cow<'static, str>,
    apps: Vec<AppName>,
    /// When it was met last.
    last: Instant,
    /// When it was reported to the observer.
    reported: Instant,
}

/// The known faults.
pub(super) struct Health {
    known: Mutex<Vec<Known>>,
    /// The number of faults. Most messages are sent while there are none, and then need no lock.
    count: AtomicUsize,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
}

impl Health {
    pub(super) fn new(observer: Arc<dyn Observer>, clock: Arc<dyn Clock>) -> Self {
        Self { known: Mutex::default(), count: AtomicUsize::new(0), observer, clock }
    }

    /// Records a fault.
    pub(super) fn fails(&self, subject: Subject, text: Cow<'static, str>, apps: &[AppName]) {
        let now = self.clock.now();
        let reported = {
            let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let has_room = all.len() < FAULTS_MAX;
            match all.iter_mut().find(|known| known.subject == subject) {
                Some(known) => {
                    known.last = now;
                    let changed = known.text != text;
                    let report = changed && now.saturating_duration_since(known.reported) >= REPORT_INTERVAL;
                    known.text.clone_from(&text);
                    if report {
                        known.reported = now;
                    }
                    report
                }
                None if !has_room => false,
                None => {
                    let apps = apps.iter().take(APPS_MAX).cloned().collect();
                    all.push(Known { subject, text: text.clone(), apps, last: now, reported: now });
                    self.count.store(all.len(), Ordering::Relaxed);
                    true
                }
            }
        };
        if reported {
            self.observer.observe(&Event::Degraded { apps: &apps[..apps.len().min(APPS_MAX)], fault: &text });
        }
    }

    /// Ends the faults of what is no longer configured: another configuration says what each application sends with.
    pub(super) fn reconfigured(&self, sends: &HashMap<AppName, SendParameters>) {
        self.works(|subject| match subject {
            Subject::Account(role) => role.is_some() && sends.values().all(|send| send.role != *role),
            Subject::Set(role, set) => {
                sends.values().all(|send| send.role != *role || send.configuration_set.as_ref() != Some(set))
            }
            Subject::Messages(way) => way.app.as_ref().is_some_and(|app| {
                let send = sends.get(app);
                send.is_none_or(|send| send.role != way.role || send.configuration_set != way.set)
            }),
        });
    }

    /// Removes the faults that `which` selects, because they work again.
    pub(super) fn works(&self, which: impl Fn(&Subject) -> bool) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.remove(|known| which(&known.subject), false);
        }
    }

    /// Whether a fault of this subject is known.
    pub(super) fn is_faulty(&self, subject: &Subject) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known.subject == *subject)
    }

    /// Records the outcome of an attempt. `way` is called only if it is needed, and includes the domain of the author.
    pub(super) fn record_outcome(&self, outcome: &Outcome, way: impl FnOnce() -> Way) {
        if let Certainty::Sent(_) = outcome.certainty {
            if self.count.load(Ordering::Relaxed) == 0 {
                return;
            }
            let Way { app, role, set, domain } = way();
            return self.works(|subject| match subject {
                Subject::Account(of) => *of == role,
                Subject::Set(of, name) => *of == role && Some(name) == set.as_ref(),
                Subject::Messages(met) => {
                    let same_author = met.domain.is_none() || met.domain == domain;
                    met.app == app && met.role == role && met.set == set && same_author
                }
            });
        }
        let Some(Fault { text, of_author }) = fault(outcome) else { return };
        let mut way = way();
        if !of_author {
            way.domain = None;
        }
        let text = match &way.domain {
            Some(domain) => format!("{text} (author domain {domain})").into(),
            None => text,
        };
        let app = way.app.clone();
        self.fails(Subject::Messages(way), text, app.as_slice());
    }

    /// The known faults.
    pub(super) fn faults(&self) -> Vec<KnownFault> {
        self.expire();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let reported = |known: &Known| KnownFault { apps: known.apps.clone(), text: known.text.clone().into_owned() };
        // A check and a message may have met the same fault.
        let mut faults: Vec<KnownFault> = Vec::new();
        for fault in known.iter().map(reported) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }

    /// Removes faults that no message has met for [`EXPIRY`].
    pub(super) fn expire(&self) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let now = self.clock.now();
            let over = |known: &Known| {
                matches!(known.subject, Subject::Messages(_)) && now.saturating_duration_since(known.last) >= EXPIRY
            };
            self.remove(over, true);
        }
    }

    fn remove(&self, which: impl Fn(&Known) -> bool, expired: bool) {
        let gone: Vec<Known> = {
            let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = all.extract_if(.., |known| which(known)).collect();
            self.count.store(all.len(), Ordering::Relaxed);
            gone
        };
        for Known { text, apps, .. } in &gone {
            self.observer.observe(&Event::Recovered { apps, fault: text, expired });
        }
    }
}

/// The fault that an attempt shows. A rejected message shows none, and the 24-hour quota stops all sending by itself.
fn fault(outcome: &Outcome) -> Option<Fault> {
    let text = match outcome.kind {
        OutcomeKind::Accepted | OutcomeKind::Refused | OutcomeKind::Deadline | OutcomeKind::DailyQuota => return None,
        OutcomeKind::OperatorError => {
            "the provider refuses calls as they are configured: see the log line of the message"
        }
        OutcomeKind::Throttled => "the provider throttles: the rate of the account is used up",
        OutcomeKind::Failed => "the provider failed: it answered with an error of its own",
        OutcomeKind::Unreachable => "the provider cannot be reached",
        OutcomeKind::NoResponse => "the provider did not answer a call",
    };
    Some(outcome.fault.clone().unwrap_or(Fault { text: text.into(), of_author: false }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{ManualClock, MessageId, replies};

    #[derive(Default)]
    struct RecordedEvents(Mutex<Vec<String>>);

    impl Observer for RecordedEvents {
        fn observe(&self, event: &Event<'_>) {
            let line = match event {
                Event::Degraded { apps, fault } => format!("degraded {apps:?} {fault}"),
                Event::Recovered { fault, expired, .. } => format!("recovered {fault} {expired}"),
                other => panic!("{other:?}"),
            };
            self.0.lock().unwrap().push(line);
        }
    }

    fn health() -> (Health, Arc<RecordedEvents>, Arc<ManualClock>) {
        let (reported, clock) = (Arc::new(RecordedEvents::default()), Arc::new(ManualClock::new()));
        (Health::new(reported.clone(), clock.clone()), reported, clock)
    }

    fn way(app: &str, set: &str, domain: &str) -> Way {
        let set = ConfigurationSetName::parse(set).ok();
        Way { app: AppName::parse(app).ok(), role: None, set, domain: Some(domain.to_owned()) }
    }

    fn sent() -> Outcome {
        Outcome::sent(MessageId::new("1").unwrap())
    }

    fn failed(text: &'static str, of_author: bool) -> Outcome {
        let outcome = Outcome::not_sent(OutcomeKind::OperatorError, replies::OPERATOR_ERROR, "");
        Outcome { fault: Some(Fault { text: text.into(), of_author }), ..outcome }
    }

    fn texts(health: &Health) -> Vec<String> {
        health.faults().into_iter().map(|fault| fault.text).collect()
    }

    #[test]
    fn a_fault_stays_until_the_same_application_sends_the_same_way() {
        let (health, reported, _) = health();
        health.record_outcome(&failed("no set", false), || way("shop", "a", "a.example"));
        health.record_outcome(&failed("no set", false), || way("shop", "a", "a.example"));
        health.record_outcome(&sent(), || way("billing", "a", "a.example"));
        health.record_outcome(&sent(), || way("shop", "b", "a.example"));
        assert_eq!(texts(&health), ["no set"]);
        health.record_outcome(&sent(), || way("shop", "a", "b.example"));
        assert!(texts(&health).is_empty());
        assert_eq!(*reported.0.lock().unwrap(), ["degraded [AppName(\"shop\")] no set", "recovered no set false"]);
    }

    #[test]
    fn a_fault_of_an_author_is_not_ended_by_another_author() {
        let (health, ..) = health();
        health.record_outcome(&failed("not verified", true), || way("shop", "a", "a.example"));
        health.record_outcome(&sent(), || way("shop", "a", "b.example"));
        assert_eq!(texts(&health), ["not verified (author domain a.example)"]);
        health.record_outcome(&sent(), || way("shop", "a", "a.example"));
        assert!(texts(&health).is_empty());
    }

    #[test]
    fn a_message_that_is_sent_ends_the_faults_of_what_it_used() {
        let (health, ..) = health();
        let set = |name: &str| Subject::Set(None, ConfigurationSetName::parse(name).unwrap());
        let role = RoleArn::parse("arn:aws:iam::111122223333:role/x").unwrap();
        let subjects = [Subject::Account(None), Subject::Account(Some(role)), set("a"), set("b")];
        for (number, subject) in subjects.into_iter().enumerate() {
            health.fails(subject, number.to_string().into(), &[]);
        }
        health.record_outcome(&sent(), || way("shop", "a", "a.example"));
        assert_eq!(health.faults().len(), 2);
        assert!(health.is_faulty(&set("b")) && !health.is_faulty(&Subject::Account(None)));
    }

    /// A configuration set that is missing was listed twice: once found by the check, once met by a message.
    #[test]
    fn the_same_fault_of_the_same_application_is_listed_once() {
        let (health, ..) = health();
        let shop = [AppName::parse("shop").unwrap()];
        health.fails(Subject::Set(None, ConfigurationSetName::parse("a").unwrap()), "no set".into(), &shop);
        health.record_outcome(&failed("no set", false), || way("shop", "a", "a.example"));
        assert_eq!(texts(&health), ["no set"]);
        health.record_outcome(&failed("no set", false), || way("billing", "a", "a.example"));
        assert_eq!(texts(&health), ["no set", "no set"], "of two applications");
    }

    #[test]
    fn a_fault_of_messages_expires_when_none_come_and_one_of_a_check_does_not() {
        let (health, reported, clock) = health();
        health.fails(Subject::Account(None), "no credentials".into(), &[]);
        health.record_outcome(&failed("no set", false), || way("shop", "a", "a.example"));
        clock.advance(EXPIRY - Duration::from_secs(1));
        health.record_outcome(&failed("no set", false), || way("shop", "a", "a.example"));
        clock.advance(EXPIRY - Duration::from_secs(1));
        assert_eq!(texts(&health).len(), 2);
        clock.advance(Duration::from_secs(1));
        assert_eq!(texts(&health), ["no credentials"]);
        assert_eq!(reported.0.lock().unwrap().last().unwrap(), "recovered no set true");
    }

    #[test]
    fn a_message_that_is_refused_says_nothing_and_faults_are_bounded() {
        let (health, reported, clock) = health();
        health.record_outcome(&Outcome::not_sent(OutcomeKind::Refused, replies::BAD_REQUEST, ""), || {
            way("shop", "a", "a.example")
        });
        assert!(texts(&health).is_empty());
        for number in 0..FAULTS_MAX + 50 {
            health.record_outcome(&failed("x", false), || way(&format!("app{number}"), "a", "a.example"));
        }
        assert_eq!(health.faults().len(), FAULTS_MAX);
        let before = reported.0.lock().unwrap().len();
        assert_eq!(before, FAULTS_MAX);
        // A reason that changes with every message.
        for _ in 0..5 {
            health.record_outcome(&failed("y", false), || way("app1", "a", "a.example"));
            health.record_outcome(&failed("z", false), || way("app1", "a", "a.example"));
        }
        assert_eq!(reported.0.lock().unwrap().len(), before);
        clock.advance(REPORT_INTERVAL);
        health.record_outcome(&failed("y", false), || way("app1", "a", "a.example"));
        assert_eq!(reported.0.lock().unwrap().len(), before + 1);
    }
}
