//! `[policy]`: who may send without an application of their own, and what holds for every message.

use super::Config;
use super::diagnostics::Diagnostics;
use super::number::{Number, Octets, Seconds};
use super::rules::{
    AddressFields, Delivery, Enforcement, ForeignFrom, MissingField, MissingFrom, OnAmbiguous, Unchecked, patterns,
};
use super::section::section;
use super::ses_parameters::Parameters;
use super::values::{AddressText, AuthorText, Extension, FieldNameText, FromPattern, Network, RequestedName};
use crate::policy::DefaultApp;
use std::collections::BTreeMap;
use std::path::PathBuf;

section! {
    /// Which clients may send, and with which addresses: the rules for clients that match no `[[app]]`, and the keys
    /// that apply to all clients. `gatepost explain` shows as which application a client is recognised, and what
    /// happens to its messages.
    pub(crate) PolicySection {
        /// A list of networks whose clients may send without authentication. Default: this machine. Clients that
        /// authenticate, have a verified certificate or connect over a Unix socket may send from any network.
        #[schemars(example = ["127.0.0.0/8", "::1", "10.1.0.0/16"])]
        clients: Option<Vec<Network>> = None,
        /// A list of files with IAM policy documents (JSON, as for a role). Every message must be allowed by them, and by those
        /// of its `[[app]]`. An element that gatepost does not understand is an error at the start. They need `[aws]`.
        documents: Vec<PathBuf> = Vec::new(),
        /// enforce or report, for every `[[app]]` without the key too. report logs the refusals of rules and lets the messages
        /// pass; which clients may send is enforced in any case.
        enforcement: Enforcement = Enforcement::Enforce,
        /// true or false, for every `[[app]]` without the key too: defer (4yz) where policy would reject (5yz). During
        /// a first roll-out, clients with a queue then keep messages that a missing rule would reject.
        soft_fail: bool = false,
        /// hand-off, spool or hand-off-else-spool, for every `[[app]]` without the key too: what the 250 at the end of a message
        /// means. hand-off: SES has the message. spool: the message is durable in `[spool]`, and is sent later.
        /// hand-off-else-spool: SES has it, or, where the client would be deferred, the spool.
        delivery: Delivery = Delivery::HandOff,
    } [rules]
}

/// The rules for clients that no application matches; `None` if only applications may send.
pub(super) fn plan(config: &Config, common: &Parameters, diagnostics: &mut Diagnostics<'_>) -> Option<DefaultApp> {
    let section = &config.policy;
    if section.from.is_empty() {
        if config.app.is_empty() {
            let hint = "for example: [policy] from = [\"*@example.com\"], or an [[app]]";
            diagnostics.error("policy.from", "policy.from is empty: no client could send", hint);
            return None;
        }
        for key in diagnostics.source_map().below("policy") {
            if !["documents", "enforcement", "soft_fail", "delivery"].contains(&key.as_str()) {
                let message = format!("policy.{key} has no effect: without policy.from only applications may send");
                diagnostics.error(&format!("policy.{key}"), message, "set policy.from, or remove it");
            }
        }
        return None;
    }
    for (index, Network(network)) in section.clients.iter().flatten().enumerate() {
        if network.prefix_len() == 0 {
            let path = format!("policy.clients.{index}");
            let message = format!("{network} is every address: an open relay for these From addresses");
            diagnostics.warn(&path, message, "name your networks");
        }
    }
    let mut others = DefaultApp::local(patterns(&section.from));
    if let Some(clients) = &section.clients {
        others.clients = clients.iter().map(|network| network.0).collect();
    }
    let app = &mut others.app;
    section.rules().apply(app, "policy", !section.documents.is_empty(), &config.smtp, diagnostics);
    (app.send, app.tags) = (common.send.clone(), common.tags.clone());
    app.enforcement = section.enforcement.into();
    app.soft_fail = section.soft_fail;
    app.delivery = section.delivery.into();
    Some(others)
}
