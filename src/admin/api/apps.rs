//! The applications: what is configured for each, and what happened to its mail.

use super::extract::ApiPath;
use super::limits::{self, Limit};
use super::time::Time;
use crate::admin::{AdminContext, Problem};
use crate::mail::parameters::{AppName, Delivery};
use crate::observe;
use crate::policy::AppDescription;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All applications.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Apps {
    /// In the order of the configuration; the default application is the last.
    apps: Vec<App>,
}

/// An application.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct App {
    /// Its name.
    name: String,
    /// Whether it is for clients that no other application matches.
    is_default: bool,
    /// How a client is recognised: one criterion each, such as `network 10.0.0.0/8`.
    recognised_by: Vec<String>,
    /// Patterns of the addresses that it may send from.
    from: Vec<String>,
    /// Patterns of the recipients that it may send to; empty: any.
    recipients_allowed: Vec<String>,
    /// Patterns of the recipients that it may not send to.
    recipients_denied: Vec<String>,
    /// The maximum number of recipients of a message; `null`: that of the listener.
    recipients_max: Option<usize>,
    /// The maximum size of a message; `null`: that of the listener.
    message_octets_max: Option<u64>,
    /// The address that receives all its messages instead.
    redirect_to: Option<String>,
    /// The configuration set of its messages.
    configuration_set: Option<String>,
    /// The identity of another account that its messages are sent with.
    identity_arn: Option<String>,
    /// The role that its messages are sent with; `null`: that of the relay.
    role: Option<String>,
    /// The tenant of its messages.
    tenant: Option<String>,
    /// `hand-off`, `spool` or `hand-off-else-spool`.
    delivery: String,
    /// Whether its rules are only reported.
    reports_only: bool,
    /// Whether it receives 4yz where the rules would reject.
    soft_fail: bool,
    /// The names of IAM documents that must allow its messages.
    documents: Vec<String>,
    /// How full its limits are.
    limits: Vec<Limit>,
    /// In this hour (UTC).
    hour: Counts,
    /// Today (UTC).
    day: Counts,
}

/// What happened since a time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counts {
    /// The beginning of the hour or day; the relay may have started later.
    since: Time,
    /// Messages that SES has.
    accepted: u64,
    /// Messages that were accepted into the spool.
    kept: u64,
    /// Messages that received 4yz at the end of data.
    deferred: u64,
    /// Messages that received 5yz at the end of data.
    rejected: u64,
    /// Messages that ended before they were complete.
    abandoned: u64,
    /// MAIL, RCPT and other commands that were refused.
    commands_refused: u64,
    /// Commands and messages that would be refused if policy were enforced.
    would_refuse: u64,
    /// Messages of the spool that were sent.
    queue_sent: u64,
    /// Messages of the spool that failed.
    queue_failed: u64,
    /// Refusals by rule or limit, of messages and of commands.
    rules: BTreeMap<String, u64>,
}

impl Counts {
    fn of(counts: observe::Counts) -> Self {
        Self {
            since: Time::of_millis(counts.since),
            accepted: counts.accepted,
            kept: counts.kept,
            deferred: counts.deferred,
            rejected: counts.rejected,
            abandoned: counts.abandoned,
            commands_refused: counts.commands_refused,
            would_refuse: counts.would_refuse,
            queue_sent: counts.queue_sent,
            queue_failed: counts.queue_failed,
            rules: counts.rules.into_iter().map(|(rule, count)| (rule.into(), count)).collect(),
        }
    }
}

impl App {
    fn of(app: AppDescription, limits: &[Limit], observe::HourAndDay { hour, day }: observe::HourAndDay) -> Self {
        let delivery = match app.delivery {
            Delivery::HandOff => "hand-off",
            Delivery::Spool => "spool",
            Delivery::HandOffElseSpool => "hand-off-else-spool",
        };
        let of_it = |limit: &&Limit| limit.app.as_ref() == Some(&app.name);
        Self {
            limits: limits.iter().filter(of_it).cloned().collect(),
            hour: Counts::of(hour),
            day: Counts::of(day),
            name: app.name,
            is_default: app.is_default,
            recognised_by: app.recognised_by,
            from: app.from,
            recipients_allowed: app.recipients_allowed,
            recipients_denied: app.recipients_denied,
            recipients_max: app.recipients_max,
            message_octets_max: app.message_octets_max,
            redirect_to: app.redirect_to,
            configuration_set: app.configuration_set,
            identity_arn: app.identity_arn,
            role: app.role,
            tenant: app.tenant,
            delivery: delivery.to_owned(),
            reports_only: app.reports_only,
            soft_fail: app.soft_fail,
            documents: app.documents,
        }
    }
}

async fn describe(subject: &AdminContext, wanted: Option<&str>) -> Vec<App> {
    let mut all = subject.relay.get().policy.descriptions();
    all.retain(|app| wanted.is_none_or(|name| name == app.name));
    let names: Vec<AppName> = all.iter().filter_map(|app| AppName::parse(&app.name).ok()).collect();
    let limits = limits::of(subject, &names).await;
    let counted = |app: AppDescription| {
        let counts = subject.decisions.counts(&app.name);
        App::of(app, &limits, counts)
    };
    all.into_iter().map(counted).collect()
}

pub(super) async fn list(State(subject): State<Arc<AdminContext>>) -> Json<Apps> {
    Json(Apps { apps: describe(&subject, None).await })
}

pub(super) async fn show(
    State(subject): State<Arc<AdminContext>>,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<App>, Problem> {
    let found = describe(&subject, Some(&name)).await.into_iter().next();
    found.map(Json).ok_or_else(|| Problem::not_found(format!("no application is called {name:?}")))
}
