//! Who calls, as CloudTrail and the condition key `aws:UserAgent` see it: one text, the one that IAM documents are asked
//! with at our own door.
//!
//! The SDK makes a longer one (system, language, features in use) anew for each call, twice, and signs one of the two: a
//! twelfth of the instructions of a call of 10 KB, SHA-256 aside. It also numbers the attempts of a call, under a random
//! name; each of ours is made once, and SES names it by itself.

use crate::mail::USER_AGENT;
use aws_runtime::invocation_id::InvocationIdInterceptor;
use aws_runtime::request_info::RequestInfoInterceptor;
use aws_runtime::user_agent::UserAgentInterceptor;
use aws_sdk_sesv2::config::interceptors::{
    BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_sesv2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sesv2::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::{disable_interceptor, dyn_dispatch_hint};

/// Names us in every call, and keeps the SDK from saying more of itself.
#[derive(Debug)]
pub(super) struct OwnUserAgent;

#[dyn_dispatch_hint]
impl Intercept for OwnUserAgent {
    fn name(&self) -> &'static str {
        "OwnUserAgent"
    }

    fn modify_before_serialization(
        &self,
        _: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let state = bag.interceptor_state();
        state.store_put(disable_interceptor::<UserAgentInterceptor>("the relay names itself"));
        state.store_put(disable_interceptor::<InvocationIdInterceptor>("there is one attempt"));
        state.store_put(disable_interceptor::<RequestInfoInterceptor>("there is one attempt"));
        Ok(())
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert("user-agent", USER_AGENT);
        Ok(())
    }
}
