//! Cached credentials of one account or role, until shortly before they expire, or until SES refuses them.
//!
//! The SDK's cache keeps them as long as their source says, up to an hour. With a revoked session, or a source whose clock is
//! wrong, every message would be deferred for that time.

use aws_config::identity::IdentityCache;
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The cache. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct CachedCredentials(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    cache: SharedIdentityCache,
    forgotten: Option<Instant>,
}

/// The shortest interval between two requests for new credentials.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);

impl Default for CachedCredentials {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept { cache: IdentityCache::lazy().build(), forgotten: None })))
    }
}

impl CachedCredentials {
    /// Discards the credentials, so that the next call asks their source again. At most once per [`FORGET_INTERVAL`].
    pub(super) fn forget(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.forgotten.is_none_or(|at| at.elapsed() >= FORGET_INTERVAL) {
            *kept = Kept { cache: IdentityCache::lazy().build(), forgotten: Some(Instant::now()) };
        }
    }
}

impl ResolveCachedIdentity for CachedCredentials {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let cache = self.0.lock().unwrap_or_else(PoisonError::into_inner).cache.clone();
        IdentityFuture::new(async move { cache.resolve_cached_identity(resolver, components, bag).await })
    }
}
