//! Tests that dialogues cannot express: callers that make mistakes, and clients that do not read. The dialogues are in
//! `tests/transcripts`.

use super::super::{Action, Question};
use super::*;
use crate::mail::{Clock, MessageId, Receipt, SystemClock};

const ENVELOPE: &[u8] = b"EHLO x\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n";

fn session(octets: &[u8]) -> (Session, Instant) {
    let now = SystemClock.now();
    let mut settings = Settings::new("relay.example");
    settings.tls = TlsMode::StartTls;
    let mut session = Session::new(Arc::new(settings), now);
    session.handle_octets(octets, now);
    (session, now)
}

/// Accepts everything up to a question of this kind, which stays open.
fn ask(session: &mut Session, now: Instant, wanted: fn(&Question) -> bool) {
    while let Some(action) = session.poll() {
        match action {
            Action::Ask(question) if wanted(&question) => return,
            Action::Ask(_) => session.handle_answer(Answer::Proceed, now),
            _ => {}
        }
    }
    panic!("the question was not asked");
}

/// The last reply, after all actions that need no answer.
fn last_reply(session: &mut Session) -> String {
    while session.poll().is_some() {}
    let octets = session.poll_transmit().unwrap_or_default();
    String::from_utf8_lossy(&octets).trim_end().rsplit("\r\n").next().unwrap_or_default().to_owned()
}

fn accepted() -> Answer {
    Answer::Accepted(Receipt::Provider(MessageId::new("id").unwrap()))
}

/// Regression: a client that sent a million NOOPs and read nothing caused fourteen million octets of buffered replies.
#[test]
fn replies_to_a_client_that_does_not_read_are_bounded() {
    for line in [&b"NOOP\r\n"[..], b"HELP\r\n", b"EHLO\r\n", b"MAIL FROM:<a@a.example>\r\n"] {
        let (mut session, now) = session(&line.repeat(30_000));
        let mut sent = 0;
        let mut replies = 0;
        while let Some(action) = session.poll() {
            match action {
                Action::Ask(_) => session.handle_answer(Answer::Refuse(replies::LOCAL_ERROR), now),
                Action::Transmit => {
                    assert!(!session.wants_octets());
                    let octets = session.poll_transmit().unwrap();
                    assert!(octets.len() < OUTPUT_OCTETS_MAX + 1_024, "{}", octets.len());
                    sent += 1;
                    replies += octets.windows(2).filter(|pair| *pair == b"\r\n").count();
                }
                _ => {}
            }
        }
        assert!(sent > 3 || matches!(session.state, State::Closed), "{replies} replies in {sent} pieces");
    }
}

/// Regression: an overflow closed the session while the message was being sent. The answer was lost, and the client
/// received 421 and sent the message again.
#[test]
fn a_flood_during_a_question_does_not_lose_its_answer() {
    let (mut session, now) = session(ENVELOPE);
    session.handle_octets(b"DATA\r\nhello\r\n.\r\n", now);
    ask(&mut session, now, |question| matches!(question, Question::Commit { .. }));
    assert!(!session.wants_octets());
    for _ in 0..40 {
        session.handle_octets(&b"NOOP\r\n".repeat(10_000), now);
        assert!(session.input.len() <= INPUT_OCTETS_MAX);
    }
    session.poll_transmit();
    session.handle_answer(accepted(), now);
    let octets = session.poll_transmit().unwrap();
    assert_eq!(octets, "250 2.0.0 Ok id\r\n421 4.7.0 Too much sent ahead of our replies\r\n");
    assert!(matches!(session.poll(), Some(Action::Closing { .. })));
    assert!(matches!(session.poll(), Some(Action::Close)));
    assert!(session.poll().is_none());
}

/// Regression: a chunk whose question received `Accepted` was run as commands.
#[test]
fn an_answer_of_the_wrong_kind_is_a_refusal_and_keeps_the_order() {
    for (name, command, wanted, answer) in [
        (
            "chunk",
            &b"BDAT 6 LAST\r\nQUIT\r\n"[..],
            (|q| matches!(q, Question::Data { .. })) as fn(&Question) -> bool,
            accepted(),
        ),
        ("data", b"DATA\r\n", |q| matches!(q, Question::Data { .. }), accepted()),
        ("commit", b"DATA\r\n.\r\n", |q| matches!(q, Question::Commit { .. }), Answer::Proceed),
        ("mail", b"RSET\r\nMAIL FROM:<bob@b.example>\r\n", |q| matches!(q, Question::ReversePath(..)), accepted()),
        ("rcpt", b"RCPT TO:<cy@c.example>\r\n", |q| matches!(q, Question::ForwardPath(_)), accepted()),
    ] {
        let (mut session, now) = session(ENVELOPE);
        agree(&mut session, now);
        session.handle_octets(command, now);
        ask(&mut session, now, wanted);
        session.handle_answer(answer, now);
        assert_eq!(last_reply(&mut session), replies::LOCAL_ERROR.to_string(), "{name}");
        session.handle_octets(b"NOOP\r\n", now);
        assert_eq!(last_reply(&mut session), "250 2.0.0 Ok", "{name}");
    }
}

/// Accepts everything.
fn agree(session: &mut Session, now: Instant) {
    while let Some(action) = session.poll() {
        if matches!(action, Action::Ask(_)) {
            session.handle_answer(Answer::Proceed, now);
        }
    }
}

/// There is no 250 without a receipt, even if a policy refuses with that code.
#[test]
fn a_refusal_with_a_positive_code_is_a_local_error() {
    let (mut session, now) = session(ENVELOPE);
    session.handle_octets(b"DATA\r\n.\r\n", now);
    ask(&mut session, now, |question| matches!(question, Question::Commit { .. }));
    session.handle_answer(Answer::Refuse(replies::OK), now);
    assert_eq!(last_reply(&mut session), replies::LOCAL_ERROR.to_string());
}

#[test]
fn an_answer_without_a_question_changes_nothing() {
    let (mut session, now) = session(b"EHLO x\r\n");
    last_reply(&mut session);
    let deadline = session.poll_timeout();
    session.handle_answer(accepted(), now + std::time::Duration::from_secs(1));
    session.handle_tls_established(now + std::time::Duration::from_secs(1));
    assert!(session.poll_transmit().is_none());
    assert_eq!(session.poll_timeout(), deadline);
    assert!(!session.encrypted);
}

/// Regression: a handshake that ended after the close reopened the session.
#[test]
fn a_closed_session_stays_closed() {
    let (mut session, now) = session(b"QUIT\r\n");
    assert_eq!(last_reply(&mut session), replies::BYE.to_string());
    session.handle_tls_established(now);
    session.handle_octets(ENVELOPE, now);
    session.handle_drain(now);
    assert!(session.poll().is_none() && session.poll_transmit().is_none() && session.poll_timeout().is_none());
}

#[test]
fn a_session_does_not_print_its_input() {
    let (session, _) = session(b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n");
    assert!(!format!("{session:?}").contains("AGFubg"));
}
