//! Every accepted MAIL has exactly one outcome, however the dialogue goes on.

use super::*;
use crate::limit::Unlimited;
use crate::mail::headers::HeaderLimits;
use crate::mail::trace::TraceDetail;
use crate::mail::{ClientAddress, ManualClock, MessageId, Outcome, OutcomeKind, Permitted, SessionId};
use crate::observe::Observer;
use crate::policy::{MessageFacts, Policy, PolicyDecision, PolicyError};
use crate::relay::{
    AppConnectionLimits, BudgetSettings, Components, DeadlineSettings, RelaySettings, SendQueueSettings,
};
use crate::smtp::Settings;
use crate::transport::Transport;
use async_trait::async_trait;
use proptest::prelude::*;
use std::sync::Mutex;
use std::time::Duration;

/// Policy, transport and observer: answers by what the addresses say, and counts outcomes.
#[derive(Default)]
struct Script {
    outcomes: Mutex<Vec<String>>,
    closed: Mutex<Vec<String>>,
    ended: Mutex<u32>,
}

#[async_trait]
impl Policy for Script {
    async fn reverse_path(&self, facts: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        Ok(decide(&facts.reverse_path.to_string()))
    }

    async fn forward_path(&self, facts: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        Ok(decide(&facts.forward_path.to_string()))
    }

    async fn message(&self, facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        let recipient = facts.envelope.forward_paths()[0].to_string();
        if recipient.contains("policy-hangs") {
            std::future::pending::<()>().await;
        }
        Ok(decide(&recipient.replace("content-refused", "refused")))
    }
}

fn decide(address: &str) -> PolicyDecision {
    let rule = RuleName::parse("script").unwrap();
    match address.starts_with("refused") || address.contains("<refused") {
        true => PolicyDecision::Reject(Refusal::new(replies::RECIPIENT_NOT_PERMITTED, "").by(rule)),
        false => PolicyDecision::Accept(Granted::by(rule)),
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, message: Permitted, _deadline: Instant) -> Outcome {
        let (envelope, ..) = message.into_parts();
        match envelope.forward_paths()[0].to_string() {
            path if path.contains("hangs") => std::future::pending().await,
            path if path.contains("throttled") => Outcome::not_sent(OutcomeKind::Throttled, replies::THROTTLED, ""),
            _ => Outcome::sent(MessageId::new("id-1").unwrap()),
        }
    }
}

impl Observer for Script {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::MessageEnded(record) => self.outcomes.lock().unwrap().push(format!("message {}", record.reply)),
            Event::TransactionEnded(record) => {
                let (outcome, word) = (record.why.outcome(), record.why.word());
                let text = format!("{outcome} {} {} {word}", record.after, record.octets);
                self.outcomes.lock().unwrap().push(text);
            }
            Event::SessionClosed { reply, .. } => self.closed.lock().unwrap().push(reply.to_string()),
            Event::Disconnected { .. } => *self.ended.lock().unwrap() += 1,
            _ => {}
        }
    }
}

struct Run {
    script: Arc<Script>,
    accepted: usize,
    handler: SessionHandler,
    session: Session,
    clock: Arc<ManualClock>,
}

impl Run {
    fn new() -> Self {
        let (script, clock) = (Arc::new(Script::default()), Arc::new(ManualClock::new()));
        let settings = RelaySettings {
            hostname: "relay.example".to_owned(),
            trace: TraceDetail::default(),
            header: HeaderLimits::default(),
            mime: Default::default(),
            deadline: DeadlineSettings::default(),
            send_queue: SendQueueSettings::default(),
            app_connections: AppConnectionLimits::default(),
            queue: Default::default(),
            spools: false,
        };
        let components = Components {
            policy: Arc::clone(&script) as Arc<dyn Policy>,
            limiter: Arc::new(Unlimited),
            authenticator: None,
            pace: None,
            spool: None,
            lockout: None,
            transport: Arc::clone(&script) as Arc<dyn Transport>,
            observer: Arc::clone(&script) as Arc<dyn Observer>,
            clock: Arc::clone(&clock) as Arc<dyn crate::mail::Clock>,
        };
        let budget = BudgetSettings { memory_octets: 1 << 20, disk_octets: 0, ..BudgetSettings::default() };
        let relay = Arc::new(Relay::new(settings, components, &budget));
        let client = Client::new(SessionId::fresh(), ClientAddress::Unix, "main".into());
        let mut smtp = Settings::new("relay.example");
        smtp.limits.message_octets_max = 4_000;
        smtp.limits.errors_max = 6;
        smtp.limits.transactions_max = 8;
        let session = Session::new(Arc::new(smtp), crate::mail::Clock::now(&*clock));
        Self {
            script,
            accepted: 0,
            handler: SessionHandler::new(CurrentRelay::new(relay), client, false),
            session,
            clock,
        }
    }

    fn now(&self) -> Instant {
        crate::mail::Clock::now(&*self.clock)
    }

    /// False: closed.
    async fn say(&mut self, octets: &[u8]) -> bool {
        match octets {
            b"(silence)" => {
                self.clock.advance(Duration::from_secs(301));
                self.session.handle_timeout(self.now());
            }
            b"(drain)" => self.session.handle_drain(self.now()),
            octets => self.session.handle_octets(octets, self.now()),
        }
        loop {
            let action = self.session.poll();
            let closing = matches!(action, Some(Action::Close));
            if let (Some(action), false) = (action, closing) {
                self.handler.perform(action, &mut self.session).await;
            } else if !closing {
                return true;
            }
            while let Some(octets) = self.session.poll_transmit() {
                let text = String::from_utf8_lossy(&octets).into_owned();
                self.accepted += text.lines().filter(|line| line.starts_with("250 2.1.0 ")).count();
            }
            if closing {
                return false;
            }
        }
    }
}

/// Runs a dialogue to its end: by a close of the client, or by a cut. Accepted MAILs, outcomes, sessions closed, ends.
fn run(lines: &[&str], full: bool, cut: bool) -> (usize, Vec<String>, Vec<String>, u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new();
        let script = Arc::clone(&run.script);
        let budget = Arc::clone(&run.handler.relay.budget);
        let _held: Vec<_> = std::iter::from_fn(|| budget.receive(16 * 1024)).take_while(|_| full).collect();
        for line in lines {
            // What hangs is cut off in the middle, as a stop of the relay does.
            match tokio::time::timeout(Duration::from_secs(3_600), run.say(line.as_bytes())).await {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
        let Run { accepted, handler, .. } = run;
        match cut {
            true => drop(handler),
            false => handler.end(Abandonment::ClientClosed).await,
        }
        let (outcomes, closed) = (script.outcomes.lock().unwrap().clone(), script.closed.lock().unwrap().clone());
        let ended = *script.ended.lock().unwrap();
        (accepted, outcomes, closed, ended)
    })
}

const LINES: &[&str] = &[
    "EHLO a.example\r\n",
    "MAIL FROM:<ann@a.example>\r\n",
    "MAIL FROM:<ann@a.example>\r\n",
    "MAIL FROM:<refused@a.example>\r\n",
    "RCPT TO:<bob@b.example>\r\n",
    "RCPT TO:<refused@b.example>\r\n",
    "RCPT TO:<content-refused@b.example>\r\n",
    "RCPT TO:<throttled@b.example>\r\n",
    "RCPT TO:<hangs@b.example>\r\n",
    "RCPT TO:<policy-hangs@b.example>\r\n",
    "DATA\r\n",
    "DATA\r\n",
    "From: ann@a.example\r\n\r\nHello\r\n",
    "Hello\r\n.\r\n",
    "\r\n.\r\n",
    "bare\nline\r\n.\r\n",
    "bare\nline",
    "BDAT 6\r\nHello\n",
    "BDAT 8\r\nHello\r\nx",
    "BDAT 25 LAST\r\nFrom: ann@a.example\r\n\r\nx\r\n",
    "BDAT 9999 LAST\r\nHello\r\n",
    "BDAT 5000\r\n",
    "BDAT 3 FIRST\r\nabc",
    "RSET\r\n",
    "NOOP\r\n",
    "QUIT\r\n",
    "EXPN x\r\n",
    "GET / HTTP/1.1\r\n",
    "(silence)",
    "(drain)",
];

proptest! {
    #[test]
    fn every_accepted_mail_has_exactly_one_outcome(
        places in proptest::collection::vec(0..LINES.len(), 0..40),
        full in proptest::bool::weighted(0.1),
        cut: bool,
    ) {
        let greeted = std::iter::once(&LINES[0]).chain(places.iter().map(|place| &LINES[*place]));
        let lines: Vec<&str> = greeted.copied().collect();
        let (accepted, outcomes, _, ended) = run(&lines, full, cut);
        prop_assert_eq!(accepted, outcomes.len(), "{:?}: {:?}", lines, outcomes);
        prop_assert_eq!(ended, 1);
    }

    /// The same, where most dialogues come to content.
    #[test]
    fn every_accepted_mail_has_exactly_one_outcome_where_content_comes(
        recipient in 4usize..10,
        places in proptest::collection::vec(10..LINES.len(), 0..12),
        full in proptest::bool::weighted(0.1),
        cut: bool,
    ) {
        let mut lines = vec![LINES[0], LINES[1], LINES[recipient]];
        lines.extend(places.iter().map(|place| LINES[*place]));
        let (accepted, outcomes, _, ended) = run(&lines, full, cut);
        prop_assert_eq!(accepted, outcomes.len(), "{:?}: {:?}", lines, outcomes);
        prop_assert_eq!(ended, 1);
    }
}

#[test]
fn an_outcome_says_after_which_verb_how_many_octets_and_why() {
    const MAIL: [&str; 3] = [LINES[0], LINES[1], LINES[4]];
    for (name, more, cut, want) in [
        ("cut off in content", &["DATA\r\n", "Hello\r\n"][..], false, "abandoned DATA 7 client_closed"),
        ("the relay stops", &["DATA\r\n", "Hello\r\n"], true, "abandoned DATA 7 cut"),
        ("silent in content", &["DATA\r\n", "Hello\r\n", "(silence)"], false, "abandoned DATA 7 content_too_slow"),
        ("silent after RCPT", &["(silence)"], false, "abandoned RCPT 0 idle"),
        ("drained after RCPT", &["(drain)"], false, "abandoned RCPT 0 shutdown"),
        ("cut off in refused content", &["DATA\r\n", "bare\nline\r\n"], false, "abandoned DATA 4 client_closed"),
        ("cut off between chunks", &["BDAT 7\r\nHello\r\n"], false, "abandoned BDAT 7 client_closed"),
        ("reset", &["RSET\r\n"], false, "abandoned RCPT 0 reset"),
        ("quit", &["QUIT\r\n"], false, "abandoned RCPT 0 quit"),
        ("chunk with a bad line", &["BDAT 3 FIRST\r\nabc"], false, "rejected RCPT 0 refused"),
        ("chunk beyond reason", &["BDAT 9999\r\n"], false, "message 552"),
        ("too many errors", &["EXPN x\r\n"; 6], false, "abandoned RCPT 0 errors"),
        ("accepted", &["DATA\r\n", LINES[12], ".\r\n"], false, "message 250"),
    ] {
        let lines: Vec<&str> = MAIL.iter().chain(more).copied().collect();
        let (_, outcomes, ..) = run(&lines, false, cut);
        assert!(outcomes.len() == 1 && outcomes[0].starts_with(want), "{name}: {outcomes:?}");
    }
    let lines = [MAIL.as_slice(), &["DATA\r\n"]].concat();
    assert_eq!(run(&lines, true, false).1, ["deferred RCPT 0 refused"], "no room");
}

#[test]
fn a_client_that_policy_permits_is_recognised_and_another_is_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        for (line, want) in [(LINES[1], true), (LINES[3], false), ("NOOP\r\n", false)] {
            let mut run = Run::new();
            run.say(LINES[0].as_bytes()).await;
            run.say(line.as_bytes()).await;
            assert_eq!(run.handler.is_recognised(), want, "{line}");
            run.clock.advance(Duration::from_secs(61));
            run.session.handle_timeout(run.now());
            assert_eq!(run.say(b"").await, want, "{line}: a minute until it is recognised");
        }
    });
}

/// 421 of the session's own had no line at level info and no metric.
#[test]
fn a_session_that_closes_by_itself_says_so_once() {
    for (lines, want) in [
        (&["(silence)"][..], "421 4.4.2 Timeout waiting for data"),
        (&["(drain)"], "421 4.3.2"),
        (&["EXPN x\r\n"; 6], "421 4.7.0 Too many errors"),
        (&[LINES[0], LINES[1], "(silence)"], "421 4.4.2"),
    ] {
        let (_, _, closed, _) = run(lines, false, false);
        assert!(closed.len() == 1 && closed[0].starts_with(want), "{lines:?}: {closed:?}");
    }
    assert!(run(&["QUIT\r\n"], false, false).2.is_empty());
}
