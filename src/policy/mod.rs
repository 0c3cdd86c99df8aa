//! Decides whether a message is allowed. [`Policy`] is the extension point.
//!
//! The relay calls a policy at each MAIL, at each RCPT and at the end of data. It accepts, defers or rejects, or reports that it
//! could not decide, and then the message is deferred (451 4.3.0).
//! [`AppPolicy`] is the built-in policy: applications with rights of their own.

mod app;
mod app_matching;
mod app_policy;
mod attachments;
mod description;
mod error;
mod iam_checks;
mod pattern;
mod rule_results;
mod tags;

pub use app::{App, Checked, Enforcement, Missing, OnAuthor, SES_REFUSED_EXTENSIONS};
pub use app_matching::{CertificateMatch, MatchCriteria};
pub use app_policy::{AppPolicy, DefaultApp};
pub use description::AppDescription;
pub use error::AppPolicyError;
pub use iam_checks::AwsAccount;
pub use pattern::{AddressPattern, PatternError, TextPattern};
pub use tags::{TagPattern, TagPatternError, TagTemplate};

use crate::mail::parameters::AppName;
use crate::mail::{
    Author, Client, Content, Envelope, ForwardPath, Granted, MailParameters, Refusal, Requested, ReversePath,
    SendParameters,
};
use async_trait::async_trait;
use std::borrow::Cow;

/// Decides about commands and messages.
#[async_trait]
pub trait Policy: Send + Sync + 'static {
    /// Decides about a MAIL. The future of this and the other methods is dropped if the relay cuts its connections; a client
    /// that disconnects does not cancel it.
    async fn reverse_path(&self, facts: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError>;

    /// Decides about an RCPT, after MAIL was accepted. May be called more than once per RCPT: pipelined commands are decided in
    /// advance if the limiter is in another process.
    async fn forward_path(&self, facts: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError>;

    /// Decides about the message, at the end of data. The grants are what it is sent with. Called a second time after the edits
    /// of the first decision were applied. The future is dropped at the deadline of the message.
    async fn message(&self, facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError>;

    /// The application of a client, if it is known before MAIL. For log and metrics only.
    fn application(&self, _client: &Client) -> Option<AppName> {
        None
    }

    /// What the messages of each application are sent with, as far as it is known without a message. At the start, the relay
    /// checks with the provider that it works.
    fn sends(&self) -> Vec<(AppName, SendParameters)> {
        Vec::new()
    }

    /// What is configured for each application, for operators. Decides nothing.
    fn descriptions(&self) -> Vec<AppDescription> {
        Vec::new()
    }

    /// How the client is recognised, for `explain`. Decides nothing.
    fn client_notes(&self, _client: &Client) -> Vec<Note> {
        Vec::new()
    }

    /// The reasons for the decision about a message, for `explain`. Decides nothing.
    fn message_notes(&self, _facts: &MessageFacts<'_>) -> Vec<Note> {
        Vec::new()
    }
}

/// A remark about a decision, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
pub struct Note {
    /// The topic, in a word or two: `application`, `documents`.
    pub topic: Cow<'static, str>,
    /// The text.
    pub text: String,
}

impl Note {
    /// A note.
    pub fn new(topic: &'static str, text: impl Into<String>) -> Self {
        Self { topic: topic.into(), text: text.into() }
    }
}

/// What is known at MAIL.
#[derive(Clone, Copy, Debug)]
pub struct MailFacts<'a> {
    /// The client.
    pub client: &'a Client,
    /// Whether this listener offers AUTH that the client has not used: 530 may then help more than 550.
    pub auth_could_help: bool,
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// The parameters of MAIL.
    pub parameters: &'a MailParameters,
}

/// What is known at RCPT.
#[derive(Clone, Copy, Debug)]
pub struct RcptFacts<'a> {
    /// The client.
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
    /// The client.
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
    pub unreadable: Option<&'a Refusal>,
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
    Unreadable(&'a Refusal),
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

/// The answer of a policy.
#[expect(clippy::large_enum_variant, reason = "made once per command, and taken apart at once")]
#[derive(Clone, Debug)]
pub enum PolicyDecision {
    /// Allowed, with these grants.
    Accept(Granted),
    /// Not now: the client receives 4yz.
    Defer(Refusal),
    /// Not allowed: the client receives 5yz.
    Reject(Refusal),
}

/// The policy could not decide.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Something that the policy depends on did not answer.
    #[error("policy is unavailable: {0}")]
    Unavailable(String),
}
