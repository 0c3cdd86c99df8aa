//! Who is locked out after failed logins, and forgetting it.

use super::extract::ApiQuery;
use crate::admin::{AdminContext, Problem};
use crate::limit::{LockedOut, LockoutEffect};
use crate::observe::AddressForm;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// The limits of failed logins that are reached now; at most 1,000 are listed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Lockouts {
    lockouts: Vec<Lockout>,
}

/// A client, a name, or a client with a name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Lockout {
    /// Its id, until the process ends.
    id: String,
    /// The network of the client; `null` with `delayed`: all clients; with `locked`: clients of a Unix socket.
    client: Option<String>,
    /// The AUTH name, in the form of `log.addresses`; `null`: any.
    name: Option<String>,
    /// `locked`: logins receive 454. `delayed`: they are answered later.
    effect: String,
    /// Seconds until the next login is admitted.
    seconds_left: u64,
}

/// Which ones. All that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LockoutFilter {
    /// The id of one.
    id: Option<String>,
    /// The address of a client, or its network as it is listed.
    client: Option<String>,
    /// An AUTH name, as the client sent it.
    name: Option<String>,
    /// All; needed if nothing else is given.
    all: bool,
}

impl Lockout {
    fn of(locked: &LockedOut, form: AddressForm) -> Self {
        let effect = match locked.effect {
            LockoutEffect::Locked => "locked",
            LockoutEffect::Delayed => "delayed",
        };
        Self {
            id: format!("{:032x}", locked.id),
            client: locked.network.map(|network| network.to_string()),
            name: locked.name.as_deref().map(|name| form.name(name).into_owned()),
            effect: effect.to_owned(),
            seconds_left: locked.wait.as_secs() + 1,
        }
    }
}

impl LockoutFilter {
    fn fits(&self, locked: &LockedOut) -> bool {
        let is = |wanted: &str| match (wanted.parse::<IpAddr>(), locked.network) {
            (Ok(address), Some(network)) => network.contains(&address),
            (_, network) => network.is_some_and(|network| network.to_string() == wanted),
        };
        self.id.as_ref().is_none_or(|id| *id == format!("{:032x}", locked.id))
            && self.client.as_deref().is_none_or(is)
            && self.name.as_ref().is_none_or(|name| Some(name.as_str()) == locked.name.as_deref())
    }
}

fn locked_out(subject: &AdminContext) -> Vec<LockedOut> {
    let mut all = subject.relay.get().lockout.as_ref().map(|lockout| lockout.locked_out()).unwrap_or_default();
    all.sort_by_key(|locked| std::cmp::Reverse(locked.wait));
    all
}

pub(super) async fn list(State(subject): State<Arc<AdminContext>>) -> Json<Lockouts> {
    let all = locked_out(&subject);
    Json(Lockouts { lockouts: all.iter().map(|locked| Lockout::of(locked, subject.addresses)).collect() })
}

pub(super) async fn clear(
    State(subject): State<Arc<AdminContext>>,
    ApiQuery(filter): ApiQuery<LockoutFilter>,
) -> Result<Json<Lockouts>, Problem> {
    if filter.id.is_none() && filter.client.is_none() && filter.name.is_none() && !filter.all {
        return Err(Problem::bad_request("nothing is selected: give id, client or name, or all=true"));
    }
    let mut all = locked_out(&subject);
    all.retain(|locked| filter.fits(locked));
    if let Some(lockout) = &subject.relay.get().lockout {
        all.iter().for_each(|locked| lockout.forgive(locked.id));
    }
    Ok(Json(Lockouts { lockouts: all.iter().map(|locked| Lockout::of(locked, subject.addresses)).collect() }))
}
