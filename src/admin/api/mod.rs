//! The API of operators, `/api/v1`: one table of operations, from which the router and the OpenAPI document are made.
//!
//! Answers are JSON. An error is a problem document (RFC 9457), also for an unknown path, a wrong method or a bad query. Lists are pages:
//! `next` is the `after` of the following page. Times are RFC 3339 in UTC; in the rows of the queue they are milliseconds since 1970.
//! What is new is added as members and operations; nothing is removed or renamed under `/api/v1`.

mod apps;
mod decisions;
mod drain;
mod explain;
mod extract;
mod limits;
mod lockouts;
mod openapi;
mod operation;
mod queue;
mod reload;
mod ses;
mod status;
mod time;

pub(crate) use decisions::DecisionPage;
#[cfg(feature = "cli")]
pub(crate) use decisions::{DecisionRow, PAGE_MAX};
#[cfg(feature = "cli")]
pub(crate) use explain::ExplainRequest;
#[cfg(feature = "cli")]
pub(crate) use openapi::document;
#[cfg(feature = "cli")]
pub(crate) use reload::RefusedReload;
pub(crate) use status::Status;
pub(crate) use time::Time;

use super::access::operate;
use super::{AdminContext, Problem, ReloadReport};
use crate::relay::Explanation;
use crate::spool::operate::QueuePage;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use operation::Operation;
use std::sync::Arc;

/// What every path begins with.
pub(crate) const PREFIX: &str = "/api/v1";

/// Every operation.
fn operations() -> Vec<Operation> {
    vec![
        Operation::get::<Status>("/status", "status", "What runs here, and whether it is ready", || get(status::show)),
        Operation::get::<ses::Ses>("/ses", "ses", "The account of SES, the pace, and the last errors", || {
            get(ses::show)
        }),
        Operation::get::<apps::Apps>("/apps", "apps", "Every application: its rules, limits and counts", || {
            get(apps::list)
        }),
        Operation::get::<apps::App>("/apps/{name}", "app", "One application", || get(apps::show)),
        Operation::get::<limits::Limits>("/limits", "limits", "How full the limits are", || get(limits::list)),
        Operation::get::<DecisionPage>("/decisions", "decisions", "The last decisions, the latest first", || {
            get(decisions::list)
        })
        .query::<decisions::DecisionFilter>(),
        Operation::get::<DecisionPage>(
            "/decisions/{reference}",
            "decisions_of_reference",
            "The decisions about a transaction, a queue id or a session, the latest first",
            || get(decisions::show),
        ),
        Operation::get::<Explanation>(
            "/explain",
            "explain",
            "What this relay would reply to a message now, and why; nothing is sent or counted",
            || post(explain::explain),
        )
        .body::<explain::ExplainRequest>(),
        Operation::get::<lockouts::Lockouts>("/lockouts", "lockouts", "Who is locked out after failed logins", || {
            get(lockouts::list)
        }),
        Operation::change::<lockouts::Lockouts>(
            "/lockouts/clear",
            "clear_lockouts",
            "Forget failed logins; answers those that are forgotten",
            || post(lockouts::clear),
        )
        .query::<lockouts::LockoutFilter>(),
        Operation::get::<reload::InForce>("/config", "config", "The configuration in force, without secrets", || {
            get(reload::in_force)
        }),
        Operation::get::<ReloadReport>(
            "/reload",
            "last_reload",
            "How the configuration was read the last time",
            || get(reload::show),
        ),
        Operation::change::<ReloadReport>(
            "/reload",
            "reload",
            "Read the configuration again and put all of it in force, or nothing; 422 says what is wrong",
            || post(reload::reload),
        )
        .query::<reload::ReloadQuery>(),
        Operation::change::<drain::Drain>(
            "/drain",
            "drain",
            "Accept no new connection, and finish what is under way. The process stays until it is stopped",
            || post(drain::begin),
        )
        .answers(StatusCode::ACCEPTED),
        Operation::get::<QueuePage>("/queue", "queue", "The messages in the spool", || get(queue::list))
            .query::<queue::PageQuery>(),
        Operation::change::<QueuePage>(
            "/queue/{action}",
            "change_queue",
            "Hold, release, retry or remove messages; answers those that changed",
            || post(queue::act),
        )
        .query::<queue::PageQuery>(),
        Operation::content("/queue/{id}/content", "queued_content", "The content of a message in the spool", || {
            get(queue::content)
        }),
        Operation::get::<serde_json::Value>("/openapi.json", "openapi", "This document", || get(openapi::show)),
    ]
}

/// The router; its paths begin after [`PREFIX`].
pub(super) fn router(subject: &Arc<AdminContext>) -> Router<Arc<AdminContext>> {
    let mut router = Router::new();
    for operation in operations() {
        let route = (operation.route)();
        let route = match operation.changes {
            true => route.route_layer(from_fn_with_state(Arc::clone(subject), operate)),
            false => route,
        };
        router = router.route(operation.path, route);
    }
    router.fallback(unknown).method_not_allowed_fallback(not_allowed)
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(format!("{PREFIX}{} does not exist: see {PREFIX}/openapi.json", uri.path()))
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{PREFIX}{} does not take {method}: see {PREFIX}/openapi.json", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
