//! The end of data: a message is handed on, or refused. Two ways out, and never a third way to say 250.

use super::Visit;
use super::admission::{Judged, Refusal, Refused};
use super::reception::{Fault, Received};
use super::turns::{NoTurn, Weight};
use super::visit::Transaction;
use crate::limit::Ticket;
use crate::mail::parameters::AppName;
use crate::mail::{
    Author, Certainty, Envelope, Granted, Kind, Outcome, Receipt, Reply, RuleName, TransactionId, replies,
};
use crate::observe::{Event, MessageRecord};
use crate::smtp::Answer;
use std::time::Instant;

impl Visit {
    /// The end of data: two ways out of here, a receipt or a refusal.
    pub(super) async fn commit(&mut self, long_lines: bool) -> Answer {
        let ended = self.relay.clock.now();
        let Some(Transaction { id, app, tickets, reception: Some(reception), .. }) = self.transaction.take() else {
            return Answer::Refuse(replies::BAD_SEQUENCE);
        };
        let mut end = End { id, began: None, app, ended, tickets, authors: Vec::new(), octets: 0 };
        let message = match reception.end().await {
            Ok(message) => message,
            Err((envelope, fault)) => return self.refuse_message(end, &envelope, fault.into()).await,
        };
        end.octets = message.octets;
        self.hand_off(end, message, long_lines).await
    }

    async fn hand_off(&mut self, mut end: End, message: Received, long_lines: bool) -> Answer {
        let settings = &self.relay.settings.deadline;
        let deadline = end.ended + settings.of(end.octets);
        // Quoted-printable may make three octets out of one.
        let octets = if long_lines { end.octets.saturating_mul(3) } else { end.octets };
        let weight = self.relay.transport.octets_held(octets);
        let turn_deadline = deadline.checked_sub(settings.attempt_min).unwrap_or(end.ended);
        let recipients = u32::try_from(message.envelope.forward_paths().len()).unwrap_or(u32::MAX);
        let weight = Weight { recipients, octets: weight };
        let turn = match self.relay.turns.turn(&end.app, weight, turn_deadline).await {
            Ok(turn) => turn,
            Err(no_turn) => {
                if let Some(limit) = &no_turn.limit {
                    self.relay.observer.observe(&Event::LimitHit { limit: limit.as_str() });
                }
                return self.refuse_message(end, &message.envelope, no_turn.into()).await;
            }
        };
        let (loaded, _shares) = match message.load().await {
            Ok(loaded) => loaded,
            Err((envelope, fault)) => {
                self.relay.turns.give_back(turn).await;
                return self.refuse_message(end, &envelope, fault.into()).await;
            }
        };
        let loaded = match long_lines {
            true => self.relay.shorten(loaded),
            false => Ok(loaded),
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(refused) => {
                let (envelope, refusal) = *refused;
                self.relay.turns.give_back(turn).await;
                return self.refuse_message(end, &envelope, refusal).await;
            }
        };
        end.octets = loaded.content.octets().len() as u64;
        // A judge of an embedding program may hang; the deadline is for that too.
        let known = loaded.envelope.clone();
        let judged = self.relay.judge_message(&self.client, end.id, loaded);
        let Judged { permitted, authors, ticket } = match tokio::time::timeout_at(deadline.into(), judged).await {
            Ok(Ok(judged)) => judged,
            Err(_) => {
                self.relay.turns.give_back(turn).await;
                let detail = "policy or limiter did not answer before the deadline".to_owned();
                return self
                    .refuse_message(end, &known, Refusal { reply: replies::DEADLINE, rule: None, detail })
                    .await;
            }
            Ok(Err(refused)) => {
                self.relay.turns.give_back(turn).await;
                let Refused { refusal, authors, envelope } = *refused;
                end.authors = authors;
                return self.refuse_message(end, &envelope, refusal).await;
            }
        };
        end.authors = authors;
        end.tickets.push(ticket);
        let (envelope, granted) = (permitted.envelope().clone(), permitted.granted().clone());
        self.would_refuse(end.id, "DATA", &granted);
        let began = self.relay.clock.now();
        end.began = Some(began);
        let mut attempt = Attempt { visit: self, end: &end, envelope: &envelope, granted: &granted, over: false };
        let outcome = self.relay.transport.send(permitted, deadline).await;
        attempt.over = true;
        drop(attempt);
        self.relay.heard(turn, &outcome).await;
        let answer = match &outcome.certainty {
            Certainty::Sent(message_id) => Answer::Accepted(Receipt::Provider(message_id.clone())),
            Certainty::NotSent | Certainty::Ambiguous => Answer::Refuse(outcome.reply.with_reference(&end.id)),
        };
        self.messages += u32::from(matches!(answer, Answer::Accepted(_)));
        let app = granted.app.as_ref().map(|app| app.as_str());
        let set = granted.send.configuration_set.as_ref().map(|set| set.as_str());
        let told = match &answer {
            Answer::Refuse(reply) => reply,
            _ => &outcome.reply,
        };
        self.record(&end, &envelope, Some(&outcome), told, Some(granted.rule.as_str()), (app, set), "");
        match outcome.certainty {
            Certainty::NotSent => self.give_back(end.tickets).await,
            Certainty::Ambiguous => self.relay.count_ambiguous(),
            Certainty::Sent(_) => {}
        }
        answer
    }

    async fn refuse_message(&mut self, end: End, envelope: &Envelope, refusal: Refusal) -> Answer {
        let reply = refusal.reply.with_reference(&end.id);
        let rule = refusal.rule.as_ref().map(RuleName::as_str);
        self.record(&end, envelope, None, &reply, rule, (None, None), &refusal.detail);
        self.give_back(end.tickets).await;
        Answer::Refuse(reply)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one log line, put together in one place")]
    pub(super) fn record(
        &self,
        end: &End,
        envelope: &Envelope,
        outcome: Option<&Outcome>,
        reply: &Reply,
        rule: Option<&str>,
        (app, configuration_set): (Option<&str>, Option<&str>),
        detail: &str,
    ) {
        let now = self.relay.clock.now();
        self.relay.observer.observe(&Event::MessageEnded(&MessageRecord {
            transaction: end.id,
            client: &self.client,
            reverse_path: envelope.reverse_path(),
            authors: &end.authors,
            recipients: envelope.forward_paths().len(),
            octets: end.octets,
            rule,
            app,
            configuration_set,
            outcome,
            reply,
            detail,
            latency: now.saturating_duration_since(end.ended),
            attempt: end.began.filter(|_| outcome.is_some()).map(|began| now.saturating_duration_since(began)),
        }));
    }
}

/// A call to the provider that is under way. A connection that is cut meanwhile drops it, and then nobody will ever know
/// what became of the message: that is counted and told like any other ambiguous attempt.
struct Attempt<'a> {
    visit: &'a Visit,
    end: &'a End,
    envelope: &'a Envelope,
    granted: &'a Granted,
    over: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.visit.relay.count_ambiguous();
        let outcome =
            Outcome::ambiguous(Kind::Silent, replies::PROVIDER_SILENT, "cut off while the provider was called");
        let rule = Some(self.granted.rule.as_str());
        let app = self.granted.app.as_ref().map(|app| app.as_str());
        let set = self.granted.send.configuration_set.as_ref().map(|set| set.as_str());
        self.visit.record(self.end, self.envelope, Some(&outcome), &outcome.reply, rule, (app, set), "");
    }
}

/// The end of one transaction: what its log line and its refunds need.
pub(super) struct End {
    pub(super) id: TransactionId,
    /// When the provider was called.
    pub(super) began: Option<Instant>,
    pub(super) app: Option<AppName>,
    pub(super) ended: Instant,
    pub(super) tickets: Vec<Ticket>,
    pub(super) authors: Vec<Author>,
    pub(super) octets: u64,
}

impl From<NoTurn> for Refusal {
    fn from(NoTurn { reply, limit, detail }: NoTurn) -> Self {
        Self { reply, rule: limit, detail }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { reply: fault.reply, rule: None, detail: fault.detail }
    }
}
