//! End of data: submit the message to the provider, or refuse it. A 250 is written only from the provider's message id.

use super::SessionHandler;
use super::admission::Judged;
use super::budget::Share;
use super::fair_queue::Weight;
use super::health::Way;
use super::message_context::{MessageContext, message_id};
use super::reception::{Received, Reception};
use super::send_queue::SendSlot;
use super::transaction::Transaction;
use crate::mail::parameters::{AppName, ConfigurationSetName};
use crate::mail::{Certainty, Granted, Outcome, OutcomeKind, Receipt, Refusal, Reply, RuleName, replies};
use crate::observe::{Event, MessageRecord};
use crate::smtp::Answer;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout_at;

impl SessionHandler {
    /// The end of data: a receipt or a refusal.
    pub(super) async fn commit(&mut self, long_lines: bool) -> Answer {
        let ended = self.relay.clock.now();
        let Some(Transaction { id, app, reservations, reception: Some(reception), .. }) =
            self.transaction.take().map(|transaction| *transaction)
        else {
            return Answer::Refuse(replies::BAD_SEQUENCE);
        };
        let envelope = Arc::clone(&reception.envelope);
        let mut end = MessageContext {
            id,
            began: None,
            app,
            ended,
            envelope,
            reservations,
            authors: Vec::new(),
            message_id: None,
            octets: 0,
        };
        match self.admit(&mut end, reception, long_lines).await {
            Ok(ready) => self.send(end, ready).await,
            Err(Refusal { reply, rule, detail }) => {
                self.open = None;
                let reply = reply.with_reference(&end.id);
                self.record(&end, None, &reply, rule.as_ref().map(RuleName::as_str), None, &detail);
                self.give_back(end.reservations).await;
                Answer::Refuse(reply)
            }
        }
    }

    /// Waits for a send slot, then decides about the message.
    async fn admit(
        &self,
        end: &mut MessageContext,
        reception: Reception,
        long_lines: bool,
    ) -> Result<AdmittedMessage, Refusal> {
        let message = reception.end().await?;
        end.octets = message.octets;
        let settings = &self.relay.settings.deadline;
        let deadline = end.ended + settings.of(end.octets);
        // Re-encoding adds at most two thirds, and both messages are in memory for a moment.
        let octets = if long_lines { end.octets.saturating_mul(2) } else { end.octets };
        let weight = self.relay.transport.octets_held(octets);
        let slot_deadline = deadline.checked_sub(settings.attempt_min).unwrap_or(end.ended);
        let recipients = u32::try_from(end.envelope.forward_paths().len()).unwrap_or(u32::MAX);
        let weight = Weight { recipients, octets: weight };
        let slot = match self.relay.send_queue.slot(&end.app, weight, slot_deadline).await {
            Ok(slot) => slot,
            Err(refusal) => {
                if let Some(limit) = &refusal.rule {
                    self.relay.limit_hit(limit.as_str(), end.app.as_ref());
                }
                return Err(refusal);
            }
        };
        match self.judge(end, message, long_lines, deadline).await {
            Ok((judged, shares)) => Ok(AdmittedMessage { judged, deadline, slot, _shares: shares }),
            Err(refusal) => {
                self.relay.send_queue.give_back(slot).await;
                Err(refusal)
            }
        }
    }

    async fn judge(
        &self,
        end: &mut MessageContext,
        message: Received,
        long_lines: bool,
        deadline: Instant,
    ) -> Result<(Judged, Vec<Share>), Refusal> {
        let (mut message, shares) = message.load().await?;
        if long_lines {
            message = self.relay.shorten(message, deadline).await?;
        }
        end.octets = message.content.octets().len() as u64;
        end.message_id = message_id(&message.content);
        // The policy of an embedding program may hang; the deadline covers that too.
        let MessageContext { id, authors, envelope, .. } = end;
        let judged = self.relay.judge_message(&self.client, *id, message, authors, envelope);
        let judged = timeout_at(deadline.into(), judged).await.map_err(|_| Refusal {
            reply: replies::DEADLINE,
            rule: None,
            detail: "policy or limiter did not answer before the deadline".to_owned(),
        })?;
        Ok((judged?, shares))
    }

    async fn send(&mut self, mut end: MessageContext, ready: AdmittedMessage) -> Answer {
        let AdmittedMessage { judged: Judged { permitted, granted, reservation }, deadline, mut slot, _shares } = ready;
        end.reservations.push(reservation);
        self.would_refuse(end.id, "DATA", &granted);
        // From here on the record of the attempt reports the end of the transaction.
        self.open = None;
        let again_until = deadline.checked_sub(self.relay.settings.deadline.attempt_min).unwrap_or(end.ended);
        let outcome = loop {
            end.began = Some(self.relay.clock.now());
            let mut attempt = InFlightCall { handler: self, end: &end, granted: &granted, state: CallState::Calling };
            let outcome = self.relay.transport.send(permitted.clone(), deadline).await;
            let code = outcome.code;
            // The message was certainly not sent: try again, before the messages that wait.
            let throttled = outcome.kind == OutcomeKind::Throttled && outcome.certainty == Certainty::NotSent;
            attempt.state = CallState::Answered(outcome);
            if let CallState::Answered(outcome) = &attempt.state {
                self.relay.record_outcome(&slot, outcome).await;
            }
            let again = throttled && self.relay.send_queue.again(&mut slot, again_until).await;
            match std::mem::replace(&mut attempt.state, CallState::Over) {
                CallState::Answered(outcome) if !again => break outcome,
                _ => self.relay.observer.observe(&Event::TriedAgain { code }),
            }
        };
        drop((permitted, slot));
        let answer = match &outcome.certainty {
            Certainty::Sent(message_id) => Answer::Accepted(Receipt::Provider(message_id.clone())),
            Certainty::NotSent | Certainty::Ambiguous => Answer::Refuse(outcome.reply.with_reference(&end.id)),
        };
        self.messages += u32::from(matches!(answer, Answer::Accepted(_)));
        let reply = match &answer {
            Answer::Refuse(reply) => reply,
            _ => &outcome.reply,
        };
        self.record_attempt(&end, &granted, &outcome, reply);
        self.relay.health.record_outcome(&outcome, || Way {
            app: granted.app.clone(),
            role: granted.send.role.clone(),
            set: granted.send.configuration_set.clone(),
            domain: end.authors.first().map(|author| author.mailbox.domain().to_string()),
        });
        match outcome.certainty {
            Certainty::NotSent => self.give_back(end.reservations).await,
            Certainty::Ambiguous => self.relay.count_ambiguous(),
            Certainty::Sent(_) => {}
        }
        answer
    }

    fn record_attempt(&self, end: &MessageContext, granted: &Granted, outcome: &Outcome, reply: &Reply) {
        self.record(end, Some(outcome), reply, Some(granted.rule.as_str()), Some(granted), "");
    }

    pub(super) fn record(
        &self,
        end: &MessageContext,
        outcome: Option<&Outcome>,
        reply: &Reply,
        rule: Option<&str>,
        granted: Option<&Granted>,
        detail: &str,
    ) {
        let now = self.relay.clock.now();
        let set = granted.and_then(|granted| granted.send.configuration_set.as_ref());
        self.relay.observer.observe(&Event::MessageEnded(&MessageRecord {
            transaction: end.id,
            client: &self.client,
            reverse_path: end.envelope.reverse_path(),
            authors: &end.authors,
            forward_paths: end.envelope.forward_paths(),
            message_id: end.message_id.as_deref(),
            octets: end.octets,
            rule,
            permitted_by: granted.and_then(|granted| granted.permitted_by.as_deref()),
            app: granted.and_then(|granted| granted.app.as_ref()).or(self.client.app.as_ref()).map(AppName::as_str),
            configuration_set: set.map(ConfigurationSetName::as_str),
            outcome,
            reply,
            detail,
            latency: now.saturating_duration_since(end.ended),
            attempt: end.began.filter(|_| outcome.is_some()).map(|began| now.saturating_duration_since(began)),
        }));
    }
}

/// A message that may be sent now, with everything that it holds until then.
struct AdmittedMessage {
    judged: Judged,
    deadline: Instant,
    slot: SendSlot,
    /// The shares of the received octets.
    _shares: Vec<Share>,
}

/// A message that is being sent. If the connection is cut, dropping this counts and logs the call as an ambiguous attempt, because its
/// result is unknown.
struct InFlightCall<'a> {
    handler: &'a SessionHandler,
    end: &'a MessageContext,
    granted: &'a Granted,
    state: CallState,
}

enum CallState {
    Calling,
    /// The provider answered, and the answer is not recorded yet: a throttled message waits for its next call.
    Answered(Outcome),
    Over,
}

impl Drop for InFlightCall<'_> {
    fn drop(&mut self) {
        let outcome = match std::mem::replace(&mut self.state, CallState::Over) {
            CallState::Over => return,
            CallState::Answered(outcome) => outcome,
            CallState::Calling => {
                self.handler.relay.count_ambiguous();
                let detail = "cut off while the provider was called";
                Outcome::ambiguous(OutcomeKind::NoResponse, replies::PROVIDER_NO_RESPONSE, detail)
            }
        };
        self.handler.record_attempt(self.end, self.granted, &outcome, &outcome.reply);
    }
}
