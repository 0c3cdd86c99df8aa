//! The parameters of a message at the provider: requested by the application, granted by policy.
//!
//! Names and alphabets are those of SES v2 `SendEmail` (API reference, "SendEmail"; quotas page of the guide).

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
            /// [`ParameterError`] with the violated rule.
            pub fn parse(text: &str) -> Result<Self, ParameterError> {
                let alphabet: fn(u8) -> bool = $alphabet;
                if text.is_empty() || text.len() > $octets_max || !text.bytes().all(alphabet) {
                    return Err(ParameterError::new($what, $rule));
                }
                Ok(Self(text.into()))
            }

            /// The text as given.
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
    /// Checks the syntax, not the existence.
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

    /// The text as given.
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

/// The names of the identities that cover an address, the most specific first: the address, its domain, the parents of its
/// domain. SES Developer Guide, "Verified identities".
pub fn covering_identities<'a>(address: &'a str, domain: &'a str) -> impl Iterator<Item = &'a str> {
    let domains = std::iter::successors(Some(domain), |name| name.split_once('.').map(|(_, parent)| parent));
    std::iter::once(address).chain(domains)
}

/// Whether an identity with this name covers a mailbox.
pub fn identity_covers(name: &str, mailbox: &Mailbox) -> bool {
    let (address, domain) = (mailbox.to_string(), mailbox.domain().to_string());
    covering_identities(&address, &domain).any(|covering| is_same_identity(covering, name))
}

/// Whether two names are the same identity. Domains are compared without case, local parts with case.
pub fn is_same_identity(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((local, domain)), Some((other_local, other_domain))) => {
            local == other_local && domain.eq_ignore_ascii_case(other_domain)
        }
        (None, None) => one.eq_ignore_ascii_case(other),
        _ => false,
    }
}

/// Whether `domain` is `parent` or a subdomain of it.
pub fn is_within(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

impl fmt::Display for IdentityArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An IAM role for sending: `arn:partition:iam::account:role/path/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleArn(Arc<str>);

impl RoleArn {
    /// Checks the syntax, not the existence.
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

    /// The text as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a message tag: a [`TagText`], or one of the two names for the Feedback-ID field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagName(Arc<str>);

/// Guide, "Feedback-ID": reserved names that a sender may set.
const FEEDBACK_ID_TAGS: [&str; 2] = ["ses:feedback-id-a", "ses:feedback-id-b"];

impl TagName {
    /// Checks length and alphabet.
    ///
    /// # Errors
    /// [`ParameterError`] with the violated rule.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        if FEEDBACK_ID_TAGS.contains(&text) {
            return Ok(Self(text.into()));
        }
        let rule = "1 to 256 of A-Z a-z 0-9 _ -, or ses:feedback-id-a or -b";
        TagText::parse(text).map(|TagText(name)| Self(name)).map_err(|_| ParameterError::new("message tag", rule))
    }

    /// The text as given.
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
    /// The name.
    pub name: TagName,
    /// The value.
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
    /// To the reverse-path, as SES's own SMTP endpoint does, if policy checked it. For the null reverse-path, nowhere.
    #[default]
    ReversePath,
    /// To one address that the operator configured.
    Fixed(Mailbox),
    /// As configured in the SES account: the call has no feedback address.
    Account,
}

/// The parameters of one `SendEmail` call besides message and recipients. `None`: not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendParameters {
    /// Configuration set.
    pub configuration_set: Option<ConfigurationSetName>,
    /// An identity of another account that authorised this one.
    pub identity_arn: Option<IdentityArn>,
    /// Message tags. SES does not merge tags from several sources, so this does not either.
    pub tags: Option<Vec<Tag>>,
    /// Tenant.
    pub tenant: Option<TenantName>,
    /// Multi-region endpoint.
    pub endpoint_id: Option<EndpointId>,
    /// Contact list and topic.
    pub list_management: Option<ListManagement>,
    /// The destination of bounces.
    pub feedback: Option<Feedback>,
    /// The role for the call. `None`: the transport's own credentials.
    pub role: Option<RoleArn>,
}

impl SendParameters {
    /// These parameters, with the values of `base` where they are not set.
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

    /// The address that receives the bounces of a message, if any. The reverse-path is used only if policy checked it:
    /// otherwise it could be any identity of the account. With an identity of another account, only an address of that
    /// identity is used: with any other address, or an address literal, the provider would refuse the whole call.
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

/// What the 250 at end of data promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The provider has the message. Nothing is kept here: what cannot be sent now is deferred, and the client keeps it.
    #[default]
    HandOff,
    /// The spool has the message. It is sent later, and tried again as long as its application allows.
    Spool,
    /// The first, and the second where the client would be deferred. More recipients than one call may have go to the spool at once.
    HandOffElseSpool,
}

/// What policy grants to an accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Granted {
    /// The rule that accepted.
    pub rule: RuleName,
    /// The application of the rule, if rules belong to applications. Key of limits.
    pub app: Option<AppName>,
    /// What acceptance promises. The grant at MAIL decides. Without a spool it is always [`Delivery::HandOff`].
    pub delivery: Delivery,
    /// The parameters at the provider.
    pub send: SendParameters,
    /// Whether policy checked the reverse-path. Only then is it used as the feedback address.
    pub reverse_path_permitted: bool,
    /// Whether a MAIL FROM that is not an address counts as the null reverse-path. Otherwise it is refused.
    pub takes_unreadable_path: bool,
    /// The edits to apply to the message first. Policy then evaluates the result, and must accept it without further
    /// edits.
    pub edits: Edits,
    /// The refusal that policy only reports; for the log.
    pub reported: Option<String>,
    /// The pattern, and the statements of documents, that permitted a message; for the log. `None`: the rule is
    /// sufficient.
    pub permitted_by: Option<Arc<str>>,
}

/// The edits of a message before it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Edits {
    /// The new From field. The previous author is moved to Reply-To, if the message has none; the Sender field is
    /// removed.
    pub author: Option<Author>,
    /// Removes all Resent fields.
    pub without_resent: bool,
    /// Removes addresses that the provider cannot parse from To, Cc and Reply-To, and fields that become empty.
    pub readable_lists: bool,
    /// Removes fields with these names.
    pub without: Arc<[String]>,
    /// Adds a Date field.
    pub date: bool,
    /// Adds a Message-ID field.
    pub message_id: bool,
    /// The only recipient of the message; the original recipients are added as `X-Original-Recipients`.
    pub redirect_to: Option<ForwardPath>,
}

impl Edits {
    /// Whether there is no edit.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Granted {
    /// A grant by a rule, without parameters.
    pub fn by(rule: RuleName) -> Self {
        Self {
            rule,
            app: None,
            delivery: Delivery::default(),
            send: SendParameters::default(),
            reverse_path_permitted: false,
            takes_unreadable_path: false,
            edits: Edits::default(),
            reported: None,
            permitted_by: None,
        }
    }
}

/// An `X-SES-*` field that SES's SMTP endpoint supports ("Amazon SES X-headers" in its guide).
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
    /// The header name without `X-SES-`, in upper case, and the word for it in the configuration.
    pub const ALL: [(&'static str, &'static str, Self); 6] = [
        ("CONFIGURATION-SET", "configuration-set", Self::ConfigurationSet),
        ("MESSAGE-TAGS", "message-tags", Self::MessageTags),
        ("SOURCE-ARN", "identity-arn", Self::IdentityArn),
        ("FROM-ARN", "identity-arn", Self::IdentityArn),
        ("TENANT", "tenant", Self::Tenant),
        ("LIST-MANAGEMENT-OPTIONS", "list-management", Self::ListManagement),
    ];
}

/// The `X-SES-*` fields of a message. They are removed before sending, because an application could otherwise choose
/// its own identity, configuration set or tenant. Policy selects which of them are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested(Vec<(String, String)>);

impl Requested {
    /// Whether a field is an `X-SES-*` field.
    pub fn is_request(name: &str) -> bool {
        name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("X-SES-"))
    }

    /// Adds a field.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let unfolded: String = String::from_utf8_lossy(value).replace("\r\n", "");
        self.0.push((name.get(6..).unwrap_or_default().to_ascii_uppercase(), unfolded.trim().to_owned()));
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameters in the fields of `allowed`; other fields are ignored.
    ///
    /// # Errors
    /// [`ParameterError`] if an allowed field is invalid, or if two contradict each other.
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
        return Err(ParameterError::new("X-SES field", "occurs twice with different values"));
    }
    *slot = Some(value);
    Ok(())
}

/// SES allows 50 tags per message.
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
        let fields = requested(&[
            ("X-SES-CONFIGURATION-SET", " news"),
            ("x-ses-message-tags", " a=1,\r\n b=2"),
            ("X-SES-SOURCE-ARN", " arn:aws:ses:us-east-1:111122223333:identity/a.example"),
            ("X-SES-UNHEARD-OF", "x"),
        ]);
        assert_eq!(fields.parameters(&[]), Ok(SendParameters::default()));
        let got = fields.parameters(&[RequestedField::ConfigurationSet, RequestedField::MessageTags]).unwrap();
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
