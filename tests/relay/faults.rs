//! Every way in which SES can fail: what the client receives, how many requests SES saw, and whether it was ambiguous.

use crate::support::{NOTE, TestRelay, TestSetup, short_deadline};
use gatepost::emulator::{Denial, ErrorName, Fault};
use std::num::NonZeroU32;
use std::time::Duration;

struct Row {
    fault: Fault,
    reply: &'static str,
    /// Messages that SES has accepted all the same.
    accepted: u64,
    certainty: &'static str,
}

fn row(fault: Fault, reply: &'static str, accepted: u64, certainty: &'static str) -> Row {
    Row { fault, reply, accepted, certainty }
}

fn error(name: &str) -> Fault {
    Fault::refuse(*ErrorName::ALL.iter().find(|row| row.as_str() == name).unwrap_or_else(|| panic!("{name}")))
}

#[tokio::test]
async fn every_fault_is_one_request_and_one_clear_reply() {
    let slow = NonZeroU32::new(1).unwrap();
    let rows = vec![
        row(error("MessageRejected"), "554 5.7.1", 0, "NotSent"),
        row(error("BadRequestException"), "554 5.6.0", 0, "NotSent"),
        row(error("MailFromDomainNotVerifiedException"), "451 4.3.5", 0, "NotSent"),
        row(error("NotFoundException"), "451 4.3.5", 0, "NotSent"),
        row(error("SendingPausedException"), "451 4.3.5", 0, "NotSent"),
        row(error("AccountSuspendedException"), "451 4.3.5", 0, "NotSent"),
        row(Fault::AccessDenied(Denial::Bare), "451 4.3.5", 0, "NotSent"),
        row(Fault::AccessDenied(Denial::Implicit("VPC endpoint policy".to_owned())), "451 4.3.5", 0, "NotSent"),
        row(Fault::AccessDenied(Denial::Explicit("service control policy".to_owned())), "451 4.3.5", 0, "NotSent"),
        row(Fault::expired_token(), "451 4.3.5", 0, "NotSent"),
        row(Fault::internal_error(), "451 4.4.1", 0, "Ambiguous"),
        row(Fault::unavailable(), "451 4.4.1", 0, "Ambiguous"),
        row(Fault::Hang, "451 4.4.2", 0, "Ambiguous"),
        row(Fault::AcceptThenHang, "451 4.4.2", 1, "Ambiguous"),
        row(Fault::ResetBeforeBody, "451 4.4.2", 0, "Ambiguous"),
        row(Fault::AcceptThenReset, "451 4.4.2", 1, "Ambiguous"),
        row(Fault::Slow { octets_per_second: slow }, "451 4.4.2", 1, "Ambiguous"),
        row(Fault::Garbage, "451 4.4.2", 0, "Ambiguous"),
        row(Fault::NoMessageId, "451 4.4.2", 1, "Ambiguous"),
        // The last one: it stops everything that comes after.
        row(Fault::daily_quota(), DAILY_QUOTA, 0, "NotSent"),
    ];
    let relay = TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.deadline(short_deadline(1_500)))).await;
    let mut client = relay.client().await;
    for Row { fault, reply: want, accepted, certainty } in rows {
        let name = format!("{fault:?}");
        let (requests_before, accepted_before) = relay.counts();
        assert!(relay.emulator.script([fault]), "{name}");
        let reply = client.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
        assert!(reply.starts_with(want) && reply.contains("(ref "), "{name}: {reply}");
        let (requests, accepted_now) = relay.counts();
        assert_eq!(requests - requests_before, 1, "{name}: nobody retries behind our back");
        // A trickled answer was accepted before; a garbled one may have been.
        if !name.starts_with("Garbage") {
            assert_eq!(accepted_now - accepted_before, accepted, "{name}");
        }
        let lines = relay.log.lines();
        let last = lines.iter().rfind(|line| line.starts_with("MessageEnded")).unwrap();
        assert!(last.contains(&format!("certainty: {certainty}")), "{name}: {last}");
    }
    assert_eq!(relay.running.relay().ambiguous_attempts(), 9, "as many as rows say so");
    // The session is in step after all of that, and no call is made while the daily quota is used up.
    let requests = relay.counts().0;
    let reply = client.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with(DAILY_QUOTA), "{reply}");
    assert_eq!(relay.counts().0, requests);
    relay.log.expect("PaceChanged { change: \"the quota of 24 hours is used up");
}

const DAILY_QUOTA: &str = "454 4.7.0 Throttling failure: daily message quota exceeded";

#[tokio::test]
async fn a_call_ends_before_the_deadline_where_its_own_bound_is_nearer() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.ses.timeouts.operation = Duration::from_millis(200);
        plan
    })
    .await;
    assert!(relay.emulator.script([Fault::Hang]));
    let mut client = relay.client().await;
    let reply = client.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("451 4.4.2"), "{reply}");
    relay.log.expect("no answer within 200ms");
    let reply = client.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("250"), "{reply}");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_definitely_not_sent() {
    let relay = TestRelay::start().await;
    let TestRelay { emulator, running, log } = relay;
    let address = match running.address("plain").unwrap() {
        gatepost::server::ListenerAddress::Tcp(address) => address,
        other => panic!("{other}"),
    };
    emulator.stop().await;
    let mut client = crate::support::Smtp::connect(address).await;
    client.expect("220").await;
    client.say("EHLO x").await;
    client.expect("250").await;
    let reply = client.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("451 4.4.1"), "{reply}");
    log.expect("certainty: NotSent, kind: Unreachable");
}

#[tokio::test]
async fn wrong_credentials_defer_and_name_what_the_operator_must_correct() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.ses.credentials.as_mut().unwrap().secret_access_key = "wrong".to_owned();
        plan
    })
    .await;
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("451 4.3.5"), "{reply}");
    assert!(!reply.contains("AKIA") && !reply.contains("ignature"), "bland to the peer: {reply}");
    relay.log.expect("kind: OperatorError");
    relay.log.expect("SignatureDoesNotMatch");
    assert_eq!(relay.counts().1, 0);
}

#[tokio::test]
async fn a_recipient_that_is_not_verified_is_refused_and_the_reply_names_the_sandbox() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.account.production_access = false;
        plan
    })
    .await;
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("554 5.7.1 Recipient refused: the SES account is in the sandbox"), "{reply}");
    relay.log.expect("kind: Refused");
}

#[tokio::test]
async fn an_unverified_identity_and_a_missing_configuration_set_are_distinguished() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.app.from.push(gatepost::policy::AddressPattern::parse("*@unverified.example").unwrap());
        plan.app.requested_fields = vec![gatepost::mail::parameters::RequestedField::ConfigurationSet];
        plan
    })
    .await;
    let unverified = NOTE.replace("ann@example.com", "ann@unverified.example");
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &unverified).await;
    assert!(reply.starts_with("451 4.3.5"), "a lapsed DNS record loses no mail: {reply}");
    relay.log.expect("kind: OperatorError");
    relay.log.expect("The following identities failed the check in region US-EAST-1: ann@unverified.example");
    let missing = format!("X-SES-CONFIGURATION-SET: missing\r\n{NOTE}");
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &missing).await;
    assert!(reply.starts_with("451 4.3.5"), "{reply}");
    assert_eq!(relay.counts(), (2, 0));
}
