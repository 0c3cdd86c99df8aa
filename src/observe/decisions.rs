//! The last decisions, so that an operator finds out what happened to a message without reading the log.
//!
//! [`Decisions`] is an [`Observer`]: it copies the facts of each event into a [`Decision`] and keeps the last ones, with addresses as they
//! are. What a client causes that no application is known for (connections that are turned away, failed logins, refused commands) is kept
//! in a list of its own, of a tenth of the length, so that a port scan does not push out the decisions about mail. Both lists are
//! bounded in number and in octets ([`OCTETS_EACH`] for each place). A restart empties them.
//! An attempt to send a message of the spool is added to the record of its acceptance. Each event takes one lock, for a short time; a
//! search copies references under it and compares outside.

use super::app_counts::{AppCounts, HourAndDay};
use super::decision::{Decision, DecisionResult, RefusedCommand};
use super::last_errors::{LastError, LastErrors};
use super::{Event, Observer, QueueEndRecord};
use crate::mail::parameters::AppName;
use crate::mail::{Clock, Mailbox, OutcomeKind, QueueId, ReversePath, TransactionId};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

/// Octets for each place in the list: about what one decision takes.
const OCTETS_EACH: usize = 1024;
/// The decisions about clients of no application: this part of all.
const UNKNOWN_PART: usize = 10;
/// Decisions that a search copies under the lock at a time.
const SEARCH_STEP: usize = 500;

/// The last decisions, and what is counted from them.
pub(crate) struct Decisions {
    max: usize,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    known: Ring,
    unknown: Ring,
    /// The record of each kept message.
    kept: HashMap<TransactionId, u64>,
    counts: AppCounts,
    errors: LastErrors,
}

/// Decisions in their order.
#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Arc<Decision>>,
    octets: usize,
}

/// Which decisions. All that is given must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecisionQuery {
    /// Reverse-path, author or recipient; with a leading `@`, all addresses of a domain.
    pub(crate) address: Option<String>,
    /// The Message-ID field, or the message id of SES.
    pub(crate) message_id: Option<String>,
    /// The id of a transaction, a queue id, or the id of a session.
    pub(crate) reference: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) result: Option<DecisionResult>,
    /// Not before this time, in milliseconds since 1970.
    pub(crate) since: Option<u64>,
    /// Decisions before that one, by its number.
    pub(crate) before: Option<u64>,
    /// The most decisions.
    pub(crate) limit: usize,
}

/// A page of decisions, the latest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) decisions: Vec<Arc<Decision>>,
    /// Where the next page begins.
    pub(crate) next: Option<u64>,
}

impl Ring {
    fn push(&mut self, decision: Arc<Decision>, max: usize) -> Vec<Arc<Decision>> {
        self.octets += decision.octets_held();
        self.records.push_back(decision);
        let mut gone = Vec::new();
        while self.records.len() > max || self.octets > max.saturating_mul(OCTETS_EACH) {
            let Some(oldest) = self.records.pop_front() else { break };
            self.octets = self.octets.saturating_sub(oldest.octets_held());
            gone.push(oldest);
        }
        gone
    }

    fn change(&mut self, sequence: u64, change: impl FnOnce(&mut Decision)) {
        let place = self.records.partition_point(|decision| decision.sequence < sequence);
        if let Some(decision) = self.records.get_mut(place).filter(|decision| decision.sequence == sequence) {
            let before = decision.octets_held();
            change(Arc::make_mut(decision));
            self.octets = (self.octets + decision.octets_held()).saturating_sub(before);
        }
    }

    /// The decisions before that number, the latest first.
    fn before(&self, sequence: u64, most: usize) -> impl Iterator<Item = &Arc<Decision>> {
        let end = self.records.partition_point(|decision| decision.sequence < sequence);
        self.records.range(..end).rev().take(most)
    }
}

impl State {
    fn add(&mut self, max: usize, mut decision: Decision) {
        self.counts.decided(&decision);
        if max == 0 {
            return;
        }
        // The worker of the queue may be faster than the session that accepted the message.
        if let (DecisionResult::Kept, Some(transaction)) = (decision.result, decision.transaction)
            && let Some(sequence) = self.kept.get(&transaction).copied()
        {
            self.known.change(sequence, |earlier| {
                decision.sequence = sequence;
                decision.sent.append(&mut earlier.sent);
                decision.fate = earlier.fate.take().or(decision.fate.take());
                *earlier = decision;
            });
            return;
        }
        self.push(max, decision);
    }

    fn push(&mut self, max: usize, mut decision: Decision) -> u64 {
        self.next += 1;
        decision.sequence = self.next;
        if let (DecisionResult::Kept, Some(transaction)) = (decision.result, decision.transaction) {
            self.kept.insert(transaction, decision.sequence);
        }
        let gone = match decision.is_known() {
            true => self.known.push(Arc::new(decision), max),
            false => self.unknown.push(Arc::new(decision), (max / UNKNOWN_PART).max(1)),
        };
        for old in gone {
            if let Some(transaction) = old.transaction
                && self.kept.get(&transaction) == Some(&old.sequence)
            {
                self.kept.remove(&transaction);
            }
        }
        self.next
    }

    /// Changes the record of a kept message, or makes one.
    fn change(
        &mut self,
        max: usize,
        time: u64,
        (id, app, octets): (QueueId, Option<&AppName>, u64),
        change: impl FnOnce(&mut Decision),
    ) {
        if max == 0 {
            return;
        }
        let sequence = match self.kept.get(&id.transaction()) {
            Some(sequence) => *sequence,
            None => self.push(max, Decision::of_queued(time, id, app.map(AppName::as_str), octets)),
        };
        self.known.change(sequence, change);
    }
}

impl Decisions {
    /// Keeps the last `max` decisions; 0: none. Counts and last errors are kept in any case.
    pub(crate) fn new(max: usize, clock: Arc<dyn Clock>) -> Self {
        Self { max, clock, state: Mutex::default() }
    }

    /// How many are kept.
    /// The number of decisions that fit into that much memory.
    pub(crate) fn fitting(octets: u64) -> usize {
        let each = (OCTETS_EACH + OCTETS_EACH / UNKNOWN_PART) as u64;
        usize::try_from(octets / each).unwrap_or(usize::MAX)
    }

    /// The octets that they take at most.
    pub(crate) fn octets_max(&self) -> u64 {
        (self.max.saturating_add(self.max / UNKNOWN_PART) as u64).saturating_mul(OCTETS_EACH as u64)
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// The counts of an application.
    pub(crate) fn counts(&self, app: &str) -> HourAndDay {
        let now = self.now();
        self.state().counts.of(app, now)
    }

    /// The last error of each kind.
    pub(crate) fn last_errors(&self) -> Vec<LastError> {
        self.state().errors.all()
    }

    /// Finds decisions, the latest first.
    pub(crate) fn search(&self, query: &DecisionQuery) -> Found {
        let wanted = Wanted::of(query);
        let mut found = Found::default();
        let mut before = query.before.unwrap_or(u64::MAX);
        loop {
            let step = self.step(before);
            let Some(last) = step.last() else { return found };
            before = last.sequence;
            for decision in step.iter().filter(|decision| wanted.fits(decision)) {
                if found.decisions.len() == query.limit {
                    found.next = found.decisions.last().map(|last| last.sequence);
                    return found;
                }
                found.decisions.push(Arc::clone(decision));
            }
        }
    }

    /// Some decisions before that number, the latest first, none left out.
    fn step(&self, before: u64) -> Vec<Arc<Decision>> {
        let state = self.state();
        let mut both = state.known.before(before, SEARCH_STEP).chain(state.unknown.before(before, SEARCH_STEP));
        let mut step: Vec<Arc<Decision>> = both.by_ref().cloned().collect();
        drop(both);
        drop(state);
        step.sort_unstable_by_key(|decision| std::cmp::Reverse(decision.sequence));
        // Beyond that, one of the lists may have more in between.
        step.truncate(SEARCH_STEP);
        step
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        let since = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn add(&self, decision: Decision) {
        self.state().add(self.max, decision);
    }
}

/// A query, prepared.
struct Wanted<'a> {
    query: &'a DecisionQuery,
    mailbox: Option<Mailbox>,
    transaction: Option<TransactionId>,
}

impl<'a> Wanted<'a> {
    fn of(query: &'a DecisionQuery) -> Self {
        let mailbox = query.address.as_deref().and_then(|text| Mailbox::parse(text).ok());
        Self { query, mailbox, transaction: query.reference.as_deref().and_then(TransactionId::parse) }
    }

    fn fits(&self, decision: &Decision) -> bool {
        let DecisionQuery { address, message_id, reference, rule, app, result, since, .. } = self.query;
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        is(rule, decision.rule.as_deref())
            && is(app, decision.app.as_deref())
            && result.is_none_or(|result| result == decision.result)
            && since.is_none_or(|since| decision.time >= since)
            && reference.as_ref().is_none_or(|reference| self.is_reference(decision, reference))
            && message_id.as_ref().is_none_or(|id| has_message_id(decision, id))
            && address.as_ref().is_none_or(|address| self.has_address(decision, address))
    }

    fn is_reference(&self, decision: &Decision, reference: &str) -> bool {
        match self.transaction {
            Some(transaction) => decision.transaction == Some(transaction),
            None => decision.session.is_some_and(|session| session.to_string().eq_ignore_ascii_case(reference)),
        }
    }

    fn has_address(&self, decision: &Decision, address: &str) -> bool {
        let reverse_path = decision.reverse_path.as_ref();
        if address == "<>" {
            return reverse_path.is_some_and(|path| matches!(path, ReversePath::Null));
        }
        let domain = address.strip_prefix('@');
        let is = |found: &Mailbox| match (&self.mailbox, domain) {
            (Some(wanted), _) => {
                wanted.domain() == found.domain() && wanted.local_part().eq_ignore_ascii_case(found.local_part())
            }
            (None, Some(domain)) => found.domain().to_string().eq_ignore_ascii_case(domain),
            (None, None) => false,
        };
        let reverse_path = reverse_path.and_then(ReversePath::mailbox);
        reverse_path.into_iter().chain(&decision.authors).chain(&decision.recipients).any(is)
    }
}

fn has_message_id(decision: &Decision, id: &str) -> bool {
    let bare = |text: &str| text.trim_matches(['<', '>', ' ']).to_owned();
    decision.message_id.as_deref().is_some_and(|found| bare(found) == bare(id))
        || decision.sent.iter().any(|call| &*call.id == id)
}

impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decisions").field("max", &self.max).finish_non_exhaustive()
    }
}

impl Observer for Decisions {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::MessageEnded(record) => {
                let decision = Decision::of_message(self.now(), record);
                let mut state = self.state();
                if let Some(outcome) = record.outcome {
                    state.errors.record(decision.time, record.app, outcome);
                }
                state.add(self.max, decision);
            }
            // Where a client only connects and leaves, nothing was decided. A refusal has an event of its own.
            Event::TransactionEnded(record) => {
                let begun = matches!(record.after, "DATA" | "BDAT") || record.why.reply().is_some();
                if begun && record.why.outcome() == "abandoned" {
                    self.add(Decision::of_transaction(self.now(), record));
                }
            }
            Event::CommandRefused { client, transaction, verb, reply, rule, address, detail } => {
                let (transaction, rule, address) = (*transaction, *rule, *address);
                let command = RefusedCommand { client, transaction, verb, reply, rule, address, detail };
                self.add(Decision::of_command(self.now(), &command));
            }
            Event::WouldRefuse { client, transaction, verb, app, detail } => {
                self.add(Decision::of_report(self.now(), client, *transaction, verb, *app, detail));
            }
            Event::AuthenticationFailed { client, name, reply, detail } => {
                self.add(Decision::of_login(self.now(), client, name, reply, detail));
            }
            Event::ConnectionRefused { address, listener, reply, reason } => {
                self.add(Decision::of_connection(self.now(), *address, listener, *reply, reason));
            }
            Event::AttemptEnded(record) => {
                let time = self.now();
                let mut state = self.state();
                state.errors.record(time, record.app.map(AppName::as_str), record.outcome);
                let message = (record.id, record.app, record.octets);
                state.change(self.max, time, message, |decision| decision.attempted(time, record));
            }
            Event::QueueLeft(record) => {
                let time = self.now();
                let QueueEndRecord { id, app, octets, status, .. } = *record;
                let mut state = self.state();
                state.counts.left(time, app.map(AppName::as_str), status);
                state.change(self.max, time, (*id, *app, *octets), |decision| decision.left(time, record));
            }
            Event::TriedAgain { code } => {
                let detail = "SES throttled a call; the message is sent again";
                self.state().errors.add(self.now(), OutcomeKind::Throttled, None, code, detail);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "decisions_tests.rs"]
mod tests;
