//! `/readyz` and the metrics, by application.

use crate::admin::{admin_endpoint, get, metrics};
use crate::support::{NOTE, Smtp, TestRelay, TestSetup, listener, until, with};
use gatepost::emulator::{Denial, ErrorName, Fault};
use gatepost::limit::{LimitKey, LimitRule, LocalLimiter, Measure};
use gatepost::mail::parameters::{AppName, ConfigurationSetName};
use gatepost::mail::{RuleName, SystemClock};
use gatepost::policy::{AddressPattern, App, MatchCriteria};
use std::sync::Arc;

const TO: &[&str] = &["bob@elsewhere.example"];

/// An application that is who comes to the listener of its name.
fn app(name: &str) -> App {
    let recognition = with(MatchCriteria::default(), |it| it.listeners = vec![name.to_owned()]);
    App::new(AppName::parse(name).unwrap(), recognition, vec![AddressPattern::parse("*@example.com").unwrap()])
}

/// Applications with a listener each, and an admin endpoint.
async fn relay(apps: Vec<App>, change: impl FnOnce(TestSetup) -> TestSetup) -> TestRelay {
    TestRelay::with(|mut plan: TestSetup| {
        plan.listeners.extend(apps.iter().map(|app| listener(app.name.as_str(), |_| {})));
        plan.apps = apps;
        change(plan.build(|builder| builder.admin(admin_endpoint(None))))
    })
    .await
}

async fn send(relay: &TestRelay, app: &str) -> String {
    let mut client = Smtp::connect(relay.port(app)).await;
    client.expect("220").await;
    client.say("EHLO client.example").await;
    client.expect("250").await;
    client.send("ann@example.com", TO, NOTE).await
}

async fn readyz(relay: &TestRelay) -> serde_json::Value {
    let (code, body) = get(relay, "/readyz").await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// It said `ready` until the first message, and again after a message of any other application.
#[tokio::test]
async fn a_missing_configuration_set_is_degraded_from_the_start_although_others_succeed() {
    let set = ConfigurationSetName::parse("nope").unwrap();
    let mut shop = app("shop");
    shop.send.configuration_set = Some(set);
    let relay = relay(vec![shop, app("billing")], |plan| plan).await;
    relay.log.until("Degraded").await;
    let fault =
        "configuration set \"nope\" does not exist in us-east-1: create it, or correct the name in the configuration";
    let want = serde_json::json!({
        "reason": fault, "status": "degraded", "faults": [{"apps": ["shop"], "fault": fault}],
    });
    assert_eq!(readyz(&relay).await, want);
    assert!(send(&relay, "billing").await.starts_with("250"));
    assert_eq!(readyz(&relay).await, want);
    // What the application's own message meets is the same, and is listed once.
    assert!(send(&relay, "shop").await.starts_with("451 4.3.5"));
    assert_eq!(readyz(&relay).await, want);
    assert_eq!(metrics(&relay).await["gatepost_faults"], 1.0);
}

#[tokio::test]
async fn an_account_that_may_not_send_is_degraded_before_the_first_message() {
    let relay = relay(Vec::new(), |mut plan| {
        plan.emulator.account = with(plan.emulator.account, |it| it.sending_enabled = false);
        plan
    })
    .await;
    relay.log.until("Degraded").await;
    let answer = readyz(&relay).await;
    assert!(answer["reason"].as_str().unwrap().starts_with("SES refuses to send: sending is paused"), "{answer}");
    assert_eq!(answer["faults"][0]["apps"], serde_json::json!([]));
}

#[tokio::test]
async fn what_iam_does_not_let_the_relay_read_is_unknown_and_not_degraded() {
    let set = ConfigurationSetName::parse("nope").unwrap();
    let mut shop = app("shop");
    shop.send.configuration_set = Some(set);
    let relay = relay(vec![shop], |mut plan| {
        for action in ["ses:GetAccount", "ses:GetConfigurationSet"] {
            plan.emulator.denied_actions.insert(action.to_owned(), Denial::Bare);
        }
        plan
    })
    .await;
    relay.log.until("QuotaUnknown { error: NotPermitted").await;
    // The question about the configuration set comes a second later.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(readyz(&relay).await, serde_json::json!({"reason": null, "status": "ready"}));
}

#[tokio::test]
async fn a_fault_of_one_application_stays_until_it_sends_again() {
    let relay = relay(vec![app("shop"), app("billing")], |plan| plan).await;
    relay.emulator.script([Fault::refuse(ErrorName::SendingPausedException)]);
    assert!(send(&relay, "shop").await.starts_with("451 4.3.5"));
    assert!(send(&relay, "billing").await.starts_with("250"));
    let answer = readyz(&relay).await;
    assert_eq!((&answer["status"], &answer["faults"][0]["apps"]), (&"degraded".into(), &serde_json::json!(["shop"])));
    assert!(send(&relay, "shop").await.starts_with("250"));
    assert_eq!(readyz(&relay).await["status"], "ready");
    let lines = relay.log.lines();
    let told = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!((told("Degraded"), told("Recovered")), (1, 1));
}

#[tokio::test]
async fn what_happens_is_counted_by_application_and_so_are_limits() {
    let limit = |name: &str, by, windows: &str| {
        LimitRule::new(RuleName::parse(name).unwrap(), by, Measure::Messages, vec![windows.parse().unwrap()])
    };
    let limits = vec![
        limit("each", LimitKey::App, "2/day"),
        limit("all", LimitKey::Relay, "10/h"),
        limit("author", LimitKey::Author, "9/h"),
    ];
    let relay = relay(vec![app("shop"), app("billing")], |plan| {
        plan.build(|builder| builder.limiter(LocalLimiter::new(limits, Arc::new(SystemClock))))
    })
    .await;
    for (app, want) in [("shop", "250"), ("shop", "250"), ("shop", "451 4.7.1"), ("billing", "250")] {
        let reply = match want {
            "250" => send(&relay, app).await,
            _ => {
                let mut client = Smtp::connect(relay.port(app)).await;
                client.expect("220").await;
                client.say("EHLO client.example").await;
                client.expect("250").await;
                client.say("MAIL FROM:<ann@example.com>").await;
                client.reply().await
            }
        };
        assert!(reply.starts_with(want), "{app}: {reply}");
    }
    // A command that is refused before any MAIL belongs to the application too.
    let mut client = Smtp::connect(relay.port("billing")).await;
    client.expect("220").await;
    client.say("NONSENSE").await;
    client.expect("500").await;
    until("it is told", || relay.log.lines().iter().any(|line| line.contains("verb: \"?\""))).await;
    let seen = metrics(&relay).await;
    for (name, want) in [
        ("smtp_transactions_total{outcome=\"accepted\",code=\"250\",app=\"shop\"}", Some(2.0)),
        ("smtp_transactions_total{outcome=\"accepted\",code=\"250\",app=\"billing\"}", Some(1.0)),
        ("recipients_total{app=\"shop\"}", Some(2.0)),
        ("limit_hits_total{limit=\"each\",app=\"shop\"}", Some(1.0)),
        ("limit_hits_total{limit=\"each\",app=\"billing\"}", None),
        ("smtp_commands_refused_total{verb=\"MAIL\",code=\"451\",app=\"shop\"}", Some(1.0)),
        ("smtp_commands_refused_total{verb=\"?\",code=\"500\",app=\"billing\"}", Some(1.0)),
        ("limit_used{limit=\"each\",window=\"2/day\",app=\"shop\"}", Some(2.0)),
        ("limit_remaining{limit=\"each\",window=\"2/day\",app=\"shop\"}", Some(0.0)),
        ("limit_remaining{limit=\"each\",window=\"2/day\",app=\"billing\"}", Some(1.0)),
        ("limit_used{limit=\"all\",window=\"10/h burst 10\",app=\"\"}", Some(3.0)),
    ] {
        assert_eq!(seen.get(&format!("gatepost_{name}")).copied(), want, "{name} in {seen:#?}");
    }
    assert!(seen["gatepost_accepted_messages_bytes_total{app=\"shop\"}"] > 100.0);
    assert!(!seen.keys().any(|name| name.contains("limit=\"author\"")), "an author is no label");
}
