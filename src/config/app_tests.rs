//! What `[[app]]`, `[policy]` and `[aws]` are told when they are wrong, and what becomes of them when they are not.

use super::{Config, ConfigError, Plan, ProcessEnvironment, Purpose};
use crate::mail::parameters::Feedback;
use crate::mail::{Client, ClientAddress, SessionId};
use crate::policy::{App, Enforcement, Missing, OnAuthor};
use std::path::Path;

const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";

/// A listener that asks for AUTH, a user, and lines from line 7 on.
fn with(lines: &str) -> String {
    format!(
        "hostname = 'relay.example'\nauth.users.ann = '{HASH}'\n[[listener]]\naddress = '127.0.0.1:2525'\n\
         name = 'main'\nauth = 'optional'\nauth_in_clear = true\n{lines}\n"
    )
}

/// The same with one good application, and lines inside it from line 12 on.
fn app(lines: &str) -> String {
    with(&format!("[[app]]\nname = 'billing'\nnetworks = ['127.1.0.0/16']\nfrom = ['*@example.com']\n{lines}"))
}

fn plan(text: &str) -> Result<Plan, ConfigError> {
    Config::parse(Path::new("f"), text, std::iter::empty())?.plan(&ProcessEnvironment::default(), Purpose::Check)
}

fn refusal(text: &str) -> String {
    plan(text).map_or_else(|error| error.to_string(), |_| "good".to_owned())
}

fn warnings(text: &str) -> Vec<String> {
    plan(text).unwrap_or_else(|error| panic!("{text}\n{error}")).warnings.iter().map(ToString::to_string).collect()
}

fn first_app(text: &str) -> App {
    plan(text).unwrap_or_else(|error| panic!("{text}\n{error}")).policy().apps()[0].clone()
}

/// A directory with documents, and the text with `DIR` in it replaced.
fn documents(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let allow = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ses:*","Resource":"*"}}"#;
    for (name, text) in [
        ("allow.json", allow.to_owned()),
        ("deny.json", allow.replace("Allow", "Deny")),
        ("typo.json", allow.replace("\"Resource\"", "\"Resouce\"")),
        ("principal.json", allow.replace("\"Effect\"", "\"Principal\":\"*\",\"Effect\"")),
        (
            "operator.json",
            allow.replace("\"*\"}", "\"*\",\"Condition\":{\"StringLikes\":{\"ses:FromAddress\":\"x\"}}}"),
        ),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let text = text.replace("DIR", &directory.path().display().to_string());
    (directory, text)
}

#[test]
fn what_works_and_should_not_is_warned_of() {
    let second = |lines: &str| app(&format!("[[app]]\nname = 'other'\nfrom = ['*@other.example']\n{lines}"));
    for (text, want) in [
        (second("networks = ['127.1.0.0/16', '127.9.0.0/16']"), "f:13:8: a client can match billing and other equally"),
        (app("enforcement = 'report'"), "f:12:15: messages that the rules refuse are sent"),
        (app("[policy]\nenforcement = 'report'"), "f:13:15: messages that the rules refuse are sent"),
        (app("soft_fail = true"), "f:12:13: mail that policy refuses is deferred"),
        (app("redirect_to = 'stage@example.com'"), "f:12:15: all messages go to stage@example.com"),
        (app("unchecked = ['from']"), "f:12:1: From is not checked"),
        (app("").replace("'*@example.com'", "'*@*'"), "f:11:9: this lets clients write messages with any From"),
        (app("").replace("127.1.0.0/16", "0.0.0.0/0"), "f:10:13: 0.0.0.0/0 is every address"),
        (app("message_octets_max = 40000000"), "f:12:22: smtp.message_octets_max is smaller"),
        (app("recipients_max = 20\n[smtp]\nrecipients_max = 10"), "f:12:18: smtp.recipients_max is smaller"),
        (app("[aws]\naccount = '111122223333'"), "f:12:2: there are no IAM policy documents"),
        (
            app("documents = ['DIR/deny.json']\n[aws]\naccount = '111122223333'\n[ses]\nregion = 'eu-west-1'"),
            "f:12:1: no statement allows anything",
        ),
    ] {
        let (_directory, text) = documents(&text);
        let told = warnings(&text);
        assert!(told.iter().any(|warning| warning.starts_with(want)), "{text}\n{told:?}");
    }
    assert_eq!(warnings(&app("")), [""; 0]);
    assert_eq!(warnings(&second("networks = ['127.1.2.0/24']")), [""; 0], "the longer network is no overlap");
}

/// `[policy]` is for the relay, an `[[app]]` for itself.
#[test]
fn an_application_has_the_delivery_of_the_policy_unless_it_has_its_own() {
    use crate::mail::parameters::Delivery;
    let spool = "[policy]\ndelivery = 'spool'\n[spool]\ndirectory = '/var/lib/gatepost/spool'";
    for (text, want) in [
        (app(""), Delivery::HandOff),
        (app(spool), Delivery::Spool),
        (app(&format!("delivery = 'hand-off-else-spool'\n{spool}")), Delivery::HandOffElseSpool),
        (app(&format!("delivery = 'hand-off'\n{spool}")), Delivery::HandOff),
    ] {
        assert_eq!(first_app(&text).delivery, want, "{text}");
    }
}

#[test]
fn an_application_that_names_who_it_is_may_be_reached_by_others() {
    let anywhere = app("").replace("127.0.0.1:2525", "0.0.0.0:25");
    assert_eq!(refusal(&anywhere), "good");
    let by_name = anywhere.replace("networks = ['127.1.0.0/16']", "auth = ['ann']");
    assert_eq!(refusal(&by_name), "good");
    // Everybody who may authenticate at all has a user: then the listener alone may say which application it is.
    let required = anywhere
        .replace("networks = ['127.1.0.0/16']", "listeners = ['main']")
        .replace("auth = 'optional'", "auth = 'required'");
    assert_eq!(refusal(&required), "good");
}

#[test]
fn with_applications_nobody_else_may_send_unless_policy_says_so() {
    let near = Client::new(SessionId::fresh(), ClientAddress::Ip("127.0.0.1:1".parse().unwrap()), "main".into());
    let who = |text: &str| plan(text).unwrap().policy().recognise(&near).map(|app| app.name.to_string());
    assert_eq!(who(&app("")), None);
    assert_eq!(who(&app("[policy]\nfrom = ['*@example.com']")).as_deref(), Some("default"));
}

#[test]
fn every_rule_reaches_the_policy() {
    let app = first_app(&app(
        "unchecked = ['reverse-path', 'resent']\nnull_reverse_path = true\ndisplay_names = ['Shop*']\n\
         foreign_from = 'rewrite'\nmissing_from = 'fill'\nown_from = 'Shop Büro <shop@example.com>'\n\
         missing_date = 'fill'\nmissing_message_id = 'refuse'\nrecipients_allowed = ['*@b.example']\n\
         recipients_denied = ['ceo@b.example']\nrecipients_max = 5\nmessage_octets_max = 1000\n\
         attachments_denied = ['EXE']\nredirect_to = 'stage@example.com'\nrequested_fields = ['tenant']\n\
         enforcement = 'report'\nconfiguration_set = 'own'\nfeedback = 'bounces@example.com'\n\
         assume_role = 'arn:aws:iam::111122223333:role/billing'\nprincipal_tags = { team = 'x y' }\n\
         [app.tags]\napp = '{app}'\n[policy]\nsoft_fail = true\n\
         [ses]\nconfiguration_set = 'common'\ntenant = 'shop'\n[ses.tags]\nold = 'x'",
    ));
    assert_eq!(
        (app.checked.reverse_path, app.checked.author, app.checked.sender, app.checked.resent),
        (false, true, true, false)
    );
    assert!(app.null_reverse_path && app.display_names[0].matches("shop 1"));
    let OnAuthor::Rewrite(own) = &app.on_author else { panic!("{:?}", app.on_author) };
    assert_eq!(own.to_string(), "=?utf-8?q?=53=68=6F=70=20=42=C3=BC=72=6F?= <shop@example.com>");
    assert_eq!(app.missing_from, Missing::Fill(own.clone()));
    assert_eq!((app.missing_date, app.missing_message_id), (Missing::Fill(()), Missing::Refuse));
    assert_eq!((app.recipients_allowed.len(), app.recipients_denied.len(), app.recipients_max), (1, 1, Some(5)));
    assert_eq!((app.message_octets_max, &*app.attachments_denied), (Some(1_000), &["exe".to_owned()][..]));
    assert_eq!(app.redirect_to.unwrap().to_string(), "stage@example.com");
    assert_eq!((app.requested_fields.len(), app.enforcement, app.soft_fail), (1, Enforcement::Report, true));
    assert_eq!(app.send.configuration_set.unwrap().as_str(), "own");
    assert_eq!(app.send.tenant.unwrap().as_str(), "shop", "what it does not say, [ses] does");
    assert!(matches!(app.send.feedback, Some(Feedback::Fixed(_))));
    assert_eq!(app.send.role.unwrap().as_str(), "arn:aws:iam::111122223333:role/billing");
    assert_eq!(app.principal_tags, [("team".to_owned(), "x y".to_owned())]);
    let tags: Vec<String> = app.tags.iter().map(|tag| format!("{}={}", tag.name, tag.value)).collect();
    assert_eq!(tags, ["app={app}"], "tags of [ses] are not merged in");
}

#[test]
fn documents_alone_may_say_what_an_application_may_do() {
    let (_directory, text) = documents(&app(
        "documents = ['DIR/allow.json']\n[aws]\naccount = '111122223333'\n[ses]\nregion = 'us-gov-west-1'",
    ));
    let text = text.replace("from = ['*@example.com']\n", "");
    assert_eq!(warnings(&text), [""; 0]);
    let app = first_app(&text);
    assert!(app.from[0].matches_everything());
    assert_eq!(app.documents.len(), 1);
}

#[test]
fn the_region_of_documents_may_come_from_the_environment_or_the_emulator() {
    let (_directory, text) = documents(&app("documents = ['DIR/allow.json']\n[aws]\naccount = '111122223333'"));
    let read = |text: &str, environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let process_environment = ProcessEnvironment::new(environment, None);
        let config = Config::parse(Path::new("f"), text, std::iter::empty()).unwrap();
        config.plan(&process_environment, Purpose::Check).map(drop)
    };
    assert!(read(&text, &[]).is_err());
    assert!(read(&text, &[("AWS_REGION", "eu-west-1")]).is_ok());
    assert!(read(&format!("{text}\n[ses]\nemulator = true"), &[]).is_ok());
}

#[test]
fn pairs_with_an_equal_claim_are_listed_up_to_a_bound_and_counted() {
    let same = |place| format!("[[app]]\nname = 'app{place}'\nlisteners = ['main']\nfrom = ['*@example.com']\n");
    let apps: String = (0..152).map(same).collect();
    let told = warnings(&with(&apps));
    let pairs: Vec<&String> = told.iter().filter(|line| line.contains("equally; it is recognised as app0")).collect();
    assert_eq!(pairs.len(), 100, "{told:?}");
    assert!(told.iter().any(|line| line.contains("51 more pairs of applications")), "{told:?}");
}

/// Names, warnings' places and equal claims were each looked for among all applications: 62 s for 50,000.
#[test]
fn the_work_of_a_start_grows_with_the_applications_and_not_with_their_square() {
    let octets = |number: usize| (number >> 16, number >> 8 & 255, number & 255);
    let app = |place: usize| {
        let (a, b, c) = octets(place);
        let (name, limit) = (format!("app{place}"), format!("[[limit]]\napps = ['app{place}']\nrates = ['9/s']"));
        format!(
            "[[app]]\nname = '{name}'\nnetworks = ['127.{a}.{b}.{c}']\nfrom = ['a@b.example']\nsoft_fail = true\n{limit}\n"
        )
    };
    let cost = |count: usize| {
        let text = with(&(0..count).map(app).collect::<String>());
        let config = Config::parse(Path::new("f"), &text, std::iter::empty()).unwrap();
        // Of this thread alone: other tests run beside it.
        let now = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let before = now();
        let plan = config.plan(&ProcessEnvironment::default(), Purpose::Check).unwrap();
        let after = now();
        assert_eq!(plan.warnings.len(), count);
        (after.tv_sec - before.tv_sec) as f64 + (after.tv_nsec - before.tv_nsec) as f64 / 1e9
    };
    let (some, many) = (cost(2_000), cost(16_000));
    assert!(many < some * 24.0, "8 times the applications took {:.1} times as long ({some:.2} s)", many / some);
}
