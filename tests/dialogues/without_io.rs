//! Plays a dialogue against the bare session: without a socket, and with time that only the dialogue advances.

use crate::settings::settings;
use crate::transcript::{AskedAbout, Message, Pattern, ScriptedAnswer, Step, Transcript};
use gatepost::mail::{Clock, EnhancedStatus, Envelope, ManualClock, MessageId, Receipt, Reply};
use gatepost::smtp::{Action, Answer, Question, Session, Settings};
use std::collections::VecDeque;
use std::sync::Arc;

/// How the client's octets are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// As the dialogue has them.
    Whole,
    /// One by one.
    Octets,
    /// In as few pieces as possible: everything up to the next point where client and server must meet.
    Joined,
}

/// Plays it; the error says where it went otherwise.
pub(crate) fn play(transcript: &Transcript, cut: Cut) -> Result<(), String> {
    let mut caller = ScriptedCaller::new(settings(&transcript.settings), transcript.answers.clone());
    let steps = if cut == Cut::Joined { joined(&transcript.steps) } else { transcript.steps.clone() };
    let mut open = true;
    let mut after_a_reply = false;
    for (place, step) in steps.iter().enumerate() {
        let at = |error: String| format!("{} ({cut:?}), step {place}, {step:?}: {error}", transcript.name);
        // The client's next step after a reply means that no other reply was due.
        if after_a_reply && !matches!(step, Step::Server(_)) && cut != Cut::Joined {
            caller.nothing_unsaid().map_err(at)?;
        }
        after_a_reply = matches!(step, Step::Server(_));
        match step {
            Step::Client(octets) if cut == Cut::Octets => octets.chunks(1).for_each(|octet| caller.receive(octet)),
            Step::Client(octets) => caller.receive(octets),
            Step::Server(pattern) => caller.expect(pattern, steps.get(place + 1)).map_err(at)?,
            Step::Pass(time) => {
                caller.clock.advance(*time);
                caller.session.handle_timeout(caller.clock.now());
                caller.serve();
            }
            Step::Drain => {
                caller.session.handle_drain(caller.clock.now());
                caller.serve();
            }
            Step::Tls => {
                if !std::mem::take(&mut caller.handshake) {
                    return Err(at("the server does not wait for a handshake".into()));
                }
                caller.session.handle_tls_established(caller.clock.now());
                caller.serve();
            }
            Step::Cut => open = false,
            Step::Closed => {
                if !caller.closed {
                    return Err(at("the server has not closed".into()));
                }
                open = false;
            }
        }
    }
    let at = |error: String| format!("{} ({cut:?}), at the end: {error}", transcript.name);
    caller.nothing_unsaid().map_err(at)?;
    if open && caller.closed {
        return Err(at("the server has closed".into()));
    }
    if let Some(answer) = caller.answers.first() {
        return Err(at(format!("a question was never asked: {:?}", answer.to)));
    }
    if caller.messages != transcript.messages {
        return Err(at(format!("accepted {:#?}\nwant {:#?}", caller.messages, transcript.messages)));
    }
    Ok(())
}

/// All that the client says up to the next meeting point, then all replies.
fn joined(steps: &[Step]) -> Vec<Step> {
    let mut out = Vec::new();
    for part in steps.split_inclusive(|step| !matches!(step, Step::Client(_) | Step::Server(_))) {
        let mut said = Vec::new();
        part.iter().for_each(|step| {
            if let Step::Client(octets) = step {
                said.extend_from_slice(octets)
            }
        });
        if !said.is_empty() {
            out.push(Step::Client(said));
        }
        out.extend(part.iter().filter(|step| !matches!(step, Step::Client(_))).cloned());
    }
    out
}

/// A session, and a caller that answers its questions as the dialogue says.
pub(crate) struct ScriptedCaller {
    pub(crate) session: Session,
    pub(crate) clock: ManualClock,
    pub(crate) replies: VecDeque<String>,
    pub(crate) messages: Vec<Message>,
    pub(crate) questions: Vec<String>,
    pub(crate) closed: bool,
    answers: Vec<ScriptedAnswer>,
    envelope: Option<Envelope>,
    content: Vec<u8>,
    handshake: bool,
}

impl ScriptedCaller {
    pub(crate) fn new(settings: Settings, answers: Vec<ScriptedAnswer>) -> Self {
        let clock = ManualClock::new();
        let mut caller = Self {
            session: Session::new(Arc::new(settings), clock.now()),
            clock,
            replies: VecDeque::new(),
            messages: Vec::new(),
            questions: Vec::new(),
            closed: false,
            answers,
            envelope: None,
            content: Vec::new(),
            handshake: false,
        };
        caller.serve();
        caller
    }

    /// Octets from the client.
    pub(crate) fn receive(&mut self, octets: &[u8]) {
        self.session.handle_octets(octets, self.clock.now());
        self.serve();
    }

    /// Does what the session says until it waits.
    fn serve(&mut self) {
        while let Some(action) = self.session.poll() {
            match action {
                Action::Ask(question) => {
                    let answer = self.answer(question);
                    self.session.handle_answer(answer, self.clock.now());
                }
                Action::Content(octets) => {
                    assert!(self.envelope.is_some(), "content without an envelope");
                    self.content.extend_from_slice(&octets);
                }
                Action::Abandon(_) | Action::Hello { .. } => self.forget(),
                Action::Report { .. } | Action::Closing { .. } => {}
                Action::Transmit => self.transmit(),
                Action::StartTls => {
                    self.forget();
                    self.handshake = true;
                }
                Action::Close => self.closed = true,
            }
        }
        self.transmit();
    }

    fn transmit(&mut self) {
        while let Some(octets) = self.session.poll_transmit() {
            let text = String::from_utf8(octets.to_vec()).unwrap();
            let lines = text.strip_suffix("\r\n").unwrap();
            self.replies.extend(lines.split("\r\n").map(str::to_owned));
        }
    }

    fn forget(&mut self) {
        self.envelope = None;
        self.content.clear();
    }

    fn answer(&mut self, question: Question) -> Answer {
        let about = match &question {
            Question::Authenticate(credentials) => AskedAbout::Auth(credentials.name.clone()),
            Question::ReversePath(path, _) => AskedAbout::Mail(bracketed(path)),
            Question::ForwardPath(path) => AskedAbout::Rcpt(bracketed(path)),
            Question::Data { .. } => AskedAbout::Data,
            Question::Commit { .. } => AskedAbout::Commit,
        };
        self.questions.push(format!("{about:?}"));
        let scripted = self.answers.iter().position(|answer| answer.to == about);
        if let Some(answer) = scripted.map(|place| self.answers.remove(place)) {
            if question_ends_the_message(&question) {
                self.forget();
            }
            let status = EnhancedStatus(answer.status.0, answer.status.1, answer.status.2);
            return Answer::Refuse(Reply::new(answer.code, Some(status), "").with_text(&answer.text));
        }
        match question {
            Question::Data { envelope, .. } => {
                self.envelope = Some(envelope);
                self.content.clear();
                Answer::Proceed
            }
            Question::Commit { .. } => {
                let envelope = self.envelope.take().expect("Commit without Data");
                self.messages.push(Message {
                    reverse_path: bracketed(envelope.reverse_path()),
                    forward_paths: envelope.forward_paths().iter().map(bracketed).collect(),
                    content: std::mem::take(&mut self.content),
                });
                let id = format!("test-{}", self.messages.len());
                Answer::Accepted(Receipt::Provider(MessageId::new(&id).unwrap()))
            }
            _ => Answer::Proceed,
        }
    }

    fn expect(&mut self, pattern: &Pattern, next: Option<&Step>) -> Result<(), String> {
        let line = self.replies.pop_front().ok_or("the server says nothing")?;
        if !pattern.fits(&line) {
            return Err(format!("the server says {line:?}"));
        }
        if matches!(pattern, Pattern::Group(_)) {
            let ends = |line: &str| matches!(next, Some(Step::Server(next)) if next.fits(line));
            while self.replies.front().is_some_and(|line| pattern.fits(line) && !ends(line)) {
                self.replies.pop_front();
            }
        }
        Ok(())
    }

    fn nothing_unsaid(&self) -> Result<(), String> {
        if self.replies.is_empty() { Ok(()) } else { Err(format!("the server also says {:?}", self.replies)) }
    }
}

fn question_ends_the_message(question: &Question) -> bool {
    matches!(question, Question::Data { .. } | Question::Commit { .. })
}

fn bracketed(path: &impl std::fmt::Display) -> String {
    let path = path.to_string();
    if path == "<>" { path } else { format!("<{path}>") }
}
