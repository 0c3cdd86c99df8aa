//! What is stored of an accepted message, where, and for how long.

use super::client::request;
use super::*;
use base64::Engine as _;
use serde_json::{Value, json};

const RAW: &str = "From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hi\r\n\r\nhello\r\n";

fn usual() -> Value {
    request(RAW, &["bob@example.net"])
}

async fn send(client: &Client, request: &Value) -> client::Answer {
    client.send_json(request).await.expect("an answer")
}

#[tokio::test]
async fn an_accepted_message_is_stored_with_all_its_parameters() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let message = "From: Ann <ann@mail.example.com>\r\nTo: elsewhere@example.org\r\n\r\nh\u{e9}llo\r\n";
    let mut request = request(message, &["bob@example.net", "bounce+x@simulator.amazonses.com"]);
    request["Destination"]["BccAddresses"] = json!(["eve@example.net"]);
    request["ConfigurationSetName"] = json!("gatepost-dev");
    request["EmailTags"] = json!([{"Name": "queue-id", "Value": "abc_1"}]);
    request["FeedbackForwardingEmailAddress"] = json!("bounces@example.com");
    let answer = send(&client, &request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.json()["MessageId"].as_str().expect("an id").to_owned();
    let messages = emulator.messages();
    assert_eq!(messages.len(), 1);
    let captured = &messages[0];
    assert_eq!(captured.message_id, id);
    assert_eq!(captured.raw, message.as_bytes());
    assert_eq!(captured.from, "ann@mail.example.com");
    assert_eq!(captured.to, ["bob@example.net", "bounce+x@simulator.amazonses.com", "eve@example.net"]);
    assert_eq!(captured.destination.bcc, ["eve@example.net"]);
    assert_eq!(captured.outcomes, [DeliveryOutcome::Delivery, DeliveryOutcome::Bounce, DeliveryOutcome::Delivery]);
    assert_eq!(captured.configuration_set.as_deref(), Some("gatepost-dev"));
    assert_eq!(captured.email_tags, [("queue-id".to_owned(), "abc_1".to_owned())]);
    assert_eq!(captured.parameters.feedback_forwarding_email_address.as_deref(), Some("bounces@example.com"));
    assert_eq!(captured.readings.authors().into_iter().collect::<Vec<_>>(), ["ann@mail.example.com"]);
    let seen = emulator.requests();
    assert_eq!((seen[0].outcome, seen[0].message_id.as_deref()), (RequestOutcome::Answered(200), Some(id.as_str())));
    emulator.stop().await;
}

#[tokio::test]
async fn the_list_is_bounded_and_the_count_is_not() {
    let retention = Retention::Newest { messages_max: 2, octets_max: 1_000_000 };
    let (emulator, client) = start(EmulatorSettings { retention, ..EmulatorSettings::default() }).await;
    for number in 0..3 {
        client.send(&format!("a{number}@example.com"), "bob@example.net").await.expect("an answer");
    }
    let authors: Vec<_> = emulator.messages().into_iter().map(|message| message.from).collect();
    assert_eq!(authors, ["a1@example.com", "a2@example.com"]);
    assert_eq!(emulator.counts().messages_accepted, 3);
    emulator.clear_messages();
    assert!(emulator.messages().is_empty());
    emulator.stop().await;

    let settings = EmulatorSettings { retention: Retention::CountsOnly, ..EmulatorSettings::default() };
    let (emulator, client) = start(settings).await;
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    assert!(emulator.messages().is_empty());
    assert_eq!(emulator.counts().messages_accepted, 1);
    emulator.stop().await;
}

#[tokio::test]
async fn messages_are_written_to_the_directory_before_the_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = directory.path().join("made/on/the/way");
    let settings = EmulatorSettings {
        directory: Some(inner.clone()),
        retention: Retention::CountsOnly,
        ..EmulatorSettings::default()
    };
    let (emulator, client) = start(settings).await;
    let answer = send(&client, &usual()).await;
    let id = answer.json()["MessageId"].as_str().expect("an id").to_owned();
    assert_eq!(std::fs::read_to_string(inner.join(format!("{id}.eml"))).expect("written"), RAW);
    let json: Value =
        serde_json::from_slice(&std::fs::read(inner.join(format!("{id}.json"))).expect("written")).expect("JSON");
    assert_eq!(json["message_id"], json!(id));
    assert_eq!(json["to"], json!(["bob@example.net"]));
    assert_eq!(std::fs::read_dir(&inner).expect("listed").count(), 2);
    // A directory that went away is a failure, not an acceptance.
    std::fs::remove_dir_all(&inner).expect("removed");
    assert_eq!(send(&client, &usual()).await.error(), (500, "InternalFailure"));
    assert_eq!(emulator.counts().messages_accepted, 1);
    emulator.stop().await;
}

#[tokio::test]
async fn the_listing_has_one_json_object_a_line_with_every_reading() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    send(&client, &usual()).await;
    let mut from_zoe = usual();
    from_zoe["FromEmailAddress"] = json!("zoe@example.com");
    send(&client, &from_zoe).await;
    let listing = client.control("GET", "/messages", "").await;
    let lines: Vec<Value> = String::from_utf8(listing.body)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    let raw =
        base64::engine::general_purpose::STANDARD.decode(lines[0]["raw_b64"].as_str().expect("text")).expect("base64");
    assert_eq!(raw, RAW.as_bytes());
    assert_eq!(lines[0]["from"], "ann@example.com");
    assert_eq!(lines[0]["readings"]["parser"], json!(["ann@example.com"]));
    assert_eq!(lines[0]["readings"]["first_field"], "Ann <ann@example.com>");
    assert_eq!(lines[1]["from"], "zoe@example.com");
    assert_eq!(lines[1]["parameters"]["FromEmailAddress"], "zoe@example.com");
    assert_eq!(lines[1]["outcomes"], json!([{"recipient": "bob@example.net", "outcome": "delivery"}]));
    emulator.stop().await;
}
