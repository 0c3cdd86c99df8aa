//! The corpus of From headers: hostile ones, after the literature on From spoofing, and odd but legal ones.
//!
//! A hostile message may be refused in any way. If one is accepted, no reading of it, not even the most careless, shows an
//! author that is not permitted. A legal one passes, and shows the author that it names.

use crate::support::{Smtp, TestRelay};
use serde_json::Value;
use tokio::net::TcpStream;

fn corpus(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The reply to the end of data; the header goes as it is, whatever octets it has.
async fn send(client: &mut Smtp<TcpStream>, header: &str) -> String {
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    client.say("RCPT TO:<bob@example.com>").await;
    client.expect("250").await;
    client.say("DATA").await;
    client.expect("354").await;
    client.write(format!("{header}\r\nbody\r\n.\r\n")).await;
    client.reply().await
}

fn permitted(address: &str) -> bool {
    address.to_lowercase().ends_with("@example.com")
}

#[tokio::test]
async fn no_hostile_message_that_is_accepted_shows_a_forbidden_author() {
    let relay = TestRelay::start().await;
    let (mut refused, rows) = (0, corpus("hostile.jsonl"));
    for row in &rows {
        let (name, header) = (row["name"].as_str().unwrap(), row["header"].as_str().unwrap());
        // A connection each: twenty refusals in a row end one.
        let reply = send(&mut relay.client().await, header).await;
        if reply.starts_with("250") {
            let message = relay.emulator.messages().pop().unwrap();
            let authors = message.readings.authors();
            assert!(authors.iter().all(|author| permitted(author)), "{name}: {authors:?}");
        } else {
            assert!(reply.starts_with('5'), "{name}: {reply}");
            refused += 1;
        }
    }
    assert!(refused * 10 >= rows.len() * 9, "{refused} of {}", rows.len());
}

#[tokio::test]
async fn odd_but_legal_messages_pass_and_show_their_author() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    for row in corpus("legal.jsonl") {
        let (name, header) = (row["name"].as_str().unwrap(), row["header"].as_str().unwrap());
        let reply = send(&mut client, header).await;
        assert!(reply.starts_with("250"), "{name}: {reply}");
        let wanted: Vec<&str> = row["authors"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let message = relay.emulator.messages().pop().unwrap();
        assert!(wanted[0].eq_ignore_ascii_case(&message.from), "{name}: {} {wanted:?}", message.from);
    }
}
