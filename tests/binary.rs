//! The compiled binary, used as an operator uses it: commands, exit codes, signals, and mail.
//!
//! Needs no network but loopback and no AWS. Every process gets a directory and an environment of its own.

#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");
const WAIT: Duration = Duration::from_secs(20);

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// A command in that directory, with no environment but what a test adds.
fn gatepost(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(GATEPOST);
    command.args(arguments).current_dir(directory).env_clear().env("AWS_EC2_METADATA_DISABLED", "true");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(mut command: Command, input: &[u8]) -> (i32, String, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn ran(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    output(gatepost(directory, arguments), b"")
}

/// A process that runs until it is told otherwise, and what it writes to standard error.
struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines, seen: String::new() }
    }

    fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(WAIT);
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?} in\n{}", self.seen));
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Where the listener of that name listens, as the log says.
    fn address(&mut self, listener: &str) -> String {
        let line = self.line_with(&format!("listener={listener} "));
        line.split("listening on ").nth(1).unwrap().split(['"', ' ']).next().unwrap().to_owned()
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        for _ in 0..400 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(WAIT / 400);
        }
        panic!("still running\n{}", self.seen);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `gatepost run` with the development sample on free ports.
fn development(directory: &Path, more: &[(&str, &str)]) -> Running {
    let mut command = gatepost(directory, &["run", "--config"]);
    command.arg(sample("dev.toml"));
    for place in 0..3 {
        command.env(format!("GATEPOST_LISTENER__{place}__ADDRESS"), "127.0.0.1:0");
    }
    command.env("GATEPOST_ADMIN__ADDRESS", "127.0.0.1:0");
    // What somebody's shell may have: with the emulator, none of it may count.
    for (name, value) in [
        ("AWS_REGION", "eu-north-1"),
        ("AWS_PROFILE", "no-such-profile"),
        ("AWS_ACCESS_KEY_ID", "AKIAWRONG"),
        ("AWS_SECRET_ACCESS_KEY", "wrong"),
        ("AWS_SESSION_TOKEN", "wrong"),
        ("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:9"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
    ] {
        command.env(name, value);
    }
    command.envs(more.iter().copied());
    Running::start(command)
}

fn kept(directory: &Path) -> Vec<String> {
    let list = fs::read_dir(directory.join("var/ses-emulator")).unwrap();
    let mails = list.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "eml"));
    mails.map(|path| fs::read_to_string(path).unwrap()).collect()
}

const FROM_TO: [&str; 4] = ["--from", "ann@example.com", "--to", "bob@example.net"];

fn send(directory: &Path, server: &str, more: &[&str]) -> (i32, String, String) {
    let mut arguments = vec!["send", "--server", server];
    arguments.extend(FROM_TO);
    arguments.extend(more);
    ran(directory, &arguments)
}

#[test]
fn mail_goes_through_every_listener_of_the_development_sample_and_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut relay = development(here, &[]);
    relay.line_with("sending to the SES emulator");
    let [plain, starttls, implicit] = ["plain", "starttls", "implicit"].map(|name| relay.address(name));

    let ca = ["--ca", "var/certs/ca.pem"];
    for (server, tls, subject) in
        [(&plain, "none", "one"), (&starttls, "starttls", "two"), (&implicit, "implicit", "three")]
    {
        let (code, reply, error) = send(here, server, &["--tls", tls, ca[0], ca[1], "--subject", subject]);
        assert_eq!(code, 0, "{tls}: {reply}{error}\n{}", relay.seen);
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
        assert!(kept(here).iter().any(|mail| mail.contains(&format!("\r\nSubject: {subject}\r\n"))), "{tls}");
    }
    // A certificate that is not trusted, and one that is for other names.
    let (code, _, error) = send(here, &implicit, &["--tls", "implicit"]);
    assert!(
        code == 69 && error.contains("does not trust the authority") && error.contains("--ca certs/ca.pem"),
        "{error}"
    );
    // From of a stranger; a name that is none; nobody there.
    let stranger = ["send", "--server", &plain, "--from", "eve@evil.example", "--to", "bob@example.net"];
    let (code, reply, _) = ran(here, &stranger);
    assert_eq!((code, &reply[..10]), (77, "550 5.7.1 "), "{reply}");
    fs::write(here.join("bare.eml"), "From: ann@example.com\nSubject: bare line ends\n\nhello\n").unwrap();
    let (code, reply, error) = send(here, &plain, &["--file", "bare.eml"]);
    assert_eq!(code, 65, "{reply}{error}");
    fs::write(
        here.join("raw.eml"),
        "From: ann@example.com\r\nSubject: raw\r\nX-Kept:  as   it is\r\n\r\n.\r\nhello\r\n",
    )
    .unwrap();
    assert_eq!(send(here, &plain, &["--file", "raw.eml"]).0, 0);
    assert!(kept(here).iter().any(|mail| mail.ends_with("X-Kept:  as   it is\r\n\r\n.\r\nhello\r\n")));

    relay.line_with("message accepted");
    relay.signal("-TERM");
    assert_eq!(relay.exit_code(), Some(0), "{}", relay.seen);
    relay.line_with("stopping");
    assert_eq!(fs::metadata(here.join("var/certs/key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    // A second start uses the pair that is there.
    let key = fs::read(here.join("var/certs/key.pem")).unwrap();
    let mut again = development(here, &[]);
    again.address("implicit");
    assert_eq!(fs::read(here.join("var/certs/key.pem")).unwrap(), key);
    again.signal("-INT");
    assert_eq!(again.exit_code(), Some(0));
}

/// It replaces malloc at link time, and no code calls it, so no other test would fail without it.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn memory_comes_from_the_allocator_that_was_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = gatepost(directory.path(), &["--version"]);
    command.env("MIMALLOC_VERBOSE", "1");
    let (code, _, told) = output(command, b"");
    assert!(code == 0 && told.contains("mimalloc: process init"), "{code} {told}");
}

#[test]
fn a_second_signal_cuts_and_the_exit_code_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut relay = development(directory.path(), &[("GATEPOST_SES_EMULATOR__LATENCY_MILLISECONDS", "15000")]);
    let plain = relay.address("plain");
    let mut client = TcpStream::connect(&plain).unwrap();
    client
        .write_all(
            b"EHLO c\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n\
              From: ann@example.com\r\n\r\nhello\r\n.\r\n",
        )
        .unwrap();
    let mut read = BufReader::new(client.try_clone().unwrap());
    let mut line = String::new();
    while !line.starts_with("354") {
        line.clear();
        assert!(read.read_line(&mut line).unwrap() > 0);
    }
    std::thread::sleep(Duration::from_millis(300));
    relay.signal("-TERM");
    relay.line_with("stopping");
    assert!(relay.child.try_wait().unwrap().is_none(), "the message under way is waited for");
    relay.signal("-TERM");
    assert_eq!(relay.exit_code(), Some(75));
    let mut rest = String::new();
    let _ = read.read_to_string(&mut rest);
    assert!(!rest.contains("250 2.0.0"), "{rest}");
}

#[test]
fn a_hashed_password_admits_only_its_user() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let (code, hash, error) = output(gatepost(here, &["hash-password"]), b"correct horse\n");
    assert!(code == 0 && hash.starts_with("$argon2id$"), "{hash}{error}");
    assert_eq!(ran(here, &["hash-password"]).0, 65, "nothing is no password");

    let mut relay = development(
        here,
        &[
            ("GATEPOST_LISTENER__1__AUTH", "required"),
            ("GATEPOST_AUTH__USERS__ANN", hash.trim()),
            ("GATEPOST_LOG__FORMAT", "human"),
        ],
    );
    let server = relay.address("starttls");
    fs::write(here.join("right"), "correct horse\n").unwrap();
    fs::write(here.join("wrong"), "battery staple\n").unwrap();
    let tls = ["--tls", "starttls", "--ca", "var/certs/ca.pem"];
    let with = |more: &[&str]| send(here, &server, &[&tls[..], more].concat());
    assert_eq!(with(&["--user", "ann", "--password-file", "right"]).0, 0, "{}", relay.seen);
    let line = relay.line_with("message accepted");
    for field in [
        " identity=ann tls=TLSv1_3 mail_from=ann@example.com from=ann@example.com to=bob@example.net recipients=1 ",
        " message_id=\"\" ",
        " rule=*@example.com app=default ",
        " detail=\"\" reply=\"250 2.0.0 Ok",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
    for more in
        [&["--user", "ann", "--password-file", "wrong"][..], &["--user", "bob", "--password-file", "right"], &[]]
    {
        let (code, reply, error) = with(more);
        assert_eq!(code, 77, "{more:?}: {reply}{error}");
    }
    assert_eq!(with(&["--user", "ann"]).0, 64, "a user without a password");
    assert_eq!(send(here, &server, &["--user", "ann", "--password-file", "right"]).0, 64, "a password in clear");
}

#[test]
fn a_unix_socket_has_its_mode_and_the_log_can_be_json_without_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(
        here.join("f.toml"),
        "hostname = 'localhost'\n[log]\nformat = 'json'\naddresses = 'hashed'\n[policy]\nfrom = ['*@example.com']\n\
         [ses]\nemulator = true\n[[listener]]\naddress = 'unix:smtp.sock'\nsocket_mode = '0600'\n",
    )
    .unwrap();
    let mut relay = Running::start(gatepost(here, &["run", "--config", "f.toml"]));
    relay.line_with("listening on smtp.sock");
    assert_eq!(fs::metadata(here.join("smtp.sock")).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = UnixStream::connect(here.join("smtp.sock")).unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    client
        .write_all(
            b"EHLO c\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n\
              From: ann@example.com\r\n\r\nhello\r\n.\r\nQUIT\r\n",
        )
        .unwrap();
    let mut replies = String::new();
    client.read_to_string(&mut replies).unwrap();
    assert!(replies.contains("\r\n250 2.0.0 Ok "), "{replies}");
    let line: serde_json::Value = serde_json::from_str(&relay.line_with("message accepted")).unwrap();
    assert_eq!(line["listener"], "unix:smtp.sock");
    let from = line["from"].as_str().unwrap();
    assert!(from.starts_with('~') && from.ends_with("@example.com"), "{from}");
    relay.signal("-TERM");
    assert_eq!(relay.exit_code(), Some(0));
    assert!(!here.join("smtp.sock").exists());
    for line in relay.seen.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

/// It began with a warning about the quota, with a chain of 600 characters that had line ends in it.
#[test]
fn a_start_without_credentials_says_so_in_one_sentence_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let config = "hostname = 'localhost'\n[log]\nformat = 'json'\n[policy]\nfrom = ['*@example.com']\n\
         [ses]\nregion = 'eu-central-1'\nendpoint_url = 'http://127.0.0.1:9'\n[[listener]]\nname = 'plain'\naddress = '127.0.0.1:0'\n";
    fs::write(here.join("f.toml"), config).unwrap();
    let fault = |more: &[(&str, &str)]| {
        let mut command = gatepost(here, &["run", "--config", "f.toml"]);
        command.env("HOME", here).envs(more.iter().copied());
        let mut relay = Running::start(command);
        let line: serde_json::Value = serde_json::from_str(&relay.line_with("sending is degraded")).unwrap();
        if !relay.seen.contains("listening on") {
            relay.line_with("listening on");
        }
        assert!(!relay.seen.contains("quota"), "{}", relay.seen);
        line["fault"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        fault(&[]),
        "no AWS credentials found: give the process a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    );
    let refused = fault(&[("AWS_ACCESS_KEY_ID", "AKIAX"), ("AWS_SECRET_ACCESS_KEY", "x")]);
    assert!(refused.starts_with("cannot connect to 127.0.0.1: ") && refused.ends_with("ses.endpoint_url"), "{refused}");
}

#[test]
fn sockets_of_systemds_are_taken_by_number_and_by_name() {
    let directory = tempfile::tempdir().unwrap();
    for address in ["systemd:0", "systemd:smtp"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = listener.local_addr().unwrap();
        fs::write(
            directory.path().join("f.toml"),
            format!(
                "hostname = 'localhost'\n[policy]\nfrom = ['*@example.com']\nclients = ['127.0.0.1']\n\
                 [ses]\nemulator = true\n[[listener]]\nname = 'passed'\naddress = '{address}'\n"
            ),
        )
        .unwrap();
        // LISTEN_PID is the number of the process that execs; the socket is its descriptor 3.
        let script = "LISTEN_PID=$$ exec \"$0\" run --config f.toml 3<&0 </dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script, GATEPOST]).current_dir(directory.path()).env_clear();
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "smtp");
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut relay = Running::start(command);
        assert_eq!(relay.address("passed"), bound.to_string(), "{address}");
        assert_eq!(send(directory.path(), &bound.to_string(), &[]).0, 0);
        relay.signal("-TERM");
        assert_eq!(relay.exit_code(), Some(0));
    }
    let (code, _, error) = ran(directory.path(), &["run", "--config", "f.toml"]);
    assert!(code == 78 && error.contains("systemd passed none"), "{code} {error}");
    assert_eq!(ran(directory.path(), &["check", "--config", "f.toml"]).0, 0, "a check has no sockets and needs none");
}

#[test]
fn the_samples_are_good_when_checked_from_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["minimal.toml", "reference.toml", "dev.toml"] {
        let mut command = gatepost(directory.path(), &["check", "--config"]);
        command.arg(sample(name)).env("AWS_REGION", "eu-west-1");
        let (code, text, error) = output(command, b"");
        assert!(code == 0 && text.ends_with("good\n"), "{name}: {text}{error}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a check writes nothing");
    let mut command = gatepost(directory.path(), &["check", "--config"]);
    command.arg(sample("minimal.toml"));
    let (code, _, error) = output(command, b"");
    assert!(code == 78 && error.contains("no AWS region"), "{code} {error}");
}

#[test]
fn an_explanation_says_what_would_happen_and_exits_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(
        here.join("f.toml"),
        "hostname = 'localhost'\n[[listener]]\nname = 'main'\naddress = '0.0.0.0:0'\nauth = 'optional'\n\
         auth_in_clear = true\n[[app]]\nname = 'billing'\nnetworks = ['10.1.0.0/16']\nfrom = ['*@example.com']\n\
         configuration_set = 'own'\nrecipients_denied = ['ceo@b.example']\n\
         [[app]]\nname = 'soft'\nauth = ['ann']\nfrom = ['ann@example.com']\nsoft_fail = true\n\
         [auth.users]\nann = '$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK'\n",
    )
    .unwrap();
    fs::write(here.join("lf.eml"), "From: Eve <eve@evil.example>\nTo: b@b.example\n\nhello\n").unwrap();
    let explain =
        |more: &[&str]| ran(here, &[&["explain", "--config", "f.toml", "--rcpt", "b@b.example"][..], more].concat());
    for (more, code, texts) in [
        (
            &["--app", "billing", "--mail-from", "x@example.com"][..],
            0,
            &["recognised by network 10.1.0.0/16", "config. set    own", "accepted: 250"][..],
        ),
        (
            &["--client", "10.1.2.3:99", "--from", "X <x@example.com>"],
            0,
            &["MAIL FROM:<x@example.com>", "X <x@example.com>"],
        ),
        (
            &["--client", "10.1.2.3", "--file", "lf.eml", "--mail-from", "x@example.com"],
            77,
            &["rule           author", "eve@evil.example matches no", "refused: 550 5.7.1"],
        ),
        (
            &["--client", "10.1.2.3", "--file", "lf.eml"],
            77,
            &["MAIL FROM:<eve@evil.example>", "rule           reverse_path"],
        ),
        (
            &["--app", "billing", "--mail-from", "x@example.com", "--rcpt", "ceo@b.example"],
            77,
            &["recipients_denied", "message of"],
        ),
        (&["--mail-from", "x@example.com"], 77, &["there is no default application", "refused: 530 5.7.0"]),
        (
            &["--app", "soft", "--mail-from", "bob@example.com"],
            75,
            &["AUTH PLAIN (ann)", "recognised by AUTH name ann", "deferred: 451"],
        ),
        (&["--auth", "bob", "--mail-from", "x@example.com"], 64, &["no such user"]),
        (&["--tls", "--mail-from", "x@example.com"], 64, &["offers no TLS"]),
        (
            &["--listener", "other", "--mail-from", "x@example.com"],
            64,
            &["no such listener", "name the listener as the file has it"],
        ),
        (&["--app", "other", "--mail-from", "x@example.com"], 64, &["no such application"]),
        (
            &["--certificate", "name=x.internal", "--mail-from", "x@example.com"],
            64,
            &["requests no client certificates"],
        ),
        (&["--certificate", "cn=x", "--mail-from", "x@example.com"], 64, &["fingerprint:"]),
        (&[], 64, &["--file"]),
    ] {
        let (got, stdout, stderr) = explain(more);
        assert_eq!(got, code, "{more:?}: {stdout}{stderr}");
        for text in texts {
            assert!(format!("{stdout}{stderr}").contains(text), "{more:?}: no {text:?} in {stdout}{stderr}");
        }
    }
    let (code, text, _) = explain(&["--app", "billing", "--mail-from", "x@example.com", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["allowed"], &told["sent"]["configuration_set"]), (0, &true.into(), &"own".into()));
    assert_eq!(told["steps"][1]["notes"][0]["topic"], "application");
    fs::write(here.join("f.toml"), "[[app]]\n").unwrap();
    assert_eq!(explain(&["--mail-from", "x@example.com"]).0, 78);
}

/// Every application of every sample that is shipped, with the files that it names.
#[test]
fn every_application_of_every_sample_can_be_explained_by_its_name_alone() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    assert_eq!(ran(here, &["gen-cert", "--directory", "etc", "--name", "localhost"]).0, 0);
    let hash = "$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";
    for name in ["web", "grafana", "scanner", "payroll", "consoleme"] {
        fs::write(here.join("etc").join(format!("{name}.hash")), hash).unwrap();
    }
    let mut explained = Vec::new();
    let samples = ["minimal.toml", "dev.toml", "reference.toml"].map(sample).into_iter();
    let examples = fs::read_dir(sample("examples")).unwrap().map(|entry| entry.unwrap().path());
    for path in samples.chain(examples) {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("/etc/gatepost/", "etc/").replace("/var/lib/gatepost", "state");
        fs::write(here.join("f.toml"), &text).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        for app in table.get("app").and_then(toml::Value::as_array).into_iter().flatten() {
            let name = app["name"].as_str().unwrap();
            let words = ["explain", "--config", "f.toml", "--app", name, "--rcpt", "someone@example.com", "--json"];
            let (code, text, error) = ran(here, &words);
            assert_eq!(code, 0, "{}: {name}: {text}{error}", path.display());
            let told: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (&told["sent"]["app"], &told["chosen"]["client"]["app"]),
                (&name.into(), &name.into()),
                "{text}"
            );
            explained.push(name.to_owned());
        }
    }
    for name in ["old-scanners", "new-scanners", "web", "batch", "jenkins", "payroll", "newsletter", "consoleme"] {
        assert!(explained.iter().any(|known| known == name), "{name} of {explained:?}");
    }
}

#[test]
fn the_client_of_an_explanation_is_one_that_is_recognised_as_the_application() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let hash = "$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";
    let listener = |name: &str, more: &str| format!("[[listener]]\nname = '{name}'\naddress = '{more}\n");
    let app = |name: &str, more: &str| format!("[[app]]\nname = '{name}'\nfrom = ['{name}+*@example.com']\n{more}\n");
    let text = [
        "hostname = 'relay.example'\n".to_owned(),
        // AUTH that makes no identity, a listener on this machine, one that asks for AUTH, and a socket.
        listener("any", "0.0.0.0:2525'\nauth = 'any'\nauth_in_clear = true"),
        listener("local", "127.0.0.1:2526'"),
        listener("auth", "0.0.0.0:2587'\nauth = 'required'\nauth_in_clear = true"),
        listener("also", "0.0.0.0:2588'\nauth = 'optional'\nauth_in_clear = true"),
        listener("socket", "unix:smtp.sock'"),
        app("shop", "auth = ['shop', 'shop2']"),
        app("wide", "networks = ['10.0.0.0/8']\nlisteners = ['local', 'also']"),
        app("first", "networks = ['10.0.0.0/24']"),
        app("last", "networks = ['10.255.255.0/24']"),
        app("batch", "listeners = ['socket']"),
        app("inner", "networks = ['10.7.0.0/16']\nlisteners = ['auth']"),
        app("shadow", "networks = ['10.7.0.0/17', '10.7.128.0/17']"),
        app("shadowed", "networks = ['10.7.0.0/17']\nlisteners = ['also']"),
        app("twin", "networks = ['10.7.0.0/17']\nlisteners = ['also']"),
        app("far", "networks = ['10.9.0.0/16']\nlisteners = ['local']"),
        format!("[auth.users]\nshop = '{hash}'\nshop2 = '{hash}'\nother = '{hash}'\n[ses]\nregion = 'eu-west-1'\n"),
    ];
    fs::write(here.join("f.toml"), text.concat()).unwrap();
    let explain = |name: &str, more: &[&str]| {
        let words = ["explain", "--config", "f.toml", "--rcpt", "b@b.example", "--app", name];
        ran(here, &[&words[..], more].concat())
    };
    for (name, want) in [
        ("shop", &["client         127.0.0.1 at listener auth, AUTH name shop, recognised as shop"][..]),
        ("shop", &["or             listener auth, AUTH name shop2", "or             listener also, AUTH name shop"]),
        ("shop", &["from           shop+1@example.com, made from the pattern shop+*@example.com", "accepted: 250"]),
        // Not an address of the more specific networks inside, and not the listener that its clients cannot reach.
        ("wide", &["client         10.0.1.0 at listener also, recognised as wide", "accepted: 250"]),
        ("first", &["client         10.0.0.1 at listener any, recognised as first", "accepted: 250"]),
        ("batch", &["client         unix at listener socket, recognised as batch", "accepted: 250"]),
        // Its listener requires AUTH, so a user is taken that is no other application.
        (
            "inner",
            &[
                "client         10.7.0.1 at listener auth, AUTH name other\n",
                "this client is not recognised as inner: shadow",
            ],
        ),
        ("shadowed", &["client         10.7.0.1 at listener also, recognised as shadowed", "accepted: 250"]),
        ("twin", &["note           this client is not recognised as twin: shadowed is recognised first", "shadowed"]),
        ("far", &["no client of far can reach a listener that it may use: local listens on this machine only"]),
    ] {
        let (_, stdout, stderr) = explain(name, &[]);
        for text in want {
            assert!(stdout.contains(text), "{name}: no {text:?} in\n{stdout}{stderr}");
        }
    }
    // What is given is kept, and what does not fit is said.
    let (code, stdout, _) = explain("shop", &["--listener", "also"]);
    assert!(code == 0 && stdout.contains("at listener also, AUTH name shop, recognised as shop"), "{stdout}");
    let (code, stdout, _) = explain("first", &["--client", "10.9.9.9", "--from", "first+2@example.com"]);
    assert!(code == 77 && stdout.contains("is not recognised as first"), "{code} {stdout}");
    let (code, stdout, stderr) = explain("shop", &["--listener", "any"]);
    assert!(
        code == 64 && stderr.contains("no client can match all of certificates, auth, networks and listeners of shop"),
        "{code} {stdout}{stderr}"
    );
    let (code, _, stderr) = explain("shpo", &[]);
    assert!(code == 64 && stderr.contains("did you mean \"shop\"?"), "{stderr}");
    // Without an application there is nothing to derive a message from.
    let (code, _, stderr) = ran(here, &["explain", "--config", "f.toml", "--rcpt", "b@b.example"]);
    assert!(code == 64 && ["--from", "--mail-from", "--file"].iter().all(|flag| stderr.contains(flag)), "{stderr}");
}

#[test]
fn a_check_reviews_the_configuration_as_text_and_as_json_and_may_be_strict() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    assert_eq!(ran(here, &["gen-cert", "--directory", ".", "--name", "relay.example"]).0, 0);
    let hash = "$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";
    fs::write(here.join("users"), format!("ann:{hash}\nbob:{hash}\n")).unwrap();
    fs::set_permissions(here.join("users"), fs::Permissions::from_mode(0o600)).unwrap();
    let good = "hostname = 'relay.example'\n[[listener]]\nname = 'main'\naddress = '0.0.0.0:2587'\ntls = 'starttls'\n\
        auth = 'required'\nproxy_protocol_from = ['10.1.0.0/28']\n[tls]\ncertificate = { file = 'cert.pem' }\n\
        key = { file = 'key.pem' }\n[auth]\nuser_list = { file = 'users' }\n[[app]]\nname = 'billing'\n\
        networks = ['10.1.7.0/24']\nfrom = ['*@example.com']\nconfiguration_set = 'own'\ntenant = 'acme'\n\
        tags = { app = '{app}' }\nassume_role = 'arn:aws:iam::111122223333:role/billing'\n[[limit]]\nname = 'storm'\n\
        apps = ['billing']\nrates = ['5/s burst 100']\n[admin]\naddress = '127.0.0.1:9925'\n[ses]\nregion = 'eu-west-1'\n\
        identity_arn = 'arn:aws:ses:eu-west-1:111122223333:identity/example.com'\nfeedback = 'account'\n";
    fs::write(here.join("good.toml"), good).unwrap();
    let check = |arguments: &[&str]| {
        let mut command = gatepost(here, &[&["check", "--config"][..], arguments].concat());
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "hunter2");
        output(command, b"")
    };
    let (code, text, error) = check(&["good.toml", "--strict"]);
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    for row in [
        "listener     main on 0.0.0.0:2587: tls starttls, auth required, PROXY header from 10.1.0.0/28\n",
        "certificate  cert.pem of listener main: relay.example; expires 20",
        "users        2\n",
        "app          billing: network 10.1.7.0/24 as *@example.com\n",
        "sent with    billing: configuration set own, feedback account, identity arn:aws:ses:eu-west-1:111122223333:identity/\
         example.com, role arn:aws:iam::111122223333:role/billing, tenant acme, tags app={app}\n",
        "others       may not send\n",
        "limit        storm: 5/s burst 100 messages by app, for billing; over it: defer\n",
        "admin        127.0.0.1:9925, without a token\n",
        "region       eu-west-1\n",
        "credentials  environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY\n",
        "good.toml: good\n",
    ] {
        assert!(text.contains(row), "no {row:?} in\n{text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("AKIA") && !text.contains("$2b$"), "{text}");
    let (code, text, _) = check(&["good.toml", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &told["good"], &told["errors"], &told["warnings"]),
        (0, &true.into(), &serde_json::json!([]), &serde_json::json!([]))
    );
    let review = &told["review"];
    assert_eq!((&review["users"], &review["region"]), (&2.into(), &"eu-west-1".into()), "{text}");
    assert_eq!(review["apps"][0]["sent_with"]["configuration_set"], "own");
    assert_eq!(review["certificates"][0]["names"][0], "relay.example");
    assert!(review["certificates"][0]["days_left"].as_i64().unwrap() > 390, "{text}");

    // A warning: it is good, and not for --strict.
    let warned = good.replace("networks = ['10.1.7.0/24']", "networks = ['10.1.7.0/24']\nsoft_fail = true");
    fs::write(here.join("warned.toml"), warned).unwrap();
    let row = "warning      warned.toml:16:13: mail that policy refuses is deferred, so clients keep trying; hint: for a roll-out";
    for (arguments, want, last) in [
        (&["warned.toml"][..], 0, "warned.toml: good\n"),
        (&["warned.toml", "--strict"], 78, "warned.toml: 1 warning; --strict fails on warnings\n"),
    ] {
        let (code, text, error) = check(arguments);
        assert_eq!((code, error.as_str()), (want, ""), "{text}");
        assert!(text.lines().any(|line| line.starts_with(row)) && text.ends_with(last), "{text}");
    }
    let (code, text, _) = check(&["warned.toml", "--strict", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["good"], &told["warnings"][0]["place"]), (78, &false.into(), &"warned.toml:16:13".into()));

    // Errors, with the warnings beside them.
    fs::write(here.join("bad.toml"), good.replace("region = 'eu-west-1'", "region = 'eu-west-1a'\nfips = true"))
        .unwrap();
    let (code, text, error) = check(&["bad.toml"]);
    let row = "error        bad.toml:28:10: region \"eu-west-1a\" is an availability zone, not a region; hint: write eu-west-1\n";
    assert_eq!((code, error.as_str(), text.as_str()), (78, row, "bad.toml: 1 error, 0 warnings\n"));
    let (code, text, error) = check(&["bad.toml", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, error.as_str(), &told["good"], &told["review"]),
        (78, "", &false.into(), &serde_json::Value::Null)
    );
    assert_eq!(
        (&told["errors"][0]["place"], &told["errors"][0]["hint"]),
        (&"bad.toml:28:10".into(), &"write eu-west-1".into())
    );
    fs::write(here.join("syntax.toml"), "hostname = \n").unwrap();
    let (code, text, _) = check(&["syntax.toml", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        code == 78 && told["errors"][0]["place"] == "syntax.toml:1:12" && told["errors"][0]["hint"].is_string(),
        "{text}"
    );
}

/// A collector that reads JSON dropped the one line that says why there is no relay.
#[test]
fn a_start_that_fails_says_why_in_the_format_of_the_log_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port();
    let with = |lines: &str| {
        format!(
            "hostname = 'localhost'\n[log]\nformat = 'json'\n[policy]\nfrom = ['*@example.com']\n[ses]\n\
             emulator = true\n[[listener]]\nname = 'scan'\n{lines}\n"
        )
    };
    let socket = format!("find it with `ss -ltnp 'sport = :{port}'`");
    for (lines, code, place, message, hint) in [
        (format!("address = '{address}'"), 69, "f.toml:10:11", "listener scan: cannot listen on", &*socket),
        (format!("address = '{address}'"), 69, "f.toml:10:11", "Address already in use", "listener.0.address"),
        (
            "address = 'unix:none/smtp.sock'".to_owned(),
            69,
            "f.toml:10:11",
            "none/smtp.sock",
            "the directory none does not",
        ),
        (
            format!("address = '127.0.0.1:0'\n[admin]\naddress = '{address}'"),
            69,
            "f.toml:12:11",
            "Address already in use",
            "admin.address",
        ),
        (
            "address = '192.0.2.1:25'".to_owned(),
            78,
            "f.toml:10:11",
            "the configuration does not limit who may send",
            "policy.clients",
        ),
        ("adress = 'x'".to_owned(), 78, "f.toml:10:1", "unknown key adress", "did you mean address?"),
    ] {
        fs::write(here.join("f.toml"), with(&lines)).unwrap();
        let (got, _, error) = ran(here, &["run", "--config", "f.toml"]);
        assert_eq!(got, code, "{lines}: {error}");
        let told: Vec<serde_json::Value> = error.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = told.last().unwrap();
        let text = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (text("level"), text("place"), &last["exit_code"]),
            ("ERROR".to_owned(), place.to_owned(), &code.into())
        );
        assert!(text("message").contains(message) && text("hint").contains(hint), "{last}");
        // The same for people.
        fs::write(here.join("f.toml"), with(&lines).replace("'json'", "'human'")).unwrap();
        let (_, _, error) = ran(here, &["run", "--config", "f.toml"]);
        let line = error.lines().find(|line| line.starts_with(&format!("{place}: "))).unwrap();
        assert!(line.contains(message) && error.contains("\n  hint: ") && error.contains(hint), "{error}");
    }
    // A pipe can be read once.
    let text = with(&format!("address = '{address}'"));
    let (code, _, error) = output(gatepost(here, &["run", "--config", "/dev/stdin"]), text.as_bytes());
    assert!(code == 69 && error.lines().last().unwrap().contains("\"/dev/stdin:10:11\""), "{code} {error}");
    // A file that cannot be read says nothing about the log; the environment may.
    for (format, json) in [(None, false), (Some("json"), true)] {
        let mut command = gatepost(here, &["run", "--config", "none.toml"]);
        command.envs(format.map(|format| ("GATEPOST_LOG__FORMAT", format)));
        let (code, _, error) = output(command, b"");
        assert_eq!((code, serde_json::from_str::<serde_json::Value>(&error).is_ok()), (66, json), "{error}");
        assert!(error.contains("cannot read none.toml") && error.contains("correct the path of --config"), "{error}");
    }
}

#[test]
fn a_missing_configuration_is_reported_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    if Path::new("/etc/gatepost/gatepost.toml").exists() {
        return;
    }
    for command in ["run", "check"] {
        let (code, _, error) = ran(directory.path(), &[command]);
        assert_eq!(code, 66, "{error}");
        for text in ["cannot read /etc/gatepost/gatepost.toml", "--config FILE", "GATEPOST_CONFIG", "gatepost demo"] {
            assert!(error.contains(text), "{command}: {error}");
        }
    }
}

#[test]
fn sighup_reads_everything_again_or_leaves_all_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    assert_eq!(ran(here, &["gen-cert", "--directory", ".", "--name", "localhost"]).0, 0);
    let text = "hostname = 'localhost'\n[policy]\nfrom = ['*@example.com']\n[ses]\nemulator = true\n[[listener]]\n\
        name = 'main'\naddress = '127.0.0.1:0'\ntls = 'starttls'\n[tls]\ncertificate = { file = 'cert.pem' }\n\
        key = { file = 'key.pem' }\n";
    fs::write(here.join("f.toml"), text).unwrap();
    let mut relay = Running::start(gatepost(here, &["run", "--config", "f.toml"]));
    relay.address("main");
    relay.signal("-HUP");
    let line = relay.line_with("the configuration is reloaded");
    assert!(line.contains("trigger=SIGHUP") && line.contains("changes=0"), "{line}");
    let good = fs::read(here.join("key.pem")).unwrap();
    fs::write(here.join("f.toml"), text.replace("example.com", "example.org")).unwrap();
    fs::write(here.join("key.pem"), "no key").unwrap();
    relay.signal("-HUP");
    let line = relay.line_with("the configuration is not reloaded");
    assert!(line.contains("key.pem: no private key in it") && line.contains("f.toml:12:1"), "{line}");
    fs::write(here.join("key.pem"), good).unwrap();
    relay.signal("-HUP");
    let line = relay.line_with("reloaded: policy.from changes");
    assert!(line.contains("example.org"), "{line}");
    fs::write(here.join("f.toml"), format!("log.level = 'debug'\n{text}")).unwrap();
    relay.signal("-HUP");
    let line = relay.line_with("a change of log needs a restart");
    assert!(line.contains("f.toml:1:1"), "{line}");
    relay.signal("-TERM");
    assert_eq!(relay.exit_code(), Some(0));
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = "hostname = 'localhost'\n[policy]\nfrom = ['*@example.com']\n[ses]\nemulator = true\n[[listener]]\n";
    fs::write(here.join("bad.toml"), "hostnme = 'x'\n").unwrap();
    fs::write(here.join("taken.toml"), format!("{good}address = '{}'\n", taken.local_addr().unwrap())).unwrap();
    for (arguments, code, text) in [
        (&["--version"][..], 0, concat!("gatepost ", env!("CARGO_PKG_VERSION"))),
        (&["--help"], 0, "hash-password"),
        (&[], 64, "Usage"),
        (&["serve"], 64, "unrecognized subcommand"),
        (&["send"], 64, "--server"),
        (&["check", "--config", "missing.toml"], 66, "error        cannot read missing.toml"),
        (&["check", "--config", "missing.toml", "--json"], 66, "\"message\": \"cannot read missing.toml"),
        (&["run", "--config", "missing.toml"], 66, "cannot read missing.toml"),
        (
            &["check", "--config", "bad.toml"],
            78,
            "error        bad.toml:1:1: unknown key hostnme; hint: did you mean hostname?",
        ),
        (&["run", "--config", "bad.toml"], 78, "bad.toml:1:1: unknown key hostnme\n  hint: did you mean hostname?"),
        (&["run", "--config", "taken.toml"], 69, "cannot listen"),
        (&["ses-emulator", "--listen", "0.0.0.0:0"], 64, "loopback only"),
        (&["send", "--server", "127.0.0.1:1", "--from", "a@b.c", "--to", "d@e.f"], 69, "127.0.0.1:1"),
        (&["gen-cert", "--directory", "x", "--name", "a b"], 64, "cannot be in a certificate"),
    ] {
        let (got, stdout, stderr) = ran(here, arguments);
        assert_eq!(got, code, "{arguments:?}: {stdout}{stderr}");
        assert!(format!("{stdout}{stderr}").contains(text), "{arguments:?}: {stdout}{stderr}");
    }
    let real = good.replace("emulator = true", "region = 'us-east-1'");
    fs::write(here.join("real.toml"), format!("{real}address = '127.0.0.1:0'\n")).unwrap();
    let mut command = gatepost(here, &["run", "--config", "real.toml"]);
    command.env("SSL_CERT_FILE", "/dev/null");
    let (code, _, error) = output(command, b"");
    assert!(code == 78 && error.contains("no root certificates: install ca-certificates"), "{code} {error}");
    let mut command = gatepost(here, &["check", "--config", "taken.toml"]);
    command.env("GATEPOST_SES__REGOIN", "x");
    let (code, _, error) = output(command, b"");
    assert!(
        code == 78 && error.starts_with("error        environment variable GATEPOST_SES__REGOIN: unknown key"),
        "{code} {error}"
    );
}

#[test]
fn a_pair_is_made_once_and_the_key_is_its_owners_only() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let arguments = ["gen-cert", "--directory", "certs", "--name", "relay.example"];
    let (code, text, error) = ran(here, &arguments);
    assert!(code == 0 && text.contains("relay.example"), "{text}{error}");
    let key = fs::read(here.join("certs/key.pem")).unwrap();
    assert_eq!(fs::metadata(here.join("certs/key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, error) = ran(here, &arguments);
    assert!(code == 73 && error.contains("--force"), "{error}");
    assert_eq!(fs::read(here.join("certs/key.pem")).unwrap(), key);
    assert_eq!(ran(here, &[&arguments[..], &["--force"]].concat()).0, 0);
    assert_ne!(fs::read(here.join("certs/key.pem")).unwrap(), key);
}

#[test]
fn the_schema_is_json_and_a_reader_may_go_away() {
    let directory = tempfile::tempdir().unwrap();
    let (code, text, _) = ran(directory.path(), &["schema"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let script = "\"$0\" schema | true; \"$0\" schema | head -c 1";
    let output = Command::new("sh").args(["-c", script, GATEPOST]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// `gatepost ses-emulator` by itself, where it is, and what else it tells.
fn emulator(directory: &Path) -> (Running, String, Lines<BufReader<ChildStdout>>) {
    let command = gatepost(directory, &["ses-emulator", "--listen", "127.0.0.1:0", "--directory", "kept"]);
    let mut emulator = Running::start(command);
    let mut told = BufReader::new(emulator.child.stdout.take().unwrap()).lines();
    let endpoint = told.next().unwrap().unwrap();
    (emulator, endpoint.strip_prefix("AWS_ENDPOINT_URL_SESV2=http://").unwrap().to_owned(), told)
}

/// A relay to SES, with these lines more under `[ses]` and this environment beside credentials.
fn relay_to_ses(directory: &Path, ses: &str, environment: &[(&str, &str)]) -> Running {
    fs::write(
        directory.join("relay.toml"),
        format!(
            "hostname = 'localhost'\n[policy]\nfrom = ['*@example.com']\n\
             [ses]\nregion = 'us-east-1'\n{ses}\n[[listener]]\nname = 'plain'\naddress = '127.0.0.1:0'\n"
        ),
    )
    .unwrap();
    let mut command = gatepost(directory, &["run", "--config", "relay.toml"]);
    command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
    command.env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    command.envs(environment.iter().copied());
    Running::start(command)
}

#[test]
fn a_proxy_of_the_environment_is_asked_for_ses() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let (_emulator, proxy, _told) = emulator(here);
    let proxy = format!("http://{proxy}");
    let mut relay = relay_to_ses(here, "endpoint_url = 'http://ses.example'", &[("http_proxy", &proxy)]);
    let address = relay.address("plain");
    let (code, reply, error) = send(here, &address, &[]);
    assert_eq!(code, 0, "{reply}{error}\n{}", relay.seen);
    assert_eq!(fs::read_dir(here.join("kept")).unwrap().count(), 2, "the message and its envelope");
}

/// A proxy would look for the emulator on its own machine, and would see messages that leave nowhere.
#[test]
fn a_proxy_of_the_environment_is_not_asked_for_an_endpoint_on_this_machine() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let (_emulator, endpoint, _told) = emulator(here);
    let nowhere = [("http_proxy", "http://127.0.0.1:9"), ("HTTPS_PROXY", "http://127.0.0.1:9")];
    let mut relay = relay_to_ses(here, &format!("endpoint_url = 'http://{endpoint}'"), &nowhere);
    let address = relay.address("plain");
    let (code, reply, error) = send(here, &address, &[]);
    assert_eq!(code, 0, "{reply}{error}\n{}", relay.seen);
}

#[test]
fn the_endpoint_may_stand_in_environment_or_profile_and_is_looked_at_before_anything_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let (_emulator, endpoint, _told) = emulator(here);
    let endpoint = format!("http://{endpoint}");
    let profile = here.join("aws-config");
    fs::write(&profile, format!("[default]\nservices = ours\n[services ours]\nsesv2 =\n  endpoint_url = {endpoint}\n"))
        .unwrap();
    let nowhere = "http://127.0.0.1:9";
    for (sent, environment) in [
        // Of the service before that of all.
        (1, &[("AWS_ENDPOINT_URL_SESV2", &*endpoint), ("AWS_ENDPOINT_URL", nowhere)][..]),
        (2, &[("AWS_ENDPOINT_URL", &*endpoint)]),
        (3, &[("AWS_CONFIG_FILE", profile.to_str().unwrap())]),
    ] {
        let mut relay = relay_to_ses(here, "", environment);
        let address = relay.address("plain");
        let (code, reply, error) = send(here, &address, &[]);
        assert_eq!(code, 0, "{environment:?}: {reply}{error}\n{}", relay.seen);
        assert_eq!(fs::read_dir(here.join("kept")).unwrap().count(), 2 * sent, "{environment:?}");
    }
    for (ses, url, told) in [
        ("", "ftp://ses.example", "must begin with https://"),
        ("fips = true", nowhere, "cannot be combined with FIPS or dual stack"),
    ] {
        let mut relay = relay_to_ses(here, ses, &[("AWS_ENDPOINT_URL_SESV2", url)]);
        relay.line_with(told);
    }
}

#[test]
fn the_demo_needs_no_file_and_says_where_everything_is() {
    let directory = tempfile::tempdir().unwrap();
    // One of its ports is taken, here or by another process.
    let _taken = TcpListener::bind("127.0.0.1:2525");
    let mut demo = gatepost(directory.path(), &["demo", "--directory", "new/place"]).spawn().unwrap();
    let log = demo.stderr.take().unwrap();
    std::thread::spawn(move || BufReader::new(log).lines().for_each(drop));
    let mut told = String::new();
    for line in BufReader::new(demo.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        told += &format!("{line}\n");
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let demo = Running { child: demo, lines: channel().1, seen: told.clone() };
    let row = |name: &str| {
        told.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_else(|| panic!("{told}")).trim()
    };
    let server = row("SMTP").split(',').next().unwrap();
    assert!(server != "127.0.0.1:2525" && told.contains(&format!("--url smtp://{server}/")), "{told}");
    let (code, reply, error) = send(directory.path(), server, &[]);
    assert_eq!(code, 0, "{reply}{error}");
    let place = directory.path().canonicalize().unwrap().join("new/place");
    assert!(fs::exists(row("TLS authority")).unwrap());
    assert_eq!(row("accepted mail"), place.join("var/ses-emulator").to_str().unwrap());
    assert_eq!(kept(&place).len(), 1);
    let admin = row("health, metrics").strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut client = TcpStream::connect(admin).unwrap();
    client.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    demo.signal("-INT");
    let mut demo = demo;
    assert_eq!(demo.exit_code(), Some(0));
}

/// Once the image listened on the loopback address of the container, where no client is.
#[test]
fn the_configuration_of_the_image_can_be_reached_and_is_no_open_relay() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let (_, hash, _) = output(gatepost(here, &["hash-password"]), b"secret");
    fs::write(here.join("users"), format!("app:{hash}")).unwrap();
    fs::set_permissions(here.join("users"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(sample("../deploy/container.toml")).unwrap();
    let place = here.to_str().unwrap();
    let text = text.replace("/etc/gatepost/users", &format!("{place}/users")).replace("/var/lib/gatepost", place);
    fs::write(here.join("gatepost.toml"), text.replace("0.0.0.0:2525", "0.0.0.0:0")).unwrap();
    let mut command = gatepost(here, &["run", "--config", "gatepost.toml"]);
    command.env("GATEPOST_SES__EMULATOR", "true").env("GATEPOST_LOG__FORMAT", "human");
    command.env("GATEPOST_APP__0__FROM", "[\"*@example.com\"]").env("GATEPOST_HOSTNAME", "localhost");
    let mut relay = Running::start(command);
    let port = relay.address("submission").rsplit_once(':').unwrap().1.to_owned();
    let server = format!("localhost:{port}");
    let tls = ["--tls", "starttls", "--ca", "certs/ca.pem"];
    for (more, want) in [
        (&["--tls", "none"][..], "530 5.7.0"),
        (&tls, "530 5.7.0"),
        (&[&tls[..], &["--user", "app", "--password-env", "SECRET"]].concat(), "250 2.0.0"),
    ] {
        let mut arguments = vec!["send", "--server", &server];
        arguments.extend(FROM_TO);
        arguments.extend(more);
        let mut command = gatepost(here, &arguments);
        command.env("SECRET", "secret");
        let (_, reply, error) = output(command, b"");
        assert!(reply.starts_with(want), "{more:?}: {reply}{error}");
    }
}

#[test]
fn the_emulator_alone_says_how_to_reach_it_and_stops_at_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let (mut emulator, address, mut told) = emulator(directory.path());
    TcpStream::connect(address).unwrap();
    let names: Vec<String> =
        told.by_ref().take(3).map(|line| line.unwrap().split('=').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
    assert!(directory.path().join("kept").is_dir());
    emulator.signal("-TERM");
    assert_eq!(emulator.exit_code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_mail() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = gatepost(directory.path(), &["run", "--config"]);
    command.arg(sample("dev.toml")).env("GATEPOST_LOG", "info,gatepost=trace");
    // A known port, because the log is not read: free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    command.env("GATEPOST_LISTENER__0__ADDRESS", &free);
    command.env("GATEPOST_LISTENER__1__ADDRESS", "127.0.0.1:0").env("GATEPOST_LISTENER__2__ADDRESS", "127.0.0.1:0");
    command.env("GATEPOST_ADMIN__ADDRESS", "127.0.0.1:0");
    let mut child = command.spawn().unwrap();
    let client = (0..200)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(&free).ok()
        })
        .unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    // Every refused command is a line; a pipe holds 64 KiB. The relay would stand still if a line could hold it.
    for _ in 0..60 {
        let mut connection = TcpStream::connect(&free).unwrap();
        connection.set_read_timeout(Some(WAIT)).unwrap();
        connection.write_all(&b"NONSENSE\r\n".repeat(19)).unwrap();
        connection.write_all(b"QUIT\r\n").unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        assert!(text.contains("\r\n221 "), "{text}");
    }
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    drop(client);
    let ended = (0..400).find_map(|_| {
        std::thread::sleep(WAIT / 400);
        child.try_wait().unwrap()
    });
    let _ = child.kill();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "a full pipe must not keep us from ending");
}

/// systemd connects standard error to the journal and names the stream; here a file is that stream.
#[test]
fn in_the_journal_lines_have_their_priority() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let file = here.join("journal");
    let run = |other_stream: bool, more: &[(&str, &str)]| -> Vec<String> {
        let stderr = fs::File::create(&file).unwrap();
        let metadata = stderr.metadata().unwrap();
        let stream = format!("{}:{}", metadata.dev(), metadata.ino() + u64::from(other_stream));
        let mut command = gatepost(here, &["run", "--config"]);
        command.arg(sample("dev.toml")).env("JOURNAL_STREAM", stream).stderr(stderr);
        for place in 0..3 {
            command.env(format!("GATEPOST_LISTENER__{place}__ADDRESS"), "127.0.0.1:0");
        }
        command.env("GATEPOST_ADMIN__ADDRESS", "127.0.0.1:0").envs(more.iter().copied());
        let mut child = command.spawn().unwrap();
        let written = || fs::read_to_string(&file).unwrap();
        let mut told = false;
        for _ in 0..400 {
            if child.try_wait().unwrap().is_some() {
                return written().lines().map(str::to_owned).collect();
            }
            if !told && written().contains("admin endpoint on") {
                told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success();
            }
            std::thread::sleep(WAIT / 400);
        }
        let _ = child.kill();
        panic!("still running\n{}", written());
    };
    let human = ("GATEPOST_LOG__FORMAT", "human");
    let lines = run(false, &[human]);
    assert!(lines[0].starts_with("<6>level=INFO message=starting "), "{lines:?}");
    let warning = lines.iter().find(|line| line.contains("sending to the SES emulator")).unwrap();
    assert!(warning.starts_with("<4>level=WARN "), "{warning}");
    assert!(lines.iter().all(|line| line.starts_with('<') && !line.contains("timestamp=")), "{lines:?}");
    // A stream that is not the journal, and a format that programs read.
    let lines = run(true, &[human]);
    assert!(lines.iter().all(|line| line.starts_with("timestamp=")), "{lines:?}");
    let lines = run(false, &[("GATEPOST_LOG__FORMAT", "json")]);
    assert!(lines.iter().all(|line| line.starts_with("{\"timestamp\":")), "{lines:?}");
    // A start that fails: the hint is an error too.
    let lines = run(false, &[human, ("GATEPOST_LISTENER__0__ADDRESS", "192.0.2.1:2525")]);
    assert!(
        lines.iter().any(|line| line.starts_with("<3>environment variable GATEPOST_LISTENER__0__ADDRESS: ")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("<3>  hint: ")), "{lines:?}");
}

#[test]
fn explain_shows_what_is_left_and_says_what_it_cannot_know() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let config = "[[listener]]\naddress = '127.0.0.1:0'\n[policy]\nfrom = ['*@example.com']\n[ses]\nemulator = true\n\
        [[limit]]\nname = 'l'\nby = 'relay'\nrates = ['10/s burst 20', '5/day']\n[limits]\nstate_directory = 'state'\n";
    fs::write(here.join("f.toml"), config).unwrap();
    let words = ["explain", "--config", "f.toml", "--from", "ann@example.com", "--rcpt", "bob@example.net"];
    let (code, out, error) = ran(here, &words);
    assert_eq!(code, 0, "{out}{error}");
    for line in [
        "l: 20 of 10/s burst 20 left, this takes 1",
        "l: 5 of 5/day left, this takes 1",
        "rates are counted in the running relay: those above are as after a start",
    ] {
        assert!(out.contains(line), "{out}");
    }
}

/// A relay that keeps everything, and whose SES does not answer.
fn spooling(directory: &Path, admin: &str) -> PathBuf {
    let file = directory.join("gatepost.toml");
    let spool = directory.join("spool");
    let text = format!(
        "hostname = 'relay.example'\n[ses]\nregion = 'us-east-1'\nendpoint_url = 'http://127.0.0.1:9'\n\
         [policy]\nfrom = ['*@example.com']\ndelivery = 'spool'\n[spool]\ndirectory = '{}'\n\
         [admin]\naddress = '{admin}'\n[[listener]]\nname = 'plain'\naddress = '127.0.0.1:0'\n",
        spool.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn the_queue_is_operated_while_the_relay_runs_and_when_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let admin = format!("unix:{}", here.join("admin.sock").display());
    let config = spooling(here, &admin);
    let config = config.to_str().unwrap();
    let start = || {
        let mut command = gatepost(here, &["run", "--config", config]);
        command.envs([("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
        Running::start(command)
    };
    let queue = |arguments: &[&str]| ran(here, &[&["queue"], arguments, &["--config", config]].concat());
    let ids = || -> Vec<String> {
        let (_, rows, _) = queue(&["list", "--json"]);
        let rows = rows.lines().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut relay = start();
    let address = relay.address("plain");
    for _ in 0..3 {
        let (code, reply, _) = send(here, &address, &[]);
        assert!(code == 0 && reply.contains("Ok queued as"), "{reply}");
    }
    assert_eq!(ids().len(), 3);
    let (one, two) = (&ids()[0], &ids()[1]);
    let (code, text, _) = queue(&["hold", one, two]);
    assert!(code == 0 && text.contains(&format!("held {one}")) && text.ends_with("-- 2 messages held\n"), "{text}");
    let (_, text, _) = queue(&["list", "--state", "held"]);
    assert!(text.contains("-- 2 messages") && text.contains("an operator holds it"), "{text}");
    let (code, text, _) = queue(&["show", one]);
    assert!(code == 0 && text.contains("held because") && text.contains("recipients "), "{text}");
    let (code, text, _) = queue(&["release", one]);
    assert!(code == 0 && text.contains(&format!("released {one}")), "{text}");
    let out = here.join("out");
    let (code, ..) = queue(&["export", two, "--directory", out.to_str().unwrap()]);
    let content = std::fs::read_to_string(out.join(format!("{two}.eml"))).unwrap();
    assert!(code == 0 && content.contains("\r\n\r\n") && out.join(format!("{two}.json")).exists());
    let (code, text, _) = queue(&["remove", two]);
    assert!(code == 0 && text.contains(&format!("removed {two}")), "{text}");
    relay.line_with("status=removed");
    assert_eq!(ids().len(), 2);
    // What selects nothing, or what is not there.
    assert_eq!(queue(&["remove"]).0, 64);
    assert_eq!(queue(&["hold", two]).0, 65);
    assert_eq!(queue(&["show", "nonsense"]).0, 65);
    let (code, _, error) = queue(&["fsck"]);
    assert!(code == 73 && error.contains("in use by another process") && error.contains("admin.address"), "{error}");
    relay.signal("-TERM");
    assert_eq!(relay.exit_code(), Some(0));
    // The relay is stopped: the command reads the files.
    assert_eq!(ids().len(), 2);
    assert_eq!(queue(&["hold", "--all"]).0, 0);
    let (code, text, _) = queue(&["fsck"]);
    assert!(code == 0 && text.starts_with("-- 2 messages are good, 0 are damaged"), "{text}");
    let (code, text, _) = queue(&["remove", "--app", "default"]);
    assert!(code == 0 && text.ends_with("-- 2 messages removed\n"), "{text}");
    assert!(ids().is_empty());
}

#[test]
fn the_queue_of_a_relay_is_closed_to_programs_without_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let config = spooling(here, "127.0.0.1:0");
    let mut command = gatepost(here, &["run", "--config", config.to_str().unwrap()]);
    command.envs([("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    let mut relay = Running::start(command);
    let line = relay.line_with("admin endpoint on");
    let address = line.split("admin endpoint on ").nth(1).unwrap().split([':', ' ', '"']).collect::<Vec<_>>();
    let address = format!("{}:{}", address[0], address[1]);
    for (method, path, host, want) in [
        ("GET", "/api/v1/queue", "x", "loopback"),
        ("POST", "/api/v1/queue/remove", "x", "loopback"),
        ("POST", "/api/v1/queue/remove", "localhost", "admin.operator_tokens"),
        ("GET", "/api/v1/queue/x/content", "localhost", "admin.operator_tokens"),
    ] {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(want), "{method} {path}: {answer}");
    }
}

#[test]
fn status_and_decisions_say_what_a_running_relay_does() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let admin = format!("unix:{}", here.join("admin.sock").display());
    let config = spooling(here, &admin);
    let config = config.to_str().unwrap();
    let command = |name: &str, arguments: &[&str]| ran(here, &[&[name], arguments, &["--config", config]].concat());
    let (code, _, error) = command("status", &[]);
    assert!(code == 69 && error.contains("no relay answers on") && error.contains("is the relay running"), "{error}");
    let mut run = gatepost(here, &["run", "--config", config]);
    run.envs([("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    let mut relay = Running::start(run);
    let address = relay.address("plain");
    let (_, reply, _) = send(here, &address, &[]);
    let id = reply.split("Ok queued as ").nth(1).unwrap().trim().to_owned();
    let (code, text, _) = command("status", &[]);
    assert!(code == 0 && text.starts_with("status ") && text.contains("hostname       relay.example"), "{text}");
    assert!(text.contains(&format!("listener       plain {address}, tls none, auth off")), "{text}");
    let (_, text, _) = command("status", &["--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["hostname"], "relay.example");
    let (code, text, _) = command("decisions", &["--reference", &id]);
    assert!(code == 0 && text.lines().count() == 1 && text.contains(" kept ") && text.contains(&id), "{text}");
    let (_, text, _) = command("decisions", &["--result", "kept", "--json"]);
    let row: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((row["reference"].as_str(), row["app"].as_str()), (Some(&*id), Some("default")));
    assert_eq!(command("decisions", &["--rule", "none"]).1, "");
    let (code, _, error) = command("decisions", &["--since", "yesterday"]);
    assert!(code == 65 && error.contains("the relay answered 400: since is \"yesterday\""), "{error}");
    let (code, _, error) = command("queue", &["list", "--operator", "ann"]);
    assert!(code == 64 && error.contains("admin.operator_tokens has no ann"), "{error}");
    relay.signal("-TERM");
    assert_eq!(relay.exit_code(), Some(0));
}

#[test]
fn over_tcp_the_queue_is_changed_with_the_token_of_an_operator_and_read_with_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reads = format!("{port}'\ntoken = '0123456789abcdef0123456789abcdef");
    let both = format!("{reads}'\noperator_tokens = {{ alice = 'fedcba9876543210fedcba9876543210' }}\n# '");
    let config = spooling(here, &both);
    let config = config.to_str().unwrap();
    let mut run = gatepost(here, &["run", "--config", config]);
    run.envs([("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    let mut relay = Running::start(run);
    let address = relay.address("plain");
    assert!(send(here, &address, &[]).1.contains("Ok queued as"));
    let (code, text, error) = ran(here, &["queue", "hold", "--all", "--config", config]);
    assert!(code == 0 && text.ends_with("-- 1 message held\n"), "{text}{error}");
    let line = relay.line_with("operator action");
    assert!(line.contains("operator=alice") && line.contains("status=200"), "{line}");
    // A user who may read one token only has a file with that.
    spooling(here, &reads);
    let (code, _, error) = ran(here, &["queue", "release", "--all", "--config", config]);
    assert!(code == 77 && error.contains("admin.operator_tokens"), "{code} {error}");
    assert_eq!(ran(here, &["queue", "list", "--config", config]).0, 0);
    assert_eq!(ran(here, &["decisions", "--config", config]).0, 0);
    assert_eq!(ran(here, &["status", "--config", config]).0, 0);
    relay.signal("-TERM");
    assert_eq!(relay.exit_code(), Some(0));
}
