//! May this happen? The seam between the relay and whoever decides.
//!
//! A [`Policy`] is asked once per MAIL, once per RCPT and once at end of data. It gives one of three answers, or admits
//! that it could not judge: not knowing is never a rejection, it defers (451 4.3.0).
//! [`AppPolicy`] is the built-in one: applications, each with rights of its own.

mod app;
mod apps;
mod attachments;
mod documents;
mod pattern;
mod recognise;
mod tags;
mod tally;

pub use app::{App, Checked, Enforcement, Missing, OnAuthor, SES_REFUSED_EXTENSIONS};
pub use apps::{AppPolicy, AppPolicyError, Others};
pub use documents::AccountSettings;
pub use pattern::{AddressPattern, PatternError, TextPattern};
pub use recognise::{CertificateMatch, Recogniser, Recognition};
pub use tags::{TagPattern, TagPatternError, TagTemplate};

use crate::mail::parameters::AppName;
use crate::mail::{
    Author, Client, Content, Envelope, ForwardPath, Granted, MailParameters, Reply, Requested, ReversePath, RuleName,
    SendParameters,
};
use async_trait::async_trait;

/// A judge of mail.
#[async_trait]
pub trait Policy: Send + Sync + 'static {
    /// Once per MAIL. The future may be dropped when the peer hangs up.
    async fn reverse_path(&self, facts: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError>;

    /// Once per RCPT, after MAIL was accepted.
    async fn forward_path(&self, facts: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError>;

    /// Once, at end of data. What it grants is what the message gets.
    async fn message(&self, facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError>;

    /// The application that a client belongs to, as far as it is known before MAIL. For log and metrics. Decides nothing.
    fn application(&self, _client: &Client) -> Option<AppName> {
        None
    }

    /// What each application's messages get, as far as it is known before a message. The relay asks the provider for it at
    /// the start. Decides nothing.
    fn sends(&self) -> Vec<(AppName, SendParameters)> {
        Vec::new()
    }

    /// Who it takes a client for and why, for a person who asks. Decides nothing.
    fn client_notes(&self, _client: &Client) -> Vec<Note> {
        Vec::new()
    }

    /// What lies behind its decision about a message, for a person who asks. Decides nothing.
    fn message_notes(&self, _facts: &MessageFacts<'_>) -> Vec<Note> {
        Vec::new()
    }
}

/// Something to know about a decision.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// What it is about, in a word or two: `application`, `documents`.
    pub topic: &'static str,
    /// What there is to know.
    pub text: String,
}

impl Note {
    /// A note.
    pub fn new(topic: &'static str, text: impl Into<String>) -> Self {
        Self { topic, text: text.into() }
    }
}

/// What is known at MAIL.
#[derive(Clone, Copy, Debug)]
pub struct MailFacts<'a> {
    /// Who is connected.
    pub client: &'a Client,
    /// Whether this listener offers AUTH that the client has not used: 530 may then help more than 550.
    pub auth_could_help: bool,
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// What MAIL said beside it.
    pub parameters: &'a MailParameters,
}

/// What is known at RCPT.
#[derive(Clone, Copy, Debug)]
pub struct RcptFacts<'a> {
    /// Who is connected.
    pub client: &'a Client,
    /// The reverse-path, as accepted.
    pub reverse_path: &'a ReversePath,
    /// The recipient in question.
    pub forward_path: &'a ForwardPath,
    /// How many recipients were accepted before.
    pub accepted_before: usize,
}

/// What is known at end of data: everything.
#[derive(Clone, Copy, Debug)]
pub struct MessageFacts<'a> {
    /// Who is connected.
    pub client: &'a Client,
    /// Reverse-path and recipients.
    pub envelope: &'a Envelope,
    /// The message as the provider would get it.
    pub content: &'a Content,
    /// Its only From field, read strictly and confirmed by a second reader. Without a mailbox in it, the message is
    /// refused, unless policy has the field replaced ([`Edits::author`](crate::mail::parameters::Edits::author)).
    pub from: AddressField<'a>,
    /// Its Sender field, read in the same way: one mailbox.
    pub sender: AddressField<'a>,
    /// Its Resent-From and Resent-Sender fields together, read in the same way.
    pub resent: AddressField<'a>,
    /// The first of To, Cc and Reply-To that the provider cannot read. The message is refused, unless policy has it
    /// repaired.
    pub unreadable: Option<&'a Unreadable>,
    /// What its `X-SES-*` fields ask for.
    pub requested: &'a Requested,
}

/// What an address field says about the author.
#[derive(Clone, Copy, Debug)]
pub enum AddressField<'a> {
    /// There is no such field.
    Missing,
    /// There is nothing in it, or a group without members.
    Empty,
    /// It cannot be read, or not in one way only.
    Unreadable(&'a Unreadable),
    /// At least one mailbox.
    Mailboxes(&'a [Author]),
}

impl<'a> AddressField<'a> {
    /// The mailboxes; none if there are none or they cannot be read.
    pub fn mailboxes(&self) -> &'a [Author] {
        match self {
            Self::Mailboxes(mailboxes) => mailboxes,
            Self::Missing | Self::Empty | Self::Unreadable(_) => &[],
        }
    }
}

/// A field that cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its name.
    pub field: &'static str,
    /// What the client receives, unless the field is replaced.
    pub reply: Reply,
    /// What is wrong with it, for the log.
    pub detail: String,
}

/// A judge's answer.
#[expect(clippy::large_enum_variant, reason = "made once a command, and taken apart at once")]
#[derive(Clone, Debug)]
pub enum PolicyDecision {
    /// Yes, with these grants.
    Accept(Granted),
    /// Not now (4yz).
    Defer(Reason),
    /// No (5yz).
    Reject(Reason),
}

/// Why, in two voices.
#[derive(Clone, Debug)]
pub struct Reason {
    /// For operators: log field and metric label.
    pub rule: RuleName,
    /// For the peer.
    pub reply: Reply,
    /// What exactly did not fit, for the log only.
    pub detail: String,
}

/// The judge could not judge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Something the judge depends on did not answer.
    #[error("policy is unavailable: {0}")]
    Unavailable(String),
}
