//! What `explain` says is what the wire says: for generated configurations, clients, envelopes and messages.

use crate::configured_relay::{Note, Site};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

/// Generated messages a configuration; each is one connection and one explanation.
const NOTES: usize = 60;

/// The rules of two applications and of everybody else, one choice a line.
fn sections() -> impl Strategy<Value = String> {
    let line = |choices: &'static [&'static str]| proptest::sample::select(choices);
    let rules = (
        line(&["", "unchecked = ['sender']\n", "unchecked = ['reverse-path']\n", "unchecked = ['resent', 'from']\n"]),
        line(&["", "null_reverse_path = true\n"]),
        line(&["", "foreign_from = 'rewrite'\nown_from = 'Own <own@a.example>'\n"]),
        line(&["", "missing_date = 'fill'\n", "missing_date = 'refuse'\n"]),
        line(&["", "recipients_allowed = ['*@e.example']\n", "recipients_denied = ['two@e.example']\n"]),
        line(&["", "recipients_max = 1\n", "message_octets_max = 600\n"]),
        line(&["", "redirect_to = 'stage@example.com'\n", "display_names = ['Ann*', 'Own']\n"]),
        line(&["", "enforcement = 'report'\n", "soft_fail = true\n"]),
        line(&["", "requested_fields = ['tenant', 'configuration-set']\n"]),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i)| [a, b, c, d, e, f, g, h, i].concat());
    (rules.clone(), rules, proptest::bool::ANY).prop_map(|(first, second, others)| {
        let from = "from = ['*@a.example', '*@example.com']\n";
        let others = if others { format!("[policy]\nclients = ['10.3.0.0/16']\n{from}") } else { String::new() };
        format!(
            "[[app]]\nname = 'first'\nnetworks = ['10.1.0.0/16']\n{from}{first}[[app]]\nname = 'second'\n\
             auth = ['ann']\n{from}{second}{others}"
        )
    })
}

#[derive(Clone, Debug)]
struct Generated {
    client: String,
    auth: Option<&'static str>,
    from: &'static str,
    to: Vec<&'static str>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Easy,
    Fair,
    Wild,
}

fn notes() -> impl Strategy<Value = Generated> {
    let client = proptest::sample::select(&["10.1.0.1", "10.2.0.1", "10.3.0.1", "127.0.0.1", "fd00::1"][..]);
    let auth = proptest::option::of(Just("ann"));
    let path = proptest::sample::select(
        &[
            "ann@a.example",
            "bob@a.example",
            "ann@example.com",
            "x@a.example",
            "ann@A.EXAMPLE",
            "x@example.com",
            "x@b.example",
            "",
            "a b@a.example",
            "x@[10.0.0.1]",
            "x",
        ][..],
    );
    let to = proptest::sample::select(
        &[
            "one@e.example",
            "one@e.example",
            "six@e.example",
            "two@e.example",
            "x@f.example",
            "x@[10.0.0.1]",
            "no-domain",
            "a@b@c",
            "one@e.example",
        ][..],
    );
    let field = proptest::sample::select(
        &[
            "From: ann@a.example",
            "From: Ann <ann@a.example>",
            "From: CEO <ann@a.example>",
            "From: eve@b.example",
            "From: ann@a.example, eve@b.example",
            "From: <ann@a.example> <eve@b.example>",
            "From: =?utf-8?q?Ann?= <x@example.com>",
            "Sender: eve@b.example",
            "Sender: ann@a.example",
            "Resent-From: eve@b.example",
            "Resent-Sender: ann@a.example",
            "Date: Mon, 1 Jan 2024 00:00:00 +0000",
            "Subject: a",
            "Reply-To: eve@b.example",
            "X-SES-CONFIGURATION-SET: common",
            "X-SES-CONFIGURATION-SET: a b",
            "Content-Type: application/x; name=a.exe",
            "X-Other: a",
            "To: one@e.example",
            "no field",
            "Bcc: x@example.com",
            "X-Bare: a\nb",
        ][..],
    );
    let body =
        proptest::sample::select(&["x\r\n", ".\r\n..\r\n", "", "no end", "end\r\n", "a\nb\r\n", "\r\n.x\r\n"][..]);
    let long = proptest::sample::select(&[0_usize, 0, 0, 50, 1_100][..]);
    let fields = proptest::collection::vec(field, 0..4);
    let to = proptest::collection::vec(to, 1..3);
    (client, auth, path, to, fields, body, long, proptest::sample::select(&[Shape::Easy, Shape::Fair, Shape::Wild][..]))
        .prop_map(|(client, auth, mut from, mut to, mut fields, body, mut long, shape)| {
            // Most of what is drawn has something wrong with it; a third is kept close to what people send.
            if shape == Shape::Easy {
                (from, to, long) = ("ann@a.example", vec!["one@e.example"], 0);
                fields.truncate(1);
            }
            let good = shape != Shape::Wild;
            let mut lines: Vec<&str> = if good { vec!["From: ann@a.example"] } else { Vec::new() };
            lines.extend(fields.into_iter().filter(|field| !good || !field.starts_with("From")));
            let header: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let mut text = format!("{header}\r\n{}\r\n{body}", "y".repeat(long));
            if !text.ends_with("\r\n") {
                text.push_str("\r\n");
            }
            Generated { client: client.to_owned(), auth, from, to, text }
        })
}

/// Code and status, which is what a client acts on; the text has ids in it that differ from run to run.
fn essence(reply: &str) -> String {
    let text = reply.lines().next_back().unwrap_or_default();
    let mut words = text.split(' ');
    let (code, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let words: Vec<&str> = words.take_while(|word| !word.starts_with("(ref") && !code.starts_with('2')).collect();
    format!("{code} {status} {}", words.join(" "))
}

#[tokio::test]
async fn an_explanation_and_the_wire_agree_command_by_command() {
    let mut runner = TestRunner::new(Config::default());
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..8 {
        let text = sections().new_tree(&mut runner).unwrap().current();
        let site = Site::with_user("ann", &text).await;
        for _ in 0..NOTES {
            let generated = notes().new_tree(&mut runner).unwrap().current();
            let Generated { client, auth, from, to, text: content } = &generated;
            let note = Note { client, auth: *auth, from, to, text: content };
            let before = site.emulator.messages().len();
            let wire: Vec<String> = site.replies(&note).await.iter().map(|reply| essence(reply)).collect();
            let explanation = site.explain(&note).await;
            let told: Vec<String> = explanation.steps.iter().skip(1).map(|step| essence(&step.reply)).collect();
            assert_eq!(told, wire, "{text}\n{generated:?}\n{explanation:#?}");
            let allowed = !wire.iter().any(|reply| reply.starts_with(['4', '5']));
            assert_eq!(explanation.allowed, allowed, "{text}\n{generated:?}");
            // And what SES got is what it was said to get.
            let sent = &site.emulator.messages()[before..];
            assert_eq!(explanation.sent.is_some(), sent.len() == 1, "{text}\n{generated:?}");
            if let (Some(told), [got]) = (&explanation.sent, sent) {
                assert_eq!(told.recipients, got.to);
                assert_eq!(told.configuration_set, got.parameters.configuration_set_name);
                assert_eq!(told.feedback, got.parameters.feedback_forwarding_email_address);
                let keep = |text: &str| {
                    text.replace("\r\n\t", " ")
                        .lines()
                        .filter(|line| !line.starts_with("Received:"))
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                };
                let header = |field: &String| !field.starts_with("Message-ID:") && !field.starts_with("Date:");
                let told: Vec<String> = keep(&told.header).into_iter().filter(header).collect();
                let got: Vec<String> = keep(&crate::configured_relay::header(got)).into_iter().filter(header).collect();
                assert_eq!(told, got, "{text}\n{generated:?}");
            }
            if allowed { accepted += 1 } else { refused += 1 }
        }
    }
    assert!(accepted > 20 && refused > 100, "{accepted} {refused}: the generator has lost its balance");
}

/// Reporting decides the same: what an enforcing site refuses by a rule, a reporting one notes and lets pass.
#[tokio::test]
async fn reporting_notes_what_enforcing_refuses() {
    let mut runner = TestRunner::new(Config::default());
    let mut noted = 0;
    for _ in 0..6 {
        let text = sections().new_tree(&mut runner).unwrap().current();
        let enforcing = text.replace("enforcement = 'report'\n", "");
        let reporting = format!("{enforcing}{}", if enforcing.contains("[policy]") { "" } else { "[policy]\n" });
        let reporting = reporting.replacen("[policy]\n", "[policy]\nenforcement = 'report'\n", 1);
        let (enforcing, reporting) =
            (Site::with_user("ann", &enforcing).await, Site::with_user("ann", &reporting).await);
        for _ in 0..NOTES {
            let generated = notes().new_tree(&mut runner).unwrap().current();
            let Generated { client, auth, from, to, text: content } = &generated;
            let note = Note { client, auth: *auth, from, to: &to[..1], text: content };
            let (strict, lenient) = (enforcing.explain(&note).await, reporting.explain(&note).await);
            let reported: Vec<&str> = lenient
                .steps
                .iter()
                .flat_map(|step| &step.notes)
                .filter(|note| note.topic == "reported, not refused")
                .map(|note| note.text.split(':').next().unwrap())
                .collect();
            if strict.allowed {
                assert!(lenient.allowed && reported.is_empty(), "{text}\n{generated:?}\n{lenient:#?}");
                continue;
            }
            // The rule that refused, if it was one: what no rule refuses (a malformed header, say) is refused in any case,
            // and so are clients without an application, and messages without an author or with a field that cannot be read.
            let last = strict.steps.last().unwrap();
            let rule = last.notes.iter().rev().find(|note| note.topic == "rule").map(|note| note.text.as_str());
            if let Some(rule) = rule.filter(|rule| !["no_app", "missing_from", "unreadable", "message"].contains(rule))
            {
                assert!(reported.contains(&rule), "{rule} {reported:?}\n{text}\n{generated:?}\n{lenient:#?}");
                noted += 1;
            } else {
                assert!(!lenient.allowed, "{text}\n{generated:?}\n{lenient:#?}");
            }
        }
    }
    assert!(noted > 30, "{noted}");
}

/// More documents, fewer messages: a Deny that is added never lets pass what was refused.
#[tokio::test]
async fn adding_a_deny_never_allows_more() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, statements: &str| {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        std::fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name).display().to_string()
    };
    let allow = write(
        "allow.json",
        r#"{"Effect":"Allow","Action":"ses:Send*","Resource":"*","Condition":{"StringLike":{"ses:FromAddress":"*@a.example"}}}"#,
    );
    let conditions = [
        r#""ForAnyValue:StringLike":{"ses:Recipients":"*@f.example"}"#,
        r#""StringNotLike":{"ses:FromAddress":"ann@*"}"#,
        r#""NotIpAddress":{"aws:SourceIp":"10.1.0.0/16"}"#,
        r#""Null":{"aws:username":"true"}"#,
        r#""Bool":{"aws:SecureTransport":"false"}"#,
        r#""StringEquals":{"ses:FromDisplayName":"CEO"}"#,
        r#""ForAllValues:StringLike":{"ses:Recipients":"*@e.example"}"#,
    ];
    let mut runner = TestRunner::new(Config::default());
    let sections = |documents: &str| {
        format!(
            "[[app]]\nname = 'one'\nnetworks = ['0.0.0.0/0', '::/0']\nfrom = ['*@*']\nunchecked = ['reverse-path']\n\
             documents = [{documents}]\n"
        )
    };
    let before = Site::with_user("ann", &sections(&format!("'{allow}'"))).await;
    let mut narrowed = 0;
    for (place, condition) in conditions.iter().enumerate() {
        let deny =
            format!(r#"{{"Effect":"Deny","Action":["ses:SendEmail"],"Resource":"*","Condition":{{{condition}}}}}"#);
        let deny = write(&format!("deny{place}.json"), &deny);
        let after = Site::with_user("ann", &sections(&format!("'{deny}', '{allow}'"))).await;
        for _ in 0..NOTES {
            let generated = notes().new_tree(&mut runner).unwrap().current();
            let Generated { client, auth, from, to, text } = &generated;
            let note = Note { client, auth: *auth, from, to, text };
            let (before, after) = (before.explain(&note).await, after.explain(&note).await);
            assert!(before.allowed || !after.allowed, "{condition} {generated:?}");
            narrowed += usize::from(before.allowed && !after.allowed);
        }
    }
    assert!(narrowed > 5, "{narrowed}");
}
