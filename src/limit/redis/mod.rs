//! Limits and pacing that several relays share, over Redis or Valkey.
//!
//! [`RedisConnection`] is the connection, behind a circuit breaker: every wait for it is bounded, and no session waits
//! for a Redis that is down. [`RedisLimiter`] and [`RedisTokenBucket`] count in it. What they do while it is down is
//! configured with [`OnRedisError`].
//!
//! A decision is one round trip: one script call for each window of each limit, with one key each, so that the calls
//! work in cluster mode too. If one window is exceeded, a second round trip returns what the others took. The time is
//! the server's, in microseconds, so the relays' clocks may differ. Keys expire when they carry no information any
//! more. Requires Redis 6 or Valkey.

mod connection;
mod limiter;
mod scripts;
mod token_bucket;
mod wire;

pub use connection::RedisConnection;
pub use limiter::RedisLimiter;
pub use token_bucket::RedisTokenBucket;

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// How to connect to Redis, and what to do while it is down.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisSettings {
    /// The server. In cluster mode: a node, or the cluster's configuration endpoint.
    pub url: RedisUrl,
    /// In cluster mode: further nodes that are tried at the start if the first does not answer.
    pub more_nodes: Vec<RedisUrl>,
    /// The ACL user. Default: the URL's, or `default`.
    pub username: Option<String>,
    /// The password. Default: the URL's.
    pub password: Option<String>,
    /// The certificate authorities of the server, in PEM. Default: the authorities of the operating system.
    pub authorities: Option<Vec<u8>>,
    /// Whether the server is a cluster. ElastiCache Serverless and MemoryDB require this.
    pub cluster: bool,
    /// The prefix of all keys. Relays with the same prefix share their limits.
    pub prefix: String,
    /// How long a decision waits for an answer.
    pub wait_max: Duration,
    /// How long connecting, TLS and AUTH may take. No session waits for this.
    pub connect_max: Duration,
    /// How many relays share the limits: while Redis is down, each counts its part.
    pub instances: NonZeroU32,
    /// What to do while Redis is down.
    pub on_error: OnRedisError,
    /// Whether to start while Redis does not answer.
    pub start_without: bool,
}

impl RedisSettings {
    /// The defaults: 50 ms per decision, local counts while Redis is down, no start without it.
    pub fn new(url: RedisUrl, instances: NonZeroU32) -> Self {
        Self {
            url,
            more_nodes: Vec::new(),
            username: None,
            password: None,
            authorities: None,
            cluster: false,
            prefix: "gatepost".to_owned(),
            wait_max: Duration::from_millis(50),
            connect_max: Duration::from_secs(2),
            instances,
            on_error: OnRedisError::Local,
            start_without: false,
        }
    }

    /// Checks everything that can be checked without connecting.
    ///
    /// # Errors
    /// [`RedisError::Settings`].
    pub fn check(&self) -> Result<(), RedisError> {
        wire::check(self)
    }

    /// The server's address, without secrets.
    fn address(&self) -> String {
        let nodes: Vec<String> = std::iter::once(&self.url).chain(&self.more_nodes).map(ToString::to_string).collect();
        nodes.join(" ")
    }

    /// What happens while Redis is down, for the log.
    fn fallback(&self) -> String {
        match self.on_error {
            OnRedisError::Local => format!("limits are counted in this process, at 1/{} of each", self.instances),
            OnRedisError::Defer => "messages that a limit touches are deferred".to_owned(),
            OnRedisError::Allow => "limits are not enforced".to_owned(),
        }
    }
}

impl fmt::Debug for RedisSettings {
    /// Prints no passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("address", &self.address())
            .field("cluster", &self.cluster)
            .field("prefix", &self.prefix)
            .field("wait_max", &self.wait_max)
            .field("instances", &self.instances)
            .field("on_error", &self.on_error)
            .field("start_without", &self.start_without)
            .finish_non_exhaustive()
    }
}

/// What to do while Redis does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRedisError {
    /// Count in this process, each instance its part of every limit. Such a count rejects nothing permanently.
    Local,
    /// Reply 451.
    Defer,
    /// Enforce no limits.
    Allow,
}

/// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or the same with `rediss` for TLS. Prints without the password.
#[derive(Clone)]
pub struct RedisUrl(ConnectionInfo);

impl RedisUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`RedisError::Url`], which does not contain the URL.
    pub fn parse(text: &str) -> Result<Self, RedisError> {
        if !text.starts_with("redis://") && !text.starts_with("rediss://") {
            return Err(RedisError::Url);
        }
        let info = text.into_connection_info().map_err(|_| RedisError::Url)?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => Err(RedisError::Url),
            _ => Ok(Self(info)),
        }
    }

    /// Whether the scheme is `rediss`.
    pub fn has_tls(&self) -> bool {
        matches!(self.0.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Whether the URL has a password.
    pub fn has_password(&self) -> bool {
        self.0.redis_settings().password().is_some()
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        let (ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) = self.0.addr() else { return true };
        let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        host == "localhost" || address.is_some_and(|address| address.is_loopback())
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.has_tls() { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}", self.0.addr())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why limits cannot be shared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// The URL cannot be parsed. It may contain a password, so it is not shown.
    #[error("it is not a Redis URL: redis://HOST:PORT, or rediss://HOST:PORT for TLS")]
    Url,
    /// The settings contradict each other, or the certificates cannot be read.
    #[error("Redis settings: {0}")]
    Settings(String),
    /// The server cannot be reached, refuses the login, or does not run the scripts.
    #[error("Redis at {place}: {why}")]
    Unreachable {
        /// The server's address.
        place: String,
        /// The answer of the server, or the network error.
        why: String,
    },
}

#[cfg(test)]
mod server_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_print_without_their_password() {
        for (text, want) in [
            ("redis://10.0.0.1", Some("redis://10.0.0.1:6379")),
            ("redis://app:hunter2@cache.example:7000/3", Some("redis://cache.example:7000")),
            ("rediss://:hunter2@cache.example:7000", Some("rediss://cache.example:7000")),
            // Verification of certificates cannot be disabled.
            ("rediss://cache.example:7000/#insecure", None),
            ("cache.example:6379", None),
            ("http://cache.example", None),
            ("redis://hunter2@@:x", None),
            ("redis+unix:///run/redis.sock", None),
        ] {
            let url = RedisUrl::parse(text);
            assert_eq!(url.as_ref().ok().map(ToString::to_string).as_deref(), want, "{text}");
            let shown = match url {
                Ok(url) => {
                    let mut settings = RedisSettings::new(url, NonZeroU32::MIN);
                    settings.password = Some("hunter2".to_owned());
                    format!("{settings:?} {:?} {}", settings.url, settings.fallback())
                }
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("hunter2"), "{text}: {shown}");
        }
    }
}
