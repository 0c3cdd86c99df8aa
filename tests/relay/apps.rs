//! Applications end to end: from a configuration file to what SES receives.

use crate::configured_relay::{Note, Site, header};

const TWO: &str = "[[app]]\nname = 'a'\nnetworks = ['10.1.0.0/16']\nfrom = ['*@a.example']\nconfiguration_set = 'set-a'\n\
    tags = { app = '{app}', kind = 'invoice' }\n\
    [[app]]\nname = 'b'\nnetworks = ['10.2.0.0/16', 'fd00:2::/32']\nfrom = ['*@b.example']\nconfiguration_set = 'set-b'\n\
    feedback = 'bounces@example.com'\n";

fn from(address: &str) -> String {
    format!("From: {address}\r\nSubject: x\r\n\r\nx\r\n")
}

/// An application's section with more lines in it.
fn app(lines: &str) -> String {
    format!("[[app]]\nname = 'a'\nnetworks = ['10.1.0.0/16']\nfrom = ['*@a.example']\n{lines}\n")
}

#[tokio::test]
async fn two_applications_on_one_port_have_rights_of_their_own() {
    let site = Site::start(TWO).await;
    let a = Note::default();
    let text = from("ann@b.example");
    let b = Note { client: "10.2.0.1", from: "ann@b.example", text: &text, ..a };
    assert!(site.send(&a).await.starts_with("250"));
    let message = site.newest();
    assert_eq!(message.configuration_set.as_deref(), Some("set-a"));
    assert_eq!(message.email_tags, [("app".to_owned(), "a".to_owned()), ("kind".to_owned(), "invoice".to_owned())]);
    assert_eq!(message.parameters.feedback_forwarding_email_address.as_deref(), Some("ann@a.example"));
    for client in ["10.2.0.1", "fd00:2::1"] {
        assert!(site.send(&Note { client, ..b }).await.starts_with("250"));
        let message = site.newest();
        assert_eq!((message.configuration_set.as_deref(), message.email_tags.len()), (Some("set-b"), 0));
        assert_eq!(message.parameters.feedback_forwarding_email_address.as_deref(), Some("bounces@example.com"));
    }
    site.log.expect("app: Some(\"b\")");
    // Each with the other's From, envelope, and both; and somebody who is neither.
    for (note, want) in [
        (Note { client: "10.2.0.1", ..a }, "550 5.7.1 Envelope sender"),
        (Note { client: "10.1.0.1", ..b }, "550 5.7.1 Envelope sender"),
        (Note { text: &text, ..a }, "550 5.7.1 From address"),
        (Note { client: "10.3.0.1", ..a }, "550 5.7.1 Sending is not permitted for this client"),
        (Note { client: "127.0.0.1", ..a }, "550 5.7.1 Sending is not permitted for this client"),
    ] {
        let reply = site.send(&note).await;
        assert!(reply.starts_with(want), "{note:?}: {reply}");
    }
    assert_eq!(site.emulator.messages().len(), 3);
}

#[tokio::test]
async fn an_auth_name_is_more_specific_than_a_network_and_fills_a_tag() {
    let sections = format!(
        "{TWO}[[app]]\nname = 'named'\nauth = ['ann@shop']\nfrom = ['*@example.com']\ntags = {{ user = '{{auth}}' }}\n"
    );
    let site = Site::with_user("ann@shop", &sections).await;
    let text = from("ann@example.com");
    let note = Note { auth: Some("ann@shop"), from: "ann@example.com", text: &text, ..Note::default() };
    let reply = site.send(&note).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(site.newest().email_tags, [("user".to_owned(), "ann_shop".to_owned())]);
    // Without AUTH it is the network's application; from nowhere known, AUTH could still help.
    assert!(site.send(&Note { auth: None, ..note }).await.starts_with("550 5.7.1 Envelope sender"));
    let nowhere = Note { auth: None, client: "10.9.0.1", ..note };
    assert!(site.send(&nowhere).await.starts_with("530 5.7.0"));
}

#[tokio::test]
async fn a_foreign_author_is_rewritten_and_kept_in_reply_to() {
    let site = Site::start(&app("foreign_from = 'rewrite'\nown_from = 'Shop Büro <shop@a.example>'")).await;
    let text = "From: Customer <c@customer.example>\r\nSender: x@customer.example\r\nSubject: x\r\n\r\nx\r\n";
    assert!(site.send(&Note { text, ..Note::default() }).await.starts_with("250"));
    let message = site.newest();
    assert_eq!(message.from, "shop@a.example");
    let got = header(&message);
    assert!(got.contains("\r\nReply-To: Customer <c@customer.example>\r\n"), "{got}");
    assert!(
        got.contains("\r\nFrom: =?utf-8?q?") && got.matches("From:").count() == 1 && !got.contains("Sender:"),
        "{got}"
    );
    // A Reply-To that is there stays; an author that fits stays.
    let text = "From: c@customer.example\r\nReply-To: other@customer.example\r\n\r\nx\r\n";
    assert!(site.send(&Note { text, ..Note::default() }).await.starts_with("250"));
    assert!(header(&site.newest()).contains("\r\nReply-To: other@customer.example\r\n"));
    assert!(site.send(&Note::default()).await.starts_with("250"));
    assert_eq!(site.newest().from, "ann@a.example");
}

/// Once, From had to be readable before it could be replaced: scanners and cron were refused on the very listener that
/// exists for them.
#[tokio::test]
async fn what_policy_replaces_need_not_be_readable() {
    let lines = "foreign_from = 'rewrite'\nmissing_from = 'fill'\nown_from = 'shop@a.example'";
    let site = Site::start(&app(lines)).await;
    for head in [
        "From: root (Cron Daemon)\r\n",
        "From:\r\n",
        "From: \r\n",
        "From: J\u{fc}rgen <j@a.example>\r\n",
        "From: ann@a.example, \"open\r\n",
        "From: a@a.example\r\nFrom: b@a.example\r\n",
        "From: undisclosed:;\r\n",
        "From: eve@b.example\r\nSender: root\r\n",
        "From: eve@b.example\r\nResent-From: eve@b.example\r\nResent-Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n",
        "From: root\r\nResent-Sender: root (Cron)\r\n",
        "From: \"ceo@b.example\" <ann@a.example>\r\n",
        "Sender: eve@b.example\r\n",
        "Resent-From: eve@b.example\r\n",
    ] {
        let text = format!("{head}Subject: x\r\n\r\nx\r\n");
        let reply = site.send(&Note { text: &text, ..Note::default() }).await;
        assert!(reply.starts_with("250"), "{head}: {reply}");
        let got = header(&site.newest());
        assert!(got.contains("\r\nFrom: shop@a.example\r\n") && got.matches("From:").count() == 1, "{head}: {got}");
        assert!(!got.contains("Sender:") && !got.contains("Resent-"), "{head}: {got}");
    }
    // Who is replaced stays reachable, also where Reply-To is there and empty.
    let text = "From: Eve <eve@b.example>\r\nReply-To: \r\n\r\nx\r\n";
    assert!(site.send(&Note { text, ..Note::default() }).await.starts_with("250"));
    let got = header(&site.newest());
    assert!(got.contains("\r\nReply-To: Eve <eve@b.example>\r\n") && got.matches("Reply-To").count() == 1, "{got}");
    // What fits stays, and so does a Resent field that fits.
    let text = "From: eve@b.example\r\nResent-From: ann@a.example\r\n\r\nx\r\n";
    assert!(site.send(&Note { text, ..Note::default() }).await.starts_with("250"));
    assert!(header(&site.newest()).contains("\r\nResent-From: ann@a.example\r\n"));
    // Where only a missing From is filled, one that cannot be read is refused.
    let site = Site::start(&app("missing_from = 'fill'\nown_from = 'shop@a.example'\nenforcement = 'report'")).await;
    for (head, field) in
        [("From: root (Cron Daemon)\r\n", "From"), ("From: ann@a.example\r\nSender: root\r\n", "Sender")]
    {
        let text = format!("{head}Subject: x\r\n\r\nx\r\n");
        let reply = site.send(&Note { text: &text, ..Note::default() }).await;
        assert!(reply.starts_with(&format!("550 5.7.1 {field} field: address has no domain")), "{head}: {reply}");
    }
}

#[tokio::test]
async fn a_reverse_path_that_is_no_address_is_null_where_it_is_not_checked() {
    let site = Site::start(&app("unchecked = ['reverse-path']")).await;
    for from in ["scanner", "root@", "a b@a.example", "@a.example"] {
        let reply = site.send(&Note { from, ..Note::default() }).await;
        let malformed = from.starts_with('@');
        assert!(reply.starts_with(if malformed { "501" } else { "250" }), "{from}: {reply}");
    }
    assert_eq!(site.newest().parameters.feedback_forwarding_email_address, None);
    for lines in ["", "null_reverse_path = true", "enforcement = 'report'"] {
        let site = Site::start(&app(lines)).await;
        let reply = site.send(&Note { from: "scanner", ..Note::default() }).await;
        assert!(reply.starts_with("501 5.1.7"), "{lines}: {reply}");
    }
}

/// Once, SES refused such a message after the relay had judged it, and said no field.
#[tokio::test]
async fn an_address_field_that_ses_cannot_read_is_refused_by_name_or_repaired() {
    let message = |field: &str| format!("From: ann@a.example\r\n{field}\r\nSubject: x\r\n\r\nx\r\n");
    let rows = [
        ("To: root", "To field has an address without a domain", None),
        ("Cc: a@x.example; b@y.example", "Cc field has a semicolon", Some("Cc: a@x.example,\r\n\tb@y.example\r\n")),
        ("To: =?utf-8?q?a=40x=2Eexample?=", "To field has a whole address", Some("To: a@x.example\r\n")),
        ("Reply-To: a b@x.example", "Reply-To field has white space", None),
        (
            "To: J\u{fc}rgen <j\u{fc}@x.example>, Bob <b@y.example>",
            "To field has an address outside ASCII",
            Some("To: Bob <b@y.example>\r\n"),
        ),
    ];
    let (strict, lenient) =
        (Site::start(&app("enforcement = 'report'")).await, Site::start(&app("address_fields = 'repair'")).await);
    for (field, told, repaired) in rows {
        let text = message(field);
        let note = Note { text: &text, ..Note::default() };
        let reply = strict.send(&note).await;
        assert!(reply.starts_with(&format!("554 5.6.0 {told}")), "{field}: {reply}");
        let reply = lenient.send(&note).await;
        assert!(reply.starts_with("250"), "{field}: {reply}");
        let (name, _) = field.split_once(':').unwrap();
        let got = header(&lenient.newest());
        match repaired {
            Some(want) => assert!(got.contains(&format!("\r\n{want}")), "{field}: {got}"),
            None => assert!(!got.contains(&format!("\r\n{name}:")), "{field}: {got}"),
        }
    }
    for field in ["X-None: x", "To: undisclosed-recipients:;", "To: ann@a.example <ann@a.example>", "Cc: a@x.example,"]
    {
        let text = message(field);
        let reply = strict.send(&Note { text: &text, ..Note::default() }).await;
        assert!(reply.starts_with("250"), "{field}: {reply}");
    }
}

#[tokio::test]
async fn fields_of_the_client_are_taken_out_where_the_operator_says_so() {
    let text = "Received: from inside by x; Thu, 1 Jan 2026 00:00:00 +0000\r\nFrom: ann@a.example\r\n\
                X-Originating-IP: [10.1.2.3]\r\nX-PHP-Originating-Script: 0:mail.php\r\nSubject: x\r\n\r\nx\r\n";
    let note = Note { text, ..Note::default() };
    let site = Site::start(&app("")).await;
    assert!(site.send(&note).await.starts_with("250"));
    let got = header(&site.newest());
    assert!(
        got.contains("from inside") && got.contains("X-PHP-Originating-Script") && got.contains("10.1.2.3"),
        "{got}"
    );
    let site = Site::start(&app("remove_fields = ['received', 'X-Originating-IP', 'X-PHP-Originating-Script']")).await;
    assert!(site.send(&note).await.starts_with("250"));
    let got = header(&site.newest());
    assert!(!got.contains("from inside") && !got.contains("X-PHP") && !got.contains("10.1.2.3"), "{got}");
    assert!(got.starts_with("Received: from unknown\r\n\tby relay.example "), "our own trace field stays: {got}");
}

#[tokio::test]
async fn what_is_missing_is_filled_in_or_refused_as_the_operator_says() {
    let fill =
        app("missing_from = 'fill'\nown_from = 'shop@a.example'\nmissing_date = 'fill'\nmissing_message_id = 'fill'");
    let site = Site::start(&fill).await;
    let bare = Note { text: "Subject: x\r\n\r\nx\r\n", ..Note::default() };
    assert!(site.send(&bare).await.starts_with("250"));
    let got = header(&site.newest());
    for field in ["\r\nFrom: shop@a.example\r\n", "\r\nDate: ", "\r\nMessage-ID: <", "@relay.example>\r\n"] {
        assert!(got.contains(field), "{field} in {got}");
    }
    let refuse = Site::start(&app("missing_date = 'refuse'")).await;
    assert!(refuse.send(&bare).await.starts_with("550 5.7.1 Message has no From"));
    assert!(refuse.send(&Note::default()).await.starts_with("550 5.6.0 Message lacks"));
}

#[tokio::test]
async fn staging_mail_reaches_one_address_even_where_rules_only_report() {
    for enforcement in ["enforce", "report"] {
        let lines = format!("redirect_to = 'stage@example.com'\nenforcement = '{enforcement}'");
        let site = Site::start(&app(&lines)).await;
        let to = &["one@elsewhere.example", "two@elsewhere.example"];
        assert!(site.send(&Note { to, ..Note::default() }).await.starts_with("250"));
        let message = site.newest();
        assert_eq!(message.to, ["stage@example.com"]);
        let kept = "X-Original-Recipients: one@elsewhere.example,\r\n\ttwo@elsewhere.example\r\n";
        assert!(header(&message).contains(kept), "{}", header(&message));
        // Once, what would have been refused passed without its redirect, and reached people.
        let text = from("eve@b.example");
        let reply = site.send(&Note { to, text: &text, ..Note::default() }).await;
        assert!(reply.starts_with(if enforcement == "report" { "250" } else { "550" }), "{reply}");
        assert!(site.emulator.messages().iter().all(|message| message.to == ["stage@example.com"]));
    }
}

#[tokio::test]
async fn report_mode_lets_pass_and_logs_and_never_admits_strangers() {
    let site = Site::start(&format!("[policy]\nenforcement = 'report'\n{}", app("null_reverse_path = false"))).await;
    let text = from("eve@b.example");
    let note = Note { from: "eve@b.example", text: &text, ..Note::default() };
    assert!(site.send(&note).await.starts_with("250"));
    site.log.expect("WouldRefuse");
    site.log.expect("reverse_path: 550 5.7.1 Envelope sender not permitted");
    site.log.expect("author: 550 5.7.1 From address not permitted");
    assert!(site.send(&Note { client: "10.9.0.1", ..note }).await.starts_with("550 5.7.1 Sending is not permitted"));
}

#[tokio::test]
async fn soft_fail_is_each_applications_own_and_policys_for_the_rest() {
    let sections = format!(
        "[policy]\nsoft_fail = true\n{}[[app]]\nname = 'hard'\nnetworks = ['10.2.0.0/16']\nfrom = ['*@a.example']\n\
         soft_fail = false\n",
        app("")
    );
    let site = Site::start(&sections).await;
    let text = from("eve@b.example");
    let note = Note { text: &text, ..Note::default() };
    assert!(site.send(&note).await.starts_with("451 4.7.1 From address"));
    assert!(site.send(&Note { client: "10.2.0.1", ..note }).await.starts_with("550 5.7.1 From address"));
    assert!(site.send(&Note { client: "10.9.0.1", ..note }).await.starts_with("451 4.7.1 Sending"));
}

#[tokio::test]
async fn resent_fields_display_names_recipients_sizes_and_attachments_are_judged() {
    let site = Site::start(&app(
        "display_names = ['Billing*']\nrecipients_denied = ['ceo@elsewhere.example']\nrecipients_max = 2\n\
         message_octets_max = 3000\nattachments_denied = ['pdf']",
    ))
    .await;
    let attached = "From: ann@a.example\r\nContent-Type: application/pdf; name=\"a.PDF\"\r\n\r\nx\r\n";
    let large = format!("From: ann@a.example\r\n\r\n{}", "0123456789\r\n".repeat(300));
    for (text, to, want) in [
        ("From: Billing Team <ann@a.example>\r\n\r\nx\r\n", &["x@e.example"][..], "250"),
        ("From: CEO <ann@a.example>\r\n\r\nx\r\n", &["x@e.example"], "550 5.7.1 From address"),
        ("From: ann@a.example\r\nResent-From: eve@b.example\r\n\r\nx\r\n", &["x@e.example"], "550 5.7.1 Sender"),
        ("From: ann@a.example\r\nResent-Sender: eve@b.example\r\n\r\nx\r\n", &["x@e.example"], "550 5.7.1 Sender"),
        ("From: ann@a.example\r\nResent-From: bob@a.example\r\n\r\nx\r\n", &["x@e.example"], "250"),
        (attached, &["x@e.example"], "550 5.7.1 Attachment"),
        (large.as_str(), &["x@e.example"], "552 5.3.4"),
        ("From: ann@a.example\r\n\r\nx\r\n", &["ceo@elsewhere.example"], "550 5.7.1 Recipient"),
        ("From: ann@a.example\r\n\r\nx\r\n", &["1@e.example", "2@e.example", "3@e.example"], "452 4.5.3"),
    ] {
        let reply = site.send(&Note { text, to, ..Note::default() }).await;
        assert!(reply.starts_with(want), "{text}: {reply}");
    }
    // What SES refuses is the default.
    let site = Site::start(&app("")).await;
    let text = attached.replace("PDF", "exe");
    assert!(site.send(&Note { text: &text, ..Note::default() }).await.starts_with("550 5.7.1 Attachment"));
}

#[tokio::test]
async fn an_application_chooses_by_header_only_what_its_list_says() {
    let lines = "requested_fields = ['configuration-set']\nconfiguration_set = 'set-a'\ntags = { kind = 'own' }";
    let site = Site::start(&app(lines)).await;
    let text = "From: ann@a.example\r\nX-SES-CONFIGURATION-SET: set-b\r\nX-SES-MESSAGE-TAGS: kind=theirs\r\n\r\nx\r\n";
    assert!(site.send(&Note { text, ..Note::default() }).await.starts_with("250"));
    let message = site.newest();
    assert_eq!(message.configuration_set.as_deref(), Some("set-b"));
    assert_eq!(message.email_tags, [("kind".to_owned(), "own".to_owned())]);
    assert!(!header(&message).to_uppercase().contains("X-SES-"));
}

#[tokio::test]
async fn an_identity_of_another_account_and_a_role_are_the_applications_own() {
    let arn = "arn:aws:ses:us-east-1:444455556666:identity/other.example";
    let other = format!(
        "{}[[app]]\nname = 'other'\nnetworks = ['10.2.0.0/16']\nfrom = ['*@other.example']\nidentity_arn = '{arn}'\n\
         assume_role = 'arn:aws:iam::111122223333:role/other'\n",
        app("")
    );
    let site = Site::start(&other).await;
    assert!(site.send(&Note::default()).await.starts_with("250"));
    let plain = site.newest();
    let text = from("ann@other.example");
    let note = Note { client: "10.2.0.1", from: "ann@other.example", text: &text, ..Note::default() };
    let reply = site.send(&note).await;
    assert!(reply.starts_with("250"), "{reply}");
    let message = site.newest();
    assert_eq!(message.parameters.from_email_address_identity_arn.as_deref(), Some(arn));
    assert_eq!(message.parameters.feedback_forwarding_email_address_identity_arn.as_deref(), Some(arn));
    assert_eq!(plain.access_key_id, "AKIAIOSFODNN7EXAMPLE");
    assert_eq!(message.access_key_id, "ASIAGATEPOSTROLE0000", "with the emulator, a role has a key pair of its own");
}

#[tokio::test]
async fn iam_documents_of_one_application_and_of_all_are_evaluated() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name).display().to_string()
    };
    let allow = write(
        "a.json",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ses:SendEmail","ses:SendRawEmail"],
            "Resource":["arn:aws:ses:us-east-1:111122223333:identity/a.example","arn:aws:ses:us-east-1:111122223333:configuration-set/set-a"],
            "Condition":{"StringEquals":{"ses:FromAddress":"ann@a.example","ses:FeedbackAddress":"ann@a.example",
                                         "aws:PrincipalTag/team":"shop"}}}]}"#,
    );
    let relay = write(
        "all.json",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ses:*","Resource":"*"},
            {"Sid":"NotThere","Effect":"Deny","Action":"ses:SendEmail","Resource":"*",
             "Condition":{"ForAnyValue:StringLike":{"ses:Recipients":"*@forbidden.example"}}}]}"#,
    );
    let sections = format!(
        "[policy]\ndocuments = ['{relay}']\n{}",
        app(&format!("documents = ['{allow}']\nconfiguration_set = 'set-a'\nprincipal_tags = {{ team = 'shop' }}"))
            .replace("from = ['*@a.example']\n", "")
    );
    let site = Site::start(&sections).await;
    let reply = site.send(&Note::default()).await;
    assert!(reply.starts_with("250"), "{reply}");
    let (eve, bob) = (from("eve@a.example"), from("ann@a.example"));
    for (note, detail) in [
        (Note { text: &eve, ..Note::default() }, "implicitDeny of ses:SendRawEmail"),
        (Note { from: "bob@a.example", text: &bob, ..Note::default() }, "implicitDeny of ses:SendRawEmail"),
        (Note { to: &["x@forbidden.example"], ..Note::default() }, "all.json, statement 2 (\\\"NotThere\\\")"),
    ] {
        let reply = site.send(&note).await;
        assert!(reply.starts_with("550 5.7.1 Sending is not permitted by policy"), "{note:?}: {reply}");
        site.log.expect(detail);
    }
    // What is explained names every statement that was looked at.
    let explanation = site.explain(&Note { text: &eve, ..Note::default() }).await;
    let notes: Vec<String> =
        explanation.steps.last().unwrap().notes.iter().map(|note| format!("{}: {}", note.topic, note.text)).collect();
    let condition = "a.json, statement 1: its condition does not hold: ses:FromAddress is eve@a.example; StringEquals \
                     ann@a.example";
    assert!(notes.iter().any(|note| note.ends_with(condition)), "{notes:#?}");
    assert!(notes.iter().any(|note| note == "rule: iam_document"), "{notes:#?}");
}
