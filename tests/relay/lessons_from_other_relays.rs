//! What other relays get wrong, one test each. The numbers are those of the project's survey of peers.

use crate::support::{NOTE, TestRelay, TestSetup};
use gatepost::policy::AddressPattern;

const TO: &[&str] = &["bob@elsewhere.example"];

async fn refused(relay: &TestRelay, from: &str, content: &str, want: &str) {
    let (requests, _) = relay.counts();
    let reply = relay.send(from, TO, content).await;
    assert!(reply.starts_with(want), "{content:?}: {reply}");
    assert_eq!(relay.counts().0, requests, "{content:?}: nothing reaches SES");
}

/// 1: an envelope that is allowed does not carry an author that is not.
#[tokio::test]
async fn an_author_that_is_not_permitted_is_refused_whatever_the_envelope_says() {
    let relay = TestRelay::start().await;
    refused(&relay, "ann@example.com", "From: ceo@other.example\r\n\r\nx\r\n", "550 5.7.1 From address").await;
    refused(&relay, "ceo@other.example", NOTE, "550 5.7.1 Envelope sender").await;
    refused(&relay, "ann@example.com", "From: ann@example.com, ceo@other.example\r\n\r\nx\r\n", "550 5.7.1").await;
}

/// 2: forms of From in which other readers see another author.
#[tokio::test]
async fn a_from_field_with_two_readings_is_refused() {
    let relay = TestRelay::start().await;
    for header in [
        "From: ann@example.com\r\nFrom: ceo@other.example",
        "From: ceo@other.example\r\nFrom: ann@example.com",
        "From: ann@example.com\r\nfrom: ann@example.com",
        "From : ann@example.com",
        "From: <ann@example.com> <ceo@other.example>",
        "From: ceo@other.example <ann@example.com>",
        "From: ann@example.com\r\n <ceo@other.example>",
        "From: group: ceo@other.example;",
        "From: ann(ceo@other.example)@example.com",
        "From: \"ann@example.com\" <ceo@other.example>",
        "From: J\u{fc}rgen <ann@example.com>",
        "From:",
        "Subject: no author",
        " From: ann@example.com\r\nSubject: x",
        "Subject: x\r\n\tFrom: ann@example.com",
    ] {
        refused(&relay, "ann@example.com", &format!("{header}\r\n\r\nx\r\n"), "55").await;
    }
    // Bare LF: the whole message is refused, so no reader sees two fields where another sees one.
    refused(
        &relay,
        "ann@example.com",
        "Subject: x\nFrom: ceo@other.example\r\nFrom: ann@example.com\r\n\r\n",
        "550 5.5.2",
    )
    .await;
    assert!(relay.emulator.messages().is_empty());
}

/// 3: SES checks Sender too; Return-Path would move bounces.
#[tokio::test]
async fn a_sender_field_that_is_not_permitted_is_refused() {
    let relay = TestRelay::start().await;
    let note = |field: &str| format!("{field}\r\n{NOTE}");
    refused(&relay, "ann@example.com", &note("Sender: ceo@other.example"), "550 5.7.1 Sender address").await;
    refused(&relay, "ann@example.com", &note("Sender: a@example.com, b@example.com"), "550 5.7.1").await;
    refused(&relay, "ann@example.com", &note("Sender: a@example.com\r\nSender: b@example.com"), "554 5.6.0").await;
    let reply = relay.send("ann@example.com", TO, &note("Sender: office@example.com")).await;
    assert!(reply.starts_with("250"), "{reply}");
}

/// 5, 6, 7: see `handoff`. 8: a recipient that is refused is refused at RCPT, and the others are sent once.
#[tokio::test]
async fn a_refused_recipient_does_not_sink_the_others() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    for (recipient, want) in [
        ("good@elsewhere.example", "250"),
        ("nodomain", "553 5.1.3"),
        ("literal@[192.0.2.1]", "550 5.1.2"),
        ("j\u{fc}rgen@elsewhere.example", "553 5.6.7"),
        ("too@good@elsewhere.example", "501 5.1.3"),
        ("also@elsewhere.example", "250"),
    ] {
        client.say(&format!("RCPT TO:<{recipient}>")).await;
        client.expect(want).await;
    }
    client.say("DATA").await;
    client.expect("354").await;
    client.content(NOTE).await;
    client.expect("250 2.0.0 Ok").await;
    assert_eq!(relay.only_message().to, ["good@elsewhere.example", "also@elsewhere.example"]);
}

/// 9, 10: a line or a message over the limit does not turn the rest of it into commands.
#[tokio::test]
async fn what_is_over_a_limit_is_read_to_its_end_and_refused() {
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.smtp(|smtp| {
            smtp.limits.message_octets_max = 20_000;
        })
    })
    .await;
    let attack = "\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<victim@elsewhere.example>\r\nDATA\r\n";
    let mut client = relay.client().await;
    for (name, content, want) in [
        ("line of 999", format!("{NOTE}{}{attack}", "x".repeat(999)), "554 5.6.0"),
        ("line of 5000", format!("{NOTE}{}{attack}", "x".repeat(5_000)), "554 5.6.0"),
        ("25,000 octets", format!("{NOTE}{}{attack}", "x\r\n".repeat(8_333)), "552 5.3.4"),
    ] {
        let reply = client.send("ann@example.com", TO, &content).await;
        assert!(reply.starts_with(want), "{name}: {reply}");
    }
    let reply = client.send("ann@example.com", TO, &format!("{NOTE}{}\r\n", "x".repeat(998))).await;
    assert!(reply.starts_with("250"), "in step, and 998 is allowed: {reply}");
    assert_eq!(relay.counts(), (1, 1));
}

/// 11: smuggling. No form but CR LF . CR LF ends the data, so no second message comes out of a first.
#[tokio::test]
async fn one_transaction_in_is_at_most_one_call_out() {
    let relay = TestRelay::start().await;
    let second =
        "MAIL FROM:<ann@example.com>\r\nRCPT TO:<victim@elsewhere.example>\r\nDATA\r\nFrom: ann@example.com\r\n\r\nx";
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\r\n.\r\r\n", "\n\n.\r\n"] {
        let mut client = relay.client().await;
        client.say("MAIL FROM:<ann@example.com>").await;
        client.expect("250").await;
        client.say("RCPT TO:<bob@elsewhere.example>").await;
        client.expect("250").await;
        client.say("DATA").await;
        client.expect("354").await;
        client.write(format!("{NOTE}x{end}{second}\r\n.\r\n")).await;
        client.expect("550 5.5.2").await;
        client.say("NOOP").await;
        client.expect("250 2.0.0").await;
    }
    assert_eq!(relay.counts(), (0, 0));
}

/// 13, 14: what a transaction set does not live on in the next.
#[tokio::test]
async fn a_failed_message_leaves_nothing_to_the_next() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    let reply = client.send("ann@example.com", &["first@elsewhere.example"], "From: ceo@other.example\r\n\r\n").await;
    assert!(reply.starts_with("550"), "{reply}");
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    client.say("RCPT TO:<second@elsewhere.example>").await;
    client.expect("250").await;
    client.say("RSET").await;
    client.expect("250").await;
    client.say("DATA").await;
    client.expect("503").await;
    let reply = client.send("ann@example.com", &["third@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(relay.only_message().to, ["third@elsewhere.example"]);
}

/// 15: the null reverse-path needs permission.
#[tokio::test]
async fn the_null_reverse_path_has_an_explicit_verdict() {
    let relay = TestRelay::start().await;
    refused(&relay, "", NOTE, "550 5.7.1 Null envelope sender").await;
}

/// 20: patterns are anchored; a pattern that could be meant in two ways does not start.
#[tokio::test]
async fn patterns_match_whole_addresses_only() {
    let relay = TestRelay::start().await;
    for from in ["ann@example.com.evil.example", "ann@notexample.com", "ann@sub.example.com"] {
        refused(&relay, from, NOTE, "550 5.7.1").await;
    }
    assert!(AddressPattern::parse("example.com").is_err());
}

/// 21: SES takes 50 recipients; the 51st is told to come in another transaction, and the 50 are sent.
#[tokio::test]
async fn the_51st_recipient_is_deferred() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    for n in 0..50 {
        client.say(&format!("RCPT TO:<r{n}@elsewhere.example>")).await;
        client.expect("250").await;
    }
    client.say("RCPT TO:<r50@elsewhere.example>").await;
    client.expect("452 4.5.3").await;
    client.say("RCPT TO:<r0@elsewhere.example>").await;
    client.expect("250").await;
    client.say("DATA").await;
    client.expect("354").await;
    client.content(NOTE).await;
    client.expect("250 2.0.0 Ok").await;
    assert_eq!(relay.only_message().to.len(), 50);
}

/// 23: the display name of From survives v2.
#[tokio::test]
async fn the_display_name_survives() {
    let relay = TestRelay::start().await;
    let name = "=?utf-8?q?J=C3=BCrgen_M=C3=BCller?=";
    let content = format!("From: {name}\r\n\t<ann@example.com>\r\n\r\nx\r\n");
    assert!(relay.send("ann@example.com", TO, &content).await.starts_with("250"));
    let raw = String::from_utf8(relay.only_message().raw.to_vec()).unwrap();
    assert!(raw.contains(&format!("From: {name}\r\n\t<ann@example.com>\r\n")), "{raw}");
}

/// SES refuses these fields twice; so do we, before the call.
#[tokio::test]
async fn a_repeated_singleton_field_is_refused() {
    let relay = TestRelay::start().await;
    refused(&relay, "ann@example.com", &format!("Subject: again\r\n{NOTE}"), "554 5.6.0 Duplicate header field").await;
    refused(&relay, "ann@example.com", &format!("Date: x\r\nDATE: y\r\n{NOTE}"), "554 5.6.0").await;
}
