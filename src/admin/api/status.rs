//! What runs here, and whether it is ready.

use super::time::Time;
use crate::admin::health::Health;
use crate::admin::{AdminContext, ListenerSummary, ReloadReport};
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The relay now.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Status {
    /// The version of the program.
    pub(crate) version: String,
    /// The host name of the relay.
    pub(crate) hostname: String,
    /// When it started.
    pub(crate) started: Time,
    /// Seconds since then.
    pub(crate) uptime_seconds: u64,
    /// What `/readyz` answers.
    pub(crate) health: Health,
    /// Whether it accepts no new connection, and finishes what is under way.
    pub(crate) draining: bool,
    /// How the configuration was read the last time; absent if it was not read from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) configuration: Option<ReloadReport>,
    /// What it listens on.
    pub(crate) listeners: Vec<ListenerSummary>,
    /// The certificate of each listener with TLS that expires first.
    pub(crate) certificates: Vec<Certificate>,
    /// Open SMTP connections.
    pub(crate) connections: usize,
    /// What received messages take.
    pub(crate) budget: BudgetUse,
    /// Messages on their way to SES.
    pub(crate) send_queue: SendQueue,
    /// What is in the spool; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spool: Option<SpoolUse>,
    /// The number of decisions that are kept.
    pub(crate) decisions_max: usize,
}

/// A certificate.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Certificate {
    /// The listener.
    pub(crate) listener: String,
    /// When it expires.
    pub(crate) not_after: Time,
    /// Days until then; negative: it has expired.
    pub(crate) days_left: i64,
}

/// Octets of messages.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BudgetUse {
    /// Being received, in memory.
    pub(crate) receiving_octets: u64,
    /// Being sent, in memory.
    pub(crate) sending_octets: u64,
    /// In temporary files.
    pub(crate) disk_octets: u64,
    /// Whether there is room for another message.
    pub(crate) has_room: bool,
}

/// The send queue.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SendQueue {
    /// Messages that wait for capacity.
    pub(crate) messages: usize,
    /// Calls to SES in flight.
    pub(crate) calls: usize,
}

/// The spool.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SpoolUse {
    /// Messages that wait or are being sent.
    pub(crate) waiting: u64,
    /// Messages that are held.
    pub(crate) held: u64,
    /// Octets of all.
    pub(crate) octets: u64,
    /// The age of the oldest message, in seconds.
    pub(crate) oldest_seconds: u64,
    /// Damaged records that were set aside.
    pub(crate) damaged_records: u64,
    /// Whether it cannot be written.
    pub(crate) failing: bool,
}

impl Status {
    pub(crate) fn of(subject: &AdminContext) -> Self {
        let relay = subject.relay.get();
        let clock = relay.clock();
        let uptime = clock.now().saturating_duration_since(subject.started);
        let now = jiff::Timestamp::try_from(clock.wall()).unwrap_or_default().as_second();
        let certificate = |(listener, not_after): (String, i64)| Certificate {
            listener,
            not_after: Time::of_seconds(not_after),
            days_left: (not_after - now).div_euclid(86_400),
        };
        let (receiving_octets, sending_octets, disk_octets) = relay.budget().in_use();
        let (messages, calls) = relay.send_queue();
        let spool = relay.spool_usage().map(|usage| {
            let held = usage.apps.iter().map(|app| app.held).sum();
            SpoolUse {
                waiting: usage.apps.iter().map(|app| app.messages).sum::<u64>().saturating_sub(held),
                held,
                octets: usage.apps.iter().map(|app| app.octets).sum(),
                oldest_seconds: relay.oldest_age().unwrap_or_default().as_secs(),
                damaged_records: usage.damaged,
                failing: usage.failing,
            }
        });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: relay.settings.hostname.clone(),
            started: Time::of(clock.wall() - uptime),
            uptime_seconds: uptime.as_secs(),
            health: Health::of(subject),
            draining: subject.draining.is_cancelled(),
            configuration: subject.reloads.as_ref().map(|reloads| reloads.last()),
            listeners: (subject.listeners)(),
            certificates: (subject.certificates)().into_iter().map(certificate).collect(),
            connections: (subject.connections)(),
            budget: BudgetUse { receiving_octets, sending_octets, disk_octets, has_room: relay.budget().has_room() },
            send_queue: SendQueue { messages, calls },
            spool,
            decisions_max: subject.decisions.max(),
        }
    }
}

pub(super) async fn show(State(subject): State<Arc<AdminContext>>) -> Json<Status> {
    Json(Status::of(&subject))
}
