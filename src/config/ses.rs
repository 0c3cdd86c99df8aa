//! `[ses]`: how to reach Amazon SES.

use super::number::{Number, Seconds, SecondsOrZero};
use super::section::section;
use super::ses_parameters::ListOptions;
use super::values::{Arn, ConfigurationSet, EndpointIdText, FeedbackTo, HttpUrl, Role, TagValue, Tenant};
use crate::transport::ses::{SesSettings, SesTimeouts};
use std::collections::BTreeMap;

section! {
    /// Amazon SES: how to reach it, and the parameters of every call, unless the `[[app]]` of the message has its own.
    pub(crate) Ses {
        /// true or false: send to a built-in emulator on this machine instead of Amazon. No message leaves the machine, and no
        /// AWS setting of file, environment or profile is used. `[ses_emulator]` configures it.
        emulator: bool = false,
        /// A region such as "eu-central-1". Default: AWS_REGION, the profile, or the instance.
        #[schemars(example = &"eu-central-1")]
        region: Option<String> = None,
        /// A profile of the shared AWS configuration, which must exist. Default: AWS_PROFILE, or the default profile.
        /// Credentials come from environment, profile, container or instance, never from this file.
        #[schemars(example = &"mail")]
        profile: Option<String> = None,
        /// An https:// URL of a VPC endpoint, for example. Not together with fips or dual_stack. Default: the region's public
        /// endpoint.
        #[schemars(example = &"https://vpce-0123456789abcdef0-abcdefgh.email.eu-central-1.vpce.amazonaws.com")]
        endpoint_url: Option<HttpUrl> = None,
        /// true or false: use the region's FIPS endpoint.
        fips: bool = false,
        /// true or false: use the region's endpoint with IPv6 and IPv4.
        dual_stack: bool = false,
        /// Seconds for TCP and TLS.
        connect_seconds_max: Seconds = Number::seconds(SesTimeouts::default().connect),
        /// Seconds from the request to the end of the answer (its first byte, through a proxy). `[deadline]` ends an attempt
        /// earlier; this and the next two keys matter where the deadline is raised.
        read_seconds_max: Seconds = Number::seconds(SesTimeouts::default().read),
        /// Seconds for one attempt, credentials and signing included. The smaller of this and operation_seconds_max limits a
        /// call to SES.
        attempt_seconds_max: Seconds = Number::seconds(SesTimeouts::default().attempt),
        /// Seconds for the call as a whole. A call has one attempt: SES has no idempotency token, so a retry could send the
        /// message twice.
        operation_seconds_max: Seconds = Number::seconds(SesTimeouts::default().operation),
        /// Seconds that an idle connection is kept; 0: each call opens a connection. Choose less than the idle timeouts of load
        /// balancers, NAT gateways and proxies on the way: a call on a connection that they close may have been sent, and the
        /// client receives 451.
        idle_seconds_max: SecondsOrZero = Number::seconds(SesTimeouts::default().idle),
        /// true or false: the reply to a message that SES rejects (BadRequestException, MessageRejected) quotes the text of
        /// SES, without ARNs, account numbers and addresses that are not in the header section of the message. The log has
        /// the text in any case.
        error_text: bool = true,
    } [ses_parameters]
}

impl Ses {
    /// How to reach Amazon SES.
    pub(crate) fn settings(&self) -> SesSettings {
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
