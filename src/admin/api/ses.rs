//! SES as this relay sees it: the account, the pace, the last errors.

use super::time::Time;
use crate::admin::AdminContext;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// SES, as this relay sees it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ses {
    /// The account's quota as it was read last; `null`: it is not known.
    account: Option<Account>,
    /// The pace of all sending.
    pace: Pace,
    /// Messages that wait for capacity.
    waiting: usize,
    /// Calls in flight.
    calls: usize,
    /// Attempts that may have sent a message, since the start.
    ambiguous_attempts: u64,
    /// The last error of each kind since the start, the latest first.
    last_errors: Vec<SesError>,
}

/// The account.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Account {
    /// Recipients per second.
    recipients_per_second_max: f64,
    /// Recipients in any 24 hours; `null`: unlimited.
    recipients_per_24_hours_max: Option<f64>,
    /// Recipients in the last 24 hours.
    recipients_last_24_hours: f64,
    /// Whether the account may send.
    sending_enabled: bool,
}

/// The pace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Pace {
    /// Recipients per second; `null`: there is no pace.
    recipients_per_second: Option<f64>,
    /// Whether throttling by SES has lowered it.
    slowed: bool,
    /// Whether the quota of 24 hours is used up, so that nothing is sent.
    closed: bool,
}

/// The last error of a kind.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SesError {
    /// The kind, as in the log field `outcome`.
    kind: String,
    /// When.
    time: Time,
    /// The application.
    app: Option<String>,
    /// The error code of SES; `null` if there is none.
    code: Option<String>,
    /// Status, code and text of SES. Without its text, which may contain addresses, unless `log.addresses` is plain.
    detail: String,
    /// Errors of this kind since the start.
    count: u64,
}

impl Ses {
    pub(crate) fn of(subject: &AdminContext) -> Self {
        let view = subject.relay.get().pace().map(|pace| pace.view());
        let (waiting, calls) = subject.relay.get().send_queue();
        let errors = subject.decisions.last_errors().into_iter();
        Self {
            account: view.and_then(|view| view.account).map(|quota| Account {
                recipients_per_second_max: quota.recipients_per_second_max,
                recipients_per_24_hours_max: quota.recipients_per_24_hours_max,
                recipients_last_24_hours: quota.recipients_last_24_hours,
                sending_enabled: quota.sending_enabled,
            }),
            pace: Pace {
                recipients_per_second: view.and_then(|view| view.recipients_per_second),
                slowed: view.is_some_and(|view| view.slowed),
                closed: view.is_some_and(|view| view.closed),
            },
            waiting,
            calls,
            ambiguous_attempts: subject.relay.get().ambiguous_attempts(),
            last_errors: errors
                .map(|error| SesError {
                    kind: error.kind.label().to_owned(),
                    time: Time::of_millis(error.time),
                    app: error.app.map(String::from),
                    code: Some(error.code.to_owned()).filter(|code| !code.is_empty()),
                    detail: subject.addresses.provider_detail(&error.detail).into_owned(),
                    count: error.count,
                })
                .collect(),
        }
    }
}

pub(super) async fn show(State(subject): State<Arc<AdminContext>>) -> Json<Ses> {
    Json(Ses::of(&subject))
}
