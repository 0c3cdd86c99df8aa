//! Listeners: TLS, AUTH, PROXY, Unix sockets, with a well-known client library.

use crate::support::{NOTE, Pair, Smtp, TestRelay, TestSetup, listener, tls_listener, with};
use base64::Engine;
use gatepost::auth::{PasswordHash, Users, UsersSettings};
use gatepost::builder::Builder;
use gatepost::mail::SystemClock;
use gatepost::mail::parameters::AppName;
use gatepost::policy::{AddressPattern, App, AppPolicy, CertificateMatch, MatchCriteria};
use gatepost::server::{ClientCertificates, Endpoint, ListenerSettings, TlsSettings};
use gatepost::smtp::{AuthMode, Settings, TlsMode};
use gatepost::transport::NullTransport;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};

const TO: &[&str] = &["bob@elsewhere.example"];

fn users() -> Users {
    let hash = |password: &str| PasswordHash::parse(&bcrypt::hash(password, 4).unwrap()).unwrap();
    let list = [("app".to_owned(), hash("secret"))];
    Users::new(list, UsersSettings::default(), Arc::new(SystemClock)).unwrap()
}

fn plain(name: &str, password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("\0{name}\0{password}"))
}

async fn secured(relay: &TestRelay, pair: &Pair, name: &str) -> Smtp<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(relay.port(name)).await.unwrap();
    let server = ServerName::try_from("localhost").unwrap();
    Smtp::over(pair.connector().connect(server, stream).await.unwrap())
}

#[tokio::test]
async fn implicit_tls_and_starttls_carry_mail_and_the_trace_says_so() {
    let pair = Pair::new();
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.listeners = vec![
            tls_listener("implicit", &pair, TlsMode::Implicit, |_| {}),
            tls_listener("starttls", &pair, TlsMode::StartTls, |smtp| smtp.require_tls = true),
        ];
        plan
    })
    .await;
    let mut client = secured(&relay, &pair, "implicit").await;
    client.expect("220").await;
    client.say("EHLO x").await;
    assert!(!client.expect("250").await.contains("STARTTLS"));
    assert!(client.send("ann@example.com", TO, NOTE).await.starts_with("250"));

    let mut client = Smtp::connect(relay.port("starttls")).await;
    client.expect("220").await;
    client.say("EHLO x").await;
    assert!(client.expect("250").await.contains("STARTTLS"));
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("530 5.7.0").await;
    // Command injection: what comes behind STARTTLS in plain text is thrown away.
    client.write("STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n").await;
    client.expect("220 2.0.0").await;
    // The relay reads the plain octets that it had already; a client that injects does not get a handshake out of the
    // rest, so a clean one is made on a new connection.
    let mut client = Smtp::connect(relay.port("starttls")).await;
    client.expect("220").await;
    client.say("STARTTLS").await;
    client.expect("220 2.0.0").await;
    let server = ServerName::try_from("localhost").unwrap();
    let stream = pair.connector().connect(server, client.stream).await.unwrap();
    let mut client = Smtp::over(stream);
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("503 5.5.1").await;
    client.say("EHLO x").await;
    assert!(!client.expect("250").await.contains("STARTTLS"));
    assert!(client.send("ann@example.com", TO, NOTE).await.starts_with("250"));
    let messages = relay.emulator.messages();
    assert_eq!(messages.len(), 2);
    for message in messages {
        assert!(String::from_utf8_lossy(&message.raw).contains(" with ESMTPS id "));
    }
}

#[tokio::test]
async fn only_the_right_password_authenticates() {
    let pair = Pair::new();
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.clients.clear();
        plan.listeners = vec![
            tls_listener("tls", &pair, TlsMode::Implicit, |smtp| smtp.auth = AuthMode::Required),
            listener("clear", |smtp| {
                smtp.auth = AuthMode::Optional;
                smtp.auth_in_clear = true;
            }),
            listener("protected", |smtp| smtp.auth = AuthMode::Optional),
            listener("any", |smtp| {
                smtp.auth = AuthMode::Any;
                smtp.auth_in_clear = true;
            }),
        ];
        plan.build(|builder| builder.authenticator(users()))
    })
    .await;
    let mut client = secured(&relay, &pair, "tls").await;
    client.expect("220").await;
    client.say("EHLO x").await;
    assert!(client.expect("250").await.contains("AUTH PLAIN LOGIN"));
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("530 5.7.0").await;
    for (name, password) in [("app", "wrong"), ("nobody", "secret")] {
        client.say(&format!("AUTH PLAIN {}", plain(name, password))).await;
        assert_eq!(client.reply().await, "535 5.7.8 Authentication credentials invalid");
    }
    client.say(&format!("AUTH PLAIN {}", plain("app", "secret"))).await;
    client.expect("235 2.7.0").await;
    assert!(client.send("ann@example.com", TO, NOTE).await.starts_with("250"));
    assert!(String::from_utf8_lossy(&relay.only_message().raw).contains(" with ESMTPSA id "));
    relay.log.expect("AuthenticationFailed");
    assert!(!relay.log.lines().concat().contains("secret"), "passwords do not print");

    let mut client = Smtp::connect(relay.port("clear")).await;
    client.expect("220").await;
    client.say("EHLO x").await;
    client.expect("250").await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("530 5.7.0").await;
    client.say("AUTH LOGIN YXBw").await;
    client.expect("334 UGFzc3dvcmQ6").await;
    client.say("c2VjcmV0").await;
    client.expect("235").await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;

    let mut client = Smtp::connect(relay.port("protected")).await;
    client.expect("220").await;
    client.say("EHLO x").await;
    assert!(!client.expect("250").await.contains("AUTH"), "not offered in clear");
    client.say(&format!("AUTH PLAIN {}", plain("app", "secret"))).await;
    client.expect("538 5.7.11").await;

    // `any` takes whatever comes and lets nobody in by it.
    let mut client = Smtp::connect(relay.port("any")).await;
    client.expect("220").await;
    client.say("EHLO x").await;
    client.expect("250").await;
    client.say(&format!("AUTH PLAIN {}", plain("whoever", "whatever"))).await;
    client.expect("235").await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("5").await;
}

#[tokio::test]
async fn the_proxy_protocol_is_believed_from_named_proxies_only() {
    let with_proxies = |name: &str, networks: &str| {
        let mut listener = listener(name, |_| {});
        listener.proxies = vec![networks.parse().unwrap()];
        listener
    };
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.clients = vec!["192.0.2.0/24".parse().unwrap()];
        plan.listeners = vec![with_proxies("behind", "127.0.0.0/8"), with_proxies("elsewhere", "10.0.0.0/8")];
        plan
    })
    .await;
    let v2 =
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &[192, 0, 2, 7, 127, 0, 0, 1, 0x9c, 0x40, 0, 25]].concat();
    for (name, header, want) in [
        ("v1", b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 25\r\n".to_vec(), "250"),
        ("v2", v2, "250"),
        ("another network", b"PROXY TCP4 198.51.100.7 127.0.0.1 40000 25\r\n".to_vec(), "550 5.7.1"),
        ("unknown", b"PROXY UNKNOWN\r\n".to_vec(), "550 5.7.1"),
    ] {
        let mut client = Smtp::connect(relay.port("behind")).await;
        // The header and the first command in one write.
        client.write([&header[..], b"EHLO x\r\n"].concat()).await;
        client.expect("220").await;
        client.expect("250").await;
        client.say("MAIL FROM:<ann@example.com>").await;
        let reply = client.reply().await;
        assert!(reply.starts_with(want), "{name}: {reply}");
    }
    relay.log.expect("192.0.2.7:40000");
    let mut client = Smtp::connect(relay.port("behind")).await;
    client.say("EHLO x").await;
    assert_eq!(client.reply().await, "", "a trusted proxy must say who is behind it");
    // From anybody else it is just a bad command.
    let mut client = Smtp::connect(relay.port("elsewhere")).await;
    client.expect("220").await;
    client.say("PROXY TCP4 192.0.2.7 127.0.0.1 40000 25").await;
    client.expect("500").await;
    client.say("EHLO x").await;
    client.expect("250").await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("550 5.7.1").await;
}

#[tokio::test]
async fn a_unix_socket_listens_and_a_stale_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smtp.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left over");
    let endpoint = Endpoint::Unix { path: path.clone(), mode: 0o600 };
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.clients.clear();
        plan.listeners = vec![ListenerSettings::new("unix", endpoint, Settings::new("relay.example"))];
        plan
    })
    .await;
    let mut client = Smtp::over(UnixStream::connect(&path).await.unwrap());
    client.expect("220").await;
    client.say("EHLO x").await;
    client.expect("250").await;
    assert!(client.send("ann@example.com", TO, NOTE).await.starts_with("250"));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(client);
    assert!(relay.running.stop().await);
    assert!(!path.exists());
}

#[tokio::test]
async fn bdat_carries_a_message_in_chunks() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    let (first, second) = NOTE.split_at(30);
    client
        .write(format!(
            "MAIL FROM:<ann@example.com> BODY=8BITMIME\r\nRCPT TO:<bob@elsewhere.example>\r\nBDAT 30\r\n{first}\
             BDAT {} LAST\r\n{second}",
            second.len()
        ))
        .await;
    client.expect("250").await;
    client.expect("250").await;
    client.expect("250 2.0.0 Chunk").await;
    client.expect("250 2.0.0 Ok ").await;
    assert!(relay.only_message().raw.ends_with(NOTE.as_bytes()));
}

#[tokio::test]
async fn normalize_is_for_the_listener_that_says_so() {
    let relay =
        TestRelay::with(|plan: TestSetup| plan.smtp(|smtp| smtp.line_endings = gatepost::smtp::LineEndings::Normalize))
            .await;
    let mut client = Smtp::connect(relay.port("plain")).await;
    client.expect("220").await;
    client.write("HELO scanner\nMAIL FROM:<ann@example.com>\nRCPT TO:<bob@elsewhere.example>\nDATA\n").await;
    for want in ["250", "250", "250", "354"] {
        client.expect(want).await;
    }
    client.write("From: ann@example.com\nSubject: scan\n\nline\n.\nline\r\n.\r\n").await;
    client.expect("250 2.0.0 Ok ").await;
    let raw = relay.only_message().raw;
    assert!(raw.ends_with(b"From: ann@example.com\r\nSubject: scan\r\n\r\nline\r\n.\r\nline\r\n"), "{raw:?}");
    assert!(String::from_utf8_lossy(&raw).contains(" with SMTP id "));
}

#[tokio::test]
async fn lettre_sends_over_every_kind_of_listener() {
    let pair = Pair::new();
    let relay = TestRelay::with(|mut plan: TestSetup| {
        let auth = |smtp: &mut Settings| smtp.auth = AuthMode::Required;
        plan.listeners = vec![
            listener("plain", |_| {}),
            tls_listener("starttls", &pair, TlsMode::StartTls, auth),
            tls_listener("implicit", &pair, TlsMode::Implicit, auth),
        ];
        plan.build(|builder| builder.authenticator(users()))
    })
    .await;
    let parameters = || {
        let certificate = Certificate::from_pem(pair.certificate.as_bytes()).unwrap();
        TlsParameters::builder("localhost".to_owned()).add_root_certificate(certificate).build_rustls().unwrap()
    };
    let message = lettre::Message::builder()
        .from("Ann Example <ann@example.com>".parse().unwrap())
        .to("Bob <bob@elsewhere.example>".parse().unwrap())
        .bcc("secret@elsewhere.example".parse().unwrap())
        .subject("Grüße")
        .body("Ein Text mit Umlauten: äöü\n.und ein Punkt am Anfang\n".to_owned())
        .unwrap();
    for (name, tls, mechanism) in [
        ("plain", Tls::None, None),
        ("starttls", Tls::Required(parameters()), Some(Mechanism::Plain)),
        ("implicit", Tls::Wrapper(parameters()), Some(Mechanism::Login)),
    ] {
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("localhost").port(relay.port(name).port()).tls(tls);
        if let Some(mechanism) = mechanism {
            let pair = Credentials::new("app".to_owned(), "secret".to_owned());
            transport = transport.credentials(pair).authentication(vec![mechanism]);
        }
        let response = transport.build().send(message.clone()).await.unwrap();
        let message = relay.emulator.messages().pop().unwrap();
        assert!(response.message().any(|line| line.contains(&message.message_id)), "{name}");
        assert_eq!(message.to, ["bob@elsewhere.example", "secret@elsewhere.example"], "{name}");
        assert!(!String::from_utf8_lossy(&message.raw).contains("secret"), "{name}");
    }
}

#[tokio::test]
async fn a_client_certificate_of_the_named_authority_authenticates() {
    let pair = Pair::new();
    let (authority, known) = client_certificate("known.example");
    let (_, stranger) = client_certificate("known.example");
    let off = rustls_pki_types::pem::PemObject::from_pem_slice;
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.clients.clear();
        let mut listener = tls_listener("tls", &pair, TlsMode::Implicit, |_| {});
        listener.tls = Some(
            TlsSettings::from_pem(
                pair.certificate.as_bytes(),
                pair.key.as_bytes(),
                ClientCertificates::Optional,
                authority.as_bytes(),
            )
            .unwrap(),
        );
        plan.listeners = vec![listener];
        // Who shows it is this application, with rights of its own.
        let certificates = vec![CertificateMatch::Name("known.example".to_owned())];
        let recognition = with(MatchCriteria::default(), |it| it.certificates = certificates);
        let from = vec![AddressPattern::parse("cert@example.com").unwrap()];
        plan.apps = vec![App::new(AppName::parse("billing").unwrap(), recognition, from)];
        plan
    })
    .await;
    for (name, shown, want) in [
        ("known", Some(&known), "550 5.7.1 Envelope sender not permitted"),
        ("none", None, "550 5.7.1 Sending is not permitted for this client"),
        ("stranger", Some(&stranger), ""),
    ] {
        let stream = TcpStream::connect(relay.port("tls")).await.unwrap();
        let server = ServerName::try_from("localhost").unwrap();
        let identity = shown.map(|(certificate, key)| {
            let key: rustls_pki_types::PrivateKeyDer<'static> = off(key.as_bytes()).unwrap();
            (rustls_pki_types::pem::PemObject::from_pem_slice(certificate.as_bytes()).unwrap(), key)
        });
        // With TLS 1.3 the client learns only afterwards that its certificate was not good enough.
        let Ok(stream) = pair.connector_with(identity).connect(server, stream).await else {
            assert_eq!(want, "", "{name}");
            continue;
        };
        let mut client = Smtp::over(stream);
        let greeting = client.reply().await;
        if want.is_empty() {
            assert_eq!(greeting, "", "{name}");
            continue;
        }
        client.say("EHLO x").await;
        client.expect("250").await;
        client.say("MAIL FROM:<ann@example.com>").await;
        let reply = client.reply().await;
        assert!(reply.starts_with(want), "{name}: {reply}");
        client.say("MAIL FROM:<cert@example.com>").await;
        let reply = client.reply().await;
        assert_eq!(reply.starts_with("250"), name == "known", "{name}: {reply}");
    }
    relay.log.until("TLS handshake failed").await;
}

/// A new authority, and a client certificate with its key that it signed.
fn client_certificate(name: &str) -> (String, (String, String)) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = parameters.signed_by(&key, &issuer).unwrap();
    (authority.pem(), (certificate.pem(), key.serialize_pem()))
}

/// A wrong path once cost the file that stood there.
#[tokio::test]
async fn what_is_no_stale_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (file, live) = (directory.path().join("precious.txt"), directory.path().join("live.sock"));
    std::fs::write(&file, "precious").unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&live).unwrap();
    for path in [&file, &live] {
        let settings = ListenerSettings::new(
            "unix",
            Endpoint::Unix { path: path.clone(), mode: 0o600 },
            Settings::new("relay.example"),
        );
        let policy = AppPolicy::local(vec![AddressPattern::parse("*@example.com").unwrap()]);
        let builder = Builder::new("relay.example", policy, NullTransport::default()).listener(settings);
        let error = builder.start().unwrap_err();
        assert!(error.to_string().contains("cannot listen on"), "{error}");
        assert!(path.exists());
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

/// The file belongs to whoever made it; systemd goes on listening there.
#[tokio::test]
async fn an_inherited_sockets_file_outlives_us() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inherited.sock");
    let endpoint = Endpoint::InheritedUnix(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.listeners = vec![ListenerSettings::new("unix", endpoint, Settings::new("relay.example"))];
        plan
    })
    .await;
    Smtp::over(UnixStream::connect(&path).await.unwrap()).expect("220").await;
    assert!(relay.running.stop().await);
    assert!(path.exists());
}

#[tokio::test]
async fn a_failed_handshake_after_starttls_is_logged() {
    let pair = Pair::new();
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.listeners = vec![tls_listener("starttls", &pair, TlsMode::StartTls, |_| {})];
        plan
    })
    .await;
    let mut client = Smtp::connect(relay.port("starttls")).await;
    client.expect("220").await;
    client.say("STARTTLS").await;
    client.expect("220 2.0.0").await;
    client.write("this is no handshake").await;
    crate::support::until("the log line", || {
        relay.log.lines().iter().any(|line| line.contains("TLS handshake failed"))
    })
    .await;
}

/// A client that had used AUTH was told 530 again.
#[tokio::test]
async fn where_every_password_is_accepted_a_client_that_may_not_send_is_refused_after_auth() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.clients = vec!["192.0.2.0/24".parse().unwrap()];
        plan.smtp(|smtp| {
            smtp.auth = AuthMode::Any;
            smtp.auth_in_clear = true;
        })
    })
    .await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("530 5.7.0").await;
    client.say(&format!("AUTH PLAIN {}", plain("", ""))).await;
    client.expect("235").await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("550 5.7.1").await;
}
