//! Resolves region, credentials, endpoint and timeouts, and makes the HTTP client.

use super::calls::SesApi;
use super::http::PooledHttpClient;
use super::settings::{Account, Http, SesError, SesSettings, SesTimeouts};
use aws_config::profile;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::{TimeoutConfig, TimeoutConfigBuilder};
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_sesv2::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};
use aws_types::os_shim_internal::{Env, Fs};
use aws_types::service_config::ServiceConfigKey;

/// The SDK's HTTP client, through the proxy of the environment. All operations share its connections.
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

/// The variables that name a proxy, in upper or lower case.
const PROXY_VARIABLES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];

/// The HTTP client for the calls to SES. If the environment names a proxy, it is the SDK's own, which supports proxies. With that
/// one, a connection that is closed just when a request begins makes the outcome ambiguous.
pub(super) fn http(settings: &SesSettings) -> Result<Http, SesError> {
    let set = |name: String| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let named = |name: &&str| set(name.to_string()) || set(name.to_lowercase());
    // An endpoint on this machine, such as an emulator, cannot be reached through a proxy.
    let is_here = settings.endpoint_url.as_deref().is_some_and(is_loopback);
    if !is_here && PROXY_VARIABLES.iter().any(named) {
        return Ok(by_proxy(settings.timeouts));
    }
    let tls = settings.endpoint_url.as_ref().is_none_or(|url| !url.starts_with("http:"));
    let client = PooledHttpClient::new(settings.timeouts, tls).map_err(SesError::NoRoots)?;
    Ok(Http { client: SharedHttpClient::new(client), is_of_sdk: false })
}

/// The calls to SES for those settings.
pub(super) async fn connect(settings: SesSettings, http: Http) -> Result<SesApi, SesError> {
    // The caller's deadline bounds calls, so the two timers of the SDK are not needed.
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
    SesApi::new(account, http, timeouts.build()).await
}

/// Resolves what the settings leave open as every AWS program does: environment, profile, container, instance.
async fn with_environment(settings: &SesSettings) -> Result<Account, SesError> {
    has_profile(settings).await?;
    let SesTimeouts { attempt, operation, .. } = settings.timeouts;
    let timeouts = waits(settings.timeouts).operation_attempt_timeout(attempt).operation_timeout(operation);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .use_fips(settings.fips)
        .use_dual_stack(settings.dual_stack);
    // The user agent of the SDK's own calls: to STS, for roles.
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

/// Checks that the profile exists. Otherwise the SDK would take credentials from the next source, and mail would be sent with
/// the role of the container or the instance.
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

/// The account without environment and profile, if region, endpoint and credentials are all set, as for an emulator.
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

/// The timeouts of the HTTP client.
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
