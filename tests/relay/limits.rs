//! Limits end to end: SES receives no more than they allow, and refused messages do not use them up.

use crate::support::{NOTE, TestRelay, TestSetup};
use gatepost::limit::{LimitKey, LimitRule, LocalLimiter, Measure};
use gatepost::mail::{RuleName, SystemClock};
use std::sync::Arc;

const TO: &[&str] = &["bob@elsewhere.example"];

fn rule(name: &str, by: LimitKey, measure: Measure, rate: &str) -> LimitRule {
    LimitRule::new(RuleName::parse(name).unwrap(), by, measure, vec![rate.parse().unwrap()])
}

async fn relay(rules: Vec<LimitRule>) -> TestRelay {
    TestRelay::with(|plan: TestSetup| {
        plan.build(|builder| builder.limiter(LocalLimiter::new(rules, Arc::new(SystemClock))))
    })
    .await
}

#[tokio::test]
async fn ses_sees_no_more_than_the_limit_and_refusals_do_not_count() {
    let relay = relay(vec![rule("app", LimitKey::App, Measure::Messages, "3/h")]).await;
    let mut client = relay.client().await;
    // Policy refuses these after MAIL was counted: that is given back.
    for _ in 0..5 {
        let reply = client.send("ann@example.com", TO, "From: ceo@other.example\r\n\r\n").await;
        assert!(reply.starts_with("550"), "{reply}");
    }
    // So does a definite failure of SES.
    relay.emulator.script([gatepost::emulator::Fault::refuse(gatepost::emulator::ErrorName::MessageRejected)]);
    let reply = client.send("ann@example.com", TO, NOTE).await;
    assert!(reply.starts_with("554"), "{reply}");
    // And a transaction that the client gives up.
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    client.say("RSET").await;
    client.expect("250").await;
    let mut accepted = 0;
    for _ in 0..6 {
        let reply = client.send("ann@example.com", TO, NOTE).await;
        assert!(
            reply.starts_with("250") || reply.starts_with("451 4.7.1 Rate limit reached, try again in "),
            "{reply}"
        );
        accepted += u64::from(reply.starts_with("250"));
    }
    assert_eq!((accepted, relay.counts().1), (3, 3));
    relay.log.expect("rule: Some(\"app\")");
}

#[tokio::test]
async fn a_client_that_splits_its_recipients_succeeds() {
    let relay = relay(vec![rule("domain", LimitKey::RecipientDomain, Measure::Recipients, "2/h")]).await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    for (recipient, want) in
        [("a@one.example", "250"), ("b@one.example", "250"), ("c@one.example", "452 4.5.3"), ("a@two.example", "250")]
    {
        client.say(&format!("RCPT TO:<{recipient}>")).await;
        client.expect(want).await;
    }
    client.say("DATA").await;
    client.expect("354").await;
    client.content(NOTE).await;
    client.expect("250 2.0.0 Ok").await;
    assert_eq!(relay.only_message().to.len(), 3);
}

#[tokio::test]
async fn a_message_larger_than_the_burst_is_refused_before_it_comes() {
    let relay = relay(vec![rule("octets", LimitKey::Relay, Measure::Octets, "10000/min")]).await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com> SIZE=20000").await;
    client.expect("552 5.3.4").await;
    let reply = client.send("ann@example.com", TO, &format!("{NOTE}{}", "x\r\n".repeat(5_000))).await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    assert_eq!(relay.counts(), (0, 0));
    // And one for which there is no room now need not be uploaded either.
    let text = format!("{NOTE}{}", "x\r\n".repeat(2_000));
    assert!(client.send("ann@example.com", TO, &text).await.starts_with("250"));
    client.say("MAIL FROM:<ann@example.com> SIZE=6000").await;
    client.expect("451 4.7.1 Rate limit reached, try again in ").await;
    relay.log.expect("6000 octets are announced, and ");
    client.say("MAIL FROM:<ann@example.com> SIZE=1000").await;
    client.expect("250").await;
}
