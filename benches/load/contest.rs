//! Subjects taken in turns, round after round, so that what else the machine does meets them alike; medians and ratios.

use crate::drive::{By, Load, Report, Smtp};
use crate::machine::CpuTime;
use crate::processes::{Helper, Place, Ses};
use crate::relay::Relay;
use crate::roles::{Order, Role};
use std::io;

/// The processes that send, and SES.
pub struct Stage {
    pub generator: Helper,
    pub yardstick: Helper,
    pub ses: Ses,
}

impl Stage {
    pub fn open(place: &Place) -> io::Result<Self> {
        Ok(Self {
            generator: Helper::start(&Role::Client { threads: 1 }, place)?,
            yardstick: Helper::start(&Role::Client { threads: 0 }, place)?,
            ses: Ses::start(None, place)?,
        })
    }
}

/// Who is measured.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A relay; the generator sends.
    Relay(&'a Relay),
    /// The SDK alone, which sends itself.
    Sdk,
    /// What is measured is the sender: against a sink, or the emulator's ceiling.
    Sender,
}

/// One subject and its load.
#[derive(Clone)]
pub struct Entry<'a> {
    pub subject: Subject<'a>,
    pub load: Load,
}

/// One round of one subject.
#[derive(Clone, Debug)]
pub struct Round {
    pub report: Report,
    /// CPU seconds per 1,000 messages: of the subject, of the generator, of the emulator.
    pub cpu: f64,
    pub generator_cpu: f64,
    pub emulator_cpu: f64,
    pub ses_requests: u64,
    pub ses_accepted: u64,
    pub ses_connections: u64,
}

impl Round {
    /// What is wrong with it, if anything: every acceptance must be one message at SES and no more.
    pub fn fault(&self) -> Option<String> {
        let report = &self.report;
        let what = if report.broken > 0 {
            format!("{} connections broke: {}", report.broken, report.trouble.as_deref().unwrap_or(""))
        } else if report.distinct != report.accepted {
            format!("{} message ids for {} acceptances", report.distinct, report.accepted)
        } else if self.ses_accepted != report.accepted {
            format!("SES has {} messages, and clients were told of {}", self.ses_accepted, report.accepted)
        } else if report.accepted == 0 {
            "nothing was accepted".to_owned()
        } else {
            return None;
        };
        Some(what)
    }
}

/// One round.
pub fn round(stage: &mut Stage, entry: &Entry<'_>) -> io::Result<Round> {
    let Stage { generator, yardstick, ses } = stage;
    let before = (ses.count("requests")?, ses.count("accepted")?, ses.count("connections")?);
    let sender = match (&entry.subject, &entry.load.by) {
        (Subject::Sdk, _) | (_, By::Sdk { .. }) => yardstick,
        _ => generator,
    };
    let subject = match entry.subject {
        Subject::Relay(relay) => relay.process.id(),
        Subject::Sdk | Subject::Sender => sender.process.id(),
    };
    let cpu_before = (CpuTime::of(subject)?, sender.process.cpu()?, ses.0.process.cpu()?);
    let report: Report = serde_json::from_value(sender.ask(&Order::Load(entry.load.clone()))?)?;
    let cpu = (CpuTime::of(subject)?, sender.process.cpu()?, ses.0.process.cpu()?);
    let per_thousand = |after: &CpuTime, before: &CpuTime| after.seconds_since(before) * 1e3 / report.accepted as f64;
    Ok(Round {
        cpu: per_thousand(&cpu.0, &cpu_before.0),
        generator_cpu: per_thousand(&cpu.1, &cpu_before.1),
        emulator_cpu: per_thousand(&cpu.2, &cpu_before.2),
        ses_requests: ses.count("requests")? - before.0,
        ses_accepted: ses.count("accepted")? - before.1,
        ses_connections: ses.count("connections")? - before.2,
        report,
    })
}

/// The rounds of all subjects.
pub struct Contest {
    pub rounds: Vec<Vec<Round>>,
}

/// Every subject once for warmth, and then `rounds` times in turns.
pub fn contest(stage: &mut Stage, rounds: usize, entries: &[Entry<'_>]) -> io::Result<Contest> {
    let mut all = vec![Vec::new(); entries.len()];
    for entry in entries {
        let seconds = entry.load.seconds.min(WARM_SECONDS);
        round(stage, &Entry { subject: entry.subject, load: Load { seconds, ..entry.load.clone() } })?;
    }
    for number in 0..rounds {
        // Who goes first changes, because who goes second finds warmer caches.
        for place in 0..entries.len() {
            let place = if number % 2 == 0 { place } else { entries.len() - 1 - place };
            let done = round(stage, &entries[place])?;
            if let Some(fault) = done.fault() {
                return Err(io::Error::other(fault));
            }
            all[place].push(done);
        }
    }
    Ok(Contest { rounds: all })
}

impl Contest {
    pub fn median(&self, subject: usize, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds[subject].iter().map(of).collect())
    }

    /// The median over the rounds of what the subject shows relative to another in the same round.
    pub fn ratio(&self, subject: usize, to: usize, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds[subject].iter().zip(&self.rounds[to]).map(|(one, other)| of(one) / of(other)).collect())
    }

    /// The median over the rounds of how much more it is.
    pub fn more(&self, subject: usize, than: usize, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds[subject].iter().zip(&self.rounds[than]).map(|(one, other)| of(one) - of(other)).collect())
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// Enough for pools to fill and code to be paged in.
const WARM_SECONDS: f64 = 0.5;

/// A load on a relay's plain listener, as most scenarios have it.
pub fn plain(relay: &Relay, connections: usize, octets: usize, seconds: f64) -> Load {
    let smtp = Smtp {
        server: relay.plain,
        applications: relay.applications,
        pipelining: false,
        authority: None,
        login: None,
        messages_per_connection: None,
        patient: false,
    };
    Load { by: By::Smtp(smtp), connections, octets, recipients: 1, seconds, messages_max: None, rate: None }
}
