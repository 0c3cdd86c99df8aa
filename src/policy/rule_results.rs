//! Collects the results of the rules for one command or message.
//!
//! With `enforcement = "report"` the first refusal is recorded and evaluation continues, so that the other settings apply: staging mail
//! with a wrong author must still be redirected.

use super::Note;
use super::app::{App, Enforcement};
use crate::mail::Refusal;
use std::ops::ControlFlow;

/// The results so far.
#[derive(Debug)]
pub(super) struct RuleResults {
    reports: bool,
    first: Option<Refusal>,
    /// For `explain`; `None`: no notes are taken.
    pub(super) notes: Option<Vec<Note>>,
}

impl RuleResults {
    pub(super) fn of(app: &App) -> Self {
        Self { reports: app.enforcement == Enforcement::Report, first: None, notes: None }
    }

    pub(super) fn with_notes(app: &App) -> Self {
        Self { notes: Some(Vec::new()), ..Self::of(app) }
    }

    /// The result of a rule: its value, or the end of the evaluation.
    pub(super) fn rule<T: Default>(&mut self, result: Result<T, Refusal>) -> ControlFlow<Refusal, T> {
        match result {
            Ok(value) => ControlFlow::Continue(value),
            Err(refusal) if self.reports => {
                self.first.get_or_insert(refusal);
                ControlFlow::Continue(T::default())
            }
            Err(refusal) => ControlFlow::Break(refusal),
        }
    }

    /// The refusal that is reported only.
    pub(super) fn reported(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!("{}: {} ({})", first.rule_name(), first.reply, first.detail))
    }
}
