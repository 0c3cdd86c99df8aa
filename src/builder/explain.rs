//! Why would this message be accepted or refused? A dry_run of one message, with everybody's reasons written down.
//!
//! The relay that answers is put together from the same settings and components as the one that runs. Four components are wrapped:
//! policy and observer write down what they are asked and told, the limiter only looks, and whoever authenticates is
//! believed, because the facts say so. The transport sends nothing. So what is explained is what the wire would say, but
//! for what depends on the moment: limits that others have used up, load, and the provider.

use super::Builder;
use crate::auth::{AuthDecision, AuthError, Authenticator};
use crate::limit::{LimitDecision, LimitError, LimitStep, LimitView, Limiter, Ticket};
use crate::mail::{
    Client, ClientAddress, ClientCertificate, Credentials, Envelope, Granted, Identity, MessageId, Outcome, Permitted,
    SessionId, TlsInfo,
};
use crate::observe::{Event, Observer};
use crate::policy::{AddressField, MailFacts, MessageFacts, Note, Policy, PolicyDecision, PolicyError, RcptFacts};
use crate::relay::{Components, DryRun, Relay};
use crate::server::{Endpoint, ListenerSettings};
use crate::smtp::TlsMode;
use crate::transport::Transport;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// One message and who sends it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The listener that the client comes to; `None`: the first.
    pub listener: Option<String>,
    /// Where the client is, after the PROXY protocol; `None`: on this machine.
    pub client: Option<ClientAddress>,
    /// The name that it authenticates with; the password is taken to be right.
    pub identity: Option<String>,
    /// Whether it uses STARTTLS, where that is offered.
    pub tls: bool,
    /// The certificate that it shows under TLS, taken to be verified.
    pub certificate: Option<ClientCertificate>,
    /// What stands between the angle brackets of MAIL FROM.
    pub reverse_path: String,
    /// The same of each RCPT TO.
    pub forward_paths: Vec<String>,
    /// The message, as the client sends it.
    pub message: Bytes,
}

/// Why there is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The relay has no listener of that name, or none at all.
    #[error("there is no listener {0:?}")]
    NoListener(String),
    /// A line end in an address would be a second command.
    #[error("an address has a control character in it")]
    ControlCharacter,
    /// TLS where none is offered.
    #[error("listener {0:?} offers no TLS")]
    NoTls(String),
}

/// What would happen, step by step.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Whether every command and the message would be accepted.
    pub allowed: bool,
    /// The first refusal, or the reply to the message.
    pub reply: String,
    /// What was said, heard and thought.
    pub steps: Vec<Step>,
    /// What the provider would get.
    pub sent: Option<Sent>,
}

/// One command, or the message.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What the client says.
    pub said: String,
    /// What lies behind the reply.
    pub notes: Vec<Note>,
    /// The reply, its last line.
    pub reply: String,
}

/// What the provider would get.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// The application.
    pub app: Option<String>,
    /// The authors.
    pub from: Vec<String>,
    /// The recipients.
    pub recipients: Vec<String>,
    /// Octets of the message.
    pub octets: usize,
    /// Where bounces go; `None`: as the account is set up.
    pub feedback: Option<String>,
    /// Configuration set.
    pub configuration_set: Option<String>,
    /// Identity of another account.
    pub identity_arn: Option<String>,
    /// The role that sends.
    pub role: Option<String>,
    /// Message tags.
    pub tags: BTreeMap<String, String>,
    /// Tenant.
    pub tenant: Option<String>,
    /// Multi-region endpoint.
    pub endpoint_id: Option<String>,
    /// Contact list and topic.
    pub list: Option<String>,
    /// The header section.
    pub header: String,
}

impl Explanation {
    /// Whether the refusal is one that trying again may overcome.
    pub fn is_deferred(&self) -> bool {
        !self.allowed && self.reply.starts_with('4')
    }
}

impl Builder {
    /// What the relay would reply to a message, and why. Sends nothing, takes nothing from any limit, opens no socket.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub async fn explain(&self, facts: &Facts) -> Result<Explanation, ExplainError> {
        let mut listeners = self.listeners.iter();
        let wanted = facts.listener.as_deref();
        let listener = listeners.find(|listener| wanted.is_none_or(|name| *listener.name == *name));
        let listener = listener.ok_or_else(|| ExplainError::NoListener(wanted.unwrap_or_default().to_owned()))?;
        if facts.tls && listener.smtp.tls == TlsMode::None {
            return Err(ExplainError::NoTls(listener.name.to_string()));
        }
        if facts.forward_paths.iter().chain([&facts.reverse_path]).any(|path| path.contains(char::is_control)) {
            return Err(ExplainError::ControlCharacter);
        }
        let record = Arc::new(Record::default());
        let dry_run =
            DryRun::begin(&self.witnessed(&record), listener.smtp.clone(), client(facts, listener), tls(facts));
        let mut play = Play { dry_run, record, steps: Vec::new() };
        let reply = play.run(facts, listener).await;
        play.dry_run.end().await;
        let sent = lock(&play.record.sent).take();
        Ok(Explanation { allowed: reply.starts_with('2'), reply, steps: play.steps, sent })
    }

    /// The relay, with witnesses.
    fn witnessed(&self, record: &Arc<Record>) -> Arc<Relay> {
        let components = Components {
            policy: Arc::new(Witness { policy: Arc::clone(&self.policy), record: Arc::clone(record) }),
            limiter: Arc::new(Looking {
                limiter: Arc::clone(&self.limiter),
                record: Arc::clone(record),
                taken: Mutex::default(),
            }),
            authenticator: self.authenticator.as_ref().map(|_| Arc::new(Believing) as Arc<dyn Authenticator>),
            transport: Arc::new(Nowhere { transport: Arc::clone(&self.transport), record: Arc::clone(record) }),
            observer: Arc::clone(record) as Arc<dyn Observer>,
            clock: Arc::clone(&self.clock),
            pace: None,
            lockout: None,
        };
        Arc::new(Relay::new(self.settings.clone(), components, &self.budget))
    }
}

/// One dry_run, command by command.
struct Play {
    dry_run: DryRun,
    record: Arc<Record>,
    steps: Vec<Step>,
}

impl Play {
    /// The first refusal, or the reply to the message.
    async fn run(&mut self, facts: &Facts, listener: &ListenerSettings) -> String {
        match self.commands(facts, listener).await {
            Ok(reply) | Err(reply) => reply,
        }
    }

    async fn commands(&mut self, facts: &Facts, listener: &ListenerSettings) -> Result<String, String> {
        // The greeting, which nobody asked for.
        self.dry_run.say(b"").await;
        self.must("EHLO localhost").await?;
        if facts.tls && listener.smtp.tls == TlsMode::StartTls {
            self.must("STARTTLS").await?;
            self.must("EHLO localhost").await?;
        }
        if let Some(name) = &facts.identity {
            let response = STANDARD.encode(format!("\0{name}\0-"));
            self.step(&format!("AUTH PLAIN ({name})"), Say::Line(&format!("AUTH PLAIN {response}"))).await?;
        }
        self.must(&format!("MAIL FROM:<{}>", facts.reverse_path)).await?;
        // A refused recipient is no end yet: the others are looked at, and the message too if one of them is accepted.
        let mut refused = None;
        let mut accepted = 0;
        for path in &facts.forward_paths {
            match self.must(&format!("RCPT TO:<{path}>")).await {
                Ok(_) => accepted += 1,
                Err(reply) => drop(refused.get_or_insert(reply)),
            }
        }
        if let (0, Some(reply)) = (accepted, &refused) {
            return Err(reply.clone());
        }
        let reply = self.message(facts).await;
        refused.map_or(reply, Err)
    }

    async fn message(&mut self, facts: &Facts) -> Result<String, String> {
        self.must("DATA").await?;
        let told = format!("message of {} octets", facts.message.len());
        self.step(&told, Say::Message(&facts.message)).await
    }

    async fn must(&mut self, line: &str) -> Result<String, String> {
        self.step(line, Say::Line(line)).await
    }

    /// Says something and keeps what came of it.
    async fn step(&mut self, told: &str, say: Say<'_>) -> Result<String, String> {
        let heard = match say {
            Say::Line(line) => self.dry_run.say(format!("{line}\r\n").as_bytes()).await,
            Say::Message(message) => self.dry_run.content(message).await,
        };
        // The last line of a reply of several; the last reply where a second one closes the session would hide the first.
        let reply = heard.lines().find(|line| line.as_bytes().get(3) != Some(&b'-')).unwrap_or_default().to_owned();
        let notes = std::mem::take(&mut *lock(&self.record.notes));
        self.steps.push(Step { said: told.to_owned(), notes, reply: reply.clone() });
        if reply.starts_with(['2', '3']) { Ok(reply) } else { Err(reply) }
    }
}

enum Say<'a> {
    Line(&'a str),
    Message(&'a [u8]),
}

fn client(facts: &Facts, listener: &ListenerSettings) -> Client {
    let here = || match listener.endpoint {
        Endpoint::Unix { .. } => ClientAddress::Unix,
        _ => ClientAddress::Ip(([127, 0, 0, 1], 0).into()),
    };
    let address = facts.client.unwrap_or_else(here);
    let mut client = Client::new(SessionId::fresh(), address, Arc::clone(&listener.name));
    client.tls = (listener.smtp.tls == TlsMode::Implicit).then(|| tls(facts));
    client
}

fn tls(facts: &Facts) -> TlsInfo {
    let client_certificate = facts.certificate.clone().map(Arc::new);
    TlsInfo { version: "TLSv1_3".to_owned(), cipher: String::new(), client_certificate }
}

/// What was written down since the last step, and the message that would have been sent.
#[derive(Default)]
struct Record {
    notes: Mutex<Vec<Note>>,
    sent: Mutex<Option<Sent>>,
}

impl Record {
    fn note(&self, topic: &'static str, text: impl Into<String>) {
        lock(&self.notes).push(Note::new(topic, text));
    }

    fn decision(&self, decision: &Result<PolicyDecision, PolicyError>) {
        if let Ok(PolicyDecision::Accept(granted)) = decision {
            self.note("rule", granted.rule.as_str());
        }
    }

    fn refused(&self, rule: Option<&str>, detail: &str) {
        if let Some(rule) = rule {
            self.note("rule", rule);
        }
        if !detail.is_empty() {
            self.note("because", detail);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer for Record {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::CommandRefused { rule, detail, .. } => self.refused(*rule, detail),
            Event::MessageEnded(record) if record.outcome.is_none() => self.refused(record.rule, record.detail),
            Event::WouldRefuse { detail, .. } => self.note("reported, not refused", *detail),
            Event::JudgeFailed { detail, .. } => self.note("could not judge", *detail),
            _ => {}
        }
    }
}

struct Witness {
    policy: Arc<dyn Policy>,
    record: Arc<Record>,
}

#[async_trait]
impl Policy for Witness {
    async fn reverse_path(&self, facts: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        for note in self.policy.client_notes(facts.client) {
            self.record.note(note.topic, note.text);
        }
        let decision = self.policy.reverse_path(facts).await;
        self.record.decision(&decision);
        decision
    }

    async fn forward_path(&self, facts: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        let decision = self.policy.forward_path(facts).await;
        self.record.decision(&decision);
        decision
    }

    async fn message(&self, facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        self.record.note("authors", field(&facts.from));
        for (topic, fact) in [("sender", facts.sender), ("resent by", facts.resent)] {
            if !matches!(fact, AddressField::Missing) {
                self.record.note(topic, field(&fact));
            }
        }
        if let Some(fault) = facts.unreadable {
            self.record.note("unreadable", fault.detail.as_str());
        }
        let structure = facts.content.structure();
        let parts: Vec<&str> =
            structure.parts().iter().filter(|part| part.certain).map(|part| part.media_type.as_str()).collect();
        self.record.note("parts", parts.join(", "));
        let names: Vec<String> = structure.names().map(|name| format!("{name:?}")).collect();
        if !names.is_empty() {
            self.record.note("file names", names.join(", "));
        }
        for note in self.policy.message_notes(facts) {
            self.record.note(note.topic, note.text);
        }
        let decision = self.policy.message(facts).await;
        self.record.decision(&decision);
        if let Ok(PolicyDecision::Accept(granted)) = &decision {
            edits(&self.record, granted);
        }
        decision
    }
}

fn field(field: &AddressField<'_>) -> String {
    match field {
        AddressField::Missing => "none".to_owned(),
        AddressField::Empty => "none, the field is empty".to_owned(),
        AddressField::Unreadable(fault) => format!("unreadable: {}", fault.detail),
        AddressField::Mailboxes(mailboxes) => mailboxes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn edits(record: &Record, granted: &Granted) {
    let edits = &granted.edits;
    if let Some(author) = &edits.author {
        record.note("edit", format!("From becomes {author}"));
    }
    if edits.without_resent {
        record.note("edit", "the Resent fields are taken out");
    }
    if edits.readable_lists {
        record.note("edit", "addresses that SES cannot read are taken out of To, Cc and Reply-To");
    }
    if !edits.without.is_empty() {
        record.note("edit", format!("fields are taken out: {}", edits.without.join(", ")));
    }
    if edits.date {
        record.note("edit", "a Date is put in");
    }
    if edits.message_id {
        record.note("edit", "a Message-ID is put in");
    }
    if let Some(path) = &edits.redirect_to {
        record.note("edit", format!("all recipients become {path}"));
    }
    if !edits.is_empty() {
        record.note("edit", "the message is changed, and judged again:");
    }
}

/// Takes nothing; remembers what this dry_run would have taken so far.
struct Looking {
    limiter: Arc<dyn Limiter>,
    record: Arc<Record>,
    taken: Mutex<HashMap<Counted, u64>>,
}

/// One window of one limit, for one key.
type Counted = (String, String, u64);

#[async_trait]
impl Limiter for Looking {
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError> {
        let views = self.limiter.look(step).await?;
        let mut taken = lock(&self.taken);
        let counted = |view: &LimitView| (view.limit.to_string(), view.window.to_string(), view.key);
        let left = |view: &LimitView, taken: &HashMap<Counted, u64>| {
            view.left.saturating_sub(taken.get(&counted(view)).copied().unwrap_or_default())
        };
        for view in &views {
            let (limit, window, needs) = (&view.limit, view.window, view.needs);
            let left = left(view, &taken);
            self.record.note("limit", format!("{limit}: {left} of {window} left, this takes {needs}"));
            if left < needs {
                return Ok(LimitDecision::Over { limit: limit.clone(), reply: view.over.clone(), wait: None });
            }
        }
        let keys: Vec<(Counted, u64)> = views.iter().map(|view| (counted(view), view.needs)).collect();
        for (key, needs) in keys.iter().cloned() {
            *taken.entry(key).or_default() += needs;
        }
        Ok(LimitDecision::Taken(Ticket::new(keys)))
    }

    async fn give_back(&self, ticket: Ticket) {
        let mut taken = lock(&self.taken);
        for (key, needs) in ticket.into_note::<Vec<(Counted, u64)>>().unwrap_or_default() {
            taken.entry(key).and_modify(|sum| *sum = sum.saturating_sub(needs));
        }
    }

    async fn look(&self, step: &LimitStep<'_>) -> Result<Vec<LimitView>, LimitError> {
        self.limiter.look(step).await
    }
}

/// Takes every password for right: the facts say that it is.
struct Believing;

#[async_trait]
impl Authenticator for Believing {
    async fn authenticate(&self, credentials: &Credentials) -> Result<AuthDecision, AuthError> {
        Ok(AuthDecision::Accept(Identity::new(&credentials.name)))
    }
}

/// Weighs what the transport weighs, and sends nothing.
struct Nowhere {
    transport: Arc<dyn Transport>,
    record: Arc<Record>,
}

#[async_trait]
impl Transport for Nowhere {
    async fn send(&self, message: Permitted, _deadline: Instant) -> Outcome {
        *lock(&self.record.sent) = Some(sent(message.envelope(), message.content(), message.granted()));
        match MessageId::new("rehearsed") {
            Some(id) => Outcome::sent(id),
            None => Outcome::not_sent(crate::mail::Kind::Failed, crate::mail::replies::LOCAL_ERROR, ""),
        }
    }

    fn octets_held(&self, message_octets: u64) -> u64 {
        self.transport.octets_held(message_octets)
    }
}

fn sent(envelope: &Envelope, content: &crate::mail::Content, granted: &Granted) -> Sent {
    let send = &granted.send;
    let authors =
        content.fields_named("From").filter_map(|field| crate::mail::author::parse(field.value).ok()).flatten();
    let tags = send.tags.iter().flatten();
    Sent {
        app: granted.app.as_ref().map(ToString::to_string),
        from: authors.map(|author| author.to_string()).collect(),
        recipients: envelope.forward_paths().iter().map(ToString::to_string).collect(),
        octets: content.octets().len(),
        feedback: send.feedback_address(envelope, granted.reverse_path_permitted).map(ToString::to_string),
        configuration_set: send.configuration_set.as_ref().map(ToString::to_string),
        identity_arn: send.identity_arn.as_ref().map(ToString::to_string),
        role: send.role.as_ref().map(ToString::to_string),
        tags: tags.map(|tag| (tag.name.to_string(), tag.value.to_string())).collect(),
        tenant: send.tenant.as_ref().map(ToString::to_string),
        endpoint_id: send.endpoint_id.as_ref().map(ToString::to_string),
        list: send.list_management.as_ref().map(|list| match &list.topic {
            Some(topic) => format!("{}, topic {topic}", list.contact_list),
            None => list.contact_list.to_string(),
        }),
        header: content.fields().map(|field| String::from_utf8_lossy(field.octets).into_owned()).collect(),
    }
}
