//! A Redis that misbehaves: a listener in this process that speaks as much of the protocol as we use.

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

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// There is room for everything.
    Room,
    /// There is none for a second.
    Full,
    /// Nothing is said.
    Silent,
    /// Half an answer, and the connection is closed.
    Closing,
    /// What no Redis says.
    Garbage,
    /// A script's answer that no script of ours gives.
    Text,
    /// It has become a replica.
    ReadOnly,
}

struct Fake {
    port: u16,
    mode: Mutex<Mode>,
    /// Digests of scripts that it knows.
    scripts: Mutex<HashSet<String>>,
    /// What it was asked, by first word.
    asked: Mutex<Vec<String>>,
    /// Round trips: reads that brought at least one command.
    trips: AtomicU32,
}

impl Fake {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, trips) = (Mutex::new(Mode::Room), AtomicU32::new(0));
        let fake = Arc::new(Self { port, mode, scripts: Mutex::default(), asked: Mutex::default(), trips });
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

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
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
        self.asked.lock().unwrap().push(words[0].clone());
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

    /// With a bound that a busy machine keeps.
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

    /// Until the breaker is as it should be.
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

    async fn told(&self, limiter: &RedisLimiter) -> String {
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
    assert_eq!(Sender::new().told(&limiter).await, "ok");
    fake.asked();
    assert_eq!(Sender::new().told(&limiter).await, "ok");
    assert_eq!(fake.asked(), ["EVALSHA", "EVALSHA"]);
    fake.scripts.lock().unwrap().clear();
    assert_eq!(Sender::new().told(&limiter).await, "ok", "a failover, or SCRIPT FLUSH");
    assert_eq!(fake.asked(), ["EVALSHA", "EVALSHA", "EVAL", "EVAL"]);
}

#[tokio::test]
async fn what_several_steps_cost_is_one_round_trip() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Defer).await;
    let limiter = limiter(&store, &["10/s", "20/min", "30/day"], OnExceeded::Defer);
    let sender = Sender::new();
    assert_eq!(sender.told(&limiter).await, "ok");
    let before = fake.trips.load(Ordering::Relaxed);
    fake.asked();
    let decisions = limiter.take_each(&[sender.mail(), sender.mail(), sender.mail()]).await;
    assert!(decisions.iter().all(|decision| matches!(decision, Ok(LimitDecision::Taken(_)))));
    assert_eq!((fake.asked().len(), fake.trips.load(Ordering::Relaxed) - before), (9, 1));
}

#[tokio::test]
async fn a_redis_that_says_nothing_costs_three_decisions_their_wait_and_then_none() {
    let fake = Fake::start().await;
    let store = fake.connect_for(OnRedisError::Defer, Duration::from_millis(50)).await;
    let (limiter, sender) = (limiter(&store, &["10/s"], OnExceeded::Defer), Sender::new());
    fake.be(Mode::Silent);
    for _ in 0..SLOW_MAX {
        let began = SystemClock.now();
        assert_eq!(sender.told(&limiter).await, "Redis does not answer");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(50) && took < Duration::from_secs(2), "{took:?}");
    }
    assert!(!store.is_connected());
    let began = SystemClock.now();
    for _ in 0..1_000 {
        assert_eq!(sender.told(&limiter).await, "Redis does not answer");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits any more: {:?}", began.elapsed());
    fake.be(Mode::Room);
    fake.until_connected(&store, true).await;
    assert_eq!(sender.told(&limiter).await, "ok");
}

#[tokio::test]
async fn one_late_answer_is_no_outage() {
    let fake = Fake::start().await;
    let store = fake.connect_for(OnRedisError::Allow, Duration::from_millis(50)).await;
    let (limiter, sender) = (limiter(&store, &["10/s"], OnExceeded::Defer), Sender::new());
    fake.be(Mode::Silent);
    assert_eq!([sender.told(&limiter).await, sender.told(&limiter).await], ["ok", "ok"], "two late ones");
    assert!(store.is_connected());
}

#[tokio::test]
async fn what_cannot_be_understood_opens_the_breaker_at_once() {
    for mode in [Mode::Closing, Mode::Garbage, Mode::Text, Mode::ReadOnly] {
        let fake = Fake::start().await;
        let store = fake.connect(OnRedisError::Defer).await;
        let (limiter, sender) = (limiter(&store, &["10/s"], OnExceeded::Defer), Sender::new());
        fake.be(mode);
        assert_eq!(sender.told(&limiter).await, "Redis does not answer");
        assert!(!store.is_connected());
        // It stays open as long as the probe gets no better answer.
        sleep(Duration::from_millis(400)).await;
        assert!(!store.is_connected());
        fake.be(Mode::Room);
        fake.until_connected(&store, true).await;
        assert_eq!(sender.told(&limiter).await, "ok");
    }
}

#[tokio::test]
async fn without_redis_each_relay_counts_its_part_and_rejects_nothing_for_good() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Local).await;
    let (limiter, sender) = (limiter(&store, &["10/h", "1000/day"], OnExceeded::Reject), Sender::new());
    let LimitDecision::Taken(of_redis) = limiter.take(&sender.mail()).await.unwrap() else { panic!("there is room") };
    fake.be(Mode::Full);
    assert_eq!(sender.told(&limiter).await, "550 5.7.1 Rate limit exceeded");
    fake.be(Mode::ReadOnly);
    for _ in 0..4 {
        assert_eq!(sender.told(&limiter).await, "ok");
    }
    let LimitDecision::Taken(of_ours) = limiter.take(&sender.mail()).await.unwrap() else { panic!("the fifth of ten") };
    assert!(!store.is_connected());
    assert_eq!(sender.told(&limiter).await, "451 4.7.1 Rate limit reached, try again later");
    // What Redis gave is not given back here, and what was given here is.
    limiter.give_back(of_redis).await;
    assert!(sender.told(&limiter).await.starts_with("451"));
    limiter.give_back(of_ours).await;
    assert_eq!(sender.told(&limiter).await, "ok");
}

#[tokio::test]
async fn a_step_that_took_nothing_has_nothing_to_give_back() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Defer).await;
    let limiter = limiter(&store, &["10/s", "20/min"], OnExceeded::Defer);
    fake.be(Mode::Full);
    fake.asked();
    assert_eq!(Sender::new().told(&limiter).await, "451 4.7.1 Rate limit reached, try again in 1 s");
    assert_eq!(fake.asked(), ["EVALSHA", "EVALSHA"], "nothing was taken");
}

#[tokio::test]
async fn a_delay_waits_for_room_and_is_bounded_in_an_outage() {
    let fake = Fake::start().await;
    let store = fake.connect(OnRedisError::Defer).await;
    let patience = OnExceeded::Delay(Duration::from_secs(3));
    let (limiter, sender) = (limiter(&store, &["10/s"], patience), Sender::new());
    fake.be(Mode::Full);
    let room = async {
        sleep(Duration::from_millis(300)).await;
        fake.be(Mode::Room);
    };
    let began = SystemClock.now();
    let (told, ()) = tokio::join!(sender.told(&limiter), room);
    assert_eq!(told, "ok");
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_start_without_redis_is_an_error_or_what_the_operator_wants() {
    let fake = Fake::start().await;
    fake.be(Mode::ReadOnly);
    let error = RedisConnection::connect(fake.settings(), Arc::new(SystemClock)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("127.0.0.1") && text.contains("READONLY") && !text.contains("hunter2"), "{text}");
    let settings = RedisSettings { start_without: true, ..fake.settings() };
    let store = RedisConnection::connect(settings, Arc::new(SystemClock)).await.unwrap();
    let limiter = limiter(&store, &["10/h"], OnExceeded::Defer);
    assert_eq!(Sender::new().told(&limiter).await, "ok", "one of its five");
    assert!(!store.is_connected());
    fake.be(Mode::Room);
    fake.until_connected(&store, true).await;
    assert!(!format!("{store:?} {limiter:?}").contains("hunter2"));
}

#[tokio::test]
async fn the_accounts_own_rate_is_shared_and_has_the_same_ways_out() {
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
