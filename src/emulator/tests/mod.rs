//! The emulator over real HTTP on loopback, called by a client and a signer that exist only here.

#![allow(clippy::disallowed_methods, reason = "a client on the network has a clock of its own")]

mod client;
mod controlling;
mod faulting;
mod keeping;
mod reading;
mod sending;
mod signing;

use super::*;
use client::Client;

/// A running emulator and a client that it trusts.
async fn start(settings: EmulatorSettings) -> (Emulator, Client) {
    let emulator = Emulator::start(settings).await.expect("starts");
    let client = Client::new(emulator.address());
    (emulator, client)
}

#[tokio::test]
async fn refuses_to_listen_beyond_loopback() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let settings = EmulatorSettings { listen: listen.parse().expect("an address"), ..EmulatorSettings::default() };
        let error = Emulator::start(settings).await.expect_err("not loopback");
        assert!(matches!(error, EmulatorError::NotLoopback(_)), "{listen}: {error}");
    }
}

#[tokio::test]
async fn refuses_invalid_settings() {
    let no_key = EmulatorSettings { credentials: vec![], ..EmulatorSettings::default() };
    assert!(matches!(Emulator::start(no_key).await, Err(EmulatorError::Settings(_))));
    let mut no_rate = EmulatorSettings::default();
    no_rate.account.recipients_per_second_max = Some(0.0);
    assert!(matches!(Emulator::start(no_rate).await, Err(EmulatorError::Settings(_))));
}

#[tokio::test]
async fn stopping_closes_connections_and_the_port() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let address = emulator.address();
    assert!(emulator.endpoint_url().starts_with("http://127.0.0.1:"));
    emulator.script([Fault::Hang]);
    let hanging = tokio::spawn(async move { client.send("ann@example.com", "bob@example.net").await });
    client::until(|| emulator.counts().send_email_requests == 1).await;
    emulator.stop().await;
    assert!(hanging.await.expect("no panic").is_err(), "the hanging request ends with the emulator");
    tokio::net::TcpListener::bind(address).await.expect("the port is free again");
}

#[tokio::test]
async fn a_connection_is_kept_open_for_the_next_request() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let mut connection = client.connect().await;
    for _ in 0..5 {
        let answer = connection.send(&client, "ann@example.com", "bob@example.net").await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let counts = emulator.counts();
    assert_eq!((counts.connections_opened, counts.service_connections_opened, counts.connections_open), (1, 1, 1));
    drop(connection);
    client::until(|| emulator.counts().connections_open == 0).await;
    emulator.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let mut settings = EmulatorSettings::default();
    settings.bounds.connections_max = 1;
    let (emulator, client) = start(settings).await;
    let mut first = client.connect().await;
    assert_eq!(first.send(&client, "ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.send("ann@example.com", "bob@example.net").await.map(|answer| answer.status) }
    });
    tokio::task::yield_now().await;
    assert_eq!(emulator.counts().connections_opened, 1);
    drop(first);
    assert_eq!(second.await.expect("no panic").expect("an answer"), 200);
    emulator.stop().await;
}

#[tokio::test]
async fn a_head_or_a_body_that_does_not_come_is_not_waited_for() {
    let mut settings = EmulatorSettings::default();
    settings.bounds.head_time_max = Duration::from_millis(100);
    settings.bounds.body_time_max = Duration::from_millis(100);
    let (emulator, client) = start(settings).await;
    let mut silent = client.connect().await;
    silent.write(b"POST /v2/email/outbound-emails HTTP/1.1\r\n").await;
    assert!(silent.closed_by_peer().await);
    let mut half = client.connect().await;
    half.write(b"POST /v2/email/outbound-emails HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n123").await;
    assert_eq!(half.read_answer().await.expect("an answer").status, 408);
    let mut idle = client.connect().await;
    assert_eq!(idle.send(&client, "ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    assert!(idle.closed_by_peer().await, "between two requests too");
    emulator.stop().await;
}

#[tokio::test]
async fn bodies_share_a_budget_of_memory_and_wait_for_their_share() {
    let mut settings = EmulatorSettings::default();
    // Raised to one body of the largest size, and a chunked body has to be granted that much: one at a time.
    settings.bounds.body_octets_in_flight_max = 1;
    settings.latency = Duration::from_millis(20);
    let (emulator, client) = start(settings).await;
    let mut half = client.connect().await;
    half.write(
        b"POST /v2/email/outbound-emails HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    )
    .await;
    client::until(|| emulator.counts().send_email_requests == 1).await;
    let waiting = tokio::spawn(async move { client.send("ann@example.com", "bob@example.net").await });
    client::until(|| emulator.counts().send_email_requests == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(emulator.counts().messages_accepted, 0, "the second body waits for the first");
    half.write(b"4\r\ndefg\r\n0\r\n\r\n").await;
    assert_eq!(half.read_answer().await.expect("an answer").error(), (403, "MissingAuthenticationTokenException"));
    assert_eq!(waiting.await.expect("no panic").expect("an answer").status, 200);
    emulator.stop().await;
}
