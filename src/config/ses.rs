//! The sections of the file about Amazon SES: the API, what messages get there, and the emulator in its place.

use super::number::{Count, Number, Seconds, SecondsOrZero};
use super::rules::{SesParameters, section};
use super::values::{Arn, ConfigurationSet, EndpointIdText, FeedbackTo, HttpUrl, List, Role, TagValue, Tenant};
use crate::emulator::{self, AccountSettings, EmulatorSettings};
use crate::mail::SendParameters;
use crate::mail::parameters::ListManagement;
use crate::transport::ses::{SesSettings, SesTimeouts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// How to reach Amazon SES, and what every message gets there.
    Ses {
        /// true or false: send to a built-in emulator on this machine instead of Amazon. Nothing leaves; no AWS setting of
        /// file, environment or profile is used. What it looks like is in `[ses_emulator]`.
        emulator: bool = false,
        /// A region such as "eu-central-1". Default: AWS_REGION, the profile, or the instance.
        region: Option<String> = None,
        /// A profile of the shared AWS configuration, which must exist. Default: AWS_PROFILE, or the default profile.
        profile: Option<String> = None,
        /// An https:// URL of a VPC endpoint, for example. Default: the region's public endpoint.
        endpoint_url: Option<HttpUrl> = None,
        /// true or false: use the region's FIPS endpoint.
        fips: bool = false,
        /// true or false: use the region's endpoint with IPv6 and IPv4.
        dual_stack: bool = false,
        /// Seconds for TCP and TLS.
        connect_seconds_max: Seconds = Number::seconds(SesTimeouts::default().connect),
        /// Seconds from the request to the end of the answer (its first octet, by way of a proxy). `[deadline]` ends an
        /// attempt earlier; this is for when it is raised.
        read_seconds_max: Seconds = Number::seconds(SesTimeouts::default().read),
        /// Seconds for one attempt, credentials and signing included. The smaller of this and operation_seconds_max bounds a
        /// call to SES.
        attempt_seconds_max: Seconds = Number::seconds(SesTimeouts::default().attempt),
        /// Seconds for the call as a whole. There is one attempt a call.
        operation_seconds_max: Seconds = Number::seconds(SesTimeouts::default().operation),
        /// Seconds that a connection is kept without a call; 0: each call has a connection of its own. Keep it below what
        /// load balancers, NAT gateways and proxies on the way allow.
        idle_seconds_max: SecondsOrZero = Number::seconds(SesTimeouts::default().idle),
        /// true or false: the reply to a message that SES rejects (BadRequestException, MessageRejected) has SES's own text in
        /// it, without ARNs, account numbers and addresses that do not stand in the message's header section.
        error_text: bool = true,
    } [ses_parameters]
}

/// SES list management.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListOptions {
    /// The name of the contact list.
    pub contact_list: List,
    /// The name of a topic of that list.
    #[serde(default)]
    pub topic: Option<List>,
}

impl Ses {
    /// How to reach Amazon.
    pub fn settings(&self) -> SesSettings {
        SesSettings {
            region: self.region.clone(),
            profile: self.profile.clone(),
            credentials: None,
            assume_role: self.assume_role.as_ref().map(ToString::to_string),
            external_id: self.external_id.clone(),
            roles: Vec::new(),
            endpoint_url: self.endpoint_url.as_ref().map(|url| url.0.clone()),
            fips: self.fips,
            dual_stack: self.dual_stack,
            timeouts: self.timeouts(),
            hide_error_text: !self.error_text,
        }
    }

    pub(super) fn timeouts(&self) -> SesTimeouts {
        SesTimeouts {
            connect: self.connect_seconds_max.wait(),
            read: self.read_seconds_max.wait(),
            attempt: self.attempt_seconds_max.wait(),
            operation: self.operation_seconds_max.wait(),
            idle: self.idle_seconds_max.wait(),
        }
    }
}

impl SesParameters {
    /// As policy grants it. Tags stand apart: they have blanks.
    pub(super) fn parameters(&self) -> SendParameters {
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
}

/// The account that the emulator plays, used where ses.emulator is true.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SesEmulator {
    /// A loopback IP:PORT; port 0 is any free one.
    pub listen: SocketAddr,
    /// A directory where accepted mail is kept as ID.eml and ID.json; made if missing, never emptied. Default: mail is
    /// kept in memory only.
    pub directory: Option<PathBuf>,
    /// A list of verified domains and addresses. A domain covers its subdomains.
    pub identities: Vec<String>,
    /// A list of names of configuration sets that exist.
    pub configuration_sets: Vec<ConfigurationSet>,
    /// Milliseconds that every send waits before it is looked at.
    pub latency_milliseconds: Number<0, 600_000>,
    /// true or false: an account without production access, which may send to verified identities only; with a rate of 1
    /// and a quota of 200 where none is set.
    pub sandbox: bool,
    /// Recipients a second; above it SES throttles. Default: no bound.
    pub recipients_per_second_max: Option<f64>,
    /// Recipients that may come at once: the size of SES's bucket, which AWS does not tell. Default: one second's worth.
    pub recipients_at_once_max: Option<Count>,
    /// Recipients in 24 hours. Default: no bound.
    pub recipients_per_day_max: Option<Count>,
}

impl Default for SesEmulator {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            directory: None,
            identities: vec!["example.com".to_owned()],
            configuration_sets: ["gatepost-dev".parse().ok()].into_iter().flatten().collect(),
            latency_milliseconds: Number::of(0),
            sandbox: false,
            recipients_per_second_max: None,
            recipients_at_once_max: None,
            recipients_per_day_max: None,
        }
    }
}

impl SesEmulator {
    /// As the emulator takes them.
    pub fn settings(&self, region: Option<&str>) -> EmulatorSettings {
        let base = if self.sandbox { AccountSettings::sandbox() } else { AccountSettings::default() };
        let account = AccountSettings {
            recipients_per_second_max: self.recipients_per_second_max.or(base.recipients_per_second_max),
            recipients_at_once_max: self.recipients_at_once_max.map(Number::small),
            recipients_per_day_max: self.recipients_per_day_max.map(Number::small).or(base.recipients_per_day_max),
            ..base
        };
        let defaults = EmulatorSettings::default();
        EmulatorSettings {
            listen: self.listen,
            region: region.map_or(defaults.region, str::to_owned),
            identities: self.identities.iter().map(emulator::Identity::verified).collect(),
            configuration_sets: self
                .configuration_sets
                .iter()
                .map(|name| (name.to_string(), emulator::ConfigurationSet::default()))
                .collect(),
            account,
            directory: self.directory.clone(),
            latency: Duration::from_millis(self.latency_milliseconds.get()),
            ..EmulatorSettings::default()
        }
    }
}
