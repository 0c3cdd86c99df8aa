//! The binary: one file a command. `gatepost --help` lists them.
//!
//! Every command ends in an [`ExitCode`] of sysexits, which service managers and scripts can act on: 64 usage, 65 the
//! data is wrong, 66 no input file, 69 unavailable, 70 a defect of ours, 73 cannot create, 74 input or output failed,
//! 75 try again, 77 no permission, 78 configuration. Results go to standard output; messages and the log to standard error.

mod admin_client;
mod check;
mod decisions;
mod demo;
mod exit;
mod explain;
mod gen_cert;
mod hash_password;
mod journal;
mod live;
mod log;
mod log_line;
pub mod policy;
mod printer;
mod queue;
mod reload;
mod replay;
mod run;
mod send;
mod ses_emulator;
mod signals;
mod sockets;
mod start;
mod status;

use crate::config::{Config, ConfigError, LogFormat, Plan, ProcessEnvironment, Purpose};
use clap::{Parser, Subcommand};
use exit::{Exit, Failure};
use printer::Printer;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An SMTP relay that checks each message against policy and sends it through the Amazon SES v2 API.
#[derive(Debug, Parser)]
#[command(name = "gatepost", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try it: a relay on this machine in front of a built-in emulator of Amazon SES. Needs no file and no AWS account
    Demo(demo::Arguments),
    /// Run the relay until SIGTERM or SIGINT; then accept no new connection and finish the messages in progress
    Run(ConfigFile),
    /// Check a configuration, and show what it means. Exit code 0: no error, 78: at least one
    Check(check::Arguments),
    /// Explain what would happen to a message, and why: each step and the rule that decides. Exit code 0: accepted, 77:
    /// refused, 75: deferred
    Explain(Box<explain::Arguments>),
    /// Run only the emulator of the SES v2 API, on a loopback address
    SesEmulator(ses_emulator::Arguments),
    /// Send one message to a relay over SMTP, and print its reply
    Send(send::Arguments),
    /// Create a temporary certificate authority, a certificate and its key, to try TLS
    GenCert(gen_cert::Arguments),
    /// Simulate, generate and check IAM policies, without calls to AWS
    Policy(policy::PolicyArguments),
    /// List, hold, release, retry, remove or export the messages in the spool, or check its files
    Queue(queue::Arguments),
    /// Make a running relay read its configuration again, or say what that would change
    Reload(reload::Arguments),
    /// Show what runs: health, listeners, certificates, connections, queues. Exit code 0: ready, 75: not ready
    Status(status::Arguments),
    /// Find out what happened to mail: the last decisions about connections, commands and messages of a running relay
    Decisions(Box<decisions::Arguments>),
    /// Hash a password that is read from standard input, for the configuration
    HashPassword,
    /// Print the JSON schema of the configuration
    Schema,
    /// Print the OpenAPI document of the admin API
    Openapi,
    /// Print every key of the configuration with its description and default, as a configuration file
    Reference,
}

#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file; /dev/null if GATEPOST_SECTION__KEY variables contain everything
    #[arg(long, short, env = "GATEPOST_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

const DEFAULT_PATH: &str = "/etc/gatepost/gatepost.toml";

/// Runs a command line. Call it once, before any thread is started: it takes the sockets that systemd passes in the environment.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let help = !error.use_stderr();
            let _ = error.print();
            return if help { Exit::Ok } else { Exit::Usage }.into();
        }
    };
    let printer = Printer;
    let ended = match cli.command {
        Command::Demo(arguments) => demo::run(&arguments, printer),
        Command::Run(file) => {
            let (ended, format) = run::run(&file);
            if let (Err(failure), LogFormat::Json) = (&ended, format) {
                printer.complain_in_json(failure);
                return failure.exit.into();
            }
            ended
        }
        Command::Check(arguments) => check::run(&arguments, &printer),
        Command::Explain(arguments) => explain::run(&arguments, &printer),
        Command::SesEmulator(arguments) => ses_emulator::run(arguments, &printer),
        Command::Send(arguments) => send::run(&arguments, &printer),
        Command::GenCert(arguments) => gen_cert::run(&arguments, &printer),
        Command::Policy(arguments) => {
            return arguments.run(&mut std::io::stdout(), &mut std::io::stderr()).into();
        }
        Command::Queue(arguments) => queue::run(&arguments, &printer),
        Command::Reload(arguments) => reload::run(&arguments, &printer),
        Command::Status(arguments) => status::run(&arguments, &printer),
        Command::Decisions(arguments) => decisions::run(&arguments, &printer),
        Command::HashPassword => hash_password::run(&printer),
        Command::Schema => printer.text(&Config::schema()),
        Command::Openapi => printer.text(crate::admin::api::document()),
        Command::Reference => printer.text(&Config::reference()),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            printer.complain(&failure);
            failure.exit.into()
        }
    }
}

impl ConfigFile {
    /// Reads the file, with overrides from the environment.
    fn load(&self) -> Result<(Config, ProcessEnvironment), Failure> {
        let environment = environment();
        let config = Config::load(&self.config, environment.iter().cloned()).map_err(|error| self.unread(error))?;
        Ok((config, process_environment(environment)))
    }

    /// Why there is no configuration, and what to do about it.
    fn unread(&self, error: ConfigError) -> Failure {
        let missing = matches!(&error, ConfigError::Read { error, .. } if error.kind() == ErrorKind::NotFound);
        let failure = Failure::from(error);
        match (missing, self.config == Path::new(DEFAULT_PATH)) {
            (true, true) => failure.with_hint(
                "name a configuration with --config FILE or in GATEPOST_CONFIG; to try gatepost without one: gatepost demo",
            ),
            (true, false) => failure.with_hint("correct the path of --config or GATEPOST_CONFIG"),
            // What is wrong in the file has a hint of its own.
            (false, _) => failure.with_hint("name a TOML file in UTF-8 that this user can read"),
        }
    }
}

/// What a configuration means, without starting anything.
fn config_plan(file: &ConfigFile) -> Result<Plan, Failure> {
    let (config, environment) = file.load()?;
    Ok(config.plan(&environment, Purpose::Check)?)
}

/// The environment's variables. One that is not UTF-8 is none of ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn process_environment(environment: Vec<(String, String)>) -> ProcessEnvironment {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    ProcessEnvironment::new(environment, machine.or_else(|| std::env::var("HOSTNAME").ok()))
}

/// A runtime for a command that needs one, on the thread that asks. A relay serves its connections on more.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::new(Exit::OsError, format!("cannot wait for input: {error}")))
}
