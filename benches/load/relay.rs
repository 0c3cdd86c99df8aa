//! The relay under test: the real binary, with a configuration written for the run.

use crate::network;
use crate::processes::{self, Place, Process};
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

/// The features that a relay has enabled.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Applications, each with a network, two From patterns and its own configuration set. 0: one pattern for all.
    pub(crate) applications: usize,
    /// Three limits, each of which every message touches.
    pub(crate) limits: bool,
    /// One JSON log line per message, written to a file.
    pub(crate) log: bool,
    /// The admin endpoint with metrics.
    pub(crate) metrics: bool,
    /// An IAM document of twenty statements, which must allow every message.
    pub(crate) document: bool,
    /// Bytes of memory for messages.
    pub(crate) memory_octets: Option<u64>,
    /// The deadline in seconds.
    pub(crate) deadline_seconds: Option<u64>,
    /// The address for its listeners, which take free ports.
    pub(crate) host: Ipv4Addr,
    /// The network of the applications' addresses.
    pub(crate) network: network::Network,
    /// The directory of a spool, in which all messages are kept. Without it they are handed off.
    pub(crate) spool: Option<PathBuf>,
    /// Networks of balancers.
    pub(crate) proxies: Vec<String>,
    /// Further lines for the configuration file.
    pub(crate) more: String,
}

impl Settings {
    /// As in production: a thousand applications, limits, log and metrics.
    pub(crate) fn full() -> Self {
        Self { applications: APPLICATIONS, limits: true, log: true, metrics: true, ..Self::bare() }
    }

    /// Only one pattern.
    pub(crate) fn bare() -> Self {
        Self {
            applications: 0,
            limits: false,
            log: false,
            metrics: false,
            document: false,
            memory_octets: None,
            deadline_seconds: None,
            host: Ipv4Addr::LOCALHOST,
            network: network::LOOPBACK,
            spool: None,
            proxies: Vec::new(),
            more: String::new(),
        }
    }
}

pub(crate) const APPLICATIONS: usize = 1_000;
pub(crate) const USER: &str = "bench";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A running relay.
pub(crate) struct Relay {
    pub(crate) process: Process,
    pub(crate) applications: usize,
    pub(crate) plain: SocketAddr,
    pub(crate) starttls: SocketAddr,
    /// AUTH required, without TLS.
    pub(crate) auth: SocketAddr,
}

/// Shared by the relays of one run: the binary, certificates, a password hash, and a directory that is removed at the end.
pub(crate) struct Workshop {
    binary: PathBuf,
    directory: tempfile::TempDir,
    password_hash: String,
    made: usize,
}

impl Workshop {
    pub(crate) fn open(binary: PathBuf) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("gatepost-load-").tempdir()?;
        let path = directory.path();
        let mut certificates = std::process::Command::new(&binary);
        let made = certificates.arg("gen-cert").arg("--directory").arg(path).output()?;
        if !made.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        let hash = gatepost::auth::PasswordHash::make(PASSWORD).map_err(|error| io::Error::other(error.to_string()))?;
        std::fs::write(path.join("role.json"), document())?;
        Ok(Self { binary, password_hash: hash.to_string(), directory, made: 0 })
    }

    /// The authority that a client must trust.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a relay that sends to this endpoint.
    pub(crate) fn start(&mut self, settings: &Settings, endpoint: &str, place: &Place) -> io::Result<Relay> {
        self.made += 1;
        let (plain, starttls, auth) = self.ports(settings)?;
        let file = self.directory.path().join(format!("relay-{}.toml", self.made));
        std::fs::write(&file, self.configuration(settings, endpoint, [plain, starttls, auth]))?;
        let log = file.with_extension("log");
        let listens = || match &place.namespace {
            None => TcpStream::connect(auth).is_ok(),
            // Not reachable from this namespace; the log has a line for the last listener.
            Some(_) => std::fs::read_to_string(&log).is_ok_and(|text| text.contains(&auth.to_string())),
        };
        let process = processes::relay(&self.binary, &file, &log, listens, place)?;
        Ok(Relay { process, applications: settings.applications, plain, starttls, auth })
    }

    fn ports(&self, settings: &Settings) -> io::Result<(SocketAddr, SocketAddr, SocketAddr)> {
        if settings.host != Ipv4Addr::LOCALHOST {
            // In its own namespace all ports are free.
            let at = |port| SocketAddr::from((settings.host, port));
            return Ok((at(2525), at(2587), at(2526)));
        }
        // All sockets stay open until all ports are chosen, so that no port is chosen twice.
        let listeners = [(); 3].map(|()| std::net::TcpListener::bind((settings.host, 0)));
        let [plain, starttls, auth] = listeners;
        Ok((plain?.local_addr()?, starttls?.local_addr()?, auth?.local_addr()?))
    }

    fn configuration(&self, settings: &Settings, endpoint: &str, listeners: [SocketAddr; 3]) -> String {
        let directory = self.directory.path().display();
        let [plain, starttls, auth] = listeners;
        let proxies = format!("proxy_protocol_from = {:?}", settings.proxies);
        let level = if settings.log { "info" } else { "error" };
        // A shutdown waits longer than the deadline of a message.
        let grace = settings.deadline_seconds.map_or(25, |seconds| seconds + 10);
        let mut text = format!(
            r#"hostname = "relay.example"
shutdown_grace_seconds = {grace}
log = {{ format = "json", level = "{level}" }}
connections = {{ total_max = 12000, per_client_max = 12000 }}

[smtp]
# A closed loop on one connection sends more in its few seconds than a client should in a session.
transactions_max = 4000000000
commands_max = 4000000000

[[listener]]
name = "plain"
address = "{plain}"
{proxies}

[[listener]]
name = "starttls"
address = "{starttls}"
tls = "starttls"
certificate = {{ file = "{directory}/cert.pem" }}
key = {{ file = "{directory}/key.pem" }}
{proxies}

[[listener]]
name = "auth"
address = "{auth}"
auth = "required"
auth_in_clear = true
{proxies}

[auth]
users.{USER} = "{}"

[ses]
region = "{}"
endpoint_url = "{endpoint}"

"#,
            self.password_hash,
            crate::ses::REGION,
        );
        // Writing to a String cannot fail.
        if let Some(octets) = settings.memory_octets {
            let _ = write!(text, "[memory]\noctets = {octets}\ndisk_directory = \"{directory}\"\n\n");
        }
        if let Some(seconds) = settings.deadline_seconds {
            let _ = write!(text, "[deadline]\nbase_seconds = {seconds}\n\n");
        }
        if let Some(spool) = &settings.spool {
            let _ = write!(text, "[spool]\ndirectory = \"{}\"\n\n", spool.display());
        }
        if settings.metrics {
            let socket = self.directory.path().join(format!("admin-{}", self.made));
            let _ = write!(text, "[admin]\naddress = \"unix:{}\"\n\n", socket.display());
        }
        let documents =
            if settings.document { format!("documents = [\"{directory}/role.json\"]\n") } else { String::new() };
        if settings.document {
            text.push_str("[aws]\naccount = \"111122223333\"\nidentities = [\"example.com\"]\n\n");
        }
        let _ = write!(text, "[policy]\n{documents}");
        if settings.spool.is_some() {
            text.push_str("delivery = \"spool\"\n");
        }
        if settings.applications == 0 {
            text.push_str("from = [\"*@*.example.com\"]\n");
        }
        for number in 0..settings.applications {
            let network = network::address(settings.network, number);
            let _ = write!(
                text,
                "\n[[app]]\nname = \"app{number}\"\nnetworks = [\"{network}/32\"]\n\
                 from = [\"*@app{number}.example.com\", \"noreply@*.app{number}.example.com\"]\n"
            );
        }
        if settings.limits {
            for (of, rate) in [("messages", 1_000_000), ("recipients", 1_000_000), ("octets", 1_000_000_000)] {
                let _ =
                    write!(text, "\n[[limit]]\nname = \"{of}\"\nby = \"app\"\nof = \"{of}\"\nrates = [\"{rate}/s\"]\n");
            }
        }
        text.push_str(&settings.more);
        text
    }
}

/// Twenty statements, of which the last allows.
fn document() -> String {
    let statement = |pattern: String| {
        format!(
            r#"{{"Effect": "Allow", "Action": ["ses:SendRawEmail", "ses:SendEmail"],
                "Resource": "arn:aws:ses:*:111122223333:identity/*",
                "Condition": {{"StringLike": {{"ses:FromAddress": ["{pattern}", "*@*.{pattern}"]}}}}}}"#
        )
    };
    let mut statements: Vec<String> = (1..20).map(|team| statement(format!("*@team{team}.example"))).collect();
    statements.push(statement("*".to_owned()));
    format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(",\n"))
}
