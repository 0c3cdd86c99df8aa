//! The queue over HTTP, for `gatepost queue`: lists, and what an operator does with messages.
//!
//! Who may only read sees addresses in the form of `log.addresses`; an operator, who may read the messages, sees them as they are.

use super::extract::{ApiPath, ApiQuery};
use crate::admin::access::Caller;
use crate::admin::{AdminContext, Problem};
use crate::mail::{Mailbox, QueueId};
use crate::observe::AddressForm;
use crate::spool::SpoolError;
use crate::spool::operate::{MessageState, QueueAction, QueueFilter, QueuePage, QueueRow};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// A filter, and where the page begins. All that is given must hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// This message only.
    id: Option<String>,
    /// Of this application; `-`: of none.
    app: Option<String>,
    /// In this state.
    state: Option<MessageState>,
    /// Accepted at least this many seconds ago.
    older_than_seconds: Option<u64>,
    /// With a recipient at this domain.
    recipient_domain: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    /// All messages. A change without a filter needs it.
    #[serde(default)]
    all: bool,
}

pub(super) async fn list(
    State(subject): State<Arc<AdminContext>>,
    Extension(caller): Extension<Caller>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<QueuePage>, Problem> {
    let form = if caller.operator.is_some() { AddressForm::Plain } else { subject.addresses };
    let mut page = page(&subject, query, None).await?;
    if form != AddressForm::Plain {
        page.rows.iter_mut().for_each(|row| hide(row, form));
    }
    Ok(Json(page))
}

/// Writes addresses in that form.
fn hide(row: &mut QueueRow, form: AddressForm) {
    let mailbox =
        |text: &str| Mailbox::parse(text).map_or_else(|_| form.name(text).into_owned(), |it| form.mailbox(&it));
    row.reverse_path = row.reverse_path.as_deref().map(mailbox);
    row.forward_paths = row.forward_paths.iter().map(|path| mailbox(path)).collect();
    for text in [&mut row.last, &mut row.held].into_iter().flatten() {
        *text = form.provider_detail(text).into_owned();
    }
}

pub(super) async fn act(
    State(subject): State<Arc<AdminContext>>,
    ApiPath(action): ApiPath<QueueAction>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<QueuePage>, Problem> {
    page(&subject, query, Some(action)).await.map(Json)
}

async fn page(subject: &AdminContext, query: PageQuery, action: Option<QueueAction>) -> Result<QueuePage, Problem> {
    let PageQuery { id, app, state, older_than_seconds, recipient_domain, after, all } = query;
    let filter = QueueFilter { id, app, state, older_than_seconds, recipient_domain };
    if action.is_some() && filter == QueueFilter::default() && !all {
        return Err(Problem::bad_request("no message is selected: give a filter, or all=true"));
    }
    let after = match after.as_deref().map(QueueId::parse) {
        Some(None) => return Err(Problem::bad_request("after is not a queue id")),
        after => after.flatten(),
    };
    // A task of its own: a client that goes away does not leave it half done.
    let relay = subject.relay.get();
    let page = tokio::spawn(async move { relay.queue_page(&filter, after, action).await }).await;
    match page {
        Ok(None) => Err(no_spool()),
        Ok(Some(page)) => page.map_err(|error| failed(&error)),
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a defect of the relay: see its log")),
    }
}

pub(super) async fn content(
    State(subject): State<Arc<AdminContext>>,
    ApiPath(id): ApiPath<String>,
) -> Result<Response, Problem> {
    let id = QueueId::parse(&id).ok_or_else(|| Problem::not_found(format!("{id:?} is not a queue id")))?;
    let message = subject.relay.get().queued_content(id).await.ok_or_else(no_spool)?;
    let message = message.map_err(|error| failed(&error))?;
    Ok(([(header::CONTENT_TYPE, "message/rfc822")], message.content().octets().clone()).into_response())
}

fn no_spool() -> Problem {
    Problem::not_found("this relay has no spool")
}

fn failed(error: &SpoolError) -> Problem {
    let status = match error {
        SpoolError::NotFound(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::new(status, error.to_string())
}
