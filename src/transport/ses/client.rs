//! How SES is reached: region, credentials, endpoint, timeouts.

use super::calls::Calls;
use super::http::KeptConnections;
use crate::mail::parameters::RoleArn;
use aws_config::profile;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::{TimeoutConfig, TimeoutConfigBuilder};
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_sesv2::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_sesv2::error::BoxError;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};
use aws_types::os_shim_internal::{Env, Fs};
use aws_types::region::SigningRegionSet;
use aws_types::service_config::ServiceConfigKey;
use std::fmt;
use std::time::Duration;

/// How to reach SES.
#[derive(Clone, Debug, Default)]
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
#[derive(Clone, Debug)]
pub struct RoleSettings {
    /// Which.
    pub arn: RoleArn,
    /// The external id that it asks for.
    pub external_id: Option<String>,
    /// Credentials of that role, instead of assuming it: for an emulator, which has no STS.
    pub credentials: Option<StaticCredentials>,
}

impl SesSettings {
    /// The same, as that role.
    pub(super) fn as_role(&self, role: &RoleSettings) -> Self {
        let settings = Self { roles: Vec::new(), ..self.clone() };
        match &role.credentials {
            Some(pair) => Self { credentials: Some(pair.clone()), assume_role: None, external_id: None, ..settings },
            None => Self { assume_role: Some(role.arn.to_string()), external_id: role.external_id.clone(), ..settings },
        }
    }
}

/// A key pair, for the emulator and for tests. The secret does not print.
#[derive(Clone)]
pub struct StaticCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
}

impl StaticCredentials {
    fn provider(&self) -> Credentials {
        Credentials::new(&self.access_key_id, &self.secret_access_key, None, None, "gatepost settings")
    }
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [redacted]", self.access_key_id)
    }
}

/// What bounds a call. The SDK bounds only the first by itself.
#[derive(Clone, Copy, Debug)]
pub struct SesTimeouts {
    /// Name, TCP and TLS.
    pub connect: Duration,
    /// From the request to the end of the answer (its first octet, by way of a proxy). Large messages take long to upload:
    /// the relay's deadline is what ends an attempt, so this is generous.
    pub read: Duration,
    /// One attempt, credentials and signing included.
    pub attempt: Duration,
    /// The call as a whole. There is one attempt a call, so the shorter of the two bounds it.
    pub operation: Duration,
    /// How long a connection is kept without a call. Shorter than any load balancer or proxy on the way keeps it: a call
    /// that meets the close is ambiguous. Zero: each call has a connection of its own.
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

/// Why there is no client.
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
    #[error(
        "the endpoint URL has an @, which stands behind a user or a password: take them away; AWS credentials are enough"
    )]
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
    #[error("no source of AWS credentials: name a profile, or run where a role is given")]
    NoCredentials,
    /// The SDK's rules refuse region, endpoint URL, FIPS and dual stack together.
    #[error("no endpoint of SES is like that: {0}")]
    NoEndpoint(BoxError),
    /// Nothing to check the certificate of SES with.
    #[error("no root certificates: install ca-certificates, or name a file of them in SSL_CERT_FILE")]
    NoRoots(#[source] std::io::Error),
}

/// What names a proxy, in capitals or not.
const PROXY_VARIABLES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];

/// An HTTP client.
#[derive(Clone, Debug)]
pub(super) struct Http {
    pub client: SharedHttpClient,
    /// It is the SDK's own, which closes a connection that led to an error only if the operation asks for that.
    pub is_of_sdk: bool,
}

/// The SDK's client, by way of the proxy that the environment names. All operations share its connections.
fn by_proxy(timeouts: SesTimeouts) -> Http {
    let waits = HttpConnectorSettings::builder().connect_timeout(timeouts.connect).read_timeout(timeouts.read).build();
    let connector = Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .proxy_config(ProxyConfig::from_env())
        .connector_settings(waits)
        .pool_idle_timeout(timeouts.idle)
        .build();
    let connector = SharedHttpConnector::new(connector);
    Http { client: http_client_fn(move |_, _| connector.clone()), is_of_sdk: true }
}

/// The HTTP client for the calls to SES: the SDK's own where the environment names a proxy, since that one speaks to it. How
/// long it keeps a connection is set there as well; a close that meets the beginning of a request is ambiguous there.
pub(super) fn http(settings: &SesSettings) -> Result<Http, SesError> {
    let set = |name: String| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let named = |name: &&str| set(name.to_string()) || set(name.to_lowercase());
    // An emulator is on this machine; a proxy would look for it on its own.
    let is_here = settings.endpoint_url.as_deref().is_some_and(is_loopback);
    if !is_here && PROXY_VARIABLES.iter().any(named) {
        return Ok(by_proxy(settings.timeouts));
    }
    let tls = settings.endpoint_url.as_ref().is_none_or(|url| !url.starts_with("http:"));
    let client = KeptConnections::new(settings.timeouts, tls).map_err(SesError::NoRoots)?;
    Ok(Http { client: SharedHttpClient::new(client), is_of_sdk: false })
}

/// The calls to SES for those settings.
pub(super) async fn connect(settings: SesSettings, http: Http) -> Result<Calls, SesError> {
    // They are bounded by whoever makes them, who has a deadline to keep in any case: the SDK would set two timers more.
    let timeouts = waits(settings.timeouts).disable_operation_attempt_timeout().disable_operation_timeout();
    let account = match without_environment(&settings) {
        Some(account) => account,
        None => with_environment(&settings).await?,
    };
    if let Some(url) = &account.endpoint_url {
        if account.fips || account.dual_stack {
            return Err(SesError::EndpointWithVariant);
        }
        if url.contains('@') {
            return Err(SesError::EndpointSecret);
        }
        if !is_http_url(url) {
            return Err(SesError::EndpointUrl(url.clone()));
        }
    }
    Calls::new(account, http, timeouts.build()).await
}

/// Who calls, and where.
pub(super) struct Account {
    pub region: Region,
    pub credentials: SharedCredentialsProvider,
    /// Instead of the region's.
    pub endpoint_url: Option<String>,
    pub fips: bool,
    pub dual_stack: bool,
    /// Signatures trust this machine's clock, whatever SES says that it is.
    pub trusts_clock: bool,
    /// The regions that a multi-region endpoint's signatures are for, instead of those that it asks for.
    pub region_set: Option<SigningRegionSet>,
}

/// What settings leave open is looked for where every AWS program does: environment, profile, container, instance.
async fn with_environment(settings: &SesSettings) -> Result<Account, SesError> {
    has_profile(settings).await?;
    let SesTimeouts { attempt, operation, .. } = settings.timeouts;
    let timeouts = waits(settings.timeouts).operation_attempt_timeout(attempt).operation_timeout(operation);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .use_fips(settings.fips)
        .use_dual_stack(settings.dual_stack);
    // For the calls that are not ours to send: STS, for roles.
    if let Ok(name) = AppName::new(concat!("gatepost-", env!("CARGO_PKG_VERSION"))) {
        loader = loader.app_name(name);
    }
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(pair) = &settings.credentials {
        loader = loader.credentials_provider(pair.provider());
    }
    let shared = loader.load().await;
    let region = shared.region().ok_or(SesError::NoRegion)?.clone();
    let credentials = match &settings.assume_role {
        None => shared.credentials_provider().ok_or(SesError::NoCredentials)?,
        Some(role) => {
            let mut provider = AssumeRoleProvider::builder(role).session_name("gatepost").configure(&shared);
            if let Some(id) = &settings.external_id {
                provider = provider.external_id(id);
            }
            SharedCredentialsProvider::new(provider.build().await)
        }
    };
    Ok(Account {
        region,
        credentials,
        endpoint_url: settings.endpoint_url.clone().or_else(|| endpoint_of_environment(&shared)),
        fips: settings.fips,
        dual_stack: settings.dual_stack,
        trusts_clock: shared.disable_clock_skew_correction().unwrap_or_default(),
        region_set: shared.sigv4a_signing_region_set().cloned(),
    })
}

/// The SDK takes credentials from the next source where the profile does not exist: mail would leave with the role of the
/// container or the instance.
async fn has_profile(settings: &SesSettings) -> Result<(), SesError> {
    let of_environment = || std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
    let Some(name) = settings.profile.clone().or_else(of_environment) else { return Ok(()) };
    let (fs, env) = (Fs::real(), Env::real());
    let profiles = profile::load(&fs, &env, &EnvConfigFiles::default(), Some(name.clone().into())).await;
    let profiles = profiles.map_err(|error| SesError::ProfileFiles(error.to_string()))?;
    match profiles.get_profile(&name) {
        Some(_) => Ok(()),
        None => Err(SesError::NoProfile(name)),
    }
}

/// `AWS_ENDPOINT_URL_SESV2`, `endpoint_url` of the service in the profile, or the same for all services.
/// SDKs and Tools Reference Guide, "Service-specific endpoints".
fn endpoint_of_environment(shared: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("SESv2").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_service = key.ok().and_then(|key| shared.service_config()?.load_config(key));
    of_service.or_else(|| shared.endpoint_url().map(str::to_owned))
}

/// Where region, endpoint and credentials are all given, as for an emulator, nothing is left to ask: environment and
/// profile could only bring in an account that was not meant.
fn without_environment(settings: &SesSettings) -> Option<Account> {
    let (Some(region), Some(url), Some(pair)) = (&settings.region, &settings.endpoint_url, &settings.credentials)
    else {
        return None;
    };
    if settings.assume_role.is_some() || settings.profile.is_some() {
        return None;
    }
    Some(Account {
        region: Region::new(region.clone()),
        credentials: SharedCredentialsProvider::new(pair.provider()),
        endpoint_url: Some(url.clone()),
        fips: false,
        dual_stack: false,
        trusts_clock: false,
        region_set: None,
    })
}

/// What an HTTP client waits for.
fn waits(timeouts: SesTimeouts) -> TimeoutConfigBuilder {
    TimeoutConfig::builder().connect_timeout(timeouts.connect).read_timeout(timeouts.read)
}

/// Whether the host of a URL is an address of this machine.
fn is_loopback(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let address = authority
        .parse()
        .map(|socket: std::net::SocketAddr| socket.ip())
        .or_else(|_| authority.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>());
    address.is_ok_and(|address| address.is_loopback())
}

fn is_http_url(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gatepost demo` with HTTP_PROXY in the environment sent its messages to the proxy.
    #[test]
    fn an_endpoint_on_this_machine_is_known_by_its_address() {
        for (url, want) in [
            ("http://127.0.0.1:8005", true),
            ("http://127.0.0.1:8005/", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:8005", true),
            ("https://[::1]", true),
            ("http://10.0.0.1:8005", false),
            ("http://127.0.0.1.example:80", false),
            ("https://email.eu-west-1.amazonaws.com", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(url), want, "{url}");
        }
    }
}
