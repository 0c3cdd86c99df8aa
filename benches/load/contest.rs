//! Measures subjects alternately, round by round, so that other load on the machine affects all of them; medians and ratios.

use crate::drive::{LimitKey, Load, Report, Smtp};
use crate::machine::{self, CpuTime, Memory};
use crate::processes::{Helper, Place, Ses};
use crate::relay::Relay;
use crate::roles::{Bucket, Order, Role};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt;
use std::io;

/// The processes that send, and SES.
pub(crate) struct Stage {
    pub(crate) generator: Helper,
    pub(crate) yardstick: Helper,
    pub(crate) ses: Ses,
}

impl Stage {
    pub(crate) fn open(bucket: Bucket, clients: &Place, ses: &Place) -> io::Result<Self> {
        Ok(Self {
            generator: Helper::start(&Role::Client { threads: 1 }, clients)?,
            yardstick: Helper::start(&Role::Client { threads: 0 }, clients)?,
            ses: Ses::start(bucket, ses)?,
        })
    }
}

/// The program that is measured.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// A relay; the generator sends to it.
    Relay(&'a Relay),
    /// A server that keeps what it accepts: the process id of a relay, or of the parent of a mail server's processes.
    Keeper(u32),
    /// Several relays behind a balancer: their CPU and memory together.
    Fleet(&'a [Relay]),
    /// The SDK alone, which sends by itself.
    Sdk,
    /// The sender itself: to a sink, or to the emulator for its maximum.
    Sender,
}

/// One subject and its load.
#[derive(Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) subject: Subject<'a>,
    pub(crate) load: Load,
}

impl<'a> Entry<'a> {
    pub(crate) fn relay(name: &'a str, relay: &'a Relay, load: Load) -> Self {
        Self { name, subject: Subject::Relay(relay), load }
    }

    /// The baseline for a load on a relay: the same messages, directly to the emulator.
    pub(crate) fn sdk(endpoint: &str, load: &Load) -> Self {
        let by = LimitKey::Sdk { endpoint: endpoint.to_owned() };
        Self { name: "aws-sdk-sesv2 alone", subject: Subject::Sdk, load: Load { by, ..load.clone() } }
    }
}

/// One round of one subject.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) report: Report,
    /// CPU seconds per 1,000 messages: of the subject, of the generator, of the emulator.
    pub(crate) cpu: f64,
    pub(crate) generator_cpu: f64,
    pub(crate) emulator_cpu: f64,
    pub(crate) ses_requests: u64,
    pub(crate) ses_accepted: u64,
    pub(crate) ses_connections: u64,
    /// What is accepted is not sent in this round.
    pub(crate) keeps: bool,
    /// MiB, in this round.
    pub(crate) memory_peak: f64,
}

impl Round {
    /// The fault of this round, if any: every acceptance must be exactly one message at SES.
    pub(crate) fn fault(&self) -> Option<String> {
        let report = &self.report;
        let what = if report.broken > 0 {
            format!("{} connections broke: {}", report.broken, report.trouble.as_deref().unwrap_or(""))
        } else if report.distinct != report.accepted {
            format!("{} message ids for {} acceptances", report.distinct, report.accepted)
        } else if !self.keeps && self.ses_accepted != report.accepted {
            format!("SES has {} messages, and clients received {} acceptances", self.ses_accepted, report.accepted)
        } else if report.accepted == 0 {
            "nothing was accepted".to_owned()
        } else {
            return None;
        };
        Some(what)
    }
}

/// One round.
pub(crate) fn round(stage: &mut Stage, entry: &Entry<'_>) -> io::Result<Round> {
    let Stage { generator, yardstick, ses } = stage;
    let before = (ses.count("requests")?, ses.count("accepted")?, ses.count("connections")?);
    let sender = match (&entry.subject, &entry.load.by) {
        (Subject::Sdk, _) | (_, LimitKey::Sdk { .. }) => yardstick,
        _ => generator,
    };
    let keeps = matches!(entry.subject, Subject::Keeper(_));
    let cpu_time = if keeps { CpuTime::of_family } else { CpuTime::of };
    let subject: Vec<u32> = match entry.subject {
        Subject::Relay(relay) => vec![relay.process.id()],
        Subject::Keeper(id) => vec![id],
        Subject::Fleet(relays) => relays.iter().map(|relay| relay.process.id()).collect(),
        Subject::Sdk | Subject::Sender => vec![sender.process.id()],
    };
    let cpu_of = |subject: &[u32]| subject.iter().map(|id| cpu_time(*id)).collect::<io::Result<Vec<_>>>();
    subject.iter().try_for_each(|id| machine::forget_peak(*id))?;
    let cpu_before = (cpu_of(&subject)?, sender.process.cpu()?, ses.0.process.cpu()?);
    let report: Report = serde_json::from_value(sender.ask(&Order::Load(entry.load.clone()))?)?;
    let cpu = (cpu_of(&subject)?, sender.process.cpu()?, ses.0.process.cpu()?);
    let per_thousand = |after: &CpuTime, before: &CpuTime| after.seconds_since(before) * 1e3 / report.accepted as f64;
    Ok(Round {
        cpu: cpu.0.iter().zip(&cpu_before.0).map(|(after, before)| per_thousand(after, before)).sum(),
        generator_cpu: per_thousand(&cpu.1, &cpu_before.1),
        emulator_cpu: per_thousand(&cpu.2, &cpu_before.2),
        ses_requests: ses.count("requests")? - before.0,
        ses_accepted: ses.count("accepted")? - before.1,
        ses_connections: ses.count("connections")? - before.2,
        memory_peak: subject.iter().map(|id| Ok(Memory::of(*id)?.peak)).sum::<io::Result<f64>>()?,
        keeps,
        report,
    })
}

/// The rounds of all subjects.
pub(crate) struct Contest {
    names: Vec<String>,
    pub(crate) rounds: Vec<Vec<Round>>,
    /// Connections to SES opened by each subject, including the warm-up round.
    pub(crate) ses_connections: Vec<u64>,
}

/// Every subject once as a warm-up, and then `rounds` times alternately.
pub(crate) fn contest(stage: &mut Stage, rounds: usize, entries: &[Entry<'_>]) -> io::Result<Contest> {
    let mut all = vec![Vec::new(); entries.len()];
    let mut connections = Vec::new();
    for entry in entries {
        let seconds = entry.load.seconds.min(WARM_SECONDS);
        let warm = round(stage, &Entry { load: Load { seconds, ..entry.load.clone() }, ..entry.clone() })?;
        connections.push(warm.ses_connections);
    }
    for number in 0..rounds {
        // The order changes, because the second subject finds warmer caches.
        for place in 0..entries.len() {
            let place = if number % 2 == 0 { place } else { entries.len() - 1 - place };
            let done = round(stage, &entries[place])?;
            if let Some(fault) = done.fault() {
                return Err(io::Error::other(format!("{}: {fault}", entries[place].name)));
            }
            connections[place] += done.ses_connections;
            all[place].push(done);
        }
    }
    let names = entries.iter().map(|entry| entry.name.to_owned()).collect();
    Ok(Contest { names, rounds: all, ses_connections: connections })
}

impl Contest {
    pub(crate) fn median(&self, subject: usize, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds[subject].iter().map(of).collect())
    }

    /// The median over the rounds of the ratio of one subject to another in the same round.
    pub(crate) fn ratio(&self, subject: usize, to: usize, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds[subject].iter().zip(&self.rounds[to]).map(|(one, other)| of(one) / of(other)).collect())
    }

    /// The median over the rounds of the difference.
    pub(crate) fn more(&self, subject: usize, than: usize, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds[subject].iter().zip(&self.rounds[than]).map(|(one, other)| of(one) - of(other)).collect())
    }
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:26} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8} {:>7}",
            "",
            "mails/s",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "max ms",
            "CPU s/1k",
            "generator",
            "emulator",
            "peak MiB",
            "to SES"
        )?;
        for (subject, name) in self.names.iter().enumerate() {
            let median = |of: fn(&Round) -> f64| self.median(subject, of);
            writeln!(
                f,
                "  {name:26} {:8.0} {:8.2} {:8.2} {:8.2} {:8.2} {:9.4} {:9.4} {:9.4} {:8.1} {:7}",
                median(|round| round.report.rate()),
                median(|round| round.report.p50_ms),
                median(|round| round.report.p90_ms),
                median(|round| round.report.p99_ms),
                median(|round| round.report.max_ms),
                median(|round| round.cpu),
                median(|round| round.generator_cpu),
                median(|round| round.emulator_cpu),
                median(|round| round.memory_peak),
                self.ses_connections[subject],
            )?;
        }
        Ok(())
    }
}

impl Contest {
    pub(crate) fn to_json(&self) -> Value {
        let subjects = self.names.iter().zip(&self.rounds).zip(&self.ses_connections);
        let subjects = subjects.map(|((name, rounds), connections)| {
            json!({"subject": name, "ses_connections_opened": connections, "rounds": rounds})
        });
        Value::Array(subjects.collect())
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// Long enough to fill pools and to page in code.
const WARM_SECONDS: f64 = 0.5;

/// A load on a relay's plain listener, for most scenarios.
pub(crate) fn plain(relay: &Relay, connections: usize, octets: usize, seconds: f64) -> Load {
    Load::closed(LimitKey::Smtp(Smtp::plain(relay.plain, relay.applications)), connections, octets, seconds)
}
