//! Relays in a VPC: the same load over network namespaces, which the run creates and removes.
//!
//! ```text
//!  client ── balancer ──┬── relay 1 ──┬── endpoint (SES, some milliseconds away)
//!  10.204.0.0/16  PROXY v2 └── relay 2 ──┤
//!                                     └── limits (Redis, if redis-server is installed)
//! ```
//!
//! Each name is a namespace with an address in 10.203.0.0/24, connected to one bridge, which is in a namespace too: the
//! machine's own network is neither changed nor reachable. This needs root. The emulator's latency stands for the distance
//! to SES; the links have no latency, so a handshake costs less here than over a real network.

use crate::contest::{Contest, Entry, Stage, Subject, contest, round};
use crate::drive::{LimitKey, Load, Smtp};
use crate::network::Network;
use crate::processes::{Helper, Place, Process};
use crate::relay::{APPLICATIONS, Relay, Settings, Workshop};
use crate::roles::{Bucket, Role};
use crate::row::{Results, Row, Target};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The network of the applications, routed through the client.
const APPLICATIONS_AT: Network = (10, 204);
const MACHINES: [&str; 6] = ["client", "balancer", "relay-1", "relay-2", "endpoint", "limits"];
const RELAYS: [&str; 2] = ["relay-1", "relay-2"];
const PREFIX: &str = "gatepost-load-";
/// Recipients a second, for all relays together.
const QUOTA: f64 = 400.0;

/// Runs all measurements.
pub(crate) fn run(workshop: &mut Workshop, seconds: f64, rounds: usize) -> io::Result<Results> {
    if !rustix::process::geteuid().is_root() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "network namespaces want root"));
    }
    let network = VirtualNetwork::make()?;
    let redis = redis(&network)?;
    let shared = match &redis {
        Some(_) => format!("\n[redis]\nurl = \"redis://{}:6379\"\ninstances = 2\n", address("limits")),
        None => "\n[pace]\ninstances = 2\n".to_owned(),
    };
    println!(
        "two relays, limits and pace {}",
        if redis.is_some() { "shared over Redis" } else { "divided (no redis-server)" }
    );
    let mut rows = Vec::new();
    let mut contests = Vec::new();

    let mut fleet = Fleet::start(workshop, &network, None, &shared)?;
    for (name, milliseconds, connections, rate) in [
        ("VPC: SES 0 ms away, C=16", 0, 16, None),
        ("VPC: SES 50 ms away, C=128", 50, 128, None),
        ("VPC: SES 50 ms away, 1,000/s offered, C=128", 50, 128, Some(1_000.0)),
    ] {
        println!("\n{name}");
        fleet.stage.ses.latency(milliseconds)?;
        let load = Load { spread_ms: milliseconds, ..fleet.load(connections, rate, seconds) };
        let done = fleet.contest(load, rounds)?;
        print!("{done}");
        let mails = done.median(0, |round| round.report.rate());
        rows.push(Row::shown(&format!("{name}: mails/s"), mails, "/s"));
        rows.push(Row::shown(&format!("{name}: p50"), done.median(0, |round| round.report.p50_ms), "ms"));
        rows.push(Row::shown(&format!("{name}: p99"), done.median(0, |round| round.report.p99_ms), "ms"));
        rows.push(Row::shown(
            &format!("{name}: CPU of both relays / bare SDK's"),
            done.ratio(0, 1, |round| round.cpu),
            "×",
        ));
        contests.push((name.to_owned(), done));
    }
    fleet.stop()?;

    let mut fleet = Fleet::start(workshop, &network, Some(QUOTA), &shared)?;
    println!("\nVPC: SES takes {QUOTA} recipients a second from both relays together, C=128");
    // What the account saved up before is spent first.
    let load = fleet.load(128, None, 2.0);
    round(&mut fleet.stage, &Entry { name: "relays", subject: Subject::Fleet(&fleet.relays), load })?;
    let load = fleet.load(128, None, (seconds * 3.0).max(2.0));
    let done = round(&mut fleet.stage, &Entry { name: "relays", subject: Subject::Fleet(&fleet.relays), load })?;
    if let Some(fault) = done.fault() {
        return Err(io::Error::other(format!("VPC, throttled: {fault}")));
    }
    let used = Row {
        what: "VPC, throttled: quota used".to_owned(),
        target: Target::AtLeast(95.0),
        goal: None,
        measured: done.report.rate() * 100.0 / QUOTA,
        unit: "%",
    };
    rows.push(used);
    rows.push(Row::shown(
        "VPC, throttled: requests that SES refused",
        (done.ses_requests - done.ses_accepted) as f64,
        "",
    ));
    rows.push(Row::shown("VPC, throttled: messages deferred", done.report.refused.values().sum::<u64>() as f64, ""));
    fleet.stop()?;
    Ok((rows, contests))
}

/// Two relays between a balancer and SES.
struct Fleet {
    stage: Stage,
    relays: Vec<Relay>,
    endpoint: String,
    server: SocketAddr,
    // They stop when their handles are dropped.
    _balancer: Helper,
    _forwarder: Helper,
}

impl Fleet {
    fn start(workshop: &mut Workshop, network: &VirtualNetwork, quota: Option<f64>, shared: &str) -> io::Result<Self> {
        let stage = Stage::open(
            quota.map(Bucket::of).unwrap_or_default(),
            &network.place("client"),
            &network.place("endpoint"),
        )?;
        // The emulator listens on loopback only, also in its namespace; this forwarder has the endpoint's address.
        let role = Role::Balancer {
            listen: (address("endpoint"), 8005).into(),
            servers: vec![stage.ses.0.address()?],
            proxy: false,
        };
        let forwarder = Helper::start(&role, &network.place("endpoint"))?;
        let endpoint = format!("http://{}", forwarder.address()?);
        let mut relays = Vec::new();
        for name in RELAYS {
            let settings = Settings {
                host: address(name),
                network: APPLICATIONS_AT,
                proxies: vec![format!("{}/32", address("balancer"))],
                more: shared.to_owned(),
                ..Settings::full()
            };
            relays.push(workshop.start(&settings, &endpoint, &network.place(name))?);
        }
        let servers = relays.iter().map(|relay| relay.plain).collect();
        let balancer = Role::Balancer { listen: (address("balancer"), 2525).into(), servers, proxy: true };
        let balancer = Helper::start(&balancer, &network.place("balancer"))?;
        Ok(Self { stage, relays, endpoint, server: balancer.address()?, _balancer: balancer, _forwarder: forwarder })
    }

    fn load(&self, connections: usize, rate: Option<f64>, seconds: f64) -> Load {
        let smtp = Smtp { network: APPLICATIONS_AT, ..Smtp::plain(self.server, APPLICATIONS) };
        Load { rate, ..Load::closed(LimitKey::Smtp(smtp), connections, 10_000, seconds) }
    }

    fn contest(&mut self, load: Load, rounds: usize) -> io::Result<Contest> {
        let sdk = Entry::sdk(&self.endpoint, &load);
        contest(
            &mut self.stage,
            rounds,
            &[Entry { name: "two relays", subject: Subject::Fleet(&self.relays), load }, sdk],
        )
    }

    fn stop(self) -> io::Result<()> {
        self.relays.into_iter().try_for_each(|relay| relay.process.stop())
    }
}

fn address(machine: &str) -> Ipv4Addr {
    let place = MACHINES.iter().position(|name| *name == machine).unwrap_or_default();
    Ipv4Addr::new(10, 203, 0, 10 + u8::try_from(place).unwrap_or_default())
}

/// A Redis server for the shared limits, if installed.
fn redis(network: &VirtualNetwork) -> io::Result<Option<Process>> {
    let program = std::env::var_os("GATEPOST_BENCH_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    if Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Ok(None);
    }
    let mut command = network.place("limits").command(&program)?;
    // Not reachable from outside the namespaces.
    command.args(["--port", "6379", "--protected-mode", "no", "--save", "", "--appendonly", "no"]);
    let server = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    // The relays do not wait for Redis at their start; an empty one is ready after a moment.
    std::thread::sleep(Duration::from_millis(500));
    Ok(Some(server))
}

/// The namespaces. They are removed when this value is dropped, and by signals.
struct VirtualNetwork {
    run: u32,
}

impl VirtualNetwork {
    fn make() -> io::Result<Self> {
        clear_away(|run| run == std::process::id() || !std::path::Path::new(&format!("/proc/{run}")).exists())?;
        let network = Self { run: std::process::id() };
        network.remove_on_signals()?;
        let switch = network.name("switch");
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"])?;
        for machine in MACHINES {
            let name = network.name(machine);
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &switch, "link", "add", machine, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", &switch, "link", "set", machine, "master", "bridge", "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", address(machine)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        }
        // The applications: all their addresses belong to the client, and only the balancer has a route back.
        let applications = format!("{}.{}.0.0/16", APPLICATIONS_AT.0, APPLICATIONS_AT.1);
        ip(&["-n", &network.name("client"), "route", "add", "local", &applications, "dev", "lo"])?;
        let client = address("client").to_string();
        ip(&["-n", &network.name("balancer"), "route", "add", &applications, "via", &client])?;
        network.wait_until_connected()?;
        Ok(network)
    }

    fn name(&self, machine: &str) -> String {
        format!("{PREFIX}{}-{machine}", self.run)
    }

    fn place(&self, machine: &str) -> Place {
        Place { namespace: Some(self.name(machine)) }
    }

    /// A bridge needs a moment before it forwards packets; a refused connection shows that it does.
    fn wait_until_connected(&self) -> io::Result<()> {
        let ends = Instant::now() + Duration::from_secs(10);
        for machine in RELAYS.into_iter().chain(["endpoint"]) {
            let to = address(machine).to_string();
            loop {
                let probe = format!("exec 3<>/dev/tcp/{to}/9");
                let mut command = self.place("balancer").command("timeout".as_ref())?;
                let done = command.args(["1", "bash", "-c", &probe]).stderr(Stdio::null()).status()?;
                // timeout(1): 124 means that there was no answer.
                if done.code() != Some(124) {
                    break;
                }
                if Instant::now() > ends {
                    return Err(io::Error::other(format!("{machine} cannot be reached in the namespaces")));
                }
            }
        }
        Ok(())
    }

    /// Ctrl-C and SIGTERM remove the namespaces too. The processes end with this one: see `Place::command`.
    fn remove_on_signals(&self) -> io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let run = self.run;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            let signalled = runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                io::Result::Ok(())
            });
            if signalled.is_ok() {
                // What cannot be removed now is removed by the next run.
                let _ = clear_away(|of| of == run);
                // The main thread only waits for measurements, so the process may end here.
                std::process::exit(130);
            }
        });
        Ok(())
    }
}

impl Drop for VirtualNetwork {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = clear_away(|run| run == self.run);
    }
}

/// Removes the namespaces of those runs. Interfaces go with them.
fn clear_away(which: impl Fn(u32) -> bool) -> io::Result<()> {
    let listed = Command::new("ip").args(["netns", "list"]).output()?;
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let run = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if run.is_some_and(&which) {
            ip(&["netns", "del", name])?;
        }
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let done = Command::new("ip").args(arguments).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}
