//! What becomes of a rule's "no": the end of the judging, or a note where an application's enforcement only reports.
//!
//! Reporting goes on behind a refusal, so that what else the application asked for (a redirect above all: staging mail
//! must not reach people because its author is wrong) is granted as it would be without it. The first refusal is told.

use super::app::{App, Enforcement};
use super::{Note, Reason};
use std::ops::ControlFlow;

/// The count of one judgement.
#[derive(Debug)]
pub(super) struct Tally {
    reports: bool,
    first: Option<Reason>,
    /// For a person who asks why; `None` if nobody does.
    pub(super) notes: Option<Vec<Note>>,
}

impl Tally {
    pub(super) fn of(app: &App) -> Self {
        Self { reports: app.enforcement == Enforcement::Report, first: None, notes: None }
    }

    pub(super) fn with_notes(app: &App) -> Self {
        Self { notes: Some(Vec::new()), ..Self::of(app) }
    }

    /// A rule has spoken: on with what it gave, or the end.
    pub(super) fn rule<T: Default>(&mut self, said: Result<T, Reason>) -> ControlFlow<Reason, T> {
        match said {
            Ok(value) => ControlFlow::Continue(value),
            Err(reason) if self.reports => {
                self.first.get_or_insert(reason);
                ControlFlow::Continue(T::default())
            }
            Err(reason) => ControlFlow::Break(reason),
        }
    }

    /// What would have been refused.
    pub(super) fn reported(&self) -> Option<String> {
        self.first.as_ref().map(|reason| format!("{}: {} ({})", reason.rule, reason.reply, reason.detail))
    }
}
