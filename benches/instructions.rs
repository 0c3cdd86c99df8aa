//! Instructions of the frequently executed parts: `cargo bench --no-default-features --bench instructions`.
//!
//! Needs valgrind. Counts hardly differ from run to run, however busy the machine is, so a change of one percent is
//! visible. Caches, system calls and waiting are not measured; `parts` and `load` measure them.
//!
//! Every case runs twice under callgrind, with few and with many iterations, each in a process of its own; the difference,
//! divided, is the count of one iteration, without the start of the process and of the case. `--save FILE` writes the counts,
//! `--against FILE` compares with them, another argument selects cases by name.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod cases;

use cases::{ADDRESSES, HEADER, Message, body, document, from_fields, limiters, now, policy};
use gatepost::limit::{LimitDecision, LimitStage, LimitStep};
use gatepost::mail::headers::{HeaderLimits, HeaderSection};
use gatepost::mail::parameters::AppName;
use gatepost::mail::{Granted, Mailbox, MessageId, Outcome, RuleName, author, replies};
use gatepost::policy::{AppPolicy, Policy, PolicyDecision};
use gatepost::smtp::content::{LineEndings, LongLines, Scanner, Step};
use gatepost::smtp::{Action, Answer, Session, Settings, command};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// One iteration of a case.
type Iteration = Box<dyn FnMut()>;
/// Creates a case only when it runs, because a thousand applications take time.
type Case = (String, Box<dyn FnOnce() -> Iteration>);

const FEW: u64 = 20;
const MANY: u64 = 120;

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let (mut save, mut against, mut selection) = (None, None, String::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "case" => {
                return iterate(
                    &words.next().unwrap_or_default(),
                    words.next().unwrap_or_default().parse().unwrap_or(1),
                );
            }
            "--save" => save = words.next().map(PathBuf::from),
            "--against" => against = words.next().map(PathBuf::from),
            _ => selection = word,
        }
    }
    let before: BTreeMap<String, u64> = match against {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None => BTreeMap::new(),
    };
    let mut counts = BTreeMap::new();
    for (name, _) in all() {
        if !name.contains(&selection) {
            continue;
        }
        let count = (instructions(&name, MANY)?.saturating_sub(instructions(&name, FEW)?)) / (MANY - FEW);
        let change =
            before.get(&name).map(|before| format!("{:+8.1} %", count as f64 * 100.0 / *before as f64 - 100.0));
        println!("{name:54} {count:>10} {}", change.unwrap_or_default());
        counts.insert(name, count);
    }
    match save {
        Some(path) => std::fs::write(path, serde_json::to_string_pretty(&counts)?),
        None => Ok(()),
    }
}

/// Runs a case under callgrind and returns the number of instructions.
fn instructions(name: &str, iterations: u64) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["case", name, &iterations.to_string()])
        .stdout(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("valgrind: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok());
    collected.filter(|_| output.status.success()).ok_or_else(|| io::Error::other(said.into_owned()))
}

fn iterate(name: &str, iterations: u64) -> io::Result<()> {
    let case = all().into_iter().find(|(known, _)| known == name);
    let mut iteration = case.ok_or_else(|| io::Error::other("no such case"))?.1();
    for _ in 0..iterations {
        iteration();
    }
    Ok(())
}

fn case(name: impl Into<String>, make: impl FnOnce() -> Iteration + 'static) -> Case {
    (name.into(), Box::new(make))
}

/// A case without preparation.
fn plain<T>(name: impl Into<String>, mut work: impl FnMut() -> T + 'static) -> Case {
    case(name, move || {
        Box::new(move || {
            black_box(work());
        })
    })
}

fn all() -> Vec<Case> {
    let mut cases = vec![
        plain("command: MAIL", || {
            command::parse(black_box(b"MAIL FROM:<billing@app7.example> SIZE=10240 BODY=8BITMIME")).is_ok()
        }),
        plain("command: RCPT", || command::parse(black_box(b"RCPT TO:<bob@elsewhere.example>")).is_ok()),
        plain("header section", || {
            HeaderSection::parse(black_box(HEADER.as_bytes()), &HeaderLimits::default()).is_ok()
        }),
    ];
    for address in ADDRESSES {
        cases.push(plain(format!("address: {address}"), move || Mailbox::parse(black_box(address)).is_ok()));
    }
    for place in 0..2 {
        let name = from_fields()[place].0;
        cases.push(case(format!("From: the {name} corpus"), move || {
            let (_, values) = from_fields().swap_remove(place);
            Box::new(move || {
                black_box(values.iter().filter(|value| author::parse(black_box(value)).is_ok()).count());
            })
        }));
    }
    for (name, dots) in [("10 KB", false), ("10 KB, every line stuffed", true)] {
        let wire = body(10_240, dots);
        cases.push(plain(format!("scan: {name}"), move || {
            let mut scanner = Scanner::data(LineEndings::Refuse, LongLines::Refuse, 998);
            let mut rest = black_box(&wire[..]);
            while let Step::Content(n) | Step::Dropped(n) | Step::Instead(n, _) = scanner.step(rest) {
                rest = &rest[n..];
            }
            rest.len()
        }));
    }
    cases.push(case("session: 10 KB message, pipelined", session));
    for (name, apps, with_document) in
        [("1 app", 1, false), ("1,000 apps", 1_000, false), ("1,000 apps, 20 IAM statements", 1_000, true)]
    {
        cases.push(case(format!("policy: {name}"), move || {
            deciding(policy(apps, with_document.then(document)), Message::of_app(apps - 1))
        }));
    }
    for place in 0..3 {
        let name = limiters()[place].0;
        cases.push(case(format!("limits: {name}"), move || taking(place)));
    }
    let id = MessageId::new("0100018f-0123456789abcdef-000000").unwrap();
    cases.push(plain("reply: sent, written", move || {
        let mut line = String::new();
        Outcome::sent(black_box(id.clone())).reply.write_line(&mut line);
        line
    }));
    cases.push(plain("reply: a row with a reference, written", || {
        let mut line = String::new();
        replies::LOCAL_ERROR.with_reference(black_box(&"0123456789abcdef")).write_line(&mut line);
        line
    }));
    cases
}

/// A new session for each iteration, so that none reaches its limit of messages.
fn session() -> Iteration {
    let settings = Arc::new(Settings::new("relay.example"));
    let start = gatepost::mail::Clock::now(&gatepost::mail::SystemClock);
    let mut wire = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n".to_vec();
    wire.extend_from_slice(&body(10_240, false));
    Box::new(move || {
        let mut session = Session::new(Arc::clone(&settings), start);
        session.handle_octets(black_box(&wire), start);
        while let Some(action) = session.poll() {
            if let Action::Ask(_) = action {
                session.handle_answer(Answer::Proceed, start);
            }
        }
    })
}

fn deciding(policy: AppPolicy, message: Message) -> Iteration {
    Box::new(move || {
        let decision = now(policy.message(black_box(&message.facts())));
        assert!(matches!(decision, Ok(PolicyDecision::Accept(_))));
    })
}

fn taking(place: usize) -> Iteration {
    let (_, limiter) = limiters().swap_remove(place);
    let message = Message::of_app(7);
    let mut granted = Granted::by(RuleName::parse("bench").unwrap());
    granted.app = AppName::parse("app7").ok();
    let reverse_path = message.envelope.reverse_path().clone();
    Box::new(move || {
        let stage = LimitStage::Mail;
        let step = LimitStep { client: &message.client, granted: &granted, reverse_path: &reverse_path, stage };
        assert!(matches!(limiter.try_take(black_box(&step)), LimitDecision::Taken(_)));
    })
}
