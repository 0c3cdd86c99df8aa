//! One decision about a connection, a command or a message, as a bounded record.
//!
//! Everything that a client or the provider chooses has a bound here, so that a record takes about 1 KiB: 20 recipients, 5 authors,
//! 500 octets of detail, the ids of 20 calls. Mailboxes are at most 254 octets long by their type.

use super::{AttemptRecord, MessageRecord, QueueEndRecord, TransactionRecord};
use crate::mail::{
    Certainty, Client, ClientAddress, Mailbox, OutcomeKind, QueueId, Reply, ReversePath, SessionId, TransactionId,
};
use std::sync::Arc;

/// Recipients that a record names; their number is kept too.
pub(crate) const RECIPIENTS_MAX: usize = 20;
/// Authors that a record names.
const AUTHORS_MAX: usize = 5;
/// Calls to the provider whose ids a record has.
const SENT_MAX: usize = 20;
/// Octets of a detail, and of what permitted a message.
const DETAIL_OCTETS_MAX: usize = 500;
/// Octets of a name: of a rule, an application, a user.
const NAME_OCTETS_MAX: usize = 320;

/// Where a decision was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Before a session began.
    Connection,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA or BDAT, before content.
    Data,
    /// Another command.
    Command,
    /// The whole message, after its content.
    Message,
    /// A message in the spool that an earlier process accepted.
    Queue,
}

impl Stage {
    fn of(verb: &str) -> Self {
        match verb {
            "MAIL" => Self::Mail,
            "RCPT" => Self::Rcpt,
            "DATA" | "BDAT" => Self::Data,
            "AUTH" => Self::Auth,
            _ => Self::Command,
        }
    }
}

/// What the client received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DecisionResult {
    /// 250: SES has the message.
    Accepted,
    /// 250: the message is in the spool. Its record says what became of it.
    Kept,
    /// 4yz.
    Deferred,
    /// 5yz.
    Rejected,
    /// Accepted, because policy only reports; it would have been refused.
    WouldRefuse,
    /// The client left before the message was complete, or the relay closed the session.
    Abandoned,
}

impl DecisionResult {
    fn of(reply: &Reply) -> Self {
        if reply.is_temporary() { Self::Deferred } else { Self::Rejected }
    }
}

/// A call in which the provider accepted a message, or a part of it.
#[derive(Clone, Debug)]
pub(crate) struct SentCall {
    /// When, in milliseconds since 1970.
    pub(crate) time: u64,
    /// The provider's id.
    pub(crate) id: Box<str>,
    /// The number of recipients of the call.
    pub(crate) recipients: usize,
    /// The first of them, if it was a part of the message: a range of the recipients, in their order.
    pub(crate) first_recipient: Option<Box<Mailbox>>,
}

/// An attempt to send a message of the spool.
#[derive(Clone, Debug)]
pub(crate) struct LastAttempt {
    /// When it ended, in milliseconds since 1970.
    pub(crate) time: u64,
    pub(crate) outcome: &'static str,
    pub(crate) code: &'static str,
    pub(crate) detail: Box<str>,
    /// When the next one is due, in milliseconds since 1970.
    pub(crate) next: Option<u64>,
}

/// What became of a message in the spool.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    /// `waiting`, `held`, `sent`, `rejected`, `expired`, `damaged` or `removed`.
    pub(crate) status: &'static str,
    /// Attempts that ended.
    pub(crate) attempts: u32,
    pub(crate) last: Option<LastAttempt>,
    /// When it left the spool, in milliseconds since 1970.
    pub(crate) left: Option<u64>,
}

impl Default for Fate {
    fn default() -> Self {
        Self { status: "waiting", attempts: 0, last: None, left: None }
    }
}

/// One decision. Addresses are as they are; who shows them chooses the form.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    /// Its number: later decisions have greater ones.
    pub(crate) sequence: u64,
    /// When, in milliseconds since 1970.
    pub(crate) time: u64,
    pub(crate) stage: Stage,
    pub(crate) result: DecisionResult,
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) session: Option<SessionId>,
    pub(crate) app: Option<Box<str>>,
    pub(crate) listener: Option<Arc<str>>,
    pub(crate) client: Option<ClientAddress>,
    /// The AUTH name; of a failed login, the name that was tried.
    pub(crate) identity: Option<Box<str>>,
    pub(crate) reverse_path: Option<ReversePath>,
    pub(crate) authors: Vec<Mailbox>,
    /// The recipients; of a refused RCPT, the one in question.
    pub(crate) recipients: Vec<Mailbox>,
    pub(crate) recipient_count: usize,
    pub(crate) octets: Option<u64>,
    pub(crate) message_id: Option<Box<str>>,
    pub(crate) rule: Option<Box<str>>,
    pub(crate) permitted_by: Option<Box<str>>,
    pub(crate) reply: Option<Reply>,
    pub(crate) detail: Box<str>,
    /// Whether the detail is the provider's text.
    pub(crate) of_provider: bool,
    pub(crate) sent: Vec<SentCall>,
    pub(crate) fate: Option<Box<Fate>>,
}

/// What [`Decision::of_command`] takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedCommand<'a> {
    pub(super) client: &'a Client,
    pub(super) transaction: Option<TransactionId>,
    pub(super) verb: &'a str,
    pub(super) reply: &'a Reply,
    pub(super) rule: Option<&'a str>,
    pub(super) address: Option<&'a Mailbox>,
    pub(super) detail: &'a str,
}

impl Decision {
    fn new(time: u64, stage: Stage, result: DecisionResult) -> Self {
        Self {
            sequence: 0,
            time,
            stage,
            result,
            transaction: None,
            session: None,
            app: None,
            listener: None,
            client: None,
            identity: None,
            reverse_path: None,
            authors: Vec::new(),
            recipients: Vec::new(),
            recipient_count: 0,
            octets: None,
            message_id: None,
            rule: None,
            permitted_by: None,
            reply: None,
            detail: Box::default(),
            of_provider: false,
            sent: Vec::new(),
            fate: None,
        }
    }

    fn by(self, client: &Client) -> Self {
        Self {
            session: Some(client.session),
            app: self.app.or_else(|| client.app_name().map(name)),
            listener: Some(Arc::clone(&client.listener)),
            client: Some(client.address),
            identity: client.identity.as_ref().map(|identity| name(identity.name())),
            ..self
        }
    }

    /// A message that was accepted or refused after its content was received.
    pub(super) fn of_message(time: u64, record: &MessageRecord<'_>) -> Self {
        let sent = match record.outcome.map(|outcome| &outcome.certainty) {
            Some(Certainty::Sent(id)) => vec![SentCall {
                time,
                id: id.as_str().into(),
                recipients: record.forward_paths.len(),
                first_recipient: None,
            }],
            _ => Vec::new(),
        };
        let accepted = record.outcome.is_some_and(|outcome| outcome.kind == OutcomeKind::Accepted);
        let result = match record.reply.is_positive() {
            true if accepted => DecisionResult::Accepted,
            true => DecisionResult::Kept,
            false => DecisionResult::of(record.reply),
        };
        let detail = record.outcome.map_or(record.detail, |outcome| &outcome.detail);
        let recipients = record.forward_paths.iter().take(RECIPIENTS_MAX).map(|path| path.mailbox().clone());
        Self {
            transaction: Some(record.transaction),
            app: record.app.map(name),
            reverse_path: Some(record.reverse_path.clone()),
            authors: record.authors.iter().take(AUTHORS_MAX).map(|author| author.mailbox.clone()).collect(),
            recipients: recipients.collect(),
            recipient_count: record.forward_paths.len(),
            octets: Some(record.octets),
            message_id: record.message_id.map(name),
            rule: record.rule.map(name),
            permitted_by: record.permitted_by.map(|text| bounded(text, DETAIL_OCTETS_MAX)),
            reply: Some(record.reply.clone()),
            detail: bounded(detail, DETAIL_OCTETS_MAX),
            of_provider: record.outcome.is_some(),
            sent,
            fate: (result == DecisionResult::Kept).then(Box::default),
            ..Self::new(time, Stage::Message, result).by(record.client)
        }
        .with_app_of(record.client)
    }

    /// A transaction that ended without a message.
    pub(super) fn of_transaction(time: u64, record: &TransactionRecord<'_>) -> Self {
        Self {
            transaction: Some(record.transaction),
            app: record.app.map(name),
            reverse_path: Some(record.reverse_path.clone()),
            recipient_count: record.recipients,
            octets: Some(record.octets),
            reply: record.why.reply().cloned(),
            detail: format!("{} after {}", record.why.word(), record.after).into(),
            ..Self::new(time, Stage::Message, DecisionResult::Abandoned).by(record.client)
        }
        .with_app_of(record.client)
    }

    /// A command that was refused.
    pub(super) fn of_command(time: u64, command: &RefusedCommand<'_>) -> Self {
        let RefusedCommand { client, transaction, verb, reply, rule, address, detail } = *command;
        let stage = Stage::of(verb);
        let recipient = address.filter(|_| stage == Stage::Rcpt);
        let reverse_path = address.filter(|_| stage != Stage::Rcpt);
        Self {
            transaction,
            reverse_path: reverse_path.map(|mailbox| ReversePath::Mailbox(mailbox.clone())),
            recipients: recipient.cloned().into_iter().collect(),
            recipient_count: usize::from(recipient.is_some()),
            rule: rule.map(name),
            reply: Some(reply.clone()),
            detail: bounded(detail, DETAIL_OCTETS_MAX),
            ..Self::new(time, stage, DecisionResult::of(reply)).by(client)
        }
    }

    /// What policy would have refused, if it were enforced. The detail is `rule: reply (why)`.
    pub(super) fn of_report(
        time: u64,
        client: &Client,
        transaction: TransactionId,
        verb: &str,
        app: Option<&str>,
        detail: &str,
    ) -> Self {
        Self {
            transaction: Some(transaction),
            app: app.map(name),
            rule: detail.split_once(": ").map(|(rule, _)| name(rule)),
            detail: bounded(detail, DETAIL_OCTETS_MAX),
            ..Self::new(time, Stage::of(verb), DecisionResult::WouldRefuse).by(client)
        }
        .with_app_of(client)
    }

    /// A failed login.
    pub(super) fn of_login(time: u64, client: &Client, tried: &str, reply: &Reply, detail: &str) -> Self {
        Self {
            identity: Some(name(tried)),
            reply: Some(reply.clone()),
            detail: bounded(detail, DETAIL_OCTETS_MAX),
            ..Self::new(time, Stage::Auth, DecisionResult::of(reply)).by(client)
        }
    }

    /// A connection that was turned away.
    pub(super) fn of_connection(
        time: u64,
        address: ClientAddress,
        listener: &str,
        reply: Option<&Reply>,
        reason: &str,
    ) -> Self {
        Self {
            client: Some(address),
            listener: Some(listener.into()),
            reply: reply.cloned(),
            detail: bounded(reason, DETAIL_OCTETS_MAX),
            ..Self::new(time, Stage::Connection, reply.map_or(DecisionResult::Rejected, DecisionResult::of))
        }
    }

    /// A message of the spool whose acceptance is not in the list: an earlier process accepted it, or the list was too short.
    pub(super) fn of_queued(time: u64, id: QueueId, app: Option<&str>, octets: u64) -> Self {
        Self {
            transaction: Some(id.transaction()),
            app: app.map(name),
            octets: Some(octets),
            fate: Some(Box::default()),
            ..Self::new(time, Stage::Queue, DecisionResult::Kept)
        }
    }

    fn with_app_of(self, client: &Client) -> Self {
        Self { app: self.app.or_else(|| client.app_name().map(name)), ..self }
    }

    /// Adds an attempt to send it from the spool.
    pub(super) fn attempted(&mut self, time: u64, record: &AttemptRecord<'_>) {
        if self.reverse_path.is_none() {
            self.reverse_path = Some(record.reverse_path.clone());
        }
        if self.stage == Stage::Queue {
            let known = |path: &Mailbox, all: &[Mailbox]| all.contains(path);
            for path in record.forward_paths.iter().map(|path| path.mailbox()) {
                if self.recipients.len() < RECIPIENTS_MAX && !known(path, &self.recipients) {
                    self.recipients.push(path.clone());
                }
            }
            self.recipient_count = self.recipient_count.max(record.forward_paths.len());
        }
        if let Certainty::Sent(id) = &record.outcome.certainty
            && self.sent.len() < SENT_MAX
        {
            let first = record.forward_paths.first().map(|path| Box::new(path.mailbox().clone()));
            let recipients = record.forward_paths.len();
            self.sent.push(SentCall {
                time,
                id: id.as_str().into(),
                recipients,
                first_recipient: first.filter(|_| self.stage == Stage::Queue || recipients < self.recipient_count),
            });
        }
        let fate = self.fate.get_or_insert_default();
        fate.attempts = fate.attempts.max(record.attempt);
        fate.status = if record.next == "held" { "held" } else { "waiting" };
        fate.last = Some(LastAttempt {
            time,
            outcome: record.outcome.kind.label(),
            code: record.outcome.code,
            detail: bounded(&record.outcome.detail, DETAIL_OCTETS_MAX),
            next: record.wait.map(|wait| time.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))),
        });
    }

    /// Records that it left the spool.
    pub(super) fn left(&mut self, time: u64, record: &QueueEndRecord<'_>) {
        let fate = self.fate.get_or_insert_default();
        fate.status = record.status;
        fate.attempts = fate.attempts.max(record.attempts);
        fate.left = Some(time);
    }

    /// Whether it belongs to an application, or to a mail transaction that policy let begin.
    pub(super) fn is_known(&self) -> bool {
        self.app.is_some() || self.transaction.is_some()
    }

    /// About how many octets of memory it takes.
    pub(super) fn octets_held(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let mailboxes = self.authors.iter().chain(&self.recipients);
        let mailboxes: usize = mailboxes.map(|it| size_of::<Mailbox>() + it.local_part().len() + DOMAIN_OCTETS).sum();
        let first =
            |call: &SentCall| call.first_recipient.as_ref().map_or(0, |_| size_of::<Mailbox>() + MAILBOX_OCTETS);
        let sent: usize = self.sent.iter().map(|call| size_of::<SentCall>() + call.id.len() + first(call)).sum();
        let last = |fate: &Fate| fate.last.as_ref().map_or(0, |last| last.detail.len());
        let fate = self.fate.as_ref().map_or(0, |fate| size_of::<Fate>() + last(fate));
        let texts = [&self.app, &self.identity, &self.message_id, &self.rule, &self.permitted_by];
        let reply = self.reply.as_ref().map_or(0, |reply| reply.text().len());
        let texts: usize = texts.into_iter().map(text).sum::<usize>() + self.detail.len() + reply + fate;
        size_of::<Self>() + MAILBOX_OCTETS + mailboxes + sent + texts
    }
}

/// What a domain takes, in general.
const DOMAIN_OCTETS: usize = 24;
/// What a mailbox takes beside its own size, in general.
const MAILBOX_OCTETS: usize = 40;

fn name(text: &str) -> Box<str> {
    bounded(text, NAME_OCTETS_MAX)
}

/// The beginning of a text, at most that long.
fn bounded(text: &str, octets_max: usize) -> Box<str> {
    text[..text.floor_char_boundary(octets_max)].into()
}
