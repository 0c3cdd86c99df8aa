//! `[[limit]]` and `[limits]`: rates and quotas.

use super::Config;
use super::app::App;
use super::diagnostics::{Diagnostics, Item};
use super::error_hints::one_of;
use super::listener::Listener;
use super::number::{Number, Seconds};
use super::section::{section, words};
use super::values::{AppNameText, Listen, RuleNameText, WindowText, ZoneText};
use crate::limit::{LimitKey, LimitRule, Measure, OnExceeded, Window};
use crate::mail::RuleName;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// A limit on what is sent in a period.
    pub(crate) Limit {
        /// Its name, in log lines about refusals. Default: limit-1, limit-2 and so on.
        #[schemars(example = &"billing")]
        name: Option<RuleNameText> = None,
        /// app, auth, client, reverse_path, author, recipient_domain or relay: the key that is counted by. A message without
        /// such a key (no AUTH name, no named application) is not limited.
        by: LimitBy = LimitBy::App,
        /// messages, recipients or octets: what is counted. SES's own quotas count recipients. by = "recipient_domain" counts
        /// recipients only.
        of: LimitOf = LimitOf::Messages,
        /// A list of rates, such as "100/s burst 200", "2000/min" or "600/h", and quotas, "50000/day" or "1000000/month". All of
        /// them must have capacity. The capacity of a rate returns evenly; without burst, that of a whole period is available
        /// at once. Quotas count the days and months of the calendar (limits.time_zone), and their counts survive a restart
        /// (limits.state_directory, or `[redis]`).
        #[schemars(example = ["100/s burst 200", "50000/day"])]
        rates: Vec<WindowText> = Vec::new(),
        /// defer (451, the text says for how long), reject (550) or delay (wait for capacity, then defer). A recipient over its
        /// limit receives 452, so that a client that splits the message succeeds. Programs without a queue lose deferred
        /// messages: for these, choose delay.
        over: LimitOver = LimitOver::Defer,
        /// Seconds that over = "delay" waits at most. A waiting client holds its connection.
        delay_seconds_max: Seconds = Number::of(5),
        /// A list of names of applications that it is for. Empty: for all.
        #[schemars(example = ["billing"])]
        apps: Vec<AppNameText> = Vec::new(),
        /// Bits of an IPv4 address that count, for by = "client": 32 is the address itself.
        ipv4_prefix: Number<0, 32> = Number::of(32),
        /// Bits of an IPv6 address that count, for by = "client": one host can choose its addresses from a /64.
        ipv6_prefix: Number<0, 128> = Number::of(64),
    } []
}

section! {
    /// Settings of all limits.
    pub(crate) LimitsSection {
        /// The time zone whose days and months count, such as "Europe/Berlin". Default: UTC.
        #[schemars(example = &"Europe/Berlin")]
        time_zone: ZoneText = ZoneText::default(),
        /// A directory where the counts of days and months are kept, so that they survive a restart; created if missing, and
        /// for one process only. Default: $STATE_DIRECTORY, which systemd sets.
        #[schemars(example = &"/var/lib/gatepost")]
        state_directory: Option<PathBuf> = None,
        /// true or false: the counts of days and months start at 0 after every restart.
        forget_at_restart: bool = false,
    } []
}

words! {
    /// The key that is counted by.
    LimitBy {
        /// Each application.
        App,
        /// Each AUTH name.
        Auth,
        /// Each client address.
        Client,
        /// Each exact reverse-path.
        #[serde(rename = "reverse_path")]
        ReversePath,
        /// Each author.
        Author,
        /// Each domain of recipients.
        #[serde(rename = "recipient_domain")]
        RecipientDomain,
        /// All messages together.
        Relay,
    }
    /// What is counted.
    LimitOf => Measure {
        /// Messages.
        Messages => Messages,
        /// Recipients.
        Recipients => Recipients,
        /// Bytes.
        Octets => Octets,
    }
    /// What happens to a message over the limit.
    LimitOver {
        /// 451.
        Defer,
        /// 550.
        Reject,
        /// Wait, then 451.
        Delay,
    }
}

/// The limits of the file.
pub(super) fn plan(config: &Config, diagnostics: &mut Diagnostics<'_>) -> Vec<LimitRule> {
    let apps: HashSet<&str> = config.app.iter().filter_map(|app| Some(app.name.as_ref()?.0.as_str())).collect();
    let (mut rules, mut names) = (Vec::new(), HashSet::new());
    for (index, item) in Item::all("limit", &config.limit).enumerate() {
        item.check(config, &apps, diagnostics);
        let name = item.value.name.as_ref().map(|name| name.0.clone());
        if let Some(name) = item.value.name.as_ref().filter(|name| !names.insert(name.0.as_str())) {
            let hint = "give each a name of its own: metrics and log lines show it";
            diagnostics.error(&item.key("name"), format!("another limit is called {name} already"), hint);
        }
        let name = name.or_else(|| RuleName::parse(&format!("limit-{}", index + 1)).ok());
        rules.extend(name.map(|name| item.value.rule(name)));
    }
    rules
}

impl Limit {
    /// The limit of the limiter.
    fn rule(&self, name: RuleName) -> LimitRule {
        LimitRule {
            name,
            by: match self.by {
                LimitBy::App => LimitKey::App,
                LimitBy::Auth => LimitKey::Identity,
                LimitBy::Client => LimitKey::Client {
                    ipv4_prefix: prefix(self.ipv4_prefix.get()),
                    ipv6_prefix: prefix(self.ipv6_prefix.get()),
                },
                LimitBy::ReversePath => LimitKey::ReversePath,
                LimitBy::Author => LimitKey::Author,
                LimitBy::RecipientDomain => LimitKey::RecipientDomain,
                LimitBy::Relay => LimitKey::Relay,
            },
            measure: self.of.into(),
            windows: self.rates.iter().map(|rate| rate.0).collect(),
            over: match self.over {
                LimitOver::Defer => OnExceeded::Defer,
                LimitOver::Reject => OnExceeded::Reject,
                LimitOver::Delay => OnExceeded::Delay(self.delay_seconds_max.wait()),
            },
            apps: self.apps.iter().map(|app| app.0.clone()).collect(),
        }
    }
}

impl Item<'_, Limit> {
    /// Settings of this limit that contradict each other, or have no effect.
    fn check(&self, config: &Config, apps: &HashSet<&str>, diagnostics: &mut Diagnostics<'_>) {
        let limit = self.value;
        if limit.rates.is_empty() {
            let hint = "for example: rates = [\"100/s burst 200\"]";
            diagnostics.error(&self.key("rates"), "a limit without rates limits nothing", hint);
        }
        if limit.by == LimitBy::RecipientDomain && limit.of != LimitOf::Recipients {
            let message = "by = \"recipient_domain\" counts recipients";
            diagnostics.error(&self.key("of"), message, "set of = \"recipients\"");
        }
        self.check_quotas(diagnostics);
        // The deadline covers the time after the content was received; the client waits for a delay before that.
        if limit.over == LimitOver::Delay && limit.delay_seconds_max.wait() > DELAY_MAX {
            let message =
                format!("{} s is longer than clients wait for the reply to MAIL or RCPT", limit.delay_seconds_max);
            diagnostics.error(&self.key("delay_seconds_max"), message, "at most 60");
        }
        if limit.over != LimitOver::Delay && limit.delay_seconds_max.wait() != Limit::default().delay_seconds_max.wait()
        {
            let message = "delay_seconds_max has no effect without over = \"delay\"";
            diagnostics.warn(&self.key("delay_seconds_max"), message, "set over = \"delay\", or remove it");
        }
        let smallest = limit.rates.iter().map(|rate| rate.0.capacity().get()).min().map(u64::from);
        if limit.of == LimitOf::Octets && smallest.is_some_and(|burst| burst < config.smtp.message_octets_max.get()) {
            let message = "messages larger than the burst can never pass, but smtp.message_octets_max permits them";
            diagnostics.warn(&self.key("rates"), message, "raise the burst, or lower smtp.message_octets_max");
        }
        for (index, app) in limit.apps.iter().enumerate() {
            if !apps.contains(app.0.as_str()) {
                let hint = one_of(app.0.as_str(), apps.iter().copied(), "[[app]]");
                let path = self.key(&format!("apps.{index}"));
                diagnostics.error(&path, format!("no application is called {app}"), hint);
            }
        }
        if let Some((message, hint)) = never_counts(config, limit) {
            diagnostics.warn(&self.key("by"), message, hint);
        }
    }

    /// Two quotas of one period.
    fn check_quotas(&self, diagnostics: &mut Diagnostics<'_>) {
        let period = |rate: &WindowText| match &rate.0 {
            Window::Quota(quota) => Some(quota.per),
            Window::Rate(_) => None,
        };
        let rates = &self.value.rates;
        for (index, rate) in rates.iter().enumerate() {
            if period(rate).is_some() && rates[..index].iter().any(|before| period(before) == period(rate)) {
                let message = "two quotas of one period in one limit: only the smaller one has an effect";
                diagnostics.error(&self.key(&format!("rates.{index}")), message, "keep only that one");
            }
        }
    }
}

/// Message and hint for a limit that can never count a message of the applications that it names.
fn never_counts(config: &Config, limit: &Limit) -> Option<(String, &'static str)> {
    let unix = |listener: &Listener| matches!(&listener.address, Some(address) if matches!(address.0, Listen::Unix(_)));
    type CanCount<'a> = &'a dyn Fn(&Listener) -> bool;
    let (by, counts, hint): (&str, CanCount<'_>, &str) = match limit.by {
        LimitBy::Auth => {
            ("has an AUTH name", &Listener::verifies_users, "set auth on the listener, or count by = \"app\"")
        }
        LimitBy::Client => ("has a client address", &|it| !unix(it), "count by = \"app\""),
        _ => return None,
    };
    let wanted: HashSet<&str> = limit.apps.iter().map(|app| app.0.as_str()).collect();
    let named = |app: &&App| app.name.as_ref().is_some_and(|name| wanted.contains(name.0.as_str()));
    let apps: Vec<&App> = config.app.iter().filter(named).collect();
    // An unknown application has an error of its own.
    if apps.len() < wanted.len() || config.listener.is_empty() {
        return None;
    }
    let reached = |listener: &&Listener| apps.is_empty() || apps.iter().any(|app| app.accepts(listener));
    if config.listener.iter().filter(reached).any(counts) {
        return None;
    }
    let whose = if apps.is_empty() { "no client".to_owned() } else { format!("no client of {}", names(&limit.apps)) };
    Some((format!("this limit never counts anything: {whose} {by} on the listeners that it can use"), hint))
}

fn names(apps: &[AppNameText]) -> String {
    apps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The directory of the counts of days and months; `None` if there are none, or they are not kept here.
pub(super) fn state_directory(
    config: &Config,
    rules: &[LimitRule],
    diagnostics: &mut Diagnostics<'_>,
) -> Option<PathBuf> {
    let limits = &config.limits;
    let on_calendar = |rule: &LimitRule| rule.windows.iter().any(|window| matches!(window, Window::Quota(_)));
    let index = rules.iter().position(on_calendar);
    // systemd separates several by colons; the first is that of gatepost.
    let given = diagnostics.environment().variable("STATE_DIRECTORY").and_then(|text| text.split(':').next());
    let directory = limits.state_directory.clone().or_else(|| given.filter(|text| !text.is_empty()).map(PathBuf::from));
    // With Redis, the counts are there.
    let forget = limits.forget_at_restart || config.redis.url.is_some();
    match (index, forget) {
        (_, true) => None,
        // Opened all the same: a reload may bring the first quota.
        (None, false) => directory,
        (Some(index), false) => {
            if directory.is_none() {
                let hint = "set limits.state_directory, or limits.forget_at_restart = true, or count in [redis]";
                let message =
                    "the counts of a daily or monthly quota must survive a restart, and no place for them is set";
                diagnostics.error(&format!("limit.{index}.rates"), message, hint);
            }
            directory
        }
    }
}

/// RFC 5321 §4.5.3.2 has clients wait 5 minutes; those of printers and scripts give up much earlier.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// The type of the key bounds it.
fn prefix(bits: u64) -> u8 {
    u8::try_from(bits).unwrap_or(u8::MAX)
}
