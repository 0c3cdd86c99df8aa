//! The built-in policy: applications, each with rights of its own.
//!
//! [`AppMatcher`] finds the application of a client, [`App`] has its rules, [`IamChecks`] evaluates its IAM documents. A client without
//! an application receives 550 5.7.1, or 530 5.7.0 if AUTH could help. With `enforcement = report` the same
//! decision is made, and the message is accepted with a note of the refusal.

use super::app::{App, Missing, refusal};
use super::app_matching::{AppMatcher, MatchCriteria};
use super::attachments;
use super::description::AppDescription;
use super::error::AppPolicyError;
use super::iam_checks::{self, AwsAccount, IamChecks};
use super::pattern::AddressPattern;
use super::rule_results::RuleResults;
use super::{AddressField, MailFacts, MessageFacts, Note, Policy, PolicyDecision, PolicyError, RcptFacts, tags};
use crate::iam::Document;
use crate::mail::parameter_error::ParameterError;
use crate::mail::parameters::{AppName, Edits};
use crate::mail::{
    Author, Client, ClientAddress, Clock, ForwardPath, Granted, Refusal, RuleName, SendParameters, SystemClock, replies,
};
use async_trait::async_trait;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Applications, and the rules for all of them.
pub struct AppPolicy {
    apps: Vec<App>,
    matcher: AppMatcher,
    default_app: Option<DefaultApp>,
    /// IAM documents that every message must be allowed by.
    documents: Vec<Arc<Document>>,
    account: Option<AwsAccount>,
    /// The condition keys that occur in any document.
    keys: BTreeSet<String>,
    clock: Arc<dyn Clock>,
    soft_fail: bool,
}

impl fmt::Debug for AppPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppPolicy").field("apps", &self.apps).finish_non_exhaustive()
    }
}

/// The rules for clients that no application matches.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DefaultApp {
    /// What they may send.
    pub app: App,
    /// Networks whose clients may send without authentication. Clients that authenticated, presented a verified certificate or use
    /// a Unix socket may send from any address.
    pub clients: Vec<IpNet>,
}

impl DefaultApp {
    /// Clients on this machine may send from addresses of these patterns.
    #[expect(clippy::expect_used, reason = "a literal, which every test here reads")]
    pub fn local(from: Vec<AddressPattern>) -> Self {
        let app = App::new(AppName::parse("default").expect("app name"), MatchCriteria::default(), from);
        Self { app, clients: ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect() }
    }

    fn admits(&self, client: &Client) -> Option<AdmittedBy<'_>> {
        if client.identity.is_some() {
            return Some(AdmittedBy::Authenticated);
        }
        if client.tls.as_ref().is_some_and(|tls| tls.client_certificate.is_some()) {
            return Some(AdmittedBy::Certified);
        }
        match client.address {
            ClientAddress::Ip(address) => {
                self.clients.iter().find(|net| net.contains(&address.ip())).map(AdmittedBy::Network)
            }
            ClientAddress::Unix => Some(AdmittedBy::UnixSocket),
            ClientAddress::Unknown => None,
        }
    }
}

/// Why a client that no application matches may send.
enum AdmittedBy<'a> {
    Authenticated,
    Certified,
    Network(&'a IpNet),
    UnixSocket,
}

impl fmt::Display for AdmittedBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authenticated => f.write_str("it authenticated"),
            Self::Certified => f.write_str("it showed a verified certificate"),
            Self::Network(network) => write!(f, "its address is in {network}"),
            Self::UnixSocket => f.write_str("it may open the Unix socket"),
        }
    }
}

impl AppPolicy {
    /// A policy of these applications.
    ///
    /// # Errors
    /// [`AppPolicyError`].
    pub fn new(
        apps: Vec<App>,
        default_app: Option<DefaultApp>,
        documents: Vec<Arc<Document>>,
        account: Option<AwsAccount>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AppPolicyError> {
        let mut every = apps.iter().chain(default_app.as_ref().map(|default_app| &default_app.app));
        let any_document = !documents.is_empty() || every.any(|app| !app.documents.is_empty());
        if any_document && account.is_none() {
            return Err(AppPolicyError::NoAccount);
        }
        let lists =
            apps.iter().chain(default_app.as_ref().map(|default_app| &default_app.app)).flat_map(|app| &app.documents);
        for document in lists.clone().chain(&documents) {
            iam_checks::check(document)?;
        }
        let keys = iam_checks::keys(lists.chain(&documents));
        if let Some(app) = apps.iter().find(|app| app.criteria.is_empty()) {
            return Err(AppPolicyError::NotRecognised(app.name.clone()));
        }
        let matcher = AppMatcher::new(apps.iter().map(|app| app.criteria.clone()).collect());
        Ok(Self { apps, matcher, default_app, documents, account, keys, clock, soft_fail: false })
    }

    /// A policy without applications: these rules for every client that is admitted.
    pub fn default_app(default_app: DefaultApp) -> Self {
        Self {
            apps: Vec::new(),
            matcher: AppMatcher::default(),
            default_app: Some(default_app),
            documents: Vec::new(),
            account: None,
            keys: BTreeSet::new(),
            clock: Arc::new(SystemClock),
            soft_fail: false,
        }
    }

    /// A policy for clients on this machine, with addresses of these patterns.
    pub fn local(from: Vec<AddressPattern>) -> Self {
        Self::default_app(DefaultApp::local(from))
    }

    /// Every application, the default application last.
    pub fn every_app(&self) -> impl Iterator<Item = &App> {
        self.apps.iter().chain(self.default_app.as_ref().map(|default_app| &default_app.app))
    }

    /// The applications, in order.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }

    /// Pairs of applications that can match the same client with equal specificity, by index in [`apps`](Self::apps): the one that
    /// is chosen, and the other.
    pub fn overlaps(&self) -> BTreeSet<(usize, usize)> {
        self.matcher.overlaps()
    }

    /// The application of a client.
    pub fn recognise(&self, client: &Client) -> Option<&App> {
        let named = self.matcher.recognise(client).map(|place| &self.apps[place]);
        named.or_else(|| {
            self.default_app
                .as_ref()
                .filter(|default_app| default_app.admits(client).is_some())
                .map(|default_app| &default_app.app)
        })
    }

    /// Whether a client without an application receives 4yz instead of 5yz. Applications have a setting of their own.
    #[must_use]
    pub fn soft_fail(mut self, soft: bool) -> Self {
        self.soft_fail = soft;
        self
    }

    fn no_application(&self, client: &Client, auth_could_help: bool) -> PolicyDecision {
        let reply = if auth_could_help { replies::AUTHENTICATION_REQUIRED } else { replies::SENDER_NOT_PERMITTED };
        // The port does not identify the client, and `explain` has none.
        let client = match client.address {
            ClientAddress::Ip(address) => address.ip().to_string(),
            other => other.to_string(),
        };
        refuse(refusal("no_app", reply, format!("{client} is not a known application")), self.soft_fail)
    }

    /// The rules at the end of data, in order: what the message is sent with, and how it is edited.
    fn judge_message(
        &self,
        app: &App,
        facts: &MessageFacts<'_>,
        results: &mut RuleResults,
    ) -> ControlFlow<Refusal, (SendParameters, Edits, Option<Arc<str>>)> {
        results.rule(app.judge_octets(facts.content.octets().len() as u64))?;
        let author = results.rule(app.judge_authors(&facts.from))?;
        // Sender and Resent fields that fit no pattern are removed together with the From that is replaced.
        let other_fields = app.judge_other_fields(&facts.sender, &facts.resent);
        let without_resent =
            author.is_some() && other_fields.is_err() && !matches!(facts.resent, AddressField::Missing);
        if author.is_none() {
            results.rule(other_fields)?;
        }
        let readable_lists = results.rule(app.judge_lists(facts.unreadable))?;
        // The first field is the relay's own trace field, which stays.
        let mut fields = facts.content.fields().skip(1);
        let without = !app.without.is_empty() && fields.any(|field| app.without.iter().any(|name| field.is(name)));
        let without = if without { Arc::clone(&app.without) } else { Arc::default() };
        results.rule(attachments::judge(facts.content.structure(), &app.attachments_denied))?;
        let has = |name| facts.content.fields_named(name).next().is_some();
        let missing = |rule: &Missing<()>, name: &'static str| match rule {
            Missing::Refuse if !has(name) => {
                Err(refusal("missing_field", replies::FIELD_MISSING.with_cause(name), format!("{name} is missing")))
            }
            rule => Ok(matches!(rule, Missing::Fill(())) && !has(name)),
        };
        let date = results.rule(missing(&app.missing_date, "Date"))?;
        let message_id = results.rule(missing(&app.missing_message_id, "Message-ID"))?;
        let requested = facts.requested.parameters(&app.requested_fields);
        let malformed =
            |error: ParameterError| refusal("requested_fields", replies::MALFORMED_HEADER, error.to_string());
        let send = results.rule(requested.map_err(malformed))?.or(&send_parameters(app, facts.client));
        let authors: &[Author] = author.as_ref().map_or(facts.from.mailboxes(), std::slice::from_ref);
        results.rule(covered(authors, &send))?;
        let mut places = String::new();
        if let Some(account) = &self.account {
            let (relay, keys, clock) = (self.documents.as_slice(), &self.keys, &*self.clock);
            let documents = IamChecks { account, relay, app, keys, clock };
            if let Some(notes) = &mut results.notes {
                documents.trace(facts, authors, &send, notes);
            }
            places = results.rule(documents.judge(facts, authors, &send))?;
        }
        let permitted_by = permitted_by(app, authors, &places);
        let redirect = app.redirect_to.as_ref().and_then(|mailbox| ForwardPath::new(mailbox.clone()));
        let elsewhere = |path: &ForwardPath| facts.envelope.forward_paths() != std::slice::from_ref(path);
        let redirect_to = redirect.filter(elsewhere);
        let edits = Edits { author, without_resent, readable_lists, without, date, message_id, redirect_to };
        ControlFlow::Continue((send, edits, permitted_by))
    }
}

/// A decision, with the enforcement of the application applied.
fn decide<T>(
    app: &App,
    results: &RuleResults,
    judged: ControlFlow<Refusal, T>,
    grant: impl FnOnce(T) -> Granted,
) -> PolicyDecision {
    match judged {
        ControlFlow::Continue(value) => {
            PolicyDecision::Accept(Granted { reported: results.reported(), ..grant(value) })
        }
        ControlFlow::Break(reason) => refuse(reason, app.soft_fail),
    }
}

fn refuse(mut reason: Refusal, softly: bool) -> PolicyDecision {
    if softly {
        reason.reply = reason.reply.softened();
    }
    if reason.reply.is_temporary() { PolicyDecision::Defer(reason) } else { PolicyDecision::Reject(reason) }
}

/// Refuses an author that the cross-account identity does not cover, because SES would refuse the call.
fn covered(authors: &[Author], send: &SendParameters) -> Result<(), Refusal> {
    let Some(arn) = &send.identity_arn else { return Ok(()) };
    match authors.iter().find(|author| !arn.covers(&author.mailbox)) {
        Some(author) => {
            let detail = format!("{} is not covered by the identity {arn}", author.mailbox);
            Err(refusal("identity_arn", replies::AUTHOR_NOT_PERMITTED, detail))
        }
        None => Ok(()),
    }
}

/// The rule that permitted a message: the pattern that matches its first author, and the statements of IAM documents.
fn permitted_by(app: &App, authors: &[Author], places: &str) -> Option<Arc<str>> {
    let pattern = authors.first().filter(|_| app.checked.author).and_then(|author| app.permitting(&author.mailbox));
    match (pattern, places) {
        (pattern, "") => pattern.map(|pattern| Arc::clone(pattern.text())),
        (Some(pattern), places) => Some(format!("{pattern}; {places}").into()),
        (None, places) => Some(places.into()),
    }
}

/// What the messages of this client are sent with.
fn send_parameters(app: &App, client: &Client) -> SendParameters {
    let mut send = app.send.clone();
    if !app.tags.is_empty() {
        send.tags = tags::fill(&app.tags, &app.name, client);
    }
    send
}

fn grant(app: &App, client: &Client, rule: &'static str) -> Granted {
    Granted {
        app: Some(app.name.clone()),
        delivery: app.delivery,
        send: send_parameters(app, client),
        ..Granted::by(RuleName::from_static(rule))
    }
}

#[async_trait]
impl Policy for AppPolicy {
    async fn reverse_path(&self, facts: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        let Some(app) = self.recognise(facts.client) else {
            return Ok(self.no_application(facts.client, facts.auth_could_help));
        };
        let mut results = RuleResults::of(app);
        let judged =
            results.rule(app.judge_reverse_path(facts.reverse_path, facts.parameters.unreadable_path.as_deref()));
        Ok(decide(app, &results, judged, |()| Granted {
            takes_unreadable_path: !app.checked.reverse_path,
            ..grant(app, facts.client, "reverse_path")
        }))
    }

    async fn forward_path(&self, facts: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        let Some(app) = self.recognise(facts.client) else { return Ok(self.no_application(facts.client, false)) };
        let mut results = RuleResults::of(app);
        let judged = results.rule(app.judge_forward_path(facts.forward_path.mailbox(), facts.accepted_before));
        Ok(decide(app, &results, judged, |()| grant(app, facts.client, "forward_path")))
    }

    async fn message(&self, facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        let Some(app) = self.recognise(facts.client) else { return Ok(self.no_application(facts.client, false)) };
        let mut results = RuleResults::of(app);
        let judged = self.judge_message(app, facts, &mut results);
        let reverse_path_permitted = app.permits_bounces_to(facts.envelope.reverse_path());
        Ok(decide(app, &results, judged, |(send, edits, permitted_by)| Granted {
            send,
            edits,
            reverse_path_permitted,
            permitted_by,
            ..grant(app, facts.client, "message")
        }))
    }

    fn application(&self, client: &Client) -> Option<AppName> {
        self.recognise(client).map(|app| app.name.clone())
    }

    fn sends(&self) -> Vec<(AppName, SendParameters)> {
        self.every_app().map(|app| (app.name.clone(), app.send.clone())).collect()
    }

    fn descriptions(&self) -> Vec<AppDescription> {
        let named = self.apps.iter().map(AppDescription::of);
        named
            .chain(self.default_app.as_ref().map(|DefaultApp { app, clients }| {
                let networks = clients.iter().map(|network| format!("network {network}"));
                let others = ["AUTH", "a verified certificate", "a Unix socket"].map(str::to_owned);
                let recognised_by = networks.chain(others).collect();
                AppDescription { recognised_by, is_default: true, ..AppDescription::of(app) }
            }))
            .collect()
    }

    fn client_notes(&self, client: &Client) -> Vec<Note> {
        let text = match (self.matcher.recognise(client), &self.default_app) {
            (Some(place), _) => {
                let app = &self.apps[place];
                format!("{}, recognised by {}", app.name, app.criteria.why(client))
            }
            (None, Some(default_app)) => match default_app.admits(client) {
                Some(because) => format!("{}: the default application, because {because}", default_app.app.name),
                None => {
                    "none: no application matches, and the default application does not admit this client".to_owned()
                }
            },
            (None, None) => "none: no application matches, and there is no default application".to_owned(),
        };
        vec![Note::new("application", text)]
    }

    fn message_notes(&self, facts: &MessageFacts<'_>) -> Vec<Note> {
        let Some(app) = self.recognise(facts.client) else { return Vec::new() };
        let mut results = RuleResults::with_notes(app);
        // Only the reasons; the caller has the decision.
        let _ = self.judge_message(app, facts, &mut results);
        results.notes.unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "app_policy_tests.rs"]
mod tests;
