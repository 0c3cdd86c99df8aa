//! Which messages SES would accept, and which not.

use super::client::{Answer, request};
use super::*;
use serde_json::{Value, json};

const RAW: &str = "From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hi\r\n\r\nhello\r\n";

fn usual() -> Value {
    request(RAW, &["bob@example.net"])
}

/// The usual request with these members on top.
fn with(members: Value) -> Value {
    let mut request = usual();
    for (name, value) in members.as_object().expect("an object") {
        request[name] = value.clone();
    }
    request
}

/// The usual request with another message.
fn raw(message: &str) -> Value {
    request(message, &["bob@example.net"])
}

async fn send(client: &Client, request: &Value) -> Answer {
    client.send_json(request).await.expect("an answer")
}

#[tokio::test]
async fn what_ses_refuses_is_refused_with_its_text() {
    let mut settings = EmulatorSettings::default();
    settings.configuration_sets.insert("paused".into(), ConfigurationSet { sending_enabled: false });
    settings.tenants.insert(
        "t1".into(),
        Tenant { identities: vec!["example.com".into()], configuration_sets: vec!["gatepost-dev".into()] },
    );
    settings.tenants.insert("t2".into(), Tenant::default());
    let (emulator, client) = start(settings).await;
    let unverified = |address: &str| {
        format!(
            "Email address is not verified. The following identities failed the check in region US-EAST-1: {address}"
        )
    };
    let fifty_one: Vec<_> = (0..51).map(|number| format!("r{number}@example.net")).collect();
    let long_line = format!("From: ann@example.com\r\n\r\n{}\r\n", "x".repeat(999));
    let cases: &[(&str, Value, &str, &str)] = &[
        ("unverified author", raw("From: eve@evil.test\r\n\r\n"), "MessageRejected", &unverified("eve@evil.test")),
        (
            "one of two authors",
            raw("From: ann@example.com, eve@evil.test\r\n\r\n"),
            "MessageRejected",
            &unverified("eve@evil.test"),
        ),
        (
            "unverified Sender",
            raw("From: ann@example.com\r\nSender: eve@evil.test\r\n\r\n"),
            "MessageRejected",
            &unverified("eve@evil.test"),
        ),
        (
            "unverified Return-Path",
            raw("From: ann@example.com\r\nReturn-Path: <eve@evil.test>\r\n\r\n"),
            "MessageRejected",
            &unverified("eve@evil.test"),
        ),
        (
            "unverified feedback address",
            with(json!({"FeedbackForwardingEmailAddress": "eve@evil.test"})),
            "MessageRejected",
            &unverified("eve@evil.test"),
        ),
        (
            "unverified parameter",
            with(json!({"FromEmailAddress": "eve@evil.test"})),
            "MessageRejected",
            &unverified("eve@evil.test"),
        ),
        ("no author at all", raw("To: bob@example.net\r\n\r\n"), "MessageRejected", "Missing required header 'From'."),
        ("no header", raw("\r\nhello\r\n"), "BadRequestException", "Invalid MIME content: no header."),
        (
            "To without a domain",
            raw("From: ann@example.com\r\nTo: root\r\n\r\n"),
            "BadRequestException",
            "Missing final '@domain'",
        ),
        (
            "semicolons in Cc",
            raw("From: ann@example.com\r\nCc: a@x.example; b@y.example\r\n\r\n"),
            "BadRequestException",
            "Illegal semicolon, not in group",
        ),
        (
            "space in Reply-To",
            raw("From: ann@example.com\r\nReply-To: a b@x.example\r\n\r\n"),
            "BadRequestException",
            "Local address contains control or whitespace",
        ),
        (
            "no blank line",
            raw("From: ann@example.com\r\n"),
            "BadRequestException",
            "Invalid MIME content: no blank line between header and body.",
        ),
        (
            "two From fields",
            raw("From: ann@example.com\r\nFrom: ann@example.com\r\n\r\n"),
            "BadRequestException",
            "Duplicate header 'From'.",
        ),
        (
            "two signatures",
            raw("DKIM-Signature: a\r\nDKIM-Signature: b\r\nFrom: ann@example.com\r\n\r\n"),
            "BadRequestException",
            "Duplicate header 'DKIM-Signature'.",
        ),
        (
            "long line",
            raw(&long_line),
            "BadRequestException",
            "Maximum line length exceeded: line 3 has 999 octets, 998 are allowed.",
        ),
        ("no recipients", request(RAW, &[]), "BadRequestException", "There are no recipients specified"),
        ("recipient without domain", request(RAW, &["bob"]), "BadRequestException", "Missing final '@domain'"),
        (
            "one bad recipient of two",
            request(RAW, &["bob@example.net", "eve@"]),
            "BadRequestException",
            "Missing domain",
        ),
        (
            "51 recipients",
            with(json!({"Destination": {"BccAddresses": fifty_one}})),
            "BadRequestException",
            "Recipient count exceeds 50.",
        ),
        (
            "unknown set",
            with(json!({"ConfigurationSetName": "nope"})),
            "NotFoundException",
            "Configuration set <nope> does not exist.",
        ),
        (
            "unknown set in the header",
            raw("From: ann@example.com\r\nX-SES-Configuration-Set: nope\r\n\r\n"),
            "NotFoundException",
            "Configuration set <nope> does not exist.",
        ),
        (
            "paused set",
            with(json!({"ConfigurationSetName": "paused"})),
            "SendingPausedException",
            "Sending paused for the configuration set <paused>.",
        ),
        (
            "set name",
            with(json!({"ConfigurationSetName": "a b"})),
            "BadRequestException",
            "Invalid configuration set name <a b>: only alphanumeric ASCII characters, '_', and '-' are allowed, 64 at most.",
        ),
        (
            "tag name",
            with(json!({"EmailTags": [{"Name": "a.b", "Value": "c"}]})),
            "BadRequestException",
            "Invalid tag name <a.b>: only alphanumeric ASCII characters, '_', and '-' are allowed, 256 at most.",
        ),
        (
            "tag in the header",
            raw("From: ann@example.com\r\nX-SES-MESSAGE-TAGS: a=b, c\r\n\r\n"),
            "BadRequestException",
            "Invalid tag value <>: only alphanumeric ASCII characters, '_', and '-' are allowed, 256 at most.",
        ),
        ("unknown tenant", with(json!({"TenantName": "t3"})), "NotFoundException", "Tenant <t3> does not exist."),
        (
            "tenant without the identity",
            with(json!({"TenantName": "t2"})),
            "AccessDeniedException",
            "User `arn:aws:iam::111122223333:user/emulated' is not authorized to perform `ses:SendRawEmail' on resource \
             `arn:aws:ses:us-east-1:111122223333:identity/example.com'",
        ),
        (
            "other content",
            json!({"Content": {"Simple": {}}}),
            "BadRequestException",
            "The emulator supports Content.Raw only.",
        ),
        (
            "foreign identity ARN",
            with(json!({"FromEmailAddressIdentityArn": "arn:aws:ses:us-east-1:999999999999:identity/example.com"})),
            "MessageRejected",
            &unverified("ann@example.com"),
        ),
    ];
    for (name, request, error, message) in cases {
        let answer = send(&client, request).await;
        assert_eq!((answer.error().1, answer.message().as_str()), (*error, *message), "{name}");
    }
    assert!(emulator.messages().is_empty());
    assert_eq!(emulator.counts().send_email_requests, cases.len() as u64);
    emulator.stop().await;
}

#[tokio::test]
async fn what_ses_accepts_is_accepted() {
    let mut settings = EmulatorSettings::default();
    let delegated = "arn:aws:ses:us-east-1:999999999999:identity/example.org";
    settings.delegated_identity_arns.push(delegated.to_owned());
    settings.identities[0].configuration_set = Some("gatepost-dev".to_owned());
    settings.tenants.insert(
        "t1".into(),
        Tenant { identities: vec!["example.com".into()], configuration_sets: vec!["gatepost-dev".into()] },
    );
    let (emulator, client) = start(settings).await;
    let fifty: Vec<_> = (0..50).map(|number| format!("r{number}@example.net")).collect();
    let long_line = format!("From: ann@example.com\r\n\r\n{}\r\n", "x".repeat(998));
    for (name, request) in [
        ("usual", usual()),
        ("50 recipients", with(json!({"Destination": {"ToAddresses": fifty}}))),
        ("998 octets", raw(&long_line)),
        ("parameter replaces a foreign From", {
            let mut request = raw("From: eve@evil.test\r\n\r\n");
            request["FromEmailAddress"] = json!("Ann <ann@example.com>");
            request
        }),
        ("parameter and no From field", {
            let mut request = raw("To: bob@example.net\r\n\r\n");
            request["FromEmailAddress"] = json!("ann@example.com");
            request
        }),
        ("null return path", raw("Return-Path: <>\r\nFrom: ann@example.com\r\n\r\n")),
        ("tenant", with(json!({"TenantName": "t1"}))),
        ("a comment after the Sender", raw("From: ann@example.com\r\nSender: app@example.com (Cron Daemon)\r\n\r\n")),
        ("an empty group in To", raw("From: ann@example.com\r\nTo: undisclosed-recipients:;\r\n\r\n")),
        ("tags of SES's own", with(json!({"EmailTags": [{"Name": "ses:feedback-id-a", "Value": "x"}]}))),
        ("delegated identity", {
            let mut request = raw("From: ann@example.org\r\n\r\n");
            request["FromEmailAddressIdentityArn"] = json!(delegated);
            request
        }),
    ] {
        let answer = send(&client, &request).await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
    let messages = emulator.messages();
    assert!(messages.iter().take(7).all(|message| message.configuration_set.as_deref() == Some("gatepost-dev")));
    assert_eq!(messages[3].from, "ann@example.com");
    assert!(messages[3].readings.authors().contains("eve@evil.test"), "the octets are messages as they came");
    emulator.stop().await;
}

#[tokio::test]
async fn without_destination_the_header_names_the_recipients() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let mut request = raw(
        "From: ann@example.com\r\nTo: a@example.net, B <b@example.net>\r\nCc: c@example.net\r\nBcc: d@example.net\r\n\r\n",
    );
    assert_eq!(send(&client, &request).await.status, 200);
    request.as_object_mut().expect("an object").remove("Destination");
    assert_eq!(send(&client, &request).await.status, 200);
    let messages = emulator.messages();
    assert_eq!(messages[0].to, ["bob@example.net"], "with a destination, exactly that");
    assert_eq!(messages[1].to, ["a@example.net", "b@example.net", "c@example.net", "d@example.net"]);
    emulator.stop().await;
}

#[tokio::test]
async fn tags_come_from_the_parameter_or_the_header_and_are_not_merged() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let mut request = raw("From: ann@example.com\r\nX-SES-MESSAGE-TAGS: a=1, b=2\r\n\r\n");
    send(&client, &request).await;
    request["EmailTags"] = json!([{"Name": "c", "Value": "3"}]);
    send(&client, &request).await;
    let tags: Vec<_> = emulator.messages().into_iter().map(|message| message.email_tags).collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(tags, [vec![pair("a", "1"), pair("b", "2")], vec![pair("c", "3")]]);
    emulator.stop().await;
}

#[tokio::test]
async fn the_size_after_base64_is_bounded() {
    let mut settings = EmulatorSettings::default();
    settings.bounds.message_octets_max = 4_000;
    let (emulator, client) = start(settings).await;
    let message = |octets: usize| {
        let head = "From: ann@example.com\r\n\r\n";
        format!("{head}{}", "x\r\n".repeat((octets - head.len()) / 3)) + &"x".repeat((octets - head.len()) % 3)
    };
    assert_eq!(send(&client, &raw(&message(3_000))).await.status, 200);
    let refused = send(&client, &raw(&message(3_001))).await;
    assert_eq!(refused.error(), (400, "BadRequestException"));
    assert_eq!(refused.message(), "Message length is more than 4000 bytes long: '4004'.");
    // Above the limit of a request body: refused from the declared length, or while the body is read.
    let huge = vec![b' '; 400_000];
    let signed = client.sign("POST", "/v2/email/outbound-emails", &huge);
    assert_eq!(client.connect().await.exchange(&signed).await.map(|answer| answer.status).unwrap_or(413), 413);
    emulator.stop().await;
}

#[tokio::test]
async fn forty_megabytes_pass_and_no_more() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let most = EmulatorSettings::default().bounds.message_octets_max / 4 * 3;
    let mut message = String::from("From: ann@example.com\r\n\r\n");
    while message.len() + 100 <= most {
        message.push_str(
            "123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-12345678\r\n",
        );
    }
    message.push_str(&"x".repeat(most - message.len()));
    assert_eq!(send(&client, &raw(&message)).await.status, 200);
    message.push('x');
    assert_eq!(send(&client, &raw(&message)).await.error(), (400, "BadRequestException"));
    assert_eq!(emulator.counts().messages_accepted, 1);
    emulator.stop().await;
}

#[tokio::test]
async fn the_sandbox_knows_verified_recipients_rate_and_quota() {
    let mut settings = EmulatorSettings { account: AccountSettings::sandbox(), ..EmulatorSettings::default() };
    settings.account.recipients_per_day_max = Some(3);
    settings.account.recipients_per_second_max = None;
    let (emulator, client) = start(settings.clone()).await;
    let refused = client.send("ann@example.com", "bob@example.net").await.expect("an answer");
    assert_eq!(refused.error(), (400, "MessageRejected"));
    assert!(refused.message().ends_with(": bob@example.net"));
    for recipient in ["bob@example.com", "success@simulator.amazonses.com", "eve@a.example.com", "zoe@example.com"] {
        assert_eq!(client.send("ann@example.com", recipient).await.expect("an answer").status, 200, "{recipient}");
    }
    let refused = client.send("ann@example.com", "bob@example.com").await.expect("an answer");
    assert_eq!(refused.error(), (400, "LimitExceededException"));
    assert_eq!(refused.message(), "Daily message quota exceeded.");
    emulator.stop().await;

    settings.account.recipients_per_day_max = None;
    settings.account.recipients_per_second_max = Some(0.001);
    let (emulator, client) = start(settings).await;
    assert_eq!(client.send("ann@example.com", "bob@example.com").await.expect("an answer").status, 200);
    let refused = client.send("ann@example.com", "bob@example.com").await.expect("an answer");
    assert_eq!(refused.error(), (429, "TooManyRequestsException"));
    assert_eq!(refused.message(), "Maximum sending rate exceeded.");
    assert_eq!(emulator.counts().messages_accepted, 1);
    emulator.stop().await;
}

#[tokio::test]
async fn an_account_that_may_not_send_returns_the_reason() {
    for (change, want) in [
        (AccountSettings { sending_enabled: false, ..AccountSettings::default() }, "SendingPausedException"),
        (
            AccountSettings { enforcement: Enforcement::Shutdown, ..AccountSettings::default() },
            "AccountSuspendedException",
        ),
    ] {
        let (emulator, client) = start(EmulatorSettings { account: change, ..EmulatorSettings::default() }).await;
        assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").error(), (400, want));
        emulator.stop().await;
    }
    let mut settings = EmulatorSettings::default();
    settings.denied_actions.insert("ses:SendRawEmail".to_owned(), Denial::Bare);
    let (emulator, client) = start(settings).await;
    let answer = client.send("ann@example.com", "bob@example.net").await.expect("an answer");
    assert_eq!(answer.error(), (403, "AccessDeniedException"));
    assert_eq!(
        answer.message(),
        "User `arn:aws:iam::111122223333:user/emulated' is not authorized to perform `ses:SendRawEmail' \
         on resource `arn:aws:ses:us-east-1:111122223333:identity/example.com'"
    );
    emulator.stop().await;
}
