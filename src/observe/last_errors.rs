//! The last error of each kind that calls to the provider met.

use crate::mail::{Outcome, OutcomeKind};

/// Octets of a detail.
const DETAIL_OCTETS_MAX: usize = 500;

/// The last error of a kind.
#[derive(Clone, Debug)]
pub(crate) struct LastError {
    pub(crate) kind: OutcomeKind,
    /// When, in milliseconds since 1970.
    pub(crate) time: u64,
    pub(crate) app: Option<Box<str>>,
    /// The provider's error code; empty if there is none.
    pub(crate) code: &'static str,
    pub(crate) detail: Box<str>,
    /// Errors of this kind since the start.
    pub(crate) count: u64,
}

/// One for each kind that occurred; there are nine kinds.
#[derive(Debug, Default)]
pub(super) struct LastErrors(Vec<LastError>);

impl LastErrors {
    /// Records the outcome of a call, if it is an error.
    pub(super) fn record(&mut self, time: u64, app: Option<&str>, outcome: &Outcome) {
        if outcome.kind != OutcomeKind::Accepted {
            self.add(time, outcome.kind, app, outcome.code, &outcome.detail);
        }
    }

    /// Records an error.
    pub(super) fn add(&mut self, time: u64, kind: OutcomeKind, app: Option<&str>, code: &'static str, detail: &str) {
        let detail: Box<str> = detail[..detail.floor_char_boundary(DETAIL_OCTETS_MAX)].into();
        let app = app.map(Into::into);
        match self.0.iter_mut().find(|known| known.kind == kind) {
            Some(known) => *known = LastError { kind, time, app, code, detail, count: known.count + 1 },
            None => self.0.push(LastError { kind, time, app, code, detail, count: 1 }),
        }
    }

    /// All of them, the latest first.
    pub(super) fn all(&self) -> Vec<LastError> {
        let mut all = self.0.clone();
        all.sort_by_key(|error| std::cmp::Reverse(error.time));
        all
    }
}
