//! Runs commands, depending on the state of the transaction. RFC 5321 §4.1.1, §4.1.4 (order).

use super::command::Command;
use super::sasl;
use super::session::Session;
use super::state::{PendingQuestion, Progress, State, Transaction};
use super::{Abandon, Action, AuthMode, Question};
use crate::mail::{Credentials, Envelope, ForwardPath, MailParameters, Reply, ReversePath, replies};

/// The cause in the reply to a command that needs an open transaction.
const MAIL_FIRST: &str = "send MAIL first";

impl Session {
    /// Runs a command, or refuses it.
    pub(super) fn run(&mut self, transaction: Transaction, verb: &'static str, command: Command) -> Progress {
        // RFC 3207 §4: where TLS is required, only these commands are allowed before it.
        let before_tls = matches!(command, Command::Ehlo(_) | Command::Noop | Command::StartTls | Command::Quit);
        if self.tls_missing() && !before_tls {
            return match command {
                Command::Bdat { octets, .. } => self.discard_chunk(octets, replies::TLS_REQUIRED),
                _ => self.refuse(transaction, verb, &replies::TLS_REQUIRED),
            };
        }
        match command {
            Command::Ehlo(word) => self.hello(word, true),
            Command::Helo(word) => self.hello(word, false),
            Command::Mail(path, parameters) => self.mail(transaction, path, parameters),
            Command::Rcpt(path) => self.rcpt(transaction, path),
            Command::Data => self.data(transaction),
            Command::Bdat { octets, last } => self.bdat(transaction, octets, last),
            Command::Rset => {
                self.write(&replies::OK);
                Progress::Do(Action::Abandon(Abandon::Reset))
            }
            Command::Quit => {
                self.close_reported(&replies::BYE);
                Progress::Do(Action::Abandon(Abandon::Quit))
            }
            Command::StartTls => self.starttls(transaction),
            Command::Auth { mechanism, initial_response } => {
                self.auth(transaction, &mechanism, initial_response.as_deref())
            }
            Command::Noop => self.answer(transaction, &replies::OK),
            Command::Vrfy => self.answer(transaction, &replies::CANNOT_VERIFY),
            Command::Help => self.answer(transaction, &replies::HELP),
            Command::Expn => self.refuse(transaction, verb, &replies::NOT_IMPLEMENTED),
        }
    }

    fn answer(&mut self, transaction: Transaction, reply: &Reply) -> Progress {
        self.state = State::Command(transaction);
        self.write(reply);
        Progress::Again
    }

    pub(super) fn ask(&mut self, pending: PendingQuestion, question: Question) -> Progress {
        self.state = State::Pending(pending);
        Progress::Do(Action::Ask(question))
    }

    fn ask_data(&mut self, pending: PendingQuestion, envelope: Envelope) -> Progress {
        let mbox_line = self.settings.mbox_line;
        self.ask(pending, Question::Data { envelope, mbox_line })
    }

    fn hello(&mut self, word: String, esmtp: bool) -> Progress {
        self.greeted = true;
        let hostname = self.settings.hostname.clone();
        if esmtp {
            let limits = &self.settings.limits;
            let mut lines = vec![
                hostname,
                "PIPELINING".to_owned(),
                format!("SIZE {}", limits.message_octets_max),
                "8BITMIME".to_owned(),
                "ENHANCEDSTATUSCODES".to_owned(),
                "CHUNKING".to_owned(),
                format!("LIMITS RCPTMAX={} MAILMAX={}", limits.recipients_max, limits.transactions_max),
            ];
            if self.offers_starttls() {
                lines.push("STARTTLS".to_owned());
            }
            if self.offers_auth() {
                let any = self.settings.auth == AuthMode::Any;
                lines.push(if any { "AUTH PLAIN LOGIN CRAM-MD5" } else { "AUTH PLAIN LOGIN" }.to_owned());
            }
            let last = lines.len() - 1;
            for (index, line) in lines.iter().enumerate() {
                self.write_text(&format!("250{}{line}", if index == last { ' ' } else { '-' }));
            }
        } else {
            self.write_text(&format!("250 {hostname}"));
        }
        Progress::Do(Action::Hello { word, esmtp })
    }

    /// Why a command that starts a transaction or exchange is out of order. `None`: it is in order.
    fn not_idle(&self, transaction: &Transaction) -> Option<&'static str> {
        match transaction {
            _ if !self.greeted => Some("send EHLO or HELO first"),
            Transaction::None => None,
            _ => Some("a transaction is open; RSET ends it"),
        }
    }

    fn mail(&mut self, transaction: Transaction, path: ReversePath, parameters: MailParameters) -> Progress {
        let refusal = if let Some(cause) = self.not_idle(&transaction) {
            Some(replies::BAD_SEQUENCE.with_cause(cause))
        } else if self.settings.auth == AuthMode::Required && !self.authenticated {
            Some(replies::AUTHENTICATION_REQUIRED)
        } else if parameters.declared_octets.is_some_and(|size| size > self.settings.limits.message_octets_max) {
            Some(replies::MESSAGE_TOO_LARGE)
        } else {
            None
        };
        if let Some(reply) = refusal {
            return self.refuse(transaction, "MAIL", &reply);
        }
        self.transactions += 1;
        if self.transactions > self.settings.limits.transactions_max {
            self.close_reported(&replies::TOO_MANY_TRANSACTIONS);
            return Progress::Do(Action::report("MAIL", replies::TOO_MANY_TRANSACTIONS));
        }
        self.ask(
            PendingQuestion::ReversePath(path.clone(), parameters.clone()),
            Question::ReversePath(path, parameters),
        )
    }

    fn rcpt(&mut self, transaction: Transaction, path: ForwardPath) -> Progress {
        match &transaction {
            Transaction::None => self.refuse(transaction, "RCPT", &replies::BAD_SEQUENCE.with_cause(MAIL_FIRST)),
            Transaction::Chunks(_) => {
                self.refuse(transaction, "RCPT", &replies::BAD_SEQUENCE.with_cause("content has begun with BDAT"))
            }
            Transaction::Rcpt(envelope) if envelope.contains(&path) => {
                self.answer(transaction, &replies::FORWARD_PATH_OK)
            }
            Transaction::Rcpt(envelope) if envelope.forward_paths().len() >= self.settings.limits.recipients_max => {
                // Not counted as a client error: RFC 5321 §4.5.3.1.10 lets the client send the remaining recipients in
                // another transaction.
                self.state = State::Command(transaction);
                self.write(&replies::TOO_MANY_RECIPIENTS);
                Progress::Do(Action::report("RCPT", replies::TOO_MANY_RECIPIENTS))
            }
            Transaction::Mail(..) | Transaction::Rcpt(_) => {
                self.ask(PendingQuestion::ForwardPath(transaction, path.clone()), Question::ForwardPath(path))
            }
        }
    }

    fn data(&mut self, transaction: Transaction) -> Progress {
        let reply = match transaction {
            Transaction::Rcpt(envelope) => return self.ask_data(PendingQuestion::Data, envelope),
            Transaction::None => replies::BAD_SEQUENCE.with_cause(MAIL_FIRST),
            Transaction::Mail(..) => replies::NO_VALID_RECIPIENTS,
            Transaction::Chunks(_) => replies::MIXED_CONTENT_COMMANDS,
        };
        self.refuse(transaction, "DATA", &reply)
    }

    fn bdat(&mut self, transaction: Transaction, octets: u64, last: bool) -> Progress {
        match transaction {
            Transaction::Rcpt(envelope) => self.ask_data(PendingQuestion::FirstChunk { octets, last }, envelope),
            Transaction::Chunks(content) => {
                self.state = State::Chunk { content, remaining: octets, last };
                Progress::Again
            }
            Transaction::None => self.discard_chunk(octets, replies::BAD_SEQUENCE.with_cause(MAIL_FIRST)),
            Transaction::Mail(..) => self.discard_chunk(octets, replies::NO_VALID_RECIPIENTS),
        }
    }

    fn starttls(&mut self, transaction: Transaction) -> Progress {
        if !self.offers_starttls() {
            let reply = match self.encrypted {
                true => replies::BAD_SEQUENCE.with_cause("TLS is active already"),
                false => replies::NOT_IMPLEMENTED,
            };
            return self.refuse(transaction, "STARTTLS", &reply);
        }
        // RFC 4954 §4 and RFC 3207 §4.2: an identity from before the handshake would have to be discarded.
        if self.authenticated {
            let reply = replies::BAD_SEQUENCE.with_cause("STARTTLS must come before AUTH");
            return self.refuse(transaction, "STARTTLS", &reply);
        }
        self.write(&replies::READY_FOR_TLS);
        // Command injection: plaintext received after STARTTLS is not part of the encrypted session.
        self.input.clear();
        self.state = State::Handshake;
        Progress::Do(Action::StartTls)
    }

    fn auth(&mut self, transaction: Transaction, mechanism: &str, initial_response: Option<&str>) -> Progress {
        let refusal = if self.settings.auth == AuthMode::Off {
            Some(replies::NOT_IMPLEMENTED)
        } else if self.authenticated {
            Some(replies::ALREADY_AUTHENTICATED)
        } else if let Some(cause) = self.not_idle(&transaction) {
            Some(replies::BAD_SEQUENCE.with_cause(cause))
        } else if !self.offers_auth() {
            Some(replies::ENCRYPTION_REQUIRED)
        } else {
            None
        };
        match refusal {
            Some(reply) => self.refuse(transaction, "AUTH", &reply),
            None => self.sasl(sasl::begin(mechanism, initial_response, self.settings.auth == AuthMode::Any)),
        }
    }

    pub(super) fn poll_sasl(&mut self, exchange: sasl::Exchange) -> Progress {
        let limit = self.settings.limits.auth_line_octets_max;
        let Some(line) = self.take_line(limit, &replies::AUTH_LINE_TOO_LONG) else {
            self.state = State::Sasl(exchange);
            return Progress::Wait;
        };
        self.waiting_since = self.now;
        let any = self.settings.auth == AuthMode::Any;
        match line.as_deref().map(std::str::from_utf8) {
            Ok(Ok(text)) => self.sasl(sasl::respond(exchange, text, any)),
            Ok(Err(_)) => self.sasl(sasl::Progress::Fail(replies::BAD_BASE64)),
            Err(bad) => self.sasl(sasl::Progress::Fail(bad.reply.clone())),
        }
    }

    fn sasl(&mut self, progress: sasl::Progress) -> Progress {
        match progress {
            sasl::Progress::Challenge(text, exchange) => {
                self.write_text(&format!("334 {text}"));
                self.state = State::Sasl(exchange);
                Progress::Again
            }
            sasl::Progress::Verify(credentials) => self.verify(credentials),
            sasl::Progress::Fail(reply) => {
                self.auth_failed(&reply);
                Progress::Do(Action::report("AUTH", reply))
            }
        }
    }

    fn verify(&mut self, credentials: Credentials) -> Progress {
        if self.settings.auth == AuthMode::Any {
            self.authenticated = true;
            self.write(&replies::AUTHENTICATED);
            return Progress::Again;
        }
        self.ask(PendingQuestion::Credentials, Question::Authenticate(credentials))
    }
}
