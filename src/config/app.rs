//! `[[app]]`: applications with rules of their own.

use super::Config;
use super::auth::KnownUsers;
use super::diagnostics::{Diagnostics, Item};
use super::documents;
use super::error_hints::one_of;
use super::listener::{Certificates, Listener};
use super::number::{Count, Number, Octets, Seconds};
use super::rules::{
    AddressFields, Delivery, Enforcement, ForeignFrom, MissingField, MissingFrom, OnAmbiguous, Unchecked, patterns,
};
use super::section::section;
use super::ses_parameters::{ListOptions, Parameters};
use super::values::{
    AddressText, AppNameText, Arn, AuthorText, CertificateText, ConfigurationSet, EndpointIdText, Extension,
    FeedbackTo, FieldNameText, FromPattern, Listen, Network, RequestedName, Role, TagValue, Tenant,
};
use crate::mail::parameters::AppName;
use crate::policy::{self, AddressPattern, MatchCriteria};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::path::PathBuf;

section! {
    /// An application: how it is recognised, what it may send, and the parameters of its calls to SES.
    pub(crate) App {
        /// 1 to 64 of A-Z a-z 0-9 _ - . and not "default", which is the name of `[policy]` in the log. Also the value of {app}
        /// in tags.
        #[schemars(example = &"billing")]
        name: Option<AppNameText> = None,
        /// A list of "fingerprint:SHA-256 in hex", "subject:CN=billing, O=Example" or "name:billing.internal" (DNS name,
        /// mailbox, URI or IP address) of verified client certificates.
        #[schemars(example = ["name:billing.internal"])]
        certificates: Vec<CertificateText> = Vec::new(),
        /// A list of AUTH names, each of a user in `[auth]`.
        #[schemars(example = ["billing"])]
        auth: Vec<String> = Vec::new(),
        /// A list of networks of clients. Behind a proxy, the address in the PROXY header counts.
        #[schemars(example = ["10.1.7.0/24", "2001:db8:7::/48"])]
        networks: Vec<Network> = Vec::new(),
        /// A list of names of listeners.
        #[schemars(example = ["main"])]
        listeners: Vec<String> = Vec::new(),
        /// A list of files with IAM policy documents (JSON) that must allow every message. With documents, from may be
        /// left out: then they alone decide.
        #[schemars(example = ["/etc/gatepost/billing.json"])]
        documents: Vec<PathBuf> = Vec::new(),
        /// enforce or report. Default: policy.enforcement.
        #[schemars(example = &"report")]
        enforcement: Option<Enforcement> = None,
        /// true or false: defer (4yz) where policy would reject (5yz). Default: policy.soft_fail.
        #[schemars(example = true)]
        soft_fail: Option<bool> = None,
        /// hand-off, spool or hand-off-else-spool: what the 250 at the end of a message means. Default: policy.delivery.
        #[schemars(example = &"hand-off-else-spool")]
        delivery: Option<Delivery> = None,
        /// Its share of the rate of the SES account while the rate is not enough for all, relative to the other applications.
        weight: Number<1, 1_000_000> = Number::of(1),
        /// Guaranteed recipients a second; all applications share the rest of the rate. All guarantees together must
        /// not exceed the rate.
        #[schemars(example = 2.0)]
        recipients_per_second_min: Option<f64> = None,
        /// Concurrent connections, counted from the first MAIL; further ones receive 421. Default: connections.per_app_max.
        #[schemars(example = 20)]
        connections_max: Option<Count> = None,
    } [rules ses_parameters]
}

/// The name of the rules of `[policy]`: `DefaultApp::local` uses it.
const DEFAULT_APP: &str = "default";

impl App {
    /// Whether a connection to that listener may be of this application.
    pub(super) fn accepts(&self, listener: &Listener) -> bool {
        self.listeners.is_empty() || self.listeners.contains(&listener.called())
    }

    /// Whether more than the listener identifies the application.
    pub(super) fn is_identified(&self) -> bool {
        !self.certificates.is_empty() || !self.auth.is_empty() || !self.networks.is_empty()
    }
}

impl Item<'_, App> {
    /// The application of the policy. `is_first`: no application before it has its name.
    pub(super) fn plan(
        &self,
        config: &Config,
        users: &KnownUsers,
        common: &Parameters,
        is_first: bool,
        diagnostics: &mut Diagnostics<'_>,
    ) -> Option<policy::App> {
        let name = self.name(is_first, diagnostics);
        self.check_recognition(&config.listener, users, diagnostics);
        let rules = self.value.rules();
        let from = match (rules.from.is_empty(), self.value.documents.is_empty()) {
            (true, true) => {
                let hint = "for example: from = [\"*@example.com\"]; or documents";
                diagnostics.error(&self.key("from"), "from is empty: this application could not send", hint);
                Vec::new()
            }
            // The documents alone decide.
            (true, false) => AddressPattern::parse("*@*").into_iter().collect(),
            (false, _) => patterns(&rules.from),
        };
        let recognition = MatchCriteria {
            certificates: self.value.certificates.iter().map(|CertificateText(wanted)| wanted.clone()).collect(),
            identities: self.value.auth.clone(),
            networks: self.value.networks.iter().map(|network| network.0).collect(),
            listeners: self.value.listeners.clone(),
        };
        let nothing = recognition.is_empty();
        if nothing {
            let hint = "set certificates, auth, networks or listeners";
            diagnostics.error(&self.path, "no key sets how this application is recognised", hint);
        }
        let common_policy = &config.policy;
        let enforcement = self.value.enforcement.unwrap_or(common_policy.enforcement).into();
        let soft_fail = self.value.soft_fail.unwrap_or(common_policy.soft_fail);
        let has_documents = !self.value.documents.is_empty() || !common_policy.documents.is_empty();
        let documents = documents::read(&self.key("documents"), &self.value.documents, diagnostics);
        let delivery = self.value.delivery.unwrap_or(common_policy.delivery).into();
        let made = policy::App::new(name?, recognition, from);
        let mut app = policy::App { enforcement, soft_fail, delivery, documents, ..made };
        rules.apply(&mut app, &self.path, has_documents, &config.smtp, diagnostics);
        let parameters = common.narrow(&self.value.ses_parameters(), &self.path, diagnostics);
        (app.send, app.tags) = (parameters.send, parameters.tags);
        (!nothing).then_some(app)
    }

    fn name(&self, is_first: bool, diagnostics: &mut Diagnostics<'_>) -> Option<AppName> {
        let Some(name) = &self.value.name else {
            diagnostics.error(&self.path, "an application needs a name", "for example: name = \"billing\"");
            return None;
        };
        if !is_first {
            let message = format!("another application is called {name} already");
            diagnostics.error(&self.key("name"), message, "each needs its own name");
        }
        if name.0.as_str() == DEFAULT_APP {
            let message = format!("{DEFAULT_APP} is the name of the rules of [policy]");
            diagnostics.error(&self.key("name"), message, "choose another");
        }
        Some(name.0.clone())
    }

    /// Names that do not exist, and conditions that no client could meet.
    fn check_recognition(&self, listeners: &[Listener], users: &KnownUsers, diagnostics: &mut Diagnostics<'_>) {
        let known: Vec<String> = listeners.iter().map(Listener::called).collect();
        for (index, wanted) in self.value.listeners.iter().enumerate() {
            if !known.contains(wanted) {
                let hint = one_of(wanted, known.iter().map(String::as_str), "listener");
                let path = self.key(&format!("listeners.{index}"));
                diagnostics.error(&path, format!("no listener is called {wanted:?}"), hint);
            }
        }
        for (index, wanted) in self.value.auth.iter().enumerate() {
            if users.complete && !users.names.contains(wanted) {
                let path = self.key(&format!("auth.{index}"));
                let near = one_of(wanted, users.names.iter().map(String::as_str), "user");
                let hint = format!(
                    "{near} Or write it in [auth.users] or auth.user_list; `gatepost hash-password` makes the hash"
                );
                diagnostics.error(&path, format!("there is no user {wanted:?}"), hint);
            }
        }
        for (index, Network(network)) in self.value.networks.iter().enumerate() {
            let alone = self.value.certificates.is_empty() && self.value.auth.is_empty();
            if network.prefix_len() == 0 && alone {
                let path = self.key(&format!("networks.{index}"));
                let message =
                    format!("{network} is every address: an open relay for this application's From addresses");
                diagnostics.warn(&path, message, "name its networks");
            }
        }
        // What follows from a name that does not exist is not reported again.
        if !self.value.listeners.iter().all(|wanted| known.contains(wanted)) || listeners.is_empty() {
            return;
        }
        let reachable = || listeners.iter().filter(|listener| self.value.accepts(listener));
        if !self.value.auth.is_empty() && !reachable().any(Listener::verifies_users) {
            let hint = "set auth = \"required\" or \"optional\" on a listener that its clients can use";
            diagnostics.error(&self.key("auth"), "no client can be this application: no listener offers AUTH", hint);
        }
        let has_clients = |listener: &Listener| self.value.networks.iter().any(|it| may_come_from(listener, &it.0));
        if !self.value.networks.is_empty() && !reachable().any(has_clients) {
            let message =
                "no client can be this application: no listener that it may use has clients in these networks";
            let hint = "loopback addresses have clients on this machine only, Unix sockets have none with an address: listen on \
                        an address that the networks reach, or name the listener in listeners instead of networks";
            diagnostics.warn(&self.key("networks"), message, hint);
        }
        let shown = |listener: &Listener| listener.client_certificates != Certificates::Off;
        if !self.value.certificates.is_empty() && !reachable().any(shown) {
            let message = "no client can be this application: no listener requests client certificates";
            let hint = "set client_certificates on a listener that its clients can use";
            diagnostics.error(&self.key("certificates"), message, hint);
        }
    }
}

/// Whether a client of that network can connect to that listener. A proxy may forward any client.
fn may_come_from(listener: &Listener, network: &IpNet) -> bool {
    match listener.address.as_ref().map(|address| &address.0) {
        Some(Listen::Unix(_)) => false,
        Some(Listen::Tcp(address)) if listener.proxy_protocol_from.is_empty() => {
            let ip = address.ip().to_canonical();
            let loopback = IpNet::new(ip, if ip.is_ipv4() { 8 } else { 128 }).unwrap_or(*network).trunc();
            let both_families = ip.is_ipv6() && ip.is_unspecified();
            let is_here = network.contains(&loopback) || loopback.contains(network);
            (both_families || ip.is_ipv4() == network.addr().is_ipv4()) && (!ip.is_loopback() || is_here)
        }
        _ => true,
    }
}
