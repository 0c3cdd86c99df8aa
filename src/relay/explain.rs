//! Explains what would happen to one message: the reply to each command, and the decisions behind it.
//!
//! The dry run uses the same settings and components as the relay. The policy and the observer are recorded, the limiter is only
//! read, passwords are taken to be right, and nothing is sent. So the explanation is what the client would receive, except for what
//! depends on the moment: what other messages have taken of a limit, load, and the provider.

use super::{BudgetSettings, Components, DryRun, Relay, RelaySettings};
use crate::auth::{AuthDecision, AuthError, Authenticator};
#[cfg(feature = "admin")]
use crate::limit::Unlimited;
use crate::limit::{LimitDecision, LimitError, LimitStatus, LimitStep, Limiter, Reservation};
use crate::mail::parameters::Delivery;
use crate::mail::{
    Client, ClientAddress, ClientCertificate, Clock, Credentials, Envelope, Granted, Identity, SessionId, TlsInfo,
};
use crate::observe::{Event, Observer};
use crate::policy::{AddressField, MailFacts, MessageFacts, Note, Policy, PolicyDecision, PolicyError, RcptFacts};
use crate::smtp::{self, TlsMode};
use crate::spool::RECIPIENTS_PER_PART;
use crate::transport::Transport;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// One message and its client.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Facts {
    /// The listener; `None`: the first one.
    pub listener: Option<String>,
    /// The client's address, after the PROXY protocol; `None`: this machine.
    pub client: Option<ClientAddress>,
    /// The name that it authenticates with. The password counts as right.
    pub identity: Option<String>,
    /// Whether it uses STARTTLS, where that is offered.
    pub tls: bool,
    /// The certificate that it presents under TLS. It counts as verified.
    pub certificate: Option<ClientCertificate>,
    /// The reverse-path: the text between the angle brackets of MAIL FROM.
    pub reverse_path: String,
    /// The forward-paths: the same text of each RCPT TO.
    pub forward_paths: Vec<String>,
    /// The message, as the client sends it.
    pub message: Bytes,
}

/// Why a message cannot be explained.
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// Whether every command and the message would be accepted.
    pub allowed: bool,
    /// The first refusal, or the reply to the message.
    pub reply: String,
    /// The dialogue, with the decisions behind each reply.
    pub steps: Vec<Step>,
    /// What the provider would receive; `None` if nothing is sent.
    pub sent: Option<Sent>,
}

/// One command, or the message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
pub struct Step {
    /// The command.
    pub said: String,
    /// The decisions behind the reply.
    pub notes: Vec<Note>,
    /// The reply, its last line.
    pub reply: String,
}

/// What the provider would receive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
pub struct Sent {
    /// The application.
    pub app: Option<String>,
    /// What the 250 means: `hand-off`, `spool` or `hand-off-else-spool`.
    pub delivery: Cow<'static, str>,
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
    /// Whether the message is deferred, so that a retry may succeed.
    pub fn is_deferred(&self) -> bool {
        !self.allowed && self.reply.starts_with('4')
    }
}

/// What an explanation needs of a listener.
#[derive(Clone, Debug)]
pub(crate) struct ExplainedListener {
    pub(crate) name: Arc<str>,
    pub(crate) smtp: smtp::Settings,
    /// Its clients are on this machine, on a Unix socket.
    pub(crate) unix: bool,
}

/// What an explanation needs of a relay.
pub(crate) struct Explainer<'a> {
    pub(crate) settings: &'a RelaySettings,
    pub(crate) budget: &'a BudgetSettings,
    pub(crate) policy: &'a Arc<dyn Policy>,
    pub(crate) limiter: &'a Arc<dyn Limiter>,
    pub(crate) authenticates: bool,
    pub(crate) transport: &'a Arc<dyn Transport>,
    pub(crate) clock: &'a Arc<dyn Clock>,
}

impl Relay {
    /// Explains what this relay would reply to a message, with what is left of its limits now, or as if there were none.
    ///
    /// # Errors
    /// [`ExplainError`].
    #[cfg(feature = "admin")]
    pub(crate) async fn explain(
        &self,
        listeners: Vec<ExplainedListener>,
        facts: &Facts,
        limits: bool,
    ) -> Result<Explanation, ExplainError> {
        let none: Arc<dyn Limiter> = Arc::new(Unlimited);
        let explainer = Explainer {
            settings: &self.settings,
            budget: &BudgetSettings::default(),
            policy: &self.policy,
            limiter: if limits { &self.limiter } else { &none },
            authenticates: self.authenticator.is_some(),
            transport: &self.transport,
            clock: &self.clock,
        };
        explainer.explain(listeners.into_iter(), facts).await
    }
}

impl Explainer<'_> {
    /// Explains a message.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub(crate) async fn explain(
        &self,
        mut listeners: impl Iterator<Item = ExplainedListener>,
        facts: &Facts,
    ) -> Result<Explanation, ExplainError> {
        let wanted = facts.listener.as_deref();
        let listener = listeners.find(|listener| wanted.is_none_or(|name| *listener.name == *name));
        let listener = listener.ok_or_else(|| ExplainError::NoListener(wanted.unwrap_or_default().to_owned()))?;
        if facts.tls && listener.smtp.tls == TlsMode::None {
            return Err(ExplainError::NoTls(listener.name.to_string()));
        }
        if facts.forward_paths.iter().chain([&facts.reverse_path]).any(|path| path.contains(char::is_control)) {
            return Err(ExplainError::ControlCharacter);
        }
        let recorder = Arc::new(Recorder::default());
        let components = self.recorded(&recorder);
        let smtp = listener.smtp.clone();
        let dry_run = DryRun::begin(self.settings, components, self.budget, smtp, client(facts, &listener), tls(facts));
        let mut script = Script { dry_run, recorder, steps: Vec::new() };
        let reply = script.run(facts, &listener).await;
        let sent = script.dry_run.end().await;
        let sent =
            sent.map(|message| sent_as(message.envelope(), message.content(), message.granted(), self.settings.spools));
        Ok(Explanation { allowed: reply.starts_with('2'), reply, steps: script.steps, sent })
    }

    /// The relay's components, with their decisions recorded.
    fn recorded(&self, recorder: &Arc<Recorder>) -> Components {
        Components {
            spool: None,
            policy: Arc::new(RecordingPolicy { policy: Arc::clone(self.policy), recorder: Arc::clone(recorder) }),
            limiter: Arc::new(ReadOnlyLimiter {
                limiter: Arc::clone(self.limiter),
                recorder: Arc::clone(recorder),
                taken: Mutex::default(),
            }),
            authenticator: self.authenticates.then(|| Arc::new(AcceptAnyPassword) as Arc<dyn Authenticator>),
            transport: Arc::clone(self.transport),
            observer: Arc::clone(recorder) as Arc<dyn Observer>,
            clock: Arc::clone(self.clock),
            pace: None,
            lockout: None,
        }
    }
}

/// The client's side of a dry run, command by command.
struct Script {
    dry_run: DryRun,
    recorder: Arc<Recorder>,
    steps: Vec<Step>,
}

impl Script {
    /// The first refusal, or the reply to the message.
    async fn run(&mut self, facts: &Facts, listener: &ExplainedListener) -> String {
        match self.commands(facts, listener).await {
            Ok(reply) | Err(reply) => reply,
        }
    }

    async fn commands(&mut self, facts: &Facts, listener: &ExplainedListener) -> Result<String, String> {
        // The greeting.
        self.dry_run.send(b"").await;
        self.must("EHLO localhost").await?;
        if facts.tls && listener.smtp.tls == TlsMode::StartTls {
            self.must("STARTTLS").await?;
            self.must("EHLO localhost").await?;
        }
        if let Some(name) = &facts.identity {
            let response = STANDARD.encode(format!("\0{name}\0-"));
            self.step(&format!("AUTH PLAIN ({name})"), Input::Line(&format!("AUTH PLAIN {response}"))).await?;
        }
        self.must(&format!("MAIL FROM:<{}>", facts.reverse_path)).await?;
        // After a refused recipient the others are tried, and the message too if one of them is accepted.
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
        let shown = format!("message of {} octets", facts.message.len());
        self.step(&shown, Input::Message(&facts.message)).await
    }

    async fn must(&mut self, line: &str) -> Result<String, String> {
        self.step(line, Input::Line(line)).await
    }

    /// Sends something and records the reply.
    async fn step(&mut self, shown: &str, input: Input<'_>) -> Result<String, String> {
        let received = match input {
            Input::Line(line) => self.dry_run.send(format!("{line}\r\n").as_bytes()).await,
            Input::Message(message) => self.dry_run.send_content(message).await,
        };
        // The last line of a reply of several; the last reply where a second one closes the session would hide the first.
        let reply = received.lines().find(|line| line.as_bytes().get(3) != Some(&b'-')).unwrap_or_default().to_owned();
        let notes = std::mem::take(&mut *lock(&self.recorder.notes));
        self.steps.push(Step { said: shown.to_owned(), notes, reply: reply.clone() });
        if reply.starts_with(['2', '3']) { Ok(reply) } else { Err(reply) }
    }
}

enum Input<'a> {
    Line(&'a str),
    Message(&'a [u8]),
}

fn client(facts: &Facts, listener: &ExplainedListener) -> Client {
    let here = || match listener.unix {
        true => ClientAddress::Unix,
        false => ClientAddress::Ip(([127, 0, 0, 1], 0).into()),
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

/// What was recorded since the last step.
#[derive(Default)]
struct Recorder {
    notes: Mutex<Vec<Note>>,
}

impl Recorder {
    fn note(&self, topic: impl Into<Cow<'static, str>>, text: impl Into<String>) {
        lock(&self.notes).push(Note { topic: topic.into(), text: text.into() });
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

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::CommandRefused { rule, detail, .. } => self.refused(*rule, detail),
            Event::MessageEnded(record) if record.outcome.is_none() => self.refused(record.rule, record.detail),
            Event::WouldRefuse { detail, .. } => self.note("reported, not refused", *detail),
            Event::DecisionFailed { detail, .. } => self.note("could not decide", *detail),
            _ => {}
        }
    }
}

/// Records what policy is asked and decides.
struct RecordingPolicy {
    policy: Arc<dyn Policy>,
    recorder: Arc<Recorder>,
}

#[async_trait]
impl Policy for RecordingPolicy {
    async fn reverse_path(&self, facts: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        for note in self.policy.client_notes(facts.client) {
            self.recorder.note(note.topic, note.text);
        }
        let decision = self.policy.reverse_path(facts).await;
        self.recorder.decision(&decision);
        decision
    }

    async fn forward_path(&self, facts: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        let decision = self.policy.forward_path(facts).await;
        self.recorder.decision(&decision);
        decision
    }

    async fn message(&self, facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        self.recorder.note("authors", field(&facts.from));
        for (topic, fact) in [("sender", facts.sender), ("resent by", facts.resent)] {
            if !matches!(fact, AddressField::Missing) {
                self.recorder.note(topic, field(&fact));
            }
        }
        if let Some(fault) = facts.unreadable {
            self.recorder.note("unreadable", fault.detail.as_str());
        }
        let structure = facts.content.structure();
        let parts: Vec<&str> =
            structure.parts().iter().filter(|part| part.certain).map(|part| part.media_type.as_str()).collect();
        self.recorder.note("parts", parts.join(", "));
        let names: Vec<String> = structure.names().map(|name| format!("{name:?}")).collect();
        if !names.is_empty() {
            self.recorder.note("file names", names.join(", "));
        }
        for note in self.policy.message_notes(facts) {
            self.recorder.note(note.topic, note.text);
        }
        let decision = self.policy.message(facts).await;
        self.recorder.decision(&decision);
        if let Ok(PolicyDecision::Accept(granted)) = &decision {
            edits(&self.recorder, granted);
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

fn edits(recorder: &Recorder, granted: &Granted) {
    let edits = &granted.edits;
    if let Some(author) = &edits.author {
        recorder.note("edit", format!("From is replaced by {author}"));
    }
    if edits.without_resent {
        recorder.note("edit", "the Resent fields are removed");
    }
    if edits.readable_lists {
        recorder.note("edit", "addresses that SES cannot parse are removed from To, Cc and Reply-To");
    }
    if !edits.without.is_empty() {
        recorder.note("edit", format!("fields are removed: {}", edits.without.join(", ")));
    }
    if edits.date {
        recorder.note("edit", "a Date is added");
    }
    if edits.message_id {
        recorder.note("edit", "a Message-ID is added");
    }
    if let Some(path) = &edits.redirect_to {
        recorder.note("edit", format!("all recipients are replaced by {path}"));
    }
    if !edits.is_empty() {
        recorder.note("edit", "the message is changed, and checked again:");
    }
}

/// Takes nothing; remembers what this dry run would have taken so far.
struct ReadOnlyLimiter {
    limiter: Arc<dyn Limiter>,
    recorder: Arc<Recorder>,
    taken: Mutex<HashMap<Counted, u64>>,
}

/// One window of one limit, for one key.
type Counted = (String, String, u64);

#[async_trait]
impl Limiter for ReadOnlyLimiter {
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError> {
        let views = self.limiter.peek(step).await?;
        let mut taken = lock(&self.taken);
        let counted = |view: &LimitStatus| (view.limit.to_string(), view.window.to_string(), view.key);
        let left = |view: &LimitStatus, taken: &HashMap<Counted, u64>| {
            view.left.saturating_sub(taken.get(&counted(view)).copied().unwrap_or_default())
        };
        for view in &views {
            let (limit, window, needs) = (&view.limit, view.window, view.needs);
            let left = left(view, &taken);
            self.recorder.note("limit", format!("{limit}: {left} of {window} left, this takes {needs}"));
            if left < needs {
                return Ok(LimitDecision::Over { limit: limit.clone(), reply: view.over.clone(), wait: None });
            }
        }
        let keys: Vec<(Counted, u64)> = views.iter().map(|view| (counted(view), view.needs)).collect();
        for (key, needs) in keys.iter().cloned() {
            *taken.entry(key).or_default() += needs;
        }
        Ok(LimitDecision::Taken(Reservation::new(keys)))
    }

    async fn give_back(&self, reservation: Reservation) {
        let mut taken = lock(&self.taken);
        for (key, needs) in reservation.into_data::<Vec<(Counted, u64)>>().unwrap_or_default() {
            taken.entry(key).and_modify(|sum| *sum = sum.saturating_sub(needs));
        }
    }

    async fn peek(&self, step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError> {
        self.limiter.peek(step).await
    }
}

/// The facts say that the password is right.
struct AcceptAnyPassword;

#[async_trait]
impl Authenticator for AcceptAnyPassword {
    async fn authenticate(&self, credentials: &Credentials) -> Result<AuthDecision, AuthError> {
        Ok(AuthDecision::Accept(Identity::new(&credentials.name)))
    }
}

/// What the 250 of this message means.
fn delivery(envelope: &Envelope, granted: &Granted, spools: bool) -> &'static str {
    match granted.delivery {
        _ if !spools => "hand-off",
        Delivery::HandOff => "hand-off",
        Delivery::HandOffElseSpool if envelope.forward_paths().len() <= RECIPIENTS_PER_PART => "hand-off-else-spool",
        Delivery::Spool | Delivery::HandOffElseSpool => "spool",
    }
}

fn sent_as(envelope: &Envelope, content: &crate::mail::Content, granted: &Granted, spools: bool) -> Sent {
    let send = &granted.send;
    let authors =
        content.fields_named("From").filter_map(|field| crate::mail::author::parse(field.value).ok()).flatten();
    let tags = send.tags.iter().flatten();
    Sent {
        app: granted.app.as_ref().map(ToString::to_string),
        delivery: delivery(envelope, granted, spools).into(),
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
