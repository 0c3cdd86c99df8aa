//! A relay inside another program, with its own policy and transport.
//!
//! Run it with `cargo run --example embed`. A test runs it too, so it always matches the public builder.
#![allow(clippy::print_stdout, unreachable_pub, reason = "an example prints its result; a test includes this file")]

use gatepost::builder::Builder;
use gatepost::mail::{Granted, MessageId, Outcome, Permitted, Refusal, RuleName, replies};
use gatepost::policy::{MailFacts, MessageFacts, Policy, PolicyDecision, PolicyError, RcptFacts};
use gatepost::server::{Endpoint, ListenerAddress, ListenerSettings};
use gatepost::transport::Transport;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[allow(dead_code, reason = "a test that includes this file has its own main")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{:#?}", demonstrate().await?);
    Ok(())
}

/// Every client may send, but only invoices.
struct InvoicesOnly;

/// The rule names, for the log and metrics.
const INVOICES: RuleName = RuleName::from_static("invoices");
const NOT_AN_INVOICE: RuleName = RuleName::from_static("not-an-invoice");

impl InvoicesOnly {
    fn yes() -> Result<PolicyDecision, PolicyError> {
        Ok(PolicyDecision::Accept(Granted::by(INVOICES)))
    }
}

#[async_trait::async_trait]
impl Policy for InvoicesOnly {
    async fn reverse_path(&self, _: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        Self::yes()
    }

    async fn forward_path(&self, _: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        Self::yes()
    }

    async fn message(&self, facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        let subject = facts.content.fields_named("Subject").next();
        if subject.is_some_and(|field| field.value.starts_with(b" Invoice")) {
            return Self::yes();
        }
        let reply = replies::AUTHOR_NOT_PERMITTED.with_text("Only invoices leave this program");
        Ok(PolicyDecision::Reject(Refusal::new(reply, "").by(NOT_AN_INVOICE)))
    }
}

/// A transport that stores the messages in memory.
#[derive(Clone, Default)]
struct Archive(Arc<Mutex<Vec<Permitted>>>);

#[async_trait::async_trait]
impl Transport for Archive {
    async fn send(&self, message: Permitted, _deadline: Instant) -> Outcome {
        let Ok(mut kept) = self.0.lock() else {
            return Outcome::not_sent(
                gatepost::mail::OutcomeKind::Failed,
                replies::PROVIDER_UNAVAILABLE,
                "archive is broken",
            );
        };
        kept.push(message);
        match MessageId::new(&format!("archive-{}", kept.len())) {
            Some(id) => Outcome::sent(id),
            None => {
                Outcome::ambiguous(gatepost::mail::OutcomeKind::Failed, replies::PROVIDER_NO_RESPONSE, "no message id")
            }
        }
    }
}

/// The replies that the client received, and the number of messages that the transport received.
#[derive(Debug)]
pub struct Outcomes {
    /// The reply to an invoice.
    pub accepted: String,
    /// The reply to another message.
    pub refused: String,
    /// Messages in the archive.
    pub delivered: usize,
}

/// Starts a relay, sends two messages through it, and stops it.
pub async fn demonstrate() -> Result<Outcomes, Box<dyn Error>> {
    let archive = Archive::default();
    let smtp = gatepost::smtp::Settings::new("relay.example");
    let relay = Builder::new("relay.example", InvoicesOnly, archive.clone())
        .listener(ListenerSettings::new("embedded", Endpoint::Tcp("127.0.0.1:0".parse()?), smtp))
        .start()?;
    let Some(ListenerAddress::Tcp(address)) = relay.address("embedded") else {
        return Err("the listener has no TCP address".into());
    };
    let accepted = send(address, "Invoice 42").await?;
    let refused = send(address, "Hello").await?;
    relay.stop().await;
    let delivered = archive.0.lock().map(|kept| kept.len()).unwrap_or_default();
    Ok(Outcomes { accepted, refused, delivered })
}

/// Sends one message over a plain socket, in one write. Returns the reply to the end of data.
async fn send(address: std::net::SocketAddr, subject: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let dialogue = format!(
        "EHLO app\r\nMAIL FROM:<app@example.com>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n\
         From: app@example.com\r\nSubject: {subject}\r\n\r\nHello.\r\n.\r\nQUIT\r\n"
    );
    stream.write_all(dialogue.as_bytes()).await?;
    let mut replies = String::new();
    stream.read_to_string(&mut replies).await?;
    let after_354 = replies.lines().skip_while(|line| !line.starts_with("354")).nth(1);
    Ok(after_354.unwrap_or_default().to_owned())
}
