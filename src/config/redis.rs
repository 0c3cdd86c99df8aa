//! `[redis]`: limits and pace that several relays share.

use super::diagnostics::Diagnostics;
use super::number::Number;
use super::secret_source::Source;
use super::section::{section, words};
use crate::limit::{OnRedisError, RedisSettings, RedisUrl};
use serde_json::json;
use std::num::NonZeroU32;
use std::time::Duration;

section! {
    /// Limits, and the pace of one region of one account, that several relays share over Redis 6 or later, or Valkey. For
    /// quotas of a day or month, choose a server that persists its data (AOF, MemoryDB): counts that it loses start at 0.
    pub(crate) Redis {
        /// redis://HOST:PORT, or rediss://HOST:PORT for TLS. May come from { env = "…" }, { file = "…" } or { credential = "…" }.
        /// One server, or the primary endpoint of a pair; in cluster mode the configuration endpoint, or several nodes
        /// separated by blanks. Default: every relay counts for itself.
        #[schemars(example = &"rediss://limits.example.com:6379")]
        url: Option<Source> = None,
        /// The name of an ACL user. It needs the commands EVAL, EVALSHA, TIME, GET, SET and DEL on ~gatepost:*, in cluster mode
        /// CLUSTER SLOTS too. Default: default.
        #[schemars(example = &"gatepost")]
        username: Option<String> = None,
        /// Its password: { file = "…" } or { credential = "…" }.
        #[schemars(example = json!({ "credential": "redis-password" }))]
        password: Option<Source> = None,
        /// The issuers of the server's certificate in PEM: { file = "…" }. Default: the authorities that the system trusts.
        #[schemars(example = json!({ "file": "/etc/gatepost/redis-ca.pem" }))]
        authorities: Option<Source> = None,
        /// true or false: cluster mode. true for ElastiCache Serverless, MemoryDB and every server with cluster mode enabled.
        cluster: bool = false,
        /// 1 to 64 of A-Z a-z 0-9 _ - . : that keys begin with. Relays with the same prefix share their limits, and their pace
        /// if ses.region is the same.
        prefix: String = "gatepost".to_owned(),
        /// How many relays share the limits. Needed for on_error = "local".
        #[schemars(example = 2)]
        instances: Option<Number<1, 10_000>> = None,
        /// local, defer or allow: what happens while Redis does not answer. local: each relay counts its part (1/instances) of
        /// every limit; defer: messages are deferred with 451; allow: limits are not enforced. No message waits for the
        /// connection to come back: the relay reconnects in the background.
        on_error: RedisOnError = RedisOnError::Local,
        /// true or false: start while Redis does not answer.
        start_without: bool = false,
        /// Milliseconds that a decision waits for Redis.
        wait_milliseconds_max: Number<1, 5_000> = Number::of(50),
    } []
}

words! {
    /// What happens while Redis does not answer.
    RedisOnError => OnRedisError {
        /// Each relay counts its part of every limit.
        Local => Local,
        /// Messages are deferred with 451.
        Defer => Defer,
        /// Limits are not enforced.
        Allow => Allow,
    }
}

impl Redis {
    /// Whether the file itself contains a password.
    pub(super) fn has_inline_secret(&self) -> bool {
        matches!(&self.url, Some(Source::Inline(text)) if text.contains('@'))
            || matches!(self.password, Some(Source::Inline(_)))
    }
}

/// How to reach Redis; `None` if limits are not shared.
pub(super) fn plan(redis: &Redis, diagnostics: &mut Diagnostics<'_>) -> Option<RedisSettings> {
    let Some(url) = &redis.url else {
        if diagnostics.source_map().contains("redis") {
            let hint = "for example: url = \"redis://127.0.0.1\"";
            diagnostics.error("redis.url", "without url, no limit is shared", hint);
        }
        return None;
    };
    let (first, more_nodes) = nodes(url, diagnostics)?;
    check(redis, &first, &more_nodes, diagnostics);
    let password = redis.password.as_ref().and_then(|password| diagnostics.secret("redis.password", password));
    let authorities = redis.authorities.as_ref().and_then(|source| diagnostics.text("redis.authorities", source));
    let secret = password.is_some() || first.has_password();
    if secret && std::iter::once(&first).chain(&more_nodes).any(|url| !url.has_tls() && !url.is_loopback()) {
        diagnostics.warn("redis.url", "the password can be read on the network", "use rediss://");
    }
    if authorities.is_some() && !first.has_tls() {
        diagnostics.warn("redis.authorities", "without TLS, no certificate is verified", "use rediss://");
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
        on_error: redis.on_error.into(),
        start_without: redis.start_without,
        ..RedisSettings::new(first, instances.unwrap_or(NonZeroU32::MIN))
    };
    let path = if redis.authorities.is_some() { "redis.authorities" } else { "redis.url" };
    let hint = "authorities are certificates in PEM, and a URL is redis://HOST:PORT or rediss://HOST:PORT";
    let checked = settings.check().map_err(|error| diagnostics.error(path, error.to_string(), hint));
    checked.ok().map(|()| settings)
}

/// The first node of `redis.url`, and the others.
fn nodes(url: &Source, diagnostics: &mut Diagnostics<'_>) -> Option<(RedisUrl, Vec<RedisUrl>)> {
    let text = diagnostics.secret("redis.url", url)?;
    let urls: Result<Vec<RedisUrl>, _> = text.split_whitespace().map(RedisUrl::parse).collect();
    let hint = "write other characters of a password as %XX";
    let urls = urls.map_err(|error| diagnostics.error("redis.url", error.to_string(), hint)).ok()?;
    let mut urls = urls.into_iter();
    let Some(first) = urls.next() else {
        diagnostics.error("redis.url", "it is empty", "for example: url = \"redis://127.0.0.1\"");
        return None;
    };
    Some((first, urls.collect()))
}

/// Settings that contradict each other.
fn check(redis: &Redis, first: &RedisUrl, more_nodes: &[RedisUrl], diagnostics: &mut Diagnostics<'_>) {
    if !more_nodes.is_empty() && !redis.cluster {
        let hint = "set cluster = true, or name one; for a pair with failover, its primary endpoint";
        diagnostics.error("redis.url", "several nodes without cluster mode", hint);
    }
    if more_nodes.iter().any(|url| url.has_tls() != first.has_tls()) {
        let hint = "write rediss:// for all of them, or redis://";
        diagnostics.error("redis.url", "some nodes are reached with TLS and some without", hint);
    }
    if redis.username.is_some() && redis.password.is_none() && !first.has_password() {
        diagnostics.error("redis.username", "a user without a password", "set redis.password");
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if !(1..=64).contains(&redis.prefix.len()) || !redis.prefix.chars().all(letters) {
        diagnostics.error(
            "redis.prefix",
            format!("{:?} is not a prefix", redis.prefix),
            "1 to 64 of A-Z a-z 0-9 _ - . :",
        );
    }
    if redis.instances.is_none() && redis.on_error == RedisOnError::Local {
        let message = "while Redis does not answer, each relay counts its part of every limit, and the number of relays is not set";
        diagnostics.error("redis.instances", message, "for example: instances = 2; or set on_error");
    }
}
