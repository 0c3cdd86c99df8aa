//! The admin endpoint: health, metrics, access.

use crate::support::{NOTE, TestRelay, TestSetup, listener, until, with};
use gatepost::admin::{AdminEndpoint, AdminSettings};
use gatepost::builder::Builder;
use gatepost::emulator::Fault;
use gatepost::limit::{LimitKey, LimitRule, LocalLimiter, Measure};
use gatepost::mail::{RuleName, SystemClock};
use gatepost::policy::{AddressPattern, AppPolicy};
use gatepost::relay::BudgetSettings;
use gatepost::transport::NullTransport;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const TO: &[&str] = &["bob@elsewhere.example"];

pub(crate) fn admin_endpoint(token: Option<&str>) -> AdminSettings {
    let endpoint = AdminEndpoint::Tcp(([127, 0, 0, 1], 0).into());
    with(AdminSettings::new(endpoint), |it| it.token = token.map(str::to_owned))
}

pub(crate) fn address(relay: &TestRelay) -> SocketAddr {
    match relay.running.admin().unwrap() {
        AdminEndpoint::Tcp(address) => *address,
        other => panic!("{other}"),
    }
}

/// Status and body of an answer.
async fn get_over(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, fields: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) async fn get(relay: &TestRelay, path: &str) -> (u16, String) {
    get_over(TcpStream::connect(address(relay)).await.unwrap(), path, "").await
}

/// Samples by name with labels.
pub(crate) async fn metrics(relay: &TestRelay) -> BTreeMap<String, f64> {
    let (code, text) = get(relay, "/metrics").await;
    assert_eq!(code, 200);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn what_happens_is_counted_and_no_address_is_a_label() {
    let limit = LimitRule::new(
        RuleName::parse("few").unwrap(),
        LimitKey::Relay,
        Measure::Messages,
        vec!["4/h".parse().unwrap()],
    );
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.build(|builder| {
            builder.admin(admin_endpoint(None)).limiter(LocalLimiter::new(vec![limit], Arc::new(SystemClock)))
        })
    })
    .await;
    relay.log.until("QuotaRead").await;
    assert_eq!(get(&relay, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&relay, "/readyz").await, (200, r#"{"reason":null,"status":"ready"}"#.to_owned()));
    // Only health and metrics are answered under any Host.
    assert_eq!(get(&relay, "/other").await.0, 403);
    let send = async || relay.send("ann@example.com", TO, NOTE).await;
    assert!(send().await.starts_with("250"));
    assert!(relay.send("ann@example.com", TO, "From: ceo@other.example\r\n\r\n").await.starts_with("550"));
    relay.emulator.script([Fault::unavailable()]);
    assert!(send().await.starts_with("451 4.4.1"));
    let (code, body) = get(&relay, "/readyz").await;
    let reason = "the provider failed: it answered with an error of its own";
    let want =
        format!(r#"{{"reason":"{reason}","status":"degraded","faults":[{{"apps":["default"],"fault":"{reason}"}}]}}"#);
    assert_eq!((code, body), (200, want));
    assert!(send().await.starts_with("250"));
    assert!(get(&relay, "/readyz").await.1.contains("\"ready\""), "and it recovers");
    assert!(send().await.starts_with("250"));
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("451 4.7.1").await;
    let mut seen = metrics(&relay).await;
    // The relay may not have seen yet that the client before has closed.
    for _ in 0..100 {
        if seen["gatepost_smtp_connections_open{listener=\"plain\"}"] <= 1.0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        seen = metrics(&relay).await;
    }
    for (name, want) in [
        ("gatepost_smtp_connections_open{listener=\"plain\"}", 1.0),
        ("gatepost_smtp_connections_total{listener=\"plain\",result=\"accepted\"}", 6.0),
        ("gatepost_smtp_transactions_total{outcome=\"accepted\",code=\"250\",app=\"default\"}", 3.0),
        ("gatepost_smtp_transactions_total{outcome=\"rejected\",code=\"550\",app=\"default\"}", 1.0),
        ("gatepost_smtp_transactions_total{outcome=\"deferred\",code=\"451\",app=\"default\"}", 1.0),
        ("gatepost_limit_hits_total{limit=\"few\",app=\"default\"}", 1.0),
        ("gatepost_smtp_commands_refused_total{verb=\"MAIL\",code=\"451\",app=\"default\"}", 1.0),
        ("gatepost_policy_decisions_total{rule=\"author\",decision=\"reject\",app=\"default\"}", 1.0),
        ("gatepost_recipients_total{app=\"default\"}", 3.0),
        ("gatepost_limit_used{limit=\"few\",window=\"4/h burst 4\",app=\"\"}", 4.0),
        ("gatepost_limit_remaining{limit=\"few\",window=\"4/h burst 4\",app=\"\"}", 0.0),
        ("gatepost_faults", 0.0),
        ("gatepost_ses_requests_total{outcome=\"accepted\",code=\"none\"}", 3.0),
        ("gatepost_ses_ambiguous_attempts_total", 1.0),
        ("gatepost_ses_request_duration_seconds_count", 4.0),
        ("gatepost_message_size_bytes_count", 5.0),
        ("gatepost_send_queue_messages", 0.0),
        ("gatepost_held_bytes{use=\"sending\"}", 0.0),
    ] {
        assert_eq!(seen.get(name).copied(), Some(want), "{name} in {seen:#?}");
    }
    assert!(seen["gatepost_ses_quota_recipients_per_second"] > 1.0);
    assert!(seen.keys().all(|name| !name.contains('@') && !name.contains("127.0.0.1")), "{seen:#?}");
    #[cfg(target_os = "linux")]
    assert!(seen["process_resident_memory_bytes"] > 1e6 && seen["process_open_fds"] > 5.0, "{seen:#?}");
    let (_, open) = get_over(
        TcpStream::connect(address(&relay)).await.unwrap(),
        "/metrics",
        "Accept: application/openmetrics-text; version=1.0.0\r\n",
    )
    .await;
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE gatepost_smtp_transactions counter\n"), "{open}");
}

#[tokio::test]
async fn with_a_token_requests_without_it_are_refused() {
    let token = "0123456789abcdef0123456789abcdef";
    let relay =
        TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.admin(admin_endpoint(Some(token))))).await;
    for (fields, want) in [
        (String::new(), 401),
        ("Authorization: Bearer wrong\r\n".to_owned(), 401),
        (format!("Authorization: Basic {token}\r\n"), 401),
        (format!("Authorization: Bearer {token}\r\n"), 200),
    ] {
        for path in ["/metrics", "/api/v1/status", "/api/v1/none"] {
            let want = if (path, want) == ("/api/v1/none", 200) { 404 } else { want };
            let stream = TcpStream::connect(address(&relay)).await.unwrap();
            assert_eq!(get_over(stream, path, &fields).await.0, want, "{path} {fields}");
        }
        // A load balancer has no token; it learns the status only.
        for (path, body) in [("/livez", "ok\n"), ("/readyz", r#""status":"ready""#)] {
            let stream = TcpStream::connect(address(&relay)).await.unwrap();
            let (code, text) = get_over(stream, path, &fields).await;
            assert!(code == 200 && text.contains(body), "{path} {fields}: {text}");
            assert_eq!(text.contains("reason"), path == "/readyz" && want == 200, "{text}");
        }
    }
}

#[tokio::test]
async fn transactions_of_which_no_message_comes_and_sessions_that_close_are_counted() {
    let relay = TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.admin(admin_endpoint(None)))).await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    client.say("RSET").await;
    client.expect("250").await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    relay.running.begin_drain();
    client.expect("421 4.3.2").await;
    relay.log.until("TransactionEnded").await;
    let seen = metrics(&relay).await;
    for (name, want) in [
        ("gatepost_smtp_transactions_total{outcome=\"abandoned\",code=\"\",app=\"default\"}", 1.0),
        ("gatepost_smtp_transactions_total{outcome=\"abandoned\",code=\"421\",app=\"default\"}", 1.0),
        ("gatepost_smtp_transactions_abandoned_total{after=\"MAIL\",reason=\"reset\"}", 1.0),
        ("gatepost_smtp_transactions_abandoned_total{after=\"MAIL\",reason=\"shutdown\"}", 1.0),
        ("gatepost_smtp_sessions_closed_total{reason=\"shutdown\"}", 1.0),
    ] {
        assert_eq!(seen.get(name).copied(), Some(want), "{name} in {seen:#?}");
    }
}

/// Connections that showed no token kept all places, and `/livez` timed out.
#[tokio::test]
async fn a_health_check_does_not_wait_for_clients_that_show_no_token() {
    for token in [None, Some("0123456789abcdef0123456789abcdef")] {
        let relay =
            TestRelay::with(move |plan: TestSetup| plan.build(move |builder| builder.admin(admin_endpoint(token))))
                .await;
        let fields = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let mut strangers = Vec::new();
        for number in 0..80 {
            let mut stream = TcpStream::connect(address(&relay)).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
            }
            strangers.push(stream);
        }
        let stream = TcpStream::connect(address(&relay)).await.unwrap();
        let answer = tokio::time::timeout(std::time::Duration::from_secs(2), get_over(stream, "/livez", &fields)).await;
        assert_eq!(answer.expect("at once").0, 200);
        let mut open = 0;
        for mut stream in strangers {
            let mut octets = Vec::new();
            let read = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut octets)).await;
            open += usize::from(read.is_err());
        }
        assert_eq!(open, 0, "a request must come in time");
    }
}

#[tokio::test]
async fn a_connection_is_kept_only_for_a_client_that_has_shown_the_token() {
    let token = "0123456789abcdef0123456789abcdef";
    let relay =
        TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.admin(admin_endpoint(Some(token))))).await;
    let mut stream = TcpStream::connect(address(&relay)).await.unwrap();
    for (path, want) in [("/metrics", "HTTP/1.1 401"), ("/livez", "HTTP/1.1 200")] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(want) && answer.contains("connection: close"), "{answer}");
        stream = TcpStream::connect(address(&relay)).await.unwrap();
    }
}

#[tokio::test]
async fn an_admin_address_that_others_can_reach_needs_a_token() {
    let endpoint = AdminEndpoint::Tcp(([0, 0, 0, 0], 0).into());
    let policy = AppPolicy::local(vec![AddressPattern::parse("*@example.com").unwrap()]);
    let builder = Builder::new("relay.example", policy, NullTransport::default()).listener(listener("plain", |_| {}));
    let error = builder.admin(AdminSettings::new(endpoint)).start().unwrap_err();
    assert!(error.to_string().contains("set a token"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn readyz_over_a_unix_socket_reports_a_drain_and_an_empty_budget() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let endpoint = AdminEndpoint::Unix(path.clone());
    let budget = with(BudgetSettings::default(), |it| {
        it.memory_octets = 200_000;
        it.disk_octets = 2 << 20;
    });
    let relay = TestRelay::with(move |plan: TestSetup| {
        plan.build(move |builder| builder.budget(budget).admin(AdminSettings::new(endpoint)))
    })
    .await;
    let get = async |what: &str| get_over(tokio::net::UnixStream::connect(&path).await.unwrap(), what, "").await;
    assert_eq!(get("/readyz").await.0, 200);
    // Several messages that do not end.
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut client = relay.client().await;
        client.say("MAIL FROM:<ann@example.com>").await;
        client.expect("250").await;
        client.say("RCPT TO:<bob@elsewhere.example>").await;
        client.expect("250").await;
        client.say("DATA").await;
        if client.reply().await.starts_with("354") {
            client.try_write(format!("{NOTE}{}", "x\r\n".repeat(20_000)).as_bytes()).await;
            held.push(client);
        }
    }
    until("the budget is used up", || !relay.running.relay().budget().has_room()).await;
    let (code, body) = get("/readyz").await;
    assert!(code == 503 && body.contains("memory budget and disk allowance are used up"), "{code} {body}");
    assert_eq!(get("/metrics").await.0, 200);
    drop(held);
    until("it comes back", || relay.running.relay().budget().has_room()).await;
    assert_eq!(get("/readyz").await.0, 200);
    let _open = relay.client().await;
    relay.running.begin_drain();
    let (code, body) = get("/readyz").await;
    assert_eq!((code, body.as_str()), (503, r#"{"reason":"draining","status":"not ready"}"#));
    assert_eq!(get("/livez").await.0, 200);
    drop(relay);
    until("the socket's file goes with the relay", || !path.exists()).await;
}

#[tokio::test]
async fn a_certificate_is_replaced_and_sessions_go_on_with_theirs() {
    use crate::support::{Pair, Smtp, tls_listener};
    let (old, new) = (Pair::new(), Pair::new());
    let secure = tls_listener("secure", &old, gatepost::smtp::TlsMode::Implicit, |_| {});
    let relay = TestRelay::with(move |mut plan: TestSetup| {
        plan.listeners.push(secure);
        plan.build(|builder| builder.admin(admin_endpoint(None)))
    })
    .await;
    let connect = async |authority: &Pair| {
        let stream = TcpStream::connect(relay.port("secure")).await.unwrap();
        authority.connector().connect("localhost".try_into().unwrap(), stream).await
    };
    let mut session = Smtp::over(connect(&old).await.unwrap());
    session.expect("220").await;
    assert!(metrics(&relay).await["gatepost_tls_certificate_not_after_timestamp_seconds{listener=\"secure\"}"] > 1.7e9);
    assert!(relay.running.replace_certificate("secure", &new.settings()));
    assert!(!relay.running.replace_certificate("plain", &new.settings()));
    assert!(connect(&old).await.is_err(), "the old authority knows nothing of the new certificate");
    connect(&new).await.unwrap();
    session.say("NOOP").await;
    session.expect("250").await;
}
