//! `gatepost gen-cert`: a certificate to try TLS with.

use super::exit::{Exit, Failure};
use super::printer::Printer;
use crate::config::certificates::{DAYS, Pair, PairError, PairPaths};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory for ca.pem, cert.pem and key.pem
    #[arg(long, short)]
    directory: PathBuf,
    /// A domain name or IP address that the certificate is for; may be repeated
    #[arg(long = "name", short, value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    names: Vec<String>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let paths = PairPaths::within(&arguments.directory);
    let made = Pair::make(&arguments.names).and_then(|pair| pair.write(&paths, arguments.force));
    made.map_err(|error| match &error {
        PairError::Name(_) => Failure::new(Exit::Usage, error.to_string()),
        PairError::Exists(_) => Failure::new(Exit::CannotCreate, format!("{error}; --force replaces it")),
        PairError::Write { .. } => Failure::new(Exit::CannotCreate, error.to_string()),
        _ => Failure::new(Exit::Software, error.to_string()),
    })?;
    printer.text(&format!(
        "{}  authority that clients must trust\n{}  certificate for {}, {DAYS} days\n{}  its key\n",
        paths.authority.display(),
        paths.certificate.display(),
        arguments.names.join(", "),
        paths.key.display()
    ))
}
