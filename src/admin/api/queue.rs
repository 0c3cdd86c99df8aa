//! The queue over HTTP, for `gatepost queue`: lists, and what an operator does with messages.
//!
//! `GET /api/v1/queue` and `POST /api/v1/queue/{hold|release|retry|remove}`, with the members of a filter and `after` in the query, answer a
//! page; `GET /api/v1/queue/{id}/content` answers the content. They show and change mail, so they need a token, or a Unix socket, whose
//! permissions say who may: a page in a browser on the same machine could call a TCP port on loopback.

use super::AdminContext;
use crate::mail::QueueId;
use crate::spool::SpoolError;
use crate::spool::operate::{MessageState, QueueAction, QueueFilter};
use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn router(may_operate: bool) -> Router<Arc<AdminContext>> {
    match may_operate {
        true => Router::new()
            .route("/api/v1/queue", get(list))
            .route("/api/v1/queue/{id}/content", get(content))
            .route("/api/v1/queue/{action}", post(act)),
        false => Router::new()
            .route("/api/v1/queue", get(refused))
            .route("/api/v1/queue/{*rest}", get(refused).post(refused)),
    }
}

async fn refused() -> Response {
    let text = "the queue needs admin.token, or an admin.address that is a Unix socket\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// A filter, and where the page begins.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    id: Option<String>,
    app: Option<String>,
    state: Option<MessageState>,
    older_than_seconds: Option<u64>,
    recipient_domain: Option<String>,
    after: Option<String>,
    /// A change without a filter needs it.
    #[serde(default)]
    all: bool,
}

async fn list(State(subject): State<Arc<AdminContext>>, Query(query): Query<PageQuery>) -> Response {
    page(subject, query, None).await
}

async fn act(
    State(subject): State<Arc<AdminContext>>,
    Path(action): Path<QueueAction>,
    Query(query): Query<PageQuery>,
) -> Response {
    page(subject, query, Some(action)).await
}

async fn page(subject: Arc<AdminContext>, query: PageQuery, action: Option<QueueAction>) -> Response {
    let PageQuery { id, app, state, older_than_seconds, recipient_domain, after, all } = query;
    let filter = QueueFilter { id, app, state, older_than_seconds, recipient_domain };
    if action.is_some() && filter == QueueFilter::default() && !all {
        return (StatusCode::BAD_REQUEST, "no message is selected: give a filter, or all=true\n").into_response();
    }
    let after = match after.as_deref().map(QueueId::parse) {
        Some(None) => return (StatusCode::BAD_REQUEST, "after is not a queue id\n").into_response(),
        after => after.flatten(),
    };
    // A task of its own: a client that goes away does not leave it half done.
    let relay = Arc::clone(&subject.relay);
    let page = tokio::spawn(async move { relay.queue_page(&filter, after, action).await }).await;
    match page {
        Ok(None) => no_spool(),
        Ok(Some(Ok(page))) => Json(page).into_response(),
        Ok(Some(Err(error))) => failed(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn content(State(subject): State<Arc<AdminContext>>, Path(id): Path<String>) -> Response {
    let Some(id) = QueueId::parse(&id) else { return (StatusCode::NOT_FOUND, "not a queue id\n").into_response() };
    match subject.relay.queued_content(id).await {
        None => no_spool(),
        Some(Ok(message)) => {
            ([(header::CONTENT_TYPE, "message/rfc822")], message.content().octets().clone()).into_response()
        }
        Some(Err(error)) => failed(&error),
    }
}

fn no_spool() -> Response {
    (StatusCode::NOT_FOUND, "this relay has no spool\n").into_response()
}

fn failed(error: &SpoolError) -> Response {
    let status = match error {
        SpoolError::NotFound(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n")).into_response()
}
