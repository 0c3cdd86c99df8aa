//! A message from SMTP to SES: content, recipients and parameters arrive as they were sent and configured.

use crate::support::{NOTE, TestRelay, TestSetup, until, with};
use gatepost::mail::parameters::{
    ConfigurationSetName, EndpointId, Feedback, IdentityArn, ListManagement, ListName, RequestedField, Tag, TagName,
    TagText, TenantName,
};
use gatepost::mail::trace::TraceDetail;
use gatepost::mail::{Mailbox, SendParameters};
use std::time::Duration;

#[tokio::test]
async fn a_message_goes_through_and_the_reply_quotes_the_message_id() {
    let relay = TestRelay::start().await;
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    let message = relay.only_message();
    assert_eq!(reply, format!("250 2.0.0 Ok {}", message.message_id));
    assert_eq!(message.from, "ann@example.com");
    assert_eq!(message.to, ["bob@elsewhere.example"]);
    let raw = String::from_utf8(message.raw.to_vec()).unwrap();
    let (trace, rest) = raw.split_at(raw.find("From:").unwrap());
    assert_eq!(rest, NOTE, "the content is what the client sent, octet for octet");
    assert!(trace.starts_with("Received: from unknown\r\n\tby relay.example with ESMTP id "), "{trace}");
    assert!(!trace.contains("elsewhere") && !trace.contains("127.0.0.1"), "{trace}");
    let parameters = message.parameters;
    assert_eq!(parameters.from_email_address, None, "it would replace the From field");
    assert!(parameters.reply_to_addresses.is_empty());
    assert_eq!(parameters.feedback_forwarding_email_address.as_deref(), Some("ann@example.com"));
    assert_eq!(relay.counts(), (1, 1));
    relay.log.expect("MessageEnded");
}

#[tokio::test]
async fn several_messages_on_one_connection_are_several_calls_on_one_connection() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    for n in 0..5 {
        let reply = client.send("ann@example.com", &[&format!("r{n}@elsewhere.example")], NOTE).await;
        assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    }
    assert_eq!(relay.counts(), (5, 5));
    assert_eq!(relay.emulator.counts().service_connections_opened, 1);
}

/// Clients on two threads: no connection to SES is opened for a message that finds one unused, on whichever of them.
#[tokio::test]
async fn threads_share_their_connections_to_ses() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.latency = Duration::from_millis(100);
        plan
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(relay.client().await);
    }
    for _ in 0..3 {
        for client in &mut clients {
            client.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
            client.expect("250").await;
            client.expect("250").await;
            client.expect("354").await;
        }
        for client in &mut clients {
            client.content(NOTE).await;
        }
        for client in &mut clients {
            client.expect("250 2.0.0 Ok ").await;
        }
    }
    assert_eq!(relay.counts(), (12, 12));
    assert_eq!(relay.emulator.counts().service_connections_opened, 4, "as many as calls in flight");
    drop(clients);
    for _ in 0..3 {
        until("all have gone", || relay.running.connections() == 0).await;
        let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
        assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    }
    assert_eq!(relay.emulator.counts().service_connections_opened, 4);
}

#[tokio::test]
async fn large_content_arrives_octet_for_octet() {
    let relay = TestRelay::start().await;
    // Over one read, over the size that stays in memory, with dots at many places.
    for lines in [2_000, 40_000] {
        let body: String = (0..lines).map(|n| format!("{}{n} . some text\r\n", ".".repeat(n % 4))).collect();
        let content = format!("{NOTE}{body}");
        let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &content).await;
        assert!(reply.starts_with("250"), "{reply}");
        let message = relay.emulator.messages().pop().unwrap();
        assert!(message.raw.ends_with(content.as_bytes()), "{lines} lines");
    }
}

#[tokio::test]
async fn recipients_are_those_of_the_envelope_once_each() {
    let relay = TestRelay::start().await;
    let content = "From: ann@example.com\r\nTo: stranger@elsewhere.example\r\nCc: other@elsewhere.example\r\n\r\nx\r\n";
    let to = ["bob@elsewhere.example", "Bob@elsewhere.example", "bob@ELSEWHERE.example", "bob@elsewhere.example"];
    let reply = relay.send("ann@example.com", &to, content).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(relay.only_message().to, ["bob@elsewhere.example", "Bob@elsewhere.example"]);
}

#[tokio::test]
async fn a_u_label_recipient_goes_out_as_a_labels() {
    let relay = TestRelay::start().await;
    let reply = relay.send("ann@example.com", &["bob@bücher.example"], NOTE).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(relay.only_message().to, ["bob@xn--bcher-kva.example"]);
}

#[tokio::test]
async fn blind_copies_return_paths_and_requests_are_not_sent() {
    let relay = TestRelay::start().await;
    let content = "bcc: secret@elsewhere.example,\r\n hidden@elsewhere.example\r\nFrom: ann@example.com\r\n\
        Resent-Bcc: secret@elsewhere.example\r\nReturn-Path: <evil@elsewhere.example>\r\n\
        X-SES-CONFIGURATION-SET: other\r\nx-ses-source-arn: arn:aws:ses:us-east-1:111122223333:identity/other\r\n\
        To: bob@elsewhere.example\r\n\r\nBcc: in the body stays\r\n";
    let to = ["secret@elsewhere.example", "bob@elsewhere.example"];
    let reply = relay.send("ann@example.com", &to, content).await;
    assert!(reply.starts_with("250"), "{reply}");
    let message = relay.only_message();
    assert_eq!(message.to, to);
    let raw = String::from_utf8(message.raw.to_vec()).unwrap();
    let (header, body) = raw.split_once("\r\n\r\n").unwrap();
    for gone in ["secret", "hidden", "bcc", "return-path", "x-ses"] {
        assert!(!header.to_lowercase().contains(gone), "{gone}: {header}");
    }
    assert!(header.ends_with("From: ann@example.com\r\nTo: bob@elsewhere.example"), "{header}");
    assert_eq!(body, "Bcc: in the body stays\r\n");
    assert_eq!(message.configuration_set, None);
    assert_eq!(message.parameters.from_email_address_identity_arn, None);
}

#[tokio::test]
async fn what_the_operator_set_goes_along_with_every_message() {
    let arn = "arn:aws:ses:us-east-1:444455556666:identity/example.com";
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.delegated_identity_arns = vec![arn.to_owned()];
        plan.emulator.tenants.insert(
            "blue".to_owned(),
            gatepost::emulator::Tenant {
                identities: vec!["example.com".to_owned(), arn.to_owned()],
                configuration_sets: vec!["gatepost-dev".to_owned()],
            },
        );
        plan.app.send = with(SendParameters::default(), |it| {
            it.configuration_set = Some(ConfigurationSetName::parse("gatepost-dev").unwrap());
            it.identity_arn = Some(IdentityArn::parse(arn).unwrap());
            it.tags =
                Some(vec![Tag { name: TagName::parse("app").unwrap(), value: TagText::parse("legacy").unwrap() }]);
            it.tenant = Some(TenantName::parse("blue").unwrap());
            it.list_management = Some(ListManagement {
                contact_list: ListName::parse("list").unwrap(),
                topic: Some(ListName::parse("news").unwrap()),
            });
        });
        plan
    })
    .await;
    let reply = relay.send("bounce@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("250"), "{reply} {:?}", relay.log.lines());
    let message = relay.only_message();
    assert_eq!(message.configuration_set.as_deref(), Some("gatepost-dev"));
    assert_eq!(message.email_tags, [("app".to_owned(), "legacy".to_owned())]);
    assert_eq!(message.parameters.tenant_name.as_deref(), Some("blue"));
    assert_eq!(message.parameters.from_email_address_identity_arn.as_deref(), Some(arn));
    let parameters = message.parameters;
    assert_eq!(parameters.feedback_forwarding_email_address.as_deref(), Some("bounce@example.com"));
    assert_eq!(parameters.feedback_forwarding_email_address_identity_arn.as_deref(), Some(arn));
}

/// Another kind of signature than every other call has; the emulator checks it too.
#[tokio::test]
async fn a_message_with_a_multi_region_endpoint_is_signed_for_every_region() {
    let with_endpoint = |mut plan: TestSetup| {
        plan.app.send.endpoint_id = Some(EndpointId::parse("abc123.def456").unwrap());
        plan
    };
    let relay = TestRelay::with(with_endpoint).await;
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("250"), "{reply} {:?}", relay.log.lines());
    assert_eq!(relay.only_message().parameters.endpoint_id.as_deref(), Some("abc123.def456"));
    let stranger = TestRelay::with(|plan: TestSetup| {
        let mut plan = with_endpoint(plan);
        plan.ses.credentials.as_mut().unwrap().secret_access_key = "wrong".to_owned();
        plan
    });
    let relay = stranger.await;
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(reply.starts_with("451 4.3.5"), "{reply}");
    relay.log.expect("SignatureDoesNotMatch");
}

#[tokio::test]
async fn feedback_goes_where_the_operator_says_and_nowhere_for_a_null_reverse_path() {
    for (feedback, from, want) in [
        (None, "ann@example.com", Some("ann@example.com")),
        (None, "", None),
        (Some(Feedback::Account), "ann@example.com", None),
        (Some(Feedback::Fixed(Mailbox::parse("bounces@example.com").unwrap())), "", Some("bounces@example.com")),
    ] {
        let relay = TestRelay::with(|mut plan: TestSetup| {
            plan.app.null_reverse_path = true;
            plan.app.send.feedback = feedback.clone();
            plan
        })
        .await;
        let reply = relay.send(from, &["bob@elsewhere.example"], NOTE).await;
        assert!(reply.starts_with("250"), "{reply}");
        let got = relay.only_message().parameters.feedback_forwarding_email_address;
        assert_eq!(got.as_deref(), want, "{feedback:?} {from:?}");
    }
}

#[tokio::test]
async fn an_application_may_choose_what_the_operator_lets_it_choose() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.app.requested_fields = vec![RequestedField::ConfigurationSet, RequestedField::MessageTags];
        plan.app.send.configuration_set = Some(ConfigurationSetName::parse("other").unwrap());
        plan
    })
    .await;
    let chosen = format!("X-SES-Configuration-Set: gatepost-dev\r\nX-SES-MESSAGE-TAGS: a=1, b=2\r\n{NOTE}");
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &chosen).await;
    assert!(reply.starts_with("250"), "{reply}");
    let message = relay.only_message();
    assert_eq!(message.configuration_set.as_deref(), Some("gatepost-dev"));
    assert_eq!(message.email_tags.len(), 2);
    assert!(!String::from_utf8_lossy(&message.raw).contains("X-SES"));
    let malformed = format!("X-SES-Configuration-Set: not a name\r\n{NOTE}");
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &malformed).await;
    assert!(reply.starts_with("554 5.6.0"), "{reply}");
}

#[tokio::test]
async fn the_trace_field_shows_what_the_operator_chose() {
    let relay = TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.trace(TraceDetail::Hello))).await;
    relay.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    let raw = String::from_utf8(relay.only_message().raw.to_vec()).unwrap();
    assert!(raw.starts_with("Received: from client.example ([127.0.0.1])\r\n"), "{raw}");
}

#[tokio::test]
async fn a_message_of_header_fields_only_gets_its_blank_line() {
    let relay = TestRelay::start().await;
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], "From: ann@example.com\r\n").await;
    assert!(reply.starts_with("250"), "{reply}");
    assert!(relay.only_message().raw.ends_with(b"From: ann@example.com\r\n\r\n"));
}

#[tokio::test]
async fn what_a_listener_may_be_lenient_about_leaves_as_ses_takes_it() {
    use gatepost::smtp::{LongLines, StrayDots};
    let line = "<p>caf\u{e9}</p>".repeat(200);
    let text =
        format!("From: ann@example.com\r\nSubject: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{line}\r\n");
    let strict = TestRelay::start().await;
    let reply = strict.send("ann@example.com", &["bob@elsewhere.example"], &text).await;
    assert!(reply.starts_with("554 5.6.0 Message line is longer than 998"), "{reply}");
    let relay = TestRelay::with(|plan| {
        plan.smtp(|smtp| {
            smtp.long_lines = LongLines::ReEncode;
            smtp.stray_dots = StrayDots::Quote;
        })
    })
    .await;
    let reply = relay.send("ann@example.com", &["foo..bar@docomo.example"], &text).await;
    assert!(reply.starts_with("250"), "{reply}");
    let message = relay.only_message();
    assert_eq!(message.to, ["\"foo..bar\"@docomo.example"]);
    let raw = String::from_utf8(message.raw.to_vec()).unwrap();
    assert!(raw.lines().all(|line| line.len() <= 998) && raw.contains("caf=C3=A9"), "{raw}");
    // The rules are the same for what comes out: policy judges after.
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &text.replace("ann@", "ceo@other.")).await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    let header = text.replace("Subject: x", &format!("Subject: {}From: ceo@other.example", "x".repeat(998)));
    let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &header).await;
    assert!(reply.starts_with("554 5.6.0 Message line is longer than 998"), "{reply}");
    assert_eq!(relay.counts().1, 1);
}

/// Once, the header ended after its first field, and To, Bcc and Subject were sent as text to everybody.
#[tokio::test]
async fn repaired_line_ends_make_no_blank_line_in_a_header_section() {
    use gatepost::smtp::LineEndings;
    let relay = TestRelay::with(|plan| plan.smtp(|smtp| smtp.line_endings = LineEndings::Normalize)).await;
    let message = "From: ann@example.com\nTo: bob@elsewhere.example\nBcc: eve@elsewhere.example\nSubject: x\n\nbody";
    let want = "From: ann@example.com\r\nTo: bob@elsewhere.example\r\nSubject: x\r\n\r\nbody\r\n";
    for (name, text) in [
        ("CR LF", message.replace('\n', "\r\n")),
        ("LF", message.to_owned()),
        ("CR CR LF", message.replace('\n', "\r\r\n")),
        ("CR CR CR LF", message.replace('\n', "\r\r\r\n")),
        ("fields with CR LF, a blank line with LF", message.replace('\n', "\r\n").replacen("\r\n\r\n", "\n\n", 1)),
        ("one field with CR CR", message.replacen('\n', "\r\r", 1)),
        ("one field with LF CR", message.replacen('\n', "\n\r", 1)),
    ] {
        let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &format!("{text}\r\n")).await;
        assert!(reply.starts_with("250"), "{name}: {reply}");
        let raw = relay.emulator.messages().pop().unwrap().raw;
        assert!(raw.ends_with(want.as_bytes()), "{name}: {}", String::from_utf8_lossy(&raw));
    }
    // Readers differ on where the header section ends.
    for between in ["\r\n\n", "\n\r\n", "\n\r\r\n"] {
        let (from, rest) = message.split_once('\n').unwrap();
        let text = format!("{from}{between}{}\r\n", rest.replace('\n', "\r\n"));
        let reply = relay.send("ann@example.com", &["bob@elsewhere.example"], &text).await;
        assert!(reply.starts_with("550 5.5.2 Message lines must end with CR LF"), "{between:?}: {reply}");
    }
    // No line end of it is one to all readers.
    let reply = relay
        .send("ann@example.com", &["bob@elsewhere.example"], &format!("{}\r\n", message.replace('\n', "\r")))
        .await;
    assert!(reply.starts_with("554 5.6.0 Malformed"), "{reply}");
}

#[tokio::test]
async fn an_mbox_line_is_dropped_where_the_listener_says_so() {
    use gatepost::smtp::MboxLine;
    let text =
        "From ann@example.com Thu Jan  1 00:00:00 2026\r\nFrom: ann@example.com\r\nSubject: x\r\n\r\nFrom here\r\n";
    let to = &["bob@elsewhere.example"];
    let reply = TestRelay::start().await.send("ann@example.com", to, text).await;
    assert!(reply.starts_with("554 5.6.0 Malformed message header: header line 1 is not a field"), "{reply}");
    let relay = TestRelay::with(|plan| plan.smtp(|smtp| smtp.mbox_line = MboxLine::Drop)).await;
    let reply = relay.send("ann@example.com", to, text).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert!(relay.only_message().raw.ends_with(text.split_once("\r\n").unwrap().1.as_bytes()));
    let twice = format!("From x\r\n{text}");
    assert!(relay.send("ann@example.com", to, &twice).await.starts_with("554"), "one line, not more");
}
