//! The API of the admin endpoint: what each route answers, who may do what, and problem documents.

use crate::admin::{address, admin_endpoint};
use crate::spool::{Kept, RECIPIENT, queued, sent, unavailable};
use crate::support::{NOTE, TestRelay, TestSetup, listener, until, with};
use gatepost::admin::{AdminEndpoint, AdminSettings};
use gatepost::auth::{PasswordHash, Users, UsersSettings};
use gatepost::builder::Builder;
use gatepost::emulator::{ErrorName, Fault};
use gatepost::limit::{LimitKey, LimitRule, LocalLimiter, Measure};
use gatepost::mail::parameters::{AppName, Delivery};
use gatepost::mail::{RuleName, SystemClock};
use gatepost::observe::AddressForm;
use gatepost::policy::{AddressPattern, App, MatchCriteria};
use gatepost::smtp::AuthMode;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

const TO: &[&str] = &["bob@elsewhere.example"];
const READS: &str = "0123456789abcdef0123456789abcdef";
const CHANGES: &str = "fedcba9876543210fedcba9876543210";

/// An answer of the API.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Value,
    text: String,
}

async fn call_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    host: &str,
    token: Option<&str>,
) -> Answer {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!("{method} /api/v1{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n");
    stream.write_all(format!("{head}{token}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: serde_json::from_str(text).unwrap_or(Value::Null),
        text: text.to_owned(),
    }
}

async fn call(relay: &TestRelay, method: &str, path: &str, token: Option<&str>) -> Answer {
    call_over(TcpStream::connect(address(relay)).await.unwrap(), method, path, "localhost:9925", token).await
}

#[track_caller]
fn is_problem(answer: &Answer, status: u16, detail: &str) {
    let Answer { head, body, .. } = answer;
    assert!(head.contains("content-type: application/problem+json"), "{answer:?}");
    assert_eq!((answer.status, body["status"].as_u64()), (status, Some(status.into())), "{answer:?}");
    assert!(body["type"] == "about:blank" && body["title"].as_str().is_some_and(|title| !title.is_empty()));
    assert!(body["detail"].as_str().unwrap().contains(detail), "{answer:?}");
}

async fn get(relay: &TestRelay, path: &str) -> Value {
    let answer = call(relay, "GET", path, None).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.body
}

/// The decisions that a query finds.
async fn found(relay: &TestRelay, query: &str) -> Vec<Value> {
    get(relay, &format!("/decisions?{query}")).await["rows"].as_array().unwrap().clone()
}

async fn open() -> TestRelay {
    TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.admin(admin_endpoint(None)))).await
}

#[tokio::test]
async fn status_names_what_runs() {
    let relay = open().await;
    let client = relay.client().await;
    let status = get(&relay, "/status").await;
    assert_eq!(status["hostname"], "relay.example");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["health"]["status"], &status["draining"]), (&"ready".into(), &false.into()));
    let listener = &status["listeners"][0];
    assert_eq!(listener["address"], relay.port("plain").to_string());
    assert_eq!(
        (&listener["name"], &listener["tls"], &listener["auth"]),
        (&"plain".into(), &"none".into(), &"off".into())
    );
    assert_eq!(status["connections"], 1);
    assert_eq!((&status["budget"]["has_room"], &status["decisions_max"]), (&true.into(), &10_000.into()));
    assert!(status["started"].as_str().unwrap().ends_with('Z') && status.get("spool").is_none(), "{status}");
    drop(client);
}

#[tokio::test]
async fn ses_shows_the_account_the_pace_and_the_last_error_of_each_kind() {
    let relay = open().await;
    relay.log.until("QuotaRead").await;
    relay.emulator.script([Fault::refuse(ErrorName::MessageRejected), Fault::unavailable()]);
    assert!(relay.send("ann@example.com", TO, NOTE).await.starts_with("554"));
    assert!(relay.send("ann@example.com", TO, NOTE).await.starts_with("451"));
    let ses = get(&relay, "/ses").await;
    assert!(ses["account"]["recipients_per_second_max"].as_f64().unwrap() > 1.0, "{ses}");
    assert!(ses["pace"]["closed"] == false && ses["pace"]["recipients_per_second"].is_number(), "{ses}");
    let errors = ses["last_errors"].as_array().unwrap();
    let of = |kind: &str| errors.iter().find(|error| error["kind"] == kind).unwrap();
    assert_eq!((&of("rejected")["code"], &of("rejected")["app"]), (&"MessageRejected".into(), &"default".into()));
    assert_eq!(of("failed")["count"], 1);
}

#[tokio::test]
async fn an_application_is_described_with_its_limits_and_counts() {
    let rule = |name: &str, by| {
        let windows = vec!["3/h".parse().unwrap()];
        LimitRule::new(RuleName::parse(name).unwrap(), by, Measure::Messages, windows)
    };
    let relay = TestRelay::with(|mut plan: TestSetup| {
        let mut criteria = MatchCriteria::default();
        criteria.identities.push("shop".to_owned());
        let from = vec![AddressPattern::parse("*@shop.example").unwrap()];
        plan.apps.push(App::new(AppName::parse("shop").unwrap(), criteria, from));
        let rules = vec![rule("few", LimitKey::App), rule("all", LimitKey::Relay)];
        plan.build(|builder| {
            builder.admin(admin_endpoint(None)).limiter(LocalLimiter::new(rules, Arc::new(SystemClock)))
        })
    })
    .await;
    let send = async |from: &str| relay.send(from, TO, NOTE).await;
    assert!(send("ann@example.com").await.starts_with("250"));
    assert!(send("eve@elsewhere.example").await.starts_with("550"));
    assert!(send("ann@example.com").await.starts_with("250"));
    assert!(send("ann@example.com").await.starts_with("250"));
    assert!(send("ann@example.com").await.starts_with("451"));
    let apps = get(&relay, "/apps").await;
    let names: Vec<&str> = apps["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop", "default"]);
    let shop = get(&relay, "/apps/shop").await;
    assert_eq!(shop["recognised_by"], serde_json::json!(["AUTH name shop"]));
    assert_eq!((&shop["from"], &shop["delivery"]), (&serde_json::json!(["*@shop.example"]), &"hand-off".into()));
    let app = get(&relay, "/apps/default").await;
    assert_eq!(app["limits"][0]["limit"], "few");
    assert_eq!((&app["limits"][0]["used"], &app["limits"][0]["left"]), (&3.into(), &0.into()));
    for time in ["hour", "day"] {
        let counts = &app[time];
        assert_eq!((&counts["accepted"], &counts["commands_refused"]), (&3.into(), &2.into()), "{counts}");
        let rules = &counts["rules"];
        assert!(rules["reverse_path"] == 1 && rules.as_object().unwrap().len() == 2, "{counts}");
    }
    let limits = get(&relay, "/limits").await;
    let relay_wide = limits["limits"].as_array().unwrap().iter().find(|limit| limit["app"].is_null()).unwrap();
    assert_eq!((&relay_wide["limit"], &relay_wide["capacity"]), (&"all".into(), &3.into()));
    is_problem(&call(&relay, "GET", "/apps/none", None).await, 404, "no application is called \"none\"");
}

#[tokio::test]
async fn a_refused_message_is_found_by_address_by_reference_and_by_rule() {
    let relay = open().await;
    assert!(relay.send("ann@example.com", TO, NOTE).await.starts_with("250"));
    let reply = relay.send("ann@example.com", TO, "From: ceo@other.example\r\nMessage-ID: <7@x>\r\n\r\n").await;
    let reference = reply.split("(ref ").nth(1).unwrap().trim_end_matches(')').to_owned();
    for query in [
        "address=ceo%40other.example".to_owned(),
        "address=bob%40elsewhere.example&result=rejected".to_owned(),
        format!("reference={reference}"),
        "rule=author".to_owned(),
        "message_id=7%40x".to_owned(),
        "app=default&limit=1".to_owned(),
    ] {
        let rows = found(&relay, &query).await;
        assert_eq!(rows.len(), 1, "{query}: {rows:#?}");
        let row = &rows[0];
        assert_eq!((&row["result"], &row["stage"]), (&"rejected".into(), &"message".into()), "{query}");
        assert_eq!((row["reference"].as_str(), row["rule"].as_str()), (Some(&*reference), Some("author")));
        assert_eq!(row["reply"], reply);
        assert!(row["detail"].as_str().unwrap().contains("ceo@other.example"), "{row}");
    }
    let rows = get(&relay, &format!("/decisions/{reference}")).await;
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1);
    // Pages.
    let first = get(&relay, "/decisions?limit=1").await;
    let next = first["next"].as_str().unwrap();
    let second = get(&relay, &format!("/decisions?limit=1&after={next}")).await;
    assert_eq!((&first["rows"][0]["result"], &second["rows"][0]["result"]), (&"rejected".into(), &"accepted".into()));
    assert!(second["next"].is_null() && second["rows"][0]["ses_messages"][0]["id"].is_string(), "{second}");
    for (path, status, detail) in [
        ("/decisions?limit=0", 400, "1 to 200"),
        ("/decisions?limit=201", 400, "1 to 200"),
        ("/decisions?since=yesterday", 400, "RFC 3339"),
        ("/decisions?after=x", 400, "the next of a page"),
        ("/decisions?colour=red", 400, "colour"),
        ("/decisions?result=maybe", 400, "maybe"),
        ("/decisions/nothing", 404, "\"nothing\""),
    ] {
        is_problem(&call(&relay, "GET", path, None).await, status, detail);
    }
}

#[tokio::test]
async fn connections_and_commands_of_nobody_are_found_too() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.clients.clear();
        plan.build(|builder| builder.admin(admin_endpoint(None)))
    })
    .await;
    assert!(relay.send("ann@example.com", TO, NOTE).await.starts_with("550"));
    let rows = found(&relay, "address=ann%40example.com").await;
    assert_eq!(
        (&rows[0]["stage"], &rows[0]["rule"], &rows[0]["app"]),
        (&"mail".into(), &"no_app".into(), &Value::Null)
    );
}

#[tokio::test]
async fn a_kept_message_is_found_with_the_id_under_which_it_left() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept.relay_with(|plan| plan.build(|builder| builder.admin(admin_endpoint(None)))).await;
    assert!(relay.emulator.script([unavailable()]));
    let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    sent(&relay, 1).await;
    relay.log.until(&format!("QueueLeft(QueueEndRecord {{ id: {id}")).await;
    let ses_id = relay.only_message().message_id;
    let mut rows = Vec::new();
    // The list receives an event a moment after the log of this test.
    for _ in 0..100 {
        rows = found(&relay, &format!("address={}", RECIPIENT.replace('@', "%40"))).await;
        if rows[0]["queue"]["status"] == "sent" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(rows.len(), 1, "{rows:#?}");
    let row = &rows[0];
    assert_eq!((&row["result"], row["reference"].as_str()), (&"kept".into(), Some(&*id)));
    assert_eq!((&row["queue"]["status"], &row["queue"]["attempts"]), (&"sent".into(), &2.into()), "{row}");
    assert_eq!(row["ses_messages"][0]["id"].as_str(), Some(&*ses_id), "{row}");
    assert_eq!(found(&relay, &format!("message_id={ses_id}")).await.len(), 1);
    let app = get(&relay, "/apps/default").await;
    assert_eq!((&app["day"]["kept"], &app["day"]["queue_sent"]), (&1.into(), &1.into()), "{app}");
    assert_eq!(get(&relay, "/status").await["spool"]["waiting"], 0);
}

#[tokio::test]
async fn addresses_in_answers_have_the_form_of_the_log() {
    for (form, recipients, reverse_path) in [(AddressForm::Hashed, 1, "@example.com"), (AddressForm::Omitted, 0, "-")] {
        let kept = Kept::new(Delivery::Spool);
        let settings = with(admin_endpoint(Some(READS)), |it| {
            it.addresses = form;
            it.operator_tokens = vec![("alice".to_owned(), CHANGES.to_owned())];
        });
        let relay = kept.relay_with(move |plan| plan.build(|builder| builder.admin(settings))).await;
        relay.emulator.script([unavailable(), unavailable(), unavailable(), unavailable()]);
        let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
        let reads = async |path: &str, token| call(&relay, "GET", path, Some(token)).await;
        // It is found by the address, whatever is shown.
        let page = reads("/decisions?address=ann%40example.com&result=kept", READS).await;
        let row = &page.body["rows"][0];
        assert_eq!((row["reference"].as_str(), row["detail"].as_str()), (Some(&*id), Some("")), "{page:?}");
        assert_eq!(row["recipients"].as_array().unwrap().len(), recipients);
        assert!(row["reverse_path"].as_str().unwrap().ends_with(reverse_path), "{row}");
        assert!(!page.text.contains("ann@") && !page.text.contains("bob@"), "{page:?}");
        let queue = reads("/queue", READS).await;
        assert!(queue.status == 200 && !queue.text.contains("ann@") && !queue.text.contains("bob@"), "{queue:?}");
        // An operator, who may read the message, sees the addresses of the queue.
        let queue = reads(&format!("/queue?id={id}"), CHANGES).await;
        assert!(queue.text.contains("ann@example.com") && queue.text.contains(RECIPIENT), "{queue:?}");
        assert_eq!(call(&relay, "POST", "/queue/remove?all=true", Some(CHANGES)).await.status, 200);
    }
}

#[tokio::test]
async fn the_token_that_reads_changes_nothing_and_each_change_is_logged_with_its_operator() {
    let kept = Kept::new(Delivery::Spool);
    let settings = with(admin_endpoint(Some(READS)), |it| {
        it.operator_tokens = vec![("alice".to_owned(), CHANGES.to_owned())];
    });
    let relay = kept.relay_with(|plan| plan.build(|builder| builder.admin(settings))).await;
    relay.emulator.script([unavailable(), unavailable(), unavailable()]);
    let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    for (method, path) in [
        ("POST", format!("/queue/hold?id={id}")),
        ("GET", format!("/queue/{id}/content")),
        ("POST", "/lockouts/clear?all=true".to_owned()),
        ("POST", "/drain".to_owned()),
    ] {
        is_problem(&call(&relay, method, &path, None).await, 401, "admin.token");
        is_problem(&call(&relay, method, &path, Some("wrong")).await, 401, "admin.operator_tokens");
        is_problem(&call(&relay, method, &path, Some(READS)).await, 403, "admin.operator_tokens");
    }
    assert!(!relay.log.lines().iter().any(|line| line.contains("Operated")));
    let content = call(&relay, "GET", &format!("/queue/{id}/content"), Some(CHANGES)).await;
    assert!(content.status == 200 && content.text.ends_with(NOTE) && content.head.contains("message/rfc822"));
    assert_eq!(call(&relay, "POST", &format!("/queue/hold?id={id}"), Some(CHANGES)).await.status, 200);
    let action = format!("Operated {{ operator: \"alice\", action: \"POST /queue/hold?id={id}\", status: 200 }}");
    relay.log.expect(&action);
    is_problem(&call(&relay, "POST", "/queue/burn", Some(CHANGES)).await, 404, "burn");
    is_problem(&call(&relay, "POST", "/queue/hold", Some(CHANGES)).await, 400, "no message is selected");
    is_problem(&call(&relay, "GET", "/queue?after=x", Some(READS)).await, 400, "not a queue id");
    is_problem(&call(&relay, "GET", "/queue/x/content", Some(CHANGES)).await, 404, "not a queue id");
}

#[tokio::test]
async fn without_a_token_only_this_machine_reads_and_nobody_changes_anything() {
    let relay = open().await;
    let with_host = async |method: &str, path: &str, host: &str| {
        call_over(TcpStream::connect(address(&relay)).await.unwrap(), method, path, host, None).await
    };
    for host in ["127.0.0.1", "localhost:1", "[::1]:9925"] {
        assert_eq!(with_host("GET", "/status", host).await.status, 200, "{host}");
    }
    // What a page in a browser sends whose name was made to point here.
    for host in ["evil.example", "evil.example:9925", "localhost.evil.example"] {
        is_problem(&with_host("GET", "/status", host).await, 403, "loopback");
    }
    is_problem(&with_host("POST", "/drain", "localhost").await, 403, "admin.operator_tokens");
    is_problem(&with_host("GET", "/nothing", "localhost").await, 404, "/api/v1/nothing");
    let answer = with_host("DELETE", "/status", "localhost").await;
    is_problem(&answer, 405, "/api/v1/status does not take DELETE");
    assert!(answer.head.contains("allow: get"), "{answer:?}");
    is_problem(&with_host("GET", "/queue", "localhost").await, 404, "no spool");
    let document = with_host("GET", "/openapi.json", "localhost").await;
    assert_eq!((&document.body["openapi"], document.status), (&"3.1.0".into(), 200));
    // Every path of the document is one of the router.
    for (path, item) in document.body["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap().replace(['{', '}'], "");
        for method in item.as_object().unwrap().keys() {
            let answer = with_host(&method.to_uppercase(), &path, "localhost").await;
            let unknown = answer.text.contains("see /api/v1/openapi.json");
            assert!(!unknown, "{method} {path}: {answer:?}");
        }
    }
}

#[cfg(unix)]
async fn over(path: &Path, method: &str, what: &str, token: Option<&str>) -> Answer {
    call_over(UnixStream::connect(path).await.unwrap(), method, what, "anything", token).await
}

#[cfg(unix)]
#[tokio::test]
async fn whoever_may_open_the_unix_socket_may_drain_unless_there_are_operator_tokens() {
    let directory = tempfile::tempdir().unwrap();
    for operators in [Vec::new(), vec![("alice".to_owned(), CHANGES.to_owned())]] {
        let path = directory.path().join("admin.sock");
        let settings = with(AdminSettings::new(AdminEndpoint::Unix(path.clone())), |it| it.operator_tokens = operators);
        let closed = !settings.operator_tokens.is_empty();
        let relay = TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.admin(settings))).await;
        let mut client = relay.client().await;
        if closed {
            is_problem(&over(&path, "POST", "/drain", None).await, 401, "admin.operator_tokens");
        }
        let answer = over(&path, "POST", "/drain", closed.then_some(CHANGES)).await;
        assert_eq!((answer.status, &answer.body["draining"]), (202, &true.into()), "{answer:?}");
        relay.log.expect(if closed { "operator: \"alice\"" } else { "operator: \"socket\"" });
        client.expect("421 4.3.2").await;
        let status = over(&path, "GET", "/status", closed.then_some(CHANGES)).await;
        assert_eq!((&status.body["draining"], &status.body["health"]["status"]), (&true.into(), &"not ready".into()));
        drop(relay);
        until("the socket goes", || !path.exists()).await;
    }
}

#[tokio::test]
async fn who_is_locked_out_is_listed_and_let_in_again() {
    let hash = PasswordHash::parse(&bcrypt::hash("right", 4).unwrap()).unwrap();
    let users = Users::new([("ann".to_owned(), hash)], UsersSettings::default(), Arc::new(SystemClock)).unwrap();
    let settings = with(admin_endpoint(Some(READS)), |it| {
        it.operator_tokens = vec![("alice".to_owned(), CHANGES.to_owned())];
    });
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.listeners = vec![listener("plain", |smtp| {
            smtp.auth = AuthMode::Optional;
            smtp.auth_in_clear = true;
        })];
        plan.build(|builder: Builder| builder.admin(settings).authenticator(users))
    })
    .await;
    let login = async |password: &str| {
        use base64::Engine;
        let mut client = relay.client().await;
        let word = base64::engine::general_purpose::STANDARD.encode(format!("\0ann\0{password}"));
        client.say(&format!("AUTH PLAIN {word}")).await;
        client.reply().await
    };
    for number in 0..10 {
        assert!(login(&format!("wrong{number}")).await.starts_with("535"));
    }
    assert!(login("right").await.starts_with("454"), "locked out");
    let listed = call(&relay, "GET", "/lockouts", Some(READS)).await.body;
    let lockout = &listed["lockouts"][0];
    assert_eq!((&lockout["client"], &lockout["name"]), (&"127.0.0.1/32".into(), &"ann".into()), "{listed}");
    assert_eq!(lockout["effect"], "locked");
    let rows = call(&relay, "GET", "/decisions?result=rejected&limit=200", Some(READS)).await.body;
    assert_eq!((&rows["rows"][0]["stage"], &rows["rows"][0]["identity"]), (&"auth".into(), &"ann".into()));
    is_problem(&call(&relay, "POST", "/lockouts/clear", Some(CHANGES)).await, 400, "all=true");
    let cleared = call(&relay, "POST", "/lockouts/clear?client=192.0.2.1", Some(CHANGES)).await.body;
    assert_eq!(cleared["lockouts"].as_array().unwrap().len(), 0);
    let cleared = call(&relay, "POST", "/lockouts/clear?name=ann&client=127.0.0.1", Some(CHANGES)).await.body;
    assert_eq!(cleared["lockouts"].as_array().unwrap().len(), 1);
    assert!(login("right").await.starts_with("235"));
}

#[tokio::test]
async fn without_a_list_decisions_say_which_key_to_set() {
    let settings = with(admin_endpoint(None), |it| it.decisions_max = 0);
    let relay = TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.admin(settings))).await;
    is_problem(&call(&relay, "GET", "/decisions", None).await, 404, "admin.decisions_max");
}
