//! Credentials between calls: the SDK's cache, which can be emptied.
//!
//! The SDK keeps temporary credentials until the machine's clock says that they expire. After the clock was set back, or a
//! machine was suspended, they have expired for AWS and not for the cache, and every call would be refused until the clock
//! catches up, hours later. So an answer that says so empties the cache, and the next call asks for new ones. At most every
//! ten seconds: where the source of the credentials has nothing new, it is not asked once for each message.

use aws_config::identity::IdentityCache;
use aws_sdk_sesv2::config::{ConfigBag, RuntimeComponents};
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The cache of one account or role; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Identities(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    cache: SharedIdentityCache,
    emptied: Option<Instant>,
}

/// What SES answers to temporary credentials that have expired.
const EXPIRED: &[&str] = &["ExpiredTokenException", "ExpiredToken"];
const EMPTIED_INTERVAL: Duration = Duration::from_secs(10);

impl Identities {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { cache: IdentityCache::lazy().build(), emptied: None })))
    }

    /// A call was refused with that code.
    pub(super) fn heard(&self, code: Option<&str>) {
        if !code.is_some_and(|code| EXPIRED.contains(&code)) {
            return;
        }
        let mut state = self.state();
        let now = Instant::now();
        if state.emptied.is_none_or(|emptied| now.duration_since(emptied) >= EMPTIED_INTERVAL) {
            *state = State { cache: IdentityCache::lazy().build(), emptied: Some(now) };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolveCachedIdentity for Identities {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let cache = self.state().cache.clone();
        IdentityFuture::new(async move { cache.resolve_cached_identity(resolver, components, bag).await })
    }
}
