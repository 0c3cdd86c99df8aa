//! Another configuration for a running relay: what goes on, what changes at the next MAIL, and what stays after an error.

use crate::support::{Log, NOTE, Smtp, listener, until, with};
use gatepost::admin::{AdminEndpoint, AdminSettings};
use gatepost::auth::{PasswordHash, Users, UsersSettings};
use gatepost::builder::{Builder, Running, StartError};
use gatepost::emulator::{Credential, Emulator, EmulatorSettings, Identity};
use gatepost::limit::{LimitKey, LimitRule, LocalLimiter, Measure};
use gatepost::mail::parameters::ConfigurationSetName;
use gatepost::mail::{RuleName, SystemClock};
use gatepost::policy::{AddressPattern, AppPolicy, DefaultApp};
use gatepost::server::{Endpoint, ListenerAddress, ListenerSettings};
use gatepost::smtp::AuthMode;
use gatepost::transport::ses::{SesSettings, SesTransport, StaticCredentials};
use jiff::tz::TimeZone;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

struct Setup {
    emulator: Emulator,
    transport: Arc<SesTransport>,
    log: Log,
}

impl Setup {
    async fn new() -> Self {
        let emulator = Emulator::start(with(EmulatorSettings::default(), |it| {
            it.identities = ["example.com", "example.org"].map(|name| Identity::verified(name.to_owned())).to_vec();
        }));
        let emulator = emulator.await.unwrap();
        let pair = Credential::default();
        let settings = with(SesSettings::default(), |it| {
            it.region = Some("us-east-1".to_owned());
            it.endpoint_url = Some(emulator.endpoint_url());
            it.credentials = Some(StaticCredentials {
                access_key_id: pair.access_key_id.clone(),
                secret_access_key: pair.secret_access_key.clone(),
            });
        });
        let transport = Arc::new(SesTransport::connect(settings).await.unwrap());
        Self { emulator, transport, log: Log::default() }
    }

    /// Clients of this machine may send from that pattern.
    fn builder(&self, from: &str, listeners: Vec<ListenerSettings>) -> Builder {
        let others = DefaultApp::local(vec![AddressPattern::parse(from).unwrap()]);
        let policy = AppPolicy::new(Vec::new(), Some(others), Vec::new(), None, Arc::new(SystemClock)).unwrap();
        let builder = Builder::new("relay.example", policy, Arc::clone(&self.transport)).observer(self.log.clone());
        listeners.into_iter().fold(builder, Builder::listener)
    }
}

fn at(name: &str, address: SocketAddr) -> ListenerSettings {
    with(listener(name, |_| {}), |it| it.endpoint = Endpoint::Tcp(address))
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn client(running: &Running, name: &str) -> Smtp<tokio::net::TcpStream> {
    let Some(ListenerAddress::Tcp(address)) = running.address(name) else { panic!("no listener {name}") };
    let mut client = Smtp::connect(address).await;
    client.expect("220").await;
    client.say("EHLO client.example").await;
    client.expect("250").await;
    client
}

/// A transaction ends with the configuration that it began with; the next one of the same session has the new one.
#[tokio::test]
async fn a_transaction_is_decided_by_one_configuration() {
    let setup = Setup::new().await;
    let running = setup.builder("*@example.com", vec![listener("plain", |_| {})]).start().unwrap();
    let mut session = client(&running, "plain").await;
    session.say("MAIL FROM:<ann@example.com>").await;
    session.expect("250").await;
    running.reconfigure(setup.builder("*@example.org", vec![listener("plain", |_| {})])).await.unwrap();
    session.say("RCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    session.expect("250").await;
    session.expect("354").await;
    session.content(NOTE).await;
    session.expect("250 2.0.0 Ok ").await;
    let reply = session.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    let changed = NOTE.replace("ann@example.com", "ann@example.org");
    let reply = session.send("ann@example.org", &["bob@elsewhere.example"], &changed).await;
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    assert_eq!(setup.emulator.messages().len(), 2);
}

#[tokio::test]
async fn listeners_are_added_removed_and_kept_and_no_connection_is_cut() {
    let setup = Setup::new().await;
    let (one, two, three) = (free_port(), free_port(), free_port());
    let running = setup.builder("*@example.com", vec![at("one", one), at("two", two)]).start().unwrap();
    let mut of_one = client(&running, "one").await;
    let mut of_two = client(&running, "two").await;
    // The first has another name now, the second is gone, the third is new.
    running.reconfigure(setup.builder("*@example.com", vec![at("three", three), at("uno", one)])).await.unwrap();
    let names: Vec<String> = running.addresses().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["uno", "three"]);
    assert!(tokio::net::TcpStream::connect(two).await.is_err(), "the listener is gone");
    for session in [&mut of_one, &mut of_two, &mut client(&running, "three").await, &mut client(&running, "uno").await]
    {
        let reply = session.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
        assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    }
    // An address that was removed can be added again at once.
    running.reconfigure(setup.builder("*@example.com", vec![at("two", two)])).await.unwrap();
    client(&running, "two").await;
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_port_that_is_taken_leaves_all_as_it_was() {
    let setup = Setup::new().await;
    let one = free_port();
    let running = setup.builder("*@example.com", vec![at("one", one)]).start().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = vec![at("new", free_port()), at("taken", taken.local_addr().unwrap())];
    let refused = running.reconfigure(setup.builder("*@example.org", listeners)).await;
    assert!(matches!(refused, Err(StartError::Bind(_))), "{refused:?}");
    assert_eq!(running.addresses().len(), 1);
    let reply = client(&running, "one").await.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    // Two for one address: a socket is for one of them.
    let twice = running.reconfigure(setup.builder("*@example.org", vec![at("one", one), at("two", one)])).await;
    assert!(matches!(twice, Err(StartError::Bind(_))), "{twice:?}");
    running.begin_drain();
    let stopping = running.reconfigure(setup.builder("*@example.org", vec![at("one", one)])).await;
    assert!(matches!(stopping, Err(StartError::Stopping)), "{stopping:?}");
}

/// An endpoint that other machines can reach was left without a token by a builder that has none.
#[tokio::test]
async fn the_last_token_of_an_endpoint_that_others_can_reach_stays() {
    let setup = Setup::new().await;
    let builder = |token: Option<&str>| {
        let endpoint = AdminEndpoint::Tcp(([0, 0, 0, 0], 0).into());
        let admin = with(AdminSettings::new(endpoint), |it| it.token = token.map(str::to_owned));
        setup.builder("*@example.com", vec![listener("plain", |_| {})]).admin(admin)
    };
    let running = builder(Some("0123456789abcdef0123456789abcdef")).start().unwrap();
    let refused = running.reconfigure(builder(None)).await;
    assert!(matches!(refused, Err(StartError::Admin(_))), "{refused:?}");
    running.reconfigure(builder(Some("fedcba9876543210fedcba9876543210"))).await.unwrap();
}

/// What is no longer configured is no fault any more; a fault of something else stays.
#[tokio::test]
async fn a_fault_that_a_reload_corrects_ends() {
    let setup = Setup::new().await;
    let with_set = |name: Option<&str>| {
        let mut others = DefaultApp::local(vec![AddressPattern::parse("*@example.com").unwrap()]);
        others.app.send.configuration_set = name.map(|name| ConfigurationSetName::parse(name).unwrap());
        let policy = AppPolicy::new(Vec::new(), Some(others), Vec::new(), None, Arc::new(SystemClock)).unwrap();
        let builder = Builder::new("relay.example", policy, Arc::clone(&setup.transport));
        builder.observer(setup.log.clone()).listener(listener("plain", |_| {}))
    };
    let running = with_set(Some("missing")).start().unwrap();
    until("the set is missed", || running.relay().faults().iter().any(|fault| fault.text.contains("missing"))).await;
    running.reconfigure(with_set(Some("missing"))).await.unwrap();
    assert_eq!(running.relay().faults().len(), 1, "it is still missing");
    running.reconfigure(with_set(None)).await.unwrap();
    assert_eq!(running.relay().faults(), []);
    setup.log.expect("Recovered");
}

/// A user who was removed could send until the end of the session.
#[tokio::test]
async fn a_user_who_is_removed_cannot_send_in_an_open_session() {
    let setup = Setup::new().await;
    let users = |name: &str| {
        let hash = PasswordHash::parse(&PasswordHash::make("secret").unwrap()).unwrap();
        Users::new([(name.to_owned(), hash)], UsersSettings::default(), Arc::new(SystemClock)).unwrap()
    };
    let listeners = || {
        vec![listener("plain", |smtp| {
            smtp.auth = AuthMode::Required;
            smtp.auth_in_clear = true;
        })]
    };
    let running = setup.builder("*@example.com", listeners()).authenticator(users("ann")).start().unwrap();
    let mut session = client(&running, "plain").await;
    // \0ann\0secret
    session.say("AUTH PLAIN AGFubgBzZWNyZXQ=").await;
    session.expect("235").await;
    let reply = session.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    running.reconfigure(setup.builder("*@example.com", listeners()).authenticator(users("bob"))).await.unwrap();
    session.say("MAIL FROM:<ann@example.com>").await;
    session.expect("530 5.7.0").await;
    setup.log.expect("the user is no longer in the configuration");
}

/// Counts go on: a rate and a quota that were used up are still used up, and a higher one has what is left of it.
#[tokio::test]
async fn limits_keep_what_was_used() {
    let setup = Setup::new().await;
    let rule = |rate: &str| {
        let windows = vec![rate.parse().unwrap()];
        LimitRule::new(RuleName::parse("all").unwrap(), LimitKey::Relay, Measure::Messages, windows)
    };
    for (few, more) in [("2/h", "3/h"), ("2/day", "3/day")] {
        let before = Arc::new(LocalLimiter::in_zone(vec![rule(few)], Arc::new(SystemClock), TimeZone::UTC));
        let builder = || setup.builder("*@example.com", vec![listener("plain", |_| {})]);
        let running = builder().limiter(Arc::clone(&before)).start().unwrap();
        let mut session = client(&running, "plain").await;
        let mut replies = Vec::new();
        for next in [None, None, None, Some(few), None, Some(more), None] {
            if let Some(rate) = next {
                let limiter = before.with_rules(vec![rule(rate)], TimeZone::UTC);
                running.reconfigure(builder().limiter(limiter)).await.unwrap();
            }
            let reply = session.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
            replies.push(reply[..3].to_owned());
        }
        assert_eq!(replies, ["250", "250", "451", "451", "451", "250", "451"], "{few}");
    }
}
