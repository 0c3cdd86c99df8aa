//! One structured line per message outcome, per refused command and per refused connection.
//!
//! Written through `tracing` under the target `gatepost`; the program that embeds us chooses the format. Text from peers
//! is escaped before it is written, so no subscriber can be made to print a line of the peer's choosing. Addresses and AUTH
//! names are written as they are, as a keyed hash, or not at all. Refusals that one client causes again and again are
//! written a few times, and then counted in one line; at level debug all are written.

use super::repeats::{Kind as LineKind, Repeats};
use super::{Event, MessageRecord, Observer, TransactionRecord};
use crate::mail::abandonment::closing_word;
use crate::mail::{Certainty, Client, ClientAddress, Clock, Kind, Mailbox, ReversePath, SystemClock};
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use tracing::{debug, error, info, warn};

/// How addresses of people, and the names that they authenticate with, are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressForm {
    /// As they are.
    #[default]
    Plain,
    /// A hash of the local part under a key of this process, and the domain: `~1f0c…@a.example`. The same address gives
    /// the same hash until the process ends.
    Hashed,
    /// Left out.
    Omitted,
}

/// Writes log lines.
#[derive(Debug, Default)]
pub struct LogObserver {
    form: AddressForm,
    key: RandomState,
    repeats: Repeats,
}

impl LogObserver {
    /// With addresses in that form.
    pub fn new(form: AddressForm) -> Self {
        Self { form, key: RandomState::new(), repeats: Repeats::default() }
    }

    fn mailbox(&self, mailbox: &Mailbox) -> String {
        match self.form {
            AddressForm::Plain => escaped(mailbox.to_string()),
            AddressForm::Hashed => format!("~{:016x}@{}", self.key.hash_one(mailbox), mailbox.domain()),
            AddressForm::Omitted => "-".to_owned(),
        }
    }

    /// An AUTH name. People type passwords there.
    fn name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match self.form {
            AddressForm::Plain => escape(name),
            AddressForm::Hashed => Cow::Owned(format!("~{:016x}", self.key.hash_one(name))),
            AddressForm::Omitted => Cow::Borrowed("-"),
        }
    }

    fn identity<'a>(&self, client: &'a Client) -> Cow<'a, str> {
        client.identity.as_ref().map(|identity| self.name(identity.name())).unwrap_or_default()
    }

    fn who(&self, client: &Client) -> Who {
        Who {
            session: client.session.to_string(),
            client: client.address.to_string(),
            listener: client.listener.to_string(),
            identity: self.identity(client).into_owned(),
            tls: tls(client).to_owned(),
        }
    }

    /// Whether a line is written as such; `None`: not at all.
    fn repeated(&self, kind: LineKind, address: ClientAddress) -> Option<bool> {
        let admitted = self.repeats.admit(kind, address, SystemClock.now());
        (admitted || tracing::enabled!(target: "gatepost", tracing::Level::DEBUG)).then_some(admitted)
    }

    fn tell_repeats(&self, all: bool) {
        for summary in self.repeats.summaries(SystemClock.now(), all) {
            let super::repeats::Summary { kind, client, lines, seconds } = summary;
            warn!(target: "gatepost", client, lines, seconds, "more lines like: {kind}");
        }
    }

    fn reverse_path(&self, path: &ReversePath) -> String {
        path.mailbox().map_or_else(|| "<>".to_owned(), |mailbox| self.mailbox(mailbox))
    }

    /// Details name addresses too, so they are written only where addresses are.
    fn detail<'a>(&self, detail: &'a str) -> Cow<'a, str> {
        if self.form == AddressForm::Plain { escape(detail) } else { Cow::Borrowed("") }
    }

    fn message(&self, record: &MessageRecord<'_>) {
        let ambiguous = record.outcome.is_some_and(|outcome| outcome.certainty == Certainty::Ambiguous);
        // What nobody reads is not written.
        macro_rules! line {
            ($level:ident, $LEVEL:ident, $text:literal) => {
                if tracing::enabled!(target: "gatepost", tracing::Level::$LEVEL) {
                    let client = record.client;
                    let outcome = record.outcome.map_or("refused", |outcome| outcome.kind.label());
                    let message_id = match record.outcome.map(|outcome| &outcome.certainty) {
                        Some(Certainty::Sent(id)) => id.as_str(),
                        _ => "",
                    };
                    $level!(
                        target: "gatepost", transaction = %record.transaction, session = %client.session,
                        client = %client.address, listener = &*client.listener, identity = %self.identity(client),
                        tls = tls(client), mail_from = %self.reverse_path(record.reverse_path),
                        from = %self.authors(record), recipients = record.recipients, octets = record.octets,
                        rule = record.rule.unwrap_or(""), app = record.app.unwrap_or(""),
                        configuration_set = record.configuration_set.unwrap_or(""), outcome, ambiguous,
                        ses_message_id = message_id, detail = %self.message_detail(record), reply = %record.reply,
                        latency_ms = u64::try_from(record.latency.as_millis()).unwrap_or(u64::MAX), $text
                    )
                }
            };
        }
        match record.outcome {
            Some(outcome) if outcome.kind == Kind::OurConfiguration => {
                line!(error, ERROR, "message deferred: sending is not possible until the operator mends this");
            }
            Some(_) if ambiguous => line!(warn, WARN, "message deferred: it may have been sent"),
            _ if record.reply.is_positive() => line!(info, INFO, "message accepted"),
            _ if record.reply.is_temporary() => line!(warn, WARN, "message deferred"),
            _ => line!(warn, WARN, "message rejected"),
        }
    }

    /// A warning where content was under way or the relay ended it; a client that only asks and leaves is no trouble.
    fn transaction(&self, record: &TransactionRecord<'_>) {
        let Who { session, client, listener, identity, tls } = self.who(record.client);
        let (transaction, mail_from) = (record.transaction.to_string(), self.reverse_path(record.reverse_path));
        let (app, reason, outcome) = (record.app.unwrap_or(""), record.why.word(), logged(record.why.outcome()));
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

    fn authors(&self, record: &MessageRecord<'_>) -> String {
        match record.authors {
            [author] => self.mailbox(&author.mailbox),
            authors => authors.iter().map(|author| self.mailbox(&author.mailbox)).collect::<Vec<_>>().join(","),
        }
    }

    /// What a provider says names addresses and ARNs; it stands beside what we say.
    fn message_detail<'a>(&self, record: &MessageRecord<'a>) -> Cow<'a, str> {
        match record.outcome {
            // Status and code of a provider's answer name nobody; what follows may.
            Some(outcome) if self.form != AddressForm::Plain => {
                escape(outcome.detail.split(": ").next().unwrap_or_default())
            }
            Some(outcome) => escape(&outcome.detail),
            None => self.detail(record.detail),
        }
    }
}

fn tls(client: &Client) -> &str {
    client.tls.as_ref().map_or("", |tls| &tls.version)
}

/// A line that is written, or one that is only counted: then it is for level debug.
macro_rules! repeated {
    ($level:ident, $written:expr, $($line:tt)+) => {
        match $written {
            true => $level!(target: "gatepost", $($line)+),
            false => debug!(target: "gatepost", $($line)+),
        }
    };
}

impl Drop for LogObserver {
    fn drop(&mut self) {
        self.tell_repeats(true);
    }
}

/// The log says of a message that it is refused where the metric `outcome` says rejected.
fn logged(outcome: &'static str) -> &'static str {
    if outcome == "rejected" { "refused" } else { outcome }
}

impl Observer for LogObserver {
    fn summarise(&self) {
        self.tell_repeats(false);
    }

    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::ConnectionRefused { address, listener, reply, reason } => {
                let Some(written) = self.repeated("connection refused", *address) else { return };
                let reply = reply.map(ToString::to_string).unwrap_or_default();
                let reason = &*escape(reason);
                repeated!(warn, written, client = %address, listener, reply, reason, "connection refused");
            }
            Event::Silent { address, listener } => {
                debug!(target: "gatepost", client = %address, listener, "closed before it said anything");
            }
            Event::Connected(_) | Event::Disconnected { .. } | Event::Encrypted(_) if !tracing::enabled!(target: "gatepost", tracing::Level::DEBUG) =>
                {}
            Event::Connected(who) => {
                let Who { session, client, listener, .. } = self.who(who);
                debug!(target: "gatepost", session, client, listener, "connected");
            }
            Event::Disconnected { client: who, messages, duration } => {
                let Who { session, client, listener, identity, tls } = self.who(who);
                let seconds = duration.as_secs_f64();
                debug!(target: "gatepost", session, client, listener, identity, tls, messages, seconds, "disconnected");
            }
            Event::Encrypted(who) => {
                let Who { session, client, listener, tls, .. } = self.who(who);
                debug!(target: "gatepost", session, client, listener, tls, "encrypted");
            }
            Event::Authenticated { client: who, identity } => {
                let Who { session, client, listener, tls, .. } = self.who(who);
                info!(target: "gatepost", session, client, listener, tls, identity = &*self.name(identity.name()), "authenticated");
            }
            Event::AuthenticationFailed { client: who, name, reply, detail } => {
                let Some(written) = self.repeated("authentication failed", who.address) else { return };
                let Who { session, client, listener, tls, .. } = self.who(who);
                let (reply, name, detail) = (reply.to_string(), &*self.name(name), &*escape(detail));
                repeated!(warn, written, session, client, listener, tls, name, reply, detail, "authentication failed");
            }
            Event::CommandRefused { client: who, transaction, verb, reply, rule, address, detail } => {
                let Some(written) = self.repeated("command refused", who.address) else { return };
                let Who { session, client, listener, identity, tls } = self.who(who);
                let transaction = transaction.map(|id| id.to_string()).unwrap_or_default();
                let (reply, detail) = (reply.to_string(), &*self.detail(detail));
                let address = address.map(|mailbox| self.mailbox(mailbox)).unwrap_or_default();
                let rule = rule.unwrap_or("");
                repeated!(
                    warn,
                    written,
                    transaction,
                    session,
                    client,
                    listener,
                    identity,
                    tls,
                    verb,
                    address,
                    rule,
                    detail,
                    reply,
                    "command refused"
                );
            }
            Event::WouldRefuse { client: who, transaction, verb, app, detail } => {
                let Who { session, client, listener, identity, tls } = self.who(who);
                let (transaction, detail) = (transaction.to_string(), &*self.detail(detail));
                let app = app.unwrap_or("");
                warn!(
                    target: "gatepost", transaction, session, client, listener, identity, tls, verb, app, detail,
                    "would have been refused (enforcement = \"report\")"
                );
            }
            Event::MessageEnded(record) => self.message(record),
            Event::TransactionEnded(record) => self.transaction(record),
            // The line of the transaction says it.
            Event::SessionClosed { transaction: Some(_), .. } => {}
            Event::SessionClosed { client: who, after, reply, .. } => {
                let Some(written) = self.repeated("session closed", who.address) else { return };
                let Who { session, client, listener, identity, tls } = self.who(who);
                let (reason, reply) = (closing_word(reply), reply.to_string());
                repeated!(
                    info,
                    written,
                    session,
                    client,
                    listener,
                    identity,
                    tls,
                    after,
                    reason,
                    reply,
                    "session closed"
                );
            }
            Event::TriedAgain { code } => {
                debug!(target: "gatepost", code, "SES throttled an attempt; it is made again")
            }
            Event::PaceChanged { change, slower: true } => warn!(target: "gatepost", "sending is slower: {change}"),
            Event::PaceChanged { change, slower: false } => info!(target: "gatepost", "sending: {change}"),
            Event::QuotaRead(quota) => {
                if !quota.sending_enabled {
                    error!(target: "gatepost", "the SES account may not send now: sending is disabled");
                }
                debug!(target: "gatepost", "SES account: {quota}");
            }
            Event::QuotaUnknown { error, detail } => {
                warn!(target: "gatepost", error = escaped(error.to_string()), "the SES account's quota is not known: {detail}");
            }
            // The line of the refusal names it.
            Event::LimitHit { .. } => {}
            Event::JudgeFailed { client: who, detail } => {
                let Who { session, client, listener, .. } = self.who(who);
                error!(target: "gatepost", session, client, listener, detail = &*escape(detail), "could not judge, deferred");
            }
        }
    }
}

/// The fields that every line about a session has.
struct Who {
    session: String,
    client: String,
    listener: String,
    identity: String,
    tls: String,
}

fn escaped(text: String) -> String {
    match escape(&text) {
        Cow::Owned(escaped) => escaped,
        Cow::Borrowed(_) => text,
    }
}

/// Control characters (a line end above all) and what a terminal would act on, as `\u{…}`. At most 500 characters.
fn escape(text: &str) -> Cow<'_, str> {
    if text.len() <= 500 && text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .take(500)
        .flat_map(|c| {
            if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                c.escape_unicode().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_write_a_line_of_its_own() {
        assert_eq!(escape("a\r\nb\u{1b}[2J\u{202e}é"), "a\\u{d}\\u{a}b\\u{1b}[2J\\u{202e}é");
    }

    #[test]
    fn addresses_take_the_form_that_was_chosen() {
        let ann = Mailbox::parse("ann@a.example").unwrap();
        assert_eq!(LogObserver::new(AddressForm::Plain).mailbox(&ann), "ann@a.example");
        let hashed = LogObserver::new(AddressForm::Hashed);
        let text = hashed.mailbox(&ann);
        assert!(text.ends_with("@a.example") && !text.contains("ann"), "{text}");
        assert_eq!(text, hashed.mailbox(&ann));
        assert_eq!(hashed.detail("ann@a.example fits no allowed pattern"), "");
        assert_eq!(LogObserver::new(AddressForm::Omitted).mailbox(&ann), "-");
        // AUTH names stood in plain, also those that failed.
        assert_eq!(LogObserver::new(AddressForm::Plain).name("ann"), "ann");
        let name = hashed.name("correct horse");
        assert!(
            name.starts_with('~') && name == hashed.name("correct horse") && name != hashed.name("other"),
            "{name}"
        );
        assert_eq!(LogObserver::new(AddressForm::Omitted).name("correct horse"), "-");
    }
}
