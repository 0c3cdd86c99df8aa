//! Settings of the SES transport, and what they resolve to.

use crate::mail::parameters::RoleArn;
use aws_config::Region;
use aws_sdk_sesv2::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_sesv2::error::BoxError;
use aws_types::region::SigningRegionSet;
use std::fmt;
use std::time::Duration;

/// How to reach SES.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SesSettings {
    /// Region; `None`: from the environment, the profile or the instance.
    pub region: Option<String>,
    /// Profile of the shared configuration; `None`: the default one.
    pub profile: Option<String>,
    /// Credentials to use instead of the chain (environment, profile, container, instance).
    pub credentials: Option<StaticCredentials>,
    /// A role to assume with the chain's credentials.
    pub assume_role: Option<String>,
    /// The external id for that role.
    pub external_id: Option<String>,
    /// Roles that a message may be sent as, beside the one above.
    pub roles: Vec<RoleSettings>,
    /// Endpoint URL, a VPC endpoint's for example; `None`: the region's.
    pub endpoint_url: Option<String>,
    /// The region's FIPS endpoint.
    pub fips: bool,
    /// The region's dual-stack endpoint.
    pub dual_stack: bool,
    /// Timeouts.
    pub timeouts: SesTimeouts,
    /// Keep SES's own text out of the reply to a message that SES rejects; the log has it in any case.
    pub hide_error_text: bool,
}

/// A role that policy may grant to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSettings {
    /// The role.
    pub arn: RoleArn,
    /// The external id that its trust policy requires.
    pub external_id: Option<String>,
    /// Credentials of that role, instead of assuming it: for an emulator, which has no STS.
    pub credentials: Option<StaticCredentials>,
}

impl SesSettings {
    /// These settings with another role.
    pub(super) fn as_role(&self, role: &RoleSettings) -> Self {
        let settings = Self { roles: Vec::new(), ..self.clone() };
        match &role.credentials {
            Some(pair) => Self { credentials: Some(pair.clone()), assume_role: None, external_id: None, ..settings },
            None => Self { assume_role: Some(role.arn.to_string()), external_id: role.external_id.clone(), ..settings },
        }
    }
}

/// A key pair, for the emulator and for tests. The `Debug` output does not contain the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
}

impl StaticCredentials {
    pub(super) fn provider(&self) -> Credentials {
        Credentials::new(&self.access_key_id, &self.secret_access_key, None, None, "gatepost settings")
    }
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [redacted]", self.access_key_id)
    }
}

/// The timeouts of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SesTimeouts {
    /// Name, TCP and TLS.
    pub connect: Duration,
    /// From the request to the end of the answer (its first octet, by way of a proxy). Large messages take long to upload:
    /// the relay's deadline is what ends an attempt, so this is generous.
    pub read: Duration,
    /// One attempt, credentials and signing included.
    pub attempt: Duration,
    /// The whole call. It has one attempt, so the shorter of the two applies.
    pub operation: Duration,
    /// How long a connection is kept without a call. It must be shorter than the idle timeout of every load balancer and proxy
    /// on the way: a call during the close may be ambiguous. Zero: each call opens a connection.
    pub idle: Duration,
}

impl SesTimeouts {
    pub(super) fn call(&self) -> Duration {
        self.attempt.min(self.operation)
    }
}

impl Default for SesTimeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(3), read: seconds(55), attempt: seconds(58), operation: seconds(60), idle: seconds(20) }
    }
}

/// Why the SES transport cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SesError {
    /// Neither settings, nor environment, nor profile name one.
    #[error("no AWS region: set it in the configuration, in AWS_REGION, or in the profile")]
    NoRegion,
    /// The SDK refuses the combination.
    #[error("a custom endpoint URL cannot be combined with FIPS or dual stack")]
    EndpointWithVariant,
    /// Not an `http://` or `https://` URL.
    #[error("endpoint URL {0:?} must begin with https:// (or http:// for an emulator)")]
    EndpointUrl(String),
    /// The URL is logged, and SES asks for no password.
    #[error("the endpoint URL has an @, which follows a user or a password: remove them; AWS credentials are enough")]
    EndpointSecret,
    /// Settings or `AWS_PROFILE` name one that is not there.
    #[error(
        "no profile {0:?} in the shared AWS configuration: correct ses.profile or AWS_PROFILE, or the files that AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name"
    )]
    NoProfile(String),
    /// The files of profiles cannot be read.
    #[error("the shared AWS configuration cannot be read: {0}")]
    ProfileFiles(String),
    /// Nothing in the chain can bring any.
    #[error("no source of AWS credentials: set a profile, or run with a role")]
    NoCredentials,
    /// The SDK's rules refuse region, endpoint URL, FIPS and dual stack together.
    #[error("no SES endpoint matches these settings: {0}")]
    NoEndpoint(BoxError),
    /// Nothing to check the certificate of SES with.
    #[error("no root certificates: install ca-certificates, or name a file of them in SSL_CERT_FILE")]
    NoRoots(#[source] std::io::Error),
}

/// Credentials and endpoint.
pub(super) struct Account {
    pub region: Region,
    pub credentials: SharedCredentialsProvider,
    /// Instead of the region's.
    pub endpoint_url: Option<String>,
    pub fips: bool,
    pub dual_stack: bool,
    /// Whether signatures use this machine's clock even if it differs from that of SES.
    pub trusts_clock: bool,
    /// The regions that a multi-region endpoint's signatures are for, instead of those that it asks for.
    pub region_set: Option<SigningRegionSet>,
}

/// An HTTP client.
#[derive(Clone, Debug)]
pub(super) struct Http {
    pub client: SharedHttpClient,
    /// Whether it is the SDK's own, which closes a connection after an error only if the operation requests it.
    pub is_of_sdk: bool,
}
