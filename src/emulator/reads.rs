//! The read operations: GetAccount, GetEmailIdentity, GetConfigurationSet, GetSuppressedDestination.
//!
//! Members that SES always returns are returned; members without a counterpart in the emulator are omitted, as the
//! service model allows. Not limited to one request per second, as SES limits them.

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::address::Mailbox;
use super::refusal::{ErrorName, Refusal};
use super::reply::{self, Reply};
use super::settings::SuppressionReason;
use super::submission::{arn, no_such_set, principal};
use super::{Shared, lock, mailbox_simulator};

/// A reading operation and its argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Account,
    EmailIdentity(String),
    ConfigurationSet(String),
    SuppressedDestination(String),
}

pub(super) fn answer(shared: &Shared, read: &Read) -> Reply {
    match permit(shared, read).and_then(|()| look_up(shared, read)) {
        Ok(value) => reply::json(StatusCode::OK, &value),
        Err(refusal) => reply::refusal(&refusal),
    }
}

fn permit(shared: &Shared, read: &Read) -> Result<(), Refusal> {
    let settings = &shared.settings;
    let (action, resource) = match read {
        Read::Account => ("ses:GetAccount", "*".to_owned()),
        Read::EmailIdentity(name) => ("ses:GetEmailIdentity", arn(settings, "identity", name)),
        Read::ConfigurationSet(name) => ("ses:GetConfigurationSet", arn(settings, "configuration-set", name)),
        Read::SuppressedDestination(_) => ("ses:GetSuppressedDestination", "*".to_owned()),
    };
    match settings.denied_actions.get(action) {
        None => Ok(()),
        Some(denial) => {
            let text = denial.text(&principal(settings), action, &resource);
            Err(Refusal::new(ErrorName::AccessDeniedException, text))
        }
    }
}

fn look_up(shared: &Shared, read: &Read) -> Result<Value, Refusal> {
    let not_found = |text: String| Refusal::new(ErrorName::NotFoundException, text);
    match read {
        Read::Account => Ok(account(shared)),
        Read::EmailIdentity(name) => {
            let mut identities = shared.settings.identities.iter();
            let identity = identities.find(|identity| identity.name.eq_ignore_ascii_case(name));
            let identity = identity.ok_or_else(|| not_found(format!("Email identity <{name}> does not exist.")))?;
            let status = if identity.verified { "SUCCESS" } else { "PENDING" };
            let mut value = json!({
                "IdentityType": if identity.name.contains('@') { "EMAIL_ADDRESS" } else { "DOMAIN" },
                "FeedbackForwardingStatus": true,
                "VerifiedForSendingStatus": identity.verified,
                "VerificationStatus": status,
                "DkimAttributes": {"SigningEnabled": true, "Status": status, "SigningAttributesOrigin": "AWS_SES"},
                "Policies": {},
                "Tags": [],
            });
            if let (Some(set), Some(members)) = (&identity.configuration_set, value.as_object_mut()) {
                members.insert("ConfigurationSetName".to_owned(), json!(set));
            }
            Ok(value)
        }
        Read::ConfigurationSet(name) => {
            let set = shared.settings.configuration_sets.get(name).ok_or_else(|| no_such_set(name))?;
            Ok(json!({
                "ConfigurationSetName": name,
                "SendingOptions": {"SendingEnabled": set.sending_enabled},
                "DeliveryOptions": {"TlsPolicy": "OPTIONAL"},
                "ReputationOptions": {"ReputationMetricsEnabled": false},
                "SuppressionOptions": {},
                "Tags": [],
            }))
        }
        Read::SuppressedDestination(address) => {
            let mailbox = Mailbox::parse(address)?;
            let reason = mailbox_simulator::suppression_of(&mailbox, &shared.settings);
            let reason = reason.ok_or_else(|| {
                not_found(format!("Email address {address} does not exist on your suppression list."))
            })?;
            Ok(json!({"SuppressedDestination": {
                "EmailAddress": address,
                "Reason": match reason {
                    SuppressionReason::Bounce => "BOUNCE",
                    SuppressionReason::Complaint => "COMPLAINT",
                },
                // Seconds since 1970, the timestamp format of rest-json.
                "LastUpdateTime": shared.started.as_second(),
            }}))
        }
    }
}

fn account(shared: &Shared) -> Value {
    let account = &shared.settings.account;
    let reported = account.recipients_per_second_reported.or(account.recipients_per_second_max);
    let sent = lock(&shared.quota).sent_last_24_hours(Instant::now());
    json!({
        "DedicatedIpAutoWarmupEnabled": false,
        "EnforcementStatus": account.enforcement.as_str(),
        "ProductionAccessEnabled": account.production_access,
        "SendQuota": {
            "Max24HourSend": account.recipients_per_day_max.map_or(UNLIMITED, f64::from),
            "MaxSendRate": reported.unwrap_or(UNLIMITED_RATE),
            "SentLast24Hours": sent as f64,
        },
        "SendingEnabled": account.sending_enabled,
        "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
    })
}

/// SES API v2 reference, `SendQuota`: -1 is an unlimited quota.
const UNLIMITED: f64 = -1.0;
/// The API has no unlimited rate; this is more than the emulator can serve.
const UNLIMITED_RATE: f64 = 100_000.0;
