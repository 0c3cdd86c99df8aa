//! Reading the configuration again: what is asked for, and what came of it.

use super::api::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The result of reading the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReloadReport {
    /// When.
    pub(crate) time: Time,
    /// What asked for it: `start`, `SIGHUP`, `api`, `watch`.
    pub(crate) trigger: String,
    /// Whether it is in force, or, in a dry run, could be.
    pub(crate) successful: bool,
    /// A digest of the configuration in force: of the file and of the files that it names.
    pub(crate) digest: String,
    /// What it changes, in words.
    pub(crate) changes: Vec<String>,
    /// What is wrong: the configuration before stays in force.
    pub(crate) problems: Vec<ReloadProblem>,
}

/// An error of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReloadProblem {
    /// File, line and column, or the variable.
    pub(crate) place: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: String,
}

/// A request to read the configuration again.
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "the program answers it"))]
pub(crate) struct ReloadRequest {
    /// Only say what it would change.
    pub(crate) dry_run: bool,
    pub(crate) answer: oneshot::Sender<ReloadReport>,
}

/// The last result, and the way to ask for another.
#[derive(Debug)]
pub(crate) struct Reloads {
    requests: mpsc::Sender<ReloadRequest>,
    state: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    last: ReloadReport,
    /// The configuration in force, without secrets.
    text: String,
    /// When the configuration in force was read.
    in_force_since: Time,
}

/// Requests that wait.
const WAITING_MAX: usize = 8;
/// The longest wait for a reload.
const RELOAD_WAIT_MAX: Duration = Duration::from_secs(50);

#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "the program answers requests"))]
impl Reloads {
    /// With the configuration of the start, and the requests.
    pub(crate) fn new(start: ReloadReport, text: String) -> (Arc<Self>, mpsc::Receiver<ReloadRequest>) {
        let (requests, receiver) = mpsc::channel(WAITING_MAX);
        let state = Mutex::new(Known { in_force_since: start.time.clone(), last: start, text });
        (Arc::new(Self { requests, state }), receiver)
    }

    /// Records a result, and the configuration in force without secrets.
    pub(crate) fn record(&self, report: ReloadReport, text: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if report.successful {
            state.in_force_since.clone_from(&report.time);
        }
        state.last = report;
        state.text = text;
    }

    /// The configuration in force, without secrets, and since when it is.
    pub(crate) fn in_force(&self) -> (String, Time) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.text.clone(), state.in_force_since.clone())
    }

    /// The last result.
    pub(crate) fn last(&self) -> ReloadReport {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    /// Whether the last one was successful, and when the last successful one was, in seconds since 1970.
    pub(super) fn gauges(&self) -> (bool, i64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.last.successful, state.in_force_since.seconds())
    }

    /// Asks for a reload. `None`: too many wait, or the relay stops.
    pub(super) async fn request(&self, dry_run: bool) -> Option<ReloadReport> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(ReloadRequest { dry_run, answer }).ok()?;
        tokio::time::timeout(RELOAD_WAIT_MAX, answered).await.ok()?.ok()
    }
}
