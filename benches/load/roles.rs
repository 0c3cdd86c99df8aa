//! The processes of a run: each is this binary in a role, so that the CPU of each is known separately.
//!
//! A role prints one line of JSON when it is ready, then answers each line of JSON on its standard input with one line,
//! and ends when its input ends. So it also ends if its parent process crashes.

use crate::drive::{LimitKey, Load, Report, drive};
use crate::{machine, ses, smtp};
use gatepost::emulator::{Denial, Emulator, EmulatorSettings, Retention};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The rate of SES, in recipients a second; unlimited if not set.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) rate: Option<f64>,
    /// Recipients at once; if not set, the recipients of one second.
    pub(crate) at_once: Option<u32>,
    /// The rate that GetAccount returns, if different.
    pub(crate) reported: Option<f64>,
    /// GetAccount is denied.
    pub(crate) is_secret: bool,
}

impl Bucket {
    pub(crate) fn of(rate: f64) -> Self {
        Self { rate: Some(rate), ..Self::default() }
    }
}

/// The role of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Sends loads: orders are [`Order`]s. The baseline has one thread per core, like the relay; a mail client has one
    /// thread, which costs least.
    Client { threads: usize },
    /// SES: orders are [`SesOrder`]s.
    Emulator { bucket: Bucket },
    /// An SMTP server that discards messages: for the maximum rate of the generator.
    Sink,
    /// Forwards connections to servers in turn, with a PROXY header of version 2 if they expect it.
    Balancer { listen: SocketAddr, servers: Vec<SocketAddr>, proxy: bool },
}

impl Role {
    /// Whether this process is measured, rather than standing for another machine.
    pub(crate) fn is_measured(&self) -> bool {
        matches!(self, Self::Client { threads: 0 })
    }
}

/// The next order for a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Load(Load),
    /// Opens the connections of a load, sends nothing, and holds them.
    Hold(Load),
    Release,
}

/// The next order for an emulator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SesOrder {
    LatencyMilliseconds(u64),
    Counts,
}

/// Runs a role until the input ends.
pub(crate) fn take(role: &str) -> io::Result<()> {
    machine::raise_file_descriptors();
    let role = serde_json::from_str(role)?;
    let mut runtime = match role {
        Role::Sink | Role::Balancer { .. } | Role::Client { threads: 1 } => {
            tokio::runtime::Builder::new_current_thread()
        }
        Role::Client { .. } | Role::Emulator { .. } => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        match role {
            Role::Client { .. } => client().await,
            Role::Emulator { bucket } => emulator(bucket).await,
            Role::Sink => sink().await,
            Role::Balancer { listen, servers, proxy } => balancer(listen, servers, proxy).await,
        }
    })
}

/// Answers lines until the input ends.
struct Lines(mpsc::Receiver<io::Result<String>>);

impl Lines {
    /// Prints that the role is ready. A thread reads the input, because reading a pipe blocks.
    fn begin(ready: &Value) -> io::Result<Self> {
        answer(ready)?;
        let (lines, read) = mpsc::channel(1);
        std::thread::spawn(move || {
            for line in io::stdin().lines() {
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self(read))
    }

    async fn next<T: for<'a> Deserialize<'a>>(&mut self) -> io::Result<Option<T>> {
        let Some(line) = self.0.recv().await else { return Ok(None) };
        Ok(Some(serde_json::from_str(&line?)?))
    }
}

fn answer(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}

async fn client() -> io::Result<()> {
    let mut lines = Lines::begin(&json!({}))?;
    let (mut held, mut sdks) = (Vec::new(), ses::Clients::new());
    while let Some(order) = lines.next().await? {
        let report = match order {
            Order::Load(load) => send(&load, &mut sdks).await?,
            Order::Hold(load) => {
                let mut report = Report::default();
                if let LimitKey::Smtp(settings) = &load.by {
                    for mut client in smtp::clients(&load, settings)? {
                        match crate::drive::Sender::prepare(&mut client).await {
                            Ok(()) => held.push(client),
                            Err(error) => report.breaks(&error),
                        }
                    }
                }
                report.accepted = held.len() as u64;
                report
            }
            Order::Release => {
                held.clear();
                Report::default()
            }
        };
        answer(&report)?;
    }
    Ok(())
}

async fn send(load: &Load, sdks: &mut ses::Clients) -> io::Result<Report> {
    Ok(match &load.by {
        LimitKey::Smtp(settings) => drive(load, smtp::clients(load, settings)?).await,
        LimitKey::Sdk { endpoint } => drive(load, ses::callers(load, endpoint, sdks)).await,
        LimitKey::Replay { endpoint } => drive(load, ses::repeaters(load, endpoint).await?).await,
    })
}

async fn emulator(bucket: Bucket) -> io::Result<()> {
    let denied = bucket.is_secret.then(|| ("ses:GetAccount".to_owned(), Denial::Bare));
    let mut settings = EmulatorSettings::default();
    settings.account.recipients_per_second_max = bucket.rate;
    settings.account.recipients_at_once_max = bucket.at_once;
    settings.account.recipients_per_second_reported = bucket.reported;
    settings.denied_actions = denied.into_iter().collect();
    settings.retention = Retention::CountsOnly;
    let emulator = Emulator::start(settings).await.map_err(io::Error::other)?;
    let mut lines = Lines::begin(&json!({"address": emulator.address()}))?;
    while let Some(order) = lines.next().await? {
        if let SesOrder::LatencyMilliseconds(milliseconds) = order {
            emulator.set_latency(Duration::from_millis(milliseconds));
        }
        let counts = emulator.counts();
        answer(&json!({
            "requests": counts.send_email_requests,
            "accepted": counts.messages_accepted,
            "connections": counts.service_connections_opened,
        }))?;
    }
    Ok(())
}

async fn sink() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut lines = Lines::begin(&json!({"address": listener.local_addr()?}))?;
    let numbers = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(swallow(stream, Arc::clone(&numbers)));
        }
    });
    while let Some(order) = lines.next::<Value>().await? {
        answer(&order)?;
    }
    Ok(())
}

async fn balancer(listen: SocketAddr, servers: Vec<SocketAddr>, proxy: bool) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let mut lines = Lines::begin(&json!({"address": listener.local_addr()?}))?;
    tokio::spawn(async move {
        let mut turns = servers.iter().copied().cycle();
        while let (Ok((client, _)), Some(server)) = (listener.accept().await, turns.next()) {
            tokio::spawn(pass_on(client, server, proxy));
        }
    });
    while let Some(order) = lines.next::<Value>().await? {
        answer(&order)?;
    }
    Ok(())
}

async fn pass_on(mut client: TcpStream, server: SocketAddr, proxy: bool) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    if let (true, SocketAddr::V4(from), SocketAddr::V4(to)) = (proxy, client.peer_addr()?, client.local_addr()?) {
        // proxy-protocol.txt, section 2.2: signature, version 2 and PROXY, TCP over IPv4, twelve bytes of addresses.
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
        header.extend_from_slice(&from.ip().octets());
        header.extend_from_slice(&to.ip().octets());
        header.extend_from_slice(&from.port().to_be_bytes());
        header.extend_from_slice(&to.port().to_be_bytes());
        server.write_all(&header).await?;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Accepts everything, and searches only for the end of a message.
async fn swallow(mut stream: TcpStream, numbers: Arc<AtomicU64>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink\r\n").await?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut in_content = false;
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut replies = Vec::new();
        loop {
            if in_content {
                // The client of this benchmark writes nothing after the end of the content.
                if !buffer.ends_with(b"\r\n.\r\n") {
                    let keep = buffer.len().saturating_sub(5);
                    buffer.drain(..keep);
                    break;
                }
                buffer.clear();
                in_content = false;
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                replies.extend_from_slice(format!("250 2.0.0 Ok {number}\r\n").as_bytes());
            }
            let Some(end) = buffer.iter().position(|octet| *octet == b'\n') else { break };
            let line: Vec<u8> = buffer.drain(..=end).collect();
            match line.first() {
                Some(b'D') => {
                    replies.extend_from_slice(b"354 go on\r\n");
                    in_content = true;
                }
                Some(b'Q') => {
                    replies.extend_from_slice(b"221 bye\r\n");
                    stream.write_all(&replies).await?;
                    return Ok(());
                }
                _ => replies.extend_from_slice(b"250 yes\r\n"),
            }
        }
        stream.write_all(&replies).await?;
    }
}
