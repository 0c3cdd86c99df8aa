//! `gatepost send`: a small SMTP client, to see what a relay replies.

use super::exit::{Exit, Failure};
use super::printer::Printer;
use crate::mail::{Clock, SystemClock, trace};
use clap::ValueEnum;
use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, SmtpConnection, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// HOST:PORT of the relay
    #[arg(long)]
    server: Server,
    /// How to use TLS; the server's certificate must be valid for HOST
    #[arg(long, value_enum, default_value_t = TlsUse::None)]
    tls: TlsUse,
    /// Trust only this certificate authority (PEM). Default: the authorities that the system trusts
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Authenticate with this user name
    #[arg(long, requires = "password")]
    user: Option<String>,
    #[command(flatten)]
    password: Password,
    /// Send the password also without TLS
    #[arg(long)]
    password_in_clear: bool,
    /// The address in MAIL FROM, and in From of the test message; "" is the null reverse-path
    #[arg(long)]
    from: String,
    /// A recipient; may be repeated
    #[arg(long, required = true)]
    to: Vec<Address>,
    /// The subject of the test message
    #[arg(long, default_value = "A test message from gatepost")]
    subject: String,
    /// The text of the test message
    #[arg(long, default_value = "This is a test.", conflicts_with = "file")]
    body: String,
    /// Send this file unchanged instead of the test message; "-" is standard input
    #[arg(long, value_name = "message.eml")]
    file: Option<PathBuf>,
    /// Seconds that each step may take
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
#[group(id = "password", multiple = false)]
struct Password {
    /// The password is the first line of this file
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// The password is in this environment variable
    #[arg(long, value_name = "NAME", requires = "user")]
    password_env: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TlsUse {
    None,
    Starttls,
    Implicit,
}

#[derive(Clone, Debug)]
struct Server {
    host: String,
    port: u16,
}

impl std::str::FromStr for Server {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("HOST:PORT is needed")?;
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = inside.unwrap_or(host);
        if host.is_empty() || (inside.is_none() && host.contains(':')) {
            return Err("HOST:PORT is needed; write an IPv6 address in [ ]");
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| "the port is a number up to 65535")? })
    }
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let from = match arguments.from.trim_matches(['<', '>']) {
        "" => None,
        text => Some(text.parse().map_err(|error| Failure::new(Exit::Usage, format!("--from {text}: {error}")))?),
    };
    let envelope = Envelope::new(from, arguments.to.clone())
        .map_err(|error| Failure::new(Exit::Usage, format!("--to: {error}")))?;
    let content = content(arguments)?;
    let credentials = credentials(arguments)?;
    let tls = tls(arguments)?;
    let reply = exchange(arguments, tls.as_ref(), credentials.as_ref(), &envelope, &content);
    match reply {
        Ok(reply) => printer.line(&shown(&reply)),
        Err(error) => {
            let (exit, text) = refusal(&error);
            match error.status() {
                // What the relay replied is the result, whatever it is.
                Some(_) => printer.line(&text)?,
                None => {
                    let message = format!("{}:{}: {text}", arguments.server.host, arguments.server.port);
                    let failure = Failure::new(exit, message);
                    return Err(match hint(arguments, &text) {
                        Some(hint) => failure.with_hint(hint),
                        None => failure,
                    });
                }
            };
            Ok(exit)
        }
    }
}

fn exchange(
    arguments: &Arguments,
    tls: Option<&TlsParameters>,
    credentials: Option<&Credentials>,
    envelope: &Envelope,
    content: &[u8],
) -> Result<Response, Error> {
    let server = (arguments.server.host.as_str(), arguments.server.port);
    let name = ClientId::default();
    let wait = Some(Duration::from_secs(arguments.timeout.clamp(1, 3_600)));
    let wrapped = tls.filter(|_| arguments.tls == TlsUse::Implicit);
    let mut connection = SmtpConnection::connect(server, wait, &name, wrapped, None)?;
    if let Some(tls) = tls.filter(|_| arguments.tls == TlsUse::Starttls) {
        connection.starttls(tls, &name)?;
    }
    if let Some(credentials) = credentials {
        connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials)?;
    }
    // lettre ends what it sends by CR LF . CR LF in any case: the last line's own end would become an empty line.
    let reply = connection.send(envelope, content.strip_suffix(b"\r\n").unwrap_or(content))?;
    let _ = connection.quit();
    Ok(reply)
}

fn shown(reply: &Response) -> String {
    format!("{} {}", reply.code(), reply.message().collect::<Vec<_>>().join("\n"))
}

/// The reply, or what went wrong before there was one, and the exit code for it.
fn refusal(error: &Error) -> (Exit, String) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let Some(code) = error.status() else {
        return (Exit::Unavailable, error.to_string());
    };
    let exit = match (error.is_transient(), cause.starts_with("5.7.")) {
        (true, _) => Exit::TryAgain,
        (false, true) => Exit::NoPermission,
        (false, false) => Exit::Data,
    };
    (exit, format!("{code} {cause}"))
}

/// What to do about a failure before there was a reply, by the words of the TLS library and the system.
fn hint(arguments: &Arguments, text: &str) -> Option<String> {
    let has = |part: &str| text.contains(part);
    Some(match &arguments.ca {
        None if has("UnknownIssuer") => {
            "this system does not trust the authority of that certificate: give the authority's own certificate, such as \
             --ca certs/ca.pem"
                .to_owned()
        }
        Some(path) if has("UnknownIssuer") || has("BadSignature") => {
            format!("{} is not the authority of that certificate: give the right one with --ca", path.display())
        }
        _ if has("NotValidForName") || has("not valid for name") => {
            "connect with --server to a name that the certificate has".to_owned()
        }
        _ if has("Expired") || has("expired") => "the server's certificate has expired: renew it".to_owned(),
        _ if has("InvalidMessage") || has("corrupt message") => {
            "that port does not begin with TLS: use --tls starttls, or none".to_owned()
        }
        _ if has("Connection refused") => "nothing listens there: see --server, and whether the relay runs".to_owned(),
        _ => return None,
    })
}

fn tls(arguments: &Arguments) -> Result<Option<TlsParameters>, Failure> {
    if arguments.tls == TlsUse::None {
        return Ok(None);
    }
    let mut builder: TlsParametersBuilder = TlsParameters::builder(arguments.server.host.clone());
    if let Some(path) = &arguments.ca {
        let pem = std::fs::read(path).map_err(|error| Failure::reading(path, &error))?;
        let authority = Certificate::from_pem(&pem)
            .map_err(|error| Failure::new(Exit::Data, format!("{}: {error}", path.display())))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authority);
    }
    let built = builder.build_rustls();
    built.map(Some).map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))
}

fn credentials(arguments: &Arguments) -> Result<Option<Credentials>, Failure> {
    let Some(user) = &arguments.user else { return Ok(None) };
    if arguments.tls == TlsUse::None && !arguments.password_in_clear {
        return Err(Failure::new(Exit::Usage, "a password without TLS: use --tls, or --password-in-clear"));
    }
    let password = match (&arguments.password.password_file, &arguments.password.password_env) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::reading(path, &error))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        (None, Some(name)) => {
            let missing = |_| Failure::new(Exit::Usage, format!("the environment variable {name} is not set"));
            std::env::var(name).map_err(missing)?
        }
        (None, None) => return Err(Failure::new(Exit::Usage, "--user needs --password-file or --password-env")),
    };
    Ok(Some(Credentials::new(user.clone(), password)))
}

fn content(arguments: &Arguments) -> Result<Vec<u8>, Failure> {
    match &arguments.file {
        Some(path) if path == Path::new("-") => {
            let mut octets = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut octets);
            read.map_err(|error| Failure::new(Exit::Io, format!("cannot read the message: {error}")))?;
            Ok(octets)
        }
        Some(path) => std::fs::read(path).map_err(|error| Failure::reading(path, &error)),
        None => Ok(made(arguments).into_bytes()),
    }
}

/// A small message. Text outside ASCII goes as 8-bit UTF-8; a subject outside ASCII is left to `--file`.
fn made(arguments: &Arguments) -> String {
    let subject: String = arguments.subject.chars().filter(|c| !c.is_control()).collect();
    let to: Vec<String> = arguments.to.iter().map(ToString::to_string).collect();
    let lines: Vec<&str> = arguments.body.lines().collect();
    format!(
        "From: {}\r\nTo: {}\r\nSubject: {subject}\r\nDate: {}\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{}\r\n",
        arguments.from.trim_matches(['<', '>']),
        to.join(",\r\n "),
        trace::rfc5322_date(SystemClock.wall()),
        lines.join("\r\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (text, want) in [
            ("localhost:25", Some(("localhost", 25))),
            ("127.0.0.1:2525", Some(("127.0.0.1", 2525))),
            ("[::1]:25", Some(("::1", 25))),
            ("::1:25", None),
            ("localhost", None),
            (":25", None),
            ("a:70000", None),
        ] {
            let server = text.parse::<Server>().ok();
            assert_eq!(server.as_ref().map(|server| (server.host.as_str(), server.port)), want, "{text}");
        }
    }
}
