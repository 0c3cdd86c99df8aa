//! Reading the configuration again. A request carries no configuration and no path: the relay reads its own files.

use super::extract::ApiQuery;
use super::time::Time;
use crate::admin::problem::MEDIA_TYPE;
use crate::admin::{AdminContext, Problem, ReloadReport};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How to reload.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadQuery {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
}

/// A configuration that is not put in force: a problem document, and what is wrong.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RefusedReload {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    pub(crate) report: ReloadReport,
}

pub(super) async fn show(State(subject): State<Arc<AdminContext>>) -> Result<Json<ReloadReport>, Problem> {
    subject.reloads.as_ref().map(|reloads| Json(reloads.last())).ok_or_else(no_file)
}

/// The configuration in force.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct InForce {
    /// Since when.
    since: Time,
    /// A digest of the file and of the files that it names.
    digest: String,
    /// The file as TOML, without comments and secrets; after it, the variables that override keys.
    text: String,
}

pub(super) async fn in_force(State(subject): State<Arc<AdminContext>>) -> Result<Json<InForce>, Problem> {
    let reloads = subject.reloads.as_ref().ok_or_else(no_file)?;
    let (text, since) = reloads.in_force();
    Ok(Json(InForce { since, digest: reloads.last().digest, text }))
}

pub(super) async fn reload(
    State(subject): State<Arc<AdminContext>>,
    ApiQuery(query): ApiQuery<ReloadQuery>,
) -> Result<Response, Problem> {
    let reloads = subject.reloads.as_ref().ok_or_else(no_file)?;
    let report = reloads.request(query.dry_run).await.ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "other reloads are waiting, or the relay is stopping: try again")
    })?;
    if report.successful {
        return Ok(Json(report).into_response());
    }
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let detail = "the configuration before stays in force: see problems";
    let refused = RefusedReload { problem: Problem::new(status, detail), report };
    let body = serde_json::to_vec(&refused).unwrap_or_default();
    Ok((status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response())
}

fn no_file() -> Problem {
    Problem::not_found("this relay was not started with a configuration file")
}
