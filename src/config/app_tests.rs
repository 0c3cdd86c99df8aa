//! What `[[app]]`, `[policy]` and `[aws]` are told when they are wrong, and what becomes of them when they are not.

use super::{Config, ConfigError, Plan, Purpose, Surroundings};
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
    with(&format!("[[app]]\nname = 'billing'\nnetworks = ['10.1.0.0/16']\nfrom = ['*@example.com']\n{lines}"))
}

fn plan(text: &str) -> Result<Plan, ConfigError> {
    Config::parse(Path::new("f"), text, std::iter::empty())?.plan(&Surroundings::default(), Purpose::Check)
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
fn a_wrong_application_is_told_with_line_column_and_hint() {
    for (text, place, message, hint) in [
        // What cannot be read.
        (app("nmae = 'x'"), "f:12:1", "unknown key nmae in app.0", "did you mean name?"),
        (app("listener = ['main']"), "f:12:1", "unknown key listener in app.0", "did you mean listeners?"),
        (app("[[apps]]"), "f:12:3", "unknown key apps", "did you mean app?"),
        (with("[[app]]\nname = 'a b'"), "f:9:8", "app: 1 to 64 of A-Z", "name: 1 to 64"),
        (
            app("unchecked = ['author']"),
            "f:12:14",
            "\"author\" is not one of reverse-path, from",
            "unchecked: A list of places",
        ),
        (app("enforcement = 'reprot'"), "f:12:15", "not one of enforce, report", "did you mean \"report\"?"),
        (app("foreign_from = true"), "f:12:16", "expected", "foreign_from: reject or rewrite"),
        (
            app("certificates = ['CN=billing']"),
            "f:12:17",
            "does not begin with fingerprint:",
            "certificates: A list of",
        ),
        (app("certificates = ['fingerprint:abc']"), "f:12:17", "no SHA-256 in hex", "certificates: A list of"),
        (app("own_from = 'shop'"), "f:12:12", "\"shop\"", "own_from: An address, maybe with a name"),
        (app("own_from = 'a@example.com, b@example.com'"), "f:12:12", "not one address", ""),
        (app("redirect_to = 'x@[10.0.0.1]'"), "f:12:15", "no address literals", "redirect_to: An address"),
        (
            app("attachments_denied = ['.exe']"),
            "f:12:23",
            "no file name extension",
            "attachments_denied: A list of file",
        ),
        (app("recipients_max = 51"), "f:12:18", "51 is out of range: 1 to 50", "recipients_max: Recipients"),
        (app("tags = { user = '{user}' }"), "f:12:17", "cannot be the value of a tag", "{app} becomes"),
        (app("assume_role = 'gatepost'"), "f:12:15", "role ARN", "assume_role: The ARN of an IAM role"),
        (app("[aws]\naccount = '1234'"), "f:13:11", "not the number of an account", "account: The twelve digits"),
        // What contradicts itself, or stands for nothing.
        (
            with("[[app]]\nnetworks = ['10.1.0.0/16']\nfrom = ['*@a.example']"),
            "f:8:1",
            "needs a name",
            "name = \"billing\"",
        ),
        (with("[[app]]\nname = 'x'\nfrom = ['*@a.example']"), "f:8:1", "nothing says how", "certificates, auth"),
        (app("").replace("from = ", "display_names = "), "f:8:1", "from is empty", "or documents"),
        (
            app("[[app]]\nname = 'billing'\nauth = ['ann']\nfrom = ['*@a.example']"),
            "f:13:8",
            "called billing already",
            "",
        ),
        (app("").replace("'billing'", "'default'"), "f:9:8", "the name of the rules of [policy]", "choose another"),
        (app("listeners = ['mian']"), "f:12:14", "no listener is called \"mian\"", "there is main"),
        (app("auth = ['ann', 'bob']"), "f:12:16", "there is no user \"bob\"", "gatepost hash-password"),
        (
            app("certificates = ['name:x.internal']"),
            "f:12:1",
            "no listener asks for client certificates",
            "client_certificates",
        ),
        (
            app("auth = ['ann']\nlisteners = ['other']\n[[listener]]\nname = 'other'\naddress = '127.0.0.1:26'"),
            "f:12:1",
            "no listener asks for AUTH",
            "",
        ),
        (app("foreign_from = 'rewrite'"), "f:12:16", "nothing says what is put into From", "own_from = "),
        (app("own_from = 'shop@example.com'"), "f:12:12", "own_from is never used", "set foreign_from"),
        (app("missing_from = 'fill'\nown_from = 'shop@other.example'"), "f:13:12", "fits no pattern of from", ""),
        (
            app("missing_from = 'fill'\ndisplay_names = ['Shop*']\nown_from = 'Billing <shop@example.com>'"),
            "f:14:12",
            "none of display_names",
            "",
        ),
        (app("external_id = 'x'"), "f:12:15", "external_id without assume_role", ""),
        (app("tags = { 'a b' = 'c' }"), "f:12:18", "cannot be the name of a tag", "A-Z"),
        (app("[policy]\nclients = ['10.0.0.0/8']"), "f:13:1", "policy.clients means nothing", "set policy.from"),
        (app("[policy]\nnull_reverse_path = true"), "f:13:21", "policy.null_reverse_path means nothing", ""),
        (
            app("assume_role = 'arn:aws:iam::111122223333:role/a'\n[[app]]\nname = 'b'\nauth = ['ann']\n\
                 from = ['*@b.example']\nassume_role = 'arn:aws:iam::111122223333:role/a'\nexternal_id = 'x'"),
            "f:17:15",
            "with another external_id",
            "",
        ),
        // Open relays.
        (
            app("")
                .replace("127.0.0.1:2525", "0.0.0.0:25")
                .replace("networks = ['10.1.0.0/16']", "listeners = ['main']"),
            "f:10:1",
            "whoever reaches 0.0.0.0:25 would be this application",
            "name its networks",
        ),
        (
            app("")
                .replace("auth = 'optional'", "proxy_protocol_from = ['127.0.0.1']\nauth = 'optional'")
                .replace("networks = ['10.1.0.0/16']", "listeners = ['main']"),
            "f:11:1",
            "whoever reaches 127.0.0.1:2525 would be this application",
            "",
        ),
        (
            app("listeners = ['main']\n[[listener]]\naddress = '0.0.0.0:25'"),
            "f:14:11",
            "others may reach 0.0.0.0:25, and nothing says who may send",
            "an [[app]] that names networks",
        ),
        // IAM documents.
        (app("documents = ['DIR/none.json']"), "f:12:14", "cannot read", ""),
        (app("documents = ['DIR/typo.json']"), "f:12:14", "statement 1", "an identity policy"),
        (app("documents = ['DIR/typo.json']"), "f:12:14", "Resouce", ""),
        (app("documents = ['DIR/operator.json']"), "f:12:14", "StringLikes", ""),
        (app("documents = ['DIR/principal.json']"), "f:12:14", "Principal", "no Principal"),
        (app("documents = ['DIR/allow.json']"), "f", "nothing says of which account", "[aws] account"),
        (app("documents = ['DIR/allow.json']"), "f", "nothing says of which region", "set ses.region"),
        (app("[policy]\ndocuments = ['DIR/typo.json']"), "f:13:14", "Resouce", ""),
    ] {
        let (_directory, text) = documents(&text);
        let told = refusal(&text);
        let mut problems: Vec<String> = Vec::new();
        for line in told.lines() {
            match problems.last_mut() {
                Some(problem) if line.starts_with("  hint: ") => problem.push_str(line),
                _ => problems.push(line.to_owned()),
            }
        }
        let found = problems.iter().any(|problem| {
            problem.starts_with(&format!("{place}: ")) && problem.contains(message) && problem.contains(hint)
        });
        assert!(found, "wanted {place} {message} / {hint} of\n{text}\ngot\n{told}");
    }
}

#[test]
fn what_works_and_should_not_is_warned_of() {
    let second = |lines: &str| app(&format!("[[app]]\nname = 'other'\nfrom = ['*@other.example']\n{lines}"));
    for (text, want) in [
        (second("networks = ['10.1.0.0/16', '10.9.0.0/16']"), "f:13:8: a client could be billing and other"),
        (app("enforcement = 'report'"), "f:12:15: what the rules refuse passes"),
        (app("[policy]\nenforcement = 'report'"), "f:13:15: what the rules refuse passes"),
        (app("soft_fail = true"), "f:12:13: mail that policy refuses is deferred"),
        (app("redirect_to = 'stage@example.com'"), "f:12:15: all mail goes to stage@example.com"),
        (app("unchecked = ['from']"), "f:12:1: From is not checked"),
        (app("").replace("'*@example.com'", "'*@*'"), "f:11:9: this lets clients write mail as anybody"),
        (app("").replace("10.1.0.0/16", "0.0.0.0/0"), "f:10:13: 0.0.0.0/0 is everybody"),
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
    assert_eq!(warnings(&second("networks = ['10.1.2.0/24']")), [""; 0], "the longer network is no overlap");
}

#[test]
fn an_application_that_names_who_it_is_may_be_reached_by_others() {
    let anywhere = app("").replace("127.0.0.1:2525", "0.0.0.0:25");
    assert_eq!(refusal(&anywhere), "good");
    let by_name = anywhere.replace("networks = ['10.1.0.0/16']", "auth = ['ann']");
    assert_eq!(refusal(&by_name), "good");
    // Everybody who may authenticate at all has a user: then the listener alone may say which application it is.
    let required = anywhere
        .replace("networks = ['10.1.0.0/16']", "listeners = ['main']")
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
    assert!(app.from[0].is_everybody());
    assert_eq!(app.documents.len(), 1);
}

#[test]
fn the_region_of_documents_may_come_from_the_environment_or_the_emulator() {
    let (_directory, text) = documents(&app("documents = ['DIR/allow.json']\n[aws]\naccount = '111122223333'"));
    let read = |text: &str, environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let surroundings = Surroundings::new(environment, None);
        let config = Config::parse(Path::new("f"), text, std::iter::empty()).unwrap();
        config.plan(&surroundings, Purpose::Check).map(drop)
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
    let pairs: Vec<&String> =
        told.iter().filter(|line| line.contains("with equal claim; it is taken for app0")).collect();
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
            "[[app]]\nname = '{name}'\nnetworks = ['10.{a}.{b}.{c}']\nfrom = ['a@b.example']\nsoft_fail = true\n{limit}\n"
        )
    };
    let cost = |count: usize| {
        let text = with(&(0..count).map(app).collect::<String>());
        let config = Config::parse(Path::new("f"), &text, std::iter::empty()).unwrap();
        // Of this thread alone: other tests run beside it.
        let now = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let before = now();
        let plan = config.plan(&Surroundings::default(), Purpose::Check).unwrap();
        let after = now();
        assert_eq!(plan.warnings.len(), count);
        (after.tv_sec - before.tv_sec) as f64 + (after.tv_nsec - before.tv_nsec) as f64 / 1e9
    };
    let (some, many) = (cost(2_000), cost(16_000));
    assert!(many < some * 24.0, "8 times the applications took {:.1} times as long ({some:.2} s)", many / some);
}
