//! One structured line per message outcome, per refused command and per refused connection.
//!
//! Written through `tracing` under the target `gatepost`; the embedding program chooses the format. Control characters
//! in text from clients and the provider are replaced by characters that show them (LF by U+240A `␊`) before the text is
//! written, so that no client can forge a line, whatever the format escapes.
//! Addresses, AUTH names and Message-IDs are written as they are, as a keyed hash, or not at all. Refusals that one client
//! causes again and again are written a few times, and then counted in one line; at level debug all are written.
//! Every line about a client whose application is known has its name in `app`.

use super::address_form::AddressForm;
use super::printable::{printable, printable_text};
use super::repeats::{Kind as LineKind, Repeats};
use super::{AttemptRecord, Event, MessageRecord, Observer, QueueEndRecord, TransactionRecord};
use crate::mail::abandonment::closing_word;
use crate::mail::parameters::AppName;
use crate::mail::{Certainty, Client, ClientAddress, Clock, OutcomeKind, ReversePath, SystemClock};
use std::borrow::Cow;
use tracing::{debug, error, info, warn};

/// Writes log lines.
#[derive(Debug, Default)]
pub struct LogObserver {
    form: AddressForm,
    repeats: Repeats,
}

impl LogObserver {
    /// A log observer that writes addresses in this form.
    pub fn new(form: AddressForm) -> Self {
        Self { form, repeats: Repeats::default() }
    }

    fn identity<'a>(&self, client: &'a Client) -> Cow<'a, str> {
        client.identity.as_ref().map(|identity| self.form.name(identity.name())).unwrap_or_default()
    }

    fn who(&self, client: &Client) -> SessionFields {
        SessionFields {
            session: client.session.to_string(),
            client: client.address.to_string(),
            listener: client.listener.to_string(),
            identity: self.identity(client).into_owned(),
            tls: tls(client).to_owned(),
            app: client.app_name().unwrap_or_default().to_owned(),
        }
    }

    /// Whether a line is written at its level (`true`) or at debug (`false`); `None`: not at all.
    fn repeated(&self, kind: LineKind, address: ClientAddress) -> Option<bool> {
        let admitted = self.repeats.admit(kind, address, SystemClock.now());
        (admitted || tracing::enabled!(target: "gatepost", tracing::Level::DEBUG)).then_some(admitted)
    }

    fn write_summaries(&self, all: bool) {
        for summary in self.repeats.summaries(SystemClock.now(), all) {
            let super::repeats::Summary { kind, client, lines, seconds } = summary;
            warn!(target: "gatepost", client, lines, seconds, "more lines like: {kind}");
        }
    }

    fn reverse_path(&self, path: &ReversePath) -> String {
        path.mailbox().map_or_else(|| "<>".to_owned(), |mailbox| self.form.mailbox(mailbox))
    }

    fn message(&self, record: &MessageRecord<'_>) {
        let ambiguous = record.outcome.is_some_and(|outcome| outcome.certainty == Certainty::Ambiguous);
        // A line below the level must cost nothing.
        macro_rules! line {
            ($level:ident, $LEVEL:ident, $text:literal) => {
                if tracing::enabled!(target: "gatepost", tracing::Level::$LEVEL) {
                    let client = record.client;
                    let refused = match record.reply {
                        reply if reply.is_positive() => "queued",
                        reply if reply.is_temporary() => "deferred",
                        _ => "rejected",
                    };
                    let outcome = record.outcome.map_or(refused, |outcome| outcome.kind.label());
                    let ses_message_id = match record.outcome.map(|outcome| &outcome.certainty) {
                        Some(Certainty::Sent(id)) => id.as_str(),
                        _ => "",
                    };
                    $level!(
                        target: "gatepost", transaction = %record.transaction, session = %client.session,
                        client = %client.address, listener = &*client.listener, identity = %self.identity(client),
                        tls = tls(client), mail_from = %self.reverse_path(record.reverse_path),
                        from = %self.authors(record), to = %self.recipients(record),
                        recipients = record.forward_paths.len(), octets = record.octets,
                        message_id = &*record.message_id.map(|id| self.form.name(id)).unwrap_or_default(),
                        rule = self.rule(record), app = record.app.unwrap_or(""),
                        configuration_set = record.configuration_set.unwrap_or(""), outcome, ambiguous,
                        ses_message_id, detail = %self.message_detail(record), reply = %record.reply,
                        latency_ms = u64::try_from(record.latency.as_millis()).unwrap_or(u64::MAX), $text
                    )
                }
            };
        }
        match record.outcome {
            // Kept after the attempt failed, or without one.
            outcome if record.reply.is_positive() && outcome.is_none_or(|it| it.kind != OutcomeKind::Accepted) => {
                line!(info, INFO, "message queued");
            }
            Some(outcome) if outcome.kind == OutcomeKind::OperatorError => {
                line!(
                    error,
                    ERROR,
                    "message deferred: sending is not possible until credentials, permissions or SES settings are corrected"
                );
            }
            Some(_) if ambiguous => line!(warn, WARN, "message deferred: it may have been sent"),
            _ if record.reply.is_positive() => line!(info, INFO, "message accepted"),
            _ if record.reply.is_temporary() => line!(warn, WARN, "message deferred"),
            _ => line!(warn, WARN, "message rejected"),
        }
    }

    /// A warning where content was under way or the relay ended it; a client that only connects and leaves is not a fault.
    fn transaction(&self, record: &TransactionRecord<'_>) {
        let SessionFields { session, client, listener, identity, tls, .. } = self.who(record.client);
        let (transaction, mail_from) = (record.transaction.to_string(), self.reverse_path(record.reverse_path));
        let (app, reason, outcome) = (record.app.unwrap_or(""), record.why.word(), record.why.outcome());
        let reply = record.why.reply().map(ToString::to_string).unwrap_or_default();
        let TransactionRecord { recipients, octets, after, .. } = record;
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    target: "gatepost", transaction, session, client, listener, identity, tls, mail_from, recipients,
                    octets, app, outcome, after, reason, reply, "message {outcome}"
                )
            };
        }
        match matches!(record.after, "DATA" | "BDAT") || !reply.is_empty() {
            true => line!(warn),
            false => line!(info),
        }
    }

    /// One attempt to send a message of the spool.
    fn attempt(&self, record: &AttemptRecord<'_>) {
        let (app, reverse_path) = (record.app.map_or("", |app| app.as_str()), self.reverse_path(record.reverse_path));
        let (outcome, code) = (record.outcome.kind.label(), record.outcome.code);
        let ses_message_id = match &record.outcome.certainty {
            Certainty::Sent(id) => id.as_str(),
            _ => "",
        };
        let ambiguous = record.outcome.certainty == Certainty::Ambiguous;
        let detail = self.form.provider_detail(&record.outcome.detail);
        let recipients = record.forward_paths.len();
        let AttemptRecord { id, attempt, octets, next, .. } = record;
        let (age_seconds, retry_seconds) = (record.age.as_secs_f64(), record.wait.map(|wait| wait.as_secs_f64()));
        let duration_ms = u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($level:ident, $text:literal) => {
                $level!(
                    target: "gatepost", queue_id = %id, app, mail_from = reverse_path, recipients, octets, attempt, outcome,
                    code, ambiguous, ses_message_id, next, retry_seconds, age_seconds, duration_ms, detail = &*detail, $text
                )
            };
        }
        match *next {
            "sent" => line!(info, "attempt: sent"),
            _ => line!(warn, "attempt: not sent"),
        }
    }

    fn authors(&self, record: &MessageRecord<'_>) -> String {
        match record.authors {
            [author] => self.form.mailbox(&author.mailbox),
            authors => authors.iter().map(|author| self.form.mailbox(&author.mailbox)).collect::<Vec<_>>().join(","),
        }
    }

    /// Of an accepted message, the first recipients.
    fn recipients(&self, record: &MessageRecord<'_>) -> String {
        match record.forward_paths {
            _ if !record.reply.is_positive() => String::new(),
            // Their number is in another field.
            _ if self.form == AddressForm::Omitted => "-".to_owned(),
            [path] => self.form.mailbox(path.mailbox()),
            paths => {
                let paths = paths.iter().take(RECIPIENTS_MAX);
                paths.map(|path| self.form.mailbox(path.mailbox())).collect::<Vec<_>>().join(",")
            }
        }
    }

    /// What permitted or refused a message.
    fn rule<'a>(&self, record: &MessageRecord<'a>) -> &'a str {
        let named = record.permitted_by.and_then(|permitted_by| self.form.permitted_by(permitted_by));
        named.or(record.rule).unwrap_or("")
    }

    /// The detail of a message.
    fn message_detail<'a>(&self, record: &MessageRecord<'a>) -> Cow<'a, str> {
        match record.outcome {
            Some(outcome) => self.form.provider_detail(&outcome.detail),
            None => self.form.detail(record.detail),
        }
    }
}

/// Recipients that a line names.
const RECIPIENTS_MAX: usize = 10;

fn tls(client: &Client) -> &str {
    client.tls.as_ref().map_or("", |tls| &tls.version)
}

/// A line about a client: the fields that all of these have, then those of the event.
macro_rules! of_client {
    ($level:ident, $who:expr, $($line:tt)+) => {{
        let SessionFields { session, client, listener, identity, tls, app } = $who;
        $level!(target: "gatepost", session, client, listener, identity, tls, app, $($line)+)
    }};
}

/// The same, at level debug if the line is only counted.
macro_rules! repeated {
    ($level:ident, $written:expr, $who:expr, $($line:tt)+) => {
        match $written {
            true => of_client!($level, $who, $($line)+),
            false => of_client!(debug, $who, $($line)+),
        }
    };
}

impl Drop for LogObserver {
    fn drop(&mut self) {
        self.write_summaries(true);
    }
}

fn names(apps: &[AppName]) -> String {
    apps.iter().map(AppName::as_str).collect::<Vec<_>>().join(",")
}

impl Observer for LogObserver {
    fn summarise(&self) {
        self.write_summaries(false);
    }

    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::ConnectionRefused { address, listener, reply, reason } => {
                let Some(written) = self.repeated("connection refused", *address) else { return };
                let reply = reply.map(ToString::to_string).unwrap_or_default();
                let reason = &*printable(reason);
                match written {
                    true => warn!(target: "gatepost", client = %address, listener, reply, reason, "connection refused"),
                    false => {
                        debug!(target: "gatepost", client = %address, listener, reply, reason, "connection refused");
                    }
                }
            }
            Event::Silent { address, listener } => {
                debug!(target: "gatepost", client = %address, listener, "closed before the client sent anything");
            }
            Event::Connected(_) | Event::Disconnected { .. } | Event::Encrypted(_) if !tracing::enabled!(target: "gatepost", tracing::Level::DEBUG) =>
                {}
            Event::Connected(client) => of_client!(debug, self.who(client), "connected"),
            Event::Disconnected { client, messages, duration } => {
                let seconds = duration.as_secs_f64();
                of_client!(debug, self.who(client), messages, seconds, "disconnected");
            }
            Event::Encrypted(client) => of_client!(debug, self.who(client), "encrypted"),
            Event::Authenticated { client, identity } => {
                let identity = self.form.name(identity.name()).into_owned();
                of_client!(info, SessionFields { identity, ..self.who(client) }, "authenticated");
            }
            Event::AuthenticationFailed { client, name, reply, detail } => {
                let Some(written) = self.repeated("authentication failed", client.address) else { return };
                let (reply, name, detail) = (reply.to_string(), &*self.form.name(name), &*printable(detail));
                repeated!(warn, written, self.who(client), name, reply, detail, "authentication failed");
            }
            Event::CommandRefused { client, transaction, verb, reply, rule, address, detail } => {
                let Some(written) = self.repeated("command refused", client.address) else { return };
                let transaction = transaction.map(|id| id.to_string()).unwrap_or_default();
                let (reply, detail) = (reply.to_string(), &*self.form.detail(detail));
                let address = address.map(|mailbox| self.form.mailbox(mailbox)).unwrap_or_default();
                let rule = rule.unwrap_or("");
                repeated!(
                    warn,
                    written,
                    self.who(client),
                    transaction,
                    verb,
                    address,
                    rule,
                    detail,
                    reply,
                    "command refused"
                );
            }
            Event::WouldRefuse { client, transaction, verb, app: of_grant, detail } => {
                let (transaction, detail) = (transaction.to_string(), &*self.form.detail(detail));
                let mut who = self.who(client);
                who.app = of_grant.map(str::to_owned).unwrap_or(who.app);
                of_client!(warn, who, transaction, verb, detail, "would have been refused (enforcement = \"report\")");
            }
            Event::MessageEnded(record) => self.message(record),
            Event::TransactionEnded(record) => self.transaction(record),
            // The line of the transaction has the same reply.
            Event::SessionClosed { transaction: Some(_), .. } => {}
            Event::SessionClosed { client, after, reply, .. } => {
                let Some(written) = self.repeated("session closed", client.address) else { return };
                let (reason, reply) = (closing_word(reply), reply.to_string());
                repeated!(info, written, self.who(client), after, reason, reply, "session closed");
            }
            Event::TriedAgain { code } => {
                debug!(target: "gatepost", code, "SES throttled a call; the message is sent again");
            }
            Event::PaceChanged { change, slower: true } => warn!(target: "gatepost", "sending is slower: {change}"),
            Event::PaceChanged { change, slower: false } => info!(target: "gatepost", "sending: {change}"),
            Event::QuotaRead(quota) => debug!(target: "gatepost", "SES account: {quota}"),
            Event::QuotaUnknown { error, detail } => {
                let error = &*printable_text(error.to_string());
                warn!(target: "gatepost", error, "the SES account's quota is not known: {detail}");
            }
            Event::Degraded { apps, fault } => {
                warn!(target: "gatepost", app = names(apps), fault = &*printable(fault), "sending is degraded");
            }
            Event::Recovered { apps, fault, expired: false } => {
                info!(target: "gatepost", app = names(apps), fault = &*printable(fault), "sending works again");
            }
            Event::Recovered { apps, fault, expired: true } => {
                let (app, fault) = (names(apps), &*printable(fault));
                info!(target: "gatepost", app, fault, "sending is no longer degraded: nothing was sent since");
            }
            // The line of the refusal names it.
            Event::LimitHit { .. } => {}
            Event::Operated { operator, action, status } => {
                info!(target: "gatepost", operator, action = &*printable(action), status, "operator action");
            }
            Event::AttemptEnded(record) => self.attempt(record),
            Event::AttemptInterrupted { id, app } => {
                let app = app.map_or("", |app| app.as_str());
                warn!(target: "gatepost", queue_id = %id, app, "an attempt was interrupted: the message may have been sent");
            }
            Event::QueueLeft(record) => {
                let QueueEndRecord { id, app, octets, status, attempts, age } = record;
                let (app, age_seconds) = (app.map_or("", |app| app.as_str()), age.as_secs_f64());
                match *status {
                    "sent" | "removed" => {
                        info!(target: "gatepost", queue_id = %id, app, octets, status, attempts, age_seconds, "message left the queue");
                    }
                    _ => {
                        error!(target: "gatepost", queue_id = %id, app, octets, status, attempts, age_seconds, "message failed");
                    }
                }
            }
            Event::DecisionFailed { client, detail } => {
                let detail = &*printable(detail);
                of_client!(error, self.who(client), detail, "policy or limiter could not decide, deferred");
            }
        }
    }
}

/// The fields that every line about a session has.
struct SessionFields {
    session: String,
    client: String,
    listener: String,
    identity: String,
    tls: String,
    app: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Mailbox;

    #[test]
    fn the_line_of_a_message_names_ten_recipients_and_its_pattern_in_the_form_of_addresses() {
        use crate::mail::{ForwardPath, SessionId, replies};
        let client = Client::new(SessionId::fresh(), ClientAddress::Unix, "main".into());
        let path = |number: usize| ForwardPath::new(Mailbox::parse(&format!("to{number}@b.example")).unwrap()).unwrap();
        let paths: Vec<ForwardPath> = (0..12).map(path).collect();
        let record = |reply, permitted_by| MessageRecord {
            transaction: client.session.transaction(1),
            client: &client,
            reverse_path: &ReversePath::Null,
            authors: &[],
            forward_paths: &paths,
            message_id: None,
            octets: 0,
            rule: Some("message"),
            permitted_by,
            app: None,
            configuration_set: None,
            outcome: None,
            reply,
            detail: "",
            latency: std::time::Duration::ZERO,
            attempt: None,
        };
        let [plain, hashed, omitted] =
            [AddressForm::Plain, AddressForm::Hashed, AddressForm::Omitted].map(LogObserver::new);
        let (accepted, refused) = (replies::ACCEPTED, replies::LOCAL_ERROR);
        let text = plain.recipients(&record(&accepted, None));
        assert!(text.starts_with("to0@b.example,to1@") && text.ends_with(",to9@b.example"), "{text}");
        assert_eq!(plain.recipients(&record(&refused, None)), "");
        let text = hashed.recipients(&record(&accepted, None));
        assert!(text.split(',').count() == 10 && text.contains("@b.example") && !text.contains("to0"), "{text}");
        assert_eq!(omitted.recipients(&record(&accepted, None)), "-");
        for (permitted_by, in_plain, hidden) in [
            (None, "message", "message"),
            (Some("*@a.example"), "*@a.example", "*@a.example"),
            (Some("ann@a.example"), "ann@a.example", "message"),
            (Some("ann@a.example; p.json, statement 1"), "ann@a.example; p.json, statement 1", "message"),
            (Some("p.json, statement 1"), "p.json, statement 1", "p.json, statement 1"),
        ] {
            assert_eq!(plain.rule(&record(&accepted, permitted_by)), in_plain);
            assert_eq!(hashed.rule(&record(&accepted, permitted_by)), hidden);
            assert_eq!(omitted.rule(&record(&accepted, permitted_by)), hidden);
        }
    }
}
