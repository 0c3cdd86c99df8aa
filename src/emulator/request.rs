//! Parses the body of SendEmail: JSON to parameters and octets.
//!
//! The JSON is parsed once. The base64 text is removed from the parsed value and decoded once; what remains is the
//! request without its content, which is stored with the message. Unknown members are ignored, as AWS ignores them, but
//! are visible there. `Content.Simple` and `Content.Template` are not emulated and are refused. SES API v2 reference,
//! `SendEmail`; botocore 1.44.5, `sesv2`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::refusal::{ErrorName, Refusal};

/// Envelope recipients as the request groups them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// `ToAddresses`.
    pub to: Vec<String>,
    /// `CcAddresses`.
    pub cc: Vec<String>,
    /// `BccAddresses`.
    pub bcc: Vec<String>,
}

impl Destination {
    /// All of them, in the order To, Cc, Bcc.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        [&self.to, &self.cc, &self.bcc].into_iter().flatten().map(String::as_str)
    }
}

/// The parameters of SendEmail that are not content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendParameters {
    /// `FromEmailAddress`: replaces the From field.
    pub from_email_address: Option<String>,
    /// `FromEmailAddressIdentityArn`.
    pub from_email_address_identity_arn: Option<String>,
    /// `Destination`. `None` if the request has none: recipients then come from the header.
    pub destination: Option<Destination>,
    /// `ReplyToAddresses`.
    pub reply_to_addresses: Vec<String>,
    /// `FeedbackForwardingEmailAddress`.
    pub feedback_forwarding_email_address: Option<String>,
    /// `FeedbackForwardingEmailAddressIdentityArn`.
    pub feedback_forwarding_email_address_identity_arn: Option<String>,
    /// `EmailTags`, as name and value.
    pub email_tags: Vec<(String, String)>,
    /// `ConfigurationSetName`.
    pub configuration_set_name: Option<String>,
    /// `EndpointId`.
    pub endpoint_id: Option<String>,
    /// `TenantName`.
    pub tenant_name: Option<String>,
}

/// One SendEmail request, parsed but not checked.
#[derive(Debug)]
pub(super) struct SendRequest {
    pub(super) parameters: SendParameters,
    pub(super) raw: Bytes,
    /// Octets of the content as it travelled, in base64.
    pub(super) encoded_octets: usize,
    /// The request as JSON, without `Content.Raw.Data`.
    pub(super) json: Value,
}

impl SendRequest {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let mut json: Value =
            serde_json::from_slice(body).map_err(|_| Refusal::from(ErrorName::SerializationException))?;
        if !json.is_object() {
            return Err(ErrorName::SerializationException.into());
        }
        let encoded = take_data(&mut json)?;
        let raw = STANDARD.decode(&encoded).map_err(|_| wrong_type("Content.Raw.Data"))?;
        let top = Members::of(&json, "");
        let destination = match top.object("Destination")? {
            None => None,
            Some(lists) => Some(Destination {
                to: lists.texts("ToAddresses")?,
                cc: lists.texts("CcAddresses")?,
                bcc: lists.texts("BccAddresses")?,
            }),
        };
        let parameters = SendParameters {
            from_email_address: top.text("FromEmailAddress")?,
            from_email_address_identity_arn: top.text("FromEmailAddressIdentityArn")?,
            destination,
            reply_to_addresses: top.texts("ReplyToAddresses")?,
            feedback_forwarding_email_address: top.text("FeedbackForwardingEmailAddress")?,
            feedback_forwarding_email_address_identity_arn: top.text("FeedbackForwardingEmailAddressIdentityArn")?,
            email_tags: top.tags()?,
            configuration_set_name: top.text("ConfigurationSetName")?,
            endpoint_id: top.text("EndpointId")?,
            tenant_name: top.text("TenantName")?,
        };
        Ok(Self { parameters, raw: Bytes::from(raw), encoded_octets: encoded.len(), json })
    }
}

/// Removes the text of `Content.Raw.Data` from the request.
fn take_data(json: &mut Value) -> Result<String, Refusal> {
    let content = json.get_mut("Content").and_then(Value::as_object_mut);
    let content = content.ok_or_else(|| {
        Refusal::bad_request(
            "1 validation error detected: Value at 'content' failed to satisfy constraint: Member must not be null",
        )
    })?;
    if ["Simple", "Template"].iter().any(|kind| content.get(*kind).is_some_and(|value| !value.is_null())) {
        return Err(Refusal::bad_request("The emulator supports Content.Raw only."));
    }
    match content.get_mut("Raw").and_then(Value::as_object_mut).and_then(|raw| raw.remove("Data")) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) | None => Err(Refusal::bad_request("Content.Raw.Data is missing.")),
        Some(_) => Err(wrong_type("Content.Raw.Data")),
    }
}

/// Typed access to the members of a JSON object. A null counts as an absent member.
struct Members<'a> {
    map: Option<&'a Map<String, Value>>,
    path: String,
}

impl<'a> Members<'a> {
    fn of(value: &'a Value, path: &str) -> Self {
        Self { map: value.as_object(), path: path.to_owned() }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    fn object(&self, name: &str) -> Result<Option<Members<'a>>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(value @ Value::Object(_)) => Ok(Some(Members::of(value, &format!("{}{name}.", self.path)))),
            Some(_) => Err(self.wrong(name)),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.get(name).map(|value| value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name))).transpose()
    }

    fn list(&self, name: &str) -> Result<&'a [Value], Refusal> {
        self.get(name).map_or(Ok(&[]), |value| value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(name)))
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        self.list(name)?.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name))).collect()
    }

    fn tags(&self) -> Result<Vec<(String, String)>, Refusal> {
        let tag = |value: &Value| {
            let member = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
            Some((member("Name")?, member("Value")?))
        };
        self.list("EmailTags")?.iter().map(|value| tag(value).ok_or_else(|| self.wrong("EmailTags"))).collect()
    }

    fn wrong(&self, name: &str) -> Refusal {
        wrong_type(&format!("{}{name}", self.path))
    }
}

fn wrong_type(path: &str) -> Refusal {
    Refusal::new(ErrorName::SerializationException, format!("{path} has the wrong type or form."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_every_parameter_and_keeps_the_request_without_its_content() {
        let body = json!({
            "FromEmailAddress": "a@example.com",
            "Destination": {"ToAddresses": ["b@example.com"], "BccAddresses": ["c@example.com"], "CcAddresses": null},
            "EmailTags": [{"Name": "n", "Value": "v"}],
            "TenantName": "t",
            "Content": {"Raw": {"Data": "RnJvbTogYQ=="}},
            "NewMember": 1,
        });
        let request = SendRequest::read(body.to_string().as_bytes()).expect("reads");
        assert_eq!(&request.raw[..], b"From: a");
        assert_eq!(request.encoded_octets, 12);
        let destination = request.parameters.destination.expect("present");
        assert_eq!(destination.all().collect::<Vec<_>>(), ["b@example.com", "c@example.com"]);
        assert_eq!(request.parameters.email_tags, [("n".to_owned(), "v".to_owned())]);
        assert_eq!(request.json["NewMember"], 1);
        assert_eq!(request.json["Content"], json!({"Raw": {}}));
    }

    #[test]
    fn refuses_what_is_not_a_raw_send_request() {
        for (body, want) in [
            ("", ErrorName::SerializationException),
            ("[]", ErrorName::SerializationException),
            ("{}", ErrorName::BadRequestException),
            (r#"{"Content":{"Simple":{}}}"#, ErrorName::BadRequestException),
            (r#"{"Content":{"Raw":{}}}"#, ErrorName::BadRequestException),
            (r#"{"Content":{"Raw":{"Data":"?"}}}"#, ErrorName::SerializationException),
            (r#"{"Content":{"Raw":{"Data":""}},"TenantName":1}"#, ErrorName::SerializationException),
            (r#"{"Content":{"Raw":{"Data":""}},"Destination":{"ToAddresses":"a"}}"#, ErrorName::SerializationException),
            (r#"{"Content":{"Raw":{"Data":""}},"EmailTags":[{"Name":"a"}]}"#, ErrorName::SerializationException),
        ] {
            assert_eq!(
                SendRequest::read(body.as_bytes()).map(|_| ()).map_err(|refusal| refusal.name),
                Err(want),
                "{body}"
            );
        }
    }
}
