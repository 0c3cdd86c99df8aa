//! `/metrics`: values that are read at each scrape, and the text.

use super::{AdminContext, process};
use crate::limit::LimitStanding;
use crate::observe::{LimitSnapshot, MetricsSnapshot, SpoolSnapshot, prometheus_text};
use crate::relay::Relay;
use crate::spool::SpoolUsage;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

fn spool(relay: &Relay, usage: SpoolUsage) -> SpoolSnapshot {
    let apps = usage.apps.into_iter().map(|app| (app.app, app.messages.saturating_sub(app.held), app.held, app.octets));
    let oldest_seconds = relay.oldest_age().unwrap_or_default().as_secs_f64();
    SpoolSnapshot { apps: apps.collect(), oldest_seconds, damaged: usage.damaged }
}

fn sample(status: LimitStanding) -> LimitSnapshot {
    let (used, window) = (status.used(), status.window.to_string());
    LimitSnapshot { limit: status.limit, app: status.app, window, used, remaining: status.left }
}

pub(super) async fn metrics(State(subject): State<Arc<AdminContext>>, headers: HeaderMap) -> Response {
    let view = subject.relay.get().pace().map(|pace| pace.view());
    let moment = MetricsSnapshot {
        account: view.and_then(|view| view.account),
        pace: view.and_then(|view| view.recipients_per_second),
        octets: subject.relay.get().budget().in_use(),
        send_queue: subject.relay.get().send_queue(),
        spool: subject.relay.get().spool_usage().map(|usage| spool(&subject.relay.get(), usage)),
        certificates: (subject.certificates)(),
        limits: subject.relay.get().standings(&subject.metrics.apps()).await.into_iter().map(sample).collect(),
        faults: subject.relay.get().faults().len(),
        reload: subject.reloads.as_ref().map(|reloads| reloads.gauges()),
        process: process::figures(),
    };
    let text = subject.metrics.open_metrics(&moment);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/openmetrics-text") {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return ([(header::CONTENT_TYPE, kind)], text).into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], prometheus_text(&text)).into_response()
}
