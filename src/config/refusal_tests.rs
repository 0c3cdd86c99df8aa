//! What a wrong configuration is told: place, message and hint, word by word where they matter.

use super::certificates::{Pair, PairPaths};
use super::{Config, ConfigError, Plan, Purpose, Surroundings};
use proptest::prelude::*;
use std::path::Path;

/// A configuration that is good, in lines of its own: rows lay their lines below it.
const GOOD: &str = "hostname = 'relay.example'\n[ses]\nregion = 'eu-west-1'\n[policy]\nfrom = ['*@example.com']\n";

fn plan(text: &str) -> Result<Plan, ConfigError> {
    Config::parse(Path::new("f"), text, std::iter::empty())?.plan(&Surroundings::default(), Purpose::Check)
}

fn refusal(text: &str) -> String {
    plan(text).map_or_else(|error| error.to_string(), |_| "good".to_owned())
}

fn warnings(text: &str) -> Vec<String> {
    plan(text).unwrap().warnings.iter().map(ToString::to_string).collect()
}

/// A listener and more of it.
fn listener(lines: &str) -> String {
    format!("{GOOD}[[listener]]\naddress = '127.0.0.1:2525'\n{lines}\n")
}

#[test]
fn limits_that_are_shared_say_how_and_what_happens_without() {
    for (lines, want) in [
        ("url = 'redis://127.0.0.1'\ninstances = 2", "good"),
        ("url = 'rediss://cache.example:7000'\nusername = 'a'\npassword = 'b'\non_error = 'defer'", "good"),
        ("url = 'redis://a redis://b:7000'\ncluster = true\non_error = 'allow'", "good"),
        ("url = 'redis://127.0.0.1'", "how many there are is not known"),
        ("instances = 2", "without url, no limit is shared"),
        ("url = 'cache.example:6379'\ninstances = 2", "it is no URL of Redis"),
        ("url = 'rediss://u:hunter2@a/#insecure'\ninstances = 2", "it is no URL of Redis"),
        ("url = ' '\ninstances = 2", "it is empty"),
        ("url = 'redis://a redis://b'\ninstances = 2", "several nodes without cluster mode"),
        ("url = 'redis://a rediss://b'\ninstances = 2\ncluster = true", "some nodes are asked with TLS"),
        ("url = 'redis://a'\ninstances = 2\nusername = 'u'", "a user without a password"),
        ("url = 'redis://a'\ninstances = 2\nprefix = 'a{b'", "is no prefix"),
        ("url = 'redis://a'\ninstances = 0", "0 is out of range"),
        ("url = 'rediss://a'\ninstances = 2\nauthorities = '-----BEGIN CERTIFICATE-----'", "Redis settings"),
    ] {
        let told = refusal(&format!("{}[redis]\n{lines}\n", listener("")));
        assert!(told.contains(want) && !told.contains("hunter2"), "{lines}: {told}");
    }
    for (lines, want) in [
        ("url = 'redis://:hunter2@cache.example'", Some("the password can be read on the way")),
        ("url = 'redis://:hunter2@127.0.0.1'", None),
        ("url = 'rediss://:hunter2@cache.example'", None),
        ("url = 'redis://cache.example'\nauthorities = 'x'", Some("no certificate is looked at without TLS")),
    ] {
        let told = warnings(&format!("{}[redis]\n{lines}\ninstances = 2\n", listener(""))).join("\n");
        assert!(
            !told.contains("hunter2") && want.map_or(told.is_empty(), |want| told.contains(want)),
            "{lines}: {told}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_told_with_line_column_and_hint() {
    for (text, place, message, hint) in [
        ("hostnme = 'a'", "f:1:1", "unknown key hostnme", "did you mean hostname?"),
        ("[[listener]]\n\nadress = 'x'", "f:3:1", "unknown key adress in listener.0", "did you mean address?"),
        ("[lisener]", "f:1:2", "unknown key lisener", "did you mean listener?"),
        ("[ses]\nretries = 3", "f:2:1", "unknown key retries in ses", "known keys: emulator, region"),
        ("[log]\nlevel = 3", "f:2:9", "expected one of its words", "level: error, warn, info, debug or trace"),
        ("[log]\nformat = 'jsn'", "f:2:10", "\"jsn\" is not one of human, json", "did you mean \"json\"?"),
        ("[log]\nformat = 'text'", "f:2:10", "\"text\" is not one of human, json", "format: human or json"),
        ("[smtp]\nrecipients_max = '5'", "f:2:18", "invalid type: string \"5\", expected a whole number", "1 to 50"),
        ("[smtp]\nrecipients_max = 100", "f:2:18", "100 is out of range: 1 to 50", "SES takes 50 in one call"),
        ("[smtp]\nerrors_max = -1", "f:2:14", "-1 is out of range: 1 to 4294967295", "errors_max: "),
        ("[deadline]\nbase_seconds = 0", "f:2:16", "0 is out of range: 1 to 604800", "base_seconds: "),
        ("[policy]\nclients = ['10.0.0/8']", "f:2:12", "\"10.0.0/8\" is not a network", "clients: A list of networks"),
        (
            "[policy]\nclients = ['10.0.0.1/8']",
            "f:2:12",
            "write 10.0.0.0/8 for the network or 10.0.0.1 for",
            "clients: ",
        ),
        ("[policy]\nclients = '10.0.0.0/8'", "f:2:11", "expected a list", "clients: A list of networks"),
        ("[policy]\nfrom = ['example.com']", "f:2:9", "has no @; write *@example.com", "from: A list of patterns"),
        ("[policy]\nfrom = ['a@b.c', 'a b@c.d']", "f:2:18", "the local part must be", "from: A list of patterns"),
        ("[policy]\nrequested_fields = ['tenat']", "f:2:21", "not an X-SES field", "configuration-set, message-tags"),
        ("[[listener]]\naddress = ':25'", "f:2:11", "write 127.0.0.1:25 for this machine only", "address: IP:PORT"),
        ("[[listener]]\naddress = 'localhost:25'", "f:2:11", "not an address to listen on", "address: IP:PORT"),
        ("[[listener]]\nsocket_mode = '0888'", "f:2:15", "not a set of permission bits", "octal"),
        ("[[listener]]\ntls = true", "f:2:7", "expected", "tls: none, starttls or implicit"),
        ("[ses]\nendpoint_url = 'vpce.example'", "f:2:16", "not an http or https URL", "endpoint_url: An https:// URL"),
        ("[ses]\nendpoint_url = 'https://u:p@a'", "f:2:16", "the URL has an @", "endpoint_url: An https:// URL"),
        ("[ses]\nendpoint_url = 'https://a/?t=s'", "f:2:16", "a query or a fragment", "endpoint_url: An https:// URL"),
        ("[ses]\nfeedback = 'nobody'", "f:2:12", "neither reverse-path, nor account", "feedback: reverse-path"),
        ("[ses]\nidentity_arn = 'arn:aws:s3:::x'", "f:2:16", "identity ARN", "identity_arn: The ARN"),
        ("[ses.list_management]\ntopic = 'x'", "f:1:1", "missing key `contact_list`", "A contact list"),
        ("[tls]\nkey = { file = 'a', env = 'B' }", "f:2:7", "comes from two places", "key: The private key"),
        ("[tls]\nkey = { vault = 'a' }", "f:2:9", "unknown key vault in tls.key", "known keys: file, env, credential"),
        ("[auth.users]\nann = 3", "f:2:7", "expected a string, or one of", "users: Names with a password hash"),
        ("hostname = 'a_b'", "f:1:12", "neither a domain name nor an address literal", "hostname: A domain name"),
        ("[[limit]]\nrates = ['100/week']", "f:2:10", "is no rate", "2000/min"),
        ("hostname = ", "f:1:12", "", ""),
        ("hostname = 'a.b'\nhostname = 'c.d'", "f:2:1", "duplicate key", ""),
        ("a é = 1", "f:1:3", "", ""),
    ] {
        let told = refusal(text);
        let (first, second) = told.split_once('\n').unwrap_or((&told, ""));
        assert!(first.starts_with(&format!("{place}: ")) && first.contains(message), "{text}\n{told}");
        assert!(second.contains(hint), "{text}\n{told}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_told_where_they_stand() {
    let hash = "[auth.users]\nann = '$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK'";
    for (text, place, message, hint) in [
        (GOOD.to_owned(), "f", "no listener", "[[listener]]"),
        (listener("[ses_emulator]\nlisten = '10.0.0.1:1'"), "", "", ""),
        (format!("{GOOD}[[listener]]"), "f:6:1", "a listener needs an address", "address = \"127.0.0.1:2525\""),
        ("[[listener]]\naddress = '127.0.0.1:1'\n[policy]".to_owned(), "f:3:2", "policy.from is empty", "for example"),
        // An open relay.
        (
            format!("{GOOD}[[listener]]\naddress = '0.0.0.0:25'"),
            "f:7:11",
            "nothing says who may send",
            "set policy.clients",
        ),
        (
            format!("{GOOD}[[listener]]\naddress = '[::]:25'"),
            "f:7:11",
            "others may reach [::]:25",
            "set policy.clients",
        ),
        (format!("{GOOD}[[listener]]\naddress = 'systemd:0'"), "f:7:11", "nothing says who may send", ""),
        (
            format!("{GOOD}[[listener]]\naddress = '0.0.0.0:25'\nauth = 'any'\nauth_in_clear = true"),
            "f:7:11",
            "nothing says who may send",
            "",
        ),
        (
            format!("{GOOD}[[listener]]\naddress = '0.0.0.0:25'\nauth = 'optional'\nauth_in_clear = true\n{hash}"),
            "f:7:11",
            "nothing says who may send",
            "",
        ),
        // Half of AUTH.
        (listener("auth = 'required'\nauth_in_clear = true"), "f:8:8", "there are no users", "gatepost hash-password"),
        (listener(&format!("auth = 'required'\n{hash}")), "f:8:8", "AUTH would never be offered", "auth_in_clear"),
        (listener(hash), "f:8:7", "no listener where they could authenticate", "set auth = \"required\""),
        (
            listener(&format!("auth = 'any'\nauth_in_clear = true\n{hash}")),
            "f:10:7",
            "no listener where they could",
            "",
        ),
        (listener("auth_in_clear = true"), "f:8:17", "auth_in_clear without auth", ""),
        (
            listener("auth = 'optional'\nauth_in_clear = true\n[auth.users]\nann = 'secret'"),
            "f:11:7",
            "not an argon2id or bcrypt hash",
            "gatepost hash-password",
        ),
        (
            listener("auth = 'optional'\nauth_in_clear = true\n[auth]\nuser_list = \"ann:x\\nbob\\n\""),
            "f:11:13",
            "line 2 of [redacted] is not NAME:HASH",
            "",
        ),
        (
            listener("auth = 'optional'\nauth_in_clear = true\n[auth.users]\nann = { env = 'NO' }"),
            "f:11:1",
            "variable NO is not set",
            "",
        ),
        // Limits.
        (listener("[[limit]]"), "f:8:1", "a limit without rates limits nothing", "100/s burst 200"),
        (listener("[[limit]]\nrates = ['9/s']\napps = ['x']"), "f:10:9", "no application is called x", "[[app]]"),
        (
            listener("[[limit]]\nrates = ['9/s']\nby = 'recipient_domain'"),
            "f:8:1",
            "counts recipients",
            "of = \"recipients\"",
        ),
        (
            listener("[[limit]]\nrates = ['9/s']\nover = 'delay'\ndelay_seconds_max = 90"),
            "f:11:21",
            "longer than clients wait",
            "60",
        ),
        // Identities.
        (
            listener(
                "[[app]]\nname = 'x'\nnetworks = ['10.1.0.0/16']\nfrom = ['*@b.example']\n\
                 identity_arn = 'arn:aws:ses:eu-west-1:111122223333:identity/a.example'",
            ),
            "f:12:16",
            "*@b.example is not covered by the identity",
            "name the identity of that domain",
        ),
        // TLS.
        (listener("tls = 'starttls'"), "f:8:7", "TLS without a certificate", "gatepost gen-cert"),
        (listener("tls = 'starttls'\ncertificate = 'x'"), "f:8:7", "TLS without a key", ""),
        (
            listener("tls = 'implicit'\n[tls]\ncertificate = 'x'\nkey = 'y'"),
            "f:10:15",
            "no certificate in it",
            "must be PEM",
        ),
        (
            listener("tls = 'implicit'\n[tls]\ncertificate = { file = '/no/such' }\nkey = 'y'"),
            "f:10:1",
            "cannot read /no/such",
            "",
        ),
        (listener("require_tls = true"), "f:8:15", "TLS is required and never offered", ""),
        (listener("client_certificates = 'required'"), "f:8:23", "client certificates without TLS", "set tls"),
        (
            listener("tls = 'starttls'\n[tls]\ngenerate = true"),
            "f:10:12",
            "generate needs tls.certificate and tls.key",
            "",
        ),
        // Listeners among each other.
        (
            listener("name = 'a'\n[[listener]]\naddress = '127.0.0.1:26'\nname = 'a'"),
            "f:11:8",
            "another listener is called \"a\"",
            "",
        ),
        (listener("[[listener]]\naddress = '127.0.0.1:2525'"), "f:9:11", "another listener has this address", ""),
        (
            listener("proxy_protocol_from = ['10.0.0.0/8', '::/0']"),
            "f:8:38",
            "anybody could say to be any client",
            "name the proxies",
        ),
        // SES.
        (
            listener("").replace("[ses]", "[ses]\nendpoint_url = 'https://a'\nfips = true"),
            "f:3:16",
            "cannot be combined with fips",
            "",
        ),
        (
            listener("").replace("[ses]", "[ses]\nemulator = true\nprofile = 'mail'"),
            "f:4:11",
            "so profile means nothing",
            "",
        ),
        (listener("").replace("[ses]", "[ses]\nexternal_id = 'x'"), "f:3:15", "external_id without assume_role", ""),
        (listener("[ses.tags]\n'a b' = 'c'"), "f:9:9", "cannot be the name of a tag", "A-Z"),
        (
            listener("[ses_emulator]\nlisten = '10.0.0.1:1'").replace("[ses]", "[ses]\nemulator = true"),
            "f:10:10",
            "loopback only",
            "",
        ),
        // Bounds.
        (listener("[smtp]\nmessage_octets_max = 40000000"), "f:9:22", "too large for SES", "base64 adds a third"),
        (
            listener("[deadline]\nbase_seconds = 30"),
            "f:9:16",
            "a shutdown waits 25 s only",
            "raise shutdown_grace_seconds",
        ),
        (
            format!("shutdown_grace_seconds = 20\n{}", listener("")),
            "f:1:26",
            "a message of 29999000 octets may take 23.7 s",
            "",
        ),
        (
            listener("[memory]\ndisk_octets = 1000"),
            "f:9:15",
            "would never find room",
            "at least smtp.message_octets_max",
        ),
    ] {
        let told = refusal(&text);
        if place.is_empty() {
            assert_eq!(told, "good", "{text}");
            continue;
        }
        let found = told.split("\nf:").any(|problem| {
            let problem = if told.starts_with(problem) { problem.to_owned() } else { format!("f:{problem}") };
            let (first, second) = problem.split_once('\n').unwrap_or((&problem, ""));
            first.starts_with(&format!("{place}: ")) && first.contains(message) && second.contains(hint)
        });
        assert!(found, "wanted {place} {message} / {hint} of\n{text}\ngot\n{told}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
    let told =
        refusal("[[listener]]\naddress = '0.0.0.0:25'\ntls = 'starttls'\n[smtp]\nmessage_octets_max = 40000000\n");
    let places: Vec<&str> = told.lines().filter(|line| line.starts_with('f')).map(|line| &line[..3]).collect();
    assert_eq!(places, ["f: ", "f:2", "f:3", "f:5"], "{told}");
}

#[test]
fn whoever_says_who_may_send_may_listen_anywhere() {
    let hash = "[auth.users]\nann = '$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK'";
    let anywhere = format!("{GOOD}clients = ['10.0.0.0/8']\n[[listener]]\naddress = '0.0.0.0:25'");
    assert_eq!(refusal(&anywhere), "good");
    let authenticated =
        format!("{GOOD}[[listener]]\naddress = '0.0.0.0:25'\nauth = 'required'\nauth_in_clear = true\n{hash}");
    assert_eq!(refusal(&authenticated), "good");
    assert!(warnings(&authenticated).iter().any(|warning| warning.contains("passwords can be read on their way")));
}

#[test]
fn what_works_and_should_not_is_warned_of() {
    for (text, want) in [
        (listener("").replace("'*@example.com'", "'*@*'"), "f:5:9: this lets clients write mail as anybody"),
        (listener("").replace("from", "clients = ['10.0.0.0/8', '0.0.0.0/0']\nfrom"), "f:5:26: 0.0.0.0/0 is everybody"),
        (listener("").replace("from", "soft_fail = true\nfrom"), "f:5:13: mail that policy refuses is deferred"),
        (listener("auth = 'any'\nauth_in_clear = true"), "f:8:8: every password is accepted here"),
        (listener("[ses_emulator]\nsandbox = true"), "f:8:2: the settings of the emulator are not used"),
        (
            listener("").replace("[ses]", "[ses]\nendpoint_url = 'http://ses.example'"),
            "f:3:16: mail goes to that endpoint without TLS",
        ),
        (listener("").replace("hostname = 'relay.example'\n", ""), "f: this machine's name \"\" is no domain name"),
    ] {
        let told = warnings(&text);
        assert!(told.iter().any(|warning| warning.starts_with(want)), "{text}\n{told:?}");
    }
    assert_eq!(warnings(&listener("")), [""; 0]);
}

#[test]
fn certificate_and_key_must_belong_together_and_the_key_should_not_be_everybodys() {
    let directory = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned()];
    let paths = PairPaths::within(directory.path());
    Pair::make(&names).unwrap().write(&paths, false).unwrap();
    let text = listener(&format!(
        "tls = 'implicit'\n[tls]\ncertificate = {{ file = '{}' }}\nkey = {{ file = '{}' }}",
        paths.certificate.display(),
        paths.key.display()
    ));
    assert_eq!(refusal(&text), "good");
    assert_eq!(warnings(&text), [""; 0]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&paths.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let told = warnings(&text);
        assert!(told[0].starts_with("f:11:1: every user of this machine can read"), "{told:?}");
    }
    std::fs::write(&paths.key, Pair::make(&names).unwrap().key).unwrap();
    assert!(refusal(&text).starts_with("f:10:1: certificate and key cannot be used"), "{}", refusal(&text));
}

/// A name with ESC was printed as it is.
#[test]
fn a_listener_name_that_does_not_print_is_refused() {
    for (name, good) in [("main", true), ("büro 2", true), ("a\\u001B[2Jb", false), ("a\\u202Eb", false), (" ", false)]
    {
        let told = refusal(&listener(&format!("name = \"{name}\"")));
        assert_eq!(told == "good", good, "{name}: {told}");
        assert!(!told.contains('\u{1b}') && (good || told.contains("does not print")), "{told}");
    }
}

#[test]
fn a_password_in_a_url_of_an_endpoint_is_refused_and_not_shown() {
    for url in ["https://user:hunter2@ses.example", "user:hunter2@ses.example", "https://hunter2@ses.example/x y"] {
        let told = refusal(&listener("").replace("[ses]", &format!("[ses]\nendpoint_url = '{url}'")));
        assert!(told.contains("has an @") && !told.contains("hunter2"), "{told}");
        let variable = [("GATEPOST_SES__ENDPOINT_URL".to_owned(), url.to_owned())];
        let told = Config::parse(Path::new("f"), &listener(""), variable.into_iter()).unwrap_err().to_string();
        assert!(told.contains("has an @") && !told.contains("hunter2"), "{told}");
    }
}

/// A pair that is good between those years, in files of that directory.
fn dated(directory: &Path, from: i32, until: i32) -> PairPaths {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap().pem();
    let pair = Pair { authority: certificate.clone(), certificate, key: key.serialize_pem() };
    let paths = PairPaths::within(&directory.join(format!("{from}")));
    pair.write(&paths, false).unwrap();
    paths
}

#[test]
fn a_certificate_that_is_expired_or_not_yet_valid_is_an_error_of_a_check_and_a_warning_at_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let source = |path: &Path| format!("{{ file = '{}' }}", path.display());
    let pair =
        |paths: &PairPaths| format!("certificate = {}, key = {}", source(&paths.certificate), source(&paths.key));
    let good = dated(directory.path(), 2020, 2090);
    let lines = |further: &PairPaths| {
        let own = pair(&good).replace(", ", "\n");
        listener(&format!("tls = 'implicit'\n{own}\nfurther_pairs = [{{ {} }}]", pair(further)))
    };
    assert_eq!(refusal(&lines(&good)), "good");
    for (from, until, want) in
        [(2000, 2001, "the certificate expired at 2001-01-01"), (2089, 2090, "is not valid before")]
    {
        let text = lines(&dated(directory.path(), from, until));
        let told = refusal(&text);
        assert!(told.contains(want), "{told}");
        let config = Config::parse(Path::new("f"), &text, std::iter::empty()).unwrap();
        let again = config.listeners(&Surroundings::default()).unwrap();
        assert_eq!(again[0].tls.as_ref().map(|tls| tls.validity().len()), Some(2), "SIGHUP reads all pairs again");
        let start = Purpose::Start { sockets: &mut |_| Err(String::new()) };
        let plan = config.plan(&Surroundings::default(), start).unwrap();
        assert!(plan.warnings.iter().any(|warning| warning.to_string().contains(want)), "{:?}", plan.warnings);
        let tls = plan.listeners().next().and_then(|listener| listener.tls.clone()).unwrap();
        let first = tls.validity().iter().map(|validity| validity.not_after).min();
        assert!(tls.validity().len() == 2 && Some(tls.not_after()) == first, "the metric is of all pairs");
    }
    let other = dated(directory.path(), 2021, 2090);
    let mixed = PairPaths { key: other.key, ..good.clone() };
    assert!(refusal(&lines(&mixed)).contains("belong together"), "a key of another certificate");
}

#[test]
fn a_check_makes_no_certificate_and_half_a_pair_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let paths = PairPaths::within(directory.path());
    let text = listener(&format!(
        "tls = 'implicit'\n[tls]\ngenerate = true\ncertificate = {{ file = '{}' }}\nkey = {{ file = '{}' }}",
        paths.certificate.display(),
        paths.key.display()
    ));
    assert_eq!(refusal(&text), "good");
    assert!(!paths.key.exists() && !paths.certificate.exists());
    let config = Config::parse(Path::new("f.toml"), &text, std::iter::empty()).unwrap().without_lists();
    let reread = || config.listeners(&Surroundings::default()).map(|listeners| listeners.len());
    let told = reread().unwrap_err().to_string();
    assert!(told.starts_with("f.toml:") && told.contains("is gone"), "a relay that runs makes none either: {told}");
    Pair::make(&["a.example".to_owned()]).unwrap().write(&paths, false).unwrap();
    assert_eq!(reread().unwrap(), 1);
    std::fs::remove_file(&paths.certificate).unwrap();
    std::fs::write(&paths.key, "x").unwrap();
    assert!(refusal(&text).contains("nothing is overwritten"), "{}", refusal(&text));
}

#[test]
fn a_readable_file_with_secrets_in_it_is_warned_of() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let hash = "$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";
    let text = listener(&format!("auth = 'optional'\nauth_in_clear = true\n[auth.users]\nann = '{hash}'"));
    std::fs::write(file.path(), text).unwrap();
    let warned = || {
        let config = Config::load(file.path(), std::iter::empty()).unwrap();
        let plan = config.plan(&Surroundings::default(), Purpose::Check).unwrap();
        assert!(!format!("{config:?} {plan:?}").contains(hash), "a hash does not print");
        plan.warnings.iter().any(|warning| warning.message.contains("holds secrets"))
    };
    assert!(!warned());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(warned());
    }
}

proptest! {
    #[test]
    fn no_text_and_no_variable_ends_the_process(
        text in "\\PC{0,40}(\n\\PC{0,40}){0,3}",
        key in "(LISTENER|SES|POLICY|AUTH|X)(__[A-Z0-9_]{0,8}){0,4}",
        at in 0..4096usize,
    ) {
        let good = listener("[ses.tags]\na = 'b'");
        let at = (0..=at.min(good.len())).rev().find(|at| good.is_char_boundary(*at)).unwrap_or(0);
        let (head, tail) = good.split_at(at);
        for text in [text.clone(), format!("{head}{text}{tail}")] {
            if let Err(error) = plan(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
        let environment = std::iter::once((format!("GATEPOST_{key}"), text));
        let _ = Config::parse(Path::new("f"), &good, environment);
    }
}

/// It was found out by the first large message, which was refused with 451.
#[test]
fn a_directory_for_content_that_is_missing_or_a_file_is_an_error_of_check() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (path, want) in [
        (directory.path().to_owned(), "good"),
        (file, "is no directory"),
        (directory.path().join("missing"), "does not exist"),
    ] {
        let told = refusal(&listener(&format!("[memory]\ndisk_directory = {:?}", path.display().to_string())));
        assert!(told.contains(want), "{told}");
        assert!(want == "good" || told.starts_with("f:9:18: "), "{told}");
    }
}
