//! One reply per cause: what the client receives, and what the log says.

use crate::configured_relay::{Note, Site};
use gatepost::emulator::{ErrorName, Fault};

const APP: &str = "[[app]]\nname = 'a'\nnetworks = ['10.1.0.0/16']\nfrom = ['Ann@a.example', '*@b.example']\n";

#[tokio::test]
async fn a_message_that_cannot_be_read_is_refused_with_its_field_and_the_reason() {
    let site = Site::start(APP).await;
    let received = "Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n";
    for (head, want) in [
        ("From: root\r\n", "550 5.7.1 From field: address has no domain"),
        ("From: Cron Daemon\r\n", "550 5.7.1 From field: address has no domain"),
        ("From: <>\r\n", "550 5.7.1 From field: address is missing"),
        ("From: \r\n", "550 5.7.1 From field is empty"),
        ("Subject: x\r\n", "550 5.7.1 Message has no From field"),
        ("From: a@b.example\r\nFrom: a@b.example\r\n", "550 5.7.1 Message has more than one From field"),
        (
            "From: [External] Ann <a@b.example>\r\n",
            "550 5.7.1 From field: display name contains brackets; put it in quotes",
        ),
        ("From: Ann] <a@b.example>\r\n", "550 5.7.1 From field: ] without [ before it; put the display name in quotes"),
        ("From: ceo@c.example <a@b.example>\r\n", "550 5.7.1 From field: display name contains an address"),
        ("From: Ann (x <a@b.example>\r\n", "550 5.7.1 From field: comment is not closed"),
        ("From: a@b..example\r\n", "550 5.7.1 From field: domain of an address is malformed"),
        ("From: a..a@b.example\r\n", "550 5.7.1 From field: local part of an address is malformed"),
        ("From: a @b.example\r\n", "550 5.7.1 From field: white space or comment inside an address"),
        ("From: a@b.example c@b.example\r\n", "550 5.7.1 From field: white space or comment inside an address"),
        ("From: Ann <a@b.example\r\n", "550 5.7.1 From field: angle-address is not closed, or has a route"),
        (
            "From: J\u{fc}rgen <a@b.example>\r\n",
            "550 5.7.1 From field: raw 8-bit or control octets; encode them (RFC 2047)",
        ),
        ("From: a@b.example\r\nSender: root\r\n", "550 5.7.1 Sender field: address has no domain"),
        (
            "From: a@b.example\r\nSender: a@b.example, c@b.example\r\n",
            "550 5.7.1 Sender field: names more than one mailbox",
        ),
        ("From: a@b.example\r\nResent-From: \"x\r\n", "550 5.7.1 Resent-From field: quoted string is not closed"),
        ("From: a@b.example\r\nTo: root\r\n", "554 5.6.0 To field has an address without a domain"),
        ("From: a@b.example\r\nCC: x@y.example\r\nCc: z@y.example\r\n", "554 5.6.0 Duplicate header field: cc"),
        ("From: a@b.example\r\nno field\r\n", "554 5.6.0 Malformed message header: header line 2 is not a field"),
        (&received.repeat(101), "554 5.4.6 Too many hops"),
        (&"X: y\r\n".repeat(1_001), "552 5.3.4 Message header is too large: too many fields"),
        // Once only "From address not permitted": the case of a local part is easily overlooked.
        (
            "From: ann@a.example\r\n",
            "550 5.7.1 From address not permitted: upper and lower case of the local part differ from a permitted address",
        ),
        ("From: eve@a.example\r\n", "550 5.7.1 From address not permitted (ref "),
    ] {
        let text = format!("{head}X-Test: x\r\n\r\nx\r\n");
        let reply = site.send(&Note { from: "Ann@a.example", text: &text, ..Note::default() }).await;
        assert!(reply.starts_with(want) && reply.contains(" (ref "), "{head}\n {reply}");
    }
    site.log.expect(
        "ann@a.example matches no allowed pattern, but Ann@a.example if the case of the local part did not count",
    );
    assert_eq!(site.emulator.counts().send_email_requests, 0);
}

#[tokio::test]
async fn a_command_that_cannot_be_read_is_in_the_log_with_its_argument() {
    let site = Site::start(APP).await;
    let mut client = site.connect("10.1.0.1").await;
    for (command, want) in [
        ("MAIL FROM: Team <a@b.example>", "501 5.1.7 Bad address syntax: text before <"),
        ("MAIL FROM:<scanner>", "501 5.1.7 Bad address syntax: address has no domain (ref "),
        ("MAIL FROM:<a@b.example> RET=FULL", "555 5.5.4 Parameter not recognized or not implemented: RET=FULL"),
        ("MAIL FROM:<ann@a.example>", "550 5.7.1 Envelope sender not permitted: upper and lower case"),
        ("AUTH PLAIN AGFubgBodW50ZXIy", "502"),
        ("aHVudGVyMg==", "500"),
    ] {
        client.say(command).await;
        let reply = client.reply().await;
        assert!(reply.starts_with(want), "{command}: {reply}");
    }
    site.log.expect("FROM: Team <a@b.example>");
    site.log.expect("MAIL FROM:<scanner>: address has no domain");
    site.log.expect("FROM:<a@b.example> RET=FULL");
    for secret in ["AGFubgBodW50ZXIy", "aHVudGVyMg"] {
        assert!(!site.log.lines().concat().contains(secret), "a password is in the log");
    }
}

const REJECTED: &str = "Address staging@example.com is not verified for bob@elsewhere.example, arn:aws:ses:us-east-1:111122223333:\
    identity/x in account 111122223333\r\n250 Ok";

#[tokio::test]
async fn the_text_of_ses_is_passed_on_without_what_belongs_to_the_operator() {
    let text = "From: Ann@a.example\r\nTo: bob@elsewhere.example\r\n\r\nx\r\n";
    let note = Note { from: "Ann@a.example", text, ..Note::default() };
    for (setting, name, want) in [
        (
            "",
            ErrorName::MessageRejected,
            "554 5.7.1 Message rejected by the provider: Address [address] is not verified for \
            bob@elsewhere.example, [ARN] in account [account] 250 Ok (ref ",
        ),
        ("", ErrorName::BadRequestException, "554 5.6.0 Message not acceptable to the provider: Address [address] is"),
        // The operator's to correct: its text is in the log only.
        (
            "",
            ErrorName::NotFoundException,
            "451 4.3.5 Sending is not possible until the operator of this relay corrects its \
            configuration (ref ",
        ),
        ("error_text = false\n", ErrorName::MessageRejected, "554 5.7.1 Message rejected by the provider (ref "),
    ] {
        let site = Site::start_with_ses(setting, &format!("{APP}redirect_to = 'staging@example.com'\n")).await;
        site.emulator.script([Fault::Refuse { error: name, message: Some(REJECTED.to_owned()), retry_after: None }]);
        let reply = site.send(&note).await;
        assert!(reply.starts_with(want), "{setting}{}: {reply}", name.as_str());
        site.log.expect("identity/x in account 111122223333");
    }
}
