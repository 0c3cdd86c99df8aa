//! Tests against a Redis that misbehaves: a server in this process with the part of the protocol that the limiter uses.

use super::super::{OnRedisError, RedisLimiter, RedisTokenBucket, RedisUrl};
use super::*;
use crate::limit::Take;
use crate::limit::{
    LimitDecision, LimitError, LimitKey, LimitRule, LimitStage, LimitStep, Limiter, Measure, OnExceeded, TokenBucket,
    TokenRate,
};
use crate::mail::{Client, ClientAddress, Granted, ReversePath, RuleName, SessionId, SystemClock};
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The behaviour of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Every take is granted.
    Room,
    /// No take is granted for a second.
    Full,
    /// It does not answer.
    Silent,
    /// It sends half an answer and closes the connection.
    Closing,
    /// It sends what no Redis sends.
    Garbage,
    /// A script returns text, which the scripts here never do.
    Text,
    /// It has become a replica.
    ReadOnly,
}

struct Fake {
    port: u16,
    mode: Mutex<Mode>,
    /// Digests of known scripts.
    scripts: Mutex<HashSet<String>>,
    /// The received commands, by first word.
    received: Mutex<Vec<String>>,
    /// Round trips: reads that returned at least one command.
    trips: AtomicU32,
}

impl Fake {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, trips) = (Mutex::new(Mode::Room), AtomicU32::new(0));
        let fake = Arc::new(Self { port, mode, scripts: Mutex::default(), received: Mutex::default(), trips });
        let server = Arc::clone(&fake);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        fake
    }

    fn be(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn received(&self) -> Vec<String> {
        std::mem::take(&mut self.received.lock().unwrap())
    }

    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            if stream.buffer().is_empty() {
                stream.fill_buf().await.ok().filter(|octets| !octets.is_empty())?;
                self.trips.fetch_add(1, Ordering::Relaxed);
            }
            let words = command(&mut stream).await?;
            let mode = *self.mode.lock().unwrap();
            let answer = self.answer(mode, &words);
            stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
            if mode == Mode::Closing && words[0].starts_with("EVAL") {
                return None;
            }
        }
    }

    fn answer(&self, mode: Mode, words: &[String]) -> String {
        if !words[0].starts_with("EVAL") {
            return "+OK\r\n".to_owned();
        }
        self.received.lock().unwrap().push(words[0].clone());
        let digest = if words[0] == "EVAL" {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, words[1].as_bytes());
            digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
        } else {
            words[1].clone()
        };
        let known = if words[0] == "EVAL" {
            self.scripts.lock().unwrap().insert(digest);
            true
        } else {
            self.scripts.lock().unwrap().contains(&digest)
        };
        match mode {
            Mode::Room | Mode::Full if !known => "-NOSCRIPT No matching script. Please use EVAL.\r\n",
            Mode::Room => ":-1\r\n",
            Mode::Full => ":1000000\r\n",
            Mode::Silent => "",
            Mode::Closing => ":",
            Mode::Garbage => "HTTP/1.1 400 Bad Request\r\n\r\n",
            Mode::Text => "$5\r\nhello\r\n",
            Mode::ReadOnly => "-READONLY You can't write against a read only replica.\r\n",
        }
        .to_owned()
    }

    fn settings(&self) -> RedisSettings {
        let url = RedisUrl::parse(&format!("redis://app:hunter2@127.0.0.1:{}", self.port)).unwrap();
        RedisSettings::new(url, NonZeroU32::new(2).unwrap())
    }

    /// Connects with a time limit that holds on a busy machine.
    async fn connect(&self, on_error: OnRedisError) -> RedisConnection {
        self.connect_for(on_error, Duration::from_secs(5)).await
    }

    async fn connect_for(&self, on_error: OnRedisError, wait_max: Duration) -> RedisConnection {
        let settings = RedisSettings { on_error, wait_max, ..self.settings() };
        // Even the probe at the start may be late on a busy machine.
        let settings = RedisSettings { start_without: true, ..settings };
        let store = RedisConnection::connect(settings, Arc::new(SystemClock)).await.unwrap();
        self.until_connected(&store, true).await;
        store
    }

    /// Waits until the breaker is in the expected state.
    async fn until_connected(&self, store: &RedisConnection, connected: bool) {
        let patience = SystemClock.now() + Duration::from_secs(20);
        while store.is_connected() != connected {
            assert!(SystemClock.now() < patience, "still {}", store.is_connected());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// `*2\r\n$4\r\nPING\r\n…`.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let number = async |kind: char, stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        line.trim_end().strip_prefix(kind)?.parse::<usize>().ok()
    };
    let count = number('*', stream).await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number('$', stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8(word).unwrap());
    }
    Some(words)
}

fn rules(rates: &[&str], over: OnExceeded) -> Vec<LimitRule> {
    let windows = rates.iter().map(|text| text.parse().unwrap()).collect();
    let name = RuleName::parse("relay").unwrap();
    vec![LimitRule { name, by: LimitKey::Relay, measure: Measure::Messages, windows, over, apps: Vec::new() }]
}

fn limiter(store: &RedisConnection, rates: &[&str], over: OnExceeded) -> RedisLimiter {
    RedisLimiter::new(store, rules(rates, over), jiff::tz::TimeZone::UTC)
}

struct Sender(Client, Granted);

impl Sender {
    fn new() -> Self {
        let address = ClientAddress::Ip("10.0.0.1:1".parse().unwrap());
        let client = Client::new(SessionId::fresh(), address, "main".into());
        Self(client, Granted::by(RuleName::parse("test").unwrap()))
    }

    fn mail(&self) -> LimitStep<'_> {
        let stage = LimitStage::Mail;
        LimitStep { client: &self.0, granted: &self.1, reverse_path: &ReversePath::Null, stage }
    }

    async fn reply(&self, limiter: &RedisLimiter) -> String {
        match limiter.take(&self.mail()).await {
            Ok(LimitDecision::Taken(_)) => "ok".to_owned(),
            Ok(LimitDecision::Over { reply, .. }) => reply.to_string(),
            Err(LimitError::Unavailable(why)) => why,
        }
    }
}

#[tokio::test]
async fn scripts_are_sent_whole_only_when_the_server_does_not_know_them() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Defer).await;
    let limiter = limiter(&store, &["10/s", "20/min"], OnExceeded::Defer);
    assert_eq!(Sender::new().reply(&limiter).await, "ok");
    fake.received();
    assert_eq!(Sender::new().reply(&limiter).await, "ok");
    assert_eq!(fake.received(), ["EVALSHA", "EVALSHA"]);
    fake.scripts.lock().unwrap().clear();
    assert_eq!(Sender::new().reply(&limiter).await, "ok", "a failover, or SCRIPT FLUSH");
    assert_eq!(fake.received(), ["EVALSHA", "EVALSHA", "EVAL", "EVAL"]);
}

#[tokio::test]
async fn several_steps_take_one_round_trip() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Defer).await;
    let limiter = limiter(&store, &["10/s", "20/min", "30/day"], OnExceeded::Defer);
    let sender = Sender::new();
    assert_eq!(sender.reply(&limiter).await, "ok");
    let before = fake.trips.load(Ordering::Relaxed);
    fake.received();
    let decisions = limiter.take_each(&[sender.mail(), sender.mail(), sender.mail()]).await;
    assert!(decisions.iter().all(|decision| matches!(decision, Ok(LimitDecision::Taken(_)))));
    assert_eq!((fake.received().len(), fake.trips.load(Ordering::Relaxed) - before), (9, 1));
}

#[tokio::test]
async fn a_silent_redis_delays_three_decisions_and_no_more() {
    let fake = Fake::start().await;
    let store = fake.connect_for(OnRedisError::Defer, Duration::from_millis(50)).await;
    let (limiter, sender) = (limiter(&store, &["10/s"], OnExceeded::Defer), Sender::new());
    fake.be(Mode::Silent);
    for _ in 0..SLOW_MAX {
        let began = SystemClock.now();
        assert_eq!(sender.reply(&limiter).await, "Redis does not answer");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(50) && took < Duration::from_secs(2), "{took:?}");
    }
    assert!(!store.is_connected());
    let began = SystemClock.now();
    for _ in 0..1_000 {
        assert_eq!(sender.reply(&limiter).await, "Redis does not answer");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "no further decision waits: {:?}", began.elapsed());
    fake.be(Mode::Room);
    fake.until_connected(&store, true).await;
    assert_eq!(sender.reply(&limiter).await, "ok");
}

#[tokio::test]
async fn one_late_answer_is_no_outage() {
    let fake = Fake::start().await;
    let store = fake.connect_for(OnRedisError::Allow, Duration::from_millis(50)).await;
    let (limiter, sender) = (limiter(&store, &["10/s"], OnExceeded::Defer), Sender::new());
    fake.be(Mode::Silent);
    assert_eq!([sender.reply(&limiter).await, sender.reply(&limiter).await], ["ok", "ok"], "two late ones");
    assert!(store.is_connected());
}

#[tokio::test]
async fn an_invalid_answer_opens_the_breaker_at_once() {
    for mode in [Mode::Closing, Mode::Garbage, Mode::Text, Mode::ReadOnly] {
        let fake = Fake::start().await;
        let store = fake.connect(OnRedisError::Defer).await;
        let (limiter, sender) = (limiter(&store, &["10/s"], OnExceeded::Defer), Sender::new());
        fake.be(mode);
        assert_eq!(sender.reply(&limiter).await, "Redis does not answer");
        assert!(!store.is_connected());
        // It stays open as long as the probe fails.
        sleep(Duration::from_millis(400)).await;
        assert!(!store.is_connected());
        fake.be(Mode::Room);
        fake.until_connected(&store, true).await;
        assert_eq!(sender.reply(&limiter).await, "ok");
    }
}

#[tokio::test]
async fn without_redis_each_relay_counts_its_part_and_rejects_nothing_permanently() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Local).await;
    let (limiter, sender) = (limiter(&store, &["10/h", "1000/day"], OnExceeded::Reject), Sender::new());
    let LimitDecision::Taken(of_redis) = limiter.take(&sender.mail()).await.unwrap() else {
        panic!("within the limit")
    };
    fake.be(Mode::Full);
    assert_eq!(sender.reply(&limiter).await, "550 5.7.1 Rate limit exceeded");
    fake.be(Mode::ReadOnly);
    for _ in 0..4 {
        assert_eq!(sender.reply(&limiter).await, "ok");
    }
    let LimitDecision::Taken(of_ours) = limiter.take(&sender.mail()).await.unwrap() else { panic!("the fifth of ten") };
    assert!(!store.is_connected());
    assert_eq!(sender.reply(&limiter).await, "451 4.7.1 Rate limit reached, try again later");
    // The amount taken in Redis is not returned here; the amount taken here is.
    limiter.give_back(of_redis).await;
    assert!(sender.reply(&limiter).await.starts_with("451"));
    limiter.give_back(of_ours).await;
    assert_eq!(sender.reply(&limiter).await, "ok");
}

#[tokio::test]
async fn a_refused_step_returns_nothing() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Defer).await;
    let limiter = limiter(&store, &["10/s", "20/min"], OnExceeded::Defer);
    fake.be(Mode::Full);
    fake.received();
    assert_eq!(Sender::new().reply(&limiter).await, "451 4.7.1 Rate limit reached, try again in 1 s");
    assert_eq!(fake.received(), ["EVALSHA", "EVALSHA"], "nothing was taken");
}

#[tokio::test]
async fn a_delay_waits_for_capacity_and_is_bounded_in_an_outage() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Defer).await;
    let patience = OnExceeded::Delay(Duration::from_secs(3));
    let (limiter, sender) = (limiter(&store, &["10/s"], patience), Sender::new());
    fake.be(Mode::Full);
    let make_room = async {
        sleep(Duration::from_millis(300)).await;
        fake.be(Mode::Room);
    };
    let began = SystemClock.now();
    let (reply, ()) = tokio::join!(sender.reply(&limiter), make_room);
    assert_eq!(reply, "ok");
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_start_without_redis_is_an_error_unless_configured() {
    let fake = Fake::start().await;
    fake.be(Mode::ReadOnly);
    let error = RedisConnection::connect(fake.settings(), Arc::new(SystemClock)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("127.0.0.1") && text.contains("READONLY") && !text.contains("hunter2"), "{text}");
    let settings = RedisSettings { start_without: true, ..fake.settings() };
    let store = RedisConnection::connect(settings, Arc::new(SystemClock)).await.unwrap();
    let limiter = limiter(&store, &["10/h"], OnExceeded::Defer);
    assert_eq!(Sender::new().reply(&limiter).await, "ok", "one of its five");
    assert!(!store.is_connected());
    fake.be(Mode::Room);
    fake.until_connected(&store, true).await;
    assert!(!format!("{store:?} {limiter:?}").contains("hunter2"));
}

#[tokio::test]
async fn the_account_rate_is_shared_and_has_the_same_fallback() {
    let rate = TokenRate { per_second: 10.0, burst: 4.0, reserve: 2.0 };
    let fake = Fake::start().await;
    let local = RedisTokenBucket::new(&fake.connect(OnRedisError::Local).await, "main");
    let defer = RedisTokenBucket::new(&fake.connect(OnRedisError::Defer).await, "main");
    assert_eq!(local.take(1, rate, false).await.unwrap(), Take::Granted);
    fake.be(Mode::Full);
    assert_eq!(local.take(1, rate, false).await.unwrap(), Take::RetryAfter(Duration::from_secs(1)));
    fake.be(Mode::ReadOnly);
    assert!(defer.take(1, rate, false).await.is_err());
    let taken = [local.take(1, rate, false).await, local.take(1, rate, false).await, local.take(1, rate, false).await];
    assert_eq!(taken.map(|taken| taken.unwrap() == Take::Granted), [true, true, false], "half of the burst");
    local.give_back(1, rate).await;
    assert_eq!(local.take(1, rate, false).await.unwrap(), Take::Granted);
    local.pause(Duration::from_secs(60)).await;
    assert_ne!(local.take(1, rate, true).await.unwrap(), Take::Granted);
}
