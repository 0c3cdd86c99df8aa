//! Checks whether SES would accept a message.
//!
//! `read` converts the request into a submission with an author, recipients, a configuration set and tags; `CHECKS` is
//! the list of checks. Nothing here has side effects: quota and storage follow later.
//!
//! AWS does not document the order of the checks of one request; here it is size and form, then permission, then the
//! account, then the resources that the message names.

use mail_parser::MessageParser;
use std::sync::LazyLock;

use super::access_denied::Denial;
use super::address::Mailbox;
use super::identities;
use super::lists;
use super::mailbox_simulator;
use super::quota::Cost;
use super::raw::{self, Header};
use super::refusal::{ErrorName, Refusal};
use super::request::{Destination, SendRequest};
use super::settings::{EmulatorSettings, Enforcement, Identity};

/// A parsed request, with the values that SES uses.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) request: SendRequest,
    header: Header,
    /// The authors in force: `FromEmailAddress`, else the From field.
    pub(super) authors: Vec<Mailbox>,
    pub(super) destination: Destination,
    pub(super) recipients: Vec<Mailbox>,
    /// The parameter, else the `X-SES-CONFIGURATION-SET` field, else the identity's default.
    pub(super) configuration_set: Option<String>,
    /// The parameter, else the `X-SES-MESSAGE-TAGS` field: never both.
    pub(super) email_tags: Vec<(String, String)>,
}

impl Submission {
    pub(super) fn read(request: SendRequest, settings: &EmulatorSettings) -> Result<Self, Refusal> {
        let most = settings.bounds.message_octets_max;
        if request.encoded_octets > most {
            let octets = request.encoded_octets;
            return Err(Refusal::bad_request(format!("Message length is more than {most} bytes long: '{octets}'.")));
        }
        let header = Header::read(&request.raw)?;
        let authors = authors_of(&request)?;
        let destination = destination_of(&request)?;
        let recipients = destination.all().map(Mailbox::parse).collect::<Result<_, _>>()?;
        let configuration_set = request
            .parameters
            .configuration_set_name
            .clone()
            .or_else(|| header.values(SET_FIELD).next().map(str::to_owned))
            .or_else(|| default_set(settings, authors.first()?));
        let email_tags = match &request.parameters.email_tags[..] {
            [] => tags_in(header.values(TAGS_FIELD)),
            given => given.to_vec(),
        };
        Ok(Self { header, authors, destination, recipients, configuration_set, email_tags, request })
    }

    pub(super) fn check(&self, settings: &EmulatorSettings) -> Result<(), Refusal> {
        CHECKS.iter().try_for_each(|check| check(self, settings))
    }

    pub(super) fn cost(&self) -> Cost {
        let simulated = self.recipients.iter().filter(|mailbox| mailbox_simulator::is_simulator(mailbox)).count();
        Cost { recipients: self.recipients.len(), simulated }
    }

    /// The ARN of the author's identity, which is the resource of the IAM check.
    pub(super) fn identity_arn(&self, settings: &EmulatorSettings) -> String {
        if let Some(arn) = &self.request.parameters.from_email_address_identity_arn {
            return arn.clone();
        }
        let name = self.authors.first().map(|author| {
            identities::covering(&settings.identities, author)
                .first()
                .map_or_else(|| author.to_string(), |identity| identity.name.clone())
        });
        arn(settings, "identity", name.as_deref().unwrap_or("*"))
    }

    /// The verified identity of the account behind the author.
    fn identity<'a>(&self, settings: &'a EmulatorSettings) -> Option<&'a Identity> {
        identities::verified_for(&settings.identities, self.authors.first()?)
    }
}

type Check = fn(&Submission, &EmulatorSettings) -> Result<(), Refusal>;

const CHECKS: &[Check] = &[
    has_author,
    has_recipients_within_limit,
    has_single_fields_once,
    has_readable_address_fields,
    has_short_lines,
    has_clean_names,
    is_permitted,
    account_may_send,
    identities_are_verified,
    configuration_set_works,
    tenant_has_resources,
];

fn has_author(submission: &Submission, _: &EmulatorSettings) -> Result<(), Refusal> {
    if submission.authors.is_empty() {
        return Err(Refusal::new(ErrorName::MessageRejected, "Missing required header 'From'."));
    }
    Ok(())
}

fn has_recipients_within_limit(submission: &Submission, _: &EmulatorSettings) -> Result<(), Refusal> {
    match submission.recipients.len() {
        0 => Err(Refusal::bad_request("There are no recipients specified")),
        1..=RECIPIENTS_MAX => Ok(()),
        _ => Err(Refusal::bad_request(format!("Recipient count exceeds {RECIPIENTS_MAX}."))),
    }
}

fn has_single_fields_once(submission: &Submission, _: &EmulatorSettings) -> Result<(), Refusal> {
    submission.header.check_duplicates()
}

/// Checked whatever the envelope is. An absent field is valid.
fn has_readable_address_fields(submission: &Submission, _: &EmulatorSettings) -> Result<(), Refusal> {
    let fields = ["To", "Cc", "Reply-To"];
    fields.iter().flat_map(|name| submission.header.values(name)).try_for_each(|value| lists::read(value).map(drop))
}

fn has_short_lines(submission: &Submission, _: &EmulatorSettings) -> Result<(), Refusal> {
    raw::check_line_lengths(&submission.request.raw)
}

/// Names and tags are `[A-Za-z0-9_-]`: set and tenant up to 64 characters, each half of a tag up to 256.
fn has_clean_names(submission: &Submission, _: &EmulatorSettings) -> Result<(), Refusal> {
    let parameters = &submission.request.parameters;
    let set = submission.configuration_set.iter().map(|name| ("configuration set name", name, NAME_LENGTH_MAX));
    let tenant = parameters.tenant_name.iter().map(|name| ("tenant name", name, NAME_LENGTH_MAX));
    let tags = submission
        .email_tags
        .iter()
        .flat_map(|(name, value)| [("tag name", name, TAG_LENGTH_MAX), ("tag value", value, TAG_LENGTH_MAX)])
        .filter(|(kind, text, _)| *kind != "tag name" || !FEEDBACK_ID_TAGS.contains(&text.as_str()));
    let unclean = set.chain(tenant).chain(tags).find(|(_, text, most)| {
        let is_clean = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_' || octet == b'-';
        text.is_empty() || text.len() > *most || !text.bytes().all(is_clean)
    });
    match unclean {
        None => Ok(()),
        Some((kind, text, most)) => Err(Refusal::bad_request(format!(
            "Invalid {kind} <{text}>: only alphanumeric ASCII characters, '_', and '-' are allowed, {most} at most."
        ))),
    }
}

/// SendEmail with raw content needs the permission `ses:SendRawEmail`; denying `ses:SendEmail` also denies it here.
fn is_permitted(submission: &Submission, settings: &EmulatorSettings) -> Result<(), Refusal> {
    for action in ["ses:SendRawEmail", "ses:SendEmail"] {
        if let Some(denial) = settings.denied_actions.get(action) {
            let text = denial.text(&principal(settings), "ses:SendRawEmail", &submission.identity_arn(settings));
            return Err(Refusal::new(ErrorName::AccessDeniedException, text));
        }
    }
    Ok(())
}

fn account_may_send(_: &Submission, settings: &EmulatorSettings) -> Result<(), Refusal> {
    match (settings.account.enforcement, settings.account.sending_enabled) {
        (Enforcement::Shutdown, _) => Err(ErrorName::AccountSuspendedException.into()),
        (_, false) => Err(ErrorName::SendingPausedException.into()),
        _ => Ok(()),
    }
}

/// From, Sender, Return-Path and the feedback address; in the sandbox every recipient as well.
fn identities_are_verified(submission: &Submission, settings: &EmulatorSettings) -> Result<(), Refusal> {
    let parameters = &submission.request.parameters;
    let mut failed = Vec::new();
    let mut check = |mailbox: Mailbox, arn: Option<&String>| {
        let known = match arn {
            Some(arn) => arn_covers(arn, &mailbox, settings),
            None => identities::verified_for(&settings.identities, &mailbox).is_some(),
        };
        let address = mailbox.to_string();
        if !known && !failed.contains(&address) {
            failed.push(address);
        }
    };
    for author in &submission.authors {
        check(author.clone(), parameters.from_email_address_identity_arn.as_ref());
    }
    for name in ["Sender", "Return-Path"] {
        // `Return-Path: <>` has no address.
        for value in submission.header.values(name).filter(|value| !matches!(*value, "" | "<>")) {
            for mailbox in lists::read(value)? {
                check(mailbox, parameters.from_email_address_identity_arn.as_ref());
            }
        }
    }
    if let Some(address) = &parameters.feedback_forwarding_email_address {
        check(Mailbox::parse(address)?, parameters.feedback_forwarding_email_address_identity_arn.as_ref());
    }
    if !settings.account.production_access {
        for recipient in submission.recipients.iter().filter(|mailbox| !mailbox_simulator::is_simulator(mailbox)) {
            check(recipient.clone(), None);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorName::MessageRejected,
        format!(
            "Email address is not verified. The following identities failed the check in region {}: {}",
            settings.region.to_uppercase(),
            failed.join(", ")
        ),
    ))
}

fn configuration_set_works(submission: &Submission, settings: &EmulatorSettings) -> Result<(), Refusal> {
    let Some(name) = &submission.configuration_set else { return Ok(()) };
    match settings.configuration_sets.get(name) {
        Some(set) if set.sending_enabled => Ok(()),
        Some(_) => Err(Refusal::new(
            ErrorName::SendingPausedException,
            format!("Sending paused for the configuration set <{name}>."),
        )),
        None => Err(no_such_set(name)),
    }
}

/// The names of SES's own that a sender may use: Developer Guide, "Feedback-ID".
const FEEDBACK_ID_TAGS: [&str; 2] = ["ses:feedback-id-a", "ses:feedback-id-b"];

/// A resource that is not the tenant's is answered as one that IAM denies.
fn tenant_has_resources(submission: &Submission, settings: &EmulatorSettings) -> Result<(), Refusal> {
    let Some(name) = &submission.request.parameters.tenant_name else { return Ok(()) };
    let Some(tenant) = settings.tenants.get(name) else {
        return Err(Refusal::new(ErrorName::NotFoundException, format!("Tenant <{name}> does not exist.")));
    };
    let identity = submission.identity(settings).map(|identity| &identity.name);
    let missing = [
        ("identity", identity, &tenant.identities),
        ("configuration-set", submission.configuration_set.as_ref(), &tenant.configuration_sets),
    ]
    .into_iter()
    .find(|(_, resource, associated)| resource.is_some_and(|resource| !associated.contains(resource)));
    match missing {
        Some((kind, Some(resource), _)) => {
            let text = Denial::Bare.text(&principal(settings), "ses:SendRawEmail", &arn(settings, kind, resource));
            Err(Refusal::new(ErrorName::AccessDeniedException, text))
        }
        _ => Ok(()),
    }
}

pub(super) fn no_such_set(name: &str) -> Refusal {
    Refusal::new(ErrorName::NotFoundException, format!("Configuration set <{name}> does not exist."))
}

pub(super) fn arn(settings: &EmulatorSettings, kind: &str, name: &str) -> String {
    format!("arn:aws:ses:{}:{}:{kind}/{name}", settings.region, settings.account_id)
}

pub(super) fn principal(settings: &EmulatorSettings) -> String {
    format!("arn:aws:iam::{}:user/emulated", settings.account_id)
}

/// Sending authorisation: whether the ARN is of an identity, in this or another account, that covers the address and
/// may be used.
fn arn_covers(arn_given: &str, mailbox: &Mailbox, settings: &EmulatorSettings) -> bool {
    let Some((_, name)) = arn_given.split_once(":identity/") else { return false };
    let own = arn_given == arn(settings, "identity", name)
        && settings.identities.iter().any(|identity| identity.verified && identity.name.eq_ignore_ascii_case(name));
    (own || settings.delegated_identity_arns.iter().any(|known| known == arn_given))
        && identities::covers(name, mailbox)
}

static ADDRESSES: LazyLock<MessageParser> =
    LazyLock::new(|| MessageParser::new().with_address_headers().default_header_ignore());

/// The authors. `FromEmailAddress` replaces the From field, so the field is ignored if it is given.
fn authors_of(request: &SendRequest) -> Result<Vec<Mailbox>, Refusal> {
    if let Some(address) = &request.parameters.from_email_address {
        return Ok(vec![Mailbox::parse(address)?]);
    }
    let parsed = ADDRESSES.parse_headers(&request.raw[..]);
    let addresses = parsed.as_ref().and_then(|message| message.from()).into_iter().flat_map(|from| from.iter());
    addresses.filter_map(|each| each.address()).map(Mailbox::parse).collect()
}

/// With a `Destination`, exactly that; without, the addresses of To, Cc and Bcc.
fn destination_of(request: &SendRequest) -> Result<Destination, Refusal> {
    if let Some(destination) = &request.parameters.destination {
        return Ok(destination.clone());
    }
    let parsed = ADDRESSES.parse_headers(&request.raw[..]);
    let Some(message) = parsed else { return Ok(Destination::default()) };
    let list = |address: Option<&mail_parser::Address<'_>>| {
        let each = address.into_iter().flat_map(|list| list.iter());
        each.filter_map(|each| each.address().map(str::to_owned)).collect()
    };
    Ok(Destination { to: list(message.to()), cc: list(message.cc()), bcc: list(message.bcc()) })
}

fn default_set(settings: &EmulatorSettings, author: &Mailbox) -> Option<String> {
    identities::verified_for(&settings.identities, author)?.configuration_set.clone()
}

/// `name1=value1, name2=value2`. A part without `=` becomes a name with an empty value, which the name check refuses.
fn tags_in<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let parts = fields.flat_map(|value| value.split(',')).map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

const SET_FIELD: &str = "X-SES-CONFIGURATION-SET";
const TAGS_FIELD: &str = "X-SES-MESSAGE-TAGS";
/// SES Developer Guide, quotas: To, Cc and Bcc together.
const RECIPIENTS_MAX: usize = 50;
const NAME_LENGTH_MAX: usize = 64;
const TAG_LENGTH_MAX: usize = 256;
