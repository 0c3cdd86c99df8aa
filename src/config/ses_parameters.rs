//! Keys about the calls to SES that `[ses]` and `[[app]]` share.

use super::diagnostics::Diagnostics;
use super::section::group;
use super::values::{Arn, ConfigurationSet, EndpointIdText, FeedbackTo, List, Role, TagValue, Tenant};
use crate::mail::SendParameters;
use crate::mail::parameters::{ListManagement, TAGS_MAX, TagName};
use crate::policy::TagTemplate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

group! { ($)
    /// Parameters of the calls to SES. `[ses]` has the defaults of every application.
    SesParameters, ses_parameters {
        /// The ARN of an IAM role to send as, assumed with the credentials that the AWS SDK finds. The role of an `[[app]]` takes
        /// the place of ses.assume_role.
        #[schemars(example = &"arn:aws:iam::111122223333:role/gatepost")]
        assume_role: Option<Role>,
        /// The external id that the role requires.
        #[schemars(example = &"relay-7")]
        external_id: Option<String>,
        /// The configuration set that messages are sent with, 1 to 64 of A-Z a-z 0-9 _ -.
        #[schemars(example = &"transactional")]
        configuration_set: Option<ConfigurationSet>,
        /// The ARN of an identity of another account that authorised this one. Messages of authors that it does not cover are
        /// rejected with 550 5.7.1.
        #[schemars(example = &"arn:aws:ses:eu-central-1:111122223333:identity/example.com")]
        identity_arn: Option<Arn>,
        /// Message tags: NAME = "VALUE", each 1 to 256 of A-Z a-z 0-9 _ -; in a value, {app} becomes the name of the application
        /// ("default" for clients without one) and {auth} the AUTH name, with _ for characters that a tag cannot have. A tag
        /// with {auth} is left out for clients that did not authenticate. ses:feedback-id-a and ses:feedback-id-b are names
        /// too. 50 at most.
        #[schemars(example = serde_json::json!({ "app": "{app}", "user": "{auth}" }))]
        tags: BTreeMap<String, TagValue>,
        /// The name of a tenant.
        #[schemars(example = &"shop")]
        tenant: Option<Tenant>,
        /// The id of a multi-region endpoint.
        #[schemars(example = &"abc123.def456")]
        endpoint_id: Option<EndpointIdText>,
        /// A contact list, and maybe a topic, for SES list management.
        #[schemars(example = serde_json::json!({ "contact_list": "customers", "topic": "news" }))]
        list_management: Option<ListOptions>,
        /// reverse-path, account or an address: where SES sends bounces and complaints. reverse-path, the default: to the
        /// client's MAIL FROM, as SES's own SMTP endpoint does; account: as the SES account is set up.
        #[schemars(example = &"reverse-path")]
        feedback: Option<FeedbackTo>,
    }
}

/// SES list management.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListOptions {
    /// The name of the contact list.
    pub(crate) contact_list: List,
    /// The name of a topic of that list.
    #[serde(default)]
    pub(crate) topic: Option<List>,
}

/// The parameters of one application, or those that every application has by default.
pub(super) struct Parameters {
    pub(super) send: SendParameters,
    pub(super) tags: Vec<TagTemplate>,
}

impl Parameters {
    /// Those of `[ses]`. The role that the relay itself sends as belongs to the transport.
    pub(super) fn common(ses: &SesParameters, diagnostics: &mut Diagnostics<'_>) -> Self {
        Self { send: SendParameters { role: None, ..ses.send() }, tags: ses.tags("ses", diagnostics) }
    }

    /// Those of an application: its own, and these where it has none. Tags are not merged.
    pub(super) fn narrow(&self, own: &SesParameters, path: &str, diagnostics: &mut Diagnostics<'_>) -> Self {
        if own.external_id.is_some() && own.assume_role.is_none() {
            let hint = "it belongs to a role that is assumed";
            diagnostics.error(&format!("{path}.external_id"), "external_id without assume_role", hint);
        }
        let tags = if own.tags.is_empty() { self.tags.clone() } else { own.tags(path, diagnostics) };
        Self { send: own.send().or(&self.send), tags }
    }
}

impl SesParameters {
    /// All but the tags, which are templates.
    fn send(&self) -> SendParameters {
        SendParameters {
            configuration_set: self.configuration_set.as_ref().map(|name| name.0.clone()),
            identity_arn: self.identity_arn.as_ref().map(|arn| arn.0.clone()),
            tags: None,
            tenant: self.tenant.as_ref().map(|name| name.0.clone()),
            endpoint_id: self.endpoint_id.as_ref().map(|id| id.0.clone()),
            list_management: self.list_management.as_ref().map(|list| ListManagement {
                contact_list: list.contact_list.0.clone(),
                topic: list.topic.as_ref().map(|topic| topic.0.clone()),
            }),
            feedback: self.feedback.as_ref().map(|feedback| feedback.0.clone()),
            role: self.assume_role.as_ref().map(|role| role.0.clone()),
        }
    }

    fn tags(&self, path: &str, diagnostics: &mut Diagnostics<'_>) -> Vec<TagTemplate> {
        if self.tags.len() > TAGS_MAX {
            let message = format!("{} tags, and SES takes {TAGS_MAX}", self.tags.len());
            diagnostics.error(&format!("{path}.tags"), message, "remove some of them");
        }
        let mut made = Vec::new();
        for (name, value) in &self.tags {
            match TagName::parse(name) {
                Ok(name) => made.push(TagTemplate { name, value: value.0.clone() }),
                Err(_) => {
                    let path = format!("{path}.tags.{name}");
                    let hint = "1 to 256 of A-Z a-z 0-9 _ -";
                    diagnostics.error(&path, format!("{name:?} cannot be the name of a tag"), hint);
                }
            }
        }
        made
    }
}
