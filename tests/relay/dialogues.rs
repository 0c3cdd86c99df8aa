//! The golden dialogues over a socket with TLS, against the whole server.
//!
//! The same files as `tests/dialogues`. What only a bare session can be told (time, a drain) is not played here, and the
//! test says how much that is. The relay wants a From field in every message; where a dialogue's content has none, one is
//! put in front on the way in and taken off again on the way out.

#[path = "../dialogues/settings.rs"]
mod shared;
#[path = "../dialogues/transcript.rs"]
mod transcript;

use crate::support::{Pair, Smtp, any_port};
use async_trait::async_trait;
use gatepost::auth::{AuthDecision, AuthError, Authenticator};
use gatepost::builder::Builder;
use gatepost::mail::{
    Credentials, EnhancedStatus, Granted, Identity, MessageId, Outcome, Permitted, Refusal, Reply, RuleName,
};
use gatepost::observe::NoopObserver;
use gatepost::policy::{MailFacts, MessageFacts, Policy, PolicyDecision, PolicyError, RcptFacts};
use gatepost::server::{ListenerAddress, ListenerSettings};
use gatepost::smtp::{Settings, TlsMode};
use gatepost::transport::Transport;
use rustls_pki_types::ServerName;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use transcript::{AskedAbout, Auth, Message, Pattern, ScriptedAnswer, Step, Tls, Transcript};

const FROM_FIELD: &str = "From: ann@a.example\r\n\r\n";

#[tokio::test]
async fn dialogues_over_a_socket() {
    let pair = Pair::new();
    let all = transcript::all();
    let (mut played, mut left_out, mut failed) = (0, Vec::new(), Vec::new());
    for dialogue in &all {
        match reason_to_leave_out(dialogue) {
            Some(reason) => left_out.push(format!("{}: {reason}", dialogue.name)),
            None => {
                played += 1;
                if let Err(error) = play(dialogue, &pair).await {
                    failed.push(format!("{}: {error}", dialogue.name));
                }
            }
        }
    }
    println!("{played} of {} dialogues played over a socket; left out:\n{}", all.len(), left_out.join("\n"));
    assert!(failed.is_empty(), "{} of {played} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(played * 3 > all.len() * 2, "most dialogues can be played here");
}

fn reason_to_leave_out(dialogue: &Transcript) -> Option<&'static str> {
    if dialogue.is_for_a_bare_session_only() {
        Some("needs power over time")
    } else if dialogue.answers.iter().any(|answer| answer.to == AskedAbout::Data) {
        Some("the relay has no script for lack of room")
    } else if needs_from_field(dialogue) && client_says(dialogue, b"BDAT") {
        Some("chunks without a From field")
    } else if needs_from_field(dialogue) && client_says(dialogue, b" SIZE=") {
        Some("a size without a From field")
    } else {
        None
    }
}

fn client_says(dialogue: &Transcript, text: &[u8]) -> bool {
    dialogue.steps.iter().any(|step| match step {
        Step::Client(octets) => octets.to_ascii_uppercase().windows(text.len()).any(|window| window == text),
        _ => false,
    })
}

fn needs_from_field(dialogue: &Transcript) -> bool {
    dialogue.messages.iter().any(|message| !message.content.starts_with(b"From: "))
}

/// What the script answers, and what came of it.
#[derive(Clone)]
struct ScriptedPolicy {
    answers: Arc<Mutex<Vec<ScriptedAnswer>>>,
    messages: Arc<Mutex<Vec<Message>>>,
    from_field: bool,
}

impl ScriptedPolicy {
    fn scripted(&self, about: &AskedAbout) -> Option<Reply> {
        let mut answers = self.answers.lock().unwrap();
        let place = answers.iter().position(|answer| answer.to == *about)?;
        let ScriptedAnswer { code, status, text, .. } = answers.remove(place);
        Some(Reply::new(code, Some(EnhancedStatus(status.0, status.1, status.2)), "").with_text(&text))
    }

    fn decide(&self, about: &AskedAbout) -> Result<PolicyDecision, PolicyError> {
        let rule = RuleName::parse("script").unwrap();
        Ok(match self.scripted(about) {
            Some(reply) => PolicyDecision::Reject(Refusal::new(reply, "").by(rule)),
            None => PolicyDecision::Accept(Granted::by(rule)),
        })
    }
}

fn bracketed(path: &impl std::fmt::Display) -> String {
    let path = path.to_string();
    if path == "<>" { path } else { format!("<{path}>") }
}

#[async_trait]
impl Policy for ScriptedPolicy {
    async fn reverse_path(&self, facts: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        self.decide(&AskedAbout::Mail(bracketed(facts.reverse_path)))
    }

    async fn forward_path(&self, facts: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        self.decide(&AskedAbout::Rcpt(bracketed(facts.forward_path)))
    }

    async fn message(&self, _facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        self.decide(&AskedAbout::Commit)
    }
}

#[async_trait]
impl Authenticator for ScriptedPolicy {
    async fn authenticate(&self, credentials: &Credentials) -> Result<AuthDecision, AuthError> {
        Ok(match self.scripted(&AskedAbout::Auth(credentials.name.clone())) {
            Some(_) => AuthDecision::Reject,
            None => AuthDecision::Accept(Identity::new(&credentials.name)),
        })
    }
}

#[async_trait]
impl Transport for ScriptedPolicy {
    async fn send(&self, message: Permitted, _deadline: Instant) -> Outcome {
        let (envelope, content, _) = message.into_parts();
        let octets = content.into_octets();
        // Our trace field is three lines; then comes what the client sent.
        let lines: Vec<usize> = octets.iter().enumerate().filter(|(_, o)| **o == b'\n').map(|(at, _)| at).collect();
        let mut sent = &octets[lines[2] + 1..];
        if self.from_field {
            sent = sent.strip_prefix(FROM_FIELD.as_bytes()).expect("the field that was put in front");
        }
        let mut messages = self.messages.lock().unwrap();
        messages.push(Message {
            reverse_path: bracketed(envelope.reverse_path()),
            forward_paths: envelope.forward_paths().iter().map(bracketed).collect(),
            content: sent.to_vec(),
        });
        Outcome::sent(MessageId::new(&format!("test-{}", messages.len())).unwrap())
    }
}

/// With TLS from the first octet wherever that makes no difference to the dialogue.
fn settings(dialogue: &Transcript, from_field: bool) -> Settings {
    let wanted = &dialogue.settings;
    let mut settings = shared::settings(wanted);
    let in_clear = client_says(dialogue, b"STARTTLS") || client_says(dialogue, b"\x16\x03");
    let differs = in_clear || wanted.auth != Auth::Off && !wanted.auth_in_clear;
    if wanted.tls == Tls::None && !differs {
        settings.tls = TlsMode::Implicit;
    }
    let field = if from_field { FROM_FIELD.len() as u64 } else { 0 };
    if wanted.message_octets_max.is_some() {
        settings.limits.message_octets_max += field;
    }
    settings
}

async fn play(dialogue: &Transcript, pair: &Pair) -> Result<(), String> {
    let from_field = needs_from_field(dialogue);
    let answers = Arc::new(Mutex::new(dialogue.answers.clone()));
    let script = ScriptedPolicy { answers, messages: Arc::default(), from_field };
    let smtp = settings(dialogue, from_field);
    let implicit = smtp.tls == TlsMode::Implicit;
    let mut listener = ListenerSettings::new("plain", any_port(), smtp);
    listener.tls = Some(pair.settings());
    let relay = Builder::new("relay.example", script.clone(), script.clone())
        .authenticator(script.clone())
        .observer(NoopObserver)
        .listener(listener)
        .start()
        .map_err(|error| error.to_string())?;
    let Some(ListenerAddress::Tcp(address)) = relay.address("plain") else { return Err("no address".into()) };
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let mut steps: Vec<Step> = dialogue.steps.clone();
    if from_field {
        put_from_field_in(&mut steps);
    }
    let mut rest = steps.as_slice();
    if implicit {
        // A dialogue that begins inside TLS may say so.
        if rest.first() == Some(&Step::Tls) {
            rest = &rest[1..];
        }
        converse(&mut Smtp::over(secured(pair, stream).await?), rest).await?;
    } else {
        let mut client = Smtp::over(stream);
        let at = rest.iter().position(|step| *step == Step::Tls).unwrap_or(rest.len());
        let (clear, secure) = rest.split_at(at);
        converse(&mut client, clear).await?;
        if let [Step::Tls, secure @ ..] = secure {
            converse(&mut Smtp::over(secured(pair, client.stream).await?), secure).await?;
        }
    }
    if !relay.stop().await {
        return Err("the relay did not stop by itself".to_owned());
    }
    let messages = script.messages.lock().unwrap();
    if *messages != dialogue.messages {
        return Err(format!("accepted {messages:#?}\nwant {:#?}", dialogue.messages));
    }
    Ok(())
}

async fn secured(pair: &Pair, stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let server = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
    pair.connector().connect(server, stream).await.map_err(|error| format!("handshake: {error}"))
}

/// The field goes behind each DATA command line that is answered with 354: in front of the content, wherever that is
/// sent.
fn put_from_field_in(steps: &mut [Step]) {
    for place in 0..steps.len() {
        let answers = steps[place + 1..].iter().take_while(|step| !matches!(step, Step::Client(_)));
        let proceeds = answers
            .clone()
            .any(|step| matches!(step, Step::Server(p) if p.fits("354 End data with <CR><LF>.<CR><LF>")));
        match &mut steps[place] {
            Step::Client(octets) if proceeds => {
                let upper = octets.to_ascii_uppercase();
                let starts = |at: usize| at == 0 || upper[at - 1] == b'\n';
                let ends = [&b"DATA\r\n"[..], b"DATA\n"].iter().find_map(|line| {
                    let at = upper.windows(line.len()).rposition(|window| window == *line)?;
                    starts(at).then_some(at + line.len())
                });
                if let Some(end) = ends {
                    octets.splice(end..end, FROM_FIELD.bytes());
                }
            }
            _ => {}
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Smtp<S>, steps: &[Step]) -> Result<(), String> {
    let mut pending: Option<String> = None;
    for (place, step) in steps.iter().enumerate() {
        match step {
            Step::Client(octets) => client.try_write(octets).await,
            Step::Server(pattern) => {
                let mut line = match pending.take() {
                    Some(line) => line,
                    None => plain(client.line().await.ok_or(format!("step {place}: closed, wanted {pattern:?}"))?),
                };
                if !pattern.fits(&line) {
                    return Err(format!("step {place}: {line:?}, wanted {pattern:?}"));
                }
                if matches!(pattern, Pattern::Group(_)) {
                    let next = steps.get(place + 1);
                    let ends = |line: &str| matches!(next, Some(Step::Server(next)) if next.fits(line));
                    while pattern.fits(&line) && !ends(&line) {
                        line = plain(client.line().await.ok_or(format!("step {place}: closed"))?);
                    }
                    pending = Some(line);
                }
            }
            Step::Closed => match client.line().await {
                None => return Ok(()),
                Some(line) => return Err(format!("step {place}: {line:?}, wanted a close")),
            },
            Step::Cut => return Ok(()),
            Step::Pass(_) | Step::Drain | Step::Tls => return Err(format!("step {place}: {step:?} has no place here")),
        }
    }
    Ok(())
}

/// A reply without our name for the transaction, which no dialogue can know.
fn plain(line: String) -> String {
    line.split_once(" (ref ").map_or(line.clone(), |(text, _)| text.to_owned())
}
