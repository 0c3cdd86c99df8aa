//! Words into settings: a TOML file and the environment become a [`Plan`], which becomes the public builder.
//!
//! Three steps, one file each way down. [`Config::load`] reads the file and lays overrides from the environment over it;
//! a key that is not known, or a value that cannot be read, is an error with file, line, column and a hint.
//! [`Config::plan`] reads certificates and secrets and checks the settings against each other, and tells all that is wrong
//! at once. [`Plan::builder`] hands every room its own settings; no room imports this one.
//!
//! Safe by default: what the file does not say is refused or off, and a listener that others can reach is an error as long
//! as nothing says who may send. Reads no environment by itself: that comes in as data.

mod admin;
mod aws_requirements;
mod bounds;
pub mod certificates;
mod documents;
mod environment;
mod error_hints;
mod limits;
mod listeners;
mod network;
pub mod number;
mod pace;
mod pairs;
mod plan;
mod policy;
mod redis;
mod region;
pub mod rules;
mod secret_source;
mod sections;
mod ses;
mod source_map;
mod upstream;
mod users;
pub mod values;

#[cfg(test)]
mod app_tests;
#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod mistakes_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod sample_tests;

pub use admin::AdminSection;
pub use aws_requirements::AwsRequirements;
pub use bounds::{Connections, Deadline, Header, Memory, Mime, Smtp};
pub use error_hints::one_of;
pub use limits::{Limit, LimitBy, LimitOf, LimitOver, LimitsSection};
pub use pace::PaceSection;
pub use pairs::ListenerCertificate;
pub use plan::{Found, Plan, Purpose};
pub use redis::{Redis, RedisOnError};
pub use rules::{App, Aws, PolicySection};
pub use secret_source::{ProcessEnvironment, Source, SourceError};
pub use sections::{
    Addresses, Auth, Authentication, CertificatePair, Certificates, Lines, Listener, Log, LogFormat, LogLevel, Tls,
    TlsFiles,
};
pub use ses::{ListOptions, Ses, SesEmulator};
pub use source_map::{ConfigError, Diagnostic, Location, SourceMap};
pub use upstream::{EmulatorSetup, Upstream};

use crate::mail::trace::TraceDetail;
use error_hints::{syntax, translate};
use number::Seconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::Spanned;
use toml::de::DeTable;
use values::Hostname;

/// The configuration of gatepost, an SMTP relay to Amazon SES.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A domain name such as relay.example.com, or an address literal such as `[192.0.2.1]`: what the greeting and our
    /// trace field call us. Default: this machine's name.
    pub hostname: Option<Hostname>,
    /// hidden, address or hello: what the Received field shows every recipient of the client that sent a message: nothing,
    /// its address, or also the name that it gave.
    pub trace: Trace,
    /// Seconds that a shutdown waits for messages under way before it cuts them. Must be longer than the deadline of the
    /// largest message, and shorter than what the platform gives before it kills (30 s is common).
    pub shutdown_grace_seconds: Seconds,
    /// The log, on standard error.
    pub log: Log,
    /// Listeners: any number of `[[listener]]` tables, at least one.
    pub listener: Vec<Listener>,
    /// Certificates, for every listener that names none itself.
    pub tls: TlsFiles,
    /// Users, for listeners with auth = "optional" or "required".
    pub auth: Authentication,
    /// Who may send, and as whom, who is no `[[app]]`; and what holds for everybody.
    pub policy: PolicySection,
    /// Applications with rights of their own: any number of `[[app]]` tables.
    pub app: Vec<App>,
    /// How often, how fast: any number of `[[limit]]` tables.
    pub limit: Vec<Limit>,
    /// LimitsSection and pace that several relays share, over Redis or Valkey.
    pub redis: Redis,
    /// What holds for all limits.
    pub limits: LimitsSection,
    /// How fast all applications together send.
    pub pace: PaceSection,
    /// Whose AWS account it is, for the ARNs in IAM policy documents.
    pub aws: Aws,
    /// How to reach Amazon SES, and what every message gets there.
    pub ses: Ses,
    /// The account that the emulator plays, used where ses.emulator is true.
    pub ses_emulator: SesEmulator,
    /// Bounds of one SMTP session, for all listeners.
    pub smtp: Smtp,
    /// Connections at a time.
    pub connections: Connections,
    /// The operator's door: /livez, /readyz and /metrics over HTTP.
    pub admin: AdminSection,
    /// Bounds of a message's header section.
    pub header: Header,
    /// Bounds of the MIME parts of a message.
    pub mime: Mime,
    /// How much all messages together may hold.
    pub memory: Memory,
    /// How long a client waits at most for the reply to its message.
    pub deadline: Deadline,
    /// Where everything stands.
    #[serde(skip)]
    #[schemars(skip)]
    pub source_map: SourceMap,
}

/// What the trace field shows of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trace {
    /// Nothing.
    Hidden,
    /// Its address.
    Address,
    /// Its address and the name that EHLO gave.
    Hello,
}

impl From<Trace> for TraceDetail {
    fn from(trace: Trace) -> Self {
        match trace {
            Trace::Hidden => Self::Hidden,
            Trace::Address => Self::Address,
            Trace::Hello => Self::Hello,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hostname: None,
            trace: Trace::Hidden,
            shutdown_grace_seconds: Seconds::of(25),
            log: Log::default(),
            listener: Vec::new(),
            tls: TlsFiles::default(),
            auth: Authentication::default(),
            policy: PolicySection::default(),
            app: Vec::new(),
            limit: Vec::new(),
            redis: Redis::default(),
            limits: LimitsSection::default(),
            pace: PaceSection::default(),
            aws: Aws::default(),
            ses: Ses::default(),
            ses_emulator: SesEmulator::default(),
            smtp: Smtp::default(),
            connections: Connections::default(),
            admin: AdminSection::default(),
            header: Header::default(),
            mime: Mime::default(),
            memory: Memory::default(),
            deadline: Deadline::default(),
            source_map: SourceMap::default(),
        }
    }
}

impl Config {
    /// Reads a file, and overrides from the environment: every variable that begins with `GATEPOST_` is looked at.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or the first thing in it that cannot be understood.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let read = std::fs::read(path).and_then(|octets| {
            String::from_utf8(octets).map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8"))
        });
        let text = read.map_err(|error| ConfigError::Read { file: path.to_owned(), error })?;
        Self::parse(path, &text, environment)
    }

    /// The same from a text; the file's name is for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        file: &Path,
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        // Once: of many applications, this is most of the work of a start.
        let document = DeTable::parse(text);
        let mut source_map = SourceMap::of_document(file, text, document.as_ref().ok().map(Spanned::get_ref));
        let wrong = |error: toml::de::Error, source_map: &SourceMap| {
            let octet = error.span().map(|span| span.start);
            let path = octet.and_then(|octet| source_map.path_at(octet)).unwrap_or_default();
            let told = translate(error.message(), path);
            let hint = told.hint.unwrap_or_else(|| syntax(error.message()).to_owned());
            let location =
                octet.map_or_else(|| Location::File(source_map.file().to_owned()), |octet| source_map.at(octet));
            ConfigError::Wrong(vec![Diagnostic { location, message: told.message, hint: Some(hint) }])
        };
        let read = document.and_then(|document| Self::deserialize(toml::Deserializer::from(document)));
        let read = read.map_err(|error| wrong(error, &source_map))?;
        let overrides = environment::overrides(environment);
        if overrides.is_empty() {
            return Ok(Self { source_map, ..read });
        }
        let table: toml::Table = toml::from_str(text).map_err(|error| wrong(error, &source_map))?;
        let config = environment::apply(read, table, &mut source_map, overrides)?;
        Ok(Self { source_map, ..config })
    }

    /// The format of the log that a start was asked for, as far as it can be known of a file that may be wrong: what
    /// GATEPOST_LOG__FORMAT says, else what the file says, else text.
    pub fn log_format(path: &Path, mut environment: impl Iterator<Item = (String, String)>) -> LogFormat {
        let of_environment = environment.find(|(name, _)| name == "GATEPOST_LOG__FORMAT").map(|(_, value)| value);
        let of_file = || {
            let text = path.is_file().then(|| std::fs::read_to_string(path).ok())??;
            let table: toml::Table = toml::from_str(&text).ok()?;
            Some(table.get("log")?.get("format")?.as_str()?.to_owned())
        };
        match of_environment.or_else(of_file).as_deref().map(|text| text.trim_matches(['"', '\''])) {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Human,
        }
    }

    /// Whether the file has another content than it had when this was read; an error if it cannot be read. What is no regular
    /// file, a pipe or a device, has not.
    ///
    /// # Errors
    /// What the system said.
    pub fn has_file_changed(&self) -> std::io::Result<bool> {
        let file = self.source_map.file();
        match std::fs::metadata(file)?.is_file() {
            true => std::fs::read(file).map(|octets| octets != self.source_map.text().as_bytes()),
            false => Ok(false),
        }
    }

    /// The sections that a running relay still asks: all but the lists of applications and limits, of which policy and
    /// limiter have their own by then.
    #[must_use]
    pub fn without_lists(&self) -> Self {
        Self {
            hostname: self.hostname.clone(),
            trace: self.trace,
            shutdown_grace_seconds: self.shutdown_grace_seconds,
            log: self.log.clone(),
            listener: self.listener.clone(),
            tls: self.tls.clone(),
            auth: self.auth.clone(),
            policy: self.policy.clone(),
            app: Vec::new(),
            limit: Vec::new(),
            redis: self.redis.clone(),
            limits: self.limits.clone(),
            pace: self.pace.clone(),
            aws: self.aws.clone(),
            ses: self.ses.clone(),
            ses_emulator: self.ses_emulator.clone(),
            smtp: self.smtp.clone(),
            connections: self.connections.clone(),
            admin: self.admin.clone(),
            header: self.header.clone(),
            mime: self.mime.clone(),
            memory: self.memory.clone(),
            deadline: self.deadline.clone(),
            source_map: self.source_map.fresh(),
        }
    }

    /// The JSON schema, as `config/schema.json` has it.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(Self).to_value();
        format!("{schema:#}\n")
    }
}
