//! `[[limit]]`: rates, as the file says them, and as the limiter takes them.

use super::Config;
use super::error_hints::one_of;
use super::number::{Number, Seconds};
use super::plan::Diagnostics;
use super::rules::App;
use super::sections::{Auth, Listener};
use super::values::{AppNameText, Listen, RuleNameText, WindowText, ZoneText};
use crate::limit::{By, LimitRule, Measure, OverLimit, Window};
use crate::mail::RuleName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// Its name, in refusals' log lines.
    pub name: Option<RuleNameText>,
    /// app, auth, client, reverse_path, author, recipient_domain or relay: whose counts are kept apart.
    pub by: LimitBy,
    /// messages, recipients or octets: what is counted. SES counts recipients.
    pub of: LimitOf,
    /// Rates that must all have room, such as "100/s burst 200", "2000/min" or "600/h", and quotas, "50000/day" or
    /// "1000000/month". Without burst, a whole period's worth may come at once. Days and months are those of the calendar
    /// (limits.time_zone), and what was counted survives a restart (limits.state_directory, or [redis]).
    pub rates: Vec<WindowText>,
    /// defer (451, with how long in the text), reject (550) or delay (wait for room, then defer).
    pub over: LimitOver,
    /// Seconds that over = "delay" waits at most. Who waits holds a connection.
    pub delay_seconds_max: Seconds,
    /// Names of applications that it is for. Empty: for all.
    pub apps: Vec<AppNameText>,
    /// Bits of an IPv4 address that count, for by = "client": 32 is the address itself.
    pub ipv4_prefix: Number<0, 32>,
    /// The same for IPv6: 64 is what one host can choose its addresses from.
    pub ipv6_prefix: Number<0, 128>,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            name: None,
            by: LimitBy::App,
            of: LimitOf::Messages,
            rates: Vec::new(),
            over: LimitOver::Defer,
            delay_seconds_max: Number::of(5),
            apps: Vec::new(),
            ipv4_prefix: Number::of(32),
            ipv6_prefix: Number::of(64),
        }
    }
}

/// What holds for all limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// The time zone whose days and months count, such as "Europe/Berlin". Default: UTC.
    pub time_zone: ZoneText,
    /// A directory where the counts of days and months are kept, so that they survive a restart; made if missing, and for
    /// one process only. Default: $STATE_DIRECTORY, which systemd sets.
    pub state_directory: Option<PathBuf>,
    /// true or false: counts of days and months begin anew at every restart.
    pub forget_at_restart: bool,
}

/// Whose counts are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitBy {
    /// Each application.
    App,
    /// Each AUTH name.
    Auth,
    /// Each client address.
    Client,
    /// Each exact reverse-path.
    ReversePath,
    /// Each author.
    Author,
    /// Each domain of recipients.
    RecipientDomain,
    /// All together.
    Relay,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitOf {
    /// Messages.
    Messages,
    /// Recipients.
    Recipients,
    /// Octets.
    Octets,
}

/// What happens beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitOver {
    /// 451.
    Defer,
    /// 550.
    Reject,
    /// Wait, then 451.
    Delay,
}

/// The limits of the file.
pub(super) fn plan(diagnostics: &mut Diagnostics<'_>) -> Vec<LimitRule> {
    let config = diagnostics.config;
    let mut rules = Vec::new();
    let apps: HashSet<&str> = config.app.iter().filter_map(|app| Some(app.name.as_ref()?.0.as_str())).collect();
    for (place, limit) in config.limit.iter().enumerate() {
        let path = |key: &str| format!("limit.{place}.{key}");
        if limit.rates.is_empty() {
            diagnostics.error(
                &path("rates"),
                "a limit without rates limits nothing",
                "for example: rates = [\"100/s burst 200\"]",
            );
        }
        if limit.by == LimitBy::RecipientDomain && limit.of != LimitOf::Recipients {
            diagnostics.error(&path("of"), "by = \"recipient_domain\" counts recipients", "set of = \"recipients\"");
        }
        for (number, rate) in limit.rates.iter().enumerate() {
            let per = |window: &Window| match window {
                Window::Quota(quota) => Some(quota.per),
                Window::Rate(_) => None,
            };
            if per(&rate.0).is_some() && limit.rates[..number].iter().any(|before| per(&before.0) == per(&rate.0)) {
                let message = "two quotas of one period in one limit: the smaller one decides";
                diagnostics.error(&path(&format!("rates.{number}")), message, "keep that");
            }
        }
        // The deadline covers what happens after the content came; a delay comes before, and the client waits through it.
        if limit.over == LimitOver::Delay && limit.delay_seconds_max.wait() > DELAY_MAX {
            let message =
                format!("{} s is longer than clients wait for the reply to MAIL or RCPT", limit.delay_seconds_max);
            diagnostics.error(&path("delay_seconds_max"), message, "at most 60");
        }
        let smallest = limit.rates.iter().map(|rate| rate.0.capacity().get()).min().map(u64::from);
        if limit.of == LimitOf::Octets && smallest.is_some_and(|burst| burst < config.smtp.message_octets_max.get()) {
            let message = "messages larger than the burst can never pass, and the advertised size allows them";
            diagnostics.warn(&path("rates"), message, "raise the burst, or lower smtp.message_octets_max");
        }
        for (number, app) in limit.apps.iter().enumerate() {
            if !apps.contains(app.0.as_str()) {
                let hint = one_of(app.0.as_str(), apps.iter().copied(), "[[app]]");
                diagnostics.error(&path(&format!("apps.{number}")), format!("no application is called {app}"), hint);
            }
        }
        if let Some((key, message, hint)) = never_counts(config, limit) {
            diagnostics.warn(&path(key), message, hint);
        }
        let name = limit.name.as_ref().map(|name| name.0.clone());
        let Some(name) = name.or_else(|| RuleName::parse(&format!("limit-{}", place + 1)).ok()) else { continue };
        rules.push(LimitRule {
            name,
            by: match limit.by {
                LimitBy::App => By::App,
                LimitBy::Auth => By::Identity,
                LimitBy::Client => By::Client {
                    ipv4_prefix: prefix(limit.ipv4_prefix.get()),
                    ipv6_prefix: prefix(limit.ipv6_prefix.get()),
                },
                LimitBy::ReversePath => By::ReversePath,
                LimitBy::Author => By::Author,
                LimitBy::RecipientDomain => By::RecipientDomain,
                LimitBy::Relay => By::Relay,
            },
            measure: match limit.of {
                LimitOf::Messages => Measure::Messages,
                LimitOf::Recipients => Measure::Recipients,
                LimitOf::Octets => Measure::Octets,
            },
            windows: limit.rates.iter().map(|rate| rate.0).collect(),
            over: match limit.over {
                LimitOver::Defer => OverLimit::Defer,
                LimitOver::Reject => OverLimit::Reject,
                LimitOver::Delay => OverLimit::Delay(limit.delay_seconds_max.wait()),
            },
            apps: limit.apps.iter().map(|app| app.0.clone()).collect(),
        });
    }
    rules
}

/// Why no message could ever be counted by a limit: key, message, hint. Of applications that it names, all must be such.
fn never_counts(config: &Config, limit: &Limit) -> Option<(&'static str, String, &'static str)> {
    let unix = |listener: &Listener| matches!(&listener.address, Some(address) if matches!(address.0, Listen::Unix(_)));
    let offers_auth = |listener: &Listener| matches!(listener.auth, Auth::Optional | Auth::Required);
    type Counts<'a> = &'a dyn Fn(&Listener) -> bool;
    let (by, counts, hint): (&str, Counts<'_>, &str) = match limit.by {
        LimitBy::Auth => ("has an AUTH name", &offers_auth, "set auth on the listener, or count by = \"app\""),
        LimitBy::Client => ("has a client address", &|it| !unix(it), "count by = \"app\""),
        _ => return None,
    };
    let wanted: HashSet<&str> = limit.apps.iter().map(|app| app.0.as_str()).collect();
    let named = |app: &&App| app.name.as_ref().is_some_and(|name| wanted.contains(name.0.as_str()));
    let apps: Vec<&App> = config.app.iter().filter(named).collect();
    // An unknown application is another mistake.
    if apps.len() < wanted.len() || config.listener.is_empty() {
        return None;
    }
    let comes_to =
        |app: &App, listener: &Listener| app.listeners.is_empty() || app.listeners.contains(&listener.called());
    let reached = |listener: &&Listener| apps.is_empty() || apps.iter().any(|app| comes_to(app, listener));
    if config.listener.iter().filter(reached).any(counts) {
        return None;
    }
    let whose = if apps.is_empty() { "no client".to_owned() } else { format!("no client of {}", names(&limit.apps)) };
    Some(("by", format!("this limit never counts anything: {whose} {by} on the listeners that it comes to"), hint))
}

fn names(apps: &[AppNameText]) -> String {
    apps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Where the counts of days and months are kept; `None`: nowhere, because there are none or they may be forgotten.
pub(super) fn state_directory(diagnostics: &mut Diagnostics<'_>, rules: &[LimitRule]) -> Option<PathBuf> {
    let limits = &diagnostics.config.limits;
    let on_calendar = |rule: &LimitRule| rule.windows.iter().any(|window| matches!(window, Window::Quota(_)));
    let place = rules.iter().position(on_calendar);
    // systemd separates several with a colon; ours is the first.
    let given = diagnostics.process_environment.variable("STATE_DIRECTORY").and_then(|text| text.split(':').next());
    let directory = limits.state_directory.clone().or_else(|| given.filter(|text| !text.is_empty()).map(PathBuf::from));
    // Redis has them.
    let forget = limits.forget_at_restart || diagnostics.config.redis.url.is_some();
    match (place, forget) {
        (None, _) | (_, true) => None,
        (Some(place), false) => {
            if directory.is_none() {
                let hint = "set limits.state_directory, or limits.forget_at_restart = true, or count in [redis]";
                let message = "a quota of a day or a month has to survive a restart, and there is nowhere to keep it";
                diagnostics.error(&format!("limit.{place}.rates"), message, hint);
            }
            directory
        }
    }
}

/// RFC 5321 §4.5.3.2 has clients wait 5 minutes; those of printers and scripts give up much earlier.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Bounded by its type.
fn prefix(bits: u64) -> u8 {
    u8::try_from(bits).unwrap_or(u8::MAX)
}
