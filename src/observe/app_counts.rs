//! What happened to the mail of each application in this hour and today, by outcome and by rule.
//!
//! Hours and days are those of UTC. Applications beyond [`APPS_MAX`] and rules beyond [`RULES_MAX`] count as `other`.

use super::decision::{Decision, DecisionResult, Stage};
use std::collections::{BTreeMap, HashMap};

/// Applications that are counted separately.
const APPS_MAX: usize = 1_000;
/// Rules of one application that are counted separately.
const RULES_MAX: usize = 30;
/// The name of all others.
const OTHER: &str = "other";
const HOUR_MILLIS: u64 = 3_600_000;
const DAY_MILLIS: u64 = 24 * HOUR_MILLIS;

/// Counts since a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The beginning, in milliseconds since 1970.
    pub(crate) since: u64,
    pub(crate) accepted: u64,
    pub(crate) kept: u64,
    pub(crate) deferred: u64,
    pub(crate) rejected: u64,
    pub(crate) abandoned: u64,
    pub(crate) commands_refused: u64,
    pub(crate) would_refuse: u64,
    pub(crate) queue_sent: u64,
    pub(crate) queue_failed: u64,
    /// Refusals by rule, of messages and of commands.
    pub(crate) rules: BTreeMap<Box<str>, u64>,
}

/// The counts of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HourAndDay {
    pub(crate) hour: Counts,
    pub(crate) day: Counts,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
enum Counted<'a> {
    Decision(&'a Decision),
    Left(&'static str),
}

impl Counts {
    fn at(&mut self, time: u64, length: u64) -> &mut Self {
        let since = time - time % length;
        if self.since != since {
            *self = Self { since, ..Self::default() };
        }
        self
    }

    fn add(&mut self, what: Counted<'_>) {
        let count = match what {
            Counted::Left("sent") => &mut self.queue_sent,
            Counted::Left("removed") => return,
            Counted::Left(_) => &mut self.queue_failed,
            Counted::Decision(decision) => match (decision.result, decision.stage) {
                (DecisionResult::Accepted, _) => &mut self.accepted,
                (DecisionResult::Kept, _) => &mut self.kept,
                (DecisionResult::WouldRefuse, _) => &mut self.would_refuse,
                (DecisionResult::Abandoned, _) => &mut self.abandoned,
                (DecisionResult::Deferred, Stage::Message) => &mut self.deferred,
                (DecisionResult::Rejected, Stage::Message) => &mut self.rejected,
                (DecisionResult::Deferred | DecisionResult::Rejected, _) => &mut self.commands_refused,
            },
        };
        *count += 1;
        let Counted::Decision(decision) = what else { return };
        let refused = matches!(
            decision.result,
            DecisionResult::Deferred | DecisionResult::Rejected | DecisionResult::WouldRefuse
        );
        // A rule that accepted a message did so, whatever the provider answered.
        if let Some(rule) = decision.rule.as_deref().filter(|_| refused && !decision.of_provider) {
            let known = self.rules.contains_key(rule) || self.rules.len() < RULES_MAX;
            *self.rules.entry(if known { rule } else { OTHER }.into()).or_default() += 1;
        }
    }
}

/// The counts of all applications.
#[derive(Debug, Default)]
pub(super) struct AppCounts(HashMap<Box<str>, HourAndDay>);

impl AppCounts {
    /// Counts a decision about an application.
    pub(super) fn decided(&mut self, decision: &Decision) {
        if let Some(app) = decision.app.as_deref() {
            self.add(app, decision.time, Counted::Decision(decision));
        }
    }

    /// Counts a message that left the spool.
    pub(super) fn left(&mut self, time: u64, app: Option<&str>, status: &'static str) {
        if let Some(app) = app {
            self.add(app, time, Counted::Left(status));
        }
    }

    fn add(&mut self, app: &str, time: u64, what: Counted<'_>) {
        let known = self.0.contains_key(app) || self.0.len() < APPS_MAX;
        let app = if known { app } else { OTHER };
        let counts = match self.0.get_mut(app) {
            Some(counts) => counts,
            None => self.0.entry(app.into()).or_default(),
        };
        counts.hour.at(time, HOUR_MILLIS).add(what);
        counts.day.at(time, DAY_MILLIS).add(what);
    }

    /// The counts of an application in the hour and the day of that time.
    pub(super) fn of(&self, app: &str, time: u64) -> HourAndDay {
        let mut counts = self.0.get(app).cloned().unwrap_or_default();
        counts.hour.at(time, HOUR_MILLIS);
        counts.day.at(time, DAY_MILLIS);
        counts
    }
}
