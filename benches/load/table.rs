//! The standard table: every scenario that has a target, measured alternately with its baseline.

use crate::contest::{Contest, Entry, Round, Stage, Subject, contest, plain, round};
use crate::drive::{LimitKey, Load, Report, Smtp};
use crate::machine::{CpuTime, Memory};
use crate::processes::Place;
use crate::relay::{APPLICATIONS, PASSWORD, Relay, Settings, USER, Workshop};
use crate::roles::{Bucket, Order, Role};
use crate::row::{Results, Row, Target};
use serde::Serialize;
use serde_json::Value;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Duration and number of rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) idle_connections: usize,
    pub(crate) large_messages: usize,
    pub(crate) throttled_seconds: f64,
    pub(crate) bucket_seconds: f64,
    /// Messages in a queue that is sent.
    pub(crate) queued: u64,
}

impl Scale {
    pub(crate) const STANDARD: Self = Self {
        seconds: 2.0,
        rounds: 5,
        idle_connections: 5_000,
        large_messages: 64,
        throttled_seconds: 8.0,
        bucket_seconds: 30.0,
        queued: 100_000,
    };
    /// As short as possible: checks that everything works, measures nothing.
    pub(crate) const SMOKE: Self = Self {
        seconds: 0.5,
        rounds: 1,
        idle_connections: 200,
        large_messages: 6,
        throttled_seconds: 2.0,
        bucket_seconds: 2.0,
        queued: 500,
    };
}

/// The load that the command line describes.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) settings: Settings,
    pub(crate) connections: usize,
    pub(crate) octets: usize,
    pub(crate) latency_ms: u64,
    pub(crate) rate: Option<f64>,
    pub(crate) recipients: usize,
    pub(crate) starttls: bool,
    pub(crate) auth: bool,
    pub(crate) pipelining: bool,
    pub(crate) messages_per_connection: Option<u64>,
    pub(crate) idle: usize,
}

/// One offered rate: p50 and p99 in ms.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) rate: f64,
    pub(crate) relay: (f64, f64),
    pub(crate) sdk: (f64, f64),
}

/// The number of offered rates of a sweep, and the last one relative to the closed-loop rate of the relay: from that rate
/// on, a queue only grows.
const SWEEP_STEPS: u32 = 9;
const SWEEP_END: f64 = 0.9;

/// A run of the table.
pub(crate) struct Run {
    scale: Scale,
    workshop: Workshop,
    stage: Stage,
    pub(crate) rows: Vec<Row>,
    contests: serde_json::Map<String, Value>,
}

/// The entry whose numbers a row shows.
const RELAY: usize = 0;

impl Run {
    pub(crate) fn new(workshop: Workshop, scale: Scale) -> io::Result<Self> {
        let stage = Stage::open(Bucket::default(), &Place::default(), &Place::default())?;
        Ok(Self { scale, workshop, stage, rows: Vec::new(), contests: serde_json::Map::new() })
    }

    pub(crate) fn to_json(&self) -> (Value, Value) {
        (Value::Array(self.rows.iter().map(Row::to_json).collect()), Value::Object(self.contests.clone()))
    }

    /// The cost of each feature of a relay, compared with a relay without features.
    pub(crate) fn prices(&mut self) -> io::Result<()> {
        let endpoint = self.stage.ses.endpoint()?;
        let bare = Settings::bare();
        let apps = Settings { applications: APPLICATIONS, ..bare.clone() };
        let variants = [
            ("one pattern", bare.clone()),
            ("1,000 apps", apps.clone()),
            ("1,000 apps, 3 limits each", Settings { limits: true, ..apps.clone() }),
            ("20 IAM statements", Settings { document: true, ..bare.clone() }),
            ("JSON log", Settings { log: true, ..bare.clone() }),
            ("metrics", Settings { metrics: true, ..bare }),
            ("apps, limits, log, metrics", Settings::full()),
        ];
        let mut relays = Vec::new();
        for (name, settings) in &variants {
            relays.push((*name, self.workshop.start(settings, &endpoint, &Place::default())?));
        }
        let load = |relay| plain(relay, 16, 10_000, self.scale.seconds);
        let entries: Vec<_> = relays.iter().map(|(name, relay)| Entry::relay(name, relay, load(relay))).collect();
        let done = self.contest("Prices, 10 KB, C=16", &entries)?;
        for (place, (name, _)) in variants.iter().enumerate().skip(1) {
            let more = done.more(place, 0, |round| round.cpu) * 1e3;
            self.row(&format!("{name}: CPU over one pattern"), Target::None, None, more, "µs");
        }
        Ok(())
    }

    /// One relay and the baseline, with the load of the command line.
    pub(crate) fn own(&mut self, own: &Own) -> io::Result<()> {
        self.stage.ses.latency(own.latency_ms)?;
        let endpoint = self.stage.ses.endpoint()?;
        let relay = self.workshop.start(&own.settings, &endpoint, &Place::default())?;
        let mut idle = crate::processes::Helper::start(&Role::Client { threads: 1 }, &Place::default())?;
        if own.idle > 0 {
            idle.ask(&Order::Hold(plain(&relay, own.idle, 1_000, 0.0)))?;
        }
        let load = Load {
            rate: own.rate,
            recipients: own.recipients,
            spread_ms: own.latency_ms,
            ..plain(&relay, own.connections, own.octets, self.scale.seconds)
        };
        let authority = own.starttls.then(|| self.workshop.authority());
        let login = own.auth.then(|| (USER.to_owned(), PASSWORD.to_owned()));
        let server = match (own.starttls, own.auth) {
            (_, true) => relay.auth,
            (true, false) => relay.starttls,
            (false, false) => relay.plain,
        };
        let (pipelining, messages_per_connection) = (own.pipelining, own.messages_per_connection);
        let load = load.with(|smtp| Smtp { server, authority, login, pipelining, messages_per_connection, ..smtp });
        let entries = [Entry::relay("relay", &relay, load.clone()), Entry::sdk(&endpoint, &load)];
        let done = self.contest("As configured", &entries)?;
        let rate = |round: &Round| round.report.rate();
        self.cpu_rows("CPU / bare SDK's", Target::None, None, &done);
        self.row("rate / bare SDK's", Target::None, None, done.ratio(RELAY, 1, rate), "×");
        let later = done.more(RELAY, 1, |round| round.report.p50_ms);
        self.row("added to the bare SDK's p50", Target::None, None, later, "ms");
        let later = done.more(RELAY, 1, |round| round.report.p99_ms);
        self.row("added to the bare SDK's p99", Target::None, None, later, "ms");
        relay.process.stop()
    }

    /// Latency against offered rate, of the relay and of the baseline: open loop, up to and beyond the relay's maximum.
    pub(crate) fn sweep(&mut self, own: &Own) -> io::Result<Vec<Point>> {
        self.stage.ses.latency(own.latency_ms)?;
        let endpoint = self.stage.ses.endpoint()?;
        let relay = self.workshop.start(&own.settings, &endpoint, &Place::default())?;
        let seconds = self.scale.seconds;
        let closed = plain(&relay, own.connections, own.octets, seconds);
        let most = round(&mut self.stage, &Entry::relay("relay", &relay, closed.clone()))?.report.rate();
        println!(
            "\nLatency against offered rate, {} octets, C={}; closed loop: {most:.0}/s",
            own.octets, own.connections
        );
        println!("{:>10} {:>26} {:>26}", "offered/s", "relay: got/s p50 p99 ms", "SDK: got/s p50 p99 ms");
        let mut points = Vec::new();
        for step in 1..=SWEEP_STEPS {
            let rate = most * SWEEP_END * f64::from(step) / f64::from(SWEEP_STEPS);
            let load = Load { rate: Some(rate), ..closed.clone() };
            let mut reports = Vec::new();
            for entry in [Entry::relay("relay", &relay, load.clone()), Entry::sdk(&endpoint, &load)] {
                let done = round(&mut self.stage, &entry)?;
                if let Some(fault) = done.fault() {
                    return Err(io::Error::other(format!("{} at {rate:.0}/s: {fault}", entry.name)));
                }
                reports.push(done.report);
            }
            print!("{rate:10.0}");
            for report in &reports {
                print!(" {:10.0} {:7.2} {:7.2}", report.rate(), report.p50_ms, report.p99_ms);
            }
            println!();
            let mut latency = reports.into_iter().map(|report| (report.p50_ms, report.p99_ms));
            let (relay, sdk) = (latency.next().unwrap_or_default(), latency.next().unwrap_or_default());
            points.push(Point { rate, relay, sdk });
        }
        relay.process.stop()?;
        Ok(points)
    }

    /// Mail that is kept, beside Postfix if it is there.
    pub(crate) fn spool(&mut self, postfix: Option<&Path>) -> io::Result<()> {
        let Scale { seconds, rounds, queued, .. } = self.scale;
        let done = crate::spool::run(&mut self.workshop, &mut self.stage, postfix, (seconds, rounds, queued))?;
        self.add(done);
        Ok(())
    }

    /// Two relays in network namespaces.
    pub(crate) fn vpc(&mut self) -> io::Result<()> {
        let done = crate::vpc::run(&mut self.workshop, self.scale.seconds, self.scale.rounds)?;
        self.add(done);
        Ok(())
    }

    fn add(&mut self, (rows, contests): Results) {
        self.rows.extend(rows);
        self.contests.extend(contests.into_iter().map(|(name, done)| (name, done.to_json())));
    }

    /// Every scenario.
    pub(crate) fn all(&mut self) -> io::Result<()> {
        self.ceilings()?;
        let endpoint = self.stage.ses.endpoint()?;
        let place = Place::default();
        let full = self.workshop.start(&Settings::full(), &endpoint, &place)?;
        self.idle_memory(&full)?;
        let bare = self.workshop.start(&Settings::bare(), &endpoint, &place)?;
        self.idle("idle, no apps", &bare, 6.0)?;
        let policy = Settings { document: true, log: false, metrics: false, ..Settings::full() };
        let policy = self.workshop.start(&policy, &endpoint, &place)?;
        self.near(&full, &bare)?;
        self.one_at_a_time(&full)?;
        self.far(&full)?;
        self.megabyte(&full)?;
        self.starttls(&full)?;
        self.auth(&full)?;
        self.policy(&policy, &bare)?;
        for relay in [full, bare, policy] {
            relay.process.stop()?;
        }
        self.large_messages()?;
        self.throttled()?;
        let ten = Bucket { at_once: Some(10), ..Bucket::of(QUOTA) };
        let one = Bucket { at_once: Some(1), ..Bucket::of(14.0) };
        for (what, bucket) in [
            ("10 at once at 200/s", ten),
            ("10 at once, GetAccount denied", Bucket { is_secret: true, ..ten }),
            ("10 at once, GetAccount ten times too high", Bucket { reported: Some(10.0 * QUOTA), ..ten }),
            ("1 at once at 14/s, GetAccount denied", Bucket { is_secret: true, ..one }),
        ] {
            self.small_bucket(what, bucket)?;
        }
        Ok(())
    }

    fn row(&mut self, what: &str, target: Target, goal: Option<f64>, measured: f64, unit: &'static str) {
        let row = Row { what: what.to_owned(), target, goal, measured, unit };
        println!("{row}");
        self.rows.push(row);
    }

    /// The CPU of the first subject divided by that of the second, without and with correction for the speed of the machine:
    /// the emulator does the same work for each message, so its CPU shows how fast the machine was in a round.
    fn cpu_rows(&mut self, what: &str, target: Target, goal: Option<f64>, done: &Contest) {
        self.row(what, target, goal, done.ratio(RELAY, 1, |round| round.cpu), "×");
        let steady = done.ratio(RELAY, 1, |round| round.cpu / round.emulator_cpu);
        self.row(&format!("{what}, steady"), Target::None, None, steady, "×");
    }

    fn contest(&mut self, name: &str, entries: &[Entry<'_>]) -> io::Result<Contest> {
        self.contest_of(name, self.scale.rounds, entries)
    }

    fn contest_of(&mut self, name: &str, rounds: usize, entries: &[Entry<'_>]) -> io::Result<Contest> {
        println!("\n{name}");
        let done = contest(&mut self.stage, rounds, entries)
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        print!("{done}");
        self.contests.insert(name.to_owned(), done.to_json());
        Ok(done)
    }

    /// The rates of generator and emulator without the relay. A row close to them does not measure the relay.
    fn ceilings(&mut self) -> io::Result<()> {
        let sink = crate::processes::Helper::start(&Role::Sink, &Place::default())?;
        let endpoint = self.stage.ses.endpoint()?;
        let smtp = Smtp::plain(sink.address()?, 0);
        for (size, octets) in [("10 KB", 10_000), ("1 MB", 1_000_000)] {
            let load = Load::closed(LimitKey::Smtp(smtp.clone()), 16, octets, self.scale.seconds);
            println!(
                "\nCeilings, {size}, C=16: the generator with a sink, the emulator with a request that is signed once"
            );
            let report: Report = serde_json::from_value(self.stage.generator.ask(&Order::Load(load.clone()))?)?;
            self.row(&format!("{size}: the generator alone"), Target::None, None, report.rate(), "/s");
            let by = LimitKey::Replay { endpoint: endpoint.clone() };
            let entry = Entry { name: "ceiling", subject: Subject::Sender, load: Load { by, ..load } };
            let done = round(&mut self.stage, &entry)?;
            self.row(&format!("{size}: the emulator alone"), Target::None, None, done.report.rate(), "/s");
        }
        Ok(())
    }

    fn near(&mut self, full: &Relay, bare: &Relay) -> io::Result<()> {
        let load = |relay| plain(relay, 16, 10_000, self.scale.seconds);
        let sdk = Entry::sdk(&self.stage.ses.endpoint()?, &load(full));
        let entries = [Entry::relay("relay", full, load(full)), sdk, Entry::relay("relay, all off", bare, load(bare))];
        let done = self.contest("Hand-off, 10 KB, C=16", &entries)?;
        let (cpu, rate) = (|round: &Round| round.cpu, |round: &Round| round.report.rate());
        self.cpu_rows("10 KB, C=16: CPU / bare SDK's", Target::AtMost(1.5), Some(1.35), &done);
        self.row("10 KB, C=16: rate / bare SDK's", Target::AtLeast(0.6), None, done.ratio(RELAY, 1, rate), "×");
        self.row("the same with apps, limits, log, metrics off: CPU", Target::None, None, done.ratio(2, 1, cpu), "×");
        self.row(
            "price of 1,000 apps, limits, log and metrics: CPU",
            Target::None,
            None,
            done.ratio(RELAY, 2, cpu),
            "×",
        );
        Ok(())
    }

    fn one_at_a_time(&mut self, full: &Relay) -> io::Result<()> {
        let load = plain(full, 1, 10_000, self.scale.seconds);
        let entries = [Entry::relay("relay", full, load.clone()), Entry::sdk(&self.stage.ses.endpoint()?, &load)];
        let done = self.contest("Hand-off, 10 KB, C=1", &entries)?;
        let added = done.more(RELAY, 1, |round| round.report.p50_ms);
        self.row("10 KB, C=1: added to the bare SDK's p50", Target::AtMost(0.5), Some(0.35), added, "ms");
        Ok(())
    }

    fn far(&mut self, full: &Relay) -> io::Result<()> {
        self.stage.ses.latency(50)?;
        let load = Load { spread_ms: 50, ..plain(full, 128, 10_000, self.scale.seconds) };
        let entries = [Entry::relay("relay", full, load.clone()), Entry::sdk(&self.stage.ses.endpoint()?, &load)];
        let done = self.contest("SES 50 ms away, 10 KB, C=128", &entries)?;
        let rate = done.ratio(RELAY, 1, |round| round.report.rate());
        let later = done.more(RELAY, 1, |round| round.report.p99_ms);
        self.row("50 ms, C=128: rate / bare SDK's", Target::AtLeast(0.95), None, rate, "×");
        self.row("50 ms, C=128: added to the bare SDK's p99", Target::AtMost(5.0), None, later, "ms");
        // Connections of the earlier scenarios are still open, so this is an upper limit.
        let opened = done.ses_connections[RELAY] as f64;
        self.row("50 ms, C=128: connections opened to SES", Target::AtMost(128.0), None, opened, "");
        self.stage.ses.latency(0)
    }

    fn megabyte(&mut self, full: &Relay) -> io::Result<()> {
        let load = plain(full, 16, 1_000_000, self.scale.seconds);
        let entries = [Entry::relay("relay", full, load.clone()), Entry::sdk(&self.stage.ses.endpoint()?, &load)];
        let done = self.contest("Hand-off, 1 MB, C=16", &entries)?;
        self.cpu_rows("1 MB, C=16: CPU / bare SDK's", Target::AtMost(1.3), None, &done);
        Ok(())
    }

    fn starttls(&mut self, full: &Relay) -> io::Result<()> {
        let load = plain(full, 16, 10_000, self.scale.seconds);
        let authority = Some(self.workshop.authority());
        let tls = load.with(|smtp| Smtp { server: full.starttls, authority, ..smtp });
        let entries = [Entry::relay("relay, STARTTLS", full, tls), Entry::relay("relay, plain", full, load)];
        let done = self.contest("STARTTLS, 10 KB, C=16, kept connections", &entries)?;
        self.cpu_rows("10 KB, STARTTLS in: CPU / plain", Target::AtMost(1.25), None, &done);
        Ok(())
    }

    fn auth(&mut self, full: &Relay) -> io::Result<()> {
        let load =
            plain(full, 16, 10_000, self.scale.seconds).with(|smtp| Smtp { messages_per_connection: Some(1), ..smtp });
        let login = Some((USER.to_owned(), PASSWORD.to_owned()));
        let auth = load.with(|smtp| Smtp { server: full.auth, login, ..smtp });
        let entries = [Entry::relay("relay, AUTH", full, auth), Entry::relay("relay, without", full, load)];
        let done = self.contest("AUTH, 10 KB, C=16, one message a connection", &entries)?;
        self.cpu_rows("10 KB, one a connection, AUTH: CPU / without", Target::AtMost(1.5), None, &done);
        let after = Memory::of(full.process.id())?.resident;
        self.row("resident memory after the scenarios up to here", Target::None, None, after, "MiB");
        Ok(())
    }

    fn policy(&mut self, policy: &Relay, bare: &Relay) -> io::Result<()> {
        let load = |relay| plain(relay, 16, 10_000, self.scale.seconds);
        let entries =
            [Entry::relay("relay, policy", policy, load(policy)), Entry::relay("relay, one pattern", bare, load(bare))];
        // The smallest difference needs the most rounds.
        let rounds = 3 * self.scale.rounds;
        let done = self.contest_of("Policy: 1,000 apps, 3 limits each, 20 IAM statements", rounds, &entries)?;
        self.cpu_rows("1,000 apps, 3 limits, 20 statements: CPU / one pattern", Target::AtMost(1.05), None, &done);
        Ok(())
    }

    fn idle(&mut self, name: &str, relay: &Relay, most: f64) -> io::Result<f64> {
        std::thread::sleep(UNTIL_IDLE);
        let memory = Memory::of(relay.process.id())?;
        self.row(
            &format!("{name}: memory that is not file-backed"),
            Target::AtMost(most),
            None,
            memory.anonymous,
            "MiB",
        );
        self.row(&format!("{name}: resident memory"), Target::None, None, memory.resident, "MiB");
        Ok(memory.anonymous)
    }

    fn idle_memory(&mut self, relay: &Relay) -> io::Result<()> {
        println!("\nIdle");
        let id = relay.process.id();
        let alone = self.idle("idle, 1,000 apps", relay, 12.0)?;
        let count = self.scale.idle_connections;
        let held = self.stage.generator.ask(&Order::Hold(plain(relay, count, 1_000, 0.0)))?;
        if held["accepted"].as_u64() != Some(count as u64) {
            return Err(io::Error::other(format!("idle connections: {held}")));
        }
        std::thread::sleep(UNTIL_IDLE);
        let each = (Memory::of(id)?.anonymous - alone) * 1024.0 / count as f64;
        self.row(&format!("{count} idle connections: memory of each"), Target::AtMost(8.0), None, each, "KiB");
        let (before, watch) = (CpuTime::of(id)?, Duration::from_secs(3));
        std::thread::sleep(watch);
        let busy = CpuTime::of(id)?.seconds_since(&before) * 1e3 / watch.as_secs_f64();
        self.row(&format!("{count} idle connections: CPU in a second"), Target::AtMost(1.0), None, busy, "ms");
        self.stage.generator.ask(&Order::Release)?;
        Ok(())
    }

    /// All at once, more than the memory budget; SES takes half a second for each.
    fn large_messages(&mut self) -> io::Result<()> {
        let count = self.scale.large_messages;
        println!("\n{count} messages of 10 MB at once, budget 128 MiB, SES 500 ms away");
        self.stage.ses.latency(500)?;
        let settings = Settings { memory_octets: Some(128 << 20), deadline_seconds: Some(60), ..Settings::full() };
        let relay = self.workshop.start(&settings, &self.stage.ses.endpoint()?, &Place::default())?;
        let load = plain(&relay, count, 10_000_000, 0.0).with(|smtp| Smtp { patient: true, ..smtp });
        let load = Load { messages_max: Some(count as u64), ..load };
        let done = round(&mut self.stage, &Entry::relay("relay", &relay, load))?;
        let fault =
            done.fault().or_else(|| (!done.report.refused.is_empty()).then(|| format!("{:?}", done.report.refused)));
        if let Some(fault) = fault {
            return Err(io::Error::other(format!("large messages: {fault}")));
        }
        std::thread::sleep(Duration::from_secs(2));
        let after = Memory::of(relay.process.id())?.resident;
        let delivered = done.ses_accepted as f64;
        self.row(&format!("{count} × 10 MB: delivered"), Target::AtLeast(count as f64), None, delivered, "");
        self.row(&format!("{count} × 10 MB: peak memory"), Target::AtMost(200.0), None, done.memory_peak, "MiB");
        self.row(&format!("{count} × 10 MB: memory two seconds later"), Target::AtMost(40.0), None, after, "MiB");
        self.row(&format!("{count} × 10 MB: time"), Target::None, None, done.report.seconds, "s");
        self.row(&format!("{count} × 10 MB: CPU of each"), Target::None, None, done.cpu, "ms");
        self.stage.ses.latency(0)?;
        relay.process.stop()
    }

    fn throttled(&mut self) -> io::Result<()> {
        println!("\nSES that takes 200 recipients a second, C=64");
        let mut stage = Stage::open(Bucket::of(QUOTA), &Place::default(), &Place::default())?;
        let relay = self.workshop.start(&Settings::full(), &stage.ses.endpoint()?, &Place::default())?;
        let load = |seconds| Entry::relay("relay", &relay, plain(&relay, 64, 10_000, seconds));
        // First the tokens that have accumulated are used.
        round(&mut stage, &load(self.scale.throttled_seconds.min(2.0)))?;
        let done = round(&mut stage, &load(self.scale.throttled_seconds))?;
        if let Some(fault) = done.fault() {
            return Err(io::Error::other(format!("throttled: {fault}")));
        }
        self.row("throttled: quota used", Target::AtLeast(95.0), None, done.report.rate() * 100.0 / QUOTA, "%");
        let refused = done.report.refused.values().sum::<u64>() as f64;
        self.row("throttled: messages deferred", Target::AtMost(0.0), None, refused, "");
        let wasted = (done.ses_requests - done.ses_accepted) as f64;
        self.row("throttled: requests that SES refused", Target::None, None, wasted, "");
        let p99 = done.report.p99_ms / 1e3;
        self.row("throttled: p99 (deadline.base_seconds is 20)", Target::AtMost(20.0), None, p99, "s");
        relay.process.stop()
    }

    /// After five seconds in which the relay learns the rate of SES.
    fn small_bucket(&mut self, what: &str, bucket: Bucket) -> io::Result<()> {
        println!("\nSES takes {what}, C=16");
        let mut stage = Stage::open(bucket, &Place::default(), &Place::default())?;
        let relay = self.workshop.start(&Settings::full(), &stage.ses.endpoint()?, &Place::default())?;
        let load = |seconds| Entry::relay("relay", &relay, plain(&relay, 16, 10_000, seconds));
        round(&mut stage, &load(self.scale.bucket_seconds.min(5.0)))?;
        let done = round(&mut stage, &load(self.scale.bucket_seconds))?;
        if let Some(fault) = done.fault() {
            return Err(io::Error::other(format!("{what}: {fault}")));
        }
        let used = done.report.rate() * 100.0 / bucket.rate.unwrap_or(QUOTA);
        self.row(&format!("{what}: quota used"), Target::AtLeast(95.0), None, used, "%");
        let refused = done.report.refused.values().sum::<u64>() as f64;
        self.row(&format!("{what}: messages deferred"), Target::AtMost(0.0), None, refused, "");
        let wasted = (done.ses_requests - done.ses_accepted) as f64 * 100.0 / done.ses_requests as f64;
        self.row(&format!("{what}: requests that SES refused"), Target::AtMost(5.0), None, wasted, "%");
        relay.process.stop()
    }
}

/// The allocator returns memory to the system a moment after it is freed.
const UNTIL_IDLE: Duration = Duration::from_secs(3);

/// Recipients a second.
const QUOTA: f64 = 200.0;
