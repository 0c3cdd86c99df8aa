//! What is configured for an application, as plain data for operators.

use super::app::{App, Enforcement};
use super::pattern::AddressPattern;
use crate::mail::parameters::{AppName, Delivery};

/// What is configured for an application. A policy of your own fills in what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppDescription {
    /// The name.
    pub name: String,
    /// Whether it is for clients that no other application matches.
    pub is_default: bool,
    /// How a client is recognised: one criterion each, such as `network 10.0.0.0/8`.
    pub recognised_by: Vec<String>,
    /// Patterns of the addresses that it may send from.
    pub from: Vec<String>,
    /// Patterns of the recipients that it may send to; empty: any.
    pub recipients_allowed: Vec<String>,
    /// Patterns of the recipients that it may not send to.
    pub recipients_denied: Vec<String>,
    /// The maximum number of recipients of a message.
    pub recipients_max: Option<usize>,
    /// The maximum size of a message in octets.
    pub message_octets_max: Option<u64>,
    /// The address that receives all its messages instead, for staging.
    pub redirect_to: Option<String>,
    /// The configuration set of its messages.
    pub configuration_set: Option<String>,
    /// The identity of another account that its messages are sent with.
    pub identity_arn: Option<String>,
    /// The role that its messages are sent with; `None`: that of the relay.
    pub role: Option<String>,
    /// The tenant of its messages.
    pub tenant: Option<String>,
    /// What acceptance promises.
    pub delivery: Delivery,
    /// Whether its rules are only reported.
    pub reports_only: bool,
    /// Whether it receives 4yz where the rules would reject.
    pub soft_fail: bool,
    /// The names of IAM documents that must allow its messages.
    pub documents: Vec<String>,
}

impl AppDescription {
    /// A description with a name only.
    pub fn new(name: &AppName) -> Self {
        Self { name: name.to_string(), ..Self::default() }
    }

    pub(super) fn of(app: &App) -> Self {
        let texts = |patterns: &[AddressPattern]| patterns.iter().map(ToString::to_string).collect();
        let send = &app.send;
        Self {
            name: app.name.to_string(),
            is_default: false,
            recognised_by: app.criteria.texts(),
            from: texts(&app.from),
            recipients_allowed: texts(&app.recipients_allowed),
            recipients_denied: texts(&app.recipients_denied),
            recipients_max: app.recipients_max,
            message_octets_max: app.message_octets_max,
            redirect_to: app.redirect_to.as_ref().map(ToString::to_string),
            configuration_set: send.configuration_set.as_ref().map(ToString::to_string),
            identity_arn: send.identity_arn.as_ref().map(ToString::to_string),
            role: send.role.as_ref().map(ToString::to_string),
            tenant: send.tenant.as_ref().map(ToString::to_string),
            delivery: app.delivery,
            reports_only: app.enforcement == Enforcement::Report,
            soft_fail: app.soft_fail,
            documents: app.documents.iter().map(|document| document.name.clone()).collect(),
        }
    }
}
