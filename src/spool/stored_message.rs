//! What a spool stores of a message besides its content: envelope, grant and facts for the operator.

use crate::mail::headers::HeaderLimits;
use crate::mail::mime::MimeLimits;
use crate::mail::parameter_error::ParameterError;
use crate::mail::parameters::{
    AppName, ConfigurationSetName, EndpointId, Feedback, IdentityArn, ListManagement, ListName, RoleArn, Tag, TagName,
    TagText, TenantName,
};
use crate::mail::{
    AddressError, BodyType, Content, ContentError, Envelope, ForwardPath, Granted, MailParameters, Mailbox, Permitted,
    QueueId, ReversePath, RuleName, SendParameters,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A message without its content, for storage as JSON or in any other format of serde. Restoring parses every value again.
///
/// Not stored: edits (they were applied), the password or certificate of the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse_path: Option<String>,
    forward_paths: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<StoredBody>,
    rule: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permitted_by: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reverse_path_permitted: bool,
    #[serde(default, skip_serializing_if = "StoredParameters::is_empty")]
    send: StoredParameters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum StoredBody {
    #[serde(rename = "7BIT")]
    SevenBit,
    #[serde(rename = "8BITMIME")]
    EightBitMime,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct StoredParameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_set: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<(String, String)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact_list: Option<(String, Option<String>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<StoredFeedback>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
}

impl StoredParameters {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredFeedback {
    ReversePath,
    Fixed(String),
    Account,
}

/// Why a stored message cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// An address is invalid.
    #[error("stored address: {0}")]
    Address(#[from] AddressError),
    /// A recipient has an address literal.
    #[error("stored recipient has no domain name")]
    Recipient,
    /// There is no recipient.
    #[error("stored message has no recipient")]
    NoRecipient,
    /// A name or an ARN is invalid.
    #[error("stored parameter: {0}")]
    Parameter(#[from] ParameterError),
    /// The content is not a message.
    #[error("stored content: {0}")]
    Content(#[from] ContentError),
}

impl StoredMessage {
    /// What is stored of a permitted message.
    pub fn of(message: &Permitted) -> Self {
        let (envelope, granted) = (message.envelope(), message.granted());
        Self {
            reverse_path: envelope.reverse_path().mailbox().map(Mailbox::to_string),
            forward_paths: envelope.forward_paths().iter().map(ForwardPath::to_string).collect(),
            body: match envelope.parameters().body {
                BodyType::Unspecified => None,
                BodyType::SevenBit => Some(StoredBody::SevenBit),
                BodyType::EightBitMime => Some(StoredBody::EightBitMime),
            },
            rule: granted.rule.to_string(),
            app: granted.app.as_ref().map(AppName::to_string),
            permitted_by: granted.permitted_by.as_deref().map(str::to_owned),
            reverse_path_permitted: granted.reverse_path_permitted,
            send: StoredParameters::of(&granted.send),
        }
    }

    /// The message that was stored. The content must be the octets that were stored with it; they are not judged again.
    ///
    /// # Errors
    /// [`RestoreError`] if a value is not what was stored.
    pub fn restore(&self, id: QueueId, content: Bytes) -> Result<Permitted, RestoreError> {
        let reverse_path = match &self.reverse_path {
            Some(address) => ReversePath::Mailbox(Mailbox::parse(address)?),
            None => ReversePath::Null,
        };
        let mut paths = self
            .forward_paths
            .iter()
            .map(|address| ForwardPath::new(Mailbox::parse(address)?).ok_or(RestoreError::Recipient));
        let body = match self.body {
            None => BodyType::Unspecified,
            Some(StoredBody::SevenBit) => BodyType::SevenBit,
            Some(StoredBody::EightBitMime) => BodyType::EightBitMime,
        };
        let parameters = MailParameters { body, ..MailParameters::default() };
        let first = paths.next().ok_or(RestoreError::NoRecipient)??;
        let mut envelope = Envelope::new(reverse_path, parameters, first);
        for path in paths {
            envelope.add(path?);
        }
        let mut granted = Granted::by(RuleName::parse(&self.rule)?);
        granted.app = self.app.as_deref().map(AppName::parse).transpose()?;
        granted.permitted_by = self.permitted_by.as_deref().map(Arc::from);
        granted.reverse_path_permitted = self.reverse_path_permitted;
        granted.send = self.send.restore()?;
        // The limits in force when the message was accepted held; later, lower ones do not refuse it.
        let (header, mime) = (UNLIMITED_HEADER, unlimited_mime());
        let content = Content::parse(content, &header, mime)?;
        Ok(Permitted::restore(id.transaction(), Arc::new(envelope), content, Arc::new(granted)))
    }

    /// The application whose message this is.
    pub fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// The reverse-path; `None` for the null reverse-path.
    pub fn reverse_path(&self) -> Option<&str> {
        self.reverse_path.as_deref()
    }

    /// The recipients.
    pub fn forward_paths(&self) -> &[String] {
        &self.forward_paths
    }
}

/// Bounds that any accepted message keeps.
const UNLIMITED_HEADER: HeaderLimits =
    HeaderLimits { octets_max: usize::MAX, fields_max: usize::MAX, hops_max: usize::MAX };

fn unlimited_mime() -> MimeLimits {
    MimeLimits {
        depth_max: usize::MAX,
        parts_max: usize::MAX,
        header_octets_max: usize::MAX,
        header_fields_max: usize::MAX,
        parameters_max: usize::MAX,
        parameter_octets_max: usize::MAX,
    }
}

impl StoredParameters {
    fn of(send: &SendParameters) -> Self {
        let tags = |tags: &Vec<Tag>| tags.iter().map(|tag| (tag.name.to_string(), tag.value.to_string())).collect();
        Self {
            configuration_set: send.configuration_set.as_ref().map(ConfigurationSetName::to_string),
            identity_arn: send.identity_arn.as_ref().map(IdentityArn::to_string),
            tags: send.tags.as_ref().map(tags),
            tenant: send.tenant.as_ref().map(TenantName::to_string),
            endpoint_id: send.endpoint_id.as_ref().map(EndpointId::to_string),
            contact_list: send
                .list_management
                .as_ref()
                .map(|list| (list.contact_list.to_string(), list.topic.as_ref().map(ListName::to_string))),
            feedback: send.feedback.as_ref().map(|feedback| match feedback {
                Feedback::ReversePath => StoredFeedback::ReversePath,
                Feedback::Fixed(mailbox) => StoredFeedback::Fixed(mailbox.to_string()),
                Feedback::Account => StoredFeedback::Account,
            }),
            role: send.role.as_ref().map(RoleArn::to_string),
        }
    }

    fn restore(&self) -> Result<SendParameters, RestoreError> {
        fn parse<T>(
            text: Option<&String>,
            parse: fn(&str) -> Result<T, ParameterError>,
        ) -> Result<Option<T>, ParameterError> {
            text.map(|text| parse(text)).transpose()
        }
        let tag =
            |(name, value): &(String, String)| Ok(Tag { name: TagName::parse(name)?, value: TagText::parse(value)? });
        let tags = self.tags.as_ref().map(|tags| tags.iter().map(tag).collect::<Result<_, ParameterError>>());
        let list = self.contact_list.as_ref().map(|(list, topic)| {
            Ok::<_, ParameterError>(ListManagement {
                contact_list: ListName::parse(list)?,
                topic: parse(topic.as_ref(), ListName::parse)?,
            })
        });
        let feedback = self.feedback.as_ref().map(|feedback| {
            Ok::<_, AddressError>(match feedback {
                StoredFeedback::ReversePath => Feedback::ReversePath,
                StoredFeedback::Fixed(address) => Feedback::Fixed(Mailbox::parse(address)?),
                StoredFeedback::Account => Feedback::Account,
            })
        });
        Ok(SendParameters {
            configuration_set: parse(self.configuration_set.as_ref(), ConfigurationSetName::parse)?,
            identity_arn: parse(self.identity_arn.as_ref(), IdentityArn::parse)?,
            tags: tags.transpose()?,
            tenant: parse(self.tenant.as_ref(), TenantName::parse)?,
            endpoint_id: parse(self.endpoint_id.as_ref(), EndpointId::parse)?,
            list_management: list.transpose()?,
            feedback: feedback.transpose()?,
            role: parse(self.role.as_ref(), RoleArn::parse)?,
        })
    }
}
