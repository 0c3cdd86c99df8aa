//! Properties of every dialogue, tested with generated ones.

use crate::settings::settings;
use crate::transcript::{AskedAbout, Auth, ListenerSettings, ScriptedAnswer};
use crate::without_io::ScriptedCaller;
use gatepost::mail::{Clock, ManualClock, MessageId, Receipt, replies};
use gatepost::smtp::{Action, Answer, Question, Session};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Small, so that dialogues meet it.
const MESSAGE_OCTETS_MAX: usize = 100;

const MAIL: &str = "MAIL FROM:<ann@a.example>\r\n";
const RCPT: &str = "RCPT TO:<bob@b.example>\r\n";

fn command() -> impl Strategy<Value = String> {
    let plain = |line: &str| Just(line.to_owned());
    let chunk = (0usize..60, any::<bool>()).prop_map(|(n, last)| bdat_line(n, last));
    prop_oneof![
        2 => plain("EHLO client.example\r\n"),
        2 => plain(MAIL),
        2 => plain(RCPT),
        3 => plain(&format!("RSET\r\n{MAIL}{RCPT}DATA\r\n")),
        3 => (0usize..60).prop_map(|n| format!("RSET\r\n{MAIL}{RCPT}{}", bdat_line(n, false))),
        2 => plain("DATA\r\n"),
        4 => chunk,
        1 => plain("RSET\r\n"),
        1 => plain("NOOP\r\n"),
        1 => plain("BDAT 5\n"),
        1 => plain("BDAT 5 FIRST\r\n"),
    ]
}

fn bdat_line(octets: usize, last: bool) -> String {
    format!("BDAT {octets}{}\r\n", if last { " LAST" } else { "" })
}

/// What content is made of, and what attacks on its end are made of.
fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("\r\n.\r\n".to_owned()),
        6 => "[a.\r\n]{1,6}",
        4 => "[a.]{1,30}\r\n",
        1 => Just("\0".to_owned()),
        1 => Just("x".repeat(1_100)),
        3 => evil_command(),
    ]
}

/// Commands that occur in content only.
fn evil_command() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("EHLO evil"),
        Just("RSET"),
        Just("MAIL FROM:<evil@e.example>"),
        Just("RCPT TO:<evil@e.example>"),
        Just("DATA"),
        Just("BDAT 3 LAST"),
        Just("AUTH PLAIN AGV2aWwAZXZpbA=="),
        Just("QUIT"),
        Just("STARTTLS"),
    ];
    (line, prop_oneof![Just("\r\n"), Just("\n"), Just("\r"), Just("\r\r\n")])
        .prop_map(|(line, end)| format!("{line}{end}"))
}

fn wire() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![command(), content()], 1..30)
        .prop_map(|pieces| format!("EHLO client.example\r\n{}", pieces.concat()))
}

fn listener(normalize: bool) -> ListenerSettings {
    ListenerSettings {
        normalize,
        auth: Auth::Optional,
        auth_in_clear: true,
        message_octets_max: Some(MESSAGE_OCTETS_MAX as u64),
        errors_max: Some(100_000),
        ..ListenerSettings::default()
    }
}

/// The caller refuses some of what it is asked.
fn refusals() -> impl Strategy<Value = Vec<ScriptedAnswer>> {
    let about = prop_oneof![
        Just(AskedAbout::Mail("<ann@a.example>".into())),
        Just(AskedAbout::Rcpt("<bob@b.example>".into())),
        Just(AskedAbout::Data),
        Just(AskedAbout::Commit),
    ];
    let answer = (about, prop_oneof![Just((451, 4)), Just((550, 5))]).prop_map(|(to, (code, class))| ScriptedAnswer {
        to,
        code,
        status: (class, 7, 1),
        text: "no".into(),
    });
    proptest::collection::vec(answer, 0..3)
}

/// The plainest possible reading of a connection on which the caller accepts everything: the content of each message
/// that is complete and without fault. Reads the whole wire at once and knows no states but "where" and "how far".
fn reference(wire: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut at = 0;
    let (mut mail, mut rcpt, mut chunks): (bool, bool, Option<Vec<u8>>) = (false, false, None);
    while let Some(end) = wire[at..].iter().position(|octet| *octet == b'\n').map(|found| at + found + 1) {
        let line = String::from_utf8_lossy(&wire[at..end]).into_owned();
        at = end;
        match line.as_str() {
            "EHLO client.example\r\n" | "EHLO evil\r\n" | "RSET\r\n" => (mail, rcpt, chunks) = (false, false, None),
            MAIL | "MAIL FROM:<evil@e.example>\r\n" => mail = true,
            RCPT | "RCPT TO:<evil@e.example>\r\n" => rcpt |= mail,
            "QUIT\r\n" => break,
            "DATA\r\n" if rcpt && chunks.is_none() => {
                let found = match wire[at..].starts_with(b".\r\n") {
                    true => Some(0),
                    false => wire[at..].windows(5).position(|five| five == b"\r\n.\r\n").map(|found| found + 2),
                };
                let Some(octets) = found else { break };
                if octets + 2 > 2 * MESSAGE_OCTETS_MAX {
                    break;
                }
                let unstuffed = String::from_utf8_lossy(&wire[at..at + octets]).replace("\r\n.", "\r\n");
                let content = unstuffed.strip_prefix('.').unwrap_or(&unstuffed).as_bytes().to_vec();
                messages.extend(faultless(&content).then_some(content));
                at += octets + 3;
                (mail, rcpt) = (false, false);
            }
            bdat if bdat.starts_with("BDAT ") => {
                let line = bdat.strip_suffix("\r\n").filter(|line| !line.contains(char::is_control));
                let size = line.and_then(|line| line.split(' ').nth(1)?.parse::<usize>().ok());
                let Some(octets) = size else { break };
                let Some(chunk) = wire.get(at..at + octets) else { break };
                at += octets;
                let known = bdat.matches(' ').count() == 1 || bdat.ends_with(" LAST\r\n");
                let mut content = chunks.take().unwrap_or_default();
                content.extend_from_slice(chunk);
                // The second half of a line end may come with the next chunk.
                let whole = if content.ends_with(b"\r") { &content[..content.len() - 1] } else { &content[..] };
                if !rcpt || !known || !faultless(whole) || content.len() > MESSAGE_OCTETS_MAX {
                    (mail, rcpt) = (false, false);
                } else if bdat.ends_with(" LAST\r\n") {
                    if !content.is_empty() && !content.ends_with(b"\r\n") {
                        content.extend_from_slice(b"\r\n");
                    }
                    // The line end that the client left out counts too.
                    messages.extend(faultless(&content).then_some(content));
                    (mail, rcpt) = (false, false);
                } else {
                    chunks = Some(content);
                }
            }
            _ => {}
        }
    }
    messages
}

fn faultless(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let lines = text.replace("\r\n", "\u{1}");
    content.len() <= MESSAGE_OCTETS_MAX && !lines.contains(['\r', '\n', '\0'])
}

/// Everything that can be seen from outside.
fn played(wire: &[u8], normalize: bool, answers: &[ScriptedAnswer], pieces: &[usize]) -> ScriptedCaller {
    let mut caller = ScriptedCaller::new(settings(&listener(normalize)), answers.to_vec());
    let mut rest = wire;
    for size in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        caller.receive(piece);
        rest = after;
    }
    caller
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn messages_are_those_of_the_plain_reading(wire in wire()) {
        // AUTH and STARTTLS would need a reading of their own.
        prop_assume!(!wire.contains("AUTH") && !wire.contains("STARTTLS"));
        let caller = played(wire.as_bytes(), false, &[], &[usize::MAX]);
        let contents: Vec<Vec<u8>> = caller.messages.into_iter().map(|message| message.content).collect();
        prop_assert_eq!(contents, reference(wire.as_bytes()), "{:?}", caller.replies);
    }

    #[test]
    fn replies_and_messages_are_the_same_however_the_octets_are_cut(
        wire in wire(),
        normalize in any::<bool>(),
        answers in refusals(),
        pieces in proptest::collection::vec(1usize..40, 1..10),
    ) {
        let whole = played(wire.as_bytes(), normalize, &answers, &[usize::MAX]);
        let cut = played(wire.as_bytes(), normalize, &answers, &pieces);
        prop_assert_eq!(&whole.replies, &cut.replies);
        prop_assert_eq!(&whole.questions, &cut.questions);
        prop_assert_eq!(&whole.messages, &cut.messages);
        prop_assert_eq!(whole.closed, cut.closed);
        let commits = whole.questions.iter().filter(|question| *question == "Commit").count();
        let mails = wire.matches("MAIL FROM").count();
        prop_assert!(commits <= mails);
    }

    /// The client is honest and its content is not.
    #[test]
    fn content_is_never_run_as_commands(
        content in proptest::collection::vec(content(), 1..12),
        normalize in any::<bool>(),
        answers in refusals(),
        cuts in proptest::collection::vec(0usize..80, 0..4),
        by_chunks in any::<bool>(),
        pieces in proptest::collection::vec(1usize..40, 1..10),
    ) {
        let mut caller = ScriptedCaller::new(settings(&listener(normalize)), answers);
        caller.receive(format!("EHLO client.example\r\n{MAIL}{RCPT}").as_bytes());
        let wire = if by_chunks {
            let content = content.concat();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (content.len() + 1)).collect();
            places.extend([0, content.len()]);
            places.sort_unstable();
            let last = places.len() - 2;
            let chunk = |(number, ends): (usize, &[usize])| {
                format!("{}{}", bdat_line(ends[1] - ends[0], number == last), &content[ends[0]..ends[1]])
            };
            places.windows(2).enumerate().map(chunk).collect::<String>()
        } else {
            caller.receive(b"DATA\r\n");
            if caller.replies.back().is_some_and(|reply| reply.starts_with("354")) {
                // What an honest client cannot send is the end of data itself.
                let mut content = format!("z{}z", content.concat());
                while content.contains("\r\n.\r\n") {
                    content = content.replace("\r\n.\r\n", "\r\n..\r\n");
                }
                content + "\r\n.\r\n"
            } else {
                String::new()
            }
        };
        let mut rest = wire.as_bytes();
        for size in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            caller.receive(piece);
            rest = after;
        }
        caller.receive(b"HELP\r\n");
        prop_assert!(!caller.questions.iter().any(|question| question.contains("evil")), "{:?}", caller.questions);
        prop_assert!(caller.messages.len() <= 1);
        prop_assert!(caller.closed || caller.replies.back().unwrap().starts_with("214"), "{:?}", caller.replies);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever peer and caller do, in whatever order.
    #[test]
    fn nothing_makes_a_session_panic(calls in proptest::collection::vec((0u8..12, wire(), 0u64..400), 1..30)) {
        let clock = ManualClock::new();
        let mut settings = settings(&listener(false));
        settings.tls = gatepost::smtp::TlsMode::StartTls;
        let mut session = Session::new(Arc::new(settings), clock.now());
        for (call, octets, seconds) in calls {
            let accepted = || Answer::Accepted(Receipt::Provider(MessageId::new("x").unwrap()));
            match call {
                0..4 => session.handle_octets(octets.as_bytes(), clock.now()),
                4 => session.handle_answer(Answer::Proceed, clock.now()),
                5 => session.handle_answer(accepted(), clock.now()),
                6 => session.handle_answer(Answer::Refuse(replies::LOCAL_ERROR), clock.now()),
                7 => session.handle_tls_established(clock.now()),
                8 => {
                    clock.advance(Duration::from_secs(seconds));
                    session.handle_timeout(clock.now());
                }
                9 if seconds == 0 => session.handle_drain(clock.now()),
                10 => drop(session.poll_transmit()),
                _ => {}
            }
            for _ in 0..10_000 {
                match session.poll() {
                    None => break,
                    Some(Action::Transmit) => drop(session.poll_transmit()),
                    Some(Action::Ask(Question::Commit { .. })) if seconds < 300 => session.handle_answer(accepted(), clock.now()),
                    Some(Action::Ask(_)) if seconds < 300 => session.handle_answer(Answer::Proceed, clock.now()),
                    Some(_) => {}
                }
            }
        }
    }
}
