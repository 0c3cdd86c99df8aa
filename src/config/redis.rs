//! `[redis]`: where limits are shared, and what happens without it.

use super::number::Number;
use super::plan::Diagnostics;
use super::secret_source::Source;
use crate::limit::{OnRedisError, RedisSettings, RedisUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;

/// Limits and pace that several relays share, over Redis or Valkey.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// redis://HOST:PORT, or rediss://HOST:PORT for TLS. May come from { env = "…" }, { file = "…" } or { credential = "…" }.
    /// In cluster mode, the configuration endpoint, or several nodes separated by blanks. Default: every relay counts for
    /// itself.
    pub url: Option<Source>,
    /// The name of an ACL user. Default: default.
    pub username: Option<String>,
    /// Its password: { file = "…" } or { credential = "…" }.
    pub password: Option<Source>,
    /// The issuers of the server's certificate in PEM: { file = "…" }. Default: the authorities that the system trusts.
    pub authorities: Option<Source>,
    /// true or false: cluster mode, as ElastiCache Serverless and MemoryDB have it.
    pub cluster: bool,
    /// 1 to 64 of A-Z a-z 0-9 _ - . : that keys begin with. Relays with the same prefix share their limits.
    pub prefix: String,
    /// How many relays share the limits. Without Redis each of them counts its part; needed for on_error = "local".
    pub instances: Option<Number<1, 10_000>>,
    /// local, defer or allow: what happens while Redis does not answer. local: each relay counts its part of every limit.
    pub on_error: RedisOnError,
    /// true or false: start while Redis does not answer.
    pub start_without: bool,
    /// Milliseconds that a decision waits for Redis.
    pub wait_milliseconds_max: Number<1, 5_000>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password: None,
            authorities: None,
            cluster: false,
            prefix: "gatepost".to_owned(),
            instances: None,
            on_error: RedisOnError::Local,
            start_without: false,
            wait_milliseconds_max: Number::of(50),
        }
    }
}

/// What happens while Redis does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedisOnError {
    /// Each relay counts its part of every limit.
    Local,
    /// 451.
    Defer,
    /// Limits are not enforced.
    Allow,
}

impl Redis {
    /// Whether a password stands in the file itself.
    pub(super) fn has_inline_secret(&self) -> bool {
        matches!(&self.url, Some(Source::Inline(text)) if text.contains('@'))
            || matches!(self.password, Some(Source::Inline(_)))
    }
}

/// How to reach Redis, if limits are shared.
pub(super) fn plan(diagnostics: &mut Diagnostics<'_>) -> Option<RedisSettings> {
    let redis = &diagnostics.config.redis;
    let Some(url) = &redis.url else {
        if diagnostics.config.source_map.contains("redis") {
            diagnostics.error(
                "redis.url",
                "without url, no limit is shared",
                "for example: url = \"redis://127.0.0.1\"",
            );
        }
        return None;
    };
    let text = diagnostics.secret("redis.url", url)?;
    let urls: Result<Vec<RedisUrl>, _> = text.split_whitespace().map(RedisUrl::parse).collect();
    let mut urls = match urls {
        Ok(urls) => urls.into_iter(),
        Err(error) => {
            diagnostics.error("redis.url", error.to_string(), "what other characters a password has stands as %XX");
            return None;
        }
    };
    let Some(first) = urls.next() else {
        diagnostics.error("redis.url", "it is empty", "for example: url = \"redis://127.0.0.1\"");
        return None;
    };
    let more_nodes: Vec<RedisUrl> = urls.collect();
    if !more_nodes.is_empty() && !redis.cluster {
        let hint = "set cluster = true, or name one; for a pair with failover, its primary endpoint";
        diagnostics.error("redis.url", "several nodes without cluster mode", hint);
    }
    if more_nodes.iter().any(|url| url.has_tls() != first.has_tls()) {
        diagnostics.error(
            "redis.url",
            "some nodes are asked with TLS and some without",
            "write rediss:// for all of them, or redis://",
        );
    }
    if redis.username.is_some() && redis.password.is_none() && !first.has_password() {
        diagnostics.error("redis.username", "a user without a password", "set redis.password");
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if !(1..=64).contains(&redis.prefix.len()) || !redis.prefix.chars().all(letters) {
        diagnostics.error("redis.prefix", format!("{:?} is no prefix", redis.prefix), "1 to 64 of A-Z a-z 0-9 _ - . :");
    }
    if redis.instances.is_none() && redis.on_error == RedisOnError::Local {
        let message = "without Redis each relay counts its part of every limit, and how many there are is not known";
        diagnostics.error("redis.instances", message, "for example: instances = 2; or set on_error");
    }
    let password = redis.password.as_ref().and_then(|password| diagnostics.secret("redis.password", password));
    let secret = password.is_some() || first.has_password();
    if secret && std::iter::once(&first).chain(&more_nodes).any(|url| !url.has_tls() && !url.is_loopback()) {
        diagnostics.warn("redis.url", "the password can be read on the way", "use rediss://");
    }
    let authorities = redis.authorities.as_ref().and_then(|source| diagnostics.text("redis.authorities", source));
    if authorities.is_some() && !first.has_tls() {
        diagnostics.warn("redis.authorities", "no certificate is looked at without TLS", "use rediss://");
    }
    let instances = redis.instances.and_then(|instances| NonZeroU32::new(instances.small()));
    let settings = RedisSettings {
        more_nodes,
        username: redis.username.clone(),
        // Files end with a line end.
        password: password.map(|password| password.trim_end_matches(['\r', '\n']).to_owned()),
        authorities: authorities.map(String::into_bytes),
        cluster: redis.cluster,
        prefix: redis.prefix.clone(),
        wait_max: Duration::from_millis(redis.wait_milliseconds_max.get()),
        on_error: match redis.on_error {
            RedisOnError::Local => OnRedisError::Local,
            RedisOnError::Defer => OnRedisError::Defer,
            RedisOnError::Allow => OnRedisError::Allow,
        },
        start_without: redis.start_without,
        ..RedisSettings::new(first, instances.unwrap_or(NonZeroU32::MIN))
    };
    match settings.check() {
        Ok(()) => Some(settings),
        Err(error) => {
            let path = if redis.authorities.is_some() { "redis.authorities" } else { "redis.url" };
            let hint = "authorities are certificates in PEM, and a URL is redis://HOST:PORT or rediss://HOST:PORT";
            diagnostics.error(path, error.to_string(), hint);
            None
        }
    }
}
