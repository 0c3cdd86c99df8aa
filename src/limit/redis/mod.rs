//! Limits and pacing that a fleet shares, over Redis or Valkey.
//!
//! [`RedisConnection`] is the connection: every wait for it is bounded, and when it fails it is left alone until it answers
//! again, so no session ever waits for a Redis that is down. [`RedisLimiter`] and [`RedisTokenBucket`] count in it; what they do
//! without it is the operator's choice, [`OnRedisError`].
//!
//! A decision is one round trip: one script call for each window of each limit, one key each, so that they run in cluster
//! mode too, sent together. Where one window has no room, a second round trip gives back what the others gave. The time is
//! the server's, in microseconds; relays whose clocks differ count the same. Keys vanish when they say nothing any more.
//! Needs Redis 6 or Valkey.

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

/// How to reach Redis, and what to do without it.
#[derive(Clone)]
pub struct RedisSettings {
    /// Where it is. In cluster mode: a node, or the cluster's configuration endpoint.
    pub url: RedisUrl,
    /// In cluster mode: other nodes to ask at the start when the first does not answer.
    pub more_nodes: Vec<RedisUrl>,
    /// The ACL user. Default: the URL's, or `default`.
    pub username: Option<String>,
    /// Its password. Default: the URL's.
    pub password: Option<String>,
    /// Who issues the server's certificate, in PEM. Default: the authorities that the system trusts.
    pub authorities: Option<Vec<u8>>,
    /// Whether keys are spread over several nodes. ElastiCache Serverless and MemoryDB want it.
    pub cluster: bool,
    /// What keys begin with. Relays with the same prefix share their limits.
    pub prefix: String,
    /// How long a decision waits for an answer.
    pub wait_max: Duration,
    /// How long connecting, TLS and AUTH may take. No session waits for it.
    pub connect_max: Duration,
    /// How many relays share the limits: without Redis, each counts its part.
    pub instances: NonZeroU32,
    /// What to do without Redis.
    pub on_error: OnRedisError,
    /// Whether to start while Redis does not answer.
    pub start_without: bool,
}

impl RedisSettings {
    /// The defaults: 50 ms a decision, local counts without Redis, no start without it.
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

    /// What can be known to be wrong without connecting.
    ///
    /// # Errors
    /// [`RedisError::Settings`].
    pub fn check(&self) -> Result<(), RedisError> {
        wire::check(self)
    }

    /// Where the server is, without secrets.
    fn place(&self) -> String {
        let nodes: Vec<String> = std::iter::once(&self.url).chain(&self.more_nodes).map(ToString::to_string).collect();
        nodes.join(" ")
    }

    /// What happens without Redis, for the log.
    fn meanwhile(&self) -> String {
        match self.on_error {
            OnRedisError::Local => format!("limits are counted in this process, at 1/{} of each", self.instances),
            OnRedisError::Defer => "messages that a limit touches are deferred".to_owned(),
            OnRedisError::Allow => "limits are not enforced".to_owned(),
        }
    }
}

impl fmt::Debug for RedisSettings {
    /// Without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("place", &self.place())
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
    /// Count in this process, each instance its part of every limit. Nothing is rejected for good by such a count.
    Local,
    /// 451.
    Defer,
    /// Let everything through.
    Allow,
}

/// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or the same with `rediss` for TLS. Prints without the password.
#[derive(Clone)]
pub struct RedisUrl(ConnectionInfo);

impl RedisUrl {
    /// Reads it.
    ///
    /// # Errors
    /// [`RedisError::Url`], which does not quote it.
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

    /// Whether it says TLS.
    pub fn has_tls(&self) -> bool {
        matches!(self.0.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Whether it says a password.
    pub fn has_password(&self) -> bool {
        self.0.redis_settings().password().is_some()
    }

    /// Whether it is this machine.
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
    /// The URL cannot be read. It may hold a password, so it is not shown.
    #[error("it is no URL of Redis: redis://HOST:PORT, or rediss://HOST:PORT for TLS")]
    Url,
    /// The settings do not fit together, or the certificates cannot be read.
    #[error("Redis settings: {0}")]
    Settings(String),
    /// It cannot be reached, does not let us in, or does not run our scripts.
    #[error("Redis at {place}: {why}")]
    Unreachable {
        /// Where it should be.
        place: String,
        /// What it said, or what the network said.
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
            // Verification of certificates cannot be switched off.
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
                    format!("{settings:?} {:?} {}", settings.url, settings.meanwhile())
                }
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("hunter2"), "{text}: {shown}");
        }
    }
}
