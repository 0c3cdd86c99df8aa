//! What a configuration means, as data and as aligned rows of text.

use super::credentials;
use crate::config::{App, Config, ListenerCertificate, Plan, ProcessEnvironment, Upstream};
use crate::limit::{LimitKey, LimitRule, Measure, OnExceeded};
use crate::mail::parameters::Feedback;
use crate::mail::{Clock, SystemClock};
use crate::policy;
use crate::server::{Endpoint, ListenerSettings};
use crate::smtp::{AuthMode, TlsMode};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

#[derive(Serialize)]
pub(super) struct Review {
    hostname: String,
    listeners: Vec<Listener>,
    certificates: Vec<Certificate>,
    /// How many can authenticate.
    users: usize,
    apps: Vec<Application>,
    /// Other clients that may send.
    others: Option<DefaultApp>,
    limits: Vec<Limit>,
    admin: Option<Admin>,
    deadline: Deadline,
    ses: Ses,
    /// Where mail is sent to; from the SDK if the file does not name it.
    pub(super) region: String,
    /// Which source of credentials would be asked, as far as it is known here.
    credentials: String,
}

#[derive(Serialize)]
struct Listener {
    name: String,
    address: String,
    tls: &'static str,
    auth: &'static str,
    require_tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_mode: Option<String>,
    /// Proxies whose connections begin with a PROXY header.
    proxy_protocol_from: Vec<String>,
}

#[derive(Serialize)]
struct Certificate {
    listener: String,
    file: String,
    names: Vec<String>,
    not_after: Option<String>,
    days_left: Option<i64>,
}

#[derive(Serialize)]
struct Application {
    name: String,
    certificates: Vec<String>,
    auth: Vec<String>,
    networks: Vec<String>,
    listeners: Vec<String>,
    from: Vec<String>,
    sent_with: SesParameters,
}

#[derive(Serialize)]
struct DefaultApp {
    clients: Vec<String>,
    from: Vec<String>,
    sent_with: SesParameters,
}

/// What the messages of an application are sent with.
#[derive(Serialize)]
struct SesParameters {
    configuration_set: Option<String>,
    identity_arn: Option<String>,
    role: Option<String>,
    tags: BTreeMap<String, String>,
    tenant: Option<String>,
    endpoint_id: Option<String>,
    list: Option<String>,
    feedback: String,
}

#[derive(Serialize)]
struct Limit {
    name: String,
    by: &'static str,
    of: &'static str,
    rates: Vec<String>,
    over: &'static str,
    /// Empty: all.
    apps: Vec<String>,
}

#[derive(Serialize)]
struct Admin {
    address: String,
    token: bool,
    /// The names of operator tokens.
    operators: Vec<String>,
}

#[derive(Serialize)]
struct Deadline {
    base_seconds: u64,
    largest_message_octets: u64,
    largest_message_seconds: f64,
    shutdown_grace_seconds: u64,
}

#[derive(Serialize)]
struct Ses {
    emulator: bool,
    /// The endpoint, or the directory of the emulator; `None`: the region's, or memory.
    target: Option<String>,
}

impl Review {
    pub(super) fn of(config: &Config, plan: &Plan, process_environment: &ProcessEnvironment) -> Self {
        let policy = plan.policy();
        let apps = policy.apps().iter().zip(&config.app).map(|(app, section)| Application::of(app, section));
        let octets = config.smtp.message_octets_max.get();
        Self {
            hostname: plan.hostname.clone(),
            listeners: plan.listeners().zip(&config.listener).map(|(it, section)| Listener::of(it, section)).collect(),
            certificates: plan.certificates.iter().map(Certificate::of).collect(),
            users: plan.user_names.len(),
            apps: apps.collect(),
            others: policy.every_app().nth(policy.apps().len()).map(|app| DefaultApp {
                clients: match &config.policy.clients {
                    Some(clients) => texts(clients),
                    None => vec!["this machine".to_owned()],
                },
                from: texts(&app.from),
                sent_with: SesParameters::of(app),
            }),
            limits: plan.limits().iter().map(Limit::of).collect(),
            admin: plan.admin().map(|it| Admin {
                address: it.endpoint.to_string(),
                token: it.token.is_some(),
                operators: it.operator_tokens.iter().map(|(name, _)| name.clone()).collect(),
            }),
            deadline: Deadline {
                base_seconds: config.deadline.base_seconds.get(),
                largest_message_octets: octets,
                largest_message_seconds: config.deadline.settings().of(octets).as_secs_f64(),
                shutdown_grace_seconds: config.shutdown_grace_seconds.get(),
            },
            ses: match &plan.upstream {
                Upstream::Emulator(settings) => {
                    let directory = settings.emulator.directory.as_ref();
                    Ses { emulator: true, target: directory.map(|path| path.display().to_string()) }
                }
                Upstream::Amazon(settings) => Ses { emulator: false, target: settings.endpoint_url.clone() },
            },
            region: String::new(),
            credentials: credentials::source(config, process_environment),
        }
    }

    /// One row a fact.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |key: &str, value: &dyn Display| {
            let _ = writeln!(text, "{key:<12} {value}");
        };
        row("hostname", &self.hostname);
        for listener in &self.listeners {
            row("listener", listener);
        }
        for certificate in &self.certificates {
            row("certificate", certificate);
        }
        row("users", &self.users);
        for app in &self.apps {
            row("app", app);
            row("sent with", &format_args!("{}: {}", app.name, app.sent_with));
        }
        match &self.others {
            Some(others) => {
                row("others", &format_args!("from {} as {}", list(&others.clients), list(&others.from)));
                row("sent with", &format_args!("others: {}", others.sent_with));
            }
            None => row("others", &"may not send"),
        }
        for limit in &self.limits {
            row("limit", limit);
        }
        match &self.admin {
            Some(Admin { address, token, operators }) => {
                let token = if *token { "with a token" } else { "without a token" };
                match &operators[..] {
                    [] => row("admin", &format_args!("{address}, {token}")),
                    names => row("admin", &format_args!("{address}, {token}, operators {}", list(names))),
                }
            }
            None => row("admin", &"none"),
        }
        let Deadline { base_seconds, largest_message_octets, largest_message_seconds, shutdown_grace_seconds } =
            &self.deadline;
        row(
            "deadline",
            &format_args!(
                "{base_seconds} s, {largest_message_seconds:.1} s for the largest message ({largest_message_octets} octets); \
                 shutdown grace {shutdown_grace_seconds} s"
            ),
        );
        let target = self.ses.target.as_deref();
        match self.ses.emulator {
            true => row("ses", &format_args!("emulator, messages are stored in {}", target.unwrap_or("memory"))),
            false => row("ses", &format_args!("Amazon, endpoint {}", target.unwrap_or("the region's"))),
        }
        row("region", &self.region);
        row("credentials", &self.credentials);
        text
    }
}

impl Listener {
    fn of(settings: &ListenerSettings, section: &crate::config::Listener) -> Self {
        let smtp = &settings.smtp;
        Self {
            name: settings.name.to_string(),
            address: section.address.as_ref().map(ToString::to_string).unwrap_or_default(),
            tls: match smtp.tls {
                TlsMode::None => "none",
                TlsMode::StartTls => "starttls",
                TlsMode::Implicit => "implicit",
            },
            auth: match smtp.auth {
                AuthMode::Off => "off",
                AuthMode::Optional => "optional",
                AuthMode::Required => "required",
                AuthMode::Any => "any",
            },
            require_tls: smtp.require_tls,
            socket_mode: match &settings.endpoint {
                Endpoint::Unix { mode, .. } => Some(format!("{mode:04o}")),
                _ => None,
            },
            proxy_protocol_from: texts(&section.proxy_protocol_from),
        }
    }
}

impl Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, address, tls, auth, .. } = self;
        write!(f, "{name} on {address}: tls {tls}, auth {auth}")?;
        if self.require_tls {
            f.write_str(", TLS required")?;
        }
        if let Some(mode) = &self.socket_mode {
            write!(f, ", mode {mode}")?;
        }
        match self.proxy_protocol_from.as_slice() {
            [] => Ok(()),
            networks => write!(f, ", PROXY header from {}", networks.join(", ")),
        }
    }
}

impl Certificate {
    fn of(certificate: &ListenerCertificate) -> Self {
        let end = Some(certificate.not_after).filter(|end| *end != 0).and_then(|end| Timestamp::from_second(end).ok());
        let now = Timestamp::try_from(SystemClock.wall()).unwrap_or_default();
        Self {
            listener: certificate.listener.clone(),
            file: certificate.source.clone(),
            names: certificate.names.clone(),
            not_after: end.map(|end| end.to_string()),
            days_left: end.map(|end| end.duration_since(now).as_hours() / 24),
        }
    }
}

impl Display for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = if self.names.is_empty() { "no names".to_owned() } else { self.names.join(", ") };
        write!(f, "{} of listener {}: {names}", self.file, self.listener)?;
        match (&self.not_after, self.days_left) {
            (Some(end), Some(days)) => write!(f, "; expires {end}, in {days} days"),
            _ => Ok(()),
        }
    }
}

impl Application {
    fn of(app: &policy::App, section: &App) -> Self {
        Self {
            name: app.name.to_string(),
            certificates: texts(&section.certificates),
            auth: section.auth.clone(),
            networks: texts(&section.networks),
            listeners: section.listeners.clone(),
            from: texts(&app.from),
            sent_with: SesParameters::of(app),
        }
    }
}

impl Display for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let demands = [
            ("certificate", &self.certificates),
            ("AUTH name", &self.auth),
            ("network", &self.networks),
            ("listener", &self.listeners),
        ];
        let made = demands.iter().filter(|(_, items)| !items.is_empty());
        let made: Vec<String> = made.map(|(word, items)| format!("{word} {}", items.join(" or "))).collect();
        write!(f, "{}: {} as {}", self.name, made.join(", "), list(&self.from))
    }
}

impl SesParameters {
    fn of(app: &policy::App) -> Self {
        let send = &app.send;
        let text = |value: Option<&dyn Display>| value.map(ToString::to_string);
        Self {
            configuration_set: text(send.configuration_set.as_ref().map(|it| it as &dyn Display)),
            identity_arn: text(send.identity_arn.as_ref().map(|it| it as &dyn Display)),
            role: text(send.role.as_ref().map(|it| it as &dyn Display)),
            tags: app.tags.iter().map(|tag| (tag.name.to_string(), tag.value.to_string())).collect(),
            tenant: text(send.tenant.as_ref().map(|it| it as &dyn Display)),
            endpoint_id: text(send.endpoint_id.as_ref().map(|it| it as &dyn Display)),
            list: send.list_management.as_ref().map(|list| match &list.topic {
                Some(topic) => format!("{}, topic {topic}", list.contact_list),
                None => list.contact_list.to_string(),
            }),
            feedback: match &send.feedback {
                None | Some(Feedback::ReversePath) => "reverse-path".to_owned(),
                Some(Feedback::Account) => "account".to_owned(),
                Some(Feedback::Fixed(mailbox)) => mailbox.to_string(),
            },
        }
    }
}

impl Display for SesParameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = self.configuration_set.as_deref().unwrap_or("none");
        write!(f, "configuration set {set}, feedback {}", self.feedback)?;
        let more = [
            ("identity", &self.identity_arn),
            ("role", &self.role),
            ("tenant", &self.tenant),
            ("endpoint", &self.endpoint_id),
            ("list", &self.list),
        ];
        for (word, value) in more {
            if let Some(value) = value {
                write!(f, ", {word} {value}")?;
            }
        }
        let tags: Vec<String> = self.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if tags.is_empty() { Ok(()) } else { write!(f, ", tags {}", tags.join(" ")) }
    }
}

impl Limit {
    fn of(rule: &LimitRule) -> Self {
        Self {
            name: rule.name.to_string(),
            by: match rule.by {
                LimitKey::App => "app",
                LimitKey::Identity => "auth",
                LimitKey::Client { .. } => "client",
                LimitKey::ReversePath => "reverse_path",
                LimitKey::Author => "author",
                LimitKey::RecipientDomain => "recipient_domain",
                LimitKey::Relay => "relay",
            },
            of: match rule.measure {
                Measure::Messages => "messages",
                Measure::Recipients => "recipients",
                Measure::Octets => "octets",
            },
            rates: texts(&rule.windows),
            over: match rule.over {
                OnExceeded::Defer => "defer",
                OnExceeded::Reject => "reject",
                OnExceeded::Delay(_) => "delay",
            },
            apps: texts(&rule.apps),
        }
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, by, of, rates, over, apps } = self;
        let apps = if apps.is_empty() { "all".to_owned() } else { apps.join(", ") };
        write!(f, "{name}: {} {of} by {by}, for {apps}; over it: {over}", rates.join(", "))
    }
}

fn texts<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
