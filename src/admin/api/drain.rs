//! A drain: no new connection is accepted, and what is under way ends.
//!
//! The process stays, so that a supervisor does not start it again while its traffic is moved; SIGTERM ends it.

use crate::admin::AdminContext;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A drain that has begun.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Drain {
    /// Always true.
    draining: bool,
    /// Connections that are still open.
    connections: usize,
}

pub(super) async fn begin(State(subject): State<Arc<AdminContext>>) -> (StatusCode, Json<Drain>) {
    subject.draining.cancel();
    (StatusCode::ACCEPTED, Json(Drain { draining: true, connections: (subject.connections)() }))
}
