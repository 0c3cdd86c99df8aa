//! The compiled binary, driven as an operator drives it: commands, exit codes, signals, and mail on its way through.
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
    let (code, ..) = send(here, &implicit, &["--tls", "implicit"]);
    assert_eq!(code, 69);
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

/// It is linked in malloc's place, and nothing in the code calls it: were it left out, nobody would notice.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn memory_comes_from_the_allocator_that_was_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = gatepost(directory.path(), &["--version"]);
    command.env("MIMALLOC_VERBOSE", "1");
    let (code, _, told) = output(command, b"");
    assert!(code == 0 && told.contains("mimalloc: process init"), "{code} {told}");
}

/// What is in memory of the files that a process has mapped.
#[cfg(target_os = "linux")]
fn files_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_relay_gives_its_code_back_and_finds_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = development(directory.path(), &[]);
    let server = running.address("plain");
    assert_eq!(send(directory.path(), &server, &[]).0, 0);
    let process = running.child.id();
    let busy = files_kib(process);
    let mut least = busy;
    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(100));
        least = least.min(files_kib(process));
        if least < busy / 3 {
            break;
        }
    }
    assert!(least < busy / 3, "{busy} KiB, later {least}");
    assert_eq!(send(directory.path(), &server, &[]).0, 0);
    assert_eq!(kept(directory.path()).len(), 2);
    running.signal("-TERM");
    assert_eq!(running.exit_code(), Some(0), "{}", running.seen);
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
fn a_hashed_password_lets_its_user_in_and_nobody_else() {
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
            &["rule           author", "eve@evil.example fits no", "refused: 550 5.7.1"],
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
        (&["--mail-from", "x@example.com"], 77, &["none, and there are no rules", "refused: 530 5.7.0"]),
        (
            &["--app", "soft", "--mail-from", "bob@example.com"],
            75,
            &["AUTH PLAIN (ann)", "recognised by AUTH name ann", "deferred: 451"],
        ),
        (&["--auth", "bob", "--mail-from", "x@example.com"], 64, &["no such user"]),
        (&["--tls", "--mail-from", "x@example.com"], 64, &["offers no TLS"]),
        (&["--listener", "other", "--mail-from", "x@example.com"], 64, &["no listener \"other\""]),
        (&["--app", "other", "--mail-from", "x@example.com"], 64, &["no such application"]),
        (
            &["--certificate", "name=x.internal", "--mail-from", "x@example.com"],
            64,
            &["asks for no client certificates"],
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
        (&["check", "--config", "missing.toml"], 66, "cannot read missing.toml"),
        (&["run", "--config", "missing.toml"], 66, "cannot read missing.toml"),
        (&["check", "--config", "bad.toml"], 78, "bad.toml:1:1: unknown key hostnme\n  hint: did you mean hostname?"),
        (&["run", "--config", "bad.toml"], 78, "bad.toml:1:1"),
        (&["run", "--config", "taken.toml"], 69, "cannot listen"),
        (&["ses-emulator", "--listen", "0.0.0.0:0"], 64, "loopback only"),
        (&["send", "--server", "127.0.0.1:1", "--from", "a@b.c", "--to", "d@e.f"], 69, "127.0.0.1:1"),
        (&["gen-cert", "--directory", "x", "--name", "a b"], 64, "can stand in no certificate"),
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
        code == 78 && error.starts_with("environment variable GATEPOST_SES__REGOIN: unknown key"),
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
fn a_log_that_nobody_reads_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = gatepost(directory.path(), &["run", "--config"]);
    command.arg(sample("dev.toml")).env("GATEPOST_LOG", "info,gatepost=trace");
    // A known port, because the log is not read: free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    command.env("GATEPOST_LISTENER__0__ADDRESS", &free);
    command.env("GATEPOST_LISTENER__1__ADDRESS", "127.0.0.1:0").env("GATEPOST_LISTENER__2__ADDRESS", "127.0.0.1:0");
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
        "rates are counted inside a running relay: those above are of one that has just begun",
    ] {
        assert!(out.contains(line), "{out}");
    }
}
