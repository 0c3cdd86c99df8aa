//! Draining: what is under way finishes, everybody else hears 421.

use crate::support::{House, NOTE, Plan, Smtp, short_deadline, until};
use gatepost::emulator::Fault;
use std::time::Duration;

#[tokio::test]
async fn idle_sessions_hear_421_and_a_message_under_way_is_finished() {
    let house = House::with(|mut plan: Plan| {
        plan.emulator.latency = Duration::from_millis(400);
        plan
    })
    .await;
    let address = house.port("plain");
    let mut idle = house.client().await;
    let mut addressed = house.client().await;
    addressed.say("MAIL FROM:<ann@example.com>").await;
    addressed.expect("250").await;
    let mut sending = house.client().await;
    sending.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    sending.expect("250").await;
    sending.expect("250").await;
    sending.expect("354").await;
    sending.write(&NOTE[..40]).await;
    house.relay.begin_drain();
    idle.expect("421 4.3.2").await;
    assert_eq!(idle.reply().await, "");
    addressed.expect("421 4.3.2").await;
    sending.write(format!("{}.\r\n", &NOTE[40..])).await;
    sending.expect("250 2.0.0 Ok ").await;
    sending.expect("421 4.3.2").await;
    house.relay.drained().await;
    assert_eq!(house.counts(), (1, 1));
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn after_the_grace_what_is_left_is_cut() {
    let house = House::with(|plan: Plan| {
        plan.build(|builder| builder.shutdown_grace(Duration::from_secs(1)).deadline(short_deadline(900)))
    })
    .await;
    let mut stuck = house.client().await;
    stuck.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    stuck.expect("250").await;
    stuck.expect("250").await;
    stuck.expect("354").await;
    let House { emulator, relay, log: _log } = house;
    assert!(!relay.stop().await, "the session in DATA was cut");
    assert_eq!(stuck.reply().await, "");
    assert_eq!(emulator.counts().send_email_requests, 0);
}

/// 22 of the survey: SIGTERM during the SES call.
#[tokio::test]
async fn a_call_under_way_is_waited_for() {
    let house = House::start().await;
    let mut client = house.client().await;
    house.emulator.set_latency(Duration::from_millis(500));
    let requests = house.counts().0;
    let send = tokio::spawn(async move {
        let reply = client.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
        (reply, client.reply().await)
    });
    until("the call is under way", || house.counts().0 > requests).await;
    assert!(house.relay.stop().await, "nothing was cut");
    let (reply, goodbye) = send.await.unwrap();
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    assert!(goodbye.starts_with("421 4.3.2"), "{goodbye}");
}

#[tokio::test]
async fn dropping_the_relay_cuts_at_once_and_does_not_hang() {
    let house = House::start().await;
    house.emulator.script([Fault::Hang]);
    let mut client = Smtp::connect(house.port("plain")).await;
    client.expect("220").await;
    drop(house);
    let reply = client.reply().await;
    assert!(reply.is_empty() || reply.starts_with("421 4.3.2"), "{reply}");
    assert_eq!(client.reply().await, "", "and closed");
}

/// A call that was cut off was once neither counted nor told.
#[tokio::test]
async fn a_call_that_is_cut_off_is_told_as_ambiguous() {
    let house = House::with(|plan: Plan| {
        plan.build(|builder| builder.shutdown_grace(Duration::from_secs(20)).deadline(short_deadline(15_000)))
    })
    .await;
    house.emulator.script([Fault::AcceptThenHang]);
    let mut client = house.client().await;
    client.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    client.expect("250").await;
    client.expect("250").await;
    client.expect("354").await;
    client.content(NOTE).await;
    until("the call is under way", || house.counts().1 == 1).await;
    let House { emulator: _emulator, relay, log } = house;
    let work = std::sync::Arc::clone(relay.relay());
    // A second signal: no grace.
    relay.cut().await;
    log.expect("cut off while the provider was called");
    assert_eq!(work.ambiguous_attempts(), 1);
    assert_eq!(client.reply().await, "", "no 250 for it");
}
