//! Admission: one question of the session, one decision, one reply.
//!
//! The order is always the same: the requirements of standards and provider, then policy, then the limiter, cheapest first. Only here is a
//! [`Permitted`] made.

use super::fields::{Fields, hides_a_from_field};
use super::reception::BufferedMessage;
use super::{Relay, rewriting};
use crate::limit::{LimitDecision, LimitError, LimitStage, LimitStatus, LimitStep, Reservation};
use crate::mail::parameters::AppName;
use crate::mail::{
    Author, Client, Envelope, Granted, Permitted, Refusal, ReversePath, TransactionId, UnreadablePath, replies,
};
use crate::observe::Event;
use crate::policy::{AddressField, MailFacts, MessageFacts, PolicyDecision, PolicyError, RcptFacts};
use std::sync::Arc;

/// What policy granted, and what the limiter took.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) granted: Arc<Granted>,
    pub(super) reservation: Reservation,
}

/// A message that may be sent, and what the limiter took for it.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) permitted: Permitted,
    pub(super) granted: Arc<Granted>,
    pub(super) reservation: Reservation,
}

impl Relay {
    /// The policy's decision about MAIL.
    pub(super) async fn decide_reverse_path(&self, facts: &MailFacts<'_>) -> Result<Arc<Granted>, Refusal> {
        let granted = self.decided(facts.client, self.policy.reverse_path(facts).await)?;
        match facts.parameters.unreadable_path.as_deref().filter(|_| !granted.takes_unreadable_path) {
            Some(UnreadablePath { text, error }) => {
                let reply = replies::BAD_REVERSE_PATH_SYNTAX.with_cause(error);
                Err(Refusal::new(reply, text.clone()))
            }
            None => Ok(granted),
        }
    }

    /// The limiter's decision about a MAIL that policy accepts.
    pub(super) async fn limit_reverse_path(
        &self,
        facts: &MailFacts<'_>,
        granted: Arc<Granted>,
    ) -> Result<Admitted, Refusal> {
        if let Some(octets) = facts.parameters.declared_octets {
            self.check_declared_size(facts, &granted, octets).await?;
        }
        self.limited(facts.client, granted, facts.reverse_path, LimitStage::Mail).await
    }

    /// Checks that the limits have capacity for a message of this size now. Takes nothing: the real size is known at the end of data.
    async fn check_declared_size(&self, facts: &MailFacts<'_>, granted: &Granted, octets: u64) -> Result<(), Refusal> {
        let stage = LimitStage::Declared(octets);
        let step = LimitStep { client: facts.client, granted, reverse_path: facts.reverse_path, stage };
        let views = self.limiter.peek(&step).await;
        let views = views.map_err(|error| self.could_not_decide(facts.client, &error.to_string()))?;
        match views.into_iter().find(|view| view.left < view.needs) {
            None => Ok(()),
            Some(LimitStatus { limit, left, over, .. }) => {
                self.limit_hit(limit.as_str(), granted.app.as_ref());
                let detail = format!("{octets} octets are announced, and {left} are left");
                Err(Refusal { reply: over, rule: Some(limit), detail })
            }
        }
    }

    pub(super) async fn judge_forward_path(&self, facts: &RcptFacts<'_>) -> Result<Admitted, Refusal> {
        let granted = self.decided(facts.client, self.policy.forward_path(facts).await)?;
        self.limited(facts.client, granted, facts.reverse_path, LimitStage::Rcpt(facts.forward_path)).await
    }

    /// Decides about a whole message. If policy requests edits, they are applied and policy decides about the result, which is what is
    /// sent. `authors` and `envelope` become those of that message, also for the log line of a refusal.
    pub(super) async fn judge_message(
        &self,
        client: &Client,
        transaction: TransactionId,
        mut message: BufferedMessage,
        authors: &mut Vec<Author>,
        envelope: &mut Arc<Envelope>,
    ) -> Result<Judged, Refusal> {
        let mut granted = self.judge_once(client, &message, authors).await?;
        if !granted.edits.is_empty() {
            rewriting::apply(&granted.edits, authors, &mut message, transaction, self)?;
            *envelope = Arc::clone(&message.envelope);
            let second = self.judge_once(client, &message, authors).await?;
            if !second.edits.is_empty() {
                return Err(self.could_not_decide(client, "policy requested a second change of the message"));
            }
            let reported = granted.reported.clone().or_else(|| second.reported.clone());
            granted = Arc::new(Granted { reported, ..Arc::unwrap_or_clone(second) });
        }
        let Some(author) = authors.first() else {
            return Err(Refusal::new(replies::AUTHOR_MISSING, ""));
        };
        let stage = LimitStage::Message {
            author: &author.mailbox,
            octets: message.content.octets().len() as u64,
            recipients: message.envelope.forward_paths().len(),
        };
        let Admitted { granted, reservation } =
            self.limited(client, granted, message.envelope.reverse_path(), stage).await?;
        let BufferedMessage { envelope, content, .. } = message;
        let permitted = Permitted::permit(transaction, envelope, content, Arc::clone(&granted));
        Ok(Judged { permitted, granted, reservation })
    }

    async fn judge_once(
        &self,
        client: &Client,
        message: &BufferedMessage,
        authors: &mut Vec<Author>,
    ) -> Result<Arc<Granted>, Refusal> {
        let mut fields = message.content.fields().filter(|field| !field.is("From"));
        if let Some(field) = fields.find(|field| hides_a_from_field(field.value)) {
            let detail = format!("a continuation line of {} looks like a From field", field.name);
            let reply = replies::AUTHOR_AMBIGUOUS
                .with_text(&format!("Continuation line of {} looks like a From field", field.name));
            return Err(Refusal::new(reply, detail));
        }
        let fields = Fields::read(&message.content);
        let facts = MessageFacts {
            client,
            envelope: &message.envelope,
            content: &message.content,
            from: fields.from.facts(),
            sender: fields.sender.facts(),
            resent: fields.resent.facts(),
            unreadable: fields.unreadable.as_ref(),
            requested: &message.requested,
        };
        *authors = facts.from.mailboxes().to_vec();
        let granted = self.decided(client, self.policy.message(&facts).await)?;
        readable(&facts, &granted)?;
        Ok(granted)
    }

    /// The policy's decision, or a deferral if it could not decide.
    pub(super) fn decided(
        &self,
        client: &Client,
        decision: Result<PolicyDecision, PolicyError>,
    ) -> Result<Arc<Granted>, Refusal> {
        match decision {
            Ok(PolicyDecision::Accept(granted)) => Ok(Arc::new(granted)),
            Ok(PolicyDecision::Reject(refusal)) => Err(refusal),
            // If a policy defers with a permanent reply, the decision counts, not the code.
            Ok(PolicyDecision::Defer(refusal)) => Err(Refusal { reply: refusal.reply.softened(), ..refusal }),
            Err(error) => Err(self.could_not_decide(client, &error.to_string())),
        }
    }

    /// The limiter's decision, after policy accepted.
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

    /// The limiter's decision, or a deferral if it could not decide.
    pub(super) fn taken(
        &self,
        client: &Client,
        granted: Arc<Granted>,
        decision: Result<LimitDecision, LimitError>,
    ) -> Result<Admitted, Refusal> {
        match decision {
            Ok(LimitDecision::Taken(reservation)) => Ok(Admitted { granted, reservation }),
            Ok(LimitDecision::Over { limit, reply, wait }) => {
                self.limit_hit(limit.as_str(), granted.app.as_ref());
                let detail = wait.map(|wait| format!("capacity again in {} ms", wait.as_millis())).unwrap_or_default();
                Err(Refusal { reply, rule: Some(limit), detail })
            }
            Err(error) => Err(self.could_not_decide(client, &error.to_string())),
        }
    }

    pub(super) fn limit_hit(&self, limit: &str, app: Option<&AppName>) {
        self.observer.observe(&Event::LimitHit { limit, app: app.map(AppName::as_str) });
    }

    fn could_not_decide(&self, client: &Client, detail: &str) -> Refusal {
        self.observer.observe(&Event::DecisionFailed { client, detail });
        Refusal::new(replies::LOCAL_ERROR, detail)
    }
}

/// Refuses a message with an unreadable author that policy accepted and does not replace. Also a policy that only reports, or
/// that ignores these facts, must not let a message with an unknown author pass.
fn readable(facts: &MessageFacts<'_>, granted: &Granted) -> Result<(), Refusal> {
    let edits = &granted.edits;
    let refuse = |fault: &Refusal| Err(fault.clone());
    if edits.author.is_none() {
        match facts.from {
            AddressField::Missing => {
                return Err(Refusal::new(replies::AUTHOR_MISSING, ""));
            }
            AddressField::Empty => {
                let detail = "From is empty".to_owned();
                return Err(Refusal {
                    reply: replies::AUTHOR_MISSING.with_text("From field is empty"),
                    rule: None,
                    detail,
                });
            }
            AddressField::Unreadable(fault) => return refuse(fault),
            AddressField::Mailboxes(_) => {}
        }
        // An edit of the author removes the Sender field too.
        if let AddressField::Unreadable(fault) = facts.sender {
            return refuse(fault);
        }
    }
    match (facts.resent, facts.unreadable) {
        (AddressField::Unreadable(fault), _) if !edits.without_resent => refuse(fault),
        (_, Some(fault)) if !edits.readable_lists => refuse(fault),
        _ => Ok(()),
    }
}
