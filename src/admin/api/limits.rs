//! How full the limits are: those that count all messages of an application, or all messages.

use crate::admin::AdminContext;
use crate::limit::LimitStanding;
use crate::mail::parameters::AppName;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The windows of the limits, at most 2,000.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Limits {
    /// One row for each window, and for each application where each has a count of its own.
    pub(crate) limits: Vec<Limit>,
}

/// One window of a limit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Limit {
    /// The name of the limit.
    pub(crate) limit: String,
    /// The application; `null`: all messages of the relay.
    pub(crate) app: Option<String>,
    /// The window, such as `100/s burst 200`.
    pub(crate) window: String,
    /// What may pass at once.
    pub(crate) capacity: u32,
    /// What is used of it now.
    pub(crate) used: u64,
    /// What is left of it now.
    pub(crate) left: u64,
}

impl Limit {
    fn of(standing: &LimitStanding) -> Self {
        Self {
            limit: standing.limit.to_string(),
            app: standing.app.as_ref().map(ToString::to_string),
            window: standing.window.to_string(),
            capacity: standing.window.capacity().get(),
            used: standing.used(),
            left: standing.left,
        }
    }
}

/// The windows for these applications, and those for all messages.
pub(super) async fn of(subject: &AdminContext, apps: &[AppName]) -> Vec<Limit> {
    subject.relay.get().standings(apps).await.iter().map(Limit::of).collect()
}

pub(super) async fn list(State(subject): State<Arc<AdminContext>>) -> Json<Limits> {
    let configured = subject.relay.get().policy.descriptions();
    let configured = configured.iter().filter_map(|app| AppName::parse(&app.name).ok());
    let names: BTreeSet<String> =
        configured.chain(subject.metrics.apps()).map(|name| name.as_str().to_owned()).collect();
    let apps: Vec<AppName> = names.iter().filter_map(|name| AppName::parse(name).ok()).collect();
    Json(Limits { limits: of(&subject, &apps).await })
}
