//! Every fault: the response for the client, the number of attempts, and whether the message was accepted.

use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::time::Instant;

use super::*;

/// Sends once under a fault, and checks that this was one request, accepted or not.
async fn once(fault: Fault, accepted: u64) -> (Emulator, std::io::Result<client::Answer>) {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let name = fault.name();
    emulator.script([fault]);
    let answer = client.send("ann@example.com", "bob@example.net").await;
    let counts = emulator.counts();
    assert_eq!((counts.send_email_requests, counts.messages_accepted), (1, accepted), "{name}");
    assert_eq!(emulator.messages().len() as u64, accepted, "{name}");
    let seen = &emulator.requests()[0];
    assert_eq!(seen.fault, Some(name));
    assert_eq!(seen.message_id.is_some(), accepted == 1, "{name}");
    // The fault is used up: the next request is served.
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 200, "{name}");
    assert_eq!(emulator.counts().send_email_requests, 2, "{name}");
    (emulator, answer)
}

#[tokio::test]
async fn every_error_by_name_refuses_once_with_its_status_and_text() {
    for error in ErrorName::ALL.iter().copied() {
        let (emulator, answer) = once(Fault::refuse(error), 0).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.error(), (error.status(), error.as_str()));
        assert_eq!(answer.message(), error.default_text());
        assert_eq!(emulator.requests()[0].error, Some(error.as_str()));
        assert_eq!(emulator.requests()[0].outcome, RequestOutcome::Answered(error.status()));
        emulator.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_can_have_its_own_text_and_retry_time() {
    let fault = Fault::Refuse {
        error: ErrorName::TooManyRequestsException,
        message: Some("slower".to_owned()),
        retry_after: Some(Duration::from_millis(1500)),
    };
    let (emulator, answer) = once(fault, 0).await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, answer.message().as_str()), (429, "slower"));
    assert_eq!(answer.header("x-amz-retry-after"), Some("1500"));
    emulator.stop().await;
}

#[tokio::test]
async fn access_is_denied_in_both_texts_for_the_authors_identity() {
    let resource = "arn:aws:ses:us-east-1:111122223333:identity/example.com";
    let user = "arn:aws:iam::111122223333:user/emulated";
    for (denial, want) in [
        (
            Denial::Bare,
            format!("User `{user}' is not authorized to perform `ses:SendRawEmail' on resource `{resource}'"),
        ),
        (
            Denial::Implicit("identity-based policy".into()),
            format!(
                "User: {user} is not authorized to perform: ses:SendRawEmail on resource: {resource} \
                 because no identity-based policy allows the ses:SendRawEmail action"
            ),
        ),
    ] {
        let (emulator, answer) = once(Fault::AccessDenied(denial), 0).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.error(), (403, "AccessDeniedException"));
        assert_eq!(answer.message(), want);
        emulator.stop().await;
    }
}

#[tokio::test]
async fn a_bare_status_carries_no_error_name() {
    let (emulator, answer) = once(Fault::Status { status: 502, body: "<html>".to_owned() }, 0).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.error(), (502, ""));
    assert_eq!((answer.header("content-type"), &answer.body[..]), (Some("text/html"), &b"<html>"[..]));
    emulator.stop().await;
}

#[tokio::test]
async fn a_reset_before_the_body_is_a_reset_and_nothing_is_accepted() {
    let (emulator, answer) = once(Fault::ResetBeforeBody, 0).await;
    assert_eq!(answer.expect_err("no answer").kind(), ErrorKind::ConnectionReset);
    assert_eq!(emulator.requests()[0].outcome, RequestOutcome::Reset);
    emulator.stop().await;

    // Only the head was sent: the emulator did not wait for the body.
    let (emulator, client) = start(EmulatorSettings::default()).await;
    emulator.script([Fault::ResetBeforeBody]);
    let mut connection = client.connect().await;
    connection.write(b"POST /v2/email/outbound-emails HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n").await;
    assert_eq!(connection.read_answer().await.expect_err("no answer").kind(), ErrorKind::ConnectionReset);
    emulator.stop().await;
}

#[tokio::test]
async fn accept_then_reset_accepts_the_message() {
    let (emulator, answer) = once(Fault::AcceptThenReset, 1).await;
    assert_eq!(answer.expect_err("no answer").kind(), ErrorKind::ConnectionReset);
    assert_eq!(emulator.requests()[0].outcome, RequestOutcome::Reset);
    emulator.stop().await;
}

#[tokio::test]
async fn garbage_and_a_missing_id_accept_the_message() {
    let (emulator, answer) = once(Fault::Garbage, 1).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_err());
    emulator.stop().await;

    let (emulator, answer) = once(Fault::NoMessageId, 1).await;
    assert_eq!(answer.expect("an answer").json(), serde_json::json!({}));
    emulator.stop().await;
}

#[tokio::test]
async fn a_hang_lasts_until_the_client_leaves_and_only_one_kind_takes_the_message() {
    for (fault, accepted) in [(Fault::Hang, 0), (Fault::AcceptThenHang, 1)] {
        let (emulator, client) = start(EmulatorSettings::default()).await;
        emulator.script([fault.clone()]);
        let request = client::small_request("ann@example.com", "bob@example.net").to_string();
        let mut connection = client.connect().await;
        connection.write(&client.sign("POST", "/v2/email/outbound-emails", request.as_bytes())).await;
        let waiting = tokio::time::timeout(Duration::from_millis(100), connection.read_answer()).await;
        assert!(waiting.is_err(), "{fault:?} does not answer");
        assert_eq!(emulator.requests()[0].outcome, RequestOutcome::Open);
        drop(connection);
        client::until(|| emulator.requests()[0].outcome == RequestOutcome::Hung).await;
        client::until(|| emulator.counts().connections_open == 0).await;
        let counts = emulator.counts();
        assert_eq!((counts.send_email_requests, counts.messages_accepted), (1, accepted), "{fault:?}");
        emulator.stop().await;
    }
}

#[tokio::test]
async fn a_hang_ends_by_itself_after_its_longest_time() {
    let mut settings = EmulatorSettings::default();
    settings.bounds.fault_time_max = Duration::from_millis(100);
    let (emulator, client) = start(settings).await;
    emulator.script([Fault::Hang]);
    let answer = client.send("ann@example.com", "bob@example.net").await;
    assert_eq!(answer.expect_err("no answer").kind(), ErrorKind::ConnectionReset);
    assert_eq!(emulator.counts().send_email_requests, 1);
    emulator.stop().await;
}

#[tokio::test]
async fn a_slow_answer_trickles_and_is_whole_in_the_end() {
    let octets_per_second = NonZeroU32::new(1_000).expect("not zero");
    let start = Instant::now();
    let (emulator, answer) = once(Fault::Slow { octets_per_second }, 1).await;
    let answer = answer.expect("an answer");
    assert!(start.elapsed() >= Duration::from_millis(answer.body.len() as u64), "{:?}", start.elapsed());
    assert!(answer.json()["MessageId"].is_string());
    emulator.stop().await;
}

#[tokio::test]
async fn a_slow_answer_breaks_off_after_its_longest_time() {
    let mut settings = EmulatorSettings::default();
    settings.bounds.fault_time_max = Duration::from_millis(100);
    let (emulator, client) = start(settings).await;
    emulator.script([Fault::Slow { octets_per_second: NonZeroU32::new(20).expect("not zero") }]);
    let mut connection = client.connect().await;
    let answer = connection.send(&client, "ann@example.com", "bob@example.net").await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(emulator.counts().send_email_requests, 1);
    emulator.stop().await;
}

#[tokio::test]
async fn a_wrong_signature_is_reported_even_where_a_fault_is_scripted() {
    for fault in [Fault::Hang, Fault::AcceptThenHang, Fault::AcceptThenReset, Fault::Garbage, Fault::throttled()] {
        let (emulator, mut client) = start(EmulatorSettings::default()).await;
        emulator.script([fault.clone()]);
        client.credential.secret_access_key.push('x');
        let answer = client.send("ann@example.com", "bob@example.net").await;
        assert_eq!(answer.expect("an answer").error(), (403, "SignatureDoesNotMatch"), "{fault:?}");
        emulator.stop().await;
    }
}

#[tokio::test]
async fn a_script_runs_in_order_by_number_and_always() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    assert!(emulator.script([Fault::throttled(), Fault::Serve, Fault::unavailable()]));
    assert!(emulator.script_at(5, Fault::internal_error()));
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status);
    }
    assert_eq!(statuses, [429, 200, 503, 200, 500, 200]);
    emulator.script_always(Some(Fault::daily_quota()));
    for _ in 0..3 {
        assert_eq!(
            client.send("ann@example.com", "bob@example.net").await.expect("an answer").error(),
            (400, "LimitExceededException")
        );
    }
    emulator.clear_script();
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    assert_eq!(emulator.counts().send_email_requests, 10);
    assert!(!emulator.script(std::iter::repeat(Fault::Hang)), "an endless script does not fit");
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    emulator.stop().await;
}

#[tokio::test]
async fn latency_delays_the_answer() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    emulator.set_latency(Duration::from_millis(120));
    let start = Instant::now();
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(120));
    emulator.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_response_is_recorded() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    emulator.set_latency(Duration::from_secs(60));
    let request = client::small_request("ann@example.com", "bob@example.net").to_string();
    let mut connection = client.connect().await;
    connection.write(&client.sign("POST", "/v2/email/outbound-emails", request.as_bytes())).await;
    client::until(|| emulator.counts().send_email_requests == 1).await;
    drop(connection);
    client::until(|| emulator.requests()[0].outcome == RequestOutcome::Abandoned).await;
    assert_eq!(emulator.counts().messages_accepted, 0);
    emulator.stop().await;
}
