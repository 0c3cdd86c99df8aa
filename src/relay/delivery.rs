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
use crate::mail::parameters::{AppName, ConfigurationSetName, Delivery};
use crate::mail::{Certainty, Granted, Outcome, OutcomeKind, Permitted, Receipt, Refusal, Reply, RuleName, replies};
use crate::observe::{Event, MessageRecord};
use crate::smtp::Answer;
use crate::spool::RECIPIENTS_PER_PART;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

impl SessionHandler {
    /// The end of data: a receipt or a refusal.
    pub(super) async fn commit(&mut self, long_lines: bool) -> Answer {
        let ended = self.relay.clock.now();
        let Some(Transaction { id, app, delivery, reservations, reception: Some(reception), .. }) =
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
        let delivery = match delivery {
            // A dry run.
            _ if self.relay.kept.is_none() => Delivery::HandOff,
            Delivery::HandOffElseSpool if end.envelope.forward_paths().len() > RECIPIENTS_PER_PART => Delivery::Spool,
            other => other,
        };
        match self.admit(&mut end, reception, long_lines, delivery).await {
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

    /// Waits for a send slot, or only for memory if the message is going to the spool; then decides about the message.
    async fn admit(
        &self,
        end: &mut MessageContext,
        reception: Reception,
        long_lines: bool,
        delivery: Delivery,
    ) -> Result<AdmittedMessage, Refusal> {
        let message = reception.end().await?;
        end.octets = message.octets;
        let settings = &self.relay.settings.deadline;
        let deadline = end.ended + settings.of(end.octets);
        // Re-encoding adds at most two thirds, and both messages are in memory for a moment.
        let octets = if long_lines { end.octets.saturating_mul(2) } else { end.octets };
        let weight = self.relay.transport.octets_held(octets);
        let send_deadline = match delivery {
            Delivery::HandOffElseSpool => deadline.min(end.ended + settings.before_spool),
            Delivery::HandOff | Delivery::Spool => deadline,
        };
        let slot_deadline = send_deadline.checked_sub(settings.attempt_min).unwrap_or(end.ended);
        let recipients = u32::try_from(end.envelope.forward_paths().len()).unwrap_or(u32::MAX);
        let weight = Weight { recipients, octets: weight };
        let slot = match delivery {
            Delivery::Spool => None,
            Delivery::HandOff | Delivery::HandOffElseSpool => {
                Some(self.relay.send_queue.slot(&end.app, weight, slot_deadline).await)
            }
        };
        let capacity = match slot {
            Some(Ok(slot)) => Capacity::Slot(slot),
            Some(Err(refusal)) if delivery == Delivery::HandOff => {
                if let Some(limit) = &refusal.rule {
                    self.relay.limit_hit(limit.as_str(), end.app.as_ref());
                }
                return Err(refusal);
            }
            Some(Err(_)) | None => Capacity::Memory(self.memory(weight.octets, deadline).await?),
        };
        match self.judge(end, message, long_lines, deadline).await {
            Ok((judged, shares)) => {
                Ok(AdmittedMessage { judged, delivery, deadline, send_deadline, capacity, _shares: shares })
            }
            Err(refusal) => {
                if let Capacity::Slot(slot) = capacity {
                    self.relay.send_queue.give_back(slot).await;
                }
                Err(refusal)
            }
        }
    }

    /// Memory for a message that is not sent now.
    async fn memory(&self, octets: u64, deadline: Instant) -> Result<Share, Refusal> {
        let memory = timeout_at(deadline.into(), self.relay.budget.send(octets)).await;
        let detail = "messages that are being sent or stored have taken the memory budget";
        memory.ok().flatten().ok_or_else(|| Refusal::new(replies::INSUFFICIENT_STORAGE, detail))
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
        let AdmittedMessage { judged, delivery, deadline, send_deadline, capacity, _shares } = ready;
        let Judged { permitted, granted, reservation } = judged;
        end.reservations.push(reservation);
        self.would_refuse(end.id, "DATA", &granted);
        // From here on the record of the attempt reports the end of the transaction.
        self.open = None;
        let mut slot = match capacity {
            Capacity::Slot(slot) => slot,
            Capacity::Memory(memory) => {
                let answer = self.keep(end, &granted, permitted, None, deadline).await;
                drop(memory);
                return answer;
            }
        };
        let again_until = send_deadline.checked_sub(self.relay.settings.deadline.attempt_min).unwrap_or(end.ended);
        let outcome = loop {
            end.began = Some(self.relay.clock.now());
            let mut attempt = InFlightCall { handler: self, end: &end, granted: &granted, state: CallState::Calling };
            let outcome = self.relay.transport.send(permitted.clone(), send_deadline).await;
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
        let way = || Way {
            app: granted.app.clone(),
            role: granted.send.role.clone(),
            set: granted.send.configuration_set.clone(),
            domain: end.authors.first().map(|author| author.mailbox.domain().to_string()),
        };
        self.relay.health.record_outcome(&outcome, way);
        if delivery == Delivery::HandOffElseSpool && self.relay.may_keep(&granted.app, &outcome) {
            if outcome.certainty == Certainty::Ambiguous {
                self.relay.count_ambiguous();
            }
            return self.keep(end, &granted, permitted, Some(outcome), deadline).await;
        }
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
        match outcome.certainty {
            Certainty::NotSent => self.give_back(end.reservations).await,
            Certainty::Ambiguous => self.relay.count_ambiguous(),
            Certainty::Sent(_) => {}
        }
        answer
    }

    /// Puts a message into the spool, perhaps after an attempt to hand it off.
    async fn keep(
        &mut self,
        end: MessageContext,
        granted: &Granted,
        message: Permitted,
        outcome: Option<Outcome>,
        deadline: Instant,
    ) -> Answer {
        // After an attempt that took long, the disk still has a moment.
        let deadline = deadline.max(self.relay.clock.now() + SPOOL_WAIT_MIN);
        let (answer, reply, detail) = match (self.relay.keep(message, deadline).await, &outcome) {
            (Ok(receipt), _) => {
                let reply = receipt.reply();
                (Answer::Accepted(receipt), reply, String::new())
            }
            (Err(refusal), Some(outcome)) => {
                let reply = outcome.reply.clone().with_reference(&end.id);
                (Answer::Refuse(reply.clone()), reply, refusal.detail)
            }
            (Err(refusal), None) => {
                let reply = refusal.reply.with_reference(&end.id);
                (Answer::Refuse(reply.clone()), reply, refusal.detail)
            }
        };
        self.record(&end, outcome.as_ref(), &reply, Some(granted.rule.as_str()), Some(granted), &detail);
        match answer {
            Answer::Accepted(_) => self.messages += 1,
            _ if outcome.is_none_or(|outcome| outcome.certainty == Certainty::NotSent) => {
                self.give_back(end.reservations).await;
            }
            _ => {}
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
    delivery: Delivery,
    /// Of the whole.
    deadline: Instant,
    /// Of the attempt to hand it off.
    send_deadline: Instant,
    capacity: Capacity,
    /// The shares of the received octets.
    _shares: Vec<Share>,
}

/// What a message holds until it is sent or stored.
enum Capacity {
    /// It is sent now.
    Slot(SendSlot),
    /// It is stored.
    Memory(Share),
}

/// The shortest time that the spool has for a commit.
const SPOOL_WAIT_MIN: Duration = Duration::from_secs(5);

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
