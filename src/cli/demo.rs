//! `gatepost demo`: the relay with the development configuration that this binary carries, in front of the emulator.
//!
//! Needs no file and no AWS account. What is kept stands in `./var` of a directory.

use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::run::{Started, serve};
use super::sockets::Sockets;
use super::{environment, process_environment};
use crate::config::Config;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// `config/dev.toml`.
const CONFIGURATION: &str = include_str!("../../config/dev.toml");

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory in which ./var is created, for accepted messages and certificates
    #[arg(long, short, value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments, printer: Printer) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    let failed = |error| Failure::new(Exit::CannotCreate, format!("cannot use {}: {error}", directory.display()));
    // The paths in the configuration are relative.
    std::fs::create_dir_all(directory).and_then(|()| std::env::set_current_dir(directory)).map_err(failed)?;
    let environment = environment();
    let name = Path::new("demo (config/dev.toml, built in)");
    let config = Config::parse(name, &with_free_ports(CONFIGURATION), environment.iter().cloned())?;
    let kept = config.ses_emulator.directory.clone();
    let process_environment = process_environment(environment);
    let authority = config.tls.certificate.as_ref().and_then(|source| source.path(&process_environment));
    let authority = authority.map(|certificate| certificate.with_file_name("ca.pem"));
    serve(None, config, process_environment, Sockets::from_environment(), |started| {
        printer.text(&introduction(started, kept.as_deref(), authority.as_deref())).map(drop)
    })
}

/// Where a port of the configuration is taken, any free one.
fn with_free_ports(text: &str) -> String {
    let mut free = String::new();
    for line in text.lines() {
        let quoted = line.strip_prefix("address = \"").and_then(|rest| rest.strip_suffix('"'));
        let address = quoted.and_then(|address| address.parse::<SocketAddr>().ok());
        let taken = address.is_some_and(|address| TcpListener::bind(address).is_err());
        let _ = match address {
            Some(address) if taken => writeln!(free, "address = \"{}:0\"", address.ip()),
            _ => writeln!(free, "{line}"),
        };
    }
    free
}

/// What to do now.
fn introduction(started: &Started<'_>, kept: Option<&Path>, authority: Option<&Path>) -> String {
    let mut text =
        "gatepost demo: an SMTP relay in front of a built-in emulator of Amazon SES. No message leaves this machine.\n\n"
            .to_owned();
    let here = std::env::current_dir().unwrap_or_default();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<15} {value}");
    };
    for listener in &started.listeners {
        row("SMTP", format!("{}, TLS: {}", listener.address, listener.tls));
    }
    row("may send", "From addresses of example.com, from this machine".to_owned());
    if let Some(kept) = kept {
        // Without the "." in the middle.
        let kept: PathBuf = here.join(kept).components().collect();
        row("accepted mail", kept.display().to_string());
    }
    if let Some(authority) = authority {
        row("TLS authority", here.join(authority).components().collect::<PathBuf>().display().to_string());
    }
    if let Some(admin) = &started.admin {
        row("health, metrics", format!("http://{admin}/readyz and http://{admin}/metrics"));
    }
    let Some(first) = started.listeners.first() else { return text };
    let message = "From: Ann <ann@example.com>\\r\\nTo: bob@example.net\\r\\nSubject: hello\\r\\n\\r\\nIt works.\\r\\n";
    let envelope = "--mail-from ann@example.com --mail-rcpt bob@example.net";
    let url = format!("smtp://{}/client.example", first.address);
    let _ = write!(
        text,
        "\nSend a message from another terminal (-v shows the replies):\n\n  printf '{message}' |\n    curl -v --url {url} {envelope} -T -\n\n\
         Ctrl-C stops it. The log follows.\n\n"
    );
    text
}
