use super::super::LimitStage;
use super::super::gcra_store::GcraStore;
use super::super::rule::Rate;
use super::super::rule::{LimitKey, Measure, OnExceeded};
use super::*;
use crate::mail::ClientAddress;
use crate::mail::parameters::AppName;
use crate::mail::{Client, ForwardPath, Granted, Identity, Mailbox, ManualClock, ReversePath, RuleName, SessionId};
use proptest::prelude::*;
use std::time::SystemTime;

fn rule(name: &str, by: LimitKey, measure: Measure, windows: &[&str], over: OnExceeded) -> LimitRule {
    let windows = windows.iter().map(|text| text.parse().unwrap()).collect();
    LimitRule { name: RuleName::parse(name).unwrap(), by, measure, windows, over, apps: Vec::new() }
}

const BY_ADDRESS: LimitKey = LimitKey::Client { ipv4_prefix: 32, ipv6_prefix: 64 };

/// A client with its application. Decisions are printed as `ok`, or as the exceeded limit and the reply.
struct Sender {
    client: Client,
    granted: Granted,
    reverse_path: ReversePath,
}

impl Sender {
    fn new(address: &str, app: &str, identity: Option<&str>) -> Self {
        let address = ClientAddress::Ip(address.parse().unwrap());
        let mut client = Client::new(SessionId::fresh(), address, "main".into());
        client.identity = identity.map(Identity::new);
        let mut granted = Granted::by(RuleName::parse("test").unwrap());
        granted.app = Some(AppName::parse(app).unwrap());
        Self { client, granted, reverse_path: ReversePath::Mailbox(Mailbox::parse("x@a.example").unwrap()) }
    }

    fn step<'a>(&'a self, stage: LimitStage<'a>) -> LimitStep<'a> {
        LimitStep { client: &self.client, granted: &self.granted, reverse_path: &self.reverse_path, stage }
    }

    async fn take(&self, limiter: &LocalLimiter, stage: LimitStage<'_>) -> LimitDecision {
        limiter.take(&self.step(stage)).await.unwrap()
    }

    async fn mail(&self, limiter: &LocalLimiter) -> String {
        reply_of(self.take(limiter, MAIL).await)
    }
}

const MAIL: LimitStage<'static> = LimitStage::Mail;

fn reply_of(decision: LimitDecision) -> String {
    match decision {
        LimitDecision::Taken(_) => "ok".to_owned(),
        LimitDecision::Over { limit, reply, .. } => format!("{limit}: {reply}"),
    }
}

fn near(app: &str) -> Sender {
    Sender::new("10.0.0.1:1", app, None)
}

#[tokio::test]
async fn all_windows_must_have_capacity_and_all_are_taken_or_none() {
    let clock = Arc::new(ManualClock::new());
    let rules = vec![rule("app", LimitKey::App, Measure::Messages, &["10/s burst 3", "5/min"], OnExceeded::Defer)];
    let limiter = LocalLimiter::new(rules, Arc::clone(&clock) as Arc<dyn Clock>);
    let one = near("one");
    for _ in 0..3 {
        assert_eq!(one.mail(&limiter).await, "ok");
    }
    assert_eq!(one.mail(&limiter).await, "app: 451 4.7.1 Rate limit reached, try again in 1 s");
    assert_eq!(near("two").mail(&limiter).await, "ok", "another application has its own counts");
    clock.advance(Duration::from_secs(1));
    // The first window has capacity restarted. Of the second's five, three are used: a refused step took nothing.
    assert_eq!([one.mail(&limiter).await, one.mail(&limiter).await], ["ok", "ok"]);
    assert_eq!(one.mail(&limiter).await, "app: 451 4.7.1 Rate limit reached, try again in 11 s");
    clock.advance(Duration::from_secs(11));
    assert_eq!(one.mail(&limiter).await, "ok");
    let views = limiter.peek(&one.step(MAIL)).await.unwrap();
    let left: Vec<(u64, String)> = views.iter().map(|view| (view.left, view.window.to_string())).collect();
    assert_eq!(left, [(2, "10/s burst 3".to_owned()), (0, "5/min burst 5".to_owned())]);
}

#[tokio::test]
async fn a_reservation_can_be_returned() {
    let rules = vec![rule("relay", LimitKey::Relay, Measure::Messages, &["1/h burst 2", "3/day"], OnExceeded::Reject)];
    let limiter = LocalLimiter::new(rules, Arc::new(ManualClock::new()));
    let sender = near("one");
    for _ in 0..10 {
        let LimitDecision::Taken(ticket) = sender.take(&limiter, MAIL).await else { panic!("the amount was returned") };
        limiter.give_back(ticket).await;
    }
    assert_eq!([sender.mail(&limiter).await, sender.mail(&limiter).await], ["ok", "ok"]);
    assert_eq!(sender.mail(&limiter).await, "relay: 550 5.7.1 Rate limit exceeded");
}

#[tokio::test]
async fn counts_are_separated_by_the_key_of_the_limit() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let one_each =
        |by| LocalLimiter::new(vec![rule("l", by, Measure::Messages, &["1/h"], OnExceeded::Defer)], Arc::clone(&clock));
    let a = || Sender::new("10.0.0.1:1", "one", Some("ann"));
    for (name, by, other, same) in [
        ("app", LimitKey::App, Sender::new("10.0.0.1:1", "two", Some("ann")), false),
        ("identity", LimitKey::Identity, Sender::new("10.0.0.1:1", "one", Some("bob")), false),
        ("identity, elsewhere", LimitKey::Identity, Sender::new("10.9.9.9:1", "two", Some("ann")), true),
        ("address", BY_ADDRESS, Sender::new("10.0.0.2:1", "one", Some("ann")), false),
        ("address, another port", BY_ADDRESS, Sender::new("10.0.0.1:2", "two", None), true),
        (
            "network",
            LimitKey::Client { ipv4_prefix: 24, ipv6_prefix: 64 },
            Sender::new("10.0.0.2:1", "two", None),
            true,
        ),
        ("relay", LimitKey::Relay, Sender::new("192.0.2.1:1", "two", None), true),
        ("reverse-path", LimitKey::ReversePath, Sender::new("192.0.2.1:1", "two", None), true),
    ] {
        let limiter = one_each(by);
        assert_eq!(a().mail(&limiter).await, "ok", "{name}");
        assert_eq!(other.mail(&limiter).await != "ok", same, "{name}");
    }
    let limiter = one_each(LimitKey::Identity);
    let anonymous = near("one");
    assert_eq!([anonymous.mail(&limiter).await, anonymous.mail(&limiter).await], ["ok", "ok"], "no name, no limit");
    let (v6, neighbour) = (Sender::new("[2001:db8::1]:1", "one", None), Sender::new("[2001:db8::2]:1", "one", None));
    let limiter = one_each(BY_ADDRESS);
    assert_eq!(v6.mail(&limiter).await, "ok");
    assert_ne!(neighbour.mail(&limiter).await, "ok", "one /64 is one client");
}

#[tokio::test]
async fn recipients_and_octets_have_replies_with_the_right_code() {
    let rules = vec![
        rule("recipients", LimitKey::App, Measure::Recipients, &["2/min"], OnExceeded::Defer),
        rule("octets", LimitKey::App, Measure::Octets, &["1000/min"], OnExceeded::Defer),
        rule("author", LimitKey::Author, Measure::Recipients, &["3/min"], OnExceeded::Reject),
        rule("domain", LimitKey::RecipientDomain, Measure::Recipients, &["1/min"], OnExceeded::Reject),
    ];
    let limiter = LocalLimiter::new(rules, Arc::new(ManualClock::new()));
    let sender = near("one");
    let path = |text: &str| ForwardPath::new(Mailbox::parse(text).unwrap()).unwrap();
    let author = Mailbox::parse("x@a.example").unwrap();
    let message = |octets, recipients| LimitStage::Message { author: &author, octets, recipients };
    let rcpt = async |text| reply_of(sender.take(&limiter, LimitStage::Rcpt(&path(text))).await);
    assert_eq!(rcpt("a@one.example").await, "ok");
    assert!(rcpt("b@one.example").await.starts_with("domain: 550 5.7.1"), "nothing is taken from the other limits");
    assert_eq!(rcpt("a@two.example").await, "ok");
    assert!(rcpt("a@three.example").await.starts_with("recipients: 452 4.5.3"));
    let declared = async |octets| {
        let views = limiter.peek(&sender.step(LimitStage::Declared(octets))).await.unwrap();
        views.into_iter().find(|view| view.left < view.needs).map(|view| format!("{}: {}", view.limit, view.over))
    };
    assert!(declared(1_001).await.unwrap().starts_with("octets: 552 5.3.4"), "before the content is received");
    assert_eq!(declared(1_000).await, None);
    assert!(reply_of(sender.take(&limiter, message(2_000, 1)).await).starts_with("octets: 552 5.3.4"));
    assert_eq!(reply_of(sender.take(&limiter, message(600, 1)).await), "ok");
    assert!(reply_of(sender.take(&limiter, message(600, 1)).await).starts_with("octets: 451 4.7.1"));
    assert_eq!(declared(600).await.unwrap(), "octets: 451 4.7.1 Rate limit reached, try again in 12 s");
    assert!(reply_of(sender.take(&limiter, message(1, 4)).await).starts_with("author: 550"));
}

#[tokio::test]
async fn a_limit_can_be_for_some_applications_only() {
    let mut only_one = rule("one", LimitKey::Relay, Measure::Messages, &["1/h"], OnExceeded::Defer);
    only_one.apps = vec![AppName::parse("one").unwrap()];
    let limiter = LocalLimiter::new(vec![only_one], Arc::new(ManualClock::new()));
    assert_eq!(near("one").mail(&limiter).await, "ok");
    assert_ne!(near("one").mail(&limiter).await, "ok");
    assert_eq!([near("two").mail(&limiter).await, near("two").mail(&limiter).await], ["ok", "ok"]);
}

#[tokio::test]
async fn a_delay_waits_for_capacity_and_then_defers() {
    let clock: Arc<dyn Clock> = Arc::new(crate::mail::SystemClock);
    let delay = OnExceeded::Delay(Duration::from_millis(300));
    let rules = vec![rule("slow", LimitKey::Relay, Measure::Messages, &["20/s burst 1"], delay)];
    let limiter = LocalLimiter::new(rules, Arc::clone(&clock));
    let (sender, began) = (near("one"), clock.now());
    for _ in 0..4 {
        assert_eq!(sender.mail(&limiter).await, "ok");
    }
    assert!(clock.now() - began >= Duration::from_millis(140), "three waits of 50 ms");
    let rules = vec![rule("slow", LimitKey::Relay, Measure::Messages, &["1/h"], delay)];
    let limiter = LocalLimiter::new(rules, clock);
    assert_eq!(sender.mail(&limiter).await, "ok");
    assert!(sender.mail(&limiter).await.starts_with("slow: 451 4.7.1"), "an hour is longer than the delay");
}

#[tokio::test]
async fn unused_keys_are_removed() {
    let store = GcraStore::new(1_000);
    for key in 0..100_000_u128 {
        let key = key << 64 | key;
        // Each key's bucket is full restarted a thousand keys later.
        let now = u64::try_from(key >> 64).unwrap();
        if store.has_capacity(key, now) {
            let outcome: Result<(), ()> =
                governor::state::StateStore::measure_and_replace(&store, &key, |_| Ok(((), (now + 500).into())));
            outcome.unwrap();
        }
    }
    assert!(store.keys() <= 1_000 + 64, "{}", store.keys());
}

/// A token bucket in ten lines: the reference for GCRA.
struct Reference {
    tokens: u128,
    at: u128,
}

impl Reference {
    fn take(&mut self, window: &Rate, now: u128, amount: u128) -> bool {
        let (interval, burst) = (window.interval().as_nanos(), u128::from(window.burst().get()));
        self.tokens = (self.tokens + now - self.at).min(burst * interval);
        self.at = now;
        let fits = self.tokens >= amount * interval;
        if fits {
            self.tokens -= amount * interval;
        }
        fits
    }
}

proptest! {
    #[test]
    fn decisions_are_those_of_a_token_bucket(
        rate in 1u32..50, burst in 1u32..20,
        steps in proptest::collection::vec((0u64..400, 1usize..6, 0u64..4_000_000_000), 1..60),
    ) {
        let clock = Arc::new(ManualClock::new());
        let text = format!("{rate}/s burst {burst}");
        let Window::Rate(window) = text.parse().unwrap() else { panic!("a rate") };
        let rules = vec![rule("l", LimitKey::Author, Measure::Recipients, &[&text], OnExceeded::Defer)];
        let limiter = LocalLimiter::new(rules, Arc::clone(&clock) as Arc<dyn Clock>);
        let author = Mailbox::parse("x@a.example").unwrap();
        let mut reference = Reference { tokens: u128::from(burst) * window.interval().as_nanos(), at: 0 };
        let (sender, mut now) = (near("one"), 0);
        for (milliseconds, recipients, wall) in steps {
            // A jump of the calendar time does not change a rate.
            clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(wall));
            clock.advance(Duration::from_millis(milliseconds));
            now += u128::from(milliseconds) * 1_000_000;
            let stage = LimitStage::Message { author: &author, octets: 1, recipients };
            let step = sender.step(stage);
            let mut take = std::pin::pin!(limiter.take(&step));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let std::task::Poll::Ready(Ok(decision)) = take.as_mut().poll(&mut context) else { panic!("the decision needs no wait") };
            let taken = matches!(decision, LimitDecision::Taken(_));
            prop_assert_eq!(taken, reference.take(&window, now, recipients as u128), "at {} ms", now / 1_000_000);
        }
    }
}

/// A limiter after a restart, with the same directory.
fn restarted(directory: &Path, zone: &str, clock: &Arc<ManualClock>) -> LocalLimiter {
    let rules = vec![rule("app", LimitKey::App, Measure::Messages, &["100/s", "3/day", "4/month"], OnExceeded::Defer)];
    let zone = TimeZone::get(zone).unwrap();
    LocalLimiter::with_state(rules, Arc::clone(clock) as Arc<dyn Clock>, zone, directory).unwrap()
}

#[tokio::test]
async fn quotas_survive_a_restart_and_end_with_the_day_of_the_zone() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let set = |time: &str| clock.set_wall(SystemTime::try_from(time.parse::<jiff::Timestamp>().unwrap()).unwrap());
    // Ten minutes before midnight in Tokyo.
    set("2026-11-29T14:50:00Z");
    let sender = near("one");
    let limiter = restarted(directory.path(), "Asia/Tokyo", &clock);
    assert_eq!([sender.mail(&limiter).await, sender.mail(&limiter).await], ["ok", "ok"]);
    drop(limiter);
    let limiter = restarted(directory.path(), "Asia/Tokyo", &clock);
    assert_eq!(sender.mail(&limiter).await, "ok");
    assert_eq!(sender.mail(&limiter).await, "app: 451 4.7.1 Rate limit reached, try again in 600 s");
    assert_eq!(near("two").mail(&limiter).await, "ok");
    set("2026-11-29T15:00:00Z");
    assert_eq!(sender.mail(&limiter).await, "ok", "a new day");
    assert!(sender.mail(&limiter).await.starts_with("app: 451"), "the month is used up");
    set("2026-11-30T15:00:00Z");
    assert_eq!(sender.mail(&limiter).await, "ok", "a new month");
}

#[tokio::test]
async fn a_refused_step_takes_nothing_of_a_quota() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let rules = vec![rule("app", LimitKey::App, Measure::Messages, &["3/day", "1/h"], OnExceeded::Defer)];
    let limiter = LocalLimiter::new(rules, clock);
    let sender = near("one");
    assert_eq!(sender.mail(&limiter).await, "ok");
    for _ in 0..5 {
        assert!(sender.mail(&limiter).await.starts_with("app: 451"));
    }
    let left: Vec<u64> = limiter.peek(&sender.step(MAIL)).await.unwrap().iter().map(|view| view.left).collect();
    assert_eq!(left, [2, 0]);
}

/// Regression: a crash forgot what was taken within half a second, and a process that crashed repeatedly used the quota
/// of a day several times.
#[tokio::test]
async fn a_crash_loses_a_bounded_part_of_a_quota() {
    for (quota, forgotten_max) in [("40/day", 2), ("1000/day", 20)] {
        let directory = tempfile::tempdir().unwrap();
        let rules = || vec![rule("app", LimitKey::App, Measure::Messages, &[quota], OnExceeded::Defer)];
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let writing = LocalLimiter::with_state(rules(), Arc::clone(&clock), TimeZone::UTC, directory.path()).unwrap();
        let sender = near("one");
        let left = |limiter: &LocalLimiter| limiter.left(&limiter.rules.charges(&sender.step(MAIL))[0]);
        for _ in 0..39 {
            assert_eq!(sender.mail(&writing).await, "ok");
            // What another process would read if this one crashed now.
            let reader = LocalLimiter::read_only(rules(), Arc::clone(&clock), TimeZone::UTC, directory.path()).unwrap();
            assert!(
                left(&reader) <= left(&writing) + forgotten_max,
                "{quota}: {} of {}",
                left(&reader),
                left(&writing)
            );
        }
    }
}

/// A clock that is set back, by NTP or by an operator, does not stop what is within the limits.
#[tokio::test]
async fn a_jump_of_the_clock_stops_neither_rates_nor_quotas_that_have_room() {
    let clock = Arc::new(ManualClock::new());
    let rules = vec![rule("app", LimitKey::App, Measure::Messages, &["2/s", "100/day"], OnExceeded::Defer)];
    let limiter = LocalLimiter::new(rules, Arc::clone(&clock) as Arc<dyn Clock>);
    let sender = near("one");
    let wall = clock.wall();
    let day = Duration::from_secs(86_400);
    for jumped in [wall - Duration::from_secs(3_600), wall - 400 * day, wall + 400 * day, wall] {
        clock.set_wall(jumped);
        assert_eq!([sender.mail(&limiter).await, sender.mail(&limiter).await], ["ok", "ok"], "{jumped:?}");
        assert!(sender.mail(&limiter).await.starts_with("app: 451"), "the rate is unchanged");
        clock.advance(Duration::from_secs(1));
    }
}
