//! Answers the questions of one session: admission, content, sending. One handler per connection.

use super::admission::Admitted;
use super::last_failure::LastFailure;
use super::message_context::MessageContext;
use super::reception::Reception;
use super::transaction::{OpenTransaction, Transaction};
use super::{CurrentRelay, Relay};
use crate::limit::Reservation;
use crate::mail::parameters::{AppName, Delivery};
use crate::mail::trace::received;
use crate::mail::{
    Abandonment, Client, CountedConnection, Envelope, ForwardPath, Granted, MailParameters, Mailbox, Refusal, Reply,
    ReversePath, RuleName, TlsInfo, TransactionId, boxed, replies,
};
use crate::observe::{Event, TransactionRecord};
use crate::policy::{MailFacts, RcptFacts};
use crate::smtp::{Abandon, Action, Answer, MboxLine, Question, Session};
use crate::spool::{RECIPIENTS_MAX, RECIPIENTS_PER_PART};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// A connection, from the greeting to the close. Call [`SessionHandler::end`] when it is over.
pub(crate) struct SessionHandler {
    /// With the configuration of the transaction, or of the last one.
    pub(super) relay: Arc<Relay>,
    current: CurrentRelay,
    pub(super) client: Client,
    /// Whether the listener offers AUTH at all.
    auth_offered: bool,
    /// AUTH succeeded; where every name and password is accepted, without an identity.
    authenticated: bool,
    esmtp: bool,
    started: Instant,
    transactions: u32,
    pub(super) messages: u32,
    pub(super) transaction: Option<Box<Transaction>>,
    /// The transaction whose MAIL was accepted, until its one outcome is observed.
    pub(super) open: Option<OpenTransaction>,
    /// A transaction whose content or BDAT is refused, until the session reports the reply.
    rejected_content: Option<RejectedContent>,
    pub(super) last_failure: LastFailure,
    /// Policy accepted a MAIL, or a login succeeded.
    pub(super) recognised: bool,
    /// Counts the connection for its application, from the first accepted MAIL.
    app_connection: Option<CountedConnection<AppName>>,
}

/// A refused transaction; with its context, if content was received after 354.
struct RejectedContent(Option<MessageContext>);

impl SessionHandler {
    /// The handler of a new connection.
    pub(crate) fn new(current: CurrentRelay, mut client: Client, auth_offered: bool) -> Self {
        let relay = current.get();
        client.app = relay.policy.application(&client);
        relay.observer.observe(&Event::Connected(&client));
        let started = relay.clock.now();
        Self {
            relay,
            current,
            client,
            auth_offered,
            authenticated: false,
            esmtp: false,
            started,
            transactions: 0,
            messages: 0,
            transaction: None,
            open: None,
            rejected_content: None,
            last_failure: LastFailure::default(),
            recognised: false,
            app_connection: None,
        }
    }

    /// Whether policy accepted a MAIL of the client, or a login succeeded.
    pub(crate) fn is_recognised(&self) -> bool {
        self.recognised
    }

    /// Handles EHLO or HELO.
    pub(crate) async fn hello(&mut self, word: String, esmtp: bool) {
        self.abandon(Abandonment::Hello).await;
        self.client.hello = word;
        self.esmtp = esmtp;
    }

    /// Records the TLS handshake. What the client sent before it is discarded (RFC 3207 §4.2).
    pub(crate) async fn encrypted(&mut self, tls: TlsInfo) {
        self.abandon(Abandonment::StartTls).await;
        self.client.identity = None;
        self.client.hello.clear();
        self.client.tls = Some(tls);
        self.client.app = self.relay.policy.application(&self.client);
        self.relay.observer.observe(&Event::Encrypted(&self.client));
    }

    /// Records a refusal that the session made without a question.
    pub(crate) fn report(&mut self, verb: &str, argument: &str, reply: &Reply) {
        match self.rejected_content.take() {
            Some(RejectedContent(Some(end))) => {
                self.open = None;
                self.record(&end, None, reply, None, None, "content is not a message");
            }
            Some(RejectedContent(None)) => {
                self.refused(verb, reply, None, None, "");
                self.not_sent(Abandonment::Refused(reply.clone()));
            }
            None if *reply == replies::NOT_TLS => {
                self.not_encrypted(
                    "TLS handshake failed: the client speaks TLS on a plain port: switch to STARTTLS in the client, or let it \
                     use a listener with tls = \"implicit\"",
                );
            }
            None => self.refused(verb, reply, None, None, argument),
        }
    }

    /// Records that the session closes on its own initiative.
    async fn closing(&mut self, after: &str, reply: &Reply) {
        let transaction = self.open.as_ref().map(|open| open.id);
        self.relay.observer.observe(&Event::SessionClosed { client: &self.client, transaction, after, reply });
        self.abandon(Abandonment::SessionClosed(reply.clone())).await;
    }

    /// Records that the TLS handshake after STARTTLS failed.
    pub(crate) fn not_encrypted(&self, reason: &str) {
        self.relay.observer.observe(&Event::ConnectionRefused {
            address: self.client.address,
            listener: &self.client.listener,
            reply: None,
            reason,
        });
    }

    /// Ends the transaction, if there is one, without a message.
    pub(crate) async fn abandon(&mut self, why: Abandonment) {
        self.not_sent(why);
        self.rejected_content = None;
        if let Some(transaction) = self.transaction.take() {
            Box::pin(self.give_up(*transaction)).await;
        }
    }

    /// Ends a transaction whose content or BDAT is refused. The session reports the reply later.
    async fn reject_content(&mut self) {
        let ended = self.relay.clock.now();
        let Some(mut transaction) = self.transaction.take() else { return };
        self.rejected_content = Some(RejectedContent(transaction.reception.take().map(|reception| MessageContext {
            id: transaction.id,
            began: None,
            app: transaction.app.clone(),
            ended,
            octets: reception.octets(),
            envelope: reception.envelope,
            reservations: Vec::new(),
            authors: Vec::new(),
            message_id: None,
        })));
        Box::pin(self.give_up(*transaction)).await;
    }

    async fn give_up(&mut self, transaction: Transaction) {
        let Transaction { prefetched, reservations, .. } = transaction;
        self.give_back_prefetched(prefetched).await;
        self.give_back(reservations).await;
    }

    /// Reports the end of a transaction whose MAIL was accepted, if no message was sent. Once per transaction.
    fn not_sent(&mut self, why: Abandonment) {
        let Some(open) = self.open.take() else { return };
        self.relay.observer.observe(&Event::TransactionEnded(&TransactionRecord {
            transaction: open.id,
            client: &self.client,
            reverse_path: &open.reverse_path,
            app: open.app.as_ref().map(|app| app.as_str()).or(self.client.app_name()),
            recipients: open.recipients,
            octets: open.octets,
            after: open.after,
            why: &why,
        }));
    }

    /// Takes the next octets of the message.
    pub(crate) async fn content(&mut self, octets: &Bytes) {
        if let Some(open) = &mut self.open {
            open.octets += octets.len() as u64;
        }
        if let Some(reception) = self.transaction.as_mut().and_then(|transaction| transaction.reception.as_mut()) {
            reception.write(octets).await;
        }
    }

    /// Ends the connection.
    pub(crate) async fn end(mut self, why: Abandonment) {
        self.abandon(why).await;
    }

    /// Does what the session asks for, and returns the actions that only the owner of the connection can do. Used by `server` and by
    /// [`DryRun`](super::DryRun).
    pub(crate) async fn perform(&mut self, action: Action, session: &mut Session) -> Option<Action> {
        match action {
            Action::Ask(question) => {
                if let (Question::ForwardPath(path), true) = (&question, self.relay.limiter.is_distant()) {
                    let mut paths = vec![path.clone()];
                    paths.extend(session.forward_paths_ahead());
                    if paths.len() > 1 && !self.is_fetched(path) {
                        Box::pin(self.fetch(paths)).await;
                    }
                }
                self.authenticated = session.is_authenticated();
                let answer = self.answer(question).await;
                if let Some(open) = &mut self.open {
                    open.after = session.last_verb();
                }
                if self.recognised {
                    session.handle_recognised();
                }
                session.handle_answer(answer, self.relay.clock.now());
            }
            Action::Content(octets) => self.content(&octets).await,
            Action::Abandon(Abandon::Reset) => self.abandon(Abandonment::Reset).await,
            Action::Abandon(Abandon::Quit) => self.abandon(Abandonment::Quit).await,
            Action::Abandon(Abandon::Refused) => self.reject_content().await,
            Action::Hello { word, esmtp } => self.hello(word, esmtp).await,
            Action::Report { verb, argument, reply } => self.report(verb, &argument, &reply),
            Action::Closing { after, reply } => self.closing(after, &reply).await,
            other @ (Action::Transmit | Action::StartTls | Action::Close) => return Some(other),
        }
        None
    }

    /// Answers the session's question.
    pub(crate) async fn answer(&mut self, question: Question) -> Answer {
        // Each future is boxed: a connection that waits for a command must not reserve the memory of all of them.
        match question {
            Question::Authenticate(credentials) => {
                self.take_current_relay();
                boxed(|| self.authenticate(&credentials)).await
            }
            Question::ReversePath(path, parameters) => boxed(|| self.mail(path, parameters)).await,
            Question::ForwardPath(path) => boxed(|| self.rcpt(&path)).await,
            Question::Data { envelope, mbox_line } => boxed(|| self.data(envelope, mbox_line)).await,
            Question::Commit { long_lines } => boxed(|| self.commit(long_lines)).await,
        }
    }

    /// Takes the configuration in force. Only where no transaction is open: one transaction is decided by one configuration.
    fn take_current_relay(&mut self) {
        let Some(relay) = self.current.newer_than(&self.relay) else { return };
        self.relay = relay;
        self.client.app = self.relay.policy.application(&self.client);
    }

    /// Whether the client's AUTH name is one no longer.
    fn is_unknown_identity(&self) -> bool {
        let identity = self.client.identity.as_ref().filter(|_| self.authenticated);
        let authenticator = self.relay.authenticator.as_ref();
        identity.is_some_and(|identity| !authenticator.is_some_and(|users| users.knows(identity)))
    }

    async fn mail(&mut self, reverse_path: ReversePath, parameters: MailParameters) -> Answer {
        // The session asks only where no transaction is open.
        self.abandon(Abandonment::Reset).await;
        self.take_current_relay();
        if self.is_unknown_identity() {
            let detail = "the user is no longer in the configuration".to_owned();
            return self.refuse("MAIL", Refusal::new(replies::AUTHENTICATION_REQUIRED, detail), reverse_path.mailbox());
        }
        self.transactions += 1;
        let id = self.client.session.transaction(self.transactions);
        let facts = MailFacts {
            client: &self.client,
            auth_could_help: self.auth_offered && !self.authenticated && self.client.identity.is_none(),
            reverse_path: &reverse_path,
            parameters: &parameters,
        };
        let judged = match self.relay.decide_reverse_path(&facts).await {
            Ok(granted) => {
                // Policy permits the client, even if a limit defers it.
                self.recognised = true;
                self.relay.limit_reverse_path(&facts, granted).await
            }
            Err(refusal) => Err(refusal),
        };
        let mut transaction = Box::new(Transaction {
            id,
            app: None,
            delivery: Delivery::HandOff,
            reverse_path,
            accepted: 0,
            prefetched: Vec::new(),
            reservations: Vec::new(),
            reception: None,
        });
        match judged {
            Ok(Admitted { granted, reservation }) => {
                transaction.reservations.push(reservation);
                transaction.app.clone_from(&granted.app);
                transaction.delivery = self.relay.delivery(granted.delivery);
                if granted.app.is_some() {
                    self.client.app.clone_from(&granted.app);
                }
                self.transaction = Some(transaction);
                if let Err(refusal) = self.claim_app_connection(granted.app.as_ref()) {
                    let answer = self.refuse("MAIL", refusal, None);
                    self.abandon(Abandonment::Reset).await;
                    return answer;
                }
                self.open_transaction(granted.app.clone());
                self.would_refuse(id, "MAIL", &granted);
                Answer::Proceed
            }
            Err(refusal) => {
                self.transaction = Some(transaction);
                let answer = self.refuse("MAIL", refusal, None);
                self.transaction = None;
                answer
            }
        }
    }

    /// Begins a transaction whose end must be reported.
    fn open_transaction(&mut self, app: Option<AppName>) {
        let Some(transaction) = &self.transaction else { return };
        self.open = Some(OpenTransaction {
            id: transaction.id,
            app,
            reverse_path: transaction.reverse_path.clone(),
            recipients: 0,
            octets: 0,
            after: "MAIL",
        });
    }

    /// Counts the connection for this application from now on. Refused if the application has its maximum.
    fn claim_app_connection(&mut self, app: Option<&AppName>) -> Result<(), Refusal> {
        let Some(app) =
            app.filter(|app| self.app_connection.as_ref().is_none_or(|app_connection| app_connection.key != **app))
        else {
            return Ok(());
        };
        self.app_connection = None;
        let max = self.relay.settings.app_connections.max_of(app);
        self.app_connection = self.relay.app_connections.take(app.clone(), max);
        if self.app_connection.is_some() {
            return Ok(());
        }
        self.relay.limit_hit("connections", Some(app));
        Err(Refusal {
            reply: replies::TOO_MANY_CONNECTIONS_FROM_APP,
            rule: Some(RuleName::CONNECTIONS),
            detail: format!("{app} has {max} connections already"),
        })
    }

    async fn rcpt(&mut self, forward_path: &ForwardPath) -> Answer {
        let fetched = self.fetched(forward_path);
        let Some(transaction) = &mut self.transaction else { return Answer::Refuse(replies::BAD_SEQUENCE) };
        let most = if transaction.delivery == Delivery::HandOff { RECIPIENTS_PER_PART } else { RECIPIENTS_MAX };
        if transaction.accepted >= most {
            let detail = format!("a message of this application has at most {most} recipients");
            let refusal = Refusal::new(replies::TOO_MANY_RECIPIENTS, detail);
            return self.refuse("RCPT", refusal, Some(forward_path.mailbox()));
        }
        let facts = RcptFacts {
            client: &self.client,
            reverse_path: &transaction.reverse_path,
            forward_path,
            accepted_before: transaction.accepted,
        };
        let judged = match fetched {
            Some(judged) => judged,
            None => self.relay.judge_forward_path(&facts).await,
        };
        match judged {
            Ok(Admitted { granted, reservation }) => {
                transaction.accepted += 1;
                if let Some(open) = &mut self.open {
                    open.recipients = transaction.accepted;
                }
                transaction.reservations.push(reservation);
                let id = transaction.id;
                self.would_refuse(id, "RCPT", &granted);
                Answer::Proceed
            }
            Err(refusal) => self.refuse("RCPT", refusal, Some(forward_path.mailbox())),
        }
    }

    /// DATA, before 354: is there memory or disk for content?
    async fn data(&mut self, envelope: Envelope, mbox_line: MboxLine) -> Answer {
        self.forget_prefetched().await;
        let Some(transaction) = &mut self.transaction else { return Answer::Refuse(replies::BAD_SEQUENCE) };
        if let Err(refusal) = self.relay.has_space(transaction, &envelope) {
            let reply = refusal.reply.clone();
            let answer = self.refuse("DATA", refusal, None);
            self.abandon(Abandonment::Refused(reply)).await;
            return answer;
        }
        let Some(transaction) = &mut self.transaction else { return Answer::Refuse(replies::BAD_SEQUENCE) };
        let (settings, wall) = (&self.relay.settings, self.relay.clock.wall());
        let trace = received(&settings.hostname, settings.trace, &self.client, self.esmtp, transaction.id, wall);
        transaction.reception = Reception::begin(&self.relay, envelope, trace, mbox_line).await;
        if transaction.reception.is_some() {
            return Answer::Proceed;
        }
        let detail = "memory budget and disk allowance are used up".to_owned();
        let answer = self.refuse("DATA", Refusal::new(replies::INSUFFICIENT_STORAGE, detail), None);
        self.abandon(Abandonment::Refused(replies::INSUFFICIENT_STORAGE)).await;
        answer
    }

    /// Refuses a command, with the transaction id in the reply.
    fn refuse(&self, verb: &str, refusal: Refusal, address: Option<&Mailbox>) -> Answer {
        let transaction = self.transaction.as_ref();
        let reply = match transaction {
            Some(transaction) => refusal.reply.with_reference(&transaction.id),
            None => refusal.reply,
        };
        let address = address.or_else(|| transaction.and_then(|transaction| transaction.reverse_path.mailbox()));
        self.refused(verb, &reply, refusal.rule.as_ref(), address, &refusal.detail);
        Answer::Refuse(reply)
    }

    fn refused(&self, verb: &str, reply: &Reply, rule: Option<&RuleName>, address: Option<&Mailbox>, detail: &str) {
        self.relay.observer.observe(&Event::CommandRefused {
            client: &self.client,
            transaction: self.transaction.as_ref().map(|transaction| transaction.id),
            verb,
            reply,
            rule: rule.map(RuleName::as_str),
            address,
            detail,
        });
    }

    pub(super) fn would_refuse(&self, transaction: TransactionId, verb: &str, granted: &Granted) {
        if let Some(detail) = &granted.reported {
            let app = granted.app.as_ref().map(|app| app.as_str());
            self.relay.observer.observe(&Event::WouldRefuse { client: &self.client, transaction, verb, app, detail });
        }
    }

    pub(super) async fn give_back(&self, reservations: Vec<Reservation>) {
        for reservation in reservations {
            self.relay.limiter.give_back(reservation).await;
        }
    }
}

/// A connection that is cut ends here, without [`SessionHandler::end`].
impl Drop for SessionHandler {
    fn drop(&mut self) {
        self.not_sent(Abandonment::Cut);
        let duration = self.relay.clock.now().saturating_duration_since(self.started);
        let event = Event::Disconnected { client: &self.client, messages: self.messages, duration };
        self.relay.observer.observe(&event);
    }
}

#[cfg(test)]
#[path = "session_handler_tests.rs"]
mod tests;
