//! The policy of a plan: applications, everybody else, IAM policy documents; and who may reach whom.
//!
//! Rules that contradict each other, or could never matter, are errors: whoever wrote them believes that they hold.

use super::documents::{account, documents};
use super::error_hints::one_of;
use super::plan::Diagnostics;
use super::rules::{AddressFields, App, Enforcement, ForeignFrom, MissingFrom, Rules, SesParameters, Unchecked};
use super::sections::{Auth, Certificates, Listener};
use super::users::KnownUsers;
use super::values::{CertificateText, FromPattern, Network};
use crate::mail::author::names_another;
use crate::mail::parameters::{AppName, TagName};
use crate::mail::{Author, SendParameters, SystemClock};
use crate::policy::{self, AddressPattern, AppPolicy, AppPolicyError, Missing, OnAuthor, Others, Recognition};
use crate::policy::{TagTemplate, TextPattern};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// All of it; `None` if something of it is wrong.
pub(super) fn plan(diagnostics: &mut Diagnostics<'_>, users: &KnownUsers) -> Option<AppPolicy> {
    let config = diagnostics.config;
    let common = Common::plan(diagnostics);
    let others = everybody_else(diagnostics, &common);
    let mut apps = Vec::new();
    let mut names = HashSet::new();
    for (place, app) in config.app.iter().enumerate() {
        let at = Spot { path: format!("app.{place}"), app };
        let is_first = app.name.as_ref().is_none_or(|name| names.insert(name.0.as_str()));
        apps.extend(at.plan(diagnostics, users, &common, is_first));
    }
    let documents = documents(diagnostics, "policy.documents", &config.policy.documents);
    let any = !config.policy.documents.is_empty() || config.app.iter().any(|app| !app.documents.is_empty());
    let account = account(diagnostics, any);
    who_may_send(diagnostics, users.may_exist());
    for_a_roll_out(diagnostics);
    if apps.len() < config.app.len() || any && account.is_none() {
        return None;
    }
    let made = AppPolicy::new(apps, others, documents, account, Arc::new(SystemClock));
    let policy = made.map_err(|error| not_decided_here(diagnostics, &error)).ok()?;
    overlaps(diagnostics, &policy);
    identities_cover_authors(diagnostics, &policy);
    Some(policy.soft_fail(config.policy.soft_fail))
}

/// A condition of an IAM document that only SES could decide.
fn not_decided_here(diagnostics: &mut Diagnostics<'_>, error: &AppPolicyError) {
    let (AppPolicyError::UnknownKey { place, .. } | AppPolicyError::ManyValues { place, .. }) = error else {
        diagnostics.error("policy", error.to_string(), "see the manual, chapter policy");
        return;
    };
    let config = diagnostics.config;
    let lists = std::iter::once(("policy".to_owned(), &config.policy.documents))
        .chain(config.app.iter().enumerate().map(|(at, app)| (format!("app.{at}"), &app.documents)));
    let is_it = |file: &&PathBuf| place.starts_with(&format!("{}, ", file.display()));
    let path = lists.into_iter().find_map(|(path, files)| {
        let at = files.iter().position(|file| is_it(&file))?;
        Some(format!("{path}.documents.{at}"))
    });
    let hint = match error {
        AppPolicyError::ManyValues { .. } => "ForAllValues: all recipients must fit, ForAnyValue: one of them",
        _ => "take the condition out of the copy that gatepost reads: only AWS can decide it",
    };
    diagnostics.error(path.as_deref().unwrap_or("policy"), error.to_string(), hint);
}

/// Warns of applications that a client could be with equal claim: of the first pairs, and of how many more there are.
fn overlaps(diagnostics: &mut Diagnostics<'_>, policy: &AppPolicy) {
    let pairs = policy.overlaps();
    let name = |place: usize| &policy.apps()[place].name;
    for &(first, second) in pairs.iter().take(OVERLAPS_MAX) {
        let (winner, other) = (name(first), name(second));
        let message = format!("a client could be {winner} and {other} with equal claim; it is taken for {winner}");
        let hint = "the first of the file wins; name something more specific in one of them";
        diagnostics.warn(&format!("app.{second}.name"), message, hint);
    }
    let more = pairs.len().saturating_sub(OVERLAPS_MAX);
    if more > 0 {
        diagnostics.warn(
            "app",
            format!("{more} more pairs of applications have an equal claim"),
            "the first of the file wins",
        );
    }
}

/// Pairs with an equal claim that are listed.
const OVERLAPS_MAX: usize = 100;

/// An author that `identity_arn` does not cover is refused at every message.
fn identities_cover_authors(diagnostics: &mut Diagnostics<'_>, policy: &AppPolicy) {
    let config = diagnostics.config;
    for (place, app) in policy.every_app().enumerate() {
        let Some(arn) = &app.send.identity_arn else { continue };
        let (path, own) = match config.app.get(place) {
            Some(section) => (format!("app.{place}"), section.identity_arn.is_some()),
            None => ("policy".to_owned(), false),
        };
        let key = if own { format!("{path}.identity_arn") } else { format!("{path}.from") };
        let hint = "SES refuses such mail: name the identity of that domain, or take the pattern away";
        for pattern in app.from.iter().filter(|pattern| !pattern.meets(arn)) {
            diagnostics.error(&key, format!("{pattern} is not covered by the identity {arn}"), hint);
        }
        if let OnAuthor::Rewrite(author) = &app.on_author
            && !arn.covers(&author.mailbox)
        {
            let message = format!("{}, which replaces From, is not covered by the identity {arn}", author.mailbox);
            diagnostics.error(&key, message, hint);
        }
    }
}

/// Everybody who is no application: `None` if there are applications and nobody else may send.
fn everybody_else(diagnostics: &mut Diagnostics<'_>, common: &Common) -> Option<Others> {
    let section = &diagnostics.config.policy;
    if section.from.is_empty() {
        if diagnostics.config.app.is_empty() {
            let hint = "for example: [policy] from = [\"*@example.com\"], or an [[app]]";
            diagnostics.error("policy.from", "policy.from is empty: nobody could send", hint);
            return None;
        }
        for key in diagnostics.config.source_map.below("policy") {
            if !["documents", "enforcement", "soft_fail"].contains(&key.as_str()) {
                let message =
                    format!("policy.{key} means nothing: without policy.from nobody but applications may send");
                diagnostics.error(&format!("policy.{key}"), message, "set policy.from, or take it away");
            }
        }
        return None;
    }
    for (place, Network(network)) in section.clients.iter().flatten().enumerate() {
        if network.prefix_len() == 0 {
            let path = format!("policy.clients.{place}");
            let message = format!("{network} is everybody: an open relay for these From addresses");
            diagnostics.warn(&path, message, "name your networks");
        }
    }
    let mut others = Others::local(patterns(&section.from));
    if let Some(clients) = &section.clients {
        others.clients = clients.iter().map(|network| network.0).collect();
    }
    let app = &mut others.app;
    let rules = section.rules();
    let documented = !section.documents.is_empty();
    lay(diagnostics, "policy", &rules, documented, app);
    (app.send, app.tags) = (common.send.clone(), common.tags.clone());
    app.enforcement = section.enforcement.into();
    app.soft_fail = section.soft_fail;
    Some(others)
}

fn patterns(list: &[FromPattern]) -> Vec<AddressPattern> {
    list.iter().map(|pattern| pattern.0.clone()).collect()
}

/// Rules into an application of the policy, as far as they make sense. `documented`: IAM documents narrow them.
fn lay(diagnostics: &mut Diagnostics<'_>, path: &str, rules: &Rules, documented: bool, app: &mut policy::App) {
    let key = |key: &str| format!("{path}.{key}");
    for (place, FromPattern(pattern)) in rules.from.iter().enumerate() {
        if pattern.is_everybody() && !documented {
            let path = key(&format!("from.{place}"));
            diagnostics.warn(&path, "this lets clients write mail as anybody", "name your domains");
        }
    }
    let checked = |place: Unchecked| !rules.unchecked.contains(&place);
    app.checked = policy::Checked {
        reverse_path: checked(Unchecked::ReversePath),
        author: checked(Unchecked::From),
        sender: checked(Unchecked::Sender),
        resent: checked(Unchecked::Resent),
    };
    if !app.checked.author {
        diagnostics.warn(
            &key("unchecked"),
            "From is not checked: clients write mail as anybody",
            "take from out of unchecked",
        );
    }
    app.null_reverse_path = rules.null_reverse_path;
    app.display_names = rules.display_names.iter().map(|text| TextPattern::new(text)).collect();
    app.recipients_allowed = patterns(&rules.recipients_allowed);
    app.recipients_denied = patterns(&rules.recipients_denied);
    app.recipients_max = rules.recipients_max.map(|most| most.size());
    app.message_octets_max = rules.message_octets_max.map(|most| most.get());
    if let Some(denied) = &rules.attachments_denied {
        app.attachments_denied = denied.iter().map(|extension| extension.0.clone()).collect();
    }
    app.repairs_lists = rules.address_fields == AddressFields::Repair;
    app.without = rules.remove_fields.iter().map(|name| name.0.clone()).collect();
    app.missing_date = rules.missing_date.into();
    app.missing_message_id = rules.missing_message_id.into();
    app.redirect_to = rules.redirect_to.as_ref().map(|address| address.0.clone());
    app.requested_fields = rules.requested_fields.iter().map(|field| field.0).collect();
    app.principal_tags = rules.principal_tags.clone().into_iter().collect();
    if let Some(address) = &rules.redirect_to {
        diagnostics.warn(
            &key("redirect_to"),
            format!("all mail goes to {address}, and to nobody else"),
            "for staging only",
        );
    }
    let smtp = &diagnostics.config.smtp;
    let (octets, recipients) = (smtp.message_octets_max.get(), smtp.recipients_max.get());
    if rules.message_octets_max.is_some_and(|most| most.get() > octets) {
        diagnostics.warn(&key("message_octets_max"), "smtp.message_octets_max is smaller, and refuses first", RAISE);
    }
    if rules.recipients_max.is_some_and(|most| most.get() > recipients) {
        diagnostics.warn(&key("recipients_max"), "smtp.recipients_max is smaller, and refuses first", RAISE);
    }
    own_from(diagnostics, path, rules, app);
}

const RAISE: &str = "raise that one, or take this key away";

/// What is put into From must be good by the same rules: it is judged again.
fn own_from(diagnostics: &mut Diagnostics<'_>, path: &str, rules: &Rules, app: &mut policy::App) {
    let key = |key: &str| format!("{path}.{key}");
    let wanted: Vec<&str> = [
        ("foreign_from", rules.foreign_from == ForeignFrom::Rewrite),
        ("missing_from", rules.missing_from == MissingFrom::Fill),
    ]
    .into_iter()
    .filter_map(|(key, wanted)| wanted.then_some(key))
    .collect();
    let Some(own) = &rules.own_from else {
        if let Some(wanting) = wanted.first() {
            let hint = "for example: own_from = \"Shop <shop@example.com>\"";
            diagnostics.error(&key(wanting), "nothing says what is put into From", hint);
        }
        return;
    };
    if wanted.is_empty() {
        let hint = "set foreign_from = \"rewrite\" or missing_from = \"fill\", or take it away";
        diagnostics.error(&key("own_from"), "own_from is never used", hint);
    }
    let Author { display_name, mailbox, .. } = &own.0;
    if app.checked.author && !app.permits(mailbox) {
        let message = format!("{mailbox} fits no pattern of from, so it would be refused");
        diagnostics.error(&key("own_from"), message, "add the address to from, or write another in own_from");
    }
    let fits =
        |name: &String| app.display_names.is_empty() || app.display_names.iter().any(|known| known.matches(name));
    let shows_another = |name: &String| app.display_names.is_empty() && names_another(mailbox, name);
    if app.checked.author && display_name.as_ref().is_some_and(shows_another) {
        let message = "the name shows the address of another mailbox, so it would be refused";
        diagnostics.error(&key("own_from"), message, "write a name without an address, or allow it in display_names");
    }
    if !display_name.as_ref().is_none_or(fits) {
        let hint = "add the name to display_names, or write another in own_from";
        diagnostics.error(&key("own_from"), "the name fits none of display_names, so it would be refused", hint);
    }
    if rules.foreign_from == ForeignFrom::Rewrite {
        app.on_author = OnAuthor::Rewrite(own.0.clone());
    }
    if rules.missing_from == MissingFrom::Fill {
        app.missing_from = Missing::Fill(own.0.clone());
    }
}

/// What every message gets at SES.
struct Common {
    send: SendParameters,
    tags: Vec<TagTemplate>,
}

impl Common {
    fn plan(diagnostics: &mut Diagnostics<'_>) -> Self {
        let ses = diagnostics.config.ses.ses_parameters();
        // The role that the relay itself sends as is the transport's business.
        Self { send: SendParameters { role: None, ..ses.parameters() }, tags: tags(diagnostics, "ses", &ses) }
    }

    /// For one application: what it says itself, and where it says nothing, this.
    fn narrow(
        &self,
        diagnostics: &mut Diagnostics<'_>,
        path: &str,
        own: &SesParameters,
    ) -> (SendParameters, Vec<TagTemplate>) {
        if own.external_id.is_some() && own.assume_role.is_none() {
            let hint = "it belongs to a role that is assumed";
            diagnostics.error(&format!("{path}.external_id"), "external_id without assume_role", hint);
        }
        let tags = if own.tags.is_empty() { self.tags.clone() } else { tags(diagnostics, path, own) };
        (own.parameters().or(&self.send), tags)
    }
}

fn tags(diagnostics: &mut Diagnostics<'_>, path: &str, ses_parameters: &SesParameters) -> Vec<TagTemplate> {
    if ses_parameters.tags.len() > TAGS_MAX {
        let message = format!("{} tags, and SES takes {TAGS_MAX}", ses_parameters.tags.len());
        diagnostics.error(&format!("{path}.tags"), message, "take some of them away");
    }
    let mut made = Vec::new();
    for (name, value) in &ses_parameters.tags {
        match TagName::parse(name) {
            Ok(name) => made.push(TagTemplate { name, value: value.0.clone() }),
            Err(_) => {
                let path = format!("{path}.tags.{name}");
                diagnostics.error(
                    &path,
                    format!("{name:?} cannot be the name of a tag"),
                    "1 to 256 of A-Z a-z 0-9 _ -",
                );
            }
        }
    }
    made
}

/// What `Others::local` calls the rules of `[policy]`.
const EVERYBODY_ELSE: &str = "default";
/// SES guide, quotas: message tags of one message.
const TAGS_MAX: usize = 50;

/// An application and where it stands.
struct Spot<'a> {
    path: String,
    app: &'a App,
}

impl Spot<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// `is_first`: no application before it has its name.
    fn plan(
        &self,
        diagnostics: &mut Diagnostics<'_>,
        users: &KnownUsers,
        common: &Common,
        is_first: bool,
    ) -> Option<policy::App> {
        let name = self.name(diagnostics, is_first);
        self.recognisable(diagnostics, users);
        let rules = self.app.rules();
        let from = match (rules.from.is_empty(), self.app.documents.is_empty()) {
            (true, true) => {
                let hint = "for example: from = [\"*@example.com\"]; or documents";
                diagnostics.error(&self.key("from"), "from is empty: this application could not send", hint);
                Vec::new()
            }
            // The documents alone decide.
            (true, false) => AddressPattern::parse("*@*").into_iter().collect(),
            (false, _) => patterns(&rules.from),
        };
        let recognition = Recognition {
            certificates: self.app.certificates.iter().map(|CertificateText(wanted)| wanted.clone()).collect(),
            identities: self.app.auth.clone(),
            networks: self.app.networks.iter().map(|network| network.0).collect(),
            listeners: self.app.listeners.clone(),
        };
        let nothing = recognition.is_empty();
        if nothing {
            let hint = "set certificates, auth, networks or listeners";
            diagnostics.error(&self.path, "nothing says how this application is recognised", hint);
        }
        let everybody = &diagnostics.config.policy;
        let enforcement = self.app.enforcement.unwrap_or(everybody.enforcement).into();
        let soft_fail = self.app.soft_fail.unwrap_or(everybody.soft_fail);
        let documented = !self.app.documents.is_empty() || !everybody.documents.is_empty();
        let documents = documents(diagnostics, &self.key("documents"), &self.app.documents);
        let mut app = policy::App { enforcement, soft_fail, documents, ..policy::App::new(name?, recognition, from) };
        lay(diagnostics, &self.path, &rules, documented, &mut app);
        (app.send, app.tags) = common.narrow(diagnostics, &self.path, &self.app.ses_parameters());
        (!nothing).then_some(app)
    }

    fn name(&self, diagnostics: &mut Diagnostics<'_>, is_first: bool) -> Option<AppName> {
        let Some(name) = &self.app.name else {
            diagnostics.error(&self.path, "an application needs a name", "for example: name = \"billing\"");
            return None;
        };
        if !is_first {
            let message = format!("another application is called {name} already");
            diagnostics.error(&self.key("name"), message, "each needs its own name");
        }
        if name.0.as_str() == EVERYBODY_ELSE {
            let message = format!("{EVERYBODY_ELSE} is the name of the rules of [policy]");
            diagnostics.error(&self.key("name"), message, "choose another");
        }
        Some(name.0.clone())
    }

    /// Names that stand for nothing, and demands that nobody could ever meet.
    fn recognisable(&self, diagnostics: &mut Diagnostics<'_>, users: &KnownUsers) {
        let listeners = &diagnostics.config.listener;
        let known: Vec<String> = listeners.iter().map(Listener::called).collect();
        for (place, wanted) in self.app.listeners.iter().enumerate() {
            if !known.contains(wanted) {
                let hint = one_of(wanted, known.iter().map(String::as_str), "listener");
                let path = self.key(&format!("listeners.{place}"));
                diagnostics.error(&path, format!("no listener is called {wanted:?}"), hint);
            }
        }
        for (place, wanted) in self.app.auth.iter().enumerate() {
            if users.complete && !users.names.contains(wanted) {
                let path = self.key(&format!("auth.{place}"));
                let near = one_of(wanted, users.names.iter().map(String::as_str), "user");
                let hint = format!(
                    "{near} Or write it in [auth.users] or auth.user_list; `gatepost hash-password` makes the hash"
                );
                diagnostics.error(&path, format!("there is no user {wanted:?}"), hint);
            }
        }
        for (place, Network(network)) in self.app.networks.iter().enumerate() {
            let alone = self.app.certificates.is_empty() && self.app.auth.is_empty();
            if network.prefix_len() == 0 && alone {
                let path = self.key(&format!("networks.{place}"));
                let message = format!("{network} is everybody: an open relay for this application's From addresses");
                diagnostics.warn(&path, message, "name its networks");
            }
        }
        // What follows of a name that stands for nothing is no mistake of its own.
        if !self.app.listeners.iter().all(|wanted| known.contains(wanted)) || listeners.is_empty() {
            return;
        }
        let reachable = || listeners.iter().filter(|listener| self.comes_to(listener));
        let asked = |listener: &Listener| matches!(listener.auth, Auth::Optional | Auth::Required);
        if !self.app.auth.is_empty() && !reachable().any(asked) {
            let hint = "set auth = \"required\" or \"optional\" on a listener that it may come to";
            diagnostics.error(&self.key("auth"), "nobody could be this application: no listener asks for AUTH", hint);
        }
        let shown = |listener: &Listener| listener.client_certificates != Certificates::Off;
        if !self.app.certificates.is_empty() && !reachable().any(shown) {
            let message = "nobody could be this application: no listener asks for client certificates";
            let hint = "set client_certificates on a listener that it may come to";
            diagnostics.error(&self.key("certificates"), message, hint);
        }
    }

    fn comes_to(&self, listener: &Listener) -> bool {
        self.app.listeners.is_empty() || self.app.listeners.contains(&listener.called())
    }

    /// Whether more than the listener says that somebody is this application.
    fn is_identified(&self) -> bool {
        !self.app.certificates.is_empty() || !self.app.auth.is_empty() || !self.app.networks.is_empty()
    }
}

/// A listener that others can reach, with nothing said about who may send, is a mistake and not an open relay.
fn who_may_send(diagnostics: &mut Diagnostics<'_>, users: bool) {
    let config = diagnostics.config;
    let spots = config.app.iter().enumerate().map(|(place, app)| Spot { path: format!("app.{place}"), app });
    let apps: Vec<Spot<'_>> = spots.collect();
    for (place, listener) in config.listener.iter().enumerate() {
        let Some(address) = &listener.address else { continue };
        // auth = "any" is never an identity, and "optional" says nothing about those who do not use it.
        let identified =
            (listener.auth == Auth::Required && users) || listener.client_certificates == Certificates::Required;
        if identified {
            continue;
        }
        // Behind a proxy, whoever reaches the proxy reaches us.
        let reachable = !address.0.is_local() || !listener.proxy_protocol_from.is_empty();
        let mut reported = false;
        for spot in apps.iter().filter(|spot| reachable && !spot.is_identified() && !spot.app.listeners.is_empty()) {
            if spot.comes_to(listener) {
                reported = true;
                let message = format!("whoever reaches {address} would be this application");
                let hint = "name its networks, auth or certificates too, or set auth = \"required\" on the listener";
                diagnostics.error(&spot.key("listeners"), message, hint);
            }
        }
        let named = apps.iter().any(|spot| spot.is_identified() && spot.comes_to(listener));
        if !reported && !address.0.is_local() && !named && config.policy.clients.is_none() {
            let message = format!("others may reach {address}, and nothing says who may send");
            let hint = "set policy.clients to your networks, or auth = \"required\" with users, or client_certificates = \
                        \"required\", or make an [[app]] that names networks, auth or certificates";
            diagnostics.error(&format!("listener.{place}.address"), message, hint);
        }
    }
}

/// What makes sense while policy is rolled out, and should not stay.
fn for_a_roll_out(diagnostics: &mut Diagnostics<'_>) {
    let config = diagnostics.config;
    let mut said = vec![("policy".to_owned(), Some(config.policy.enforcement), Some(config.policy.soft_fail))];
    let apps = config.app.iter().enumerate();
    said.extend(apps.map(|(place, app)| (format!("app.{place}"), app.enforcement, app.soft_fail)));
    for (path, enforcement, soft_fail) in said {
        if enforcement == Some(Enforcement::Report) {
            let message = "what the rules refuse passes, and is only logged";
            diagnostics.warn(&format!("{path}.enforcement"), message, "for a roll-out only");
        }
        if soft_fail == Some(true) {
            let message = "mail that policy refuses is deferred, so clients keep trying";
            diagnostics.warn(&format!("{path}.soft_fail"), message, "for a roll-out only");
        }
    }
}
