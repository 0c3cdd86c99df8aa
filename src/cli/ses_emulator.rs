//! `gatepost ses-emulator`: the SES v2 API on loopback, for programs that use an AWS SDK.

use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::runtime;
use super::signals::Signals;
use crate::emulator::{AccountSettings, ConfigurationSet, Emulator, EmulatorSettings, Identity};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A loopback address; port 0: any free port
    #[arg(long, default_value = "127.0.0.1:8005")]
    listen: SocketAddr,
    /// A directory for accepted messages, as ID.eml and ID.json. Default: they are kept in memory only
    #[arg(long)]
    directory: Option<PathBuf>,
    /// A verified domain or address; may be repeated
    #[arg(long = "identity", value_name = "NAME", default_value = "example.com")]
    identities: Vec<String>,
    /// A configuration set that exists; may be repeated
    #[arg(long = "configuration-set", value_name = "NAME", default_value = "gatepost-dev")]
    configuration_sets: Vec<String>,
    /// Milliseconds by which every call is delayed
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Simulate an account in the sandbox: it sends to verified identities only, 1 recipient a second and 200 a day by default
    #[arg(long)]
    sandbox: bool,
    /// Recipients a second; above it SES throttles. Default: no limit
    #[arg(long, value_name = "R")]
    send_rate: Option<f64>,
    /// Recipients at once (the size of the token bucket of SES). Default: those of one second
    #[arg(long, value_name = "N", requires = "send_rate")]
    send_burst: Option<u32>,
    /// Recipients in 24 hours. Default: no limit
    #[arg(long, value_name = "N")]
    quota_24h: Option<u32>,
}

pub(super) fn run(arguments: Arguments, printer: &Printer) -> Result<Exit, Failure> {
    runtime()?.block_on(emulate(arguments.settings(), printer))
}

impl Arguments {
    fn settings(self) -> EmulatorSettings {
        let base = if self.sandbox { AccountSettings::sandbox() } else { AccountSettings::default() };
        EmulatorSettings {
            listen: self.listen,
            directory: self.directory,
            identities: self.identities.into_iter().map(Identity::verified).collect(),
            configuration_sets: self
                .configuration_sets
                .into_iter()
                .map(|name| (name, ConfigurationSet::default()))
                .collect(),
            latency: Duration::from_millis(self.latency_ms),
            account: AccountSettings {
                recipients_per_second_max: self.send_rate.or(base.recipients_per_second_max),
                recipients_at_once_max: self.send_burst,
                recipients_per_day_max: self.quota_24h.or(base.recipients_per_day_max),
                ..base
            },
            ..EmulatorSettings::default()
        }
    }
}

async fn emulate(settings: EmulatorSettings, printer: &Printer) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let region = settings.region.clone();
    let pair = settings.credentials.first().cloned().unwrap_or_default();
    let emulator = Emulator::start(settings).await.map_err(|error| {
        // Here it is the command line that said it.
        let failure = Failure::from(error);
        if failure.exit == Exit::Config { Failure { exit: Exit::Usage, ..failure } } else { failure }
    })?;
    // In the form of an env file, which a program under test can be started with.
    printer.text(&format!(
        "AWS_ENDPOINT_URL_SESV2={}\nAWS_REGION={region}\nAWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n",
        emulator.endpoint_url(),
        pair.access_key_id,
        pair.secret_access_key
    ))?;
    signals.stop().await;
    emulator.stop().await;
    Ok(Exit::Ok)
}
