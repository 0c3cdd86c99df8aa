//! Tests against a real server: `GATEPOST_TEST_REDIS=redis://127.0.0.1:PORT cargo test --lib limit::redis --
//! --ignored`. The second tier runs them.

use super::scripts::{Call, GIVE_BACK, LOOK, PAUSE, Script, TAKE};
use super::*;
use crate::limit::Take;
use crate::limit::{
    LimitDecision, LimitKey, LimitRule, LimitStage, LimitStep, Limiter, LocalLimiter, LocalTokenBucket, Measure,
    OnExceeded, TokenBucket, TokenRate,
};
use crate::mail::parameters::AppName;
use crate::mail::{
    Client, ClientAddress, Clock, ForwardPath, Granted, Mailbox, ManualClock, ReversePath, RuleName, SessionId,
    SystemClock,
};
use ::redis::aio::MultiplexedConnection;
use ::redis::cmd;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::sync::Arc;

fn url() -> String {
    std::env::var("GATEPOST_TEST_REDIS")
        .expect("GATEPOST_TEST_REDIS must be the URL of a Redis whose data may be deleted")
}

async fn raw() -> MultiplexedConnection {
    ::redis::Client::open(url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Keys of one test.
fn settings(prefix: &str) -> RedisSettings {
    let two = NonZeroU32::new(2).unwrap();
    // A wait that is not exceeded on a busy machine.
    let wait_max = Duration::from_secs(5);
    let prefix = format!("{prefix}-{}", std::process::id());
    RedisSettings { prefix, wait_max, ..RedisSettings::new(RedisUrl::parse(&url()).unwrap(), two) }
}

async fn store(prefix: &str) -> RedisConnection {
    RedisConnection::connect(settings(prefix), Arc::new(SystemClock)).await.unwrap()
}

fn rule(name: &str, by: LimitKey, measure: Measure, rates: &[&str]) -> LimitRule {
    let windows = rates.iter().map(|text| text.parse().unwrap()).collect();
    let (name, over) = (RuleName::parse(name).unwrap(), OnExceeded::Defer);
    LimitRule { name, by, measure, windows, over, apps: Vec::new() }
}

struct Sender(Client, Granted, ReversePath);

impl Sender {
    fn new(app: &str) -> Self {
        let address = ClientAddress::Ip("10.0.0.1:1".parse().unwrap());
        let mut granted = Granted::by(RuleName::parse("test").unwrap());
        granted.app = Some(AppName::parse(app).unwrap());
        let path = ReversePath::Mailbox(Mailbox::parse("x@a.example").unwrap());
        Self(Client::new(SessionId::fresh(), address, "main".into()), granted, path)
    }

    fn step<'a>(&'a self, stage: LimitStage<'a>) -> LimitStep<'a> {
        LimitStep { client: &self.0, granted: &self.1, reverse_path: &self.2, stage }
    }

    async fn mail(&self, limiter: &RedisLimiter) -> LimitDecision {
        limiter.take(&self.step(LimitStage::Mail)).await.unwrap()
    }
}

fn is_taken(decision: &LimitDecision) -> bool {
    matches!(decision, LimitDecision::Taken(_))
}

#[tokio::test]
#[ignore = "needs a Redis"]
async fn two_relays_use_the_same_keys_for_every_kind_of_limit() {
    for (by, rate) in [
        (LimitKey::App, "3/h"),
        (LimitKey::ReversePath, "3/h"),
        (LimitKey::Relay, "3/day"),
        (LimitKey::Client { ipv4_prefix: 24, ipv6_prefix: 64 }, "3/month"),
    ] {
        let prefix = format!("share-{}", rate.replace('/', "-"));
        let rules = || vec![rule(&format!("l{}", rate.len()), by, Measure::Messages, &[rate])];
        let (one, two) = (store(&prefix).await, store(&prefix).await);
        let (one, two) =
            (RedisLimiter::new(&one, rules(), TimeZone::UTC), RedisLimiter::new(&two, rules(), TimeZone::UTC));
        let sender = Sender::new("a");
        let mut taken = Vec::new();
        for limiter in [&one, &two, &one, &two, &one] {
            taken.push(is_taken(&sender.mail(limiter).await));
        }
        assert_eq!(taken, [true, true, true, false, false], "{by:?} {rate}");
        // For metrics: only limits that count all of an application or all of the relay.
        let apps = ["a", "b"].map(|name| AppName::parse(name).unwrap());
        let standings = two.standings(&apps).await.into_iter();
        let standings: Vec<_> =
            standings.map(|it| (it.app.as_ref().map(ToString::to_string), it.used(), it.left)).collect();
        let of = |name: &str| Some(name.to_owned());
        assert_eq!(
            standings,
            match by {
                LimitKey::App => vec![(of("a"), 3, 0), (of("b"), 0, 3)],
                LimitKey::Relay => vec![(None, 3, 0)],
                _ => Vec::new(),
            }
        );
    }
}

#[tokio::test]
#[ignore = "needs a Redis"]
async fn all_windows_are_taken_or_none_and_give_back_what_they_took() {
    let store = store("windows").await;
    let rules = vec![rule("app", LimitKey::App, Measure::Messages, &["10/h", "5/day", "7/month"])];
    let limiter = RedisLimiter::new(&store, rules, TimeZone::UTC);
    let sender = Sender::new("a");
    let left = async || {
        let views = limiter.peek(&sender.step(LimitStage::Mail)).await.unwrap();
        views.iter().map(|view| view.left).collect::<Vec<u64>>()
    };
    assert_eq!(left().await, [10, 5, 7]);
    let LimitDecision::Taken(ticket) = sender.mail(&limiter).await else { panic!("the first") };
    assert_eq!(left().await, [9, 4, 6]);
    limiter.give_back(ticket).await;
    assert_eq!(left().await, [10, 5, 7]);
    let mut tickets = Vec::new();
    for _ in 0..5 {
        let LimitDecision::Taken(ticket) = sender.mail(&limiter).await else { panic!("within the limit") };
        tickets.push(ticket);
    }
    assert!(!is_taken(&sender.mail(&limiter).await), "the day is used up");
    assert_eq!(left().await, [5, 0, 2], "nothing was taken from the other windows");
    // Several steps at once, one of which is over the limit.
    limiter.give_back(tickets.pop().unwrap()).await;
    let mail = sender.step(LimitStage::Mail);
    let decisions = limiter.take_each(&[mail, mail, mail]).await;
    let taken: Vec<bool> = decisions.iter().map(|decision| decision.as_ref().is_ok_and(is_taken)).collect();
    assert_eq!(taken, [true, false, false]);
    assert_eq!(left().await, [5, 0, 2]);
}

#[tokio::test]
#[ignore = "needs a Redis"]
async fn keys_expire_when_their_bucket_is_full() {
    let store = store("vanish").await;
    let rules = vec![rule("app", LimitKey::App, Measure::Messages, &["20/s", "5/day", "5/month"])];
    let limiter = RedisLimiter::new(&store, rules, TimeZone::UTC);
    assert!(is_taken(&Sender::new("a").mail(&limiter).await));
    let mut raw = raw().await;
    let mut ends = Vec::new();
    let keys: Vec<String> =
        cmd("KEYS").arg("vanish-*:{????????????????????????????????}:*").query_async(&mut raw).await.unwrap();
    for key in &keys {
        let milliseconds: i64 = cmd("PTTL").arg(key).query_async(&mut raw).await.unwrap();
        let octets: i64 = cmd("MEMORY").arg("USAGE").arg(key).query_async(&mut raw).await.unwrap();
        assert!(octets <= 160, "{key}: {octets} octets");
        ends.push(milliseconds);
    }
    ends.sort_unstable();
    assert_eq!(ends.len(), 3, "{keys:?}");
    assert!(ends[0] <= 52 && ends[1] > 86_400_000 && ends[2] <= 33 * 86_400_000, "{ends:?}");
    tokio::time::sleep(Duration::from_millis(60)).await;
    let keys: Vec<String> = cmd("KEYS").arg("vanish-*:*ns:20").query_async(&mut raw).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
#[ignore = "needs a Redis"]
async fn octets_and_recipients_are_counted_as_amounts() {
    let store = store("cost").await;
    let rules = vec![
        rule("octets", LimitKey::App, Measure::Octets, &["1000/h"]),
        rule("recipients", LimitKey::Author, Measure::Recipients, &["3/h"]),
    ];
    let limiter = RedisLimiter::new(&store, rules, TimeZone::UTC);
    let (sender, author) = (Sender::new("a"), Mailbox::parse("x@a.example").unwrap());
    let message = async |octets, recipients| {
        let stage = LimitStage::Message { author: &author, octets, recipients };
        match limiter.take(&sender.step(stage)).await.unwrap() {
            LimitDecision::Taken(_) => "ok".to_owned(),
            LimitDecision::Over { limit, reply, .. } => format!("{limit} {}", reply.code()),
        }
    };
    assert_eq!(message(1_001, 1).await, "octets 552");
    assert_eq!(message(600, 1).await, "ok");
    assert_eq!(message(600, 1).await, "octets 451");
    assert_eq!(message(100, 3).await, "recipients 451");
    assert_eq!(message(400, 2).await, "ok");
    let path = ForwardPath::new(Mailbox::parse("b@b.example").unwrap()).unwrap();
    let free = limiter.take(&sender.step(LimitStage::Rcpt(&path))).await.unwrap();
    assert!(is_taken(&free), "no limit applies to it");
}

#[tokio::test]
#[ignore = "needs a Redis"]
async fn relays_share_one_bucket_for_the_account_rate() {
    let rate = TokenRate { per_second: 0.01, burst: 5.0, reserve: 2.0 };
    let (one, two) = (store("tokens").await, store("tokens").await);
    let (one, two) = (RedisTokenBucket::new(&one, "main"), RedisTokenBucket::new(&two, "main"));
    let mut taken = Vec::new();
    for tokens in [&one, &two, &one, &two, &one, &two] {
        taken.push(tokens.take(1, rate, false).await.unwrap() == Take::Granted);
    }
    assert_eq!(taken, [true, true, true, true, true, false]);
    assert_eq!(two.take(2, rate, true).await.unwrap(), Take::Granted, "the guaranteed");
    let Take::RetryAfter(wait) = one.take(1, rate, false).await.unwrap() else { panic!("a part is granted") };
    assert!(wait > Duration::from_secs(290) && wait <= Duration::from_secs(300), "{wait:?}");
    one.give_back(3, rate).await;
    assert_eq!(two.take(1, rate, false).await.unwrap(), Take::Granted);
    one.pause(Duration::from_secs(3_600)).await;
    let Take::RetryAfter(wait) = two.take(1, rate, true).await.unwrap() else { panic!("a part is granted") };
    assert!(wait > Duration::from_secs(3_590), "whatever the slack: {wait:?}");
}

/// Runs the scripts with a simulated clock instead of the server's.
struct Scripts {
    connection: MultiplexedConnection,
    key: String,
    now_micros: u64,
}

impl Scripts {
    async fn call(&mut self, script: &'static std::sync::LazyLock<Script>, arguments: &[f64]) -> i64 {
        let time = format!("{{{}, {}}}", self.now_micros / 1_000_000, self.now_micros % 1_000_000);
        let text = script.text().replace("redis.call('TIME')", &time).replace("math.ceil(last / 1000) + 1", "60000");
        assert_ne!(text, script.text());
        let mut command = cmd("EVAL");
        command.arg(text).arg(1).arg(&self.key);
        for argument in arguments {
            command.arg(argument.to_string());
        }
        command.query_async(&mut self.connection).await.unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// At any rate and after any history, decisions, waits and remaining amounts are those of the local limiter.
    #[test]
    #[ignore = "needs a Redis"]
    fn the_script_decides_as_the_limiter_in_this_process(
        rate in 1u32..9_000, burst in 1u32..20,
        steps in proptest::collection::vec((0u64..3_000_000, 1u32..6, any::<bool>()), 1..60), slow in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Arc::new(ManualClock::new());
            let text = format!("{rate}/{} burst {burst}", if slow { "min" } else { "s" });
            let crate::limit::Window::Rate(window) = text.parse().unwrap() else { panic!("a rate") };
            let interval = window.interval().as_nanos() as f64 / 1_000.0;
            let rules = vec![rule("l", LimitKey::Author, Measure::Recipients, &[&text])];
            let local = LocalLimiter::new(rules, Arc::clone(&clock) as Arc<dyn Clock>);
            let author = Mailbox::parse("x@a.example").unwrap();
            let (sender, connection) = (Sender::new("a"), raw().await);
            let key = format!("model:{rate}:{burst}");
            let mut lua = Scripts { connection, key, now_micros: 1_795_000_000_000_000 };
            let _: () = cmd("DEL").arg(&lua.key).query_async(&mut lua.connection).await.unwrap();
            for (permille, amount, returned) in steps {
                // From zero to three intervals.
                let micros = (interval * permille as f64 / 1e6) as u64;
                clock.advance(Duration::from_micros(micros));
                lua.now_micros += micros;
                let stage = LimitStage::Message { author: &author, octets: 1, recipients: amount as usize };
                let decision = local.take(&sender.step(stage)).await.unwrap();
                if amount > burst { continue }
                let answer = lua.call(&TAKE, &[f64::from(amount) * interval, f64::from(burst - amount) * interval]).await;
                match decision {
                    LimitDecision::Taken(ticket) => {
                        assert_eq!(answer, scripts::TAKEN);
                        if returned {
                            local.give_back(ticket).await;
                            lua.call(&GIVE_BACK, &[f64::from(amount) * interval]).await;
                        }
                    }
                    LimitDecision::Over { wait, .. } => {
                        let wait = wait.unwrap().as_nanos().div_ceil(1_000);
                        assert!(answer.abs_diff(i64::try_from(wait).unwrap()) <= 1, "{answer} {wait}");
                    }
                }
                let left = local.peek(&sender.step(stage)).await.unwrap()[0].left;
                let debt_nanos = lua.call(&LOOK, &[]).await as u64;
                let interval_nanos = window.interval().as_nanos() as u64;
                assert_eq!(u64::from(burst).saturating_sub(debt_nanos.div_ceil(interval_nanos)), left);
            }
        });
    }

    /// The same property for the token bucket of the account's rate.
    #[test]
    #[ignore = "needs a Redis"]
    fn the_script_paces_as_this_process_does(
        per_second in 0.5f64..500.0, burst in 1.0f64..20.0, reserve in 0.0f64..5.0,
        steps in proptest::collection::vec((0u64..3_000_000, 1u32..30, any::<bool>(), 0u64..8_000_000), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Arc::new(ManualClock::new());
            let local = LocalTokenBucket::new(Arc::clone(&clock) as Arc<dyn Clock>);
            let rate = TokenRate { per_second, burst, reserve };
            let mut lua = Scripts { connection: raw().await, key: "pace".to_owned(), now_micros: 1_795_000_000_000_000 };
            let _: () = cmd("DEL").arg(&lua.key).query_async(&mut lua.connection).await.unwrap();
            for (permille, recipients, guaranteed, pause) in steps {
                let micros = (permille as f64 / per_second) as u64;
                clock.advance(Duration::from_micros(micros));
                lua.now_micros += micros;
                // Occasionally the provider throttles.
                if let Some(over) = pause.checked_sub(6_500_000) {
                    let micros = (over as f64 / per_second) as u64;
                    local.pause(Duration::from_micros(micros)).await;
                    lua.call(&PAUSE, &[micros as f64]).await;
                }
                let cost = f64::from(recipients) / per_second * 1e6;
                let reserve = if guaranteed { reserve } else { 0.0 };
                let slack = ((burst - f64::from(recipients)).max(0.0) + reserve) / per_second * 1e6;
                let answer = lua.call(&TAKE, &[cost, slack]).await;
                match local.try_take(recipients, rate, guaranteed) {
                    Take::Granted => assert_eq!(answer, scripts::TAKEN),
                    Take::NeverFits => panic!("a bucket pays a large message back"),
                    Take::RetryAfter(wait) => assert!(answer.abs_diff(wait.as_micros() as i64) <= 2, "{answer} {wait:?}"),
                }
            }
        });
    }
}

#[test]
fn calls_of_one_fact_fall_into_one_slot() {
    let call = Call::new(&TAKE, "p:{00ff}:x".to_owned(), [&1.5, &2]);
    let packed = String::from_utf8(call.command(false).get_packed_command()).unwrap();
    assert!(packed.starts_with("*6\r\n$7\r\nEVALSHA\r\n$40\r\n") && packed.contains("{00ff}"), "{packed}");
}
