//! Shared by the tests: a relay that sends to an emulator, and an SMTP client that works line by line.

use gatepost::builder::{Builder, Running};
use gatepost::emulator::{CapturedMessage, Emulator, EmulatorSettings};
use gatepost::mail::{Clock, SystemClock};
use gatepost::observe::{Event, Observer};
use gatepost::policy::{AddressPattern, App, AppPolicy, DefaultApp};
use gatepost::relay::DeadlineSettings;
use gatepost::server::{Endpoint, ListenerAddress, ListenerSettings, TlsSettings};
use gatepost::smtp::{Settings, TlsMode};
use gatepost::transport::ses::{SesSettings, SesTimeouts, SesTransport, StaticCredentials};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls;

/// Longer than anything here takes, so that a hang fails and does not hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct TestRelay {
    pub emulator: Emulator,
    pub running: Running,
    pub log: Log,
}

impl TestRelay {
    /// Clients on loopback, `From: *@example.com`, one plain listener called `plain`.
    pub async fn start() -> Self {
        Self::with(|plan| plan).await
    }

    pub async fn with(change: impl FnOnce(TestSetup) -> TestSetup) -> Self {
        let plan = change(TestSetup::new());
        let emulator = Emulator::start(plan.emulator).await.unwrap();
        let ses = with(plan.ses, |it| it.endpoint_url = Some(emulator.endpoint_url()));
        let transport = SesTransport::connect(ses).await.unwrap();
        let log = Log::default();
        let others = Some(with(DefaultApp::local(Vec::new()), |it| {
            it.app = plan.app;
            it.clients = plan.clients;
        }));
        let policy = AppPolicy::new(plan.apps, others, Vec::new(), None, Arc::new(SystemClock)).unwrap();
        let mut builder = Builder::new("relay.example", policy, transport).observer(log.clone()).threads(2);
        for listener in plan.listeners {
            builder = builder.listener(listener);
        }
        let running = (plan.builder)(builder).start().unwrap();
        Self { emulator, running, log }
    }

    pub fn port(&self, listener: &str) -> SocketAddr {
        match self.running.address(listener).unwrap() {
            ListenerAddress::Tcp(address) => address,
            ListenerAddress::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// Connected to the listener `plain`, greeted, EHLO said.
    pub async fn client(&self) -> Smtp<TcpStream> {
        let mut client = Smtp::connect(self.port("plain")).await;
        client.expect("220 relay.example ESMTP").await;
        client.say("EHLO client.example").await;
        client.expect("250").await;
        client
    }

    /// Sends one message over a new connection; the reply to its end of data.
    pub async fn send(&self, from: &str, to: &[&str], content: &str) -> String {
        let mut client = self.client().await;
        let reply = client.send(from, to, content).await;
        client.say("QUIT").await;
        client.expect("221").await;
        reply
    }

    /// The only message that the emulator accepted.
    pub fn only_message(&self) -> CapturedMessage {
        let mut messages = self.emulator.messages();
        assert_eq!(messages.len(), 1);
        messages.remove(0)
    }

    pub fn counts(&self) -> (u64, u64) {
        let counts = self.emulator.counts();
        (counts.send_email_requests, counts.messages_accepted)
    }
}

pub struct TestSetup {
    pub emulator: EmulatorSettings,
    pub ses: SesSettings,
    /// What everybody who is not a named application may do, and who that is.
    pub app: App,
    pub clients: Vec<ipnet::IpNet>,
    /// Named applications.
    pub apps: Vec<App>,
    pub listeners: Vec<ListenerSettings>,
    pub builder: Box<dyn FnOnce(Builder) -> Builder>,
}

impl TestSetup {
    fn new() -> Self {
        let emulator = EmulatorSettings::default();
        let others = DefaultApp::local(vec![AddressPattern::parse("*@example.com").unwrap()]);
        let pair = &emulator.credentials[0];
        let ses = with(SesSettings::default(), |it| {
            it.region = Some("us-east-1".to_owned());
            it.credentials = Some(StaticCredentials {
                access_key_id: pair.access_key_id.clone(),
                secret_access_key: pair.secret_access_key.clone(),
            });
            it.timeouts = SesTimeouts::default();
        });
        Self {
            emulator,
            ses,
            app: others.app,
            clients: others.clients,
            apps: Vec::new(),
            listeners: vec![listener("plain", |_| {})],
            builder: Box::new(|builder| builder),
        }
    }

    pub fn build(mut self, change: impl FnOnce(Builder) -> Builder + 'static) -> Self {
        let before = self.builder;
        self.builder = Box::new(|builder| change(before(builder)));
        self
    }

    /// Changes what the listener `plain` offers.
    pub fn smtp(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        self.listeners = vec![listener("plain", change)];
        self
    }
}

pub fn any_port() -> Endpoint {
    Endpoint::Tcp("127.0.0.1:0".parse().unwrap())
}

pub fn listener(name: &str, change: impl FnOnce(&mut Settings)) -> ListenerSettings {
    ListenerSettings::new(name, any_port(), with(Settings::new("relay.example"), change))
}

/// Settings, changed. Those of the library are not built from a list of their fields, which grows.
pub fn with<T>(mut settings: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut settings);
    settings
}

/// A certificate for localhost, and the listener that shows it.
pub fn tls_listener(name: &str, pair: &Pair, mode: TlsMode, change: impl FnOnce(&mut Settings)) -> ListenerSettings {
    let mut listener = listener(name, |smtp| {
        smtp.tls = mode;
        change(smtp);
    });
    listener.tls = Some(pair.settings());
    listener
}

pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pair {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    pub fn settings(&self) -> TlsSettings {
        let off = gatepost::server::ClientCertificates::Off;
        TlsSettings::from_pem(self.certificate.as_bytes(), self.key.as_bytes(), off, b"").unwrap()
    }

    pub fn connector(&self) -> tokio_rustls::TlsConnector {
        self.connector_with(None)
    }

    /// A client that trusts this pair, and shows a certificate of its own.
    pub fn connector_with(
        &self,
        shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> tokio_rustls::TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => config.with_no_client_auth(),
        };
        tokio_rustls::TlsConnector::from(Arc::new(config))
    }
}

/// One SMTP client connection.
pub struct Smtp<S> {
    pub stream: S,
    received: Vec<u8>,
}

impl Smtp<TcpStream> {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Smtp<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    pub async fn write(&mut self, octets: impl AsRef<[u8]>) {
        tokio::time::timeout(PATIENCE, self.stream.write_all(octets.as_ref())).await.unwrap().unwrap();
        self.stream.flush().await.unwrap();
    }

    /// For octets that the relay may not want any more.
    pub async fn try_write(&mut self, octets: &[u8]) {
        let _ = tokio::time::timeout(PATIENCE, self.stream.write_all(octets)).await.unwrap();
        let _ = self.stream.flush().await;
    }

    pub async fn say(&mut self, line: &str) {
        self.write(format!("{line}\r\n")).await;
    }

    /// The next reply, all its lines; empty if the relay closed.
    pub async fn reply(&mut self) -> String {
        let mut text = String::new();
        while let Some(line) = self.line().await {
            let last = line.as_bytes().get(3) != Some(&b'-');
            text.push_str(&line);
            if last {
                break;
            }
            text.push('\n');
        }
        text
    }

    /// The next line without its line end; `None` if the relay closed.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.received.drain(..end + 2).collect::<Vec<u8>>();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            let mut buffer = [0; 4096];
            match tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("a reply in time") {
                Ok(0) | Err(_) => return None,
                Ok(octets) => self.received.extend_from_slice(&buffer[..octets]),
            }
        }
    }

    #[track_caller]
    pub fn expect<'a>(&'a mut self, start: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.reply().await;
            assert!(reply.starts_with(start), "{caller}: expected {start:?}, got {reply:?}");
            reply
        }
    }

    /// MAIL, RCPT, DATA and the content; the reply to the end of data, or the first refusal.
    pub async fn send(&mut self, from: &str, to: &[&str], content: &str) -> String {
        self.say(&format!("MAIL FROM:<{from}>")).await;
        let reply = self.reply().await;
        if !reply.starts_with("250") {
            return reply;
        }
        for recipient in to {
            self.say(&format!("RCPT TO:<{recipient}>")).await;
            let reply = self.reply().await;
            if !reply.starts_with("250") {
                return reply;
            }
        }
        self.say("DATA").await;
        let reply = self.reply().await;
        if !reply.starts_with("354") {
            return reply;
        }
        self.content(content).await;
        self.reply().await
    }

    /// Content with dots stuffed, and the end mark.
    pub async fn content(&mut self, content: &str) {
        let mut wire = String::with_capacity(content.len() + 16);
        for line in content.split_inclusive("\r\n") {
            if line.starts_with('.') {
                wire.push('.');
            }
            wire.push_str(line);
        }
        wire.push_str(".\r\n");
        self.write(wire).await;
    }
}

pub const NOTE: &str = "From: Ann <ann@example.com>\r\nTo: bob@elsewhere.example\r\nSubject: hello\r\n\r\nHello.\r\n";

/// Events, as text, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for what another task will tell.
    pub async fn until(&self, part: &str) {
        until(part, || self.lines().iter().any(|line| line.contains(part))).await;
    }

    #[track_caller]
    pub fn expect(&self, part: &str) {
        let lines = self.lines();
        assert!(lines.iter().any(|line| line.contains(part)), "no {part:?} in {lines:#?}");
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// Waits until something holds, for what another task does by itself.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = gatepost::mail::SystemClock.now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: never");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A deadline that a test can wait for, whatever the size.
pub fn short_deadline(milliseconds: u64) -> DeadlineSettings {
    with(DeadlineSettings::default(), |it| {
        it.base = Duration::from_millis(milliseconds);
        it.upload_octets_per_second = u64::MAX;
        it.attempt_min = Duration::from_millis(milliseconds / 4);
    })
}
