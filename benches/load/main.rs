//! Measures the relay under load, end to end, on this machine and without AWS: `cargo bench --bench load`.
//!
//! A load generator sends to the real binary, which sends to the SES emulator. Alternating with it, the bare
//! `aws-sdk-sesv2` sends the same messages to the same emulator: this is the baseline. Targets are ratios to it, because
//! they do not depend on the machine. Each part is a separate process (this binary, in a role), so that the CPU of each is
//! known; the first rows show what generator and emulator reach alone.
//!
//! The files: `table` has the scenarios, `contest` measures subjects alternately, `relay` writes configurations,
//! `processes` starts everything, `roles` runs in the processes: `drive` sends at a rate, with `smtp` or `ses`.
//! `machine` reads CPU and memory. `vpc` measures over network namespaces, `spool` with kept mail and beside `postfix`, `plot`
//! draws.
//!
//! Counts are asserted in every round (each acceptance is one message at SES, with its own id), times are not. The
//! benchmark ends by itself, and leaves no process however it ends. It listens on loopback, or in namespaces that it
//! creates. Without `--bench`, as in `cargo test --bench load`, it only checks that everything works.
#![allow(clippy::print_stdout)]
// Time is what this program measures.
#![allow(clippy::disallowed_methods)]

mod contest;
mod drive;
mod machine;
mod network;
mod plot;
mod postfix;
mod processes;
mod relay;
mod roles;
mod row;
mod ses;
mod smtp;
mod spool;
mod table;
mod vpc;

use clap::{Parser, ValueEnum};
use relay::{Settings, Workshop};
use serde_json::json;
use std::io;
use std::path::PathBuf;
use table::{Own, Run, Scale};

/// Measures gatepost end to end, alternating with the bare aws-sdk-sesv2.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
struct Arguments {
    /// Default: standard, or own if options describe a load
    profile: Option<Profile>,
    /// Connections, and concurrent calls of the SDK
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Bytes of a message
    #[arg(long, default_value_t = 10_000)]
    size: usize,
    /// Milliseconds that SES takes for a message
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Messages a second, whether or not earlier ones are answered (open loop). Without it, each connection sends the next
    /// message after the last reply
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds of a round
    #[arg(long)]
    duration: Option<f64>,
    /// Rounds of each subject
    #[arg(long)]
    rounds: Option<usize>,
    /// STARTTLS on every connection
    #[arg(long)]
    starttls: bool,
    /// AUTH PLAIN on every connection
    #[arg(long, conflicts_with = "starttls")]
    auth: bool,
    /// Messages on a connection before QUIT
    #[arg(long)]
    messages_per_connection: Option<u64>,
    /// Recipients of a message
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    recipients: u16,
    /// MAIL, RCPT and DATA at once
    #[arg(long)]
    pipelining: bool,
    /// Additional idle connections
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// One pattern instead of 1,000 applications, limits, log and metrics
    #[arg(long)]
    bare: bool,
    /// The relay's binary. Default: the one of this build
    #[arg(long)]
    relay: Option<PathBuf>,
    /// Profile spool: a directory with Postfix, unpacked from Debian's package or `/`. Without it, gatepost is measured alone
    #[arg(long)]
    postfix: Option<PathBuf>,
    /// Write all results to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure latency against offered rate too, and draw it into this file
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Passed by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// Every scenario that has a target: about five minutes
    Standard,
    /// Every scenario as short as possible, to check that it works
    Smoke,
    /// One scenario, described by the options
    Own,
    /// The cost of applications, limits, documents, log and metrics
    Prices,
    /// Latency against offered rate
    Sweep,
    /// Mail that is kept: accepted by gatepost and by Postfix, and sent from the queue; Postfix needs root
    Spool,
    /// Two relays behind a balancer, over network namespaces; needs root
    Vpc,
}

fn main() -> io::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "role") {
        return match arguments.get(1).and_then(|word| word.to_str()) {
            Some("exec") => processes::exec(&arguments[2..]),
            Some(role) => roles::take(role),
            None => Err(io::Error::other("role is missing")),
        };
    }
    run(&Arguments::parse())
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let profile = arguments.profile.unwrap_or_else(|| arguments.meant());
    let scale = if profile == Profile::Smoke { Scale::SMOKE } else { Scale::STANDARD };
    let scale = Scale {
        seconds: arguments.duration.unwrap_or(scale.seconds),
        rounds: arguments.rounds.unwrap_or(scale.rounds).max(1),
        ..scale
    };
    let machine = machine::describe();
    let command: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let command = format!("cargo bench --bench load -- {}", command.join(" "));
    println!("{command}\n{machine}; load average before: {:.1}", machine::load_average());
    if !machine::OPTIMISED {
        println!("Built without optimisation: counts are valid, times are not.");
    }
    let binary = arguments.relay.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_gatepost").into());
    let mut run = Run::new(Workshop::open(binary)?, scale)?;
    let own = arguments.own();
    match profile {
        Profile::Standard => run.all()?,
        Profile::Smoke => run.all().and_then(|()| run.spool(None))?,
        Profile::Own => run.own(&own)?,
        Profile::Prices => run.prices()?,
        Profile::Spool => run.spool(arguments.postfix.as_deref())?,
        Profile::Vpc => run.vpc()?,
        Profile::Sweep => {}
    }
    let points = if profile == Profile::Sweep || arguments.svg.is_some() { run.sweep(&own)? } else { Vec::new() };
    println!("\nload average after: {:.1}\n", machine::load_average());
    for row in &run.rows {
        println!("{row}");
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, plot::latency(&points, &own, &machine))?;
    }
    if let Some(path) = &arguments.json {
        let (table, contests) = run.to_json();
        let all = json!({
            "command": command, "machine": machine, "table": table, "contests": contests, "latency_by_rate": points,
        });
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

impl Arguments {
    /// The profile that follows from the options.
    fn meant(&self) -> Profile {
        let described = self.rate.is_some()
            || self.starttls
            || self.auth
            || self.pipelining
            || self.messages_per_connection.is_some()
            || (self.connections, self.size, self.latency_ms, self.recipients, self.idle) != (16, 10_000, 0, 1, 0);
        match (self.bench, described) {
            (false, _) => Profile::Smoke,
            (true, true) => Profile::Own,
            (true, false) => Profile::Standard,
        }
    }

    fn own(&self) -> Own {
        Own {
            settings: if self.bare { Settings::bare() } else { Settings::full() },
            connections: self.connections,
            octets: self.size,
            latency_ms: self.latency_ms,
            rate: self.rate,
            recipients: self.recipients.into(),
            starttls: self.starttls,
            auth: self.auth,
            pipelining: self.pipelining,
            messages_per_connection: self.messages_per_connection,
            idle: self.idle,
        }
    }
}
