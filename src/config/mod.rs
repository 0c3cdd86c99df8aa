//! The TOML file and environment variables become a [`Plan`], and the plan becomes the builder of a relay.
//!
//! [`Config::load`] reads the file and applies overrides from the environment. An unknown key, or a value that cannot be parsed,
//! is an error with file, line, column and a hint. [`Config::plan`] reads certificates and secrets, checks the settings
//! against each other, and reports all errors at once. [`Plan::builder`] gives each module its settings.
//!
//! Each section of the file has one file here: its keys with their descriptions and defaults, its checks, and the settings that
//! it becomes. The descriptions are those of the JSON schema and of `config/reference.toml`, and the hints of error messages:
//! the first sentence states what is accepted. Defaults come from the modules below, where they have one.
//!
//! Safe by default: without a setting, a feature is off and a message is refused. A listener that other machines can reach is
//! an error without a statement of who may send. Nothing here reads the environment by itself: it is an argument.

mod admin;
mod app;
mod auth;
mod aws;
mod aws_requirements;
mod certificate_pairs;
pub(crate) mod certificates;
mod changes;
mod connections;
mod deadline;
mod diagnostics;
mod documents;
mod error_hints;
mod fixed_settings;
mod header;
mod limits;
mod listener;
mod log;
mod memory;
mod mime;
mod network;
mod number;
mod overrides;
mod pace;
mod plan;
mod policy;
mod policy_section;
mod process_environment;
mod redis;
mod reference;
mod region;
mod rules;
mod secret_source;
mod section;
mod ses;
mod ses_emulator;
mod ses_parameters;
mod smtp;
mod source_map;
mod spool;
mod tls;
mod upstream;
pub(crate) mod values;

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

pub(crate) use admin::AdminSection;
pub(crate) use app::App;
pub(crate) use auth::Authentication;
pub(crate) use aws::Aws;
pub(crate) use aws_requirements::AwsRequirements;
pub(crate) use certificate_pairs::ListenerCertificate;
pub(crate) use changes::FilesRead;
pub(crate) use connections::Connections;
pub(crate) use deadline::Deadline;
pub use diagnostics::{ConfigError, Diagnostic, Found, Purpose};
pub(crate) use error_hints::one_of;
pub(crate) use fixed_settings::FixedSettings;
pub(crate) use header::Header;
pub(crate) use limits::{Limit, LimitsSection};
pub(crate) use listener::{Auth, Certificates, Listener, Tls};
pub(crate) use log::{Log, LogFormat, LogLevel};
pub(crate) use memory::Memory;
pub(crate) use mime::Mime;
pub(crate) use pace::PaceSection;
pub use plan::Plan;
pub(crate) use policy_section::PolicySection;
pub use process_environment::ProcessEnvironment;
pub(crate) use redis::Redis;
pub(crate) use ses::Ses;
pub(crate) use ses_emulator::SesEmulator;
pub(crate) use smtp::Smtp;
pub use source_map::Location;
use source_map::SourceMap;
pub(crate) use spool::Spool;
pub(crate) use tls::TlsFiles;
pub use upstream::{EmulatorSetup, Upstream};

use crate::mail::trace::TraceDetail;
use error_hints::{syntax, translate};
use number::Seconds;
use section::{section, words};
use serde::Deserialize;
use std::path::Path;
use toml::Spanned;
use toml::de::DeTable;
use values::Hostname;

section! {
    /// The configuration of gatepost, an SMTP relay to Amazon SES.
    pub Config {
        /// A domain name such as relay.example.com, or an address literal such as `[192.0.2.1]`: the name of the relay in the
        /// greeting and in the Received field that it adds. Default: this machine's name, or localhost if that is not a domain
        /// name.
        #[schemars(example = &"relay.example.com")]
        hostname: Option<Hostname> = None,
        /// hidden, address or hello: what the Received field, which every recipient sees, contains about the client.
        /// hidden: nothing, so that it does not disclose your network; address: the client's address; hello: also the
        /// name in its EHLO command.
        trace: Trace = Trace::Hidden,
        /// Seconds that a shutdown (SIGTERM, SIGINT) waits for messages in progress before it closes their connections; a second
        /// signal closes them at once. Must be longer than the deadline of the largest message (see `[deadline]`), and shorter
        /// than the time after which the platform kills the process (30 s is common).
        shutdown_grace_seconds: Seconds = Seconds::of(25),
        /// signal or watch: when the configuration and the files that it names are read again. signal: at SIGHUP, and if the admin
        /// endpoint is asked to; watch: also when one of them has changed.
        reload: ReloadMode = ReloadMode::Signal,
        /// The log, on standard error: one line per message outcome, refused command and refused connection.
        log: Log = Log::default(),
        /// Listeners: any number of `[[listener]]` tables, at least one. Each is one socket and what it offers.
        listener: Vec<Listener> = Vec::new(),
        /// Certificates, for every listener without certificates of its own. certs/README.md says how to get them.
        tls: TlsFiles = TlsFiles::default(),
        /// Users, for listeners with auth = "optional" or "required".
        auth: Authentication = Authentication::default(),
        /// Which clients may send, and with which addresses: the rules for clients that match no `[[app]]`, and the
        /// keys that apply to all clients. `gatepost explain` shows as which application a client is recognised, and
        /// what happens to its messages.
        policy: PolicySection = PolicySection::default(),
        /// Amazon SES: how to reach it, and the parameters of every call, unless the `[[app]]` of the message has its own.
        ses: Ses = Ses::default(),
        /// Applications with rules of their own: any number of `[[app]]` tables. A client is recognised as the most
        /// specific one that matches: certificate before AUTH name, AUTH name before network, the longer network before
        /// the shorter, network before listener. If an application has several of these keys, all must match. Of
        /// `[policy]`, only documents, enforcement, soft_fail and delivery apply to applications; an application sets its other
        /// rules itself.
        app: Vec<App> = Vec::new(),
        /// Limits on what is sent in a period: any number of `[[limit]]` tables. All limits that apply to a message
        /// must have capacity in all their rates; otherwise none of them counts it. Rates are counted in this process,
        /// and from 0 after a restart; counts of days and months are kept (`[limits]`); with `[redis]`, relays share
        /// all of them. `gatepost explain` shows the limits of a message.
        limit: Vec<Limit> = Vec::new(),
        /// Settings of all limits.
        limits: LimitsSection = LimitsSection::default(),
        /// The send rate of all applications together: slightly below the maximum send rate of the SES account, which
        /// GetAccount returns.
        pace: PaceSection = PaceSection::default(),
        /// The spool: mail that is accepted with a 250 and sent later. It needs a disk that survives a restart.
        spool: Spool = Spool::default(),
        /// Limits, and the pace of one region of one account, that several relays share over Redis 6 or later, or Valkey. For
        /// quotas of a day or month, choose a server that persists its data (AOF, MemoryDB): counts that it loses start at 0.
        redis: Redis = Redis::default(),
        /// The AWS account of the ARNs in IAM policy documents. The region is ses.region, or AWS_REGION.
        aws: Aws = Aws::default(),
        /// The account that the emulator simulates, used where ses.emulator is true.
        ses_emulator: SesEmulator = SesEmulator::default(),
        /// Limits of one SMTP session, for all listeners.
        smtp: Smtp = Smtp::default(),
        /// Concurrent connections.
        connections: Connections = Connections::default(),
        /// The listener for operators: /livez, /readyz and /metrics over HTTP. Without an address, there is no such
        /// listener.
        admin: AdminSection = AdminSection::default(),
        /// Limits of the header section of a message.
        header: Header = Header::default(),
        /// Limits of the MIME parts of a message. A message over one of them is rejected with 554, and the reply names the
        /// limit.
        mime: Mime = Mime::default(),
        /// Memory and disk for the content of all messages together. Without capacity, clients receive 452 and retry.
        memory: Memory = Memory::default(),
        /// The time from the end of a message to the reply, the call to SES included.
        deadline: Deadline = Deadline::default(),
        /// The places of all keys.
        #[serde(skip)]
        #[schemars(skip)]
        source_map: SourceMap = SourceMap::default(),
    } []
}

words! {
    /// What the Received field shows of the client.
    Trace => TraceDetail {
        /// Nothing.
        Hidden => Hidden,
        /// Its address.
        Address => Address,
        /// Its address and the name in its EHLO command.
        Hello => Hello,
    }
}

words! {
    /// When the configuration is read again.
    ReloadMode {
        /// When something asks for it.
        Signal,
        /// Also when a file has changed.
        Watch,
    }
}

impl Config {
    /// Reads a file, and overrides from the variables that begin with `GATEPOST_`.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read, or with the first value that cannot be parsed.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let read = std::fs::read(path).and_then(|octets| {
            String::from_utf8(octets).map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8"))
        });
        let text = read.map_err(|error| ConfigError::Read { file: path.to_owned(), error })?;
        Self::parse(path, &text, environment)
    }

    /// The same from a text; the name of the file is for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        file: &Path,
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        // Parsed once: with many applications, this is most of the work of a start.
        let document = DeTable::parse(text);
        let mut source_map = SourceMap::of_document(file, text, document.as_ref().ok().map(Spanned::get_ref));
        let wrong = |error: toml::de::Error, source_map: &SourceMap| {
            let octet = error.span().map(|span| span.start);
            let path = octet.and_then(|octet| source_map.path_at(octet)).unwrap_or_default();
            let told = translate(error.message(), path);
            let (before, rest) = octet.and_then(|octet| text.split_at_checked(octet)).unwrap_or_default();
            let before = before.rsplit('\n').next().unwrap_or_default();
            let rest = rest.lines().next().unwrap_or_default();
            let hint = told.hint.unwrap_or_else(|| syntax(error.message(), before, rest).to_owned());
            let location =
                octet.map_or_else(|| Location::File(source_map.file().to_owned()), |octet| source_map.at(octet));
            ConfigError::Wrong(vec![Diagnostic { location, message: told.message, hint: Some(hint) }])
        };
        let read = document.and_then(|document| Self::deserialize(toml::Deserializer::from(document)));
        let read = read.map_err(|error| wrong(error, &source_map))?;
        let overrides = overrides::overrides(environment);
        if overrides.is_empty() {
            return Ok(Self { source_map, ..read });
        }
        let table: toml::Table = toml::from_str(text).map_err(|error| wrong(error, &source_map))?;
        let config = overrides::apply(read, table, &mut source_map, overrides)?;
        Ok(Self { source_map, ..config })
    }

    /// The log format for the errors of a start whose configuration may be wrong: GATEPOST_LOG__FORMAT, else that of the file,
    /// else human.
    pub(crate) fn log_format(path: &Path, mut environment: impl Iterator<Item = (String, String)>) -> LogFormat {
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

    /// The JSON schema of the file, which `config/schema.json` contains.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(Self).to_value();
        format!("{schema:#}\n")
    }
}
