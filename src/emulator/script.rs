//! Selects the fault of the next SendEmail request.
//!
//! Three sources, in this order: a fault for the n-th request; the queue, of which each request takes one; the
//! permanent fault, until it is removed. The first source with a fault is used, and the others are not changed. Limit:
//! [`FAULTS_MAX`] waiting faults; a script that does not fit is refused completely.

use std::collections::{BTreeMap, VecDeque};

use super::fault::Fault;

#[derive(Debug, Default)]
pub(super) struct FaultScript {
    /// SendEmail requests seen so far: the count that `at` is keyed by.
    seen: u64,
    at: BTreeMap<u64, Fault>,
    queue: VecDeque<Fault>,
    always: Option<Fault>,
}

/// The script would have more than [`FAULTS_MAX`] faults.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScriptFull;

impl FaultScript {
    /// The fault for the request that has just arrived.
    pub(super) fn take(&mut self) -> Fault {
        self.seen += 1;
        self.at
            .remove(&self.seen)
            .or_else(|| self.queue.pop_front())
            .or_else(|| self.always.clone())
            .unwrap_or(Fault::Serve)
    }

    pub(super) fn queue(&mut self, faults: Vec<Fault>) -> Result<(), ScriptFull> {
        self.room_for(faults.len())?;
        self.queue.extend(faults);
        Ok(())
    }

    /// `request` counts from now: 1 is the next one. 0 is treated as 1.
    pub(super) fn at(&mut self, request: u64, fault: Fault) -> Result<(), ScriptFull> {
        self.room_for(1)?;
        self.at.insert(self.seen.saturating_add(request.max(1)), fault);
        Ok(())
    }

    pub(super) fn always(&mut self, fault: Option<Fault>) {
        self.always = fault.filter(|fault| *fault != Fault::Serve);
    }

    pub(super) fn clear(&mut self) {
        self.at.clear();
        self.queue.clear();
        self.always = None;
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.at.len()
    }

    pub(super) fn standing(&self) -> Option<&Fault> {
        self.always.as_ref()
    }

    pub(super) fn room_for(&self, more: usize) -> Result<(), ScriptFull> {
        if self.waiting().saturating_add(more) > FAULTS_MAX { Err(ScriptFull) } else { Ok(()) }
    }
}

/// Faults that may wait, queue and numbered ones together.
pub(super) const FAULTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_before_queued_before_standing() {
        let mut script = FaultScript::default();
        script.always(Some(Fault::Hang));
        script.at(2, Fault::Garbage).expect("the script fits");
        script.queue(vec![Fault::throttled(), Fault::Serve]).expect("the script fits");
        let taken: Vec<_> = (0..4).map(|_| script.take()).collect();
        assert_eq!(taken, [Fault::throttled(), Fault::Garbage, Fault::Serve, Fault::Hang]);
        script.always(None);
        assert_eq!(script.take(), Fault::Serve);
    }

    #[test]
    fn a_script_that_does_not_fit_is_refused_whole() {
        let mut script = FaultScript::default();
        assert_eq!(script.queue(vec![Fault::Serve; FAULTS_MAX + 1]), Err(ScriptFull));
        assert_eq!(script.waiting(), 0);
        script.queue(vec![Fault::Serve; FAULTS_MAX]).expect("fits");
        assert_eq!(script.at(1, Fault::Hang), Err(ScriptFull));
    }
}
