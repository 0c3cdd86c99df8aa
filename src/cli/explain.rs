//! `gatepost explain`: what would happen to a message, and why.
//!
//! Client facts and a message in, every command of the dialogue out, with the rules behind each reply. The relay that
//! answers is the one that `run` starts, without its sockets and its way out (see [`crate::builder`]).

mod client;
mod message;

use super::admin_client::{self, As};
use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::{ConfigFile, runtime};
use crate::admin::AdminSettings;
use crate::admin::api::ExplainRequest;
use crate::builder::{Explanation, Facts, Sent};
use crate::config::{Certificates, Config, Listener, Plan, Purpose, Tls, one_of};
use crate::mail::ClientAddress;
use crate::policy::CertificateMatch;
use crate::transport::{NullTransport, ses};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Chosen, Given};
use serde::Serialize;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Choose a client that is recognised as this application; --listener, --client, --auth and --certificate are kept.
    /// Without --from, --mail-from and --file, From is an address that the application may use
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// The address of the client (behind a proxy, that in the PROXY header): IP, IP:PORT or unix. Default: this machine
    #[arg(long, value_name = "ADDRESS")]
    client: Option<ClientArgument>,
    /// The listener that the client connects to. Default: the first
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The name that the client authenticates with; no password is needed
    #[arg(long, value_name = "NAME")]
    auth: Option<String>,
    /// The client uses STARTTLS
    #[arg(long)]
    tls: bool,
    /// A part of the client certificate, which counts as verified: subject=…, name=… or fingerprint=…; may be repeated
    #[arg(long, value_name = "FACT")]
    certificate: Vec<CertificateFact>,
    /// The address in MAIL FROM; "" is the null reverse-path. Default: the first address of From
    #[arg(long, value_name = "ADDRESS")]
    mail_from: Option<String>,
    /// A recipient; may be repeated
    #[arg(long, value_name = "ADDRESS", required = true)]
    rcpt: Vec<String>,
    /// The From field of a test message. Default: the address of --mail-from
    #[arg(long, value_name = "FIELD", conflicts_with = "message")]
    from: Option<String>,
    /// A file with the message to explain, instead of a test message; "-" is standard input
    #[arg(long = "file", id = "message", value_name = "message.eml")]
    message: Option<PathBuf>,
    /// Ask the running relay, over its admin endpoint: with the rules that it has in force, and what is left of its limits now
    #[arg(long, conflicts_with = "certificate")]
    running: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct ClientArgument(ClientAddress);

impl std::str::FromStr for ClientArgument {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip = |ip: IpAddr| Self(ClientAddress::Ip(SocketAddr::new(ip.to_canonical(), 0)));
        match (text, text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
            ("unix", ..) => Ok(Self(ClientAddress::Unix)),
            (_, Ok(address), _) => Ok(ip(address)),
            (_, _, Ok(address)) => {
                Ok(Self(ClientAddress::Ip(SocketAddr::new(address.ip().to_canonical(), address.port()))))
            }
            _ => Err("an address is IP, IP:PORT or unix"),
        }
    }
}

#[derive(Clone, Debug)]
struct CertificateFact(CertificateMatch);

impl std::str::FromStr for CertificateFact {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // As in the configuration, but for the sign, which a shell user expects.
        let text = text.replacen('=', ":", 1);
        text.parse::<crate::config::values::CertificateText>().map(|fact| Self(fact.0))
    }
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let (config, process_environment) = arguments.file.load()?;
    let mut plan = config.plan(&process_environment, Purpose::Check)?;
    let (facts, preface) = facts(arguments, &config, &plan)?;
    if arguments.running {
        let admin = plan.admin().cloned().ok_or_else(|| {
            let failure = Failure::new(Exit::Config, "--running needs the admin endpoint of the relay");
            failure.with_hint("set admin.address")
        })?;
        let explanation = runtime()?.block_on(asked(&admin, &facts))?;
        return print(arguments, printer, &preface, &explanation, true);
    }
    // Only lines of ours are wanted on standard output, and none of the log.
    let limits = plan.limits_seen()?;
    let runtime = runtime()?;
    let shared = config.redis.url.is_some();
    if let Err(error) = runtime.block_on(plan.connect_redis()) {
        printer.tell(&format!("{error}; what is left of limits is not known"));
    }
    let mut builder = plan.builder(NullTransport::with_octets_held(ses::octets_held));
    if let Some(limits) = limits {
        builder = builder.limiter(limits);
    }
    let explained = runtime.block_on(builder.explain(&facts));
    let explanation = explained.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    print(arguments, printer, &preface, &explanation, shared)
}

/// Asks the running relay.
async fn asked(admin: &AdminSettings, facts: &Facts) -> Result<Explanation, Failure> {
    if facts.certificate.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "--running: the client is recognised by a certificate, which this command cannot send",
        ));
    }
    let request = ExplainRequest {
        listener: facts.listener.clone(),
        client: facts.client.map(|client| match client {
            ClientAddress::Ip(address) => address.to_string(),
            _ => "unix".to_owned(),
        }),
        identity: facts.identity.clone(),
        tls: facts.tls,
        reverse_path: facts.reverse_path.clone(),
        forward_paths: facts.forward_paths.clone(),
        message: Some(STANDARD.encode(&facts.message)),
    };
    let wrong = |error: serde_json::Error| Failure::new(Exit::Software, format!("the relay's answer: {error}"));
    let body = serde_json::to_vec(&request).map_err(wrong)?;
    let answer = admin_client::post(admin, As::Reader, "/api/v1/explain", body).await?;
    serde_json::from_slice(&answer).map_err(wrong)
}

/// `counted`: the counts are those of the running relays.
fn print(
    arguments: &Arguments,
    printer: &Printer,
    preface: &Preface<'_>,
    explanation: &Explanation,
    counted: bool,
) -> Result<Exit, Failure> {
    let text = if arguments.json {
        let json = serde_json::to_string_pretty(&Explained { chosen: preface, explanation });
        json.map_err(|error| Failure::new(Exit::Software, error.to_string()))? + "\n"
    } else {
        preface.text() + &shown(explanation, counted)
    };
    printer.text(&text)?;
    Ok(match (explanation.allowed, explanation.is_deferred()) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::TryAgain,
        (false, false) => Exit::NoPermission,
    })
}

/// The facts to explain, and what was chosen of them for `--app`.
fn facts<'a>(arguments: &'a Arguments, config: &'a Config, plan: &Plan) -> Result<(Facts, Preface<'a>), Failure> {
    let wrong = |text: String| Failure::new(Exit::Usage, text);
    let given = Given {
        listener: arguments.listener.as_deref(),
        address: arguments.client.map(|address| address.0),
        auth: arguments.auth.as_deref(),
        certificate: client::of_facts(arguments.certificate.iter().map(|fact| &fact.0)),
    };
    let known =
        |name: &str| config.app.iter().position(|app| app.name.as_ref().is_some_and(|it| it.0.as_str() == name));
    let app = arguments.app.as_deref().map(|name| {
        let names = config.app.iter().filter_map(|app| Some(app.name.as_ref()?.0.as_str()));
        known(name).ok_or_else(|| {
            let hint = match name {
                "default" => {
                    "default is the name of all other clients, with the rules of [policy]: leave --app out".to_owned()
                }
                _ => one_of(name, names, "application"),
            };
            wrong(format!("--app {name}: the configuration has no such application")).with_hint(hint)
        })
    });
    let app = app.transpose()?;
    if let Some(name) = given.auth.filter(|name| !plan.user_names.contains(*name)) {
        let names = plan.user_names.iter().map(String::as_str);
        let failure = wrong(format!("--auth {name}: the configuration has no such user"));
        return Err(failure.with_hint(one_of(name, names, "user")));
    }
    let listeners = || config.listener.iter().map(Listener::called);
    if let Some(name) = given.listener.filter(|name| !listeners().any(|it| it == *name)) {
        let names: Vec<String> = listeners().collect();
        let failure = wrong(format!("--listener {name}: the configuration has no such listener"));
        return Err(failure.with_hint(one_of(name, names.iter().map(String::as_str), "listener")));
    }
    let chosen = app.map(|place| client::choose(config, plan, &config.app[place], &given));
    let candidate = chosen.as_ref().and_then(|chosen| chosen.candidate.clone());
    if let (Some(chosen), None) = (&chosen, &candidate) {
        let remark = chosen.remark().unwrap_or_default();
        let failure = wrong(format!("--app {}: {remark}", arguments.app.as_deref().unwrap_or_default()));
        return Err(
            failure.with_hint("`gatepost check` shows how it is recognised and what listeners offer; or give --client")
        );
    }
    let (certificate, auth, address) = match &candidate {
        Some(it) => (it.certificate.clone(), it.auth.clone(), Some(it.address)),
        None => (given.certificate, given.auth.map(str::to_owned), given.address),
    };
    let section = match (&candidate, given.listener) {
        (Some(it), _) => Some(it.listener),
        (None, Some(name)) => config.listener.iter().find(|listener| listener.called() == name),
        (None, None) => config.listener.first(),
    };
    let mut tls = arguments.tls;
    if let Some(section) = section {
        if certificate.is_some() && section.client_certificates == Certificates::Off {
            let name = section.called();
            return Err(wrong(format!("--certificate: listener {name:?} requests no client certificates")));
        }
        // A client with a certificate or a password uses TLS where it is offered.
        let needed = certificate.is_some() || auth.is_some() && !section.auth_in_clear;
        tls |= section.tls == Tls::Starttls && (needed || section.require_tls && candidate.is_some());
    }
    let message = message::read(arguments, app.and_then(|place| plan.policy().apps().get(place)))?;
    let bare = |text: &str| text.trim_start_matches('<').trim_end_matches('>').to_owned();
    let facts = Facts {
        listener: candidate.as_ref().map(|it| it.listener.called()).or_else(|| arguments.listener.clone()),
        client: address,
        identity: auth,
        tls,
        certificate,
        reverse_path: bare(&message.reverse_path),
        forward_paths: arguments.rcpt.iter().map(|path| bare(path)).collect(),
        message: message.octets.into(),
    };
    Ok((facts, Preface { client: chosen, from: message.derived }))
}

/// What was chosen for `--app`.
#[derive(Serialize)]
struct Preface<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Chosen<'a>>,
    /// The address that From was derived as.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

impl Preface<'_> {
    fn text(&self) -> String {
        let mut rows = self.client.as_ref().map(Chosen::rows).unwrap_or_default();
        rows.extend(self.from.iter().map(|from| ("from", from.clone())));
        if rows.is_empty() {
            return String::new();
        }
        let rows = rows.iter().map(|(topic, text)| format!("    {topic:<14} {}\n", plain(text)));
        format!("chosen\n{}", rows.collect::<String>())
    }
}

/// The explanation, with what was chosen.
#[derive(Serialize)]
struct Explained<'a> {
    chosen: &'a Preface<'a>,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

fn shown(explanation: &Explanation, shared: bool) -> String {
    let mut text = String::new();
    for step in &explanation.steps {
        let _ = writeln!(text, "{}", plain(&step.said));
        for note in &step.notes {
            let _ = writeln!(text, "    {:<14} {}", note.topic, plain(&note.text));
        }
        let _ = writeln!(text, "    {:<14} {}", "reply", plain(&step.reply));
    }
    if let Some(sent) = explanation.sent.as_ref().filter(|_| explanation.allowed) {
        let _ = writeln!(text, "sent to SES");
        for (key, value) in rows(sent) {
            let _ = writeln!(text, "    {key:<14} {}", plain(&value));
        }
    }
    // Without shared counts a limit that is used up looks empty here: say so.
    let limits = explanation
        .steps
        .iter()
        .flat_map(|step| &step.notes)
        .any(|note| note.topic == "limit" && note.text.contains(" burst "));
    if limits && !shared {
        let _ = writeln!(text, "rates are counted in the running relay: those above are as after a start");
    }
    let verdict = match (explanation.allowed, explanation.is_deferred()) {
        (true, _) => "accepted",
        (false, true) => "deferred",
        (false, false) => "refused",
    };
    let _ = writeln!(text, "{verdict}: {}", plain(&explanation.reply));
    text
}

/// What the 250 means.
fn delivery(word: &str) -> String {
    let meaning = match word {
        "spool" => "250 means that the message is in the spool",
        "hand-off-else-spool" => "250 means that SES has the message or, where it would be deferred, the spool",
        _ => "250 means that SES has the message",
    };
    format!("{word}: {meaning}")
}

fn rows(sent: &Sent) -> Vec<(&'static str, String)> {
    let tags: Vec<String> = sent.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut rows = vec![
        ("delivery", delivery(&sent.delivery)),
        ("from", sent.from.join(", ")),
        ("recipients", sent.recipients.join(", ")),
        ("bounces go to", sent.feedback.clone().unwrap_or_else(|| "the feedback address of the account".to_owned())),
    ];
    let said = [
        ("config. set", &sent.configuration_set),
        ("identity", &sent.identity_arn),
        ("role", &sent.role),
        ("tenant", &sent.tenant),
        ("endpoint", &sent.endpoint_id),
        ("list", &sent.list),
    ];
    rows.extend(said.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
    if !tags.is_empty() {
        rows.push(("tags", tags.join(", ")));
    }
    rows
}

/// A terminal obeys control characters, and the message may come from anyone.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
