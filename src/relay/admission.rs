//! May it, and how often? One question, one answer, one reply.
//!
//! The order is always the same: what the standards and the provider demand of any message, then policy, then the limiter,
//! cheapest first. This is the only place where a [`Permitted`] is made, and where errors of judges meet replies.

use super::reception::Loaded;
use super::{Relay, edit};
use crate::limit::{LimitDecision, LimitError, LimitStage, LimitStep, LimitView, Ticket};
use crate::mail::{
    Author, AuthorError, Client, Content, Envelope, Granted, Permitted, Reply, ReversePath, RuleName, TransactionId,
    author, replies,
};
use crate::observe::Event;
use crate::policy::{MailFacts, MessageFacts, PolicyDecision, PolicyError, RcptFacts, Reason};
use std::sync::Arc;

/// A yes: what policy granted, and what the limiter took for it.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) granted: Arc<Granted>,
    pub(super) ticket: Ticket,
}

/// A no, in two voices.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reply: Reply,
    pub(super) rule: Option<RuleName>,
    pub(super) detail: String,
}

/// A message that may be sent, and what the limiter took for it.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) permitted: Permitted,
    pub(super) granted: Arc<Granted>,
    pub(super) ticket: Ticket,
}

impl Relay {
    /// What policy says to MAIL.
    pub(super) async fn decide_reverse_path(&self, facts: &MailFacts<'_>) -> Result<Arc<Granted>, Refusal> {
        self.decided(facts.client, self.policy.reverse_path(facts).await)
    }

    /// What the limiter says to a MAIL that policy accepts.
    pub(super) async fn limit_reverse_path(
        &self,
        facts: &MailFacts<'_>,
        granted: Arc<Granted>,
    ) -> Result<Admitted, Refusal> {
        if let Some(octets) = facts.parameters.declared_octets {
            self.announced(facts, &granted, octets).await?;
        }
        self.limited(facts.client, granted, facts.reverse_path, LimitStage::Mail).await
    }

    /// Whether there is room for a message of that size now. Nothing is taken: its size is known at its end.
    async fn announced(&self, facts: &MailFacts<'_>, granted: &Granted, octets: u64) -> Result<(), Refusal> {
        let stage = LimitStage::Declared(octets);
        let step = LimitStep { client: facts.client, granted, reverse_path: facts.reverse_path, stage };
        let views = self.limiter.look(&step).await;
        let views = views.map_err(|error| self.could_not_judge(facts.client, &error.to_string()))?;
        match views.into_iter().find(|view| view.left < view.needs) {
            None => Ok(()),
            Some(LimitView { limit, left, over, .. }) => {
                self.observer.observe(&Event::LimitHit { limit: limit.as_str() });
                let detail = format!("{octets} octets are announced, and {left} are left");
                Err(Refusal { reply: over, rule: Some(limit), detail })
            }
        }
    }

    pub(super) async fn judge_forward_path(&self, facts: &RcptFacts<'_>) -> Result<Admitted, Refusal> {
        let granted = self.decided(facts.client, self.policy.forward_path(facts).await)?;
        self.limited(facts.client, granted, facts.reverse_path, LimitStage::Rcpt(facts.forward_path)).await
    }

    /// Judges a whole message. Where policy wants it changed first, it is changed, and the result is judged: what was judged
    /// last is what leaves. `authors` and `envelope` become those of what is judged, for the log line of a refusal too.
    pub(super) async fn judge_message(
        &self,
        client: &Client,
        transaction: TransactionId,
        mut message: Loaded,
        authors: &mut Vec<Author>,
        envelope: &mut Arc<Envelope>,
    ) -> Result<Judged, Refusal> {
        let mut granted = self.judge_once(client, &message, authors).await?;
        if !granted.edits.is_empty() {
            edit::apply(&granted.edits, authors, &mut message, transaction, self)?;
            *envelope = Arc::clone(&message.envelope);
            let second = self.judge_once(client, &message, authors).await?;
            if !second.edits.is_empty() {
                return Err(self.could_not_judge(client, "policy wants to change the message again"));
            }
            let reported = granted.reported.clone().or_else(|| second.reported.clone());
            granted = Arc::new(Granted { reported, ..Arc::unwrap_or_clone(second) });
        }
        let Some(author) = authors.first() else {
            return Err(Refusal { reply: replies::AUTHOR_MISSING, rule: None, detail: String::new() });
        };
        let stage = LimitStage::Message {
            author: &author.mailbox,
            octets: message.content.octets().len() as u64,
            recipients: message.envelope.forward_paths().len(),
        };
        let Admitted { granted, ticket } =
            self.limited(client, granted, message.envelope.reverse_path(), stage).await?;
        let Loaded { envelope, content, .. } = message;
        let permitted = Permitted::permit(transaction, envelope, content, Arc::clone(&granted));
        Ok(Judged { permitted, granted, ticket })
    }

    async fn judge_once(
        &self,
        client: &Client,
        message: &Loaded,
        authors: &mut Vec<Author>,
    ) -> Result<Arc<Granted>, Refusal> {
        *authors = read_authors(&message.content)?;
        let sender = read_sender(&message.content)?;
        let resent = read_resent(&message.content)?;
        let facts = MessageFacts {
            client,
            envelope: &message.envelope,
            content: &message.content,
            authors,
            sender: sender.as_ref(),
            resent: &resent,
            requested: &message.requested,
        };
        self.decided(client, self.policy.message(&facts).await)
    }

    /// What policy said, or that it could not say.
    pub(super) fn decided(
        &self,
        client: &Client,
        decision: Result<PolicyDecision, PolicyError>,
    ) -> Result<Arc<Granted>, Refusal> {
        match decision {
            Ok(PolicyDecision::Accept(granted)) => Ok(Arc::new(granted)),
            Ok(PolicyDecision::Reject(Reason { rule, reply, detail })) => {
                let reply = if self.settings.soft_fail { reply.softened() } else { reply };
                Err(Refusal { reply, rule: Some(rule), detail })
            }
            // A judge that defers with a permanent reply means what it decided, not what it wrote.
            Ok(PolicyDecision::Defer(Reason { rule, reply, detail })) => {
                Err(Refusal { reply: reply.softened(), rule: Some(rule), detail })
            }
            Err(error) => Err(self.could_not_judge(client, &error.to_string())),
        }
    }

    /// Asks the limiter, after policy said yes.
    async fn limited(
        &self,
        client: &Client,
        granted: Arc<Granted>,
        reverse_path: &ReversePath,
        stage: LimitStage<'_>,
    ) -> Result<Admitted, Refusal> {
        let step = LimitStep { client, granted: &granted, reverse_path, stage };
        let decision = self.limiter.take(&step).await;
        self.taken(client, granted, decision)
    }

    /// What the limiter said, or that it could not say.
    pub(super) fn taken(
        &self,
        client: &Client,
        granted: Arc<Granted>,
        decision: Result<LimitDecision, LimitError>,
    ) -> Result<Admitted, Refusal> {
        match decision {
            Ok(LimitDecision::Taken(ticket)) => Ok(Admitted { granted, ticket }),
            Ok(LimitDecision::Over { limit, reply, wait }) => {
                self.observer.observe(&Event::LimitHit { limit: limit.as_str() });
                let detail = wait.map(|wait| format!("room again in {} ms", wait.as_millis())).unwrap_or_default();
                Err(Refusal { reply, rule: Some(limit), detail })
            }
            Err(error) => Err(self.could_not_judge(client, &error.to_string())),
        }
    }

    fn could_not_judge(&self, client: &Client, detail: &str) -> Refusal {
        self.observer.observe(&Event::JudgeFailed { client, detail });
        Refusal { reply: replies::LOCAL_ERROR, rule: None, detail: detail.to_owned() }
    }
}

/// The mailboxes of the only From field; none if there is no field. SES sends what stands in it.
fn read_authors(content: &Content) -> Result<Vec<Author>, Refusal> {
    let mut fields = content.fields_named("From");
    let refuse = |reply: Reply, detail: &str| Refusal { reply, rule: None, detail: detail.to_owned() };
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Ok(Vec::new()),
        (_, Some(_)) => return Err(refuse(replies::AUTHOR_REPEATED, "")),
        (Some(field), None) => field,
    };
    if content.fields().any(|field| hides_a_from_field(field.value)) {
        return Err(refuse(replies::AUTHOR_AMBIGUOUS, "a continuation line looks like a second From field"));
    }
    let authors = read_mailboxes("From", field.value)?;
    if authors.is_empty() {
        return Err(refuse(replies::AUTHOR_MISSING, "From names a group without members"));
    }
    Ok(authors)
}

/// Whether a folded line of a field begins with `From:`. To us it is part of that field; a reader that trims lines before
/// it looks at them sees an author.
fn hides_a_from_field(value: &[u8]) -> bool {
    value.split(|octet| *octet == b'\n').skip(1).any(|line| {
        let line = line.trim_ascii_start();
        line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"From"))
            && line[4..].trim_ascii_start().starts_with(b":")
    })
}

/// The mailbox of the Sender field, if there is one. That there is at most one, reception has checked.
fn read_sender(content: &Content) -> Result<Option<Author>, Refusal> {
    let Some(field) = content.fields_named("Sender").next() else { return Ok(None) };
    let mut mailboxes = read_mailboxes("Sender", field.value)?;
    match mailboxes.len() {
        1 => Ok(mailboxes.pop()),
        n => Err(Refusal {
            reply: replies::AUTHOR_AMBIGUOUS,
            rule: None,
            detail: format!("Sender names {n} mailboxes, not one"),
        }),
    }
}

/// The mailboxes of every Resent-From and Resent-Sender field.
fn read_resent(content: &Content) -> Result<Vec<Author>, Refusal> {
    let mut mailboxes = Vec::new();
    for name in ["Resent-From", "Resent-Sender"] {
        for field in content.fields_named(name) {
            mailboxes.extend(read_mailboxes(name, field.value)?);
        }
    }
    Ok(mailboxes)
}

/// Our strict reader, and mail-parser as the witness. Anything that the two read differently is refused.
fn read_mailboxes(name: &str, value: &[u8]) -> Result<Vec<Author>, Refusal> {
    let authors = author::parse(value).map_err(|error| Refusal {
        reply: match error {
            AuthorError::NotAscii(_) => replies::AUTHOR_NOT_ASCII,
            _ => replies::AUTHOR_AMBIGUOUS,
        },
        rule: None,
        detail: format!("{name}: {error}"),
    })?;
    if !authors.is_empty() && !author::agree(value, &authors) {
        let ours: Vec<String> = authors.iter().map(|author| author.mailbox.to_string()).collect();
        let detail = format!("{name}: a second reader does not see {}", ours.join(", "));
        return Err(Refusal { reply: replies::AUTHOR_AMBIGUOUS, rule: None, detail });
    }
    Ok(authors)
}
