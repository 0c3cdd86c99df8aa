//! What a message gets at the provider: asked for by the application, granted by policy.
//!
//! The names and alphabets are those of SES v2 `SendEmail` (API reference, "SendEmail"; quotas page of the guide).

use super::address::Mailbox;
use super::author::Author;
use super::envelope::Envelope;
use super::parameter_error::ParameterError;
use super::path::ForwardPath;
use super::rule_name::RuleName;
use std::fmt;
use std::sync::Arc;

macro_rules! names {
    ($( $(#[$doc:meta])+ $name:ident($what:literal, $octets_max:literal, $alphabet:expr, $rule:literal); )+) => { $(
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks length and alphabet.
            ///
            /// # Errors
            /// [`ParameterError`], naming the rule.
            pub fn parse(text: &str) -> Result<Self, ParameterError> {
                let alphabet: fn(u8) -> bool = $alphabet;
                if text.is_empty() || text.len() > $octets_max || !text.bytes().all(alphabet) {
                    return Err(ParameterError::new($what, $rule));
                }
                Ok(Self(text.into()))
            }

            /// As given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+ };
}

const fn word(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-')
}

names! {
    /// `ConfigurationSetName`.
    ConfigurationSetName("configuration set", 64, word, "1 to 64 of A-Z a-z 0-9 _ -");
    /// `TenantName`.
    TenantName("tenant", 64, word, "1 to 64 of A-Z a-z 0-9 _ -");
    /// `EndpointId` of a multi-region endpoint.
    EndpointId("endpoint id", 128, |o| word(o) || o == b'.', "1 to 128 of A-Z a-z 0-9 _ - .");
    /// Name or value of a message tag.
    TagText("message tag", 256, word, "1 to 256 of A-Z a-z 0-9 _ -");
    /// Contact list or topic name of list management.
    ListName("list", 64, word, "1 to 64 of A-Z a-z 0-9 _ -");
    /// The name of an application in the operator's configuration.
    AppName("app", 64, |o| word(o) || o == b'.', "1 to 64 of A-Z a-z 0-9 _ - .");
}

/// An SES identity: `arn:partition:ses:region:account:identity/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdentityArn(Arc<str>);

impl IdentityArn {
    /// Checks the shape, not the existence.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        let error = ParameterError::new("identity ARN", "arn:PARTITION:ses:REGION:ACCOUNT:identity/NAME");
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [arn, partition, service, region, account, resource] = parts[..] else { return Err(error) };
        let valid = arn == "arn"
            && partition.starts_with("aws")
            && service == "ses"
            && !region.is_empty()
            && account.len() == 12
            && account.bytes().all(|octet| octet.is_ascii_digit())
            && resource.strip_prefix("identity/").is_some_and(|name| !name.is_empty())
            && text.len() <= 512
            && text.bytes().all(|octet| matches!(octet, b'!'..=b'~'));
        if valid { Ok(Self(text.into())) } else { Err(error) }
    }

    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address or domain.
    pub fn name(&self) -> &str {
        self.0.rsplit_once(":identity/").map_or("", |(_, name)| name)
    }

    /// Whether this identity covers a mailbox.
    pub fn covers(&self, mailbox: &Mailbox) -> bool {
        identity_covers(self.name(), mailbox)
    }
}

/// Whether an identity of that name covers a mailbox: the same address, its domain, or a parent of its domain.
pub fn identity_covers(name: &str, mailbox: &Mailbox) -> bool {
    if name.contains('@') {
        return Mailbox::parse(name).is_ok_and(|identity| identity == *mailbox);
    }
    mailbox.domain().name().is_some_and(|domain| is_within(domain, &name.to_ascii_lowercase()))
}

/// Whether a domain is that one or below it.
pub fn is_within(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

impl fmt::Display for IdentityArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An IAM role to send as: `arn:partition:iam::account:role/path/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleArn(Arc<str>);

impl RoleArn {
    /// Checks the shape, not the existence.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let valid = matches!(parts[..], ["arn", partition, "iam", "", account, resource]
            if partition.starts_with("aws")
                && account.len() == 12
                && account.bytes().all(|octet| octet.is_ascii_digit())
                && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty() && !name.contains(['*', '?'])))
            && text.len() <= 2048
            && text.bytes().all(|octet| matches!(octet, b'!'..=b'~'));
        let error = ParameterError::new("role ARN", "arn:PARTITION:iam::ACCOUNT:role/NAME");
        if valid { Ok(Self(text.into())) } else { Err(error) }
    }

    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a message tag: a text as above, or one of the two that SES puts into the Feedback-ID field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagName(Arc<str>);

/// Guide, "Feedback-ID": names of SES's own that a sender sets.
const FEEDBACK_ID_TAGS: [&str; 2] = ["ses:feedback-id-a", "ses:feedback-id-b"];

impl TagName {
    /// Checks length and alphabet.
    ///
    /// # Errors
    /// [`ParameterError`], naming the rule.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        if FEEDBACK_ID_TAGS.contains(&text) {
            return Ok(Self(text.into()));
        }
        let rule = "1 to 256 of A-Z a-z 0-9 _ -, or ses:feedback-id-a or -b";
        TagText::parse(text).map(|TagText(name)| Self(name)).map_err(|_| ParameterError::new("message tag", rule))
    }

    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message tag (`EmailTags`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: TagName,
    /// Its value.
    pub value: TagText,
}

/// `ListManagementOptions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListManagement {
    /// `ContactListName`.
    pub contact_list: ListName,
    /// `TopicName`.
    pub topic: Option<ListName>,
}

/// Where SES sends bounces and complaints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Feedback {
    /// To the reverse-path, as SES's own SMTP endpoint does, if policy permitted it; nowhere for a null one.
    #[default]
    ReversePath,
    /// To one address of the operator's.
    Fixed(Mailbox),
    /// As the SES account is set up: nothing is sent along.
    Account,
}

/// The parameters of one `SendEmail` call beside message and recipients. `None`: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendParameters {
    /// Configuration set.
    pub configuration_set: Option<ConfigurationSetName>,
    /// Identity of another account that authorised us.
    pub identity_arn: Option<IdentityArn>,
    /// Message tags; SES does not merge tags from several places, so neither do we.
    pub tags: Option<Vec<Tag>>,
    /// Tenant.
    pub tenant: Option<TenantName>,
    /// Multi-region endpoint.
    pub endpoint_id: Option<EndpointId>,
    /// Contact list and topic.
    pub list_management: Option<ListManagement>,
    /// Where bounces go.
    pub feedback: Option<Feedback>,
    /// The role to send as; not said: as whoever the transport is.
    pub role: Option<RoleArn>,
}

impl SendParameters {
    /// These, and where they say nothing, those of `base`.
    #[must_use]
    pub fn or(self, base: &Self) -> Self {
        Self {
            configuration_set: self.configuration_set.or_else(|| base.configuration_set.clone()),
            identity_arn: self.identity_arn.or_else(|| base.identity_arn.clone()),
            tags: self.tags.or_else(|| base.tags.clone()),
            tenant: self.tenant.or_else(|| base.tenant.clone()),
            endpoint_id: self.endpoint_id.or_else(|| base.endpoint_id.clone()),
            list_management: self.list_management.or_else(|| base.list_management.clone()),
            feedback: self.feedback.or_else(|| base.feedback.clone()),
            role: self.role.or_else(|| base.role.clone()),
        }
    }

    /// Where bounces of a message really go, if anywhere. A reverse-path counts only if policy checked it: one that nobody
    /// checked could be any identity of the account. And where another account authorised one identity, only an address
    /// of that identity counts: with another the provider would refuse the whole call, as it would with an address literal.
    pub fn feedback_address<'a>(&'a self, envelope: &'a Envelope, checked: bool) -> Option<&'a Mailbox> {
        let address = match self.feedback.as_ref().unwrap_or(&Feedback::ReversePath) {
            Feedback::Account => None,
            Feedback::Fixed(mailbox) => Some(mailbox),
            Feedback::ReversePath => envelope.reverse_path().mailbox().filter(|_| checked),
        };
        let address = address.filter(|mailbox| mailbox.domain().name().is_some());
        address.filter(|mailbox| self.identity_arn.as_ref().is_none_or(|arn| arn.covers(mailbox)))
    }
}

/// What policy grants to what it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Granted {
    /// The rule that accepted.
    pub rule: RuleName,
    /// The application that the rule belongs to, where rules belong to applications. Limits are keyed by it.
    pub app: Option<AppName>,
    /// What the message gets at the provider.
    pub send: SendParameters,
    /// Whether policy checked the reverse-path; only then does it become the feedback address.
    pub reverse_path_permitted: bool,
    /// Whether a MAIL FROM that is no address is taken as the null reverse-path. Without it, it is refused.
    pub takes_unreadable_path: bool,
    /// What must be done to the message first. Policy then judges the result, and accepts it without edits.
    pub edits: Edits,
    /// What policy would have refused, where it only reports; for the log.
    pub reported: Option<String>,
    /// The pattern, and the statements of documents, that permitted a message; for the log. `None`: the rule says enough.
    pub permitted_by: Option<Arc<str>>,
}

/// What is done to a message before it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// The From field becomes this. Who stood there moves to Reply-To, if there is none; a Sender field goes.
    pub author: Option<Author>,
    /// All Resent fields go.
    pub without_resent: bool,
    /// Of To, Cc and Reply-To, addresses that the provider cannot read are left out, and a field without any goes.
    pub readable_lists: bool,
    /// Fields of these names go.
    pub without: Arc<[String]>,
    /// A Date field is put in front.
    pub date: bool,
    /// A Message-ID field is put in front.
    pub message_id: bool,
    /// The message goes here instead; the recipients are kept in `X-Original-Recipients`.
    pub redirect_to: Option<ForwardPath>,
}

impl Edits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Granted {
    /// A grant by that rule, with no parameters.
    pub fn by(rule: RuleName) -> Self {
        Self {
            rule,
            app: None,
            send: SendParameters::default(),
            reverse_path_permitted: false,
            takes_unreadable_path: false,
            edits: Edits::default(),
            reported: None,
            permitted_by: None,
        }
    }
}

/// An `X-SES-*` field that SES's SMTP endpoint understands ("Amazon SES X-headers" in its guide).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestedField {
    /// `X-SES-CONFIGURATION-SET: name`.
    ConfigurationSet,
    /// `X-SES-MESSAGE-TAGS: name=value, name=value`.
    MessageTags,
    /// `X-SES-SOURCE-ARN`, `X-SES-FROM-ARN`: identity ARN.
    IdentityArn,
    /// `X-SES-TENANT: name`.
    Tenant,
    /// `X-SES-LIST-MANAGEMENT-OPTIONS: {contactListName}; topic={topicName}`.
    ListManagement,
}

impl RequestedField {
    /// The header name without `X-SES-`, upper case, and the word for it in the configuration.
    pub const ALL: [(&'static str, &'static str, Self); 6] = [
        ("CONFIGURATION-SET", "configuration-set", Self::ConfigurationSet),
        ("MESSAGE-TAGS", "message-tags", Self::MessageTags),
        ("SOURCE-ARN", "identity-arn", Self::IdentityArn),
        ("FROM-ARN", "identity-arn", Self::IdentityArn),
        ("TENANT", "tenant", Self::Tenant),
        ("LIST-MANAGEMENT-OPTIONS", "list-management", Self::ListManagement),
    ];
}

/// What the application asked for in `X-SES-*` fields. They never reach the provider as fields: an application could
/// choose its own identity, configuration set or tenant. Policy says which of them count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested(Vec<(String, String)>);

impl Requested {
    /// Whether a field is one of these.
    pub fn is_request(name: &str) -> bool {
        name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("X-SES-"))
    }

    /// Notes a field.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let unfolded: String = String::from_utf8_lossy(value).replace("\r\n", "");
        self.0.push((name.get(6..).unwrap_or_default().to_ascii_uppercase(), unfolded.trim().to_owned()));
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameters asked for, of the fields in `allowed`; others are passed over.
    ///
    /// # Errors
    /// [`ParameterError`] if an allowed field cannot be read, or two of them contradict.
    pub fn parameters(&self, allowed: &[RequestedField]) -> Result<SendParameters, ParameterError> {
        let mut parameters = SendParameters::default();
        for (name, value) in &self.0 {
            let known = RequestedField::ALL.iter().find(|(header, ..)| header == name).map(|(_, _, field)| *field);
            match known.filter(|field| allowed.contains(field)) {
                None => {}
                Some(RequestedField::ConfigurationSet) => {
                    set(&mut parameters.configuration_set, ConfigurationSetName::parse(value)?)?;
                }
                Some(RequestedField::MessageTags) => set(&mut parameters.tags, parse_tags(value)?)?,
                Some(RequestedField::IdentityArn) => {
                    set(&mut parameters.identity_arn, IdentityArn::parse(value)?)?;
                }
                Some(RequestedField::Tenant) => set(&mut parameters.tenant, TenantName::parse(value)?)?,
                Some(RequestedField::ListManagement) => {
                    set(&mut parameters.list_management, parse_list_management(value)?)?;
                }
            }
        }
        Ok(parameters)
    }
}

fn set<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), ParameterError> {
    if slot.as_ref().is_some_and(|before| *before != value) {
        return Err(ParameterError::new("X-SES field", "stands twice with different values"));
    }
    *slot = Some(value);
    Ok(())
}

/// SES allows 50 tags a message.
pub(crate) const TAGS_MAX: usize = 50;

fn parse_tags(value: &str) -> Result<Vec<Tag>, ParameterError> {
    let rule = ParameterError::new("X-SES-MESSAGE-TAGS", "name1=value1, name2=value2; 50 at most");
    let tags: Vec<Tag> = value
        .split(',')
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or(rule.clone())?;
            Ok(Tag { name: TagName::parse(name.trim())?, value: TagText::parse(value.trim())? })
        })
        .collect::<Result<_, _>>()?;
    if tags.len() > TAGS_MAX { Err(rule) } else { Ok(tags) }
}

fn parse_list_management(value: &str) -> Result<ListManagement, ParameterError> {
    let (list, topic) = match value.split_once(';') {
        Some((list, topic)) => (list, Some(topic)),
        None => (value, None),
    };
    let topic = match topic.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => Some(ListName::parse(
            text.strip_prefix("topic=")
                .ok_or(ParameterError::new("X-SES-LIST-MANAGEMENT-OPTIONS", "list; topic=name"))?,
        )?),
        None => None,
    };
    let list = list.trim();
    Ok(ListManagement { contact_list: ListName::parse(list.strip_prefix("contactListName=").unwrap_or(list))?, topic })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(fields: &[(&str, &str)]) -> Requested {
        let mut requested = Requested::default();
        for (name, value) in fields {
            assert!(Requested::is_request(name));
            requested.push(name, value.as_bytes());
        }
        requested
    }

    #[test]
    fn only_allowed_fields_become_parameters() {
        let asked = requested(&[
            ("X-SES-CONFIGURATION-SET", " news"),
            ("x-ses-message-tags", " a=1,\r\n b=2"),
            ("X-SES-SOURCE-ARN", " arn:aws:ses:us-east-1:111122223333:identity/a.example"),
            ("X-SES-UNHEARD-OF", "x"),
        ]);
        assert_eq!(asked.parameters(&[]), Ok(SendParameters::default()));
        let got = asked.parameters(&[RequestedField::ConfigurationSet, RequestedField::MessageTags]).unwrap();
        assert_eq!(got.configuration_set.unwrap().as_str(), "news");
        assert_eq!(got.tags.unwrap().len(), 2);
        assert_eq!(got.identity_arn, None);
    }

    #[test]
    fn what_is_allowed_and_malformed_is_an_error() {
        for field in [
            ("X-SES-CONFIGURATION-SET", "a b"),
            ("X-SES-MESSAGE-TAGS", "a"),
            ("X-SES-SOURCE-ARN", "arn:aws:s3:::bucket"),
            ("X-SES-LIST-MANAGEMENT-OPTIONS", "list; subject=x"),
        ] {
            let all: Vec<_> = RequestedField::ALL.iter().map(|(_, _, f)| *f).collect();
            assert!(requested(&[field]).parameters(&all).is_err(), "{field:?}");
        }
    }

    #[test]
    fn an_identity_covers_its_domain_and_what_is_below() {
        let arn = IdentityArn::parse("arn:aws:ses:us-east-1:111122223333:identity/a.example").unwrap();
        for (mailbox, want) in [("x@a.example", true), ("x@b.a.example", true), ("x@ba.example", false)] {
            assert_eq!(arn.covers(&Mailbox::parse(mailbox).unwrap()), want, "{mailbox}");
        }
        for (name, want) in
            [("ses:feedback-id-a", true), ("ses:feedback-id-b", true), ("ses:from-domain", false), ("a", true)]
        {
            assert_eq!(TagName::parse(name).is_ok(), want, "{name}");
        }
        let arn = IdentityArn::parse("arn:aws:ses:us-east-1:111122223333:identity/x@a.example").unwrap();
        assert!(arn.covers(&Mailbox::parse("x@a.example").unwrap()));
        assert!(!arn.covers(&Mailbox::parse("y@a.example").unwrap()));
    }
}
