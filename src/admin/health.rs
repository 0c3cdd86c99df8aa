//! `/readyz`, and the same as data.

use super::AdminContext;
use super::access::Caller;
use crate::mail::parameters::AppName;
use crate::relay::KnownFault;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use std::sync::Arc;

/// Faults that are listed.
const FAULTS_LISTED_MAX: usize = 20;

/// Whether the relay is ready, and what is wrong.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Health {
    /// The first fault, or why it is not ready.
    pub(crate) reason: Option<String>,
    /// `ready`, `degraded` or `not ready`.
    pub(crate) status: String,
    /// What sending needs and does not work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<Fault>,
    /// Faults that are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) more: usize,
}

/// A fault.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Fault {
    /// The applications that it concerns; none: all of them.
    pub(crate) apps: Vec<String>,
    /// One sentence: what is wrong, and what to do.
    pub(crate) fault: String,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Health {
    pub(super) fn of(subject: &AdminContext) -> Self {
        let reason = match () {
            () if subject.draining.is_cancelled() => Some("draining"),
            () if !(subject.listening)() => Some("a listener does not accept"),
            () if subject.relay.get().spool_usage().is_some_and(|usage| usage.failing) => {
                Some("the spool cannot be written")
            }
            () if !subject.relay.get().budget().has_room() => Some("memory budget and disk allowance are used up"),
            () => None,
        };
        let faults = subject.relay.get().faults();
        let (status, reason) = match (reason, faults.first()) {
            (Some(reason), _) => (NOT_READY, Some(reason.to_owned())),
            (None, Some(first)) => ("degraded", Some(first.text.clone())),
            (None, None) => ("ready", None),
        };
        let names = |apps: &[AppName]| apps.iter().map(ToString::to_string).collect();
        let listed = faults.iter().take(FAULTS_LISTED_MAX);
        let listed = listed.map(|KnownFault { apps, text }| Fault { apps: names(apps), fault: text.clone() });
        let more = faults.len().saturating_sub(FAULTS_LISTED_MAX);
        Self { reason, status: status.to_owned(), faults: listed.collect(), more }
    }
}

const NOT_READY: &str = "not ready";

/// Without a token, where there are tokens: the status alone.
pub(super) async fn ready(
    State(subject): State<Arc<AdminContext>>,
    Extension(Caller { reads, .. }): Extension<Caller>,
) -> Response {
    let health = Health::of(&subject);
    let code = if health.status == NOT_READY { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    match reads {
        true => (code, Json(health)).into_response(),
        false => (code, Json(serde_json::json!({ "status": health.status }))).into_response(),
    }
}
