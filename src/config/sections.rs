//! The sections of the file about the door: log, listeners, TLS, AUTH.
//!
//! The comments here are the descriptions in the JSON schema, and the hints of error messages: the first sentence says
//! what is accepted. Defaults come from the rooms below wherever a room has one.

use super::number::{Number, Seconds, SecondsOrZero};
use super::secret_source::Source;
use super::values::{EvenRate, ListenAddress, Mode, Network};
use crate::auth::UsersSettings;
use crate::limit::LockoutSettings;
use crate::observe::AddressForm;
use crate::server::ClientCertificates;
use crate::smtp::{AuthMode, LineEndings, LongLines, MboxLine, StrayDots, TlsMode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Words of the file for an enum of a room below.
macro_rules! words {
    ($( $(#[$doc:meta])+ $name:ident => $room:ident { $( $(#[$word:meta])+ $variant:ident => $target:ident, )+ } )+) => { $(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $( $(#[$word])+ $variant, )+ }

        impl From<$name> for $room {
            fn from(word: $name) -> Self {
                match word { $( $name::$variant => $room::$target, )+ }
            }
        }
    )+ };
}

words! {
    /// Whether and how a listener speaks TLS.
    Tls => TlsMode {
        /// Never.
        None => None,
        /// On request, after the STARTTLS command.
        Starttls => StartTls,
        /// From the first octet.
        Implicit => Implicit,
    }
    /// Whether and how a listener asks for AUTH.
    Auth => AuthMode {
        /// Not offered.
        Off => Off,
        /// Offered.
        Optional => Optional,
        /// Needed before MAIL.
        Required => Required,
        /// Every name and password is accepted, and it is never an identity.
        Any => Any,
    }
    /// What to do with a lone CR or LF inside a message.
    Lines => LineEndings {
        /// Refuse the message.
        Refuse => Refuse,
        /// Make it CR LF before anybody looks at the message.
        Normalize => Normalize,
    }
    /// What to do with lines that are too long.
    Long => LongLines {
        /// Refuse the message.
        Refuse => Refuse,
        /// Make them shorter, before policy judges.
        #[serde(rename = "re-encode")]
        ReEncode => ReEncode,
    }
    /// What to do with a recipient whose dots are misplaced.
    Dots => StrayDots {
        /// Refuse it.
        Refuse => Refuse,
        /// Quote its local part.
        Quote => Quote,
    }
    /// What to do with an mbox line in front of a message.
    Mbox => MboxLine {
        /// Refuse the message.
        Refuse => Refuse,
        /// Drop the line.
        Drop => Drop,
    }
    /// Whether clients show certificates.
    Certificates => ClientCertificates {
        /// Not asked for.
        Off => Off,
        /// Asked for.
        Optional => Optional,
        /// No handshake without a good one.
        Required => Required,
    }
    /// How addresses of people are written to the log.
    Addresses => AddressForm {
        /// As they are.
        Plain => Plain,
        /// The local part as a keyed hash, the domain as it is.
        Hashed => Hashed,
        /// Not at all.
        Omitted => Omitted,
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// logfmt: `key=value`, quoted where needed.
    Human,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What an operator must mend.
    Error,
    /// And messages and commands that were refused or deferred.
    Warn,
    /// And messages that were accepted.
    Info,
    /// And connections.
    Debug,
    /// And everything.
    Trace,
}

/// The log, on standard error.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// human or json. human is logfmt. One line per message outcome in either.
    pub format: LogFormat,
    /// error, warn, info, debug or trace. Of other libraries, only warnings are shown; the environment variable
    /// GATEPOST_LOG replaces all of this by directives such as "info,gatepost=debug".
    pub level: LogLevel,
    /// plain, hashed or omitted. Under what form addresses of people (recipients of accepted messages included), AUTH names
    /// and Message-IDs stand in log lines; other than plain, details that quote addresses are left out too.
    pub addresses: Addresses,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: LogLevel::Info, addresses: Addresses::Plain }
    }
}

/// A listener: one socket and what it offers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// A name of your choice, for log lines. Default: the address.
    pub name: Option<String>,
    /// IP:PORT such as 127.0.0.1:2525, unix:/PATH, systemd:NUMBER or systemd:NAME. A listener that other machines can
    /// reach needs a statement of who may send: policy.clients, an `[[app]]` recognised by more than its listener, auth =
    /// "required" or client_certificates = "required".
    pub address: Option<ListenAddress>,
    /// Permission bits in octal, such as "0660", of a Unix socket's file. Whoever may open it may send.
    pub socket_mode: Mode,
    /// none, starttls or implicit. Many clients use STARTTLS whenever it is offered and then verify the certificate.
    pub tls: Tls,
    /// true or false: refuse everything but STARTTLS before TLS.
    pub require_tls: bool,
    /// The certificate chain in PEM, end-entity first: { file = "…" }. Default: tls.certificate.
    pub certificate: Option<Source>,
    /// The private key in PEM: { file = "…" } or { credential = "…" }. Default: tls.key.
    pub key: Option<Source>,
    /// Further certificates with their keys, such as an RSA one beside an ECDSA one, or for other names:
    /// [{ certificate = { file = "…" }, key = { file = "…" } }]. Default: tls.further_pairs, where certificate and key are
    /// those of tls too.
    pub further_pairs: Vec<CertificatePair>,
    /// off, optional or required. Whoever shows one that tls.client_authorities issued may send from any address.
    pub client_certificates: Certificates,
    /// The issuers of client certificates in PEM: { file = "…" }. Default: tls.client_authorities.
    pub client_authorities: Option<Source>,
    /// off, optional, required or any. any accepts every name and password, empty ones too, and CRAM-MD5, for
    /// applications that insist on AUTH; it is never an identity and lets nobody in.
    pub auth: Auth,
    /// true or false: offer AUTH without TLS too, where passwords can be read on the way.
    pub auth_in_clear: bool,
    /// A list of networks of proxies: their connections must begin with a PROXY header (version 1 or 2), nobody else's
    /// is believed.
    pub proxy_protocol_from: Vec<Network>,
    /// refuse or normalize: what to do with a lone CR or LF inside a message. normalize is for devices that send bare
    /// LF; the end of the message is CR LF . CR LF in either case.
    pub line_endings: Lines,
    /// refuse or re-encode: what to do with lines over smtp.content_line_octets_max, which SES refuses. re-encode makes text
    /// bodies with such lines quoted-printable before policy judges, and refuses them anywhere else.
    pub long_lines: Long,
    /// refuse or quote: what to do with recipients such as foo..bar@docomo.ne.jp. quote sends them on as
    /// "foo..bar"@docomo.ne.jp.
    pub stray_dots: Dots,
    /// refuse or drop: a line "From ann Thu Jan  1 00:00:00 2026" in front of the header, as mail in mbox files has it.
    pub mbox_line: Mbox,
    /// Seconds, for the PROXY header and for the TLS handshake, each.
    pub handshake_seconds_max: Seconds,
}

impl Listener {
    /// Its name, or its address.
    pub fn called(&self) -> String {
        let address = || self.address.as_ref().map(ToString::to_string).unwrap_or_default();
        self.name.clone().unwrap_or_else(address)
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            name: None,
            address: None,
            socket_mode: Mode(0o660),
            tls: Tls::None,
            require_tls: false,
            certificate: None,
            key: None,
            further_pairs: Vec::new(),
            client_certificates: Certificates::Off,
            client_authorities: None,
            auth: Auth::Off,
            auth_in_clear: false,
            proxy_protocol_from: Vec::new(),
            line_endings: Lines::Refuse,
            long_lines: Long::Refuse,
            stray_dots: Dots::Refuse,
            mbox_line: Mbox::Refuse,
            handshake_seconds_max: Seconds::of(20),
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// The certificate chain in PEM, end-entity first: { file = "…" }.
    pub certificate: Source,
    /// The private key in PEM (PKCS#8, PKCS#1 or SEC1): { file = "…" } or { credential = "…" }.
    pub key: Source,
}

/// Certificates, for every listener that names none itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// The certificate chain in PEM, end-entity first: { file = "…" }.
    pub certificate: Option<Source>,
    /// The private key in PEM (PKCS#8, PKCS#1 or SEC1): { file = "…" } or { credential = "…" }.
    pub key: Option<Source>,
    /// Further certificates with their keys, such as an RSA one beside an ECDSA one, or for other names:
    /// [{ certificate = { file = "…" }, key = { file = "…" } }]. A client gets one for the name that it asks for, of a kind
    /// that it can verify.
    pub further_pairs: Vec<CertificatePair>,
    /// The issuers of client certificates in PEM: { file = "…" }.
    pub client_authorities: Option<Source>,
    /// true or false: make certificate and key at the start if neither file is there, with a throw-away authority
    /// beside them in ca.pem. For development: nobody but you can know that authority.
    pub generate: bool,
}

/// Users, and how their passwords are verified.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Authentication {
    /// Names with a password hash each: NAME = "HASH", argon2id or bcrypt, as `gatepost hash-password` prints it. A hash
    /// may also come from { file = "…" }, { env = "…" } or { credential = "…" }.
    pub users: BTreeMap<String, Source>,
    /// A list of users, one NAME:HASH a line, # begins a comment: { file = "…" } or { credential = "…" }. The form that
    /// `htpasswd -B` writes.
    pub user_list: Option<Source>,
    /// How many passwords are verified at a time. Each argon2id verification holds about 19 MiB of memory.octets.
    pub parallel_max: Number<1, 64>,
    /// How many verifications may wait; more are told 454.
    pub waiting_max: Number<0, 10_000>,
    /// How many verifications one client address (of IPv6: one /64) may have running or waiting; further ones wait for
    /// these, 20 seconds at most, and are then told 454.
    pub waiting_by_client_max: Number<1, 10_000>,
    /// Seconds that a verified name and password is remembered, so that a connection a message does not cost one
    /// verification a message. 0: not at all.
    pub remember_seconds: SecondsOrZero,
    /// A rate such as "30/h burst 10": failures with one name from one client address. Beyond, that client is locked out
    /// with that name and told 454.
    pub failures: EvenRate,
    /// A rate such as "120/h burst 60": failures of one client address with whatever names. Beyond, that client is locked
    /// out with every name and told 454.
    pub failures_by_client: EvenRate,
    /// A rate such as "300/h burst 30": failures with one name from everywhere. Beyond, attempts with it wait
    /// failure_delay_seconds; nobody can be locked out from elsewhere.
    pub failures_by_name: EvenRate,
    /// Seconds, up to 10.
    pub failure_delay_seconds: Number<0, 10>,
}

impl Authentication {
    /// As the limiter room takes them.
    pub fn lockout(&self) -> LockoutSettings {
        LockoutSettings {
            by_client_and_name: self.failures.0,
            by_client: self.failures_by_client.0,
            at_once_by_client: self.waiting_by_client_max.size(),
            by_name: self.failures_by_name.0,
            delay: self.failure_delay_seconds.wait(),
        }
    }
}

impl Default for Authentication {
    fn default() -> Self {
        let lockout = LockoutSettings::default();
        let UsersSettings { parallel_max, waiting_max, remember } = UsersSettings::default();
        Self {
            users: BTreeMap::new(),
            user_list: None,
            parallel_max: Number::of(parallel_max as u64),
            waiting_max: Number::of(waiting_max as u64),
            remember_seconds: SecondsOrZero::seconds(remember),
            waiting_by_client_max: Number::of(lockout.at_once_by_client as u64),
            failures: EvenRate(lockout.by_client_and_name),
            failures_by_client: EvenRate(lockout.by_client),
            failures_by_name: EvenRate(lockout.by_name),
            failure_delay_seconds: Number::seconds(lockout.delay),
        }
    }
}
