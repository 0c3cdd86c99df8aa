//! Shutdown: messages in progress are finished; other sessions receive 421.

use crate::support::{NOTE, Smtp, TestRelay, TestSetup, short_deadline, until};
use gatepost::emulator::Fault;
use std::time::Duration;

#[tokio::test]
async fn idle_sessions_receive_421_and_a_message_in_progress_is_finished() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.latency = Duration::from_millis(400);
        plan
    })
    .await;
    let address = relay.port("plain");
    let mut idle = relay.client().await;
    let mut addressed = relay.client().await;
    addressed.say("MAIL FROM:<ann@example.com>").await;
    addressed.expect("250").await;
    let mut sending = relay.client().await;
    sending.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    sending.expect("250").await;
    sending.expect("250").await;
    sending.expect("354").await;
    sending.write(&NOTE[..40]).await;
    relay.running.begin_drain();
    idle.expect("421 4.3.2").await;
    assert_eq!(idle.reply().await, "");
    addressed.expect("421 4.3.2").await;
    sending.write(format!("{}.\r\n", &NOTE[40..])).await;
    sending.expect("250 2.0.0 Ok ").await;
    sending.expect("421 4.3.2").await;
    relay.running.drained().await;
    assert_eq!(relay.counts(), (1, 1));
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn after_the_grace_what_is_left_is_cut() {
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.build(|builder| builder.shutdown_grace(Duration::from_secs(1)).deadline(short_deadline(900)))
    })
    .await;
    let mut stuck = relay.client().await;
    stuck.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    stuck.expect("250").await;
    stuck.expect("250").await;
    stuck.expect("354").await;
    let TestRelay { emulator, running, log: _log } = relay;
    assert!(!running.stop().await, "the session in DATA was cut");
    assert_eq!(stuck.reply().await, "");
    assert_eq!(emulator.counts().send_email_requests, 0);
}

/// 22 of the survey: SIGTERM during the SES call.
#[tokio::test]
async fn a_call_under_way_is_waited_for() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    relay.emulator.set_latency(Duration::from_millis(500));
    let requests = relay.counts().0;
    let send = tokio::spawn(async move {
        let reply = client.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
        (reply, client.reply().await)
    });
    until("the call is under way", || relay.counts().0 > requests).await;
    assert!(relay.running.stop().await, "nothing was cut");
    let (reply, goodbye) = send.await.unwrap();
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    assert!(goodbye.starts_with("421 4.3.2"), "{goodbye}");
}

#[tokio::test]
async fn dropping_the_relay_cuts_at_once_and_does_not_hang() {
    let relay = TestRelay::start().await;
    relay.emulator.script([Fault::Hang]);
    let mut client = Smtp::connect(relay.port("plain")).await;
    client.expect("220").await;
    drop(relay);
    let reply = client.reply().await;
    assert!(reply.is_empty() || reply.starts_with("421 4.3.2"), "{reply}");
    assert_eq!(client.reply().await, "", "and closed");
}

/// A call that was cut off was once neither counted nor told.
#[tokio::test]
async fn a_call_that_is_cut_off_is_reported_as_ambiguous() {
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.build(|builder| builder.shutdown_grace(Duration::from_secs(20)).deadline(short_deadline(15_000)))
    })
    .await;
    relay.emulator.script([Fault::AcceptThenHang]);
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    client.expect("250").await;
    client.expect("250").await;
    client.expect("354").await;
    client.content(NOTE).await;
    until("the call is under way", || relay.counts().1 == 1).await;
    let TestRelay { emulator: _emulator, running, log } = relay;
    let work = running.relay();
    // A second signal: no grace.
    running.cut().await;
    log.expect("cut off while the provider was called");
    assert_eq!(work.ambiguous_attempts(), 1);
    assert_eq!(client.reply().await, "", "no 250 for it");
}
