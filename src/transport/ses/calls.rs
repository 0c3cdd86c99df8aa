//! The calls to SES: the SDK's operations, each configured once.
//!
//! The SDK's `Client` configures every call from a dozen plugins, evaluates its endpoint rules twice, and measures for
//! telemetry that is not set up. Here the same orchestrator runs only the SDK's own serializer, signers, credentials and
//! deserializer. A test compares what is sent with what `Client` sends.

use super::credentials::CachedCredentials;
use super::document;
use super::settings::{Account, Http, SesError};
use crate::mail::USER_AGENT;
use aws_config::Region;
use aws_config::timeout::TimeoutConfig;
use aws_runtime::auth::{SigV4OperationSigningConfig, sigv4, sigv4a};
use aws_runtime::service_clock_skew::{DisableClockSkewCorrection, ServiceClockSkewInterceptor};
use aws_sdk_sesv2::config::endpoint::ResolveEndpoint as _;
use aws_sdk_sesv2::config::endpoint::{DefaultResolver, Endpoint, EndpointFuture, Params, ParamsBuilder};
use aws_sdk_sesv2::config::http::{HttpRequest, HttpResponse};
use aws_sdk_sesv2::config::interceptors::{
    BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_sesv2::config::{Intercept, RuntimeComponents, StalledStreamProtectionConfig};
use aws_sdk_sesv2::error::{BoxError, SdkError};
use aws_sdk_sesv2::operation::get_account::{GetAccount, GetAccountError, GetAccountInput, GetAccountOutput};
use aws_sdk_sesv2::operation::get_configuration_set::{
    GetConfigurationSet, GetConfigurationSetError, GetConfigurationSetInput, GetConfigurationSetOutput,
};
use aws_sdk_sesv2::operation::send_email::{SendEmail, SendEmailError, SendEmailInput, SendEmailOutput};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::HttpStatusCodeClassifier;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{AuthSchemeOptionResolverParams, SharedAuthScheme};
use aws_smithy_runtime_api::client::endpoint::{EndpointResolverParams, ResolveEndpoint};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_smithy_runtime_api::client::interceptors::context::{Error as AnyError, Input, Output};
use aws_smithy_runtime_api::client::interceptors::{SharedInterceptor, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{OrchestratorError, SensitiveOutput};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::{RuntimePlugin, StaticRuntimePlugin};
use aws_smithy_runtime_api::client::ser_de::{
    DeserializeResponse, SerializeRequest, SharedRequestSerializer, SharedResponseDeserializer,
};
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer, Layer};
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use std::error::Error;
use std::fmt::Debug;

/// The calls, as one account or role.
#[derive(Clone, Debug)]
pub(super) struct SesApi {
    send_email: Operation<SendEmailInput, SendEmailOutput, SendEmailError>,
    get_account: Operation<GetAccountInput, GetAccountOutput, GetAccountError>,
    get_configuration_set: Operation<GetConfigurationSetInput, GetConfigurationSetOutput, GetConfigurationSetError>,
    region: Region,
    credentials: CachedCredentials,
}

impl SesApi {
    /// The calls for an account.
    ///
    /// # Errors
    /// [`SesError::NoEndpoint`].
    pub(super) async fn new(account: Account, http: Http, timeouts: TimeoutConfig) -> Result<Self, SesError> {
        let credentials = CachedCredentials::default();
        let parts =
            OperationConfig { components: components(&account, credentials.clone()).await?, account, http, timeouts };
        Ok(Self {
            send_email: parts.operation("SendEmail", &SendEmail::new()),
            get_account: parts.operation("GetAccount", &GetAccount::new()),
            get_configuration_set: parts.operation("GetConfigurationSet", &GetConfigurationSet::new()),
            region: parts.account.region,
            credentials,
        })
    }

    pub(super) fn region(&self) -> &str {
        self.region.as_ref()
    }

    /// Discards the credentials, because SES refuses them: the next call asks their source again.
    pub(super) fn forget_credentials(&self) {
        self.credentials.forget();
    }

    /// `SendEmail`.
    pub(super) async fn send_email(
        &self,
        input: SendEmailInput,
    ) -> Result<SendEmailOutput, SdkError<SendEmailError, HttpResponse>> {
        self.send_email.invoke(input).await
    }

    /// `GetAccount`.
    pub(super) async fn get_account(&self) -> Result<GetAccountOutput, SdkError<GetAccountError, HttpResponse>> {
        let input = GetAccountInput::builder().build().map_err(SdkError::construction_failure)?;
        self.get_account.invoke(input).await
    }

    /// `GetConfigurationSet`.
    pub(super) async fn get_configuration_set(
        &self,
        name: &str,
    ) -> Result<GetConfigurationSetOutput, SdkError<GetConfigurationSetError, HttpResponse>> {
        let input = GetConfigurationSetInput::builder().configuration_set_name(name).build();
        self.get_configuration_set.invoke(input.map_err(SdkError::construction_failure)?).await
    }
}

/// What the operations have in common.
struct OperationConfig {
    account: Account,
    components: RuntimeComponentsBuilder,
    http: Http,
    timeouts: TimeoutConfig,
}

/// Endpoint, credentials and signing.
async fn components(account: &Account, credentials: CachedCredentials) -> Result<RuntimeComponentsBuilder, SesError> {
    let endpoints = Endpoints::of(account).await.map_err(SesError::NoEndpoint)?;
    // SigV4a is for multi-region endpoints, which accept nothing else.
    let schemes = StaticAuthSchemeOptionResolver::new(vec![sigv4::SCHEME_ID, sigv4a::SCHEME_ID]);
    Ok(RuntimeComponentsBuilder::new("gatepost")
        .with_endpoint_resolver(Some(endpoints))
        .with_auth_scheme_option_resolver(Some(schemes))
        .with_auth_scheme(SharedAuthScheme::new(sigv4::SigV4AuthScheme::new()))
        .with_auth_scheme(SharedAuthScheme::new(sigv4a::SigV4aAuthScheme::new()))
        .with_identity_resolver(sigv4::SCHEME_ID, account.credentials.clone())
        .with_identity_resolver(sigv4a::SCHEME_ID, account.credentials.clone())
        .with_identity_cache(Some(SharedIdentityCache::new(credentials)))
        .with_interceptor(SharedInterceptor::new(ServiceClockSkewInterceptor::new()))
        .with_interceptor(SharedInterceptor::new(SendEmailInterceptor)))
}

impl OperationConfig {
    /// The configuration of an operation. `sdk`: the SDK's configuration of it.
    fn config(&self, sdk: &FrozenLayer) -> FrozenLayer {
        let mut config = Layer::new("gatepost");
        config.store_put(SigningName::from_static("ses"));
        config.store_put(SigningRegion::from(self.account.region.clone()));
        config.store_or_unset(self.account.region_set.clone());
        config.store_put(DisableClockSkewCorrection::from(self.account.trusts_clock));
        config.store_put(AuthSchemeOptionResolverParams::new(()));
        config.store_put(EndpointResolverParams::new(()));
        config.store_or_unset(sdk.load::<SigV4OperationSigningConfig>().cloned());
        config.store_or_unset(sdk.load::<SensitiveOutput>().map(|_| SensitiveOutput));
        config.freeze()
    }

    fn operation<I, O, E>(&self, name: &'static str, sdk: &dyn RuntimePlugin) -> Operation<I, O, E>
    where
        I: Debug + Send + Sync + 'static,
        O: Debug + Send + Sync + 'static,
        E: Error + Send + Sync + 'static,
    {
        let generated = SdkSerialization(sdk.config().unwrap_or_else(|| Layer::new(name).freeze()));
        let ours = StaticRuntimePlugin::new()
            .with_config(self.config(&generated.0))
            .with_runtime_components(self.components.clone());
        let operation = Operation::builder().service_name("SESv2").operation_name(name);
        let operation = operation.http_client(self.http.client.clone());
        let operation = match self.http.is_of_sdk {
            true => operation.with_connection_poisoning().retry_classifier(HttpStatusCodeClassifier::default()),
            false => operation,
        };
        operation
            // A retry could send a message twice.
            .no_retry()
            .timeout_config(self.timeouts.clone())
            // The relay's deadline bounds the call; this would end a slow upload that still makes progress.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .runtime_plugin(ours)
            .serializer(generated.clone().serializer())
            .deserializer_impl(generated)
            .build()
    }
}

/// The SDK's serializer and deserializer of an operation.
#[derive(Clone, Debug)]
struct SdkSerialization(FrozenLayer);

impl SdkSerialization {
    fn serializer<I: Debug + Send + Sync + 'static>(self) -> impl Fn(I) -> Result<HttpRequest, BoxError> {
        move |input| {
            let serializer = self.0.load::<SharedRequestSerializer>().ok_or("an operation without a serializer")?;
            serializer.serialize_input(Input::erase(input), &mut ConfigBag::base())
        }
    }
}

impl DeserializeResponse for SdkSerialization {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        bag: &ConfigBag,
    ) -> Result<Output, OrchestratorError<AnyError>> {
        let deserializer = self.0.load::<SharedResponseDeserializer>();
        let deserializer =
            deserializer.ok_or_else(|| OrchestratorError::other("an operation without a deserializer"))?;
        deserializer.deserialize_nonstreaming_with_config(response, bag)
    }
}

/// The endpoint of calls, by the SDK's rules. Evaluated once, and again only for messages with a multi-region endpoint.
#[derive(Clone, Debug)]
struct Endpoints {
    params: ParamsBuilder,
    usual: Endpoint,
}

impl Endpoints {
    async fn of(account: &Account) -> Result<Self, BoxError> {
        let params = Params::builder()
            .region(account.region.to_string())
            .use_fips(account.fips)
            .use_dual_stack(account.dual_stack)
            .set_endpoint(account.endpoint_url.clone());
        let usual = DefaultResolver::new().resolve_endpoint(&params.clone().build()?).await?;
        Ok(Self { params, usual })
    }
}

impl ResolveEndpoint for Endpoints {
    fn resolve_endpoint<'a>(&'a self, of_call: &'a EndpointResolverParams) -> EndpointFuture<'a> {
        let Some(MultiRegionEndpoint(id)) = of_call.get::<MultiRegionEndpoint>() else {
            return EndpointFuture::ready(Ok(self.usual.clone()));
        };
        let params = self.params.clone().endpoint_id(id.clone()).build();
        EndpointFuture::new(async { DefaultResolver::new().resolve_endpoint(&params?).await })
    }
}

/// Changes calls of `SendEmail`: multi-region endpoint, content, user agent.
#[derive(Debug)]
struct SendEmailInterceptor;

/// The multi-region endpoint of a call.
#[derive(Debug)]
struct MultiRegionEndpoint(String);

#[dyn_dispatch_hint]
impl Intercept for SendEmailInterceptor {
    fn name(&self) -> &'static str {
        "gatepost"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(input) = context.input_mut().downcast_mut::<SendEmailInput>() else { return Ok(()) };
        let state = bag.interceptor_state();
        if let Some(id) = &input.endpoint_id {
            state.store_put(EndpointResolverParams::new(MultiRegionEndpoint(id.clone())));
        }
        if let Some(content) = document::take_content(input) {
            state.store_put(content);
        }
        Ok(())
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        // The user agent that CloudTrail and the condition key `aws:UserAgent` see; IAM documents are evaluated with the same text.
        request.headers_mut().insert("user-agent", USER_AGENT);
        match bag.get_mut_from_interceptor_state::<document::DetachedContent>() {
            Some(content) => content.put_into(request),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
