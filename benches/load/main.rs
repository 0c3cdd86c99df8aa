//! The relay under load, from end to end, without AWS: `cargo bench --bench load`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

mod contest;
mod drive;
mod machine;
mod processes;
mod relay;
mod roles;
mod ses;
mod smtp;

use contest::*;
use drive::*;
use std::io;

fn main() -> io::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|word| word.to_str()) {
        Some("role") => match arguments.get(1).and_then(|word| word.to_str()) {
            Some("exec") => processes::exec(&arguments[2..]),
            Some(role) => roles::take(role),
            None => Err(io::Error::other("which role?")),
        },
        _ => first(),
    }
}

fn first() -> io::Result<()> {
    println!("{}; load {}", machine::describe(), machine::load_average());
    let place = processes::Place::default();
    let mut workshop = relay::Workshop::open(env!("CARGO_BIN_EXE_gatepost").into())?;
    let mut stage = Stage::open(&place)?;
    let endpoint = stage.ses.endpoint()?;
    let full = workshop.start(&relay::Settings::full(), &endpoint, &place)?;
    let bare = workshop.start(&relay::Settings::bare(), &endpoint, &place)?;
    let sdk = |load: &Load| Load { by: By::Sdk { endpoint: endpoint.clone() }, ..load.clone() };
    let replay = |load: &Load| Load { by: By::Replay { endpoint: endpoint.clone() }, ..load.clone() };
    for (name, connections, octets, latency, seconds) in [("10 KB C=16", 16, 10_000, 0, 2.0), ("10 KB C=1", 1, 10_000, 0, 1.5), ("10 KB C=128 50ms", 128, 10_000, 50, 2.0), ("1 MB C=16", 16, 1_000_000, 0, 2.0)] {
        stage.ses.latency(latency)?;
        let load = plain(&full, connections, octets, seconds);
        let entries = [
            Entry { subject: Subject::Relay(&full), load: load.clone() },
            Entry { subject: Subject::Relay(&bare), load: plain(&bare, connections, octets, seconds) },
            Entry { subject: Subject::Sdk, load: sdk(&load) },
            Entry { subject: Subject::Sender, load: replay(&load) },
        ];
        let contest = contest(&mut stage, 3, &entries)?;
        println!("{name}");
        for (i, n) in ["full", "bare", "sdk", "replay"].iter().enumerate() {
            println!("  {n:8} {:8.0}/s p50 {:7.3} p99 {:7.3} max {:7.1}  cpu/1000 {:.4} gen {:.4} emu {:.4} conns {} | ratio to sdk: cpu {:.2} rate {:.2} p50 +{:.3} p99 +{:.3}",
                contest.median(i, |r| r.report.rate()), contest.median(i, |r| r.report.p50_ms), contest.median(i, |r| r.report.p99_ms), contest.median(i, |r| r.report.max_ms),
                contest.median(i, |r| r.cpu), contest.median(i, |r| r.generator_cpu), contest.median(i, |r| r.emulator_cpu),
                contest.rounds[i].iter().map(|r| r.ses_connections).max().unwrap(),
                contest.ratio(i, 2, |r| r.cpu), contest.ratio(i, 2, |r| r.report.rate()), contest.more(i, 2, |r| r.report.p50_ms), contest.more(i, 2, |r| r.report.p99_ms));
        }
    }
    println!("load {}", machine::load_average());
    full.process.stop()?;
    bare.process.stop()
}
