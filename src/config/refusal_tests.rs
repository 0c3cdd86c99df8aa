//! What a wrong configuration is told: place, message and hint, word by word where they matter.

use super::certificates::{Pair, PairPaths};
use super::{Config, ConfigError, Plan, ProcessEnvironment, Purpose};
use proptest::prelude::*;
use std::path::Path;

/// A configuration that is good, in lines of its own: rows lay their lines below it.
const GOOD: &str = "hostname = 'relay.example'\n[ses]\nregion = 'eu-west-1'\n[policy]\nfrom = ['*@example.com']\n";

fn plan(text: &str) -> Result<Plan, ConfigError> {
    Config::parse(Path::new("f"), text, std::iter::empty())?.plan(&ProcessEnvironment::default(), Purpose::Check)
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
        ("url = 'redis://127.0.0.1'", "the number of relays is not set"),
        ("instances = 2", "without url, no limit is shared"),
        ("url = 'cache.example:6379'\ninstances = 2", "it is not a Redis URL"),
        ("url = 'rediss://u:hunter2@a/#insecure'\ninstances = 2", "it is not a Redis URL"),
        ("url = ' '\ninstances = 2", "it is empty"),
        ("url = 'redis://a redis://b'\ninstances = 2", "several nodes without cluster mode"),
        ("url = 'redis://a rediss://b'\ninstances = 2\ncluster = true", "some nodes are reached with TLS"),
        ("url = 'redis://a'\ninstances = 2\nusername = 'u'", "a user without a password"),
        ("url = 'redis://a'\ninstances = 2\nprefix = 'a{b'", "is not a prefix"),
        ("url = 'redis://a'\ninstances = 0", "0 is out of range"),
        ("url = 'rediss://a'\ninstances = 2\nauthorities = '-----BEGIN CERTIFICATE-----'", "Redis settings"),
    ] {
        let told = refusal(&format!("{}[redis]\n{lines}\n", listener("")));
        assert!(told.contains(want) && !told.contains("hunter2"), "{lines}: {told}");
    }
    for (lines, want) in [
        ("url = 'redis://:hunter2@cache.example'", Some("the password can be read on the network")),
        ("url = 'redis://:hunter2@127.0.0.1'", None),
        ("url = 'rediss://:hunter2@cache.example'", None),
        ("url = 'redis://cache.example'\nauthorities = 'x'", Some("without TLS, no certificate is verified")),
    ] {
        let told = warnings(&format!("{}[redis]\n{lines}\ninstances = 2\n", listener(""))).join("\n");
        assert!(
            !told.contains("hunter2") && want.map_or(told.is_empty(), |want| told.contains(want)),
            "{lines}: {told}"
        );
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
    let told =
        refusal("[[listener]]\naddress = '0.0.0.0:25'\ntls = 'starttls'\n[smtp]\nmessage_octets_max = 40000000\n");
    let source_map: Vec<&str> = told.lines().filter(|line| line.starts_with('f')).map(|line| &line[..3]).collect();
    assert_eq!(source_map, ["f: ", "f:2", "f:3", "f:5"], "{told}");
}

#[test]
fn whoever_says_who_may_send_may_listen_anywhere() {
    let hash = "[auth.users]\nann = '$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK'";
    let anywhere = format!("{GOOD}clients = ['10.0.0.0/8']\n[[listener]]\naddress = '0.0.0.0:25'");
    assert_eq!(refusal(&anywhere), "good");
    let authenticated =
        format!("{GOOD}[[listener]]\naddress = '0.0.0.0:25'\nauth = 'required'\nauth_in_clear = true\n{hash}");
    assert_eq!(refusal(&authenticated), "good");
    assert!(
        warnings(&authenticated)
            .iter()
            .any(|warning| warning.contains("passwords to this listener can be read on the network"))
    );
}

#[test]
fn what_works_and_should_not_is_warned_of() {
    for (text, want) in [
        (listener("").replace("'*@example.com'", "'*@*'"), "f:5:9: this lets clients write messages with any From"),
        (
            listener("").replace("from", "clients = ['10.0.0.0/8', '0.0.0.0/0']\nfrom"),
            "f:5:26: 0.0.0.0/0 is every address",
        ),
        (listener("").replace("from", "soft_fail = true\nfrom"), "f:5:13: mail that policy refuses is deferred"),
        (listener("auth = 'any'\nauth_in_clear = true"), "f:8:8: every password is accepted here"),
        (listener("[ses_emulator]\nsandbox = true"), "f:8:2: the settings of the emulator are not used"),
        (
            listener("").replace("[ses]", "[ses]\nendpoint_url = 'http://ses.example'"),
            "f:3:16: mail goes to that endpoint without TLS",
        ),
        (listener("").replace("hostname = 'relay.example'\n", ""), "f: this machine's name \"\" is not a domain name"),
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
    assert!(refusal(&text).contains("is not the one of this certificate"), "{}", refusal(&text));
}

/// A name with ESC was printed as it is.
#[test]
fn a_listener_name_that_does_not_print_is_refused() {
    for (name, good) in [("main", true), ("büro 2", true), ("a\\u001B[2Jb", false), ("a\\u202Eb", false), (" ", false)]
    {
        let told = refusal(&listener(&format!("name = \"{name}\"")));
        assert_eq!(told == "good", good, "{name}: {told}");
        assert!(!told.contains('\u{1b}') && (good || told.contains("unprintable character")), "{told}");
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
        let again = config.plan(&ProcessEnvironment::default(), Purpose::Reload).unwrap();
        let tls = again.listeners().next().and_then(|listener| listener.tls.clone()).unwrap();
        assert_eq!(tls.validity().len(), 2, "a reload reads all pairs again");
        let start = Purpose::Start { sockets: &mut |_| Err(String::new()) };
        let plan = config.plan(&ProcessEnvironment::default(), start).unwrap();
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
    let config = Config::parse(Path::new("f.toml"), &text, std::iter::empty()).unwrap();
    let reread = || config.plan(&ProcessEnvironment::default(), Purpose::Reload).map(|plan| plan.listeners().count());
    let told = reread().unwrap_err().to_string();
    assert!(
        told.starts_with("f.toml:") && told.contains("no longer exists"),
        "a relay that runs makes none either: {told}"
    );
    Pair::make(&["a.example".to_owned()]).unwrap().write(&paths, false).unwrap();
    assert_eq!(reread().unwrap(), 1);
    std::fs::remove_file(&paths.certificate).unwrap();
    std::fs::write(&paths.key, "x").unwrap();
    assert!(refusal(&text).contains("existing files are not overwritten"), "{}", refusal(&text));
}

#[test]
fn a_readable_file_with_secrets_in_it_is_warned_of() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let hash = "$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";
    let text = listener(&format!("auth = 'optional'\nauth_in_clear = true\n[auth.users]\nann = '{hash}'"));
    std::fs::write(file.path(), text).unwrap();
    let warned = || {
        let config = Config::load(file.path(), std::iter::empty()).unwrap();
        let plan = config.plan(&ProcessEnvironment::default(), Purpose::Check).unwrap();
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
        (file, "is not a directory"),
        (directory.path().join("missing"), "does not exist"),
    ] {
        let told = refusal(&listener(&format!("[memory]\ndisk_directory = {:?}", path.display().to_string())));
        assert!(told.contains(want), "{told}");
        assert!(want == "good" || told.starts_with("f:9:18: "), "{told}");
    }
}
