//! `gatepost explain`: what would happen to a message, and why.
//!
//! Client facts and a message in, every command of the dialogue out, with the rules behind each reply. The relay that
//! answers is the one that `run` starts, without its sockets and its way out (see [`crate::assemble`]).

use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::{ConfigFile, runtime};
use crate::assemble::{Explanation, Facts, Sent};
use crate::config::{App, Certificates, Config, Purpose, Tls};
use crate::mail::{ClientAddress, ClientCertificate, Clock, Kind, Outcome, Permitted, SystemClock, replies, trace};
use crate::policy::CertificateMatch;
use crate::transport::Transport;
use async_trait::async_trait;
use std::fmt::Write;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Take client facts by which this application of the configuration is recognised, where they are not given
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Where the client is, after the PROXY protocol: IP, IP:PORT or unix. Default: this machine
    #[arg(long, value_name = "ADDRESS")]
    client: Option<Where>,
    /// The listener that it comes to. Default: the first
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The name that it authenticates with; the password is taken to be right
    #[arg(long, value_name = "NAME")]
    auth: Option<String>,
    /// It uses STARTTLS
    #[arg(long)]
    tls: bool,
    /// A fact of the certificate that it shows, taken to be verified: subject=…, name=… or fingerprint=…; may be repeated
    #[arg(long, value_name = "FACT")]
    certificate: Vec<CertificateFact>,
    /// The reverse-path; "" is the null reverse-path. Default: the address of --from
    #[arg(long, value_name = "ADDRESS")]
    mail_from: Option<String>,
    /// A recipient; may be repeated
    #[arg(long, value_name = "ADDRESS", required = true)]
    rcpt: Vec<String>,
    /// The From field of a message made here. Default: the reverse-path
    #[arg(long, value_name = "FIELD", conflicts_with = "message")]
    from: Option<String>,
    /// The message as the client sends it; "-" is standard input
    #[arg(long = "file", id = "message", value_name = "message.eml", required_unless_present_any = ["mail_from", "from"])]
    message: Option<PathBuf>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct Where(ClientAddress);

impl std::str::FromStr for Where {
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
    let (config, surroundings) = arguments.file.load()?;
    let mut plan = config.plan(&surroundings, Purpose::Check)?;
    let facts = facts(arguments, &config)?;
    if let Some(name) = facts.identity.as_ref().filter(|name| !plan.user_names.contains(*name)) {
        return Err(Failure::new(Exit::Usage, format!("--auth {name}: the configuration has no such user")));
    }
    // Only lines of ours are wanted on standard output, and none of the log.
    let limits = plan.limits_seen()?;
    let runtime = runtime()?;
    let shared = config.redis.url.is_some();
    if let Err(error) = runtime.block_on(plan.connect_redis()) {
        printer.tell(&format!("{error}; what is left of limits is not known"));
    }
    let mut builder = plan.builder(Weightless);
    if let Some(limits) = limits {
        builder = builder.limiter(limits);
    }
    let explained = runtime.block_on(builder.explain(&facts));
    let explanation = explained.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let text = if arguments.json {
        let json = serde_json::to_string_pretty(&explanation);
        json.map_err(|error| Failure::new(Exit::Software, error.to_string()))? + "\n"
    } else {
        shown(&explanation, shared)
    };
    printer.text(&text)?;
    Ok(match (explanation.allowed, explanation.is_deferred()) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::TryAgain,
        (false, false) => Exit::NoPermission,
    })
}

fn facts(arguments: &Arguments, config: &Config) -> Result<Facts, Failure> {
    let wrong = |text: String| Failure::new(Exit::Usage, text);
    let app = match &arguments.app {
        None => None,
        Some(name) => {
            let found = config.app.iter().find(|app| app.name.as_ref().is_some_and(|known| known.0.as_str() == name));
            Some(found.ok_or_else(|| wrong(format!("--app {name}: the configuration has no such application")))?)
        }
    };
    let mut certificate = certificate(arguments.certificate.iter().map(|fact| &fact.0));
    if certificate.is_none() {
        certificate = app.and_then(|app| self::certificate(app.certificates.iter().map(|text| &text.0).take(1)));
    }
    let auth = arguments.auth.clone().or_else(|| app.and_then(|app| app.auth.first().cloned()));
    let network = app.and_then(|app| app.networks.first());
    let inside = network.map(|network| ClientAddress::Ip(SocketAddr::new(network.0.addr(), 0)));
    let listener = arguments.listener.clone().or_else(|| listener(config, app, certificate.is_some(), auth.is_some()));
    let section = match &listener {
        Some(name) => config.listener.iter().find(|listener| listener.called() == *name),
        None => config.listener.first(),
    };
    let mut tls = arguments.tls;
    if let Some(section) = section {
        if certificate.is_some() && section.client_certificates == Certificates::Off {
            let name = section.called();
            return Err(wrong(format!("--certificate: listener {name:?} asks for no client certificates")));
        }
        // Whoever shows a certificate or a password does it under TLS, where there is some.
        tls |= section.tls == Tls::Starttls && (certificate.is_some() || auth.is_some() && !section.auth_in_clear);
    }
    let message = match &arguments.message {
        Some(path) => read(path)?,
        None => made(arguments),
    };
    let reverse_path = arguments.mail_from.clone().or_else(|| address_of(arguments.from.as_deref(), &message));
    let reverse_path =
        reverse_path.ok_or_else(|| wrong("the message has no From that could be read: give --mail-from".to_owned()))?;
    let bare = |text: &str| text.trim_start_matches('<').trim_end_matches('>').to_owned();
    Ok(Facts {
        listener,
        client: arguments.client.map(|address| address.0).or(inside),
        identity: auth,
        tls,
        certificate,
        reverse_path: bare(&reverse_path),
        forward_paths: arguments.rcpt.iter().map(|path| bare(path)).collect(),
        message: message.into(),
    })
}

/// The first listener that the application may come to with what it has to show.
fn listener(config: &Config, app: Option<&App>, certificate: bool, auth: bool) -> Option<String> {
    let app = app?;
    let fits = |listener: &&crate::config::Listener| {
        (app.listeners.is_empty() || app.listeners.contains(&listener.called()))
            && (!certificate || listener.client_certificates != Certificates::Off)
            && (!auth || listener.auth != crate::config::Auth::Off)
    };
    config.listener.iter().find(fits).map(crate::config::Listener::called)
}

fn certificate<'a>(facts: impl Iterator<Item = &'a CertificateMatch>) -> Option<ClientCertificate> {
    facts.fold(None, |known, fact| {
        let mut certificate = known.unwrap_or_default();
        match fact {
            CertificateMatch::Fingerprint(text) => certificate.fingerprint.clone_from(text),
            CertificateMatch::Subject(text) => certificate.subject.clone_from(text),
            CertificateMatch::Name(text) => certificate.names.push(text.clone()),
        }
        Some(certificate)
    })
}

/// A file as clients send it: one with LF alone is a file of this system, and SMTP clients make its line ends CR LF.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let octets = if path == Path::new("-") {
        let mut octets = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut octets);
        read.map_err(|error| Failure::new(Exit::Io, format!("cannot read the message: {error}")))?;
        octets
    } else {
        std::fs::read(path).map_err(|error| Failure::reading(path, &error))?
    };
    if octets.contains(&b'\r') {
        return Ok(octets);
    }
    let mut wire = Vec::with_capacity(octets.len() + octets.len() / 32);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => wire.extend([line, b"\r\n"].concat()),
            None => wire.extend_from_slice(line),
        }
    }
    Ok(wire)
}

/// A small message that lacks nothing.
fn made(arguments: &Arguments) -> Vec<u8> {
    let from = arguments.from.as_deref().or(arguments.mail_from.as_deref()).unwrap_or_default();
    let date = trace::rfc5322_date(SystemClock.wall());
    let header = format!("From: {from}\r\nSubject: A question\r\nDate: {date}\r\nMessage-ID: <1@gatepost.invalid>\r\n");
    format!("{header}\r\nA question.\r\n").into_bytes()
}

/// The first address of `--from`, or of the message's From field.
fn address_of(from: Option<&str>, message: &[u8]) -> Option<String> {
    let field = match from {
        Some(text) => text.to_owned(),
        None => {
            let header = String::from_utf8_lossy(message);
            let header =
                header.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
            let is_from = |line: &&str| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("From:"));
            header.lines().find(is_from)?[5..].to_owned()
        }
    };
    crate::mail::author::parse(field.as_bytes()).ok()?.first().map(|author| author.mailbox.to_string())
}

/// What stands in the place of SES: nothing is ever handed to it.
struct Weightless;

#[async_trait]
impl Transport for Weightless {
    async fn send(&self, _message: Permitted, _deadline: Instant) -> Outcome {
        Outcome::not_sent(Kind::Failed, replies::LOCAL_ERROR, "an explanation sends nothing")
    }

    fn octets_held(&self, message_octets: u64) -> u64 {
        crate::transport::ses::octets_held(message_octets)
    }
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
    // Who looks for a limit that is used up must not be told that it is full.
    let limits = explanation
        .steps
        .iter()
        .flat_map(|step| &step.notes)
        .any(|note| note.topic == "limit" && note.text.contains(" burst "));
    if limits && !shared {
        let _ = writeln!(text, "rates are counted inside a running relay: those above are of one that has just begun");
    }
    let verdict = match (explanation.allowed, explanation.is_deferred()) {
        (true, _) => "accepted",
        (false, true) => "deferred",
        (false, false) => "refused",
    };
    let _ = writeln!(text, "{verdict}: {}", plain(&explanation.reply));
    text
}

fn rows(sent: &Sent) -> Vec<(&'static str, String)> {
    let tags: Vec<String> = sent.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut rows = vec![
        ("from", sent.from.join(", ")),
        ("recipients", sent.recipients.join(", ")),
        ("bounces go to", sent.feedback.clone().unwrap_or_else(|| "where the account says".to_owned())),
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

/// A terminal does what control characters say, and the message is anybody's.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
