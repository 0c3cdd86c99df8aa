//! Amazon SES v2: one `SendEmail` call with raw content per message.
//!
//! `Destination` has every recipient of the envelope, so SES takes none from header fields. `FromEmailAddress` and
//! `ReplyToAddresses` are not set: they would replace header fields of the message. `FeedbackForwardingEmailAddress` is the
//! address for bounces, as MAIL FROM is for SES's own SMTP endpoint. The SDK's retries are off, because a retry could send a
//! message twice, and each call has a time limit, because the SDK has none.
//! API reference, "SendEmail"; guide, "Sending raw email using the Amazon SES API v2".

mod calls;
mod client;
mod codes;
mod credentials;
mod document;
mod error_text;
mod faults;
mod first_poll;
mod http;
mod outcomes;
mod settings;
mod wire;

pub use settings::{RoleSettings, SesError, SesSettings, SesTimeouts, StaticCredentials};

use super::Transport;
use crate::mail::parameters::{ConfigurationSetName, RoleArn, Tag};
use crate::mail::{
    AccountQuota, Envelope, Granted, MessageId, Outcome, OutcomeKind, Permitted, ReadError, SENDING_PAUSED, boxed,
    replies,
};
use async_trait::async_trait;
use aws_sdk_sesv2::config::http::HttpResponse;
use aws_sdk_sesv2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sesv2::operation::send_email::SendEmailInput;
use aws_sdk_sesv2::primitives::Blob;
use aws_sdk_sesv2::types::{Destination, EmailContent, ListManagementOptions, MessageTag, RawMessage};
use calls::SesApi;
use faults::At;
use first_poll::Writers;
use outcomes::Identities;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Sends messages through SES.
#[derive(Clone, Debug)]
pub struct SesTransport {
    client: SesApi,
    /// The role that `client` assumes.
    own_role: Option<String>,
    /// One client for each role that a message may be sent as, with its own temporary credentials.
    roles: HashMap<RoleArn, SesApi>,
    /// The longest duration of a call, also with a later deadline.
    call_max: Duration,
    /// Whether SES's text for a message that it rejects goes into the reply.
    error_text: bool,
    writers: Writers,
}

impl SesTransport {
    /// Makes the clients for these settings and each of their roles. Credentials are resolved when the first message is sent,
    /// not here.
    ///
    /// # Errors
    /// [`SesError`] if the settings contradict each other or name no region.
    pub async fn connect(settings: SesSettings) -> Result<Self, SesError> {
        let http = client::http(&settings)?;
        let mut roles = HashMap::new();
        for role in &settings.roles {
            roles.insert(role.arn.clone(), client::connect(settings.as_role(role), http.clone()).await?);
        }
        let (call_max, error_text) = (settings.timeouts.call(), !settings.hide_error_text);
        let own_role = settings.assume_role.clone();
        let client = client::connect(settings, http).await?;
        Ok(Self { client, own_role, roles, call_max, error_text, writers: Writers::default() })
    }

    /// The region of SES: from the settings, or else from environment, profile or instance.
    pub fn region(&self) -> &str {
        self.client.region()
    }

    /// The context of calls as a role, for error texts.
    fn at<'a>(&'a self, role: Option<&'a RoleArn>, set: Option<&'a ConfigurationSetName>) -> At<'a> {
        let role = role.map(RoleArn::as_str).or(self.own_role.as_deref());
        At { region: self.region(), role, set: set.map(ConfigurationSetName::as_str) }
    }

    /// Reads the quota of the account.
    async fn account(&self, calls: &SesApi, at: At<'_>) -> Result<AccountQuota, ReadError> {
        let account = self.ask(calls, calls.get_account(), at).await?;
        let unknown = || ReadError::Unavailable("SES answered GetAccount without a send quota".to_owned());
        let quota = account.send_quota().ok_or_else(unknown)?;
        let (rate, most) = (quota.max_send_rate(), quota.max24_hour_send());
        if !rate.is_finite() || rate < 0.0 {
            return Err(unknown());
        }
        Ok(AccountQuota {
            recipients_per_second_max: rate,
            // -1: unlimited.
            recipients_per_24_hours_max: (most >= 0.0).then_some(most),
            recipients_last_24_hours: quota.sent_last24_hours(),
            sending_enabled: account.sending_enabled(),
        })
    }

    /// Makes a read-only call, with a time limit.
    async fn ask<T, E: ProvideErrorMetadata + std::error::Error + 'static>(
        &self,
        calls: &SesApi,
        question: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        at: At<'_>,
    ) -> Result<T, ReadError> {
        let late = |_| ReadError::Unavailable(format!("no answer within {:?}", self.call_max));
        timeout(self.call_max, question).await.map_err(late)?.map_err(|error| {
            if outcomes::refuses_credentials(&error) {
                calls.forget_credentials();
            }
            faults::of_question(&error, at)
        })
    }

    /// The call for a message, and the client to make it with.
    fn request(&self, message: Permitted) -> Result<(SendEmailInput, &SesApi), Box<Outcome>> {
        let malformed =
            |detail: String| Box::new(Outcome::not_sent(OutcomeKind::Refused, replies::BAD_REQUEST, detail));
        let (envelope, content, granted) = message.into_parts();
        let (feedback, feedback_arn) = feedback(&envelope, &granted);
        let send = &granted.send;
        let client = match &send.role {
            None => &self.client,
            Some(role) => self.roles.get(role).ok_or_else(|| {
                Box::new(Outcome::not_sent(OutcomeKind::OperatorError, replies::OPERATOR_ERROR, no_such_role(role)))
            })?,
        };
        let raw = RawMessage::builder()
            .data(Blob::from_maybe_shared(content.into_octets()))
            .build()
            .map_err(|error| malformed(error.to_string()))?;
        // All as blind recipients: SES does not change header fields by the kind of recipient.
        let recipients = envelope.forward_paths().iter().map(ToString::to_string).collect();
        let mut call = SendEmailInput::builder()
            .content(EmailContent::builder().raw(raw).build())
            .destination(Destination::builder().set_bcc_addresses(Some(recipients)).build())
            .set_configuration_set_name(send.configuration_set.as_ref().map(ToString::to_string))
            .set_feedback_forwarding_email_address(feedback);
        // Set only where needed: each setter moves the whole builder.
        if let Some(arn) = &send.identity_arn {
            call = call.from_email_address_identity_arn(arn.to_string());
        }
        if let Some(arn) = feedback_arn {
            call = call.feedback_forwarding_email_address_identity_arn(arn);
        }
        if let Some(name) = &send.tenant {
            call = call.tenant_name(name.to_string());
        }
        if let Some(id) = &send.endpoint_id {
            call = call.endpoint_id(id.to_string());
        }
        for Tag { name, value } in send.tags.iter().flatten() {
            let tag = MessageTag::builder().name(name.as_str()).value(value.as_str()).build();
            call = call.email_tags(tag.map_err(|error| malformed(error.to_string()))?);
        }
        if let Some(list) = &send.list_management {
            let options = ListManagementOptions::builder()
                .contact_list_name(list.contact_list.as_str())
                .set_topic_name(list.topic.as_ref().map(|name| name.to_string()))
                .build();
            call = call.list_management_options(options.map_err(|error| malformed(error.to_string()))?);
        }
        Ok((call.build().map_err(|error| malformed(error.to_string()))?, client))
    }
}

fn no_such_role(role: &RoleArn) -> String {
    format!("policy requires {role}, and the transport has no such role")
}

/// Where bounces go, and the identity that has to permit it.
fn feedback(envelope: &Envelope, granted: &Granted) -> (Option<String>, Option<String>) {
    let address = granted.send.feedback_address(envelope, granted.reverse_path_permitted);
    let arn = granted.send.identity_arn.as_ref().filter(|_| address.is_some());
    (address.map(ToString::to_string), arn.map(ToString::to_string))
}

#[async_trait]
impl Transport for SesTransport {
    async fn send(&self, message: Permitted, deadline: std::time::Instant) -> Outcome {
        let identities = Identities { envelope: message.envelope_shared(), content: message.content().clone() };
        let granted = message.granted_shared();
        let (call, client) = match self.request(message) {
            Ok(call) => call,
            Err(outcome) => return *outcome,
        };
        let deadline = deadline.into();
        let longest = Instant::now().checked_add(self.call_max).unwrap_or(deadline);
        let large = identities.content.octets().len() >= first_poll::OCTETS_MIN;
        let sent = async {
            match large {
                false => Some(boxed(|| client.send_email(call)).await),
                true => {
                    let client = client.clone();
                    boxed(|| self.writers.run(async move { client.send_email(call).await })).await
                }
            }
        };
        match timeout_at(longest.min(deadline), sent).await {
            Ok(Some(Ok(output))) => match output.message_id().and_then(MessageId::new) {
                Some(id) => Outcome::sent(id),
                None => outcomes::no_response("SES answered 200 without a message id"),
            },
            Ok(Some(Err(error))) => {
                if outcomes::refuses_credentials(&error) {
                    client.forget_credentials();
                }
                let send = &granted.send;
                let at = self.at(send.role.as_ref(), send.configuration_set.as_ref());
                outcomes::of_error(&error, &identities, at, self.error_text)
            }
            Ok(None) => outcomes::no_response("the thread that wrote the call has ended"),
            Err(_) if longest < deadline => outcomes::no_response(format!("no answer within {:?}", self.call_max)),
            Err(_) => outcomes::no_response("no answer before the deadline"),
        }
    }

    async fn quota(&self) -> Result<AccountQuota, ReadError> {
        self.account(&self.client, self.at(None, None)).await
    }

    async fn check(&self, role: Option<&RoleArn>, set: Option<&ConfigurationSetName>) -> Result<(), ReadError> {
        let calls = match role {
            None => &self.client,
            Some(role) => self.roles.get(role).ok_or_else(|| ReadError::Fault(no_such_role(role)))?,
        };
        let at = self.at(role, set);
        let Some(set) = set else {
            let account = self.account(calls, at).await?;
            return if account.sending_enabled { Ok(()) } else { Err(ReadError::Fault(SENDING_PAUSED.to_owned())) };
        };
        let answer = self.ask(calls, calls.get_configuration_set(set.as_str()), at).await?;
        match answer.sending_options().is_some_and(|options| !options.sending_enabled()) {
            true => Err(ReadError::Missing(faults::paused_set(set.as_str()))),
            false => Ok(()),
        }
    }

    fn octets_held(&self, message_octets: u64) -> u64 {
        octets_held(message_octets)
    }
}

/// Octets of memory that an attempt with a message of this size needs at its peak.
pub fn octets_held(message_octets: u64) -> u64 {
    message_octets.saturating_mul(OCTETS_HELD_PER_OCTET)
}

/// The message and, until it is complete, its base64 text (4/3), and the buffers of the HTTP client and the kernel. Measured with
/// 10 and 28 MB messages as growth of peak resident memory over message size: 2.3 to 2.7 times (`src/manual/walk.md`).
const OCTETS_HELD_PER_OCTET: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::parameters::{Feedback, IdentityArn};
    use crate::mail::{ForwardPath, MailParameters, Mailbox, ReversePath, RuleName, SendParameters};

    #[test]
    fn bounces_go_where_policy_and_identity_allow() {
        let mailbox = |text: &str| Mailbox::parse(text).unwrap();
        let envelope = |path: &str| {
            let reverse = if path.is_empty() { ReversePath::Null } else { ReversePath::Mailbox(mailbox(path)) };
            Envelope::new(reverse, MailParameters::default(), ForwardPath::new(mailbox("to@b.example")).unwrap())
        };
        let granted =
            |permitted| Granted { reverse_path_permitted: permitted, ..Granted::by(RuleName::parse("test").unwrap()) };
        let send = |feedback: Option<Feedback>, arn: Option<&str>| SendParameters {
            feedback,
            identity_arn: arn.map(|text| IdentityArn::parse(text).unwrap()),
            ..SendParameters::default()
        };
        let arn = "arn:aws:ses:us-east-1:111122223333:identity/a.example";
        for (name, path, permitted, send, want, want_arn) in [
            ("the reverse-path", "x@a.example", true, send(None, None), Some("x@a.example"), false),
            ("not checked", "x@a.example", false, send(None, None), None, false),
            ("null", "", true, send(None, None), None, false),
            ("off", "x@a.example", true, send(Some(Feedback::Account), None), None, false),
            (
                "fixed",
                "x@a.example",
                true,
                send(Some(Feedback::Fixed(mailbox("f@a.example"))), None),
                Some("f@a.example"),
                false,
            ),
            ("of that identity", "x@a.example", true, send(None, Some(arn)), Some("x@a.example"), true),
            ("of another identity", "x@c.example", true, send(None, Some(arn)), None, false),
        ] {
            let got = feedback(&envelope(path), &Granted { send, ..granted(permitted) });
            assert_eq!(got, (want.map(str::to_owned), want_arn.then(|| arn.to_owned())), "{name}");
        }
    }

    /// The URL stands in log lines.
    #[tokio::test]
    async fn an_endpoint_url_with_a_password_is_refused_and_not_shown() {
        let pair = StaticCredentials { access_key_id: "id".to_owned(), secret_access_key: "secret".to_owned() };
        let transport = SesTransport::connect(SesSettings {
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some("https://user:hunter2@ses.example".to_owned()),
            credentials: Some(pair),
            ..SesSettings::default()
        });
        let error = transport.await.err().unwrap().to_string();
        assert!(error.contains("has an @") && !error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn a_question_about_the_quota_has_an_end() {
        let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pair = StaticCredentials { access_key_id: "id".to_owned(), secret_access_key: "secret".to_owned() };
        let transport = SesTransport::connect(SesSettings {
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some(format!("http://{}", mute.local_addr().unwrap())),
            credentials: Some(pair),
            timeouts: SesTimeouts { attempt: Duration::from_millis(100), ..SesTimeouts::default() },
            ..SesSettings::default()
        });
        let error = transport.await.unwrap().quota().await.unwrap_err();
        assert_eq!(error.to_string(), ReadError::Unavailable("no answer within 100ms".to_owned()).to_string());
    }
}
