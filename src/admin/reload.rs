//! Reading the configuration again: what is asked for, and what came of it.
//!
//! `POST /api/v1/reload` makes the relay read its own files again; `?dry_run=true` says what that would change. A request carries no
//! configuration and no path.

use super::AdminContext;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The result of reading the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// When, in seconds since 1970.
    pub at: i64,
    /// What asked for it: `start`, `SIGHUP`, `api`, `watch`.
    pub trigger: String,
    /// Whether it is in force, or, in a dry run, could be.
    pub successful: bool,
    /// A digest of the configuration in force: of the file and of the files that it names.
    pub digest: String,
    /// What it changes, in words.
    pub changes: Vec<String>,
    /// What is wrong: the configuration before stays in force.
    pub problems: Vec<ReloadProblem>,
}

/// An error of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadProblem {
    /// File, line and column, or the variable.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// A request to read the configuration again.
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

#[derive(Debug, Default)]
struct Known {
    last: ReloadReport,
    /// When the configuration in force was read, in seconds since 1970.
    in_force_since: i64,
}

/// Requests that wait.
const WAITING_MAX: usize = 8;
/// The longest wait for a reload.
const RELOAD_WAIT_MAX: Duration = Duration::from_secs(50);

impl Reloads {
    /// With the configuration of the start, and the requests.
    pub(crate) fn new(start: ReloadReport) -> (Arc<Self>, mpsc::Receiver<ReloadRequest>) {
        let (requests, receiver) = mpsc::channel(WAITING_MAX);
        let state = Mutex::new(Known { in_force_since: start.at, last: start });
        (Arc::new(Self { requests, state }), receiver)
    }

    /// Records a result.
    pub(crate) fn record(&self, report: ReloadReport) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if report.successful {
            state.in_force_since = report.at;
        }
        state.last = report;
    }

    /// The last result.
    pub(crate) fn last(&self) -> ReloadReport {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    /// Whether the last one was successful, and when the last successful one was, in seconds since 1970.
    pub(super) fn gauges(&self) -> (bool, i64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.last.successful, state.in_force_since)
    }

    async fn request(&self, dry_run: bool) -> Option<ReloadReport> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(ReloadRequest { dry_run, answer }).ok()?;
        tokio::time::timeout(RELOAD_WAIT_MAX, answered).await.ok()?.ok()
    }
}

pub(super) fn router(may_operate: bool) -> Router<Arc<AdminContext>> {
    match may_operate {
        true => Router::new().route("/api/v1/reload", post(reload)),
        false => Router::new().route("/api/v1/reload", post(super::queue::refused)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadQuery {
    #[serde(default)]
    dry_run: bool,
}

async fn reload(State(subject): State<Arc<AdminContext>>, Query(query): Query<ReloadQuery>) -> Response {
    let Some(reloads) = &subject.reloads else {
        return (StatusCode::NOT_FOUND, "this relay was not started from a configuration file\n").into_response();
    };
    match reloads.request(query.dry_run).await {
        Some(report) if report.successful => Json(report).into_response(),
        Some(report) => (StatusCode::UNPROCESSABLE_ENTITY, Json(report)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "another reload is running, or the relay stops\n").into_response(),
    }
}
