use super::*;
use crate::mail::headers::HeaderLimits;
use crate::mail::mime::MimeLimits;
use crate::mail::parameters::{ConfigurationSetName, IdentityArn, RequestedField};
use crate::mail::{
    Content, Envelope, Identity, MailParameters, Mailbox, ManualClock, Requested, ReversePath, SessionId, author,
};
use crate::policy::app::OnAuthor;
use crate::policy::{Checked, Enforcement, TextPattern};
use bytes::Bytes;

fn client(address: &str) -> Client {
    Client::new(SessionId::fresh(), ClientAddress::Ip(address.parse().unwrap()), "main".into())
}

fn patterns(list: &[&str]) -> Vec<AddressPattern> {
    list.iter().map(|text| AddressPattern::parse(text).unwrap()).collect()
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn forward(text: &str) -> ForwardPath {
    ForwardPath::new(mailbox(text)).unwrap()
}

/// The decision as a word: `ok RULE`, `would RULE` for a report, or `CODE RULE`.
fn describe(decision: PolicyDecision) -> String {
    match decision {
        PolicyDecision::Accept(granted) => match granted.reported {
            Some(reported) => format!("would {}", reported.split(':').next().unwrap_or_default()),
            None => format!("ok {}", granted.rule),
        },
        PolicyDecision::Defer(refused) | PolicyDecision::Reject(refused) => {
            format!("{} {}", refused.reply.code(), refused.rule_name())
        }
    }
}

async fn mail(policy: &AppPolicy, client: &Client, path: &str, auth_could_help: bool) -> String {
    let reverse_path = match path {
        "" => ReversePath::Null,
        text => ReversePath::Mailbox(mailbox(text)),
    };
    let parameters = MailParameters::default();
    let facts = MailFacts { client, auth_could_help, reverse_path: &reverse_path, parameters: &parameters };
    describe(policy.reverse_path(&facts).await.unwrap())
}

async fn rcpt(policy: &AppPolicy, client: &Client, path: &str, accepted_before: usize) -> String {
    let (reverse_path, forward_path) = (ReversePath::Null, forward(path));
    let facts = RcptFacts { client, reverse_path: &reverse_path, forward_path: &forward_path, accepted_before };
    describe(policy.forward_path(&facts).await.unwrap())
}

/// A message by its text, from `ann@a.example` to `bob@b.example`.
async fn message(policy: &AppPolicy, client: &Client, text: &str) -> PolicyDecision {
    let octets = text.replace('\n', "\r\n");
    let content = Content::parse(Bytes::from(octets), &HeaderLimits::default(), MimeLimits::default()).unwrap();
    let read = |name: &str| -> Vec<Author> {
        content.fields_named(name).flat_map(|field| author::parse(field.value).unwrap()).collect()
    };
    let mut requested = Requested::default();
    for field in content.fields().filter(|field| Requested::is_request(field.name)) {
        requested.push(field.name, field.value);
    }
    let from = ReversePath::Mailbox(mailbox("ann@a.example"));
    let (authors, sender) = (read("From"), read("Sender"));
    let resent = [read("Resent-From"), read("Resent-Sender")].concat();
    fn field(mailboxes: &[Author]) -> AddressField<'_> {
        if mailboxes.is_empty() { AddressField::Missing } else { AddressField::Mailboxes(mailboxes) }
    }
    let facts = MessageFacts {
        client,
        envelope: &Envelope::new(from, MailParameters::default(), forward("bob@b.example")),
        content: &content,
        from: field(&authors),
        sender: field(&sender),
        resent: field(&resent),
        unreadable: None,
        requested: &requested,
    };
    policy.message(&facts).await.unwrap()
}

fn only(app: App) -> AppPolicy {
    AppPolicy::default_app(DefaultApp { app, ..DefaultApp::local(Vec::new()) })
}

fn app(change: impl FnOnce(&mut App)) -> App {
    let mut app = DefaultApp::local(patterns(&["*@a.example"])).app;
    change(&mut app);
    app
}

fn account(identities: &[&str]) -> AwsAccount {
    AwsAccount {
        partition: "aws".to_owned(),
        region: "us-east-1".to_owned(),
        account: "111122223333".to_owned(),
        identities: identities.iter().map(|name| (*name).to_owned()).collect(),
        default_configuration_sets: Vec::new(),
        sandbox: false,
    }
}

const NEAR: &str = "127.0.0.1:1";

#[tokio::test]
async fn mail_is_judged_by_client_then_by_reverse_path() {
    let policy = AppPolicy::local(patterns(&["*@a.example"]));
    let (near, far) = (client(NEAR), client("192.0.2.1:1"));
    let mut known = far.clone();
    known.identity = Some(Identity::new("app"));
    for (client, path, auth, want) in [
        (&near, "x@a.example", false, "ok reverse_path"),
        (&near, "x@b.example", false, "550 reverse_path"),
        (&near, "", false, "550 null_reverse_path"),
        (&far, "x@a.example", false, "550 no_app"),
        (&far, "x@a.example", true, "530 no_app"),
        (&known, "x@a.example", false, "ok reverse_path"),
    ] {
        assert_eq!(mail(&policy, client, path, auth).await, want, "{client:?} {path}");
    }
}

#[tokio::test]
async fn recipients_are_allowed_denied_and_counted() {
    let policy = only(app(|app| {
        app.recipients_allowed = patterns(&["*@b.example", "*@*.b.example"]);
        app.recipients_denied = patterns(&["ceo@b.example"]);
        app.recipients_max = Some(3);
    }));
    for (path, before, want) in [
        ("bob@b.example", 0, "ok forward_path"),
        ("bob@c.b.example", 2, "ok forward_path"),
        ("ceo@b.example", 0, "550 recipients_denied"),
        ("bob@c.example", 0, "550 recipients_allowed"),
        ("bob@b.example", 3, "452 recipients_max"),
    ] {
        assert_eq!(rcpt(&policy, &client(NEAR), path, before).await, want, "{path}");
    }
}

#[tokio::test]
async fn every_rule_about_a_message_refuses_by_its_name() {
    let all = |app: &mut App| {
        app.message_octets_max = Some(2_000);
        app.display_names = vec![TextPattern::new("Billing*")];
        app.missing_date = Missing::Refuse;
        app.requested_fields = vec![RequestedField::ConfigurationSet];
    };
    let policy = only(app(all));
    let good = "From: Billing Team <x@a.example>\nDate: today";
    for (name, text, want) in [
        ("good", format!("{good}\n\n"), "ok message"),
        ("no display name", "From: x@a.example\nDate: today\n\n".to_owned(), "ok message"),
        ("encoded name", "From: =?utf-8?q?Billing_=C3=BC?= <x@a.example>\nDate: d\n\n".to_owned(), "ok message"),
        ("too large", format!("{good}\n\n{}", "x".repeat(2_000)), "552 message_octets_max"),
        ("no author", "Date: today\n\n".to_owned(), "550 missing_from"),
        ("foreign author", "From: x@b.example\nDate: d\n\n".to_owned(), "550 author"),
        ("one foreign author", "From: x@a.example, x@b.example\nDate: d\n\n".to_owned(), "550 author"),
        ("foreign name", "From: CEO <x@a.example>\nDate: d\n\n".to_owned(), "550 display_names"),
        ("encoded foreign name", "From: =?utf-8?q?CEO?= <x@a.example>\nDate: d\n\n".to_owned(), "550 display_names"),
        ("foreign sender", format!("{good}\nSender: x@b.example\n\n"), "550 sender_field"),
        ("foreign resender", format!("{good}\nResent-From: x@b.example\n\n"), "550 resent_fields"),
        ("attachment", format!("{good}\nContent-Type: x/y; name=a.exe\n\n"), "550 attachments"),
        ("no date", "From: x@a.example\n\n".to_owned(), "550 missing_field"),
        ("bad request", format!("{good}\nX-SES-CONFIGURATION-SET: a b\n\n"), "554 requested_fields"),
    ] {
        assert_eq!(describe(message(&policy, &client(NEAR), &text).await), want, "{name}");
    }
    // With enforcement = report, the same decision is reported and the message is accepted.
    let reporting = only(app(|app| {
        all(app);
        app.enforcement = Enforcement::Report;
    }));
    assert_eq!(describe(message(&reporting, &client(NEAR), "From: x@b.example\n\n").await), "would author");
    // With soft_fail, the same is a deferral.
    let soft = only(app(|app| app.soft_fail = true));
    assert_eq!(describe(message(&soft, &client(NEAR), "From: x@b.example\n\n").await), "451 author");
    assert_eq!(mail(&soft, &client(NEAR), "x@b.example", false).await, "451 reverse_path");
}

#[tokio::test]
async fn each_check_can_be_switched_off() {
    let off = Checked { reverse_path: false, author: false, sender: false, resent: false };
    let policy = only(app(|app| app.checked = off));
    assert_eq!(mail(&policy, &client(NEAR), "x@b.example", false).await, "ok reverse_path");
    let text = "From: x@b.example\nSender: y@b.example\nResent-From: z@b.example\n\n";
    let PolicyDecision::Accept(granted) = message(&policy, &client(NEAR), text).await else { panic!() };
    assert!(!granted.reverse_path_permitted, "what nobody checked gets no bounces");
}

#[tokio::test]
async fn edits_are_asked_for_once_and_not_again() {
    let own = author::parse(b"Billing <billing@a.example>").unwrap().remove(0);
    let policy = only(app(|app| {
        app.on_author = OnAuthor::Rewrite(own.clone());
        app.missing_from = Missing::Fill(own.clone());
        app.missing_date = Missing::Fill(());
        app.missing_message_id = Missing::Fill(());
        app.redirect_to = Some(mailbox("bob@b.example"));
    }));
    let PolicyDecision::Accept(granted) = message(&policy, &client(NEAR), "From: x@b.example\n\n").await else {
        panic!()
    };
    assert_eq!(granted.edits.author, Some(own.clone()));
    assert!(granted.edits.date && granted.edits.message_id);
    assert_eq!(granted.edits.redirect_to, None, "it goes there already");
    let edited = "From: Billing <billing@a.example>\nDate: d\nMessage-ID: <1@x>\n\n";
    let PolicyDecision::Accept(granted) = message(&policy, &client(NEAR), edited).await else { panic!() };
    assert!(granted.edits.is_empty(), "{:?}", granted.edits);
}

#[tokio::test]
async fn an_application_has_its_own_rights_and_gets_its_own_parameters() {
    let named = |name: &str, network: &str, from: &str, set: &str| {
        let criteria = MatchCriteria { networks: vec![network.parse().unwrap()], ..MatchCriteria::default() };
        let mut app = App::new(AppName::parse(name).unwrap(), criteria, patterns(&[from]));
        app.send.configuration_set = Some(ConfigurationSetName::parse(set).unwrap());
        app
    };
    let apps = vec![
        named("one", "10.1.0.0/16", "*@one.example", "set-1"),
        named("two", "10.2.0.0/16", "*@two.example", "set-2"),
    ];
    let policy = AppPolicy::new(apps, None, Vec::new(), None, Arc::new(ManualClock::new())).unwrap();
    let (one, two) = (client("10.1.0.1:1"), client("10.2.0.1:1"));
    assert_eq!(mail(&policy, &one, "x@one.example", false).await, "ok reverse_path");
    assert_eq!(mail(&policy, &one, "x@two.example", false).await, "550 reverse_path");
    assert_eq!(mail(&policy, &two, "x@two.example", false).await, "ok reverse_path");
    assert_eq!(mail(&policy, &client(NEAR), "x@one.example", false).await, "550 no_app");
    let PolicyDecision::Accept(granted) = message(&policy, &two, "From: x@two.example\n\n").await else { panic!() };
    assert_eq!(granted.app.unwrap().as_str(), "two");
    assert_eq!(granted.permitted_by.as_deref(), Some("*@two.example"), "for the log");
    assert_eq!(policy.application(&one).unwrap().as_str(), "one");
    assert_eq!(policy.application(&client(NEAR)), None);
    assert_eq!(granted.send.configuration_set.unwrap().as_str(), "set-2");
}

#[tokio::test]
async fn iam_documents_are_asked_and_a_refusal_names_the_statement() {
    use crate::iam::DocumentKind;
    let document = |json: &str| Arc::new(Document::parse("role.json", json, DocumentKind::Identity).unwrap());
    let allow = document(
        r#"{"Version":"2012-10-17","Statement":[{"Sid":"Send","Effect":"Allow","Action":["ses:SendEmail","ses:SendRawEmail"],
            "Resource":["arn:aws:ses:us-east-1:111122223333:identity/a.example","arn:aws:ses:us-east-1:111122223333:configuration-set/relay"],
            "Condition":{"StringLike":{"ses:FromAddress":"*@a.example"},"ForAllValues:StringLike":{"ses:Recipients":"*@b.example"}}}]}"#,
    );
    let deny = document(
        r#"{"Version":"2012-10-17","Statement":[{"Sid":"Office","Effect":"Deny","Action":"ses:*","Resource":"*",
            "Condition":{"NotIpAddress":{"aws:SourceIp":"127.0.0.0/8"}}}]}"#,
    );
    let account = account(&["a.example"]);
    let policy = |documents: Vec<Arc<Document>>, set: Option<&str>| {
        let mut default_app = DefaultApp::local(patterns(&["*@*"]));
        default_app.clients = vec!["0.0.0.0/0".parse().unwrap()];
        default_app.app.send.configuration_set = set.map(|name| ConfigurationSetName::parse(name).unwrap());
        default_app.app.documents = documents;
        AppPolicy::new(Vec::new(), Some(default_app), Vec::new(), Some(account.clone()), Arc::new(ManualClock::new()))
            .unwrap()
    };
    let both = policy(vec![allow.clone()], Some("relay"));
    let PolicyDecision::Accept(granted) = message(&both, &client(NEAR), "From: x@a.example\n\n").await else {
        panic!()
    };
    assert_eq!(
        granted.permitted_by.as_deref(),
        Some("*@*; role.json, statement 1 (\"Send\")"),
        "each once, for the log"
    );
    let detail = |decision| match decision {
        PolicyDecision::Reject(reason) => format!("{} {}", reason.reply.code(), reason.detail),
        other => describe(other),
    };
    for (name, policy, address, text, want) in [
        ("allowed", policy(vec![allow.clone()], None), NEAR, "From: x@a.example\n\n", "ok message"),
        (
            "subdomain of the identity",
            policy(vec![allow.clone()], None),
            NEAR,
            "From: x@s.a.example\n\n",
            "implicitDeny",
        ),
        ("with its set", policy(vec![allow.clone()], Some("relay")), NEAR, "From: x@a.example\n\n", "ok message"),
        (
            "with another set",
            policy(vec![allow.clone()], Some("other")),
            NEAR,
            "From: x@a.example\n\n",
            "configuration-set/other",
        ),
        ("foreign author", policy(vec![allow.clone()], None), NEAR, "From: x@b.example\n\n", "implicitDeny"),
        // SES receives the address unchanged and refused it where the domain had been compared in lower case.
        (
            "the domain as it leaves",
            policy(vec![allow.clone()], None),
            NEAR,
            "From: X <x@A.example>\n\n",
            "implicitDeny",
        ),
        (
            "one of two foreign",
            policy(vec![allow.clone()], None),
            NEAR,
            "From: x@a.example, y@b.example\n\n",
            "implicitDeny",
        ),
        (
            "denied",
            policy(vec![allow.clone(), deny], None),
            "192.0.2.1:1",
            "From: x@a.example\n\n",
            "by role.json, statement 1 (\"Office\")",
        ),
    ] {
        let got = detail(message(&policy, &client(address), text).await);
        assert!(got.contains(want), "{name}: {got}");
    }
    let without_account = AppPolicy::new(Vec::new(), None, vec![allow], None, Arc::new(ManualClock::new()));
    assert_eq!(without_account.unwrap_err(), AppPolicyError::NoAccount);
}

#[test]
fn a_document_that_cannot_be_decided_here_does_not_start() {
    use crate::iam::DocumentKind;
    let account = account(&[]);
    let start = |elements: &str| {
        let json = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"S","Effect":"Deny","Resource":"*",{elements}}}]}}"#
        );
        let document = Arc::new(Document::parse("role.json", &json, DocumentKind::Identity).unwrap());
        let clock = Arc::new(ManualClock::new());
        AppPolicy::new(Vec::new(), None, vec![document], Some(account.clone()), clock)
            .err()
            .map(|error| error.to_string())
    };
    for (name, elements, want) in [
        (
            "known",
            r#""Action":"ses:*","Condition":{"StringLike":{"SES:fromaddress":"x@*","aws:PrincipalTag/Team":"${aws:username}"}}"#,
            None,
        ),
        ("of another service", r#""Action":"s3:*","Condition":{"StringLike":{"s3:prefix":"x"}}"#, None),
        (
            "all recipients",
            r#""Action":"ses:*","Condition":{"ForAnyValue:StringNotLike":{"ses:Recipients":"*@b.example"}}"#,
            None,
        ),
        (
            "a key that is not here",
            r#""Action":"ses:Send*","Condition":{"StringEquals":{"aws:SourceVpce":"vpce-1"}}"#,
            Some("aws:SourceVpce has no value"),
        ),
        (
            "everything but",
            r#""NotAction":"s3:*","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#,
            Some("aws:PrincipalOrgID"),
        ),
        (
            "a variable that is not here",
            r#""Action":"*","Condition":{"StringLike":{"ses:FromAddress":"${aws:userid}@x"}}"#,
            Some("aws:userid"),
        ),
        (
            "some recipients",
            r#""Action":"ses:*","Condition":{"StringNotLike":{"ses:Recipients":"*@b.example"}}"#,
            Some("statement 1 (\"S\"): StringNotLike on ses:Recipients"),
        ),
    ] {
        let got = start(elements);
        assert_eq!(got.is_some(), want.is_some(), "{name}: {got:?}");
        assert!(got.unwrap_or_default().contains(want.unwrap_or_default()), "{name}");
    }
}

#[tokio::test]
async fn every_condition_key_of_the_table_has_its_value() {
    use crate::iam::DocumentKind;
    use crate::mail::parameters::TenantName;
    use std::time::{Duration, UNIX_EPOCH};
    let account = account(&[]);
    let mut known = client("192.0.2.7:1");
    known.identity = Some(Identity::new("shop"));
    let rows = [
        ("ses:FromAddress", "StringEquals", "x@a.example", "y@a.example"),
        ("ses:FromDisplayName", "StringEquals", "Ann", "Bob"),
        ("ses:FeedbackAddress", "StringEquals", "ann@a.example", "x@a.example"),
        ("ses:Recipients", "ForAllValues:StringEquals", "bob@b.example", "ann@a.example"),
        ("ses:ApiVersion", "StringEquals", "2", "1"),
        ("ses:TenantName", "StringEquals", "tenant", "other"),
        ("aws:SourceIp", "IpAddress", "192.0.2.0/24", "10.0.0.0/8"),
        ("aws:SecureTransport", "Bool", "false", "true"),
        ("aws:CurrentTime", "DateEquals", "2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"),
        ("aws:EpochTime", "NumericEquals", "1795737600", "1795737601"),
        ("aws:UserAgent", "StringEquals", crate::mail::USER_AGENT, "curl"),
        ("aws:username", "StringEquals", "shop", "other"),
        ("aws:PrincipalTag/team", "StringEquals", "b", "a"),
    ];
    let keys: Vec<&str> = rows.iter().map(|(key, ..)| key.split_inclusive('/').next().unwrap()).collect();
    assert_eq!(keys, iam_checks::KEYS);
    for (key, operator, right, wrong) in rows {
        for (value, want) in [(right, "ok message"), (wrong, "550 iam_document")] {
            let json = format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"ses:SendRawEmail","Resource":"*",
                    "Condition":{{"{operator}":{{"{key}":"{value}"}}}}}}}}"#
            );
            let document = Arc::new(Document::parse("role.json", &json, DocumentKind::Identity).unwrap());
            let app = app(|app| {
                app.principal_tags = vec![("Team".to_owned(), "a".to_owned()), ("team".to_owned(), "b".to_owned())];
                app.send.tenant = Some(TenantName::parse("tenant").unwrap());
            });
            let default_app = DefaultApp { app, ..DefaultApp::local(Vec::new()) };
            let clock = ManualClock::new();
            clock.set_wall(UNIX_EPOCH + Duration::from_secs(1_795_737_600));
            let policy =
                AppPolicy::new(Vec::new(), Some(default_app), vec![document], Some(account.clone()), Arc::new(clock));
            let told = describe(message(&policy.unwrap(), &known, "From: Ann <x@a.example>\n\n").await);
            assert_eq!(told, want, "{key} {value}");
        }
    }
}

#[tokio::test]
async fn an_author_that_the_identity_of_another_account_does_not_cover_is_refused() {
    let mut default_app = DefaultApp::local(patterns(&["*@a.example", "*@c.example"]));
    default_app.app.send.identity_arn =
        Some(IdentityArn::parse("arn:aws:ses:us-east-1:111122223333:identity/a.example").unwrap());
    let (policy, client) = (AppPolicy::default_app(default_app), client("127.0.0.1:9"));
    let text = "From: ann@a.example\nTo: bob@b.example\n\nhi\n";
    assert_eq!(describe(message(&policy, &client, text).await), "ok message");
    let text = text.replace("ann@a", "ann@c");
    assert_eq!(describe(message(&policy, &client, &text).await), "550 identity_arn");
}

#[test]
fn a_pattern_meets_an_identity_that_covers_some_address_of_it() {
    for (pattern, identity, want) in [
        ("*@a.example", "a.example", true),
        ("*@x.a.example", "a.example", true),
        ("*@a.example", "x.a.example", false),
        ("*@b.example", "a.example", false),
        ("*@ba.example", "a.example", false),
        ("*@*.example", "a.example", true),
        ("*@*.a.example", "a.example", true),
        ("*@*.b.example", "a.example", false),
        ("*@*", "a.example", true),
        ("ann@*", "ann@a.example", true),
        ("ann@a.example", "bob@a.example", false),
    ] {
        let arn = IdentityArn::parse(&format!("arn:aws:ses:us-east-1:111122223333:identity/{identity}")).unwrap();
        assert_eq!(AddressPattern::parse(pattern).unwrap().can_match(&arn), want, "{pattern} {identity}");
    }
}
