//! The protocol on one connection to Redis, or to the nodes of a cluster: calls are sent together, integers are
//! returned.

use super::scripts::{self, Call};
use super::{RedisError, RedisSettings, RedisUrl};
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, TlsCertificates, Value};
use tokio::task::JoinSet;

/// An open connection. Clones share it.
#[derive(Clone)]
pub(super) enum RedisWire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Why the connection cannot be used any more.
#[derive(Debug)]
pub(super) struct ConnectionError(pub(super) String);

impl From<::redis::RedisError> for ConnectionError {
    fn from(error: ::redis::RedisError) -> Self {
        Self(error.to_string())
    }
}

enum Answer {
    Number(i64),
    /// The server does not know the script.
    NoScript,
}

impl RedisWire {
    /// Connects and logs in. The caller bounds the time.
    pub(super) async fn open(settings: &RedisSettings) -> Result<Self, ConnectionError> {
        if settings.cluster {
            return Ok(Self::Cluster(cluster(settings)?.get_async_connection().await?));
        }
        // The caller's deadline bounds the wait for an answer, not the client library.
        let config =
            AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(settings.connect_max));
        Ok(Self::One(client(settings)?.get_multiplexed_async_connection_with_config(&config).await?))
    }

    /// Runs all calls, in one round trip if the server knows the scripts.
    pub(super) async fn run(&self, calls: &[Call]) -> Result<Vec<i64>, ConnectionError> {
        let mut answers = self.send(calls.iter().map(|call| call.command(false)).collect()).await?;
        let unknown = |answers: &[Answer]| -> Vec<usize> {
            let places = answers.iter().enumerate();
            places.filter(|(_, answer)| matches!(answer, Answer::NoScript)).map(|(index, _)| index).collect()
        };
        let again = unknown(&answers);
        if !again.is_empty() {
            let whole = again.iter().filter_map(|index| calls.get(*index)).map(|call| call.command(true)).collect();
            for (index, answer) in again.into_iter().zip(self.send(whole).await?) {
                answers[index] = answer;
            }
        }
        let number = |answer| match answer {
            Answer::Number(number) => Ok(number),
            Answer::NoScript => Err(ConnectionError("NOSCRIPT in answer to a script".to_owned())),
        };
        let numbers: Vec<i64> = answers.into_iter().map(number).collect::<Result<_, _>>()?;
        if numbers.len() == calls.len() { Ok(numbers) } else { Err(ConnectionError("answers are missing".to_owned())) }
    }

    async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<Answer>, ConnectionError> {
        match self {
            Self::One(connection) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command);
                }
                let mut connection = connection.clone();
                match connection.send_packed_commands(&pipeline, 0, pipeline.len()).await {
                    Ok(values) => values.into_iter().map(answer).collect(),
                    Err(error) => Ok(vec![answer_of(error)?]),
                }
            }
            // Each key is on its own node. The commands are still sent concurrently.
            Self::Cluster(connection) => {
                let mut sent = JoinSet::new();
                let mut answers = Vec::with_capacity(commands.len());
                for (index, command) in commands.into_iter().enumerate() {
                    let mut connection = connection.clone();
                    sent.spawn(async move { (index, connection.req_packed_command(&command).await) });
                    answers.push(Answer::NoScript);
                }
                while let Some(done) = sent.join_next().await {
                    let (index, value) = done.map_err(|error| ConnectionError(error.to_string()))?;
                    answers[index] = match value {
                        Ok(value) => answer(value)?,
                        Err(error) => answer_of(error)?,
                    };
                }
                Ok(answers)
            }
        }
    }

    /// Checks that the server runs a script that writes: a replica, or a user without the rights, does not.
    pub(super) async fn probe(&self, prefix: &str) -> Result<(), ConnectionError> {
        let call = Call::new(&scripts::TAKE, format!("{prefix}:{{probe}}"), [&1, &1_000_000]);
        self.run(&[call]).await.map(|_| ())
    }
}

fn answer(value: Value) -> Result<Answer, ConnectionError> {
    match value {
        Value::Int(number) => Ok(Answer::Number(number)),
        Value::ServerError(error) if error.code() == NO_SCRIPT => Ok(Answer::NoScript),
        Value::ServerError(error) => {
            Err(ConnectionError(format!("{} {}", error.code(), error.details().unwrap_or_default())))
        }
        _ => Err(ConnectionError("an answer that is not a number".to_owned())),
    }
}

fn answer_of(error: ::redis::RedisError) -> Result<Answer, ConnectionError> {
    if error.code() == Some(NO_SCRIPT) { Ok(Answer::NoScript) } else { Err(error.into()) }
}

const NO_SCRIPT: &str = "NOSCRIPT";

/// The URL with the user and password of the settings.
fn info(settings: &RedisSettings, RedisUrl(info): &RedisUrl) -> ConnectionInfo {
    let mut redis = info.redis_settings().clone();
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password);
    }
    info.clone().set_redis_settings(redis).set_tcp_settings(without_delay())
}

/// Disables Nagle's algorithm: a small command that waits for the acknowledgement of the previous one would wait up to
/// 40 ms of the 50 ms of a decision.
fn without_delay() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn certificates(settings: &RedisSettings) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: settings.authorities.clone() }
}

fn client(settings: &RedisSettings) -> Result<Client, ::redis::RedisError> {
    let info = info(settings, &settings.url);
    if settings.url.has_tls() { Client::build_with_tls(info, certificates(settings)) } else { Client::open(info) }
}

fn cluster(settings: &RedisSettings) -> Result<ClusterClient, ::redis::RedisError> {
    let nodes = std::iter::once(&settings.url).chain(&settings.more_nodes).map(|url| info(settings, url));
    // The caller's deadline bounds the retries of redirections.
    let mut builder = ClusterClient::builder(nodes)
        .connection_timeout(settings.connect_max)
        .response_timeout(settings.connect_max)
        .tcp_settings(without_delay())
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(5)
        .max_retry_wait(50);
    if settings.url.has_tls() {
        builder = builder.certs(certificates(settings));
    }
    builder.build()
}

/// Enough for a slot that moved and a new node that fails at that moment. More means that the cluster is unhealthy.
const CLUSTER_RETRIES: u32 = 3;

/// Checks everything that can be checked without connecting.
pub(super) fn check(settings: &RedisSettings) -> Result<(), RedisError> {
    let built = if settings.cluster { cluster(settings).map(|_| ()) } else { client(settings).map(|_| ()) };
    built.map_err(|error| RedisError::Settings(error.to_string()))
}
